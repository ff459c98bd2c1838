"""What is written from the schema files is up to date, and the types do what types are for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_kirin.payloads as payloads
from airflow_provider_kirin.api.models import load_schema, model_names
from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS

ROOT = Path(__file__).resolve().parents[2]
# The scripts are in a checkout only.
sys.path.append(str(ROOT / "scripts"))
model_page = pytest.importorskip("model_page")
reference_pages = pytest.importorskip("reference_pages")
payload_types = pytest.importorskip("payload_types")


def test_the_page_has_every_parameter_and_every_rule() -> None:
    text = model_page.page()
    for model in model_names():
        section = text.partition(f"\n## {model}\n")[2].partition("\n## ")[0]
        assert section
        schema = load_schema(model)
        assert all(f"| `{name}` |" in section for name in schema["properties"] if name != "model")
        rules = set(re.findall(r"'x-rule': '(.*?)', 'x-remedy'", str(schema)))
        assert all(rule in section for rule in rules)


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow's own options of a command differ")
def test_the_reference_is_up_to_date() -> None:
    for path, text in reference_pages.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run `make reference`"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_a_page_reads_well_where_only_its_markdown_is_shown(page: Path) -> None:
    text = re.sub("<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.findall(r"^(?:`{3,}\{|:{3,}|: ).*", text, re.MULTILINE), "Sphinx only: put it into <!-- sphinx … -->"
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_types_are_up_to_date() -> None:
    pytest.importorskip("ruff")
    assert payload_types.MODULE.read_text(encoding="utf-8") == payload_types.module_text(), "run `make models`"


@pytest.mark.parametrize("model", model_names())
def test_each_model_has_a_type_with_its_parameters(model: str) -> None:
    typed = getattr(payloads, f"{payload_types.class_name(model)}Payload")
    schema = load_schema(model)
    assert typed.__annotations__.keys() == schema["properties"].keys() - {"model"}
    assert typed.__required_keys__ == frozenset(schema.get("required", ()))


SNIPPET = """\
import pathlib
from airflow_provider_kirin.payloads import (
    KirinV1_6I2vPayload, KirinV1_6MultiI2vPayload, KirinV2_6T2vPayload, KirinV3T2vPayload)
good: KirinV1_6I2vPayload = {"image": pathlib.Path("a.png"), "prompt": "p", "duration": 5, "mode": "pro"}
long: KirinV3T2vPayload = {"duration": 12, "multi_prompt": [{"prompt": "p", "duration": "15"}]}
lists: KirinV1_6MultiI2vPayload = {"image_list": [{"image": b"..."}], "prompt": "p"}
wrong_key: KirinV1_6I2vPayload = {"image": "a.png", "promt": "p"}
too_long: KirinV3T2vPayload = {"duration": 16}
wrong_value: KirinV1_6I2vPayload = {"mode": "ultra"}
missing: KirinV2_6T2vPayload = {"sound": "on"}
wrong_inside: KirinV1_6MultiI2vPayload = {"image_list": [{"imgae": "a.png"}], "prompt": "p"}
"""


def test_a_type_checker_finds_a_wrong_key(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports=silent", "snippet.py"]
    ended = subprocess.run(
        [*command, f"--cache-dir={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
    )
    lines = {int(line.split(":")[1]): line for line in ended.stdout.splitlines() if ": error:" in line}
    assert sorted(lines) == [7, 8, 9, 10, 11], ended.stdout + ended.stderr
    assert 'Extra key "promt"' in lines[7]
    assert '"duration"' in lines[8]
    assert '"mode"' in lines[9]
    assert 'Missing key "prompt"' in lines[10]
    assert '"imgae"' in lines[11] or '"image"' in lines[11]
