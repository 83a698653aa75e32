"""Every request to a vendor is seen by the metrics, also the first of a push that takes two."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from common.model import Vendor
from tests.unit.delivery.builders import NOW_MS, lane, work
from tests.unit.delivery.test_too_late import Street
from workers.delivery.deliver import deliver
from workers.delivery.lane import Lane
from workers.vendors import VENDORS
from workers.vendors.types import AccessToken
from workers.wire import HttpResponse, NoAnswer, Request


class Vivo(Street):
    """Takes every message and every list of tokens."""

    def get(self, _lane: Lane, _now_ms: int) -> AccessToken:  # type: ignore[override]
        return AccessToken("t", NOW_MS + 60_000, NOW_MS + 60_000)

    def lists_spent(self, _lane: Lane) -> bool:
        return False

    def send_many(
        self, _route: Any, requests: Sequence[Request], _deadline_s: float
    ) -> list[HttpResponse]:
        self.sent += requests
        return [HttpResponse(200, {}, b'{"result":0,"taskId":"t1"}') for _ in requests]


def test_a_list_push_is_two_requests() -> None:
    people = VENDORS[Vendor.VIVO].request_tokens_min_list
    works = [work(user=f"u{number}") for number in range(people)]
    for number, one in enumerate(works):
        one.note = works[0].note
        one.target = msgspec.structs.replace(one.target, token=f"{number:023d}")
    vivo, seen = Vivo(), list[HttpResponse | NoAnswer]()
    done = deliver(
        works,
        lane(Vendor.VIVO),
        replace(vivo.world(), observe=lambda _lane, answers: seen.extend(answers)),
    )
    assert (len(done.outcomes), len(vivo.sent), len(seen)) == (people, 2, 2)
