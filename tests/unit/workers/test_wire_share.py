"""Senders of several shards share one bound of pushes on the wire."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from workers.handlers.wire_share import WireShare

FOREVER_S = 30.0


def test_never_more_than_the_bound_is_on_the_wire() -> None:
    wire, most = WireShare(500), list[int]()
    lock, on_wire = threading.Lock(), [0]

    def sender(seed: int) -> None:
        chance, part, own = random.Random(seed), wire.joined(), 0
        for _ in range(200):
            granted, _ = wire.ask(part, 0.002)  # each still holds a part of it
            begun = chance.randint(0, granted)
            with lock:
                on_wire[0] += begun
                most.append(on_wire[0])
            own += begun
            wire.tell(part, own, 0, settles=True)
            ended = chance.randint(0, own)
            with lock:
                on_wire[0] -= ended
            own -= ended
            wire.tell(part, own, 0)
        with lock:
            on_wire[0] -= own
        wire.tell(part, 0, 0)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(sender, range(16)))
    assert max(most) <= 500
    assert max(most) > 250, "it was used"
    assert wire.ask(wire.joined(), 0.0)[0] == 400, "all of it was given back, and a lane's share"


def test_who_waits_gets_half_of_the_wire_rather_than_what_is_left() -> None:
    wire = WireShare(500)
    first, second = wire.joined(), wire.joined()
    assert wire.ask(first, 0.0) == (400, 300)
    wire.tell(first, 400, 0, settles=True)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(wire.ask, second, FOREVER_S)
        while not wire.is_awaited():
            time.sleep(0.001)
        assert not waits.done()
        wire.tell(first, 240, 0)
        assert waits.result(FOREVER_S) == (260, 300)


def test_each_has_its_turn() -> None:
    wire = WireShare(100)
    first, second, third = wire.joined(), wire.joined(), wire.joined()
    wire.tell(first, 100, 0)
    told = list[str]()

    def asks(name: str, part: object) -> None:
        wire.ask(part, FOREVER_S)  # type: ignore[arg-type]
        told.append(name)
        wire.tell(part, 0, 0, settles=True)  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(asks, "second", second)
        while not wire.is_awaited():
            time.sleep(0.001)
        other = pool.submit(asks, "third", third)
        while len(wire._line) < 2:
            time.sleep(0.001)
        wire.tell(first, 0, 0)
        one.result(FOREVER_S)
        other.result(FOREVER_S)
    assert told == ["second", "third"]


def test_a_round_that_hangs_leaves_room_and_holds_up_nobody_for_long() -> None:
    """In its turn's time nothing has become free: then it takes what there is."""
    wire = WireShare(500)
    hanging, other = wire.joined(), wire.joined()
    wire.tell(hanging, wire.ask(hanging, 0.0)[0], 0, settles=True)
    assert wire.ask(other, 0.01) == (100, 300)


def test_a_sender_whose_store_is_away_keeps_little() -> None:
    """It hangs with what is kept for it."""
    wire = WireShare(500)
    assert wire.ask(wire.joined(), 0.0, doubted=True)[0] == 15
    assert wire.ask(wire.joined(), 0.0)[0] == 400


def test_groups_and_bulk_of_all_shards_leave_room_for_a_call() -> None:
    wire = WireShare(500)
    first, second = wire.joined(), wire.joined()
    wire.tell(first, 240, 240, settles=True)
    assert wire.ask(second, 0.0) == (260, 60)
    wire.tell(second, 60, 60, settles=True)
    assert wire.ask(wire.joined(), 0.01) == (200, 0)


def test_a_small_bound_is_of_use() -> None:
    wire = WireShare(1)
    assert wire.ask(wire.joined(), 0.0) == (1, 1)
