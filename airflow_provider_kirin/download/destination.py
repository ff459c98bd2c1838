"""The destination of a generation's videos, and their file names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.lookup import check_response, settle_not_found
from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS, call_with_retries, fixed_delays
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.download.atomic_file import file_exists_error, size_of
from airflow_provider_kirin.download.companions import check_poster, companion, first_frame, sidecar, write_companion
from airflow_provider_kirin.download.filenames import DEFAULT_TEMPLATE, PLACEHOLDERS, check_template, render_filename
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.download.storage import as_path, check_absolute, check_bucket
from airflow_provider_kirin.exceptions import (
    KirinDestinationError,
    KirinNotFoundError,
    KirinResponseError,
    KirinUnfinishedError,
)

#: Placeholder for a generation that has not been submitted yet.
_UNKNOWN = KirinTask("not-known-before-it-is-submitted", "in_progress")


class VideoClient(Protocol):
    """What a download needs: a :class:`.KirinHook`."""

    @property
    def log(self) -> Any:
        """The logger."""

    def get_task(self, kirin_task_id: str, *, external_task_id: str | None = None) -> KirinTask:
        """Look up a generation by its own id or by its external task id."""

    def save_video(
        self, url: str, destination: str, *, overwrite: bool, max_bytes: int, fresh_url: Callable[[], str]
    ) -> VideoFile:
        """Download a video and return what is known of it."""


@dataclass(frozen=True)
class Destination:
    """Where a step's files go.

    :param path: a folder, or a file name if it ends with ``.mp4``
    :param template: names the files in a folder; None uses the default
    :param step: values of the placeholders that describe the step
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer file is refused
    :param is_first_try: False if an earlier try of the step may have written the file
    :param sidecar: whether a JSON file is written beside each video
    :param poster: whether the first frame of each video is written beside it, as a JPEG
    :param file_key: what files are named by instead of the step's ``key``; None to use that
    """

    path: str
    template: str | None = None
    step: Mapping[str, object] = field(default_factory=dict)
    overwrite: bool = True
    max_bytes: int = DEFAULT_MAX_BYTES
    is_first_try: bool = True
    sidecar: bool = False
    poster: bool = False
    file_key: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether the destination is a file rather than a folder."""
        return self.path.lower().endswith(".mp4")

    def names(self, kirin_task: KirinTask) -> list[str]:
        """Return the names of a generation's files, one for each video."""
        return _numbered([self._name(kirin_task, index) for index in range(len(kirin_task.videos))])

    def _name(self, kirin_task: KirinTask, index: int) -> str:
        if self.is_file:
            return self.path
        values = {
            **self.step,
            **({} if self.file_key is None else {"key": self.file_key}),
            "kirin_task_id": kirin_task.id,
            # Generations without one must not share a name: their videos would replace each other.
            "external_task_id": kirin_task.external_task_id or kirin_task.id,
            "model": kirin_task.model or "unknown",
            "index": index,
        }
        return f"{self.path.rstrip('/')}/{render_filename(self.template or DEFAULT_TEMPLATE, values)}"

    def check(self) -> None:
        """Check everything that can be checked before anything is submitted.

        :raises KirinDestinationError: the storage cannot be reached, a file cannot be named, or it exists and must
            not be replaced
        """
        self.check_names()
        path = as_path(self.path)
        if isinstance(path, Path):
            _check_folder(path.parent if self.is_file else path)
        else:
            check_bucket(path)
        name = self._name(_UNKNOWN, 0)
        # A file written by an earlier try may be this very video: the download compares them.
        if not self.overwrite and self.is_first_try and _UNKNOWN.id not in name:
            file = as_path(name)
            if size_of(file) is not None:
                raise file_exists_error(file)

    def check_names(self) -> None:
        """Check the arguments that determine the file names.

        :raises KirinDestinationError: one of them is invalid
        """
        check_absolute(self.path)
        check_arguments(self.template, self.max_bytes, placeholders={*PLACEHOLDERS, *self.step})
        if self.is_file and self.template is not None:
            raise KirinDestinationError(
                f"destination = {short_repr(self.path, 120)} is a file, but filename_template names files in a "
                "folder. Give a folder, or leave filename_template out."
            )
        if self.poster:
            check_poster()


def check_arguments(
    filename_template: str | None, max_bytes: object, *, placeholders: Iterable[str] = PLACEHOLDERS
) -> None:
    """Check the arguments that do not depend on a run.

    :param filename_template: names the files in a folder
    :param max_bytes: the limit of a file's length
    :param placeholders: those that the template may have
    :raises KirinDestinationError: one of them is invalid
    """
    if filename_template is not None:
        check_template(filename_template, placeholders)
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise KirinDestinationError(f"max_bytes = {short_repr(max_bytes)} must be an integer above 0.")


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KirinDestinationError(f"destination = {folder} cannot be written: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise KirinDestinationError(f"destination = {folder} cannot be written: no permission.")


def fetch_finished(
    hook: VideoClient,
    kirin_task_id: str,
    *,
    remedy: str = "",
    pauses: Sequence[float] = LOOKUP_RETRY_DELAYS,
    is_kirin_id: bool = False,
    external_task_id: str | None = None,
) -> KirinTask:
    """Look up a finished generation to get fresh links, because links expire.

    The caller usually knows that it has finished, but the gateway's replica may lag: the lookup is repeated for a
    while.

    :param hook: looks it up
    :param kirin_task_id: a Kirin task id or an external task id
    :param remedy: what to do if it is not finished, for the error message
    :param pauses: seconds before each further lookup; empty for a single lookup
    :param is_kirin_id: whether the id is the gateway's own, which each response has to repeat
    :param external_task_id: the external task id that it was submitted under, if known beside a Kirin task id
    :raises KirinUnfinishedError: it is still in progress
    :raises KirinNotFoundError: the gateway does not know it
    :raises KirinAPIError: it failed, or completed without a video
    """
    may_lag = (KirinNotFoundError, KirinResponseError, KirinUnfinishedError)

    def fetch() -> KirinTask:
        found = hook.get_task(kirin_task_id, external_task_id=external_task_id)
        return _finished(check_response(found, kirin_task_id=kirin_task_id) if is_kirin_id else found, remedy)

    try:
        return call_with_retries(
            fetch,
            fixed_delays(pauses, only=lambda error: isinstance(error, may_lag)),
            on_retry=partial(hook.log.info, "The gateway may lag; looking it up again in %s s: %s"),
        )
    except KirinNotFoundError as error:
        raise settle_not_found(error, is_submitted=external_task_id is not None) from None


def _finished(kirin_task: KirinTask, remedy: str) -> KirinTask:
    if not kirin_task.is_final:
        message = f"Kirin generation {kirin_task.id} is not finished ({kirin_task.raw_status}). {remedy}"
        raise KirinUnfinishedError(message.rstrip())
    if error := error_from_task(kirin_task):
        raise error
    return kirin_task


def save_videos(
    hook: VideoClient, kirin_task: KirinTask, destination: Destination, order: Mapping[str, Any] | None = None
) -> list[VideoFile]:
    """Download every video of a finished generation, and write what is to be beside it.

    :param hook: downloads, and gets fresh links
    :param kirin_task: a finished generation, looked up just now because its links expire
    :param destination: where the files go
    :param order: what the generation was ordered with, if that is known, for the JSON file
    """
    destination.check_names()
    files = []
    for index, (name, video) in enumerate(zip(destination.names(kirin_task), kirin_task.videos, strict=True)):

        def fresh_url(index: int = index) -> str:
            videos = fetch_finished(
                hook, kirin_task.id, is_kirin_id=True, external_task_id=kirin_task.external_task_id
            ).videos
            if index >= len(videos):
                raise KirinUnfinishedError(f"Kirin generation {kirin_task.id} no longer lists this video.")
            return videos[index].url

        file = hook.save_video(
            video.url, name, overwrite=destination.overwrite, max_bytes=destination.max_bytes, fresh_url=fresh_url
        )
        hook.log.info(
            "Saved the video of Kirin generation %s (%s bytes): %s", kirin_task.id, f"{file.bytes:,}", file.uri
        )
        if destination.poster:
            file = replace(file, poster=_save_poster(hook, name, destination))
        if destination.sidecar:
            content = sidecar(kirin_task, index, file, destination.step, order or {})
            uri = write_companion(companion(name, ".json"), content, overwrite=destination.overwrite)
            file = replace(file, sidecar=uri)
        files.append(file)
    return files


def _save_poster(hook: VideoClient, name: str, destination: Destination) -> str | None:
    try:
        picture = first_frame(as_path(name))
        return write_companion(companion(name, ".jpg"), picture, overwrite=destination.overwrite)
    except Exception as error:
        # The video is there, which is what was paid for.
        hook.log.warning("No picture of %s: %s", redact_url(name), one_line(f"{type(error).__name__}: {error}"))
        return None


def _numbered(names: list[str]) -> list[str]:
    """Number files that would share a name: ``-0``, ``-1`` and so on before the extension."""
    if len(set(names)) == len(names):
        return names
    parts = [name.rpartition(".") if "." in name.rpartition("/")[2] else (name, "", "") for name in names]
    return [f"{stem}-{index}{dot}{extension}" for index, (stem, dot, extension) in enumerate(parts)]
