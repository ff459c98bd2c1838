"""What `Submission` promises about money, against a model of the gateway that fails in every way we know."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_kirin.exceptions import (
    KirinAuthError,
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
from airflow_provider_kirin.submitting import LAG_PAUSES, Submission, Submitted
from tests.unit.gateway_model import GET_FATES, POST_FATES, Killed, ModelGateway, ModelRecord

NAME = "airflow-abc"


def submission(gateway: ModelGateway, record: ModelRecord, **how: object) -> Submission:
    how = {"proofs": {}, "sleep": lambda seconds: None} | how
    return Submission(gateway, record, external_task_id=NAME, **how)  # type: ignore[arg-type]


def fates(*wanted: str) -> object:
    """Give the wanted fates one after the other, then only good ones."""
    left = list(wanted)
    return lambda: left.pop(0) if left else "ok"


def proven(gateway: ModelGateway) -> ModelRecord:
    """A record that knows of a generation of an earlier run, so that the look-up can be proven."""
    gateway.submit_as("airflow-earlier")
    gateway.finish("completed")
    gateway.submissions = 0
    return ModelRecord(known=[("airflow-earlier", "t1")])


class TestBuysOnce:
    def test_first_try_looks_then_buys(self) -> None:
        gateway = ModelGateway()
        got = submission(gateway, ModelRecord()).run()
        assert (got.external_task_id, got.adopted, gateway.submissions) == (NAME, False, 1)

    @pytest.mark.parametrize("status", ["in_progress", "completed"])
    def test_a_second_try_adopts(self, status: str) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        first = submission(gateway, record).run()
        gateway.finish(status)
        again = submission(gateway, record).run()
        assert again.adopted
        assert again.kirin_task.id == first.kirin_task.id
        assert gateway.submissions == 1

    def test_adopts_without_any_record(self) -> None:
        gateway = ModelGateway()
        submission(gateway, ModelRecord(has_store=False)).run()
        assert submission(gateway, ModelRecord(has_store=False, try_number=2)).run().adopted
        assert gateway.submissions == 1

    def test_the_record_adopts_where_the_look_up_does_not_work(self) -> None:
        gateway, record = ModelGateway(finds_by_external_id=False), ModelRecord()
        submission(gateway, record).run()
        assert submission(gateway, record).run().adopted
        assert gateway.submissions == 1

    def test_a_conflict_is_an_adoption(self) -> None:
        """Two tries at once: the other one's submission came first, after our look."""
        gateway, looks = ModelGateway(), 0

        def get_fate() -> str:
            nonlocal looks
            looks += 1
            if looks == 1:
                gateway.lag = 1
                gateway.submit_as(NAME)
            return "ok"

        gateway.get_fate = get_fate
        assert submission(gateway, ModelRecord()).run().adopted
        assert len(gateway.paid) == 1

    def test_failed_generations_are_followed_by_the_next_of_the_series(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        names = []
        for _ in range(3):
            names.append(submission(gateway, record).run().external_task_id)
            gateway.finish("failed")
        assert names == [NAME, f"{NAME}-2", f"{NAME}-3"]

    def test_a_users_own_id_is_honoured_as_given(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record, is_own_id=True).run()
        gateway.finish("failed")
        with pytest.raises(KirinTaskFailedError, match="give another external_task_id") as caught:
            submission(gateway, record, is_own_id=True).run()
        assert not caught.value.retryable
        assert len(gateway.paid) == 1


class TestAfterALostReply:
    @pytest.mark.parametrize("fate", ["lost after", "502 after"])
    def test_what_was_accepted_is_found_and_adopted(self, fate: str) -> None:
        gateway = ModelGateway(post_fate=fates(fate))  # type: ignore[arg-type]
        got = submission(gateway, ModelRecord()).run()
        assert got.adopted
        assert gateway.billed == 1

    def test_a_look_up_that_lags_is_given_time(self) -> None:
        gateway = ModelGateway(post_fate=fates("lost after"), lag=len(LAG_PAUSES))  # type: ignore[arg-type]
        assert submission(gateway, ModelRecord()).run().adopted
        assert gateway.submissions == 1

    @pytest.mark.parametrize("fate", ["lost before", "502 before"])
    def test_a_proven_look_up_allows_another_submission_under_the_same_id(self, fate: str) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates(fate)  # type: ignore[assignment]
        got = submission(gateway, record).run()
        assert (got.external_task_id, got.adopted, gateway.submissions) == (NAME, False, 2)

    @pytest.mark.parametrize("fate", ["lost before", "lost after", "502 before", "502 after"])
    @pytest.mark.parametrize("has_proof", [True, False])
    def test_without_a_working_look_up_it_stops_and_names_the_id(self, fate: str, has_proof: bool) -> None:
        gateway = ModelGateway()
        record = proven(gateway) if has_proof else ModelRecord()
        gateway.finds_by_external_id = False
        gateway.post_fate = fates(fate)  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).run()
        assert gateway.submissions == 1
        assert not caught.value.retryable
        assert "may bill" in str(caught.value)
        assert "take" in str(caught.value)
        with pytest.raises(KirinUnknownSubmitError):
            submission(gateway, record).run()
        assert gateway.submissions == 1, "neither a retry nor a clear pays again"

    def test_resubmit_prefers_to_pay_twice(self) -> None:
        gateway = ModelGateway(finds_by_external_id=False, rejects_duplicates=False)
        gateway.post_fate = fates("lost after")  # type: ignore[assignment]
        submission(gateway, ModelRecord(), on_unknown_submit="resubmit").run()
        assert gateway.submissions == 2

    def test_resubmit_does_so_once_a_try_and_says_what_may_be_billed(self) -> None:
        gateway = ModelGateway(finds_by_external_id=False, rejects_duplicates=False)
        gateway.post_fate, record = lambda: "lost after", ModelRecord()
        for paid in (2, 3):
            with pytest.raises(KirinUnknownSubmitError, match="each may be billed") as caught:
                submission(gateway, record, on_unknown_submit="resubmit").run()
            assert not caught.value.retryable
            assert gateway.submissions == paid, "the doubt that an earlier try left is the one that is allowed"

    def test_a_submission_that_may_still_be_on_its_way_is_not_followed_by_another(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates("still sending")  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).run()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_an_id_that_our_own_lost_submission_took_is_looked_for_again(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.lag = 100
        gateway.post_fate = fates("lost after")  # type: ignore[assignment]
        with pytest.raises(KirinConflictError, match="An earlier submission of this step bought it") as caught:
            submission(gateway, record).run()
        assert caught.value.retryable
        gateway.hidden.clear()
        assert submission(gateway, record).run().adopted
        assert gateway.billed == 2, "the proof, and this one"

    def test_finding_buys_nothing(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        assert submission(gateway, record).find() is None
        assert gateway.submissions == 0
        bought = submission(gateway, record).run()
        found = submission(gateway, record).find()
        assert found is not None
        assert (found.kirin_task.id, found.adopted, gateway.submissions) == (bought.kirin_task.id, True, 1)

    def test_a_load_balancers_404_is_not_not_found(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates("lost after")  # type: ignore[assignment]
        really, looks = gateway.get_task, 0

        def deploying(kirin_task_id: str, *, patience: float) -> object:
            nonlocal looks
            looks += 1
            if looks > 1:
                error = KirinNotFoundError("an HTML page", http_status=404)
                error.from_api = False
                raise error
            return really(kirin_task_id, patience=patience)

        gateway.get_task = deploying  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).run()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_a_proof_that_cannot_be_done_names_the_id_too(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        gateway.post_fate = fates("lost before")  # type: ignore[assignment]
        looks = 1 + 1 + len(LAG_PAUSES)
        gateway.get_fate = fates(*["ok"] * looks, "network")  # type: ignore[assignment]
        with pytest.raises(KirinUnknownSubmitError, match=f"{NAME}.*cannot be proven") as caught:
            submission(gateway, record).run()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_could_not_look_is_not_not_found(self) -> None:
        gateway = ModelGateway(post_fate=fates("lost after"), get_fate=fates("ok", "network"))  # type: ignore[arg-type]
        record = ModelRecord()
        with pytest.raises(KirinUnknownSubmitError, match=NAME) as caught:
            submission(gateway, record).run()
        assert caught.value.retryable
        assert submission(gateway, record).run().adopted
        assert gateway.submissions == 1


def test_a_gateway_that_takes_no_foreign_ids_can_still_be_bought_from() -> None:
    gateway = ModelGateway()
    record = proven(gateway)
    really, gateway.finds_by_external_id = gateway.get_task, False

    def picky(kirin_task_id: str, *, patience: float) -> object:
        if not kirin_task_id.startswith("t"):
            raise KirinInputError("invalid task id", http_status=400)
        return really(kirin_task_id, patience=patience)

    gateway.get_task = picky  # type: ignore[method-assign, assignment]
    assert not submission(gateway, record).run().adopted
    gateway.post_fate = fates("lost after")  # type: ignore[assignment]
    with pytest.raises(KirinUnknownSubmitError):
        Submission(gateway, record, external_task_id="airflow-other", proofs={}, sleep=lambda seconds: None).run()
    assert gateway.submissions == 2


class TestNothingIsPaid:
    def test_while_the_look_up_cannot_be_done(self) -> None:
        gateway = ModelGateway(get_fate=lambda: "503")
        with pytest.raises(KirinUnavailableError, match=NAME) as caught:
            submission(gateway, ModelRecord()).run()
        assert gateway.submissions == 0
        assert caught.value.retryable

    def test_where_a_generation_on_record_is_not_known_any_more(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record).run()
        gateway.paid.clear()
        with pytest.raises(KirinLostTaskError, match="t1") as caught:
            submission(gateway, record).run()
        assert gateway.submissions == 1
        assert not caught.value.retryable

    def test_a_load_balancers_404_is_no_loss_of_what_is_on_record(self) -> None:
        gateway, record = ModelGateway(), ModelRecord()
        submission(gateway, record).run()

        def deploying(kirin_task_id: str, *, patience: float) -> None:
            error = KirinNotFoundError("an HTML page", http_status=404)
            error.from_api = False
            raise error

        gateway.get_task = deploying  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinUnavailableError, match=NAME) as caught:
            submission(gateway, record).run()
        assert caught.value.retryable
        assert gateway.submissions == 1

    def test_a_generation_on_record_is_given_time_to_show(self) -> None:
        gateway, record = ModelGateway(lag=2), ModelRecord()
        submission(gateway, record).run()
        assert submission(gateway, record).run().adopted

    def test_refusals_that_may_pass_are_waited_out_and_leave_no_doubt_behind(self) -> None:
        gateway = ModelGateway(post_fate=fates("429", "connection refused", "ok"))  # type: ignore[arg-type]
        pauses: list[float] = []
        record = ModelRecord()
        submission(gateway, record, sleep=pauses.append).run()
        assert gateway.submissions == 3
        assert len(pauses) == 2
        assert gateway.billed == 1

    def test_a_gateway_that_stays_full_ends_in_its_own_error(self) -> None:
        gateway, record = ModelGateway(post_fate=lambda: "429"), ModelRecord()
        with pytest.raises(KirinRateLimitError):
            submission(gateway, record).run()
        assert record.entries == {}, "nothing was accepted, so the next try has nothing to look for"

    def test_a_refusal_does_not_wipe_out_an_earlier_doubt(self) -> None:
        gateway = ModelGateway()
        record = proven(gateway)
        fate = fates("lost before", *["429"] * 50)
        gateway.post_fate = fate  # type: ignore[assignment]
        with pytest.raises(KirinRateLimitError):
            submission(gateway, record).run()
        assert record.may_have_posted(NAME)

    def test_a_wrong_key_ends_at_once(self) -> None:
        gateway = ModelGateway()

        def refuse(kirin_task_id: str, *, patience: float) -> None:
            raise KirinAuthError("wrong key", http_status=401)

        gateway.get_task = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(KirinAuthError):
            submission(gateway, ModelRecord()).run()
        assert gateway.submissions == 0


class OneStep(RuleBasedStateMachine):
    """Tries of one step, killed and cut off at random, never leave more than one generation that costs money."""

    @initialize(
        has_store=st.booleans(),
        rejects_duplicates=st.booleans(),
        lag=st.integers(0, len(LAG_PAUSES)),
        proof=st.booleans(),
    )
    def start(self, has_store: bool, rejects_duplicates: bool, lag: int, proof: bool) -> None:
        self.gateway = ModelGateway(rejects_duplicates=rejects_duplicates)
        self.record = proven(self.gateway) if proof else ModelRecord()
        self.record.has_store = has_store
        self.gateway.paid_before = len(self.gateway.paid)  # type: ignore[attr-defined]
        self.gateway.lag = lag
        self.got: Submitted | None = None

    @rule(
        posts=st.lists(st.sampled_from(POST_FATES), max_size=4), gets=st.lists(st.sampled_from(GET_FATES), max_size=8)
    )
    def try_once(self, posts: list[str], gets: list[str]) -> None:
        self.gateway.post_fate = fates(*posts)  # type: ignore[assignment]
        self.gateway.get_fate = fates(*gets)  # type: ignore[assignment]
        try:
            self.got = submission(self.gateway, self.record).run()
        except Killed:
            pass
        except KirinUnknownSubmitError as error:
            assert error.external_task_id in str(error)  # noqa: PT017 - it need not be raised
        except KirinError:
            pass
        self.record.try_number += 1

    @precondition(lambda self: self.own and self.own[-1][1].status == "in_progress")
    @rule(status=st.sampled_from(["completed", "failed"]))
    def end(self, status: str) -> None:
        self.gateway.finish(status)

    @property
    def own(self) -> list:
        return [entry for entry in self.gateway.paid if entry[0].startswith(NAME)]

    @invariant()
    def at_most_one_is_billed(self) -> None:
        if hasattr(self, "gateway"):
            assert sum(kirin_task.status != "failed" for _, kirin_task in self.own) <= 1

    @precondition(lambda self: hasattr(self, "gateway"))
    @rule()
    def a_quiet_try_gets_the_paid_one_or_names_the_id(self) -> None:
        self.gateway.post_fate = self.gateway.get_fate = lambda: "ok"
        try:
            got = submission(self.gateway, self.record).run()
        except KirinUnknownSubmitError as error:
            assert NAME in str(error)  # noqa: PT017 - it need not be raised
        else:
            assert got.kirin_task.id == self.own[-1][1].id
        self.record.try_number += 1


OneStep.TestCase.settings = settings(max_examples=200, stateful_step_count=12, deadline=None)
TestOneStep = OneStep.TestCase
