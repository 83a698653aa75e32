"""What a sender leaves behind when it dies with leased entries: another sends them, counts nothing
twice, and is in doubt.
"""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.contracts import decode_batch
from common.model import Decision, MessageClass, Urgency, Vendor
from tests.badge_counts import badge_of
from tests.integration.admission.conftest import work
from tests.integration.delivery.conftest import World
from workers.app import DELIVERY
from workers.delivery import batching, sending
from workers.delivery.work import PendingPush
from workers.handlers.lane_rounds import LaneRounds
from workers.handlers.round_writes import RoundWriter
from workers.handlers.running_rounds import RunningRounds
from workers.pipeline import Stages


def chats(count: int, first: int = 1) -> list[PendingPush]:
    """To one phone."""
    return [
        work(first + number, MessageClass.CHAT, user="bob", urgency=Urgency.CHAT, badge_increment=1)
        for number in range(count)
    ]


def count(world: World) -> int:
    told = badge_of(world.runtime.redis, world.runtime.keys, "demo", "bob")
    return int(told.get(b"d:n", 0))


@pytest.fixture
def dies(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., threading.Event]:
    """The first sender dies, before it sends or before it writes what was answered; its entries are
    soon anybody's.
    """
    world.runtime.lane_queues.lease_ms = 300

    def arm(when: str, meets: type[BaseException] = SystemExit) -> threading.Event:
        died = threading.Event()
        place = {"sent": (RoundWriter, "write"), "asked": (sending, "exchanged")}[when]
        was: Any = getattr(*place)

        def once(*args: Any) -> Any:
            if died.is_set():
                return was(*args)
            died.set()
            raise meets

        monkeypatch.setattr(*place, once)
        return died

    return arm


@pytest.mark.parametrize("when", ["asked", "sent"])
def test_its_pushes_go_again_with_their_ids_and_stand_once_in_the_count(
    world: World, dies: Callable[..., Any], when: str
) -> None:
    died, works = dies(when), chats(3)
    world.put(works)
    world.turn(lambda: died.is_set() and world.all_decided(works))
    assert world.decisions(works) == ["accepted"] * 3
    assert count(world) == 3
    assert len(world.accepted()) == (6 if when == "sent" else 3), "at most what was in flight"
    assert not list(world.runtime.redis.scan_iter(match=world.runtime.keys.taken("*")))


def test_what_is_recalled_after_its_sender_died_is_uncertain_and_stays_counted(
    world: World, dies: Callable[..., Any]
) -> None:
    died, works = dies("sent"), chats(2)
    world.put(works)
    world.turn(died.is_set)
    note = works[0].note
    world.runtime.marks.recall(
        "demo", f"{note.conversation_type}:{note.conversation_id}", note.message_id
    )
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["uncertain", "accepted"]
    assert count(world) == 2


@pytest.mark.parametrize("meets", [SystemExit, RedisConnectionError])
def test_so_it_is_after_a_round_that_did_not_come_to_it(
    world: World,
    dies: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    meets: type[BaseException],
) -> None:
    """As one that would overtake what the round before it left; the first one was a dead sender's,
    or its answers were not written.
    """
    died, works, left = dies("sent", meets), chats(2), threading.Event()
    reached: Any = RunningRounds.reached

    def not_yet(*args: Any, **more: Any) -> bool:
        if not died.is_set() or left.is_set():
            return cast(bool, reached(*args, **more))
        left.set()
        return False

    monkeypatch.setattr(RunningRounds, "reached", not_yet)
    world.put(works)
    world.turn(left.is_set)
    note = works[0].note
    world.runtime.marks.recall(
        "demo", f"{note.conversation_type}:{note.conversation_id}", note.message_id
    )
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["uncertain", "accepted"]
    assert count(world) == 2


def test_what_is_recalled_after_its_sender_died_before_it_sent_anything_is_recalled(
    world: World,
) -> None:
    works = chats(1)
    world.put(works)
    note = works[0].note
    world.runtime.marks.recall(
        "demo", f"{note.conversation_type}:{note.conversation_id}", note.message_id
    )
    world.turn(lambda: world.all_decided(works))
    assert world.decisions(works) == ["recalled"]
    assert count(world) == 0


def test_an_entry_that_breaks_its_rounds_is_split_and_keeps_its_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three breaks the stage after it has taken its number; what is left of the entry is
    tried alone, and buried.
    """
    works, was = chats(3), batching.items
    letters = world.runtime.dead_letters
    before = {one.id for one in letters.listed()}  # other tests' in the same database
    world.put(works)

    def breaks(mine: Any, *args: Any) -> Any:
        if any(one.target.push_id == works[1].target.push_id for one in mine):
            raise ValueError
        return was(mine, *args)

    monkeypatch.setattr(batching, "items", breaks)
    world.turn(lambda: world.decisions([works[0], works[2]]) == ["accepted"] * 2)
    world.turn(lambda: not world.runtime.lane_queues.any_left())
    assert count(world) == 3, "each once, whoever asked how often"
    while world.writer.flush():
        pass
    (letter,) = (one for one in letters.listed() if one.id not in before)
    ((push,),) = (decode_batch(letter.raw).pushes,)
    found = (push.targets[0].counted, push.targets[0].held_by)
    assert found == ("1@0", Decision.UNCERTAIN), "a replay counts it no more"


def test_a_retry_that_nobody_saw_gives_its_number_back_until_it_goes_again(world: World) -> None:
    works = chats(1)
    world.meizu.door("faults", status=503, status_share=1.0)
    world.put(works)
    try:
        world.turn(lambda: world.runtime.delayed.waiting_count() or world.waiting())
        assert count(world) == 0
    finally:
        world.meizu.door("faults", status_share=0.0)
    world.turn(lambda: world.all_decided(works))
    assert (world.decisions(works), count(world)) == (["accepted"], 1)


def test_a_sender_that_stood_still_while_another_finished_sends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the take and the send it is stopped for longer than its lease."""
    works, was, stopped, goes_on = chats(1), LaneRounds.send, threading.Event(), threading.Event()
    world.runtime.lane_queues.lease_ms = 300

    def stands_still(self: LaneRounds, *args: Any) -> Any:
        if not stopped.is_set():
            stopped.set()
            goes_on.wait(20)
        return was(self, *args)

    monkeypatch.setattr(LaneRounds, "send", stands_still)
    monkeypatch.setattr("workers.handlers.running_rounds.RENEW_S", 60.0)
    world.put(works)
    slow, world.drain = world.drain, Stages(world.runtime).consumer(DELIVERY, Vendor.MEIZU)
    thread = threading.Thread(target=slow, args=(goes_on.is_set,))
    thread.start()
    assert stopped.wait(10)
    world.turn(lambda: world.all_decided(works))
    assert not world.runtime.lane_queues.any_left()
    goes_on.set()
    thread.join(20)
    assert len(world.accepted()) == 1
    assert count(world) == 1
    assert not list(world.runtime.redis.scan_iter(match=world.runtime.keys.taken("*")))
