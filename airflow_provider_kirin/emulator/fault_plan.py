"""The planned faults, and which request each applies to. All [E]; docs/reference/emulator.md explains each kind."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from airflow_provider_kirin.emulator.errors import Refusal, platform

REQUESTS = ("submit", "get", "video", "price")
_KINDS = (
    "status",
    "cut_before",
    "lose_response",
    "cut_mid_response",
    "accepted_status",
    "slow",
    "hang",
    "garbage",
    "hold",
    "lag",
    "full",
    "directive",
)
_SUBMIT_ONLY = ("lag", "full", "directive")
_CALLBACK_KINDS = ("cut_before", "lose_response", "slow", "garbage", "hold", "early")


@dataclass
class Fault:
    """One entry of the plan. ``times`` and ``skip`` count down as it is used."""

    on: str
    kind: str
    times: int = 1
    skip: int = 0
    status: int = 503
    retry_after: float | None = None
    body: Any = None
    seconds: float = 1.0
    content_type: str = "application/json"
    match: str = ""
    after: bool = True
    directive: str = ""

    def matches(self, on: str, subjects: tuple[str, ...]) -> bool:
        """Return whether this fault applies to such a request."""
        applies = self.on == on or (self.on == "any" and on != "callback")
        return applies and self.times != 0 and any(self.match in subject for subject in subjects)


@dataclass
class Held:
    """A request that waits for ``POST /emulator/release``."""

    number: int
    on: str
    subjects: tuple[str, ...]
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, Any]:
        """Return the entry of ``GET /emulator/held``."""
        return {"number": self.number, "on": self.on, "about": list(self.subjects)}


class FaultPlan:
    """The pending faults, in order, and the held requests."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.held: dict[int, Held] = {}
        self._numbers = itertools.count(1)

    def add(self, body: Any) -> None:
        """Add the faults of a ``{"faults": [...]}`` body: all of them, or none if one is invalid."""
        if not isinstance(body, dict) or set(body) != {"faults"} or not isinstance(body["faults"], list):
            raise _invalid('the body must be {"faults": [...]}')
        self.faults += [_parse(item) for item in body["faults"]]

    def as_json(self) -> list[dict[str, Any]]:
        """Return the pending faults."""
        return [asdict(fault) for fault in self.faults if fault.times != 0]

    def next_fault(self, on: str, *subjects: str) -> Fault | None:
        """Return the fault for this request and count it as used. One that still skips does not hide later ones."""
        for fault in self.faults:
            if not fault.matches(on, subjects):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1 if fault.times > 0 else 0
            return fault
        return None

    async def hold(self, on: str, subjects: tuple[str, ...]) -> None:
        """Wait until this request is released."""
        held = Held(next(self._numbers), on, subjects)
        self.held[held.number] = held
        try:
            await held.released.wait()
        finally:
            self.held.pop(held.number, None)

    def release(self, numbers: list[int] | None = None) -> int:
        """Release held requests, by default all of them; return how many."""
        selected = [held for held in self.held.values() if numbers is None or held.number in numbers]
        for held in selected:
            held.released.set()
        return len(selected)

    def clear(self) -> None:
        """Remove the faults. Held requests stay held."""
        self.faults.clear()


_TYPES: dict[str, tuple[type, ...]] = {
    "on": (str,),
    "kind": (str,),
    "times": (int,),
    "skip": (int,),
    "status": (int,),
    "retry_after": (int, float, type(None)),
    "seconds": (int, float),
    "content_type": (str,),
    "match": (str,),
    "after": (bool,),
    "directive": (str,),
}


def _parse(item: Any) -> Fault:
    if not isinstance(item, dict) or "on" not in item or "kind" not in item:
        raise _invalid('each fault is an object with "on" and "kind"')
    known = {each.name for each in fields(Fault)}
    for name, value in item.items():
        if name not in known:
            raise _invalid(f"{name[:60]!r} is not a field of a fault; it must be one of {', '.join(sorted(known))}")
        wanted = _TYPES.get(name, (object,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted not in ((bool,), (object,))):
            raise _invalid(f"{name}: must not be {type(value).__name__}")
    fault = Fault(**item)
    _check_values(fault)
    return fault


def _check_values(fault: Fault) -> None:
    if fault.on not in (*REQUESTS, "callback", "any"):
        raise _invalid(f"on: {fault.on[:60]!r} is not one of submit, get, video, price, callback, any")
    kinds = _CALLBACK_KINDS if fault.on == "callback" else _KINDS
    if fault.kind not in kinds:
        raise _invalid(f"kind: {fault.kind[:60]!r} is not one of {', '.join(kinds)}")
    if fault.kind in _SUBMIT_ONLY and fault.on != "submit":
        raise _invalid(f"{fault.kind} is a fault of submit only")
    if not 200 <= fault.status <= 599:
        raise _invalid("status: must be 200 to 599")
    if not (math.isfinite(fault.seconds) and fault.seconds >= 0) or fault.times < -1 or fault.skip < 0:
        raise _invalid("seconds and skip must not be negative; times must be -1 (for ever) or more")
    if "\n" in fault.content_type or "\r" in fault.content_type:
        raise _invalid("content_type: must not contain line breaks")


def _invalid(message: str) -> Refusal:
    return platform(400, "INVALID_FAULT", message)


def encode_body(body: object) -> bytes:
    """Return a fault's or a callback's body as bytes: a string as it is, anything else as JSON."""
    return (body if isinstance(body, str) else json.dumps(body)).encode("utf-8", "replace")
