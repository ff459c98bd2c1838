"""What came from what, as OpenLineage names it."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_kirin.api.payload import prepare
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.operators.lineage import Provenance, dataset_name, origin_of


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///data/a%20cup.png", ("file", "/data/a cup.png")),
        ("s3://bucket/videos/v.mp4", ("s3://bucket", "videos/v.mp4")),
        ("https://cdn.example:8443/v.mp4", ("https://cdn.example:8443", "v.mp4")),
        ("https://cdn.example", ("https://cdn.example", "/")),
    ],
)
def test_datasets_are_named_as_openlineage_names_them(uri: str, name: tuple[str, str]) -> None:
    assert dataset_name(uri) == name


def test_what_a_generation_is_made_from() -> None:
    payload = {"image": "https://h.example/cup.png?sign=secret", "prompt": "Steam, ökologisch."}
    assert origin_of(prepare(payload, "kirin_v1_6_i2v")) == {
        "prompt_digest": "sha256:" + hashlib.sha256("Steam, ökologisch.".encode()).hexdigest(),
        "images": ["https://h.example/cup.png"],
    }
    assert origin_of(prepare({"image": "https://h.example/cup.png"}, "kirin_v1_6_i2v"))["prompt_digest"] is None


def test_what_nobody_knows_is_left_open() -> None:
    content = [{"type": "video", "url": "https://cdn.example/v.mp4?Signature=secret"}]
    reply = {"id": "a", "status": "completed", "output": [{"content": content}]}
    provenance = Provenance.of(KirinTask.from_reply(reply), [], {})
    assert provenance == Provenance("a", outputs=["https://cdn.example/v.mp4"])
    assert provenance.as_extra("https://cdn.example/v.mp4") == {
        "uri": "https://cdn.example/v.mp4",
        "uris": ["https://cdn.example/v.mp4"],
        "kirin_task_id": "a",
        "cost": None,
        "prompt_digest": None,
    }
