"""What the readers of both kinds of image file say: a header, or why the file cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


class UnfitFile(Exception):
    """The file cannot be used as a picture.

    :param rule: what a file must be, and what this one is
    :param remedy: what to do about it
    """

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels begin.

    :param format: ``JPEG`` or ``PNG``
    :param width: in pixels, as stored (EXIF orientation is not applied)
    :param height: in pixels
    """

    format: str
    width: int
    height: int


def damaged(what: str) -> UnfitFile:
    """Return what to raise for a file that is not whole.

    :param what: what is wrong with "this one"
    """
    return UnfitFile(f"the file must be whole and undamaged; {what}", "Copy or export the image again.")
