"""`push.direct`: a push to one token, from the stream to the vendor, and the decision told to
whoever waits for it.
"""

import contextlib
import json
import re
import uuid
from typing import Any

import pytest

from common.tokens import token_user
from tests.e2e.conftest import Afterwards, digits, now_ms, wait_for
from tests.e2e.house import House
from tests.e2e.tenant import device_token, platform_of
from tests.e2e.test_withdraw import PLACES
from workers.reports.trace import trace_page

pytestmark = [pytest.mark.e2e]


def direct(vendor: str = "apns", token: str | None = None, **more: Any) -> dict[str, Any]:
    target = {
        "vendor": vendor,
        "business_id": f"{vendor}-1",
        "token": token or device_token(vendor),
        "platform": "ios",
    }
    target["platform"] = platform_of(vendor)
    target |= more.pop("target", {})
    elements = [{"type": "text", "text": "the first words"}]
    base = {"target": target, "message_id": "d-" + uuid.uuid4().hex, "elements": elements}
    sender = {"id": "ann", "nick": "Ann"}
    return {**base, "sender": sender, "conversation": {"type": "c2c", "id": "ann"}, **more}


def send(house: House, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    house.event("push.direct", data, **more)
    return house.why(data["message_id"])


def replies(house: House, key: str, seconds: float = 10.0) -> dict[str, Any]:
    runtime = house.core.runtime
    answer: Any = runtime.redis.blpop([runtime.keys.reply(key)], seconds)
    assert answer is not None, "no reply"
    told = dict(json.loads(answer[1]))
    assert set(told) == {
        *("event_id", "message_id", "user", "vendor", "business_id"),
        *("decision", "note", "retired"),
    }
    return told


def test_a_token_gets_its_push_without_a_person_behind_it(house: House) -> None:
    data = direct(push={"display": {"title": "Hi"}})
    told = send(house, data)
    row = house.one(told)
    target = data["target"]
    assert (told["type"], row["decision"], row["device"]) == ("push.direct", "accepted", None)
    assert row["user"] == token_user("apns", target["business_id"], target["token"])
    assert re.fullmatch(r"token:[0-9a-f]{12}", row["user"])
    assert [step["stage"] for step in row["steps"]] == ["intake", "routing", "delivery"]
    push = house.push(target["token"])
    assert push["body"]["aps"]["alert"] == {"title": "Hi", "body": "Ann:the first words"}
    assert "badge" not in push["body"]["aps"]
    assert push["collapse_id"] == data["message_id"]


def test_the_registered_owner_of_a_token_keeps_it(house: House) -> None:
    (user,) = house.people(1)
    token = house.register(user)
    assert house.one(send(house, direct(token=token)))["decision"] == "accepted"
    message = house.message("bob", user)
    assert house.one(house.send(message))["decision"] == "accepted"
    assert house.one(send(house, direct(token=token)))["decision"] == "accepted"


def test_presence_and_settings_of_the_tokens_name_do_not_matter(house: House) -> None:
    data = direct(push={"gate": {"require_friend": True}})
    target = data["target"]
    name = token_user("apns", target["business_id"], target["token"])
    dnd = {"start": "00:00", "end": "00:00"}
    house.event("settings.updated", {"user": name, "blocked": ["ann"], "dnd": dnd})
    house.core.presence(house.app, name, "", "foreground")
    assert house.one(send(house, data))["decision"] == "accepted"


@pytest.mark.parametrize("value", [0, 7])
def test_an_absolute_badge_is_that_number(house: House, value: int) -> None:
    token = device_token("apns")
    for _ in range(2):  # it is not added up
        data = direct(token=token, push={"badge": {"mode": "set", "value": value}})
        assert house.one(send(house, data))["decision"] == "accepted"
    assert [push["body"]["aps"]["badge"] for push in house.pushes(token)] == [value, value]


def test_an_absolute_badge_of_a_stored_message(house: House) -> None:
    sender, user = house.people()
    token = house.register(user)
    house.send(house.message(sender, user, push={"badge": {"mode": "set", "value": 9}}))
    house.send(house.message(sender, user))
    assert [push["body"]["aps"].get("badge") for push in house.pushes(token)] == [9, 1]


def test_a_badge_alone_shows_nothing_else(house: House) -> None:
    data = direct(kind="badge", push={"badge": {"mode": "set", "value": 3}}, elements=[])
    assert house.one(send(house, data))["decision"] == "accepted"
    push = house.push(data["target"]["token"])
    assert push["body"] == {"aps": {"badge": 3}}
    assert (push["push_type"], str(push["priority"])) == ("alert", "5")


@pytest.mark.parametrize("vendor", ["fcm", "huawei", "honor", "harmony"])
def test_a_badge_alone_reaches_the_app_where_the_vendor_has_no_field_without_words(
    house: House, vendor: str
) -> None:
    data = direct(vendor, kind="badge", push={"badge": {"mode": "set", "value": 3}}, elements=[])
    assert house.one(send(house, data))["decision"] == "accepted"
    assert '"badge"' in json.dumps(house.push(data["target"]["token"], vendor)["body"]).replace(
        '\\"', '"'
    )


@pytest.mark.parametrize("vendor", ["xiaomi", "oppo", "vivo", "meizu"])
def test_a_badge_alone_is_refused_where_it_would_be_a_banner(house: House, vendor: str) -> None:
    data = direct(vendor, kind="badge", push={"badge": {"mode": "set", "value": 3}}, elements=[])
    row = house.one(send(house, data))
    assert row["decision"] == "rejected"
    assert "badge_not_supported" in row["steps"][-1]["note"]


@pytest.mark.parametrize("vendor", ["xiaomi", "oppo", "vivo", "meizu"])
@pytest.mark.parametrize("wake", [{"kind": "clear"}, {"push": {"push_type": "silent"}}], ids=str)
def test_a_wake_is_no_banner_where_everything_is_shown(
    house: House, vendor: str, wake: dict[str, Any]
) -> None:
    data = direct(vendor, elements=[], **wake)
    row = house.one(send(house, data))
    assert row["decision"] == "rejected"
    assert "silent_not_supported" in row["steps"][-1]["note"]
    assert house.pushes(data["target"]["token"], vendor) == []


def test_a_clear_wakes_the_app_and_shows_nothing(house: House) -> None:
    wishes = {"badge": {"mode": "set", "value": 0}, "data": {"payload": {"type": "clear"}}}
    data = direct(kind="clear", push=wishes, elements=[])
    assert house.one(send(house, data))["decision"] == "accepted"
    push = house.push(data["target"]["token"])
    assert push["body"] == {"aps": {"content-available": 1, "badge": 0}, "type": "clear"}


def standing(house: House, vendor: str, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The pushes to its token in the place of this one."""
    found = []
    for push in house.pushes(data["target"]["token"], vendor):
        with contextlib.suppress(KeyError, TypeError):  # a wake of the app has no place
            found.append((PLACES[vendor](push), push))
    return [push for place, push in found if place == found[0][0]]


def test_a_clear_takes_back_what_is_shown_of_its_conversation_as_a_recall_does(
    house: House, afterwards: Afterwards
) -> None:
    """At all nine vendors at once: in its place, quietly, with none of its words, and once."""
    push = {"display": {"title": "secret-title"}, "data": {"payload": {"k": "secret-payload"}}}
    shown = {vendor: direct(vendor, push=push) for vendor in house.options}
    target = shown["apns"]["target"]
    other = direct(token=target["token"], conversation={"type": "c2c", "id": "eve"})
    call = direct(token=target["token"], kind="call", target={"voip_token": device_token("apns")})
    for data in (*shown.values(), other, call):
        house.event("push.direct", data)
    for data in (*shown.values(), other, call):
        assert house.decision(data["message_id"]) == "accepted"
    for _ in range(2):
        for vendor, data in shown.items():
            token = data["target"]["token"]
            house.event("push.direct", direct(vendor, token=token, kind="clear", elements=[]))
        for vendor, data in shown.items():
            user = token_user(vendor, f"{vendor}-1", data["target"]["token"])
            assert house.step(data["message_id"], user, "recall: accepted"), vendor
    for vendor, data in shown.items():
        first, last = standing(house, vendor, data)
        said = json.dumps(last["body"], ensure_ascii=False)
        assert "first words" in json.dumps(first["body"]) or vendor == "vivo"
        assert [word for word in ("first words", "secret", "Ann") if word in said] == [], vendor
        assert house.one(house.why(data["message_id"]))["decision"] == "accepted"
    _, last = standing(house, "apns", shown["apns"])
    found = (last["push_type"], last["body"]["aps"]["alert"]["body"])
    assert found == ("alert", "已在其他设备阅读")
    assert "sound" not in last["body"]["aps"]

    def nothing_more() -> bool:
        ids = [push["collapse_id"] for push in house.pushes(target["token"])]
        rung = [push["push_type"] for push in house.pushes(call["target"]["voip_token"])]
        stand = [len(standing(house, vendor, data)) for vendor, data in shown.items()]
        return ids.count(other["message_id"]) == 1 and rung == ["voip"] and set(stand) == {2}

    assert nothing_more()
    afterwards(5, nothing_more, "the looks of a second clear take nothing back again")


def test_what_is_queued_of_a_conversation_goes_no_more_when_it_is_cleared(house: House) -> None:
    token = device_token("apns")
    with house.paused() as lane:
        on: dict[str, Any] = {"token": token, "target": {"business_id": lane}}
        data = direct(ts=now_ms() - 10, **on)
        house.event("push.direct", data)
        house.waiting(data["message_id"])
        house.event("push.direct", direct(kind="clear", elements=[], **on))
    assert house.decision(data["message_id"]) == "read_elsewhere"


def test_a_call_goes_by_the_voip_token_and_does_not_ring_for_a_day(house: House) -> None:
    voip = device_token("apns")
    ts = now_ms()
    data = direct(kind="call", target={"voip_token": voip})
    row = house.one(send(house, data, ts=ts))
    assert (row["decision"], row["class"]) == ("accepted", "call")
    push = house.push(voip)
    assert (push["push_type"], push["expiration"]) == ("voip", (ts + 60_000) // 1000)
    assert push["body"]["call"] == {"id": data["message_id"], "action": "invite"}


def test_words_that_the_app_holds(house: House) -> None:
    data = direct(push={"display": {"loc": {"key": "NEW_FROM", "args": ["Ann"]}}}, elements=[])
    assert house.one(send(house, data))["decision"] == "accepted"
    assert house.alert(data["target"]["token"]) == {"loc-key": "NEW_FROM", "loc-args": ["Ann"]}
    data = direct(
        "fcm", push={"display": {"loc": {"key": "NEW_FROM", "args": ["Ann"]}}}, elements=[]
    )
    assert house.one(send(house, data))["decision"] == "accepted"
    shown = house.push(data["target"]["token"], "fcm")["body"]["android"]["notification"]
    assert (shown["body_loc_key"], shown["body_loc_args"]) == ("NEW_FROM", ["Ann"])


def test_without_any_words_the_tenants_stand_alone(house: House) -> None:
    data = direct(elements=[])
    assert house.one(send(house, data))["decision"] == "accepted"
    assert house.alert(data["target"]["token"])["body"] == "您收到一条新消息"


def test_an_opaque_blob_travels_whole_or_not_at_all(house: House) -> None:
    data = direct(push={"blob": {"cipher": "x" * 600, "iv": "abc"}}, elements=[])
    assert house.one(send(house, data))["decision"] == "accepted"
    body = house.push(data["target"]["token"])["body"]
    assert (body["cipher"], body["iv"]) == ("x" * 600, "abc")
    large = direct("huawei", push={"blob": {"cipher": "x" * 6000}}, elements=[])
    row = house.one(send(house, large))
    assert row["decision"] == "rejected"
    assert "payload_too_large" in row["steps"][-1]["note"]


def test_the_decision_is_told_where_it_was_asked_for(house: House) -> None:
    key = uuid.uuid4().hex
    data = direct(reply={"key": key, "wait_ms": 5_000})
    event_id = house.event("push.direct", data)
    house.why(data["message_id"])
    assert 0 < house.core.runtime.redis.ttl(house.core.runtime.keys.reply(key)) <= 60
    told = replies(house, key)
    assert (told["event_id"], told["decision"], told["retired"]) == (event_id, "accepted", False)


def test_what_intake_decides_is_told_and_a_repeat_is_told_that_it_is_one(house: House) -> None:
    key, event_id = uuid.uuid4().hex, uuid.uuid4().hex
    data = direct(reply={"key": key}, push={"gate": {"online_only": True}})
    account = ("apns", data["target"]["business_id"])
    for decision, note in (("online_only", ""), (None, "asked before")):
        house.event("push.direct", data, event_id=event_id)
        told = replies(house, key)
        assert (told["decision"], told["note"]) == (decision, note)
        assert (told["message_id"], told["vendor"], told["business_id"]) == (
            data["message_id"],
            *account,
        )


def test_what_routing_decides_is_told_once(house: House) -> None:
    key, runtime = uuid.uuid4().hex, house.core.runtime
    data = direct(reply={"key": key, "wait_ms": 60_000}, target={"business_id": "nobody"})
    event_id = house.event("push.direct", data)
    told = replies(house, key)
    assert (told["event_id"], told["decision"]) == (event_id, "no_credential")
    waiter = f"{key}\0{event_id}\0{told['user']}"
    assert runtime.redis.zscore(runtime.keys.replies_due, waiter) is None, "nothing more is told"


def test_a_decision_that_takes_longer_than_the_wait_is_told_as_none(house: House) -> None:
    key = uuid.uuid4().hex
    with house.paused() as lane:
        on = {"business_id": lane}
        house.event("push.direct", direct(reply={"key": key, "wait_ms": 200}, target=on))
        assert replies(house, key)["decision"] is None
    assert replies(house, key)["decision"] == "accepted"


def test_a_token_that_the_vendor_declared_dead_is_told_so_at_once_until_the_app_registers_anew(
    house: House,
) -> None:
    token, key = "dead" + digits()[:60], uuid.uuid4().hex
    since = now_ms() - 3_600_000
    first = direct(token=token, reply={"key": key, "wait_ms": 5_000}, target={"since_ms": since})
    assert house.one(send(house, first))["decision"] == "token_dead"
    told = replies(house, key)
    assert (told["decision"], told["retired"]) == ("token_dead", True)
    requests = len(house.pushes(token))
    again = direct(token=token, reply={"key": key, "wait_ms": 5_000}, target={"since_ms": since})
    row = house.one(send(house, again))
    assert (row["decision"], row["attempts"]) == ("token_dead", [])
    assert replies(house, key)["retired"] is True
    assert len(house.pushes(token)) == requests
    later = direct(token=token, target={"since_ms": now_ms()})
    assert house.one(send(house, later))["attempts"]


def test_an_event_of_the_wrong_shape_is_a_dead_letter(house: House) -> None:
    before = len(house.core.runtime.dead_letters.listed(None))
    for wrong in (
        {"message_id": "x"},
        direct(kind="recall"),
        direct(kind="badge"),
        direct(target={"vendor": "carrier-pigeon"}),
        direct(reply={"key": ""}),
        direct(push={"badge": {"mode": "set", "value": -1}}),
    ):
        house.event("push.direct", wrong)
    letters = house.core.runtime.dead_letters
    wait_for(lambda: len(letters.listed(None)) >= before + 6, "the dead letters")
    assert len(letters.listed(None)) == before + 6


def test_why_shows_each_token_of_a_message(house: House) -> None:
    runtime, name = house.core.runtime, "d-" + uuid.uuid4().hex
    for vendor in ("apns", "fcm", "huawei"):
        house.event("push.direct", direct(vendor, message_id=name))
    told = house.why(name, 3)
    decided = {row["vendor"]: row["decision"] for row in told["recipients"]}
    assert decided == dict.fromkeys(("apns", "fcm", "huawei"), "accepted")
    users = [row["user"] for row in told["recipients"]]
    assert [one["user"] for one in house.why(name, user=users[1])["recipients"]] == [users[1]]
    alone = house.core.why(name, house.app, event_id=told["event_id"])
    assert len(alone["recipients"]) == 1
    seen, after = list[str](), None
    for _ in users:
        page = trace_page(runtime, name, house.app, None, None, after, 1)
        assert page is not None
        assert page["counts"] == {"accepted": 3}
        seen += [row["user"] for row in page["recipients"]]
        after = page["next"]
    assert (seen, after) == (users, None)
    page = trace_page(runtime, name, house.app, None, "rejected", None, 1)
    assert page is not None
    assert page["recipients"] == []
