"""Files wherever Airflow can reach them, through ObjectStoragePath."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_kirin.api.images.sources import from_file_uri
from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.exceptions import KirinDestinationError

#: Stores with buckets (or containers), that show an object when its upload is completed, and not before.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "azure", "adl", "wasb", "wasbs", "oss"})


class UnknownConnectionError(ValueError):
    """A storage URI names an Airflow connection that is not there."""


def open_uri(uri: str) -> AbstractContextManager[BinaryIO]:
    """Open an object for reading.

    :param uri: such as ``s3://bucket/key`` or ``s3://conn_id@bucket/key``
    :raises UnknownConnectionError: another try cannot help then, as with any other ValueError here
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, ObjectStoragePath

    path: Any = ObjectStoragePath(uri)
    try:
        opened: AbstractContextManager[BinaryIO] = path.open("rb")
    except AirflowNotFoundException as error:
        raise UnknownConnectionError(one_line(error)) from None
    return opened


def to_str(destination: Any) -> Any:
    """Return a path object as the text that says the same; anything else as it is.

    :param destination: an operator's argument: a text, a Path, an ObjectStoragePath, or what is known at run time only
    """
    # Not every ObjectStoragePath is an os.PathLike.
    if hasattr(destination, "protocol"):
        return str(destination)
    return os.fsdecode(destination) if isinstance(destination, os.PathLike) else destination


def check_absolute(destination: str) -> None:
    """Refuse a destination that depends on where a worker happens to run.

    :param destination: a URI, or a local name
    :raises KirinDestinationError: it is empty, or relative
    """
    if not destination.strip():
        raise KirinDestinationError(
            f"destination = {short_repr(destination)} must name a folder, or a file that ends with .mp4. Look at what "
            "its "
            "template renders to, and repair the template or write the name out."
        )
    if "://" not in destination and not destination.startswith(("/", "~")):
        raise KirinDestinationError(
            f"destination = {short_repr(destination, 120)} is relative, and would depend on the worker's current "
            "folder. "
            "Give an absolute path or a URI; if it was rendered from a template, check what the template gets."
        )


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
            raise KirinDestinationError(f"destination = {short_repr(str(destination), 120)} is {error}.") from None
    if not isinstance(destination, str):
        return destination
    if "://" in destination:
        from airflow.providers.common.compat.sdk import AirflowNotFoundException, ObjectStoragePath

        try:
            path: Any = ObjectStoragePath(destination)
            # Loads the storage's library.
            _ = path.fs
            return path
        except AirflowNotFoundException as error:
            raise KirinDestinationError(
                f"destination = {short_repr(redact_url(destination), 120)} names an Airflow connection, before its @, "
                "that "
                f"does not exist: {one_line(error)}. Define it, or name another one."
            ) from None
        except (ImportError, ValueError) as error:
            raise KirinDestinationError(
                f"destination = {short_repr(redact_url(destination), 120)} is out of reach for Airflow: "
                f"{one_line(error)}. "
                "Install the provider of this storage (for s3: apache-airflow-providers-amazon[s3fs]) where tasks run."
            ) from None
        except Exception as error:
            raise _out_of_reach(destination, error) from error
    return Path(destination).expanduser()


def check_bucket(path: Any) -> None:
    """Ask for the bucket (or container) of a destination in an object store, which is free.

    :param path: from :func:`as_path`
    :raises KirinDestinationError: the bucket does not exist, or, retryable, the storage does not answer
    """
    if path.protocol not in OBJECT_STORES:
        return
    bucket = path.path.lstrip("/").partition("/")[0]
    try:
        # Some libraries take the root for a folder that exists.
        if bucket and path.fs.info(bucket):
            return
    except FileNotFoundError as error:
        # gcsfs lists the bucket if it may not ask for it, and takes an empty one for a missing one.
        if _is_denied(error):
            return
    except Exception as error:
        if _is_denied(error):
            # Credentials that may only write objects cannot ask for the bucket.
            return
        raise _out_of_reach(str(path), error) from error
    raise KirinDestinationError(
        f"destination = {short_repr(redact_url(str(path)), 120)}: there is no bucket {short_repr(bucket)}, and none is "
        "created. Correct the name, or create the bucket."
    )


def _out_of_reach(destination: str, error: Exception) -> KirinDestinationError:
    why = one_line(f"{type(error).__name__}: {error}")
    return KirinDestinationError(
        f"destination = {short_repr(redact_url(destination), 120)} cannot be reached: {why}. Check the storage, its "
        "Airflow "
        "connection and the credentials.",
        retryable=True,
    )


def _is_denied(error: BaseException | None) -> bool:
    """Tell whether a storage refused to answer, as opposed to a storage that cannot: each library has its own error."""
    while error is not None:
        response = getattr(error, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        statuses = [getattr(error, name, None) for name in ("status", "status_code", "code")]
        if isinstance(error, PermissionError) or {401, 403} & {
            status for status in (*statuses, metadata.get("HTTPStatusCode")) if isinstance(status, int)
        }:
            return True
        # gcsfs has neither a class nor a number for it.
        if isinstance(error, OSError) and str(error).startswith("Forbidden"):
            return True
        error = error.__cause__ or error.__context__
    return False
