"""gorush's and Mattermost's APIs, the command line of the doors, and what strangers may not do."""

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from common import metrics
from tests.e2e.conftest import Afterwards, Core, digits, wait_for
from tests.e2e.doors import open_gateway
from tests.e2e.tenant import device_token
from tests.e2e.town import Town
from workers import serving
from workers.cli.why import message_trace
from workers.intake.dialects.signatures import nim_checksum, nim_md5

pytestmark = [pytest.mark.e2e]

#: gorush's answer to an empty list; 401 where the key is nobody's.
KNOWN = 400


@pytest.fixture(scope="module")
def town(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Town:
    made = Town(fleet, Path(tmp_path_factory.mktemp("accounts")), vendors=("apns", "fcm", "huawei"))
    phones = (("apns", "apple_rn", "1"), ("fcm", "android_rn", "2"), ("huawei", "harmony_rn", "3"))
    for vendor, platform, number in phones:
        assert made.add(vendor, f"{vendor}-mm", "--alias", platform, "--alias", number)[0] == 0
    made.changed()
    return made


@pytest.fixture(scope="module")
def door(fleet: Core, town: Town) -> Iterator[httpx.Client]:
    with open_gateway(fleet) as client:
        yield client


@pytest.fixture(scope="module")
def key(town: Town) -> str:
    code, out, _ = town.command("app", "gateway-key", town.app)
    assert code == 0
    town.changed()
    return out.strip()


def test_a_gateway_key_is_the_same_until_it_is_rotated_and_two_are_valid(
    town: Town, door: httpx.Client, key: str
) -> None:
    assert town.command("app", "gateway-key", town.app)[1].strip() == key
    newer = town.command("app", "gateway-key", town.app, "--rotate")[1].strip()
    newest = town.command("app", "gateway-key", town.app, "--rotate")[1].strip()
    wait_for(
        lambda: [code_of(door, one) for one in (key, newer, newest)] == [401, KNOWN, KNOWN],
        "two keys are valid",
    )
    assert key not in json.dumps(town.core.runtime.tenants.all()[town.app].options)
    with contextlib.suppress(KeyError):  # the other tests go on with a key that is valid
        town.core.runtime.catalog.changed()


@pytest.fixture
def base(town: Town, door: httpx.Client, key: str) -> str:
    """The door's path with the tenant's newest key, once the door knows it."""
    newest = town.command("app", "gateway-key", town.app)[1].strip()
    wait_for(lambda: code_of(door, newest) == KNOWN, "the door knows the newest key")
    return f"/t/{newest}/api"


def code_of(door: httpx.Client, key: str) -> int:
    """What a door answers to an empty list: KNOWN where it has the key."""
    return door.post(f"/t/{key}/api/push", json={"notifications": []}).status_code


def test_a_callback_secret_is_stored_and_shown_to_nobody(
    town: Town, door: httpx.Client, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("  the cloud's word\n")
    code, out, err = town.command("app", "callback", town.app, "--secret-file", str(file))
    assert (code, err) == (0, "")
    shown_ = out + json.dumps(town.core.runtime.tenants.all()[town.app].options)
    assert "the cloud's word" not in shown_
    raw = b'{"eventType":"2"}'
    md5 = nim_md5(raw)
    headers = {"MD5": md5, "CurTime": "1", "CheckSum": nim_checksum("the cloud's word", md5, "1")}

    def seen() -> int:
        path = f"/callbacks/nim?app={town.app}"
        return door.post(path, content=raw, headers=headers).status_code

    wait_for(lambda: seen() == 200, "the door knows the secret")
    assert town.command("app", "callback", "nobody", "--secret-file", str(file))[0] == 1
    assert town.command("app", "gateway-key", "nobody")[0] == 1


def test_one_alias_names_one_account(town: Town) -> None:
    code, _, err = town.add("apns", "apns-mm2", "--alias", "apple_*")
    assert code == 2
    assert "--alias" in err
    assert "apns-mm" in err


def test_gorush_sync_tells_what_failed(town: Town, door: httpx.Client, base: str) -> None:
    good, dead = device_token("apns"), "dead" + digits()[:60]
    first = {
        "tokens": [good, dead],
        "platform": 1,
        "message": "hello",
        "title": "Hi",
        "badge": 3,
        "category": "c",
    }
    second = {"tokens": ["x"], "platform": 9, "message": "nowhere"}

    def failures() -> dict[str, Any]:
        answer = door.post(f"{base}/push?sync=1", json={"notifications": [first, second]})
        told = answer.json()
        assert (answer.status_code, told["success"], told["counts"]) == (200, "ok", 3)
        found = {line["token"]: line for line in told["logs"]}
        assert "x" in found
        return found if dead in found else {}  # a decision may take longer than the door waits

    by_token = wait_for(failures, "the dead token's line")
    assert set(by_token) == {dead, "x"}
    assert by_token[dead]["type"] == "failed-push"
    assert by_token[dead]["platform"] == "ios"
    assert "token_dead" in by_token[dead]["error"]
    push = town.core.pushes_to("apns", good)[0]
    assert push["body"]["aps"]["alert"] == {"title": "Hi", "body": "hello"}
    assert push["body"]["aps"]["badge"] == 3


def test_gorush_async_answers_at_once_and_a_notif_id_is_pushed_once(
    town: Town, door: httpx.Client, base: str, afterwards: Afterwards
) -> None:
    token, notif_id = device_token("huawei"), uuid.uuid4().hex
    for _ in range(2):
        notifications = [
            {"tokens": [token], "platform": 3, "message": "hello", "notif_id": notif_id}
        ]
        answer = door.post(f"{base}/push", json={"notifications": notifications})
        assert answer.json() == {"success": "ok", "counts": 1, "logs": []}
    town.core.why(notif_id, town.app)
    afterwards(3, lambda: len(town.core.pushes_to("huawei", token)) == 1, "a notif_id, one push")


def test_gorush_tells_without_being_asked_where_the_tenant_wants_it(
    town: Town, door: httpx.Client, base: str
) -> None:
    nowhere = {"notifications": [{"tokens": ["x"], "platform": 9, "message": "hello"}]}

    def lines(query: str = "") -> int:
        return len(door.post(f"{base}/push{query}", json=nowhere).json()["logs"])

    assert lines() == 0
    assert town.command("app", "add", town.app, "--gorush-sync")[0] == 0
    assert wait_for(lines, "the switch") == 1
    assert lines("?sync=0") == 0
    assert town.command("app", "add", town.app, "--no-gorush-sync")[0] == 0
    wait_for(lambda: lines() == 0, "the switch back")


def test_gorush_names_a_token_that_is_half_a_pair(door: httpx.Client, base: str) -> None:
    half = {"platform": 1, "tokens": ["\ud83d"], "message": "hi"}
    answer = door.post(
        f"{base}/push?sync=1", content=json.dumps({"notifications": [half]}).encode()
    )
    found = (answer.status_code, [line["token"] for line in answer.json()["logs"]])
    assert found == (200, ["\ud83d"])


@pytest.mark.parametrize(
    "body", [{}, {"notifications": []}, {"notifications": [{}] * 101}, {"notifications": "x"}]
)
def test_gorush_refuses_a_list_that_is_none(
    door: httpx.Client, base: str, body: dict[str, Any]
) -> None:
    answer = door.post(f"{base}/push", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def mattermost(token: str, **more: Any) -> dict[str, Any]:
    base = {
        "ack_id": uuid.uuid4().hex,
        "platform": "apple_rn-v2",
        "device_id": token,
        "type": "message",
        "message": "@ann: hello",
    }
    return {
        **base,
        "post_id": uuid.uuid4().hex[:26],
        "channel_id": "town-square",
        "channel_name": "Town",
        "server_id": "s",
        **more,
    }


def test_mattermost_message_receipt_clear_and_badge(
    town: Town, door: httpx.Client, base: str
) -> None:
    token = device_token("apns")
    body = mattermost(token, badge=2)
    assert door.post(f"{base}/v1/send_push", json=body).json() == {"status": "OK"}
    row = town.core.why(body["post_id"], town.app)["recipients"][0]
    assert row["decision"] == "accepted"
    (push,) = town.core.pushes_to("apns", token)
    assert push["body"]["aps"]["alert"] == {"title": "Town", "body": "@ann: hello"}
    assert (push["body"]["aps"]["badge"], push["body"]["ack_id"]) == (2, body["ack_id"])
    ack = {
        "id": body["ack_id"],
        "post_id": body["post_id"],
        "received_at": 1,
        "platform": "ios",
        "type": "message",
    }
    assert door.post(f"{base}/v1/ack", json=ack).json() == {"status": "OK"}

    def receipts() -> Any:
        told = message_trace(town.core.runtime, body["post_id"], town.app, None, None)
        return told and told["recipients"][0]["receipts"]

    assert wait_for(receipts, "a receipt")[0]["status"] == "delivered"
    shown = door.post(f"{base}/v1/send_push", json=mattermost(token, type="clear")).json()
    assert shown == {"status": "OK"}
    assert door.post(
        f"{base}/v1/send_push", json=mattermost(token, type="update_badge", badge=1)
    ).json() == {"status": "OK"}
    pushes = wait_for(
        lambda: found if len(found := town.core.pushes_to("apns", token)) == 4 else None,
        "four pushes",
    )
    (back,) = [push for push in pushes[1:] if push["collapse_id"] == pushes[0]["collapse_id"]]
    assert "hello" not in str(back["body"])  # what the clear took back
    seen = [push["body"]["aps"] for push in pushes[1:] if push is not back]
    assert seen == [{"content-available": 1, "badge": 0}, {"badge": 1}]


def test_mattermost_is_told_to_remove_a_dead_device(
    town: Town, door: httpx.Client, base: str
) -> None:
    token = "dead" + digits()[:60]

    def told(push: dict[str, Any]) -> str:
        return str(door.post(f"{base}/v1/send_push", json=push).json()["status"])

    first = mattermost(token)
    # by the first whose decision comes within the 0.2 s that the door waits for it
    assert told(first) in ("OK", "REMOVE")
    assert town.core.why(first["post_id"], town.app)["recipients"][0]["decision"] == "token_dead"
    wait_for(lambda: told(mattermost(token)) == "REMOVE", "it is told so")


def test_mattermost_fails_in_words(door: httpx.Client, base: str) -> None:
    told = door.post(
        f"{base}/v1/send_push", json=mattermost(device_token("apns"), platform="symbian")
    ).json()
    assert told["status"] == "FAIL"
    assert told["error"]


def test_id_loaded_carries_no_words(town: Town, door: httpx.Client, base: str) -> None:
    token = device_token("apns")
    body = mattermost(token, is_id_loaded=True, message="the secret")
    door.post(f"{base}/v1/send_push", json=body)
    town.core.why(body["post_id"], town.app)
    (push,) = town.core.pushes_to("apns", token)
    shown = push["body"]["aps"]["alert"]["body"]
    assert shown
    assert (push["body"]["message"], push["body"]["id_loaded"]) == (shown, True)
    assert "the secret" not in json.dumps(push["body"])
    assert push["body"]["aps"]["mutable-content"] == 1


@pytest.mark.parametrize("path", ["v1/send_push", "v1/ack"])
def test_mattermost_with_a_wrong_key_is_told_so_in_a_200(door: httpx.Client, path: str) -> None:
    answer = door.post(f"/t/wrong/api/{path}", json=mattermost(device_token("apns"), id="a"))
    assert (answer.status_code, answer.json()["status"]) == (200, "FAIL")
    assert "key" in answer.json()["error"]


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [("wrong", b"{}", 401), ("", b"{", 400), ("", b"[]", 400), ("", b" " * (1 << 20 | 1), 413)],
)
def test_gorush_refuses_in_its_own_form(
    door: httpx.Client, base: str, key: str, body: bytes, status: int
) -> None:
    answer = door.post(f"/t/{key}/api/push" if key else f"{base}/push", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert answer.json()["message"]


def test_gorush_tells_its_version(door: httpx.Client, base: str) -> None:
    for path in ("/version", base.removesuffix("/api") + "/version"):
        told = door.get(path).json()
        assert (told["source"], told["version"]) == ("pushfleet", metrics.version())


def pushed(town: Town, vendor: str, token: str) -> list[dict[str, Any]]:
    return wait_for(lambda: town.core.pushes_to(vendor, token), "the push")


def test_gorush_takes_the_vendors_own_fields(town: Town, door: httpx.Client, base: str) -> None:
    android, apple = device_token("fcm"), device_token("apns")
    first = {
        "tokens": [android],
        "platform": 2,
        "message": "hello",
        "notification": {"color": "#112233", "icon": "one"},
        "android": {"priority": "high", "notification": {"icon": "two"}},
    }
    second = {
        "tokens": [apple],
        "platform": 1,
        "message": "hello",
        "apns": {"payload": {"aps": {"target-content-id": "w", "alert": {"body": "other words"}}}},
        "sound": {"critical": 1, "name": "alarm.caf", "volume": 0.5},
    }
    door.post(f"{base}/push", json={"notifications": [first, second]})
    (push,) = pushed(town, "fcm", android)
    look = push["body"]["android"]["notification"]
    assert (look["color"], look["icon"]) == ("#112233", "two")
    (push,) = pushed(town, "apns", apple)
    assert push["body"]["aps"]["sound"] == {"critical": 1, "name": "alarm.caf", "volume": 0.5}
    assert push["body"]["aps"]["target-content-id"] == "w"
    assert push["body"]["aps"]["alert"] == {"body": "hello"}


@pytest.mark.parametrize("name", ["topic", "condition"])
def test_gorush_logs_a_topic_beside_tokens(door: httpx.Client, base: str, name: str) -> None:
    one = {"tokens": [device_token("fcm")], "platform": 2, "message": "hello", name: "news"}
    told = door.post(f"{base}/push?sync=1", json={"notifications": [one]}).json()
    assert told["counts"] == 1
    assert [line["token"] for line in told["logs"]] == [""]
    assert "topics" in told["logs"][0]["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"device_id":7,"platform":"apple_rn"}',
        b'{"device_id":"apple_rn:","platform":"apple_rn"}',
        b"{" + b" " * (1 << 20),
    ],
)
def test_mattermost_hears_a_status_whatever_it_sent(
    door: httpx.Client, base: str, body: bytes
) -> None:
    answer = door.post(f"{base}/v1/send_push", content=body)
    assert (answer.status_code, answer.json()["status"]) == (200, "FAIL")


def test_a_head_that_never_ends_is_cut_off(
    door: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_S_MAX", 0.5)
    url = urlsplit(str(door.base_url))
    assert url.hostname
    for first in (b"", b"POST /callbacks/zego HTTP/1.1\r\nHost: x\r\nX-A: "):
        with socket.create_connection((url.hostname, url.port or 0), timeout=10) as half:
            half.sendall(first)
            with contextlib.suppress(ConnectionError):
                assert half.recv(1) == b""


def test_a_head_that_is_too_large_is_refused(door: httpx.Client) -> None:
    url = urlsplit(str(door.base_url))
    assert url.hostname
    with (
        socket.create_connection((url.hostname, url.port or 0), timeout=10) as large,
        contextlib.suppress(ConnectionError),
    ):
        large.sendall(b"POST /callbacks/zego HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 200_000)
        assert b" 400 " in large.recv(100)
