"""Where rendered arguments send the files of a step, and those of a batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_kirin.exceptions import KirinDestinationError
from airflow_provider_kirin.operators.destinations import batch_destination, step_destination
from airflow_provider_kirin.operators.specs import FilesSpec

TI = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)


def files(destination: Any, filename_template: str | None = None) -> FilesSpec:
    return FilesSpec(destination=destination, filename_template=filename_template, overwrite=True, max_bytes=9)


# Airflow 3.0 with the newest upath does not take a URI.
@pytest.mark.parametrize("path", ["/v", Path("/v"), ObjectStoragePath("/v", protocol="file")], ids=str)
def test_an_upstream_task_may_return_any_kind_of_path(path: Any) -> None:
    root = str(path).rstrip("/")
    assert step_destination(files(path), TI).path.rstrip("/") == root
    destination, folder = batch_destination(files(path), TI)
    assert destination.path == folder == f"{root}/d/r/t"


def test_a_mapped_batch_has_a_folder_of_its_own() -> None:
    mapped = SimpleNamespace(**{**vars(TI), "map_index": 3})
    assert batch_destination(files("/v"), mapped)[1] == "/v/d/r/t/3"


def test_the_files_of_a_batch_go_where_its_template_says_and_its_journal_stays_in_its_folder() -> None:
    destination, folder = batch_destination(files("/v", "{key}.mp4"), TI)
    assert (destination.path, destination.template, folder) == ("/v", "{key}.mp4", "/v/d/r/t")


@pytest.mark.parametrize(
    ("destination", "template", "message"),
    [
        ("/v/one.mp4", None, "must be a folder"),
        ("/v", "{model}.mp4", "would give all rows the same file"),
        (["/v"], None, "must be a string, a Path or an ObjectStoragePath"),
    ],
)
def test_a_batch_refuses(destination: Any, template: str | None, message: str) -> None:
    with pytest.raises(KirinDestinationError, match=message):
        batch_destination(files(destination, template), TI)
