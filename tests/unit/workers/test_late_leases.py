"""A sender that is a little late with its lease sends its whole round at once all the same."""

import pytest

from common.model import Urgency
from common.storage.lane_entries import LaneTerms, Taken
from workers.delivery.pacing import Pacer
from workers.handlers.lane_rounds import LATE_S, with_spare


@pytest.mark.parametrize("rate_per_s", [100.0, 6_000.0, 50_000.0])
@pytest.mark.parametrize("pushes", [1, 9, 20, 400])
def test_a_moment_costs_no_push(rate_per_s: float, pushes: int) -> None:
    terms = LaneTerms(rate_per_s=rate_per_s, burst=rate_per_s)
    taken = Taken("demo:apns:ios", Urgency.CHAT, "w", "go", 0, terms=terms)
    times = iter([0.0])
    lease = with_spare(taken, pushes)
    pacer = Pacer(
        lease, 0.0, rate_per_s, 1.0, lambda: next(times, LATE_S), lambda _: None, asked_at=0.0
    )
    assert pacer.tokens >= pushes
    assert lease <= pushes + max(1, pushes // 20, 25), "what others of the lane wait for"
