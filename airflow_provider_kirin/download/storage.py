"""Access to files on any storage that Airflow can reach, through ObjectStoragePath."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_kirin.api.images.sources import from_file_uri
from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.exceptions import KirinDestinationError

#: Stores with buckets (or containers), where an object becomes visible only when its upload is completed.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "azure", "adl", "wasb", "wasbs", "oss"})

#: What the path of a URI may hold as it is (RFC 3986, 3.3).
URI_PATH = "/:@!$&'()*+,;=~"


class UnknownConnectionError(ValueError):
    """A storage URI names an Airflow connection that does not exist."""


def open_uri(uri: str) -> AbstractContextManager[BinaryIO]:
    """Open an object for reading.

    :param uri: such as ``s3://bucket/key``, ``s3://conn_id@bucket/key`` or ``file:///folder/name``
    :raises UnknownConnectionError: retrying cannot help, as with any other ValueError raised here
    """
    if uri.startswith("file://"):
        # Airflow 3.0's ObjectStoragePath does not read these with the newest universal-pathlib.
        return from_file_uri(uri).open("rb")
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, ObjectStoragePath

    path: Any = ObjectStoragePath(uri)
    try:
        opened: AbstractContextManager[BinaryIO] = path.open("rb")
    except AirflowNotFoundException as error:
        raise UnknownConnectionError(one_line(error)) from None
    return opened


def without_connection(uri: str) -> str:
    """Return a stored file's URI without the connection that opens it: one file is one asset and one dataset.

    :param uri: such as ``s3://conn_id@bucket/key``; its key is no URL's path, and may contain ? and #
    """
    scheme, mark, rest = uri.partition("://")
    authority, slash, key = rest.partition("/")
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{key}"


def to_str(destination: Any) -> Any:
    """Return a path object as a string; anything else unchanged.

    :param destination: an operator's argument: a string, a Path, an ObjectStoragePath, or a value known at run time
    """
    # Not every ObjectStoragePath is an os.PathLike.
    if hasattr(destination, "protocol"):
        return str(destination)
    return os.fsdecode(destination) if isinstance(destination, os.PathLike) else destination


def check_absolute(destination: str) -> None:
    """Refuse a destination that names no folder, or depends on the worker's current one.

    :param destination: a URI or a local path
    :raises KirinDestinationError: it is empty or relative
    """
    scheme, is_uri, path = destination.partition("://")
    names_a_folder = scheme and path.strip("/ ") if is_uri else destination.strip()
    if not names_a_folder:
        raise KirinDestinationError(
            f"destination = {short_repr(destination)} must be a folder, or a file name that ends with .mp4. Check what "
            "its template renders to, and correct the template or write the path out."
        )
    if "://" not in destination and not destination.startswith(("/", "~")):
        raise KirinDestinationError(
            f"destination = {short_repr(destination, 120)} is relative, and would depend on the worker's current "
            "folder. Give an absolute path or a URI; if it was rendered from a template, check the template's values."
        )


def as_path(destination: Any) -> Any:
    """Return a destination as a path object: ObjectStoragePath for URIs, pathlib.Path for local paths.

    :param destination: a string, a Path or an ObjectStoragePath
    :raises KirinDestinationError: the storage cannot be reached
    """
    if str(destination).startswith("file://"):
        # An ObjectStoragePath too: only pathlib can rename a local file.
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
            # Load the storage's library.
            _ = path.fs
            return path
        except AirflowNotFoundException as error:
            raise KirinDestinationError(
                f"destination = {short_repr(redact_url(destination), 120)} names an Airflow connection, before its @, "
                f"that does not exist: {one_line(error)}. Define it, or name another one."
            ) from None
        except (ImportError, ValueError) as error:
            raise KirinDestinationError(
                f"destination = {short_repr(redact_url(destination), 120)} is out of reach for Airflow: "
                f"{one_line(error)}. Install the provider of this storage (for s3: "
                "apache-airflow-providers-amazon[s3fs]) where tasks run."
            ) from None
        except Exception as error:
            raise _unreachable(destination, error) from error
    return Path(destination).expanduser()


def check_bucket(path: Any) -> None:
    """Check that the bucket (or container) of a destination in an object store exists. Costs nothing.

    :param path: from :func:`as_path`
    :raises KirinDestinationError: the bucket does not exist or, retryable, the storage cannot be reached
    """
    if path.protocol not in OBJECT_STORES:
        return
    bucket = path.path.lstrip("/").partition("/")[0]
    try:
        # Some libraries report the root as an existing folder.
        if bucket and path.fs.info(bucket):
            return
    except FileNotFoundError as error:
        # Without the permission to look up the bucket, gcsfs lists it, and reports an empty one as missing.
        if _is_denied(error):
            return
    except Exception as error:
        if _is_denied(error):
            # Credentials that may only write objects cannot look up the bucket.
            return
        raise _unreachable(str(path), error) from error
    raise KirinDestinationError(
        f"destination = {short_repr(redact_url(str(path)), 120)}: the bucket {short_repr(bucket)} does not exist, and "
        "is not created automatically. Correct the name, or create the bucket."
    )


def _unreachable(destination: str, error: Exception) -> KirinDestinationError:
    why = one_line(f"{type(error).__name__}: {error}")
    return KirinDestinationError(
        f"destination = {short_repr(redact_url(destination), 120)} cannot be reached: {why}. Check the storage, its "
        "Airflow connection and the credentials.",
        retryable=True,
    )


def _is_denied(error: BaseException | None) -> bool:
    """Return whether the storage denied access, as opposed to being unavailable: each library has its own error."""
    while error is not None:
        response = getattr(error, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        statuses = [getattr(error, name, None) for name in ("status", "status_code", "code")]
        if isinstance(error, PermissionError) or {401, 403} & {
            status for status in (*statuses, metadata.get("HTTPStatusCode")) if isinstance(status, int)
        }:
            return True
        # gcsfs has neither an error class nor a status attribute for it.
        if isinstance(error, OSError) and str(error).startswith("Forbidden"):
            return True
        error = error.__cause__ or error.__context__
    return False
