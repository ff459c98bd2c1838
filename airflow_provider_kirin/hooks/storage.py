"""Files wherever Airflow can reach them, through ObjectStoragePath."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO


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
    """
    if not isinstance(destination, str):
        # Of a local file both kinds are the same place, and only pathlib can rename one.
        return _local(str(destination)) if str(destination).startswith("file://") else destination
    if destination.startswith("file://"):
        return _local(destination)
    if "://" in destination:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        return ObjectStoragePath(destination)
    return Path(destination).expanduser()


def _local(uri: str) -> Path:
    from urllib.parse import unquote, urlsplit

    return Path(unquote(urlsplit(uri).path))
