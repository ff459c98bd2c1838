"""How long generations took that this process has seen: by model and, where that is known, by mode and length."""

from __future__ import annotations

import math
from collections import deque

from airflow_provider_kirin.api.belief import Part

#: Generations that are remembered for each model and kind: enough to learn from, few enough to forget last week's.
REMEMBERED = 50
#: Kinds that are remembered, the least recently used forgotten first.
MOST_KINDS = 500
#: A kind of which fewer generations were seen is guessed from all of its model.
ENOUGH = 3
#: The spread (see :class:`Part`) that one expects before there is anything to see, and how many generations that
#: expectation counts for.
_EXPECTED_SPREAD, _EXPECTED_COUNT = 0.4, 2.0


class Experience:
    """Remember durations, and say what they lead one to expect."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], deque[float]] = {}

    def learn(self, seconds: float, *key: str) -> None:
        """Remember how long a generation took.

        :param seconds: from its beginning to its end
        :param key: what it is filed under, from the general to the special
        """
        if seconds <= 0:
            return
        for length in range(1, len(key) + 1):
            logs = self._seen.pop(key[:length], None) or deque(maxlen=REMEMBERED)
            logs.append(math.log(seconds))
            self._seen[key[:length]] = logs
        while len(self._seen) > MOST_KINDS:
            del self._seen[next(iter(self._seen))]

    def expect(self, *key: str) -> Part | None:
        """Return what the generations of the most special key that has enough of them lead one to expect.

        :param key: as for :meth:`learn`
        """
        for length in range(len(key), 0, -1):
            logs = self._seen.get(key[:length], ())
            if len(logs) >= (1 if length == 1 else ENOUGH):
                count = len(logs)
                mean = sum(logs) / count
                squares = sum((one - mean) ** 2 for one in logs) + _EXPECTED_COUNT * _EXPECTED_SPREAD**2
                spread = math.sqrt(squares / (count - 1 + _EXPECTED_COUNT)) if count > 1 else _EXPECTED_SPREAD
                return Part(weight=count / (count + 1), median=math.exp(mean), spread=max(spread, 0.02))
        return None
