"""Names of files: readable, each value one safe part, never outside of the folder."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.download.filenames import (
    DEFAULT_TEMPLATE,
    PLACEHOLDERS,
    check_template,
    render_filename,
    safe_part,
)
from airflow_provider_kirin.exceptions import KirinDestinationError

VALUES: dict[str, object] = {
    "dag_id": "product_videos",
    "run_id": "scheduled__2026-11-25T00:00:00+00:00",
    "task_id": "generate.one",
    "map_index": -1,
    "kirin_task_id": "dc26uaivqqov8sg0dhs0",
    "external_task_id": "order 17/b",
    "model": "kirin_v1_6_i2v",
    "index": 0,
}


class TestTemplate:
    def test_default_template_names_run_and_generation(self) -> None:
        name = "product_videos/scheduled__2026-11-25T00-00-00-00-00/dc26uaivqqov8sg0dhs0-0.mp4"
        assert render_filename(DEFAULT_TEMPLATE, VALUES) == name

    @pytest.mark.parametrize(
        ("template", "name"),
        [
            ("{index:03d}.mp4", "000.mp4"),
            ("{map_index}-{index}", "-1-0"),
            ("{map_index:03}.mp4", "-01.mp4"),
            ("a b/{{x}}.mp4", "a b/{x}.mp4"),
            ("video", "video"),
            ("{task_id}.{model}.mp4", "generate.one.kirin_v1_6_i2v.mp4"),
        ],
    )
    def test_custom_template_is_rendered(self, template: str, name: str) -> None:
        check_template(template)
        assert render_filename(template, VALUES) == name

    @pytest.mark.parametrize(
        ("template", "why"),
        [
            ("{runid}.mp4", "unknown placeholder 'runid'; known are dag_id, run_id"),
            ("{run_id.__class__}.mp4", "unknown placeholder"),
            ("{index[0]}.mp4", "unknown placeholder"),
            ("{}.mp4", "unknown placeholder"),
            ("{run_id!r}.mp4", "formats run_id"),
            ("{run_id:20}.mp4", "formats run_id"),
            ("{index:999999999}.mp4", "formats index"),
            ("{index:{map_index}}.mp4", "formats index"),
            ("{index:x}.mp4", "formats index"),
            ("{index:3}.mp4", "formats index"),
            ("{index", "cannot be read"),
            ("a}.mp4", "cannot be read"),
            ("/etc/{index}.mp4", "stays in its folder"),
            ("../{index}.mp4", "stays in its folder"),
            ("a/../../b.mp4", "stays in its folder"),
            ("a/./b.mp4", "stays in its folder"),
            ("a//b.mp4", "stays in its folder"),
            ("a/", "stays in its folder"),
            ("", "stays in its folder"),
            (" /a.mp4", "stays in its folder"),
            ("a\\..\\b.mp4", "relative path"),
            ("~/a.mp4", "relative path"),
            ("s3://b/a.mp4", "relative path"),
            ("a\0.mp4", "relative path"),
            ("a\n.mp4", "relative path"),
            ("x" * 201, "more than 200 bytes"),
            ("é" * 101, "more than 200 bytes"),
            (None, "must be a string"),
            (7, "must be a string"),
        ],
    )
    def test_invalid_template_is_refused(self, template: str, why: str) -> None:
        with pytest.raises(KirinDestinationError) as caught:
            check_template(template)
        assert why in str(caught.value) and DEFAULT_TEMPLATE in str(caught.value)
        assert not caught.value.retryable

    @given(st.fixed_dictionaries({name: st.text() for name in PLACEHOLDERS}))
    def test_no_value_leaves_the_folder(self, values: dict[str, str]) -> None:
        path = render_filename("/".join(f"{{{name}}}" for name in PLACEHOLDERS[:-1]) + "-{index}.mp4", values)
        assert posixpath.normpath("/root/" + path) == "/root/" + path
        assert path.count("/") == len(PLACEHOLDERS) - 2
        assert path.isascii() and not any(part.startswith(".") for part in path.split("/"))


class TestValue:
    @pytest.mark.parametrize("value", ["a", "manual__2026", "a.b-c_D9", "generate.one"])
    def test_safe_value_is_unchanged(self, value: str) -> None:
        assert safe_part(value) == value

    @pytest.mark.parametrize("value", ["", ".", "..", "../x", "a/b", "a b", ".hidden", "é", "x" * 121, "\0", "\ud800"])
    def test_unsafe_value_gets_a_hash(self, value: str) -> None:
        safe = safe_part(value)
        assert safe != value and len(safe) <= 129 and len(safe.rpartition("-")[2]) == 8

    @given(st.text(max_size=200), st.text(max_size=200))
    def test_values_share_a_name_only_if_date_characters_differ(self, one: str, other: str) -> None:
        table = str.maketrans(":+", "--")
        if one.translate(table) != other.translate(table):
            assert safe_part(one) != safe_part(other)
