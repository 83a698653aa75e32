"""Rows of one round in several shards become one record."""

from collections import Counter

import msgspec

from common.ledger_records import NoteRecord, RowColumns, joined_rows, singly


def rows(*users: str, decided_ms: int = 5) -> RowColumns:
    return RowColumns(
        app="a",
        vendor="apns",
        business_id="ios",
        downgraded=False,
        message_class="chat",
        class_sent="chat",
        attempt=(4, "200", "accepted"),
        presence_ms=1,
        routed_ms=2,
        decided_ms=decided_ms,
        event_ids=[f"e-{user}" for user in users],
        times_ms=[1] * len(users),
        users=list(users),
        devices=["d"] * len(users),
        push_ids=[f"p-{user}" for user in users],
        vendor_ids=[f"v-{user}" for user in users],
    )


def test_rows_that_differ_in_their_pushes_only_are_one_record() -> None:
    note = NoteRecord(
        app="a", event_id="e", ts_ms=1, user="u", device="d", kind="", stage="s", at_ms=1, note="n"
    )
    later, parts = rows("x", decided_ms=6), [rows("u", "v"), rows("w"), rows("y", "z")]
    records = [note, parts[0], later, parts[1], note, parts[2]]
    joined = joined_rows(records)
    assert joined == [note, rows("u", "v", "w", "y", "z"), later, note]

    def single(found: list[object]) -> Counter[bytes]:
        columns = [one for one in found if isinstance(one, RowColumns)]
        return Counter(map(msgspec.msgpack.encode, singly(columns)))

    assert single(joined) == single([*records])
    assert joined_rows([later]) == [later]
