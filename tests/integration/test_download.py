"""Downloads from hosts that cut, change, refuse and lie, over real sockets; test_hook.py has those of the emulator."""

from __future__ import annotations

import gzip
import logging
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from airflow_provider_kirin.api.private_hosts import PrivateHosts
from airflow_provider_kirin.download.atomic_file import AtomicFile
from airflow_provider_kirin.download.ssrf import guarded_session
from airflow_provider_kirin.exceptions import (
    KirinConfigError,
    KirinDestinationError,
    KirinError,
    KirinNetworkError,
    KirinResponseError,
)
from airflow_provider_kirin.hooks.kirin import KirinHook
from tests.support.leftovers import left_behind
from tests.support.memory import memory_of_a_download
from tests.support.raw_server import RawServer, dripping, endless, phases, replying, whole
from tests.support.video_host import MEGABYTE, START, EndlessHost, VideoHost, video
from tests.support.waiting import HANG

Serve = Callable[..., VideoHost]


pytestmark = pytest.mark.usefixtures("kirin_fast_retries")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start hosts that end with the test."""
    with ExitStack() as running:
        yield lambda *args, **options: running.enter_context(VideoHost(*args, **options))


@pytest.fixture
def hook(connect) -> KirinHook:
    """A hook whose gateway, and so whose own host, is on 127.0.0.1."""
    return KirinHook(connect("http://127.0.0.1:9", timeout=5))


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "videos" / "video.mp4"


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


class TestGoingOnAfterACut:
    def test_only_what_is_missing_is_asked_for(self, serve, hook, place):
        host = serve(video(3 * MEGABYTE), turns=[MEGABYTE, MEGABYTE])
        assert hook.download(f"{host.url}/v.mp4", place) == 3 * MEGABYTE
        assert place.read_bytes() == host.body
        assert host.ranges == [None, f"bytes={MEGABYTE}-", f"bytes={2 * MEGABYTE}-"]
        assert [request.get("if-range") for request in host.requests] == [None, '"one"', '"one"']
        assert host.sent == 3 * MEGABYTE, "something was sent twice"

    def test_the_time_of_the_last_change_does_where_there_is_no_etag(self, serve, hook, place):
        changed = "Tue, 24 Nov 2026 10:00:00 GMT"
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE], headers={"Last-Modified": changed})
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body
        assert host.requests[1]["if-range"] == changed

    def test_many_cuts_do_not_end_a_download_that_makes_progress(self, serve, hook, place):
        host = serve(video(2 * MEGABYTE), turns=[200_000] * 9)
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and len(host.requests) == 10

    def test_three_attempts_without_a_byte_end_a_download(self, serve, hook, place):
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE, 0, 0, 0, 0, 0])
        with pytest.raises(KirinNetworkError, match=r"failed: Connection broken"):
            hook.download(f"{host.url}/v.mp4", place)
        assert len(host.requests) == 3
        assert files_below(place.parent) == []

    @pytest.mark.parametrize(
        "host_is",
        [
            {"knows_ranges": False},
            {"headers": {}},
            {"headers": {"ETag": 'W/"weak"', "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}},
        ],
        ids=["a host without ranges", "no validator", "a weak validator"],
    )
    def test_it_starts_over_where_the_rest_cannot_be_trusted(self, serve, hook, place, host_is):
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE], **host_is)
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and len(host.requests) == 2

    @pytest.mark.parametrize("heeds_if_range", [True, False])
    @pytest.mark.parametrize("size", [2 * MEGABYTE, 2 * MEGABYTE + 1])
    def test_two_files_are_never_mixed(self, serve, hook, place, heeds_if_range, size):
        other = video(size, seed=3)

        def change(host):
            if len(host.requests) == 2:
                host.body, host.headers = other, {"ETag": '"two"'}

        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE], heeds_if_range=heeds_if_range, before=change)
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == other

    def test_a_rest_that_does_not_say_of_what_is_not_taken(self, serve, hook, place):
        def forget(host):
            host.headers = {} if len(host.requests) == 2 else {"ETag": '"one"'}

        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE], heeds_if_range=False, before=forget)
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and host.ranges == [None, f"bytes={MEGABYTE}-", None]

    def test_a_rest_that_comes_as_a_200_is_not_taken_for_the_beginning(self, raw_server, hook, place):
        body = video(200_000)
        etag = {"ETag": '"a"'}

        def answer(connection: Any, server: RawServer) -> None:
            if b"Range: " in server.requests[-1]:
                rest = body[100_000:]
                fields = {"Content-Range": "bytes 100000-199999/200000", **etag}
                server.send(connection, whole(rest, kind="video/mp4", headers=fields))
            else:
                cut = body[:100_000] if len(server.requests) == 1 else body
                server.send(connection, whole(cut, kind="video/mp4", headers=etag, length=200_000))

        server = raw_server(answer)
        assert hook.download(f"{server.url}/v.mp4", place) == 200_000
        assert place.read_bytes() == body
        assert [b"Range: " in request for request in server.requests] == [False, True, False]

    def test_a_first_part_is_not_taken_for_the_whole(self, raw_server, hook, place):
        body = video(2000)

        def answer(connection: Any, server: RawServer) -> None:
            at = 1000 if b"Range: bytes=1000-" in server.requests[-1] else 0
            content_range = f"bytes {at}-{at + 999}/2000"
            fields = {"Content-Range": content_range, "ETag": '"a"'}
            server.send(connection, whole(body[at : at + 1000], status="206 Partial", kind="video/mp4", headers=fields))

        server = raw_server(answer)
        assert hook.download(f"{server.url}/v.mp4", place) == 2000
        assert place.read_bytes() == body and len(server.requests) == 2

    def test_an_error_of_the_host_keeps_the_bytes_received(self, serve, hook, place):
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE, 503])
        hook.download(f"{host.url}/v.mp4", place)
        assert host.sent == 2 * MEGABYTE and place.read_bytes() == host.body

    @pytest.mark.parametrize("status", [400, 405, 406, 409, 412, 416, 431])
    def test_a_host_that_refuses_to_send_the_rest_is_asked_for_all(self, serve, hook, place, status):
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE, status])
        hook.download(f"{host.url}/v.mp4", place)
        assert host.ranges == [None, f"bytes={MEGABYTE}-", None] and place.read_bytes() == host.body

    def test_a_rest_that_poses_as_the_whole_is_not_the_last_word(self, raw_server, hook, place):
        body = video(200_000)

        def answer(connection: Any, server: RawServer) -> None:
            sent, length = [(body[:100_000], 200_000), (body[100_000:], None), (body, None)][len(server.requests) - 1]
            server.send(connection, whole(sent, kind="video/mp4", headers={"ETag": '"a"'}, length=length))

        server = raw_server(answer)
        assert hook.download(f"{server.url}/v.mp4", place) == 200_000
        assert place.read_bytes() == body and len(server.requests) == 3


class TestAHostThatReportsAWrongLength:
    @pytest.fixture
    def lying(self, raw_server) -> Callable[..., RawServer]:
        """A host that reports these lengths, one for each request, the last one again and again."""

        def start(body: bytes, *lengths: int) -> RawServer:
            def answer(connection: Any, server: RawServer) -> None:
                length = lengths[min(len(server.requests), len(lengths)) - 1]
                server.send(connection, whole(body, kind="video/mp4", headers={"ETag": '"a"'}, length=length))

            return raw_server(answer)

        return start

    @pytest.mark.parametrize("length", [20, 50_000, 99_999])
    def test_a_video_cut_by_it_is_not_stored(self, lying, hook, place, length):
        server = lying(video(100_000), length)
        with pytest.raises(KirinResponseError, match=r"middle of the video\. Its host reported this") as caught:
            hook.download(f"{server.url}/v.mp4", place)
        assert caught.value.retryable and files_below(place.parent) == [] and len(server.requests) == 3

    def test_the_next_attempt_begins_anew(self, lying, hook, place):
        server = lying(video(100_000), 50_000, 100_000)
        assert hook.download(f"{server.url}/v.mp4", place) == 100_000
        assert place.read_bytes() == video(100_000)
        assert not any(b"Range: " in request for request in server.requests)

    def test_a_cut_file_that_exists_is_not_taken_for_the_video(self, lying, hook, place):
        place.parent.mkdir()
        place.write_bytes(video(100_000)[:50_000])
        with pytest.raises(KirinResponseError, match="in the middle of the video"):
            hook.download(f"{lying(video(100_000), 50_000).url}/v.mp4", place)
        hook.download(f"{lying(video(100_000), 50_000, 100_000).url}/v.mp4", place)
        assert place.read_bytes() == video(100_000)

    def test_an_end_of_chunks_may_be_wrong_too(self, raw_server, hook, place):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
        server = raw_server(replying(head + b"2710\r\n" + video(20_000)[:10_000] + b"\r\n0\r\n\r\n"))
        with pytest.raises(KirinResponseError, match="in the middle of the video"):
            hook.download(f"{server.url}/v.mp4", place)


class TestAnUnusualStatus:
    def test_a_proxy_may_have_changed_the_headers(self, raw_server, hook, place):
        server = raw_server(replying(whole(video(1000), status="203 Changed", kind="video/mp4")))
        assert hook.download(f"{server.url}/v.mp4", place) == 1000

    def test_a_whole_may_come_as_a_part_that_does_not_say_of_what(self, raw_server, hook, place):
        server = raw_server(replying(whole(video(1000), status="206 Partial", kind="video/mp4")))
        assert hook.download(f"{server.url}/v.mp4", place) == 1000

    @pytest.mark.parametrize("status", ["202 Accepted", "204 No Content", "425 Too Early", "429 Slow", "530 Origin"])
    def test_what_may_pass_is_waited_for(self, raw_server, hook, place, status):
        def answer(connection: Any, server: RawServer) -> None:
            first = whole(b"", status=status, kind="text/html")
            server.send(connection, first if len(server.requests) == 1 else whole(video(1000), kind="video/mp4"))

        assert hook.download(f"{raw_server(answer).url}/v.mp4", place) == 1000


class TestAHostThatDoesNotSayHowLongTheVideoIs:
    def test_a_cut_shows_by_the_video(self, serve, hook, place):
        host = serve(video(2 * MEGABYTE), says_length=False, turns=[MEGABYTE, 500_000])
        assert hook.download(f"{host.url}/v.mp4", place) == 2 * MEGABYTE
        assert place.read_bytes() == host.body
        assert host.ranges == [None, f"bytes={MEGABYTE}-", f"bytes={MEGABYTE + 500_000}-"]

    @pytest.mark.parametrize("after", [10, 24 + 4, 200_000])
    def test_half_a_video_is_refused(self, serve, hook, place, after):
        host = serve(video(2 * MEGABYTE), says_length=False, headers={}, turns=[after] * 9)
        with pytest.raises(KirinResponseError, match="in the middle of the video") as caught:
            hook.download(f"{host.url}/v.mp4", place)
        assert caught.value.retryable and files_below(place.parent) == []

    def test_what_starts_over_is_checked_again(self, serve, hook, place):
        host = serve(video(2 * MEGABYTE), says_length=False, headers={}, turns=[MEGABYTE])
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and host.ranges == [None, None]

    def test_chunks_say_where_they_end(self, raw_server, hook, place):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
        odd = START + b"a tail that is no box"
        server = raw_server(replying(head + f"{len(odd):x}\r\n".encode() + odd + b"\r\n0\r\n\r\n"))
        assert hook.download(f"{server.url}/v.mp4", place) == len(odd)

    @pytest.mark.parametrize("says_length", [True, False])
    @pytest.mark.parametrize(
        ("encoding", "pack"),
        [
            ("gzip", gzip.compress),
            ("gzip", lambda data: gzip.compress(data[: len(data) // 4]) + gzip.compress(data[len(data) // 4 :])),
            ("deflate", zlib.compress),
            ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
        ],
        ids=["gzip", "members of gzip", "deflate", "gzip in gzip"],
    )
    def test_a_packed_one_that_is_cut(self, serve, hook, place, says_length, encoding, pack):
        packed = pack(video(2 * MEGABYTE))
        host = serve(packed[: len(packed) // 2], headers={"Content-Encoding": encoding}, says_length=says_length)
        with pytest.raises(KirinResponseError, match="in the middle of the video") as caught:
            hook.download(f"{host.url}/v.mp4", place)
        assert caught.value.retryable and files_below(place.parent) == []


class Tired(VideoHost):
    """Sends half of the first response, then a byte now and then."""

    def _send(self, handler, data):
        if len(self.requests) > 1:
            super()._send(handler, data)
            return
        half = len(data) // 2
        super()._send(handler, data[:half])
        for at in range(half, half + 200):
            threading.Event().wait(0.05)
            super()._send(handler, data[at : at + 1])


class TestAHostThatSendsNextToNothing:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.download.http_range.WINDOW_SECONDS", 0.5)

    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
    PHASES: ClassVar = {
        **phases("video/mp4", START),
        "in the body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
        "in a name that gzip holds": (HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08" + bytes(6), b"x"),
        "in a redirect": (b"HTTP/1.1 302 Found\r\nX-Long: ", b"x"),
    }

    @pytest.fixture
    def brisk_hook(self, connect) -> KirinHook:
        return KirinHook(connect("http://127.0.0.1:9", timeout=0.5))

    @pytest.mark.parametrize("phase", PHASES)
    def test_is_disconnected(self, raw_server, brisk_hook, place, phase):
        server = raw_server(dripping(*self.PHASES[phase]))
        with left_behind() as nothing, pytest.raises(KirinNetworkError, match="the host is too slow"):
            brisk_hook.download(f"{server.url}/v.mp4", place)
        nothing()
        # A try may end before its request arrives, if this process stands still.
        assert 1 <= len(server.requests) <= 3
        assert files_below(place.parent) == []

    @pytest.mark.parametrize("phase", ["interim responses", "headers of an interim response", "trailers"])
    def test_however_fast(self, raw_server, brisk_hook, place, phase):
        beginning, again = self.PHASES[phase]
        server = raw_server(endless(beginning, again * 1000))
        with left_behind() as nothing, pytest.raises(KirinNetworkError):
            brisk_hook.download(f"{server.url}/v.mp4", place)
        nothing()
        # A try may end before its request arrives, if this process stands still.
        assert 1 <= len(server.requests) <= 3

    def test_through_a_proxy_too(self, raw_server, connect, place):
        proxy = raw_server(dripping(self.HEAD + b"Content-Length: 100000\r\n\r\n"))
        hook = KirinHook(connect("https://gateway.invalid", proxies=proxy.url, timeout=5))
        with pytest.raises(KirinNetworkError, match="the host is too slow"):
            hook.download("http://videos.invalid/v.mp4", place)

    def test_a_slow_store_is_not_the_hosts_fault(self, serve, brisk_hook, place, monkeypatch):
        write = AtomicFile.write

        def slowly(file: Any, data: bytes) -> None:
            threading.Event().wait(0.3)
            write(file, data)

        monkeypatch.setattr(AtomicFile, "write", slowly)
        host = serve(video(8 * MEGABYTE))
        brisk_hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and len(host.requests) == 1

    def test_received_bytes_are_kept(self, hook, place):
        with Tired(video(MEGABYTE)) as host:
            hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and len(host.requests) == 2
        assert int(host.ranges[1].removeprefix("bytes=").rstrip("-")) > MEGABYTE // 2

    def test_a_slow_link_and_one_long_pause_are_waited_for(self, raw_server, hook, place, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.download.http_range.MIN_BYTES", 1000)
        body = video(10_000)

        def answer(connection: Any, server: RawServer) -> None:
            server.stopping.wait(1.5)
            server.send(connection, self.HEAD + b"Content-Length: 10000\r\n\r\n")
            for start in range(0, 10_000, 400):
                server.stopping.wait(0.05)
                server.send(connection, body[start : start + 400])

        server = raw_server(answer)
        assert hook.download(f"{server.url}/v.mp4", place) == 10_000
        assert len(server.requests) == 1


class TestAFreshLink:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_takes_the_place_of_one_that_is_refused(self, serve, hook, place, status):
        host = serve(video(MEGABYTE), turns=[status])
        hook.download(f"{host.url}/old.mp4?sig=1", place, fresh_url=lambda: f"{host.url}/new.mp4?sig=2")
        assert [request["path"] for request in host.requests] == ["/old.mp4?sig=1", "/new.mp4?sig=2"]
        assert place.read_bytes() == host.body

    @pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
    def test_takes_the_place_of_one_that_leads_to_a_page(self, serve, hook, place, kind):
        page, host = serve(b"<Error>Request has expired</Error>", kind=kind), serve(video(MEGABYTE))
        hook.download(f"{page.url}/v.mp4", place, fresh_url=lambda: f"{host.url}/v.mp4")
        assert place.read_bytes() == host.body and len(page.requests) == 1

    def test_that_leads_to_a_page_too_is_final(self, serve, hook, place):
        page = serve(b"<html>Log in</html>", kind="text/html")
        with pytest.raises(KirinResponseError, match="not a video") as caught:
            hook.download(f"{page.url}/v.mp4", place, fresh_url=lambda: f"{page.url}/w.mp4")
        assert not caught.value.retryable and len(page.requests) == 3

    @pytest.mark.parametrize("ends", ["refused", "leads to a page"])
    def test_in_the_middle_resumes_where_the_old_one_stopped(self, serve, hook, place, ends):
        page = serve(b"<html>Expired</html>", kind="text/html", knows_ranges=False)
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE, 403 if ends == "refused" else f"{page.url}/expired"])
        hook.download(f"{host.url}/old.mp4", place, fresh_url=lambda: f"{host.url}/new.mp4")
        assert host.requests[2]["path"] == "/new.mp4" and host.ranges[2] == f"bytes={MEGABYTE}-"
        assert host.sent == 2 * MEGABYTE and place.read_bytes() == host.body

    def test_a_fresh_link_to_another_file_starts_over(self, serve, hook, place):
        old = serve(video(2 * MEGABYTE), turns=[MEGABYTE, 410])
        new = serve(video(2 * MEGABYTE, seed=5), headers={"ETag": '"another"'})
        hook.download(f"{old.url}/v.mp4", place, fresh_url=lambda: f"{new.url}/v.mp4")
        assert place.read_bytes() == new.body

    def test_is_asked_for_twice_at_most(self, serve, hook, place):
        host = serve(video(MEGABYTE), turns=[403] * 9)
        links = iter(range(9))
        with pytest.raises(KirinResponseError, match="expired"):
            hook.download(f"{host.url}/v.mp4", place, fresh_url=lambda: f"{host.url}/{next(links)}.mp4")
        assert len(host.requests) == 3

    def test_no_fresh_link_is_asked_for_on_the_last_try(self, serve, hook, place, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.download.downloader._MAX_ATTEMPTS", 2)
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE, 403])
        with pytest.raises(KirinResponseError, match="expired"):
            hook.download(f"{host.url}/v.mp4", place, fresh_url=lambda: f"{host.url}/new.mp4")

    def test_without_one_a_refusal_is_final_for_this_call(self, serve, hook, place):
        host = serve(video(MEGABYTE), turns=[403])
        with pytest.raises(KirinResponseError, match="expired") as caught:
            hook.download(f"{host.url}/v.mp4", place)
        assert caught.value.retryable and len(host.requests) == 1


class TestWhatIsThereAlready:
    def test_the_same_file_is_not_fetched_again(self, serve, hook, place, caplog):
        host = serve(video(3 * MEGABYTE))
        hook.download(f"{host.url}/v.mp4", place)
        before = place.stat()
        with caplog.at_level(logging.INFO):
            assert hook.download(f"{host.url}/v.mp4", place) == 3 * MEGABYTE
        assert place.stat().st_mtime_ns == before.st_mtime_ns and place.stat().st_ino == before.st_ino
        assert "already exists" in caplog.text and "not downloaded again" in caplog.text

    def test_the_same_file_is_not_an_error_without_overwrite(self, serve, hook, place):
        host = serve(video(MEGABYTE))
        for _ in range(2):
            assert hook.download(f"{host.url}/v.mp4", place, overwrite=False) == MEGABYTE

    @pytest.mark.parametrize("other", [video(MEGABYTE, seed=1), video(MEGABYTE - 1), b""])
    def test_another_file_is_replaced(self, serve, hook, place, other):
        place.parent.mkdir()
        place.write_bytes(other)
        host = serve(video(MEGABYTE))
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body

    @pytest.mark.parametrize("other", [video(MEGABYTE, seed=1), video(MEGABYTE - 1), b""])
    def test_another_file_is_an_error_without_overwrite(self, serve, hook, place, other):
        place.parent.mkdir()
        place.write_bytes(other)
        host = serve(video(MEGABYTE))
        with pytest.raises(KirinDestinationError, match="already exists") as caught:
            hook.download(f"{host.url}/v.mp4", place, overwrite=False)
        assert not caught.value.retryable
        assert place.read_bytes() == other and files_below(place.parent) == ["video.mp4"]

    def test_without_a_length_nothing_is_known_to_be_the_same(self, serve, hook, place):
        host = serve(video(MEGABYTE), says_length=False)
        hook.download(f"{host.url}/v.mp4", place)
        first = place.stat().st_ino
        hook.download(f"{host.url}/v.mp4", place)
        assert place.stat().st_ino != first and place.read_bytes() == host.body


class TestOnlyVideosOfASaneLength:
    @pytest.mark.parametrize(
        "kind",
        [
            "video/mp4",
            "video/quicktime",
            "BINARY/octet-stream",
            "application/x-www-form-urlencoded",
            "text/plain; charset=utf-8",
            "application/force-download",
            "image/png",
        ],
    )
    def test_a_possible_video_is_accepted(self, serve, hook, place, kind):
        host = serve(video(1000), kind=kind)
        assert hook.download(f"{host.url}/v.mp4", place) == 1000

    @pytest.mark.parametrize("kind", ["text/html", "application/json", "image/svg+xml", "application/xml"])
    def test_another_content_type_is_refused(self, serve, hook, place, kind):
        host = serve(video(1000), kind=kind)
        with pytest.raises(KirinResponseError, match="not a video") as caught:
            hook.download(f"{host.url}/v.mp4", place)
        assert not caught.value.retryable and files_below(place.parent) == []

    @pytest.mark.parametrize("body", [b"<html>Log in</html>", b"\x89PNG\r\n\x1a\n" + bytes(100_000), START[:7]])
    def test_another_content_is_refused_whatever_its_type(self, serve, hook, place, body):
        host = serve(body)
        with pytest.raises(KirinResponseError, match="not an MP4 file by its content") as caught:
            hook.download(f"{host.url}/v.mp4", place)
        assert not caught.value.retryable and files_below(place.parent) == []

    @pytest.mark.parametrize("says_length", [True, False])
    def test_the_limit_holds_announced_or_not(self, serve, hook, place, says_length):
        host = serve(video(3 * MEGABYTE), says_length=says_length)
        with pytest.raises(KirinResponseError, match="max_bytes = 1,000,000") as caught:
            hook.download(f"{host.url}/v.mp4", place, max_bytes=MEGABYTE)
        assert not caught.value.retryable and files_below(place.parent) == [] and len(host.requests) == 1

    def test_the_limit_holds_for_a_file_that_arrives_in_one_piece(self, serve, hook, place):
        host = serve(video(1001), says_length=False)
        with pytest.raises(KirinResponseError, match="max_bytes = 1,000"):
            hook.download(f"{host.url}/v.mp4", place, max_bytes=1000)

    def test_a_packed_response_is_unpacked(self, serve, hook, place):
        host = serve(gzip.compress(video(MEGABYTE)), headers={"Content-Encoding": "gzip", "ETag": '"one"'})
        assert hook.download(f"{host.url}/v.mp4", place) == MEGABYTE
        assert place.read_bytes() == video(MEGABYTE)

    def test_all_members_of_a_packed_response_are(self, serve, hook, place):
        body = video(MEGABYTE)
        packed = b"".join(gzip.compress(body[at : at + 300_000]) for at in range(0, MEGABYTE, 300_000))
        host = serve(packed, headers={"Content-Encoding": "gzip"})
        assert hook.download(f"{host.url}/v.mp4", place) == MEGABYTE
        assert place.read_bytes() == body

    @pytest.mark.parametrize(
        ("encoding", "pack"),
        [
            ("x-gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
            ("aws-chunked", bytes),
        ],
    )
    def test_other_packings_are_unpacked_too(self, serve, hook, place, encoding, pack):
        host = serve(pack(video(MEGABYTE)), headers={"Content-Encoding": encoding})
        assert hook.download(f"{host.url}/v.mp4", place) == MEGABYTE
        assert place.read_bytes() == video(MEGABYTE)

    @pytest.mark.parametrize("turns", [[], [None, MEGABYTE]])
    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    def test_what_is_only_said_to_be_packed_is_kept_as_it_is(self, serve, hook, place, encoding, turns):
        host = serve(video(2 * MEGABYTE), headers={"Content-Encoding": encoding, "ETag": '"one"'}, turns=list(turns))
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body
        assert host.ranges == [None, None, f"bytes={MEGABYTE}-"][: 3 if turns else 2]

    def test_a_damaged_packed_response_is_asked_for_again(self, serve, hook, place):
        packed = gzip.compress(video(MEGABYTE))

        def repair(host):
            host.body = packed if len(host.requests) == 3 else b"\x1f\x8b" + packed[99:]

        host = serve(b"", headers={"Content-Encoding": "gzip"}, before=repair)
        assert hook.download(f"{host.url}/v.mp4", place) == MEGABYTE

    def test_unpacked_it_takes_no_more_memory(self, serve, hook, place):
        host = serve(gzip.compress(START + bytes(300 * MEGABYTE)), headers={"Content-Encoding": "gzip"})
        tracemalloc.start()
        try:
            with pytest.raises(KirinResponseError, match="max_bytes = 100,000,000"):
                hook.download(f"{host.url}/v.mp4", place, max_bytes=100 * MEGABYTE)
            assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTE
        finally:
            tracemalloc.stop()
        assert files_below(place.parent) == []

    def test_exactly_as_much_is_allowed(self, serve, hook, place):
        host = serve(video(MEGABYTE))
        assert hook.download(f"{host.url}/v.mp4", place, max_bytes=MEGABYTE) == MEGABYTE


class TestRedirects:
    def test_the_body_of_one_is_not_read(self, serve, raw_server, hook, place):
        host = serve(video(1000))

        def redirect(connection: Any, server: RawServer) -> None:
            server.send(connection, f"HTTP/1.1 302 Found\r\nLocation: {host.url}/v.mp4\r\n\r\n".encode())
            while not server.stopping.is_set() and server.sent < 200 * MEGABYTE:
                server.send(connection, bytes(65536))

        server = raw_server(redirect)
        assert hook.download(f"{server.url}/v.mp4", place) == 1000
        # What fits into the kernel's buffers on both sides.
        assert server.sent < 20 * MEGABYTE

    @pytest.mark.parametrize(
        "location",
        [
            *(b"http://[::1", b"//[", b"http:///v.mp4", b"http://a b/", b"http://a\\@b/", b"http://x%2fy/"),
            *(b"ftp://h/v.mp4", b"mailto:a@b", b"http://h:0/", b"http://h:99999/", b"http://[::1%25lo]/"),
        ],
    )
    def test_to_no_url_is_final(self, raw_server, hook, place, location):
        head = b"HTTP/1.1 302 Found\r\nLocation: " + location + b"?sig=SECRET\r\nContent-Length: 0\r\n\r\n"
        server = raw_server(replying(head))
        with pytest.raises(KirinResponseError, match="redirects to an unusable URL") as caught:
            hook.download(f"{server.url}/v.mp4?sig=SECRET", place)
        assert not caught.value.retryable and "SECRET" not in str(caught.value)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("/é.mp4".encode(), "/%C3%A9.mp4"),
            (b"/\xe9.mp4", "/%E9.mp4"),
            (b"/my video.mp4?name=my video", "/my%20video.mp4?name=my%20video"),
            (b"w.mp4?a", "/a/w.mp4?a"),
            (b"../w.mp4?", "/w.mp4?"),
            (b"/a/./%7E%2D%2f%2F|?x=%zz#part", "/a/./%7E%2D%2f%2F%7C?x=%25zz"),
        ],
    )
    @pytest.mark.parametrize("is_absolute", [True, False])
    def test_lead_to_what_they_say(self, serve, raw_server, hook, place, location, target, is_absolute):
        host = serve(video(1000))
        if is_absolute and location.startswith(b"/"):
            location = host.url.encode() + location
        responses = iter([b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"])
        found = whole(video(1000), kind="video/mp4")
        server = raw_server(lambda connection, server: server.send(connection, next(responses, found)))
        hook.download(f"{server.url}/a/v.mp4", place)
        asked = [request.split()[1].decode() for request in server.requests] + [r["path"] for r in host.requests]
        assert asked == ["/a/v.mp4", target]


class TestTheLinkIsAskedForAsItWasGiven:
    """A host may have signed it byte for byte."""

    TARGETS = (
        "/a%7Eb%2Dc%2fd/./e/../v.mp4?sig=%2b%2B+/=&x=%7e",
        "/v.mp4?",
        "/a//b/v.mp4",
        "/v.mp4?a=b?c=/d&e[]=1&f='(!*)'",
        "/%E9%e9;p=1:2@3,4$5/v.mp4",
    )

    @pytest.mark.parametrize("target", TARGETS)
    def test_directly(self, serve, hook, place, target):
        host = serve(video(1000))
        hook.download(f"{host.url}{target}#t=1", place)
        assert [request["path"] for request in host.requests] == [target]

    @pytest.mark.parametrize("target", TARGETS)
    def test_through_a_proxy(self, raw_server, connect, place, target):
        proxy = raw_server(replying(whole(video(1000), kind="video/mp4")))
        hook = KirinHook(connect("https://gateway.invalid", proxies=proxy.url, timeout=5))
        hook.download(f"http://videos.invalid{target}", place)
        line, host = proxy.requests[0].decode().split("\r\n")[:2]
        assert line == f"GET http://videos.invalid{target} HTTP/1.1" and host == "Host: videos.invalid"

    def test_in_redirects(self, serve, hook, place):
        host = serve(video(1000), turns=[self.TARGETS[0]])
        host.turns.append(f"{host.url}{self.TARGETS[1]}")
        hook.download(f"{host.url}{self.TARGETS[2]}", place)
        assert [request["path"] for request in host.requests] == [self.TARGETS[at] for at in (2, 0, 1)]

    def test_what_no_url_may_hold_is_escaped(self, serve, hook, place):
        host = serve(video(1000))
        hook.download(f'{host.url}/my "é" |{{x}}.mp4?100%', place)
        assert [request["path"] for request in host.requests] == ["/my%20%22%C3%A9%22%20%7C%7Bx%7D.mp4?100%25"]


class TestOnlyTheOpenInternet:
    @pytest.fixture
    def far_hook(self, connect) -> Callable[..., KirinHook]:
        return lambda **extra: KirinHook(connect("https://gateway.invalid", conn_id="far", timeout=5, **extra))

    @pytest.mark.parametrize(
        "name", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"]
    )
    def test_a_private_address_is_not_even_connected_to(self, serve, far_hook, place, name):
        host = serve(video(1000))
        port = host.url.rpartition(":")[2]
        with pytest.raises(KirinResponseError, match="not a public internet address") as caught:
            far_hook().download(f"http://{name}:{port}/v.mp4?sig=SECRET", place)
        assert (
            not caught.value.retryable
            and "SECRET" not in str(caught.value)
            and "allow_private_hosts" in str(caught.value)
        )
        assert host.requests == []

    @pytest.mark.parametrize("allowed", [True, "true", ["127.0.0.1"], "10.0.0.0/8, 127.0.0.0/8"])
    def test_a_private_address_is_connected_to_if_the_connection_allows_it(self, serve, far_hook, place, allowed):
        host = serve(video(1000))
        assert far_hook(allow_private_hosts=allowed).download(f"{host.url}/v.mp4", place) == 1000

    @pytest.mark.parametrize("allowed", [["10.0.0.0/8"], ["videos.example"], False, None])
    def test_what_is_allowed_is_no_more_than_it_says(self, serve, far_hook, place, allowed):
        host = serve(video(1000))
        with pytest.raises(KirinResponseError, match="public internet address"):
            far_hook(allow_private_hosts=allowed).download(f"{host.url}/v.mp4", place)

    @pytest.mark.parametrize("wrong", [7, {"a": 1}, ["http://h/"], ["a b"], [1], ["*.corp.example"]])
    def test_what_cannot_be_meant_is_refused(self, far_hook, place, wrong):
        with pytest.raises(KirinConfigError, match="allow_private_hosts"):
            far_hook(allow_private_hosts=wrong).download("http://127.0.0.1:9/v.mp4", place)

    def test_each_redirect_is_judged(self, serve, hook, place):
        inner = serve(video(1000), address="127.0.0.2")
        outer = serve(video(1000), turns=[f"{inner.url}/latest/meta-data"])
        with pytest.raises(KirinResponseError, match=r"127\.0\.0\.2"):
            hook.download(f"{outer.url}/v.mp4", place)
        assert inner.requests == []

    def test_a_cookie_of_one_host_is_not_carried_to_the_next(self, serve, hook, place):
        second = serve(video(1000), headers={"Set-Cookie": "a=b"})
        hook.download(f"{second.url}/v.mp4", place)
        first = serve(video(1000), headers={"Set-Cookie": "a=b", "ETag": '"one"'}, turns=[500])
        hook.download(f"{first.url}/v.mp4", place.with_name("w.mp4"))
        assert not any("cookie" in request for request in first.requests + second.requests)

    def test_credentials_in_a_link_go_nowhere(self, serve, hook, place):
        host = serve(video(1000))
        hook.download(host.url.replace("//", "//user:secret@") + "/v.mp4", place)
        assert "authorization" not in host.requests[0]

    def test_a_proxy_looks_names_up_itself_but_takes_no_written_address(self, serve, connect, place):
        proxy = serve(video(1000))
        hook = KirinHook(connect("https://gateway.invalid", proxies=proxy.url, timeout=5))
        assert hook.download("http://videos.invalid/v.mp4", place) == 1000
        for host in ("169.254.169.254", "169.254.169.254.", "１６９.254.169。254", "0xa9fea9fe", "LOCALHOST.", "[::1]"):
            with pytest.raises(KirinResponseError, match="public internet address"):
                hook.download(f"http://{host}/v.mp4", place)
        assert [request["path"] for request in proxy.requests] == ["http://videos.invalid/v.mp4"]

    @pytest.mark.parametrize(
        "host",
        [
            "%31%32%37.0.0.1",
            "%5b::1%5d",
            "127.0.0.1:{port}\\@public.invalid",
            "①②⑦.0.0.1",
            "%EF%BC%91%32%37.1",
            "0177.1",
            "4294967296",
        ],
    )
    def test_what_is_judged_is_what_the_proxy_is_asked_for(self, serve, connect, place, host):
        proxy = serve(video(1000))
        port = proxy.url.rpartition(":")[2]
        hook = KirinHook(connect("https://gateway.invalid", proxies=proxy.url, timeout=5))
        with pytest.raises(KirinResponseError, match=r"public internet|not an http or https URL") as caught:
            hook.download(f"http://{host.format(port=port)}/v.mp4", place)
        assert not caught.value.retryable and proxy.requests == []

    def test_a_proxy_gets_an_address_that_it_cannot_misread(self, serve, connect, place):
        proxy = serve(video(1000))
        hook = KirinHook(connect("https://gateway.invalid", proxies=proxy.url, timeout=5))
        hook.download("http://010.0.0.1:81/v.mp4", place)
        assert [request["path"] for request in proxy.requests] == ["http://8.0.0.1:81/v.mp4"]


class TestTheConnectionIsTheOneThatWasJudged:
    """A name that means one address when it is judged and another when it is called, and hosts with several."""

    ONLY_ONE = PrivateHosts.of(["127.0.0.1"], own_host="gateway.invalid")

    @staticmethod
    def get(host: VideoHost, answers: list[list[str]], rules: PrivateHosts = ONLY_ONE) -> tuple[int, int]:
        asked = []

        def resolve(name, port):
            asked.append(name)
            return answers[min(len(asked), len(answers)) - 1]

        with guarded_session(rules, resolve) as session:
            session.trust_env = False
            status = session.get(f"http://videos.test:{host.url.rpartition(':')[2]}/v.mp4", timeout=HANG).status_code
        return status, len(asked)

    def test_a_name_is_looked_up_once_per_connection(self, serve):
        host = serve(video(1000))
        assert self.get(host, [["127.0.0.1"], ["127.0.0.2"]]) == (200, 1)
        assert host.requests[0]["host"].startswith("videos.test:")

    def test_an_address_that_is_not_allowed_is_passed_over(self, serve):
        inner = serve(video(1000), address="127.0.0.2")
        with pytest.raises(KirinResponseError, match=r"videos\.test"):
            self.get(inner, [["127.0.0.2", "10.0.0.1", "::1"]])
        assert inner.requests == []
        assert self.get(serve(video(1000)), [["127.0.0.2", "127.0.0.1"]]) == (200, 1)

    def test_the_next_address_is_tried_where_one_does_not_answer(self, serve):
        host = serve(video(1000), address="127.0.0.2")
        both = PrivateHosts.of(["127.0.0.0/8"], own_host="gateway.invalid")
        assert self.get(host, [["127.0.0.1", "127.0.0.2"]], both) == (200, 1)

    def test_no_address_answers(self, serve):
        with pytest.raises(requests.ConnectionError):
            self.get(VideoHost(b"", address="127.0.0.3"), [["127.0.0.1"]])

    def test_tls_still_checks_the_name(self, authority, counting_gateway):
        gateway = counting_gateway(tls=authority.server)
        with guarded_session(self.ONLY_ONE, lambda name, port: ["127.0.0.1"]) as session:
            session.trust_env, session.verify = False, str(authority.bundle)
            assert session.get(f"{gateway.url}/nothing", timeout=HANG).status_code == 404
            with pytest.raises(requests.exceptions.SSLError, match=r"videos\.test"):
                session.get(f"{gateway.url.replace('127.0.0.1', 'videos.test')}/nothing", timeout=HANG)


class TestAStorageThatFails:
    @pytest.fixture
    def flaky(self) -> Any:
        """A path in a store that takes half of the third piece, fails, and works from then on."""
        from airflow.sdk import ObjectStoragePath
        from airflow.sdk.io import attach
        from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

        class FlakyFile(MemoryFile):
            def write(self, data):
                self.fs.writes += 1
                if self.fs.writes == 3:
                    super().write(data[: len(data) // 2])
                    raise OSError("the store is restarting")
                return super().write(data)

        class Flaky(MemoryFileSystem):
            cachable = False
            store: ClassVar[dict] = {}
            pseudo_dirs: ClassVar[list] = [""]
            writes = 0

            def _open(self, path, mode="rb", **options):
                if mode != "wb":
                    return super()._open(path, mode, **options)
                file = FlakyFile(self, path)
                file.commit()
                return file

        # Airflow keeps what was attached, by this name.
        attach("memory", conn_id="flaky", fs=Flaky())
        return ObjectStoragePath("memory://flaky@folder/v.mp4")

    def test_nothing_is_appended_to_what_it_may_have_kept(self, serve, hook, flaky, caplog):
        host = serve(video(3 * MEGABYTE))
        hook.download(f"{host.url}/v.mp4", flaky)
        assert flaky.fs.writes > 3 and "the store is restarting" in caplog.text
        assert flaky.fs.cat_file("/folder/v.mp4") == host.body
        assert list(flaky.fs.store) == ["/folder/v.mp4"]

    def test_a_folder_that_is_deleted_meanwhile_is_created_again(self, serve, hook, place):
        def delete(host):
            if len(host.requests) == 2:
                shutil.rmtree(place.parent)

        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE], before=delete)
        hook.download(f"{host.url}/v.mp4", place)
        assert place.read_bytes() == host.body and files_below(place.parent) == ["video.mp4"]

    def test_a_full_disk_is_an_error_that_leaves_nothing(self, serve, connect, place):
        host = serve(video(3 * MEGABYTE))
        connect(host.url)
        script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from airflow_provider_kirin.hooks.kirin import KirinHook
hook = KirinHook()
hook.connection
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    hook.download({host.url!r} + "/v.mp4?sig=SECRET", {str(place)!r})
except Exception as error:
    print(type(error).__name__, error.retryable, error)
"""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
        )
        assert "KirinDestinationError True" in done.stdout and "File too large" in done.stdout, done
        assert "SECRET" not in done.stdout + done.stderr and files_below(place.parent) == []


class TestTheLog:
    def test_no_error_shows_the_query_of_a_link(self, serve, hook, place, caplog):
        closed = serve(b"")
        closed.__exit__()
        redirecting = serve(video(1000), turns=[f"{closed.url}/v.mp4?sig=SECRET"] * 9)
        for url in (closed.url, redirecting.url):
            with pytest.raises(KirinNetworkError, match="Connection refused") as caught:
                hook.download(f"{url}/v.mp4?sig=SECRET", place)
            assert "SECRET" not in f"{caught.value} {caught.value!r} {caplog.text}"

    def test_urllib3_does_not_log_the_query_at_any_level(self, serve, hook, place, caplog):
        host = serve(video(1000), turns=["/w.mp4?sig=SECRET"])
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
            hook.download(f"{host.url}/v.mp4?sig=SECRET", place)
            assert '"GET /v.mp4?... ' in caplog.text and '"GET /w.mp4?... ' in caplog.text
            assert "SECRET" not in caplog.text
            # What others ask for in this process is theirs.
            requests.get(f"{host.url}/page?number=2", timeout=HANG)
        assert '"GET /page?number=2 ' in caplog.text

    def test_a_warning_about_malformed_headers_does_not_show_the_query(self, raw_server, hook, place, caplog):
        response = whole(b"\0\0\0\x0cftypmp42", kind="video/mp4\r\nno header at all")
        hook.download(f"{raw_server(replying(response)).url}/v.mp4?sig=SECRET", place)
        assert "Failed to parse headers" in caplog.text and "/v.mp4?..." in caplog.text
        assert "SECRET" not in caplog.text

    def test_long_downloads_say_how_far_they_are(self, serve, hook, place, caplog, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.download.http_range.REPORT_EVERY", 0.0)
        host = serve(video(2 * MEGABYTE))
        with caplog.at_level(logging.INFO):
            hook.download(f"{host.url}/v.mp4?sig=SECRET", place)
        assert "of 2,000,000 bytes (" in caplog.text and "MB/s" in caplog.text
        assert "SECRET" not in caplog.text

    def test_a_cut_says_what_is_kept(self, serve, hook, place, caplog):
        host = serve(video(2 * MEGABYTE), turns=[MEGABYTE, 403])
        with caplog.at_level(logging.INFO):
            hook.download(f"{host.url}/v.mp4?sig=SECRET", place, fresh_url=lambda: f"{host.url}/v.mp4?sig=SECRET2")
        assert "with 1,000,000 bytes received" in caplog.text and "Resuming after byte 1,000,000" in caplog.text
        assert "fresh one" in caplog.text and "SECRET" not in caplog.text


def test_the_memory_does_not_grow_with_the_file(connect, tmp_path):
    with EndlessHost(video(MEGABYTE), large=300 * MEGABYTE) as host:
        connect(host.url)
        size, kilobytes = memory_of_a_download(host.url, str(tmp_path / "video"))
    assert size == 300 * MEGABYTE == (tmp_path / "video-large.mp4").stat().st_size
    assert kilobytes < 64 * 1024, f"{kilobytes} kB more for 300 MB"


def test_no_link_no_download(hook, place):
    with pytest.raises(KirinError, match="not an http or https URL"):
        hook.download("s3://bucket/v.mp4", place)
