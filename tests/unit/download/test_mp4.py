"""Where an MP4 may end, and what it says of itself."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import accumulate

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.download.mp4 import MAX_HEADER, BoxParser, Movie, read_movie

#: Two boxes, the second with its size in 64 bits.
TWO = b"\0\0\0\x0cftypmp42" + b"\0\0\0\x01mdat" + (20).to_bytes(8) + b"1234"


def box(content: bytes, *, is_long: bool) -> bytes:
    if is_long:
        return b"\0\0\0\x01mdat" + (len(content) + 16).to_bytes(8) + content
    return (len(content) + 8).to_bytes(4) + b"mdat" + content


def is_cut(data: bytes, sizes: list[int] | None = None, *, is_delimited: bool = False) -> bool:
    boxes = BoxParser()
    for size in sizes or []:
        boxes.feed(data[:size])
        data = data[size:]
    boxes.feed(data)
    return boxes.is_cut(is_delimited=is_delimited)


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=5),
    st.data(),
    st.lists(st.integers(0, 30), max_size=20),
)
def test_file_is_incomplete_inside_a_box(
    given_boxes: list[tuple[bytes, bool]], data: st.DataObject, sizes: list[int]
) -> None:
    made = [box(content, is_long=is_long) for content, is_long in given_boxes]
    whole = b"".join(made)
    end = data.draw(st.integers(0, len(whole)))
    assert is_cut(whole[:end], sizes) is (end not in {0, *accumulate(map(len, made))})


@pytest.mark.parametrize("end", range(1, len(TWO)))
def test_two_boxes_at_each_byte(end: int) -> None:
    assert is_cut(TWO[:end]) is (end != 12)
    assert is_cut(TWO[:end], [1] * end) is (end != 12)


@pytest.mark.parametrize(
    "last",
    [b"\0\0\0\0mdat", b"\0\0\0\x07mdat", b"\0\0\0\x01mdat" + (15).to_bytes(8)],
    ids=["it reaches to the end", "no size can be like that", "nor like that"],
)
def test_nothing_is_certain_after_a_box_without_a_valid_size(last: bytes) -> None:
    for more in (b"", b"1", b"\0\0\0\x09mdat"):
        assert not is_cut(TWO + last + more)
    assert is_cut(TWO + last[:-1])


def made_video(
    *,
    size: tuple[int, int] = (64, 36),
    rate: Fraction | int = 24,
    frames: int = 12,
    audio: bool,
    reordered: int = 0,
    movflags: str = "",
) -> bytes:
    """Return a video of a real encoder.

    :param movflags: the order of its boxes
    :param reordered: frames in a row that are stored after a later one that they refer to (B-frames)
    """
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"bf": str(reordered), "b_strategy": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = container.add_stream("aac", rate=44100) if audio else None
        for _ in range(frames):
            picture = av.VideoFrame(*size, "yuv420p")
            _blank(picture)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if sound:
            frame = av.AudioFrame("fltp", "stereo", 1024)
            frame.sample_rate = 44100
            _blank(frame)
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return out.getvalue()


def _blank(frame: av.VideoFrame | av.AudioFrame) -> None:
    """Overwrite what memory happens to hold: it would decide how a video is encoded, and may not even be a number."""
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))


def said(data: bytes) -> Movie:
    boxes = BoxParser()
    for at in range(0, len(data), 1000):
        boxes.feed(data[at : at + 1000])
    return read_movie(boxes.movie_header)


def full_box(name: str, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + name.encode() + content


class TestWhereItEnds:
    @pytest.mark.parametrize("layout", ["header first", "header last", "fragments"])
    def test_inside_its_movie_it_is_cut_whatever_its_host_says(self, layout):
        whole = made_video(audio=True, frames=3, movflags="frag_keyframe+empty_moov" if layout == "fragments" else "")
        if layout == "header first":
            header = whole.find(b"moov") - 4
            whole = whole[:32] + whole[header:] + whole[32:header]
        end = whole.rfind(b"mfra") - 4 if layout == "fragments" else len(whole)
        # Nothing is certain in the header of a box and between two boxes.
        starts = [whole.find(name) - 4 for name in (b"moov", b"free", b"mdat", b"moof") if name in whole]
        unsure = {start + at for start in (0, *starts, end) for at in range(8)}
        assert not is_cut(whole, is_delimited=True) and not is_cut(whole)
        for at in range(1, end):
            assert is_cut(whole[:at], is_delimited=True) or at in unsure, at

    @pytest.mark.parametrize("is_delimited", [True, False])
    @pytest.mark.parametrize(
        "tail", [b"\n", bytes(4), b"<!-- cached -->", b"TAG" + bytes(125), b"\0\0\1\0free", b"\0\0\1\0uuid" + bytes(50)]
    )
    def test_what_follows_a_movie_does_not_make_it_cut(self, is_delimited, tail):
        assert not is_cut(made_video(audio=False) + tail, is_delimited=is_delimited)

    def test_padding_before_the_movie_has_to_be_complete(self):
        assert is_cut(TWO + b"\0\0\1\0free", is_delimited=True)

    def test_an_unknown_box_before_the_movie_is_an_end_if_the_host_says_so(self):
        assert not is_cut(TWO + b"\xff\xff\xff\xffzzzz", is_delimited=True)
        assert is_cut(TWO + b"\xff\xff\xff\xffzzzz")


class TestWhatItSays:
    @pytest.mark.parametrize("audio", [True, False])
    @pytest.mark.parametrize("reordered", [0, 1, 2])
    def test_of_a_video_of_a_real_encoder(self, audio, reordered):
        movie = said(made_video(size=(96, 64), rate=24, frames=36, audio=audio, reordered=reordered))
        assert movie == Movie(width=96, height=64, frame_rate=24.0, seconds=1.5, has_audio=audio)

    def test_a_frame_rate_is_rounded(self):
        assert said(made_video(rate=Fraction(30000, 1001), frames=30, audio=False)).frame_rate == 29.97

    def test_nothing_without_a_movie_header_or_with_one_that_is_too_long(self):
        assert said(TWO) == Movie()
        long = made_video(audio=False).replace(b"moov", b"mooq") + full_box("moov", bytes(MAX_HEADER + 1))
        assert said(long) == Movie()

    def test_lengths_of_64_bits_and_unknown_ones(self):
        def of(version: int, scale: int, length: int) -> float | None:
            width = 8 if version else 4
            header = bytes([version, 0, 0, 0]) + bytes(2 * width) + scale.to_bytes(4) + length.to_bytes(width)
            return read_movie(full_box("mvhd", header) + full_box("trak", b"")).seconds

        assert of(1, 1000, 10_000) == of(0, 1000, 10_000) == 10.0
        assert of(1, 1000, 2**64 - 1) is of(0, 1000, 2**32 - 1) is of(0, 0, 5) is None

    def test_only_the_first_boxes_of_many_are_looked_at(self):
        tracks = full_box("free", b"") * 100_000 + full_box("trak", b"")
        assert read_movie(tracks) == Movie()

    @given(st.data())
    def test_whatever_a_stranger_sends_is_read_without_an_error(self, data: st.DataObject):
        good = made_video(frames=1, audio=False) if not _GOOD else _GOOD[0]
        _GOOD[:] = [good]
        start = good.index(b"moov") - 4
        header = bytearray(good[start + 8 : start + int.from_bytes(good[start : start + 4])])
        for _ in range(data.draw(st.integers(0, 8))):
            at = data.draw(st.integers(0, len(header) - 1))
            header[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        movie = read_movie(header)
        assert movie.seconds is None or 0 <= movie.seconds < 2**64
        assert movie.frame_rate is None or 0 <= movie.frame_rate < 2**64


_GOOD: list[bytes] = []


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    read_movie(data)
    said(data)
