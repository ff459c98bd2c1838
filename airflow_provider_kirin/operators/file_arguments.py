"""The arguments about files, and what comes after a download: shared by all operators that write videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_kirin.compat import is_unmapped_copy
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.download.storage import check_absolute, to_str
from airflow_provider_kirin.lineage import OpenLineageMixin, add_asset_events
from airflow_provider_kirin.operators.arguments import TemplatedArguments
from airflow_provider_kirin.operators.payload_templates import is_dynamic
from airflow_provider_kirin.operators.specs import FilesSpec

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.operators.completion import VideoResult


class FileArguments(TemplatedArguments, OpenLineageMixin):
    """The arguments of an operator that downloads videos."""

    destination: Any
    filename_template: str | None
    overwrite: bool
    max_bytes: int
    sidecar: bool
    poster: bool
    #: Placeholders that ``filename_template`` may have besides the usual ones.
    _placeholders: ClassVar[tuple[str, ...]] = ()
    #: What the task returned, for its link to the video.
    _result: Any = None

    def _set_files(
        self,
        destination: Any,
        filename_template: str | None,
        overwrite: bool,
        max_bytes: int,
        sidecar: bool,
        poster: bool,
    ) -> None:
        """Keep the arguments, and check the static ones; execute() checks the rendered ones."""
        self.destination = to_str(destination)
        self.filename_template = filename_template
        self.overwrite = overwrite
        self.max_bytes = max_bytes
        self.sidecar = sidecar
        self.poster = poster
        # On the worker a mapped operator is created again from rendered values: an error raised here would be retried.
        if is_unmapped_copy(self):
            return
        if isinstance(self.destination, str) and not is_dynamic(self.destination):
            check_absolute(self.destination)
        if not is_dynamic(filename_template) and (filename_template is not None or max_bytes != DEFAULT_MAX_BYTES):
            from airflow_provider_kirin.download.destination import check_arguments
            from airflow_provider_kirin.download.filenames import PLACEHOLDERS

            check_arguments(filename_template, max_bytes, placeholders=(*PLACEHOLDERS, *self._placeholders))

    def _files_spec(self) -> FilesSpec:
        return FilesSpec(
            destination=self.destination,
            filename_template=self.filename_template,
            overwrite=self.overwrite,
            max_bytes=self.max_bytes,
            sidecar=self.sidecar,
            poster=self.poster,
            rendering=self._rendering,
        )

    def _return(self, context: Context, result: VideoResult) -> Any:
        """Report a finished generation, and return the task's result."""
        self._provenance = result.provenance
        add_asset_events(context, self.outlets, result.provenance, self.log)  # type: ignore[attr-defined]
        self._result = result.value
        return result.value
