"""Ledger records -> lines of PostgreSQL's COPY in text form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from common.contracts import Attempt
from common.ledger_records import EventColumns, EventRecord, NoteRecord, RowColumns, RowRecord
from common.model import Decision, Kind, Vendor
from common.push_ids import event_tag

#: Represents NULL. A text equal to it is escaped, like everything that COPY interprets.
NULL: Final = "\x01"
#: Columns in the order of the lines below.
ROW_COLUMNS: Final = (
    "day, decision, rank, downgraded, class, class_sent, push_id, presence_ms, routed_ms, "
    "decided_ms, tag,"
    ' app, event_id, "user", device, vendor, business_id, attempts, note'
)
EVENT_COLUMNS: Final = (
    "day, type, ts_ms, received_ms, decision, app, event_id, message_id, conversation, note, "
    "screen, collapse"
)
#: An event with its only row (common/storage/ledger_own.py).
OWN_COLUMNS: Final = (
    "day, type, ts_ms, received_ms, row_decision, row_rank, row_downgraded, row_class, "
    "row_class_sent, row_push_id, row_presence_ms,"
    " row_routed_ms, row_decided_ms, app, event_id, message_id, conversation, note, screen, "
    "collapse, row_user, row_device, row_vendor,"
    " row_business_id, row_attempts, row_note"
)
NOTE_COLUMNS: Final = 'day, kind, stage, at_ms, app, event_id, "user", device, note'

#: The higher rank stays. An accepted push stays accepted, whatever a repeat reported.
RANK: Final = dict.fromkeys(Decision, 50) | {
    Decision.ACCEPTED: 100,
    Decision.UNCERTAIN: 60,
    Decision.NO_DEVICE: 40,
}
PENDING_RANK: Final = 10
#: Vendors whose receipts name nothing of ours, or that send none.
WITHOUT_RECEIPTS: Final = frozenset({"", Vendor.APNS, Vendor.FCM})

_DAY_MS: Final = 86_400_000
_RANKS: Final = {str(decision): str(rank) for decision, rank in RANK.items()}
_SPECIAL: Final = re.compile("[\\\\\n\r\t\0\x01]")
#: PostgreSQL's text takes no NUL: it is kept as the two characters \0.
_ESCAPED: Final = {
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\0": "\\\\0",
    "\x01": "\\x01",
}
_json = msgspec.json.Encoder()


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY_MS / 1000, UTC).date().isoformat()


def day_name(ts_ms: int) -> str:
    """The day of a row, as YYYY-MM-DD."""
    return _day(ts_ms // _DAY_MS)


@lru_cache(maxsize=1024)
def _collapse(screen: str) -> str:
    return str(msgspec.json.decode(screen).get("collapse_key") or "")


def _escaped(words: str) -> str:
    return _SPECIAL.sub(lambda found: _ESCAPED[found.group()], words)


def _plain(*free: str) -> Sequence[str]:
    """The fields as COPY takes them; as a rule there is nothing to escape."""
    joined = "".join(free)
    return free if joined.isprintable() and "\\" not in joined else tuple(map(_escaped, free))


def row_line(r: RowRecord) -> str:
    """Raises KeyError for an unknown decision."""
    tried = _tried(r.attempts) if r.attempts else ""
    rank = _RANKS[r.decision] if r.decision else PENDING_RANK + min(len(r.attempts), 30)
    tag = (
        event_tag(r.app, r.event_id, r.kind or Kind.MESSAGE)
        if r.push_id and r.vendor not in WITHOUT_RECEIPTS
        else ""
    )
    app, event_id, user, device, vendor, account, tried, note = _plain(
        r.app, r.event_id, r.user, r.device, r.vendor, r.business_id, tried, r.note
    )
    return (
        f"{_day(r.ts_ms // _DAY_MS)}\t{r.decision or NULL}\t{rank}\t{'t' if r.downgraded else 'f'}\t{r.message_class}"  # noqa: E501
        f"\t{r.class_sent or NULL}\t{r.push_id or NULL}\t{r.presence_ms}\t{r.routed_ms}\t{r.decided_ms}\t{tag}"  # noqa: E501
        f"\t{app}\t{event_id}\t{user}\t{device}\t{vendor}\t{account}\t{tried}\t{note}\n"
    )


def event_line(r: EventRecord) -> str:
    collapse = _collapse(r.screen) if r.screen else ""
    app, event_id, message_id, conversation, note, screen, collapse = _plain(
        r.app, r.event_id, r.message_id, r.conversation, r.note, r.screen, collapse
    )
    return (
        f"{_day((r.filed_ms or r.ts_ms) // _DAY_MS)}\t{r.type}\t{r.ts_ms}\t{r.received_ms}\t{r.decision or NULL}"  # noqa: E501
        f"\t{app}\t{event_id}\t{message_id}\t{conversation}\t{note}\t{screen}\t{collapse}\n"
    )


def own_lines(pairs: Sequence[tuple[EventRecord, RowRecord]]) -> str:
    """`own_line` of each. What would have to be escaped is looked for once in all: as a rule there
    is nothing.
    """
    days = {number: _day(number) for number in {row.ts_ms // _DAY_MS for _, row in pairs}}
    attempts = _tried_of([row for _, row in pairs])
    whole = "".join(
        [
            _own_raw(event, row, days[row.ts_ms // _DAY_MS], tried)
            for (event, row), tried in zip(pairs, attempts, strict=True)
        ]
    )
    nulls = sum([(not row.class_sent) + (not row.push_id) for _, row in pairs])
    if _need_no_escape(whole, len(pairs), nulls):
        return whole
    return "".join([own_line(event, row) for event, row in pairs])


def _need_no_escape(whole: str, lines: int, nulls: int) -> bool:
    """True when all texts within these lines of OWN_COLUMNS may stand there as they are.

    nulls: fields among them that are NULL.
    """
    return (
        "\\" not in whole
        and "\r" not in whole
        and "\0" not in whole
        and whole.count("\t") == OWN_COLUMNS.count(",") * lines
        and whole.count("\n") == lines
        and whole.count(NULL) == nulls
    )


def own_column_lines(rows: RowColumns, events: EventColumns) -> str | None:
    """`own_line` of each of these rows with its event, which are in the same order. None: they have
    several days, or something has to be escaped.
    """
    times, ids = events.times_ms, "".join(rows.vendor_ids)
    day = min(times) // _DAY_MS
    if day != max(times) // _DAY_MS or "" in rows.push_ids:
        return None
    if not (ids.isascii() and ids.isprintable()) or '"' in ids or "\\" in ids:
        return None
    tried = _tried(rows.tried(""))
    start = f"{_day(day)}\t{events.type}\t"
    row = (
        f"\taccepted\t{_RANKS[Decision.ACCEPTED]}\t{'t' if rows.downgraded else 'f'}"
        f"\t{rows.message_class}\t{rows.class_sent or NULL}\t"
    )
    stages = f"\t{rows.presence_ms}\t{rows.routed_ms}\t{rows.decided_ms}\t{rows.app}\t"
    account = f"\t{rows.vendor}\t{rows.business_id}\t{tried[:-3]}"
    end = f"{tried[-3:]}\t{rows.attempt[1]}\n"
    whole = "".join(
        [
            f"{start}{ts_ms}\t{received_ms}{row}{push_id}{stages}{event_id}\t{message_id}"
            f"\t{conversation}\t\t\t\t{user}\t{device}{account}{vendor_id}{end}"
            for ts_ms, received_ms, message_id, conversation, event_id, user, device, push_id, vendor_id in zip(  # noqa: E501
                times,
                events.received_ms,
                events.message_ids,
                events.conversations,
                rows.event_ids,
                rows.users,
                rows.devices,
                rows.push_ids,
                rows.vendor_ids,
                strict=True,
            )
        ]
    )
    nulls = 0 if rows.class_sent else len(times)
    return whole if _need_no_escape(whole, len(times), nulls) else None


def _own_raw(event: EventRecord, row: RowRecord, day: str, tried: str) -> str:
    collapse = _collapse(event.screen) if event.screen else ""
    return (
        f"{day}\t{event.type}\t{event.ts_ms}\t{event.received_ms}\t{row.decision}\t{_RANKS[row.decision or '']}"  # noqa: E501
        f"\t{'t' if row.downgraded else 'f'}\t{row.message_class}\t{row.class_sent or NULL}\t{row.push_id or NULL}"  # noqa: E501
        f"\t{row.presence_ms}\t{row.routed_ms}\t{row.decided_ms}"
        f"\t{row.app}\t{row.event_id}\t{event.message_id}\t{event.conversation}\t{event.note}\t{event.screen}\t{collapse}\t{row.user}"
        f"\t{row.device}\t{row.vendor}\t{row.business_id}\t{tried}\t{row.note}\n"
    )


#: Between the texts at a line's end.
_FREE_TABS: Final = 12


def own_line(event: EventRecord, row: RowRecord) -> str:
    """An undecided event with its only row, which is final and of a lane without receipts."""
    tried = _tried(row.attempts) if row.attempts else ""
    collapse = _collapse(event.screen) if event.screen else ""
    free = (
        f"{row.app}\t{row.event_id}\t{event.message_id}\t{event.conversation}\t{event.note}\t{event.screen}\t{collapse}\t{row.user}"
        f"\t{row.device}\t{row.vendor}\t{row.business_id}\t{tried}\t{row.note}"
    )
    between = free.replace("\t", "")
    if "\\" in free or len(free) - len(between) != _FREE_TABS or not between.isprintable():
        named = (
            row.app,
            row.event_id,
            event.message_id,
            event.conversation,
            event.note,
            event.screen,
            collapse,
        )
        fields = (*named, row.user, row.device, row.vendor, row.business_id, tried, row.note)
        free = "\t".join(map(_escaped, fields))
    return (
        f"{_day(row.ts_ms // _DAY_MS)}\t{event.type}\t{event.ts_ms}\t{event.received_ms}\t{row.decision}\t{_RANKS[row.decision or '']}"  # noqa: E501
        f"\t{'t' if row.downgraded else 'f'}\t{row.message_class}\t{row.class_sent or NULL}\t{row.push_id or NULL}"  # noqa: E501
        f"\t{row.presence_ms}\t{row.routed_ms}\t{row.decided_ms}\t{free}\n"
    )


def _tried(attempts: Sequence[Attempt]) -> str:
    return _json.encode(_shown(attempts)).decode()


def _tried_of(rows: Sequence[RowRecord]) -> list[str]:
    """`_tried` of each row, "" without attempts; written at once. JSON has no line feed inside."""
    lines = _json.encode_lines([_shown(row.attempts) for row in rows]).decode().split("\n")
    return [line if row.attempts else "" for line, row in zip(lines, rows, strict=False)]


def _shown(attempts: Sequence[Attempt]) -> list[tuple[int, str, str, str, str | None]]:
    return [(a.at_ms, a.status, a.code, a.words, a.vendor_message_id) for a in attempts]


def note_line(r: NoteRecord) -> str:
    app, event_id, user, device, note = _plain(r.app, r.event_id, r.user, r.device, r.note)
    return f"{_day(r.ts_ms // _DAY_MS)}\t{r.kind}\t{r.stage}\t{r.at_ms}\t{app}\t{event_id}\t{user}\t{device}\t{note}\n"  # noqa: E501
