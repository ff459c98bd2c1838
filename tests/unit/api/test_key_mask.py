"""A gateway that repeats the key gets it into no log, in whatever notation, and no ordinary word is taken for it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from airflow_provider_kirin.api.key_mask import KeyMask
from airflow_provider_kirin.api.responses import parse_body, parse_task

KEYS = ["sa-Ab3dE5fG7hJ9kL1mN2pQ4rS6", "sk/ab+cd==EF/gh", "ab\"cd'ef<&>gh12", "A_b-c.d~e:f;g,h@i", r"key\with\back"]
KEYS += ["%41%42cd%2f", "[list]{obj}(.*)+?^$|"]


def each(form: str) -> Callable[[str], str]:
    return lambda key: "".join(form.format(ord(char), char) for char in key)


NOTATIONS: dict[str, Callable[[str], str]] = {
    "verbatim": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "JSON": lambda key: json.dumps(key)[1:-1].replace("/", r"\/"),
    "JSON in JSON in JSON": lambda key: json.dumps(json.dumps(json.dumps(key))),
    "JSON, all escaped": each(r"\u{:04x}"),
    "JavaScript": each(r"\u{{{:x}}}"),
    "Python": each(r"\U{:08X}"),
    "C, hexadecimal": each(r"\x{:02x}"),
    "C, octal": each(r"\{:03o}"),
    "URL": lambda key: quote(key, safe=""),
    "URL, three times": lambda key: quote(quote(quote(key, safe=""), safe=""), safe=""),
    "URL, all escaped": each("%{:02X}"),
    "URL of old scripts": each("%u{:04x}"),
    "HTML": html.escape,
    "HTML in HTML": lambda key: html.escape(html.escape(key)),
    "HTML, decimal": each("&#{};"),
    "HTML, hexadecimal": each("&#x{:X};"),
    "HTML, names": lambda key: key.replace("/", "&sol;").replace("+", "&plus;").replace("=", "&equals;"),
    "hexadecimal": lambda key: key.encode().hex().upper(),
    **{
        f"{encode.__name__} after {before!r}": lambda key, encode=encode, before=before: encode(  # type: ignore[misc]
            f"{before}{key}, and more".encode()
        ).decode()
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
        for before in ("", "-", "--", "Authorization: Bearer ")
    },
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("notation", NOTATIONS)
def test_is_masked_in_any_notation(key: str, notation: str) -> None:
    spelt = NOTATIONS[notation](key)
    masked = KeyMask(key)(f"the key {spelt} is wrong")
    assert "***" in masked
    assert spelt not in masked
    if "b64" not in notation and "JSON in" not in notation:
        assert masked == "the key *** is wrong"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("bad key sa-Ab3dE5fG7hJ9kL1m", "bad key ***"),
        ("bad key sa-Ab3dE5fG7...", "bad key ***..."),
        ("bad key 'sa-Ab3dE5fG7hJ9…' given", "bad key '***…' given"),
        ("bad key SA-AB3DE5FG7HJ9K**** (sa-Ab3dE5fG7hJ9k)", "bad key ******* (***)"),
        ("sa-Ab3dE5fG7hJ9kXXXX and sa-Ab3dE5fG7hJ9kL1等", "***XXXX and ***等"),
        ("sa-Ab3dE5fG7hJ9k, sa-Ab3dE5fG7hJ9k&x=1", "***, ***&x=1"),
        # Too little of it, and something else that begins like it.
        ("bad key sa-Ab3d...", "bad key sa-Ab3d..."),
        ("id sa-Ab3dE5fG7hJ-other", "id sa-Ab3dE5fG7hJ-other"),
    ],
)
def test_is_masked_when_it_is_cut_off(text: str, masked: str) -> None:
    assert KeyMask(KEYS[0])(text) == masked


@pytest.mark.parametrize("key", ["airflow", "kirin", "test", "k3y!"])
def test_a_short_one_is_masked_as_a_whole_word(key: str) -> None:
    mask = KeyMask(key)
    assert mask(f"Bearer {key}, '{key.upper()}' Bearer%20{key}.") == "Bearer ***, '***' Bearer%20***."
    assert "***" in mask(base64.b64encode(f"x: Bearer {key}, y".encode()).decode())
    for text in (f"airflow-{key}-1", f"http://h.example/{key}/{key}.mp4", f"{key}_v1"):
        assert mask(text) == text


def test_a_generation_is_recognized_by_an_id_that_contains_a_short_key() -> None:
    body = b'{"id": "c1", "status": "in_progress", "external_task_id": "airflow-c1"}'
    parsed = parse_body(body, hide=KeyMask("airflow"))
    assert parse_task(200, {}, parsed, doing="asking", asked_for="airflow-c1").id == "c1"


def test_text_that_is_not_json_is_decoded_as_json_would_be() -> None:
    parsed = parse_body(f"bad key {KEYS[0]}".encode("utf-16"), hide=KeyMask(KEYS[0]))
    assert parsed == "bad key ***"
