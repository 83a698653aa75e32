"""While a lane's round is on the wire its next one is prepared. It leaves when that one is written,
not before what that one left, and not if it has waited for so long that it may have been recalled.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.model import Urgency, Vendor
from common.storage.counting import FirstNumbers, field_of
from tests.badge_counts import unspoken
from tests.integration.delivery.test_together import Apns, Fleet, production, runtime, sandbox
from tests.integration.delivery.test_usual import alike, no_round_is_late
from tests.queued import queue
from tests.waiting import eventually
from workers.handlers import running_rounds
from workers.handlers.delivery import LaneSender
from workers.maintenance.timer import Timer
from workers.runtime import Runtime
from workers.transport.engine import Http2Transport

__all__ = ["no_round_is_late", "production", "runtime", "sandbox"]

ENTRIES, EACH = 12, 100


class Wire:
    """The transport's calls. sent: the tokens of each; the first one waits for `open`. errors: what
    the next ones meet before they send, None: nothing.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent, self.most = list[list[str]](), 0
        self.errors = list[Exception | None]()
        self.first, self.open = threading.Event(), threading.Event()
        self._lock, self._now = threading.Lock(), 0
        send_many = Http2Transport.send_many

        def counted(this: Http2Transport, route: Any, requests: Sequence[Any], *more: Any) -> Any:
            with self._lock:
                self.sent.append([one.path.rpartition("/")[2] for one in requests])
                self._now += len(requests)
                self.most = max(self.most, self._now)
            self.first.set()
            self.open.wait(30)
            try:
                if self.errors and (error := self.errors.pop(0)) is not None:
                    raise error
                return send_many(this, route, requests, *more)
            finally:
                with self._lock:
                    self._now -= len(requests)

        monkeypatch.setattr(Http2Transport, "send_many", counted)


class Lane:
    """One lane with a backlog, and its sender in a thread."""

    def __init__(self, runtime: Runtime, space: str, wire: Wire) -> None:
        self.runtime, self.wire = runtime, wire
        self.fleet = Fleet(runtime, space)
        self.app = self.fleet.apps[0]
        assert isinstance(self.fleet.drain, LaneSender)
        self.sender = self.fleet.drain
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._drain)

    def _drain(self) -> None:
        while not self.over.wait(0.005):
            self.sender(self.over.is_set)

    def fill(self) -> None:
        whole = alike(self.app, ["hi"] * (ENTRIES * EACH))
        for start in range(0, len(whole.rows), EACH):
            part = msgspec.structs.replace(whole, rows=whole.rows[start : start + EACH])
            queue(self.runtime, [part])

    def begin(self) -> None:
        """Its first round is held on the wire, and the next one is prepared."""
        self.fill()
        self._thread.start()
        assert self.wire.first.wait(30)
        eventually(lambda: self._taken() > len(self.wire.sent[0]), 30)

    def _taken(self) -> int:
        """Pushes whose numbers are taken, of entries that have not ended."""
        keys = self.runtime.keys
        names = list(self.runtime.redis.scan_iter(match=f"{keys.prefix}:*taken:*"))
        return sum(int(name.split(b";")[3]) for name in names)

    def counts(self) -> set[bytes | None]:
        """How often the persons' pushes were counted."""
        found = unspoken(self.runtime.redis, self.runtime.keys.prefix)
        fields = [field_of(self.app, f"u{n}", "d").encode() for n in range(ENTRIES * EACH)]
        return {found.get(field) for field in fields}

    def end(self) -> None:
        self.wire.open.set()
        self.over.set()
        if self._thread.is_alive():
            self._thread.join(30)


@pytest.fixture
def lane(runtime: Runtime, space: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lane]:
    made = Lane(runtime, space, Wire(monkeypatch))
    yield made
    made.end()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still makes no prepared round too old."""
    monkeypatch.setattr(running_rounds, "AHEAD_S", 60.0)


def tokens_of_all() -> list[str]:
    return [f"{n:064x}" for n in range(ENTRIES * EACH)]


def accepted(lane: Lane) -> int:
    return [row[2] for row in lane.fleet.rows()].count("accepted")


@pytest.mark.usefixtures("patient")
def test_the_next_round_is_prepared_and_leaves_when_the_first_is_written(lane: Lane) -> None:
    lane.begin()
    ahead = lane.sender.running.own()
    assert len(lane.wire.sent) == 1, "nothing leaves before the first round is written"
    assert len(ahead) == 2
    assert lane.sender.running.push_room().pushes == lane.sender.in_flight_max - ahead[0].most
    lane.wire.open.set()
    eventually(lambda: accepted(lane) == ENTRIES * EACH, 60)
    tokens = [token for sent in lane.wire.sent for token in sent]
    assert tokens == tokens_of_all(), "in order, each once"
    assert lane.wire.most <= lane.sender.in_flight_max
    assert lane.counts() == {b"1"}


def test_what_was_recalled_while_a_prepared_round_waited_is_not_sent(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_rounds, "AHEAD_S", 60.0)
    lane.begin()
    monkeypatch.setattr(running_rounds, "AHEAD_S", 0.0)  # it has waited for too long
    recalled = len(lane.wire.sent[0])  # the first push of the prepared round
    lane.runtime.marks.recall(lane.app, "c2c:ann", f"m{recalled}")
    lane.wire.open.set()
    eventually(lambda: accepted(lane) == ENTRIES * EACH - 1, 60)
    decisions = {user: decision for _, user, decision, *_ in lane.fleet.rows()}
    assert decisions[f"u{recalled}"] == "recalled"
    tokens = [token for sent in lane.wire.sent for token in sent]
    assert f"{recalled:064x}" not in tokens
    assert len(tokens) == len(set(tokens)) == ENTRIES * EACH - 1


def test_what_was_prepared_is_given_back_when_the_first_round_does_not_end(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_rounds, "AHEAD_S", 0.5)
    monkeypatch.setattr(running_rounds, "AHEAD_AGAIN_S", 60.0)
    lane.begin()
    first = len(lane.wire.sent[0])
    name = f"{lane.app}:{Vendor.APNS}:ios"
    rest = ENTRIES * EACH - first
    running = lane.sender.running

    def given_back() -> bool:
        return lane.runtime.lane_queues.waiting(name) == rest and len(running.own()) == 1

    eventually(given_back, 20)
    given_back_at = time.monotonic()
    eventually(lambda: lane.sender.progress_at > given_back_at, 20)
    assert given_back(), "nothing is prepared behind it again"
    assert not lane.wire.open.is_set()
    lane.wire.open.set()
    eventually(lambda: accepted(lane) == ENTRIES * EACH, 60)
    tokens = [token for sent in lane.wire.sent for token in sent]
    assert tokens == tokens_of_all(), "in order, each once"
    assert lane.counts() == {b"1"}


@pytest.mark.usefixtures("patient")
def test_a_prepared_round_does_not_overtake_what_the_first_one_left(
    lane: Lane, production: Apns
) -> None:
    production.faults(status=503, status_share=1.0)  # type: ignore[no-untyped-call]
    lane.begin()
    lane.wire.open.set()
    first = len(lane.wire.sent[0])
    eventually(lambda: not lane.sender.running.own(), 60)
    assert all(len(sent) == 1 for sent in lane.wire.sent[1:]), "it is tried with one push at most"
    assert lane.runtime.lane_queues.waiting(f"{lane.app}:{Vendor.APNS}:ios") >= (
        ENTRIES * EACH - first
    ), "what was prepared waits again"
    production.faults(status=0, status_share=0.0)  # type: ignore[no-untyped-call]
    timer = Timer(lane.runtime)
    eventually(lambda: accepted(lane) == ENTRIES * EACH, 60, timer.turn)
    assert lane.counts() == {b"1"}, "whoever was counted for the prepared round is not again"


@pytest.mark.usefixtures("patient")
def test_a_round_that_begins_with_another_lanes_follows_its_own_lanes_first_one(
    lane: Lane,
) -> None:
    lane.fill()
    lane.sender.start()
    (first,) = lane.sender.running.own()
    eventually(lambda: first.whole, 30)
    queue(lane.runtime, [alike(lane.fleet.apps[1], ["hi"])], Urgency.CALL)
    assert lane.sender.start()[0]
    others = {one.taken.lane: one for one in lane.sender.running.own() if one is not first}
    assert len(others) == 2, "both lanes have begun"
    assert others[first.taken.lane].leader is first
    assert lane.sender.running.push_room().pushes >= lane.sender.in_flight_max - first.most - 1
    lane.end()


@pytest.mark.usefixtures("patient")
def test_a_prepared_round_does_not_overtake_what_a_broken_one_left(lane: Lane) -> None:
    """Entries of a round that breaks are sent one by one; the server goes away meanwhile."""
    lane.begin()
    lane.wire.errors += [ValueError("an answer that is none"), None, RedisConnectionError()]
    lane.wire.open.set()
    eventually(lambda: accepted(lane) == ENTRIES * EACH, 60)
    tokens = [token for sent in lane.wire.sent for token in sent]
    assert list(dict.fromkeys(tokens)) == sorted(tokens_of_all())
    by_round = [sent[0] for sent in lane.wire.sent[1:]]
    assert by_round == sorted(by_round), "what the first one left goes first"
    assert lane.counts() == {b"1"}


@pytest.mark.usefixtures("patient")
def test_numbers_whose_answer_was_lost_are_given_back_with_the_round(
    lane: Lane, production: Apns, monkeypatch: pytest.MonkeyPatch
) -> None:
    production.faults(status=503, status_share=1.0)  # type: ignore[no-untyped-call]
    take, calls = FirstNumbers.take, itertools.count()

    def lost(this: FirstNumbers, *asked: Any) -> Any:
        found = take(this, *asked)
        if next(calls) == 1:  # of the prepared round
            raise RedisConnectionError("the answer is lost")
        return found

    monkeypatch.setattr(FirstNumbers, "take", lost)
    lane.begin()
    lane.wire.open.set()
    eventually(lambda: not lane.sender.running.own(), 60)
    production.faults(status=0, status_share=0.0)  # type: ignore[no-untyped-call]
    timer = Timer(lane.runtime)
    eventually(lambda: accepted(lane) == ENTRIES * EACH, 60, timer.turn)
    assert lane.counts() == {b"1"}
