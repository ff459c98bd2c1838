"""What is sent for a link is what was given, and its host is the one that was judged."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from airflow_provider_kirin.api.request_url import RequestUrl

#: What RFC 3986 allows in a path and a query.
LEGAL = "abzAZ019-._~:/?@!$&'()*+,;="


class TestALink:
    @given(st.lists(st.sampled_from([*LEGAL, "%2f", "%7E", "%e9", "/./", "/../"])).map("".join))
    def test_is_sent_as_it_is(self, target: str) -> None:
        url = RequestUrl.parse(f"https://host.example/{target}#part")
        assert str(url) == f"https://host.example/{target}"
        assert RequestUrl.parse("http://h/").follow(str(url)) == url

    @given(st.text())
    def test_of_any_text_is_printable_ascii(self, text: str) -> None:
        target = RequestUrl.parse(f"https://host.example/{text}").target
        assert target.isascii() and target.isprintable() and " " not in target

    @pytest.mark.parametrize(
        ("text", "is_read"),
        [
            ("HTTPS://User:p@Host.Example.:8443?x", "https://host.example.:8443/?x"),
            ("http://h:", "http://h/"),
            (" http://h/a b\n", "http://h/a%20b"),
            ("http://[::FFFF:127.0.0.1]:81/", "http://[::ffff:7f00:1]:81/"),
            ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
            ("http://１６９.254.169。254/", "http://169.254.169.254/"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://a_b.example/", "http://a_b.example/"),
            ("http://127.1/", "http://127.0.0.1/"),
            ("http://0X7f000001./", "http://127.0.0.1/"),
            ("http://010.0.0.1:81/", "http://8.0.0.1:81/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://7.example/", "http://7.example/"),
            ("http://node.7/", "http://node.7/"),
            ("http://a@b@c/", "http://c/"),
        ],
    )
    def test_has_one_host(self, text: str, is_read: str) -> None:
        assert str(RequestUrl.parse(text)) == is_read

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "h",
                "ftp://h/",
                "http:/h",
                "http:///x",
                "http://?x",
                "http://:80/",
                "http://h:0/",
                "http://h:65536/",
            ),
            *("http://h:x/", "http://h:٣/", "http://[::1", "http://::1/", "http://[::1%25lo]/", "http://[h]/"),
            *("http://a b/", "http://a%20b/", "http://a%2fb/", "http://a%40b/", "http://a%00/", "http://%ff/"),
            *("http://127.0.0.1:1\\@h/", "http://h\\.example/", "http://a\tb/", "http://./", "http://a<b/"),
            *("http://256.0.0.1/", "http://1.2.3.4.5/", "http://4294967296/", "http://08.1/", "http://0x/"),
            f"http://h:{'1' * 5000}/",
        ],
    )
    def test_an_invalid_url_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the caller says what it was
            RequestUrl.parse(text)

    @given(st.text(st.sampled_from("ab1.:@\\[]%/?# \t-é２"), max_size=12))
    def test_means_the_same_host_to_every_reader(self, authority: str) -> None:
        try:
            url = RequestUrl.parse(f"http://{authority}/x")
        except ValueError:
            return
        host, port = urlsplit(str(url)).hostname, urlsplit(str(url)).port
        assert (host, port) == (url.host, url.port)
        assert ((parse_url(str(url)).host or "").strip("[]"), parse_url(str(url)).port) == (host, port)


class TestARedirect:
    URL = RequestUrl.parse("https://h.example:81/a/./b.mp4?x=1")

    @pytest.mark.parametrize(
        ("location", "leads_to"),
        [
            ("http://k/%7e?", "http://k/%7e?"),
            ("//k/%7e", "https://k/%7e"),
            ("/c/./d?", "https://h.example:81/c/./d?"),
            ("c d?q r", "https://h.example:81/a/c%20d?q%20r"),
            ("../z?y=/../", "https://h.example:81/z?y=/../"),
            ("?q", "https://h.example:81/a/b.mp4?q"),
            ("#part", "https://h.example:81/a/b.mp4?x=1"),
            ("/caf\xe9", "https://h.example:81/caf%E9"),
            ("/caf\xc3\xa9", "https://h.example:81/caf%C3%A9"),
        ],
    )
    def test_is_followed(self, location: str, leads_to: str) -> None:
        assert str(self.URL.follow(location)) in (leads_to, leads_to.replace("/a/b.mp4", "/a/./b.mp4"))

    @pytest.mark.parametrize("location", ["mailto:a@b", "//[", "http://a b/", "javascript:1", "http://k:0", "/\u20ac"])
    def test_to_nowhere(self, location: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the caller says what it was
            self.URL.follow(location)
