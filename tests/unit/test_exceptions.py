"""One tree of errors, one class for each thing a DAG author would handle differently."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

from airflow_provider_kirin import exceptions
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinConfigError,
    KirinError,
    KirinIdError,
    KirinNetworkError,
    KirinPayloadError,
    KirinTaskFailedError,
    KirinTimeoutError,
    Problem,
)

ALL = {
    name: value
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, KirinError) and value.__module__ == exceptions.__name__
}
#: class -> (its parent, whether another try can help): what callers rely on.
TREE = {
    "KirinError": ("Exception", False),
    "KirinConfigError": ("KirinError", False),
    "KirinPayloadError": ("KirinError", False),
    "KirinTableError": ("KirinError", False),
    "KirinBatchError": ("KirinError", False),
    "KirinBudgetError": ("KirinError", False),
    "KirinIdError": ("KirinError", False),
    "KirinDestinationError": ("KirinError", False),
    "KirinNetworkError": ("KirinError", True),
    "KirinResponseError": ("KirinError", True),
    "KirinUnknownSubmitError": ("KirinError", False),
    "KirinLostTaskError": ("KirinError", False),
    "KirinTimeoutError": ("KirinError", True),
    "KirinUnfinishedError": ("KirinError", True),
    "KirinAPIError": ("KirinError", False),
    "KirinInputError": ("KirinAPIError", False),
    "KirinAuthError": ("KirinAPIError", False),
    "KirinCreditError": ("KirinAPIError", False),
    "KirinNotFoundError": ("KirinAPIError", False),
    "KirinConflictError": ("KirinAPIError", False),
    "KirinRateLimitError": ("KirinAPIError", True),
    "KirinCapacityError": ("KirinRateLimitError", True),
    "KirinUnavailableError": ("KirinAPIError", True),
    "KirinTaskFailedError": ("KirinAPIError", True),
    "KirinNoVideoError": ("KirinTaskFailedError", False),
}


def make(kind: type[KirinError]) -> KirinError:
    """An error of a class, with everything that the class can carry."""
    if kind is KirinPayloadError:
        return KirinPayloadError([Problem("prompt", "''", "must have text", "Write more")], model="kirin_v1_6_i2v")
    possible: dict[str, Any] = {
        "kirin_task_ids": ["d1", "d2"],
        "sent": False,
        "http_status": 429,
        "code": "1303",
        "request_id": "req-1",
        "retry_after": 7.0,
        "retryable": True,
        "external_task_id": "row-7",
    }
    taken = inspect.signature(kind).parameters
    return kind("what happened", **{name: value for name, value in possible.items() if name in taken})


def test_this_is_the_whole_tree() -> None:
    assert set(ALL) == set(TREE)


@pytest.mark.parametrize(("name", "parent", "retryable"), [(name, *rest) for name, rest in TREE.items()])
def test_each_class_has_its_place_and_its_answer(name: str, parent: str, retryable: bool) -> None:
    kind = ALL[name]
    assert kind.__bases__[0].__name__ == parent
    assert kind.retryable is retryable


@pytest.mark.parametrize("name", ALL)
class TestEveryError:
    def test_is_documented_and_in_the_tree_s_drawing(self, name: str) -> None:
        assert inspect.getdoc(ALL[name])
        assert name in (exceptions.__doc__ or "")

    def test_says_what_happened(self, name: str) -> None:
        error = make(ALL[name])
        assert str(error) == error.message or isinstance(error, KirinPayloadError)
        assert str(error)

    def test_survives_pickling_and_copying(self, name: str) -> None:
        error = make(ALL[name])
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert vars(again) == vars(error)
            assert again.retryable is error.retryable

    def test_can_be_raised_and_caught_as_one_of_ours(self, name: str) -> None:
        error = make(ALL[name])
        with pytest.raises(KirinError) as caught:
            raise error
        assert caught.value is error


def test_mistakes_of_the_caller_are_value_errors_too() -> None:
    assert issubclass(KirinPayloadError, ValueError)
    assert issubclass(KirinIdError, ValueError)


def test_one_error_may_know_better_than_its_class() -> None:
    assert KirinAPIError("x", retryable=True).retryable
    assert not KirinTaskFailedError("x", retryable=False).retryable
    assert not KirinAPIError.retryable
    assert KirinConfigError("x", retryable=None).retryable is False


def test_a_network_error_counts_as_sent_unless_that_is_certain() -> None:
    assert KirinNetworkError("cut").sent
    assert not KirinNetworkError("refused", sent=False).sent


def test_a_timeout_keeps_the_ids_as_they_were() -> None:
    ids = ["d1", "d2"]
    error = KirinTimeoutError("x", kirin_task_ids=ids)
    ids.append("d3")
    assert error.kirin_task_ids == ("d1", "d2")


def test_an_api_error_holds_what_its_handler_may_ask_for() -> None:
    error = KirinAPIError("x", http_status=429, code="014002095", request_id="r", retry_after=1.5)
    assert (error.http_status, error.code, error.request_id, error.retry_after) == (429, "014002095", "r", 1.5)
    bare = KirinAPIError("x")
    assert (bare.http_status, bare.code, bare.request_id, bare.retry_after) == (None, None, None, None)


class TestPayloadError:
    PROBLEMS = (
        Problem("prompt", "''", "must have text", "Write more"),
        Problem("mode", "'x'", "must be y", "Use y."),
    )

    def test_lists_every_problem_on_its_own_line(self) -> None:
        error = KirinPayloadError(self.PROBLEMS, model="m")
        assert str(error) == (
            "The payload for m has 2 problems; nothing was sent, nothing was spent:\n"
            "  - prompt = '': must have text. Write more.\n"
            "  - mode = 'x': must be y. Use y."
        )

    def test_keeps_problems_and_model(self) -> None:
        error = KirinPayloadError(list(self.PROBLEMS), model="m")
        assert error.problems == self.PROBLEMS
        assert error.model == "m"
