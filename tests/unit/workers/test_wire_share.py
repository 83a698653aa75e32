"""Senders of several shards share one bound of pushes on the wire."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from common.model import Urgency, Vendor
from common.storage.joint_lanes import JointLanes
from common.storage.lane_entries import LaneEntry, Taken
from tests.waiting import wait_for
from workers.handlers.running_rounds import RunningRound, RunningRounds
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


def test_what_is_kept_for_one_that_hangs_is_the_others_again() -> None:
    """And it begins what there is room for then."""
    wire = WireShare(500)
    hanging, other = wire.joined(), wire.joined()
    assert wire.ask(hanging, 0.0)[0] == 400
    wait_for(lambda: wire.ask(other, 0.0)[0] == 400, "the others' again", 5)
    assert wire.begins(other, "a", 400, others=False, silent=False) == 400
    wire.tell(other, 400, 0, lanes={"a": 400}, settles=True)
    assert wire.begins(hanging, "b", 400, others=False, silent=False) == 100


def test_one_lane_in_many_shards_leaves_room_for_the_others() -> None:
    wire = WireShare(500)
    first, second = wire.joined(), wire.joined()
    wire.ask(first, 0.0)
    assert wire.begins(first, "hangs", 300, others=False, silent=False) == 300
    wire.tell(first, 300, 0, lanes={"hangs": 300}, settles=True)
    assert wire.full_lanes() == set()
    wire.ask(second, 0.0)
    assert wire.begins(second, "hangs", 200, others=False, silent=False) == 100
    assert wire.full_lanes() == {"hangs"}
    assert wire.begins(second, "flows", 100, others=False, silent=False) == 100


def test_silent_lanes_of_many_shards_share_a_quarter() -> None:
    """Each shard meets them by itself, however small the wire is."""
    wire = WireShare(55)
    parts = [wire.joined() for _ in range(64)]
    begun = 0
    for number, part in enumerate(parts):
        wire.ask(part, 0.0)
        begun += wire.begins(part, f"lane{number}", 1, others=False, silent=True)
        wire.tell(part, part.pushes, 0, silent=part.silent, lanes=part.lanes, settles=True)
    assert begun == 13


def test_shards_of_one_node_leave_room_for_those_of_others() -> None:
    """What it keeps from being written stays on the wire."""
    wire = WireShare(500)
    first, second, well = (wire.joined(partial(str, node)) for node in "aab")
    assert wire.ask(first, 0.0)[0] == 400
    wire.tell(first, 300, 0, settles=True)
    assert wire.ask(second, 0.01)[0] == 100
    wire.tell(second, 100, 0, settles=True)
    assert wire.ask(well, 0.01)[0] == 100


class Slow(RunningRounds):
    """A thread that has looked what is at work tells it late."""

    def __init__(self, wire: WireShare) -> None:
        super().__init__(JointLanes(list), Vendor.FCM, 500, wire)
        self.slow: threading.Thread | None = None
        self.looked, self.may_tell = threading.Event(), threading.Event()

    def own(self) -> list[RunningRound]:
        found = super().own()
        if threading.current_thread() is self.slow:
            self.looked.set()
            self.may_tell.wait(1.0)
        return found


def taken(word: str) -> Taken:
    return Taken(
        "a:fcm:b", Urgency.CHAT, word, "go", 0, entries=[LaneEntry("o;1;1;200;1;1;1", b"")]
    )


def test_what_was_true_before_is_not_told_last() -> None:
    """A round begins while another one's end is told: it is on the wire all the same."""
    wire = WireShare(500)
    rounds = Slow(wire)
    rounds.look()
    assert rounds.asks(0.0)
    assert rounds.begin(taken("first"), 200) is not None
    rounds.settles()
    rounds.slow = threading.Thread(target=rounds.forget, args=[["first"]])
    rounds.slow.start()
    assert rounds.looked.wait(FOREVER_S)
    assert rounds.asks(0.0)

    def begins() -> None:
        rounds.begin(taken("second"), 200)
        rounds.settles()

    began = threading.Thread(target=begins)
    began.start()
    began.join(0.2)  # it may wait for the other one
    rounds.may_tell.set()
    began.join(FOREVER_S)
    rounds.slow.join(FOREVER_S)
    assert sum(part.pushes for part in wire._parts) == 200
