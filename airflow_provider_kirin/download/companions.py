"""The files beside a video: a JSON file with what is known of it, and a picture of its first frame."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_kirin.api.images.sources import from_file_uri
from airflow_provider_kirin.api.pricing import billed_cost, show_usd
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.download.atomic_file import open_atomic, open_to_read, size_of, uri_of
from airflow_provider_kirin.download.storage import as_path
from airflow_provider_kirin.exceptions import KirinDestinationError

SCHEMA_VERSION = 1
#: Pixels of a frame that becomes a picture; 8K has 33 million.
_MAX_PIXELS = 64_000_000
_QUALITY = 88


def check_poster() -> None:
    """Check that a picture can be made here.

    :raises KirinDestinationError: PyAV is not installed
    """
    if importlib.util.find_spec("av") is None:
        raise KirinDestinationError(
            "poster = True needs PyAV, which is not installed here. Install airflow-provider-kirin[media] where tasks "
            "run, or leave poster out."
        )


def companion(name: str, extension: str) -> str:
    """Return the name of a file beside a video.

    :param name: the video's path or URI
    :param extension: with its dot
    """
    return (name[: -len(".mp4")] if name.lower().endswith(".mp4") else name) + extension


def write_companion(name: str, content: bytes, *, overwrite: bool) -> str:
    """Write a file beside a video, as a whole or not at all, and return its URI.

    :param name: its path or URI
    :param content: what it holds
    :param overwrite: whether an existing file is replaced; otherwise it is left as it is
    """
    path = as_path(name)
    if overwrite or size_of(path) is None:
        with open_atomic(path) as file:
            file.write(content)
            file.commit()
    return uri_of(path)


def sidecar(
    kirin_task: KirinTask, index: int, file: VideoFile, step: Mapping[str, Any], order: Mapping[str, Any]
) -> bytes:
    """Return the content of the JSON file beside a video: no key, no image data, no signed link.

    :param kirin_task: the finished generation
    :param index: the number of the video in it
    :param file: the video
    :param step: what describes the task that stored it
    :param order: what it was ordered with, see :func:`.order_of`; empty if unknown
    """
    cost = billed_cost(kirin_task)
    content = {
        "schema_version": SCHEMA_VERSION,
        "kirin_task_id": kirin_task.id,
        "external_task_id": kirin_task.external_task_id,
        "job_id": kirin_task.videos[index].job_id,
        "model": kirin_task.model,
        "created_at": kirin_task.created_at,
        "cost": None if cost is None else show_usd(cost),
        **step,
        "order": {name: value for name, value in order.items() if name != "kirin_task_id"} or None,
        # Names, so that all is still right after the folder has moved.
        "file": {"name": _base(file.uri), **file.facts()},
        "poster": file.poster and _base(file.poster),
    }
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode(errors="replace")


def first_frame(path: Any) -> bytes:
    """Return the first frame of a stored video as a JPEG.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    :raises Exception: whatever PyAV, Pillow or the storage raise; what they read comes from outside
    """
    import av

    with open_to_read(path) as file, av.open(file, mode="r", format="mp4") as container:
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > _MAX_PIXELS:
            raise ValueError(f"a frame has more than {_MAX_PIXELS:,} pixels")
        frame: Any = next(iter(container.decode(stream)))
        out = io.BytesIO()
        frame.to_image().save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()


def _base(uri: str) -> str:
    return from_file_uri(uri).name if uri.startswith("file://") else uri.rpartition("/")[2]
