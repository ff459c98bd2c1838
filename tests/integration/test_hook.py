"""What KirinHook alone does: submit, wait in this process, download. What both hooks do is in test_both_hooks.py."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_kirin.api.retry import SubmissionOutcome, classify_submission_error
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinConfigError,
    KirinConflictError,
    KirinDestinationError,
    KirinError,
    KirinInputError,
    KirinNetworkError,
    KirinNoVideoError,
    KirinPayloadError,
    KirinRateLimitError,
    KirinResponseError,
    KirinTimeoutError,
    KirinUnavailableError,
)
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook, KirinHook
from tests.support.emulator import KEY
from tests.support.leftovers import everything_shown
from tests.support.raw_server import ECHOES, TASK, WAYS, replying, whole
from tests.support.video_host import is_mp4
from tests.support.waiting import HANG


@pytest.fixture
def hook(conn_id) -> Iterator[KirinHook]:
    hook = KirinHook(conn_id)
    yield hook
    hook.close()


@pytest.fixture
def payload(image_file) -> dict[str, str]:
    return {"image": image_file, "prompt": "The sun goes round."}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections. It is taken all the while, so that no other process begins to listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


class TestSubmitAndLookUp:
    def test_a_submission_is_taken_once_and_can_be_asked_for(self, hook, emulator, payload):
        submitted = hook.submit(payload)
        assert submitted.id and submitted.status == "in_progress" and submitted.model == "kirin_v1_6_i2v"
        assert [row["id"] for row in emulator.ledger()["paid"]] == [submitted.id]
        assert hook.get_task(submitted.id).id == submitted.id

    def test_it_is_found_by_the_callers_own_id(self, hook, payload):
        submitted = hook.submit({**payload, "external_task_id": "order-17/büro & co?"})
        assert submitted.external_task_id == "order-17/büro & co?"
        assert hook.get_task("order-17/büro & co?").id == submitted.id

    def test_an_id_that_is_in_use_is_a_conflict(self, hook, emulator, payload):
        hook.submit({**payload, "external_task_id": "order-18"})
        with pytest.raises(KirinConflictError):
            hook.submit({**payload, "external_task_id": "order-18"})
        assert emulator.submitted == 1

    @pytest.mark.parametrize("shape", ["bytes", "base64", "data URI", "path", "Path", "file URI"])
    def test_every_form_of_an_image_arrives(self, hook, emulator, image_bytes, image_file, shape):
        text = base64.b64encode(image_bytes).decode()
        image = {
            "bytes": image_bytes,
            "base64": text,
            "data URI": f"data:image/jpeg;base64,{text}",
            "path": image_file,
            "Path": Path(image_file),
            "file URI": Path(image_file).as_uri(),
        }[shape]
        hook.submit({"image": image})
        assert emulator.submitted == 1

    def test_a_bad_payload_is_never_sent(self, hook, emulator, payload):
        with pytest.raises(KirinPayloadError) as caught:
            hook.submit({**payload, "promt": "x", "duration": "7"})
        assert {problem.field for problem in caught.value.problems} == {"promt", "duration"}
        assert emulator.requests() == []

    @pytest.mark.parametrize("call", ["submit", "precharge"])
    def test_the_key_is_never_sent_in_a_payload(self, hook, emulator, payload, call):
        with pytest.raises(KirinPayloadError, match="contains the connection's API key"):
            getattr(hook, call)({**payload, "prompt": f"Say {hook.connection.api_key}."})
        assert emulator.requests() == []

    def test_what_only_the_gateway_knows_is_its_refusal(self, hook, emulator, payload):
        body = {"error": {"code": "8002005002", "message": "cannot read the image"}}
        emulator.fault(on="submit", kind="status", status=400, body=body)
        with pytest.raises(KirinInputError, match=r"8002005002.*cannot read the image") as caught:
            hook.submit(payload)
        assert (caught.value.code, caught.value.http_status, caught.value.retryable) == ("8002005002", 400, False)

    def test_a_wrong_key_is_an_auth_error(self, connect, emulator, payload):
        hook = KirinHook(connect(emulator.url, key="wrong-key-of-mine"))
        with pytest.raises(KirinAuthError) as caught:
            hook.submit(payload)
        assert not caught.value.retryable and "API Key" in str(caught.value)
        assert "wrong-key-of-mine" not in everything_shown(caught.value)

    def test_temporary_errors_of_a_lookup_are_retried(self, hook, emulator, payload):
        kirin_task_id = hook.submit(payload).id
        emulator.fault(on="get", kind="status", status=503)
        assert hook.get_task(kirin_task_id).id == kirin_task_id

    def test_an_error_that_stays_is_raised(self, hook, emulator, payload):
        emulator.fault(on="get", kind="status", status=503, times=-1)
        with pytest.raises(KirinUnavailableError):
            hook.get_task("whatever", patience=0)

    def test_429_has_the_seconds_to_wait(self, hook, emulator, payload):
        emulator.fault(on="submit", kind="status", status=429, retry_after=7)
        with pytest.raises(KirinRateLimitError) as caught:
            hook.submit(payload)
        assert caught.value.retry_after == 7
        assert emulator.submitted == 0


class TestWait:
    def test_completed_without_a_video_is_final(self, hook, payload):
        kirin_task = hook.submit({**payload, "prompt": "[[no-video]]"})
        with pytest.raises(KirinNoVideoError) as caught:
            hook.wait(kirin_task.id, timeout=HANG)
        assert not caught.value.retryable

    def test_a_timeout_names_the_generation_that_continues(self, hook, payload):
        kirin_task = hook.submit({**payload, "prompt": "[[seconds:600]]"})
        with pytest.raises(KirinTimeoutError, match=kirin_task.id) as caught:
            hook.wait(kirin_task.id, timeout=0.5, poll_interval=0.1)
        assert caught.value.kirin_task_ids == (kirin_task.id,)

    def test_an_unknown_status_counts_as_in_progress_and_is_logged(self, hook, emulator, payload, capfd):
        kirin_task = hook.submit({**payload, "prompt": "[[status:pondering-deeply]] [[seconds:600]]"})

        def finish() -> None:
            emulator.until_asked("GET", kirin_task.id, 2)
            emulator.finish()

        with ThreadPoolExecutor() as pool:
            pool.submit(finish)
            assert hook.wait(kirin_task.id, timeout=HANG, poll_interval=0.1).status == "completed"
        assert capfd.readouterr().out.count("unknown status 'pondering-deeply'") == 1

    def test_a_response_to_a_submission_that_describes_another_generation(self, connect, raw_server, payload):
        body = {"id": "bobs", "status": "in_progress", "external_task_id": "bob-1"}
        hook = KirinHook(connect(raw_server(replying(whole(body))).url))
        with pytest.raises(KirinResponseError, match=r"mine-1.*bobs.*bob-1") as caught:
            hook.submit({**payload, "external_task_id": "mine-1"})
        assert classify_submission_error(caught.value) is SubmissionOutcome.UNKNOWN

    def test_what_is_dropped_is_logged_once(self, connect, raw_server, capfd):
        body = {**TASK, "usage": {"cost": "-100"}, "metadata": {"note": "x" * 20_000}}
        hook = KirinHook(connect(raw_server(replying(whole(body))).url))
        assert hook.wait("kirin-1", timeout=HANG).usage.cost is None
        out = capfd.readouterr().out
        assert out.count("from the response about Kirin generation kirin-1: usage.cost = -100, metadata (") == 1

    def test_temporary_errors_are_retried(self, hook, emulator, payload):
        kirin_task = hook.submit(payload)
        emulator.fault(on="get", kind="cut_mid_response")
        assert hook.wait(kirin_task.id, timeout=HANG, poll_interval=0.1).status == "completed"

    def test_a_lookup_that_lags_is_retried_at_any_interval(self, hook, emulator, payload):
        emulator.fault(on="submit", kind="lag", seconds=2)
        kirin_task = hook.submit(payload)
        assert hook.wait(kirin_task.id, timeout=7200, poll_interval=3600).status == "completed"


class TestTestConnection:
    def test_the_right_key(self, hook, emulator):
        works, said = hook.test_connection()
        assert works and emulator.url in said
        assert emulator.submitted == 0

    def test_a_wrong_key(self, connect, emulator):
        works, said = KirinHook(connect(emulator.url, key="wrong-key-of-mine")).test_connection()
        assert not works and "401" in said and "API Key" in said
        assert "wrong-key-of-mine" not in said

    def test_no_key(self, connect, emulator):
        works, said = KirinHook(connect(emulator.url, key=None)).test_connection()
        assert not works and "no API key" in said

    def test_an_unreachable_host(self, connect, closed_port):
        works, said = KirinHook(connect(f"http://127.0.0.1:{closed_port}")).test_connection()
        assert not works and "Could not connect" in said and str(closed_port) in said

    def test_a_wrong_path(self, connect, emulator):
        works, said = KirinHook(connect(f"{emulator.url}/elsewhere")).test_connection()
        assert not works and "path" in said and "/elsewhere" in said

    @pytest.mark.parametrize(
        "response",
        [
            whole("<!doctype html><h1>Welcome</h1>", kind="text/html"),
            whole("<html><h1>Not Found</h1></html>", kind="text/html", status="404 Not Found"),
            whole({"message": "no such route"}, status="404 Not Found"),
            whole({"ok": True}),
            whole(""),
            whole("", status="204 No Content"),
        ],
        ids=["200 HTML", "404 HTML", "404 JSON", "200 JSON", "200 empty", "204"],
    )
    def test_a_server_that_is_no_kirin_gateway(self, connect, raw_server, response):
        works, said = KirinHook(connect(raw_server(replying(response)).url)).test_connection()
        assert not works and "Host" in said, said

    def test_a_redirect(self, connect, raw_server, emulator):
        target = f"{emulator.url}/model/v1/generation/task/x"
        server = raw_server(replying(whole("", status="301 Moved Permanently", headers={"Location": target})))
        works, said = KirinHook(connect(server.url)).test_connection()
        assert not works and "redirect" in said and emulator.url in said
        assert emulator.requests() == []

    def test_a_misnamed_extra(self, connect, emulator):
        works, said = KirinHook(connect(emulator.url, timout=3, **{KEY: 1})).test_connection()
        assert not works and "timout (did you mean timeout?), 1 whose name is not shown" in said
        assert KEY not in said and emulator.requests() == []

    @pytest.mark.parametrize("extra", ["[1]", '"text"', "5", "null", "{timeout: 5}"])
    async def test_an_extra_that_is_not_an_object(self, monkeypatch, extra):
        connection = {"conn_type": "kirin", "host": "http://kirin.test", "password": KEY, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps(connection))
        works, said = KirinHook("odd").test_connection()
        assert not works and "the Kirin connection 'odd' is " in said and "Make it an object" in said
        with pytest.raises(KirinConfigError, match="Make it an object"):
            KirinHook("odd").get_task("one")
        with pytest.raises(KirinConfigError, match="Make it an object"):
            await KirinAsyncHook("odd").get_task("one")

    @pytest.mark.parametrize("way", ["reset after the request", "not HTTP", "an endless body"])
    def test_an_error_is_a_message_and_not_a_traceback(self, connect, raw_server, way):
        works, said = KirinHook(connect(raw_server(WAYS[way]).url, timeout=1)).test_connection()
        assert not works and said

    def test_a_gateway_that_hangs_does_not_hold_the_api_server_for_long(self, connect, raw_server, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.hooks.kirin.TEST_TIMEOUT", 0.5)
        works, said = KirinHook(connect(raw_server(WAYS["silence"]).url, timeout=2 * HANG)).test_connection()
        assert not works and "No response" in said

    @pytest.mark.parametrize("host", ["ftp://kirin.test", "http://", "http://user:secret@kirin.test", "http://h:port"])
    def test_a_malformed_host(self, connect, host):
        works, said = KirinHook(connect(host)).test_connection()
        assert not works and "Host" in said and "secret" not in said


class TestTheKeyStaysWhereItBelongs:
    def test_netrc_does_not_replace_it(self, hook, payload, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login any password body\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        # The emulator refuses what is not its Bearer key, and a video that is asked for with any credentials.
        done = hook.wait(hook.submit(payload).id, timeout=HANG)
        assert hook.download(done.videos[0].url, tmp_path / "video.mp4") > 0
        assert hook.test_connection()[0]

    def test_it_is_no_part_of_any_repr(self, hook):
        shown = repr(hook.connection) + repr(hook) + repr(hook.get_conn().headers)
        assert KEY not in shown

    @pytest.mark.parametrize("response", ECHOES.values(), ids=ECHOES)
    def test_a_gateway_that_echoes_it_does_not_spread_it(self, connect, raw_server, payload, response, caplog, capfd):
        hook = KirinHook(connect(raw_server(replying(response)).url, timeout=2))
        shown = []
        # urllib3 logs headers that it cannot read, as they came; there Airflow's own masking of passwords is the means.
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.ERROR, logger="urllib3.connection"):
            for call in (
                lambda: hook.submit(payload),
                hook.test_connection,
            ):
                try:
                    shown.append(repr(call()))
                except KirinError as error:
                    shown.append(everything_shown(error))
        hook.close()
        captured = capfd.readouterr()
        for text in (*shown, caplog.text, captured.out, captured.err):
            assert KEY not in text

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_not_followed(self, connect, raw_server, emulator, payload, status):
        location = {"Location": f"{emulator.url}/model/v1/generation"}
        hook = KirinHook(connect(raw_server(replying(whole("", status=f"{status} See", headers=location))).url))
        for call in (lambda: hook.submit(payload), lambda: hook.get_task("one")):
            with pytest.raises(KirinConfigError, match="redirect") as caught:
                call()
            assert emulator.url in str(caught.value)
        assert emulator.requests() == []

    def test_a_location_that_is_no_text_makes_no_difference(self, connect, raw_server, payload):
        response = b"HTTP/1.1 302 Found\r\nLocation: http://x/\xff\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(KirinConfigError, match="redirect"):
            KirinHook(connect(raw_server(replying(response)).url)).submit(payload)

    def test_cookies_are_not_kept(self, connect, raw_server):
        server = raw_server(replying(whole(TASK, headers={"Set-Cookie": "session=1; Path=/"})))
        hook = KirinHook(connect(server.url))
        for _ in range(2):
            hook.get_task("one")
        assert b"cookie:" not in server.requests[1].lower()


class TestAMisbehavingGateway:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_submission_ends_in_a_kirin_error_and_is_not_repeated(self, connect, raw_server, payload, way):
        server = raw_server(WAYS[way])
        hook = KirinHook(connect(server.url, timeout=1))
        with pytest.raises(KirinError) as caught:
            hook.submit(payload)
        assert len(everything_shown(caught.value)) < 20_000, "an error too long for a log"
        hook.close()
        posts = [request for request in server.requests if request.startswith(b"POST")]
        assert len(posts) == 1, "a submission that may have been accepted was sent again"

    def test_a_refused_connection_was_surely_not_sent(self, connect, closed_port, payload):
        hook = KirinHook(connect(f"http://127.0.0.1:{closed_port}"))
        with pytest.raises(KirinNetworkError, match="Could not connect") as caught:
            hook.submit(payload)
        assert caught.value.sent is False and caught.value.retryable

    @pytest.mark.parametrize("way", ["reset after the request", "closed without a response", "silence"])
    def test_a_lost_response_may_have_been_sent(self, connect, raw_server, payload, way):
        server = raw_server(WAYS[way])
        hook = KirinHook(connect(server.url, timeout=1))
        with pytest.raises(KirinNetworkError) as caught:
            hook.submit(payload)
        # The time may be up before anything is sent, if this process stands still.
        assert caught.value.sent is True or not server.requests

    @pytest.mark.parametrize("kind", ["lose_response", "cut_mid_response"])
    def test_a_lost_response_was_paid_for_once(self, hook, emulator, payload, kind):
        emulator.fault(on="submit", kind=kind)
        with pytest.raises(KirinNetworkError) as caught:
            hook.submit({**payload, "external_task_id": "order-19"})
        assert caught.value.sent is True
        assert [row["external_task_id"] for row in emulator.ledger()["paid"]] == ["order-19"]
        assert hook.get_task("order-19").status == "completed"

    @pytest.mark.parametrize("kind", ["lose_response", "cut_before"])
    def test_a_submit_is_not_repeated_on_a_connection_that_was_kept_open(self, hook, emulator, payload, kind):
        # On a socket that was used before, HTTP libraries like to try again by themselves.
        hook.submit(payload)
        emulator.fault(on="submit", kind=kind)
        with pytest.raises(KirinNetworkError):
            hook.submit(payload)
        assert len(emulator.requests("POST")) == 2

    def test_a_good_response_in_small_pieces_is_fine(self, connect, raw_server):
        def answer(connection, server):
            for byte in whole(TASK):
                server.send(connection, bytes([byte]))

        assert KirinHook(connect(raw_server(answer).url)).get_task("kirin-1").status == "completed"

    def test_the_longest_sensible_response_is_fine(self, connect, raw_server):
        response = whole({**TASK, "metadata": {"note": "x" * 200_000}})
        assert KirinHook(connect(raw_server(replying(response)).url)).get_task("kirin-1").status == "completed"


class TestSettings:
    def test_requests_per_second_is_kept(self, connect, emulator, payload):
        hook = KirinHook(connect(emulator.url, requests_per_second=10))
        kirin_task_id = hook.submit(payload).id
        began = time.monotonic()
        for _ in range(6):
            hook.get_task(kirin_task_id)
        assert time.monotonic() - began > 0.49
        hook.close()

    def test_an_unreachable_proxy_was_surely_not_sent(self, connect, closed_port, payload):
        hook = KirinHook(connect("http://kirin.test", proxies={"http": f"http://me:secret@127.0.0.1:{closed_port}"}))
        with pytest.raises(KirinNetworkError) as caught:
            hook.submit(payload)
        assert caught.value.sent is False
        assert "secret" not in everything_shown(caught.value)

    def test_a_missing_connection_is_named(self):
        works, said = KirinHook("no_such_connection").test_connection()
        assert not works and "no_such_connection" in said


@pytest.fixture
def video_url(hook, payload) -> str:
    """A fresh link to a video."""
    return hook.wait(hook.submit(payload).id, timeout=HANG).videos[0].url


#: A file and an object, for what does not depend on how the place is named.
STORES = pytest.mark.parametrize("destination", ["Path", "memory"], indirect=True)


@pytest.mark.usefixtures("kirin_fast_retries")
class TestDownload:
    @pytest.fixture(params=["str", "Path", "file URI", "ObjectStoragePath file", "memory"])
    def destination(self, request, tmp_path):
        """One place, named in all ways; with a folder that is not there yet."""
        from airflow.sdk import ObjectStoragePath
        from airflow.sdk.io import attach
        from fsspec.implementations.memory import MemoryFileSystem

        path = tmp_path / "new folder" / "my video.mp4"
        if request.param == "memory":
            attach("memory", fs=MemoryFileSystem())
            target = ObjectStoragePath(f"memory://{tmp_path.name}/my video.mp4")
            yield target
            target.unlink(missing_ok=True)
        else:
            yield {
                "str": str(path),
                "Path": path,
                "file URI": path.as_uri(),
                "ObjectStoragePath file": ObjectStoragePath(f"file://{path}"),
            }[request.param]

    @staticmethod
    def place(destination, tmp_path):
        return destination if "memory" in str(destination) else tmp_path / "new folder" / "my video.mp4"

    def test_the_whole_file_arrives(self, hook, video_url, destination, tmp_path):
        size = hook.download(video_url, destination)
        data = self.place(destination, tmp_path).read_bytes()
        assert len(data) == size and is_mp4(data)

    @STORES
    def test_cut_in_the_middle_is_tried_again(self, hook, emulator, video_url, destination, tmp_path):
        emulator.fault(on="video", kind="cut_mid_response")
        size = hook.download(video_url, destination)
        place = self.place(destination, tmp_path)
        assert len(place.read_bytes()) == size and is_mp4(place.read_bytes())
        assert len(emulator.requests("GET", "/cdn/")) == 2

    @STORES
    def test_cut_for_ever_leaves_nothing_behind(self, hook, emulator, video_url, destination, tmp_path):
        emulator.fault(on="video", kind="cut_mid_response", times=-1)
        with pytest.raises(KirinNetworkError) as caught:
            hook.download(video_url, destination)
        assert urlsplit(video_url).query not in everything_shown(caught.value)
        place = self.place(destination, tmp_path)
        assert not place.exists(), "half a file under the final name"
        if isinstance(place, Path):
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    @STORES
    def test_an_older_file_survives_a_failed_download(self, hook, emulator, video_url, destination, tmp_path):
        place = self.place(destination, tmp_path)
        if isinstance(place, Path):
            place.parent.mkdir()
        place.write_bytes(b"yesterday's video")
        emulator.fault(on="video", kind="cut_mid_response", times=-1)
        with pytest.raises(KirinNetworkError):
            hook.download(video_url, destination)
        assert place.read_bytes() == b"yesterday's video"

    @STORES
    def test_it_replaces_a_file_unless_told_not_to(self, hook, emulator, video_url, destination, tmp_path):
        place = self.place(destination, tmp_path)
        if isinstance(place, Path):
            place.parent.mkdir()
        place.write_bytes(b"yesterday's video")
        with pytest.raises(KirinDestinationError, match="already exists"):
            hook.download(video_url, destination, overwrite=False)
        assert place.read_bytes() == b"yesterday's video"
        hook.download(video_url, destination)
        assert is_mp4(place.read_bytes())

    @pytest.mark.parametrize("query", ["Expires=1&Signature=0123", "", "Signature="])
    def test_an_expired_link_is_reported_and_not_tried_again(self, hook, emulator, video_url, tmp_path, query):
        with pytest.raises(KirinResponseError, match="expired") as caught:
            hook.download(f"{video_url.partition('?')[0]}?{query}", tmp_path / "video.mp4")
        assert caught.value.retryable, "an operator's next try gets a fresh link"
        assert len(emulator.requests("GET", "/cdn/")) == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/json"])
    def test_a_page_is_no_video(self, hook, emulator, video_url, tmp_path, kind):
        emulator.fault(on="video", kind="garbage", content_type=kind)
        with pytest.raises(KirinResponseError, match="not a video"):
            hook.download(video_url, tmp_path / "video.mp4")
        assert list(tmp_path.iterdir()) == []

    def test_the_host_of_the_video_never_sees_the_key(self, connect, raw_server, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("default login any password body\n")
        monkeypatch.setenv("NETRC", str(netrc))
        video = whole(b"\0\0\0\x0cftypmp42", kind="video/mp4", headers={"Set-Cookie": "a=b"})
        second = raw_server(replying(video))
        first = raw_server(replying(whole("", status="302 Found", headers={"Location": f"{second.url}/v.mp4?sig=1"})))
        hook = KirinHook(connect(first.url))
        # As after a request to the gateway on the same host: nothing of its session may be reused.
        with pytest.raises(KirinError):
            hook.get_task("one", patience=0)
        assert hook.download(f"{first.url}/v.mp4", tmp_path / "video.mp4") == 12
        for request in (first.requests[1], second.requests[0]):
            head = request.lower()
            assert KEY.lower().encode() not in head
            assert b"authorization" not in head and b"cookie" not in head
            assert b"content-type" not in head

    def test_redirects_in_a_circle_end(self, connect, raw_server, tmp_path):
        server = raw_server(replying(whole("", status="302 Found", headers={"Location": "/again"})))
        with pytest.raises(KirinError):
            KirinHook(connect(server.url)).download(f"{server.url}/v.mp4", tmp_path / "video.mp4")
        assert len(server.requests) < 40
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/v.mp4", "/etc/passwd", "", "http://"])
    def test_only_the_web_is_downloaded_from(self, hook, tmp_path, url):
        with pytest.raises(KirinError):
            hook.download(url, tmp_path / "video.mp4")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "way",
        [
            "reset after the request",
            "closed in the middle of the body",
            "content length too long",
            "not HTTP",
            "broken gzip",
            "a broken chunk",
            "an empty body",
        ],
    )
    def test_a_misbehaving_host_leaves_nothing_behind(self, connect, raw_server, tmp_path, way):
        answer = WAYS[way]

        def as_video(connection, server):
            class Sender:
                stopping = server.stopping

                @staticmethod
                def send(connection, data):
                    server.send(connection, data.replace(b"application/json", b"video/mp4"))

            answer(connection, Sender)

        server = raw_server(as_video)
        with pytest.raises(KirinError):
            KirinHook(connect(server.url, timeout=1)).download(f"{server.url}/v.mp4", tmp_path / "video.mp4")
        assert list(tmp_path.iterdir()) == []

    def test_a_destination_that_cannot_be_written_is_an_error(self, hook, video_url, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises((OSError, KirinError)):
            hook.download(video_url, tmp_path / "file" / "video.mp4")


def test_what_goes_over_the_wire_is_what_the_api_asks_for(connect, raw_server, image_bytes):
    server = raw_server(replying(whole({"id": "kirin-1", "status": "in_progress"})))
    hook = KirinHook(connect(f"{server.url}/some/path/"))
    hook.submit({"image": image_bytes, "prompt": "p", "duration": 10, "cfg_scale": "0.25", "mode": None})
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /some/path/model/v1/generation HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}\r\n".encode() in head + b"\r\n"
    assert b"Content-Type: application/json\r\n" in head + b"\r\n"
    sent = json.loads(body)
    assert sent["model"] == "kirin_v1_6_i2v"
    params = sent["input"][0]["params"]
    assert params["image"] == base64.b64encode(image_bytes).decode()
    assert (params["duration"], params["cfg_scale"], params["mode"]) == ("10", 0.25, "std")
