"""A batch with a model of the gateway and a journal on a real disk, driven as the operator drives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from airflow_provider_kirin.api.batch.record import RowRecord
from airflow_provider_kirin.api.batch.row import Row, read_rows
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.payload import PreparedPayload
from airflow_provider_kirin.api.task import KirinTask, KirinUsage, KirinVideo
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.exceptions import (
    KirinDestinationError,
    KirinError,
    KirinPayloadError,
    KirinResponseError,
    Problem,
)
from airflow_provider_kirin.operators.batch_run import BatchRun
from airflow_provider_kirin.operators.batch_settings import BatchSettings
from airflow_provider_kirin.state.journal import Journal
from tests.support.gateway_model import MODEL, Killed, ModelGateway

IMAGE = "https://images.example/a.jpg"


@dataclass
class ModelSender:
    """Submits one row to the model gateway."""

    gateway: ModelGateway

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        return self.gateway.get_task(kirin_task_id, patience=patience)

    def submit_as(self, external_task_id: str) -> KirinTask:
        return self.gateway.submit_as(external_task_id)


@dataclass
class ModelClient:
    """What a batch calls, over the model gateway.

    :param gateway: the gateway
    :param save_fate: what happens to the next download: ``ok``, ``cut``, ``full``, ``exists`` or ``killed``
    :param bad_images: keys of rows whose image cannot be read
    """

    gateway: ModelGateway
    save_fate: Callable[[], str] = lambda: "ok"
    bad_images: set[str] = field(default_factory=set)
    saved: Counter[str] = field(default_factory=Counter)
    reports: list[tuple[str, str]] = field(default_factory=list)
    #: Called before a submission is prepared: where another process may come in between.
    before_sending: Callable[[str], None] = lambda key: None

    def prepare(self, row: Row) -> PreparedPayload:
        if row.key in self.bad_images:
            raise KirinPayloadError([Problem("image", "'x.jpg'", "cannot be read", "Correct the path")], model=MODEL)
        return PreparedPayload(MODEL, dict(row.payload), {})

    def external_task_id(self, row: Row, prepared: PreparedPayload) -> str:
        return f"{row.key}.{prepared.params.get('prompt')}"

    def sender(self, prepared: PreparedPayload | None, record: RowRecord) -> ModelSender:
        self.before_sending(record.state.key)
        return ModelSender(self.gateway)

    def get_task(self, kirin_task_id: str, *, external_task_id: str | None) -> KirinTask:
        return self.gateway.get_task(kirin_task_id, patience=0)

    def save(self, state: RowState, kirin_task: KirinTask | None, *, file_key: str) -> list[VideoFile]:
        fate = self.save_fate()
        if fate == "killed":
            raise Killed
        if fate == "full":
            raise KirinDestinationError("No space left on device", retryable=True)
        if fate == "exists":
            raise KirinDestinationError("the file already exists")
        if fate == "cut":
            raise KirinResponseError("the video was cut off")
        self.saved[state.key] += 1
        return [VideoFile(uri=f"file:///videos/{file_key}.mp4", bytes=1, sha256="0")]

    def report(self, event: Literal["submitted", "ended"], state: RowState, outcome: KirinTask | KirinError) -> None:
        self.reports.append((event, state.key))


def finish(gateway: ModelGateway, number: int, status: str = "completed", cost: str = "0.28") -> None:
    """Let one of the gateway's generations end."""
    name, kirin_task = gateway.paid[number]
    videos = [KirinVideo("https://videos.example/v.mp4")] if status == "completed" else []
    usage = KirinUsage(cost=Decimal(cost)) if status == "completed" else None
    done: Any = status
    gateway.paid[number] = (name, replace(kirin_task, status=done, raw_status=status, videos=videos, usage=usage))


def finish_all(gateway: ModelGateway, status: str = "completed") -> None:
    """Let all of the gateway's generations end."""
    for number, (_, kirin_task) in enumerate(gateway.paid):
        if not kirin_task.is_final:
            finish(gateway, number, status)


@dataclass
class Batch:
    """A batch that any number of processes work on, one after the other.

    :param folder: where its journal is
    :param records: the table
    :param settings: of the batch
    """

    folder: Path
    records: list[Any]
    gateway: ModelGateway = field(default_factory=ModelGateway)
    settings: dict[str, Any] = field(default_factory=dict)
    key: str | None = "sku"
    threads: int = 1
    now: float = 1000.0
    try_number: int = 1
    round: int = 0
    may_be_lost: bool = False
    processes: int = 0
    verified: dict[str, bool] = field(default_factory=dict)
    client: ModelClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = ModelClient(self.gateway)

    def process(self, journal: Journal | None = None) -> BatchRun:
        """Return what a new process works with."""
        self.processes += 1
        settings: dict[str, Any] = {"max_in_flight": 3, "timeout": 1e6, "row_timeout": 1e5} | self.settings
        return BatchRun(
            self.client,
            journal or Journal(str(self.folder), owner=f"p{self.processes}"),
            self.table,
            BatchSettings(source="products.jsonl", model=MODEL, conn_id="c", **settings),
            threads=self.threads,
            now=lambda: self.now,
            sleep=lambda seconds: None,
            lookup_verified=self.verified,
        )

    def table(self) -> Iterator[Row]:
        return read_rows(self.records, key=self.key, model=MODEL)

    def open(self, journal: Journal | None = None) -> BatchRun:
        """Return a new process's work on the batch, recovered."""
        run = self.process(journal)
        run.open(batch="b", try_number=self.try_number, round=self.round, may_be_lost=self.may_be_lost)
        return run

    def wave(self) -> BatchRun:
        """Do what one worker run does, and return it."""
        run = self.open()
        run.wave()
        return run

    def work(self, waves: int = 50) -> BatchRun:
        """Do waves until the batch is finished; every generation ends in between."""
        for _ in range(waves):
            run = self.wave()
            if run.is_finished:
                return run
            finish_all(self.gateway)
            self.now += 30
        raise AssertionError("the batch does not end")


def table(count: int) -> list[dict[str, Any]]:
    """Return rows with keys and prompts."""
    return [row(f"s{number}", f"p{number}") for number in range(count)]


def row(sku: str, prompt: str = "p", **more: Any) -> dict[str, Any]:
    """Return one row."""
    return {"sku": sku, "prompt": prompt, "image": IMAGE, **more}
