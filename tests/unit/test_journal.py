"""The journal of a batch on a real disk: nothing that was recorded is lost, with several writers and damaged files."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.exceptions import KirinDestinationError
from airflow_provider_kirin.state.journal import Head, Journal, SupersededError


def opened(folder: Path, owner: str = "me", try_number: int = 1) -> tuple[Journal, dict[str, RowState]]:
    journal = Journal(str(folder), owner=owner)
    known = journal.read_head()
    head = Head("b", owner=owner, try_number=try_number, recorded=known.recorded if known else 0)
    return journal, journal.take_over(head)[0]


class TestRecords:
    def test_what_was_recorded_is_there_for_the_next_process(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        journal.record(RowState("a", "intent", 1, external_task_id="e"))
        journal.record(RowState("a", "sent", 2, external_task_id="e", kirin_task_id="k"))
        journal.record(RowState("b", "refused", 1, error="zu \u2028 klein, 小"))
        _, states = opened(tmp_path, "other")
        assert (states["a"].status, states["a"].kirin_task_id) == ("sent", "k")
        assert states["b"].error == "zu \u2028 klein, 小"

    def test_the_manifest_replaces_the_changes(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        for number in range(5):
            journal.record(RowState(f"s{number}", "saved", 1, files=("file:///v.mp4",)))
        states = [RowState(f"s{number}", "saved", 1, files=("file:///v.mp4",)) for number in range(5)]
        journal.compact(states, total=5)
        assert [path.name for path in (tmp_path / "_journal").iterdir()] == ["head.json"]
        lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
        assert [(line["key"], line["status"], line["files"]) for line in lines[:1]] == [
            ("s0", "saved", ["file:///v.mp4"])
        ]
        assert len(opened(tmp_path)[1]) == 5
        assert journal.manifest_uri == (tmp_path / "manifest.jsonl").as_uri()

    def test_what_many_rows_have_in_common_is_in_memory_once(self, tmp_path: Path) -> None:
        file = VideoFile(uri="s3://videos/a.mp4", bytes=1, sha256="0")
        known = {"conn_id": "c", "model": "kirin_v1", "cost": "0.28", "files": (file.uri,), "file_details": (file,)}
        opened(tmp_path)[0].compact([RowState(key, "saved", 1, **known) for key in "ab"], total=2, is_last=True)
        first, second = opened(tmp_path)[1].values()
        for name in ("status", "conn_id", "model", "cost", "earlier"):
            assert getattr(first, name) is getattr(second, name), name
        assert first.files[0] is first.file_details[0].uri

    def test_a_large_manifest_is_not_written_for_each_row(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        journal.record(RowState("a", "sent", 1))
        journal.compact([RowState("a", "sent", 1)], total=10_000)
        assert not (tmp_path / "manifest.jsonl").exists()
        journal.compact([RowState("a", "sent", 1)], total=10_000, is_last=True)
        assert (tmp_path / "manifest.jsonl").exists()

    def test_an_old_file_of_changes_that_was_not_deleted_changes_nothing(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        journal.record(RowState("a", "intent", 1))
        (old,) = (tmp_path / "_journal").glob("*.jsonl")
        text = old.read_text()
        journal.compact([RowState("a", "saved", 4)], total=1)
        old.write_text(text)
        assert opened(tmp_path)[1]["a"].status == "saved"

    def test_threads_share_files_and_nothing_is_lost(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        start = threading.Barrier(8)

        def work(thread: int) -> None:
            start.wait()
            for number in range(25):
                journal.record(RowState(f"{thread}.{number}", "sent", 1))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened(tmp_path)[1]) == 200

    def test_a_record_that_could_not_be_written_is_written_with_the_next(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        folder, aside = tmp_path / "_journal", tmp_path / "aside"
        folder.rename(aside)
        folder.write_text("not a folder")
        with pytest.raises(KirinDestinationError) as caught:
            journal.record(RowState("a", "sent", 1))
        assert caught.value.retryable, "it could be written before, so this is an outage"
        folder.unlink()
        aside.rename(folder)
        journal.record(RowState("b", "sent", 1))
        assert set(opened(tmp_path)[1]) == {"a", "b"}

    @pytest.mark.parametrize("has_begun", [False, True])
    def test_a_folder_out_of_reach_is_a_mistake_until_the_batch_has_begun(
        self, tmp_path: Path, has_begun: bool
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(KirinDestinationError) as caught:
            Journal(str(tmp_path / "file"), owner="p", has_begun=has_begun).read_head()
        assert caught.value.retryable is has_begun


class TestOwners:
    def test_a_superseded_process_gets_an_error_at_its_next_record_which_is_kept(self, tmp_path: Path) -> None:
        old, _ = opened(tmp_path, "old")
        old.record(RowState("a", "intent", 1))
        opened(tmp_path, "new", 2)
        with pytest.raises(SupersededError):
            old.record(RowState("b", "intent", 1))
        with pytest.raises(SupersededError):
            old.compact([], total=1)
        assert set(opened(tmp_path, "newer", 2)[1]) == {"a", "b"}

    def test_an_older_try_cannot_take_over(self, tmp_path: Path) -> None:
        opened(tmp_path, "new", 2)
        with pytest.raises(SupersededError):
            opened(tmp_path, "old", 1)


class TestDamage:
    def test_is_counted_and_the_rest_is_read(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        journal.compact([RowState(f"s{number}", "saved", 1) for number in range(4)], total=4, is_last=True)
        path = tmp_path / "manifest.jsonl"
        path.write_bytes(path.read_bytes()[:-20] + b"\xff\x00")
        again = Journal(str(tmp_path), owner="x")
        head = again.read_head()
        assert head is not None and head.recorded == 4
        states, damaged = again.take_over(head)
        assert (len(states), damaged) == (3, 1)

    def test_a_missing_manifest_is_noticed(self, tmp_path: Path) -> None:
        journal, _ = opened(tmp_path)
        journal.compact([RowState("a", "saved", 1)], total=1, is_last=True)
        (tmp_path / "manifest.jsonl").unlink()
        again = Journal(str(tmp_path), owner="x")
        head = again.read_head()
        assert head is not None
        assert again.take_over(head) == ({}, 1)

    @pytest.mark.parametrize("text", ["", "[", "[]", "3", '{"batch": 3}', '{"batch": "b", "rows": "x"}'])
    def test_a_head_that_cannot_be_read_is_none(self, tmp_path: Path, text: str) -> None:
        opened(tmp_path)
        (tmp_path / "_journal" / "head.json").write_text(text)
        assert Journal(str(tmp_path), owner="x").read_head() is None


def test_nothing_in_it_is_a_payload_or_a_secret(tmp_path: Path) -> None:
    """A row's values are there as a hash; what `order` has of them is removed with the row's end."""
    assert not {"payload", "prompt", "image"} & set(RowState.__dataclass_fields__)


_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "list of strings": "list",
    "list of objects": "list",
}


class TestTheManifestIsDocumented:
    PAGE = Path(__file__).parents[2] / "docs" / "reference" / "batch.md"

    def write(self, folder: Path, state: RowState) -> dict[str, str]:
        journal, _ = opened(folder)
        journal.compact([state], total=1, is_last=True)
        (line,) = (folder / "manifest.jsonl").read_text().splitlines()
        return {name: type(value).__name__ for name, value in json.loads(line).items()}

    def test_with_each_field_and_its_type(self, tmp_path: Path) -> None:
        table = self.PAGE.read_text().partition("| Field | Type |")[2].partition("\n\n")[0]
        rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines() if "`" in line]
        documented = {name.strip(" `"): _TYPES[type_] for names, type_ in rows for name in names.split(",")}
        full = RowState(
            **{"key": "a", "status": "saved", "version": 1, "row": 1, "digest": "d", "external_task_id": "e"},
            **{"kirin_task_id": "k", "conn_id": "c", "model": "m", "round": 1, "sent_as": "s", "failures": 1},
            **{"retryable": True, "since": 1.0, "seconds": 1.0, "files": ("f",), "order": {"prompt": "p"}},
            **{"cost": "1", "usd": "1", "code": "c", "error": "e", "transient_errors": 1, "earlier": {"e": {}}},
            file_details=(VideoFile(uri="f", bytes=1, sha256="s"),),
        )
        assert not [each.name for each in fields(RowState) if not getattr(full, each.name)]
        assert self.write(tmp_path, full) == documented

    def test_with_what_is_never_left_out(self, tmp_path: Path) -> None:
        (sentence,) = re.findall(r"is left out, but ([^.]*)\.", self.PAGE.read_text())
        assert set(self.write(tmp_path, RowState("a"))) == set(re.findall(r"`(\w+)`", sentence))
