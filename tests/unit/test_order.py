"""What is kept of an order: enough to recognize it, and neither bytes nor secrets."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.state.order import MAX_PROMPT, order_of

MODEL = "kirin_v1_6_i2v"
IMAGE = "https://shop.example/cup.png"


def order(model: str = MODEL, **payload: Any) -> dict[str, Any]:
    return order_of(prepare_payload(payload, model, allow_unknown_model=True))


def test_prompts_images_and_settings_are_kept() -> None:
    kept = order(image=IMAGE, prompt="Steam.", negative_prompt="text", duration=5, mode="std")
    assert (kept["model"], kept["prompt"], kept["negative_prompt"]) == (MODEL, "Steam.", "text")
    assert kept["images"] == {"image": IMAGE}
    assert kept["settings"]["duration"] == "5" and kept["settings"]["mode"] == "std"


def test_signatures_addresses_and_ids_are_not_kept() -> None:
    secrets = {"external_task_id": "mine", "callback_url": "https://h.example/?token=SECRET"}
    kept = order("other", image=f"{IMAGE}?Signature=SECRET", hook="https://h.example/?SECRET", **secrets)
    assert kept["settings"] == {}
    assert "SECRET" not in json.dumps(kept) and "mine" not in json.dumps(kept)


def test_an_order_is_bounded() -> None:
    payload = {f"setting_{index}": "x" * 1000 for index in range(1000)}
    kept = order("other", prompt="ä" * 100_000, nested={"deep": ["x"] * 1000}, **payload)
    assert len(kept["prompt"]) == MAX_PROMPT and kept["prompt"].endswith("…")
    assert len(json.dumps(kept, ensure_ascii=False)) < 10_000
