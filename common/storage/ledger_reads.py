"""Reads of the ledger (SQL): `why`, receipts, recalls, lost quotas, the console's counts.

Only this file knows how rows are stored. A row is in `ledger`, in its event (`ledger_all` has both)
or in a page of people (`pages`, unpacked here).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, func, literal, or_, select, text, true, tuple_

from common.clock import day_of
from common.ledger_records import Place, unpack_users
from common.model import PUSHED_EVENTS, Decision, Vendor
from common.storage.ledger_copy import RANK
from common.storage.tables import RECEIPT_LANES, devices, events, notes, pages
from common.storage.tables import ledger as written
from common.storage.tables import ledger_all as ledger

#: Rows of one event that are read at once: the largest group, each member with several devices.
ROWS_MAX = 1_000_000
#: Rows that are fetched at once where all are read.
ROWS_AT_ONCE = 5_000
#: Events whose steps and receipts are read at once.
NOTED_AT_ONCE = 500
#: Rows of one message that a withdrawal reads at once.
SEEN_PAGE = 1_000
#: The last pushes to a token that a clear looks through: more than a phone shows of one app.
TOKEN_ROWS_MAX = 200
#: Later messages of a conversation that one query covers.
LATER_MAX = 64

#: The longest ttl of a push: a row's day may precede its sending by this much.
SENT_LATE_MAX_MS = 7 * 86_400_000

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
#: Day, tenant, event, person, device and status of a receipt: the same one counts once.
ReceiptKey = tuple[date, str, str, str, str, str]
#: Counting must not burden the database that the fleet writes to: what takes longer is not counted.
COUNT_MS_MAX = 2_500

#: Rows of pushes that are, or may be, on a screen.
_SEEN = or_(
    ledger.c.decision.in_((Decision.ACCEPTED, Decision.UNCERTAIN)),
    ledger.c.decision.is_(None) & ledger.c.note.like("waits: uncertain%"),
)


@dataclass(frozen=True, slots=True)
class LastHour:
    """decisions: vendor ("" where none came into play) -> decision -> rows; pages as in
    EventRows.counts.
    """

    events_hour: int
    events_minute: int
    decisions: dict[str, dict[str, int]]


class LedgerReader:
    """Every query of the ledger's tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(
        self, message_id: str, app: str | None, event_id: str | None
    ) -> Mapping[str, Any] | None:
        """The event for `why`: the last stored or invited one of this id, or the named one.

        The id is of a message or a call.
        """
        statement = (
            select(events)
            .where(events.c.message_id == message_id)
            .order_by(events.c.received_ms.desc())
        )
        if event_id is not None:
            statement = statement.where(events.c.event_id == event_id)
        else:
            statement = statement.where(events.c.type.in_(sorted(PUSHED_EVENTS)))
        if app is not None:
            statement = statement.where(events.c.app == app)
        with self._engine.connect() as connection:
            row = connection.execute(statement.limit(1)).mappings().first()
            return dict(row) if row is not None else None

    def tokens_of(
        self, event: Mapping[str, Any], user: str | None, most: int
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(event, row) of the pushes to tokens of this event's message, by user and event; at most
        `most`. A door tells of each phone in an event of its own.
        """
        alike = (
            events.c.app == event["app"],
            events.c.message_id == event["message_id"],
            events.c.type == event["type"],
        )
        theirs = (
            ledger.c.day == events.c.day,
            ledger.c.app == events.c.app,
            ledger.c.event_id == events.c.event_id,
        )
        statement = select(events, ledger).join(ledger, and_(*theirs)).where(*alike)
        if user is not None:
            statement = statement.where(ledger.c.user == user)
        ordered = statement.order_by(ledger.c.user, ledger.c.event_id).limit(most)
        width = len(events.c)
        with self._engine.connect() as connection:
            return [
                (
                    dict(zip(events.c.keys(), found[:width], strict=True)),
                    dict(zip(ledger.c.keys(), found[width:], strict=True)),
                )
                for found in connection.execute(ordered)
            ]

    def rows(
        self, event: Mapping[str, Any], user: str | None = None, most: int = ROWS_MAX
    ) -> list[dict[str, Any]]:
        """The event's rows by user and device, at most `most`, with those written as pages."""
        own = (
            ledger.c.day == event["day"],
            ledger.c.app == event["app"],
            ledger.c.event_id == event["event_id"],
        )
        statement = select(ledger).where(*own)
        if user is not None:
            statement = statement.where(ledger.c.user == user)
        paged = select(pages).where(
            pages.c.day == event["day"],
            pages.c.app == event["app"],
            pages.c.event_id == event["event_id"],
        )
        with self._engine.connect() as connection:
            ordered = statement.order_by(ledger.c.user, ledger.c.device).limit(most)
            found = [dict(row) for row in connection.execute(ordered).mappings()]
            if len(found) == most:
                return found
            of_pages = [
                dict(page)
                for page in connection.execute(paged.order_by(pages.c.decided_ms)).mappings()
            ]
        more = paged_rows(of_pages, {row["user"] for row in found if not row["device"]}, user)
        found += islice(more, most - len(found))
        return sorted(found, key=lambda row: (row["user"], row["device"])) if of_pages else found

    def counts(self) -> tuple[int, int]:
        """(decided, waiting) rows of all days. Pages are counted as EventRows.counts does."""
        with self._engine.connect() as connection:
            decided, waiting = connection.execute(
                select(func.count(ledger.c.decision), func.count() - func.count(ledger.c.decision))
            ).one()
            paged = connection.execute(
                select(func.coalesce(func.sum(pages.c.count), 0))
            ).scalar_one()
        return int(decided) + int(paged), int(waiting)

    def all_rows(self, since: date = date.min) -> Iterator[dict[str, Any]]:
        """Every row of the days since then, as `rows` has them, in no order."""
        alone = set[tuple[str, str, str]]()
        with self._engine.connect() as connection:
            streamed = connection.execution_options(yield_per=ROWS_AT_ONCE)
            for row in streamed.execute(select(ledger).where(ledger.c.day >= since)).mappings():
                if not row["device"]:
                    alone.add((row["app"], row["event_id"], row["user"]))
                yield dict(row)
            for page in streamed.execute(select(pages).where(pages.c.day >= since)).mappings():
                key = page["app"], page["event_id"]
                known = {user for user in unpack_users(page["users"]) if (*key, user) in alone}
                for paged in paged_rows([dict(page)], known, None):
                    alone.add((*key, paged["user"]))
                    yield paged

    def notes(
        self, of: Sequence[Mapping[str, Any]], user: str | None = None
    ) -> list[dict[str, Any]]:
        """Steps and receipts of these events, in order of time."""
        found: list[dict[str, Any]] = []
        key = tuple_(notes.c.day, notes.c.app, notes.c.event_id)
        with self._engine.connect() as connection:
            for start in range(0, len(of), NOTED_AT_ONCE):
                some = of[start : start + NOTED_AT_ONCE]
                wanted = [(event["day"], event["app"], event["event_id"]) for event in some]
                statement = select(notes).where(key.in_(wanted))
                if user is not None:
                    # "": of the whole event
                    statement = statement.where(notes.c.user.in_(("", user)))
                found += map(dict, connection.execute(statement).mappings())
        return sorted(found, key=lambda note: note["at_ms"])

    def told(self, receipts: Sequence[ReceiptKey]) -> set[ReceiptKey]:
        """Those that are written already."""
        columns = zip(*receipts, strict=True)
        values = dict(
            zip(("days", "apps", "ids", "people", "devices", "notes"), columns, strict=True)
        )
        with self._engine.connect() as connection:
            found = connection.execute(_TOLD, {name: list(one) for name, one in values.items()})
            return {tuple(row) for row in found}

    def find_pushes(self, push_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Rows by push id, of lanes with receipts; unwritten or expired ones are absent."""
        statement = select(written).where(
            written.c.push_id.in_(list(push_ids)), text(RECEIPT_LANES)
        )
        with self._engine.connect() as connection:
            return {row["push_id"]: dict(row) for row in connection.execute(statement).mappings()}

    def find_tagged(
        self, app: str, vendor: Vendor, wanted: Sequence[tuple[str, str]]
    ) -> dict[int, dict[str, Any]]:
        """Rows of pushes that shared a request, by index of the (tag, device token) in `wanted`."""
        if not wanted:
            return {}
        tokens = [token for _, token in wanted]
        values = {
            "tags": [tag for tag, _ in wanted],
            "tokens": tokens,
            "app": app,
            "vendor": vendor,
        }
        found: dict[int, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for statement in (_TAGGED, _TAGGED_BY_EVENT):
                for row in connection.execute(statement, values).mappings():
                    found.setdefault(int(row["number"]) - 1, dict(row))
                if len(found) == len(wanted):
                    break
        return found

    def spent(
        self, app: str, vendor: str, business_id: str, since_ms: int
    ) -> list[tuple[str, str, int]]:
        """(class, class sent, pushes) sent by one account since then, as written.

        A lost quota is rebuilt from them.
        """
        statement = (
            select(ledger.c["class"], ledger.c.class_sent, func.count())
            .where(*_sent_since(app, vendor, business_id, since_ms))
            .group_by(ledger.c["class"], ledger.c.class_sent)
        )
        with self._engine.connect() as connection:
            return [
                (wanted, sent or wanted, int(pushes))
                for wanted, sent, pushes in connection.execute(statement)
            ]

    def spent_by_token(
        self, app: str, vendor: str, business_id: str, since_ms: int
    ) -> Iterator[tuple[str, str, int]]:
        """(device token, class sent, pushes) since then, for the caps.

        A device with a new token counts by the new one.
        """
        same_person = (devices.c.app == ledger.c.app) & (devices.c.user == ledger.c.user)
        statement = (
            select(
                devices.c.token, func.coalesce(ledger.c.class_sent, ledger.c["class"]), func.count()
            )
            .join(devices, same_person & (devices.c.device_id == ledger.c.device))
            .where(*_sent_since(app, vendor, business_id, since_ms))
            .group_by(devices.c.token, func.coalesce(ledger.c.class_sent, ledger.c["class"]))
        )
        with self._engine.connect() as connection:
            for token, sent, pushes in connection.execution_options(yield_per=5_000).execute(
                statement
            ):
                yield token, sent, int(pushes)

    def seen_among(self, messages: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """The (app, message or call id) with a push that is, or may be, on a screen. One query."""
        if not messages:
            return set()
        own = (
            (ledger.c.day == events.c.day)
            & (ledger.c.app == events.c.app)
            & (ledger.c.event_id == events.c.event_id)
        )
        # the limit: an index look-up for each, never a join of all
        pushed = select(literal(1)).where(own, _SEEN).limit(1).lateral()
        statement = select(events.c.app, events.c.message_id).join(pushed, true())
        statement = statement.where(
            events.c.message_id.in_([message_id for _, message_id in messages])
        )
        with self._engine.connect() as connection:
            return {(app, message_id) for app, message_id in connection.execute(statement)} & set(
                messages
            )

    def accepted_of(
        self,
        app: str,
        message_id: str,
        since_ms: int = 0,
        after: Place | None = None,
        most: int = SEEN_PAGE,
    ) -> list[dict[str, Any]]:
        """Pushes of this message, in all its events, that a vendor took or may have taken.

        Since then only. A page in the order of (event id, user, device), after `after`; for a
        withdrawal.
        """
        place = (ledger.c.event_id, ledger.c.user, ledger.c.device)
        about = (
            events.c.ts_ms,
            events.c.received_ms,
            events.c.conversation,
            events.c.type,
            events.c.collapse,
            events.c.screen,
        )
        own = (
            (events.c.day == ledger.c.day)
            & (events.c.app == ledger.c.app)
            & (events.c.event_id == ledger.c.event_id)
        )
        statement = select(*place, ledger.c["class"], *about).join(events, own)
        statement = statement.where(
            events.c.message_id == message_id,
            events.c.app == app,
            ledger.c.decided_ms >= since_ms,
            _SEEN,
        )
        if after is not None:
            statement = statement.where(tuple_(*place) > tuple_(*map(literal, after)))
        with self._engine.connect() as connection:
            return [
                dict(row)
                for row in connection.execute(statement.order_by(*place).limit(most)).mappings()
            ]

    def tokens_seen(self, tokens: Sequence[tuple[str, str]], since_ms: int) -> set[tuple[str, str]]:
        """The (app, user) of tokens with a push since then that is, or may be, on a screen.

        One query.
        """
        if not tokens:
            return set()
        apps, users = zip(*tokens, strict=True)
        values = {"apps": list(apps), "users": list(users), **_since(since_ms)}
        with self._engine.connect() as connection:
            return {(app, user) for app, user in connection.execute(_TOKENS_SEEN, values)}

    def shown_to_token(
        self, app: str, user: str, conversation: str, since_ms: int
    ) -> list[dict[str, Any]]:
        """The pushes of this conversation that are, or may be, on a token's screen, newest first.

        They are of its last TOKEN_ROWS_MAX pushes since then. recalled: a recall or clear of it is
        in progress.
        """
        wanted = {"app": app, "user": user, "conversation": conversation, "most": TOKEN_ROWS_MAX}
        with self._engine.connect() as connection:
            found = connection.execute(_SHOWN_TO_TOKEN, {**wanted, **_since(since_ms)})
            return [dict(row) for row in found.mappings()]

    def covered(
        self,
        app: str,
        conversation: str,
        ts_ms: int,
        collapse: str,
        people: Collection[tuple[str, str]],
    ) -> set[tuple[str, str]]:
        """The (user, device) that show a later message of this conversation and collapse key.

        The latest messages are read first, few at a time: the last one usually covers nearly all.
        The cost grows with the people given, not with the rows of the conversation.
        """
        left, found, size = set(people), set[tuple[str, str]](), 1
        values: dict[str, Any] = {
            "app": app,
            "conversation": conversation,
            "collapse": collapse,
            "after": ts_ms,
        }
        before: tuple[int, str] = (1 << 62, "")
        with self._engine.connect() as connection:
            while left:
                wanted = {**values, "ts": before[0], "id": before[1], "most": size}
                later = connection.execute(_LATER, wanted).all()
                if not later:
                    break
                names = {
                    "days": [row.day for row in later],
                    "ids": [row.event_id for row in later],
                    "users": sorted({u for u, _ in left}),
                }
                shown = {
                    (user, device)
                    for user, device in connection.execute(_SHOWN, {"app": app, **names})
                } & left
                found |= shown
                left -= shown
                before, size = (later[-1].ts_ms, later[-1].event_id), min(size * 4, LATER_MAX)
        return found

    def last_hour(self, now_ms: int) -> LastHour:
        """sqlalchemy.exc.OperationalError when the count would take longer than COUNT_MS_MAX."""
        # a push lives a week at most, but what is more than a day behind its event is too rare to
        # read old days for
        day = datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=1)
        values = {"day": day, "hour": now_ms - HOUR_MS, "minute": now_ms - MINUTE_MS}
        with self._engine.begin() as connection:
            connection.execute(text(f"SET LOCAL statement_timeout = {COUNT_MS_MAX}"))
            counted = connection.execute(_EVENTS_OF_HOUR, values).one()
            decisions: dict[str, dict[str, int]] = {}
            for vendor, decision, count in connection.execute(_DECISIONS_OF_HOUR, values):
                decisions.setdefault(vendor, {})[decision] = int(count)
        return LastHour(int(counted.hour), int(counted.minute), decisions)

    def silent_refused(self, now_ms: int) -> list[tuple[str, str, int]]:
        """(app, vendor, pushes) of the last hour that did not leave, as the vendor knows no silent
        ones. Errors as `last_hour`.
        """
        day = datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=1)
        with self._engine.begin() as connection:
            connection.execute(text(f"SET LOCAL statement_timeout = {COUNT_MS_MAX}"))
            rows = connection.execute(_SILENT_OF_HOUR, {"day": day, "hour": now_ms - HOUR_MS})
            return [(app, vendor, int(count)) for app, vendor, count in rows]


def _since(since_ms: int) -> dict[str, Any]:
    """Rows routed since then, and the day from which on their events came."""
    return {"since": since_ms, "day": day_of(since_ms - SENT_LATE_MAX_MS)}


def paged_rows(
    of_pages: Iterable[Mapping[str, Any]], known: set[str], user: str | None
) -> Iterator[dict[str, Any]]:
    """A page's people as rows. known: people with a row, or on an earlier page.

    A group that was read again has other pages.
    """
    for page in of_pages:
        for name in unpack_users(page["users"]):
            if name in known or user not in (None, name):
                continue
            known.add(name)
            shared = {column: page[column] for column in _OF_PAGE}
            yield {**_NOTHING, **shared, "user": name}


_OF_PAGE = ("day", "app", "event_id", "decision", "class", "presence_ms", "decided_ms", "note")
#: The other columns of a row without a device.
_NOTHING = {
    "device": "",
    "vendor": "",
    "business_id": "",
    "rank": RANK[Decision.ONLINE],
    "downgraded": False,
    "class_sent": None,
    "push_id": None,
    "attempts": "",
    "routed_ms": 0,
    "tag": "",
}


_TOLD = text(
    'SELECT n.day, n.app, n.event_id, n."user", n.device, n.note FROM unnest('
    "CAST(:days AS date[]), CAST(:apps AS text[]), CAST(:ids AS text[]), CAST(:people AS text[]),"
    " CAST(:devices AS text[]), CAST(:notes AS text[]))"
    ' AS w(day, app, event_id, "user", device, note)'
    " JOIN notes n ON n.kind = 'receipt' AND n.day = w.day AND n.app = w.app"
    ' AND n.event_id = w.event_id AND n."user" = w."user" AND n.device = w.device'
    " AND n.note = w.note"
)
_TAGGED = text(
    "SELECT wanted.number, l.*"
    " FROM unnest(CAST(:tags AS text[]), CAST(:tokens AS text[])) WITH ORDINALITY AS "
    "wanted(tag, token, number)"
    " JOIN devices d ON d.app = :app AND d.vendor = :vendor AND d.token = wanted.token"
    " JOIN ledger l ON l.tag = wanted.tag AND l.tag <> '' AND l.app = :app"
    ' AND l."user" = d."user" AND l.device = d.device_id'
    " WHERE l.vendor = :vendor ORDER BY wanted.number, d.state <> 'active'"
)
#: Rows of version 0001: the tag is in their event.
_TAGGED_BY_EVENT = text(
    "SELECT wanted.number, l.*"
    " FROM unnest(CAST(:tags AS text[]), CAST(:tokens AS text[])) WITH ORDINALITY AS "
    "wanted(tag, token, number)"
    " JOIN events e ON e.tag = wanted.tag AND e.tag <> '' AND e.app = :app"
    " JOIN devices d ON d.app = :app AND d.vendor = :vendor AND d.token = wanted.token"
    " JOIN ledger l ON l.day = e.day AND l.app = e.app AND l.event_id = e.event_id"
    ' AND l."user" = d."user" AND l.device = d.device_id'
    " WHERE l.vendor = :vendor AND l.push_id IS NOT NULL"
    " ORDER BY wanted.number, d.state <> 'active'"
)
_LATER = text(
    "SELECT day, event_id, ts_ms FROM events WHERE app = :app AND conversation = "
    ":conversation AND collapse = :collapse AND collapse <> ''"
    " AND ts_ms > :after AND (ts_ms, event_id) < (:ts, :id) ORDER BY ts_ms DESC, event_id "
    "DESC LIMIT :most"
)
_SHOWN = text(
    'SELECT l."user", l.device FROM unnest(CAST(:days AS date[]), CAST(:ids AS text[])) AS e '
    "(day, event_id)"
    " JOIN ledger_all l ON l.day = e.day AND l.app = :app AND l.event_id = e.event_id AND "
    'l."user" = ANY(CAST(:users AS text[]))'
    " WHERE l.decision IN ('accepted', 'uncertain') OR (l.decision IS NULL AND l.note LIKE "
    "'waits: uncertain%')"
)
#: Rows of tokens, by their partial indexes: the condition here is the indexes' own, literally.
_OF_TOKEN = (
    "l.\"user\" LIKE 'token:%' AND l.day >= :day AND l.routed_ms >= :since"
    " AND (l.decision IN ('accepted', 'uncertain') OR (l.decision IS NULL AND l.note LIKE "
    "'waits: uncertain%'))"
)
#: Order and limit: an index look-up for each token, never a read of all.
_TOKENS_SEEN = text(
    'SELECT wanted.app, wanted."user"'  # noqa: S608
    " FROM unnest(CAST(:apps AS text[]), CAST(:users AS text[]))"
    ' AS wanted (app, "user") CROSS JOIN LATERAL (SELECT FROM ledger_all l WHERE'
    f' l.app = wanted.app AND l."user" = wanted."user" AND {_OF_TOKEN}'
    " ORDER BY l.routed_ms DESC LIMIT 1) found"
)
_SHOWN_TO_TOKEN = text(
    "SELECT e.event_id, e.message_id, e.ts_ms, e.conversation, e.type, e.collapse, e.screen,"  # noqa: S608
    " l.class, l.decided_ms, EXISTS (SELECT FROM notes n WHERE n.day = e.day AND n.app = e.app"
    " AND n.event_id = e.event_id AND n.kind = 'step' AND n.note LIKE 'recall: %') AS recalled"
    " FROM (SELECT l.day, l.app, l.event_id, l.class, l.decided_ms FROM ledger_all l"
    f' WHERE l.app = :app AND l."user" = :user AND {_OF_TOKEN}'
    " ORDER BY l.routed_ms DESC LIMIT :most) l"
    " JOIN events e ON e.day = l.day AND e.app = l.app AND e.event_id = l.event_id"
    " WHERE e.conversation = :conversation AND e.type = 'push.direct'"
    " ORDER BY e.ts_ms DESC, e.event_id DESC"
)
_EVENTS_OF_HOUR = text(
    "SELECT count(*) AS hour, count(*) FILTER (WHERE received_ms > :minute) AS minute FROM "
    "events WHERE day >= :day AND received_ms > :hour"
)
_DECISIONS_OF_HOUR = text(
    "SELECT vendor, decision, sum(count) AS count FROM ("
    "SELECT vendor, decision, count(*) AS count FROM ledger_all"
    " WHERE day >= :day AND decided_ms > :hour AND decision IS NOT NULL GROUP BY vendor, decision"
    " UNION ALL SELECT '', decision, sum(count) FROM pages WHERE day >= :day AND decided_ms "
    "> :hour GROUP BY decision"
    ") AS found GROUP BY vendor, decision"
)

_SILENT_OF_HOUR = text(
    "SELECT app, vendor, count(*) FROM ledger_all WHERE day >= :day AND decided_ms > :hour"
    " AND decision = 'rejected' AND note LIKE '%silent_not_supported%'"
    " GROUP BY app, vendor ORDER BY app, vendor"
)


def _sent_since(
    app: str, vendor: str, business_id: str, since_ms: int
) -> Sequence[ColumnElement[bool]]:
    """Rows of pushes that the vendor took, or may have taken, since then. A push may be a week
    older than its sending.
    """
    return (
        ledger.c.day >= day_of(since_ms - SENT_LATE_MAX_MS),
        ledger.c.app == app,
        ledger.c.vendor == vendor,
        ledger.c.business_id == business_id,
        ledger.c.decision.in_((Decision.ACCEPTED, Decision.UNCERTAIN, Decision.UNKNOWN)),
        ledger.c.decided_ms >= since_ms,
    )
