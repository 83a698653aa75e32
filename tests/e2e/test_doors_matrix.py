"""The Matrix door: what Synapse sends, as the fleet's rows and the vendor's record show it."""

import base64
import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Afterwards, Core, digits, now_ms, wait_for
from tests.e2e.doors import open_gateway
from tests.e2e.house import House
from tests.e2e.tenant import device_token
from tests.tables import spaced

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def house(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(fleet, Path(tmp_path_factory.mktemp("accounts")))
    credentials = fleet.runtime.credentials
    for stored in credentials.all():
        if stored.app == made.app and stored.business_id in ("apns-1", "fcm-1", "ios-other"):
            key = "voip_alias" if stored.business_id == "ios-other" else "alias"
            name = f"{made.app}.{stored.business_id}"
            credentials.add(_with_option(stored, key, name))
    made.changed()
    return made


def _with_option(stored: Any, key: str, value: str) -> Any:
    import dataclasses

    return dataclasses.replace(stored, options={**stored.options, key: value}, created_ms=now_ms())


@pytest.fixture(scope="module")
def door(fleet: Core, house: House) -> Iterator[httpx.Client]:
    with open_gateway(fleet) as client:
        yield client


#: When an app registered its token: a later second would be another registration of it.
REGISTERED_S = now_ms() // 1000 - 60


def notification(
    house: House, pushkey: str, business_id: str = "apns-1", **more: Any
) -> dict[str, Any]:
    device = {
        "app_id": f"{house.app}.{business_id}",
        "pushkey": pushkey,
        "pushkey_ts": REGISTERED_S,
        "tweaks": {"sound": "default"},
    }
    device |= more.pop("device", {})
    base: dict[str, Any] = {
        "event_id": "$" + uuid.uuid4().hex,
        "room_id": "!r:hs",
        "type": "m.room.message",
        "sender": "@ann:hs",
        "sender_display_name": "Ann",
        "content": {"msgtype": "m.text", "body": "hello"},
        "prio": "high",
        "counts": {"unread": 4},
    }
    return {"notification": {**base, "devices": [device], **more}}


NOTIFY = "/_matrix/push/v1/notify"


def post(door: httpx.Client, body: dict[str, Any], query: str = "") -> list[str]:
    answer = door.post(f"{NOTIFY}{query}", content=json.dumps(body).encode())
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rejected"])


def told(house: House, body: dict[str, Any]) -> dict[str, Any]:
    return house.one(house.why(body["notification"]["event_id"]))


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
def test_a_packed_notification_is_taken(house: House, door: httpx.Client, coding: str) -> None:
    body = notification(house, device_token("apns"))
    packed = gzip.compress(json.dumps(body).encode())
    answer = door.post(NOTIFY, content=packed, headers={"content-encoding": coding})
    assert (answer.status_code, answer.json()) == (200, {"rejected": []})
    assert told(house, body)["decision"] == "accepted"


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br"])
def test_another_coding_is_refused_with_the_one_that_is_known(
    house: House, door: httpx.Client, coding: str
) -> None:
    body = json.dumps(notification(house, device_token("apns"))).encode()
    answer = door.post(NOTIFY, content=body, headers={"content-encoding": coding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip"
    assert answer.json() == {"error": "a body is plain or gzip"}


def test_a_message_of_two(house: House, door: httpx.Client) -> None:
    token = device_token("apns")
    body = notification(house, token)
    assert post(door, body) == []
    assert told(house, body)["decision"] == "accepted"
    push = house.push(token)
    aps = push["body"]["aps"]
    assert aps["alert"] == {"title": "Ann", "body": "hello"}
    assert (aps["badge"], aps["sound"], aps["thread-id"]) == (4, "default", "!r:hs")
    found = (push["body"]["room_id"], push["body"]["event_id"])
    assert found == ("!r:hs", body["notification"]["event_id"])
    assert push["collapse_id"] == body["notification"]["event_id"]


def test_a_group_message_of_low_priority_without_sound(house: House, door: httpx.Client) -> None:
    token = device_token("apns")
    body = notification(house, token, room_name="Team", prio="low", device={"tweaks": {}})
    post(door, body)
    assert told(house, body)["decision"] == "accepted"
    push = house.push(token)
    assert push["body"]["aps"]["alert"] == {"title": "Team", "body": "Ann: hello"}
    assert "sound" not in push["body"]["aps"]
    assert str(push["priority"]) == "5"


@pytest.mark.parametrize("by_specification", [False, True])
def test_an_invitation_is_told_wherever_the_membership_stands(
    house: House, door: httpx.Client, by_specification: bool
) -> None:
    """Synapse names it beside the content, the push gateway's specification in it alone."""
    invite = {"membership": "invite"}
    token = device_token("apns")
    more = {"content": invite} if by_specification else {"content": {}, **invite}
    body = notification(house, token, type="m.room.member", user_is_target=True, **more)
    post(door, body)
    assert told(house, body)["decision"] == "accepted"
    push = house.push(token)
    assert push["push_type"] == "alert"
    assert push["body"]["aps"]["alert"]["body"].startswith("Ann ")


def test_a_base64_pushkey_is_the_same_token(house: House, door: httpx.Client) -> None:
    token = device_token("apns")
    body = notification(house, base64.b64encode(bytes.fromhex(token)).decode())
    assert post(door, body) == []
    assert told(house, body)["decision"] == "accepted"
    assert len(house.pushes(token)) == 1


def test_an_encrypted_message_has_the_apps_own_words(house: House, door: httpx.Client) -> None:
    token = device_token("apns")
    aps = {"mutable-content": 1, "alert": {"loc-key": "Notification", "loc-args": []}}
    default = {"aps": aps, "cs": "x"}
    device = {"data": {"default_payload": default}}
    body = notification(
        house, token, type="m.room.encrypted", content={"ciphertext": "zzz"}, device=device
    )
    post(door, body)
    assert told(house, body)["decision"] == "accepted"
    sent = house.push(token)["body"]
    assert sent["aps"]["alert"]["loc-key"] == "Notification"
    assert sent["aps"]["mutable-content"] == 1
    assert sent["cs"] == "x"
    assert "zzz" not in str(sent)


def test_event_id_only_carries_ids_and_no_badge_of_ours(house: House, door: httpx.Client) -> None:
    token = device_token("apns")
    data = {"format": "event_id_only", "default_payload": {"aps": {"mutable-content": 1}}}
    body = notification(house, token, device={"data": data})
    for name in ("sender", "sender_display_name", "type", "content"):
        del body["notification"][name]
    post(door, body)
    assert told(house, body)["decision"] == "accepted"
    sent = house.push(token)["body"]
    assert (sent["room_id"], sent["unread_count"]) == ("!r:hs", 4)
    assert "badge" not in sent["aps"]
    assert sent["aps"]["mutable-content"] == 1


def test_read_elsewhere_is_a_badge_alone(house: House, door: httpx.Client) -> None:
    token = device_token("apns")
    device = {"app_id": f"{house.app}.apns-1", "pushkey": token, "pushkey_ts": 1, "tweaks": {}}
    empty = {"id": "", "type": None, "sender": "", "counts": {"unread": 0}, "devices": [device]}
    assert post(door, {"notification": empty}) == []
    wait_for(lambda: house.pushes(token), "the badge")
    assert house.push(token)["body"] == {"aps": {"badge": 0}}


def test_a_call_rings_for_its_lifetime_by_the_pusher_for_calls(
    house: House, door: httpx.Client
) -> None:
    token = device_token("apns")
    before = now_ms()
    content = {"call_id": "c", "lifetime": 30_000}
    body = notification(house, token, "ios-other", type="m.call.invite", content=content)
    post(door, body)
    row = told(house, body)
    assert (row["decision"], row["class"]) == ("accepted", "call")
    push = house.push(token)
    assert push["push_type"] == "voip"
    assert before // 1000 + 29 <= push["expiration"] <= now_ms() // 1000 + 30


def test_fcm_clients_read_data_as_they_do_from_sygnal(house: House, door: httpx.Client) -> None:
    token = device_token("fcm")
    body = notification(house, token, "fcm-1", room_name="Team")
    post(door, body)
    assert told(house, body)["decision"] == "accepted"
    sent = house.push(token, "fcm")["body"]
    assert "notification" not in sent
    data = sent["data"]
    found = (data["event_id"], data["content_body"], data["unread"])
    assert found == (body["notification"]["event_id"], "hello", "4")


def test_a_dead_token_is_rejected_at_once_and_ever_after_until_set_anew(
    house: House, door: httpx.Client
) -> None:
    token = "dead" + digits()[:60]
    first = notification(house, token)
    # a busy machine may be late for one
    assert wait_for(lambda: post(door, first), "the dead token is told") == [token]
    assert told(house, first)["decision"] == "token_dead"
    assert wait_for(lambda: post(door, notification(house, token)), "and ever after") == [token]


def test_a_token_that_an_operator_retired_is_not_rejected(house: House, door: httpx.Client) -> None:
    """Its homeserver would forget it for good, and a retirement can be taken back."""
    token = device_token("apns")
    first = notification(house, token)
    assert post(door, first) == []
    user = told(house, first)["user"]
    assert house.command("device", "retire", house.app, user, "")[0] == 0
    second = notification(house, token)
    assert post(door, second) == []
    row = told(house, second)
    assert (row["decision"], row["attempts"]) == ("token_dead", [])
    assert post(door, first) == [], "asked again"


def test_a_malformed_token_is_rejected_and_an_unknown_app_id_is_not(
    house: House, door: httpx.Client
) -> None:
    body = notification(house, "not a token")
    assert wait_for(lambda: post(door, body), "the malformed one is told") == ["not a token"]
    name = "nobody." + uuid.uuid4().hex
    assert post(door, notification(house, device_token("apns"), device={"app_id": name})) == []
    letters = house.core.runtime.dead_letters
    found = wait_for(
        lambda: [one for one in letters.listed("gateway") if name.encode() in one.raw],
        "the dead letter",
    )
    assert found[0].reason.startswith("unknown_alias")


def test_a_repeat_is_one_push(house: House, door: httpx.Client, afterwards: Afterwards) -> None:
    token = device_token("apns")
    body = notification(house, token)
    for _ in range(3):
        assert post(door, body) == []
    told(house, body)
    afterwards(3, lambda: len(house.pushes(token)) == 1, "a repeat, one push")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"notification":{}}',
        b'{"notification":{"devices":{}}}',
        b'{"notification":[]}',
    ],
)
def test_what_is_no_notification_is_a_400(door: httpx.Client, body: bytes) -> None:
    assert door.post("/_matrix/push/v1/notify", content=body).status_code == 400


def test_whatever_is_in_the_fields_the_answer_is_200(house: House, door: httpx.Client) -> None:
    odd: list[Any] = [None, 7, "", "x" * 60_000, {"a": [1]}, [None], True, "\ud83d", 1e300, -1]
    for value in odd:
        for field in spaced("event_id room_id sender content counts type prio room_name"):
            assert post(door, notification(house, device_token("apns"), **{field: value})) == []
        for field in ("tweaks", "data", "pushkey_ts", "app_id"):
            found = post(door, notification(house, device_token("apns"), device={field: value}))
            assert found == []
    house.core.settled()
    house.event("push.direct", {})  # a dead letter behind all of them
    dead = house.core.runtime.dead_letters
    letters = wait_for(lambda: dead.listed("intake", house.app), "the dead letter")
    assert [letter.reason for letter in letters] == [letters[0].reason]
    assert letters[0].reason.startswith("wrong_shape")


@pytest.mark.parametrize("token", ["x" * 2_049, "a\0b", "", "\ud83d"])
def test_what_can_be_nobodys_token_is_rejected_at_once(
    house: House, door: httpx.Client, token: str
) -> None:
    assert post(door, notification(house, token)) == [token]


def test_a_key_confines_to_its_tenant(house: House, door: httpx.Client) -> None:
    body = notification(house, device_token("apns"))
    assert door.post("/_matrix/push/v1/notify?k=wrong", json=body).status_code == 401
    assert door.get("/_matrix/push/v1/notify").json() == {"pushfleet": {"gateway": "matrix"}}


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE"])
def test_a_method_that_there_is_not_hears_of_those_that_there_are(
    door: httpx.Client, method: str
) -> None:
    answer = door.request(method, "/_matrix/push/v1/notify")
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "POST"]


@pytest.mark.parametrize(
    "path", ["/_matrix/push/v1/notify/?k=KEY", "/t/KEY/api/push/", "/callbacks/nim/"]
)
def test_no_caller_is_sent_with_its_key_to_another_address(door: httpx.Client, path: str) -> None:
    answer = door.post(path, content=b"{}", headers={"host": "elsewhere.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)
