"""The scenarios of a session on one Airflow, and their results as a table."""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import picture
from tests.support.system.deployment import ROOT, Deployment
from tests.support.system.gateway import Gateway
from tests.support.system.processes import HOST
from tests.support.system.stage import Outcome, Scenario, Stage

#: How often each scenario is played.
REPEATS = int(os.environ.get("KIRIN_FAULT_REPEATS", "1"))
#: Scenarios that do not disturb each other are played at the same time.
AT_ONCE = 10


def chosen(request: pytest.FixtureRequest, name: str) -> list[Any]:
    """Return the values of a parameter in the tests of a module that this session runs."""
    return [
        params[name]
        for item in request.session.items
        if item.nodeid.startswith(request.node.nodeid)
        and name in (params := getattr(getattr(item, "callspec", None), "params", {}))
    ]


class Campaign:
    """Plays scenarios: those that may, together; those that kill what others need, alone and afterwards.

    :param scenarios: the chosen ones
    :param workers: the names of Celery's; none means the LocalExecutor
    """

    def __init__(self, scenarios: list[Scenario], workers: Sequence[str] = ()) -> None:
        self.scenarios = scenarios
        self.home = Path(tempfile.mkdtemp(prefix="kirin-faults-"))
        self.airflow = Deployment(self.home / "airflow", workers=workers)
        self._images = self.home / "images"
        self._images.mkdir()
        self._web = _serve(self._images)
        self._rendered = self.home / "rendered"
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._together: dict[str, Future[list[Outcome]]] = {}
        self.results: dict[str, list[Outcome]] = {}

    def start(self) -> None:
        """Start Airflow, and the scenarios that are played together."""
        for scenario in self.scenarios:
            image = self._image(scenario)
            image.write_bytes(picture(320, 320))
            given = f"http://{HOST}:{self._web.server_port}/{image.name}" if scenario.image_url else str(image)
            Stage.write_dag(self.airflow.dags, scenario, given, self.airflow.home / "videos")
        self._render()
        self.airflow.start()
        self.airflow.wait_for_dags(scenario.name for scenario in self.scenarios)
        self._together = {one.name: self._pool.submit(self._play, one) for one in self.scenarios if not one.alone}

    def _render(self) -> None:
        """Let one gateway render the video that all generations have, and keep it for the others."""
        gateway = Gateway(self.home / "first", "--seconds", "0")
        content = base64.b64encode(picture(320, 320)).decode()
        gateway.video(gateway.emulator.submitted_id(image=content, prompt="A cup."))
        gateway.stop()
        shutil.copytree(self.home / "first" / "videos", self._rendered)

    def _image(self, scenario: Scenario) -> Path:
        return self._images / f"{scenario.name}.jpg"

    def result(self, scenario: Scenario) -> list[Outcome]:
        """Return what was seen; play what is played alone."""
        if not scenario.alone:
            self.results[scenario.name] = self._together[scenario.name].result()
        else:
            for future in self._together.values():
                future.exception()  # waits
            self.results[scenario.name] = self._play(scenario)
        return self.results[scenario.name]

    def _play(self, scenario: Scenario) -> list[Outcome]:
        folder = self.home / "stages" / scenario.name
        folder.mkdir(parents=True)
        stage = Stage(self.airflow, scenario, folder, self._image(scenario), self._rendered)
        try:
            if scenario.warm:
                stage.warm_up()
            return [stage.play(number) for number in range(1, REPEATS + 1)]
        finally:
            stage.close()

    def stop(self) -> None:
        """End everything; what was left is kept if KIRIN_FAULT_KEEP says so."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.airflow.stop()
        # What was still under way, after Ctrl-C, finds no Airflow, and ends.
        self._pool.shutdown()
        self._web.shutdown()
        if not os.environ.get("KIRIN_FAULT_KEEP"):
            shutil.rmtree(self.home, ignore_errors=True)

    def write_table(self) -> None:
        """Write build/faults.md, the table of docs/reference/faults.md, and build/faults.json, all that was seen."""
        build, name = ROOT / "build", "faults-celery" if self.airflow.workers else "faults"
        build.mkdir(exist_ok=True)
        rows = [
            "| What happens | A second POST would be | To pay | Paid so | Ended as promised |",
            "|---|---|---:|---:|---:|",
        ]
        for scenario in self.scenarios:
            if outcomes := self.results.get(scenario.name):
                expected, all_ = scenario.expected, len(outcomes)
                paid = sum(outcome.paid == expected.paid for outcome in outcomes)
                good = sum(not outcome.wrong for outcome in outcomes)
                second = "billed" if scenario.duplicates == "bill" else "refused"
                rows.append(f"| {scenario.title} | {second} | {expected.paid} | {paid} of {all_} | {good} of {all_} |")
        (build / f"{name}.md").write_text("\n".join(rows) + "\n")
        seen = {name: [vars(outcome) for outcome in outcomes] for name, outcomes in self.results.items()}
        (build / f"{name}.json").write_text(json.dumps(seen, indent=1))


def _serve(folder: Path) -> ThreadingHTTPServer:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
