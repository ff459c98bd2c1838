"""The table of faults. Each act begins a run and injects a fault at one marked moment; its docstring says when."""

from __future__ import annotations

import signal

from tests.support.system.deployment import TRIGGERERS
from tests.support.system.processes import gone, parent_of, send
from tests.support.system.stage import Expected, Scenario, Stage
from tests.support.waiting import until

TASK = "/generation/task/"
#: Seconds of a generation that has to run on until the act ends it.
ENDLESS = 3600


def _paid(stage: Stage, count: int = 1) -> None:
    """Wait until the gateway has accepted this many generations of this run."""
    until(lambda: len(stage.gateway.generations()) >= stage.known + count, "a generation is accepted")


# A worker dies ----------------------------------------------------------------------------------------------------


def killed_before_the_post(stage: Stage) -> None:
    stage.gateway.fault("get", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_task()


def worker_killed_before_the_post(stage: Stage) -> None:
    stage.gateway.fault("get", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_worker()


def killed_with_the_request_half_sent(stage: Stage) -> None:
    reached = stage.proxy.stall(b"POST ", after=2000)
    stage.begin()
    until(reached.is_set, "half the request is sent")
    stage.kill_task()


def killed_while_the_post_hangs(stage: Stage) -> None:
    stage.gateway.fault("submit", "hang")
    stage.begin()
    until(lambda: _hangs(stage), "the POST is sent")
    stage.kill_task()


def killed_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_task()


def worker_killed_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_worker()


def supervisor_killed_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_worker(supervisor_only=True)
    # The orphaned task gets its response, and nothing receives it.
    stage.gateway.release()


def _response_that_nobody_stores(stage: Stage) -> tuple[int, int]:
    """Let the task read its response while its supervisor, which stores for it, is stopped."""
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    task = stage.pid()
    supervisor = parent_of(task)
    stage.freeze(supervisor)
    stage.gateway.release()
    until(lambda: stage.gateway.asked("POST", fault="hold"), "the response is sent")
    stage.rest(task)
    return task, supervisor


def worker_killed_with_the_response_not_stored(stage: Stage) -> None:
    _response_that_nobody_stores(stage)
    stage.kill_worker()


def killed_while_the_response_is_stored(stage: Stage) -> None:
    _, supervisor = _response_that_nobody_stores(stage)
    stage.kill_task()
    stage.thaw(supervisor)


def killed_after_the_response_was_stored(stage: Stage) -> None:
    stage.begin()
    _paid(stage)
    asked = stage.gateway.asked("GET", TASK, status=200)
    until(lambda: stage.gateway.asked("GET", TASK, status=200) > asked, "it waits in the worker")
    stage.kill_task()
    stage.gateway.finish()


def killed_after_storing_without_a_lookup(stage: Stage) -> None:
    killed_after_the_response_was_stored(stage)


def late_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold", after=False)
    stage.begin()
    stage.gateway.held()
    stage.kill_task()
    # The first POST was stuck on the way. It arrives after the retry has submitted.
    _paid(stage)
    stage.gateway.release()


def late_acceptance_while_looking(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold", after=False)
    stage.begin()
    stage.gateway.held()
    stage.kill_task()
    stage.saw("looking it up before submitting anything")
    stage.gateway.release()


def killed_before_the_download(stage: Stage) -> None:
    stage.gateway.fault("video", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_task(stage.downloader)


def killed_in_the_download(stage: Stage) -> None:
    reached = stage.proxy.stall(b"GET /cdn/", after=20_000, response=True)
    stage.begin()
    until(reached.is_set, "half the video is there")
    stage.kill_task(stage.downloader)


def worker_killed_on_resume(stage: Stage) -> None:
    stage.gateway.fault("video", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_worker(stage.downloader)


def one_of_three_mapped_killed(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold", times=3)
    stage.begin()
    stage.gateway.held(3)
    stage.kill_task(map_index=1)
    stage.gateway.release()


def whim_killed_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.kill_task()


def payload_differs_after_acceptance(stage: Stage) -> None:
    killed_after_acceptance(stage)


def payload_differs_after_a_hanging_post(stage: Stage) -> None:
    killed_while_the_post_hangs(stage)


def payload_differs_after_storing_without_a_lookup(stage: Stage) -> None:
    killed_after_the_response_was_stored(stage)


# Two attempts at once ---------------------------------------------------------------------------------------------


def _frozen(stage: Stage) -> tuple[int, int]:
    task = stage.pid()
    both = (task, parent_of(task))
    stage.freeze(*both)
    return both


def zombie_wakes_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    both = _frozen(stage)
    until(lambda: stage.ti()["state"] == "success", "its replacement has done it")
    stage.gateway.release()
    stage.thaw(*both)
    until(lambda: gone(both[0]), "the zombie has ended")


def zombie_wakes_before_its_post(stage: Stage) -> None:
    stage.gateway.fault("get", "hold")
    stage.begin()
    stage.gateway.held()
    both = _frozen(stage)
    until(lambda: stage.ti()["state"] == "success", "its replacement has done it")
    stage.gateway.release()
    stage.thaw(*both)
    until(lambda: gone(both[0]), "the zombie has ended")


# The network and the gateway --------------------------------------------------------------------------------------


def response_lost(stage: Stage) -> None:
    stage.gateway.fault("submit", "lose_response")
    stage.begin()


def response_lost_with_an_own_id(stage: Stage) -> None:
    stage.gateway.fault("submit", "lose_response")
    stage.begin()


def response_lost_behind_a_proxy(stage: Stage) -> None:
    stage.gateway.fault("submit", "lose_response")
    stage.begin()


def response_cut_in_the_middle(stage: Stage) -> None:
    stage.gateway.fault("submit", "cut_mid_response")
    stage.begin()


def accepted_and_502(stage: Stage) -> None:
    stage.gateway.fault("submit", "accepted_status", status=502)
    stage.begin()


def accepted_and_504(stage: Stage) -> None:
    stage.gateway.fault("submit", "accepted_status", status=504)
    stage.begin()


def accepted_and_504_with_a_rate_limits_code(stage: Stage) -> None:
    stage.gateway.fault("submit", "accepted_status", status=504, body={"error": {"code": 1302, "message": "too many"}})
    stage.begin()


def accepted_and_400_with_a_failures_code(stage: Stage) -> None:
    body = {"error": {"code": "8002005098", "message": "generation process failed"}}
    stage.gateway.fault("submit", "accepted_status", status=400, body=body)
    stage.begin()


def accepted_under_another_id(stage: Stage) -> None:
    stage.gateway.fault("submit", "accepted_status", status=200, body={"id": "nobodys", "status": "in_progress"})
    stage.begin()


def lookup_finds_another_generation(stage: Stage) -> None:
    another = {"id": "bobs", "status": "completed", "external_task_id": "bob-1", "output": []}
    stage.gateway.fault("get", "garbage", body=another, times=3, skip=1)
    stage.gateway.fault("submit", "lose_response")
    stage.begin()


def not_accepted_and_503(stage: Stage) -> None:
    stage.gateway.fault("submit", "status", status=503)
    stage.begin()


def cut_before_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "cut_before")
    stage.begin()


def cut_before_acceptance_in_mapped(stage: Stage) -> None:
    stage.gateway.fault("submit", "cut_before", times=3)
    stage.begin()


def cut_before_acceptance_in_a_dated_run(stage: Stage) -> None:
    stage.gateway.fault("submit", "cut_before")
    stage.begin(is_dated=True)


def too_many_requests(stage: Stage) -> None:
    stage.gateway.fault("submit", "status", status=429, retry_after=2, times=2)
    stage.begin()


def accepted_and_timed_out(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()


def lookup_lags_after_a_lost_response(stage: Stage) -> None:
    stage.gateway.fault("submit", "lag", seconds=5)
    stage.proxy.stall(b"POST ", after=0, response=True, cut=True)
    stage.begin()


def lookup_fails_after_a_lost_response(stage: Stage) -> None:
    stage.gateway.fault("get", "status", status=503, times=4, skip=1)
    stage.gateway.fault("submit", "lose_response")
    stage.begin()


def gateway_down(stage: Stage) -> None:
    stage.gateway.kill()
    stage.begin()
    stage.saw("Lookup failed; retrying")
    stage.gateway.start()


def gateway_killed_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.gateway.kill()
    stage.gateway.start()


def download_cut(stage: Stage) -> None:
    stage.gateway.fault("video", "cut_mid_response")
    stage.begin()


def lookup_unusable(stage: Stage) -> None:
    stage.gateway.fault("submit", "lose_response")
    stage.begin()


def first_run_ever_and_no_proof(stage: Stage) -> None:
    stage.gateway.fault("submit", "cut_before")
    stage.begin()


# Airflow's own ways -----------------------------------------------------------------------------------------------


def cleared_while_submitting(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.airflow.clear(stage.dag_id, stage.run_id, [stage.submitter])
    until(lambda: stage.ti()["try_number"] > 1, "the next try begins")


def cleared_while_deferred(stage: Stage) -> None:
    stage.begin()
    stage.wait_for_state("deferred")
    stage.airflow.clear(stage.dag_id, stage.run_id, [stage.submitter])
    stage.gateway.finish()


def cleared_without_a_lookup(stage: Stage) -> None:
    cleared_after_success(stage)


def whim_cleared_after_success(stage: Stage) -> None:
    cleared_after_success(stage)


def cleared_after_success(stage: Stage) -> None:
    stage.begin()
    assert stage.wait_for_end() == "success"
    stage.airflow.clear(stage.dag_id, stage.run_id)
    until(lambda: stage.ti()["try_number"] > 1, "the next try begins")


def cleared_with_another_payload(stage: Stage) -> None:
    cleared_after_success(stage)


def execution_timeout_in_the_post(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()


def wait_times_out(stage: Stage) -> None:
    stage.begin()
    until(lambda: stage.ti()["try_number"] > 1, "the next try begins")
    stage.gateway.finish()


def generation_fails_and_is_cleared(stage: Stage) -> None:
    hidden = stage.image.rename(stage.image.with_suffix(".hidden"))
    stage.begin()
    assert stage.wait_for_end() == "failed"
    hidden.rename(stage.image)
    stage.airflow.clear(stage.dag_id, stage.run_id)
    until(lambda: stage.ti()["try_number"] > 1, "the next try begins")


def triggerer_killed(stage: Stage) -> None:
    stage.begin()
    victim = _holder(stage)
    stage.airflow.parts[victim].kill()
    # The other one takes over; only then the dead one comes back.
    until(lambda: _holder(stage) != victim, "the other triggerer holds it")
    stage.airflow.parts[victim].start()
    until(stage.airflow.is_healthy, "both triggerers live")
    stage.gateway.finish()


def both_triggerers_killed(stage: Stage) -> None:
    stage.begin()
    _holder(stage)
    _kill_triggerers(stage)
    stage.gateway.finish()


def _wait_for_a_place(stage: Stage) -> None:
    """Begin with an account that is full once, and return when the task waits in the triggerer."""
    body = {"error": {"code": 1303, "message": "parallel task over resource pack limit"}}
    stage.gateway.fault("submit", "status", status=429, body=body)
    stage.begin()
    stage.saw("Waiting for a place")
    # The trigger may be slower than the wait is long: then the line has nothing to say.
    _holder(stage)


def both_triggerers_killed_while_waiting_for_a_place(stage: Stage) -> None:
    _wait_for_a_place(stage)
    _kill_triggerers(stage)


def killed_when_submitting_again(stage: Stage) -> None:
    _wait_for_a_place(stage)
    stage.gateway.fault("get", "hold")
    stage.gateway.held()
    stage.kill_task()


def cleared_while_waiting_for_a_place(stage: Stage) -> None:
    _wait_for_a_place(stage)
    stage.airflow.clear(stage.dag_id, stage.run_id, [stage.submitter])


def _kill_triggerers(stage: Stage) -> None:
    """Kill both triggerers, and start them again."""
    for name in TRIGGERERS:
        stage.airflow.parts[name].kill()
    for name in TRIGGERERS:
        stage.airflow.parts[name].start()
    until(stage.airflow.is_healthy, "both triggerers live")


def _holder(stage: Stage) -> str:
    """Return the triggerer that holds the task's trigger."""

    def look() -> str:
        ti = stage.ti(stage.waiter)
        return str((ti["triggerer_job"] or {}).get("hostname") or "") if ti["state"] == "deferred" else ""

    return until(look, "a triggerer holds the trigger")


def scheduler_killed_while_submitting(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.airflow.parts["scheduler"].kill(descendants=False)
    stage.gateway.release()
    stage.airflow.parts["scheduler"].start()
    until(stage.airflow.is_healthy, "the scheduler lives")


def scheduler_and_workers_killed_while_submitting(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    lost = [stage.airflow.parts[name] for name in ("scheduler", *stage.airflow.workers)]
    for part in lost:
        part.kill()
    for part in lost:
        part.start()
    until(stage.airflow.is_healthy, "the scheduler lives")


def scheduler_killed_while_deferred(stage: Stage) -> None:
    stage.begin()
    _holder(stage)
    stage.airflow.parts["scheduler"].kill()
    stage.airflow.parts["scheduler"].start()
    until(stage.airflow.is_healthy, "the scheduler lives")
    stage.gateway.finish()


def api_server_down_when_the_response_comes(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    stage.airflow.parts["api-server"].kill()
    stage.gateway.release()
    until(lambda: stage.gateway.asked("POST", fault="hold"), "the response is sent")
    stage.airflow.parts["api-server"].start()
    until(stage.airflow.is_healthy, "the API server answers")


# Celery's own ways ------------------------------------------------------------------------------------------------


def celery_worker_killed_after_acceptance(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    part = stage.airflow.parts[stage.ti()["hostname"]]
    part.kill()
    until(lambda: stage.ti()["state"] == "success", "another worker has done it")
    part.start()


def message_redelivered_while_submitting(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    # Redis hands the task out again while it runs, as to a worker that it takes for lost.
    ignored = "Task already running elsewhere, ignoring redelivered message"
    until(lambda: any(ignored in stage.airflow.parts[name].tail(100_000) for name in stage.airflow.workers), ignored)
    stage.gateway.release()


def celery_worker_shut_down_while_submitting(stage: Stage) -> None:
    stage.gateway.fault("submit", "hold")
    stage.begin()
    stage.gateway.held()
    part = stage.airflow.parts[stage.ti()["hostname"]]
    # As a deployment does that replaces its workers: it takes nothing new, and waits for what it has.
    send(part.pid, signal.SIGTERM)
    stage.gateway.release()
    stage.wait_for_end()
    until(lambda: gone(part.pid), "the worker has ended")
    part.start()


def _hangs(stage: Stage) -> bool:
    """Return whether the fault that waits for the POST was met: a request that hangs is in no journal yet."""
    return not stage.gateway.emulator.call("GET", "/emulator/faults")["faults"]


AGAIN = Expected(tries=2)
ADOPTS = Expected(tries=2, says=("Adopting it at no further cost",))
DIFFERS = Expected(tries=2, says=("external_task_id of this try differs. Adopting it at no further cost",))
FINDS = Expected(says=("Adopting it at no further cost",))

SCENARIOS = (
    Scenario(title="task killed before the POST", act=killed_before_the_post, expected=AGAIN),
    Scenario(
        title="worker (task and supervisor) killed before the POST", act=worker_killed_before_the_post, expected=AGAIN
    ),
    Scenario(
        title="task killed with the request half sent", act=killed_with_the_request_half_sent, warm=True, expected=AGAIN
    ),
    Scenario(
        title="task killed while the POST hangs; never accepted",
        act=killed_while_the_post_hangs,
        warm=True,
        expected=AGAIN,
    ),
    Scenario(title="task killed after acceptance, before the response", act=killed_after_acceptance, expected=ADOPTS),
    Scenario(
        title="worker killed after acceptance, before the response", act=worker_killed_after_acceptance, expected=ADOPTS
    ),
    Scenario(
        title="supervisor alone killed after acceptance; its orphan continues",
        act=supervisor_killed_after_acceptance,
        expected=ADOPTS,
    ),
    Scenario(
        title="worker killed with the response read and nothing stored",
        act=worker_killed_with_the_response_not_stored,
        expected=ADOPTS,
    ),
    Scenario(
        title="task killed while its supervisor stores the response",
        act=killed_while_the_response_is_stored,
        expected=ADOPTS,
    ),
    Scenario(
        title="task killed after the response was stored, waiting in the worker",
        act=killed_after_the_response_was_stored,
        shape="generate",
        options={"deferrable": False},
        seconds=ENDLESS,
        expected=ADOPTS,
    ),
    Scenario(
        title="task killed after the response was stored, where the lookup does not work",
        act=killed_after_storing_without_a_lookup,
        shape="generate",
        emulator=("--no-external-lookup",),
        options={"deferrable": False},
        seconds=ENDLESS,
        expected=ADOPTS,
    ),
    Scenario(
        title="POST stuck on the way, accepted after the retry has submitted",
        act=late_acceptance,
        duplicates="reject",
        warm=True,
        expected=AGAIN,
    ),
    Scenario(
        title="POST stuck on the way, accepted while the retry looks it up",
        act=late_acceptance_while_looking,
        warm=True,
        expected=ADOPTS,
    ),
    Scenario(title="task killed before the download", act=killed_before_the_download),
    Scenario(
        title="resumed operator killed in the download", act=killed_in_the_download, shape="generate", expected=ADOPTS
    ),
    Scenario(
        title="resumed operator's worker killed before the download",
        act=worker_killed_on_resume,
        shape="generate",
        expected=ADOPTS,
    ),
    Scenario(
        title="one of three mapped submits killed after acceptance",
        act=one_of_three_mapped_killed,
        shape="mapped",
        expected=Expected(paid=3, tries=2),
    ),
    Scenario(
        title="`@task.kirin` whose prompt differs on each try: killed after acceptance",
        act=whim_killed_after_acceptance,
        shape="taskflow",
        expected=ADOPTS,
    ),
    Scenario(
        title="the payload differs on each try (`now()` in the prompt): task killed after acceptance",
        act=payload_differs_after_acceptance,
        differs=True,
        expected=DIFFERS,
    ),
    Scenario(
        title="the payload differs on each try: task killed while the POST hangs; never accepted",
        act=payload_differs_after_a_hanging_post,
        differs=True,
        warm=True,
        expected=AGAIN,
    ),
    Scenario(
        title="the payload differs on each try: killed after the response was stored, where the lookup does not work",
        act=payload_differs_after_storing_without_a_lookup,
        shape="generate",
        emulator=("--no-external-lookup",),
        options={"deferrable": False},
        seconds=ENDLESS,
        differs=True,
        expected=DIFFERS,
    ),
    Scenario(
        title="zombie wakes after its replacement has adopted", act=zombie_wakes_after_acceptance, expected=ADOPTS
    ),
    Scenario(
        title="zombie wakes before its own POST, after its replacement has submitted",
        act=zombie_wakes_before_its_post,
        duplicates="reject",
        expected=AGAIN,
    ),
    Scenario(title="response lost", act=response_lost, expected=FINDS),
    Scenario(
        title="response lost, with the user's own `external_task_id`",
        act=response_lost_with_an_own_id,
        options={"external_task_id": "order-{{ run_id }}"},
        expected=FINDS,
    ),
    Scenario(
        title="response lost behind an HTTP proxy", act=response_lost_behind_a_proxy, behind_proxy=True, expected=FINDS
    ),
    Scenario(title="response cut in the middle", act=response_cut_in_the_middle, expected=FINDS),
    Scenario(title="502 after acceptance", act=accepted_and_502, expected=FINDS),
    Scenario(title="504 after acceptance", act=accepted_and_504, expected=FINDS),
    Scenario(
        title="504 after acceptance, with the code of a rate limit in its body",
        act=accepted_and_504_with_a_rate_limits_code,
        expected=FINDS,
    ),
    Scenario(
        title="400 after acceptance, with the code of a generation that failed",
        act=accepted_and_400_with_a_failures_code,
        expected=FINDS,
    ),
    Scenario(title="503 before acceptance", act=not_accepted_and_503, warm=True),
    Scenario(title="connection cut before acceptance", act=cut_before_acceptance, warm=True),
    Scenario(
        title="connection cut before acceptance, in three mapped submits",
        act=cut_before_acceptance_in_mapped,
        warm=True,
        shape="mapped",
        expected=Expected(paid=3),
    ),
    Scenario(
        title="connection cut before acceptance, in a run with a logical date",
        act=cut_before_acceptance_in_a_dated_run,
        warm=True,
    ),
    Scenario(title="429 with Retry-After, twice", act=too_many_requests),
    Scenario(
        title="account full; killed when it submits again",
        act=killed_when_submitting_again,
        shape="generate",
        expected=Expected(tries=2, says=("Waiting for a place",)),
    ),
    Scenario(
        title="account full; cleared while waiting for a place",
        act=cleared_while_waiting_for_a_place,
        shape="generate",
        expected=Expected(tries=2, says=("Waiting for a place",)),
    ),
    Scenario(
        title="accepted, and no response within the client's timeout",
        act=accepted_and_timed_out,
        timeout=2,
        expected=FINDS,
    ),
    Scenario(title="response lost, and the lookup lags 5 s", act=lookup_lags_after_a_lost_response, expected=FINDS),
    Scenario(
        title="response lost, and the lookup returns 503 for a while",
        act=lookup_fails_after_a_lost_response,
        expected=FINDS,
    ),
    Scenario(
        title="response lost, and the lookup returns somebody else's generation for a while",
        act=lookup_finds_another_generation,
        expected=FINDS,
    ),
    Scenario(
        title="accepted, and the response has an id that the gateway does not know",
        act=accepted_under_another_id,
        shape="generate",
        expected=ADOPTS,
    ),
    Scenario(title="gateway down (connection refused), then back", act=gateway_down),
    Scenario(title="gateway killed after acceptance, then back", act=gateway_killed_after_acceptance, expected=FINDS),
    Scenario(title="download cut in the middle", act=download_cut),
    Scenario(
        title="response lost, where the lookup does not work (stops)",
        act=lookup_unusable,
        warm=True,
        emulator=("--no-external-lookup",),
        expected=Expected(state="failed", says=("may bill, a generation with the external task id airflow-",)),
    ),
    Scenario(
        title="connection cut before acceptance, first run ever: nothing to verify the lookup with (stops)",
        act=first_run_ever_and_no_proof,
        expected=Expected(state="failed", paid=0, says=("may bill, a generation with the external task id airflow-",)),
    ),
    Scenario(title="cleared while submitting, after acceptance", act=cleared_while_submitting, expected=ADOPTS),
    Scenario(
        title="cleared while deferred", act=cleared_while_deferred, shape="generate", seconds=ENDLESS, expected=ADOPTS
    ),
    Scenario(title="whole run cleared after success", act=cleared_after_success, expected=ADOPTS),
    Scenario(
        title="`@task.kirin` whose prompt differs on each try: whole run cleared after success",
        act=whim_cleared_after_success,
        shape="taskflow",
        expected=ADOPTS,
    ),
    Scenario(
        title="whole run cleared after success, where the lookup does not work",
        act=cleared_without_a_lookup,
        emulator=("--no-external-lookup",),
        expected=ADOPTS,
    ),
    Scenario(
        title="whole run cleared after success, with another payload: a person may pay again",
        act=cleared_with_another_payload,
        differs=True,
        expected=Expected(
            paid=2, left=1, tries=2, says=("a new generation is submitted. Submitted before: Kirin gen",)
        ),
    ),
    Scenario(
        title="generation failed (its image could not be fetched); fixed and cleared",
        act=generation_fails_and_is_cleared,
        shape="generate",
        seconds=5,
        image_url=True,
        expected=Expected(failed=1, tries=2),
    ),
    Scenario(
        title="execution_timeout in the POST, after acceptance",
        act=execution_timeout_in_the_post,
        options={"execution_timeout": 20},
        expected=ADOPTS,
    ),
    Scenario(
        title="wait times out; the retry continues to wait",
        act=wait_times_out,
        shape="generate",
        options={"timeout": 3},
        seconds=ENDLESS,
        expected=ADOPTS,
    ),
    Scenario(
        title="triggerer killed while it waits for the sensor; another takes over",
        act=triggerer_killed,
        seconds=ENDLESS,
        alone=True,
    ),
    Scenario(
        title="both triggerers killed and restarted, operator deferred",
        act=both_triggerers_killed,
        shape="generate",
        seconds=ENDLESS,
        alone=True,
    ),
    Scenario(
        title="account full; both triggerers killed and restarted while waiting for a place",
        act=both_triggerers_killed_while_waiting_for_a_place,
        shape="generate",
        alone=True,
        expected=Expected(says=("Submitting again",)),
    ),
    Scenario(
        title="scheduler killed while submitting; its workers continue",
        act=scheduler_killed_while_submitting,
        alone=True,
    ),
    Scenario(
        title="scheduler and all workers killed after acceptance",
        act=scheduler_and_workers_killed_while_submitting,
        alone=True,
        expected=ADOPTS,
    ),
    Scenario(
        title="scheduler killed while deferred",
        act=scheduler_killed_while_deferred,
        shape="generate",
        seconds=ENDLESS,
        alone=True,
    ),
    Scenario(title="API server down when the response comes", act=api_server_down_when_the_response_comes, alone=True),
)

CELERY_SCENARIOS = (
    Scenario(
        title="Celery worker lost with everything it was running, after acceptance",
        act=celery_worker_killed_after_acceptance,
        alone=True,
        expected=ADOPTS,
    ),
    Scenario(
        title="Celery worker shut down while submitting; it finishes its tasks",
        act=celery_worker_shut_down_while_submitting,
        alone=True,
    ),
    Scenario(
        title="message redelivered by Redis while the task submits",
        act=message_redelivered_while_submitting,
        alone=True,
    ),
)
#: Those in which the executor has a part, played on Celery's workers in each run of the tests; `make faults-celery`
#: plays all.
WITH_A_PART_OF_THE_EXECUTOR = frozenset(
    {
        "cleared_while_submitting",
        "killed_after_acceptance",
        "one_of_three_mapped_killed",
        "scheduler_and_workers_killed_while_submitting",
        "supervisor_killed_after_acceptance",
        "worker_killed_after_acceptance",
        "worker_killed_on_resume",
        "zombie_wakes_after_acceptance",
    }
)
