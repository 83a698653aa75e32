"""An event's only row, stored in the event's own (SQL): a c2c message costs one row, not two.

A row is stored in its event when both are written at once, and the row is final. A later change for
the same recipient first moves the row to `ledger`. All readers use the view `ledger_all`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import Any, Final

import psycopg

from common.ledger_records import EventColumns, EventRecord, RowColumns, RowRecord
from common.storage.ledger_copy import (
    WITHOUT_RECEIPTS,
    EventValues,
    day_name,
    own_column_lines,
)
from common.storage.tables import events, ledger

#: A row decided this long after its event's own time is stored in `ledger`: each table's old days
#: are dropped by the time of their writes, and an event has only its time of arrival.
APART_MS: Final = 3_600_000

_SHARED: Final = ("day", "app", "event_id")
_KEPT: Final = tuple(
    one.name.removeprefix("row_") for one in events.columns if one.name.startswith("row_")
)
_NAMES: Final = ", ".join((*_SHARED, *(f'"{name}"' for name in _KEPT)))
_OWN: Final = ", ".join((*(f"e.{name}" for name in _SHARED), *(f"e.row_{name}" for name in _KEPT)))
_EMPTY: Final = ", ".join(f"row_{name} = NULL" for name in _KEPT)
_WANTED: Final = "unnest(%s::date[], %s::text[], %s::text[]) AS wanted (day, app, event_id)"
_FOUND: Final = (
    f"SELECT EXISTS (SELECT FROM {_WANTED} JOIN events AS e USING (day, app, event_id) WHERE "
    "e.row_user IS NOT NULL)"
)
_TAKE_OUT: Final = f"""
WITH wanted AS (SELECT DISTINCT day, app, event_id FROM {_WANTED}),
 moved AS (INSERT INTO ledger ({_NAMES}) SELECT {_OWN} FROM events AS e JOIN wanted USING (day, app, event_id)
  WHERE e.row_user IS NOT NULL ON CONFLICT DO NOTHING)
UPDATE events AS e SET {_EMPTY} FROM wanted
 WHERE (e.day, e.app, e.event_id) = (wanted.day, wanted.app, wanted.event_id) AND e.row_user IS NOT NULL"""  # noqa: E501

#: Takes the rows of one person out for good.
FORGET: Final = f"UPDATE events SET {_EMPTY} WHERE app = :app AND row_user = :user"

#: The view's statement. The condition is outside, so that the planner uses the indexes of both
#: tables.
VIEW: Final = (
    "CREATE OR REPLACE VIEW ledger_all AS SELECT * FROM (SELECT "
    + ", ".join(f'"{name}"' for name in ledger.columns.keys())  # noqa: SIM118
    + " FROM ledger UNION ALL SELECT "
    + ", ".join(
        name if name in _SHARED else f"row_{name}" if name in _KEPT else "CAST('' AS VARCHAR(32))"
        for name in ledger.columns.keys()  # noqa: SIM118
    )
    + ' FROM events) AS found WHERE "user" IS NOT NULL'
)


def met(
    events: Sequence[EventRecord], rows: Sequence[RowRecord]
) -> list[tuple[EventRecord, RowRecord]]:
    """The events whose row can be stored in them, with it.

    It is the only one among these, final, of a lane without receipts.
    """
    single = {(row.app, row.event_id): row for row in rows}
    if len(single) < len(rows):
        numbers = Counter([(row.app, row.event_id) for row in rows])
        single = {key: row for key, row in single.items() if numbers[key] == 1}
    return [
        (event, only)
        for event in events
        if (only := single.get((event.app, event.event_id))) is not None
        and only.decision is not None
        and event.decision is None
        and only.vendor in WITHOUT_RECEIPTS
        and only.ts_ms == event.ts_ms
        and not event.filed_ms
        and only.decided_ms - event.ts_ms < APART_MS
    ]


def met_in_columns(
    events: Sequence[EventColumns],
    rows: Sequence[RowColumns],
    others: Sequence[RowRecord],
    known: Sequence[AbstractSet[int]],
) -> tuple[str, list[EventRecord], list[RowRecord]]:
    """As `met`: the lines of columns that belong together as a whole; single records of all else.

    others: further rows of the same write. known: sets with the `row_key` of rows that are not new.
    """
    about: dict[str, dict[str, EventValues]] = {}
    for one in events:
        values = zip(
            *(one.times_ms, one.received_ms, one.message_ids, one.conversations),
            repeat(one.type),
            strict=False,
        )
        about.setdefault(one.app, {}).update(zip(one.event_ids, values, strict=False))
    twice = _of_several_rows(rows, others)
    lines, rest = list[str](), list[RowRecord]()
    for block in rows:
        mine = about.get(block.app, {})
        found = list(map(mine.get, block.event_ids))
        alone = not twice or twice.isdisjoint(zip(repeat(block.app), block.event_ids))
        text = _own_lines(block, found, known) if alone else None
        if text is None:
            rest += block.singly()
        else:
            lines.append(text)
            deque(map(mine.pop, block.event_ids), 0)
    left = [
        record
        for one in events
        if (mine := about[one.app])
        for record in one.part([name in mine for name in one.event_ids]).singly()
    ]
    return "".join(lines), left, rest


def _of_several_rows(
    blocks: Sequence[RowColumns], others: Sequence[RowRecord]
) -> AbstractSet[tuple[str, str]]:
    """The events (app, id) that have more than one row among these."""
    numbers = Counter([(row.app, row.event_id) for row in others])
    for block in blocks:
        numbers.update(zip(repeat(block.app), block.event_ids))
    several = len(numbers) < numbers.total()
    return {name for name, number in numbers.items() if number > 1} if several else set()


def _own_lines(
    rows: RowColumns, events: Sequence[EventValues | None], known: Sequence[AbstractSet[int]]
) -> str | None:
    """None: some of these can't be stored in their events, or they do not share enough."""
    values = [one for one in events if one is not None]
    if (
        len(values) < len(events)
        or not values
        or rows.vendor not in WITHOUT_RECEIPTS
        or [ts_ms for ts_ms, *_ in values] != rows.times_ms
        or rows.decided_ms - min(rows.times_ms) >= APART_MS
    ):
        return None
    named = zip(repeat(rows.app), rows.event_ids, rows.users, rows.devices)
    if any(known):
        keys = set(map(hash, named))
        if not all(one.isdisjoint(keys) for one in known):
            return None
    return own_column_lines(rows, values)


def row_key(row: RowRecord) -> int:
    """Of the row's place in the ledger."""
    return hash((row.app, row.event_id, row.user, row.device))


def stand_in_events(cursor: psycopg.Cursor[Any], rows: Iterable[RowRecord]) -> bool:
    """True when the event of one of these rows holds a row already."""
    wanted = _keys(rows)
    found = cursor.execute(_FOUND, wanted).fetchone() if wanted[0] else None
    return bool(found and found[0])


def take_out(cursor: psycopg.Cursor[Any], records: Iterable[RowRecord | EventRecord]) -> None:
    """Moves the rows held by these records' events to `ledger`, to be merged there."""
    wanted = _keys(records)
    if wanted[0]:
        cursor.execute(_TAKE_OUT, wanted)


def _keys(records: Iterable[RowRecord | EventRecord]) -> tuple[list[str], list[str], list[str]]:
    found = dict.fromkeys(
        (day_name(_filed_ms(one)), one.app, one.event_id.replace("\0", "\\0")) for one in records
    )
    return (
        [day for day, *_ in found],
        [app for _, app, _ in found],
        [event_id for *_, event_id in found],
    )


def _filed_ms(one: RowRecord | EventRecord) -> int:
    return one.filed_ms or one.ts_ms if isinstance(one, EventRecord) else one.ts_ms
