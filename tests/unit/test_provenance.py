"""What came from what, as OpenLineage names it."""

from __future__ import annotations

import hashlib
import logging
from unittest.mock import MagicMock

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.lineage import Provenance, add_asset_events, dataset_name, inputs_of


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///data/a%20cup.png", ("file", "/data/a cup.png")),
        ("s3://bucket/videos/v.mp4", ("s3://bucket", "videos/v.mp4")),
        ("s3://aws_default@bucket/videos/v.mp4", ("s3://bucket", "videos/v.mp4")),
        ("s3://aws_default@bucket/No #1?/v.mp4", ("s3://bucket", "No #1?/v.mp4")),
        ("https://cdn.example:8443/v.mp4", ("https://cdn.example:8443", "v.mp4")),
        ("https://cdn.example", ("https://cdn.example", "/")),
    ],
)
def test_datasets_are_named_as_openlineage_names_them(uri: str, name: tuple[str, str]) -> None:
    assert dataset_name(uri) == name


def test_inputs_of_a_generation() -> None:
    payload = {"image": "https://h.example/cup.png?sign=secret", "prompt": "Steam, ökologisch."}
    assert inputs_of(prepare_payload(payload, "kirin_v1_6_i2v")) == {
        "prompt_digest": "sha256:" + hashlib.sha256("Steam, ökologisch.".encode()).hexdigest(),
        "images": ["https://h.example/cup.png"],
    }
    assert inputs_of(prepare_payload({"image": "https://h.example/cup.png"}, "kirin_v1_6_i2v"))["prompt_digest"] is None


def test_unknown_fields_are_none() -> None:
    content = [{"type": "video", "url": "https://cdn.example/v.mp4?Signature=secret"}]
    response = {"id": "a", "status": "completed", "output": [{"content": content}]}
    provenance = Provenance.of(KirinTask.from_response(response), [], {})
    assert provenance == Provenance("a", outputs=["https://cdn.example/v.mp4"])
    assert provenance.as_extra("https://cdn.example/v.mp4") == {
        "uri": "https://cdn.example/v.mp4",
        "kirin_task_id": "a",
        "cost": None,
        "prompt_digest": None,
    }


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("s3://aws_default@bucket/a b.mp4", "s3://aws_default@bucket/a b.mp4"),
        ("s3://bucket/a.mp4", "s3://bucket/a.mp4"),
        ("s3://aws_default@bucket/No #1?/a.mp4", "s3://aws_default@bucket/No #1?/a.mp4"),
        ("s3://key:secret@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://reader@cdn.example/a.mp4?sign=x", "https://cdn.example/a.mp4"),
        ("file:///data/a@b.mp4", "file:///data/a@b.mp4"),
    ],
)
def test_a_file_is_named_with_the_connection_that_opens_it_and_without_passwords(file: str, uri: str) -> None:
    stored = VideoFile(uri=file, bytes=9, sha256="0")
    provenance = Provenance.of(KirinTask("a", "completed"), [stored], {})
    assert provenance.outputs == [uri]
    extra = provenance.as_event_extra()
    assert (extra["uri"], extra["bytes"], extra["sha256"], extra["width"]) == (uri, 9, "0", None)
    assert [details["uri"] for details in extra["file_details"]] == [uri]


def test_an_alias_has_an_event_for_each_video_that_every_airflow_can_keep() -> None:
    videos = ["s3://bucket/a.mp4", "s3://bucket/b.mp4"]
    events = MagicMock()
    facts = {uri: {"bytes": 9, "width": None} for uri in videos}
    provenance = Provenance("a", outputs=videos, cost="0.28", prompt_digest="sha256:0", facts=facts)
    add_asset_events({"outlet_events": events}, [AssetAlias("of_today")], provenance, logging.getLogger())
    extras = [call.kwargs["extra"] for call in events[AssetAlias].add.call_args_list]
    assert [extra["uri"] for extra in extras] == videos
    for extra in extras:
        assert extra["bytes"] == 9
        frozenset(extra.items())  # as Airflow 2.11 and 3.0 do, after the task has paid


def test_an_asset_has_one_event_that_names_all_videos() -> None:
    videos = ["s3://bucket/a.mp4", "s3://bucket/b.mp4"]
    events = MagicMock()
    events["any"].extra = {"theirs": 1}
    provenance = Provenance("a", outputs=videos)
    add_asset_events({"outlet_events": events}, [Asset("s3://bucket")], provenance, logging.getLogger())
    extra = events["any"].extra
    assert (extra["theirs"], extra["uri"], extra["uris"]) == (1, videos[0], videos)
