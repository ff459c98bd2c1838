"""Video links that look signed and expire, as a CDN's do. The gateway's own scheme is unknown: all [E]."""

from __future__ import annotations

import hashlib
import hmac
import math
import time


def signed_path(secret: bytes, id_: str, ttl: float) -> str:
    """A fresh path with query for the video of a generation."""
    expires = math.ceil(time.time() + ttl)
    return f"/cdn/{id_}.mp4?Expires={expires}&Signature={_signature(secret, id_, str(expires))}"


def is_valid(secret: bytes, id_: str, expires: str, signature: str) -> bool:
    """Whether a link was made here for this video and has not expired."""
    right = hmac.compare_digest(_signature(secret, id_, expires).encode(), signature.encode("utf-8", "replace"))
    return right and time.time() < int(expires)


def _signature(secret: bytes, id_: str, expires: str) -> str:
    message = f"{id_}\n{expires}".encode("utf-8", "replace")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:40]
