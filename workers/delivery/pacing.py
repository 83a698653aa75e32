"""When each push of a round may go: tokens of the lane's rate that were leased for the next second. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

#: A part of a paced round waits until it may be so much of the burst, so that a second is not sent push by push.
PART = 0.5


class Pacer:
    """The lane's leaky bucket (GCRA) for the length of one lease.

    first_s: seconds until the first token's time; lim_s: how much earlier than its time a push may go. A sender that is later
    than that loses tokens: what it held back may not follow in one second with what others send.
    """

    def __init__(self, tokens: int, first_s: float, rate_per_s: float, lim_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = rate_per_s
        self._lim = lim_s
        self._tat = clock() + first_s
        self._end = self._tat + tokens / rate_per_s

    @property
    def tokens(self) -> int:
        """What is left of the lease now."""
        return max(0, int((self._end - max(self._tat, self._clock())) * self._rate + 1e-6))

    @property
    def burst(self) -> int:
        """Tokens that may go at once at most."""
        return max(1, int(self._lim * self._rate + 1e-6))

    @property
    def unused(self) -> float:
        """Tokens that were not spent, those whose time is over too: they are given back."""
        return max(0.0, (self._end - self._tat) * self._rate)

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        """How many of the next requests go together, and in how many seconds. None: no token is left for the first."""
        left = self.tokens
        if not costs or costs[0] > left:
            return None
        together = max(1.0, self._lim * self._rate * PART)
        now = self._clock()
        ahead = max(self._tat - now, 0.0)
        free = (self._lim - ahead) * self._rate + 1e-6
        wanted = free if sum(costs) <= free else together
        count = cost = 0
        for one in costs:
            if count and (cost + one > wanted or cost + one > left):
                break
            count, cost = count + 1, cost + one
        if cost <= free:  # more may go at once than is worth waiting for
            for one in costs[count:]:
                if cost + one > free or cost + one > left:
                    break
                count, cost = count + 1, cost + one
        return count, max(0.0, ahead + cost / self._rate - self._lim)

    def spend(self, cost: int) -> None:
        self._tat = max(self._tat, self._clock()) + cost / self._rate


class Unpaced(Pacer):
    """Where nothing limits: everything goes at once."""

    def __init__(self) -> None:
        super().__init__(1, 0.0, 1.0, 1.0)

    @property
    def tokens(self) -> int:
        return 1 << 30

    @property
    def burst(self) -> int:
        return 1 << 30

    @property
    def unused(self) -> float:
        return 0.0

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        return len(costs), 0.0

    def spend(self, cost: int) -> None:
        del cost
