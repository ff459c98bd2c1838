"""A connection is read once, checked whole, and never shows its key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.private_hosts import PrivateHosts
from airflow_provider_kirin.connection import DEFAULT_TIMEOUT, KirinConnection, read_connection
from airflow_provider_kirin.exceptions import KirinConfigError


@dataclass
class Connection:
    """The fields that a form, a URI or an environment variable fills in."""

    conn_id: str = "kirin_default"
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    password: str | None = "sa-SECRET"
    extra: str | None = None


def read(extra: dict[str, Any] | None = None, **fields: Any) -> KirinConnection:
    return read_connection(Connection(**fields), extra or {})


@pytest.mark.parametrize(
    ("given", "namespace"), [(None, ""), ("", ""), (" staging ", "staging"), (7, "7"), ("x" * 100, "x" * 100)]
)
def test_a_namespace_is_a_string(given: object, namespace: str) -> None:
    assert read({"namespace": given}).namespace == namespace


@pytest.mark.parametrize("given", [True, ["staging"], {}, 1.5, "a\nb", "x" * 101])
def test_anything_else_is_not_a_namespace(given: object) -> None:
    with pytest.raises(KirinConfigError, match=r"extra namespace = .* must be a string of at most 100"):
        read({"namespace": given})


def test_prices_are_exact_and_a_wrong_one_is_named() -> None:
    from decimal import Decimal

    assert read({"prices": {"kirin_v1_6_i2v/std/5": "0.28", "kirin_v1_6_i2v": 0.98}}).prices == {
        "kirin_v1_6_i2v/std/5": Decimal("0.28"),
        "kirin_v1_6_i2v": Decimal("0.98"),
    }
    with pytest.raises(KirinConfigError, match=r"extra prices: 'kirin_v1_6_i2v': 'cheap' must be an amount"):
        read({"prices": {"kirin_v1_6_i2v": "cheap"}})
    with pytest.raises(KirinConfigError, match="extra prices: 5 must map keys"):
        read({"prices": 5})


def test_a_key_is_enough() -> None:
    assert read() == KirinConnection(
        base_url="https://cloud.vtrix.ai/model",
        api_key="sa-SECRET",
        timeout=DEFAULT_TIMEOUT,
        verify=True,
        proxies={},
        requests_per_second=None,
        private_hosts=PrivateHosts(names=frozenset({"cloud.vtrix.ai"})),
    )


def test_everything_at_once() -> None:
    extra = {"timeout": 5, "verify": "/etc/ca.pem", "proxies": {"https": "http://p:3128"}, "requests_per_second": 2}
    connection = read(extra, host="gateway.example", port=8443, schema="http", password=" sa-SECRET\n")
    assert connection == KirinConnection(
        "http://gateway.example:8443/model",
        "sa-SECRET",
        5.0,
        "/etc/ca.pem",
        {"https": "http://p:3128"},
        2.0,
        PrivateHosts(names=frozenset({"gateway.example"})),
    )


@pytest.mark.parametrize("password", [None, "", " ", "two words", "naïve"])
def test_without_a_usable_key_it_is_none(password: str | None) -> None:
    with pytest.raises(KirinConfigError, match="kirin_default"):
        read(password=password)


def test_with_an_unusable_host_it_is_none() -> None:
    with pytest.raises(KirinConfigError, match="Host"):
        read(host="ftp://gateway.example")


class TestExtra:
    def test_a_misnamed_one_is_logged_without_its_value(self, caplog: pytest.LogCaptureFixture) -> None:
        connection = read({"request_per_second": "SECRET", "timeout": 5})
        assert "request_per_second (did you mean requests_per_second?)" in connection.unknown_extras
        assert "The extras are allow_private_hosts, " in connection.unknown_extras
        assert connection.unknown_extras in caplog.text
        assert "SECRET" not in caplog.text

    @pytest.mark.parametrize(
        "name", ["sk-SECRET-7f3a9c51", "SECRETabcdefghijk", "timeout" * 9, "timeout\x1b[31m", "", "é"]
    )
    def test_a_name_that_may_be_a_secret_is_not_shown(self, caplog: pytest.LogCaptureFixture, name: str) -> None:
        assert "1 whose name is not shown" in read({name: "x"}).unknown_extras
        assert not name or name not in caplog.text

    def test_without_one_there_is_nothing_to_say(self, caplog: pytest.LogCaptureFixture) -> None:
        assert read({"timeout": 5}).unknown_extras == caplog.text == ""

    @pytest.mark.parametrize(
        ("extra", "said"),
        [
            ([1], "an array"),
            ("sa-SECRET", "a string"),
            (5, "a number"),
            (0.5, "a number"),
            (True, "a boolean"),
            (None, "null"),
        ],
    )
    def test_json_that_is_not_an_object(self, extra: Any, said: str) -> None:
        with pytest.raises(KirinConfigError, match=f"'kirin_default' is JSON, but {said}. Make it an object") as caught:
            read_connection(Connection(extra=json.dumps(extra)), extra)
        assert "SECRET" not in str(caught.value)

    def test_what_is_not_json_is_not_taken_for_nothing(self) -> None:
        with pytest.raises(KirinConfigError, match="not valid JSON") as caught:
            # Airflow decodes it as an empty object, and logs an error.
            read_connection(Connection(extra='{"verify": "/etc/ca.pem", SECRET}'), {})
        assert "SECRET" not in str(caught.value)
        assert read_connection(Connection(extra="{ }"), {}) == read()

    @pytest.mark.parametrize(
        ("value", "seconds"), [(None, DEFAULT_TIMEOUT), ("", DEFAULT_TIMEOUT), (5, 5.0), ("2.5", 2.5), (0.1, 0.1)]
    )
    def test_timeout(self, value: Any, seconds: float) -> None:
        assert read({"timeout": value}).timeout == seconds

    @pytest.mark.parametrize("value", [None, "", 10, "0.5"])
    def test_requests_per_second(self, value: Any) -> None:
        assert read({"requests_per_second": value}).requests_per_second == (float(value) if value else None)

    @pytest.mark.parametrize(
        ("value", "allowed"),
        [
            (None, []),
            ("", []),
            (False, []),
            ([], []),
            ("false", []),
            (True, ["10.0.0.1", "192.168.0.1"]),
            (" True ", ["10.0.0.1", "192.168.0.1"]),
            (["10.0.0.0/8"], ["10.0.0.1"]),
            ("10.0.0.0/8, 192.168.0.0/16", ["10.0.0.1", "192.168.0.1"]),
            ("videos.corp", ["10.0.0.1", "192.168.0.1"]),
        ],
    )
    def test_allow_private_hosts(self, value: Any, allowed: list[str]) -> None:
        rules = read({"allow_private_hosts": value}).private_hosts
        assert [address for address in ("10.0.0.1", "192.168.0.1") if rules.allow("videos.corp", address)] == allowed

    @pytest.mark.parametrize("value", [7, {"a": 1}, [1], ["http://h/"], "a b"])
    def test_hosts_that_are_none(self, value: Any) -> None:
        with pytest.raises(KirinConfigError, match="allow_private_hosts"):
            read({"allow_private_hosts": value})

    @pytest.mark.parametrize("name", ["timeout", "requests_per_second"])
    @pytest.mark.parametrize(
        "value",
        [0, -1, "0", "soon", "nan", "inf", float("nan"), float("inf"), [5], {}, True, pytest.param(10**400, id="huge")],
    )
    def test_what_is_no_number_above_0_is_refused(self, name: str, value: Any) -> None:
        with pytest.raises(KirinConfigError, match=f"{name} = .* must be a number above 0"):
            read({name: value})

    @pytest.mark.parametrize(
        ("value", "verify"),
        [
            (None, True),
            ("", True),
            (True, True),
            (False, False),
            ("true", True),
            (" False ", False),
            ("/etc/ca.pem", "/etc/ca.pem"),
        ],
    )
    def test_verify(self, value: Any, verify: bool | str) -> None:
        assert read({"verify": value}).verify == verify
        assert type(read({"verify": value}).verify) is type(verify)

    @pytest.mark.parametrize("value", [0, 1, ["/etc/ca.pem"], {"ca": "x"}])
    def test_a_verify_that_means_nothing_is_refused_not_taken_as_no(self, value: Any) -> None:
        with pytest.raises(KirinConfigError, match="verify"):
            read({"verify": value})

    @pytest.mark.parametrize(
        ("value", "proxies"),
        [
            (None, {}),
            ("", {}),
            ({}, {}),
            ("http://p:3128", {"http": "http://p:3128", "https": "http://p:3128"}),
            ({"https": "http://p:3128"}, {"https": "http://p:3128"}),
        ],
    )
    def test_proxies(self, value: Any, proxies: dict[str, str]) -> None:
        assert read({"proxies": value}).proxies == proxies

    @pytest.mark.parametrize("value", [["http://u:SECRET@p"], {"https": 5}, {5: "http://u:SECRET@p"}, 5, True])
    def test_proxies_that_are_none_are_refused_and_not_shown(self, value: Any) -> None:
        with pytest.raises(KirinConfigError, match="proxies") as caught:
            read({"proxies": value})
        assert "SECRET" not in str(caught.value)

    @settings(max_examples=200)
    @given(
        st.dictionaries(
            st.sampled_from(["timeout", "verify", "proxies", "requests_per_second", "allow_private_hosts"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
                max_leaves=4,
            ),
        )
    )
    @example({"timeout": 10**400})
    def test_any_extra_is_usable_or_a_config_error(self, extra: dict[str, Any]) -> None:
        refusal = None
        try:
            connection = read(json.loads(json.dumps(extra)))
        except KirinConfigError as error:
            refusal = error
        if refusal:
            assert len(str(refusal)) < 300
            return
        assert 0 < connection.timeout < float("inf")
        assert connection.requests_per_second is None or 0 < connection.requests_per_second < float("inf")
        assert isinstance(connection.verify, bool | str)
        assert all(isinstance(item, str) for pair in connection.proxies.items() for item in pair)


class TestTheKeyIsNotShown:
    def test_by_the_repr(self) -> None:
        connection = read({"proxies": {"https": "http://u:SECRET@p:3128"}}, host="gateway.example")
        assert "SECRET" not in repr(connection)
        assert "https://gateway.example/model" in repr(connection)

    def test_by_a_gateway_that_repeats_it(self) -> None:
        assert read().hide_key("the key sa-SECRET is wrong; sa-SECRET!") == "the key *** is wrong; ***!"

    def test_a_key_of_three_letters_does_not_mask_ordinary_words(self) -> None:
        assert read(password="key").hide_key("the key is monkey") == "the key is monkey"

    def test_the_url_does_not_contain_it(self) -> None:
        assert "SECRET" not in read().base_url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, ""),
        ("", ""),
        ("https://airflow.example.com/", "https://airflow.example.com"),
        (" http://10.0.0.7:8080/base/ ", "http://10.0.0.7:8080/base"),
    ],
)
def test_a_callback_base_url_has_no_slash_at_the_end(given: object, url: str) -> None:
    assert read({"callback_base_url": given}).callback_base_url == url


@pytest.mark.parametrize(
    "given",
    [
        7,
        True,
        [],
        "airflow.example.com",
        "ftp://x",
        "https://",
        "https://x/?token=secret",
        "https://u:p@x",
        "https://x#y",
    ],
)
def test_anything_else_is_no_callback_base_url(given: object) -> None:
    with pytest.raises(KirinConfigError, match=r"extra callback_base_url = .* must be an http or https URL") as raised:
        read({"callback_base_url": given})
    assert "secret" not in str(raised.value)
