"""A vendor's opening hours and its clock."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from common.model import Bucket
from workers.delivery.hours import day_began_ms, offset_s, shut_for_s
from workers.vendors.types import Limits

VIVO = Limits(500, 500, "token", public_hours=(7, 23))
SHANGHAI = ZoneInfo("Asia/Shanghai")
UTC = ZoneInfo("UTC")


def ms(*when: int, zone: ZoneInfo = SHANGHAI) -> int:
    year, month, day, hour, minute, second = (*when, 0, 0, 0)[:6]
    at = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    return int(at.timestamp() * 1000)


HOURS = {
    "one second before opening": (ms(2026, 3, 3, 6, 59, 59), 1),
    "opening": (ms(2026, 3, 3, 7), 0),
    "the last second": (ms(2026, 3, 3, 22, 59, 59), 0),
    "closing": (ms(2026, 3, 3, 23), 8 * 3600),
    "midnight": (ms(2026, 3, 4, 0), 7 * 3600),
    "the end of a month": (ms(2026, 2, 28, 23, 30), 7.5 * 3600),
}


@pytest.mark.parametrize(("now_ms", "wait_s"), HOURS.values(), ids=HOURS)
def test_public_pushes_wait_for_the_opening(now_ms: int, wait_s: float) -> None:
    assert shut_for_s(VIVO, Bucket.PUBLIC, now_ms) == wait_s
    assert shut_for_s(VIVO, Bucket.PRIVATE, now_ms) == 0
    assert shut_for_s(Limits(500, 500, "token"), Bucket.PUBLIC, now_ms) == 0


DAYS = {
    "Shanghai": ("Asia/Shanghai", (2026, 7, 1), ms(2026, 6, 30, 16, zone=UTC)),
    "of 25 hours": ("America/Los_Angeles", (2026, 11, 1), ms(2026, 11, 1, 7, zone=UTC)),
    "of 23 hours": ("America/Los_Angeles", (2026, 3, 8), ms(2026, 3, 8, 8, zone=UTC)),
    "without a midnight": ("Africa/Cairo", (2026, 4, 24), ms(2026, 4, 23, 22, zone=UTC)),
}


@pytest.mark.parametrize(("zone", "day", "began_ms"), DAYS.values(), ids=DAYS)
def test_a_day_begins_at_its_own_midnight(
    zone: str, day: tuple[int, int, int], began_ms: int
) -> None:
    assert day_began_ms(zone, (date(*day) - date(1970, 1, 1)).days) == began_ms


OFFSETS = {
    "Shanghai has no summer time": ("Asia/Shanghai", ms(2026, 7, 1), 28_800),
    "Los Angeles in winter": ("America/Los_Angeles", ms(2026, 1, 1), -28_800),
    "Los Angeles in summer": ("America/Los_Angeles", ms(2026, 7, 1), -25_200),
    "half an hour": ("Asia/Kolkata", ms(2026, 7, 1), 19_800),
}


@pytest.mark.parametrize(("zone", "now_ms", "offset"), OFFSETS.values(), ids=OFFSETS)
def test_a_zone_has_the_offset_of_the_moment(zone: str, now_ms: int, offset: int) -> None:
    assert offset_s(zone, now_ms) == offset
