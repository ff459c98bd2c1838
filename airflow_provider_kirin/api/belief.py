"""When a generation will end, as far as anybody can know: a belief, and the one rule that follows from it.

A belief is a mixture of log-logistic distributions (a closed form, and a tail that is never quite surprised): what
public clients lead one to expect, what this process has seen, and what the reported progress foretells. Time that
passes sorts it out by itself: a part that foretold an end which did not come loses its say.

The rule: look again when the delay of noticing, as a share of the generation's time and weighted by its chance, has
grown to what a look is worth. Where the chance is spread evenly, that is the classic optimum; where the end is still
far off, it waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Steps of the integral: seconds at least, and a share of the time passed.
_STEP, _STEP_SHARE = 0.5, 0.06


@dataclass(frozen=True)
class Part:
    """One log-logistic guess at when a generation ends, in seconds since it began.

    :param weight: how much it counts beside the others
    :param median: seconds after ``begins``
    :param spread: the standard deviation of the logarithm; 0.3 is "within a third"
    :param begins: before this many seconds it sees no end
    """

    weight: float
    median: float
    spread: float
    begins: float = 0.0

    def ended(self, at: float) -> float:
        """Return the probability that it has ended.

        :param at: seconds since it began
        """
        since = at - self.begins
        if since <= 0:
            return 0.0
        # Beyond e^50 there is nothing to tell apart, and the power would overflow.
        exponent = math.pi / (math.sqrt(3) * self.spread) * (math.log(since) - math.log(self.median))
        return 1 / (1 + math.exp(-min(max(exponent, -50.0), 50.0)))


def seconds_until_look(parts: Sequence[Part], elapsed: float, *, worth: float, longest: float) -> float:
    """Return the seconds until the next look is worth its cost.

    :param parts: the belief
    :param elapsed: seconds since the generation began; it had not ended then
    :param worth: the delay, as a share of the generation's time, that is as bad as one more look
    :param longest: seconds at most
    """
    ended = sum(part.weight * part.ended(elapsed) for part in parts)
    alive = sum(part.weight for part in parts) - ended
    if alive <= 0:
        return longest
    # E[(u - T) / T; T < u] = u * integral of (F(s) - F(elapsed)) / s^2, by parts.
    at, integral, density, delay = max(elapsed, _STEP), 0.0, 0.0, 0.0
    while at < elapsed + longest:
        step = max(_STEP, _STEP_SHARE * at)
        after = at + step
        next_density = (sum(part.weight * part.ended(after) for part in parts) - ended) / (after * after)
        integral += step * (density + next_density) / 2
        next_delay = after * integral / alive
        if next_delay >= worth:
            return min(at + step * (worth - delay) / (next_delay - delay) - elapsed, longest)
        at, density, delay = after, next_density, next_delay
    return longest
