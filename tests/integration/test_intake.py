"""Intake on real stores: whatever an entry holds, it is finished, and what was refused can be
published again.
"""

import dataclasses
import json
import random
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import exc as sql_errors

from common import metrics
from common.contracts import encode
from common.ledger_records import RowRecord
from common.model import Kind
from common.storage import keys, ledger
from common.storage.direct_tokens import DirectTokens
from common.storage.tenants import Tenant
from common.tokens import token_user
from tests.builders import device_of
from tests.records import row_record
from workers.handlers import intake as intake_handler
from workers.handlers.intake import (
    FLOW_REST_S_ALL,
    FLOW_REST_S_MAX,
    PACK_BYTES,
    REST_S_MAX,
    SMALL_READ,
    IntakeLoop,
    IntakePorts,
)
from workers.handlers.joint_intake import SHARDS_A_TURN, SHARDS_TWICE, JointIntakeLoop
from workers.intake import events
from workers.intake.directed import TokenPushes
from workers.intake.effects import Withdrawal
from workers.intake.events import Event
from workers.intake.state import StateKeeper
from workers.maintenance.ledger_writer import LedgerWriter
from workers.maintenance.reporter import Reporter
from workers.runtime import Runtime


class Intake:
    """A tenant of its own, and a reader of its stream."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.app = runtime, "i" + uuid.uuid4().hex[:12]
        self.stream = runtime.settings.event_streams[0]
        runtime.tenants.add(Tenant(self.app, "", "zh", "Asia/Shanghai"))
        self.known = [self.app]
        self._read: list[str] = []

    def event(self, kind: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "v": 1,
            "id": uuid.uuid4().hex,
            "type": kind,
            "app": self.app,
            "ts": int(time.time() * 1000),
            "data": data,
            **more,
        }

    def put(self, body: Any, **fields: Any) -> str:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        whole: dict[Any, Any] = {"e": raw, **fields}
        entry: Any = self.runtime.core.xadd(self.stream, whole)
        self._read.append(entry.decode())
        return self._read[-1]

    def doors(
        self, withdraw: Callable[[Sequence[Withdrawal]], None] = lambda _withdrawals: None
    ) -> IntakePorts:
        runtime = self.runtime
        state = StateKeeper(runtime.engine, runtime.badges, runtime.marks)
        stores: dict[str, Any] = {
            "core": runtime.core,
            "streams": runtime.streams,
            "delayed": runtime.delayed,
            "marks": runtime.marks,
            "vault": runtime.vault,
        }
        directly = TokenPushes(DirectTokens(runtime.engine), runtime.marks, runtime.replies)
        apps: dict[str, Any] = {"apps": lambda: self.known, "apps_now": lambda: [self.app]}
        return IntakePorts(
            **stores,
            **apps,
            state=state,
            wake=runtime.send_wake_up,
            withdraw=withdraw,
            directly=directly,
        )

    def finish(
        self, withdraw: Callable[[Sequence[Withdrawal]], None] = lambda _withdrawals: None
    ) -> dict[str, dict[str, Any]]:
        """Reads until nothing is left; the dead letters of what was put here, by entry."""
        runtime = self.runtime
        consumer = IntakeLoop([self.stream], self.doors(withdraw))
        consumer.once(block_ms=10)  # makes the group
        consumer.once(block_ms=10)
        assert runtime.core.xlen(self.stream) == 0
        writer = LedgerWriter(runtime)
        while writer.flush():
            pass
        letters = runtime.dead_letters.heads()
        return {
            letter["entry_id"]: letter for letter in letters if letter["entry_id"] in self._read
        }


@pytest.fixture
def intake(runtime: Runtime) -> Intake:
    return Intake(runtime)


def counted(result: str, kind: str) -> float:
    return float(metrics.EVENTS.labels(kind, result)._value.get())


def wide(size: int) -> str:
    """Four bytes a character, and nothing that could be packed."""
    return "".join(chr(random.randrange(0x10000, 0x1F000)) for _ in range(size))


@pytest.mark.parametrize(
    ("replicas", "entries", "rests"), [(1, 1, 0), (4, 1, 1), (4, SMALL_READ, 0)]
)
def test_a_replica_leaves_turns_to_the_others_after_a_small_read(
    intake: Intake, replicas: int, entries: int, rests: int
) -> None:
    """Else four processes read one entry each where one would read four at once."""
    naps: list[float] = []
    ports = dataclasses.replace(intake.doors(), replicas=lambda: replicas)
    loop = IntakeLoop([intake.stream], ports, naps.append)
    loop.once(block_ms=10)  # makes the group
    for number in range(entries):
        intake.put(intake.event("app.background", {"user": f"u{number}", "badge": 1}))
    assert loop.once(block_ms=10) == entries
    assert len(naps) == rests
    assert all(0 < seconds <= REST_S_MAX for seconds in naps)


@pytest.mark.parametrize(("in_flow_s", "entries", "rests"), [(60, 1, 1), (0, 1, 0), (60, 100, 0)])
def test_reads_that_follow_each_other_soon_become_larger(
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
    in_flow_s: float,
    entries: int,
    rests: int,
) -> None:
    """Else what a read and its rounds cost is paid once a message."""
    monkeypatch.setattr(intake_handler, "FLOW_S", in_flow_s)
    naps: list[float] = []
    loop = IntakeLoop([intake.stream], intake.doors(), naps.append)
    loop.once(block_ms=10)  # makes the group
    for _ in range(2):
        assert not naps
        for number in range(entries):
            intake.put(intake.event("app.background", {"user": f"u{number}", "badge": 1}))
        assert loop.once(block_ms=10) == entries
    assert len(naps) == rests
    assert all(0 < seconds <= FLOW_REST_S_MAX for seconds in naps)


@pytest.mark.parametrize(("replicas", "rest_s"), [(1, FLOW_REST_S_MAX), (4, FLOW_REST_S_ALL)])
def test_replicas_rest_so_long_that_together_they_read_as_one(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, replicas: int, rest_s: float
) -> None:
    monkeypatch.setattr(intake_handler, "FLOW_S", 60)
    monkeypatch.setattr(intake_handler, "FLOW_TURNS", 1_000_000)  # however short the read
    naps: list[float] = []
    ports = dataclasses.replace(intake.doors(), replicas=lambda: replicas)
    loop = IntakeLoop([intake.stream], ports, naps.append)
    loop.once(block_ms=10)  # makes the group
    for _ in range(2):
        intake.put(intake.event("app.background", {"user": "u", "badge": 1}))
        assert loop.once(block_ms=10) == 1
    assert naps[-1] == rest_s


@pytest.mark.parametrize("shards", [1, 16])
def test_a_read_for_many_shards_leaves_more_turns(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    """It costs the more, the more shards it has something for."""
    monkeypatch.setattr(intake_handler, "FLOW_S", 60)
    monkeypatch.setattr(intake_handler, "FLOW_TURNS", 0)
    naps: list[float] = []
    loop = JointIntakeLoop([intake.stream], [intake.doors()] * shards)
    monkeypatch.setattr(loop, "_nap", naps.append)
    loop.once(block_ms=10)  # makes the group
    for _ in range(2):
        intake.put(intake.event("app.background", {"user": "u", "badge": 1}))
        began = time.monotonic()
        assert loop.once(block_ms=10) == 1
        took_s = time.monotonic() - began
    assert 0 < naps[-1] <= min(shards / SHARDS_A_TURN * took_s, 1.5 * FLOW_REST_S_MAX)
    monkeypatch.setattr(intake_handler, "FLOW_TURNS", 1_000_000)  # however short the read
    intake.put(intake.event("app.background", {"user": "u", "badge": 1}))
    assert loop.once(block_ms=10) == 1
    assert naps[-1] == FLOW_REST_S_MAX * (1 + shards / SHARDS_TWICE)


def test_a_name_that_the_tables_have_no_room_for_keeps_nobody_from_the_stream(
    intake: Intake,
) -> None:
    registered = device_of("bob", device_id="d", business_id="b", token="t")
    long = [
        intake.put(intake.event("device.registered", {**registered, "user": wide(512)})),
        intake.put(
            intake.event("device.registered", {**registered, "token": uuid.uuid4().hex * 128})
        ),
        intake.put(b"{}", d="tencent", app="x" * 300),
        intake.put(b"{}", d="nim\0", app="a\0b"),
    ]
    intake.put(intake.event("device.registered", registered))
    letters = intake.finish()
    assert [letters[entry]["stage"] for entry in long] == ["intake"] * 4
    assert list(intake.runtime.devices.of_users(intake.app, ["bob"])) == ["bob"]


def test_a_row_that_no_index_holds_is_an_error_about_data_and_not_a_store_that_is_away(
    intake: Intake, runtime: Runtime
) -> None:
    wishes = events.SessionEnded(user=wide(512), device_id=wide(512))
    event = Event(intake.app, "e", "session.logout", 1, 1, "e", wishes)
    keeper = StateKeeper(runtime.engine, runtime.badges, runtime.marks)
    with pytest.raises(sql_errors.DataError):
        keeper.apply([event], lambda _event, _reason: None)


def test_a_row_that_the_ledger_can_not_hold_does_not_hold_up_the_others(
    intake: Intake, runtime: Runtime
) -> None:
    now = int(time.time() * 1000)

    def row(user: str) -> RowRecord:
        return row_record(
            app=intake.app,
            ts_ms=now,
            user=user,
            decision="no_device",
            presence_ms=now,
            routed_ms=now,
            decided_ms=now,
        )

    with pytest.raises(psycopg.DataError):
        runtime.ledger.write([row(wide(900))])
    runtime.streams.hand_on((), [(keys.LEDGER, encode([row(wide(900)), row("bob")]))])
    intake.finish()
    written = runtime.ledger.rows({"day": ledger.day_of(now), "app": intake.app, "event_id": "e1"})
    assert [one["user"] for one in written] == ["bob"]


def test_large_letters_travel_in_entries_of_a_bearable_size(
    intake: Intake, runtime: Runtime
) -> None:
    for _ in range(6):
        intake.put(b"[" + b"1," * 150_000)
    IntakeLoop([intake.stream], intake.doors()).once(block_ms=10)
    IntakeLoop([intake.stream], intake.doors()).once(block_ms=10)
    entries: Any = runtime.redis.xrange(runtime.keys.stream(keys.LEDGER))
    sizes = [len(fields[b"b"]) for _, fields in entries]
    assert len(sizes) == 3
    assert max(sizes) < 2 * PACK_BYTES
    assert len(intake.finish()) == 6


def test_what_broke_the_intake_can_be_published_again(intake: Intake) -> None:
    recall = intake.event(
        "message.recalled", {"message_id": "m1", "conversation": {"type": "c2c", "id": "ann"}}
    )
    entry = intake.put(recall)

    def broken(_withdrawals: Sequence[Withdrawal]) -> None:
        raise ValueError("no room")

    assert intake.finish(broken)[entry]["reason"] == "broke_stage: ValueError"
    seen: list[Withdrawal] = []
    again = intake.put(recall)
    assert again not in intake.finish(seen.extend)
    assert [one.message_id for one in seen] == ["m1"]


DAYS_AGO = int(time.time() * 1000) - 3 * 86_400_000


@pytest.mark.parametrize("ts", [1, DAYS_AGO], ids=["1970", "three days ago"])
def test_an_event_from_long_ago_is_kept_as_long_as_any_other(
    intake: Intake, runtime: Runtime, ts: int
) -> None:
    data = {
        "message_id": uuid.uuid4().hex,
        "conversation": {"type": "c2c", "id": "ann"},
        "sender": {"id": "ann"},
        "recipients": ["bob"],
    }
    body = intake.event(
        "message.stored", {**data, "elements": [{"type": "text", "text": "hi"}]}, ts=ts
    )
    intake.put(body)
    intake.put(body)  # a repeat
    intake.finish()
    runtime.ledger.drop_old(ledger.day_of(int(time.time() * 1000)) - timedelta(days=1))
    found = runtime.ledger.find(str(data["message_id"]), intake.app, None)
    assert found is not None
    assert (found["decision"], found["ts_ms"]) == ("expired", ts)


def test_a_tenant_counts_as_unknown_only_when_nobody_has_added_it_meanwhile(intake: Intake) -> None:
    recall = {"message_id": "m1", "conversation": {"type": "c2c", "id": "ann"}}
    intake.known = []
    intake.put(intake.event("message.recalled", recall))
    never = intake.put({**intake.event("message.recalled", recall), "app": "nobody"})
    intake.put(intake.event("message.recalled", recall))
    found = {entry: letter["reason"] for entry, letter in intake.finish().items()}
    assert found == {never: "unknown_app"}


def test_a_logout_of_nothing_is_counted_as_ignored(intake: Intake) -> None:
    before = counted("ignored", "session.logout"), counted("accepted", "session.logout")
    intake.put(intake.event("session.logout", {"user": "bob"}))
    intake.finish()
    found = (counted("ignored", "session.logout"), counted("accepted", "session.logout"))
    assert found == (before[0] + 1, before[1])


def test_the_number_of_dead_letters_falls_to_nothing_with_the_last_one(
    intake: Intake, runtime: Runtime
) -> None:
    def shown() -> float:
        reporter.show_dead_letters()
        return float(metrics.DEAD_LETTERS.labels("intake")._value.get())

    reporter = Reporter(runtime)
    intake.put(b"{")
    intake.finish()
    assert shown() >= 1
    runtime.dead_letters.drop(runtime.dead_letters.ids("intake"))
    assert shown() == 0


def test_a_refusal_is_counted_by_its_type(intake: Intake) -> None:
    before = counted("dead_letter", "message.read"), counted("dead_letter", "unknown")
    intake.put(intake.event("message.read", {"user": "bob"}))
    intake.put(b"{")
    intake.finish()
    found = (counted("dead_letter", "message.read"), counted("dead_letter", "unknown"))
    assert found == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("conversation", [{"type": "c2c", "id": "ann"}, None])
def test_a_clear_takes_back_what_its_token_shows_of_a_conversation(
    intake: Intake, conversation: dict[str, str] | None
) -> None:
    target = {"vendor": "fcm", "business_id": "b", "token": "t", "platform": "android"}
    data = {"target": target, "message_id": "c1", "kind": "clear", "conversation": conversation}
    event = intake.event("push.direct", data)
    intake.put(event)
    wishes: list[Withdrawal] = []
    assert intake.finish(wishes.extend) == {}
    user = token_user("fcm", "b", "t")
    wish = Withdrawal(intake.app, event["id"], "c1", Kind.CLEAR, event["ts"], (user,), "c2c:ann")
    assert wishes == ([wish] if conversation else [])
