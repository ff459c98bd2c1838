"""Files wherever Airflow can reach them, through ObjectStoragePath."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_kirin.api.image_sources import from_file_uri
from airflow_provider_kirin.api.text import one_line, safe_url, shorten
from airflow_provider_kirin.exceptions import KirinDestinationError


def open_uri(uri: str) -> AbstractContextManager[BinaryIO]:
    """Open an object for reading.

    :param uri: such as ``s3://bucket/key`` or ``s3://conn_id@bucket/key``
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    path: Any = ObjectStoragePath(uri)
    opened: AbstractContextManager[BinaryIO] = path.open("rb")
    return opened


def as_path(destination: Any) -> Any:
    """Return a destination as a path object: ObjectStoragePath for URIs, pathlib.Path for local names.

    :param destination: a text, a Path or an ObjectStoragePath
    :raises KirinDestinationError: for a storage that Airflow cannot reach here
    """
    if str(destination).startswith("file://"):
        # Also of an ObjectStoragePath: only pathlib can rename a file.
        try:
            return from_file_uri(str(destination))
        except ValueError as error:
            raise KirinDestinationError(f"destination = {shorten(str(destination), 120)} is {error}.") from None
    if not isinstance(destination, str):
        return destination
    if "://" in destination:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        try:
            path: Any = ObjectStoragePath(destination)
            # Loads the storage's library.
            _ = path.fs
            return path
        except (ImportError, ValueError) as error:
            raise KirinDestinationError(
                f"destination = {shorten(safe_url(destination), 120)} is out of reach for Airflow: {one_line(error)}. "
                "Install the provider of this storage (for s3: apache-airflow-providers-amazon[s3fs]) where tasks run."
            ) from None
    return Path(destination).expanduser()
