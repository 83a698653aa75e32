"""The time of each push of a round, by the lane's rate leased for the next second. Pure.

The clock is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

#: Share of the burst that a part of a paced round waits for, so that it is not sent push by push.
PART = 0.5
#: Share of a token's time by which a lease's last token may be late; without it, the moment until
#: the first token would cost one token per lease.
SLACK = 0.25
#: Seconds within which a lease's answer usually comes. How much of a longer wait lies behind the
#: lease itself nobody here knows.
ANSWER_S = 0.1
#: The longest wait, seconds, of a round that goes whole at its lane's rate, and the least: the
#: clock goes no finer.
WHOLE_WAIT_S, WAIT_S_MIN = 0.05, 1e-6


class Pace(Protocol):
    """The rate port of a round. Costs are in the units that the lane's rate counts."""

    @property
    def burst(self) -> int:
        """The most that may go at once."""
        ...

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        """The number of next requests that go together, and the wait in seconds.

        None: no token is left for the first.
        """
        ...

    def spend(self, cost: int) -> None: ...

    def wait(self, seconds: float) -> None: ...


class Pacer:
    """The lane's leaky bucket (GCRA) for the length of one lease.

    first_s: seconds until the first token's time; lim_s: how much earlier than its time a push may
    go; asked_at: the clock before the lease was asked for. A later sender loses tokens: its pushes
    must not coincide with what others send in that second.
    """

    def __init__(
        self,
        tokens: int,
        first_s: float,
        rate_per_s: float,
        lim_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        asked_at: float,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._rate = rate_per_s
        self._lim = lim_s
        now = clock()
        self._tat = now + first_s
        self._leased_to = self._tat + tokens / rate_per_s
        # a process that stood still sends part of a burst at most beside who leased after it
        least = self._tat + min(float(tokens), self._together) / rate_per_s
        self._end = max(self._leased_to - max(now - asked_at - ANSWER_S, 0.0), least)

    @property
    def tokens(self) -> int:
        """The tokens that the lease has left now."""
        return max(0, int((self._end - max(self._tat, self._clock())) * self._rate + SLACK))

    @property
    def burst(self) -> int:
        return max(1, int(self._lim * self._rate + 1e-6))

    @property
    def unused(self) -> float:
        """Tokens that were not spent, those whose time is over too: they are given back."""
        return max(0.0, (self._leased_to - self._tat) * self._rate)

    @property
    def _together(self) -> float:
        """What a part of a paced round waits for."""
        return max(1.0, self._lim * self._rate * PART)

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        left = self.tokens
        if not costs or costs[0] > left:
            return None
        ahead = max(self._tat - self._clock(), 0.0)
        free = (self._lim - ahead) * self._rate + 1e-6
        count, cost = _fitting(costs, min(left, max(free, self._together)))
        return count, max(0.0, ahead + cost / self._rate - self._lim)

    def spend(self, cost: int) -> None:
        self._tat = max(self._tat, self._clock()) + cost / self._rate

    def wait(self, seconds: float) -> None:
        self._sleep(seconds)


def goes_whole(pace: Pace, count: int) -> bool:
    """True when a round of so many pushes may go at once, after a short wait for its lane's rate at
    most. A longer wait, or a round that the rate divides, is the general path's.
    """
    costs, left_s = [1] * count, WHOLE_WAIT_S
    while (part := pace.part(costs)) is not None and part[0] == count:
        if part[1] < WAIT_S_MIN:
            return True
        if part[1] > left_s:
            return False
        left_s -= part[1]
        pace.wait(part[1])
    return False


def _fitting(costs: Sequence[int], most: float) -> tuple[int, int]:
    """The number of first costs that stay within `most`, one at least, and their sum."""
    if (whole := sum(costs)) <= most:
        return len(costs), whole
    count = cost = 0
    for one in costs:
        if count and cost + one > most:
            break
        count, cost = count + 1, cost + one
    return count, cost


class LeasedPace:
    """A pace that leases its tokens at the first question, right before the send.

    burst: what may go at once. lease: (number of tokens, number of requests) -> a pacer. again: how
    often a late one, which lost tokens, leases more.
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
    """The pace of an unlimited lane: everything goes at once."""

    burst = 1 << 30

    def part(self, costs: Sequence[int]) -> tuple[int, float] | None:
        return len(costs), 0.0

    def spend(self, cost: int) -> None:
        """Costs nothing."""

    def wait(self, seconds: float) -> None:
        """There is nothing to wait for."""
