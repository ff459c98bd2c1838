"""Where an MP4 may end."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.download.mp4 import BoxParser

#: Two boxes, the second with its size in 64 bits.
TWO = b"\0\0\0\x0cftypmp42" + b"\0\0\0\x01mdat" + (20).to_bytes(8) + b"1234"


def box(content: bytes, *, is_long: bool) -> bytes:
    if is_long:
        return b"\0\0\0\x01mdat" + (len(content) + 16).to_bytes(8) + content
    return (len(content) + 8).to_bytes(4) + b"mdat" + content


def is_cut(data: bytes, sizes: list[int] | None = None) -> bool:
    boxes = BoxParser()
    for size in sizes or []:
        boxes.feed(data[:size])
        data = data[size:]
    boxes.feed(data)
    return boxes.is_incomplete


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
