"""Validate the bytes of an image against the rules of a model."""

from __future__ import annotations

from typing import Final

from airflow_provider_kirin.api.images.integrity import Header, InvalidImage, check_integrity, read_header
from airflow_provider_kirin.api.images.rules import ImageRules
from airflow_provider_kirin.exceptions import Problem

#: Offset, signature at that offset, file format. Kirin accepts only the first two.
_SIGNATURES: Final = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypqt", "QuickTime video"),
    (4, b"ftyp", "MP4 video"),
    (4, b"jP  ", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop document"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"\x1aE\xdf\xa3", "WebM video"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\3\4", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip archive"),
)


def detect_format(data: bytes) -> str | None:
    """Return the format of a file by its content; None if it is unknown.

    :param data: the file, or its first kilobyte
    """
    for offset, signature, name in _SIGNATURES:
        if data.startswith(signature, offset):
            return name
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "SVG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML page"
    return None


def check(data: bytes, *, name: str, field: str, rules: ImageRules) -> tuple[Header | None, list[Problem]]:
    """Return all problems of an image.

    :param data: the file; if it is too large, its first ``rules.max_bytes`` bytes
    :param name: the image's name in messages
    :param field: the payload's field
    :param rules: what the model accepts
    :return: the header, if it is readable, and the problems
    """
    size = f"{min(len(data), rules.max_bytes):,} bytes" + (" or more" if len(data) >= rules.max_bytes else "")
    if not data:
        return None, [Problem(field, f"{name} (empty)", "an image cannot be empty", "Use a JPEG or PNG file.")]
    problems = _check_size(data, f"{name} ({size})", field, rules)
    file_format = detect_format(data)
    if file_format not in rules.formats:
        return None, [
            _wrong_format(file_format, f"{name} ({file_format or 'unknown format'}, {size})", field, rules),
            *problems,
        ]
    try:
        header = read_header(data, file_format)
    except InvalidImage as error:
        return None, problems or [Problem(field, f"{name} ({file_format}, {size})", error.rule, error.remedy)]
    value = f"{name} ({file_format}, {header.width} x {header.height} px)"
    too_many_pixels = header.width * header.height > rules.max_pixels
    if not problems and not too_many_pixels:
        try:
            check_integrity(data, file_format)
        except InvalidImage as error:
            problems.append(Problem(field, value, error.rule, error.remedy))
    return header, problems + _check_shape(header, value, field, rules)


def _check_size(data: bytes, value: str, field: str, rules: ImageRules) -> list[Problem]:
    if len(data) < rules.max_bytes:
        return []
    rule = f"the file must be smaller than {rules.max_bytes:,} bytes"
    return [Problem(field, value, rule, "Save it as JPEG at a lower quality, or scale it down.")]


def _wrong_format(file_format: str | None, value: str, field: str, rules: ImageRules) -> Problem:
    allowed = " or ".join(rules.formats)
    remedy = f"Convert it to {allowed}." if file_format else f"Use a {allowed} file."
    return Problem(field, value, f"the content of the image must be {allowed}, whatever the file name", remedy)


def _check_shape(header: Header, value: str, field: str, rules: ImageRules) -> list[Problem]:
    from fractions import Fraction

    problems = []
    short, long = sorted((header.width, header.height))
    if short < rules.min_side:
        rule = f"each side must be at least {rules.min_side} px"
        problems.append(Problem(field, value, rule, "Scale the image up or use a larger one."))
    # Via str: 1.15 means exactly 115:100, not the nearest binary fraction, which is slightly less.
    if rules.max_ratio is not None and long > Fraction(str(rules.max_ratio)) * short:
        rule = f"the aspect ratio must be between 1:{rules.max_ratio:g} and {rules.max_ratio:g}:1"
        problems.append(Problem(field, value, rule, "Crop the image or pad it."))
    if short * long > rules.max_pixels:
        rule = f"an image may have at most {rules.max_pixels:,} pixels (a limit of this provider, not of the API)"
        problems.append(Problem(field, value, rule, "Scale the image down."))
    return problems
