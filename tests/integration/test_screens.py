"""The last push of a place on a screen: in whatever order its pushes are sent, refused and tried
again, the newest stays.
"""

import uuid

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.storage.keys import Keys
from common.storage.screens import KEEP_MIN_MS, ScreenStore
from tests.lane_marks import write_marks

FREE, NEWER, BUSY = 0, 1, 2
PLACE = ("demo", "bob", "phone", "order-1")


class Glass:
    """A device's screen, and the store that guards the place on it."""

    def __init__(self, client: redis.Redis, hold_ms: int = 60_000) -> None:
        self.client, self.keys = client, Keys("push" + uuid.uuid4().hex)
        self.screens = ScreenStore(client, self.keys, hold_ms)
        self.shown: int | None = None

    def take(self, ts: int, place: tuple[str, str, str, str] = PLACE) -> int:
        return self.screens.take([(place, f"{ts:032x}", ts)])[0]

    def settle(self, ts: int, *, shown: bool) -> None:
        mark = (f"{ts:032x}", ts if shown else -1, KEEP_MIN_MS)
        for _ in range(2):  # what is written twice changes nothing
            write_marks(self.client, self.keys, ("screen", [self.screens.name(PLACE)], mark))
        if shown:
            self.shown = ts


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.integers(1, 6),
            st.sampled_from(
                ("take", "take", "accepted", "uncertain", "refused, waits", "refused, ends")
            ),
        ),
        max_size=60,
    )
)
def test_no_push_is_ever_shown_over_a_newer_one(
    redis_client: redis.Redis, steps: list[tuple[int, str]]
) -> None:
    """Steps in any order, of processes that know nothing of each other: a push is taken for
    sending, or what is on the wire comes back.
    """
    glass = Glass(redis_client)
    on_wire: set[int] = set()
    highest = 0
    for ts, step in steps:
        if step == "take" and ts not in on_wire:
            told = glass.take(ts)
            assert told == (NEWER if ts < highest else BUSY if on_wire else FREE)
            if told == FREE:
                on_wire.add(ts)
        elif step != "take" and ts in on_wire:
            on_wire.discard(ts)
            seen = step in ("accepted", "uncertain")
            glass.settle(ts, shown=seen)
            if seen:
                assert ts >= highest, "nothing older goes over it"
                highest = ts
    assert (glass.shown or 0) == highest


def test_whose_reader_died_loses_the_place_after_a_while(redis_client: redis.Redis) -> None:
    glass = Glass(redis_client, hold_ms=1)
    assert glass.take(1) == FREE
    redis_client.time()
    assert [glass.take(2) for _ in range(50)][-1] == FREE


def test_places_are_told_apart_and_forgotten(redis_client: redis.Redis) -> None:
    glass = Glass(redis_client)
    glass.settle(9, shown=True)
    for other in (
        ("demo", "bob", "phone", "order-2"),
        ("demo", "bob", "pad", "order-1"),
        ("x", "bob", "phone", "order-1"),
        ("demo", "bo", "bphone", "order-1"),
    ):
        assert glass.take(1, other) == FREE
    assert glass.take(1) == NEWER
    ttls = [redis_client.pttl(key) for key in redis_client.scan_iter("*:screen:*")]
    assert all(0 < ttl <= 3_600_000 for ttl in ttls), ttls
