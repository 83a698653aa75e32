"""Ledger records in columns are the single ones, and COPY reads from their lines what they say,
whatever stands in a text.
"""

import json
import re
from collections import Counter
from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from common.contracts import Attempt, encode
from common.ledger_records import (
    EventRecord,
    Record,
    RowRecord,
    decode_records,
    pack_users,
    singly,
    unpack_users,
)
from common.storage import ledger_copy as copy
from common.storage.ledger_own import APART_MS, met, met_in_columns, row_key
from tests.examples import examples
from tests.records import (
    accepted_row,
    at_once,
    event_columns,
    event_record,
    note_record,
    row_columns,
    row_record,
)

DAY_MS = 86_400_000
TEXTS = st.text("ab \\\n\r\t\0\x01\x85é", max_size=4)
USUAL = st.sampled_from(["", "ann", "b c", "é", "\x85"])
READ = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\\": "\\", r"\x01": "\x01"}


def read(line: str, columns: str) -> dict[str, Any]:
    """A line as COPY reads it."""
    assert line.count("\n") == 1, "each other is escaped"
    assert not {"\r", "\0"} & set(line)
    values = [
        None if raw == copy.NULL else re.sub(r"\\(x01|.)", lambda one: READ[one[0]], raw)
        for raw in line.removesuffix("\n").split("\t")
    ]
    return dict(zip(re.findall(r"\w+", columns), values, strict=True))


@given(st.fixed_dictionaries(dict.fromkeys(("event_id", "user", "device", "note"), TEXTS)), TEXTS)
@example({"event_id": "e1", "user": "a\tb", "device": "", "note": ""}, "")
@settings(deadline=None, max_examples=examples(100))
def test_copy_reads_what_a_record_says(named: dict[str, str], words: str) -> None:
    """A NUL, which PostgreSQL's text takes nowhere, as the two characters that name it."""
    stored = {name: text.replace("\0", r"\0") for name, text in named.items()}
    about: dict[str, Any] = {"app": "demo", "ts_ms": DAY_MS, **named}
    row = row_record(**about, attempts=(Attempt(1, "200", "", words, None, ""),) * 2, decided_ms=2)
    told = read(copy.row_line(row), copy.ROW_COLUMNS)
    assert {**stored, "day": "1970-01-02", "rank": "12"}.items() <= told.items()
    assert json.loads(told["attempts"]) == [[1, "200", "", words, None]] * 2
    nulls = [name for name, value in told.items() if value is None]
    assert nulls == ["decision", "class_sent", "push_id"]
    told = read(copy.note_line(note_record(**about, at_ms=5)), copy.NOTE_COLUMNS)
    assert {**stored, "at_ms": "5"}.items() <= told.items()
    screen = json.dumps({"collapse_key": words})
    own = {"received_ms": 3, "note": named["note"], "screen": screen}
    event = event_record(app="demo", event_id=named["event_id"], ts_ms=DAY_MS, **own)
    told = read(copy.event_line(event), copy.EVENT_COLUMNS)
    assert (told["screen"], told["collapse"]) == (screen, words.replace("\0", r"\0"))
    row = accepted_row(event, named["user"], named["device"], attempts=row.attempts)
    whole = read(copy.own_line(event, row), copy.OWN_COLUMNS)
    alone = read(copy.row_line(row), copy.ROW_COLUMNS)
    for name in ("user", "device", "note", "decision", "rank", "push_id", "attempts"):
        assert whole[f"row_{name}"] == alone[name]
    del told["decision"]
    assert told.items() <= whole.items()


#: By push: event id, message, user, device, its id at the vendor.
PUSHES = st.lists(st.tuples(*[USUAL] * 4, st.just("id")).map(list), min_size=2, max_size=3)
PLACES = st.sampled_from([0, 1, 2, 3, 4, 4, 4])
ODD = st.sampled_from('aaaé"\\\n\r\t\0\x01')


@given(PUSHES, ODD, PLACES, st.sampled_from(["", "", "class", "day", "push id"]))
@settings(deadline=None, max_examples=examples(300))
def test_lines_made_together_are_those_made_one_by_one(
    pushes: list[list[str]], char: str, place: int, other: str
) -> None:
    """char: in one text of the last push. other: what it has not, or has another one of."""
    pushes[-1][place] += char
    events, rows = list[EventRecord](), list[RowRecord]()
    common: dict[str, Any] = dict.fromkeys(("presence_ms", "routed_ms", "decided_ms"), DAY_MS + 9)
    common["class_sent"] = None if other == "class" else "chat"
    for event_id, message_id, user, device, vendor_id in pushes:
        named = {"event_id": event_id, "message_id": message_id, "received_ms": DAY_MS}
        events.append(event_record(app="demo", ts_ms=DAY_MS, **named))
        common["attempts"] = at_once(vendor_id)
        rows.append(accepted_row(events[-1], user, device, **common))
    if other == "day":
        events[-1], rows[-1] = replace(events[-1], ts_ms=1), replace(rows[-1], ts_ms=1)
    if other == "push id":
        rows[-1] = replace(rows[-1], push_id=None)
    pairs = list(zip(events, rows, strict=True))
    singles = "".join(copy.own_line(*pair) for pair in pairs)
    bare = events[0], replace(rows[0], attempts=())
    assert copy.own_lines([bare, *pairs]) == copy.own_line(*bare) + singles
    found = copy.own_column_lines(row_columns(rows), event_columns(events))
    odd = char in "\\\n\r\t\0\x01" or (place == 4 and char in 'é"')
    assert found == (None if odd or other in ("day", "push id") else singles)


#: Events by their block, each of another type; rows by event and device: 2 is of late ones and of
#: another time, 3 of a vendor with receipts, 4 no block but single ones.
BLOCKS = st.dictionaries(st.integers(0, 5), st.integers(0, 1), max_size=6)
DEVICES = st.sampled_from(["phone", "phone", "pad"])
ROWS = st.dictionaries(st.tuples(st.integers(0, 6), DEVICES), st.integers(0, 4))


@given(BLOCKS, st.none() | ROWS, st.sets(st.integers(0, 5), max_size=2), st.integers(0, 12))
@example({0: 0, 1: 1}, {(0, "phone"): 0, (1, "phone"): 0}, set(), 12)
@example({0: 0, 2: 0}, {(0, "phone"): 0, (4, "phone"): 0}, set(), 12)
@settings(deadline=None, max_examples=examples(300))
def test_what_meets_in_columns_is_what_meets_singly(
    blocks: dict[int, int], placed: dict[tuple[int, str], int] | None, known: set[int], odd: int
) -> None:
    """Nothing is lost on the way either: what met in columns, and all else as single records."""
    if placed is None:  # as intake has written them
        placed = {(n, "phone"): block for n, block in blocks.items()}
    events: list[list[EventRecord]] = [[], []]
    rows: list[list[RowRecord]] = [[] for _ in range(5)]
    for n, block in blocks.items():
        about = {"event_id": f"e{n}", "ts_ms": DAY_MS + n % 2, "type": f"of.{block}"}
        events[block].append(event_record(app="demo", received_ms=1, **about))
    numbers, expected = Counter(n for n, _ in placed), list[str]()
    for (n, device), block in placed.items():
        ts_ms = DAY_MS + n % 2 + (block == 2 and n % 2)
        event = event_record(app="demo", event_id=f"e{n}", ts_ms=ts_ms, received_ms=1)
        common: dict[str, Any] = {"vendor": "xiaomi" if block == 3 else "apns"}
        common |= {"attempts": at_once(), "decided_ms": DAY_MS + (block == 2) * APART_MS}
        row = accepted_row(event, "a\tb" if n == odd else "bob", device, **common)
        rows[block].append(row)
        if n in blocks and numbers[n] == 1 and block not in (2, 3) and n not in known:
            expected.append(copy.own_line(replace(event, type=f"of.{blocks[n]}"), row))
    keys = {row_key(row) for row in chain(*rows) if int(row.event_id[1:]) in known}
    columns = [event_columns(own) for own in events if own]
    packed = [row_columns(own) for own in rows[:4] if own]
    text, left, rest = met_in_columns(columns, packed, rows[4], [keys, set()])
    whole, rest = text.splitlines(keepends=True), rest + rows[4]
    lines = [copy.own_line(*pair) for pair in met(left, rest) if row_key(pair[1]) not in keys]
    assert sorted(whole + lines) == sorted(expected)
    ids = [read(line, copy.OWN_COLUMNS)["event_id"] for line in whole]
    assert sorted(ids + [one.event_id for one in left]) == sorted(f"e{n}" for n in blocks)
    assert sorted(ids + [one.event_id for one in rest]) == sorted(f"e{n}" for n, _ in placed)


def test_columns_are_the_single_records_also_in_part() -> None:
    common: dict[str, Any] = {"app": "demo", "received_ms": 7}
    events = [event_record(event_id=f"e{n}", ts_ms=n, **common) for n in range(3)]
    rows = [accepted_row(one, f"u{n}", attempts=at_once(f"id{n}")) for n, one in enumerate(events)]
    one, other = event_columns(events), row_columns(rows)
    records: list[Record] = [one, *rows, other, *events]
    assert singly(decode_records(encode(records))) == [*events, *rows, *rows, *events]
    assert one.part([True, False, True]).singly() == events[::2]
    assert other.part([True, False, True]).singly() == rows[::2]


@pytest.mark.parametrize("column", ["event_ids", "times_ms"])
def test_columns_of_different_lengths_are_no_record(column: str) -> None:
    events = [event_record(app="demo", ts_ms=n, received_ms=7) for n in range(2)]
    rows = [accepted_row(one, attempts=at_once()) for one in events]
    for packed in (event_columns(events), row_columns(rows)):
        getattr(packed, column).pop()
        with pytest.raises(ValueError, match="different lengths"):
            decode_records(encode([packed]))


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
@settings(deadline=None)
def test_the_people_of_a_page_come_out_as_they_went_in(users: list[str]) -> None:
    assert unpack_users(pack_users(users)) == users
