"""Counts by minute and hour (SQL), made of the ledger once a minute.

Events, decisions with their latency, receipts. A minute is counted when it is over and its rows are
written; one with waiting rows is counted again. People in pages are counted as EventRows.counts
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, text

MINUTE_MS: Final = 60_000
#: Upper bounds of the latency slots 1, 2, …, ms from the event's arrival to the vendor's yes; the
#: last slot is open.
SLOTS: Final = (100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)
#: Minutes that one call counts, and how far back the first call begins.
CHUNK_MIN: Final = 60
FIRST_MIN: Final = 1_440
#: A row is written this long after its time at most, while the ledger's stream has no backlog.
SETTLE_MS: Final = 20_000
#: Minutes are kept this long, then hours of them.
MINUTES_KEPT_MIN: Final = 26 * 60
GROUPS: Final = ("app", "vendor", "business_id", "class", "name")
_COLUMNS: Final = 'span, at_min, kind, app, vendor, business_id, "class", name, slot, count'
_KEY: Final = 'span, at_min, kind, app, vendor, business_id, "class", name, slot'

_EVENTS = f"""
INSERT INTO tallies ({_COLUMNS}) SELECT 1, received_ms / 60000, 'event', app, '', '', '', type, 0, count(*) FROM events
 WHERE day >= :day AND received_ms >= :since AND received_ms < :until GROUP BY 2, app, type"""  # noqa: E501
_PUSHES = f"""
INSERT INTO tallies ({_COLUMNS})
SELECT 1, minute, 'push', app, vendor, business_id, class, decision, slot, sum(count) FROM (
 SELECT l.decided_ms / 60000 AS minute, l.app, l.vendor, l.business_id, l.class, l.decision,
  CASE WHEN l.decision <> 'accepted' OR e.received_ms IS NULL THEN 0
   ELSE width_bucket(l.decided_ms - e.received_ms, CAST(:slots AS bigint[])) + 1 END AS slot, count(*) AS count
 FROM ledger_all AS l LEFT JOIN events AS e ON l.decision = 'accepted' AND (e.day, e.app, e.event_id) = (l.day, l.app, l.event_id)
 WHERE l.day >= :day AND l.decided_ms >= :since AND l.decided_ms < :until AND l.decision IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7
 UNION ALL
 SELECT decided_ms / 60000, app, '', '', class, decision, 0, sum(count) FROM pages
 WHERE day >= :day AND decided_ms >= :since AND decided_ms < :until GROUP BY 1, 2, 5, 6
) AS found GROUP BY minute, app, vendor, business_id, class, decision, slot"""  # noqa: E501
_RECEIPTS = f"""
INSERT INTO tallies ({_COLUMNS})
SELECT 1, n.at_ms / 60000, 'receipt', n.app, coalesce(l.vendor, ''), coalesce(l.business_id, ''), coalesce(l.class, ''), left(n.note, 32),
 0, count(*) FROM notes AS n LEFT JOIN ledger AS l USING (day, app, event_id, "user", device)
 WHERE n.day >= :receipt_day AND n.kind = 'receipt' AND n.at_ms >= :since AND n.at_ms < :until GROUP BY 2, 4, 5, 6, 7, 8"""  # noqa: E501
_FOLD = f"""
WITH old AS (DELETE FROM tallies WHERE span = 1 AND at_min < :edge RETURNING *)
INSERT INTO tallies ({_COLUMNS}) SELECT 60, at_min / 60 * 60, kind, app, vendor, business_id, "class", name, slot, sum(count)
 FROM old WHERE kind <> 'backlog' GROUP BY 2, 3, 4, 5, 6, 7, 8, 9
ON CONFLICT ({_KEY}) DO UPDATE SET count = tallies.count + excluded.count"""  # noqa: E501
_SAMPLE = f"""
INSERT INTO tallies ({_COLUMNS}) SELECT 1, :minute, 'backlog', '', '', '', '', name, 0, count
 FROM unnest(CAST(:names AS text[]), CAST(:counts AS bigint[])) AS found (name, count)
ON CONFLICT ({_KEY}) DO UPDATE SET count = excluded.count"""
_NOTHING_YET = text(
    "SELECT NOT (EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM ledger_all)"
    " OR EXISTS (SELECT 1 FROM pages) OR EXISTS (SELECT 1 FROM notes))"
)
_MARK = f"""
INSERT INTO tallies ({_COLUMNS}) VALUES (0, 0, 'mark', '', '', '', '', '', 0, :done)
ON CONFLICT ({_KEY}) DO UPDATE SET count = excluded.count"""


class Tallies:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def count(self, now_ms: int, unwritten_ms: int | None) -> bool:
        """Counts what is due, in one transaction; True when there is more.

        unwritten_ms: time of the oldest entry that waits for the ledger. Two callers at once wait
        for each other.
        """
        end = (now_ms - SETTLE_MS) // MINUTE_MS
        with self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(1886741608)"))
            mark = connection.execute(text("SELECT count FROM tallies WHERE span = 0")).scalar()
            start = max(int(mark), end - FIRST_MIN) if mark is not None else end - FIRST_MIN
            if mark is None and unwritten_ms is None and connection.execute(_NOTHING_YET).scalar():
                start = end - 1
            until = min(end, start + CHUNK_MIN)
            if start >= until:
                return False
            _count_minutes(connection, start, until)
            done = (
                until
                if unwritten_ms is None
                else min(until, (unwritten_ms - MINUTE_MS) // MINUTE_MS)
            )
            connection.execute(text(_MARK), {"done": max(done, start)})
        return done == until < end

    def sample(self, now_ms: int, backlog: Mapping[str, int]) -> None:
        """Keeps the entries of each queue as those of this minute."""
        counts = {name[:32]: count for name, count in backlog.items()}
        if counts:
            row: dict[str, Any] = {"minute": now_ms // MINUTE_MS}
            row |= {"names": list(counts), "counts": list(counts.values())}
            with self._engine.begin() as connection:
                connection.execute(text(_SAMPLE), row)

    def counted_ms(self) -> int | None:
        """Up to here all is counted; None: nothing yet."""
        with self._engine.connect() as connection:
            mark = connection.execute(text("SELECT count FROM tallies WHERE span = 0")).scalar()
        return None if mark is None else int(mark) * MINUTE_MS

    def fold(self, now_ms: int, days: int) -> None:
        """Merges old minutes into hours; deletes hours older than `days`."""
        edge = now_ms // MINUTE_MS - MINUTES_KEPT_MIN
        with self._engine.begin() as connection:
            connection.execute(text(_FOLD), {"edge": edge // 60 * 60})
            oldest = now_ms // MINUTE_MS - days * 1_440
            connection.execute(
                text("DELETE FROM tallies WHERE span = 60 AND at_min < :oldest"), {"oldest": oldest}
            )

    def read(
        self,
        kind: str,
        since_ms: int,
        until_ms: int,
        by: Sequence[str],
        *,
        step_min: int = 0,
        slots: bool = False,
        where: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows {at_ms, <each of by>, slot, count}: sums by column and step of step_min minutes.

        For a backlog: the largest of the step. by: of GROUPS. where: column of GROUPS -> value.
        Raises ValueError for another name.
        """
        if not {*by, *(where or ())} <= set(GROUPS):
            raise ValueError("a column that there is not")
        columns = [f'"{name}"' for name in by] + (["slot"] if slots else [])
        step = f"at_min / {int(step_min)} * {int(step_min)} AS step" if step_min else "0 AS step"
        narrowed = "".join(f' AND "{name}" = :w_{name}' for name in where or ())
        statement = (
            f"SELECT {', '.join([step, *columns])}, "
            f"{'max' if kind == 'backlog' else 'sum'}(count) AS count FROM tallies"
        )
        statement += (
            " WHERE span IN (1, 60) AND kind = :kind AND at_min >= :since AND at_min < "
            f":until{narrowed}"
        )
        numbers = ", ".join(str(number) for number in range(1, len(columns) + 2))
        statement += f" GROUP BY {numbers} ORDER BY {numbers}"
        values = {"kind": kind, "since": since_ms // MINUTE_MS, "until": -(-until_ms // MINUTE_MS)}
        values |= {f"w_{name}": value for name, value in (where or {}).items()}
        with self._engine.connect() as connection:
            rows = connection.execute(text(statement), values).mappings()
            names = (*by, "slot") if slots else tuple(by)
            return [
                {
                    "at_ms": row["step"] * MINUTE_MS,
                    **{name: row[name] for name in names},
                    "count": int(row["count"]),
                }
                for row in rows
            ]


def _count_minutes(connection: Any, start: int, until: int) -> None:
    connection.execute(
        text(
            "DELETE FROM tallies WHERE span = 1 AND kind <> 'backlog' AND at_min >= :start "
            "AND at_min < :until"
        ),
        {"start": start, "until": until},
    )
    first = datetime.fromtimestamp(start * 60, UTC).date()
    # as the console's other counts: what is more than a day behind its event is too rare to read
    # old days for
    values = {
        "day": first - timedelta(days=1),
        "receipt_day": first - timedelta(days=3),
        "slots": list(SLOTS),
    }
    for statement in (_EVENTS, _PUSHES, _RECEIPTS):
        connection.execute(
            text(statement), {**values, "since": start * MINUTE_MS, "until": until * MINUTE_MS}
        )


def percentile(slots: Mapping[int, int], share: float) -> int | None:
    """The latency, ms, within which this share of the pushes was accepted; slot -> count. Within a
    slot evenly spread.
    """
    known = {slot: count for slot, count in slots.items() if slot > 0 and count}
    total, seen = sum(known.values()), 0
    for slot in sorted(known):
        if seen + known[slot] >= share * total:
            low = 0 if slot == 1 else SLOTS[slot - 2]
            high = SLOTS[slot - 1] if slot <= len(SLOTS) else low * 2
            return round(low + (high - low) * max(share * total - seen, 0) / known[slot])
        seen += known[slot]
    return None
