"""The ledger: what became of every recipient. Records travel on the belt `ledger` (Redis, bounded) into SQL, kept by the day.

One row per (day, app, event, user, device): a record that is repeated, or that comes late, changes nothing that ranks higher.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from sqlalchemy import ColumnElement, Engine, Table, func, literal, or_, select, text, true
from sqlalchemy.exc import IntegrityError

from common.ledger_records import DeadRecord, EventRecord, NoteRecord, Record, RowRecord
from common.model import Decision, Kind, Vendor
from common.storage import sql
from common.storage.tables import PARTITIONED, dead_letters, devices, events, ledger, notes

#: Entries of the ledger's belt at which delivery stops taking batches: nothing is dropped.
BELT_MAX = 20_000

#: Days that have a partition of their own, until today; all before share one.
OWN_DAYS = 30
#: Rows of one event that are read at once: the largest group, each member with several devices.
ROWS_MAX = 1_000_000

#: The longest ttl of a push: so much older than its sending may the day of a row be.
SENT_LATE_MAX_MS = 7 * 86_400_000

#: What ranks higher stays. An accepted push is accepted, whatever a repeat was told.
RANK = dict.fromkeys(Decision, 50) | {
    Decision.ACCEPTED: 100,
    Decision.UNCERTAIN: 60,
    Decision.NO_DEVICE: 40,
}
PENDING_RANK = 10
#: Of an attempt, those that a row keeps and `why` shows (contract §7); what comes after them is delivery's own.
ATTEMPT_FIELDS = 5


def tag_of(app: str, event_id: str, kind: str) -> str:
    """What the receipts of a request with several pushes echo: as the vendor files make it (workers/vendors/base.py: receipt_tag)."""
    return hashlib.blake2b("\0".join((app, event_id, kind)).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _tag(event: EventRecord) -> str:
    return tag_of(event.app, event.event_id, event.kind or (Kind.CALL_INVITE if event.type == "call.invited" else Kind.MESSAGE))


def day_of(ts_ms: int) -> date:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).date()


_ROW_COLUMNS = (
    'day, app, event_id, "user", device, vendor, business_id, decision, rank, downgraded, class, class_sent, push_id,'
    " attempts, presence_ms, routed_ms, decided_ms, note"
)
_MERGE_ROWS = (
    f"INSERT INTO ledger ({_ROW_COLUMNS})"
    f' SELECT DISTINCT ON (day, app, event_id, "user", device) {_ROW_COLUMNS} FROM incoming'
    ' ORDER BY day, app, event_id, "user", device, rank DESC, decided_ms'
    ' ON CONFLICT (day, app, event_id, "user", device) DO UPDATE SET'
    " vendor = excluded.vendor, business_id = excluded.business_id, decision = excluded.decision, rank = excluded.rank,"
    " downgraded = excluded.downgraded, class = excluded.class, class_sent = excluded.class_sent, push_id = excluded.push_id,"
    " attempts = excluded.attempts, presence_ms = excluded.presence_ms, routed_ms = excluded.routed_ms,"
    " decided_ms = excluded.decided_ms, note = excluded.note WHERE excluded.rank > ledger.rank"
)
#: When a row of each partitioned table was written, ms; the first two have an index of it.
_WRITTEN = {events.name: "received_ms", ledger.name: "decided_ms", notes.name: "at_ms"}
_EVENT_COLUMNS = "day, app, event_id, message_id, type, conversation, ts_ms, received_ms, decision, note, tag, screen"
_NOTE_COLUMNS = 'day, app, event_id, "user", device, kind, stage, at_ms, note'


#: Rows of pushes that are, or may be, on somebody's screen.
_SEEN = or_(
    ledger.c.decision.in_((Decision.ACCEPTED, Decision.UNCERTAIN)), ledger.c.decision.is_(None) & ledger.c.note.like("waits: uncertain%")
)


class Ledger:
    """Writes batches of records; answers `why`. One transaction a batch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._days: set[date] = set()

    def write(self, records: Iterable[Record]) -> None:
        """All of the records or none. What was written before is absorbed. DataError: one of them can never be stored."""
        by_type: dict[type, list[Any]] = {}
        for record in records:
            by_type.setdefault(type(record), []).append(record)
        days = {day_of(r.ts_ms) for kind in (RowRecord, NoteRecord) for r in by_type.get(kind, ())}
        days |= {day_of(r.filed_ms or r.ts_ms) for r in by_type.get(EventRecord, ())}
        self._ensure_days(days)
        try:
            self._store(by_type)
        except psycopg.errors.CheckViolation:  # a day that this process made was dropped since, by it or another one
            self._days -= days
            self._ensure_days(days)
            self._store(by_type)

    def _store(self, by_type: Mapping[type, list[Any]]) -> None:
        with self._engine.begin() as connection:
            raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
            with raw.cursor() as cursor:
                try:
                    _write_rows(cursor, by_type.get(RowRecord, []))
                    _write_events(cursor, by_type.get(EventRecord, []))
                    _write_notes(cursor, by_type.get(NoteRecord, []))
                    _write_dead(cursor, by_type.get(DeadRecord, []))
                except sql.ROW_ERRORS as error:
                    raise psycopg.DataError(type(error).__name__) from error

    def _ensure_days(self, days: set[date]) -> None:
        """Makes the days' partitions: one transaction a table, and only where it is missing, so that no reader is locked out twice.

        A day of long ago gets none of its own: history of ten years must not make ten thousand tables.
        """
        long_ago = datetime.now(UTC).date() - timedelta(days=OWN_DAYS)
        for day in sorted(days - self._days):
            until = day + timedelta(days=1)
            for table in PARTITIONED:
                name, bounds = f"{table.name}_{day:%Y%m%d}", f"FOR VALUES FROM ('{day}') TO ('{until}')"
                if day < long_ago:
                    name, bounds = _rest(table), "DEFAULT"
                with contextlib.suppress(IntegrityError):  # by another clock it was long ago already: its rows are with the rest
                    self._ensure(table.name, name, bounds)
            self._days.add(day)

    def _ensure(self, table: str, name: str, bounds: str) -> None:
        with self._engine.begin() as connection:
            if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(1886745448)"))
                connection.execute(text(f'CREATE TABLE IF NOT EXISTS "{name}" PARTITION OF {table} {bounds}'))

    def ready_for(self, day: date) -> None:
        """Makes a day's partitions before its first row comes."""
        self._ensure_days({day})

    def drop_old(self, before: date) -> list[str]:
        """Drops the partitions of days before `before` in which nothing was written since then either; their names.

        A day is that of the events' own time: what a core fills in today with times of last year is kept as long as today's.
        """
        dropped = []
        query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:parent AS regclass)")
        for table in PARTITIONED:
            with self._engine.connect() as connection:
                names = [name for (name,) in connection.execute(query, {"parent": table.name})]
            old = [name for name in names if name.strip('"').rsplit("_", 1)[-1] < f"{before:%Y%m%d}"]
            dropped += [name.strip('"') for name in old if self._drop(table.name, name, before)]
            if _rest(table) in names:
                with self._engine.begin() as connection:
                    statement = text(f"DELETE FROM {_rest(table)} WHERE {_WRITTEN[table.name]} < :since")
                    connection.execute(statement, {"since": _midnight_ms(before)})
        self._days = {day for day in self._days if day >= before}
        return dropped

    def _drop(self, table: str, name: str, before: date) -> bool:
        """One partition, unless something in it is younger; asked again under the lock, as a writer may have come first."""
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

    def find(self, message_id: str, app: str | None, event_id: str | None) -> Mapping[str, Any] | None:
        """The event that `why` tells of: the last stored or invited one of this message or call id, or the named one of them."""
        statement = select(events).where(events.c.message_id == message_id).order_by(events.c.received_ms.desc())
        if event_id is not None:
            statement = statement.where(events.c.event_id == event_id)
        else:
            statement = statement.where(events.c.type.in_(("message.stored", "call.invited", "push.direct")))
        if app is not None:
            statement = statement.where(events.c.app == app)
        with self._engine.connect() as connection:
            row = connection.execute(statement.limit(1)).mappings().first()
            return dict(row) if row is not None else None

    def rows(self, event: Mapping[str, Any], user: str | None = None, most: int = ROWS_MAX) -> list[dict[str, Any]]:
        """The event's rows by user and device, at most `most`."""
        statement = select(ledger).where(ledger.c.day == event["day"], ledger.c.app == event["app"], ledger.c.event_id == event["event_id"])
        if user is not None:
            statement = statement.where(ledger.c.user == user)
        with self._engine.connect() as connection:
            found = connection.execute(statement.order_by(ledger.c.user, ledger.c.device).limit(most)).mappings()
            return [dict(row) for row in found]

    def notes(self, event: Mapping[str, Any], user: str | None = None) -> list[dict[str, Any]]:
        statement = select(notes).where(notes.c.day == event["day"], notes.c.app == event["app"], notes.c.event_id == event["event_id"])
        if user is not None:
            statement = statement.where(notes.c.user.in_(("", user)))  # "": of the whole event
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement.order_by(notes.c.at_ms)).mappings()]

    def find_pushes(self, push_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Rows by push id; those of pushes that are not written yet, or older than the ledger keeps, are absent."""
        statement = select(ledger).where(ledger.c.push_id.in_(list(push_ids)))
        with self._engine.connect() as connection:
            return {row["push_id"]: dict(row) for row in connection.execute(statement).mappings()}

    def find_tagged(self, app: str, vendor: Vendor, asked: Sequence[tuple[str, str]]) -> dict[int, dict[str, Any]]:
        """Rows of pushes that shared a request, by the number of the (tag, device token) in `asked`."""
        if not asked:
            return {}
        values = {"tags": [tag for tag, _ in asked], "tokens": [token for _, token in asked], "app": app, "vendor": vendor}
        found: dict[int, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(_TAGGED, values).mappings():
                found.setdefault(int(row["number"]) - 1, dict(row))
        return found

    def spent(self, app: str, vendor: str, business_id: str, since_ms: int) -> list[tuple[str, str, int]]:
        """(class, class sent, pushes) that one account sent since then, so far as they are written: what a lost quota is rebuilt from."""
        statement = (
            select(ledger.c["class"], ledger.c.class_sent, func.count())
            .where(*_sent_since(app, vendor, business_id, since_ms))
            .group_by(ledger.c["class"], ledger.c.class_sent)
        )
        with self._engine.connect() as connection:
            return [(wanted, sent or wanted, int(pushes)) for wanted, sent, pushes in connection.execute(statement)]

    def spent_by_token(self, app: str, vendor: str, business_id: str, since_ms: int) -> Iterator[tuple[str, str, int]]:
        """(device token, class sent, pushes) since then, for the caps; a device that has since got another token counts by the new one."""
        statement = (
            select(devices.c.token, func.coalesce(ledger.c.class_sent, ledger.c["class"]), func.count())
            .join(devices, (devices.c.app == ledger.c.app) & (devices.c.user == ledger.c.user) & (devices.c.device_id == ledger.c.device))
            .where(*_sent_since(app, vendor, business_id, since_ms))
            .group_by(devices.c.token, func.coalesce(ledger.c.class_sent, ledger.c["class"]))
        )
        with self._engine.connect() as connection:
            for token, sent, pushes in connection.execution_options(yield_per=5_000).execute(statement):
                yield token, sent, int(pushes)

    def seen_among(self, messages: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those (app, message or call id) of which some push is, or may be, on somebody's screen. One query."""
        if not messages:
            return set()
        own = (ledger.c.day == events.c.day) & (ledger.c.app == events.c.app) & (ledger.c.event_id == events.c.event_id)
        pushed = select(literal(1)).where(own, _SEEN).limit(1).lateral()  # the limit: an index look-up for each, never a join of all
        statement = select(events.c.app, events.c.message_id).join(pushed, true())
        statement = statement.where(events.c.message_id.in_([message_id for _, message_id in messages]))
        with self._engine.connect() as connection:
            return {(app, message_id) for app, message_id in connection.execute(statement)} & set(messages)

    def accepted_of(self, app: str, message_id: str, since_ms: int = 0) -> list[dict[str, Any]]:
        """Pushes that a vendor took, or may have taken, since then, of every event of this message: what a withdrawal has to know."""
        columns = (
            ledger.c.event_id,
            ledger.c.user,
            ledger.c.device,
            ledger.c["class"],
            events.c.ts_ms,
            events.c.conversation,
            events.c.type,
        )
        statement = (
            select(*columns, events.c.screen)
            .join(
                events,
                (events.c.day == ledger.c.day) & (events.c.app == ledger.c.app) & (events.c.event_id == ledger.c.event_id),
            )
            .where(events.c.message_id == message_id, events.c.app == app, ledger.c.decided_ms >= since_ms, _SEEN)
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def replaced_since(self, app: str, conversation: str, ts_ms: int, collapse_key: str) -> set[tuple[str, str]]:
        """(user, device) whose screen shows a later message of this conversation under the same collapse key."""
        statement = (
            select(ledger.c.user, ledger.c.device, events.c.screen)
            .join(
                events,
                (events.c.day == ledger.c.day) & (events.c.app == ledger.c.app) & (events.c.event_id == ledger.c.event_id),
            )
            .where(events.c.app == app, events.c.conversation == conversation, events.c.ts_ms > ts_ms, events.c.screen != "", _SEEN)
        )
        with self._engine.connect() as connection:
            found = connection.execute(statement)
            return {(user, device) for user, device, screen in found if json.loads(screen).get("collapse_key") == collapse_key}


_TAGGED = text(
    "SELECT asked.number, l.*"
    " FROM unnest(CAST(:tags AS text[]), CAST(:tokens AS text[])) WITH ORDINALITY AS asked(tag, token, number)"
    " JOIN events e ON e.tag = asked.tag AND e.app = :app"
    " JOIN devices d ON d.app = :app AND d.vendor = :vendor AND d.token = asked.token"
    " JOIN ledger l ON l.day = e.day AND l.app = e.app AND l.event_id = e.event_id"
    ' AND l."user" = d."user" AND l.device = d.device_id'
    " WHERE l.vendor = :vendor AND l.push_id IS NOT NULL ORDER BY asked.number, d.state <> 'active'"
)


def _sent_since(app: str, vendor: str, business_id: str, since_ms: int) -> Sequence[ColumnElement[bool]]:
    """Rows of pushes that the vendor took, or may have taken, since then. A push may be a week older than its sending."""
    return (
        ledger.c.day >= day_of(since_ms - SENT_LATE_MAX_MS),
        ledger.c.app == app,
        ledger.c.vendor == vendor,
        ledger.c.business_id == business_id,
        ledger.c.decision.in_((Decision.ACCEPTED, Decision.UNCERTAIN, Decision.UNKNOWN)),
        ledger.c.decided_ms >= since_ms,
    )


def _rest(table: Table) -> str:
    """The partition of the days of long ago."""
    return f"{table.name}_rest"


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _copy(cursor: psycopg.Cursor[Any], table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _write_rows(cursor: psycopg.Cursor[Any], rows: Sequence[RowRecord]) -> None:
    if not rows:
        return
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE ledger INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
    _copy(cursor, "incoming", _ROW_COLUMNS, (_row(record) for record in rows))
    cursor.execute(_MERGE_ROWS)


def _row(r: RowRecord) -> Sequence[Any]:
    rank = RANK[Decision(r.decision)] if r.decision else PENDING_RANK + min(len(r.attempts), 30)
    attempts = json.dumps([msgspec.to_builtins(a)[:ATTEMPT_FIELDS] for a in r.attempts], ensure_ascii=False) if r.attempts else ""
    return (
        day_of(r.ts_ms),
        r.app,
        r.event_id,
        _storable(r.user),
        _storable(r.device),
        r.vendor,
        r.business_id,
        r.decision,
        rank,
        r.downgraded,
        r.message_class,
        r.class_sent,
        r.push_id,
        _storable(attempts),
        r.presence_ms,
        r.routed_ms,
        r.decided_ms,
        _storable(r.note),
    )


def _storable(words: str) -> str:
    """PostgreSQL's text takes no NUL."""
    return words.replace("\0", "\\0")


def _write_events(cursor: psycopg.Cursor[Any], records: Sequence[EventRecord]) -> None:
    if not records:
        return
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS incoming_events (LIKE events INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
    rows = (
        (
            *(day_of(r.filed_ms or r.ts_ms), r.app, r.event_id, r.message_id, r.type, r.conversation),
            *(r.ts_ms, r.received_ms, r.decision, r.note),
            _tag(r),
            r.screen,
        )
        for r in records
    )
    _copy(cursor, "incoming_events", _EVENT_COLUMNS, rows)
    cursor.execute(
        f"INSERT INTO events ({_EVENT_COLUMNS}) SELECT DISTINCT ON (day, app, event_id) {_EVENT_COLUMNS} FROM incoming_events"
        " ORDER BY day, app, event_id, decision NULLS LAST ON CONFLICT (day, app, event_id) DO UPDATE"
        " SET decision = excluded.decision, note = excluded.note WHERE events.decision IS NULL AND excluded.decision IS NOT NULL"
    )


def _write_notes(cursor: psycopg.Cursor[Any], records: Sequence[NoteRecord]) -> None:
    rows = ((day_of(r.ts_ms), r.app, r.event_id, r.user, r.device, r.kind, r.stage, r.at_ms, _storable(r.note)) for r in records)
    if records:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS incoming_notes (LIKE notes INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
        _copy(cursor, "incoming_notes", _NOTE_COLUMNS, rows)
        cursor.execute(f"INSERT INTO notes ({_NOTE_COLUMNS}) SELECT {_NOTE_COLUMNS} FROM incoming_notes ON CONFLICT DO NOTHING")


def _write_dead(cursor: psycopg.Cursor[Any], records: Sequence[DeadRecord]) -> None:
    for r in records:
        cursor.execute(
            f"INSERT INTO {dead_letters.name} (id, entry_id, stage, reason, app, at_ms, raw, fields)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (r.id, r.entry_id, r.stage, r.reason, r.app, r.at_ms, r.raw, json.dumps(r.fields)),
        )
