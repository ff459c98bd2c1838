"""What the person who starts the emulator may choose."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One emulator's choices; the command line's defaults are these."""

    host: str = "127.0.0.1"
    port: int = 8900
    api_keys: tuple[str, ...] = ("emulator-key",)
    seconds: tuple[float, float] = (3.0, 3.0)
    state_dir: Path | None = None
    duplicates: str = "reject"
    external_lookup: bool = True
    balance_cents: int | None = None
    max_concurrent: int | None = None
    url_ttl: float = 3600.0
    public_url: str | None = None
    callback_style: str = "gateway"
    verbose: bool = False

    def random_duration(self) -> float:
        """How long the next generation takes."""
        return random.uniform(*self.seconds)
