"""The overview's charts: the last hour by minutes, the last day by five minutes (SQL, tallies)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.model import PUSHED_EVENTS, Decision
from common.storage.tallies import MINUTE_MS, Tallies, percentile

#: ?span= -> (minutes in all, minutes of a step).
SPANS: Final = {"hour": (60, 1), "day": (1_440, 5)}
#: Decisions of people who were not away, or whom no push was wanted for.
NOT_AWAY: Final = frozenset(
    {
        *(Decision.PUSH_DISABLED, Decision.ONLINE_ONLY, Decision.NO_TEXT, Decision.EXPIRED),
        *(Decision.ONLINE, Decision.ONLINE_ELSEWHERE, Decision.SENDER),
    }
)


@dataclass(frozen=True, slots=True)
class Funnel:
    """The last day. stored: events; the others: recipients and devices. delivered, clicked: of
    vendors that send receipts.
    """

    stored: int
    recipients: int
    away: int
    accepted: int
    delivered: int
    clicked: int


def series(tallies: Tallies, span: str, now_ms: int) -> dict[str, Any]:
    """{x: [s], accepted: {vendor: [a second or null]}, p95: {vendor: [ms or null]}, backlog:
    {queue: [entries or null]}}.
    """
    minutes, step = SPANS[span]
    counted = (tallies.counted_ms() or 0) // MINUTE_MS
    end = -(-max(now_ms // MINUTE_MS, counted) // step) * step
    begins = list(range(end - minutes, end, step))
    place = {minute * MINUTE_MS: number for number, minute in enumerate(begins)}
    since, until = begins[0] * MINUTE_MS, end * MINUTE_MS
    slots: dict[str, dict[int, dict[int, int]]] = {}
    where = {"name": Decision.ACCEPTED}
    for row in tallies.read(
        "push", since, until, ["vendor"], step_min=step, slots=True, where=where
    ):
        at = slots.setdefault(row["vendor"], {}).setdefault(place[row["at_ms"]], {})
        at[row["slot"]] = row["count"]
    backlog: dict[str, list[int | None]] = {}
    for row in tallies.read("backlog", since, until, ["name"], step_min=step):
        backlog.setdefault(row["name"], [None] * len(begins))[place[row["at_ms"]]] = row["count"]
    every = range(len(begins))
    return {
        "x": [minute * 60 for minute in begins],
        "accepted": {
            v: [_rate(found.get(n), step) if begins[n] < counted else None for n in every]
            for v, found in slots.items()
        },
        "p95": {
            v: [percentile(found.get(n, {}), 0.95) for n in every] for v, found in slots.items()
        },
        "backlog": {name: values for name, values in backlog.items() if any(values)},
    }


def funnel(tallies: Tallies, now_ms: int) -> Funnel:
    """The funnel of the 24 hours before the last whole minute."""
    since = now_ms - 1_440 * MINUTE_MS
    events = _by_name(tallies, "event", since, now_ms)
    pushes = _by_name(tallies, "push", since, now_ms)
    receipts = _by_name(tallies, "receipt", since, now_ms)
    total = sum(pushes.values())
    away = total - sum(count for name, count in pushes.items() if name in NOT_AWAY)
    stored = sum(count for name, count in events.items() if name in PUSHED_EVENTS)
    accepted = pushes.get(Decision.ACCEPTED, 0)
    return Funnel(
        stored, total, away, accepted, receipts.get("delivered", 0), receipts.get("clicked", 0)
    )


def flows(tallies: Tallies, now_ms: int) -> dict[tuple[str, str, str], float]:
    """(app, vendor, business id) -> accepted pushes a minute, over the last ten counted minutes."""
    until = tallies.counted_ms() or 0
    if now_ms - until > 10 * MINUTE_MS:
        return {}
    where = {"name": Decision.ACCEPTED}
    rows = tallies.read(
        "push", until - 10 * MINUTE_MS, until, ["app", "vendor", "business_id"], where=where
    )
    return {(row["app"], row["vendor"], row["business_id"]): row["count"] / 10 for row in rows}


def _rate(slots: Mapping[int, int] | None, step_min: int) -> float:
    return round(sum((slots or {}).values()) / (step_min * 60), 3)


def _by_name(tallies: Tallies, kind: str, since_ms: int, until_ms: int) -> Mapping[str, int]:
    return {row["name"]: row["count"] for row in tallies.read(kind, since_ms, until_ms, ["name"])}
