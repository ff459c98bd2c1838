"""Convert an image (URL, path, storage URI, bytes or Base64) to what the API takes: a URL, or plain Base64.

Every image is prepared before anything that costs money, so that its problems are found first. The image bytes are in
:attr:`PreparedImage.text` and nowhere else: not in any message, repr or log line.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_kirin.api.images.rules import ImageRules
from airflow_provider_kirin.api.images.sources import (
    ImageRejected,
    OpenUri,
    SourceType,
    address,
    describe,
    load,
    shape_problems,
    source_type_of,
)
from airflow_provider_kirin.api.requests import Base64Text
from airflow_provider_kirin.exceptions import Problem


@dataclass(frozen=True, repr=False)
class PreparedImage:
    """An image as the API takes it. The image behind a URL is not read: Kirin fetches it.

    :param text: the URL as given, or plain Base64
    :param size: file size in bytes; None for a URL, as are the following ones
    :param width: in pixels
    :param height: in pixels
    :param format: ``JPEG`` or ``PNG``
    :param sha256: SHA-256 of the file, in hexadecimal
    :param identity: SHA-256 of the original file, which does not depend on the Pillow version
    :param fitted: what was done to make it fit; None if nothing was necessary
    :param uri: its URI, without user and query; None for bytes or Base64
    """

    text: str
    size: int | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    sha256: str | None = None
    identity: str | None = None
    fitted: str | None = None
    uri: str | None = None

    def __str__(self) -> str:
        if self.sha256 is None or self.size is None:
            return describe(self.text)
        return f"{self.format}, {self.width} x {self.height} px, {self.size:,} bytes, sha256 {self.sha256[:8]}"

    def __repr__(self) -> str:
        return f"<PreparedImage {self}>"


def prepare_image(
    value: object, *, field: str, rules: ImageRules, open_uri: OpenUri | None = None, fitting: bool = False
) -> PreparedImage:
    """Load and validate an image, and convert it to what the API takes.

    :param value: URL, path, ``file://`` or storage URI, object with ``open()``, bytes, Base64 string or data URI
    :param field: the payload's field, for messages
    :param rules: what the model accepts
    :param open_uri: opens a storage URI (``s3://...``); None if that is not supported
    :param fitting: whether to make an image fit that breaks a limit
    :raises ImageRejected: lists all problems of the image. A temporary storage error (network, throttling) is raised
        unchanged, so that Airflow retries.
    """
    source_type = source_type_of(value)
    if problems := shape_problems(value, source_type, field):
        raise ImageRejected(problems)
    if source_type is SourceType.URL:
        return PreparedImage(text=str(value), uri=address(value))

    from airflow_provider_kirin.api.images.resize import MAX_ORIGINAL

    limit = MAX_ORIGINAL if fitting else rules.max_bytes
    name, data = load(value, source_type, field=field, limit=limit, open_uri=open_uri)

    from airflow_provider_kirin.api.images.validation import check

    header, problems = check(data, name=name, field=field, rules=rules)
    identity = done = None
    if problems and fitting:
        from airflow_provider_kirin.api.images.resize import Fitted, fit

        fitted = fit(data, name=name, field=field, rules=rules)
        if isinstance(fitted, Fitted):
            # The original identifies the image: another Pillow version encodes differently.
            identity = _sha256(data)
            data, done = fitted.data, fitted.done
            header, problems = check(data, name=f"{name}, made to fit", field=field, rules=rules)
        else:
            problems = fitted or problems
    if problems or header is None:
        raise ImageRejected(problems)

    from binascii import b2a_base64

    digest = _sha256(data)
    return PreparedImage(
        text=Base64Text(b2a_base64(data, newline=False), "ascii"),
        size=len(data),
        width=header.width,
        height=header.height,
        format=header.format,
        sha256=digest,
        identity=identity or digest,
        fitted=done,
        uri=address(value),
    )


def _sha256(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


def check_without_reading(value: object, *, field: str) -> list[Problem]:
    """Return the problems that are visible when a DAG is parsed, without opening or decoding anything.

    :param value: the user's value; a template or a reference to another task's result is accepted
    :param field: the payload's field, for messages
    """
    source_type = source_type_of(value)
    # XComArg and the like have resolve(): their value is known when the task runs.
    if source_type is SourceType.TEMPLATE or callable(getattr(value, "resolve", None)):
        return []
    return shape_problems(value, source_type, field)


def is_inline(value: object) -> bool:
    """Return whether a value contains image bytes, and so must stay out of templates, XCom and logs.

    :param value: the user's value; the run time does not depend on its size
    """
    return source_type_of(value) in (SourceType.BYTES, SourceType.DATA_URI, SourceType.BASE64)


def looks_like_image(value: object) -> bool:
    """Return whether a value in an undocumented field is certainly an image that has to be loaded.

    :param value: the user's value; a URL is not loaded, and another string may be an id
    """
    source_type = source_type_of(value)
    if isinstance(value, str) and source_type in (SourceType.PATH, SourceType.FILE_URI, SourceType.STORAGE):
        return value.lower().endswith((".jpg", ".jpeg", ".png"))
    return source_type in (SourceType.PATH, SourceType.OPENABLE) or is_inline(value)
