"""When the rest of a file may follow what is here, and what counts as a video."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_provider_kirin.download.http_range import (
    MIN_BYTES,
    WINDOW_SECONDS,
    DownloadProgress,
    RemoteFile,
    ThroughputGuard,
    first_byte,
    is_continuation,
    is_expired,
    is_mp4,
    is_packed,
    is_self_delimited,
    is_success,
    is_temporary,
    may_be_video,
    range_headers,
    read_remote_file,
)

DATE = "Tue, 24 Nov 2026 10:00:00 GMT"


class TestRemoteFile:
    @pytest.mark.parametrize(
        ("headers", "announced"),
        [
            ({}, RemoteFile(None, None)),
            ({"Content-Length": "12", "ETag": '"a"'}, RemoteFile(12, '"a"')),
            ({"content-length": "0", "etag": ' "a" ', "Last-Modified": DATE}, RemoteFile(0, '"a"')),
            ({"Last-Modified": DATE}, RemoteFile(None, DATE)),
            ({"ETag": 'W/"a"', "Last-Modified": DATE}, RemoteFile(None, None)),
            ({"ETag": "unquoted"}, RemoteFile(None, None)),
            ({"Content-Length": "many"}, RemoteFile(None, None)),
            ({"Content-Length": "-1"}, RemoteFile(None, None)),
            ({"Content-Length": "\u0661"}, RemoteFile(None, None)),
            ({"Content-Length": "12", "ETag": '"a"', "Content-Encoding": "gzip"}, RemoteFile(None, None)),
            ({"Content-Length": "12", "Content-Encoding": " Identity"}, RemoteFile(12, None)),
            ({"Content-Length": "9" * 5000}, RemoteFile(None, None)),
            ({"Content-Length": "12", "Content-Range": "bytes 0-11/20"}, RemoteFile(20, None)),
            ({"Content-Length": "12", "Content-Range": "bytes 0-11/*"}, RemoteFile(None, None)),
        ],
    )
    def test_headers_are_read(self, headers: dict[str, str], announced: RemoteFile) -> None:
        assert read_remote_file(CaseInsensitiveDict(headers)) == announced


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, False),
        ({"Content-Length": "12"}, True),
        ({"Content-Length": "twelve"}, False),
        ({"Transfer-Encoding": " Chunked"}, True),
        ({"Transfer-Encoding": "gzip, chunked"}, False),
        ({"Content-Encoding": "gzip", "Content-Length": "12"}, False),
        ({"Content-Encoding": "br", "Transfer-Encoding": "chunked"}, False),
        ({"Content-Range": "bytes 0-11/12", "Content-Length": "12"}, True),
        ({"Content-Range": "bytes 0-11/*", "Content-Length": "12"}, False),
    ],
)
def test_truncation_is_detectable_from_the_headers(headers: dict[str, str], says: bool) -> None:
    assert is_self_delimited(CaseInsensitiveDict(headers)) is says


@pytest.mark.parametrize(
    ("encoding", "is_it"), [("gzip", True), (" GZIP", True), ("br", True), ("", False), ("Identity ", False)]
)
def test_content_encoding_means_packed(encoding: str, is_it: bool) -> None:
    assert is_packed({"Content-Encoding": encoding}) is is_it


@pytest.mark.parametrize(
    ("status", "content_range", "first"),
    [
        (200, "", 0),
        (200, "bytes 0-9/10", 0),
        (200, "bytes 5-9/10", 5),
        (200, "lines 5-9/10", 0),
        (206, "bytes 5-9/*", 5),
        (203, "", 0),
        (206, "", 0),
        (206, "bytes */10", None),
        (206, f"bytes {'5' * 5000}-9/10", None),
    ],
)
def test_first_byte_of_a_body(status: int, content_range: str, first: int | None) -> None:
    assert first_byte(status, {"Content-Range": content_range}) == first


class TestContinuation:
    def test_a_range_is_requested_only_with_a_validator(self) -> None:
        assert range_headers(5, RemoteFile(10, '"a"')) == {"Range": "bytes=5-", "If-Range": '"a"'}
        assert range_headers(0, RemoteFile(10, '"a"')) == {}
        assert range_headers(5, RemoteFile(10, None)) == {}

    @pytest.mark.parametrize(
        ("status", "headers", "announced", "is_rest"),
        [
            (206, {"Content-Range": "bytes 5-9/10", "ETag": '"a"'}, RemoteFile(10, '"a"'), True),
            (206, {"Content-Range": "bytes 5-9/*", "ETag": '"a"'}, RemoteFile(10, '"a"'), True),
            (206, {"Content-Range": "bytes 5-9/10", "ETag": '"a"'}, RemoteFile(None, '"a"'), True),
            (206, {"Content-Range": "bytes 5-9/10", "Last-Modified": DATE}, RemoteFile(10, DATE), True),
            (200, {"Content-Range": "bytes 5-9/10", "ETag": '"a"'}, RemoteFile(10, '"a"'), False),
            (206, {"Content-Range": "bytes 4-9/10", "ETag": '"a"'}, RemoteFile(10, '"a"'), False),
            (206, {"Content-Range": "bytes 5-9/11", "ETag": '"a"'}, RemoteFile(10, '"a"'), False),
            (206, {"Content-Range": "bytes 5-9/10", "ETag": '"b"'}, RemoteFile(10, '"a"'), False),
            (206, {"Content-Range": "bytes 5-9/10"}, RemoteFile(10, '"a"'), False),
            (
                206,
                {"Content-Range": "bytes 5-9/10", "ETag": '"a"', "Content-Encoding": "br"},
                RemoteFile(10, '"a"'),
                False,
            ),
            (206, {"ETag": '"a"'}, RemoteFile(10, '"a"'), False),
            (206, {"Content-Range": "items 5-9/10", "ETag": '"a"'}, RemoteFile(10, '"a"'), False),
        ],
    )
    def test_continuation_is_detected(
        self, status: int, headers: dict[str, str], announced: RemoteFile, is_rest: bool
    ) -> None:
        assert is_continuation(status, CaseInsensitiveDict(headers), start=5, remote_file=announced) is is_rest

    @given(st.text(max_size=30))
    def test_any_content_range_is_handled(self, text: str) -> None:
        is_continuation(206, {"Content-Range": text}, start=5, remote_file=RemoteFile(10, None))


@pytest.mark.parametrize(
    "status", [200, 202, 203, 206, 226, 301, 400, 401, 403, 404, 408, 410, 416, 425, 429, 500, 999]
)
def test_status_means_one_thing(status: int) -> None:
    assert is_success(status) is (status in (200, 203, 206))
    assert is_expired(status, is_partial=True) is (status in (401, 403, 404, 410))
    assert is_expired(status, is_partial=False) is (status in (400, 401, 403, 404, 410))
    assert is_temporary(status) is (status in (202, 226, 408, 425, 429, 500, 999))


@pytest.mark.parametrize(
    ("kind", "may_be"),
    [
        ("video/mp4", True),
        (" Video/QuickTime; codecs=x", True),
        ("application/octet-stream", True),
        ("binary/octet-stream", True),
        ("application/mp4", True),
        ("", True),
        ("text/html", False),
        ("application/json", False),
        ("Text/HTML;charset=utf-8", False),
        ("text/xml", False),
        ("application/xhtml+xml", False),
        ("application/problem+json ; charset=utf-8", False),
        ("application/x-www-form-urlencoded", True),
        ("text/plain", True),
        ("application/force-download", True),
        ("application/xmlish", True),
        ("none", True),
    ],
)
def test_content_type_may_be_video(kind: str, may_be: bool) -> None:
    assert may_be_video(kind) is may_be


def test_an_mp4_begins_with_its_type() -> None:
    assert is_mp4(b"\0\0\0\x18ftypmp42")
    assert not is_mp4(b"ftypmp42") and not is_mp4(b"") and not is_mp4(b"<!DOCTYPE html>")


class TestDownloadProgress:
    def test_progress_is_logged_every_ten_seconds(self) -> None:
        progress, announced = DownloadProgress(100.0), RemoteFile(40_000_000)
        assert progress.log_line(1, announced, 109.9) is None
        assert progress.log_line(10_000_000, announced, 110.0) == "10,000,000 of 40,000,000 bytes (25 %), 1.0 MB/s"
        assert progress.log_line(11_000_000, announced, 115.0) is None
        assert progress.log_line(30_000_000, announced, 120.0) == "30,000,000 of 40,000,000 bytes (75 %), 1.5 MB/s"

    def test_progress_without_a_length(self) -> None:
        assert DownloadProgress(0.0).log_line(5_000_000, RemoteFile(), 10.0) == "5,000,000 bytes so far, 0.5 MB/s"

    def test_progress_of_an_empty_file(self) -> None:
        assert DownloadProgress(0.0).log_line(0, RemoteFile(0), 10.0) == "0 of 0 bytes (0 %), 0.0 MB/s"


class TestThroughputGuard:
    @given(st.lists(st.floats(0, 300), max_size=200), st.integers(0, 1000))
    def test_minimum_throughput_is_enough(self, waits: list[float], more: int) -> None:
        flow = ThroughputGuard()
        assert all(flow.is_enough(int(wait * MIN_BYTES / WINDOW_SECONDS) + 1 + more, wait) for wait in waits)

    @given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0.1, 59)), min_size=1))
    def test_dripping_host_is_detected(self, drops: list[tuple[int, float]]) -> None:
        flow, waited = ThroughputGuard(), 0.0
        while waited < 10_000:
            for count, seconds in drops:
                waited += seconds
                if not flow.is_enough(int(count * seconds), seconds):
                    assert waited < 2 * WINDOW_SECONDS + 2 * 59
                    return
        raise AssertionError("waited for ever")

    def test_one_long_pause_is_excluded(self) -> None:
        flow = ThroughputGuard()
        assert flow.is_enough(1, 3600.0) and flow.is_enough(1, WINDOW_SECONDS - 1)
        assert not flow.is_enough(1, 1.0)

    def test_each_window_counts_separately(self) -> None:
        flow = ThroughputGuard()
        for _ in range(3):
            assert flow.is_enough(MIN_BYTES * 100, WINDOW_SECONDS) and flow.is_enough(0, WINDOW_SECONDS)
        assert flow.is_enough(0, WINDOW_SECONDS)
        assert not flow.is_enough(0, WINDOW_SECONDS)

    def test_time_spent_writing_does_not_count(self) -> None:
        flow = ThroughputGuard()
        assert all(flow.is_enough(1, 0.0) for _ in range(1000))
