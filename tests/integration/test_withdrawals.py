"""Whom a withdrawal is sent to: the ledger's word, once it is complete, in entries of a bearable
size.
"""

import itertools
import time
import uuid
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import json as msgjson
from sqlalchemy import event

from common.clock import now_ms
from common.config import Settings
from common.contracts import OfflineRecipients, decode_offline, encode
from common.ledger_records import RowRecord
from common.model import Decision, Kind, MessageClass, PushType, Urgency
from common.storage import keys
from common.storage.lane_entries import NewBatch
from common.storage.leases import Lease
from tests.builders import device_of
from tests.records import event_record, row_record
from tests.waiting import eventually
from workers import withdraw
from workers.intake.effects import Withdrawal
from workers.intake.event_types import TYPES
from workers.intake.events import Event
from workers.intake.state import StateKeeper
from workers.runtime import Runtime


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdraw, "LOOKS_S", (0.0,))


class Sent:
    """A message that these people's phones got, as the ledger has it."""

    def __init__(
        self, runtime: Runtime, users: list[str], screen: str = "", message_class: str = "chat"
    ) -> None:
        self.runtime = runtime
        self.app = "w" + uuid.uuid4().hex[:10]
        self.message_id = "m-" + uuid.uuid4().hex
        self.ts = now_ms() - 60_000
        self.message_class = message_class
        self.event = event_record(
            app=self.app,
            message_id=self.message_id,
            conversation="group:g",
            ts_ms=self.ts,
            received_ms=self.ts,
            screen=screen,
            type="call.invited" if message_class == "call" else "message.stored",
        )
        keeper = StateKeeper(runtime.engine, runtime.badges, runtime.marks)
        keeper.apply([self._registered(user) for user in users], lambda _event, _reason: None)
        self.rows = [self.row(user) for user in users]

    def _registered(self, user: str) -> Event:
        data = device_of(user, device_id="d", token="t-" + user)
        shape = TYPES["device.registered"].decoder.decode(msgjson.encode(data))
        return Event(self.app, "r-" + user, "device.registered", self.ts, self.ts, "e", shape)

    def row(self, user: str, decision: str | None = "accepted", note: str = "") -> RowRecord:
        return row_record(
            app=self.app,
            ts_ms=self.ts,
            user=user,
            device="d",
            vendor="apns",
            business_id="ios",
            decision=decision,
            message_class=self.message_class,
            class_sent=self.message_class,
            push_id="p" + user,
            presence_ms=self.ts,
            routed_ms=self.ts,
            decided_ms=self.ts,
            note=note,
        )

    def written(self) -> "Sent":
        self.runtime.ledger.write([self.event, *self.rows])
        return self

    def recalled(self, kind: Kind = Kind.RECALL, **more: Any) -> list[OfflineRecipients]:
        """The entries for routing that one look gives, in as many rounds as its time asks for."""
        more = {"conversation": "group:g"} | more if kind == Kind.RECALL else more
        withdraw.schedule(
            self.runtime, [Withdrawal(self.app, "x1", self.message_id, kind, self.ts + 1, **more)]
        )
        while withdraw.withdraw_due(self.runtime):
            pass
        return self.entries()

    def entries(self) -> list[OfflineRecipients]:
        entries = self.runtime.streams.read(keys.STAGE_STREAMS[keys.ROUTING], 100)
        return [one for entry in entries for one in decode_offline(entry.blob)]


def names(found: list[OfflineRecipients]) -> list[str]:
    return sorted(who.user for one in found for who in one.recipients)


def test_a_look_waits_until_the_ledger_has_caught_up(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1"])
    runtime.streams.hand_on((), [(keys.LEDGER, encode([sent.event, *sent.rows]))])
    assert sent.recalled() == []
    (entry,) = runtime.streams.read([keys.LEDGER], 10)
    sent.written()
    runtime.streams.hand_on([entry])
    withdraw.withdraw_due(runtime)
    assert names(sent.entries()) == ["u1"]
    assert withdraw.withdraw_due(runtime) == 0


def test_a_large_group_travels_in_chunks(runtime: Runtime) -> None:
    users = [f"u{number:04d}" for number in range(1_200)]
    found = Sent(runtime, users).written().recalled()
    assert [len(one.recipients) for one in found] == [500, 500, 200]
    assert names(found) == users


def test_only_who_got_it_or_may_have_got_it_and_still_has_the_device(runtime: Runtime) -> None:
    sent = Sent(runtime, ["got", "perhaps", "waiting", "refused", "offline"])
    sent.rows = [
        sent.row("got"),
        sent.row("perhaps", Decision.UNCERTAIN),
        sent.row("waiting", None, "waits: uncertain, again in 1.0 s"),
        sent.row("refused", Decision.REJECTED),
        sent.row("offline", None, "waits: unavailable, again in 1.0 s"),
        sent.row("gone"),
    ]
    assert names(sent.written().recalled()) == ["got", "perhaps", "waiting"]


def test_a_withdrawal_shares_the_place_and_the_class_of_its_message_and_nothing_else(
    runtime: Runtime,
) -> None:
    screen = '{"collapse_key": "k", "strategy_id": "s", "push_type": "voip"}'
    (found,) = Sent(runtime, ["u1"], screen, "call").written().recalled(Kind.CALL_CANCEL)
    message = found.message
    seen = (message.push.collapse_key, message.push.strategy_id, message.push.push_type)
    assert seen == ("k", "s", PushType.ALERT)
    shown = (message.push.message_class, message.kind, message.elements, message.sender.id)
    assert shown == (MessageClass.CALL, Kind.CALL_CANCEL, (), "")


@pytest.mark.parametrize("kind", [Kind.RECALL, Kind.CALL_CANCEL])
def test_only_what_it_means_is_taken_back(runtime: Runtime, kind: Kind) -> None:
    """A recall: the message of its conversation; the end of a call: invitations up to it. Not what
    has the same id otherwise.
    """
    message = Sent(runtime, ["u1"]).written()
    call = Sent(runtime, ["u2"], message_class="call").written()
    more = {"conversation": "c2c:x"} if kind == Kind.RECALL else {}
    assert names(message.recalled(kind, **more)) == []
    assert names(message.recalled(kind)) == (["u1"] if kind == Kind.RECALL else [])
    assert names(call.recalled(kind)) == (["u2"] if kind == Kind.CALL_CANCEL else [])
    call.ts -= 10_000
    assert names(call.recalled(kind)) == []


def test_who_accepted_is_told_nothing_on_the_phone_in_hand(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1", "u2"], message_class="call").written()
    for user, state in (("u1", "foreground"), ("u2", "background")):
        key = f"{runtime.settings.key_prefix}presence:{{{sent.app}:{user}}}"
        runtime.core.hset(key, "d", f"{state}|ios|{now_ms() + 60_000}")
    assert names(sent.recalled(Kind.CALL_CANCEL, reason="answered")) == ["u2"]
    assert names(sent.recalled(Kind.CALL_CANCEL, reason="cancelled")) == ["u1", "u2"]


def test_a_silent_push_is_not_recalled_but_a_silent_call_is_cancelled(runtime: Runtime) -> None:
    assert Sent(runtime, ["u1"], '{"push_type": "silent"}').written().recalled() == []
    call = Sent(runtime, ["u1"], '{"push_type": "silent"}', "call").written()
    assert names(call.recalled(Kind.CALL_CANCEL)) == ["u1"]


def test_what_was_silent_at_apple_only_is_not_taken_back_there(runtime: Runtime) -> None:
    """The devices of these tests are Apple's."""
    assert Sent(runtime, ["u1"], '{"apns": "silent"}').written().recalled() == []
    assert names(
        Sent(runtime, ["u1"], '{"apns": "silent"}', "call").written().recalled(Kind.CALL_CANCEL)
    ) == ["u1"]


def test_an_answer_speaks_for_its_people_and_not_of_later_invitations(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1", "u2"], message_class="call").written()
    assert names(sent.recalled(Kind.CALL_CANCEL, users=("u1",))) == ["u1"]
    sent.ts -= 10_000
    assert sent.recalled(Kind.CALL_CANCEL, users=("u2",)) == []


def test_a_burst_of_ends_that_nobody_saw_does_not_delay_the_one_that_somebody_did(
    runtime: Runtime,
) -> None:
    sent, many = Sent(runtime, ["u1"], message_class="call").written(), withdraw.ROUND * 3
    ends = [
        Withdrawal(sent.app, f"x{number}", f"c{number}", Kind.CALL_CANCEL, sent.ts + 1)
        for number in range(many)
    ]
    withdraw.schedule(runtime, ends)
    assert names(sent.recalled(Kind.CALL_CANCEL)) == ["u1"]
    assert withdraw.withdraw_due(runtime) == 0


def test_later_looks_ask_only_for_what_came_since_the_one_before(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdraw, "LOOKS_S", (0.0, 0.0))
    monkeypatch.setattr(withdraw, "LATE_S", 5.0)
    sent = Sent(runtime, ["old", "new"])
    old, new = sent.rows
    sent.rows = [old, msgspec.structs.replace(new, decided_ms=now_ms())]
    found = sent.written().recalled()
    assert names(found) == ["new", "new", "old"]


@pytest.mark.parametrize(
    ("timeout", "last_s"), [(10.0, 45.0), (10.1, 45.2), (60.0, 145.0), (0.1, 45.0)]
)
def test_the_last_look_comes_after_the_last_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, timeout: float, last_s: float
) -> None:
    monkeypatch.setattr(withdraw, "LOOKS_S", (1.0, 4.0, 15.0, 45.0))
    runtime = Runtime(replace(settings, send_timeout_s=timeout))
    withdraw.schedule(runtime, [Withdrawal("a", "x", "m", Kind.RECALL, 1)])
    wishes: Any = runtime.redis.zrange(runtime.keys.withdrawals, 0, -1, withscores=True)
    assert wishes[-1][1] - wishes[0][1] == pytest.approx(last_s - 1.0)


# ---------------------------------------------------------------- much, and what fails


class Later:
    """Messages of the same conversation that came after it, each shown to all of these people."""

    def __init__(self, sent: Sent, count: int, users: list[str], collapse: str) -> None:
        now = sent.ts + 1_000
        screen = msgjson.encode({"collapse_key": collapse}).decode()
        for number in range(count):
            event_id = f"later-{collapse}-{number}"
            event = event_record(
                app=sent.app,
                event_id=event_id,
                message_id=event_id,
                conversation="group:g",
                ts_ms=now + number,
                received_ms=now,
                screen=screen,
            )
            rows = [
                msgspec.structs.replace(sent.row(user), event_id=event_id, ts_ms=now + number)
                for user in users
            ]
            sent.runtime.ledger.write([event, *rows])


def test_who_sees_a_later_message_in_its_place_is_left_alone_however_long_ago_it_came(
    runtime: Runtime,
) -> None:
    users = ["last", "long-ago", "never", "other-key"]
    sent = Sent(runtime, users, '{"collapse_key": "g"}').written()
    Later(sent, 1, ["long-ago"], "g")
    sent.ts += 2_000
    Later(sent, 90, ["last"], "g")  # more than one page of messages that "long-ago" did not get
    Later(sent, 3, ["other-key"], "h")
    assert names(sent.recalled()) == ["never", "other-key"]


def test_who_sees_its_edit_is_left_alone_when_the_places_record_has_gone(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit names the id of the message, which has no collapse key of its own."""
    monkeypatch.setattr(withdraw, "KEEP_MIN_MS", 0)
    sent = Sent(runtime, ["edited", "never"]).written()
    Later(sent, 1, ["edited"], sent.message_id)
    assert names(sent.recalled()) == ["never"]


def test_a_message_before_it_covers_nothing(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1"], '{"collapse_key": "g"}').written()
    sent.ts -= 60_000
    Later(sent, 3, ["u1"], "g")
    assert names(sent.recalled()) == ["u1"]


def test_what_a_recall_reads_does_not_grow_with_the_conversation(runtime: Runtime) -> None:
    users = [f"u{number}" for number in range(300)]
    sent = Sent(runtime, users, '{"collapse_key": "g"}').written()
    Later(sent, 60, users, "g")
    read = 0

    def count(_connection: Any, cursor: Any, *_rest: Any) -> None:
        nonlocal read
        read += max(cursor.rowcount, 0)

    event.listen(runtime.engine, "after_cursor_execute", count)
    assert names(sent.recalled()) == []
    assert read < 3 * len(users)


def test_pages_advance_the_wish_and_a_kill_between_them_loses_and_doubles_nothing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdraw, "PAGE", 10)
    monkeypatch.setattr(withdraw, "AGAIN_S", 0.0)
    # a busy machine reads two pages only in half a second
    monkeypatch.setattr(withdraw, "BUDGET_S", 30.0)
    users = [f"u{number:02d}" for number in range(35)]
    sent = Sent(runtime, users).written()
    read, seen = runtime.ledger.accepted_of, 0

    def dying(*asked: Any) -> list[dict[str, Any]]:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt
        return read(*asked)

    monkeypatch.setattr(runtime.ledger, "accepted_of", dying)
    with pytest.raises(KeyboardInterrupt):
        sent.recalled()
    withdraw.withdraw_due(runtime)
    assert names(sent.entries()) == users
    assert not runtime.redis.exists(runtime.keys.withdrawals)


def test_a_look_that_takes_too_long_does_not_stop_the_others_and_is_given_up_in_the_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdraw, "AGAIN_S", 0.0)
    bad, good = Sent(runtime, ["u1"]).written(), Sent(runtime, ["u2"]).written()
    read, tries = runtime.ledger.accepted_of, 0

    def slow(app: str, *asked: Any) -> list[dict[str, Any]]:
        nonlocal tries
        if app == bad.app:
            tries += 1
            with runtime.engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 20")
                connection.exec_driver_sql("SELECT pg_sleep(1)")
        return read(app, *asked)

    monkeypatch.setattr(runtime.ledger, "accepted_of", slow)
    assert bad.recalled() == []
    assert names(good.recalled()) == ["u2"]
    for _ in range(withdraw.TRIES_MAX * 2):
        withdraw.withdraw_due(runtime)
    assert tries == withdraw.TRIES_MAX
    assert not runtime.redis.exists(runtime.keys.withdrawals)


def test_who_lost_the_lease_sends_nothing(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1"]).written()
    old, new = (
        Lease(runtime.redis, runtime.keys, "recalls", lease_ms) for lease_ms in (30, 20_000)
    )
    assert old.hold()
    withdraw.schedule(
        runtime, [Withdrawal(sent.app, "x1", sent.message_id, Kind.RECALL, sent.ts + 1)]
    )
    eventually(new.hold, what="the old one stands still")
    withdraw.withdraw_due(runtime, (old.epoch_key, old.epoch))
    assert sent.entries() == []
    withdraw.withdraw_due(runtime, (new.epoch_key, new.epoch))
    assert names(sent.entries()) == ["u1"]


def test_ends_of_calls_go_out_beside_lanes_that_are_full_of_large_entries(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking through what waits took all the time of a look, each time anew."""
    sent = Sent(runtime, ["u1"], message_class="call").written()
    lanes = [f"{sent.app}:fcm:b{number}" for number in range(3)]
    with runtime.redis.pipeline(transaction=False) as pipe:
        for lane, urgency in itertools.product(lanes, (Urgency.GROUP, Urgency.CHAT)):
            large = NewBatch(lane, urgency, b"x" * 40_960, 1, 1, 1 << 45)
            runtime.lane_queues.put(pipe, [large] * 200)
            pipe.execute()
    ends = [
        Withdrawal(sent.app, f"x{number}", uuid.uuid4().hex, Kind.CALL_CANCEL, sent.ts + 1)
        for number in range(withdraw.ROUND - 1)
    ]
    seen = Withdrawal(sent.app, "x", sent.message_id, Kind.CALL_CANCEL, sent.ts + 1)
    withdraw.schedule(runtime, [*ends, seen])
    most_s = 4 * withdraw.BUDGET_S
    monkeypatch.setattr(withdraw, "BUDGET_S", 10.0)  # of a machine that stands still for some
    began = time.thread_time()
    withdraw.withdraw_due(runtime)
    assert time.thread_time() - began < most_s
    assert names(sent.entries()) == ["u1"]
