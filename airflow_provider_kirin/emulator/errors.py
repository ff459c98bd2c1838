"""The gateway's ways to say no, as one exception that the front middleware turns into a JSON response."""

from __future__ import annotations

from typing import Any

MESSAGES: dict[str, str] = {
    "8002005001": "image is required: give image or image_tail",
    "8002005002": "image format is invalid",
    "8002005003": "prompt length is invalid",
    "8002005004": "duration is invalid",
    "8002005005": "aspect ratio is invalid",
    "8002005006": "JWT authentication failed",
    "8002005098": "generation process failed",
    "8002005099": "provider is unavailable",
    "110001": "the input image is sensitive",
    "190000": "the input audio could not be downloaded",
}
"""Codes of section 10 ([V] kirin_v1_6_i2v; [C] the last two). The wording is this emulator's own."""


class Refusal(Exception):
    """A request that is answered with an error: status, body, headers."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers or {}


def coded(code: str, message: str | None = None) -> Refusal:
    """A wrong parameter with a code of the model's own; the text is under ``error_message`` ([V] sections 4, 10)."""
    return Refusal(400, {"error": {"code": code, "error_message": message or MESSAGES[code]}})


def invalid(name: str, message: str) -> Refusal:
    """A wrong parameter without a documented code ([E]: the code and HTTP 400)."""
    return Refusal(400, {"error": {"code": "INVALID_PARAMETER", "message": f"{name}: {message}"}})


def platform(status: int, code: str | int, message: str, headers: dict[str, str] | None = None) -> Refusal:
    """The platform's own shape, with the text under ``message`` ([V] section 9)."""
    return Refusal(status, {"error": {"code": code, "message": message}}, headers)


def detail(status: int, text: str) -> Refusal:
    """The ``{"detail": ...}`` shape of 403, 404 and 500 responses ([V] section 9)."""
    return Refusal(status, {"detail": text})


def insufficient_balance() -> Refusal:
    """HTTP 402 in the account services' envelope ([C] section 9)."""
    status = {"code": 402, "message": "insufficient balance", "error_code": 40201}
    return Refusal(402, {"status": status, "data": None})


def too_many_at_once() -> Refusal:
    """Kling's concurrency limit ([K] section 14): 1303, and at least a second's pause."""
    return platform(429, 1303, "parallel task over resource pack limit", {"Retry-After": "1"})


class ParameterError(Exception):
    """A parameter that is refused.

    ``error_key`` names what some models have a code for: ``missing``, ``format``, ``ratio``, ``prompt``, ``duration``.
    """

    def __init__(self, name: str, text: str, error_key: str = "") -> None:
        super().__init__(name, text, error_key)
        self.name, self.text, self.error_key = name, text, error_key
