"""Which invitations the end of a call ends: both the core's times and the stream's tell."""

import pytest

from common.call_times import end_at, ended_ms, invited_ms, times_behind
from common.whole_seconds import latest_ms

#: (ts, time on the stream) of an invitation and of the end; whether the invitation is over.
CASES = {
    "the one that ended": ((1_000, 1_001), (9_000, 9_001), True),
    "again, a moment later": ((9_002, 9_003), (9_000, 9_001), False),
    "its host's clock is ahead": ((9_900, 8_000), (9_000, 9_001), True),
    "its host's clock is ahead of a short call's end": ((3_000, 1_000), (1_500, 1_501), True),
    "published late, behind its end": ((8_000, 9_500), (9_000, 9_001), True),
    "the end's host has a clock that is behind": ((8_000, 8_001), (7_500, 9_000), True),
    "the end's host has a clock that is ahead": ((9_500, 9_501), (11_000, 9_000), False),
    "the end is told late, and the next one before it": ((6_000, 9_500), (5_000, 9_000), False),
    "again, by a host whose clock is ahead": ((19_000, 9_100), (9_000, 9_001), False),
    "in the same millisecond": ((9_000, 9_000), (9_000, 9_000), True),
    "of a release that knew no time on the stream": ((9_002, 0), (9_000, 9_001), False),
}


@pytest.mark.parametrize(("invited", "ended", "over"), CASES.values(), ids=CASES)
def test_an_end_ends_what_was_before_it_by_either_time(
    invited: tuple[int, int], ended: tuple[int, int], over: bool
) -> None:
    assert (invited_ms(*invited) <= ended_ms(*ended)) == over


#: (ts, place) of an invitation beside an end of 9,400 at 9401-4#1; whether it is over.
BESIDE = {
    "before it in its entry": (9_400, "9401-4", True),
    "behind it in its entry": (9_400, "9401-4#2", False),
    "behind it in the same millisecond": (9_400, "9401-5", False),
    "before it in the same millisecond": (9_400, "9401-3#7", True),
    "overtaken by it": (9_399, "9401-5", True),
    "of its whole second": (9_000, "9401-5", False),
}


@pytest.mark.parametrize(("ts_ms", "place", "over"), BESIDE.values(), ids=BESIDE)
def test_beside_an_end_the_streams_order_tells(ts_ms: int, place: str, over: bool) -> None:
    end = end_at(9_400, 9_401, "im/e#1/9401-4#1")
    latest = latest_ms(ts_ms, 9_401)
    times = times_behind(ts_ms, 9_401, f"im/e#1/{place}", latest, end)
    assert (invited_ms(*times) <= end.ended_ms) == over
