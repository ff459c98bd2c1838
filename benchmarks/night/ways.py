"""The ways to get many videos: one DAG each, in a file of its own, so that none pays for another one's imports."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

MODEL = "kirin_v1_6_i2v"
#: Seconds. Nothing waits that long here.
_LONG = 7200
#: The default of the http provider's own trigger.
_HTTP_POKES = 5.0
#: Generations that a batch has in flight.
PLACES = 40


@dataclass(frozen=True)
class Way:
    """One way, as a DAG.

    :param title: what the tables call it
    :param fill: adds the tasks, given how many generations and the image
    :param blocks: whether a worker is held for as long as a generation takes, so that few are measured
    :param by_run: whether each generation has a DAG run of its own
    :param places: how many generations run at once; None for all of them
    :param durations: returns the seconds of each generation, given how many; None if all take the stage's
    """

    title: str
    fill: Callable[[int, Path], None]
    blocks: bool = False
    by_run: bool = False
    places: int | None = None
    durations: Callable[[int], list[float]] | None = None

    @property
    def is_trivial(self) -> bool:
        """Whether its tasks do nothing."""
        return self.fill is _trivial

    @property
    def trivial(self) -> str:
        """The way that does nothing, as often and in as many runs."""
        return "trivial-runs" if self.by_run else "trivial"


def build(dag_id: str, way: str, count: int, image: str) -> DAG:
    """Return the DAG of a way.

    :param dag_id: its name
    :param way: key of :data:`WAYS`
    :param count: how many generations
    :param image: the file
    """
    from airflow.sdk import DAG

    by_run = WAYS[way].by_run
    with DAG(dag_id, schedule=None, catchup=False, max_active_runs=count) as dag:
        WAYS[way].fill(1 if by_run else count, Path(image))
    return dag


def dag_file(dag_id: str, way: str, count: int, image: Path) -> str:
    """Return what is written into the DAGs folder; the arguments are those of :func:`build`."""
    call = f"build({dag_id!r}, {way!r}, {count}, {str(image)!r})"
    return f'"""An Airflow DAG."""\nfrom benchmarks.night.ways import build\n\ndag = {call}\n'


def _trivial(count: int, image: Path) -> None:
    """Tasks that do nothing: what Airflow itself needs for as many submissions."""
    from airflow.sdk import task

    @task
    def submit(number: int) -> str:
        return f"trivial-{number}"

    submit.expand(number=list(range(count)))


def _operator(count: int, image: Path) -> None:
    _generate(count, image)


def _files(count: int, image: Path) -> None:
    _generate(count, image, destination=str(image.parent / "mapped"))


def _generate(count: int, image: Path, **options: Any) -> None:
    from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

    operator = KirinGenerateVideoOperator.partial(task_id="generate", timeout=_LONG, **options)
    operator.expand(payload=_payloads(count, image))


def _batch(count: int, image: Path) -> None:
    _table(_payloads(count, image), image)


def _varied(count: int) -> list[float]:
    """Return 30 to 90 seconds, in an order that mixes them.

    :param count: how many
    """
    return [30 + 60 * (number * 37 % count) / max(count - 1, 1) for number in range(count)]


def _varied_batch(count: int, image: Path) -> None:
    seconds, rows = _varied(count), _payloads(count, image)
    _table(
        [row | {"prompt": f"{row['prompt']} [[seconds:{one:.1f}]]"} for row, one in zip(rows, seconds, strict=True)],
        image,
    )


def _table(rows: list[dict[str, str]], image: Path) -> None:
    from airflow_provider_kirin.operators.batch import KirinBatchOperator

    KirinBatchOperator(
        task_id="videos", payloads=rows, destination=str(image.parent / "batch"), max_in_flight=PLACES, timeout=_LONG
    )


def _list(count: int, image: Path) -> None:
    from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

    KirinTaskSensor(task_id="wait", kirin_task_id=_submitted(count, image), timeout=_LONG)


def _each(count: int, image: Path) -> None:
    from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

    KirinTaskSensor.partial(task_id="wait", timeout=_LONG).expand(kirin_task_id=_submitted(count, image))


def _pairs(count: int, image: Path) -> None:
    for number, payload in enumerate(_payloads(count, image)):
        _pair(payload, f"_{number}", start_from_trigger=True)


def _run(count: int, image: Path) -> None:
    (payload,) = _payloads(count, image)
    _pair(payload, start_from_trigger=True)


def _pair(payload: dict[str, Any], suffix: str = "", **options: Any) -> None:
    from airflow_provider_kirin.operators.kirin import KirinSubmitOperator
    from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

    submit: Any = KirinSubmitOperator(task_id=f"submit{suffix}", payload=payload)
    KirinTaskSensor(task_id=f"wait{suffix}", kirin_task_id=submit.output, timeout=_LONG, **options)


def _sdk(count: int, image: Path) -> None:
    from airflow.sdk import task

    @task
    def generate(number: int) -> list[str]:
        import seaart_sdk as sdk
        from airflow.sdk import Connection

        conn = Connection.get("kirin_default")
        client = sdk.new(sdk.ClientConfig(api_key=conn.password, base_url=conn.host))
        submitted = client.modal.create(_body(image, f"Cup {number}."))
        return list(submitted.wait(sdk.with_poll_timeout(_LONG)).urls())

    generate.expand(number=list(range(count)))


def _http(count: int, image: Path) -> None:
    from airflow.providers.http.sensors.http import HttpSensor

    # Only the body says whether a generation is done. With a response_check the sensor does not defer.
    sensor = HttpSensor.partial(
        task_id="wait",
        deferrable=True,
        response_check=lambda response: response.json()["status"] == "completed",
        poke_interval=_HTTP_POKES,
        timeout=_LONG,
    )
    sensor.expand(endpoint=_posted(count, image).output.map(lambda id_: f"model/v1/generation/task/{id_}"))


def _http_404(count: int, image: Path) -> None:
    from airflow.providers.http.sensors.http import HttpSensor

    sensor = HttpSensor.partial(
        task_id="wait", deferrable=True, http_conn_id="http_ready", poke_interval=_HTTP_POKES, timeout=_LONG
    )
    sensor.expand(endpoint=_posted(count, image).output.map(lambda id_: f"ready/{id_}"))


def _payloads(count: int, image: Path) -> list[dict[str, str]]:
    return [{"image": str(image), "prompt": f"Cup {number}."} for number in range(count)]


def _submitted(count: int, image: Path) -> Any:
    from airflow_provider_kirin.operators.kirin import KirinSubmitOperator

    return KirinSubmitOperator.partial(task_id="submit").expand(payload=_payloads(count, image)).output


def _posted(count: int, image: Path) -> Any:
    from airflow.providers.http.operators.http import HttpOperator

    headers = [{"Content-Type": "application/json", "X-Request-Id": f"night-{number}"} for number in range(count)]
    operator = HttpOperator.partial(
        task_id="submit",
        endpoint="model/v1/generation",
        data=json.dumps(_body(image, "A cup.")),
        response_filter=lambda response: response.json()["id"],
    )
    return operator.expand(headers=headers)


def _body(image: Path, prompt: str) -> dict[str, Any]:
    content = base64.b64encode(image.read_bytes()).decode()
    return {"model": MODEL, "input": [{"params": {"image": content, "prompt": prompt}}]}


WAYS: dict[str, Way] = {
    "trivial": Way("as many tasks that do nothing", _trivial),
    "trivial-runs": Way("as many DAG runs of a task that does nothing", _trivial, by_run=True),
    "operator": Way("KirinGenerateVideoOperator, mapped", _operator),
    "files": Way("KirinGenerateVideoOperator with a destination, mapped", _files),
    "batch": Way(f"KirinBatchOperator, {PLACES} at once", _batch, places=PLACES),
    "batch-varied": Way(
        f"KirinBatchOperator, {PLACES} at once, 30 to 90 s each", _varied_batch, places=PLACES, durations=_varied
    ),
    "list": Way("KirinSubmitOperator, mapped; one KirinTaskSensor for all", _list),
    "each": Way("KirinSubmitOperator, mapped; KirinTaskSensor, mapped", _each),
    "pairs": Way("KirinSubmitOperator and KirinTaskSensor, in pairs", _pairs),
    "runs": Way("KirinSubmitOperator and KirinTaskSensor, a DAG run for each", _run, by_run=True),
    "http-404": Way("HttpOperator; deferrable HttpSensor, given a URL that is 404 until the end", _http_404),
    "http": Way("HttpOperator; deferrable HttpSensor with a response_check", _http),
    "sdk": Way("@task with seaart-sdk, which waits", _sdk, blocks=True),
}
