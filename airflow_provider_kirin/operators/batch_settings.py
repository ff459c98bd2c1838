"""A batch's settings, the client that it calls, and its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from airflow_provider_kirin.api.batch.record import RowRecord
    from airflow_provider_kirin.api.batch.row import Row
    from airflow_provider_kirin.api.batch.state import RowState
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.submission import GenerationClient
    from airflow_provider_kirin.api.submission_errors import OnUnknownSubmit
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.api.video_file import VideoFile
    from airflow_provider_kirin.exceptions import KirinError

OnBadRow = Literal["error", "skip"]


class BatchClient(Protocol):
    """What a batch needs of the gateway, of the destination, and of the metrics."""

    def prepare(self, row: Row) -> PreparedPayload:
        """Read a row's images, check all of it, and return what would be sent.

        :raises KirinPayloadError: the row cannot be sent
        """

    def external_task_id(self, row: Row, prepared: PreparedPayload) -> str:
        """Return the row's external task id: the same in every process."""

    def sender(self, prepared: PreparedPayload | None, record: RowRecord) -> GenerationClient:
        """Return the client that submits one payload; without a payload, it only looks up."""

    def get_task(self, kirin_task_id: str, *, external_task_id: str | None) -> KirinTask:
        """Ask for a generation, once; the response need not repeat its external task id."""

    def save(self, state: RowState, kirin_task: KirinTask | None, *, file_key: str) -> list[VideoFile]:
        """Store the videos of a finished generation, and return what is known of them.

        :param state: the row
        :param kirin_task: the generation with fresh links; None to ask for them
        :param file_key: what the files are named by: the row's key, or one that no other row shares
        """

    def report(self, event: Literal["submitted", "ended"], state: RowState, outcome: KirinTask | KirinError) -> None:
        """Count a submission, or the end of a generation, once."""


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What the user wants.

    :param source: where the rows come from, safe to show
    :param model: the model
    :param conn_id: the connection
    :param max_in_flight: how many generations may be in flight
    :param row_retries: how many further generations a row gets after one that failed
    :param fail_fast: whether nothing more is submitted after the first row without a video
    :param on_bad_row: what to do with rows that break a rule
    :param timeout: seconds for the whole batch
    :param row_timeout: seconds for one generation
    :param on_unknown_submit: see :class:`.Submission`
    :param allow_unknown_model: whether to submit to a model without a schema, and names that resemble a parameter
    :param by_position: whether rows have no key of their own
    """

    source: str
    model: str
    conn_id: str
    max_in_flight: int
    row_retries: int = 1
    fail_fast: bool = False
    on_bad_row: OnBadRow = "error"
    timeout: float
    row_timeout: float
    on_unknown_submit: OnUnknownSubmit = "stop"
    allow_unknown_model: bool = False
    by_position: bool = False


class QuietLog:
    """A logger that names the row, and logs at DEBUG what is routine: a batch may have thousands of rows."""

    def __init__(self, log: Any, key: str) -> None:
        self._log = log
        self._key = key

    def debug(self, message: str, *args: Any) -> None:
        """Log a detail for debugging."""
        self._log.debug(f"Row %s: {message}", self._key, *args)

    #: A batch logs a line a wave, not a line a row.
    info = debug

    def warning(self, message: str, *args: Any) -> None:
        """Log what the user should know."""
        self._log.warning(f"Row %s: {message}", self._key, *args)
