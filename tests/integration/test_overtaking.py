"""A call behind a campaign in the core's stream: it is taken before its turn, and nothing is lost
or doubled on the way.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from common.config import Settings
from common.ledger_records import EventRecord, NoteRecord, decode_records
from common.storage import keys
from common.storage.migrations import migrate
from common.storage.streams import GROUP
from common.storage.tenants import Tenant
from workers.cli.worker import doors_of
from workers.handlers.intake import READ_COUNT, IntakeLoop
from workers.runtime import Runtime

APP = "overtaken"


@pytest.fixture
def runtime(settings_with: Callable[..., Settings], database_url: str) -> Iterator[Runtime]:
    made = Runtime(
        settings_with(DATABASE_URL=database_url, SECRET_KEYS=Fernet.generate_key().decode())
    )
    migrate(made.engine)
    if APP not in made.tenants.all():
        made.tenants.add(Tenant(APP, "Overtaken", "en", "Asia/Shanghai"))
    yield made
    made.close()


class Core:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.stream = runtime.settings.event_streams[0]

    def loop(self) -> IntakeLoop:
        made = IntakeLoop([self.stream], doors_of(self.runtime))
        made.once(block_ms=1)
        return made

    def put(self, *events: dict[str, Any] | bytes, field: str = "e") -> list[str]:
        with self.runtime.core.pipeline(transaction=False) as pipe:
            for one in events:
                pipe.xadd(
                    self.stream,
                    {field: one if isinstance(one, bytes) else json.dumps(one).encode()},
                )
            return [entry.decode() for entry in pipe.execute()]

    def stored(self) -> list[str]:
        """Event ids in the order in which intake was done with them."""
        records = [
            one
            for _, fields in self.runtime.redis.xrange(self.runtime.keys.stream(keys.LEDGER))
            for one in decode_records(fields[b"b"])
        ]
        assert not [one for one in records if isinstance(one, NoteRecord)]
        return [one.event_id for one in records if isinstance(one, EventRecord)]


def message(event_id: str, kind: str = "c2c", **push: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": event_id,
        "conversation": {"type": kind, "id": "ann"},
        "sender": {"id": "ann"},
        "recipients": ["bob"],
    }
    data |= {"elements": [{"type": "text", "text": "hi"}], "push": push}
    return {"v": 1, "id": event_id, "type": "message.stored", "app": APP, "data": data}


def advert(number: int) -> dict[str, Any]:
    return message(f"ad{number}", **{"class": "marketing"})


def call(event_id: str) -> dict[str, Any]:
    data = {"call_id": event_id, "inviter": {"id": "ann"}, "invitees": ["bob"], "timeout_s": 30}
    return {"v": 1, "id": event_id, "type": "call.invited", "app": APP, "data": data}


@pytest.fixture
def core(runtime: Runtime) -> Core:
    return Core(runtime)


@pytest.mark.parametrize(
    ("late", "overtakes"),
    [
        (call("late"), True),
        (message("late"), True),
        (message("late", kind="group"), False),
        (message("late", **{"class": "news"}), False),
        (
            json.dumps(message("late", **{"class": "content"}), separators=(",", ":")).encode(),
            False,
        ),
        (json.dumps(call("late"), indent=2).encode(), True),
    ],
    ids=["call", "chat", "group", "public", "public, packed JSON", "call, indented JSON"],
)
def test_what_people_wait_for_does_not_wait_behind_a_campaign(
    core: Core, late: Any, overtakes: bool
) -> None:
    loop = core.loop()
    adverts = [advert(number) for number in range(3 * READ_COUNT)]
    core.put(*adverts, late)
    loop.once(block_ms=1)
    assert ("late" in core.stored()) is overtakes
    while loop.once(block_ms=1):
        pass
    assert not core.runtime.core.xlen(core.stream)
    assert Counter(core.stored()) == Counter([*(one["id"] for one in adverts), "late"])


def test_calls_of_a_packed_entry_are_not_left_behind(core: Core) -> None:
    loop = core.loop()
    core.put(*(advert(number) for number in range(2 * READ_COUNT)))
    core.put(
        b"\n".join(json.dumps(one).encode() for one in (advert(9_000), call("late"))), field="b"
    )
    loop.once(block_ms=1)
    assert "late" in core.stored()


def test_chats_alone_keep_their_order(core: Core) -> None:
    loop = core.loop()
    chats = [message(f"c{number}") for number in range(2 * READ_COUNT)]
    core.put(*chats)
    loop.once(block_ms=1)
    assert core.stored() == [one["id"] for one in chats[:READ_COUNT]]


def test_what_another_reader_has_taken_before_its_turn_is_left_to_it(core: Core) -> None:
    loop = core.loop()
    core.put(*(advert(number) for number in range(2 * READ_COUNT)))
    (entry,) = core.put(call("late"))
    core.runtime.core.xclaim(core.stream, GROUP, "another", 0, [entry], force=True, justid=True)
    loop.once(block_ms=1)
    assert "late" not in core.stored()


def test_what_was_looked_at_is_not_looked_at_again(core: Core) -> None:
    loop = core.loop()
    core.put(*(advert(number) for number in range(3 * READ_COUNT)))
    loop.once(block_ms=1)
    first = dict(loop._overtaking._looked)
    core.put(call("late"))
    loop.once(block_ms=1)
    assert "late" in core.stored()
    assert loop._overtaking._looked != first
