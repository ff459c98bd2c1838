"""What a generation costs here. Invented [E]: no public page states prices."""

from __future__ import annotations

CENTS: dict[tuple[str, int], int] = {("std", 5): 28, ("std", 10): 56, ("pro", 5): 49, ("pro", 10): 98}
"""(mode, seconds of video) to US cents."""


def usd(cents: int) -> str:
    """Cents as the decimal string the API uses for money ([V] section 4: usage.cost is a string in USD)."""
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"
