"""The operator that works through a table: one task, any number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.payload import FitImages, check_fit_images
from airflow_provider_kirin.compat import is_unmapped_copy
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.links.kirin import KirinGenerationLink
from airflow_provider_kirin.operators.arguments import check_budget, one_of
from airflow_provider_kirin.operators.file_arguments import FileArguments
from airflow_provider_kirin.operators.payload_templates import is_dynamic
from airflow_provider_kirin.operators.specs import CallbackSpec
from airflow_provider_kirin.utils.deferral import DEFAULT_WAIT, as_seconds, deferrable_default
from airflow_provider_kirin.utils.retry_defaults import RetriedByDefault
from airflow_provider_kirin.utils.task_errors import fail_without_retry
from airflow_provider_kirin.utils.task_instance import require_task_instance

if TYPE_CHECKING:
    from decimal import Decimal
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_kirin.api.submission_errors import OnUnknownSubmit
    from airflow_provider_kirin.operators.batch_execution import BatchSpec
    from airflow_provider_kirin.operators.batch_settings import OnBadRow
    from airflow_provider_kirin.operators.table import Table

#: Seconds: a night and a day.
DEFAULT_TIMEOUT = 86400.0


class KirinBatchOperator(FileArguments, RetriedByDefault):
    """Make a video of each row of a table: submit, wait without a worker, download; one task for any number of rows.

    Each row is paid once, whatever crashes: a retry or a clear continues with what is there and submits only
    what is missing. The state of each row is in ``manifest.jsonl``, beside the videos. See docs/reference/batch.md.

    :param payloads: the rows: a list of mappings, another task's output, or the path or URI of a ``.jsonl``, ``.csv``
        or ``.parquet`` file. Only a string is templated: rows are data.
    :param destination: the folder for the videos, the manifest and the journal (templated): local, or any URI that
        Airflow's ObjectStoragePath supports
    :param key: the column that names a row in files, manifest and errors (templated); None names rows by position
    :param max_in_flight: how many generations may run at once; fewer if the account is full
    :param max_cost_usd: the budget of the DAG run, in US dollars (templated); None for no budget
    :param on_bad_row: what to do with rows that break a rule of the model: ``"error"`` before anything is paid, or
        ``"skip"`` to record them and continue
    :param row_retries: how many further generations a row gets after one that failed for a reason that may pass
    :param max_failed_rows: how many rows may end without a video, as a number or as a share below 1
    :param fail_fast: whether to submit nothing more after the first row without a video
    :param timeout: seconds (or a timedelta) for the whole batch, counted from its start or its last clear
    :param row_timeout: seconds (or a timedelta) for one generation
    :param model: the model's id (templated)
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param fit_images: what to do with an image that breaks a limit: ``"error"`` (the row is refused) or ``"auto"``
    :param take: increase it to submit all rows again in the same run (templated)
    :param filename_template: names the videos below the destination (templated), with ``{key}``; the default is
        ``{key}-{index}.mp4`` in the folder of the batch, ``destination/dag_id/run_id/task_id``
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer video is not downloaded
    :param sidecar: see :class:`.KirinDownloadOperator`; the manifest names the file
    :param poster: see :class:`.KirinDownloadOperator`; the manifest names the file
    :param on_unknown_submit: see :class:`.KirinSubmitOperator`
    :param allow_unknown_model: whether to submit to a model that this provider does not know, parameters unchecked, and
        to send parameters that look like a misspelling of a known one
    :param callback: ``"auto"`` for callbacks of the gateway that begin the next wave as soon as it is worth it; needs
        Airflow 3.1 and the connection's extra ``callback_base_url``
    :param deferrable: whether to wait in the triggerer; the default is yes, unless
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` in the environment says no
    :param poll_interval: seconds between polls of a generation; None adapts it to its progress
    :return: ``{"schema_version", "manifest", "folder", "rows", "counts", "cost_usd", "seconds"}``
    """

    template_fields: Sequence[str] = (
        "payloads",
        "destination",
        "key",
        "model",
        "kirin_conn_id",
        "take",
        "max_cost_usd",
        "filename_template",
    )
    checked_fields = template_fields
    operator_extra_links = (KirinGenerationLink(),)
    ui_color = "#ece3fb"
    _placeholders = ("key",)

    def __init__(
        self,
        *,
        payloads: Any,
        destination: str | PathLike[str] | ObjectStoragePath,
        key: str | None = None,
        max_in_flight: int = 20,
        max_cost_usd: float | str | Decimal | None = None,
        on_bad_row: OnBadRow = "error",
        row_retries: int = 1,
        max_failed_rows: float = 0,
        fail_fast: bool = False,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        row_timeout: float | timedelta = DEFAULT_WAIT,
        model: str = DEFAULT_MODEL,
        kirin_conn_id: str = DEFAULT_CONN_ID,
        fit_images: FitImages = "error",
        take: int | str = 1,
        filename_template: str | None = None,
        overwrite: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        sidecar: bool = False,
        poster: bool = False,
        on_unknown_submit: OnUnknownSubmit = "stop",
        allow_unknown_model: bool = False,
        callback: Literal["auto"] | None = None,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # On the worker a mapped operator is created again from rendered values, which execute() validates: an error
        # raised here would be retried.
        if not is_unmapped_copy(self):
            check_budget(max_cost_usd)
        self._set_files(destination, filename_template, overwrite, max_bytes, sidecar, poster)
        self._rows: Any = None
        self.payloads = payloads
        self.key = key
        self.max_in_flight = _at_least(1, max_in_flight, "max_in_flight")
        self.max_cost_usd = max_cost_usd
        self.on_bad_row: OnBadRow = one_of(on_bad_row, "on_bad_row", "error", "skip")
        self.row_retries = _at_least(0, row_retries, "row_retries")
        self.max_failed_rows = _number_or_share(max_failed_rows, "max_failed_rows")
        self.fail_fast = fail_fast
        self.timeout = as_seconds(timeout, "timeout")
        self.row_timeout = as_seconds(row_timeout, "row_timeout")
        self.model = model
        self.kirin_conn_id = kirin_conn_id
        self.fit_images: FitImages = check_fit_images(fit_images)
        self.take = take
        self.on_unknown_submit: OnUnknownSubmit = one_of(on_unknown_submit, "on_unknown_submit", "stop", "resubmit")
        self.allow_unknown_model = allow_unknown_model
        self.callback = one_of(callback, "callback", "auto", None)
        self.deferrable = deferrable_default() if deferrable is None else deferrable
        self.poll_interval = None if poll_interval is None else as_seconds(poll_interval, "poll_interval")
        self._hide_rows()

    def _hide_rows(self) -> None:
        """Keep rows out of templates: rendering thousands takes seconds, and they may hold images and signed URLs."""
        if isinstance(self.payloads, (list, tuple)):
            self._rows = self.payloads
            self.payloads = f"{len(self._rows):,} rows"

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render the fields, then hide rows that came from another task."""
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self and not (isinstance(self.payloads, str) and not self.payloads.lstrip().startswith("[")):
            self._rows, self.payloads = self.payloads, "rows of another task"

    def static_table(self) -> Table | None:
        """Return the table if it is known before a run; None if it is another task's output, or has a template."""
        return None if any(map(is_dynamic, (self.payloads, self.key, self.model))) else self._table()

    def _table(self) -> Table:
        from airflow_provider_kirin.operators.table import Table

        return Table(self.payloads if self._rows is None else self._rows, key=self.key, model=self.model)

    def execute(self, context: Context) -> dict[str, Any]:
        """Work through the first wave, or continue where an earlier try ended."""
        require_task_instance(context)
        return self._wave(context, None, is_resumed=False)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Work through the next wave.

        :param context: the running task's context
        :param event: has what callbacks reported; it may be that of an earlier try
        """
        return self._wave(context, event, is_resumed=True)

    def _wave(self, context: Context, event: Any, *, is_resumed: bool) -> dict[str, Any]:
        from airflow_provider_kirin.operators import batch_execution

        with (
            fail_without_retry(),
            batch_execution.opened(self._spec(), context, self.log, is_resumed=is_resumed) as batch,
        ):
            while not batch.wave(event):
                if self.deferrable:
                    self.defer(**batch.deferral())
                batch.wait_here()
            result = batch.result()
            self._provenance = batch.provenance()
        batch_execution.add_asset_event(context, self.outlets, result, self.log)
        return result

    def _spec(self) -> BatchSpec:
        """Describe the batch, after rendering."""
        from airflow_provider_kirin.exceptions import KirinTableError
        from airflow_provider_kirin.operators.batch_execution import BatchSpec
        from airflow_provider_kirin.operators.batch_settings import BatchSettings

        if empty := self._rendering.empty_arguments("payloads", "key", "model", "kirin_conn_id", "take"):
            raise KirinTableError(f"{' '.join(map(str, empty))} Nothing was submitted by this try.")
        table = self._table()
        return BatchSpec(
            table=table,
            settings=BatchSettings(
                source=table.source,
                model=self.model,
                conn_id=self.kirin_conn_id,
                max_in_flight=self.max_in_flight,
                row_retries=self.row_retries,
                fail_fast=self.fail_fast,
                on_bad_row=self.on_bad_row,
                timeout=self.timeout,
                row_timeout=self.row_timeout,
                on_unknown_submit=self.on_unknown_submit,
                allow_unknown_model=self.allow_unknown_model,
                by_position=self.key is None,
            ),
            files=self._files_spec(),
            take=self.take,
            max_cost_usd=self.max_cost_usd,
            max_failed_rows=self.max_failed_rows,
            fit_images=self.fit_images,
            poll_interval=self.poll_interval,
            # A callback cannot begin a wave on a worker that waits.
            callback=CallbackSpec() if self.callback and self.deferrable else None,
        )

    def on_kill(self) -> None:
        """Log what continues at Kirin: the API documents no way to cancel a generation."""
        self.log.warning(
            "Generations of this batch that are in flight continue at Kirin, and are billed: they cannot be cancelled. "
            "The next try of this task continues with them."
        )


def _at_least(least: int, value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} = {value!r} must be an integer, {least} or more.")
    return value


def _number_or_share(value: Any, name: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and ((isinstance(value, int) and value >= 0) or 0 <= value < 1):
        found: float = value
        return found
    raise ValueError(
        f"{name} = {value!r} must be a number of rows, 0 or more, or a share of them below 1, such as 0.02."
    )
