"""What a generation was ordered with, in a form that may be shown and kept: bounded, without bytes or signatures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_kirin.api.payload import PreparedPayload

#: Characters that are kept of each prompt; the models allow 2,500.
MAX_PROMPT = 2500
#: Images and other parameters that are kept, and characters of each.
MAX_ENTRIES = 20
MAX_CHARACTERS = 500
#: Parameters that are kept elsewhere, or are URLs.
_APART = {"prompt", "negative_prompt", "external_task_id", "callback_url"}


def order_of(prepared: PreparedPayload) -> dict[str, Any]:
    """Return the contents of :data:`.ORDER_KEY`, except the ids.

    :param prepared: the payload to be submitted
    """
    prompts = {name: _short(prepared.params.get(name), MAX_PROMPT) for name in ("prompt", "negative_prompt")}
    images = list(prepared.images.items())[:MAX_ENTRIES]
    return {
        "model": prepared.model,
        **{name: prompt for name, prompt in prompts.items() if prompt},
        # Bytes and Base64 have no URI. A URI that was cut would lead elsewhere.
        "images": {
            name: image.uri if image.uri and len(image.uri) <= MAX_CHARACTERS else None for name, image in images
        },
        "settings": dict(list(_settings(prepared))[:MAX_ENTRIES]),
    }


def _settings(prepared: PreparedPayload) -> Iterator[tuple[str, str | int | float | bool]]:
    for name, value in prepared.params.items():
        is_image = any(field.split(".")[0] == name for field in prepared.images)
        if name in _APART or is_image or not isinstance(value, (str, int, float, bool)):
            continue
        if not (isinstance(value, str) and "://" in value):
            yield _short(name, 80), _short(value, 80) if isinstance(value, str) else value


def _short(text: Any, length: int) -> str:
    text = text if isinstance(text, str) else ""
    return text if len(text) <= length else f"{text[: length - 1]}…"
