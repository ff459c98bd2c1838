"""Downloads to a real S3 server on loopback (moto), through Airflow's own provider and its connections."""

from __future__ import annotations

import pytest

from airflow_provider_kirin.exceptions import KirinDestinationError, KirinNetworkError, KirinResponseError
from airflow_provider_kirin.hooks.kirin import KirinHook
from tests.support.memory import memory_of_a_download
from tests.support.s3 import keys, stored, unfinished
from tests.support.video_host import MEGABYTE, EndlessHost, VideoHost, video

pytestmark = pytest.mark.usefixtures("kirin_fast_retries")


@pytest.fixture
def hook(connect) -> KirinHook:
    return KirinHook(connect("http://127.0.0.1:9", timeout=5))


class TestAnObjectIsWholeOrNotThere:
    @pytest.mark.parametrize("size", [1000, 20 * MEGABYTE])
    def test_it_arrives(self, s3, hook, size):
        with VideoHost(video(size)) as host:
            assert hook.download(f"{host.url}/v.mp4", "s3://studio@videos/a/b c/v+1.mp4") == size
            assert stored(s3, "a/b c/v+1.mp4") == host.body
        assert keys(s3) == ["a/b c/v+1.mp4"] and unfinished(s3) == []

    def test_without_a_connection_the_environment_counts(self, s3, s3_server, s3_keys, hook, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_STUDIO")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
        for name, value in s3_keys.items():
            monkeypatch.setenv({"region_name": "AWS_DEFAULT_REGION"}.get(name, name.upper()), value)
        with VideoHost(video(1000)) as host:
            hook.download(f"{host.url}/v.mp4", "s3://videos/v.mp4")
        assert keys(s3) == ["v.mp4"]

    def test_a_cut_download_continues_in_the_same_upload(self, s3, hook):
        with VideoHost(video(20 * MEGABYTE), turns=[9 * MEGABYTE]) as host:
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4")
            assert stored(s3, "v.mp4") == host.body and host.sent == 20 * MEGABYTE
        assert unfinished(s3) == []

    def test_another_file_after_a_cut_begins_a_new_upload(self, s3, hook):
        def change(host):
            if len(host.requests) == 2:
                host.body, host.headers = video(18 * MEGABYTE, seed=4), {"ETag": '"two"'}

        with VideoHost(video(20 * MEGABYTE), turns=[9 * MEGABYTE], before=change) as host:
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4")
            assert stored(s3, "v.mp4") == video(18 * MEGABYTE, seed=4)
        assert unfinished(s3) == []

    @pytest.mark.parametrize("older", [None, b"yesterday's video"])
    def test_nothing_is_seen_before_it_is_whole(self, s3, hook, older):
        if older:
            s3.put_object(Bucket="videos", Key="v.mp4", Body=older)
        seen = []

        def look(host):
            if len(host.requests) == 2:
                seen.append((stored(s3, "v.mp4") if older else keys(s3), len(unfinished(s3))))

        with VideoHost(video(20 * MEGABYTE), turns=[9 * MEGABYTE], before=look) as host:
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4")
        assert seen == [(older or [], 1)]
        assert len(stored(s3, "v.mp4")) == 20 * MEGABYTE

    @pytest.mark.parametrize("older", [None, b"yesterday's video"])
    @pytest.mark.parametrize(
        ("turns", "error"),
        [([9 * MEGABYTE, 0, 0, 0, 0], KirinNetworkError), ([9 * MEGABYTE, 403], KirinResponseError)],
        ids=["cut for ever", "refused in the middle"],
    )
    def test_a_failed_download_takes_its_parts_back(self, s3, hook, older, turns, error):
        if older:
            s3.put_object(Bucket="videos", Key="v.mp4", Body=older)
        with VideoHost(video(20 * MEGABYTE), turns=list(turns)) as host, pytest.raises(error):
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4")
        assert unfinished(s3) == []
        assert [stored(s3, key) for key in keys(s3)] == ([older] if older else [])

    def test_a_download_that_is_too_long_takes_its_parts_back(self, s3, hook):
        with (
            VideoHost(video(20 * MEGABYTE), says_length=False) as host,
            pytest.raises(KirinResponseError, match="max_bytes"),
        ):
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4", max_bytes=10 * MEGABYTE)
        assert keys(s3) == [] and unfinished(s3) == []

    def test_a_download_that_is_interrupted_takes_its_parts_back(self, s3, hook):
        def end(host):
            if len(host.requests) == 2:
                raise KeyboardInterrupt

        with VideoHost(video(20 * MEGABYTE), turns=[9 * MEGABYTE, 403]) as host, pytest.raises(KeyboardInterrupt):
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4", fresh_url=lambda: end(host))
        assert keys(s3) == [] and unfinished(s3) == []

    def test_a_download_that_ends_in_the_middle_of_the_video_takes_its_parts_back(self, s3, hook):
        half = {"says_length": False, "headers": {}, "turns": [9 * MEGABYTE] * 9}
        with VideoHost(video(20 * MEGABYTE), **half) as host, pytest.raises(KirinResponseError, match="in the middle"):
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4")
        assert keys(s3) == [] and unfinished(s3) == []


class TestWhatIsThere:
    def test_the_same_object_is_not_fetched_again(self, s3, hook, caplog):
        with VideoHost(video(3 * MEGABYTE)) as host, caplog.at_level("INFO"):
            for _ in range(2):
                hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4", overwrite=False)
        assert caplog.text.count("not downloaded again") == 1

    def test_another_one_may_stay(self, s3, hook):
        s3.put_object(Bucket="videos", Key="v.mp4", Body=b"yesterday's video")
        with VideoHost(video(1000)) as host, pytest.raises(KirinDestinationError, match="already exists"):
            hook.download(f"{host.url}/v.mp4", "s3://studio@videos/v.mp4", overwrite=False)
        assert stored(s3, "v.mp4") == b"yesterday's video"


def test_a_bucket_that_is_not_there_is_an_error_and_is_not_made(s3, hook):
    with VideoHost(video(1000)) as host, pytest.raises(KirinDestinationError, match="s3://vidoes") as caught:
        hook.download(f"{host.url}/v.mp4", "s3://studio@vidoes/v.mp4")
    assert not caught.value.retryable and "testing" not in str(caught.value)
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["videos"]


def test_the_memory_does_not_grow_with_the_object(s3, connect):
    with EndlessHost(video(MEGABYTE), large=150 * MEGABYTE) as host:
        connect(host.url)
        size, kilobytes = memory_of_a_download(host.url, "s3://studio@videos/video")
    assert size == 150 * MEGABYTE
    assert s3.head_object(Bucket="videos", Key="video-large.mp4")["ContentLength"] == size
    assert kilobytes < 64 * 1024, f"{kilobytes} kB more for 150 MB"
