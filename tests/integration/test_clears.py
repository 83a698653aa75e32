"""What a clear takes back: of its token and conversation, each place on the screen once, by the
ledger's word.
"""

import uuid
from collections.abc import Iterator
from typing import Any, cast

import pytest
from msgspec import json as msgjson
from sqlalchemy import text

from common.clock import now_ms
from common.config import Settings
from common.contracts import (
    Conversation,
    Message,
    OfflineRecipients,
    PushFields,
    Sender,
    decode_offline,
)
from common.model import Kind, PushType
from common.storage import keys, ledger_reads
from common.storage.direct_tokens import DirectToken, DirectTokens
from common.storage.migrations import migrate
from common.tokens import token_user
from tests.records import event_record, note_record, row_record
from workers import withdraw
from workers.handlers import ledger_rows
from workers.intake.effects import Withdrawal
from workers.runtime import Runtime


@pytest.fixture
def phone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator["Phone"]:
    monkeypatch.setattr(withdraw, "LOOKS_S", (0.0,))
    runtime = Runtime(settings)
    migrate(runtime.engine)
    yield Phone(runtime)
    runtime.close()


class Phone:
    """A token with what the ledger has of it; ts of a push: in the order of `shown`."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.app = runtime, "c" + uuid.uuid4().hex[:10]
        self.user, self.ts = self.known("t-1"), now_ms() - 600_000

    def known(self, token: str) -> str:
        user = token_user("apns", "ios", token)
        DirectTokens(self.runtime.engine).seen(
            [DirectToken(self.app, user, "ios", "apns", "ios", token, None, None, 0)]
        )
        return user

    def shown(self, message_id: str, screen: dict[str, str] | None = None, **more: Any) -> None:
        self.ts += 1_000
        told: dict[str, Any] = {"app": self.app, "event_id": "e-" + message_id, "ts_ms": self.ts}
        row: dict[str, Any] = {
            "vendor": "apns",
            "business_id": "ios",
            "decision": "accepted",
            "user": self.user,
        }
        row |= {name: more.pop(name) for name in list(more) if name in ("user", "decision", "note")}
        row |= {"message_class": more.pop("message_class", "chat"), "decided_ms": self.ts}
        row |= {"routed_ms": self.ts}
        event = {"type": "push.direct", "conversation": "group:g", "received_ms": self.ts, **more}
        event["screen"] = msgjson.encode(screen).decode() if screen else ""
        self.runtime.ledger.write(
            [event_record(**told, message_id=message_id, **event), row_record(**told, **row)]
        )

    def step(self, message_id: str, ts_ms: int, note: str) -> None:
        told = {"app": self.app, "event_id": "e-" + message_id, "ts_ms": ts_ms}
        record = note_record(**told, user=self.user, device="", at_ms=now_ms(), note=note)
        self.runtime.ledger.write([record])

    def cleared(self, up_to_ms: int | None = None) -> list[OfflineRecipients]:
        """The entries for routing that a clear gives."""
        up_to_ms = self.ts if up_to_ms is None else up_to_ms
        wish = Withdrawal(self.app, "x", "c", Kind.CLEAR, up_to_ms, (self.user,), "group:g")
        withdraw.schedule(self.runtime, [wish])
        withdraw.withdraw_due(self.runtime)
        assert not self.runtime.redis.exists(self.runtime.keys.withdrawals)
        entries = self.runtime.streams.read(keys.STAGE_STREAMS[keys.ROUTING], 100)
        return [one for entry in entries for one in decode_offline(entry.blob)]


def names(found: list[OfflineRecipients]) -> list[str]:
    return sorted(one.message.message_id for one in found)


def test_it_takes_the_place_of_each_push_of_its_conversation_and_token(phone: Phone) -> None:
    phone.shown("m1")
    phone.shown("m2", decision="uncertain")
    phone.shown("other", conversation="group:h")
    phone.shown("whose", user=phone.known("t-2"))
    phone.shown("refused", decision="rejected")
    found = phone.cleared()
    assert names(found) == ["m1", "m2"]
    for one in found:
        message, (who,) = one.message, one.recipients
        assert (message.kind, message.direct, message.elements) == (Kind.RECALL, True, ())
        assert (message.event_id, message.ended_by) == ("e-" + message.message_id, "read_elsewhere")
        assert (who.user, [device.token for device in who.devices]) == (phone.user, ["t-1"])


def test_nothing_that_nobody_saw_and_no_call(phone: Phone) -> None:
    phone.shown("silent", {"push_type": "silent"})
    phone.shown("silent-at-apple", {"apns": "silent"})
    phone.shown("call", message_class="call")
    phone.shown("of-a-person", type="message.stored")
    assert phone.cleared() == []


def test_of_a_number_on_the_icon_nothing_is_taken_back() -> None:
    told = {"app": "a", "event_id": "e", "type": "push.direct", "message_id": "m"}
    times = {"ts_ms": 1, "received_ms": 1, "expires_at_ms": 2}
    where = {"conversation": Conversation(type="c2c", id="ann"), "sender": Sender(id="ann")}
    push = PushFields(collapse_key="badge:t")
    for kind, screen in (("badge", {"push_type": "silent"}), ("message", {})):
        about = cast(Any, {**told, **times, **where})
        message = Message(**about, push=push, kind=Kind(kind), direct=True)
        row = ledger_rows.event_record(message, None)
        assert msgjson.decode(row.screen) == {"collapse_key": "badge:t", **screen}


def test_a_place_is_taken_once_and_not_from_what_came_after_the_clear(phone: Phone) -> None:
    for number in range(3):
        phone.shown(f"a{number}", {"collapse_key": "a"})
        phone.shown(f"b{number}", {"collapse_key": "b", "push_type": "voip"})
    read_ms = phone.ts
    phone.shown("a3", {"collapse_key": "a"})
    phone.shown("late")
    (found,) = phone.cleared(read_ms)
    assert found.message.message_id == "b2"
    assert (found.message.push.collapse_key, found.message.push.push_type) == ("b", PushType.ALERT)


def test_what_was_taken_back_before_is_left_alone_with_all_below_it(phone: Phone) -> None:
    phone.shown("m1", {"collapse_key": "k"})
    phone.shown("m2", {"collapse_key": "k"})
    phone.step("m2", phone.ts, "recall: accepted")
    phone.shown("m3")
    phone.step("m3", phone.ts, "routing")
    assert names(phone.cleared()) == ["m3"]


def test_a_token_that_was_given_up_gets_nothing(phone: Phone) -> None:
    phone.shown("m1")
    with phone.runtime.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE devices SET state = 'retired' WHERE device_id = ''")
    assert phone.cleared() == []


def test_it_looks_at_so_many_places_and_pushes_only(
    phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdraw, "PLACES_MAX", 3)
    monkeypatch.setattr(ledger_reads, "TOKEN_ROWS_MAX", 4)
    for number in range(3):
        phone.shown(f"m{number}")
    for number in range(2):
        phone.shown(f"other{number}", conversation="group:h")
    for number in range(3, 5):
        phone.shown(f"m{number}")
    assert names(phone.cleared()) == ["m3", "m4"]
    monkeypatch.setattr(ledger_reads, "TOKEN_ROWS_MAX", 200)
    assert names(phone.cleared()) == ["m2", "m3", "m4"]


#: Copies of the one row of a table with another name each, as a day of pushes to tokens leaves.
MANY_ROWS = """
INSERT INTO {table} SELECT (jsonb_populate_record(one, jsonb_build_object(
 'event_id', 'e-' || number, '{user}', 'token:' || number, '{routed}', one.{routed} - number))).*
 FROM {table} one, generate_series(1, 5000) number WHERE one.app = '{app}' AND one.{user} = '{who}'
"""


def test_it_finds_a_tokens_rows_by_their_index(phone: Phone) -> None:
    """Of thousands: of a few rows the planner may take any index, by what it last counted."""
    phone.shown("m1")
    told = {"app": phone.app, "event_id": "e-m2", "ts_ms": phone.ts}
    row = {**told, "routed_ms": phone.ts, "decided_ms": phone.ts}
    rows = [row_record(**row, user=user) for user in (phone.user, "another")]
    phone.runtime.ledger.write([event_record(**told, message_id="m2", received_ms=0), *rows])
    since = ledger_reads._since(phone.ts)
    asked = {"app": phone.app, "user": phone.user, "conversation": "group:g", "most": 9}
    tokens = {"apps": [phone.app] * 200, "users": [f"token:{number}" for number in range(200)]}
    with phone.runtime.engine.connect() as connection:
        tables = (("events", "row_user", "row_routed_ms"), ("ledger", "user", "routed_ms"))
        for table, user, routed in tables:
            names = {"table": table, "user": user, "routed": routed, "app": phone.app}
            copies = MANY_ROWS.format(**names, who=phone.user).replace("one.user", 'one."user"')
            assert connection.exec_driver_sql(copies).rowcount == 5_000
        connection.exec_driver_sql("ANALYZE events, ledger")
        queries = ((ledger_reads._SHOWN_TO_TOKEN, asked), (ledger_reads._TOKENS_SEEN, tokens))
        for query, values in queries:
            explained = connection.execute(text("EXPLAIN " + query.text), {**values, **since})
            plan = "\n".join(row[0] for row in explained)
            assert "app_row_user_row_routed" in plan, plan
            assert "app_user_routed" in plan, plan
            assert "Limit" in plan, plan
            assert "Hash" not in plan, plan
        connection.rollback()
