"""The lanes' queues of all shards on one server, asked together (Redis): a shard's lane is one more
lane of a round. Of one shard alone it asks that one's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from common.model import Urgency, Vendor
from common.storage.lane_entries import LaneCommit, LaneEntry, LaneTerms, PushRoom, RateLease, Taken
from common.storage.lane_queues import LaneQueues

#: A lane's queue of one urgency in one shard: its number in JointLanes.
Place: TypeAlias = tuple[str, Urgency, int]


def place_of(taken: Taken) -> Place:
    return taken.lane, taken.urgency, taken.shard


class JointLanes:
    """As LaneQueues; what a take concerns goes to its shard (`Taken.shard`)."""

    def __init__(self, each: Callable[[], Sequence[LaneQueues]]) -> None:
        """each: the queues of the shards, by number here."""
        self._each = each
        self._next = 0  # the shard that is served first

    def pop(
        self,
        vendor: Vendor,
        most: Mapping[Urgency, int],
        busy: Iterable[tuple[str, Urgency]],
        room: PushRoom,
        without: Collection[int] = (),
    ) -> tuple[list[Place], float | None, list[int]]:
        """busy: lanes, in any shard. without: shards that nothing is taken from.

        Those that were served last come last in the next call.
        """
        each = self._each()
        count = len(each)
        if count == 1:
            lanes, due_s, waiting = each[0].pop(vendor, most, busy, room)
            return [(*one, 0) for one in lanes], due_s, waiting
        turned = [*range(self._next, count), *range(self._next)]
        order = [number for number in turned if number not in without]
        found, due_s, waiting = each[0].pop_in(
            [each[number] for number in order], vendor, most, busy, room
        )
        if found:
            self._next = (order[found[-1][2]] + 1) % count
        return [(lane, urgency, order[at]) for lane, urgency, at in found], due_s, waiting

    def take(self, wanted: Sequence[tuple[Place, LaneTerms, int]], probe_s: float) -> list[Taken]:
        """Of each (place, terms, most pushes)."""
        each = self._each()
        asked = [(lane, urgency, terms, most) for (lane, urgency, _), terms, most in wanted]
        if len(each) == 1:
            return each[0].take(asked, probe_s)
        owners = [each[number] for (_, _, number), _, _ in wanted]
        found = each[0].take_in(owners, asked, probe_s)
        for ((_, _, number), _, _), taken in zip(wanted, found, strict=True):
            taken.shard = number
        return found

    def paused(self, place: Place, why: str, due_ms: int) -> Taken:
        lane, urgency, number = place
        taken = self._each()[number].paused(lane, urgency, why, due_ms)
        taken.shard = number
        return taken

    def lease_all(
        self, wanted: Sequence[tuple[Taken, int, int]], round_s: float
    ) -> list[RateLease]:
        return self._each()[0].lease_all(wanted, round_s)

    def commit_all(self, commits: Sequence[tuple[Taken, LaneCommit]]) -> list[list[str]]:
        each = self._each()
        if len(each) == 1:
            return each[0].commit_all(commits)
        return each[0].commit_in([each[taken.shard] for taken, _ in commits], commits)

    def wake_at(self, due: Sequence[tuple[Place, int]]) -> bool:
        """Of each (place, time in ms)."""
        each, lanes = self._each(), [(lane, urgency, ms) for (lane, urgency, _), ms in due]
        if len(each) == 1:
            return each[0].wake_at(lanes)
        return each[0].wake_in([each[number] for (*_, number), _ in due], lanes)

    def wake_now(self, lane: str) -> None:
        """Also what waits in other shards than the one whose push has opened the lane."""
        for one in self._each():
            one.wake_now(lane)

    def give_back(self, taken: Taken, entries: Sequence[LaneEntry], due_ms: int) -> None:
        self._each()[taken.shard].give_back(taken, entries, due_ms)

    def renew(self, taken: Taken, entries: Sequence[LaneEntry]) -> list[str]:
        return self._each()[taken.shard].renew(taken, entries)
