"""When a look is worth its cost, by what one believes about the end."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.belief import Part, seconds_until_look
from airflow_provider_kirin.api.experience import ENOUGH, MOST_KINDS, REMEMBERED, Experience

PARTS = st.lists(
    st.builds(Part, st.floats(0.01, 1), st.floats(0.1, 1e4), st.floats(0.02, 2), st.floats(0, 1e4)),
    min_size=1,
    max_size=3,
)
GUESS = Part(1.0, 100.0, 0.3)


class TestAPart:
    def test_half_have_ended_at_the_median(self) -> None:
        assert Part(1.0, 100.0, 0.3, begins=50.0).ended(150.0) == pytest.approx(0.5)

    @given(st.floats(0, 1e6), st.floats(0, 1e6))
    def test_what_has_ended_stays_ended(self, one: float, other: float) -> None:
        early, late = sorted((one, other))
        assert 0 <= GUESS.ended(early) <= GUESS.ended(late) <= 1

    def test_nothing_ends_before_it_begins(self) -> None:
        assert Part(1.0, 0.1, 0.3, begins=50.0).ended(50.0) == 0

    def test_the_spread_is_that_of_the_logarithm(self) -> None:
        """Half of a log-logistic lies within +-ln(3) * sqrt(3)/pi spreads of the median, on a logarithmic scale."""
        quartile = 100.0 * math.exp(-0.3 * math.log(3) * math.sqrt(3) / math.pi)
        assert GUESS.ended(quartile) == pytest.approx(0.25)


class TestTheNextLook:
    @given(PARTS, st.floats(0, 1e5), st.floats(0.001, 0.2))
    def test_is_neither_now_nor_never(self, parts: list[Part], elapsed: float, worth: float) -> None:
        assert 0 < seconds_until_look(parts, elapsed, worth=worth, longest=60) <= 60

    def test_is_where_the_expected_delay_has_grown_to_what_a_look_is_worth(self) -> None:
        """By drawing the ends of a hundred thousand generations that were still at work after 80 seconds."""
        pause = seconds_until_look([GUESS], 80.0, worth=0.02, longest=1000)
        draw = random.Random(7)
        scale = 0.3 * math.sqrt(3) / math.pi
        chances = (GUESS.ended(80.0) + (1 - GUESS.ended(80.0)) * draw.random() for _ in range(100_000))
        ends = [100.0 * math.exp(scale * math.log(chance / (1 - chance))) for chance in chances]
        look = 80.0 + pause
        assert sum((look - end) / end for end in ends if end < look) / 100_000 == pytest.approx(0.02, rel=0.05)

    def test_waits_for_an_end_that_is_far_off(self) -> None:
        assert seconds_until_look([Part(1.0, 100.0, 0.05)], 5.0, worth=0.01, longest=1000) > 75

    def test_comes_sooner_the_more_a_delay_hurts(self) -> None:
        pauses = [seconds_until_look([GUESS], 60.0, worth=worth, longest=1000) for worth in (0.005, 0.02, 0.08)]
        assert pauses == sorted(pauses)
        assert pauses[0] < pauses[-1] / 2

    def test_a_foretold_end_that_did_not_come_loses_its_say(self) -> None:
        wrong = Part(0.9, 20.0, 0.2)
        believed = seconds_until_look([wrong, Part(0.1, 400.0, 0.2)], 15.0, worth=0.01, longest=1000)
        disproven = seconds_until_look([wrong, Part(0.1, 400.0, 0.2)], 100.0, worth=0.01, longest=1000)
        alone = seconds_until_look([Part(0.1, 400.0, 0.2)], 100.0, worth=0.01, longest=1000)
        assert believed < 10 < disproven
        assert disproven == pytest.approx(alone, rel=0.3)

    def test_where_every_part_says_it_must_have_ended_the_longest_pause_holds(self) -> None:
        assert seconds_until_look([Part(1.0, 1e-300, 0.01)], 1e5, worth=0.01, longest=60) == 60


class TestExperience:
    def test_knows_nothing_at_first(self) -> None:
        assert Experience().expect("kirin_v1_6_i2v", "std 5") is None

    def test_one_generation_says_something_many_say_it_surely(self) -> None:
        experience = Experience()
        experience.learn(90.0, "m")
        one = experience.expect("m")
        for _ in range(20):
            experience.learn(90.0, "m")
        many = experience.expect("m")
        assert one is not None and many is not None
        assert one.median == pytest.approx(90) and many.median == pytest.approx(90)
        assert one.weight < many.weight < 1
        assert many.spread < one.spread

    def test_a_kind_is_guessed_from_its_model_until_enough_of_it_were_seen(self) -> None:
        experience = Experience()
        for _ in range(5):
            experience.learn(60.0, "m", "std 5")
        for _ in range(ENOUGH - 1):
            experience.learn(400.0, "m", "pro 10")
        guessed = experience.expect("m", "pro 10")
        experience.learn(400.0, "m", "pro 10")
        known = experience.expect("m", "pro 10")
        assert guessed is not None and known is not None
        assert guessed.median < 200 < known.median

    def test_last_weeks_generations_are_forgotten(self) -> None:
        experience = Experience()
        for seconds in [600.0] * REMEMBERED + [60.0] * REMEMBERED:
            experience.learn(seconds, "m")
        part = experience.expect("m")
        assert part is not None
        assert part.median == pytest.approx(60)

    def test_it_does_not_grow_without_bound(self) -> None:
        experience = Experience()
        experience.learn(10.0, "the first")
        for index in range(MOST_KINDS):
            experience.learn(10.0, f"model {index}")
        assert experience.expect("the first") is None
        assert experience.expect(f"model {MOST_KINDS - 1}") is not None

    @pytest.mark.parametrize("seconds", [0.0, -5.0])
    def test_what_cannot_be_is_not_learned(self, seconds: float) -> None:
        experience = Experience()
        experience.learn(seconds, "m")
        assert experience.expect("m") is None
