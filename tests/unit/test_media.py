"""Which files the Kirin pages may open: those below a root, however an XCom names another one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("airflow.sdk", reason="the pages are for Airflow 3.1 and later")

from airflow_provider_kirin.plugins.media import Root, StoredFile, byte_range, find_root, locate, media_roots


@pytest.mark.parametrize(
    ("root", "uri", "relative"),
    [
        ("/data/videos", "file:///data/videos/a/b.mp4", ("a", "b.mp4")),
        ("/data/videos/", "/data/videos/b.MP4", ("b.MP4",)),
        ("file:///data/my%20videos", "file:///data/my%20videos/a%20b.mp4", ("a b.mp4",)),
        # The connection in an XCom is ignored: the root's own one is used.
        ("s3://reader@bucket/videos", "s3://admin@bucket/videos/a b#1?.mp4", ("a b#1?.mp4",)),
        ("s3://bucket", "s3a://bucket/a%20b.mp4", ("a%20b.mp4",)),
        ("gs://bucket/x", "gs://bucket/x/cup.webp", ("cup.webp",)),
    ],
)
def test_below_a_root(root: str, uri: str, relative: tuple[str, ...]) -> None:
    assert Root(root).relative(uri) == relative


@pytest.mark.parametrize(
    "uri",
    [
        "file:///data/videos/../secret.mp4",
        "file:///data/videos/%2e%2e/secret.mp4",
        "file:///data/videos/a%2f..%2f..%2fsecret.mp4",
        "file:///data/videos/..\\secret.mp4",
        "file:///data/videos/a%00.mp4",
        "file:///data/videos",
        "file:///data/videos/",
        "file:///data/videosx/a.mp4",
        "file://elsewhere/data/videos/a.mp4",
        "file:///data/videos/page.html",
        "file:///data/videos/drawing.svg",
        "file:///data/videos/noextension",
        "s3://data/videos/a.mp4",
        "http://data/videos/a.mp4",
        "http://[broken/a.mp4",
        "data/videos/a.mp4",
        "",
    ],
)
def test_not_below_a_root(uri: str) -> None:
    assert find_root(uri, [Root("/data/videos"), Root("s3://bucket/data/videos")]) is None


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder, secret = tmp_path / "shown", tmp_path / "secret.mp4"
    folder.mkdir()
    secret.write_bytes(b"secret")
    (folder / "out.mp4").symlink_to(secret)
    (folder / "in.mp4").write_bytes(b"video")
    (folder / "folder.mp4").mkdir()
    roots = [Root(str(folder))]
    found = locate((folder / "in.mp4").as_uri(), roots)
    assert isinstance(found, StoredFile) and found.path == str(folder / "in.mp4")
    for name in ("out.mp4", "folder.mp4", "missing.mp4"):
        assert locate((folder / name).as_uri(), roots) is None


def test_there_is_no_root_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert media_roots() == []
    monkeypatch.setenv("AIRFLOW__KIRIN__MEDIA_ROOTS", "/a, s3://conn@b/c,")
    assert media_roots() == [Root("/a"), Root("s3://conn@b/c")]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-", range(10)),
        ("bytes=3-4", range(3, 5)),
        ("bytes=3-99", range(3, 10)),
        ("bytes=-4", range(6, 10)),
        ("bytes=-99", range(10)),
        ("bytes=10-", None),
        ("bytes=5-2", None),
        ("bytes=-0", None),
        (None, range(10)),
        ("bytes=-", range(10)),
        ("bytes=0-1,4-5", range(10)),
        (f"bytes={'9' * 5000}-", range(10)),
        ("pages=1-2", range(10)),
    ],
)
def test_range_of_a_file(header: str | None, wanted: range | None) -> None:
    assert byte_range(header, 10) == wanted
