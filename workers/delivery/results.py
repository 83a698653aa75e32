"""The result of a round of delivery, and that of each of its steps. Values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic, TypeAlias, TypeVar

import msgspec

from common.model import Decision
from common.values import Value
from workers.delivery.work import PendingPush
from workers.vendors.types import Outcome, RequestBatch

T = TypeVar("T")
#: Request batches that may go, each with its pushes.
Granted: TypeAlias = Sequence[tuple[RequestBatch, list[PendingPush]]]


class Results(Value, frozen=True):
    """The pushes that a step does not keep, by what becomes of them: see Delivered."""

    outcomes: Sequence[tuple[PendingPush, Outcome]] = ()
    decided: Sequence[tuple[PendingPush, Decision, str]] = ()
    waiting: Sequence[tuple[PendingPush, float, Decision]] = ()
    on_hold: Sequence[tuple[PendingPush, Decision]] = ()
    dropped: Sequence[PendingPush] = ()
    left: Sequence[PendingPush] = ()
    moved: Sequence[PendingPush] = ()


NOTHING = Results()


class RoundStep(Value, Generic[T], frozen=True):
    """kept: goes on to the next step."""

    kept: Sequence[T]
    results: Results = NOTHING


class Delivered(msgspec.Struct, eq=False):
    """The result of a round of pushes of one lane.

    outcomes: the answer, the vendor's or ours, for each push that was attempted. decided: ended
    without a request. waiting: delayed by the rate, seconds from now. on_hold: the lane is stopped,
    with the cause. dropped: another entry's. left: no token of the lane's rate remained; it stays
    in its entry. moved: its device has another lane, where it continues. addressed_ms: when the
    tokens were compared with their devices'. leased_ms: when the lane's entries were last known to
    be ours. stays: part of the round's entries returns to the
    queue. whole: a round of usual pushes that were all accepted at once (usual.py). accepted:
    accepted pushes that are not in the outcomes (alike.py).
    A push coalesced into another (`PendingPush.coalesced`) is in no list: it shares the other's
    fate.
    """

    outcomes: list[tuple[PendingPush, Outcome]] = []
    decided: list[tuple[PendingPush, Decision, str]] = []
    waiting: list[tuple[PendingPush, float, Decision]] = []
    on_hold: list[tuple[PendingPush, Decision]] = []
    dropped: list[PendingPush] = []
    left: list[PendingPush] = []
    moved: list[PendingPush] = []
    requests: int = 0
    addressed_ms: int = 0
    leased_ms: int = 0
    stays: bool = False
    lost: Collection[str] = ()  # see LaneTurn
    whole: bool = False
    accepted: int = 0
    probe: bool = False  # this round is the one push that tries a stopped lane

    def add(self, step: RoundStep[T]) -> Sequence[T]:
        """Adds a step's results; returns what the step keeps."""
        results = step.results
        if results is not NOTHING:
            self.outcomes += results.outcomes
            self.decided += results.decided
            self.waiting += results.waiting
            self.on_hold += results.on_hold
            self.dropped += results.dropped
            self.left += results.left
            self.moved += results.moved
        return step.kept

    def everyone_left(self) -> list[PendingPush]:
        """What is left, each with those that it was to be sent for."""
        return [one for work in self.left for one in (work, *work.coalesced)]
