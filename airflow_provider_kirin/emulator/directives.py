"""Directives in a prompt: ``[[fail:8002005098]]``, ``[[no-video]]``, ``[[seconds:30]]``, ``[[status:weird]]``,
``[[price:miss]]``, ``[[duration:string]]``.

All [E]. With them a DAG author sees every possible end of a generation through the ordinary API.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from airflow_provider_kirin.emulator.errors import MESSAGES

_DIRECTIVE = re.compile(r"\[\[\s*([a-z-]+)\s*(?::([^\[\]]*))?\]\]")
_SHAPES = ("int", "message", "text", "charged")


@dataclass(frozen=True)
class Failure:
    """A failed task's ``error``: a string or integer code and one of two message keys, or a string ([C] section 4)."""

    code: str
    message: str
    shape: str = "error_message"

    def as_json(self) -> object:
        """Return the value of the task object's ``error``."""
        if self.shape == "text":
            return self.message
        if self.shape == "int":
            return {"code": int(self.code), "error_message": self.message}
        return {"code": self.code, "message" if self.shape == "message" else "error_message": self.message}


@dataclass(frozen=True)
class Directives:
    """The directives of one prompt."""

    failure: Failure | None = None
    no_video: bool = False
    seconds: float | None = None
    status: str | None = None
    price: str | None = None
    duration: str | None = None


def read_directives(prompt: str | None) -> Directives:
    """Return the directives in a prompt. Anything else in double brackets is ordinary text."""
    found = {name: (value or "").strip() for name, value in _DIRECTIVE.findall(prompt or "")}
    return Directives(
        failure=_failure(found["fail"]) if found.get("fail") else None,
        no_video="no-video" in found,
        seconds=_seconds(found.get("seconds", "")),
        status=found.get("status") or None,
        price=found.get("price") or None,
        duration=found.get("duration") or None,
    )


def _failure(value: str) -> Failure:
    """Parse ``CODE``, ``CODE:int``, ``CODE:message``, ``CODE:charged`` or ``any words:text``."""
    head, _, last = value.rpartition(":")
    code, shape = (head.strip(), last.strip()) if head and last.strip() in _SHAPES else (value, "error_message")
    if shape == "int" and not re.fullmatch(r"[0-9]{1,18}", code):
        shape = "error_message"
    message = code if shape == "text" else MESSAGES.get(code, "the generation failed")
    return Failure(code, message, shape)


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= 86_400 else None
