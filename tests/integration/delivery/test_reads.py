"""What a delivery process reads, and what it sends in one round: calls and chats are never kept by a group's hundreds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.contracts import Batch, Push, encode
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.streams import Entry
from tests.integration.delivery.conftest import World, work
from workers.app import DELIVERY
from workers.delivery.stage import IN_FLIGHT_MAX
from workers.handlers.delivery import _round
from workers.pipeline import Stages


def batch(pushes: int) -> Batch:
    works = [work(number) for number in range(pushes)]
    return Batch(
        app="demo", vendor=Vendor.MEIZU, business_id="b", pushes=tuple(Push(note=one.note, targets=(one.target,)) for one in works)
    )


def entries(*kinds: tuple[Urgency, int]) -> list[tuple[Entry, Batch]]:
    """(urgency, pushes) each."""
    return [(Entry(keys.send(Vendor.MEIZU, urgency), b"%d-0" % number, b""), batch(size)) for number, (urgency, size) in enumerate(kinds)]


def rounds(todo: list[tuple[Entry, Batch]]) -> list[list[bytes]]:
    found = []
    while todo:
        one, todo = _round(todo)
        found.append([entry.id for entry, _ in one])
    return found


def test_calls_and_chats_have_rounds_of_their_own() -> None:
    todo = entries((Urgency.CALL, 1), (Urgency.CHAT, 1), (Urgency.CHAT, 3), (Urgency.GROUP, 2), (Urgency.BULK, 2))
    assert rounds(todo) == [[b"0-0", b"1-0", b"2-0"], [b"3-0", b"4-0"]]


def test_no_round_holds_more_than_a_kill_may_double_but_for_one_large_entry() -> None:
    half = IN_FLIGHT_MAX // 2
    todo = entries((Urgency.GROUP, half), (Urgency.GROUP, half), (Urgency.GROUP, 1), (Urgency.BULK, IN_FLIGHT_MAX + 1))
    assert rounds(todo) == [[b"0-0", b"1-0"], [b"2-0"], [b"3-0"]]


def test_while_chats_come_groups_and_bulk_are_read_in_small_portions(world: World) -> None:
    """The first read finds the chats; from then on one entry of a group a read, one of bulk in every third, until no chat comes."""
    drain, reads = Stages(world.runtime).drain(DELIVERY, Vendor.MEIZU), list[Counter[str]]()
    for urgency, count in ((Urgency.CHAT, 1), (Urgency.GROUP, 20), (Urgency.BULK, 10)):
        add(world, urgency, count)

    def handle(read: Sequence[Entry]) -> None:
        reads.append(Counter(entry.belt.rsplit(":", 1)[1] for entry in read))
        world.runtime.belts.hand_on(read)
        if len(reads) < 5:
            add(world, Urgency.CHAT, 2)

    drain.handler.handle = handle
    drain(lambda: len(reads) == 7)
    beside = [Counter(chat=2, group=1), Counter(chat=2, group=1), Counter(chat=2, group=1, bulk=1), Counter(chat=2, group=1)]
    assert reads[0] == Counter(chat=1, group=3, bulk=1)
    assert reads[1:5] == beside
    assert reads[5] == Counter(group=1), "a last look for more chats"
    assert reads[6] == Counter(group=3, bulk=1)


def test_what_only_bulk_waits_for_is_read_though_a_chat_came_before(world: World) -> None:
    drain, reads = Stages(world.runtime).drain(DELIVERY, Vendor.MEIZU), list[int]()
    add(world, Urgency.CHAT, 1)
    add(world, Urgency.BULK, 3)

    def handle(read: Sequence[Entry]) -> None:
        reads.append(len(read))
        world.runtime.belts.hand_on(read)

    drain.handler.handle = handle
    drain(lambda: False)
    assert sum(reads) == 4


def add(world: World, urgency: Urgency, count: int) -> None:
    for _ in range(count):
        world.runtime.redis.xadd(world.runtime.keys.belt(keys.send(Vendor.MEIZU, urgency)), {"b": encode(batch(1))})
