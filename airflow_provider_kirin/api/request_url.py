"""A URL as it is requested: the host that is checked is the host that is called, and the rest is sent as given."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import quote_from_bytes, unquote, urljoin

_URL = re.compile(r"\s*(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]*))?")
_HOST = re.compile(r"[a-z0-9._-]*[a-z0-9_-]\.?")
#: An IPv4 address in one of its notations: no name has numbers only.
_NUMERIC = re.compile(r"(?:(?:0x[0-9a-f]*|[0-9]+)(?:\.|$))+")
#: What RFC 3986 allows in a path or a query, and the brackets, which many hosts write as they are.
_LEGAL = "/?:@!$&'()*+,;=[]-._~%"
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: Clients disagree about the host of an authority with these characters.
_AMBIGUOUS = re.compile(r"[\\\s]")


@dataclass(frozen=True)
class RequestUrl:
    """An http or https URL, without credentials and fragment.

    :param scheme: http or https
    :param host: in ASCII and lower case, without brackets
    :param port: None for the scheme's own
    :param target: path and query as given, byte for byte, except for characters not allowed in a URL
    """

    scheme: str
    host: str
    port: int | None
    target: str

    @classmethod
    def parse(cls, text: str) -> RequestUrl:
        """Parse a URL.

        :param text: the URL as received from a gateway
        :raises ValueError: it is not an http or https URL, or its host is ambiguous
        """
        found = _URL.match(text)
        if not found or _AMBIGUOUS.search(found[2]):
            raise ValueError("no http or https URL")
        authority = _HOST_AND_PORT.fullmatch(found[2].rpartition("@")[2])
        if not authority:
            raise ValueError("no host and port")
        port = int(authority[2]) if authority[2] else None
        if port is not None and not 0 < port < 65536:
            raise ValueError("no such port")
        target = found[3].strip()
        return cls(found[1].lower(), _host(authority[1]), port, _quote(target if target[:1] == "/" else f"/{target}"))

    def follow(self, location: str) -> RequestUrl:
        """Return the target of a redirect.

        :param location: the header, as ``http.client`` decodes it: one character per byte
        :raises ValueError: it is not an http or https URL
        """
        link = quote_from_bytes(location.strip().encode("latin-1"), safe=_PRINTABLE).partition("#")[0]
        if _SCHEME.match(link):
            return self.parse(link)
        if link.startswith("//"):
            return self.parse(f"{self.scheme}:{link}")
        if link.startswith("/"):
            return self.parse(f"{self.origin}{link}")
        path, mark, query = (link or self.target).partition("?")
        return self.parse(f"{urljoin(f'{self.origin}{self.target}'.partition('?')[0], path)}{mark}{query}")

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port else "")

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def _host(text: str) -> str:
    """Return the host in the form in which it is sent: without escapes, ASCII only."""
    if text.startswith("["):
        try:
            if "%" in text:
                raise ValueError("an address with a zone is of one machine only")
            return str(IPv6Address(text[1:-1]))
        except AddressValueError:
            raise ValueError("no IPv6 address") from None
    host = unquote(text, errors="strict")
    # Full-width digits and dots are converted to ASCII.
    host = (host if host.isascii() else host.encode("idna").decode("ascii")).lower()
    if not _HOST.fullmatch(host):
        raise ValueError("no host")
    return _ipv4(host.rstrip(".")) if _NUMERIC.fullmatch(host) else host


def _ipv4(number: str) -> str:
    """Return an address in the notation that all readers understand alike: 010.0.0.1 is 8.0.0.1 to some only."""
    try:
        return socket.inet_ntoa(socket.inet_aton(number))
    except OSError:
        raise ValueError("no IPv4 address") from None


def _quote(target: str) -> str:
    target = _NO_ESCAPE.sub("%25", target)
    return quote_from_bytes(target.encode(errors="surrogatepass"), safe=_LEGAL)
