"""What is sent, and where: the key in one header, the id in one path segment, the parameters in one wrapper."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin import __version__
from airflow_provider_kirin.api.requests import (
    DEFAULT_HOST,
    ApiRequest,
    base_url,
    check_api_key,
    create_generation,
    get_generation,
    precharge_generation,
    request_headers,
    validate_task_id,
)
from airflow_provider_kirin.exceptions import KirinConfigError, KirinIdError


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("host", "url"),
        [
            (None, "https://cloud.vtrix.ai/model"),
            ("", "https://cloud.vtrix.ai/model"),
            ("cloud.vtrix.ai", "https://cloud.vtrix.ai/model"),
            (" cloud.vtrix.ai ", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai/", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai/model", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai/model/", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai/model/v1", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai/model/v1/generation", "https://cloud.vtrix.ai/model"),
            ("https://cloud.vtrix.ai/model/v1/generation/", "https://cloud.vtrix.ai/model"),
            ("HTTPS://Cloud.Vtrix.AI", "https://cloud.vtrix.ai/model"),
            ("gateway.example/kirin", "https://gateway.example/kirin/model"),
            ("gateway.example/kirin/model", "https://gateway.example/kirin/model"),
            ("gateway.example:8443", "https://gateway.example:8443/model"),
            ("http://gateway.example", "http://gateway.example/model"),
            ("localhost", "http://localhost/model"),
            ("localhost:8900", "http://localhost:8900/model"),
            ("localhost:8900/kirin", "http://localhost:8900/kirin/model"),
            ("127.0.0.1:8900", "http://127.0.0.1:8900/model"),
            ("[::1]", "http://[::1]/model"),
            ("[::1]:8900", "http://[::1]:8900/model"),
            ("https://localhost:8900", "https://localhost:8900/model"),
            ("[2001:db8::1]", "https://[2001:db8::1]/model"),
            ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x/model"),
        ],
    )
    def test_every_way_to_write_a_host(self, host: str | None, url: str) -> None:
        assert base_url(host) == url

    def test_port_and_scheme_of_the_connection_fill_in_what_the_host_lacks(self) -> None:
        assert base_url("gateway.example", port=8443) == "https://gateway.example:8443/model"
        assert base_url("gateway.example:1", port=2) == "https://gateway.example:1/model"
        assert base_url("gateway.example", scheme="http") == "http://gateway.example/model"
        assert base_url("https://gateway.example", scheme="http") == "https://gateway.example/model"
        assert base_url("localhost", port=8900) == "http://localhost:8900/model"
        assert base_url("localhost", scheme="https") == "https://localhost/model"
        assert base_url(None, port=8443) == "https://cloud.vtrix.ai:8443/model"

    @pytest.mark.parametrize(
        ("host", "why"),
        [
            ("ftp://gateway.example", "ftp"),
            ("s3://bucket", "s3"),
            ("https://", "has no host name"),
            ("https:///model", "has no host name"),
            ("gate way.example", "has no host name"),
            ("https://h:port", "is not a host"),
            ("https://h:99999", "is not a host"),
            ("https://[::1", "is not a host"),
            ("[::1", "is not a host"),
            ("[", "is not a host"),
            ("2001:db8::1", "is not a host"),
            ("gateway℀.example", "is not a host"),
            ("https://gateway.example?a=1", "query"),
            ("https://gateway.example/#a", "query or fragment"),
            ("https://user@gateway.example", "user name or password"),
            ("user:word@gateway.example", "user name or password"),
            ("https://@gateway.example", "user name or password"),
        ],
    )
    def test_what_cannot_be_a_host_is_refused_with_a_reason(self, host: str, why: str) -> None:
        with pytest.raises(KirinConfigError) as caught:
            base_url(host)
        assert why in str(caught.value)
        assert "Host" in str(caught.value)

    @pytest.mark.parametrize(
        "host",
        [
            "https://user:SECRET@gateway.example",
            "user:SECRET@gateway.example",
            "SECRET@gateway.example",
            "https://gateway.example?key=SECRET",
            "https://gateway.example/#SECRET",
            "https://user:SECRET@gateway.example:99999",
            "ftp://user:SECRET@gateway.example",
            "https://SECRET@",
            "https://user:SECRET word@gateway.example",
            "https://user:SECRET@gate way.example",
        ],
    )
    def test_a_secret_in_the_host_is_refused_and_not_shown(self, host: str) -> None:
        with pytest.raises(KirinConfigError) as caught:
            base_url(host)
        assert "SECRET" not in str(caught.value)

    @pytest.mark.parametrize("port", [-1, 65536, 99999])
    def test_a_port_that_cannot_be_one_is_refused(self, port: int) -> None:
        with pytest.raises(KirinConfigError):
            base_url("gateway.example", port=port)

    @pytest.mark.parametrize("host", ["gate\x00way.example", "gate\x7fway.example", "gate\\way.example"])
    def test_characters_that_no_host_has_are_refused(self, host: str) -> None:
        with pytest.raises(KirinConfigError):
            base_url(host)

    @settings(max_examples=500)
    @given(
        st.text(max_size=40)
        | st.text(alphabet="ab.:/[]@?#%\\ \n1", max_size=20)
        | st.text(max_size=20).map(lambda text: f"https://{text}"),
        st.none() | st.integers(1, 65535),
        st.none() | st.sampled_from(["", "http", "https", "ftp", "ht tp", "http:"]),
    )
    @example("[", None, None)
    @example("℀", None, None)
    def test_any_text_is_a_usable_base_or_a_config_error(self, host: str, port: int | None, scheme: str | None) -> None:
        refusal = None
        try:
            url = base_url(host, port=port, scheme=scheme)
        except KirinConfigError as error:
            refusal = error
        if refusal:
            assert len(str(refusal)) < 500
            return
        parts = urlsplit(url)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert parts.port is None or 0 < parts.port < 65536
        assert url.endswith("/model")
        assert not parts.query
        assert not parts.fragment
        assert "@" not in parts.netloc
        assert base_url(url) == url


class TestIds:
    @pytest.mark.parametrize(
        "any_id", ["d1kq2v3c4bfs73a0q5mg", "row-7", "row 7", "日本", "a/b", "a?b#c", "{x}", "a[0]", "none"]
    )
    def test_a_kirin_or_external_task_id_is_taken_as_it_is(self, any_id: str) -> None:
        assert validate_task_id(any_id) == any_id

    def test_blanks_around_it_are_a_template_s(self) -> None:
        assert validate_task_id("  d1\n") == "d1"

    def test_a_number_is_what_native_rendering_makes_of_one(self) -> None:
        assert validate_task_id(42) == "42"
        with pytest.raises(KirinIdError, match="render_template_as_native_obj"):
            validate_task_id(1.2e45)

    @pytest.mark.parametrize(
        "any_id",
        [
            "",
            "  ",
            ".",
            "..",
            "None",
            "['a', 'b']",
            "[]",
            "a\nb",
            "a\x00b",
            "\ud800",
            "x" * 513,
            None,
            5.0,
            1e45,
            10**400,
            True,
            b"d1",
            ["d1"],
        ],
    )
    def test_what_cannot_be_one_is_refused(self, any_id: object) -> None:
        with pytest.raises(KirinIdError) as caught:
            validate_task_id(any_id)
        assert isinstance(caught.value, ValueError)
        assert not caught.value.retryable
        assert "submit.output" in str(caught.value)
        assert len(str(caught.value)) < 500

    @settings(max_examples=300)
    @given(st.text(max_size=50))
    @example("../../v1/generation")
    @example("a/../b")
    @example("%2e%2e%2f")
    @example("a?b=c")
    @example("a;b")
    def test_no_id_reaches_another_path(self, text: str) -> None:
        try:
            any_id = validate_task_id(text)
        except KirinIdError:
            return
        url = get_generation("https://h/model", any_id).url
        head, _, last = url.rpartition("/")
        assert head == "https://h/model/v1/generation/task"
        assert last not in ("", ".", "..")
        assert not set(last) & set("?#;\\ ")
        assert url.isascii()
        assert unquote(last) == any_id


class TestCalls:
    def test_a_generation_is_created_by_one_post(self) -> None:
        request = create_generation("https://h/model", "kirin_v1_6_i2v", {"image": "https://i/1.png", "cfg_scale": 0.5})
        assert (request.method, request.url) == ("POST", "https://h/model/v1/generation")
        assert request.body == (
            b'{"model":"kirin_v1_6_i2v","input":[{"params":{"image":"https://i/1.png","cfg_scale":0.5}}]}'
        )

    def test_the_price_is_asked_for_with_the_same_body_at_a_path_that_submits_nothing(self) -> None:
        arguments = ("https://h/model", "kirin_v1_6_i2v", {"image": "https://i/1.png", "cfg_scale": 0.5})
        request = precharge_generation(*arguments)
        assert (request.method, request.url) == ("POST", "https://h/model/v1/generation/precharge")
        assert request.body == create_generation(*arguments).body

    def test_the_body_is_plain_json_for_any_prompt(self) -> None:
        params = {"prompt": '麒麟 "x"\n\ud83e'}
        body = create_generation("https://h/model", "m", params).body
        assert body is not None
        assert body.isascii()
        assert json.loads(body)["input"] == [{"params": params}]

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_what_json_has_not_is_never_sent(self, number: float) -> None:
        with pytest.raises(ValueError, match="JSON"):
            create_generation("https://h/model", "m", {"cfg_scale": number})

    def test_a_lookup_is_one_get_without_a_body(self) -> None:
        request = get_generation("https://h/model", "d1")
        assert request == ApiRequest("GET", "https://h/model/v1/generation/task/d1")
        assert request.body is None

    def test_the_repr_shows_no_body(self) -> None:
        request = create_generation("https://h/model", "m", {"image": "SECRETBASE64"})
        assert repr(request) == "ApiRequest(POST https://h/model/v1/generation)"

    def test_the_default_is_the_public_gateway(self) -> None:
        assert DEFAULT_HOST == "https://cloud.vtrix.ai"


class TestKey:
    def test_the_key_goes_into_one_header_only(self) -> None:
        sent = request_headers("sa-SECRET", with_body=True)
        assert sent["Authorization"] == "Bearer sa-SECRET"
        assert [name for name, value in sent.items() if "SECRET" in value] == ["Authorization"]

    def test_the_other_headers(self) -> None:
        sent = request_headers("k", with_body=True)
        assert sent["Content-Type"] == "application/json"
        assert "Content-Type" not in request_headers("k", with_body=False)
        assert sent["Accept"] == "application/json"
        assert sent["Accept-Encoding"] == "identity"
        assert sent["User-Agent"] == f"airflow-provider-kirin/{__version__}"

    def test_blanks_around_it_are_a_copy_and_paste_s(self) -> None:
        assert check_api_key(" sa-key\n", "kirin_default") == "sa-key"

    @pytest.mark.parametrize("key", [None, "", "  \n"])
    def test_none_is_refused_with_the_command_that_sets_it(self, key: str | None) -> None:
        with pytest.raises(KirinConfigError, match="airflow connections add mine --conn-type kirin"):
            check_api_key(key, "mine")

    @pytest.mark.parametrize(
        "key", ["sa-SECRET key", "sa-SECRET\nX-Evil: 1", "sa-SECRÉT", "sa-SECRET\x7f", "sa-SECRET\t1"]
    )
    def test_one_that_no_header_takes_is_refused_and_not_shown(self, key: str) -> None:
        with pytest.raises(KirinConfigError) as caught:
            check_api_key(key, "mine")
        assert "SECR" not in str(caught.value)
        assert "'mine'" in str(caught.value)

    @given(st.text(max_size=30))
    def test_what_is_accepted_fits_a_header(self, key: str) -> None:
        try:
            accepted = check_api_key(key, "mine")
        except KirinConfigError:
            return
        request_headers(accepted, with_body=False)["Authorization"].encode("ascii")
        assert accepted.isprintable()
        assert " " not in accepted
