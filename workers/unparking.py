"""How pushes that wait behind a stopped lane leave its parking lots: one entry to try it, then all, the most urgent first.

Part of upkeep, which is one process at a time. What it remembers here may be lost: then a lot opens a little sooner.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from common.model import Urgency
from common.storage import lanes as lane_store
from workers.delivery.lane import Lane
from workers.runtime import Runtime

#: Moves of up to 500 entries of one lane in one look.
MOVES_MAX = 10
#: So long the less urgent wait at most until the more urgent that left before them are sent, or wait for the rate.
ORDER_WAIT_S = 10.0

_RANK = {urgency: rank for rank, urgency in enumerate(Urgency)}


@dataclass(frozen=True, slots=True)
class Left:
    """The last entry of some urgency that left a lane's lots; until (monotonic): the less urgent wait no longer for it."""

    urgency: Urgency
    belt: str
    entry: str
    until: float


class Unparking:
    """ring: rings the bells of belts that got something."""

    def __init__(self, runtime: Runtime, ring: Callable[[set[str]], None]) -> None:
        self._runtime = runtime
        self._ring = ring
        self._left: dict[str, Left] = {}

    def look(self) -> None:
        """Once a second: lanes that flow get back what was parked behind them; behind the others only what ran out of time moves."""
        waiting = self._runtime.delayed.parked_lanes()
        self._left = {lane: left for lane, left in self._left.items() if lane in waiting}
        if waiting:
            lanes = {lane.id: lane for lane in self._runtime.catalog.now.lanes.values()}
            for lane_id in waiting:
                self._one(lane_id, lanes.get(lane_id))

    def go_on(self) -> None:
        """Ten times a second: the next lot of the lanes whose more urgent pushes have gone."""
        for lane_id in list(self._left):
            if self._runtime.lane_states.peek(lane_id).state == lane_store.FLOWING:
                self._open(lane_id)

    def _one(self, lane_id: str, lane: Lane | None) -> None:
        states, delayed = self._runtime.lane_states, self._runtime.delayed
        if lane is not None and (lane.paused or not states.may_flow(lane_id, lane.credential.version)):
            self._left.pop(lane_id, None)
            for _ in range(MOVES_MAX):
                belts = delayed.release_expired(lane_id)
                if not belts:
                    break
                self._ring(belts)
        elif lane is not None and states.peek(lane_id).state != lane_store.FLOWING:
            self._ring(delayed.release_probe(lane_id, random.random()))
        else:  # also of an account that was removed: its pushes are told so
            self._open(lane_id)

    def _open(self, lane_id: str) -> None:
        for _ in range(MOVES_MAX):
            urgency = self._runtime.delayed.most_urgent(lane_id)
            if urgency is not None and self._must_wait(lane_id, urgency):
                return
            belts = self._runtime.delayed.release_lane(lane_id)
            if not belts or urgency is None:
                self._left.pop(lane_id, None)
                return
            for belt, entry in belts.items():
                self._left[lane_id] = Left(urgency, belt, entry, time.monotonic() + ORDER_WAIT_S)
            self._ring(set(belts))

    def _must_wait(self, lane_id: str, urgency: Urgency) -> bool:
        left = self._left.get(lane_id)
        if left is None or _RANK[urgency] <= _RANK[left.urgency] or time.monotonic() >= left.until:
            return False
        return not self._runtime.delayed.passed(left.belt, left.entry)
