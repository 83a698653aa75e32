"""From the core's stream to an iPhone: one message to one person, and what becomes of it."""

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy import text

from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.operator import message

pytestmark = [pytest.mark.e2e]


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
    data = message(
        "u2", push={"data": {"ext": '{"cid":"u1"}'}, "display": {"title": "Hi"}, "ttl_s": 600}
    )
    told = send(fleet, app, data, ts=ts)
    (row,) = told["recipients"]
    found = (row["decision"], row["vendor"], row["business_id"], row["class_sent"])
    assert found == ("accepted", "apns", "ios", "chat")
    assert [step["stage"] for step in row["steps"]] == ["intake", "presence", "routing", "delivery"]
    (sent,) = fleet.pushes_to("apns", address)
    assert sent["body"]["aps"]["alert"] == {"title": "Hi", "body": "Ann:hello 你好"}
    assert sent["body"]["aps"]["badge"] == 6
    assert sent["body"]["aps"]["sound"] == "default"
    assert sent["body"]["aps"]["thread-id"] == "u1"
    assert sent["body"]["ext"] == '{"cid":"u1"}'
    assert sent["id"] == row["push_id"]
    assert sent["collapse_id"] == data["message_id"]
    assert sent["expiration"] == (ts + 600_000) // 1000


def test_a_state_that_began_after_the_message_is_not_the_state_of_that_moment(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    iphone("u2")
    ts = now_ms()
    fleet.presence(app, "u2", "phone", "background", since_ms=ts + 60_000)
    assert send(fleet, app, message("u2"), ts=ts)["recipients"][0]["decision"] == "online"
    fleet.presence(app, "u2", "phone", "foreground", since_ms=ts + 60_000)
    assert send(fleet, app, message("u2"), ts=ts)["recipients"][0]["decision"] == "accepted"


def test_after_it_was_unregistered_no_push_until_the_device_registers_again(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    address = iphone("u2")
    fleet.publish("device.unregistered", {"user": "u2", "device_id": "phone"}, app=app)
    fleet.settled()
    (row,) = send(fleet, app, message("u2"))["recipients"]
    assert (row["decision"], row["device"]) == ("no_device", None)
    iphone("u2", address=address)
    assert send(fleet, app, message("u2"))["recipients"][0]["decision"] == "accepted"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"x": "1"}, "no_e"),
        ({"e": b"\xff\xfe"}, "not_utf8"),
        ({"e": '"' + "x" * 1_000_000 + '"'}, "too_large"),
        (
            {"e": '{"v":1,"id":"x","type":"message.nothing","app":"a","ts":1,"data":{}}'},
            "unknown_type",
        ),
    ],
)
def test_what_cannot_be_read_becomes_a_dead_letter_and_stops_nobody(
    fleet: Core, app: str, iphone: Callable[..., str], entry: dict[str, Any], reason: str
) -> None:
    iphone("u2")
    entry_id = cast(bytes, fleet.redis.xadd("im:events", cast(Any, entry))).decode()
    assert send(fleet, app, message("u2"))["recipients"][0]["decision"] == "accepted"

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
