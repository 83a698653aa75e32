"""When each push of a round may go: tokens of the lane's rate that were leased for the next second.
Pure: the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

#: A part of a paced round waits until it may be so much of the burst, so that a second is not sent
#: push by push.
PART = 0.5
#: A lease's last token may be late by so much of a token's time: else the moment until the first
#: would cost one a lease.
SLACK = 0.25


class Pace(Protocol):
    """What a round asks before it sends. Costs are in what the lane's rate counts."""

    @property
    def burst(self) -> int:
        """What may go at once at most."""
        ...

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        """How many of the next requests go together, and in how many seconds. None: no token is
        left for the first.
        """
        ...

    def spend(self, cost: int) -> None: ...

    def wait(self, seconds: float) -> None: ...


class Pacer:
    """The lane's leaky bucket (GCRA) for the length of one lease.

    first_s: seconds until the first token's time; lim_s: how much earlier than its time a push may
    go. A sender that is later than that loses tokens: what it held back may not follow in one
    second with what others send.
    """

    def __init__(
        self,
        tokens: int,
        first_s: float,
        rate_per_s: float,
        lim_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._rate = rate_per_s
        self._lim = lim_s
        self._tat = clock() + first_s
        self._end = self._tat + tokens / rate_per_s

    @property
    def tokens(self) -> int:
        """What is left of the lease now."""
        return max(0, int((self._end - max(self._tat, self._clock())) * self._rate + SLACK))

    @property
    def burst(self) -> int:
        return max(1, int(self._lim * self._rate + 1e-6))

    @property
    def unused(self) -> float:
        """Tokens that were not spent, those whose time is over too: they are given back."""
        return max(0.0, (self._end - self._tat) * self._rate)

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        left = self.tokens
        if not costs or costs[0] > left:
            return None
        ahead = max(self._tat - self._clock(), 0.0)
        free = (self._lim - ahead) * self._rate + 1e-6
        together = max(1.0, self._lim * self._rate * PART)
        count, cost = _fitting(costs, min(left, max(free, together)))
        return count, max(0.0, ahead + cost / self._rate - self._lim)

    def spend(self, cost: int) -> None:
        self._tat = max(self._tat, self._clock()) + cost / self._rate

    def wait(self, seconds: float) -> None:
        self._sleep(seconds)


def _fitting(costs: Sequence[int], most: float) -> tuple[int, int]:
    """How many of the first costs stay within `most`, one at least, and their sum."""
    if (whole := sum(costs)) <= most:
        return len(costs), whole
    count = cost = 0
    for one in costs:
        if count and cost + one > most:
            break
        count, cost = count + 1, cost + one
    return count, cost


class LeasedPace:
    """A pace whose tokens are leased when it is first asked, right before the send.

    burst: what may go at once. lease: (how many tokens, how many requests they are for) -> a pacer.
    again: how often one that was late, and lost tokens, leases more.
    """

    def __init__(self, burst: int, lease: Callable[[int, int], Pacer], again: int = 0) -> None:
        self._lease = lease
        self._burst = burst
        self._again = again
        self.pacer: Pacer | None = None

    @property
    def burst(self) -> int:
        return self._burst

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        if self.pacer is None:
            self.pacer = self._lease(sum(costs), len(costs))
        part = self.pacer.part(costs)
        if part is None and costs and self._again > 0:
            self._again -= 1
            self.pacer = self._lease(sum(costs), len(costs))
            part = self.pacer.part(costs)
        return part

    def spend(self, cost: int) -> None:
        if self.pacer is not None:
            self.pacer.spend(cost)

    def wait(self, seconds: float) -> None:
        if self.pacer is not None:
            self.pacer.wait(seconds)


class Unpaced:
    """Where nothing limits: everything goes at once."""

    burst = 1 << 30

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        return len(costs), 0.0

    def spend(self, cost: int) -> None:
        """Costs nothing."""

    def wait(self, seconds: float) -> None:
        """There is nothing to wait for."""
