"""Every DAG of the how-to pages, copied from them as it stands, runs against the emulator."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.emulator import KEY

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted((DOCS / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A module that a DAG of the page imports, by the name under which its trigger is serialized.
MODULE = re.compile(r'return "(\w+)\.\w+", self\.arguments$', re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What the DAGs of a page leave behind.

    :param paid: generations
    :param files: below ``/data/videos``; a ``*`` stands for an id
    :param edit: what to replace in the DAG, and by what, so that it fails as the page proposes to let it fail
    :param states: of the tasks of which an instance does not succeed
    :param extra: of the connection
    """

    paid: int
    files: list[str] = field(default_factory=list)
    edit: tuple[str, str] | None = None
    states: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)


CIRCLES = "The camera circles the teapot."
OUTCOMES = {
    "accounts": Outcome(4, ["two_accounts/*/*-0.mp4"] * 2 + ["two_limits/*/*-0.mp4"] * 2),
    "alert": Outcome(0, edit=(CIRCLES, CIRCLES + "[[fail:8002005098]]"), states={"video": "failed"}),
    "batch": Outcome(2, [f"product_batch/*/videos/{name}" for name in ("MUG-1-0.mp4", "TEAPOT-1-0.mp4")]),
    "branch-on-error": Outcome(
        0,
        edit=(CIRCLES, CIRCLES + "[[fail:110001]]"),
        states={"video": "failed", "publish": "skipped", "call_somebody": "skipped"},
    ),
    "budget": Outcome(2, ["within_budget/*/*-0.mp4"] * 2, states={"video": "failed"}),
    "callbacks": Outcome(1),
    "deployment": Outcome(1, ["in_production/*/*-0.mp4"]),
    "extend": Outcome(2, ["teapot.mp4"]),
    "file-names": Outcome(2, ["MUG-1.mp4", "TEAPOT-1.mp4"]),
    "files-as-output": Outcome(1, ["files_only/*/*-0.mp4"]),
    "last-frame": Outcome(2, ["*/1.mp4", "*/2.mp4"]),
    "migrate": Outcome(2, ["teapot.mp4"]),
    "nightly-table": Outcome(2, ["*/000.mp4", "*/001.mp4"]),
    "one-consumer": Outcome(2, ["make_videos/*/*-0.mp4"] * 2),
    "own-code": Outcome(2, ["*.mp4"] * 2),
    "own-trigger": Outcome(1, ["teapot.mp4"]),
    "presigned-images": Outcome(2, ["private_catalogue/*/*-0.mp4"] * 2),
    "react": Outcome(1, extra={"callback_base_url": "http://127.0.0.1:9"}),
    "std-then-pro": Outcome(
        1,
        ["teapot.mp4"],
        edit=('{**SHOT, "mode": "std"}', '{**SHOT, "mode": "std", "prompt": "[[fail:8002005098]]"}'),
        states={"std": "failed"},
    ),
    "three-tasks": Outcome(1, ["teapot.mp4"]),
}


@pytest.fixture
def data(tmp_path, image_bytes) -> Path:
    """What the pages call ``/data``."""
    folder = tmp_path / "data"
    (folder / "catalogue").mkdir(parents=True)
    (folder / "videos").mkdir()
    lines = ["sku,image,prompt"]
    for name in ("teapot", "mug"):
        image = folder / "catalogue" / f"{name}.jpg"
        image.write_bytes(image_bytes)
        lines.append(f"{name.upper()}-1,{image},The camera circles the {name}.")
    (folder / "catalogue" / "products.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def deployment(airflow_db, connect, emulator, s3, image_bytes, monkeypatch) -> None:
    """The connections, the pool and the bucket that the pages speak of."""
    from airflow.models.pool import Pool

    for conn_id in ("kirin_default", "kirin_eu", "kirin_us"):
        connect(emulator.url, conn_id=conn_id, timeout=300)
    monkeypatch.setenv("KIRIN_API_KEY", KEY)
    monkeypatch.setenv("KIRIN_URL", emulator.url)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", os.environ["AIRFLOW_CONN_STUDIO"])
    s3.create_bucket(Bucket="catalogue")
    for name in ("teapot", "mug"):
        s3.put_object(Bucket="catalogue", Key=f"{name}.jpg", Body=image_bytes)
    for name in ("kirin", "kirin_eu", "kirin_us"):
        Pool.create_or_update_pool(name, 5, "Kirin generations at once", include_deferred=True)


def dag_files(page: Path) -> list[str]:
    """Return the DAG files that a page shows."""
    return [block for block in BLOCK.findall(page.read_text(encoding="utf-8")) if "\n@dag(" in block]


@pytest.mark.parametrize("page", [page for page in PAGES if dag_files(page)], ids=lambda page: page.stem)
def test_its_dags_do_what_the_page_says(page, data, tmp_path, run, connect, deployment, emulator, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    expected, states = OUTCOMES[page.stem], {}
    if expected.extra:
        connect(emulator.url, timeout=300, **expected.extra)
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if module := MODULE.search(block):
            (tmp_path / f"{module[1]}.py").write_text(block)
            monkeypatch.syspath_prepend(tmp_path)
    for number, text in enumerate(dag_files(page)):
        path = tmp_path / f"{page.stem}-{number}.py"
        if expected.edit:
            assert expected.edit[0] in text
            text = text.replace(*expected.edit)
        path.write_text(text.replace('"/data/', f'"{data}/'))
        bag = DagBag(str(path))
        assert bag.import_errors == {} and bag.dags
        for dag in bag.dags.values():
            # No scheduler is here to start what an asset starts.
            if not isinstance(dag.schedule, list):
                ended = run(dag)
                states |= ended.states()
    others = {name.partition("[")[0]: state for name, state in states.items() if state != "success"}
    assert others == expected.states, ended.log[-5000:]
    assert len(emulator.ledger()["paid"]) == expected.paid
    videos = sorted(str(path.relative_to(data / "videos")) for path in data.rglob("*.mp4"))
    assert len(videos) == len(expected.files) and all(map(fnmatch, videos, expected.files)), videos


def test_each_page_is_linked():
    linked = (DOCS / "how-to" / "index.md").read_text(encoding="utf-8").splitlines()
    assert {page.stem for page in PAGES} - {"index"} <= set(linked)
