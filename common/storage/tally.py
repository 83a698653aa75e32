"""Counts of the last hour for people to look at (SQL, from the ledger): events and decisions. Rounded by what is written already."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
#: Counting must not burden the database that the fleet writes to: what takes longer is not counted.
COUNT_MS_MAX = 2_500

_EVENTS = text(
    "SELECT count(*) AS hour, count(*) FILTER (WHERE received_ms > :minute) AS minute FROM events WHERE day >= :day AND received_ms > :hour"
)
_DECISIONS = text(
    "SELECT vendor, decision, count(*) AS count FROM ledger"
    " WHERE day >= :day AND decided_ms > :hour AND decision IS NOT NULL GROUP BY vendor, decision"
)


@dataclass(frozen=True, slots=True)
class LastHour:
    """decisions: vendor ("" where none came into play) -> decision -> rows."""

    events_hour: int
    events_minute: int
    decisions: dict[str, dict[str, int]]


def last_hour(engine: Engine, now_ms: int) -> LastHour:
    """sqlalchemy.exc.OperationalError when the count would take longer than COUNT_MS_MAX."""
    # a push lives a week at most, but what is more than a day behind its event is too rare to read old days for
    day = datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=1)
    values = {"day": day, "hour": now_ms - HOUR_MS, "minute": now_ms - MINUTE_MS}
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL statement_timeout = {COUNT_MS_MAX}"))
        events = connection.execute(_EVENTS, values).one()
        decisions: dict[str, dict[str, int]] = {}
        for vendor, decision, count in connection.execute(_DECISIONS, values):
            decisions.setdefault(vendor, {})[decision] = int(count)
    return LastHour(int(events.hour), int(events.minute), decisions)
