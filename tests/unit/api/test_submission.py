"""What `Submission` promises about money, against a model of the gateway that fails in every way we know."""

from __future__ import annotations

import contextlib
import importlib.util
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_kirin.api.record import Record
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS
from airflow_provider_kirin.api.submission import Submission, Submitted
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinCapacityError,
    KirinConflictError,
    KirinError,
    KirinInputError,
    KirinLostTaskError,
    KirinNotFoundError,
    KirinRateLimitError,
    KirinTaskFailedError,
    KirinUnavailableError,
    KirinUnknownSubmitError,
)
from airflow_provider_kirin.state.submission_record import SubmissionRecord
from tests.support.gateway_model import (
    CONTRADICTIONS,
    GET_FATES,
    LYING_ERRORS,
    MODEL,
    POST_FATES,
    Killed,
    ModelGateway,
    ModelRecord,
    Store,
    TaskInstance,
)

NAME = "airflow-abc"
HAS_STORE = importlib.util.find_spec("airflow.models.task_state_store") is not None


def submission(gateway: ModelGateway, record: Record, **how: object) -> Submission:
    defaults = {"external_task_id": NAME, "model": MODEL, "lookup_verified": {}, "sleep": lambda seconds: None}
    return Submission(gateway, record, **defaults | how)  # type: ignore[arg-type]


def fates(*wanted: str) -> object:
    """Give the wanted fates one after the other, then only good ones."""
    left = list(wanted)
    return lambda: left.pop(0) if left else "ok"


def proven(gateway: ModelGateway) -> ModelRecord:
    """A record that knows of a generation of an earlier run, so that the lookup can be proven."""
    gateway.submit_as("airflow-earlier")
    gateway.finish("completed")
    gateway.submissions = 0
    return ModelRecord(known=[("airflow-earlier", "t1")])


class TestSubmitsOnce:
    def test_first_try_looks_up_then_submits(self) -> None:
        gateway = ModelGateway()
        got = submission(gateway, ModelRecord()).submit_or_adopt()
        assert (got.external_task_id, got.adopted, gateway.submissions) == (NAME, False, 1)

    @pytest.mark.parametrize("status", ["in_progress", "completed"])
    def test_a_second_try_adopts(self, status: str) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        first = submission(gateway, record).submit_or_adopt()
        gateway.finish(status)
        again = submission(gateway, record).submit_or_adopt()
        assert again.adopted
        assert again.kirin_task.id == first.kirin_task.id
        assert gateway.submissions == 1

    def test_adopts_without_any_record(self) -> None:
        gateway = ModelGateway()
        submission(gateway, ModelRecord(has_store=False)).submit_or_adopt()
        assert submission(gateway, ModelRecord(has_store=False, try_number=2)).submit_or_adopt().adopted
        assert gateway.submissions == 1

    def test_the_record_adopts_where_the_lookup_does_not_work(self) -> None:
        gateway, record = ModelGateway(finds_by_external_id=False), ModelRecord()
        submission(gateway, record).submit_or_adopt()
        assert submission(gateway, record).submit_or_adopt().adopted
        assert gateway.submissions == 1

    def test_a_conflict_is_an_adoption(self) -> None:
        """Two tries at once: the other one's submission came first, after our look."""
        gateway, lookups = ModelGateway(), 0

        def get_fate() -> str:
            nonlocal lookups
            lookups += 1
            if lookups == 1:
                gateway.lag = 1
                gateway.submit_as(NAME)
            return "ok"

        gateway.get_fate = get_fate
        assert submission(gateway, ModelRecord()).submit_or_adopt().adopted
        assert len(gateway.paid) == 1

    def test_failed_generations_are_followed_by_the_next_of_the_series(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        names = []
        for _ in range(3):
            names.append(submission(gateway, record).submit_or_adopt().external_task_id)
            gateway.finish("failed")
        assert names == [NAME, f"{NAME}-2", f"{NAME}-3"]

    def test_what_may_have_failed_is_not_followed_by_another(self) -> None:
        """An unknown status with an error ends a wait; "retrying" may still become a video."""
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record).submit_or_adopt()
        name, kirin_task = gateway.paid[-1]
        gateway.paid[-1] = (name, replace(kirin_task, status="failed", raw_status="retrying"))
        again = submission(gateway, record).submit_or_adopt()
        assert (again.adopted, again.kirin_task.status, len(gateway.paid)) == (True, "failed", 1)

    def test_a_users_own_id_is_honoured_as_given(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record, is_user_id=True).submit_or_adopt()
        gateway.finish("failed")
        with pytest.raises(KirinTaskFailedError, match="set another external_task_id") as caught:
            submission(gateway, record, is_user_id=True).submit_or_adopt()
        assert not caught.value.retryable
        assert len(gateway.paid) == 1


class TestAfterALostResponse:
    @pytest.mark.parametrize("fate", ["lost after", "502 after"])
    def test_what_was_accepted_is_found_and_adopted(self, fate: str) -> None:
        gateway = ModelGateway(post_fate=fates(fate))  # type: ignore[arg-type]
        got = submission(gateway, ModelRecord()).submit_or_adopt()
        assert got.adopted
        assert gateway.billed == 1

    def test_a_refusal_of_the_repetition_names_what_is_still_unresolved(self) -> None:
        """The first submission may have used up the credit that the second one misses."""
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.lag = 99
        gateway.post_fate = fates("504 with 1302 after", "400 input")  # type: ignore[assignment]
        with pytest.raises(KirinInputError, match=NAME):
            submission(gateway, record).submit_or_adopt()
        assert len(gateway.paid) == 2

    def test_a_lookup_that_lags_is_given_time(self) -> None:
        gateway = ModelGateway(post_fate=fates("lost after"), lag=len(LOOKUP_RETRY_DELAYS))  # type: ignore[arg-type]
        assert submission(gateway, ModelRecord()).submit_or_adopt().adopted
        assert gateway.submissions == 1

    @pytest.mark.parametrize("fate", ["lost before", "502 before"])
    def test_a_proven_lookup_allows_another_submission_under_the_same_id(self, fate: str) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates(fate)  # type: ignore[assignment]
        got = submission(gateway, record).submit_or_adopt()
        assert (got.external_task_id, got.adopted, gateway.submissions) == (NAME, False, 2)

    @pytest.mark.parametrize("fate", ["lost before", "lost after", "502 before", "502 after"])
    @pytest.mark.parametrize("has_proof", [True, False])
    def test_without_a_working_lookup_it_stops_and_names_the_id(self, fate: str, has_proof: bool) -> None:
        gateway = ModelGateway()
        record = proven(gateway) if has_proof else ModelRecord()
        gateway.finds_by_external_id = False
        gateway.post_fate = fates(fate)  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).submit_or_adopt()
        assert gateway.submissions == 1
        assert not caught.value.retryable
        assert "may bill" in str(caught.value)
        assert "take" in str(caught.value)
        with pytest.raises(KirinUnknownSubmitError):
            submission(gateway, record).submit_or_adopt()
        assert gateway.submissions == 1, "neither a retry nor a clear pays again"

    def test_resubmit_prefers_to_pay_twice(self) -> None:
        gateway = ModelGateway(finds_by_external_id=False, rejects_duplicates=False)
        gateway.post_fate = fates("lost after")  # type: ignore[assignment]
        submission(gateway, ModelRecord(), on_unknown_submit="resubmit").submit_or_adopt()
        assert gateway.submissions == 2

    def test_resubmit_does_so_once_a_try_and_says_what_may_be_billed(self) -> None:
        gateway = ModelGateway(finds_by_external_id=False, rejects_duplicates=False)
        gateway.post_fate, record = lambda: "lost after", ModelRecord()
        for paid in (2, 3):
            with pytest.raises(KirinUnknownSubmitError, match="each may be billed") as caught:
                submission(gateway, record, on_unknown_submit="resubmit").submit_or_adopt()
            assert not caught.value.retryable
            assert gateway.submissions == paid, "the unknown outcome of an earlier try is the one that is allowed"

    def test_an_id_that_our_own_lost_submission_used_is_looked_up_again(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.lag = 100
        gateway.post_fate = fates("lost after")  # type: ignore[assignment]
        with pytest.raises(KirinConflictError, match="of this step probably created it") as caught:
            submission(gateway, record).submit_or_adopt()
        assert caught.value.retryable
        gateway.hidden.clear()
        assert submission(gateway, record).submit_or_adopt().adopted
        assert gateway.billed == 2, "the proof, and this one"

    def test_finding_submits_nothing(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        assert submission(gateway, record).find_existing() is None
        assert gateway.submissions == 0
        bought = submission(gateway, record).submit_or_adopt()
        found = submission(gateway, record).find_existing()
        assert found is not None
        assert (found.kirin_task.id, found.adopted, gateway.submissions) == (bought.kirin_task.id, True, 1)

    def test_a_load_balancers_404_is_not_not_found(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates("lost after")  # type: ignore[assignment]
        really, lookups = gateway.get_task, 0

        def deploying(kirin_task_id: str, *, patience: float) -> object:
            nonlocal lookups
            lookups += 1
            if lookups > 1:
                error = KirinNotFoundError("an HTML page", http_status=404)
                error.from_api = False
                raise error
            return really(kirin_task_id, patience=patience)

        gateway.get_task = deploying  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).submit_or_adopt()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_a_proof_that_cannot_be_done_names_the_id_too(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates("lost before")  # type: ignore[assignment]
        lookups = 1 + 1 + len(LOOKUP_RETRY_DELAYS)
        gateway.get_fate = fates(*["ok"] * lookups, "network")  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=f"{NAME}.*could not be verified") as caught:
            submission(gateway, record).submit_or_adopt()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_a_failed_lookup_is_not_not_found(self) -> None:
        gateway = ModelGateway(post_fate=fates("lost after"), get_fate=fates("ok", "network"))  # type: ignore[arg-type]
        record = ModelRecord()
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).submit_or_adopt()
        assert caught.value.retryable
        assert submission(gateway, record).submit_or_adopt().adopted
        assert gateway.submissions == 1


def test_a_gateway_without_lookup_by_external_id_still_accepts_submissions() -> None:
    gateway = ModelGateway()
    record = proven(gateway)
    really, gateway.finds_by_external_id = gateway.get_task, False

    def picky(kirin_task_id: str, *, patience: float) -> object:
        if not kirin_task_id.startswith("t"):
            raise KirinInputError("invalid task id", http_status=400)
        return really(kirin_task_id, patience=patience)

    gateway.get_task = picky  # type: ignore[method-assign, assignment]
    assert not submission(gateway, record).submit_or_adopt().adopted
    gateway.post_fate = fates("lost after")  # type: ignore[assignment]
    with pytest.raises(KirinUnknownSubmitError):
        Submission(
            gateway, record, external_task_id="airflow-other", lookup_verified={}, sleep=lambda seconds: None
        ).submit_or_adopt()
    assert gateway.submissions == 2


class TestNothingIsPaid:
    def test_while_the_lookup_cannot_be_done(self) -> None:
        gateway = ModelGateway(get_fate=lambda: "503")
        with pytest.raises(KirinUnavailableError, match=NAME) as caught:
            submission(gateway, ModelRecord()).submit_or_adopt()
        assert gateway.submissions == 0
        assert caught.value.retryable

    def test_where_a_generation_on_record_is_not_known_any_more(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record).submit_or_adopt()
        gateway.paid.clear()
        with pytest.raises(KirinLostTaskError, match="t1") as caught:
            submission(gateway, record).submit_or_adopt()
        assert gateway.submissions == 1
        assert not caught.value.retryable

    def test_a_load_balancers_404_is_no_loss_of_what_is_on_record(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record).submit_or_adopt()

        def deploying(kirin_task_id: str, *, patience: float) -> None:
            error = KirinNotFoundError("an HTML page", http_status=404)
            error.from_api = False
            raise error

        gateway.get_task = deploying  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinUnavailableError, match=NAME) as caught:
            submission(gateway, record).submit_or_adopt()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_a_generation_on_record_is_given_time_to_show(self) -> None:
        gateway, record = ModelGateway(lag=2), ModelRecord()
        submission(gateway, record).submit_or_adopt()
        assert submission(gateway, record).submit_or_adopt().adopted

    def test_refusals_that_may_pass_are_waited_out_and_leave_no_intent_behind(self) -> None:
        gateway = ModelGateway(post_fate=fates("429", "connection refused", "ok"))  # type: ignore[arg-type]
        pauses: list[float] = []
        record = ModelRecord()
        submission(gateway, record, sleep=pauses.append).submit_or_adopt()
        assert gateway.submissions == 3
        assert len(pauses) == 2
        assert gateway.billed == 1

    def test_a_gateway_that_stays_full_ends_in_its_own_error(self) -> None:
        gateway, record = ModelGateway(post_fate=lambda: "429"), ModelRecord()
        with pytest.raises(KirinRateLimitError):
            submission(gateway, record).submit_or_adopt()
        assert record.entries == {}, "nothing was accepted, so the next try has nothing to look for"

    def test_a_refusal_does_not_clear_an_earlier_intent(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        fate = fates("lost before", *["429"] * 50)
        gateway.post_fate = fate  # type: ignore[assignment]
        with pytest.raises(KirinRateLimitError):
            submission(gateway, record).submit_or_adopt()
        assert record.has_unresolved_intent(NAME)

    def test_a_wrong_key_ends_at_once(self) -> None:
        gateway = ModelGateway()

        def refuse(kirin_task_id: str, *, patience: float) -> None:
            raise KirinAuthError("wrong key", http_status=401)

        gateway.get_task = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinAuthError):
            submission(gateway, ModelRecord()).submit_or_adopt()
        assert gateway.submissions == 0


class TestNoErrorIsTakenAtItsWord:
    """An answer that may come after the acceptance leaves the outcome unknown, whatever it says."""

    @pytest.mark.parametrize("lie", LYING_ERRORS)
    def test_what_was_accepted_is_found_and_adopted(self, lie: str) -> None:
        gateway = ModelGateway(post_fate=fates(f"{lie} after"), rejects_duplicates=False)  # type: ignore[arg-type]
        assert submission(gateway, ModelRecord()).submit_or_adopt().adopted
        assert (gateway.submissions, gateway.billed) == (1, 1)

    @pytest.mark.parametrize("lie", LYING_ERRORS)
    def test_what_was_not_is_submitted_again_only_with_a_proven_lookup(self, lie: str) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates(f"{lie} before")  # type: ignore[assignment]
        assert not submission(gateway, record).submit_or_adopt().adopted
        gateway = ModelGateway(post_fate=fates(f"{lie} before"))  # type: ignore[arg-type]
        with pytest.raises(KirinUnknownSubmitError, match=NAME):
            submission(gateway, ModelRecord()).submit_or_adopt()
        assert gateway.submissions == 1

    def test_nothing_is_submitted_twice_without_a_lookup_in_between(self) -> None:
        asked: list[str] = []
        gateway = ModelGateway(post_fate=fates("429", "429", "connection refused"))  # type: ignore[arg-type]
        look, submit = gateway.get_task, gateway.submit_as

        def watched_look(kirin_task_id: str, *, patience: float) -> object:
            asked.append("look")
            return look(kirin_task_id, patience=patience)

        def watched_submit(external_task_id: str) -> object:
            asked.append("submit")
            return submit(external_task_id)

        gateway.get_task, gateway.submit_as = watched_look, watched_submit  # type: ignore[method-assign, assignment]
        submission(gateway, ModelRecord()).submit_or_adopt()
        assert asked == ["look", "submit"] * 4

    def test_a_gateway_that_rejects_and_accepts_all_the_same_is_paid_once(self) -> None:
        gateway = ModelGateway(rejects_duplicates=False)
        submit = gateway.submit_as

        def rejecting(external_task_id: str) -> None:
            submit(external_task_id)
            raise KirinRateLimitError("too many", http_status=429)

        gateway.submit_as = rejecting  # type: ignore[method-assign, assignment]
        assert submission(gateway, ModelRecord()).submit_or_adopt().adopted
        assert gateway.billed == 1

    def test_a_load_balancers_404_is_not_a_lookup(self) -> None:
        gateway = ModelGateway(post_fate=fates("429"))  # type: ignore[arg-type]
        look, lookups = gateway.get_task, 0

        def deploying(kirin_task_id: str, *, patience: float) -> object:
            nonlocal lookups
            lookups += 1
            if lookups == 2:
                error = KirinNotFoundError("an HTML page", http_status=404)
                error.from_api = False
                raise error
            return look(kirin_task_id, patience=patience)

        gateway.get_task = deploying  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinUnavailableError, match=NAME):
            submission(gateway, ModelRecord()).submit_or_adopt()
        assert gateway.submissions == 1

    def test_nothing_is_submitted_again_while_the_lookup_cannot_be_done(self) -> None:
        gateway = ModelGateway(post_fate=fates("429"), get_fate=fates("ok", "network"))  # type: ignore[arg-type]
        with pytest.raises(KirinUnavailableError, match=NAME):
            submission(gateway, ModelRecord()).submit_or_adopt()
        assert gateway.submissions == 1


@pytest.mark.parametrize("answer", ["no id", *CONTRADICTIONS])
class TestAnAnswerToAnotherQuestion:
    """Neither found, nor "not found", nor evidence that the lookup works."""

    def test_before_the_submission_nothing_is_paid(self, answer: str) -> None:
        gateway, record = ModelGateway(get_fate=fates(answer)), ModelRecord()  # type: ignore[arg-type]
        proofs: dict[str, bool] = {}
        with pytest.raises(KirinUnavailableError, match=f"{NAME}.*answered with") as caught:
            submission(gateway, record, lookup_verified=proofs).submit_or_adopt()
        assert caught.value.retryable
        assert (gateway.submissions, proofs, record.entries) == (0, {}, {})

    def test_after_a_lost_response_the_error_names_the_id(self, answer: str) -> None:
        gateway = ModelGateway(post_fate=fates("lost before"))  # type: ignore[arg-type]
        gateway.get_fate = fates("ok", answer)  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=f"{NAME}.*answered with") as caught:
            submission(gateway, ModelRecord()).submit_or_adopt()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_a_contradicting_response_does_not_verify_the_lookup(self, answer: str) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates("lost before")  # type: ignore[assignment]
        lookups = 1 + 1 + len(LOOKUP_RETRY_DELAYS)
        gateway.get_fate = fates(*["ok"] * lookups, answer)  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=f"{NAME}.*could not be verified"):
            submission(gateway, record).submit_or_adopt()
        assert gateway.submissions == 1

    def test_what_is_on_record_is_only_what_has_its_id(self, answer: str) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record).submit_or_adopt()
        really = gateway.get_task
        gateway.get_task = lambda kirin_task_id, *, patience: CONTRADICTIONS.get(  # type: ignore[method-assign, assignment]
            answer, CONTRADICTIONS["another's"]
        )
        with pytest.raises(KirinUnavailableError, match=f"{NAME}.*answered with"):
            submission(gateway, record).submit_or_adopt()
        gateway.get_task = really  # type: ignore[method-assign]
        assert submission(gateway, record).submit_or_adopt().kirin_task.id == "t1"


@pytest.mark.parametrize("answer", [None, "another's"], ids=["404", "another generation"])
def test_a_wrong_id_in_the_response_to_the_submission_does_not_lose_the_generation(answer: str | None) -> None:
    gateway, record = ModelGateway(), ModelRecord()
    submission(gateway, record).submit_or_adopt()
    record.mark_submitted(NAME, "bobs")
    really = gateway.get_task

    def get_task(kirin_task_id: str, *, patience: float) -> KirinTask:
        is_wrong = answer is not None and kirin_task_id == "bobs"
        return CONTRADICTIONS[str(answer)] if is_wrong else really(kirin_task_id, patience=patience)

    gateway.get_task = get_task  # type: ignore[method-assign]
    assert submission(gateway, record).submit_or_adopt().kirin_task.id == "t1"
    assert (record.kirin_task_id(NAME), gateway.submissions) == ("t1", 1)


def test_an_own_id_may_stand_for_another_model() -> None:
    gateway = ModelGateway(get_fate=fates("another model"))  # type: ignore[arg-type]
    assert submission(gateway, ModelRecord(), is_user_id=True).submit_or_adopt().kirin_task.id == "carols"


class Deployment:
    """Tries of one task in a deployment, with the operators' own record in a task state store."""

    def __init__(self, gateway: ModelGateway, known: list[tuple[str, str]] | None = None) -> None:
        self.gateway, self.store, self.proofs = gateway, Store(), {}  # type: ignore[var-annotated]
        self.ti = TaskInstance(known=known or [])
        #: The round of each generation that was paid, by id.
        self.rounds: dict[str, int] = {}
        self.payloads: dict[str, str] = {}
        self.has_store = True

    def attempt(self, payload: str, *, find: bool = False, **how: Any) -> Submitted | None:
        """Let one try want a payload."""
        context: Any = {"ti": self.ti, "task_state_store": self.store if self.has_store else None}
        record = SubmissionRecord(
            context, {"kirin_conn_id": how.get("conn_id", "")}, inputs={"of": payload}, model=MODEL
        )
        name, before = f"airflow-{payload}", len(self.gateway.paid)
        try:
            one = submission(self.gateway, record, **{"external_task_id": name, "lookup_verified": self.proofs} | how)
            return one.find_existing() if find else one.submit_or_adopt()
        finally:
            self.ti.try_number += 1
            for _, kirin_task in self.gateway.paid[before:]:
                self.rounds[kirin_task.id] = self.ti.max_tries
                self.payloads[kirin_task.id] = payload

    def clear(self) -> None:
        """As a person does it to a task that does not run."""
        self.ti.max_tries = self.ti.try_number - 1 + 2


@pytest.fixture
def deployment() -> Deployment:
    gateway = ModelGateway(rejects_duplicates=False)
    return Deployment(gateway, proven(gateway).known)


needs_store = pytest.mark.skipif(not HAS_STORE, reason="the task state store is of Airflow 3.3")


@dataclass
class CountedStore(Store):
    """Remembers what it was asked."""

    requests: list[str] = field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        self.requests.append(f"get {key}")
        return super().get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.requests.append(f"set {key}")
        super().set(key, value, retention=retention)


@needs_store
class TestRequestsToTheStore:
    def test_no_entry_is_read_twice_without_a_reason(self, deployment: Deployment) -> None:
        deployment.store = store = CountedStore()
        deployment.attempt("a")
        own = "kirin:submission:airflow-a"
        # Read again before it is decided to pay.
        expected = ["get kirin:latest", f"get {own}", f"get {own}", f"set {own}", "set kirin:latest", f"set {own}"]
        assert store.requests == expected

    @pytest.mark.parametrize("on_unknown_submit", ["stop", "resubmit"])
    def test_what_another_try_records_meanwhile_is_adopted(
        self, deployment: Deployment, on_unknown_submit: str
    ) -> None:
        """Airflow may take a try for dead that is still running."""
        really, gateway = deployment.gateway.get_task, deployment.gateway
        gateway.finds_by_external_id = False

        def meanwhile(kirin_task_id: str, **how: Any) -> KirinTask:
            if gateway.submissions == 0:
                paid = gateway.submit_as("airflow-a")
                deployment.store.set("kirin:submission:airflow-a", {"kirin_task_id": paid.id})
                raise KirinNotFoundError("Request not found", http_status=404)
            return really(kirin_task_id, **how)

        gateway.get_task = meanwhile  # type: ignore[method-assign]
        got = deployment.attempt("a", on_unknown_submit=on_unknown_submit)
        assert got is not None
        assert (got.adopted, got.kirin_task.id, gateway.submissions) == (True, gateway.paid[-1][1].id, 1)

    def test_what_another_try_does_meanwhile_is_seen_before_anything_is_paid(self, deployment: Deployment) -> None:
        """Airflow may take a try for dead that is still running."""
        really, gateway = deployment.gateway.get_task, deployment.gateway
        gateway.finds_by_external_id = False

        def meanwhile(*given: Any, **how: Any) -> KirinTask:
            deployment.store.set("kirin:submission:airflow-a", {"intent": True})
            return really(*given, **how)

        gateway.get_task = meanwhile  # type: ignore[method-assign]
        with pytest.raises(KirinUnknownSubmitError, match="airflow-a"):
            deployment.attempt("a")
        assert gateway.submissions == 0


@needs_store
class TestARoundSubmitsOneGeneration:
    @pytest.mark.parametrize("fate", ["ok", "lost after", "killed after", "504 with 1302 after"])
    def test_a_retry_with_another_payload_adopts(
        self, deployment: Deployment, fate: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        deployment.gateway.post_fate = fates(fate)  # type: ignore[assignment]
        with contextlib.suppress(Killed):
            deployment.attempt("a")
        got = deployment.attempt("b")
        assert got is not None
        assert (got.adopted, got.differs, got.external_task_id, deployment.gateway.submissions) == (
            True,
            True,
            "airflow-a",
            1,
        )
        assert "payload, model, `take` or external_task_id of this try differs" in caplog.text

    def test_a_certain_rejection_does_not_bind_the_next_try(self, deployment: Deployment) -> None:
        deployment.gateway.post_fate = fates("429")  # type: ignore[assignment]
        with pytest.raises(KirinRateLimitError):
            deployment.attempt("a", sleep=lambda seconds: deployment.gateway.__setattr__("post_fate", lambda: "429"))
        deployment.gateway.post_fate = lambda: "ok"
        got = deployment.attempt("b")
        assert got is not None
        assert (got.external_task_id, got.adopted) == ("airflow-b", False)

    def test_after_a_failed_generation_the_next_try_submits_its_own_payload(self, deployment: Deployment) -> None:
        names = []
        for payload in ("a", "b", "b", "a"):
            got = deployment.attempt(payload)
            assert got is not None
            names.append(got.external_task_id)
            deployment.gateway.finish("failed")
        assert names == ["airflow-a", "airflow-b", "airflow-b-2", "airflow-a-2"]

    def test_an_unresolved_intent_is_resolved_under_the_id_it_is_about(self, deployment: Deployment) -> None:
        """So that a gateway that refuses a used id refuses the first submission, should it arrive after all."""
        deployment.gateway.post_fate = fates("killed before")  # type: ignore[assignment]
        with pytest.raises(Killed):
            deployment.attempt("a")
        got = deployment.attempt("b")
        assert got is not None
        assert (got.adopted, got.external_task_id, deployment.gateway.billed) == (False, "airflow-a", 2)
        deployment.clear()
        again = deployment.attempt("b")
        assert again is not None
        assert (again.adopted, again.kirin_task.id) == (True, got.kirin_task.id)
        assert deployment.gateway.billed == 2, "the proof, and this one"

    def test_a_resolved_intent_does_not_submit_again_what_an_earlier_round_submitted(
        self, deployment: Deployment
    ) -> None:
        first = deployment.attempt("a")
        deployment.clear()
        deployment.gateway.post_fate = fates("killed before")  # type: ignore[assignment]
        with pytest.raises(Killed):
            deployment.attempt("b")
        got = deployment.attempt("a")
        assert first is not None
        assert got is not None
        assert got.kirin_task.id == first.kirin_task.id
        assert deployment.gateway.billed == 2, "the proof, and this one"

    def test_the_cost_of_failed_generations_is_kept_when_the_next_one_is_adopted(self, deployment: Deployment) -> None:
        first = deployment.attempt("a")
        assert first is not None
        deployment.gateway.finish("failed", cost="0.28")
        deployment.gateway.post_fate = fates("killed after")  # type: ignore[assignment]
        with pytest.raises(Killed):
            deployment.attempt("a")
        got = deployment.attempt("b")
        assert got is not None
        assert (got.adopted, got.external_task_id) == (True, "airflow-a-2")
        assert deployment.ti.xcoms["kirin_submission"]["failed_costs"] == {first.kirin_task.id: "0.28"}

    def test_a_payload_error_names_what_an_earlier_round_submitted(self, deployment: Deployment) -> None:
        first = deployment.attempt("a")
        deployment.clear()
        context: Any = {"ti": deployment.ti, "task_state_store": deployment.store}
        said = SubmissionRecord(context).describe_earlier_submission()
        assert first is not None
        assert first.kirin_task.id in said
        assert "airflow-a" in said

    def test_an_intent_that_cannot_be_resolved_stops_the_next_payload_too(self) -> None:
        deployment = Deployment(ModelGateway(finds_by_external_id=False))
        deployment.gateway.post_fate = fates("killed after")  # type: ignore[assignment]
        with pytest.raises(Killed):
            deployment.attempt("a")
        for payload in ("b", "c"):
            with pytest.raises(KirinUnknownSubmitError, match="airflow-a"):
                deployment.attempt(payload)
        assert deployment.gateway.submissions == 1

    @pytest.mark.parametrize("fate", ["killed after", "lost after"])
    def test_a_users_own_id_of_an_unknown_outcome_is_not_submitted_through_another_connection(self, fate: str) -> None:
        """On the other account the lookup surely finds nothing."""
        deployment, other = Deployment(ModelGateway()), ModelGateway()
        deployment.gateway.post_fate = fates(fate)  # type: ignore[assignment]
        deployment.gateway.get_fate = fates("ok", "network")  # type: ignore[assignment]
        with pytest.raises((Killed, KirinUnknownSubmitError)):
            deployment.attempt("order-7", is_user_id=True, conn_id="one")
        deployment.gateway, paid = other, deployment.gateway.paid
        with pytest.raises(KirinUnknownSubmitError, match="airflow-order-7"):
            deployment.attempt("order-7", is_user_id=True, conn_id="two", lookup_verified={"two": True})
        assert (len(paid), len(other.paid)) == (1, 0)
        deployment.clear()
        got = deployment.attempt("b")
        assert got is not None
        assert got.external_task_id == "airflow-b", "a person may pay for another payload all the same"

    def test_a_clear_with_another_payload_submits_again_and_names_the_first(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = deployment.attempt("a")
        deployment.clear()
        got = deployment.attempt("b")
        assert first is not None
        assert got is not None
        assert (got.adopted, got.external_task_id) == (False, "airflow-b")
        assert "Submitted before: Kirin generation " + first.kirin_task.id in caplog.text
        deployment.clear()
        back = deployment.attempt("a")
        assert back is not None
        assert back.kirin_task.id == first.kirin_task.id

    def test_what_a_round_adopted_binds_it_too(self, deployment: Deployment) -> None:
        first = deployment.attempt("a")
        deployment.clear()
        deployment.attempt("a")
        got = deployment.attempt("b")
        assert first is not None
        assert got is not None
        assert got.kirin_task.id == first.kirin_task.id

    def test_an_own_id_that_changes_is_no_reason_to_pay(self, deployment: Deployment) -> None:
        deployment.attempt("a", external_task_id="mine-1", is_user_id=True)
        got = deployment.attempt("a", external_task_id="mine-2", is_user_id=True)
        assert got is not None
        assert (got.external_task_id, got.differs) == ("mine-1", True)
        deployment.gateway.finish("failed")
        fresh = deployment.attempt("a", external_task_id="mine-2", is_user_id=True)
        assert fresh is not None
        assert (fresh.external_task_id, fresh.adopted) == ("mine-2", False)

    def test_another_connection_is_not_paid_by_a_retry(self, deployment: Deployment) -> None:
        deployment.attempt("a", conn_id="one")
        with pytest.raises(KirinUnknownSubmitError, match="connection one; this try uses the connection two"):
            deployment.attempt("b", conn_id="two")
        assert deployment.gateway.submissions == 1
        deployment.clear()
        deployment.attempt("b", conn_id="two")
        assert deployment.gateway.submissions == 2

    def test_a_try_without_any_payload_finds_it_too(self, deployment: Deployment) -> None:
        assert deployment.attempt("", external_task_id="", find=True) is None
        first = deployment.attempt("a")
        found = deployment.attempt("", external_task_id="", find=True)
        assert first is not None
        assert found is not None
        assert found.kirin_task.id == first.kirin_task.id
        deployment.clear()
        assert deployment.attempt("", external_task_id="", find=True) is None


class TestAFullAccount:
    def test_a_caller_that_can_wait_elsewhere_gets_the_refusal_at_once(self) -> None:
        gateway, record, slept = ModelGateway(post_fate=lambda: "full"), ModelRecord(), list[float]()
        with pytest.raises(KirinCapacityError) as caught:
            submission(gateway, record, capacity_patience=0, sleep=slept.append).submit_or_adopt()
        assert caught.value.retryable
        assert (gateway.submissions, slept) == (1, [])
        assert record.entries == {}, "nothing was submitted, and the record says so"

    def test_the_next_run_submits_after_one_lookup(self) -> None:
        gateway, record, lookups = ModelGateway(), ModelRecord(), list[str]()
        gateway.post_fate = fates("full")  # type: ignore[assignment]
        with pytest.raises(KirinCapacityError):
            submission(gateway, record, capacity_patience=0).submit_or_adopt()
        gateway.get_fate = lambda: lookups.append("") or "ok"  # type: ignore[func-returns-value]
        assert not submission(gateway, record, capacity_patience=0).submit_or_adopt().adopted
        assert (gateway.submissions, len(lookups)) == (2, 1)

    def test_an_earlier_intent_stays_on_record_and_in_the_error(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.lag = 99
        gateway.post_fate = fates("lost after", "full")  # type: ignore[assignment]
        with pytest.raises(KirinCapacityError, match=f"may be billed.*{NAME}"):
            submission(gateway, record, capacity_patience=0).submit_or_adopt()
        assert record.has_unresolved_intent(NAME)
        gateway.hidden.clear()
        assert submission(gateway, record, capacity_patience=0).submit_or_adopt().adopted
        assert gateway.submissions == 2

    def test_a_worker_waits_for_a_place_with_growing_pauses(self) -> None:
        gateway, slept = ModelGateway(), list[float]()
        gateway.post_fate = fates(*["full"] * 9)  # type: ignore[assignment]
        got = submission(gateway, ModelRecord(), capacity_patience=6 * 3600, sleep=slept.append).submit_or_adopt()
        assert not got.adopted
        assert gateway.submissions == 10
        assert slept[0] <= 10 <= 30 <= slept[-1] <= 60

    def test_the_request_rate_is_not_counted_against_that_wait(self) -> None:
        gateway = ModelGateway()
        gateway.post_fate = fates(*["full"] * 20, "429", *["full"] * 20)  # type: ignore[assignment]
        submission(gateway, ModelRecord(), capacity_patience=6 * 3600).submit_or_adopt()
        assert gateway.submissions == 42

    def test_the_wait_ends_with_an_error_that_says_that_nothing_was_submitted(self) -> None:
        gateway, record, slept = ModelGateway(post_fate=lambda: "full"), ModelRecord(), list[float]()
        with pytest.raises(KirinCapacityError, match=r"full for 3,600 s, and nothing was submitted") as caught:
            submission(gateway, record, capacity_patience=3600, sleep=slept.append).submit_or_adopt()
        assert not caught.value.retryable
        assert sum(slept) == pytest.approx(3600)
        assert record.entries == {}


class OneTask(RuleBasedStateMachine):
    """Tries of one task, killed, cut off, lied to and cleared at random, whose payload may differ each time."""

    @initialize(
        has_store=st.booleans() if HAS_STORE else st.just(False),
        rejects_duplicates=st.booleans(),
        lag=st.integers(0, len(LOOKUP_RETRY_DELAYS)),
        proof=st.booleans(),
    )
    def start(self, has_store: bool, rejects_duplicates: bool, lag: int, proof: bool) -> None:
        gateway = ModelGateway(rejects_duplicates=rejects_duplicates)
        self.deployment = Deployment(gateway, proven(gateway).known if proof else [])
        self.deployment.has_store = has_store
        gateway.lag = lag

    @rule(
        payload=st.sampled_from("abc"),
        posts=st.lists(st.sampled_from(POST_FATES), max_size=4),
        gets=st.lists(st.sampled_from(GET_FATES), max_size=8),
        is_new_process=st.booleans(),
        can_defer=st.booleans(),
    )
    def try_once(self, payload: str, posts: list[str], gets: list[str], is_new_process: bool, can_defer: bool) -> None:
        self.deployment.gateway.post_fate = fates(*posts)  # type: ignore[assignment]
        self.deployment.gateway.get_fate = fates(*gets)  # type: ignore[assignment]
        if is_new_process:
            self.deployment.proofs = {}
        with contextlib.suppress(Killed):
            got = self.attempt(payload, **({"capacity_patience": 0} if can_defer else {}))
            if isinstance(got, KirinCapacityError) and can_defer:
                # Deferred, and woken in the same try, on another worker.
                self.deployment.ti.try_number -= 1
                self.deployment.proofs = {}
                self.attempt(payload, capacity_patience=0)

    @rule(payload=st.sampled_from("abc"))
    def a_quiet_try_gets_a_paid_one_or_names_the_id(self, payload: str) -> None:
        self.deployment.gateway.post_fate = self.deployment.gateway.get_fate = lambda: "ok"
        got = self.attempt(payload)
        assert isinstance(got, KirinUnknownSubmitError) or got.kirin_task.id in {one.id for one in self.own}

    def attempt(self, payload: str, **how: Any) -> Any:
        try:
            # Without a record there are no rounds: there only the same payload is the same step.
            return self.deployment.attempt(payload if self.deployment.has_store else "a", **how)
        except KirinUnknownSubmitError as error:
            assert error.external_task_id in str(error)  # noqa: PT017 - it need not be raised
            return error
        except KirinError as error:
            return error

    @rule()
    def clear(self) -> None:
        self.deployment.clear()

    @precondition(lambda self: self.own and self.own[-1].status == "in_progress")
    @rule(status=st.sampled_from(["completed", "failed"]))
    def end(self, status: str) -> None:
        self.deployment.gateway.finish(status)

    @property
    def own(self) -> list[KirinTask]:
        rounds = self.deployment.rounds
        return [kirin_task for _, kirin_task in self.deployment.gateway.paid if kirin_task.id in rounds]

    @invariant()
    def at_most_one_is_billed_in_each_round_and_for_each_payload(self) -> None:
        if hasattr(self, "deployment"):
            billed = [one.id for one in self.own if one.status != "failed"]
            for by in (self.deployment.rounds, self.deployment.payloads):
                counts = Counter(by[one] for one in billed)
                assert not counts or max(counts.values()) <= 1, (by, billed)


OneTask.TestCase.settings = settings(max_examples=300, stateful_step_count=14)
TestOneTask = OneTask.TestCase
