"""The emulator's settings and their command line options."""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit

PROGRAM = "python -m airflow_provider_kirin.emulator"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one emulator, with the defaults of the command line."""

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
        """Return how many seconds the next generation takes."""
        return random.uniform(*self.seconds)


def read_arguments(argv: Sequence[str] | None) -> Settings:
    """Parse the command line. argparse exits with 2 on an invalid argument."""
    values = vars(_parser().parse_args(argv))
    values["api_keys"] = tuple(values["api_keys"] or Settings.api_keys)
    return Settings(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A Kirin gateway on your own machine.")
    add = parser.add_argument
    add("--host", default=Settings.host, help="address to listen on (default %(default)s)")
    add("--port", type=_port, default=Settings.port, help="0 picks a free port (default %(default)s)")
    add(
        "--api-key",
        action="append",
        dest="api_keys",
        type=_key,
        metavar="KEY",
        help="may be repeated",
    )
    add("--seconds", type=_seconds, default=Settings.seconds, metavar="S|A-B", help="how long a generation takes")
    add("--state-dir", type=Path, metavar="DIR", help="keep all state there; without it, state is lost at the end")
    add("--duplicates", choices=("reject", "return", "bill"), default=Settings.duplicates)
    add("--no-external-lookup", action="store_false", dest="external_lookup")
    add("--balance", type=_cents, dest="balance_cents", metavar="USD", help="balance of each key (default: unlimited)")
    add("--max-concurrent", type=_positive, metavar="N", help="concurrent generations of each key (default: unlimited)")
    add("--url-ttl", type=_ttl, default=Settings.url_ttl, metavar="S", help="lifetime of a video link (default 3600)")
    add("--public-url", type=_public_url, metavar="URL", help="base URL of links (default: the request's Host)")
    add("--callback-style", choices=("gateway", "kling"), default=Settings.callback_style)
    add("-v", "--verbose", action="store_true", help="access log on stderr")
    return parser


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _key(text: str) -> str:
    # Not shown in the message: it may be a real key.
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError("a key must be printable ASCII without spaces")
    return text


def _seconds(text: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    low, high = _number(first), _number(last or first)
    if not 0 <= low <= high <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds (3, 0.5) or a range (2-6)")
    return low, high


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _cents(text: str) -> int:
    try:
        cents = Decimal(text) * 100
        if not cents.is_finite() or cents < 0 or cents != cents.to_integral_value():
            raise InvalidOperation
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in USD such as 2.50") from error
    return int(cents)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer above 0")
    return int(text)


def _ttl(text: str) -> float:
    seconds = _number(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise argparse.ArgumentTypeError(f"{text!r} is not a base URL such as http://emulator:8900")
    return text.rstrip("/")
