"""A stored video, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from airflow_provider_kirin.api.sanitize import has_type


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFile:
    """A stored video.

    What the file does not state in a way that this provider reads is None.

    :param uri: where it is, without the storage's credentials
    :param bytes: its length
    :param sha256: of its content, as a hexadecimal string
    :param width: pixels
    :param height: pixels
    :param frame_rate: frames per second, on average
    :param seconds: how long it plays
    :param has_audio: whether it has a sound track
    :param sidecar: the URI of the JSON file beside it, if there is one
    :param poster: the URI of the JPEG of its first frame, if there is one
    """

    uri: str
    bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    seconds: float | None = None
    has_audio: bool | None = None
    sidecar: str | None = None
    poster: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON: an entry of ``file_details``."""
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """Return what is known of the content: without the names of files."""
        return {name: value for name, value in asdict(self).items() if name not in ("uri", "sidecar", "poster")}

    @classmethod
    def from_dict(cls, entry: Any) -> VideoFile | None:
        """Return what :meth:`to_dict` wrote; None for anything else."""
        known = {name: entry[name] for name in _TYPES if name in entry} if isinstance(entry, Mapping) else {}
        if not {"uri", "bytes", "sha256"} <= known.keys():
            return None
        return cls(**known) if all(has_type(value, _TYPES[name]) for name, value in known.items()) else None


_TYPES = get_type_hints(VideoFile)
