"""The ledger: what became of every recipient. Records travel on the stream `ledger` (Redis,
bounded) into SQL, kept by the day.

One row per (day, app, event, user, device): a record that is repeated, or that comes late, changes
nothing that ranks higher.
Reading: ledger_reads.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from sqlalchemy import Engine, Table, text
from sqlalchemy.exc import IntegrityError

from common.clock import day_of
from common.ledger_records import (
    STREAM_MAX,
    DeadRecord,
    EventColumns,
    EventRecord,
    NoteRecord,
    PageRecord,
    Record,
    RowColumns,
    RowRecord,
    singly,
)
from common.storage import ledger_own as own
from common.storage import sql
from common.storage.early_rows import EarlyRows
from common.storage.ledger_copy import (
    EVENT_COLUMNS,
    NOTE_COLUMNS,
    NULL,
    OWN_COLUMNS,
    ROW_COLUMNS,
    event_line,
    note_line,
    own_lines,
    row_line,
)
from common.storage.ledger_reads import ROWS_MAX, LastHour, LedgerReader
from common.storage.tables import PARTITIONED, dead_letters, events, ledger, notes, pages

__all__ = ["ROWS_MAX", "STREAM_MAX", "LastHour", "Ledger", "day_of"]

#: Days that have a partition of their own, until today; all before share one.
OWN_DAYS = 30
#: Non-final rows that are remembered, so that their next state is merged, not tried as a new row.
PENDING_MAX = 100_000
#: First key of the writers' advisory lock; the second is the fence's.
FENCE_CLASS = 1886745449
#: Seconds to wait until the transaction of the writer before has ended, and between two looks.
FENCE_S, FENCE_LOOK_S = 2.0, 0.05

#: The column with the time of a row's write, ms, of each partitioned table.
_WRITTEN = {
    events.name: "received_ms",
    ledger.name: "decided_ms",
    pages.name: "decided_ms",
    notes.name: "at_ms",
}
_KEY = 'day, app, event_id, "user", device'
_UPDATED = [name for name in ROW_COLUMNS.split(", ") if name not in _KEY.split(", ")]
_MERGE_ROWS = (
    f"INSERT INTO ledger ({ROW_COLUMNS}) SELECT DISTINCT ON ({_KEY}) {ROW_COLUMNS} FROM "
    "incoming_rows_3"
    f" ORDER BY {_KEY}, rank DESC, decided_ms ON CONFLICT ({_KEY}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _UPDATED)
    + " WHERE excluded.rank > ledger.rank"
)
_MERGE_EVENTS = (
    f"INSERT INTO events ({EVENT_COLUMNS}) SELECT DISTINCT ON (day, app, event_id) "
    f"{EVENT_COLUMNS} FROM incoming_events_3"
    " ORDER BY day, app, event_id, decision NULLS LAST ON CONFLICT (day, app, event_id) DO UPDATE"
    " SET decision = excluded.decision, note = excluded.note WHERE events.decision IS NULL "
    "AND excluded.decision IS NOT NULL"
)
_MERGE_NOTES = (
    f"INSERT INTO notes ({NOTE_COLUMNS}) SELECT {NOTE_COLUMNS} FROM incoming_notes_3 ON CONFLICT "
    "DO NOTHING"
)
_ADD_PAGE = (
    f"INSERT INTO {pages.name} (day, app, event_id, page, decision, class, presence_ms, "
    "decided_ms, note, count, users)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
#: The transaction that holds the lock, and its end. The rights for it are the holder's own.
_HELD = (
    "FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND classid = %s AND objid = %s AND objsubid = 2 AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HOLDER: LiteralString = f"SELECT virtualtransaction {_HELD}"
_END_HOLDER: LiteralString = f"SELECT pg_terminate_backend(pid) {_HELD} AND virtualtransaction = %s"


@dataclass(frozen=True, slots=True)
class Fence:
    """Keeps the transactions of a role's writers apart, whatever stood still for how long.

    key: the role's, 31 bits: the lock in PostgreSQL that each transaction holds. may: whether this
    writer has the role, for a second at least; it ends the transaction of a writer before.
    """

    key: int
    may: Callable[[], bool]


class Ledger(LedgerReader):
    """Writes batches of records, one transaction each, in one thread; reads as LedgerReader."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._days: set[date] = set()
        self._pending: dict[int, None] = {}
        self._early = EarlyRows()

    def write(
        self, records: Iterable[Record], again: bool = False, fence: Fence | None = None
    ) -> None:
        """Writes all of the records or none; records written before are absorbed.

        Raises DataError when one can never be stored. again: some may exist already; without the
        hint the work is done twice. fence: raises NotTheWriterError where another process may write
        by now.
        """
        given = list(records)
        by_type: dict[type, list[Any]] = {
            kind: [record for record in given if type(record) is kind]
            for kind in set(map(type, given))
        }
        days = _days_of(by_type)
        self._ensure_days(days)
        batch = _Batch(by_type, self._pending, self._early.events)
        self._early.begin(batch.outside, batch.alone)
        try:
            self._store(batch, again, fence)
        except (
            psycopg.errors.CheckViolation
        ):  # a day that this process made was dropped since, by it or another one
            self._days -= days
            self._ensure_days(days)
            self._store(batch, again, fence)
        self._remember(batch.rows)
        self._early.written(batch.alone)

    def _store(self, batch: _Batch, again: bool, fence: Fence | None) -> None:
        """Inserts new rows directly; merges the whole batch when one of them is not new."""
        if not again:
            try:
                return self._once(batch, fence, merge=False)
            except (psycopg.errors.UniqueViolation, _StandsThereError):
                pass
        return self._once(batch, fence, merge=True)

    def _once(self, batch: _Batch, fence: Fence | None, *, merge: bool) -> None:
        with self._engine.begin() as connection:
            raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
            with raw.cursor() as cursor:
                if fence is not None:
                    _pass(cursor, fence)
                try:
                    batch.write(cursor, merge)
                except sql.ROW_ERRORS as error:
                    raise psycopg.DataError(type(error).__name__) from error
            if fence is not None and not fence.may():
                raise NotTheWriterError

    def _remember(self, rows: Iterable[RowRecord]) -> None:
        for row in rows:
            if row.decision is None:
                self._pending[own.row_key(row)] = None
            elif self._pending:
                self._pending.pop(own.row_key(row), None)
        while len(self._pending) > PENDING_MAX:
            del self._pending[next(iter(self._pending))]

    def _ensure_days(self, days: set[date]) -> None:
        """Makes the days' missing partitions, one transaction per table.

        Existing ones are left alone, so that no reader is locked out twice. A day of long ago gets
        none: history of ten years must not make ten thousand tables.
        """
        long_ago = datetime.now(UTC).date() - timedelta(days=OWN_DAYS)
        for day in sorted(days - self._days):
            until = day + timedelta(days=1)
            for table in PARTITIONED:
                name, bounds = (
                    f"{table.name}_{day:%Y%m%d}",
                    f"FOR VALUES FROM ('{day}') TO ('{until}')",
                )
                if day < long_ago:
                    name, bounds = _rest(table), "DEFAULT"
                # by another clock it was long ago already: its rows are with the rest
                with contextlib.suppress(IntegrityError):
                    self._ensure(table.name, name, bounds)
            self._days.add(day)

    def _ensure(self, table: str, name: str, bounds: str) -> None:
        with self._engine.begin() as connection:
            if (
                connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar()
                is None
            ):
                connection.execute(text("SELECT pg_advisory_xact_lock(1886745448)"))
                connection.execute(
                    text(f'CREATE TABLE IF NOT EXISTS "{name}" PARTITION OF {table} {bounds}')
                )

    def ready_for(self, day: date) -> None:
        """Makes a day's partitions before its first row comes."""
        self._ensure_days({day})

    def drop_old(self, before: date) -> list[str]:
        """Drops partitions before `before` that had no write since then; returns their names.

        A day is that of the events' own time: what a core fills in today with times of last year is
        kept as long as today's.
        """
        dropped = []
        query = text(
            "SELECT parent, inhrelid::regclass::text FROM pg_inherits "
            "JOIN unnest(CAST(:parents AS text[])) AS parent "
            "ON inhparent = CAST(parent AS regclass)"
        )
        with self._engine.connect() as connection:
            parents = {"parents": [table.name for table in PARTITIONED]}
            found = connection.execute(query, parents).all()
        for table in PARTITIONED:
            names = [name for parent, name in found if parent == table.name]
            old = [
                name for name in names if name.strip('"').rsplit("_", 1)[-1] < f"{before:%Y%m%d}"
            ]
            dropped += [name.strip('"') for name in old if self._drop(table.name, name, before)]
            if _rest(table) in names:
                with self._engine.begin() as connection:
                    statement = text(
                        f"DELETE FROM {_rest(table)} WHERE {_WRITTEN[table.name]} < :since"
                    )
                    connection.execute(statement, {"since": _midnight_ms(before)})
        self._days = {day for day in self._days if day >= before}
        return dropped

    def drop_over(self, bytes_max: int, today: date) -> list[str]:
        """Drops the oldest days, never today's, down to `bytes_max`; returns their partitions."""
        sizes = self._sizes()
        days = sorted({name.strip('"').rsplit("_", 1)[-1] for name in sizes})
        total, dropped = sum(size for _, size in sizes.values()), list[str]()
        for day in days:
            if total <= bytes_max or not day.isdecimal() or day >= f"{today:%Y%m%d}":
                break
            for name in [one for one in sizes if one.strip('"').endswith(f"_{day}")]:
                table, size = sizes[name]
                self._drop_now(table, name)
                total -= size
                dropped.append(name.strip('"'))
        dropped_days = {name.rsplit("_", 1)[-1] for name in dropped}
        self._days = {day for day in self._days if f"{day:%Y%m%d}" not in dropped_days}
        return dropped

    def _sizes(self) -> dict[str, tuple[str, int]]:
        """Partition -> (its table, bytes with indexes)."""
        query = text(
            "SELECT inhrelid::regclass::text, pg_total_relation_size(inhrelid) FROM "
            "pg_inherits WHERE inhparent = CAST(:parent AS regclass)"
        )
        with self._engine.connect() as connection:
            found = [
                (table.name, connection.execute(query, {"parent": table.name}).all())
                for table in PARTITIONED
            ]
        return {name: (table, int(size)) for table, rows in found for name, size in rows}

    def _drop_now(self, table: str, name: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))

    def _drop(self, table: str, name: str, before: date) -> bool:
        """Drops one partition, unless it has a younger row; checked again under the lock."""
        since_ms = _midnight_ms(before)
        young = text(f"SELECT EXISTS (SELECT FROM {name} WHERE {_WRITTEN[table]} >= :since)")
        with self._engine.begin() as connection:
            if connection.execute(young, {"since": since_ms}).scalar():
                return False
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            if connection.execute(young, {"since": since_ms}).scalar():
                return False
            connection.execute(text(f"DROP TABLE {name}"))
            return True


_DAY_MS = 86_400_000


def _days_of(by_type: dict[type, list[Any]]) -> set[date]:
    stamps = {
        r.ts_ms // _DAY_MS
        for kind in (RowRecord, PageRecord, NoteRecord)
        for r in by_type.get(kind, ())
    }
    stamps |= {(r.filed_ms or r.ts_ms) // _DAY_MS for r in by_type.get(EventRecord, ())}
    for kind in (EventColumns, RowColumns):
        for block in by_type.get(kind, ()):
            stamps |= {ts_ms // _DAY_MS for ts_ms in block.times_ms}
    return {day_of(stamp * _DAY_MS) for stamp in stamps}


class NotTheWriterError(TimeoutError):
    """This writer stood still, or the one before does: neither sees what the other commits."""


def _pass(cursor: psycopg.Cursor[Any], fence: Fence) -> None:
    """Takes the fence's lock until the transaction ends.

    A writer before may stand still anywhere in its own, even at its commit: that is ended on the
    server, so that it is seen whole or never. Only who held the lock while this writer still had
    the role is ended: a later holder is the writer after this one.
    """
    lock, until = (FENCE_CLASS, fence.key), time.monotonic() + FENCE_S
    while not _one(cursor, "SELECT pg_try_advisory_xact_lock(%s, %s)", lock):
        holder = _one(cursor, _HOLDER, lock)
        if time.monotonic() > until or not fence.may():
            raise NotTheWriterError
        if holder is not None:
            cursor.execute(_END_HOLDER, (*lock, holder))
        time.sleep(FENCE_LOOK_S)


def _one(cursor: psycopg.Cursor[Any], statement: LiteralString, values: tuple[int, int]) -> Any:
    row = cursor.execute(statement, values).fetchone()
    return row[0] if row else None


class _StandsThereError(Exception):
    """A row that was taken for new has an event that holds a row already."""


class _Batch:
    """The lines of one transaction, made once. pending: keys of rows that were written and are not
    final. rows: all but those that came in columns and stand in their events. early: EarlyRows.
    outside, alone: rows that go to `ledger`, and events without a row in them.
    """

    def __init__(
        self,
        by_type: dict[type, list[Any]],
        pending: dict[int, None],
        early: AbstractSet[tuple[str, str]],
    ) -> None:
        events: list[EventRecord] = by_type.get(EventRecord, [])
        rows: list[RowRecord] = by_type.get(RowRecord, [])
        waiting = {own.row_key(row) for row in rows if row.decision is None}
        blocks = by_type.get(EventColumns, []), by_type.get(RowColumns, [])
        self._given: tuple[Sequence[Record], ...] = [*events, *blocks[0]], [*rows, *blocks[1]]
        usual, left, rest = own.met_in_columns(*blocks, rows, (waiting, pending.keys()), early)
        events, rows = events + left, rows + rest
        pairs = own.met(events, rows, early) if events and rows else []
        new, known = rows, list[RowRecord]()
        if waiting or pending:
            known = [
                row
                for row in rows
                if row.decision is None or (key := own.row_key(row)) in pending or key in waiting
            ]
            held = set(map(id, known))
            new = [row for row in rows if id(row) not in held]
            pairs = [pair for pair in pairs if id(pair[1]) not in held]
        self.rows, self._own = rows, usual + own_lines(pairs)
        self._lone, apart = new, events
        if len(pairs) == len(events) == len(rows):  # as a rule: then nothing is left to look for
            self._lone, apart = [], []
        elif pairs:
            met_events, met_rows = ({id(pair[side]) for pair in pairs} for side in (0, 1))
            self._lone = [row for row in new if id(row) not in met_rows]
            apart = [event for event in events if id(event) not in met_events]
        self._new = "".join(map(row_line, self._lone))
        self.outside, self.alone, self._merged = [*self._lone, *known], apart, known
        self._events = "".join(map(event_line, apart))
        written: list[NoteRecord] = by_type.get(NoteRecord, [])
        self._steps = "".join([note_line(note) for note in written if note.kind != "receipt"])
        self._receipts = "".join([note_line(note) for note in written if note.kind == "receipt"])
        self._pages = [_page(page) for page in by_type.get(PageRecord, ())]
        self._dead: list[DeadRecord] = by_type.get(DeadRecord, [])

    def write(self, cursor: psycopg.Cursor[Any], merge: bool) -> None:
        """merge: each line may exist already.

        Raises _StandsThereError: the batch must be merged.
        """
        _copy(cursor, notes.name, NOTE_COLUMNS, self._steps)
        _merge(cursor, notes.name, NOTE_COLUMNS, self._receipts, _MERGE_NOTES)
        if merge:
            told: Any
            rows: Any
            told, rows = map(singly, self._given)
            lines = "".join(map(event_line, told))
            _merge(cursor, events.name, EVENT_COLUMNS, lines, _MERGE_EVENTS)
            own.take_out(cursor, [*told, *rows])
            lines = "".join(map(row_line, rows))
            _merge(cursor, ledger.name, ROW_COLUMNS, lines, _MERGE_ROWS)
        else:
            self._add(cursor)
        if self._pages:
            cursor.executemany(_ADD_PAGE, self._pages)
        _write_dead(cursor, self._dead)

    def _add(self, cursor: psycopg.Cursor[Any]) -> None:
        """Inserts what is new; merges only rows that were not final."""
        if own.stand_in_events(cursor, [*self._lone, *self._merged]):
            raise _StandsThereError
        _copy(cursor, events.name, EVENT_COLUMNS, self._events)
        _copy(cursor, events.name, OWN_COLUMNS, self._own)
        _copy(cursor, ledger.name, ROW_COLUMNS, self._new)
        known = "".join(map(row_line, self._merged))
        _merge(cursor, ledger.name, ROW_COLUMNS, known, _MERGE_ROWS)


def _page(page: PageRecord) -> tuple[Any, ...]:
    digest = hashlib.blake2b(page.decision.encode() + b"\0" + page.users, digest_size=16).digest()
    note = page.note.replace("\0", "\\0")
    shown = (page.decision, page.message_class, page.presence_ms, page.decided_ms, note)
    return (day_of(page.ts_ms), page.app, page.event_id, digest, *shown, page.count, page.users)


def _copy(cursor: psycopg.Cursor[Any], table: str, columns: str, lines: str) -> None:
    if lines:
        with cursor.copy(
            f"COPY {table} ({columns}) FROM STDIN WITH (NULL E'\\x{ord(NULL):02x}')"
        ) as copy:
            copy.write(lines)


def _merge(
    cursor: psycopg.Cursor[Any], table: str, columns: str, lines: str, statement: str
) -> None:
    """By way of a temporary table. Its name has the version of the columns: behind a pooler it
    outlives the process that made it.
    """
    if lines:
        name = f"incoming_{'rows' if table == ledger.name else table}_3"
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING DEFAULTS) ON "
            "COMMIT DELETE ROWS"
        )
        _copy(cursor, name, columns, lines)
        cursor.execute(statement)


def _rest(table: Table) -> str:
    """The partition of the days of long ago."""
    return f"{table.name}_rest"


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _write_dead(cursor: psycopg.Cursor[Any], records: Sequence[DeadRecord]) -> None:
    for r in records:
        cursor.execute(
            f"INSERT INTO {dead_letters.name} (id, entry_id, stage, reason, app, at_ms, raw, "
            "fields)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (r.id, r.entry_id, r.stage, r.reason, r.app, r.at_ms, r.raw, json.dumps(r.fields)),
        )
