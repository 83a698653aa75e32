"""Whom a withdrawal is sent to: the ledger's word, once it is complete, in entries of a bearable size."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import json as msgjson

from common.clock import now_ms
from common.config import Settings
from common.contracts import OfflineRecipients, decode_offline, encode
from common.ledger_records import RowRecord
from common.model import Decision, Kind, MessageClass, PushType
from common.storage import keys
from common.storage.migrations import migrate
from tests.records import event_record, row_record
from workers import withdraw
from workers.intake import events
from workers.intake.stage import Event
from workers.intake.state import StateKeeper, Withdrawal
from workers.runtime import Runtime


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(settings)
    migrate(runtime.engine)
    yield runtime
    runtime.close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdraw, "LOOKS_S", (0.0,))


class Sent:
    """A message that these people's phones got, as the ledger has it."""

    def __init__(self, runtime: Runtime, users: list[str], screen: str = "", message_class: str = "chat") -> None:
        self.runtime, self.app, self.message_id = runtime, "w" + uuid.uuid4().hex[:10], "m-" + uuid.uuid4().hex
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
        data = {"user": user, "device_id": "d", "platform": "ios", "vendor": "apns", "business_id": "ios", "token": "t-" + user}
        shape = events.DECODERS["device.registered"].decode(msgjson.encode(data))
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

    def written(self) -> Sent:
        self.runtime.ledger.write([self.event, *self.rows])
        return self

    def recalled(self, kind: Kind = Kind.RECALL, **more: Any) -> list[OfflineRecipients]:
        """The entries for routing that one look gives."""
        more = {"conversation": "group:g"} | more if kind == Kind.RECALL else more
        withdraw.schedule(self.runtime, [Withdrawal(self.app, "x1", self.message_id, kind, self.ts + 1, **more)])
        withdraw.withdraw_due(self.runtime)
        return self.entries()

    def entries(self) -> list[OfflineRecipients]:
        return [one for entry in self.runtime.belts.read(keys.STAGE_STREAMS[keys.ROUTING], 100) for one in decode_offline(entry.blob)]


def names(found: list[OfflineRecipients]) -> list[str]:
    return sorted(who.user for one in found for who in one.recipients)


def test_a_look_waits_until_the_ledger_has_caught_up(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1"])
    runtime.belts.hand_on((), [(keys.LEDGER, encode([sent.event, *sent.rows]))])
    assert sent.recalled() == []
    (entry,) = runtime.belts.read([keys.LEDGER], 10)
    sent.written()
    runtime.belts.hand_on([entry])
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


def test_a_withdrawal_shares_the_place_and_the_class_of_its_message_and_nothing_else(runtime: Runtime) -> None:
    screen = '{"collapse_key": "k", "strategy_id": "s", "push_type": "voip"}'
    (found,) = Sent(runtime, ["u1"], screen, "call").written().recalled(Kind.CALL_CANCEL)
    message = found.message
    assert (message.push.collapse_key, message.push.strategy_id, message.push.push_type) == ("k", "s", PushType.ALERT)
    assert (message.push.message_class, message.kind, message.elements, message.sender.id) == (MessageClass.CALL, Kind.CALL_CANCEL, (), "")


@pytest.mark.parametrize("kind", [Kind.RECALL, Kind.CALL_CANCEL])
def test_only_what_it_means_is_taken_back(runtime: Runtime, kind: Kind) -> None:
    """A recall: the message of its conversation; the end of a call: invitations up to it. Not what has the same id otherwise."""
    message, call = Sent(runtime, ["u1"]).written(), Sent(runtime, ["u2"], message_class="call").written()
    assert names(message.recalled(kind, **({"conversation": "c2c:x"} if kind == Kind.RECALL else {}))) == []
    assert names(message.recalled(kind)) == (["u1"] if kind == Kind.RECALL else [])
    assert names(call.recalled(kind)) == (["u2"] if kind == Kind.CALL_CANCEL else [])
    call.ts -= 10_000
    assert names(call.recalled(kind)) == []


def test_who_accepted_is_told_nothing_on_the_phone_in_hand(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1", "u2"], message_class="call").written()
    for user, state in (("u1", "foreground"), ("u2", "background")):
        runtime.core.hset(f"{runtime.settings.key_prefix}presence:{{{sent.app}:{user}}}", "d", f"{state}|ios|{now_ms() + 60_000}")
    assert names(sent.recalled(Kind.CALL_CANCEL, reason="answered")) == ["u2"]
    assert names(sent.recalled(Kind.CALL_CANCEL, reason="cancelled")) == ["u1", "u2"]


def test_a_silent_push_is_not_recalled_but_a_silent_call_is_cancelled(runtime: Runtime) -> None:
    assert Sent(runtime, ["u1"], '{"push_type": "silent"}').written().recalled() == []
    assert names(Sent(runtime, ["u1"], '{"push_type": "silent"}', "call").written().recalled(Kind.CALL_CANCEL)) == ["u1"]


def test_an_answer_speaks_for_its_people_and_not_of_later_invitations(runtime: Runtime) -> None:
    sent = Sent(runtime, ["u1", "u2"], message_class="call").written()
    assert names(sent.recalled(Kind.CALL_CANCEL, users=("u1",))) == ["u1"]
    sent.ts -= 10_000
    assert sent.recalled(Kind.CALL_CANCEL, users=("u2",)) == []


def test_a_burst_of_ends_that_nobody_saw_does_not_delay_the_one_that_somebody_did(runtime: Runtime) -> None:
    sent, many = Sent(runtime, ["u1"], message_class="call").written(), withdraw.ROUND * 3
    ends = [Withdrawal(sent.app, f"x{number}", f"c{number}", Kind.CALL_CANCEL, sent.ts + 1) for number in range(many)]
    withdraw.schedule(runtime, ends)
    assert names(sent.recalled(Kind.CALL_CANCEL)) == ["u1"]
    assert withdraw.withdraw_due(runtime) == 0


def test_later_looks_ask_only_for_what_came_since_the_one_before(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdraw, "LOOKS_S", (0.0, 0.0))
    sent = Sent(runtime, ["old", "new"])
    old, new = sent.rows
    sent.rows = [old, msgspec.structs.replace(new, decided_ms=now_ms())]
    found = sent.written().recalled()
    assert names(found) == ["new", "new", "old"]
