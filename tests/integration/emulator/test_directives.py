"""Endings that a prompt asks for."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("8002005099", {"code": "8002005099", "error_message": "provider is unavailable"}),
        ("110001:int", {"code": 110001, "error_message": "the input image is sensitive"}),
        ("014002095:message", {"code": "014002095", "message": "the generation failed"}),
        ("the GPU: caught fire:text", "the GPU: caught fire"),
    ],
)
def test_failures(emulator, image, directive, error):
    task = emulator.ended(emulator.submitted_id(image=image, prompt=f"a cup [[fail:{directive}]]"))
    assert task["status"] == "failed"
    assert task["error"] == error
    assert task["usage"]["cost"] == ""
    assert "output" not in task
    ledger = emulator.ledger()
    assert ledger["paid"] == []
    assert [row["id"] for row in ledger["failed"]] == [task["id"]]


def test_no_video(emulator, image):
    task = emulator.ended(emulator.submitted_id(image=image, prompt="[[no-video]]"))
    assert task["status"] == "completed"
    assert task["output"] == []


def test_seconds_and_status_together(emulator, image, until):
    id_ = emulator.submitted_id(image=image, prompt="[[seconds:600]] [[status:in_queue]]")
    assert emulator.task(id_)["status"] == "in_queue"
    other = emulator.submitted_id(image=image, prompt="[[seconds:0.4]] [[status:in_queue]]")
    assert until(lambda: emulator.task(other)["status"], lambda status: status != "in_queue") == "completed"


@pytest.mark.parametrize(("shape", "content"), [("string", "5"), ("empty", ""), ("absent", None), ("other", 5)])
def test_shapes_of_the_duration(emulator, image, shape, content):
    task = emulator.ended(emulator.submitted_id(image=image, prompt=f"[[duration:{shape}]]"))
    assert task["output"][0]["content"][0].get("duration") == content


def test_ordinary_brackets_are_text(emulator, image):
    assert emulator.ended(emulator.submitted_id(image=image, prompt="[[a sign]] [[fail]] [[seconds:soon]]"))["output"]
