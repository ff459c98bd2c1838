"""Where an image lies, as lineage names it: the whole URI, without what may be secret."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_kirin.api.images import ImageRules, prepare_image
from airflow_provider_kirin.api.images.sources import address, without_secrets


class Stored:
    """Like Airflow's ObjectStoragePath."""

    protocol = "s3"

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __str__(self) -> str:
        return self.uri

    def open(self, mode: str) -> BytesIO:
        return BytesIO(png())


class Openable:
    def open(self, mode: str) -> BytesIO:
        return BytesIO(png())


def png() -> bytes:
    out = BytesIO()
    Image.new("RGB", (320, 320)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        ("https://pictures.example/a/cup.png", "https://pictures.example/a/cup.png"),
        ("https://u:secret@pictures.example:8443/cup.png?sign=secret#secret", "https://pictures.example:8443/cup.png"),
        (" https://pictures.example/cup.png", "https://pictures.example/cup.png"),
        ("https://pictures.example/@me/cup.png", "https://pictures.example/@me/cup.png"),
        ("https://pictures.example/" + "long/" * 300, "https://pictures.example/" + "long/" * 300),
        ("https://user:pass/word@pictures.example/cup.png", None),
        ("https://user:12/secret@pictures.example/cup.png", None),
        ("s3://conn_id@bucket/a b/cup.png?versionId=1", "s3://bucket/a b/cup.png"),
        ("hdfs:///data/cup.png", "hdfs:///data/cup.png"),
        (Stored("s3://conn_id@bucket/cup.png"), "s3://bucket/cup.png"),
        (Stored("file:///data/cup.png"), "file:///data/cup.png"),
        ("/data/a cup.png", "file:///data/a%20cup.png"),
        (Path("/data/../data/cup.png"), "file:///data/cup.png"),
        ("cup.png", (Path.cwd() / "cup.png").as_uri()),
        ("~/cup.png", (Path.home() / "cup.png").as_uri()),
        ("file:///data/a%20cup.png", "file:///data/a%20cup.png"),
        ("file://localhost/data/cup.png", "file:///data/cup.png"),
        ("file://elsewhere/data/cup.png", None),
        ("~nobody-of-this-name/cup.png", None),
        (b"\x89PNG", None),
        (Openable(), None),
        ("", None),
        ("{{ image }}", None),
        ("data:image/png;base64,iVBORw0KGgo=", None),
        (None, None),
        (["/data/cup.png"], None),
    ],
)
def test_address(value: object, uri: str | None) -> None:
    assert address(value) == uri


def test_what_is_no_uri_has_no_secrets_to_take_out() -> None:
    assert without_secrets("cup.png") is None


@given(st.text(min_size=1).filter(lambda text: "/" not in text), st.text())
def test_no_query_is_ever_shown(password: str, query: str) -> None:
    shown = without_secrets(f"https://user:secret-{password}@host/cup.png?sign=secret-{query}")
    assert shown is None or "secret" not in shown


def test_a_prepared_image_knows_its_address(tmp_path: Path) -> None:
    rules = ImageRules(max_bytes=10**7, min_side=300, formats=("JPEG", "PNG"))
    (tmp_path / "cup.png").write_bytes(png())
    for value, uri in [
        (tmp_path / "cup.png", (tmp_path / "cup.png").as_uri()),
        (Stored("s3://bucket/cup.png"), "s3://bucket/cup.png"),
        ("https://h.example/cup.png?sign=x", "https://h.example/cup.png"),
        (png(), None),
    ]:
        assert prepare_image(value, field="image", rules=rules).uri == uri
