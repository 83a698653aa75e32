"""Of one lane the most urgent leave first, and nobody waits for ever. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from common.model import Urgency
from common.storage.lane_entries import RANK

#: Longest wait, seconds, of a lane's less urgent rounds for each more urgent urgency, and the
#: interval of the check.
TURN_S: Final = 0.3
TURN_MS: Final = 20
#: Most seconds that count between two checks: while this process stood still, no round could end.
LOOK_COUNTS_S: Final = 0.05


@dataclass(slots=True)
class _Wait:
    """seconds: how long one lane's urgency has waited; ahead: the ranks it has met meanwhile."""

    looked_s: float
    seconds: float = 0.0
    ahead: set[int] = field(default_factory=set)


class LaneTurns:
    """Who of the lanes that may send goes now.

    An urgency waits TURN_S at most for each that is more urgent: so those that wait for the same
    one do not leave together when it takes long. Nobody passes who waits himself.
    """

    def __init__(self) -> None:
        self._waits: dict[tuple[str, Urgency], _Wait] = {}

    def chosen(
        self,
        found: Sequence[tuple[str, Urgency]],
        running: dict[str, set[int]],
        now_s: float,
    ) -> list[tuple[str, Urgency]]:
        """Those of `found`, most urgent first, whose turn it is.

        running: by lane, the ranks of its rounds that were at work before `found` was asked for;
        what is chosen is added. now_s: of any steady clock.
        """
        chosen, passed = list[tuple[str, Urgency]](), dict[str, set[int]]()
        for lane, urgency in found:
            at_work, rank = running.setdefault(lane, set()), RANK[urgency]
            passed_over = passed.get(lane, set())
            ahead = {one for one in at_work if one < rank} | passed_over
            if ahead and (self._waits_on((lane, urgency), ahead, now_s) or passed_over):
                passed.setdefault(lane, set()).add(rank)
                continue
            # also where the lane turns out to be shut: it waits anew when it opens
            self._waits.pop((lane, urgency), None)
            chosen.append((lane, urgency))
            at_work.add(rank)
        return chosen

    def _waits_on(self, name: tuple[str, Urgency], ahead: set[int], now_s: float) -> bool:
        wait = self._waits.setdefault(name, _Wait(now_s))
        wait.seconds += min(now_s - wait.looked_s, LOOK_COUNTS_S)
        wait.looked_s = now_s
        wait.ahead |= ahead
        return wait.seconds < TURN_S * len(wait.ahead)
