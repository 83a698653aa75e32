"""A request that no wire can carry is its push's own refusal: the vendor was not asked, so breaker,
probe and metrics hear nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from common.model import Decision, Vendor, Verdict
from tests.unit.delivery.builders import NOW_MS, lane, work
from tests.unit.delivery.test_too_late import Street
from workers.delivery.access import FleetAccess
from workers.delivery.deliver import deliver
from workers.delivery.lane import Lane
from workers.delivery.ports import BreakerProbe, RoundReport
from workers.delivery.settle import settle
from workers.transport.exchange import HEAD_BYTES_MAX, fault_of
from workers.vendors.answers import no_answer
from workers.vendors.types import AccessRefused, RequestBatch
from workers.wire import HttpResponse, NoAnswer, Request

REFUSED = NoAnswer(
    "refused", False, "a header of the request is not printable ASCII", unsendable=True
)


class Wire(Street):
    """Refuses every second request as unsendable; writes down what the breaker was told and what
    was counted.
    """

    def __init__(self, answers: Sequence[HttpResponse | NoAnswer], probe: bool = False) -> None:
        super().__init__(lane=BreakerProbe(Decision.UNAVAILABLE) if probe else None)
        self.answers = answers
        self.told: list[tuple[int, int]] = []
        self.observed: list[HttpResponse | NoAnswer] = []

    def report(self, _lane: Lane, found: RoundReport) -> None:
        self.told.append((found.good, found.failed))

    def send_many(self, _route: Any, requests: Sequence[Request], _deadline_s: float) -> list[Any]:
        return list(self.answers)[: len(requests)]


def delivered(wire: Wire, count: int) -> Any:
    here = lane()
    world = replace(wire.world(), observe=lambda _lane, answers: wire.observed.extend(answers))
    works = [work(user=f"u{n}", body=f"words {n}") for n in range(count)]
    return settle(deliver(works, here, world), here, NOW_MS, None, lambda: 0.5)


def test_it_is_rejected_at_once_and_tells_the_breaker_nothing() -> None:
    wire = Wire([REFUSED, HttpResponse(200, {}, b'{"code":"200","value":{}}')])
    settled = delivered(wire, 2)
    assert not settled.waits
    assert wire.told == [(1, 0)]
    assert [isinstance(answer, HttpResponse) for answer in wire.observed] == [True]


def test_a_probe_that_could_not_be_written_is_no_probe() -> None:
    wire = Wire([REFUSED], probe=True)
    delivered(wire, 1)
    assert wire.told == [(0, 0)]
    assert not wire.observed


@pytest.mark.parametrize("vendor", Vendor)
def test_every_vendor_calls_it_rejected(vendor: Vendor) -> None:
    from tests.unit.vendors.cases import note, target
    from workers.vendors import VENDORS
    from workers.vendors.types import PushItem

    batch = RequestBatch((PushItem(note(), target("t"), None, 60),), NOW_MS)
    (outcome,) = VENDORS[vendor].classify(batch, REFUSED)
    assert (outcome.verdict, outcome.first_s in (None, 1.0)) == (Verdict.REJECTED, True)
    found = no_answer(batch, msgspec.structs.replace(REFUSED, unsendable=False))[0].verdict
    assert found is Verdict.UNAVAILABLE


HEADS = {
    "sound": ("/a", {"x": "y"}, False),
    "an empty value": ("/a", {"x": ""}, False),
    "white space at the end": ("/a", {"x": "y "}, True),
    "white space at the start": ("/a", {"x": " y"}, True),
    "a tab": ("/a", {"x": "a\tb"}, True),
    "a letter outside ASCII": ("/a", {"x": "é"}, True),
    "a space in the path": ("/a b", {}, True),
    "a path outside ASCII": ("/é", {}, True),
    "over length, header": ("/a", {"x": "y" * HEAD_BYTES_MAX}, True),
    "over length, path": ("/" + "a" * HEAD_BYTES_MAX, {}, True),
}


@pytest.mark.parametrize(("path", "headers", "refused"), HEADS.values(), ids=HEADS)
def test_what_can_be_written(path: str, headers: dict[str, str], refused: bool) -> None:
    assert (fault_of(Request("A", path, headers, b"")) is not None) == refused


class Shop:
    """A store without tokens, and a vendor that grants one that no header can carry."""

    def __init__(self, token: str) -> None:
        self.token = token

    def load(self, *_key: Any) -> None:
        return None

    def save(self, *_args: Any) -> None:
        return None

    def lock(self, *_key: Any) -> str:
        return "word"

    def unlock(self, *_args: Any) -> None:
        return None

    def reject(self, *_args: Any) -> None:
        return None

    def send_many(self, *_args: Any) -> list[HttpResponse]:
        access = {"access_token": self.token, "expires_in": 3600}
        return [HttpResponse(200, {}, msgspec.json.encode(access))]


@pytest.mark.parametrize(
    ("token", "usable"), [("abc.DEF-1", True), ("a b", False), ("é", False), ("x" * 4097, False)]
)
def test_an_access_token_that_no_header_can_carry_keeps_the_pushes_waiting(
    token: str, usable: bool
) -> None:
    shop: Any = Shop(token)
    told = FleetAccess(shop, shop, lambda: NOW_MS, lambda _s: None, 1.0).get(
        lane(Vendor.HUAWEI), NOW_MS
    )  # type: ignore[arg-type]
    assert isinstance(told, AccessRefused) != usable
    assert usable or (isinstance(told, AccessRefused) and told.verdict is Verdict.UNAVAILABLE)
