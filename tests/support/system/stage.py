"""One scenario on its stage: its gateway, its proxy, its DAG and its run, and what was seen at the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.support.emulator import KEY
from tests.support.system.deployment import Deployment
from tests.support.system.gateway import Gateway
from tests.support.system.processes import gone, is_ours, parent_of, send, settled
from tests.support.system.proxy import Proxy
from tests.support.waiting import until

Shape = Literal["steps", "generate", "taskflow", "mapped"]
ENDED = ("success", "failed")
#: The task that submits, in each shape.
SUBMITTER: dict[Shape, str] = {"steps": "submit", "mapped": "submit", "generate": "generate", "taskflow": "generate"}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How a scenario has to end.

    :param state: of the DAG run
    :param paid: generations that cost money, at the end of this run
    :param left: how many of them a person's clear replaced by others
    :param failed: generations that failed, and were given back
    :param says: what the logs of the run have to say
    :param tries: what the task that submits needed at least
    """

    state: str = "success"
    paid: int = 1
    left: int = 0
    failed: int = 0
    says: tuple[str, ...] = ()
    tries: int = 1


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One way in which things go wrong.

    :param title: for people
    :param act: what happens; it begins the run itself, with :meth:`Stage.begin`
    :param shape: of the DAG
    :param seconds: how long its generations take
    :param options: of the task that submits
    :param duplicates: what the gateway does with a second submission under a used id. ``bill`` is the hard case: then
        nothing but the provider prevents a second payment
    :param emulator: more of the emulator's command line
    :param warm: whether the DAG ran once without a fault before: then the provider can verify the lookup
    :param alone: whether it kills what other scenarios need
    :param timeout: the connection's
    :param behind_proxy: whether the connection names an HTTP proxy, through which the gateway is reached
    :param image_url: whether the gateway fetches the image itself, from a URL
    :param differs: whether each try asks for something else
    """

    title: str
    act: Callable[[Stage], None]
    shape: Shape = "steps"
    seconds: float = 0.5
    options: dict[str, Any] = field(default_factory=dict)
    duplicates: Literal["bill", "reject"] = "bill"
    emulator: tuple[str, ...] = ()
    warm: bool = False
    alone: bool = False
    timeout: float = 60
    behind_proxy: bool = False
    image_url: bool = False
    differs: bool = False
    expected: Expected = field(default_factory=Expected)

    @property
    def name(self) -> str:
        """Of the DAG: the act's."""
        return self.act.__name__


@dataclass
class Outcome:
    """What was seen at the end of one repeat."""

    state: str
    paid: int
    failed: int
    tries: int
    seconds: float
    wrong: list[str]


class Stage:
    """Where one scenario is played, again and again.

    :param deployment: the Airflow, shared by all
    :param scenario: what is played
    :param folder: for the gateway's tasks
    :param image: what the videos are made from
    :param videos: rendered ones, which gateways share to save time
    """

    def __init__(self, deployment: Deployment, scenario: Scenario, folder: Path, image: Path, videos: Path) -> None:
        self.airflow = deployment
        self.scenario = scenario
        self.dag_id = scenario.name
        self.submitter = SUBMITTER[scenario.shape]
        self.run_id = ""
        self.image = image
        #: What stands where a scenario differs by its shape: who waits, and who downloads.
        self.waiter = "generate" if self.submitter == "generate" else "wait"
        self.downloader = "generate" if self.submitter == "generate" else "download"
        #: How many generations there were before this repeat.
        self.known = 0
        if videos.exists():
            shutil.copytree(videos, folder / "gateway" / "videos")
        self.gateway = Gateway(folder / "gateway", "--duplicates", scenario.duplicates, *scenario.emulator)
        self.proxy = Proxy(self.gateway.port)
        extra: dict[str, Any] = {"timeout": scenario.timeout}
        host = self.proxy.url
        if scenario.behind_proxy:
            # The emulator answers requests in the form that proxies get; the name is not looked up.
            host, extra["proxies"] = "http://gateway.test", {"http": self.proxy.url}
        deployment.connect(self.dag_id, host, KEY, json.dumps(extra))

    @staticmethod
    def write_dag(dags: Path, scenario: Scenario, image: str, videos: Path) -> None:
        """Write the scenario's DAG file."""
        spec = {
            "dag_id": scenario.name,
            "shape": scenario.shape,
            "image": image,
            "videos": str(videos / scenario.name),
            "options": scenario.options,
            "differs": scenario.differs,
        }
        text = f'"""An Airflow DAG."""\nfrom tests.support.system.fault_dags import build\n\ndag = build({spec!r})\n'
        (dags / f"{scenario.name}.py").write_text(text)

    def close(self) -> None:
        """End the gateway."""
        self.proxy.stop()
        self.gateway.stop()

    # Playing ------------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Run the DAG once without a fault."""
        self.begin("warm-up")
        state = self.wait_for_end()
        assert state == "success", f"{self.dag_id}: the warm-up ended in {state}\n{self.log()[-3000:]}"

    def play(self, number: int) -> Outcome:
        """Play the scenario once, and judge it."""
        before, started = set(self.gateway.generations()), time.monotonic()
        self.known = len(before)
        self._name = f"repeat-{number}"
        try:
            self.scenario.act(self)
            self.wait_for_end()
            return self._judge(before, time.monotonic() - started)
        except AssertionError as error:
            return Outcome("", -1, -1, 0, time.monotonic() - started, [f"it did not end: {error}"])
        finally:
            self.gateway.calm()
            self.proxy.calm()

    def begin(self, run_id: str | None = None, *, is_dated: bool = False) -> None:
        """Start the run, with a logical date or without one, as the UI does."""
        self.run_id = run_id or self._name
        self.airflow.start_run(self.dag_id, self.run_id, {"seconds": self.scenario.seconds}, is_dated=is_dated)

    def wait_for_end(self) -> str:
        """Wait for the run's end, and return its state."""

        def ended() -> str:
            state = self.airflow.run_state(self.dag_id, self.run_id)
            return state if state in ENDED else ""

        try:
            return until(ended, f"{self.dag_id} {self.run_id} ends", pause=0.5)
        except AssertionError as error:
            states = {ti["task_id"]: ti["state"] for ti in self.airflow.tis(self.dag_id, self.run_id)}
            raise AssertionError(f"{error}\n{states}\n{self.log()[-4000:]}") from None

    def ti(self, task_id: str | None = None, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance: the submitter's by default."""
        return self.airflow.ti(self.dag_id, self.run_id, task_id or self.submitter, map_index)

    def wait_for_state(self, state: str, task_id: str | None = None) -> dict[str, Any]:
        """Wait until a task is in a state."""
        return until(
            lambda: ti if (ti := self.ti(task_id))["state"] == state else None,
            f"{self.dag_id} {task_id or self.submitter} is {state}",
        )

    def pid(self, task_id: str | None = None, map_index: int = -1) -> int:
        """Return the process of a running task."""
        return self.airflow.task_pid(self.ti(task_id, map_index))

    def kill_task(self, task_id: str | None = None, map_index: int = -1) -> None:
        """SIGKILL the task's process; its supervisor lives, and reports it to Airflow."""
        pid = self.pid(task_id, map_index)
        send(pid, signal.SIGKILL)
        until(lambda: gone(pid), f"process {pid} is gone")

    def kill_worker(self, task_id: str | None = None, *, supervisor_only: bool = False) -> int:
        """SIGKILL the task's supervisor and its process, so that none reports it to Airflow. Return the process."""
        pid = self.pid(task_id)
        supervisor = parent_of(pid)
        assert is_ours(supervisor, self.airflow.home)
        send(supervisor, signal.SIGKILL)
        if not supervisor_only:
            send(pid, signal.SIGKILL)
        until(lambda: gone(supervisor), f"process {supervisor} is gone")
        return pid

    def freeze(self, *pids: int) -> None:
        """SIGSTOP processes."""
        for pid in pids:
            assert is_ours(pid, self.airflow.home)
            send(pid, signal.SIGSTOP)

    def thaw(self, *pids: int) -> None:
        """SIGCONT processes that may be gone by now."""
        for pid in pids:
            if is_ours(pid, self.airflow.home):
                send(pid, signal.SIGCONT)

    def rest(self, pid: int) -> None:
        """Wait until a process has done what it could and waits for another."""
        until(settled(pid), f"process {pid} rests")

    def log(self) -> str:
        """Return the logs of the run's tasks."""
        return self.airflow.task_log(self.dag_id, self.run_id)

    def saw(self, text: str) -> None:
        """Wait until the run's logs say something."""
        until(lambda: text in self.log(), f"{self.dag_id}'s log says {text!r}")

    # Judging ------------------------------------------------------------------------------------------------------

    def _judge(self, before: set[str], seconds: float) -> Outcome:
        expected = self.scenario.expected
        wrong: list[str] = []
        state = self.airflow.run_state(self.dag_id, self.run_id)
        new = {id_: one for id_, one in self.gateway.generations().items() if id_ not in before}
        paid = [id_ for id_, one in new.items() if one["status"] != "failed"]
        submitters = [ti for ti in self.airflow.tis(self.dag_id, self.run_id) if ti["task_id"] == self.submitter]
        tries = max(ti["try_number"] for ti in submitters)
        outcome = Outcome(state, len(paid), len(new) - len(paid), tries, seconds, wrong)
        for name in ("state", "paid", "failed"):
            if getattr(outcome, name) != getattr(expected, name):
                wrong.append(f"{name} is {getattr(outcome, name)}, not {getattr(expected, name)}")
        if tries < expected.tries:
            wrong.append(f"it took {tries} tries, and at least {expected.tries} were expected: no fault was met")
        log = self.log()
        wrong += [f"no log says {text!r}" for text in expected.says if text not in log]
        if KEY in log:
            wrong.append("the API key is in a log")
        if state == "success":
            wrong += self._compare(submitters, paid)
        return outcome

    def _compare(self, submitters: list[dict[str, Any]], paid: list[str]) -> list[str]:
        """Return what is wrong with the results: the XComs and the files have to be those that were paid."""
        wrong = []
        results = [self.airflow.xcom(self.dag_id, self.run_id, self.submitter, ti["map_index"]) for ti in submitters]
        got = [result["id"] if isinstance(result, dict) else result for result in results]
        if sorted(got) != sorted(paid[self.scenario.expected.left :]):
            wrong.append(f"the XComs are {got}, and what was paid is {paid}")
        if self.scenario.shape != "mapped":
            folder = self.airflow.home / "videos" / self.dag_id / self.run_id
            files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
            for id_ in paid:
                mine = [path for path in files if path.name.startswith(id_)]
                if (
                    len(files) != len(paid)
                    or not mine
                    or _digest(mine[0].read_bytes()) != _digest(self.gateway.video(id_))
                ):
                    wrong.append(f"the files {[path.name for path in files]} are not the video of {id_}")
        return wrong


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
