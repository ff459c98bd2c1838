"""Decide which addresses a link may lead to: an external link must not make a worker call its own network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_NAME = re.compile(r"[^\s/:@?#\[\]*]+")
#: Well-known prefix under which a translator reaches IPv4 (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")
#: All that is allocated to the open internet (RFC 4291, 2.4).
_PUBLIC_IPV6 = IPv6Network("2000::/3")
#: What Python's own tables let through, in some versions or in all.
_NOT_PUBLIC = (
    IPv4Network("168.63.129.16/32"),  # Azure's own services, from inside of a virtual machine
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890); Oracle Cloud's metadata
    IPv4Network("192.88.99.0/24"),  # relays from IPv6 to IPv4, out of use (RFC 7526)
    IPv6Network("2001::/23"),  # protocol assignments (RFC 2928)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name.

    :param host: the host of a :class:`.RequestUrl`
    """
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the open internet: not private, loopback, link-local, reserved...

    :param address: a numeric address, as a resolver returns it; anything else is not public
    """
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        ip = _embedded_ipv4(ip) or ip
    if isinstance(ip, IPv6Address) and ip not in _PUBLIC_IPV6:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


def _embedded_ipv4(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 address, where its packets end up; None if there is none."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


@dataclass(frozen=True)
class PrivateHosts:
    """Hosts that may be called although they are not on the public internet.

    :param everything: whether all hosts are allowed
    :param names: allowed host names, in lower case
    :param networks: allowed networks
    """

    everything: bool = False
    names: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, given: Iterable[str] | bool, *, own_host: str) -> PrivateHosts:
        """Parse the hosts that a user allows.

        :param given: all (True) or none (False), or host names, IP addresses and networks (``10.0.0.0/8``)
        :param own_host: the host of the connection, which is always allowed
        :raises ValueError: contains the entry that is not valid
        """
        names, networks = {_plain(own_host)}, []
        for entry in () if isinstance(given, bool) else given:
            text = _plain(entry)
            try:
                networks.append(ip_network(text, strict=False))
            except ValueError:
                if not _NAME.fullmatch(text):
                    raise ValueError(entry) from None
                names.add(text)
        return cls(given is True, frozenset(names), tuple(networks))

    def allow(self, host: str, address: str) -> bool:
        """Return whether an address may be connected to.

        :param host: the host in the link
        :param address: the numeric address that it resolves to
        """
        if self.everything or _plain(host) in self.names or is_public(address):
            return True
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self.networks)


def _plain(host: str) -> str:
    return host.strip().lower().rstrip(".")
