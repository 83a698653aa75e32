"""Several events in one entry of the core's stream: each is its own, the entry goes when all are
done.
"""

import json
import threading
import time
import uuid
from typing import Any

import pytest
import redis

from common.ledger_records import DeadRecord, NoteRecord
from common.publisher import EVENT_BYTES_MAX, EVENTS_MAX, Publisher
from common.storage import keys
from common.storage.dead_letters import DeadLetter
from common.storage.streams import Entry
from common.storage.tenants import Tenant
from tests.records import fields_of, records_of
from workers.cli.worker import doors_of
from workers.handlers.intake import READ_COUNT, IntakeLoop, entries_of
from workers.intake.decoding import LINES_MAX, Passed, Refused, read_entries
from workers.replay import _to_stream
from workers.runtime import Runtime

APP = "packed"
NOW_MS = 1_763_787_600_000


def event(event_id: str, user: str = "bob", **more: Any) -> dict[str, Any]:
    conversation = {"type": "c2c", "id": "ann"}
    data: dict[str, Any] = {
        "message_id": event_id,
        "conversation": conversation,
        "sender": {"id": "ann"},
        "recipients": [user],
    }
    data["elements"] = [{"type": "text", "text": "hi"}]
    return {"v": 1, "id": event_id, "type": "message.stored", "app": APP, "data": data, **more}


def lines(*events: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in events)


def read(raw: bytes, **more: bytes) -> list[Passed | Refused]:
    fields = {b"b": raw, **{name.encode(): value for name, value in more.items()}}
    return read_entries("im:events", f"{NOW_MS}-0", fields, [APP], NOW_MS)


def test_each_line_is_an_event_and_a_bad_one_is_refused_alone() -> None:
    first, bad, unknown, last = read(
        lines(event("e1"), b"{not json", event("e2", app="other"), event("e3"))
    )
    assert isinstance(first, Passed)
    assert isinstance(last, Passed)
    assert [one.events[0].id for one in (first, last)] == ["e1", "e3"]
    assert first.events[0].entry != last.events[0].entry
    assert isinstance(bad, Refused)
    assert isinstance(unknown, Refused)
    assert (bad.reason, bad.raw, unknown.reason) == ("not_json", b"{not json", "unknown_app")


def test_an_empty_dialect_is_none_as_beside_one_event() -> None:
    (found,) = read(lines(event("e1")), d=b"")
    assert isinstance(found, Passed)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n"])
def test_ends_of_lines(ending: bytes) -> None:
    found = read(
        ending.join([json.dumps(event("e1")).encode(), json.dumps(event("e2")).encode(), b""])
    )
    assert [one.events[0].id for one in found if isinstance(one, Passed)] == ["e1", "e2"]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("raw", "fields", "reason"),
    [
        (b"", {}, "too_many"),
        (b" \n ", {}, "too_many"),
        (lines(*[event("e")] * (LINES_MAX + 1)), {}, "too_many"),
        (lines(event("e1", data={"x": "y" * 256 * 1024})), {}, "too_large"),
        (lines(event("e1")), {"d": b"tencent"}, "wrong_shape"),
    ],
)
def test_what_is_no_packed_entry_is_refused_whole(
    raw: bytes, fields: dict[str, bytes], reason: str
) -> None:
    (refused,) = read(raw, **fields)
    assert isinstance(refused, Refused)
    assert refused.reason.startswith(reason)
    assert refused.raw == raw[: 256 * 1024]
    assert refused.fields["as"] == "b"


def test_an_entry_with_both_fields_is_that_of_its_event() -> None:
    fields = {b"e": json.dumps(event("e1")).encode(), b"b": lines(event("e2"))}
    (only,) = read_entries("s", "1-0", fields, [APP], NOW_MS)
    assert isinstance(only, Passed)
    assert only.events[0].id == "e1"


@pytest.fixture(autouse=True)
def _tenant(runtime: Runtime) -> None:
    if APP not in runtime.tenants.all():
        runtime.tenants.add(Tenant(APP, "Packed", "en", "Asia/Shanghai"))


class Core:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.stream = runtime.settings.event_streams[0]
        self.loop = IntakeLoop([self.stream], doors_of(runtime))

    def put(self, **fields: Any) -> None:
        self.runtime.core.xadd(self.stream, dict[Any, Any](fields))

    def turn(self) -> list[Any]:
        """All that intake wrote for the ledger."""
        while self.loop.once(block_ms=5):
            pass
        found = records_of(self.runtime.redis, self.runtime.keys.stream(keys.LEDGER))
        self.runtime.redis.delete(self.runtime.keys.stream(keys.LEDGER))
        self.runtime.streams._made.clear()
        return found

    def stored(self, records: list[Any]) -> list[str]:
        return [one.event_id for one in records if type(one).__name__ == "EventRecord"]


@pytest.fixture
def core(runtime: Runtime) -> Core:
    return Core(runtime)


def test_an_id_that_comes_twice_in_one_entry_is_a_repeat(core: Core) -> None:
    ids = [uuid.uuid4().hex for _ in range(2)]
    core.put(b=lines(event(ids[0]), event(ids[1]), event(ids[0])))
    records = core.turn()
    assert core.stored(records) == ids
    assert [one.event_id for one in records if isinstance(one, NoteRecord)] == [ids[0]]
    assert not core.runtime.core.xlen(core.stream)


def test_a_read_of_full_entries_is_of_few_of_them(core: Core) -> None:
    """Thousands of events at once would keep a call behind them waiting. Behind a wait it is of
    fewer still, and the next one is not.
    """
    sizes = []
    for entries in (1, 45):
        for _ in range(entries):
            core.put(b=lines(*(event(uuid.uuid4().hex) for _ in range(100))))
        while count := core.loop.once(block_ms=5):
            sizes.append(count)
    assert sizes == [1, 4, 20, 20, 1]
    for _ in range(40):
        core.put(e=json.dumps(event(uuid.uuid4().hex)).encode())
    assert [core.loop.once(block_ms=5) for _ in range(3)] == [4, 36, 0]
    assert entries_of(2_000, 1.0) == READ_COUNT


def test_a_bad_line_is_a_letter_that_replays_as_an_event(core: Core) -> None:
    later = "l" + uuid.uuid4().hex[:10]
    good, late = uuid.uuid4().hex, uuid.uuid4().hex
    core.put(b=lines(event(good), event(late, app=later)))
    records = core.turn()
    (letter,) = [one for one in records if isinstance(one, DeadRecord)]
    assert (letter.reason, core.stored(records)) == ("unknown_app", [good])
    core.runtime.tenants.add(Tenant(later, "Later", "en", "Asia/Shanghai"))
    core.runtime.catalog.changed()
    raw = core.runtime.vault.decrypt(letter.raw)
    again = DeadLetter(
        "l", letter.entry_id, "intake", letter.reason, None, letter.at_ms, raw, letter.fields
    )
    _to_stream(core.runtime, again)
    assert core.stored(core.turn()) == [late]


def test_an_entry_that_breaks_intake_is_split_and_only_its_culprit_is_a_letter(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [uuid.uuid4().hex for _ in range(3)]
    handler = core.loop.consumer.handler
    handle = handler.handle

    def breaks(entries: list[Entry]) -> Any:
        commit = handle(entries)
        if any(ids[1].encode() in value for entry in entries for value in entry.fields.values()):
            raise ValueError
        return commit

    monkeypatch.setattr(handler, "handle", breaks, raising=False)
    core.put(b=lines(*map(event, ids)))
    records = core.turn()
    assert sorted(core.stored(records)) == sorted([ids[0], ids[2]])
    (letter,) = [one for one in records if isinstance(one, DeadRecord)]
    assert json.loads(core.runtime.vault.decrypt(letter.raw))["id"] == ids[1]
    monkeypatch.undo()
    core.put(e=json.dumps(event(ids[1])).encode())
    assert core.stored(core.turn()) == [ids[1]], "its id was given back"


# ---------------------------------------------------------------- the publisher


def test_the_publisher_packs_what_it_is_given_within_the_limits(core: Core) -> None:
    publisher = Publisher(core.runtime.settings.redis_url, core.stream)
    large = [event(uuid.uuid4().hex, ext="x" * 100_000) for _ in range(5)]
    small = [event(uuid.uuid4().hex) for _ in range(EVENTS_MAX + 1)]
    entries = publisher.publish_many([*large, *small])
    assert len(entries) == len(large) + len(small)
    for fields in fields_of(core.runtime.core, core.stream):
        (body,) = fields.values()
        assert len(body) <= EVENT_BYTES_MAX
        assert body.count(b"\n") < EVENTS_MAX
    assert core.stored(core.turn()) == [one["id"] for one in [*large, *small]]
    assert publisher.publish_many([]) == []
    publisher.close()


def test_what_several_threads_publish_while_one_waits_goes_together(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(core.runtime.settings.redis_url, core.stream)
    go, began = threading.Event(), threading.Event()
    add = publisher._add

    def slow(fields: Any) -> str:
        began.set()
        assert go.wait(60)
        return add(fields)

    monkeypatch.setattr(publisher, "_add", slow)
    ids = [uuid.uuid4().hex for _ in range(20)]
    told: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda one=one: told.update({one: publisher.publish(event(one))}))
        for one in ids
    ]
    threads[0].start()
    assert began.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(publisher._waiting) < 19:
        pass
    go.set()
    for thread in threads:
        thread.join(60)
    assert sorted(told) == sorted(ids)
    assert len(set(told.values())) == 2
    assert sorted(core.stored(core.turn())) == sorted(ids)
    publisher.close()


def test_who_waits_with_others_hears_of_the_error_too(free_tcp_port: int) -> None:
    publisher = Publisher(f"redis://127.0.0.1:{free_tcp_port}")
    for _ in range(2):
        with pytest.raises(redis.RedisError):
            publisher.publish(event("e1"))
    assert not publisher._waiting


# ---------------------------------------------------------------- a letter goes the way its entry w

TENCENT = {
    "CallbackCommand": "C2C.CallbackAfterSendMsg",
    "From_Account": "jared",
    "To_Account": "Jonh",
    "MsgSeq": 48374,
    "MsgRandom": 2837546,
    "MsgTime": 0,
    "MsgKey": "48374_2837546_1557481126",
    "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "red packet"}}],
}


def test_a_foreign_callback_that_broke_intake_is_replayed_as_one_and_once(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({**TENCENT, "MsgTime": int(time.time()), "MsgKey": uuid.uuid4().hex}).encode()
    handler: Any = core.loop.consumer.handler
    seen = list[str]()

    def breaks(entries: list[Entry]) -> Any:
        asked = next(handler.steps(handler.reads(entries, NOW_MS), NOW_MS))
        asked.marks.repeats(asked.events, asked.messages)
        seen.extend(event_id for _, event_id, _ in asked.events)
        raise ValueError

    monkeypatch.setattr(handler, "handle", breaks, raising=False)
    core.put(e=body, d=b"tencent", app=APP.encode(), q=b"a=b")
    (letter,) = core.turn()
    assert seen, "it had taken its event id"
    shown = {name: letter.fields[name] for name in ("d", "app", "q", "stream")}
    assert shown == {"d": "tencent", "app": APP, "q": "a=b", "stream": core.stream}
    monkeypatch.undo()
    raw = core.runtime.vault.decrypt(letter.raw)
    dead = DeadLetter(
        "l", letter.entry_id, "intake", letter.reason, None, letter.at_ms, raw, letter.fields
    )
    _to_stream(core.runtime, dead)
    assert core.stored(core.turn()) == seen[:1]
    core.put(e=body, d=b"tencent", app=APP.encode())
    assert core.stored(core.turn()) == [], "the callback itself, once more, is a repeat"
