"""What KirinAsyncHook alone does: one session for all that wait. What both hooks do is in test_both_hooks.py."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading
import time
from typing import Any

import pytest
from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinConfigError,
    KirinTimeoutError,
)
from airflow_provider_kirin.hooks import shared_session
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook, KirinHook
from airflow_provider_kirin.hooks.shared_session import SharedSession
from tests.support.emulator import until
from tests.support.waiting import HANG

# "Unclosed client session" comes as a ResourceWarning from a finalizer, which pytest reports as unraisable.
pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]


class TestGetAndWait:
    async def test_results_are_those_of_the_sync_hook(self, conn_id, submit):
        kirin_task_id = submit()
        theirs, ours = KirinHook(conn_id).get_task(kirin_task_id), await KirinAsyncHook(conn_id).get_task(kirin_task_id)
        # Each lookup signs the link again.
        assert [video.job_id for video in theirs.videos] == [video.job_id for video in ours.videos]
        assert {**theirs.to_dict(), "videos": []} == {**ours.to_dict(), "videos": []}

    async def test_a_timeout_counts_from_when_the_waiting_began(self, conn_id, submit):
        kirin_task_id = submit("[[seconds:600]]")
        with pytest.raises(KirinTimeoutError, match=kirin_task_id):
            await KirinAsyncHook(conn_id).wait(kirin_task_id, timeout=3600, started_at=time.time() - 3601)


class TestOneSessionForAll:
    @pytest.fixture(autouse=True)
    def nothing_is_left_open(self):
        yield
        gc.collect()

    async def test_two_hundred_waits_share_a_few_sockets(self, connect, counting_gateway):
        gateway = counting_gateway(in_progress=2)
        conn_id = connect(gateway.url)
        done = await asyncio.gather(
            *(KirinAsyncHook(conn_id).wait(f"one-{n}", timeout=HANG, poll_interval=0.05) for n in range(200))
        )
        assert [kirin_task.id for kirin_task in done] == [f"one-{n}" for n in range(200)]
        assert sum(gateway.asked.values()) == 600
        assert gateway.sockets <= 32
        await asyncio.to_thread(until, lambda: gateway.open_sockets == 0, "all sockets closed")

    async def test_it_stays_open_until_the_last_one_leaves(self, connect, counting_gateway):
        gateway = counting_gateway()
        conn_id = connect(gateway.url)
        async with KirinAsyncHook(conn_id) as first:
            await first.get_task("one")
            async with KirinAsyncHook(conn_id) as second:
                await second.get_task("two")
            # Its own connection went back to the others.
            await first.get_task("three")
            assert (gateway.sockets, gateway.open_sockets) == (1, 1)
        await asyncio.to_thread(until, lambda: gateway.open_sockets == 0, "all sockets closed")

    async def test_after_the_last_one_a_new_one_starts_over(self, connect, counting_gateway):
        gateway = counting_gateway()
        conn_id = connect(gateway.url)
        for number in range(3):
            await KirinAsyncHook(conn_id).get_task(f"one-{number}")
        await asyncio.to_thread(until, lambda: gateway.open_sockets == 0, "all sockets closed")

    async def test_connections_are_not_mixed_up(self, connect, counting_gateway):
        gateways = [counting_gateway(), counting_gateway()]
        ids = [connect(gateway.url, conn_id=f"kirin_{n}", key=f"key-{n}-long") for n, gateway in enumerate(gateways)]
        await asyncio.gather(*(KirinAsyncHook(conn_id).get_task(conn_id) for conn_id in ids * 5))
        assert [set(gateway.asked) for gateway in gateways] == [{"kirin_0"}, {"kirin_1"}]
        assert [gateway.authorizations for gateway in gateways] == [{"Bearer key-0-long"}, {"Bearer key-1-long"}]

    def test_every_event_loop_has_its_own(self, connect, counting_gateway):
        gateway = counting_gateway(in_progress=1)
        conn_id = connect(gateway.url)

        async def several(name):
            hooks = (KirinAsyncHook(conn_id) for _ in range(5))
            await asyncio.gather(
                *(hook.wait(f"{name}-{n}", timeout=HANG, poll_interval=0.05) for n, hook in enumerate(hooks))
            )

        # One after the other in this thread, then at the same time in many.
        asyncio.run(several("a"))
        asyncio.run(several("b"))
        failed = []

        def in_a_thread(name):
            try:
                asyncio.run(several(name))
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=in_a_thread, args=(name,)) for name in "cdef"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert not failed
        assert sum(gateway.asked.values()) == 6 * 5 * 2

    @pytest.mark.parametrize("leaves", [0, 1, 2])
    async def test_a_call_cancelled_while_it_connects_cancels_no_other(self, connect, counting_gateway, leaves):
        gateway = counting_gateway()
        conn_id = connect(gateway.url)
        waits = [asyncio.create_task(KirinAsyncHook(conn_id).wait(f"one-{n}", timeout=HANG)) for n in range(3)]
        await asyncio.sleep(0)
        waits[leaves].cancel()
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(ended.pop(leaves), asyncio.CancelledError)
        assert [kirin_task.status for kirin_task in ended] == ["completed", "completed"]
        await asyncio.to_thread(until, lambda: gateway.open_sockets == 0, "all sockets closed")

    async def test_all_cancelled_while_it_opens_leaves_nothing_open(self, connect, counting_gateway):
        gateway = counting_gateway()
        conn_id = connect(gateway.url)
        waits = [asyncio.create_task(KirinAsyncHook(conn_id).wait(f"one-{n}", timeout=HANG)) for n in range(3)]
        await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        # And it can be opened again, at once.
        assert (await KirinAsyncHook(conn_id).get_task("one")).status == "completed"

    async def test_a_cancelled_call_does_not_wait_for_a_connection_lookup_that_hangs(
        self, connect, counting_gateway, monkeypatch
    ):
        """The lookup itself is not cancelled, which would confuse a triggerer's requests to its supervisor."""
        conn_id, look_up = connect(counting_gateway().url), shared_session.look_up_connection
        began, may_end, ended = asyncio.Event(), asyncio.Event(), []

        async def hanging(conn_id: str) -> Any:
            began.set()
            await may_end.wait()
            ended.append(await look_up(conn_id))
            return ended[0]

        monkeypatch.setattr(shared_session, "look_up_connection", hanging)
        calls = []
        for _ in range(5):
            calls.append(asyncio.create_task(KirinAsyncHook(conn_id).get_task("one")))
            await began.wait()
            await asyncio.sleep(0)
            calls[-1].cancel()
            for _ in range(50):
                await asyncio.sleep(0)
        were_cancelled = [call.cancelled() for call in calls]
        (shared,) = SharedSession._open[asyncio.get_running_loop()].values()
        may_end.set()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=HANG)
        assert all(were_cancelled)
        assert len(ended) == 1, "later calls join the lookup"
        assert shared.session.closed and not SharedSession._open[asyncio.get_running_loop()]

    async def test_a_lookup_that_hangs_for_long_is_not_joined(self, connect, counting_gateway, monkeypatch):
        conn_id, look_up = connect(counting_gateway().url), shared_session.look_up_connection
        began, may_end = asyncio.Event(), asyncio.Event()

        async def hanging(conn_id: str) -> Any:
            began.set()
            await may_end.wait()
            return await look_up(conn_id)

        monkeypatch.setattr(shared_session, "look_up_connection", hanging)
        first = asyncio.create_task(KirinAsyncHook(conn_id).get_task("one"))
        await began.wait()
        monkeypatch.setattr(shared_session, "look_up_connection", look_up)
        monkeypatch.setattr(shared_session, "MAX_LOOKUP_SECONDS", 0.0)
        assert (await KirinAsyncHook(conn_id).get_task("one")).status == "completed"
        may_end.set()
        assert (await first).status == "completed"
        assert not SharedSession._open[asyncio.get_running_loop()]

    @pytest.mark.parametrize("rounds", [1, 2, 3, 5, 8])
    async def test_a_call_cancelled_twice_leaves_nothing_open(self, connect, counting_gateway, rounds):
        conn_id = connect(counting_gateway().url)
        wait = asyncio.create_task(KirinAsyncHook(conn_id).wait("one", timeout=HANG))
        for _ in range(2):
            for _ in range(rounds):
                await asyncio.sleep(0)
            wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=HANG)
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_call_cancelled_while_it_polls_cancels_no_other(self, conn_id, emulator, submit):
        first, second = submit(), submit("[[seconds:1]]")
        emulator.fault(on="get", kind="hold", match=first)
        held = asyncio.create_task(KirinAsyncHook(conn_id).wait(first, timeout=HANG))
        other = asyncio.create_task(KirinAsyncHook(conn_id).wait(second, timeout=HANG, poll_interval=0.1))
        await asyncio.to_thread(until, lambda: emulator.call("GET", "/emulator/held")["held"], "one is held")
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        assert (await other).status == "completed"

    async def test_an_unusable_connection_fails_all_and_can_be_repaired(self, connect, counting_gateway):
        gateway = counting_gateway()
        conn_id = connect(gateway.url, key=None)
        ended = await asyncio.gather(
            *(KirinAsyncHook(conn_id).get_task("one") for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(end, KirinConfigError) and "no API key" in str(end) for end in ended)
        connect(gateway.url)
        assert (await KirinAsyncHook(conn_id).get_task("one")).status == "completed"

    async def test_a_connection_lookup_that_fails_at_first_fails_no_wait(self, connect, counting_gateway):
        gateway = counting_gateway()
        asyncio.get_running_loop().call_later(0.2, lambda: connect(gateway.url, conn_id="late"))
        found = await asyncio.gather(*(KirinAsyncHook("late").get_task("one") for _ in range(20)))
        assert {kirin_task.status for kirin_task in found} == {"completed"}

    async def test_a_connection_that_can_no_longer_be_looked_up_keeps_working(
        self, connect, counting_gateway, monkeypatch
    ):
        conn_id = connect(counting_gateway().url)
        monkeypatch.setattr("airflow_provider_kirin.hooks.shared_session.CONNECTION_TTL", 0.0)
        async with KirinAsyncHook(conn_id):
            monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
            assert (await KirinAsyncHook(conn_id).get_task("one")).status == "completed"


class TestSettings:
    async def test_requests_per_second_is_kept_by_all_together(self, connect, counting_gateway):
        conn_id = connect(counting_gateway().url, requests_per_second=20)
        began = time.monotonic()
        async with KirinAsyncHook(conn_id):
            await asyncio.gather(*(KirinAsyncHook(conn_id).get_task(f"one-{n}") for n in range(11)))
        assert time.monotonic() - began > 0.49


class TestOneHookForMany:
    async def test_coroutines_share_one_hook(self, conn_id, submit):
        """As users will write it: one hook, gathered waits, no context manager."""
        hook, ids = KirinAsyncHook(conn_id), [submit(f"[[seconds:{seconds}]]") for seconds in (0.1, 0.5, 0.9)]
        done = await asyncio.gather(*(hook.wait(one, timeout=HANG, poll_interval=0.1) for one in ids))
        assert [kirin_task.id for kirin_task in done] == ids
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_changed_key_is_read_again(self, connect, submit, emulator):
        kirin_task_id = submit()
        conn_id = connect(emulator.url, key="an-old-key")
        async with KirinAsyncHook(conn_id) as waiting, KirinAsyncHook(conn_id) as other:
            connect(emulator.url)
            found = await asyncio.gather(waiting.get_task(kirin_task_id), waiting.get_task(kirin_task_id))
            assert {kirin_task.id for kirin_task in found} == {kirin_task_id}
            assert (await other.get_task(kirin_task_id)).id == kirin_task_id
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_changed_key_does_not_fail_calls_that_wait_for_their_turn(self, connect, submit, emulator):
        kirin_task_id = submit()
        conn_id = connect(emulator.url, key="an-old-key", requests_per_second=20)
        async with KirinAsyncHook(conn_id) as waiting:
            connect(emulator.url, requests_per_second=20)
            found = await asyncio.gather(*(waiting.get_task(kirin_task_id) for _ in range(8)))
        assert {kirin_task.id for kirin_task in found} == {kirin_task_id}
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_backend_with_a_key_for_each_lookup_is_asked_again_once(self, conn_id, submit, monkeypatch):
        kirin_task_id, numbers = submit(), itertools.count()
        read = EnvironmentVariablesBackend.get_conn_value

        def another(*args, **how):
            return json.dumps(json.loads(read(*args, **how)) | {"password": f"wrong-key-{next(numbers)}"})

        monkeypatch.setattr(EnvironmentVariablesBackend, "get_conn_value", another)
        async with asyncio.timeout(HANG):
            with pytest.raises(KirinAuthError):
                await KirinAsyncHook(conn_id).get_task(kirin_task_id)
        assert next(numbers) == 3
