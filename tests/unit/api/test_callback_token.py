"""Nothing but the key makes a token, and whatever arrives instead of one is refused without an exception."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.callback_token import (
    MAX_TOKEN,
    CallbackToken,
    callback_url,
    parse_unverified,
    signing_key,
    verify,
)

KEY = signing_key("sk-a-key")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
tokens = st.builds(
    CallbackToken,
    dag_id=texts,
    run_id=texts,
    task_id=texts,
    map_index=st.integers(-1, 10**6),
    external_task_id=texts,
    kirin_conn_id=texts,
    expires_at=st.integers(1, 2**40),
    asset=st.none() | st.tuples(texts, texts),
)
EXAMPLE = CallbackToken("dag", "scheduled__2026-11-28T00:00:00+00:00", "generate", -1, "airflow-x", "kirin_default", 9)


@given(said=tokens)
def test_what_is_signed_is_read_and_verified(said):
    token = said.sign(KEY)
    assert parse_unverified(token) == said
    assert verify(token, KEY, now=said.expires_at - 1)


@given(said=tokens, seconds=st.integers(0, 2**40))
def test_is_worthless_once_it_has_expired(said, seconds):
    assert not verify(said.sign(KEY), KEY, now=said.expires_at + seconds)


@given(said=tokens, other=st.text("abcdef", min_size=1))
def test_is_worthless_with_another_api_key(said, other):
    assert not verify(said.sign(signing_key(other)), KEY, now=0)


@given(said=tokens, other=tokens)
def test_a_signature_is_for_one_content_only(said, other):
    body, _, _ = other.sign(KEY).partition(".")
    _, _, signature = said.sign(KEY).partition(".")
    assert verify(f"{body}.{signature}", KEY, now=0) == (said == other)


@given(said=tokens, position=st.integers(0, 10**6), char=st.characters())
def test_a_changed_character_is_a_forgery(said, position, char):
    token = said.sign(KEY)
    position %= len(token)
    forged = token[:position] + char + token[position + 1 :]
    same_bits = parse_unverified(forged) == said and position == len(token) - 1
    assert forged == token or same_bits or not verify(forged, KEY, now=0)


@given(token=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode() + "." + "A" * 43))
def test_anything_else_is_no_token(token):
    assert parse_unverified(token) is None or not verify(token, KEY, now=0)
    assert not verify(token, KEY, now=0)


@given(fields=st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=12))
def test_other_contents_are_no_token_even_if_they_are_signed(fields):
    from airflow_provider_kirin.api.callback_token import _encode, _signature

    body = _encode(json.dumps(fields).encode())
    token = f"{body}.{_encode(_signature(body, KEY))}"
    assert parse_unverified(token) is None
    assert not verify(token, KEY, now=0)


def test_deep_and_long_contents_are_no_token():
    for body in ("[" * 2000, "9" * (MAX_TOKEN - 1000)):
        assert parse_unverified(base64.urlsafe_b64encode(body.encode()).decode().rstrip("=") + "." + "A" * 43) is None
    assert parse_unverified(replace(EXAMPLE, dag_id="d" * MAX_TOKEN).sign(KEY)) is None


def test_neither_key_shows_in_a_url():
    url = callback_url("https://airflow.example/base", EXAMPLE.sign(KEY))
    parts = urlsplit(url)
    assert (parts.netloc, parts.path) == ("airflow.example", "/base/kirin-callback/generation")
    (token,) = parse_qs(parts.query)["token"]
    assert verify(token, KEY, now=0)
    assert len(url) < 300, "an ordinary step has a short URL"
    assert "sk-a-key" not in url and KEY.hex() not in url
