"""Every DAG of example_dags/ parses, and runs against the emulator to a video that can be played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from PIL import Image

from tests.support.emulator import Emulator

FOLDER = Path(__file__).resolve().parents[2] / "example_dags"
FILES = sorted(FOLDER.glob("kirin_*.py"))


@dataclass(frozen=True)
class Expected:
    """What one run of an example leaves behind."""

    videos: int
    tasks: set[str]


EXPECTED = {
    "kirin_image_to_video": Expected(1, {"submit", "wait", "download", "report"}),
    "kirin_one_operator": Expected(1, {"generate"}),
    "kirin_product_table": Expected(3, {"products", "generate[0]", "generate[1]", "generate[2]", "summary"}),
    "kirin_nightly": Expected(1, {"submit", "wait", "download"}),
    "kirin_nightly_batch": Expected(3, {"export_products", "videos"}),
    "kirin_publish_batch": Expected(0, {"publish"}),
    "kirin_taskflow": Expected(2, {"products", "video[0]", "video[1]", "report"}),
    "kirin_on_new_videos": Expected(0, {"report_new_videos"}),
}


#: The table of a batch, its manifest and its journal.
BESIDE_THE_VIDEOS = ("products.csv", "manifest.jsonl", "head.json")


@pytest.fixture(scope="module")
def slow_emulator() -> Iterator[Emulator]:
    """A generation takes a second."""
    emulator = Emulator("--seconds", "1")
    yield emulator
    emulator.stop()


@pytest.fixture
def output(tmp_path, monkeypatch, connect, slow_emulator) -> Path:
    """Where the examples put their videos; the default connection leads to the slow emulator."""
    slow_emulator.reset()
    connect(slow_emulator.url)
    monkeypatch.setenv("KIRIN_EXAMPLE_OUTPUT", str(tmp_path / "videos"))
    return tmp_path / "videos"


def parse(path: Path):
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(path))
    assert bag.import_errors == {}
    return bag.dags


def test_all_of_them_are_known_here(airflow_db, output):
    assert {dag_id for path in FILES for dag_id in parse(path)} == set(EXPECTED)


def test_they_say_what_they_are_for(airflow_db, output):
    for path in FILES:
        for dag in parse(path).values():
            assert dag.doc_md and dag.doc_md.strip() and "example" in dag.tags


def test_their_images_are_what_the_model_takes():
    images = [path for path in (FOLDER / "images").iterdir() if path.is_file()]
    assert images
    for path in images:
        with Image.open(path) as image:
            assert image.format in ("JPEG", "PNG") and min(image.size) >= 300
            assert 1 / 2.5 <= image.width / image.height <= 2.5
        assert path.stat().st_size < 1_000_000, "an example is downloaded by everybody"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs(path, run, output, slow_emulator):
    submitted = 0
    for dag_id, dag in parse(path).items():
        expected = EXPECTED[dag_id]
        submitted += expected.videos
        ended = run(dag)
        assert ended.state == "success", ended.log[-5000:]
        assert ended.states() == dict.fromkeys(expected.tasks, "success")
        ledger = slow_emulator.ledger()
        assert (len(ledger["paid"]), ledger["failed"]) == (submitted, [])
        videos = sorted(output.rglob("*.mp4"))
        files = sorted(path for path in output.rglob("*") if path.is_file() and path.name not in BESIDE_THE_VIDEOS)
        assert len(videos) == submitted and files == videos
        for video in videos:
            assert_playable(video)


def assert_playable(path: Path) -> None:
    """Decode a video to its end: H.264 at 30 frames a second, five seconds long, 1280 pixels wide or so."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        codec = stream.codec_context
        assert codec.name == "h264"
        assert sorted((codec.width, codec.height))[0] == 720
        assert stream.average_rate == 30
        assert frames == pytest.approx(150, abs=2)
        assert container.duration / av.time_base == pytest.approx(5, abs=0.2)
