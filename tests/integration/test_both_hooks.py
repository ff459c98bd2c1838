"""What KirinHook and KirinAsyncHook promise alike, over real sockets: one suite, run over both."""

from __future__ import annotations

import asyncio
import logging
import socket
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import pytest

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinConfigError,
    KirinError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinTaskFailedError,
)
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook, KirinHook
from tests.support.emulator import KEY
from tests.support.leftovers import everything_shown
from tests.support.raw_server import ECHOES, TASK, WAYS, gzip_bomb, replying, whole
from tests.support.waiting import HANG

T = TypeVar("T")


class SyncHook:
    """KirinHook, called as KirinAsyncHook is."""

    def __init__(self, kirin_conn_id: str = "kirin_default") -> None:
        self._conn_id = kirin_conn_id

    async def get_task(self, kirin_task_id: str) -> KirinTask:
        return await self._call(lambda hook: hook.get_task(kirin_task_id, patience=0))

    async def wait(self, kirin_task_id: str, **options: Any) -> KirinTask:
        return await self._call(lambda hook: hook.wait(kirin_task_id, **options))

    async def _call(self, call: Callable[[KirinHook], T]) -> T:
        with closing(KirinHook(self._conn_id)) as hook:
            return await asyncio.to_thread(call, hook)


# "Unclosed client session" comes as a ResourceWarning from a finalizer, which pytest reports as unraisable.
UNCLOSED = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=[pytest.param(SyncHook, id="sync"), pytest.param(KirinAsyncHook, id="async", marks=UNCLOSED)])
def either(request):
    """A hook's class: ``either(conn_id)``."""
    return request.param


@pytest.mark.parametrize("password", ["SECRET#1", "SECRET/1", "SEC?RET", "SECRET[1"])
async def test_a_proxys_password_that_is_not_encoded_is_not_shown(either, connect, password):
    proxy = f"http://user:{password}@127.0.0.1:9"
    with pytest.raises(KirinError) as caught:
        await either(connect("http://127.0.0.1:9", proxies={"http": proxy})).get_task("d1")
    assert "SEC" not in str(caught.value)


class TestGetAndWait:
    async def test_a_lookup_returns_the_generation(self, either, conn_id, submit):
        kirin_task_id = submit()
        assert (await either(conn_id).get_task(kirin_task_id)).id == kirin_task_id

    async def test_a_wait_returns_the_video(self, either, conn_id, submit):
        done = await either(conn_id).wait(submit("[[seconds:0.4]]"), timeout=HANG, poll_interval=0.1)
        assert done.status == "completed" and len(done.videos) == 1
        assert str(done.usage.cost) == "0.28"

    async def test_a_failure(self, either, conn_id, submit):
        with pytest.raises(KirinTaskFailedError, match="8002005098") as caught:
            await either(conn_id).wait(submit("[[fail:8002005098]]"), timeout=HANG)
        assert caught.value.code == "8002005098"

    async def test_an_unknown_id(self, either, conn_id):
        for call in (
            either(conn_id).get_task("no-such-generation"),
            either(conn_id).wait("no-such-generation", timeout=1),
        ):
            with pytest.raises(KirinNotFoundError, match="no-such-generation"):
                await call

    async def test_netrc_does_not_replace_the_key(self, either, connect, counting_gateway, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login any password body\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        gateway = counting_gateway()
        await either(connect(gateway.url)).get_task("one")
        assert gateway.authorizations == {f"Bearer {KEY}"}

    async def test_a_wrong_key_stays_an_error(self, either, connect, submit, emulator):
        kirin_task_id = submit()
        with pytest.raises(KirinAuthError):
            await either(connect(emulator.url, key="a-wrong-key")).get_task(kirin_task_id)

    async def test_a_missing_connection_is_named(self, either, kirin_fast_retries):
        with pytest.raises(KirinConfigError, match="no_such_connection") as caught:
            await either("no_such_connection").get_task("one")
        # Airflow says the same where a secrets backend could not be asked.
        assert caught.value.retryable

    async def test_a_wait_does_not_outlast_a_missing_connection(self, either, kirin_fast_retries):
        with pytest.raises(KirinConfigError, match="no_such_connection"):
            await either("no_such_connection").wait("one", timeout=3600)


class TestAnOddResponse:
    @pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints"])
    async def test_after_interim_ones_is_read(self, either, connect, raw_server, status):
        interim = f"HTTP/1.1 {status}\r\nLink: </a.css>; rel=preload\r\n\r\n".encode()
        server = raw_server(replying(interim * 2 + whole(TASK)))
        assert (await either(connect(server.url)).get_task("kirin-1")).status == "completed"

    async def test_with_a_header_of_60_kb_is_read(self, either, connect, raw_server):
        server = raw_server(replying(whole(TASK, headers={"Content-Security-Policy": "x" * 60_000})))
        assert (await either(connect(server.url)).get_task("kirin-1")).status == "completed"

    async def test_that_a_proxy_sends_is_explained(self, either, connect, raw_server):
        server = raw_server(replying(whole("", status="407 Proxy Authentication Required")))
        with pytest.raises(KirinError, match="proxies in between"):
            await either(connect(server.url)).get_task("kirin-1")


class TestAMisbehavingGateway:
    @pytest.mark.parametrize("way", WAYS)
    async def test_is_a_kirin_error(self, either, connect, raw_server, way):
        server = raw_server(WAYS[way])
        with pytest.raises(KirinError) as caught:
            await either(connect(server.url, timeout=1)).get_task("one")
        assert len(everything_shown(caught.value)) < 20_000
        # The response limit, and what fits into the kernel's buffers on both sides. requests reads these two for as
        # long as time allows.
        is_bounded_by_time = either is SyncHook and way in ("endless interim responses", "endless trailers")
        assert server.sent < 40_000_000 or is_bounded_by_time

    async def test_cannot_fill_the_memory(self, either, connect, raw_server):
        bomb = gzip_bomb()
        server = raw_server(replying(bomb))
        tracemalloc.start()
        try:
            with pytest.raises(KirinError):
                await either(connect(server.url, timeout=5)).get_task("one")
            assert tracemalloc.get_traced_memory()[1] < 60_000_000
        finally:
            tracemalloc.stop()

    async def test_a_refused_connection_was_surely_not_sent(self, either, connect):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            hook = either(connect(f"http://127.0.0.1:{taken.getsockname()[1]}"))
            with pytest.raises(KirinNetworkError, match="Could not connect") as caught:
                await hook.get_task("one")
        assert caught.value.sent is False and caught.value.retryable

    @pytest.mark.parametrize(
        "way", ["reset after the request", "closed without a response", "silence", "two content lengths"]
    )
    async def test_a_lost_response_may_have_been_sent(self, either, connect, raw_server, way):
        server = raw_server(WAYS[way])
        with pytest.raises(KirinNetworkError) as caught:
            await either(connect(server.url, timeout=1)).get_task("one")
        # The time may be up before anything is sent, if this process stands still.
        assert caught.value.sent is True or not server.requests

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, either, connect, raw_server, counting_gateway, status):
        other = counting_gateway()
        location = {"Location": f"{other.url}/model/v1/generation/task/one"}
        server = raw_server(replying(whole("", status=f"{status} See", headers=location)))
        with pytest.raises(KirinConfigError, match="redirect"):
            await either(connect(server.url)).get_task("one")
        assert other.asked == {}

    @pytest.mark.parametrize("response", ECHOES.values(), ids=ECHOES)
    async def test_a_gateway_that_echoes_the_key_does_not_spread_it(
        self, either, connect, raw_server, response, caplog, capfd
    ):
        conn_id = connect(raw_server(replying(response)).url, timeout=2)
        shown = []
        # urllib3 logs headers that it cannot read, as they came; there Airflow's own masking of passwords is the means.
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.ERROR, logger="urllib3.connection"):
            for call in (either(conn_id).get_task("one"), either(conn_id).wait("one", timeout=0.1)):
                try:
                    shown.append(repr(await call))
                except KirinError as error:
                    shown.append(everything_shown(error))
        captured = capfd.readouterr()
        for text in (*shown, caplog.text, captured.out, captured.err):
            assert KEY not in text


class TestSettings:
    @pytest.mark.parametrize("where", ["extra", "environment"])
    async def test_a_proxy_is_used(self, either, connect, raw_server, monkeypatch, where):
        proxy = raw_server(replying(whole(TASK)))
        if where == "environment":
            monkeypatch.setenv("http_proxy", proxy.url)
        proxies = {"proxies": {"http": proxy.url}} if where == "extra" else {}
        assert (await either(connect("http://kirin.test", **proxies)).get_task("kirin-1")).id == "kirin-1"
        assert proxy.requests[0].startswith(b"GET http://kirin.test/model/v1/generation/task/kirin-1 ")

    async def test_no_proxy_is_respected(self, either, connect, counting_gateway, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        conn_id = connect(counting_gateway().url)
        assert (await either(conn_id).get_task("one")).status == "completed"

    async def test_an_unreachable_proxy_was_surely_not_sent(self, either, connect):
        conn_id = connect("http://kirin.test", proxies={"http": "http://me:secret@127.0.0.1:1"})
        with pytest.raises(KirinNetworkError) as caught:
            await either(conn_id).get_task("one")
        assert caught.value.sent is False
        assert "secret" not in everything_shown(caught.value)


class TestTls:
    """Both hooks: an authority of one's own works with its bundle in ``verify``, and is refused without it."""

    @pytest.fixture
    def gateway(self, counting_gateway, authority):
        return counting_gateway(tls=authority.server)

    async def test_with_the_bundle(self, connect, gateway, authority, either):
        conn_id = connect(gateway.url, verify=str(authority.bundle))
        assert (await either(conn_id).get_task("one")).status == "completed"

    async def test_with_the_bundle_that_the_environment_names(self, connect, gateway, authority, either, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        assert (await either(connect(gateway.url)).get_task("one")).status == "completed"

    async def test_without_it(self, connect, gateway, either):
        with pytest.raises(KirinConfigError, match="verify") as caught:
            await either(connect(gateway.url)).get_task("one")
        assert "certificate" in str(caught.value) and not caught.value.retryable
        assert gateway.asked == {}

    @pytest.mark.parametrize("verify", [False, "false"])
    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    async def test_switched_off(self, connect, gateway, either, verify):
        assert (await either(connect(gateway.url, verify=verify)).get_task("one")).status == "completed"

    async def test_a_bundle_that_is_not_there_is_named(self, connect, gateway, tmp_path, either):
        missing = str(tmp_path / "no-such-bundle.pem")
        with pytest.raises(KirinConfigError, match="verify") as caught:
            await either(connect(gateway.url, verify=missing)).get_task("one")
        assert missing in str(caught.value)

    async def test_a_bundle_that_is_none(self, connect, gateway, tmp_path, either):
        bundle = tmp_path / "bundle.pem"
        bundle.write_text("not a certificate")
        with pytest.raises(KirinConfigError, match="verify"):
            await either(connect(gateway.url, verify=str(bundle))).get_task("one")

    async def test_https_asked_of_http_is_an_error(self, connect, counting_gateway, either):
        url = counting_gateway().url.replace("http://", "https://")
        with pytest.raises(KirinError):
            await either(connect(url, timeout=2)).get_task("one")

    async def test_a_certificate_for_another_name(self, connect, gateway, authority, either):
        conn_id = connect(gateway.url.replace("127.0.0.1", "localhost"), verify=str(authority.bundle))
        with pytest.raises(KirinConfigError):
            await either(conn_id).get_task("one")

    def test_the_test_button_says_so(self, connect, gateway):
        works, said = KirinHook(connect(gateway.url)).test_connection()
        assert not works and "verify" in said
