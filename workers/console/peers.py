"""The real client: the connection's peer, or the one that a trusted proxy reports. Pure.

Trusted are the proxies of PUSHFLEET_TRUSTED_PROXIES.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

#: Headers added by a proxy; a browser on this machine sends none of them.
FORWARDING: Final = (
    *(
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "via",
        "x-client-ip",
    ),
    *("true-client-ip", "cf-connecting-ip"),
)
#: Bits of an IPv6 address that the caller cannot choose.
IPV6_PREFIX: Final = 64
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Peers:
    """trusted: addresses and networks; all other forwarding headers come from the caller."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted: list[_Network] = [ipaddress.ip_network(one, strict=False) for one in trusted]

    def is_trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._trusted)

    def caller(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address for limits: the last in X-Forwarded-For that no proxy of ours wrote."""
        if not self.is_trusted(peer):
            return _counted(peer)
        for hop in reversed([one.strip() for one in headers.get("x-forwarded-for", "").split(",")]):
            address = _without_port(hop)
            if address is None:
                return _counted(peer)  # not written by a proxy of ours
            if not self.is_trusted(address):
                return _counted(address)
        return _counted(peer)

    def host(self, peer: str, headers: Mapping[str, str]) -> str:
        """The name that the browser has asked for."""
        own = headers.get("host", "")
        trusted = self.is_trusted(peer)
        return headers.get("x-forwarded-host", own).partition(",")[0].strip() if trusted else own

    def over_tls(self, peer: str, headers: Mapping[str, str], scheme: str) -> bool:
        scheme_sent = (
            headers.get("x-forwarded-proto", "").partition(",")[0].strip()
            if self.is_trusted(peer)
            else ""
        )
        return (scheme_sent or scheme) == "https"


def _without_port(hop: str) -> str | None:
    """The address of `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]`, with a port or not.

    None for anything else.
    """
    bare = hop
    if hop.startswith("["):
        bare, _, port = hop[1:].partition("]")
        if port and not port.startswith(":"):
            return None
    elif hop.count(":") == 1:
        bare = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def _counted(host: str) -> str:
    """The counted form of an address: the owner of an IPv6 address owns its 64 bits."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), IPV6_PREFIX), strict=False))


def forwarded(headers: Mapping[str, str], http_version: str) -> bool:
    """True when a proxy is between.

    nginx, by default, shows it by HTTP/1.0 only, which no browser uses.
    """
    return http_version == "1.0" or any(name in headers for name in FORWARDING)
