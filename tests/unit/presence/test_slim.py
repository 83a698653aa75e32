"""What of a message travels with one page of a group's people: what concerns them, not lists of all
whom it names.
"""

import time
from typing import Any

import pytest

from common.contracts import ALL, Device, OfflineRecipients, Recipient, encode
from common.model import Vendor
from tests.unit.routing.builders import NOW_MS, Books, group, world
from workers.presence.offline_recipients import _slim
from workers.routing.fan_out import route

PEOPLE = [f"user{number:012d}" for number in range(500)]
THOUSANDS = tuple(f"user{number:012d}" for number in range(12_000))


@pytest.mark.parametrize(
    ("named", "left"),
    [
        (THOUSANDS, PEOPLE),
        ((*THOUSANDS[600:], ALL), [ALL]),
        (("eve", "bob"), ["eve", "bob"]),
        (THOUSANDS[490:510], PEOPLE[490:500]),
    ],
)
def test_of_those_whom_a_message_names_only_its_own_people_travel_with_a_page(
    named: tuple[str, ...], left: list[str]
) -> None:
    slim = _slim(group(mentions=named, push={"force": {"on": True, "ids": list(named)}}), PEOPLE)
    assert list(slim.mentions) == left
    assert slim.push.force is not None
    assert list(slim.push.force.ids or ()) == left


def test_a_page_of_the_largest_event_is_small_and_routed_as_fast_as_any() -> None:
    """235 KiB of mentions: each of 200 pages weighed as much, and 500 people took
    20 times as long.
    """

    def page(mentions: tuple[str, ...]) -> tuple[int, float]:
        device: Any = Device("d", "ios", Vendor.APNS, "b1", "t" * 64, None, None, None, None, 1)
        people = tuple(Recipient(f"other{number:011d}", (device,), False) for number in range(500))
        message = _slim(group(mentions=mentions), [one.user for one in people])
        one = OfflineRecipients(message=message, recipients=people, presence_ms=NOW_MS)
        began = time.thread_time()
        route([one], world(Books()), NOW_MS)
        return len(encode([one])), time.thread_time() - began

    page(())
    plain, large = page(()), min(page(THOUSANDS) for _ in range(3))
    assert large[0] == plain[0]
    assert large[1] < 5 * plain[1] + 0.02
