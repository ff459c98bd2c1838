"""The operator that downloads the videos of a finished generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.links.kirin import KirinGenerationLink, KirinVideoLink
from airflow_provider_kirin.operators.file_arguments import FileArguments
from airflow_provider_kirin.operators.specs import DownloadSpec
from airflow_provider_kirin.operators.submit import KirinSubmitOperator
from airflow_provider_kirin.utils.retry_defaults import RetriedByDefault
from airflow_provider_kirin.utils.task_errors import fail_without_retry
from airflow_provider_kirin.utils.task_instance import class_of, is_mapped, require_task_instance

if TYPE_CHECKING:
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath


class KirinDownloadOperator(FileArguments, RetriedByDefault):
    """Copy the videos of a finished generation to a folder or file, and return the files' URIs.

    The generation is looked up again, so a link that expired in an XCom does not matter. Repeating it is free.

    :param kirin_task_id: the generation (templated)
    :param destination: a folder or a file name, local or any URI that Airflow's ObjectStoragePath supports
        (templated), as a string, Path or ObjectStoragePath. In a folder the video is named
        ``{dag_id}/{run_id}/{kirin_task_id}-{index}.mp4``.
    :param filename_template: names the files in a folder (templated); docs/reference/storage.md has the placeholders
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer video is not downloaded
    :param sidecar: whether ``<name>.json`` is written beside each video: what it was ordered with, ids, cost, and what
        is known of the file
    :param poster: whether ``<name>.jpg`` is written beside each video, its first frame; needs the extra ``media``
    """

    template_fields: Sequence[str] = ("kirin_task_id", "destination", "filename_template", "kirin_conn_id")
    checked_fields = template_fields
    operator_extra_links = (KirinGenerationLink(), KirinVideoLink())
    ui_color = "#ece3fb"

    def __init__(
        self,
        *,
        kirin_task_id: str,
        destination: str | PathLike[str] | ObjectStoragePath,
        filename_template: str | None = None,
        kirin_conn_id: str = DEFAULT_CONN_ID,
        overwrite: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        sidecar: bool = False,
        poster: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kirin_task_id = kirin_task_id
        self.kirin_conn_id = kirin_conn_id
        self._set_files(destination, filename_template, overwrite, max_bytes, sidecar, poster)

    def execute(self, context: Context) -> list[str]:
        """Look up the generation, then download its videos."""
        from airflow_provider_kirin.operators import completion

        require_task_instance(context)
        with fail_without_retry():
            spec = DownloadSpec(
                kirin_task_id=self.kirin_task_id,
                kirin_conn_id=self.kirin_conn_id,
                files=self._files_spec(),
                submitters=list(self._submitters(context["ti"].map_index)),
            )
            files: list[str] = self._return(context, completion.download(spec, context))
            return files

    def _submitters(self, map_index: int | None) -> Iterator[tuple[str, int]]:
        """Yield id and map index of the direct upstream tasks that submit generations."""
        for task in self.upstream_list:
            if issubclass(class_of(task), KirinSubmitOperator):
                # A task mapped over a mapped one shares its map index.
                has_instances = is_mapped(task) or task.get_closest_mapped_task_group() is not None
                yield task.task_id, map_index if has_instances and map_index is not None else -1
