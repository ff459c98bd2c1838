"""The gateway's error responses, as one exception that the middleware turns into JSON."""

from __future__ import annotations

from typing import Any

#: The codes of section 10 ([V] kirin_v1_6_i2v; [C] the last two). The messages are this emulator's own.
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


class Refusal(Exception):
    """A request is rejected with this status, body and headers."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers or {}


def coded(code: str, message: str | None = None) -> Refusal:
    """Return a refusal with a code of the model; its text is in ``error_message`` ([V] sections 4, 10)."""
    return Refusal(400, {"error": {"code": code, "error_message": message or MESSAGES[code]}})


def invalid(name: str, message: str) -> Refusal:
    """Return a refusal without a documented code ([E]: the code and HTTP 400)."""
    return Refusal(400, {"error": {"code": "INVALID_PARAMETER", "message": f"{name}: {message}"}})


def platform(status: int, code: str | int, message: str, headers: dict[str, str] | None = None) -> Refusal:
    """Return a refusal in the platform's own shape, with the text in ``message`` ([V] section 9)."""
    return Refusal(status, {"error": {"code": code, "message": message}}, headers)


def detail(status: int, text: str) -> Refusal:
    """Return a refusal in the ``{"detail": ...}`` shape of 403, 404 and 500 ([V] section 9)."""
    return Refusal(status, {"detail": text})


def insufficient_balance() -> Refusal:
    """Return HTTP 402 in the envelope of the account services ([C] section 9)."""
    status = {"code": 402, "message": "insufficient balance", "error_code": 40201}
    return Refusal(402, {"status": status, "data": None})


def too_many_at_once() -> Refusal:
    """Return Kling's error at its concurrency limit ([K] section 14): 1303, with a Retry-After."""
    return platform(429, 1303, "parallel task over resource pack limit", {"Retry-After": "1"})


class ParameterError(Exception):
    """A parameter is invalid.

    ``error_key`` is the kind of error for which some models have a code: ``missing``, ``format``, ``ratio``,
    ``prompt``, ``duration``.
    """

    def __init__(self, name: str, text: str, error_key: str = "") -> None:
        super().__init__(name, text, error_key)
        self.name, self.text, self.error_key = name, text, error_key
