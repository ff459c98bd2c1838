"""Where a generation's videos go, and under which names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.lookup import check_response
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.download.atomic_file import file_exists_error, size_of
from airflow_provider_kirin.download.filenames import DEFAULT_TEMPLATE, check_template, render_filename
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.download.storage import as_path, check_absolute, check_bucket, to_str
from airflow_provider_kirin.exceptions import (
    KirinDestinationError,
    KirinNotFoundError,
    KirinReplyError,
    KirinUnfinishedError,
)
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.hooks.kirin import KirinHook

#: Stands for a generation that is not bought yet.
_UNKNOWN = KirinTask("not-known-before-it-is-submitted", "in_progress")


@dataclass(frozen=True)
class Destination:
    """Where a step's files go.

    :param path: a folder, or a file name where it ends with ``.mp4``
    :param template: names the files in a folder; None takes the default
    :param step: values of the step's own placeholders
    :param overwrite: whether another file that is there may be replaced
    :param max_bytes: a longer file is refused
    :param is_first_try: whether no earlier try of the step can have put the file there
    """

    path: str
    template: str | None = None
    step: Mapping[str, object] = field(default_factory=dict)
    overwrite: bool = True
    max_bytes: int = DEFAULT_MAX_BYTES
    is_first_try: bool = True

    @classmethod
    def of(cls, operator: Any, context: Context) -> Destination:
        """Return the place that an operator's arguments name.

        :param operator: with ``path``, ``filename_template``, ``overwrite`` and ``max_bytes``
        :param context: Airflow's
        :raises KirinDestinationError: ``path`` does not name a place, or turned out empty
        """
        if empty := operator.empty_arguments("destination", "filename_template"):
            raise KirinDestinationError(" ".join(map(str, empty)))
        destination = to_str(operator.destination)
        if not isinstance(destination, str):
            raise KirinDestinationError(
                f"destination = {short_repr(destination)} must be a text, a Path or an ObjectStoragePath. "
                f"Look at what its template or upstream task makes of it{operator.native_rendering('destination')}."
            )
        ti = context["ti"]
        step = {
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": map_index_of(ti),
        }
        return cls(
            destination,
            operator.filename_template,
            step,
            operator.overwrite,
            operator.max_bytes,
            is_first_try=ti.try_number <= 1,
        )

    @property
    def is_file(self) -> bool:
        """Whether the destination is a file's own name."""
        return self.path.lower().endswith(".mp4")

    def names(self, kirin_task: KirinTask) -> list[str]:
        """Return the names of a generation's files, one a video.

        :param kirin_task: the generation
        """
        return _numbered([self._name(kirin_task, index) for index in range(len(kirin_task.videos))])

    def _name(self, kirin_task: KirinTask, index: int) -> str:
        if self.is_file:
            return self.path
        values = {
            **self.step,
            "kirin_task_id": kirin_task.id,
            # Never one name for all that have none: videos would replace each other.
            "external_task_id": kirin_task.external_task_id or kirin_task.id,
            "model": kirin_task.model or "unknown",
            "index": index,
        }
        return f"{self.path.rstrip('/')}/{render_filename(self.template or DEFAULT_TEMPLATE, values)}"

    def check(self) -> None:
        """Find out what can be found out before anything is paid.

        :raises KirinDestinationError: the storage is out of reach, a name cannot be made, or a file is there and may
            not be replaced
        """
        self.check_names()
        path = as_path(self.path)
        if isinstance(path, Path):
            _check_folder(path.parent if self.is_file else path)
        else:
            check_bucket(path)
        name = self._name(_UNKNOWN, 0)
        # What an earlier try put there may be the very video: the download finds out.
        if not self.overwrite and self.is_first_try and _UNKNOWN.id not in name:
            place = as_path(name)
            if size_of(place) is not None:
                raise file_exists_error(place)

    def check_names(self) -> None:
        """Judge what names the files.

        :raises KirinDestinationError: they cannot be named so
        """
        check_absolute(self.path)
        check_arguments(self.template, self.max_bytes)
        if self.is_file and self.template is not None:
            raise KirinDestinationError(
                f"destination = {short_repr(self.path, 120)} names a file, and filename_template names files in a "
                "folder. Give a folder, or leave filename_template out."
            )


def check_arguments(filename_template: str | None, max_bytes: object) -> None:
    """Judge what does not depend on a run.

    :param filename_template: the operator's ``filename_template``
    :param max_bytes: the operator's
    :raises KirinDestinationError: one of them cannot be used
    """
    if filename_template is not None:
        check_template(filename_template)
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise KirinDestinationError(f"max_bytes = {short_repr(max_bytes)} must be a whole number above 0.")


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KirinDestinationError(f"destination = {folder} cannot be written: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise KirinDestinationError(f"destination = {folder} cannot be written: no permission.")


def fetch_finished(
    hook: KirinHook,
    kirin_task_id: str,
    *,
    remedy: str = "",
    pauses: Iterable[float] = LOOKUP_RETRY_DELAYS,
    is_kirin_id: bool = False,
) -> KirinTask:
    """Return a generation that has its video, fetched afresh: its links expire.

    Who fetches has seen the end, as a rule, and the replica that answers may lag: it is asked again for a while.

    :param hook: asks
    :param kirin_task_id: the generation
    :param remedy: what to do where it is not finished
    :param pauses: between further looks, in seconds; none takes the first answer
    :param is_kirin_id: whether the id is the gateway's own, which each response has to repeat
    :raises KirinUnfinishedError: it is still in progress
    :raises KirinNotFoundError: the gateway does not know it; retryable where it was not the API that said so
    :raises KirinAPIError: it failed, or completed without a video
    """
    ahead = iter(pauses)
    while True:
        try:
            found = hook.get_task(kirin_task_id)
            return _finished(check_response(found, kirin_task_id=kirin_task_id) if is_kirin_id else found, remedy)
        except (KirinNotFoundError, KirinReplyError, KirinUnfinishedError) as error:
            if isinstance(error, KirinNotFoundError):
                error.retryable = not error.from_api
            delay = next(ahead, None)
            if delay is None:
                raise
            hook.log.info("Looking again, since the gateway may lag: %s", error)
        time.sleep(delay)


def _finished(kirin_task: KirinTask, remedy: str) -> KirinTask:
    if not kirin_task.is_final:
        said = f"Kirin generation {kirin_task.id} is not finished ({kirin_task.raw_status}). {remedy}"
        raise KirinUnfinishedError(said.rstrip())
    if error := error_from_task(kirin_task):
        raise error
    return kirin_task


def save_videos(hook: KirinHook, kirin_task: KirinTask, destination: Destination) -> list[str]:
    """Download every video of a finished generation and return the files' URIs.

    :param hook: downloads, and gets fresh links
    :param kirin_task: finished, and fetched just now: its links expire
    :param destination: where they go
    """
    destination.check_names()
    files = []
    for index, (name, video) in enumerate(zip(destination.names(kirin_task), kirin_task.videos, strict=True)):

        def fresh_url(index: int = index) -> str:
            videos = fetch_finished(hook, kirin_task.id, is_kirin_id=True).videos
            if index >= len(videos):
                raise KirinUnfinishedError(f"Kirin generation {kirin_task.id} does not show its video any more.")
            return videos[index].url

        size = hook.download(
            video.url, name, overwrite=destination.overwrite, max_bytes=destination.max_bytes, fresh_url=fresh_url
        )
        path = as_path(name)
        files.append(path.absolute().as_uri() if isinstance(path, Path) else str(path))
        hook.log.info("The video of Kirin generation %s is saved (%s bytes): %s", kirin_task.id, f"{size:,}", files[-1])
    return files


def _numbered(names: list[str]) -> list[str]:
    """Tell several files of one name apart: ``-0`` and so on before the ending."""
    if len(set(names)) == len(names):
        return names
    parts = [name.rpartition(".") if "." in name.rpartition("/")[2] else (name, "", "") for name in names]
    return [f"{stem}-{index}{dot}{ending}" for index, (stem, dot, ending) in enumerate(parts)]
