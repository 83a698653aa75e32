"""The core writes on a Redis of its own: events, presence and members are read there, all else
stays on the fleet's.
"""

import dataclasses
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.config import Settings
from common.ledger_records import EventRecord, NoteRecord, RowRecord
from common.storage import keys
from common.storage.core_streams import core_streams
from common.storage.marks import EventMarks
from common.storage.streams import GROUP
from common.storage.tenants import Tenant
from tests.builders import core_event, device_of
from tests.conftest import OwnValkey
from tests.integration.conftest import opened
from tests.records import records_of
from workers.app import PRESENCE, ROUTING
from workers.cli.worker import doors_of, intake_loop
from workers.handlers.intake import IntakeHandler, IntakeLoop
from workers.handlers.spread_intake import Sorter, SpreadIntakeLoop
from workers.pipeline import Stages
from workers.runtime import Runtime


@pytest.fixture
def runtime(
    keyed: Settings, restartable_valkey: OwnValkey, request: pytest.FixtureRequest
) -> Iterator[Runtime]:
    """param: shards of the fleet."""
    shards = getattr(request, "param", 1)
    with opened(
        dataclasses.replace(keyed, core_url=restartable_valkey.url, shards=shards)
    ) as found:
        yield found


#: What becomes of `Core.group_through`.
BY_PERSON = {"alice": ["sender"], "bob": ["online"], "carol": ["no_credential"]}


class Core:
    """One tenant, its people's phones, and what its core writes."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.app = runtime, "c" + uuid.uuid4().hex[:10]
        self.prefix = runtime.settings.key_prefix
        (self.stream,) = runtime.settings.event_streams
        runtime.tenants.add(Tenant(self.app, "Core", "en", "UTC"))
        runtime.catalog.changed()

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        now = int(time.time() * 1000)
        self.put(core_event(self.app, kind, data, ts_ms=now))

    def put(self, *events: dict[str, Any], field: str = "e") -> bytes:
        """One entry; its id."""
        lines = "\n".join(json.dumps(event) for event in events)
        entry: Any = self.runtime.core.xadd(self.stream, {field: lines})
        return bytes(entry)

    def chat(self, event_id: str) -> dict[str, Any]:
        where = {"type": "c2c", "id": "alice"}
        who = {"message_id": event_id, "conversation": where, "sender": {"id": "alice"}}
        words = {"recipients": ["bob"], "elements": [{"type": "text", "text": "hi"}]}
        return core_event(self.app, "message.stored", {**who, **words}, event_id=event_id)

    def loses(self, entry: bytes) -> None:
        """As a replica that was promoted before it had the entry."""
        self.runtime.core.xack(self.stream, GROUP, entry)
        assert self.runtime.core.xdel(self.stream, entry) == 1

    def taken_in(self) -> list[str]:
        """Events that intake takes in now, by the ledger's stream; `repeat <id>` for repeats."""
        before = len(self.ledger())
        self.take_in()
        assert not self.runtime.core.xlen(self.stream)
        return [
            record.event_id if isinstance(record, EventRecord) else f"repeat {record.event_id}"
            for record in self.ledger()[before:]
        ]

    def take_in(self) -> None:
        consumer = intake_loop(self.runtime)
        while consumer.once(block_ms=10):
            pass

    def ledger(self) -> list[EventRecord | NoteRecord]:
        return [
            record
            for shard in self.runtime.shards
            for record in records_of(shard.redis, shard.keys.stream(keys.LEDGER))
            if isinstance(record, EventRecord | NoteRecord) and record.app == self.app
        ]

    def dies_before_its_commit(self) -> None:
        """A process that reads what is there and marks its events as seen."""
        doors = [doors_of(shard) for shard in self.runtime.shards]
        source = core_streams(self.runtime.core, [self.stream], self.runtime.keys)
        entries = source.read([self.stream], 100)
        assert entries
        (turn,) = Sorter(source, len(doors), doors[0]).sorted(entries)
        for number, those in turn.items():
            IntakeHandler(doors[number]).handle(those)

    def phone(self, user: str) -> None:
        data = device_of(user, device_id="d")
        self.publish(
            "device.registered", {**data, "token": f"a0a0{uuid.uuid4().hex}{uuid.uuid4().hex[4:]}"}
        )

    def group_message(self) -> None:
        members = f"{self.prefix}members:{{{self.app}:g}}"
        self.runtime.core.sadd(members, "alice", "bob", "carol")
        until = int(time.time() * 1000) + 60_000
        self.runtime.core.hset(
            f"{self.prefix}presence:{{{self.app}:bob}}", "d", f"foreground|ios|{until}"
        )
        conversation = {"type": "group", "id": "g"}
        data = {"message_id": "m", "conversation": conversation, "sender": {"id": "alice"}}
        self.publish("message.stored", {**data, "elements": [{"type": "text", "text": "hi"}]})

    def group_through(self) -> dict[str, list[str]]:
        """`decisions` of a group message to three phones, one of them in use."""
        for user in ("alice", "bob", "carol"):
            self.phone(user)
        self.group_message()
        self.take_in()
        assert not self.runtime.core.xlen(self.stream)
        return self.decisions()

    def decisions(self) -> dict[str, list[str]]:
        """What became of each person, by the ledger's stream, once presence and routing are
        through.
        """
        stages = Stages(self.runtime)
        stages.consumer(PRESENCE)(lambda: False)
        stages.consumer(ROUTING)(lambda: False)
        found: dict[str, list[str]] = {}
        for record in records_of(self.runtime.redis, self.runtime.keys.stream(keys.LEDGER)):
            if isinstance(record, RowRecord) and record.app == self.app:
                found.setdefault(record.user, []).append(str(record.decision))
        return found


def test_events_presence_and_members_are_the_cores(runtime: Runtime) -> None:
    core = Core(runtime)
    assert core.group_through() == BY_PERSON
    assert not runtime.redis.exists(core.stream)


def test_what_was_handed_on_but_not_acknowledged_is_no_repeat_and_no_loss(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core's Redis goes away between the two: the entry comes again and is
    absorbed by its ids.
    """
    core = Core(runtime)
    consumer = IntakeLoop(runtime.settings.event_streams, doors_of(runtime))
    core.phone("carol")
    core.take_in()
    core.group_message()

    def away(**_: Any) -> Any:
        raise RedisConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(runtime.core, "pipeline", away)
        with pytest.raises(RedisConnectionError):
            consumer.once(block_ms=10)
    while consumer.once(block_ms=10):
        pass
    assert not runtime.core.xlen(core.stream)
    streams = keys.STAGE_STREAMS[keys.PRESENCE]
    assert sum(runtime.redis.xlen(runtime.keys.stream(stream)) for stream in streams) == 1
    seen = {user: set(found) for user, found in core.decisions().items()}["carol"]
    assert seen == {"no_credential"}
    steps = records_of(runtime.redis, runtime.keys.stream(keys.LEDGER))
    assert not [record for record in steps if isinstance(record, NoteRecord)], (
        "our own second reading is no repeated event"
    )


@pytest.mark.parametrize("runtime", [3], indirect=True, ids="{} shards".format)
def test_what_a_process_of_the_release_before_has_written_is_not_written_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It noted each entry in its shard, and died before it acknowledged."""
    core, people = Core(runtime), [f"u{number}" for number in range(9)]
    chats = [core.chat(user) for user in people]
    for user, chat in zip(people, chats, strict=True):
        chat["data"]["recipients"] = [user]
    ids: list[Any] = [core.put(chat) for chat in chats]
    before = SpreadIntakeLoop([core.stream], [doors_of(one) for one in runtime.shards])

    def away(**_: Any) -> Any:
        raise RedisConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(runtime.core, "pipeline", away)
        with pytest.raises(RedisConnectionError):
            before.consumer.once()
    assert sorted(one.event_id for one in core.ledger()) == people
    runtime.core.xclaim(core.stream, GROUP, "dead", 0, ids, idle=60_000, justid=True)
    assert not core.taken_in()


@pytest.mark.parametrize("runtime", [1, 3], indirect=True, ids="{} shards".format)
def test_an_event_whose_entry_was_lost_before_its_commit_is_taken_in_when_it_comes_again(
    runtime: Runtime,
) -> None:
    """The core's server died with the entry, and the core publishes the event again."""
    core = Core(runtime)
    first = core.put(core.chat("e1"))
    core.dies_before_its_commit()
    core.loses(first)
    core.put(core.chat("e1"))
    core.put(core.chat("e1"))
    assert sorted(core.taken_in()) == ["e1", "repeat e1"]
    core.put(core.chat("e1"))
    assert core.taken_in() == ["repeat e1"]


def test_a_lost_entry_of_many_events_gives_back_each(runtime: Runtime) -> None:
    core = Core(runtime)
    first = core.put(*[core.chat(f"e{number}") for number in (0, 1, 1, 199)], field="b")
    core.dies_before_its_commit()
    core.loses(first)
    core.put(*[core.chat(f"e{number}") for number in (199, 1, 0)], field="b")
    assert sorted(core.taken_in()) == ["e0", "e1", "e199"]


def test_an_event_whose_entry_still_waits_at_a_dead_reader_is_a_repeat(runtime: Runtime) -> None:
    core = Core(runtime)
    first = core.put(core.chat("e1"))
    core.dies_before_its_commit()
    core.put(core.chat("e1"))
    consumer = intake_loop(runtime)
    assert consumer.once(block_ms=10) == 1
    runtime.core.xclaim(core.stream, GROUP, "dead", 0, [first], idle=60_000)
    assert core.taken_in() == ["e1"]
    core.put(core.chat("e1"))
    assert core.taken_in() == ["repeat e1"]


def test_a_lost_entry_that_was_committed_leaves_no_second_push(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(runtime)
    assert core.taken_in() == []
    first = core.put(core.chat("e1"))

    def away(**_: Any) -> Any:
        raise RedisConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(runtime.core, "pipeline", away)
        with pytest.raises(RedisConnectionError):
            intake_loop(runtime).once(block_ms=10)
    core.loses(first)
    core.put(core.chat("e1"))
    assert core.taken_in() == ["repeat e1"]


def test_two_publications_of_a_lost_event_at_two_readers_are_one_event(runtime: Runtime) -> None:
    """Both find its entry lost; one of them takes the id."""
    core = Core(runtime)
    marks = [doors_of(runtime).marks for _ in range(2)]
    lost = f"{core.stream}/{int(time.time() * 1000)}-0"
    again = [f"{core.stream}/{int(time.time() * 1000)}-{number}" for number in (1, 2)]
    assert marks[0].repeats([(core.app, "e1", lost)]) == [False]
    told: list[bool] = []
    entries: Any = marks[0]._entries
    look = entries.lost

    def other_comes_first(holders: Any) -> Any:
        found = look(holders)
        entries.lost = look
        told.extend(marks[1].repeats([(core.app, "e1", again[1])]))
        return found

    entries.lost = other_comes_first
    assert marks[0].repeats([(core.app, "e1", again[0])]) == [True]
    assert told == [False]


def test_marks_of_the_release_before_are_understood(runtime: Runtime) -> None:
    """Its processes end while this one's begin: what they had read is no repeat, what they have
    committed is.
    """
    core = Core(runtime)
    before = EventMarks(runtime.redis, runtime.keys)
    entry = f"{core.stream}/{int(time.time() * 1000)}-0"
    further = f"{core.stream}/{int(time.time() * 1000)}-1"
    assert before.repeats([(core.app, "e1", entry)]) == [False]
    assert runtime.marks.repeats([(core.app, "e1", entry)]) == [False]
    assert runtime.marks.repeats([(core.app, "e1", further)]) == [True]
    runtime.marks.free([(core.app, "e1", entry)])
    assert runtime.marks.repeats([(core.app, "e1", further)]) == [False]


ODD = {
    "an id of the core's own": "18446744073709551615-18446744073709551615",
    "many in one ms": "1764000000000-16384",
    "a place past the last": "1764000000000-0#255",
}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_an_entry_whose_id_fits_no_mark_is_told_apart_all_the_same(
    runtime: Runtime, name: str
) -> None:
    app = uuid.uuid4().hex
    entry, other = f"{Core(runtime).stream}/{name}", f"{Core(runtime).stream}/5-5"
    assert runtime.marks.repeats([(app, "e1", entry)]) == [False]
    assert runtime.marks.repeats([(app, "e1", entry)]) == [False]
    assert runtime.marks.repeats([(app, "e1", other)]) == [True]
