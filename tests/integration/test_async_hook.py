"""KirinAsyncHook over real sockets: the same promises as KirinHook's, and one session for all that wait."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import socket
import threading
import time
import tracemalloc
from dataclasses import replace

import pytest

from airflow_provider_kirin.connection import read_connection
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinConfigError,
    KirinError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinTaskFailedError,
    KirinTimeoutError,
)
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook, KirinHook
from airflow_provider_kirin.hooks.shared_session import SharedSession
from tests.support.emulator import KEY, until
from tests.support.leftovers import everything_shown
from tests.support.raw_server import TASK, WAYS, gzip_bomb, replying, whole
from tests.support.waiting import HANG

# "Unclosed client session" comes as a ResourceWarning from a finalizer, which pytest reports as unraisable.
pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def submitted(conn_id, image_file):
    """Submit a generation; returns its id."""
    hook = KirinHook(conn_id)
    yield lambda prompt="": hook.submit({"image": image_file, "prompt": prompt or "A prompt."}).id
    hook.close()


class TestGetAndWait:
    async def test_a_look(self, conn_id, submitted):
        kirin_task_id = submitted()
        assert (await KirinAsyncHook(conn_id).get_task(kirin_task_id)).id == kirin_task_id

    async def test_until_there_is_a_video(self, conn_id, submitted):
        done = await KirinAsyncHook(conn_id).wait(submitted("[[seconds:0.4]]"), timeout=HANG, poll_interval=0.1)
        assert done.status == "completed" and len(done.videos) == 1

    async def test_it_says_what_the_sync_hook_says(self, conn_id, submitted):
        kirin_task_id = submitted()
        theirs, ours = KirinHook(conn_id).get_task(kirin_task_id), await KirinAsyncHook(conn_id).get_task(kirin_task_id)
        # Each look signs the link anew.
        assert [video.job_id for video in theirs.videos] == [video.job_id for video in ours.videos]
        assert {**theirs.to_dict(), "videos": []} == {**ours.to_dict(), "videos": []}

    async def test_a_failure(self, conn_id, submitted):
        with pytest.raises(KirinTaskFailedError, match="8002005098"):
            await KirinAsyncHook(conn_id).wait(submitted("[[fail:8002005098]]"), timeout=HANG)

    async def test_a_timeout_counts_from_when_the_waiting_began(self, conn_id, submitted):
        kirin_task_id = submitted("[[seconds:600]]")
        with pytest.raises(KirinTimeoutError, match=kirin_task_id):
            await KirinAsyncHook(conn_id).wait(kirin_task_id, timeout=3600, started_at=time.time() - 3601)

    async def test_an_unknown_id(self, conn_id):
        with pytest.raises(KirinNotFoundError):
            await KirinAsyncHook(conn_id).wait("no-such-generation", timeout=1)

    async def test_netrc_does_not_replace_the_key(self, connect, counting_gateway, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login any password body\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        gateway = counting_gateway()
        await KirinAsyncHook(connect(gateway.url)).get_task("one")
        assert gateway.authorizations == {f"Bearer {KEY}"}


class TestOneSessionForAll:
    @pytest.fixture(autouse=True)
    def nothing_is_left_open(self):
        yield
        gc.collect()

    async def test_two_hundred_waits_share_a_few_sockets(self, connect, counting_gateway):
        gateway = counting_gateway(looks=2)
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

    async def test_after_the_last_one_a_new_one_begins_anew(self, connect, counting_gateway):
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
        gateway = counting_gateway(looks=1)
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
    async def test_who_is_cancelled_while_it_opens_takes_nobody_along(self, connect, counting_gateway, leaves):
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

    @pytest.mark.parametrize("rounds", [1, 2, 3, 5, 8])
    async def test_who_is_cancelled_twice_leaves_nothing_open(self, connect, counting_gateway, rounds):
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

    async def test_who_is_cancelled_while_it_asks_takes_nobody_along(self, conn_id, emulator, submitted):
        first, second = submitted(), submitted("[[seconds:1]]")
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

    async def test_a_missing_connection_is_named(self, kirin_fast_retries):
        with pytest.raises(KirinConfigError, match="no_such_connection") as caught:
            await KirinAsyncHook("no_such_connection").get_task("one")
        # Airflow says the same where a secrets backend could not be asked.
        assert caught.value.retryable

    async def test_a_connection_that_cannot_be_looked_up_at_first_fails_nobody(self, connect, counting_gateway):
        gateway = counting_gateway()
        asyncio.get_running_loop().call_later(0.2, lambda: connect(gateway.url, conn_id="late"))
        found = await asyncio.gather(*(KirinAsyncHook("late").get_task("one") for _ in range(20)))
        assert {kirin_task.status for kirin_task in found} == {"completed"}

    async def test_a_connection_that_can_no_more_be_looked_up_goes_on_working(
        self, connect, counting_gateway, monkeypatch
    ):
        conn_id = connect(counting_gateway().url)
        monkeypatch.setattr("airflow_provider_kirin.hooks.shared_session.CONNECTION_TTL", 0.0)
        async with KirinAsyncHook(conn_id):
            monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
            assert (await KirinAsyncHook(conn_id).get_task("one")).status == "completed"


class TestAMisbehavingGateway:
    @pytest.mark.parametrize("way", WAYS)
    async def test_is_a_kirin_error(self, connect, raw_server, way):
        server = raw_server(WAYS[way])
        with pytest.raises(KirinError) as caught:
            await KirinAsyncHook(connect(server.url, timeout=1)).get_task("one")
        assert len(everything_shown(caught.value)) < 20_000
        assert server.sent < 40_000_000

    async def test_cannot_fill_the_memory(self, connect, raw_server):
        bomb = gzip_bomb()
        server = raw_server(replying(bomb))
        tracemalloc.start()
        try:
            with pytest.raises(KirinError):
                await KirinAsyncHook(connect(server.url, timeout=5)).get_task("one")
            assert tracemalloc.get_traced_memory()[1] < 60_000_000
        finally:
            tracemalloc.stop()

    async def test_a_refused_connection_was_surely_not_sent(self, connect):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(KirinNetworkError, match="Could not connect") as caught:
            await KirinAsyncHook(connect(f"http://127.0.0.1:{port}")).get_task("one")
        assert caught.value.sent is False and caught.value.retryable

    @pytest.mark.parametrize("way", ["reset after the request", "closed without a response", "silence"])
    async def test_a_lost_response_may_have_been_sent(self, connect, raw_server, way):
        with pytest.raises(KirinNetworkError) as caught:
            await KirinAsyncHook(connect(raw_server(WAYS[way]).url, timeout=1)).get_task("one")
        assert caught.value.sent is True

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, connect, raw_server, counting_gateway, status):
        other = counting_gateway()
        location = {"Location": f"{other.url}/model/v1/generation/task/one"}
        server = raw_server(replying(whole("", status=f"{status} See", headers=location)))
        with pytest.raises(KirinConfigError, match="redirect"):
            await KirinAsyncHook(connect(server.url)).get_task("one")
        assert other.asked == {}

    @pytest.mark.parametrize(
        "response",
        [
            whole({"error": {"code": KEY, "message": f"invalid token {KEY}"}}, status="401 Unauthorized"),
            whole(f"<html>Authorization: Bearer {KEY}</html>", kind="text/html"),
            whole({"error": "x"}, status="400 Bad Request", headers={"X-Request-Id": KEY}),
            whole("", status="302 Found", headers={"Location": f"http://127.0.0.1:1/{KEY}"}),
            whole({"id": KEY, "status": f"odd {KEY}"}),
            f"HTTP/1.1 banana {KEY}\r\n\r\n".encode(),
            f"HTTP/1.1 200 OK\r\nAuthorization was: Bearer {KEY}\r\n\r\n{{}}".encode(),
            f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n{{}}".encode(),
            f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
            f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode(),
            f"Authorization: Bearer {KEY}\r\n\r\n".encode(),
        ],
        ids=[
            "JSON error",
            "HTML",
            "X-Request-Id",
            "Location",
            "task",
            "status line",
            "header name",
            "length",
            "chunk size",
            "echoed request",
            "echoed header",
        ],
    )
    async def test_a_gateway_that_echoes_the_key_does_not_spread_it(self, connect, raw_server, response, caplog, capfd):
        conn_id = connect(raw_server(replying(response)).url, timeout=2)
        shown = []
        with caplog.at_level(logging.DEBUG):
            for call in (KirinAsyncHook(conn_id).get_task("one"), KirinAsyncHook(conn_id).wait("one", timeout=0.1)):
                try:
                    shown.append(repr(await call))
                except KirinError as error:
                    shown.append(everything_shown(error))
        captured = capfd.readouterr()
        for text in (*shown, caplog.text, captured.out, captured.err):
            assert KEY not in text


class TestSettings:
    @pytest.mark.parametrize("where", ["extra", "environment"])
    async def test_a_proxy_is_used(self, connect, raw_server, monkeypatch, where):
        proxy = raw_server(replying(whole(TASK)))
        if where == "environment":
            monkeypatch.setenv("http_proxy", proxy.url)
        proxies = {"proxies": {"http": proxy.url}} if where == "extra" else {}
        assert (await KirinAsyncHook(connect("http://kirin.test", **proxies)).get_task("kirin-1")).id == "kirin-1"
        assert proxy.requests[0].startswith(b"GET http://kirin.test/model/v1/generation/task/kirin-1 ")

    async def test_no_proxy_is_respected(self, connect, counting_gateway, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        conn_id = connect(counting_gateway().url)
        assert (await KirinAsyncHook(conn_id).get_task("one")).status == "completed"
        assert KirinHook(conn_id).get_task("one").status == "completed"

    async def test_an_unreachable_proxy_was_surely_not_sent(self, connect):
        conn_id = connect("http://kirin.test", proxies={"http": "http://me:secret@127.0.0.1:1"})
        with pytest.raises(KirinNetworkError) as caught:
            await KirinAsyncHook(conn_id).get_task("one")
        assert caught.value.sent is False
        assert "secret" not in everything_shown(caught.value)

    async def test_requests_per_second_is_kept_by_all_together(self, connect, counting_gateway):
        conn_id = connect(counting_gateway().url, requests_per_second=20)
        began = time.monotonic()
        async with KirinAsyncHook(conn_id):
            await asyncio.gather(*(KirinAsyncHook(conn_id).get_task(f"one-{n}") for n in range(11)))
        assert time.monotonic() - began > 0.49


class TestTls:
    """Both hooks: an authority of one's own works with its bundle in ``verify``, and is refused without it."""

    @pytest.fixture
    def gateway(self, counting_gateway, authority):
        return counting_gateway(tls=authority.server)

    @staticmethod
    async def look(conn_id: str, kind: str):
        if kind == "async":
            return await KirinAsyncHook(conn_id).get_task("one")
        hook = KirinHook(conn_id)
        try:
            return await asyncio.to_thread(hook.get_task, "one", patience=0)
        finally:
            hook.close()

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_with_the_bundle(self, connect, gateway, authority, kind):
        conn_id = connect(gateway.url, verify=str(authority.bundle))
        assert (await self.look(conn_id, kind)).status == "completed"

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_with_the_bundle_that_the_environment_names(self, connect, gateway, authority, kind, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        assert (await self.look(connect(gateway.url), kind)).status == "completed"

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_without_it(self, connect, gateway, kind):
        with pytest.raises(KirinConfigError, match="verify") as caught:
            await self.look(connect(gateway.url), kind)
        assert "certificate" in str(caught.value) and not caught.value.retryable
        assert gateway.asked == {}

    @pytest.mark.parametrize("kind", ["sync", "async"])
    @pytest.mark.parametrize("verify", [False, "false"])
    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    async def test_switched_off(self, connect, gateway, kind, verify):
        assert (await self.look(connect(gateway.url, verify=verify), kind)).status == "completed"

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_a_bundle_that_is_not_there_is_named(self, connect, gateway, tmp_path, kind):
        missing = str(tmp_path / "no-such-bundle.pem")
        with pytest.raises(KirinConfigError, match="verify") as caught:
            await self.look(connect(gateway.url, verify=missing), kind)
        assert missing in str(caught.value)

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_a_bundle_that_is_none(self, connect, gateway, tmp_path, kind):
        bundle = tmp_path / "bundle.pem"
        bundle.write_text("not a certificate")
        with pytest.raises(KirinConfigError, match="verify"):
            await self.look(connect(gateway.url, verify=str(bundle)), kind)

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_https_asked_of_http_is_an_error(self, connect, counting_gateway, kind):
        url = counting_gateway().url.replace("http://", "https://")
        with pytest.raises(KirinError):
            await self.look(connect(url, timeout=2), kind)

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_a_certificate_for_another_name(self, connect, gateway, authority, kind):
        conn_id = connect(gateway.url.replace("127.0.0.1", "localhost"), verify=str(authority.bundle))
        with pytest.raises(KirinConfigError):
            await self.look(conn_id, kind)

    def test_the_test_button_says_so(self, connect, gateway):
        works, said = KirinHook(connect(gateway.url)).test_connection()
        assert not works and "verify" in said


class TestOneHookForMany:
    async def test_coroutines_share_one_hook(self, conn_id, submitted):
        """As users will write it: one hook, gathered waits, no context manager."""
        hook, ids = KirinAsyncHook(conn_id), [submitted(f"[[seconds:{seconds}]]") for seconds in (0.1, 0.5, 0.9)]
        done = await asyncio.gather(*(hook.wait(one, timeout=HANG, poll_interval=0.1) for one in ids))
        assert [kirin_task.id for kirin_task in done] == ids
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_changed_key_is_read_again(self, connect, submitted, emulator):
        kirin_task_id = submitted()
        conn_id = connect(emulator.url, key="an-old-key")
        async with KirinAsyncHook(conn_id) as waiting, KirinAsyncHook(conn_id) as other:
            connect(emulator.url)
            found = await asyncio.gather(waiting.get_task(kirin_task_id), waiting.get_task(kirin_task_id))
            assert {kirin_task.id for kirin_task in found} == {kirin_task_id}
            assert (await other.get_task(kirin_task_id)).id == kirin_task_id
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_changed_key_is_no_trouble_for_those_that_stand_in_line(self, connect, submitted, emulator):
        kirin_task_id = submitted()
        conn_id = connect(emulator.url, key="an-old-key", requests_per_second=20)
        async with KirinAsyncHook(conn_id) as waiting:
            connect(emulator.url, requests_per_second=20)
            found = await asyncio.gather(*(waiting.get_task(kirin_task_id) for _ in range(8)))
        assert {kirin_task.id for kirin_task in found} == {kirin_task_id}
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_a_wrong_key_stays_an_error(self, connect, submitted, emulator):
        kirin_task_id = submitted()
        with pytest.raises(KirinAuthError):
            await KirinAsyncHook(connect(emulator.url, key="a-wrong-key")).get_task(kirin_task_id)

    async def test_a_backend_with_a_key_for_each_lookup_is_asked_again_once(self, conn_id, submitted, monkeypatch):
        kirin_task_id, numbers = submitted(), itertools.count()

        def another(*args):
            return replace(read_connection(*args), api_key=f"wrong-key-{next(numbers)}")

        monkeypatch.setattr("airflow_provider_kirin.hooks.shared_session.read_connection", another)
        async with asyncio.timeout(HANG):
            with pytest.raises(KirinAuthError):
                await KirinAsyncHook(conn_id).get_task(kirin_task_id)
        assert next(numbers) == 3
