"""Where a generation's videos go, and under which names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_provider_kirin.exceptions import KirinDestinationError
from airflow_provider_kirin.hooks.storage import as_path

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.kirin import KirinHook


def save_videos(hook: KirinHook, kirin_task: KirinTask, destination: str, *, overwrite: bool) -> list[str]:
    """Download every video of a finished generation and return the files' URIs.

    :param hook: downloads
    :param kirin_task: finished, and fetched just now: its links expire
    :param destination: a folder or a file name
    :param overwrite: whether files that are there may be replaced
    """
    files = []
    for name, video in zip(
        file_names(destination, kirin_task.id, len(kirin_task.videos)), kirin_task.videos, strict=True
    ):
        size = hook.download(video.url, name, overwrite=overwrite)
        path = as_path(name)
        files.append(path.absolute().as_uri() if isinstance(path, Path) else str(path))
        hook.log.info("Saved the video of Kirin generation %s (%s bytes): %s", kirin_task.id, f"{size:,}", files[-1])
    return files


def check_destination(destination: str, *, overwrite: bool) -> None:
    """Find out what can be found out before anything is paid.

    :param destination: a folder or a file name
    :param overwrite: whether a file that is there may be replaced
    :raises KirinDestinationError: the storage is out of reach, or the file is there and may not be replaced
    """
    path = as_path(destination)
    if isinstance(path, Path):
        is_file = destination.lower().endswith(".mp4")
        try:
            (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KirinDestinationError(f"destination = {path} cannot be written: {error.strerror}.") from None
        if is_file and not overwrite and path.exists():
            raise KirinDestinationError(f"{path} is there already, and overwriting was not allowed (overwrite=False).")


def file_names(destination: str, kirin_task_id: str, count: int) -> list[str]:
    """Return the names of a generation's files.

    :param destination: a folder, or a file name where it ends with ``.mp4``
    :param kirin_task_id: names the files in a folder; never leaves it
    :param count: how many videos there are
    """
    if destination.lower().endswith(".mp4"):
        stem, ending = destination[:-4], destination[-4:]
        return [destination] if count == 1 else [f"{stem}-{index}{ending}" for index in range(count)]
    safe_id = quote(kirin_task_id, safe="").replace(".", "%2E")
    return [f"{destination.rstrip('/')}/{safe_id}-{index}.mp4" for index in range(count)]
