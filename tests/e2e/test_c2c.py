"""From the core's stream to an iPhone: one message to one person, and what becomes of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.e2e.conftest import Core, now_ms, token

pytestmark = [pytest.mark.e2e]


def message(sender: str = "u1", to: str = "u2", **more: Any) -> dict[str, Any]:
    base = {
        "message_id": "m-" + uuid.uuid4().hex,
        "conversation": {"type": "c2c", "id": sender},
        "sender": {"id": sender, "nick": "Ann"},
        "recipients": [to],
        "elements": [{"type": "text", "text": "hello 你好"}],
    }
    return {**base, **more}


def send(fleet: Core, app: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    fleet.publish("message.stored", data, app=app, **more)
    return fleet.why(data["message_id"], app)


def test_a_message_to_somebody_away_reaches_the_iphone_as_the_contract_says(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    address = iphone("u2")
    fleet.publish("app.background", {"user": "u2", "device_id": "phone", "badge": 5}, app=app)
    fleet.settled()
    ts = now_ms()
    data = message(push={"data": {"ext": '{"cid":"u1"}'}, "display": {"title": "Hi"}, "ttl_s": 600})
    told = send(fleet, app, data, ts=ts)
    (row,) = told["recipients"]
    found = (row["decision"], row["vendor"], row["business_id"], row["class_sent"])
    assert found == ("accepted", "apns", "ios", "chat")
    assert [step["stage"] for step in row["steps"]] == ["intake", "presence", "routing", "delivery"]
    (push,) = fleet.pushes_to("apns", address)
    assert push["body"]["aps"]["alert"] == {"title": "Hi", "body": "Ann:hello 你好"}
    assert push["body"]["aps"]["badge"] == 6
    assert push["body"]["aps"]["sound"] == "default"
    assert push["body"]["aps"]["thread-id"] == "u1"
    assert push["body"]["ext"] == '{"cid":"u1"}'
    assert push["id"] == row["push_id"]
    assert push["collapse_id"] == data["message_id"]
    assert push["expiration"] == (ts + 600_000) // 1000


def test_somebody_looking_at_the_app_gets_no_push(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    address = iphone("u2")
    fleet.presence(app, "u2", "phone", "foreground")
    (row,) = send(fleet, app, message())["recipients"]
    assert (row["decision"], row["device"]) == ("online", "phone")
    assert not fleet.pushes_to("apns", address)


def test_an_app_in_the_background_gets_a_push(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    iphone("u2")
    fleet.presence(app, "u2", "phone", "background")
    assert send(fleet, app, message())["recipients"][0]["decision"] == "accepted"


def test_a_state_that_began_after_the_message_is_not_the_state_of_that_moment(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    iphone("u2")
    ts = now_ms()
    fleet.presence(app, "u2", "phone", "background", since_ms=ts + 60_000)
    assert send(fleet, app, message(), ts=ts)["recipients"][0]["decision"] == "online"
    fleet.presence(app, "u2", "phone", "foreground", since_ms=ts + 60_000)
    assert send(fleet, app, message(), ts=ts)["recipients"][0]["decision"] == "accepted"


@pytest.mark.parametrize("kind", ["session.logout", "session.kicked", "device.unregistered"])
def test_after_the_session_ended_no_push_until_the_device_registers_again(
    fleet: Core, app: str, iphone: Callable[..., str], kind: str
) -> None:
    address = iphone("u2")
    fleet.publish(kind, {"user": "u2", "device_id": "phone"}, app=app)
    fleet.settled()
    (row,) = send(fleet, app, message())["recipients"]
    assert (row["decision"], row["device"]) == ("no_device", None)
    iphone("u2", address=address)
    assert send(fleet, app, message())["recipients"][0]["decision"] == "accepted"


def test_a_user_nobody_knows_has_no_device(fleet: Core, app: str) -> None:
    (row,) = send(fleet, app, message(to="stranger"))["recipients"]
    found = (row["user"], row["decision"], row["device"], row["vendor"])
    assert found == ("stranger", "no_device", None, None)


def test_of_a_group_of_three_only_the_one_who_is_away_hears(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    tokens = {user: iphone(user) for user in ("g1", "g2", "g3")}
    fleet.redis.sadd(f"im:members:{{{app}:team}}", "g1", "g2", "g3")
    fleet.presence(app, "g2", "phone", "foreground")
    data = message(
        "g1", conversation={"type": "group", "id": "team", "name": "Team"}, recipients=None
    )
    del data["recipients"]
    fleet.publish("message.stored", data, app=app)
    told = fleet.why(data["message_id"], app, rows=3)
    found = {row["user"]: row["decision"] for row in told["recipients"]}
    assert found == {"g1": "sender", "g2": "online", "g3": "accepted"}
    (push,) = fleet.pushes_to("apns", tokens["g3"])
    assert push["body"]["aps"]["alert"]["body"] == "Ann(Team):hello 你好"
    assert push["body"]["aps"]["thread-id"] == "team"


def test_a_custom_element_is_pushed_only_with_words(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    address = iphone("u2")
    told = send(fleet, app, message(elements=[{"type": "custom"}]))
    assert (told["decision"], told["recipients"]) == ("no_text", [])
    assert (
        send(fleet, app, message(elements=[{"type": "custom", "text": "a gift"}]))["recipients"][0][
            "decision"
        ]
        == "accepted"
    )
    found = [push["body"]["aps"]["alert"]["body"] for push in fleet.pushes_to("apns", address)]
    assert found == ["Ann:a gift"]


@pytest.mark.parametrize(
    ("push", "decision"),
    [
        ({"gate": {"enabled": False}}, "push_disabled"),
        ({"gate": {"store_offline": False}}, "push_disabled"),
        ({"gate": {"online_only": True}}, "online_only"),
        ({"ttl_s": 0}, "expired"),
    ],
)
def test_what_is_decided_at_intake_has_no_recipients(
    fleet: Core, app: str, push: dict[str, Any], decision: str
) -> None:
    told = send(fleet, app, message(push=push), ts=now_ms() - 1000)
    assert (told["decision"], told["recipients"]) == (decision, [])


def test_a_dead_token_is_retired_and_the_next_message_finds_no_device(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    iphone("u2", address="dead" + token()[4:])
    (row,) = send(fleet, app, message())["recipients"]
    assert (row["decision"], row["attempts"][0]["code"]) == ("token_dead", "Unregistered")
    assert send(fleet, app, message())["recipients"][0]["decision"] == "no_device"


def test_an_event_that_comes_again_is_pushed_once(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    address = iphone("u2")
    data = message()
    for _ in range(3):
        fleet.publish("message.stored", data, app=app, event_id="same")
    fleet.settled()
    told = fleet.why(data["message_id"], app)
    assert len(told["recipients"]) == 1
    assert len(fleet.pushes_to("apns", address)) == 1


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"x": "1"}, "no_e"),
        ({"e": "{"}, "not_json"),
        ({"e": b"\xff\xfe"}, "not_utf8"),
        ({"e": '{"a":1,"a":2}'}, "duplicate_key"),
        ({"e": "[" * 40 + "]" * 40}, "too_deep"),
        ({"e": '"' + "x" * 1_000_000 + '"'}, "too_large"),
        (
            {"e": '{"v":1,"id":"x","type":"message.nothing","app":"a","ts":1,"data":{}}'},
            "unknown_type",
        ),
        (
            {"e": '{"v":1,"id":"x","type":"message.stored","app":"nobody","ts":1,"data":{}}'},
            "wrong_shape",
        ),
    ],
)
def test_what_cannot_be_read_becomes_a_dead_letter_and_stops_nobody(
    fleet: Core, app: str, iphone: Callable[..., str], entry: dict[str, Any], reason: str
) -> None:
    from sqlalchemy import text

    from tests.e2e.conftest import wait_for

    iphone("u2")
    entry_id = cast(bytes, fleet.redis.xadd("im:events", cast(Any, entry))).decode()
    assert send(fleet, app, message())["recipients"][0]["decision"] == "accepted"

    def letter() -> Any:
        with fleet.runtime.engine.connect() as connection:
            return connection.execute(
                text("SELECT reason, raw FROM dead_letters WHERE entry_id = :id"), {"id": entry_id}
            ).first()

    found = wait_for(letter, "the dead letter")
    assert found.reason.startswith(reason)
    raw = fleet.runtime.vault.decrypt(bytes(found.raw))
    given = entry.get("e", json.dumps({"x": "1"}))
    assert raw == (given if isinstance(given, bytes) else given.encode())[: 256 * 1024]
