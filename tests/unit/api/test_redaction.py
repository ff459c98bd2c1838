"""Text from elsewhere is shown short, on one line, and without what may be secret."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr

UUID = "0f9a2c34-5b6d-4e7f-8a91-b2c3d4e5f607"


class TestRedactUrl:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://cdn.example/v/1.mp4?Signature=SECRET", "https://cdn.example/v/1.mp4"),
            ("https://cdn.example/v/1.mp4#SECRET", "https://cdn.example/v/1.mp4"),
            ("https://user:SECRET@cdn.example:8443/v", "https://cdn.example:8443/v"),
            ("https://a@SECRET@cdn.example/v", "https://cdn.example/v"),
            ("https://user:SECRET/SECRET@cdn.example/v", "https://..."),
            ("https://user:12/SECRET@cdn.example/v", "https://..."),
            ("https://user:12#SECRET@cdn.example/v", "https://..."),
            ("https://user:SECRET#SECRET@cdn.example/v", "https://..."),
            ("https://user:SECRET", "https://..."),
            ("https://cdn.example/@me/1.mp4", "https://cdn.example/@me/1.mp4"),
            ("http://[::1]:8900/v?SECRET", "http://[::1]:8900/v"),
            ("cdn.example/v?token=SECRET", "cdn.example/v"),
            ("http://[SECRET", "<malformed URL>"),
            ("not a URL", "not a URL"),
            ("", ""),
        ],
    )
    def test_query_fragment_and_user_are_left_out(self, url: str, shown: str) -> None:
        assert redact_url(url) == shown

    @given(st.text(max_size=1000))
    def test_any_text_gives_a_short_text(self, text: str) -> None:
        assert len(redact_url(text)) <= 200
        assert len(redact_url("https://" + text)) <= 200


class TestOneLine:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("two\nlines\r\n\tand more", "two lines and more"),
            ("a\x1b[31mred\x00", "a [31mred"),
            ("see https://h.example/a?key=SECRET for more", "see https://h.example/a for more"),
            ('{"url":"HTTPS://h.example/a?key=SECRET"}', '{"url":"https://h.example/a"}'),
            (None, "None"),
            ({"a": 1}, "{'a': 1}"),
        ],
    )
    def test_is_one_printable_line_without_signed_queries(self, text: object, shown: str) -> None:
        assert one_line(text) == shown

    def test_base64_is_only_counted(self) -> None:
        image = base64.b64encode(bytes(range(256)) * 4).decode()
        shown = one_line(f'the image "{image[:500]}" is bad, and so is data:image/png;base64,{image}')
        assert shown == 'the image "<500 characters>" is bad, and so is <more than 669 characters>'
        escaped = one_line("bad: " + image[:400].replace("/", "\\/"))
        assert image[:60] not in escaped

    @pytest.mark.parametrize(
        "escape",
        [
            lambda image: image.replace("/", r"\u002f").replace("+", r"\u002b"),
            lambda image: quote(quote(image, safe=""), safe=""),
            lambda image: image.replace("/", "&#47;").replace("+", "&#43;"),
            lambda image: "https://h.example/" + image,
            lambda image: base64.b64decode(image).hex(),
            lambda image: base64.b64decode(image).hex(":"),
            lambda image: str(list(base64.b64decode(image))),
            lambda image: "".join(f"\\x{byte:02x}" for byte in base64.b64decode(image)),
            lambda image: base64.b64encode(image.encode()).decode(),
        ],
    )
    def test_an_image_is_only_counted_however_it_is_escaped(self, escape: Callable[[str], str]) -> None:
        # Random, as compressed images are.
        image = base64.b64encode(random.Random(1).randbytes(1000)).decode()
        assert len(one_line(f"the image '{escape(image)}' is bad")) < 60

    @pytest.mark.parametrize("address", ["https://h.example", "s3://bucket", "rtmp://h", "", "GET "])
    @pytest.mark.parametrize(
        "escape",
        [
            str,
            lambda url: url.replace("/", r"\/"),
            lambda url: url.replace("/", r"\u002f").replace("?", r"\u003f").replace("=", r"\u003d"),
            lambda url: url.replace("=", r"\u003d").replace("&", r"\u0026"),
            lambda url: quote(url, safe=""),
            lambda url: quote(quote(url, safe=""), safe=""),
            lambda url: url.replace("/", "&#x2F;").replace("=", "&#61;"),
        ],
    )
    def test_what_may_be_secret_in_an_address_is_left_out_however_it_is_escaped(
        self, address: str, escape: Callable[[str], str]
    ) -> None:
        with_user = address.replace("://", "://user:SECRET@")
        signed = escape(f"{with_user}/a.jpg?X-Amz-Signature=SECRET&x=1")
        assert "SECRET" not in one_line(f'cannot fetch "{signed}"')
        assert "SECRET" not in one_line(f"cannot fetch {signed} now")

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("proxy user:SECRET@h.example:3128 is down", "proxy h.example:3128 is down"),
            ("https://h.example/a;jsessionid=SECRET is gone", "https://h.example/a;jsessionid=*** is gone"),
            ("signature=SECRET&x=1", "signature=***&x=1"),
            ("down?redis://user:SECRET@h.example/0", "down?redis://h.example/0"),
            ("s3://conn_id@bucket/a is missing", "s3://conn_id@bucket/a is missing"),
            ("is it 5? a=b, x:y", "is it 5? a=b, x:y"),
            (f"task {UUID}_{UUID} not found", f"task {UUID}_{UUID} not found"),
            (f"s3://b/{UUID}/{UUID}.mp4", f"s3://b/{UUID}/{UUID}.mp4"),
        ],
    )
    def test_what_may_be_secret_elsewhere_is_left_out(self, text: str, shown: str) -> None:
        assert one_line(text) == shown

    @pytest.mark.parametrize(
        "kept",
        [
            "a" * 64,
            "/data/dag_id=Shop/run_id=manual__2026-11-29T14:36:16.123456+00:00/Task-7/Teapot.mp4",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "airflow-ducmkslcs6aa2sumbkpmv7lbqy",
            "/opt/airflow/dags/a/long/way/to/a/picture/of/a/cup/in/it",
        ],
    )
    def test_what_only_looks_long_is_kept(self, kept: str) -> None:
        assert one_line(f"see {kept} for more") == f"see {kept} for more"

    def test_what_is_too_long_ends_in_an_ellipsis(self) -> None:
        assert one_line("x" * 300) == "x" * 300
        assert one_line("x" * 301) == "x" * 299 + "…"
        assert one_line("abcdef", 4) == "abc…"

    @settings(max_examples=200)
    @given(st.text(max_size=2000), st.integers(1, 400))
    def test_any_text_is_bounded_and_printable(self, text: str, limit: int) -> None:
        shown = one_line(text, limit)
        assert len(shown) <= limit
        assert shown.isprintable()

    @settings(max_examples=200)
    @given(
        st.sampled_from(["http", "https", "HTTPS"]),
        st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,2}", fullmatch=True),
        st.from_regex(r"(/[A-Za-z0-9._~%-]{0,9}){0,4}", fullmatch=True),
        st.text(max_size=30),
        st.text(max_size=30),
    )
    def test_no_query_of_a_url_within_a_text_is_shown(
        self, scheme: str, host: str, path: str, before: str, after: str
    ) -> None:
        shown = one_line(f"{before} {scheme}://{host}{path}?sig=SECRETSIG {after}")
        assert "SECRETSIG" not in shown

    def test_of_megabytes_only_the_beginning_is_searched(self) -> None:
        assert len(one_line("https://h.example/" * 2_000_000)) <= 300
        for hostile in ("?", "//a:", "a:b@", "%2F%2F", "1,", "ab1C", "%3faaaa", "&#63;", r"\u003f"):
            assert len(one_line(hostile * 1_000_000, 4000)) <= 4000
        # Spaces are joined, so the word would be shown if they had been read.
        assert one_line(" " * 10_000_000 + "word") == ""


class TestShortRepr:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("abc", "'abc'"),
            ("x" * 60, repr("x" * 60)),
            (b"secret bytes", "<12 bytes>"),
            (bytearray(1500), "<1,500 bytes>"),
            (memoryview(b"abc"), "<3 bytes>"),
            (None, "None"),
            (True, "True"),
            (7, "7"),
            (0.5, "0.5"),
            (float("nan"), "nan"),
            ([1, 2, 3], "<list of 3>"),
            ((1,), "<tuple of 1>"),
            ({"token": "SECRET"}, "<dict of 1>"),
            (object(), "<object>"),
            (10**100, "1" + "0" * 59),
        ],
    )
    def test_shows_a_value_as_the_user_wrote_it(self, value: object, shown: str) -> None:
        assert short_repr(value) == shown

    def test_a_long_text_is_cut_and_its_length_shown(self) -> None:
        assert short_repr("x" * 61) == repr("x" * 59 + "…") + " (61 characters)"
        assert short_repr("y" * 13_000_000).endswith("(13,000,000 characters)")

    def test_an_integer_too_long_for_python_to_print_is_still_shown_shortly(self) -> None:
        # Python refuses str() of more than 4,300 digits with a ValueError.
        assert len(short_repr(10**5000)) <= 80

    def test_the_query_of_a_url_is_not_shown(self) -> None:
        assert short_repr("https://h.example/a.png?token=SECRET") == "'https://h.example/a.png'"
