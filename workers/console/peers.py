"""Who really asks: the peer of the connection, or what a reverse proxy of PUSHFLEET_TRUSTED_PROXIES says of it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

#: What a proxy adds; a browser on this machine sends none of them.
FORWARDING: Final = (
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via", "x-client-ip"),
    *("true-client-ip", "cf-connecting-ip"),
)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Peers:
    """trusted: addresses and networks; the forwarding headers of everybody else are a caller's own words."""

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
        """The address that limits are counted for: the last one in X-Forwarded-For that no proxy of ours has written."""
        if not self.is_trusted(peer):
            return peer
        for hop in reversed([one.strip() for one in headers.get("x-forwarded-for", "").split(",")]):
            bare = hop.removeprefix("[").partition("]")[0] if hop.startswith("[") else hop
            try:
                address = str(ipaddress.ip_address(bare))
            except ValueError:
                return peer  # not written by a proxy of ours
            if not self.is_trusted(address):
                return address
        return peer

    def host(self, peer: str, headers: Mapping[str, str]) -> str:
        """The name that the browser has asked for."""
        own = headers.get("host", "")
        return headers.get("x-forwarded-host", own).partition(",")[0].strip() if self.is_trusted(peer) else own

    def over_tls(self, peer: str, headers: Mapping[str, str], scheme: str) -> bool:
        told = headers.get("x-forwarded-proto", "").partition(",")[0].strip() if self.is_trusted(peer) else ""
        return (told or scheme) == "https"


def forwarded(headers: Mapping[str, str], http_version: str) -> bool:
    """Whether a proxy stands between; nginx, as it comes, says so by HTTP/1.0 only, which no browser speaks."""
    return http_version == "1.0" or any(name in headers for name in FORWARDING)
