"""Request, HttpResponse, NoAnswer: all that a vendor file and a transport share.

A vendor file makes Requests and reads Answers; a transport turns one into the other. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from common.values import Value, redacted


class Request(Value, frozen=True):
    """One HTTP request to a vendor.

    endpoint: name of the vendor's door (`APNS_PRODUCTION`, `OPPO_FEEDBACK`; contract §2); the lane knows its address.
    path: with query, begins with `/`. headers: lower-case names. body: the bytes as sent.
    """

    endpoint: str
    path: str  # APNs: the device token stands in it
    headers: Mapping[str, str]  # carries access tokens
    body: bytes  # carries device tokens and words
    method: str = "POST"

    __repr__ = redacted("path", "headers", "body")


class HttpResponse(Value, frozen=True):
    """What came back, whatever the status. headers: lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0

    __repr__ = redacted("headers", "body")


class NoAnswer(Value, frozen=True):
    """Nothing came back. sent: the request may have been read by the vendor, so the push is uncertain, not unavailable.

    unsendable: we refused to write it, as no request can look like this. It says nothing about the vendor.
    """

    reason: Literal["timeout", "refused", "reset"]
    sent: bool
    words: str = ""
    seconds: float = 0.0
    unsendable: bool = False


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A client certificate and its key, PEM."""

    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a lane's requests go. pool: connections are shared by requests of the same pool only (credential and version).

    bases: endpoint name -> `https://host:port`. connections_max: this lane's share of connections in this process.
    proxy: `http://[user:password@]host:port`, asked to CONNECT; None: straight to the vendor.
    """

    pool: str
    bases: Mapping[str, str]
    http2: bool
    identity: ClientIdentity | None = None
    connections_max: int = 8
    streams_max: int = 1000
    proxy: str | None = field(default=None, repr=False)


class Transport(Protocol):
    """send_many gives an HttpResponse or NoAnswer a request, in order, within `deadline_s` and a moment. Never raises for a vendor's fault.

    renew: the pool's connections are not used for new requests any more. close: ends the transport's thread.
    """

    def send_many(self, route: Route, requests: Sequence[Request], deadline_s: float) -> Sequence[HttpResponse | NoAnswer]: ...
    def renew(self, pool: str) -> None: ...
    def close(self) -> None: ...
