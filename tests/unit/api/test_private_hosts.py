"""Which addresses links may lead to."""

from __future__ import annotations

import pytest

from airflow_provider_kirin.api.private_hosts import PrivateHosts, is_public

PUBLIC = [
    "8.8.8.8",
    "104.16.1.1",
    "2606:4700::1111",
    "2a00:1450::1",
    "2001:200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "example.com", "",
    "192.0.0.9", "192.0.0.192", "192.88.99.1", "168.63.129.16", "::ffff:168.63.129.16", "3fff::1", "5f00::1", "4000::1",
    "2001:0:808:808:8000:63bf:f7f7:f7f7", "2001:20::1", "2001:3::1", "100::1", "100:0:0:1::1", "8000::1",
    "2002:c058:6301::", "::ffff:0:a00:1", "::ffff:0:808:808", "64:ff9b:1::a00:1", "64:ff9b:1:abcd::1", "fec0::1",
    "feff::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_the_open_internet(address: str) -> None:
    assert is_public(address)
    assert PrivateHosts().allow("h", address)


@pytest.mark.parametrize("address", PRIVATE)
def test_everything_else(address: str) -> None:
    assert not is_public(address)
    assert not PrivateHosts().allow("h", address)
    assert PrivateHosts(everything=True).allow("h", address)


class TestWhatAUserAllows:
    def test_the_own_host_is_allowed_by_name_only(self) -> None:
        rules = PrivateHosts.of(False, own_host="Gateway.Corp.")
        assert rules.allow("gateway.corp", "10.0.0.1")
        assert not rules.allow("other.corp", "10.0.0.1")
        assert not rules.everything

    def test_all(self) -> None:
        assert PrivateHosts.of(True, own_host="h").everything

    @pytest.mark.parametrize("entry", ["10.0.0.0/8", "10.0.0.5", " 10.0.0.7/8 ", "cdn.corp", "CDN.corp."])
    def test_names_addresses_and_networks(self, entry: str) -> None:
        rules = PrivateHosts.of([entry], own_host="h")
        assert rules.allow("cdn.corp", "10.0.0.5")
        assert not rules.allow("other.corp", "192.168.0.1")
        assert not rules.allow("other.corp", "not an address")

    def test_networks_of_both_kinds_live_together(self) -> None:
        rules = PrivateHosts.of(["fd00::/8", "10.0.0.0/8"], own_host="h")
        assert rules.allow("x", "fd00::5") and rules.allow("x", "10.9.9.9") and not rules.allow("x", "192.168.0.1")

    @pytest.mark.parametrize("entry", ["", "http://h", "a b", "*.corp", "h:80", "10.0.0.0/99", "user@h"])
    def test_what_cannot_be_read_is_named(self, entry: str) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is checked
            PrivateHosts.of([entry], own_host="h")
        assert caught.value.args == (entry,)
