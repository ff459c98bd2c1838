"""Trouble on request: which fault meets which request. All [E]; docs/emulator.md explains each kind."""

from __future__ import annotations

import asyncio
import itertools
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
)
_CALLBACK_KINDS = ("cut_before", "lose_response", "slow", "garbage", "hold")


@dataclass
class Fault:
    """One line of the plan; ``times`` and ``skip`` count down as it is used."""

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

    def meets(self, on: str, subjects: tuple[str, ...]) -> bool:
        """Whether this fault is for such a request."""
        right_kind = self.on == on or (self.on == "any" and on != "callback")
        return right_kind and self.times != 0 and any(self.match in subject for subject in subjects)


@dataclass
class Held:
    """A request that waits for ``POST /emulator/release``."""

    number: int
    on: str
    subjects: tuple[str, ...]
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, Any]:
        """How ``GET /emulator/held`` shows it."""
        return {"number": self.number, "on": self.on, "about": list(self.subjects)}


class FaultPlan:
    """The faults that are waiting, first come first served, and the requests that are held."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.held: dict[int, Held] = {}
        self._numbers = itertools.count(1)

    def add(self, body: Any) -> None:
        """Add the faults of a ``{"faults": [...]}`` body; all of them or, when one is wrong, none."""
        if not isinstance(body, dict) or set(body) != {"faults"} or not isinstance(body["faults"], list):
            raise _wrong('the body must be {"faults": [...]}')
        self.faults += [_parse(item) for item in body["faults"]]

    def as_json(self) -> list[dict[str, Any]]:
        """The faults that still wait."""
        return [asdict(fault) for fault in self.faults if fault.times != 0]

    def next_fault(self, on: str, *subjects: str) -> Fault | None:
        """The fault that meets this request, one turn of it used up; one that still skips lets later ones through."""
        for fault in self.faults:
            if not fault.meets(on, subjects):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1 if fault.times > 0 else 0
            return fault
        return None

    async def hold(self, on: str, subjects: tuple[str, ...]) -> None:
        """Wait until somebody releases this request."""
        held = Held(next(self._numbers), on, subjects)
        self.held[held.number] = held
        try:
            await held.released.wait()
        finally:
            self.held.pop(held.number, None)

    def release(self, numbers: list[int] | None = None) -> int:
        """Let held requests go on, all of them by default; returns how many."""
        chosen = [held for held in self.held.values() if numbers is None or held.number in numbers]
        for held in chosen:
            held.released.set()
        return len(chosen)

    def clear(self) -> None:
        """Forget the faults; what is held stays held."""
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
}


def _parse(item: Any) -> Fault:
    if not isinstance(item, dict) or "on" not in item or "kind" not in item:
        raise _wrong('each fault is an object with "on" and "kind"')
    known = {each.name for each in fields(Fault)}
    for name, value in item.items():
        if name not in known:
            raise _wrong(f"{name[:60]!r} is no field of a fault; known are {', '.join(sorted(known))}")
        wanted = _TYPES.get(name, (object,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted not in ((bool,), (object,))):
            raise _wrong(f"{name}: {type(value).__name__} is the wrong type")
    fault = Fault(**item)
    _check_values(fault)
    return fault


def _check_values(fault: Fault) -> None:
    if fault.on not in (*REQUESTS, "callback", "any"):
        raise _wrong(f"on: {fault.on[:60]!r} is none of submit, get, video, price, callback, any")
    kinds = _CALLBACK_KINDS if fault.on == "callback" else _KINDS
    if fault.kind not in kinds:
        raise _wrong(f"kind: {fault.kind[:60]!r} is none of {', '.join(kinds)}")
    if fault.kind == "lag" and fault.on != "submit":
        raise _wrong("lag is a fault of submits")
    if not 200 <= fault.status <= 599:
        raise _wrong("status: must be 200 to 599")
    if not (math.isfinite(fault.seconds) and fault.seconds >= 0) or fault.times < -1 or fault.skip < 0:
        raise _wrong("seconds and skip must not be negative, times is -1 (for ever) or more")
    if "\n" in fault.content_type or "\r" in fault.content_type:
        raise _wrong("content_type: must be one line")


def _wrong(message: str) -> Refusal:
    return platform(400, "INVALID_FAULT", message)
