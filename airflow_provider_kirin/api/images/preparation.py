"""URL, path, storage URI, bytes or Base64 in; out comes what the API takes: a URL, or plain Base64 of a checked image.

Nothing that costs money happens before an image went through here, so that whatever can be known of it is found out
first. An image's bytes are in :attr:`PreparedImage.text` and nowhere else: in no message, repr or log line.
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
    """An image as the API takes it. What a URL leads to is not known here: Kirin fetches it.

    :param text: the URL as it was given, or plain Base64
    :param size: bytes of the file, None for a URL, as are those that follow
    :param width: in pixels
    :param height: in pixels
    :param format: ``JPEG`` or ``PNG``
    :param sha256: of the file, in hexadecimal
    :param identity: sha256 of the file as it was given, which another Pillow cannot change
    :param fitted: what was done to make it fit, None where nothing had to be done
    :param uri: where it lies, without user and query; None for one that was given as bytes or Base64
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
    """Turn what a user gave into what the API takes, having found out whether it will take it.

    :param value: URL, path, ``file://`` or storage URI, object with ``open()``, bytes, Base64 text or data URI
    :param field: the payload's field, for messages
    :param rules: what the model takes
    :param open_uri: opens a storage URI (``s3://...``); None where that cannot be done
    :param fitting: whether an image that breaks a limit is made to fit
    :raises ImageRejected: holds everything that is wrong with the image. An error of a storage that another try may
        cure (network, throttling) is raised as it came, so that Airflow tries again.
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
            # The original is what tells this image from others: another Pillow encodes differently.
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
    """Find what can be known when a DAG is parsed: no file is opened, nothing is decoded.

    :param value: whatever the user gave; of a template, or of a reference to another task's result, nothing is known
    :param field: the payload's field, for messages
    """
    source_type = source_type_of(value)
    # XComArg and its kin have resolve(): their value is there when the task runs.
    if source_type is SourceType.TEMPLATE or callable(getattr(value, "resolve", None)):
        return []
    return shape_problems(value, source_type, field)


def is_inline(value: object) -> bool:
    """Tell whether a value carries image bytes in itself, and so must stay out of templates, XCom and logs.

    :param value: whatever the user gave; the cost does not grow with it
    """
    return source_type_of(value) in (SourceType.BYTES, SourceType.DATA_URI, SourceType.BASE64)


def looks_like_image(value: object) -> bool:
    """Tell whether a value in a field that nobody describes is surely an image that has to be read here.

    :param value: whatever the user gave; a URL is not read here, and other text may be an id
    """
    source_type = source_type_of(value)
    if isinstance(value, str) and source_type in (SourceType.PATH, SourceType.FILE_URI, SourceType.STORAGE):
        return value.lower().endswith((".jpg", ".jpeg", ".png"))
    return source_type in (SourceType.PATH, SourceType.OPENABLE) or is_inline(value)
