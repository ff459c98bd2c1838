"""Which part of a URL is a signature that changes each time the same object is signed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.presigned import without_signature

OBJECT = "https://bucket.example/cup.jpg?versionId=7"

#: Each as the service, or its SDK, writes it.
SIGNED = {
    "S3, version 4": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261128%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20261128T110000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t&X-Amz-Signature=1f",
    "S3, version 2": "AWSAccessKeyId=AKIA&Signature=a%2Bb&x-amz-security-token=t&Expires=1795456323",
    "Google, version 4": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me%40p&X-Goog-Date=20261128T110000Z"
    "&X-Goog-Expires=900&X-Goog-SignedHeaders=host&X-Goog-Signature=1f",
    "Google, version 2": "GoogleAccessId=me%40p&Expires=1795456323&Signature=a%2Bb",
    "Azure": "sv=2024-11-04&st=2026-11-28T11%3A00Z&se=2026-11-28T12%3A00Z&sr=b&sp=r&spr=https&sig=a%2Bb%3D",
    "Azure, by a user": "skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=5&sv=2024-11-04&se=6&sr=b&sp=r&sig=a%2Bb%3D",
    "CloudFront": "Expires=1795456323&Signature=a~b_&Key-Pair-Id=K2",
    "CloudFront, with a policy": "Policy=eyJ9&Signature=a~b_&Key-Pair-Id=K2&Hash-Algorithm=SHA256",
    "OSS": "OSSAccessKeyId=L&Expires=1795456323&Signature=a%2Bb&security-token=t",
    "a CDN, as Kirin's": "Expires=1795456323&Signature=901c26",
}


@pytest.mark.parametrize("signature", SIGNED.values(), ids=SIGNED)
def test_the_signature_goes_and_the_rest_stays(signature: str) -> None:
    assert without_signature(f"{OBJECT}&{signature}#x") == f"{OBJECT}#x"
    assert without_signature(f"https://bucket.example/cup.jpg?{signature}") == "https://bucket.example/cup.jpg"


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        "https://bucket.example/cup.jpg?expires=2030&policy=public",
        "https://bucket.example/cup.jpg?sp=1&sv=2&se=3",
        "https://bucket.example/cup.jpg?X-Amz-Date=20261128",
        "https://bucket.example/a%2Fb?c=%7E&d",
        "A cup? Signature=1&Expires=2",
        "https://[::1?Signature=1&Expires=2",
    ],
)
def test_what_is_not_signed_stays_as_it_is(text: str) -> None:
    assert without_signature(text) == text


@given(st.text())
def test_any_string_has_an_answer_that_stays(text: str) -> None:
    once = without_signature(f"https://h.example/a?{text}")
    assert without_signature(once) == once
    assert without_signature(text) == without_signature(without_signature(text))
