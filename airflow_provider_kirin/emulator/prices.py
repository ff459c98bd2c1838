"""What a generation costs here. Invented [E]: no public page states prices."""

from __future__ import annotations

_TENTHS = {"std": 56, "pro": 98, None: 98}
"""Tenths of a cent for a second of video, by mode; models without a mode cost what pro does."""


def price(mode: str | None, seconds: int, *, has_sound: bool = False) -> int:
    """US cents of a video; sound doubles them."""
    return round(_TENTHS[mode] * seconds * (2 if has_sound else 1) / 10)


def usd(cents: int) -> str:
    """Cents as the decimal string the API uses for money ([V] section 4: usage.cost is a string in USD)."""
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"
