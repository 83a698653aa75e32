"""An event's only row, stored in the event's own (SQL): a c2c message costs one row, not two.

A row is stored in its event when both are written at once, and the row is final. A later change for
the same recipient first moves the row to `ledger`. All readers use the view `ledger_all`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress, repeat
from typing import Any, Final

import psycopg

from common.ledger_records import EventColumns, EventRecord, RowColumns, RowRecord
from common.storage.ledger_copy import WITHOUT_RECEIPTS, day_name, own_column_lines
from common.storage.tables import events, ledger

#: A row decided this long after its event's own time is stored in `ledger`: each table's old days
#: are dropped by the time of their writes, and an event has only its time of arrival.
APART_MS: Final = 3_600_000

#: An event: (app, id).
_Name = tuple[str, str]
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
    events: Sequence[EventRecord],
    rows: Sequence[RowRecord],
    early: AbstractSet[_Name] = frozenset(),
) -> list[tuple[EventRecord, RowRecord]]:
    """The events whose row can be stored in them, with it.

    It is the only one among these, final, of a lane without receipts. early: events of which a row
    may stand in `ledger` already.
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
        and not (early and (event.app, event.event_id) in early)
    ]


def met_in_columns(
    events: Sequence[EventColumns],
    rows: Sequence[RowColumns],
    others: Sequence[RowRecord],
    known: Sequence[AbstractSet[int]],
    early: AbstractSet[_Name] = frozenset(),
) -> tuple[str, list[EventRecord], list[RowRecord]]:
    """As `met`, of columns: the lines of what belongs together, single records of all else.

    others: further rows of the same write. known: sets with the `row_key` of rows that are not new.
    """
    several = _of_several_rows(rows, others)
    several = several | early if early else several
    known = [keys for keys in known if keys]
    firsts = {(one.app, one.event_ids[0]): one for one in events if one.event_ids}
    lines, apart, met_whole = list[str](), list[RowColumns](), set[int]()
    for block in rows:  # as a rule delivery ends an entry as intake has written it
        mine = firsts.get((block.app, block.event_ids[0])) if block.event_ids else None
        whole = mine is not None and mine.event_ids == block.event_ids
        text = _lines_of(block, mine, several, known) if whole and mine is not None else None
        if text is None:
            apart.append(block)
        else:
            lines.append(text)
            met_whole.add(id(mine))
    left = [one for one in events if id(one) not in met_whole]
    more, events_left, rows_left = _met_in_part(left, apart, several, known)
    return "".join(lines + more), events_left, rows_left


def _lines_of(
    rows: RowColumns,
    events: EventColumns,
    several: AbstractSet[_Name],
    known: Sequence[AbstractSet[int]],
) -> str | None:
    """The lines of these rows, each of the event at its place. None: not all may stand in them, or
    they are no lines of one kind.
    """
    fits = _may_stand_in(rows, events.times_ms, several, known)
    return own_column_lines(rows, events) if all(fits) else None


def _met_in_part(
    events: Sequence[EventColumns],
    rows: Sequence[RowColumns],
    several: AbstractSet[_Name],
    known: Sequence[AbstractSet[int]],
) -> tuple[list[str], list[EventRecord], list[RowRecord]]:
    """As `met_in_columns` for columns that are not those of each other as a whole."""
    about: dict[_Name, tuple[str, int, int, str, str]] = {}
    for one in events if rows else ():
        columns = (one.times_ms, one.received_ms, one.message_ids, one.conversations)
        about.update(zip(_names(one), zip(repeat(one.type), *columns, strict=False), strict=True))
    lines, rest = list[str](), list[RowRecord]()
    for block in rows:
        found = list(map(about.get, names := _names(block)))
        times = [None if one is None else one[1] for one in found]
        fits = _may_stand_in(block, times, several, known)
        chosen = [one for one, fit in zip(found, fits, strict=True) if one is not None and fit]
        whole, text = block.part(fits), None
        if len({kind for kind, *_ in chosen}) == 1:
            kinds, *told = map(list, zip(*chosen, strict=True))
            names_of = ("times_ms", "received_ms", "message_ids", "conversations")
            mine = EventColumns(
                app=block.app,
                type=str(kinds[0]),
                event_ids=whole.event_ids,
                **dict(zip(names_of, told, strict=True)),
            )
            text = own_column_lines(whole, mine)
        if text is None:
            rest += block.singly()
            continue
        lines.append(text)
        rest += block.part([not fit for fit in fits]).singly()
        for name in compress(names, fits):
            del about[name]
    left = [
        record
        for one in events
        for record in (one.part([name in about for name in _names(one)]) if rows else one).singly()
    ]
    return lines, left, rest


def _names(block: EventColumns | RowColumns) -> list[_Name]:
    return [*zip(repeat(block.app), block.event_ids, strict=False)]


def _of_several_rows(
    blocks: Sequence[RowColumns], others: Sequence[RowRecord]
) -> AbstractSet[_Name]:
    """The events that have more than one row among these."""
    numbers = Counter([(row.app, row.event_id) for row in others])
    for block in blocks:
        numbers.update(_names(block))
    several = len(numbers) < numbers.total()
    return {name for name, number in numbers.items() if number > 1} if several else set()


def _may_stand_in(
    rows: RowColumns,
    times_ms: Sequence[int | None],
    several: AbstractSet[_Name],
    known: Sequence[AbstractSet[int]],
) -> list[bool]:
    """By row whether it may stand in its event. times_ms: of the event; None: it is not there."""
    if rows.vendor in WITHOUT_RECEIPTS:
        fits = [
            own_ms == ts_ms and rows.decided_ms - ts_ms < APART_MS
            for own_ms, ts_ms in zip(times_ms, rows.times_ms, strict=True)
        ]
    else:
        fits = [False] * len(times_ms)
    if several:
        both = zip(fits, _names(rows), strict=True)
        fits = [fit and name not in several for fit, name in both]
    for keys in known:
        named = zip(repeat(rows.app), rows.event_ids, rows.users, rows.devices, strict=False)
        fits = [fit and hash(one) not in keys for fit, one in zip(fits, named, strict=False)]
    return fits


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
