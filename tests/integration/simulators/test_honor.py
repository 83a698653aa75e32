"""The Honor simulator refuses, records and reports as the vendor's page says."""

import json

import pytest

from tests.integration.simulators.clients.honor import HonorClient, split
from tests.integration.simulators.running import DELETE, changed, fixtures_of, hook
from tests.page_vectors import HONOR_V1

BODY = json.loads(HONOR_V1)
SHOWN = "android.notification"
LOW = changed(BODY, f"{SHOWN}.importance", "LOW")


def to(*tokens, body=BODY):
    return changed(body, "token", list(tokens))


honor, client, access = fixtures_of(
    "honor", HonorClient, lambda client: client.token()[1]["access_token"]
)


def test_the_quota_day_begins_at_midnight_in_shanghai(honor):
    assert honor.door("clock", now_ms=1748793599000)["day"] == "20250601"
    assert honor.door("clock", now_ms=1748793600000)["day"] == "20250602"


@pytest.mark.parametrize(
    ("client_id", "secret", "refusal"),
    [
        ("1", "so wrong", (401, "invalid_client")),
        ("c-1", "other", (401, "invalid_client")),
        ("1", "", (400, "unauthorized_client")),
    ],
)
def test_each_oauth_refusal(honor, client, client_id, secret, refusal):
    honor.door("accounts", account="104000001", app_key="c-1", secret="right")
    status, answer = client.token(client_id, secret)
    assert (status, answer["error"]) == refusal


def test_the_older_token_path_works_too(honor, client):
    old = "/auth/realms/developer/protocol/openid-connect/token"
    assert client.token(path=old)[1]["expires_in"] == 3600
    assert honor.counts["auth"] == 1


def test_who_may_not_send(honor, client, access):
    honor.door("accounts", account="104000002", app_key="c-2", secret="right")
    assert client.send(BODY, access)[0] == 200
    assert client.send(BODY, "")[1]["code"] == 401
    assert client.send(BODY, "unknown")[1]["code"] == 401
    assert client.send(BODY, access, app_id="999000001")[1]["code"] == 404
    found = client.send(BODY, access, app_id="104000002")[1]["code"]
    assert found == 404, "the app of another client"
    assert client.send(BODY, access, when="1748793600")[1]["code"] == 400, "seconds"
    assert client._web.call("POST", "/v1/104000001/messages:send", b"{}")[0] == 404
    honor.faults(expire_access=True)
    assert client.send(BODY, access)[1]["code"] == 401
    assert client.send(BODY, client.token()[1]["access_token"])[1]["code"] == 200


REFUSED = [
    ("token", DELETE, 400),
    ("token", [], 400),
    ("token", ["H"] * 1001, 400),
    ("data", {}, 400),
    ("data", "x" * 4096, 413),
    ("android", [], 400),
    ("android.ttl", 86400, 400),
    ("android.ttl", "0s", 400),
    ("android.ttl", "1296001s", 400),
    ("android.biTag", "x" * 65, 400),
    ("android.targetUserType", 2, 400),
    (f"{SHOWN}.title", DELETE, 400),
    (f"{SHOWN}.body", "", 400),
    (f"{SHOWN}.clickAction", DELETE, 400),
    (f"{SHOWN}.clickAction", {"type": 1}, 400),
    (f"{SHOWN}.clickAction", {"type": 2, "url": "http://example.com"}, 400),
    (f"{SHOWN}.importance", "HIGH", 400),
    (f"{SHOWN}.image", "http://example.com/a.png", 400),
    (f"{SHOWN}.style", 1, 400),
    (f"{SHOWN}.when", "2025-06-01 16:00:00", 400),
    (f"{SHOWN}.notifyId", "42", 400),
    (f"{SHOWN}.badge", {"addNum": 1}, 400),
    (f"{SHOWN}.badge.addNum", 100, 400),
    (f"{SHOWN}.buttons", [{"name": "a"}] * 4, 400),
]


def test_the_full_example_and_a_transparent_message_are_accepted(honor, client, access):
    full = changed(BODY, f"{SHOWN}.style", 1)
    for path, value in (
        ("bigTitle", "a"),
        ("bigBody", "b"),
        ("when", "2025-06-01T16:00:00.000000000Z"),
        ("group", "c2c"),
    ):
        full = changed(full, f"{SHOWN}.{path}", value)
    assert client.send(full, access)[1]["code"] == 200
    quiet = {"data": "{}", "android": {"ttl": "3600s", "biTag": "m-1"}, "token": ["H1"]}
    assert client.send(quiet, access)[1]["code"] == 200
    assert [line["class"] for line in honor.lines] == ["private", "private"]


def test_partial_answers_name_who_failed_and_who_is_dead(honor, client, access):
    tokens = ["H1", "fail-1", "dead-1"]
    answer = client.send(to(*tokens), access)[1]
    assert answer["data"]["failTokens"] == ["fail-1", "dead-1"]
    assert split(tokens, answer) == ({"H1"}, {"fail-1"}, {"dead-1"})
    assert honor.tokens == ["H1"]
    for expected in ({"fail-1"}, set()):
        assert split(["fail-1"], client.send(to("fail-1"), access)[1])[1] == expected
    assert client.send(to("dead-1"), access)[1]["data"]["sendResult"] is False
    assert [client.send(to("busy-1"), access)[1]["code"] for _ in range(2)] == [429, 200]


def test_caps_drop_after_the_success(honor, client, access):
    assert [client.send(LOW, access)[1]["code"] for _ in range(3)] == [200] * 3
    assert [line.get("dropped") for line in honor.lines] == [None, None, "marketing_device_daily"]
    honor.door("limits", test_daily=1)
    test = changed(LOW, "android.targetUserType", 1)
    assert [client.send(test, access)[1]["code"] for _ in range(2)] == [200] * 2
    assert honor.lines[-1]["dropped"] == "test_daily"
    honor.faults(over_quota=True)
    assert client.send(BODY, access)[1]["code"] == 200
    assert honor.lines[-1]["dropped"] == "over_quota"


def test_receipts_say_delivered(honor, client, access):
    with hook() as (url, wait):
        honor.door("receipts", on=True, url=url)
        client.send(to("H1", "dead-1", "H2"), access)
        _, headers, body = wait()[0]
        assert headers["content-type"] == "application/json"
        statuses = json.loads(body)["statuses"]
        told = [(one["token"], one["status"], one["biTag"], one["appid"]) for one in statuses]
        assert told == [(one, 40000002, "m-1001", "104000001") for one in ("H1", "H2")]
