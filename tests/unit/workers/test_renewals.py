"""Leases count from the moment before they were asked for: a process may stand still, or wait for
Redis, between that and the answer.
"""

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.model import Urgency, Vendor
from common.storage.lane_entries import Taken
from common.storage.streams import Entry
from tests.builders import present
from tests.waiting import eventually
from workers.handlers import running_rounds
from workers.handlers.running_rounds import RunningRound, RunningRounds
from workers.queues import lease_renewer
from workers.queues.lease_renewer import RENEW_S, LeaseRenewer

ASKED_AT, TAKES_S = 1_000.0, 3.0


class SlowStore:
    """A renewal takes its time."""

    def __init__(self) -> None:
        self.now = ASKED_AT

    def monotonic(self) -> float:
        return self.now

    def renew(self, *_: Any) -> tuple[str, ...]:
        self.now += TAKES_S
        return ()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    slow = SlowStore()
    # other tests' threads live on in this process, and sleep between their looks
    clock = SimpleNamespace(monotonic=slow.monotonic, sleep=time.sleep)
    for module in (running_rounds, lease_renewer):
        monkeypatch.setattr(module, "time", clock)
    return slow


def test_a_rounds_lease_counts_from_before_it_was_asked_for(store: SlowStore) -> None:
    rounds = RunningRounds(cast(Any, store), Vendor.FCM, 10)
    one = RunningRound(Taken("a:fcm:b", Urgency.CHAT, "w", "go", 0), [], 1, renewed=0.0)
    rounds._kept(one)
    assert one.renewed == ASKED_AT


def test_so_do_those_of_entries_of_a_stream(store: SlowStore) -> None:
    renewer, entries = LeaseRenewer(cast(Any, store)), list[Entry]()
    renewer._held["one"] = lease_renewer._Block(entries, 0)
    renewer._renew(everything=True)
    assert renewer._due == ASKED_AT + RENEW_S


class BrokenOnce:
    """A store whose first renewal ends in an error that nobody foresaw; the others are counted."""

    def __init__(self) -> None:
        self.asked, self.renewed = 0, threading.Event()

    def renew(self, *_: Any) -> tuple[str, ...]:
        self.asked += 1
        if self.asked == 1:
            raise ValueError("a reply that is none")
        self.renewed.set()
        return ()


def rounds_of(store: BrokenOnce, _kept: ExitStack) -> Callable[[], None]:
    rounds, words = RunningRounds(cast(Any, store), Vendor.FCM, 10), itertools.count()

    def begins() -> None:
        taken = Taken("a:fcm:b", Urgency.CHAT, f"w{next(words)}", "go", 0)
        present(rounds.begin(taken, 1)).renewed = 0.0

    return begins


def entries_of(store: BrokenOnce, kept: ExitStack) -> Callable[[], None]:
    renewer = LeaseRenewer(cast(Any, store), renew_s=0.02)
    return lambda: kept.enter_context(renewer.holding([]))


@pytest.mark.parametrize("made", [rounds_of, entries_of])
def test_a_keeper_that_an_error_ended_is_followed_by_another(
    made: Callable[[BrokenOnce, ExitStack], Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    monkeypatch.setattr(running_rounds, "RENEW_S", 0.02)
    store = BrokenOnce()
    with ExitStack() as kept:
        begins = made(store, kept)
        begins()
        assert ended.wait(60)

        def is_renewed() -> bool:
            begins()
            return store.renewed.wait(0.1)

        eventually(is_renewed)
