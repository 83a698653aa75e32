"""Request, HttpResponse, NoAnswer: all that a vendor file and a transport share.

A vendor file makes Requests and reads Answers; a transport turns one into the other. Neither knows
the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Literal, Protocol, overload

from common.values import Value, redacted

VISIBLE: Final = bytes(range(0x21, 0x7F))


def is_visible(text: str) -> bool:
    """True for visible ASCII only, which a header or a path takes unchanged.

    str.isprintable looks each character up, six times as long for the values of a round.
    """
    return text.isascii() and not text.encode().translate(None, VISIBLE)


class Request(Value, frozen=True):
    """One HTTP request to a vendor.

    endpoint: name of the vendor's door (`APNS_PRODUCTION`, `OPPO_FEEDBACK`; contract §2); the lane
    knows its address.
    path: with query, begins with `/`. headers: lower-case names. body: the bytes as sent.
    """

    endpoint: str
    path: str  # APNs: the device token stands in it
    headers: Mapping[str, str]  # carries access tokens
    body: bytes  # carries device tokens and words
    method: str = "POST"

    __repr__ = redacted("path", "headers", "body")


#: A text with `%s` in the place of each value, and the names of the values in their order.
Form = tuple[str, tuple[str, ...]]


class RequestForm(Value, frozen=True):
    """The common part of many POST requests. headers: values that are the same for all.

    own_headers: header -> name of its value.
    """

    endpoint: str
    path: Form
    headers: Mapping[str, str]
    own_headers: Mapping[str, str]
    body: Form

    __repr__ = redacted("path", "headers", "body")


class RequestColumns(Sequence[Request]):
    """Requests of one form, kept as columns: value name -> the value of each request. A `Request`
    is made when it is asked for.

    odd: requests by their place that do not follow the form.
    """

    __slots__ = ("_bodies", "_count", "_paths", "columns", "form", "odd")

    def __init__(
        self,
        form: RequestForm,
        columns: Mapping[str, Sequence[str]],
        count: int,
        odd: Mapping[int, Request],
    ) -> None:
        self.form, self.columns, self.odd = form, columns, odd
        self._count = count
        self._paths: list[str] | None = None
        self._bodies: list[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Request]: ...
    def __getitem__(self, place: int | slice) -> Request | Sequence[Request]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        place %= self._count
        odd = self.odd.get(place)
        if odd is not None:
            return odd
        form = self.form
        own = {name: self.columns[value][place] for name, value in form.own_headers.items()}
        return Request(
            form.endpoint, self.paths[place], {**form.headers, **own}, self.bodies[place]
        )

    @property
    def paths(self) -> list[str]:
        """The path of each; of an odd one it means nothing."""
        if self._paths is None:
            self._paths = self._filled(self.form.path)
        return self._paths

    @property
    def bodies(self) -> list[bytes]:
        """The body of each; of an odd one it means nothing."""
        if self._bodies is None:
            self._bodies = [
                text.encode("utf-8", "replace") for text in self._filled(self.form.body)
            ]
        return self._bodies

    def _filled(self, form: Form) -> list[str]:
        text, names = form
        if not names:
            return [text % ()] * self._count
        return [
            text % values for values in zip(*[self.columns[name] for name in names], strict=True)
        ]


class RequestParts(Sequence[Request]):
    """Requests of several lanes in a row, each lane's part kept as it is."""

    __slots__ = ("_starts", "parts")

    def __init__(self, parts: Sequence[Sequence[Request]]) -> None:
        """No part is empty."""
        self.parts = parts
        self._starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Request]: ...
    def __getitem__(self, place: int | slice) -> Request | Sequence[Request]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        part, start = self.part_at(place % len(self))
        return part[place % len(self) - start]

    def part_at(self, place: int) -> tuple[Sequence[Request], int]:
        """The part with the request of this place, and the place of the part's first."""
        number = bisect_right(self._starts, place) - 1
        return self.parts[number], self._starts[number]


class HttpResponse(Value, frozen=True):
    """A response, whatever the status. headers: lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0

    __repr__ = redacted("headers", "body")


class NoAnswer(Value, frozen=True):
    """No response. sent: the vendor may have read the request: the push is uncertain.

    unsendable: we refused to write it, as no request can look like this. It implies nothing about
    the vendor.
    """

    reason: Literal["timeout", "refused", "reset"]
    sent: bool
    words: str = ""
    seconds: float = 0.0
    unsendable: bool = False


#: An answer of status 200 without a body, and with one header: its name and value, and its seconds.
PlainAnswer = tuple[str, str, float]


class ResponseColumns(Sequence[HttpResponse | NoAnswer]):
    """The answers to RequestColumns. A plain one becomes an HttpResponse when it is asked for.

    parts: the same as they were kept.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[HttpResponse | NoAnswer | PlainAnswer]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, place: int) -> HttpResponse | NoAnswer: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[HttpResponse | NoAnswer]: ...
    def __getitem__(
        self, place: int | slice
    ) -> HttpResponse | NoAnswer | Sequence[HttpResponse | NoAnswer]:
        if isinstance(place, slice):
            return ResponseColumns(self.parts[place])
        one = self.parts[place]
        if isinstance(one, tuple):
            name, value, seconds = one
            return HttpResponse(200, {name: value}, b"", seconds)
        return one


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A client certificate and its key, PEM."""

    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """The target of a lane's requests. pool: requests share connections within a pool only.

    A pool is a credential and its version. bases: endpoint name -> `https://host:port`.
    connections_max: this lane's share of connections in this process. proxy:
    `http://[user:password@]host:port`, used with CONNECT; None: direct.
    """

    pool: str
    bases: Mapping[str, str]
    http2: bool
    identity: ClientIdentity | None = None
    connections_max: int = 8
    streams_max: int = 1000
    proxy: str | None = field(default=None, repr=False)


class Transport(Protocol):
    """send_many returns an HttpResponse or NoAnswer per request, in order, within `deadline_s`.

    A moment more is possible. It never raises for a vendor's fault. renew: new requests use new
    connections. close: ends the transport's thread.
    """

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]: ...
    def renew(self, pool: str) -> None: ...
    def close(self) -> None: ...
