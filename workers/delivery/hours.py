"""The hours in which a vendor takes public pushes (vivo: 07:00 to 23:00 of its clock). Pure."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from common.model import Bucket
from common.time_zones import zone_named
from workers.vendors.types import Limits

#: A zone's offset changes at a full quarter of an hour.
QUARTER_MS: Final = 900_000


def shut_for_s(limits: Limits, bucket: Bucket, now_ms: int) -> float:
    """Seconds until the vendor takes pushes of this bucket; 0: it does now."""
    if limits.public_hours is None or bucket != Bucket.PUBLIC:
        return 0.0
    opens, shuts = limits.public_hours
    local = datetime.fromtimestamp(now_ms / 1000, zone_named(limits.hours_timezone))
    if opens <= local.hour < shuts:
        return 0.0
    opening = local.replace(hour=opens, minute=0, second=0, microsecond=0)
    if local.hour >= shuts:
        opening += timedelta(days=1)
    return opening.timestamp() - now_ms / 1000


def day_began_ms(timezone: str, day: int) -> int:
    """The first moment of the zone's day of this number since 1970.

    On a day of 23 or 25 hours the zone's offset of later is not the one of its midnight.
    """
    midnight = datetime.combine(
        date(1970, 1, 1) + timedelta(days=day), time(), zone_named(timezone)
    )
    return int(midnight.timestamp() * 1000)


def offset_s(timezone: str, now_ms: int) -> int:
    """Seconds that this zone is ahead of UTC now, summer time included."""
    return _offset_s(timezone, now_ms // QUARTER_MS)


@lru_cache(1024)
def _offset_s(timezone: str, quarter: int) -> int:
    ahead = datetime.fromtimestamp(quarter * QUARTER_MS / 1000, zone_named(timezone)).utcoffset()
    return int(ahead.total_seconds()) if ahead is not None else 0
