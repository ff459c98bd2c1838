"""Where files may be read from: an XCom can be edited in Airflow's UI, so what one names is opened below a root only.

The roots are the setting ``[kirin] media_roots``, none by default. A root also determines the Airflow connection
that reads its files; a connection in an XCom is ignored.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow.configuration import conf

from airflow_provider_kirin.state.journal import MANIFEST

log = logging.getLogger(__name__)

#: What is served, by suffix. Everything else, above all HTML and SVG, would run as a page of Airflow's own.
MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
#: Seconds for which a link to object storage is signed: a browser uses it again for each part of a video.
LINK_SECONDS = 600
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "": "file"}


@dataclass(frozen=True)
class Root:
    """A folder whose files may be shown.

    :param uri: as configured: a path, ``file://``, or any URI that Airflow's ObjectStoragePath supports
    """

    uri: str

    def relative(self, uri: str) -> tuple[str, ...] | None:
        """Return the path of a file below this root; None if it is not below it, or neither media nor a manifest.

        :param uri: what an XCom names
        """
        own, other = _split(self.uri), _split(uri)
        depth = len(own[2])
        if own[:2] != other[:2] or other[2][:depth] != own[2] or len(other[2]) <= depth:
            return None
        rest = other[2][depth:]
        is_plain = all(part not in ("..", ".") and not set(part) & set("/\\\0") for part in rest)
        is_shown = Path(rest[-1]).suffix.lower() in MEDIA_TYPES or rest[-1] == MANIFEST
        return rest if is_plain and is_shown else None

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of the API server's own file system."""
        return _split(self.uri)[0] == "file"


@dataclass(frozen=True)
class StoredFile:
    """A local file, or one in a storage that signs no links. Its methods block: run them in a thread.

    :param fs: the storage, as fsspec has it
    :param path: in the storage
    """

    fs: Any
    path: str

    def size(self) -> int:
        """Return the number of bytes."""
        return int(self.fs.size(self.path))

    def read(self, wanted: range) -> bytes:
        """Return some bytes, and close the file again."""
        return bytes(self.fs.cat_file(self.path, wanted.start, wanted.stop))


def media_roots() -> list[Root]:
    """Return the configured roots."""
    configured = conf.get("kirin", "media_roots", fallback="") or ""
    return [Root(uri.strip()) for uri in configured.split(",") if uri.strip()]


def find_root(uri: str, roots: Sequence[Root]) -> Root | None:
    """Return the root that a URI is below; None if there is none."""
    return next((root for root in roots if root.relative(uri) is not None), None)


def is_manifest_shown(uri: str, roots: Sequence[Root]) -> bool:
    """Return whether a batch's manifest is below a root."""
    return uri.endswith(f"/{MANIFEST}") and find_root(uri, roots) is not None


def locate(uri: str, roots: Sequence[Root]) -> StoredFile | str | None:
    """Return the file of a URI, or a signed link to it if its storage signs links. Blocks: run it in a thread.

    :param uri: what an XCom names
    :param roots: see :func:`media_roots`
    :return: None if it is below none of the roots, or does not exist
    """
    if (root := find_root(uri, roots)) is None:
        return None
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]  # Airflow depends on it.

    parts = root.relative(uri) or ()
    if root.is_local:
        folder = Path("/", *_split(root.uri)[2]).resolve()
        path = folder.joinpath(*parts).resolve()
        # A link in the folder may lead out of it.
        is_inside = path.is_relative_to(folder) and path.is_file()
        return StoredFile(LocalFileSystem(), str(path)) if is_inside else None
    target = ObjectStoragePath(root.uri)
    for part in parts:
        target /= part
    if not target.is_file():
        return None
    try:
        return str(target.fs.sign(target.path, expiration=LINK_SECONDS))
    except Exception as error:
        # Each storage raises its own error if it signs no links, or not with these credentials.
        log.info("No signed link below %s: %s. The file is streamed.", root.uri, type(error).__name__)
        return StoredFile(target.fs, target.path)


def byte_range(header: str | None, size: int) -> range | None:
    """Return the bytes that a ``Range`` header asks for.

    :param header: the header; an invalid one requests all bytes, as HTTP requires
    :param size: of the file
    :return: None if the file has none of them
    """
    if not (found := _parse_range(header)):
        return range(size)
    first, last = found.groups()
    wanted = range(int(first), min(int(last or size) + 1, size)) if first else range(max(size - int(last), 0), size)
    return wanted or None


def asks_for_part(header: str | None) -> bool:
    """Return whether a ``Range`` header is valid: a browser that gets 200 for one, even for all bytes, cannot seek.

    :param header: the header
    """
    return _parse_range(header) is not None


def _parse_range(header: str | None) -> re.Match[str] | None:
    return re.fullmatch(r"bytes=(?!-$)([0-9]{0,18})-([0-9]{0,18})", (header or "").strip())


def _split(uri: str) -> tuple[str, str, tuple[str, ...]]:
    """Return scheme, bucket without connection, and the parts of the path."""
    if "://" not in uri and not uri.startswith("/"):
        # Relative to what? Nothing is below it.
        return "", uri, ()
    try:
        parts = urlsplit(uri) if "://" in uri else urlsplit("")._replace(path=uri)
    except ValueError:
        return "", uri, ()
    scheme = _ALIASES.get(parts.scheme, parts.scheme)
    path = unquote(parts.path) if parts.scheme == "file" else parts.path
    # urlsplit takes what follows # and ? for something else; in a storage's key it is part of the name.
    if scheme != "file":
        path = uri.partition("://")[2].partition("/")[2]
    return scheme, parts.netloc.rpartition("@")[2], tuple(part for part in path.split("/") if part)
