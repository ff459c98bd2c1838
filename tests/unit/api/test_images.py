"""What a user may give as an image, and what is found out about it before a cent is spent."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from airflow_provider_kirin.api.images import (
    ImageRejected,
    ImageRules,
    PreparedImage,
    check_without_reading,
    describe,
    is_inline,
    prepare_image,
)
from tests.support.waiting import HANG

pytestmark = [pytest.mark.filterwarnings("error")]

KIRIN = ImageRules(max_bytes=10_000_000, min_side=300, max_ratio=2.5)
TINY = ImageRules(max_bytes=100_000, min_side=1)
CASES = Path(__file__).parent / "images"


def picture(kind: str = "PNG", size: tuple[int, int] = (320, 300), *, mode: str = "RGB", **options: object) -> bytes:
    """An image of noise-like content, so that its pixels take some room."""
    file = io.BytesIO()
    image = Image.effect_noise(size, 60).convert(mode)
    if kind == "MPO":
        options = {"save_all": True, "append_images": [image], **options}
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, pixels: bytes, *extra: bytes, header: bytes = struct.pack(">BBBBB", 8, 0, 0, 0, 0)
) -> bytes:
    """A grey PNG made by hand; ``extra`` chunks come before the pixels."""
    parts = [chunk(b"IHDR", struct.pack(">II", width, height) + header), *extra, chunk(b"IDAT", pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def grey(width: int, height: int) -> bytes:
    return zlib.compress(bytes((width + 1) * height))


def zeros(size: int) -> bytes:
    """Compressed zeros, made without having them all."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(size >> 20))
    return packed + packer.compress(bytes(size & 0xFFFFF)) + packer.flush()


def rejected(value: object, *, rules: ImageRules = KIRIN, **more: object) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        prepare_image(value, field="image", rules=rules, **more)
    assert all(problem.field == "image" for problem in caught.value.problems)
    assert len(str(caught.value)) < 1000
    return caught.value


def rules_broken(value: object, *, rules: ImageRules = KIRIN) -> list[str]:
    return [problem.rule for problem in rejected(value, rules=rules).problems]


def accepted(value: object, *, rules: ImageRules = KIRIN, **more: object) -> PreparedImage:
    return prepare_image(value, field="image", rules=rules, **more)


PNG = picture("PNG")
JPEG = picture("JPEG")
TINY_PNG = picture("PNG", (9, 7))
TINY_JPEG = picture("JPEG", (24, 16), quality=30)
TINY_PROGRESSIVE = picture("JPEG", (24, 16), quality=30, progressive=True)
SPRITE = base64.b64encode(TINY_PNG).decode()
FORMATS = {"PNG": PNG, "JPEG": JPEG}
JPEGS = {
    "baseline": picture("JPEG", (240, 180), quality=60),
    "progressive": picture("JPEG", (240, 180), quality=60, progressive=True),
    "with restarts": picture("JPEG", (240, 180), quality=60, restart_marker_rows=1),
    "CMYK": picture("JPEG", (240, 180), mode="CMYK", quality=60),
}


def overwritten(data: bytearray, chance: Random) -> bytes:
    start, size = chance.randrange(len(data)), chance.choice((1, 16, 256, 2048))
    data[start : start + size] = chance.randbytes(size)
    return data


def header_spoilt(data: bytearray, chance: Random) -> bytes:
    for _ in range(3):
        data[chance.randrange(600)] = chance.randrange(256)
    return data


def piece_lost(data: bytearray, chance: Random) -> bytes:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 16, 256, 2048))]
    return data


def piece_added(data: bytearray, chance: Random) -> bytes:
    start = chance.randrange(len(data))
    data[start:start] = chance.randbytes(chance.choice((1, 16, 256)))
    return data


def cut(data: bytearray, chance: Random) -> bytes:
    return data[: chance.randrange(len(data))]


DAMAGES = {damage.__name__: damage for damage in (overwritten, header_spoilt, piece_lost, piece_added, cut)}


@pytest.fixture
def teapot(tmp_path: Path) -> Path:
    path = tmp_path / "teapot.png"
    path.write_bytes(PNG)
    return path


class TestUrlsArePassedOnUnchanged:
    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/teapot.png",
            "http://10.0.0.7:8080/a?X-Signature=a%2Fb&x=1#part",
            "HTTPS://[2001:db8::1]:443/a.jpg",
            "https://user:pass@example.com/~me/ü.jpg",
        ],
    )
    def test_a_well_formed_url(self, url: str) -> None:
        image = accepted(url)
        assert (image.text, image.size) == (url, None)
        assert (image.size, image.width, image.height, image.format, image.sha256) == (None,) * 5
        assert check_without_reading(url, field="image") == []
        assert not is_inline(url)

    @pytest.mark.parametrize(
        ("url", "rule"),
        [
            ("https://", "must have a host"),
            ("https:///teapot.png", "must have a host"),
            ("http://?a=b", "must have a host"),
            ("https://.../teapot.png", "must have a host"),
            ("https://[broken/teapot.png", "must have a host"),
            ("https://example.com:port/teapot.png", "must have a host"),
            ("https://example.com:0/teapot.png", "must have a host"),
            ("https://example.com/tea pot.png", "no spaces"),
            (" https://example.com/teapot.png", "no spaces"),
            ("https://example.com/teapot.png\n", "no spaces"),
            ("https://example.com/\x00.png", "no spaces"),
            ("https://example.com/\N{NO-BREAK SPACE}.png", "no spaces"),
            ("https://example.com/" + "a" * 9000, "at most 8192"),
        ],
    )
    def test_a_malformed_url_is_refused_while_the_dag_is_parsed(self, url: str, rule: str) -> None:
        assert rule in str(rejected(url))
        assert [problem.rule for problem in check_without_reading(url, field="image")] == rules_broken(url)


class TestLocalFiles:
    def test_a_path_as_text_or_object_is_read(self, teapot: Path) -> None:
        class Named:
            def __fspath__(self) -> bytes:
                return os.fsencode(teapot)

        for value in (str(teapot), teapot, teapot.as_uri(), f"file://localhost{teapot}", Named()):
            assert base64.b64decode(accepted(value).text) == PNG

    def test_a_quoted_file_uri_is_unquoted(self, tmp_path: Path) -> None:
        path = tmp_path / "tea pot 100%.jpg"
        path.write_bytes(JPEG)
        assert "%20" in path.as_uri()
        assert accepted(path.as_uri()).format == "JPEG"

    def test_a_tilde_is_the_home_directory(self, teapot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(teapot.parent))
        assert accepted("~/teapot.png").format == "PNG"
        assert accepted(Path("~/teapot.png")).format == "PNG"

    def test_a_relative_path_is_read(self, teapot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(teapot.parent)
        assert accepted("teapot.png").format == "PNG"

    def test_the_name_decides_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "archive.zip"
        path.write_bytes(JPEG)
        assert accepted(path).format == "JPEG"

    @pytest.mark.parametrize(
        "missing",
        [
            "/no/such/teapot.png",
            "teapot\0.png",
            "~nobody-of-that-name/a.png",
            "a" * 300,
            "file://elsewhere/a.png",
            "/9j/",
        ],
    )
    def test_a_path_that_leads_nowhere_says_so(self, missing: str) -> None:
        (rule,) = rules_broken(missing)
        assert "readable where the task runs" in rule

    def test_a_missing_file_is_named_with_the_reason(self) -> None:
        (problem,) = rejected("/no/such/teapot.png").problems
        assert problem.value == "/no/such/teapot.png"
        assert "No such file" in problem.rule
        assert problem.remedy.startswith("Check the path")

    def test_a_missing_file_under_a_relative_path_is_said_to_be_relative(self) -> None:
        (problem,) = rejected("images/no-such-teapot.png").problems
        assert "No such file" in problem.rule
        assert "absolute path" in problem.remedy

    def test_a_file_without_permission_is_refused(self, teapot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)  # root, as in a container, may read everything
        assert "Permission denied" in str(rejected(teapot))

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        assert rules_broken(tmp_path) == ["a path must lead to a file"]

    def test_a_pipe_or_device_is_refused_without_waiting_for_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert rules_broken(tmp_path / "pipe") == rules_broken("/dev/zero") == ["a path must lead to a file"]

    def test_a_path_need_not_exist_while_the_dag_is_parsed(self) -> None:
        for value in ("/no/such/file.png", Path("/no/such"), "s3://bucket/a.png", "file:///no/such"):
            assert check_without_reading(value, field="image") == []

    def test_long_text_that_is_nothing_is_no_path(self) -> None:
        text = "what a lovely teapot! " * 1000
        assert "this long string is none of these" in str(rejected(text))
        assert check_without_reading(text, field="image")
        assert describe(text) == "<string of 22000 characters>"


class TestStorage:
    def test_a_storage_uri_is_opened_by_the_given_function(self) -> None:
        opened = []

        def open_uri(uri: str) -> io.BytesIO:
            opened.append(uri)
            return io.BytesIO(JPEG)

        assert accepted("s3://conn@bucket/my teapot.jpg", open_uri=open_uri).format == "JPEG"
        assert opened == ["s3://conn@bucket/my teapot.jpg"]

    def test_an_object_with_open_is_opened_by_itself(self) -> None:
        class StoragePath(os.PathLike[str]):
            """Like Airflow's ObjectStoragePath: a PathLike whose name no operating system knows."""

            protocol = "s3"

            def __fspath__(self) -> str:
                return str(self)

            def __str__(self) -> str:
                return "s3://conn@bucket/teapot.png"

            def open(self, mode: str) -> io.BytesIO:
                assert mode == "rb"
                return io.BytesIO(b"tea")

        (problem,) = rejected(StoragePath()).problems
        assert problem.value == "teapot.png (unknown format, 3 bytes)"
        assert describe(StoragePath()) == "s3://bucket/teapot.png"
        assert check_without_reading(StoragePath(), field="image") == []
        assert not is_inline(StoragePath())

    def test_without_a_reader_storage_uris_are_refused(self) -> None:
        assert rules_broken("gs://bucket/a.png") == ["storage URIs cannot be read here"]

    @pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, ImportError, ValueError])
    def test_what_another_try_cannot_cure_is_a_problem(self, error: type[Exception]) -> None:
        def open_uri(uri: str) -> io.BytesIO:
            raise error("secret")

        text = str(rejected("s3://bucket/a.png?secret", open_uri=open_uri))
        assert error.__name__ in text
        assert "secret" not in text

    def test_what_another_try_may_cure_is_left_to_airflow(self) -> None:
        def open_uri(uri: str) -> io.BytesIO:
            raise ConnectionResetError("reset by peer")

        with pytest.raises(ConnectionResetError):
            accepted("s3://bucket/a.png", open_uri=open_uri)

    @pytest.mark.parametrize("uri", [" s3://bucket/a.png", "s3://bucket/a.png\n"])
    def test_a_malformed_uri_is_never_opened(self, uri: str) -> None:
        assert "no spaces, line breaks" in str(rejected(uri, open_uri=pytest.fail))

    def test_no_more_than_the_limit_is_read(self) -> None:
        class Endless(io.RawIOBase):
            given = 0

            def read(self, size: int = -1) -> bytes:
                assert 0 < size <= 1 << 20
                self.given += size
                return b"\x89PNG\r\n\x1a\n" + bytes(size - 8)

        endless = Endless()
        rejected("s3://bucket/endless", open_uri=lambda uri: endless)
        assert endless.given <= KIRIN.max_bytes + 1

    def test_short_reads_are_put_together(self) -> None:
        class Slow(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(min(size or 0, 7))

        assert base64.b64decode(accepted("s3://b/a", open_uri=lambda uri: Slow(PNG)).text) == PNG


class TestBytes:
    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("kind", FORMATS)
    def test_bytes_like_objects_become_base64(self, wrap: type, kind: str) -> None:
        value = wrap(FORMATS[kind])
        image = accepted(value)
        assert base64.b64decode(image.text, validate=True) == FORMATS[kind]
        assert (image.size, image.width, image.height) == (len(FORMATS[kind]), 320, 300)
        assert (image.format, image.sha256) == (kind, hashlib.sha256(FORMATS[kind]).hexdigest())
        assert is_inline(value)
        assert check_without_reading(value, field="image") == []

    def test_a_memoryview_of_any_shape_is_its_bytes(self) -> None:
        padded = PNG + bytes(-len(PNG) % 4)
        for view in (memoryview(padded).cast("I"), memoryview(bytes(b for byte in PNG for b in (byte, 0)))[::2]):
            assert base64.b64decode(accepted(view).text)[: len(PNG)] == PNG

    def test_a_released_memoryview_is_empty(self) -> None:
        view = memoryview(PNG)
        view.release()
        assert rules_broken(view) == ["an image cannot be empty"]

    @given(st.binary(max_size=3000))
    def test_arbitrary_bytes_raise_nothing_else(self, data: bytes) -> None:
        with suppress(ImageRejected):
            accepted(data, rules=TINY)

    @given(st.sampled_from([TINY_PNG, TINY_JPEG, TINY_PROGRESSIVE]), st.data())
    @settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
    def test_a_valid_image_with_bytes_changed_raises_nothing_else(self, data: bytes, draw: st.DataObject) -> None:
        broken = bytearray(data)
        for _ in range(draw.draw(st.integers(1, 4))):
            broken[draw.draw(st.integers(2, len(data) - 1))] = draw.draw(st.integers(0, 255))
        with suppress(ImageRejected):
            accepted(broken, rules=TINY)

    @given(st.lists(st.tuples(st.sampled_from([b"IDAT", b"iTXt", b"zTXt", b"iCCP", b"tEXt"]), st.binary()), max_size=5))
    def test_well_summed_chunks_of_nonsense_raise_nothing_else(self, chunks: list[tuple[bytes, bytes]]) -> None:
        with suppress(ImageRejected):
            accepted(png(9, 9, grey(9, 9), *(chunk(*each) for each in chunks)), rules=TINY)


class TestBase64:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize(
        "prefix", ["", "data:image/png;base64,", "DATA:image/jpeg;charset=x;BASE64,", "\ndata:;base64,"]
    )
    @pytest.mark.parametrize("lines", ["", "\n", "\r\n", " "])
    def test_what_is_sent_decodes_to_exactly_the_bytes_given(self, kind: str, prefix: str, lines: str) -> None:
        plain = base64.b64encode(FORMATS[kind]).decode()
        text = prefix + (lines.join(textwrap.wrap(plain, 76)) + lines if lines else plain)
        assert is_inline(text)
        assert check_without_reading(text, field="image") == []
        assert accepted(text).text == plain

    @given(st.binary(max_size=500))
    def test_the_round_trip_keeps_whatever_follows_the_picture(self, tail: bytes) -> None:
        data = TINY_PNG + tail
        image = accepted("data:image/png;base64," + base64.b64encode(data).decode(), rules=TINY)
        assert base64.b64decode(image.text) == data

    @pytest.mark.parametrize("data", [TINY_JPEG, TINY_PNG])
    def test_the_base64_of_a_small_image_is_not_taken_for_a_path(self, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        assert len(text) < 4096
        assert text.startswith(("/9j/", "iVBOR"))
        assert is_inline(text)
        assert base64.b64decode(accepted(text, rules=TINY).text) == data

    @pytest.mark.parametrize(
        "path", ["/9j/teapot.jpg", "/9j/" + "photos/" * 20 + "a.jpg", "iVBORw0KGgo", "/data/" + "ab/" * 40]
    )
    def test_a_path_is_not_taken_for_base64(self, path: str) -> None:
        assert not is_inline(path)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: text[:-1],
            lambda text: text + "=",
            lambda text: text[:5000] + "*" + text[5000:],
            lambda text: text[:5000] + "ü" + text[5000:],
            lambda text: text[:5000] + "==" + text[5000:],
            lambda text: text.replace("/", "_").replace("+", "-"),
        ],
        ids=["cut", "padded", "star", "umlaut", "inner padding", "url-safe"],
    )
    @pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
    def test_base64_is_decoded_strictly(self, spoil: object, prefix: str) -> None:
        text = prefix + spoil(base64.b64encode(JPEG + b"a").decode())  # type: ignore[operator]
        assert is_inline(text)
        (problem,) = rejected(text).problems
        assert problem.value == f"<string of {len(text)} characters>"
        assert "padded with =" in problem.rule

    @pytest.mark.parametrize("uri", ["data:image/png,abc", "data:image/png;base64" + SPRITE, "data:" + "x" * 9000])
    def test_a_data_uri_without_base64_is_refused_while_the_dag_is_parsed(self, uri: str) -> None:
        assert [problem.rule for problem in check_without_reading(uri, field="image")] == rules_broken(uri)
        assert "data URI must be" in str(rejected(uri))

    def test_an_empty_data_uri_is_an_empty_image(self) -> None:
        assert rules_broken("data:image/png;base64,") == ["an image cannot be empty"]

    def test_a_picture_hidden_before_more_text_is_not_sent_in_its_place(self) -> None:
        text = SPRITE + " " * 300_000 + SPRITE
        assert "padded with =" in str(rejected("data:;base64," + text, rules=TINY))

    def test_thirteen_megabytes_appear_in_no_error(self) -> None:
        for data in (JPEG, b"teapot", PNG):
            text = base64.b64encode(data + os.urandom(9_900_000)).decode()
            for value in (text, text[:-2], text + text, "data:image/png;base64," + text, "data:" + text, "{" + text):
                with suppress(ImageRejected):
                    assert len(repr(accepted(value))) < 120
                    continue
                error = rejected(value)
                assert text[:30] not in str(error) + repr(error)
                assert len(repr(error)) < 1500


class TestNothingElseIsAnImage:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "None"),
            (7, "<int>"),
            pytest.param(10**5000, "<int>", id="huge"),
            (1.5, "<float>"),
            (True, "<bool>"),
            (object(), "<object>"),
            ({"url": "https://example.com"}, "<dict of 1>"),
            (io.BytesIO(PNG), "<BytesIO>"),
            (Image.new("L", (400, 400)), "<Image>"),
        ],
    )
    def test_other_types_are_refused_by_their_name(self, value: object, shown: str) -> None:
        (problem,) = rejected(value).problems
        assert problem.value == shown
        assert "an image is a URL" in problem.rule
        assert check_without_reading(value, field="image") == [problem]
        assert not is_inline(value)

    @pytest.mark.parametrize("value", [["https://example.com/a.png"], ("a.png", "b.png"), {"a.png"}])
    def test_several_images_are_refused_where_one_is_meant(self, value: object) -> None:
        (problem,) = rejected(value).problems
        assert "must be a single image" in problem.rule
        assert check_without_reading(value, field="image") == [problem]

    @pytest.mark.parametrize("value", ["", " \n", b"", bytearray(), memoryview(b"")])
    def test_nothing_is_refused(self, value: object) -> None:
        assert rules_broken(value) == ["an image cannot be empty"]
        assert len(check_without_reading(value, field="image")) == 1
        assert not is_inline(value)

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty.png").touch()
        (problem,) = rejected(tmp_path / "empty.png").problems
        assert (problem.value, problem.rule) == ("empty.png (empty)", "an image cannot be empty")

    def test_an_object_whose_open_is_something_else_is_refused(self) -> None:
        assert "TypeError" in str(rejected(type("Door", (), {"open": lambda self: None})()))

    @pytest.mark.parametrize("template", ["{{ params.image }}", "https://cdn/{{ ds }}.png", "{% if x %}a{% endif %}"])
    def test_a_template_is_left_alone_until_it_should_be_rendered(self, template: str) -> None:
        assert check_without_reading(template, field="image") == []
        assert not is_inline(template)
        assert "must be rendered" in str(rejected(template))

    def test_a_template_for_base64_is_still_rendered(self) -> None:
        assert not is_inline("data:image/png;base64,{{ ti.xcom_pull('x') }}")

    def test_a_reference_to_another_tasks_result_waits_for_the_run(self) -> None:
        reference = type("XComArg", (), {"resolve": lambda self, context: None})()
        assert check_without_reading(reference, field="image") == []
        assert rejected(reference)


class TestFormats:
    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "I;16", "LA"])
    def test_every_kind_of_png_is_accepted(self, mode: str) -> None:
        file = io.BytesIO()
        image = Image.effect_noise((317, 301), 50)
        image.convert("I").convert(mode).save(file, "PNG") if mode == "I;16" else image.convert(mode).save(file, "PNG")
        assert accepted(file.getvalue()).width == 317

    @pytest.mark.parametrize(
        "options", [{"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"quality": 100}]
    )
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_every_kind_of_jpeg_is_accepted(self, mode: str, options: dict[str, object]) -> None:
        assert accepted(picture("JPEG", mode=mode, **options)).format == "JPEG"

    def test_an_interlaced_png_is_accepted(self) -> None:
        # Pillow writes none. Width and height of the passes of 3 x 3 pixels, at 8 bits; two of the seven are empty.
        passes = [(1, 1), (1, 1), (2, 1), (1, 2), (3, 1)]
        size = sum(height * (1 + width) for width, height in passes)
        interlaced = struct.pack(">BBBBB", 8, 0, 0, 0, 1)
        data = png(3, 3, zlib.compress(bytes(size)), header=interlaced)
        Image.open(io.BytesIO(data)).load()
        assert accepted(data, rules=TINY).height == 3

    @pytest.mark.parametrize("fitting", [False, True])
    @pytest.mark.parametrize("name", ["png-one-extra-byte-small", "png-extra-row", "png-no-adler", "png-apng-1frame"])
    def test_what_every_viewer_shows_is_taken_as_it_is(self, name: str, fitting: bool) -> None:
        data = (CASES / f"{name}.png").read_bytes()
        assert base64.b64decode(accepted(data, fitting=fitting).text) == data

    def test_a_multi_picture_jpeg_is_a_jpeg(self) -> None:
        data = picture("MPO")
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.n_frames) == ("MPO", 2)
        assert accepted(data).format == "JPEG"

    @pytest.mark.parametrize("data", [PNG, JPEG])
    def test_a_file_may_carry_something_after_its_picture(self, data: bytes) -> None:
        assert accepted(data + b"....ftypmp42 a motion photo").size == len(data) + 27

    def test_metadata_in_a_file_is_harmless(self) -> None:
        exif = Image.Exif()
        exif[0x010E] = "a teapot"
        assert accepted(picture("JPEG", exif=exif, comment=b"tea", icc_profile=b"x" * 70_000)).format == "JPEG"
        assert accepted(picture("PNG", exif=exif, icc_profile=b"x" * 70_000)).format == "PNG"
        broken = chunk(b"iTXt", b"key\0\1\0\0\0no zlib")
        plain = chunk(b"iTXt", b"key\0\0\0en\0\0" + b"x" * 2_000_000)
        squeezed = chunk(b"iTXt", b"key\0\1\0en\0key\0" + zlib.compress(b"tea")) + chunk(b"zTXt", b"k\0\0" + grey(9, 9))
        assert accepted(png(300, 300, grey(300, 300), broken, plain, squeezed)).format == "PNG"

    @pytest.mark.parametrize(
        "rules", [KIRIN, ImageRules(max_bytes=10_000_000, min_side=310)], ids=["fits", "is fitted"]
    )
    @pytest.mark.parametrize(
        "note",
        [
            pytest.param(chunk(b"tEXt", b"key\0" + b"x" * 2_000_000), id="2 MB of text"),
            pytest.param(chunk(b"zTXt", b"key\0\0" + zeros(100 << 20)), id="100 MB of text, compressed"),
            pytest.param(chunk(b"zTXt", b"key\0\1no zlib"), id="text of an unknown compression"),
            pytest.param(chunk(b"iCCP", b"key\0\0" + zeros(100 << 20)), id="100 MB of profile"),
            pytest.param(chunk(b"iCCP", b"key\0\0no zlib"), id="no profile"),
            pytest.param(chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(9)), id="cut EXIF"),
            pytest.param(chunk(b"eXIf", b"nonsense"), id="no EXIF"),
            pytest.param(chunk(b"pHYs", b"\0"), id="cut resolution"),
            pytest.param(chunk(b"gAMA", b""), id="no gamma"),
            pytest.param(chunk(b"tEXt", b"key\0tea")[:-1] + b"?", id="text with a wrong checksum"),
        ],
    )
    def test_metadata_never_makes_a_png_damaged(self, note: bytes, rules: ImageRules) -> None:
        data = png(300, 300, grey(300, 300), note)
        image = accepted(data, rules=rules, fitting=True)
        assert (image.width, image.fitted is None) == (rules.min_side, rules is KIRIN)
        if rules is KIRIN:
            assert base64.b64decode(image.text) == base64.b64decode(accepted(data).text) == data

    def test_broken_exif_data_neither_warns_nor_fails(self) -> None:
        exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\xff"
        app1 = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        data = b"\xff\xd8" + app1 + JPEG[20:]
        assert accepted(data).format == "JPEG"
        assert accepted(data, rules=ImageRules(max_bytes=10_000_000, min_side=310), fitting=True).height == 310

    def test_an_animated_png_is_refused(self) -> None:
        frames = [Image.new("RGB", (300, 300), colour) for colour in ("red", "blue")]
        file = io.BytesIO()
        frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
        assert rules_broken(file.getvalue()) == ["the image must be a still image; this PNG is animated"]

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP", "TIFF"])
    def test_other_formats_of_pillow_are_named(self, kind: str) -> None:
        (problem,) = rejected(picture(kind, size=(30, 30))).problems
        assert f"({kind}, ".lower() in problem.value.lower()
        assert problem.remedy == "Convert it to JPEG or PNG."

    @pytest.mark.parametrize(
        ("start", "name"),
        [
            (b"\0\0\0\x1cftypavif", "AVIF"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\0\0\0\x18ftypmif1", "HEIC"),
            (b"\0\0\0\x20ftypisom", "MP4 video"),
            (b"\0\0\0\x14ftypqt  ", "QuickTime video"),
            (b"MM\0*\0\0", "TIFF"),
            (b"%PDF-1.7", "PDF"),
            (b"PK\3\4....", "ZIP archive"),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns=''>", "SVG"),
            (b"\n<!DOCTYPE html><html>", "HTML page"),
        ],
    )
    def test_other_well_known_formats_are_named(self, start: bytes, name: str) -> None:
        (problem,) = rejected(start + b" and so on").problems
        assert f"({name}, " in problem.value
        assert problem.remedy == "Convert it to JPEG or PNG."
        assert describe(start).startswith(f"<{name}, ")

    def test_an_unknown_format_is_called_that(self) -> None:
        (problem,) = rejected(b"Dear customer,").problems
        assert problem.value == "the given bytes (unknown format, 14 bytes)"
        assert problem.remedy == "Use a JPEG or PNG file."

    def test_a_model_may_take_only_one_of_them(self) -> None:
        only_png = ImageRules(max_bytes=1_000_000, min_side=1, formats=("PNG",))
        assert accepted(PNG, rules=only_png)
        (problem,) = rejected(JPEG, rules=only_png).problems
        assert "must be PNG" in problem.rule


class TestLimits:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize(("size", "good"), [((300, 300), True), ((299, 300), False), ((300, 299), False)])
    def test_each_side_has_its_least_length(self, kind: str, size: tuple[int, int], good: bool) -> None:
        data = picture(kind, size)
        if good:
            assert accepted(data).width == 300
        else:
            assert rules_broken(data) == ["each side must be at least 300 px"]

    @pytest.mark.parametrize(
        ("size", "ratio", "good"),
        [
            ((750, 300), 2.5, True),
            ((300, 750), 2.5, True),
            ((751, 300), 2.5, False),
            ((300, 751), 2.5, False),
            ((115, 100), 1.15, True),  # 1.15 * 100 is less than 115 in floating point
            ((300, 3), None, True),
        ],
    )
    def test_the_aspect_ratio_includes_its_bounds(self, size: tuple[int, int], ratio: float | None, good: bool) -> None:
        rules = ImageRules(max_bytes=1_000_000, min_side=1, max_ratio=ratio)
        if good:
            assert accepted(picture("PNG", size), rules=rules)
        else:
            (rule,) = rules_broken(picture("PNG", size), rules=rules)
            assert rule == "the aspect ratio must be between 1:2.5 and 2.5:1"

    @pytest.mark.parametrize("wrap", [bytes, lambda data: base64.b64encode(data).decode(), io.BytesIO])
    @pytest.mark.parametrize("extra", range(4))
    def test_a_file_must_be_smaller_than_the_limit(self, wrap: object, extra: int) -> None:
        limit = 4000 + extra  # all remainders by three, as Base64 counts in threes
        rules = ImageRules(max_bytes=limit, min_side=1)
        largest = TINY_PNG + bytes(limit - 1 - len(TINY_PNG))

        def given_as(data: bytes) -> tuple[object, object]:
            value = wrap(data)  # type: ignore[operator]
            return ("s3://b/a", lambda uri: value) if isinstance(value, io.BytesIO) else (value, None)

        value, open_uri = given_as(largest)
        assert accepted(value, rules=rules, open_uri=open_uri).size == limit - 1
        value, open_uri = given_as(largest + b"\0")
        (problem,) = rejected(value, rules=rules, open_uri=open_uri).problems
        assert problem.rule == f"the file must be smaller than {limit:,} bytes"
        assert f"{limit:,} bytes or more" in problem.value

    def test_a_large_file_is_not_called_damaged_for_having_been_read_in_part(self) -> None:
        rules = ImageRules(max_bytes=5000, min_side=1)
        for data in (PNG, JPEG):
            assert rules_broken(data, rules=rules) == ["the file must be smaller than 5,000 bytes"]

    def test_of_huge_bytes_only_the_beginning_is_copied(self) -> None:
        import tracemalloc

        value = bytearray(1 << 28)
        tracemalloc.start()
        try:
            rejected(value)
            assert tracemalloc.get_traced_memory()[1] < 3 * KIRIN.max_bytes
        finally:
            tracemalloc.stop()

    def test_pixels_are_limited_before_any_is_decoded(self) -> None:
        rules = ImageRules(max_bytes=1_000_000, min_side=1, max_pixels=10_000)
        assert accepted(picture(size=(100, 100)), rules=rules)
        damaged = picture(size=(101, 100))[:-200]
        (rule,) = rules_broken(damaged, rules=rules)
        assert "at most 10,000 pixels" in rule

    def test_all_problems_are_reported_together(self, tmp_path: Path) -> None:
        path = tmp_path / "teapot.png"
        path.write_bytes(picture("PNG", (200, 900)))
        rules = ImageRules(max_bytes=5000, min_side=300, max_ratio=2.5, max_pixels=1000)
        problems = rejected(path, rules=rules).problems
        assert [problem.value for problem in problems][1:] == ["teapot.png (PNG, 200 x 900 px)"] * 3
        assert [problem.rule.split()[1] for problem in problems] == ["file", "side", "aspect", "image"]

    def test_damage_and_size_are_reported_together(self) -> None:
        rules = rules_broken(picture("PNG", (200, 900))[:-1])
        assert len(rules) == 3
        assert "ends too early" in rules[0]

    def test_a_large_file_of_a_wrong_format_has_both_problems(self) -> None:
        rules = rules_broken(b"GIF89a" + bytes(200_000), rules=TINY)
        assert ["must be JPEG or PNG" in rules[0], "smaller than" in rules[1]] == [True, True]

    def test_a_large_file_without_a_header_is_too_large(self) -> None:
        assert rules_broken(b"\xff\xd8\xff" + bytes(200_000), rules=TINY) == [
            "the file must be smaller than 100,000 bytes"
        ]

    def test_the_orientation_of_a_photograph_does_not_matter(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        assert accepted(picture("JPEG", (750, 300), exif=exif)).width == 750


class TestDamage:
    @pytest.mark.parametrize("data", [TINY_PNG, TINY_JPEG, TINY_PROGRESSIVE], ids=["PNG", "JPEG", "progressive JPEG"])
    def test_an_image_cut_anywhere_is_refused(self, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # someone else in this process likes them
        assert accepted(data, rules=TINY)
        for length in range(len(data)):
            rejected(data[:length], rules=TINY)

    def test_a_png_with_any_bit_flipped_is_refused(self) -> None:
        for position in range(len(TINY_PNG)):
            broken = bytearray(TINY_PNG)
            broken[position] ^= 4
            rejected(broken, rules=TINY)

    @given(st.sampled_from(list(JPEGS.values())), st.sampled_from(list(DAMAGES)), st.integers(0, 1 << 32).map(Random))
    @settings(max_examples=300)
    def test_a_spoilt_beginning_that_cannot_be_decoded_is_refused(
        self, data: bytes, damage: str, chance: Random
    ) -> None:
        """Only a few rows are decoded: a decoder that goes through all of the file must not find more."""
        pixels = data.index(b"\xff\xda") + 600
        broken = data[:3] + DAMAGES[damage](bytearray(data[3:pixels]), chance) + data[pixels:]
        try:
            with warnings.catch_warnings(), Image.open(io.BytesIO(broken), formats=["JPEG"]) as image:
                warnings.simplefilter("ignore")
                image.load()
        except Exception as error:
            event(f"{damage}: {type(error).__name__}")
            rejected(broken, rules=TINY)

    def test_damage_anywhere_in_a_large_png_breaks_a_checksum(self) -> None:
        data = bytearray(picture("PNG", (2000, 1500)))
        data[-len(data) // 4] ^= 1
        assert "checksum" in str(rejected(data))

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "no PNG header"),
            (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"short") + chunk(b"IEND", b""), "no PNG header"),
            (png(0, 9, grey(9, 9)), "no PNG header"),
            (png(9, 9, grey(9, 9), header=b"\x08\x05\0\0\0"), "no PNG header"),
            (png(9, 9, grey(9, 9), header=b"\x04\x02\0\0\0"), "no PNG header"),
            (png(9, 9, grey(9, 9), header=b"\x08\0\0\1\0"), "no PNG header"),
            (png(9, 9, b"no zlib"), "cannot be decompressed"),
            (png(9, 9, b"").replace(chunk(b"IDAT", b""), b""), "checksum"),
            (png(9, 9, zeros(10 << 20)), "far more data than"),
            (b"\xff\xd8\xff\xd9", "no JPEG header"),
            (b"\xff\xd8\xff\xc0\0\x02\xff\xd9", "no JPEG header"),
            (b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x10\1\1\x11\0\xff\xd9", "no JPEG header"),
            (b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xd9", "this one"),
            (TINY_JPEG.replace(b"\xff\xdb", b"\xff\xeb"), "cannot be decoded"),
            (TINY_JPEG.replace(b"\xff\xc0", b"\xff\xc3"), "cannot be decoded"),
        ],
    )
    def test_what_is_damaged_is_reported(self, data: bytes, what: str) -> None:
        (rule,) = rules_broken(data, rules=TINY)
        assert rule.startswith("the file must be complete and undamaged")
        assert what in rule

    def test_a_second_frame_header_cannot_smuggle_in_a_larger_picture(self) -> None:
        start = TINY_JPEG.index(b"\xff\xc0")
        frame = bytearray(TINY_JPEG[start : start + 2 + int.from_bytes(TINY_JPEG[start + 2 : start + 4], "big")])
        frame[5:9] = b"\xff\xdc\xff\xdc"
        end = start + len(frame)
        assert "pixels" in str(rejected(TINY_JPEG[:end] + frame + TINY_JPEG[end:], rules=TINY))
        assert "cannot be decoded" in str(rejected(TINY_JPEG[:start] + frame + TINY_JPEG[start:], rules=TINY))

    def test_thousands_of_scans_are_refused_undecoded(self) -> None:
        start = TINY_PROGRESSIVE.rindex(b"\xff\xda")
        scan = TINY_PROGRESSIVE[start:-2]
        (rule,) = rules_broken(TINY_PROGRESSIVE[:start] + scan * 1000 + b"\xff\xd9", rules=TINY)
        assert "far more scans" in rule

    def test_a_large_progressive_jpeg_is_accepted_whole_and_refused_cut(self) -> None:
        file = io.BytesIO()
        Image.new("L", (4001, 4000)).save(file, "JPEG", progressive=True)
        assert accepted(file.getvalue()).width == 4001
        assert "ends too early" in str(rejected(file.getvalue()[:-2]))

    def test_a_markers_padding_is_allowed(self) -> None:
        assert accepted(TINY_JPEG.replace(b"\xff\xc0", b"\xff\xff\xff\xc0"), rules=TINY)

    def test_a_zip_file_named_jpg_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "teapot.jpg"
        path.write_bytes(b"PK\3\4" + bytes(100))
        (problem,) = rejected(path).problems
        assert problem.value == "teapot.jpg (ZIP archive, 104 bytes)"


def peak_growth(statement: str, path: Path) -> int:
    """MB by which a fresh process grew at most while it read the file."""
    program = f"""
import re
from pathlib import Path
from PIL import JpegImagePlugin
from airflow_provider_kirin.api.images import ImageRejected, ImageRules, prepare_image
rules = ImageRules(max_bytes=10_000_000, min_side=300, max_ratio=2.5)
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
try:
    outcome = repr(prepare_image({str(path)!r}, field="image", rules=rules))
except ImageRejected as error:
    outcome = str(error)
assert {statement}, outcome
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
class TestBombsAreSmallInMemory:
    @pytest.fixture
    def bomb(self, tmp_path: Path) -> Path:
        return tmp_path / "bomb"

    def test_huge_sides_in_a_tiny_png(self, bomb: Path) -> None:
        bomb.write_bytes(png(60_000, 60_000, zeros(100 << 20)))
        assert peak_growth('"at most 50,000,000 pixels" in outcome', bomb) < 30

    def test_small_sides_and_gigabytes_of_pixels(self, bomb: Path) -> None:
        bomb.write_bytes(png(300, 300, zeros(1 << 30)))
        assert peak_growth('"far more data than" in outcome', bomb) < 30

    @pytest.mark.parametrize("note", [b"zTXt", b"iTXt", b"iCCP"])
    def test_gigabytes_of_metadata_are_not_decompressed(self, bomb: Path, note: bytes) -> None:
        start = b"key\0\1\0\0\0" if note == b"iTXt" else b"key\0\0"
        bomb.write_bytes(png(300, 300, grey(300, 300), chunk(note, start + zeros(1 << 30))))
        assert peak_growth('"300 x 300" in outcome', bomb) < 30

    def test_a_large_png_is_not_unpacked_into_memory(self, bomb: Path) -> None:
        bomb.write_bytes(png(7000, 7000, zeros(7000 * 7001)))
        assert peak_growth('"7000 x 7000" in outcome', bomb) < 30

    @pytest.mark.parametrize("progressive", [False, True])
    def test_a_large_jpeg_is_not_unpacked_into_memory(self, bomb: Path, progressive: bool) -> None:
        Image.new("RGB", (7000, 7000), "teal").save(bomb, "JPEG", progressive=progressive, quality=50)
        assert peak_growth('"7000 x 7000" in outcome', bomb) < 30

    def test_a_huge_file_is_not_read(self, bomb: Path) -> None:
        with closing(bomb.open("wb")) as file:
            file.write(JPEG)
            file.truncate(1 << 33)
        assert peak_growth('"smaller than 10,000,000" in outcome', bomb) < 60


class TestSafeTexts:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("/data/teapot.png", "/data/teapot.png"),
            (Path("teapot.png"), "teapot.png"),
            ("file:///data/teapot.png", "file:///data/teapot.png"),
            ("https://example.com/a.png", "https://example.com/a.png"),
            ("https://key:secret@example.com:8443/a.png?sig=secret#secret", "https://example.com:8443/a.png?..."),
            ("https://example.com#secret", "https://example.com?..."),
            ("https://[::1]:80/a", "https://[::1]:80/a"),
            ("https://key:sec/ret@example.com/a.png", "https://..."),
            ("https://key:12/secret@example.com/a.png?sig=secret", "https://..."),
            ("https://key:sec?ret@example.com/a.png", "https://..."),
            ("https:/key:secret@example.com/a.png?secret", "https:/example.com/a.png?..."),
            ("bucket/a.png?sig=secret", "bucket/a.png?..."),
            ("s3://key:secret@bucket/a\nb.png", "s3://bucket/a?b.png"),
            ("s3:///a.png", "s3:///a.png"),
            ("tea\x1b[31mpot.png", "<string of 15 characters>"),
            ("\xff\xd8\xff\xe0\0\x10JFIF", "<string of 10 characters>"),
            ("", "<empty string>"),
            (b"", "<empty bytes>"),
            (PNG, f"<PNG image, {len(PNG)} bytes, sha256 {hashlib.sha256(PNG).hexdigest()[:8]}>"),
            (
                base64.b64encode(JPEG).decode(),
                f"<JPEG image, {len(JPEG)} bytes, sha256 {hashlib.sha256(JPEG).hexdigest()[:8]}>",
            ),
            (b"tea", f"<3 bytes, sha256 {hashlib.sha256(b'tea').hexdigest()[:8]}>"),
            pytest.param(bytes(33 << 20), f"<{33 << 20} bytes>", id="huge bytes"),
            pytest.param("A" * (33 << 20), f"<string of {33 << 20} characters>", id="huge text"),
        ],
    )
    def test_a_description_has_no_bytes_and_no_secrets(self, value: object, shown: str) -> None:
        assert describe(value) == shown
        assert "secret" not in shown

    @given(st.text(min_size=100) | st.text("/ab.:@?", min_size=100, max_size=9000) | st.binary())
    def test_a_description_is_short_and_printable(self, value: str | bytes) -> None:
        assert len(describe(value)) <= 120
        assert describe(value).isprintable()

    def test_a_long_path_keeps_its_name(self) -> None:
        shown = describe("/data/" + "folder/" * 50 + "teapot.png")
        assert shown.startswith("/data/folder/")
        assert shown.endswith("folder/teapot.png")
        assert len(shown) == 120

    def test_a_prepared_image_shows_neither_bytes_nor_secrets(self) -> None:
        assert repr(accepted("https://k:v@example.com/a?sig=1")) == "<PreparedImage https://example.com/a?...>"
        start = f"<PreparedImage PNG, 320 x 300 px, {len(PNG):,} bytes, sha256 "
        assert repr(accepted(PNG)).startswith(start)
        assert f"<PreparedImage {accepted(PNG)}>" == repr(accepted(PNG))
        assert len(repr(accepted(PNG))) == len(start) + 9

    def test_a_rejection_survives_pickling(self) -> None:
        error = rejected(b"tea")
        again = pickle.loads(pickle.dumps(error))
        assert (again.problems, str(again)) == (error.problems, str(error))

    def test_a_rejection_names_field_value_rule_and_remedy(self, tmp_path: Path) -> None:
        path = tmp_path / "teapot.png"
        path.write_bytes(picture("PNG", (200, 300)))
        assert str(rejected(path)) == (
            "image = teapot.png (PNG, 200 x 300 px): each side must be at least 300 px. "
            "Scale the image up or use a larger one."
        )


class TestRulesFromSchema:
    def test_all_keys_are_read(self) -> None:
        schema = {"formats": ["PNG"], "maxBytes": 9, "minSide": 3, "maxRatio": 2.5, "maxPixels": 8}
        assert ImageRules.from_schema(schema) == ImageRules(9, 3, ("PNG",), 2.5, 8)

    def test_absent_keys_have_defaults(self) -> None:
        rules = ImageRules.from_schema({"maxBytes": 9, "minSide": 3})
        assert rules == ImageRules(9, 3, ("JPEG", "PNG"), None, 50_000_000)


def test_importing_the_module_loads_nothing_heavy() -> None:
    program = (
        "import sys; import airflow_provider_kirin.api.images; "
        "heavy = {'PIL', 'airflow', 'requests', 'aiohttp', 'fractions', 'base64', 'hashlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=HANG)
    assert done.stdout == "[]\n"


def test_asking_whether_13_mb_are_inline_costs_no_copy() -> None:
    import tracemalloc

    values = [bytes(10_000_000), "/9j/" + "A" * 13_000_000, "data:image/png;base64," + "A" * 13_000_000]
    tracemalloc.start()
    try:
        assert all(is_inline(value) for value in values)
        assert [check_without_reading(value, field="image") for value in values] == [[], [], []]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
