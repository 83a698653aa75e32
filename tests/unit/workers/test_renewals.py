"""Leases count from the moment before they were asked for: a process may stand still, or wait for
Redis, between that and the answer.
"""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.model import Urgency, Vendor
from common.storage.lane_entries import Taken
from common.storage.streams import Entry
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
    for module in (running_rounds, lease_renewer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=slow.monotonic))
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
