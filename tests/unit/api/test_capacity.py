"""The line of tasks that wait for a place: in order, no more than are likely free, and none for ever."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_provider_kirin.api.capacity import (
    END_COUNTS,
    MAX_PAUSE,
    MIN_PAUSE,
    SILENCE,
    CapacityLine,
    Waiter,
    capacity_pause,
    no_place,
)
from airflow_provider_kirin.exceptions import KirinCapacityError


def waiter(
    key: str, since: float = 0.0, *, refused_at: float = 0.0, ready_at: float = 0.0, refusals: int = 1
) -> Waiter:
    return Waiter(since, key, refused_at=refused_at, ready_at=ready_at, refusals=refusals)


def line(*waiters: Waiter, watched: int = 0) -> CapacityLine:
    made = CapacityLine(jitter=lambda: 1.0)
    for _ in range(watched):
        made.watch()
    for one in waiters:
        made.join(one, one.refused_at)
    return made


def due(made: CapacityLine, now: float) -> list[tuple[str, str]]:
    return [(one.key, reason) for one, reason in made.due(now)]


class TestPauses:
    @given(st.integers(1, 10_000), st.floats(0, 1))
    def test_stay_within_their_bounds(self, refusals: int, jitter: float) -> None:
        assert MIN_PAUSE <= capacity_pause(refusals, jitter=lambda: jitter) <= MAX_PAUSE

    def test_grow_with_each_refusal(self) -> None:
        assert [capacity_pause(refusals, jitter=lambda: 1.0) for refusals in range(1, 6)] == [10, 20, 40, 60, 60]


class TestAnEnd:
    def test_wakes_the_one_that_has_waited_longest(self) -> None:
        made = line(waiter("b", 2), waiter("a", 1), waiter("c", 3), watched=1)
        made.unwatch(ended_at=5)
        assert due(made, 5) == [("a", "end")]
        assert due(made, 5) == []

    def test_wakes_no_more_than_ended(self) -> None:
        made = line(*(waiter(str(number), number) for number in range(9)), watched=3)
        for _ in range(3):
            made.unwatch(ended_at=5)
        assert due(made, 5) == [("0", "end"), ("1", "end"), ("2", "end")]

    def test_passes_over_who_was_deferred_a_moment_ago(self) -> None:
        made = line(waiter("a", 1, ready_at=12), waiter("b", 2), watched=1)
        made.unwatch(ended_at=5)
        assert due(made, 5) == [("b", "end")]

    def test_is_kept_until_a_waiter_may_be_woken(self) -> None:
        made = line(waiter("a", 1, ready_at=12), watched=1)
        made.unwatch(ended_at=5)
        assert due(made, 5) == []
        assert made.next_check(5) == 12
        assert due(made, 12) == [("a", "end")]

    def test_does_not_count_if_a_later_refusal_proves_that_the_place_is_taken(self) -> None:
        made = line(waiter("a", 1), watched=1)
        made.unwatch(ended_at=5)
        made.join(waiter("b", 6, refused_at=6), 7)
        assert due(made, 7) == []

    def test_counts_if_the_refusal_came_before_it(self) -> None:
        made = line(watched=1)
        made.unwatch(ended_at=5)
        made.join(waiter("a", 4, refused_at=4), 6)
        assert due(made, 6) == [("a", "end")]

    def test_does_not_count_for_ever(self) -> None:
        made = line(waiter("a", ready_at=1 + END_COUNTS), watched=2)
        made.unwatch(ended_at=1)
        assert due(made, 1 + END_COUNTS) == []

    def test_a_wait_that_is_given_up_frees_no_place(self) -> None:
        made = line(waiter("a"), watched=1)
        made.unwatch(ended_at=None)
        assert due(made, 1) == []

    def test_a_refusal_by_a_clock_that_is_ahead_cancels_nothing_that_is_still_to_come(self) -> None:
        made = line(watched=1)
        made.join(waiter("a", 60, refused_at=60), 5)
        made.unwatch(ended_at=6)
        assert due(made, 6) == [("a", "end")]


class TestTime:
    def test_lets_only_the_head_ask_again(self) -> None:
        made = line(*(waiter(str(number), number, refused_at=9) for number in range(9)))
        assert made.next_check(9) == 19
        assert due(made, 18) == []
        assert due(made, 19) == [("0", "time")]

    def test_the_pause_grows_with_the_refusals_of_the_head(self) -> None:
        assert line(waiter("a", refused_at=9, refusals=3)).next_check(9) == 9 + 40

    def test_the_pause_is_long_if_ends_are_seen_and_that_is_decided_again_at_each_change(self) -> None:
        made = line(waiter("a", refused_at=9))
        assert made.next_check(9) == 9 + 10
        made.watch()
        assert made.next_check(9) == 9 + MAX_PAUSE
        made.unwatch(ended_at=None)
        assert made.next_check(9) == 9 + 10

    def test_without_a_refusal_twice_as_many_ask_the_next_time(self) -> None:
        made, now, woken = line(*(waiter(str(number), number) for number in range(20))), 10.0, []
        for _ in range(4):
            woken.append(len(due(made, now)))
            now += SILENCE
        assert woken == [1, 2, 4, 8]

    def test_after_a_refusal_one_asks_again(self) -> None:
        made = line(*(waiter(str(number), number) for number in range(20)))
        for now in (10.0, 10 + SILENCE):
            made.due(now)
        made.join(waiter("1", 1, refused_at=30, refusals=2), 31)
        assert due(made, 30 + SILENCE) == []
        assert due(made, 50) == [("1", "time")]

    def test_without_waiters_nothing_is_polled(self) -> None:
        assert line(watched=3).next_check(9) is None


class TestPlaces:
    def test_are_counted_from_the_head(self) -> None:
        made = line(waiter("b", 2), waiter("a", 1), waiter("c", 3))
        assert [made.position_of(key) for key in "abcx"] == [(1, 3), (2, 3), (3, 3), (0, 3)]
        made.leave("a")
        made.leave("a")
        assert made.position_of("b") == (1, 2)

    def test_one_that_is_refused_again_keeps_its_place(self) -> None:
        made = line(waiter("a", 1), waiter("b", 2), watched=1)
        made.unwatch(ended_at=5)
        made.due(5)
        made.join(waiter("a", 1, refused_at=6, refusals=2), 7)
        assert made.position_of("a") == (1, 2)


class Line(RuleBasedStateMachine):
    """Joins, ends and refusals in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.line = CapacityLine()
        self.now, self.count, self.watched, self.ends = 100.0, 0, 0, 0
        self.waiting: dict[str, Waiter] = {}
        self.woken: list[Waiter] = []

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(late=st.floats(-5, 30), hold=st.floats(0, 20))
    def a_waiter_is_refused(self, late: float, hold: float) -> None:
        self.count += 1
        refused_at = self.now - late
        self.join(Waiter(refused_at, f"t{self.count}", refused_at=refused_at, ready_at=refused_at + hold))

    @precondition(lambda self: self.woken)
    @rule(data=st.data())
    def one_that_was_woken_is_refused(self, data: st.DataObject) -> None:
        again = self.woken.pop(data.draw(st.integers(0, len(self.woken) - 1)))
        self.join(Waiter(again.since, again.key, self.now, self.now + 10, again.refusals + 1))

    def join(self, one: Waiter) -> None:
        self.waiting[one.key] = one
        self.line.join(one, self.now)

    @rule()
    def a_watch_begins(self) -> None:
        self.watched += 1
        self.line.watch()

    @precondition(lambda self: self.watched)
    @rule(has_ended=st.booleans())
    def a_watch_ends(self, has_ended: bool) -> None:
        self.watched -= 1
        self.ends += has_ended
        self.line.unwatch(ended_at=self.now if has_ended else None)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def one_is_cleared(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[key]
        self.line.leave(key)

    @rule()
    def due_waiters_are_woken(self) -> None:
        ready = sorted(one for one in self.waiting.values() if one.ready_at <= self.now)
        woken = self.line.due(self.now)
        assert [one for one, _ in woken] == ready[: len(woken)], "first come, first served"
        if by_end := sum(reason == "end" for _, reason in woken):
            assert by_end <= self.ends
            self.ends -= by_end
        for one, _ in woken:
            self.woken.append(self.waiting.pop(one.key))

    @invariant()
    def the_places_are_those_of_all_that_wait(self) -> None:
        order = [one.key for one in sorted(self.waiting.values())]
        assert [self.line.position_of(key) for key in order] == [(n, len(order)) for n in range(1, len(order) + 1)]

    @invariant()
    def a_ready_waiter_is_woken_within_a_minute(self) -> None:
        check = self.line.next_check(self.now)
        assert (check is None) == (not self.waiting)
        if check is not None:
            first_ready = min(one.ready_at for one in self.waiting.values())
            assert check <= max(self.now, first_ready) + MAX_PAUSE


Line.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestLine = Line.TestCase


@dataclass
class Night:
    """A table of rows on one account: the lines of some triggerers, Airflow's delays, and a gateway, simulated.

    :param rows: how many
    :param places: that the account has
    :param seconds: that each video takes
    :param triggerers: each with a line of its own
    """

    rows: int
    places: int
    seconds: float
    triggerers: int = 1
    #: Tasks that Airflow starts in a second, at the beginning.
    rush: float = 3.0
    running: int = 0
    refusals: int = 0
    done: int = 0
    now: float = 0.0
    events: list[tuple[float, int, Any]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def play(self) -> float:
        """Return the makespan."""
        lines = [CapacityLine(jitter=self.chance.random) for _ in range(self.triggerers)]
        for row in range(self.rows):
            self.at(row / self.rush, self.submit, row, None, 1, lines)
        while self.events:
            self.now, _, (what, *arguments) = heapq.heappop(self.events)
            what(*arguments)
        assert self.done == self.rows
        return self.now

    def at(self, time: float, *what: Any) -> None:
        heapq.heappush(self.events, (time, len(self.events) + self.chance.getrandbits(40), what))

    def submit(self, row: int, since: float | None, refusals: int, lines: list[CapacityLine]) -> None:
        one = self.chance.choice(lines)
        # From a worker to a trigger that runs.
        later = self.now + 1.4
        if self.running < self.places:
            self.running += 1
            self.at(self.now + self.seconds, self.end)
            self.at(later, one.watch)
            self.at(later + self.seconds, self.see, one, lines)
            return
        self.refusals += 1
        since = self.now if since is None else since
        made = Waiter(since, f"{row:05}", self.now, self.now + 10, refusals)
        self.at(later, self.join, one, made, lines)

    def end(self) -> None:
        self.running -= 1
        self.done += 1

    def see(self, one: CapacityLine, *rest: Any) -> None:
        one.unwatch(ended_at=self.now)
        self.update(one, *rest)

    def join(self, one: CapacityLine, made: Waiter, *rest: Any) -> None:
        one.join(made, self.now)
        self.update(one, *rest)

    def update(self, one: CapacityLine, *rest: Any) -> None:
        for made, _ in one.due(self.now):
            self.at(self.now + 1.2, self.submit, int(made.key), made.since, made.refusals + 1, *rest)
        if (check := one.next_check(self.now)) is not None:
            self.at(max(check, self.now + 0.001), self.update, one, *rest)


class TestANight:
    @pytest.mark.parametrize(("triggerers", "longest", "refused"), [(1, 1.2, 1.6), (2, 1.35, 1.9)])
    def test_all_waiters_are_woken_and_few_are_refused_twice(
        self, triggerers: int, longest: float, refused: float
    ) -> None:
        night = Night(rows=200, places=5, seconds=20, triggerers=triggerers)
        makespan = night.play()
        assert makespan <= longest * 200 / 5 * 20
        assert night.refusals <= refused * 200


def test_the_error_of_a_wait_that_is_over_has_a_remedy_and_the_gateways_message() -> None:
    last = KirinCapacityError("parallel task over resource pack limit", http_status=429, code="1303", request_id="r")
    error = no_place(last, 21_600)
    assert "21,600 s" in str(error)
    assert "nothing was submitted" in str(error)
    assert "parallel task" in str(error)
    assert (error.code, error.http_status, error.request_id, error.retryable) == ("1303", 429, "r", False)
