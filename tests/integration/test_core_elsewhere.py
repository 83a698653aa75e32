"""The core writes on a Redis of its own: events, presence and members are read there, all else
stays on the fleet's.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from redis.exceptions import ConnectionError as RedisConnectionError

from common.config import Settings
from common.ledger_records import NoteRecord, RowRecord, decode_records
from common.storage import keys
from common.storage.migrations import migrate
from common.storage.tenants import Tenant
from tests.conftest import OwnValkey
from workers.app import PRESENCE, ROUTING
from workers.cli.worker import doors_of
from workers.handlers.intake import IntakeLoop
from workers.pipeline import Stages
from workers.runtime import Runtime


@pytest.fixture
def runtime(settings: Settings, restartable_valkey: OwnValkey, tmp_path: Any) -> Iterator[Runtime]:
    (tmp_path / "keys").write_bytes(Fernet.generate_key())
    (tmp_path / "keys").chmod(0o600)
    found = Runtime(
        dataclasses.replace(
            settings, core_url=restartable_valkey.url, secret_keys_file=tmp_path / "keys"
        )
    )
    migrate(found.engine)
    yield found
    found.close()


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
        event = {
            "v": 1,
            "id": uuid.uuid4().hex,
            "type": kind,
            "app": self.app,
            "ts": now,
            "data": data,
        }
        self.runtime.core.xadd(self.stream, {"e": json.dumps(event)})

    def phone(self, user: str) -> None:
        data = {
            "user": user,
            "device_id": "d",
            "platform": "ios",
            "vendor": "apns",
            "business_id": "ios",
        }
        self.publish("device.registered", {**data, "token": uuid.uuid4().hex * 2})

    def group_message(self) -> None:
        members = f"{self.prefix}members:{{{self.app}:g}}"
        self.runtime.core.sadd(members, "alice", "bob", "carol")
        until = int(time.time() * 1000) + 60_000
        self.runtime.core.hset(
            f"{self.prefix}presence:{{{self.app}:bob}}", "d", f"foreground|ios|{until}"
        )
        data = {
            "message_id": "m",
            "conversation": {"type": "group", "id": "g"},
            "sender": {"id": "alice"},
        }
        self.publish("message.stored", {**data, "elements": [{"type": "text", "text": "hi"}]})

    def decisions(self) -> dict[str, list[str]]:
        """What became of each person, by the ledger's stream, once presence and routing are
        through.
        """
        stages = Stages(self.runtime)
        stages.drain(PRESENCE)(lambda: False)
        stages.drain(ROUTING)(lambda: False)
        found: dict[str, list[str]] = {}
        for _, fields in self.runtime.redis.xrange(self.runtime.keys.stream(keys.LEDGER)):
            for record in decode_records(fields[b"b"]):
                if isinstance(record, RowRecord) and record.app == self.app:
                    found.setdefault(record.user, []).append(str(record.decision))
        return found


def test_events_presence_and_members_are_the_cores(runtime: Runtime) -> None:
    core = Core(runtime)
    consumer = IntakeLoop(runtime.settings.event_streams, doors_of(runtime))
    for user in ("alice", "bob", "carol"):
        core.phone(user)
    core.group_message()
    while consumer.once(block_ms=10):
        pass
    assert not runtime.core.xlen(core.stream)
    assert core.decisions() == {"alice": ["sender"], "bob": ["online"], "carol": ["no_credential"]}
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
    while consumer.once(block_ms=10):
        pass
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
    assert (
        sum(
            runtime.redis.xlen(runtime.keys.stream(stream))
            for stream in keys.STAGE_STREAMS[keys.PRESENCE]
        )
        == 1
    )
    assert {user: set(found) for user, found in core.decisions().items()}["carol"] == {
        "no_credential"
    }
    steps = [
        r
        for _, f in runtime.redis.xrange(runtime.keys.stream(keys.LEDGER))
        for r in decode_records(f[b"b"])
    ]
    assert not [record for record in steps if isinstance(record, NoteRecord)], (
        "our own second reading is no repeated event"
    )
