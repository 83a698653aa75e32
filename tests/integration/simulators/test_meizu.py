"""The Meizu simulator refuses, records and reports as the vendor's page says."""

import json
import time

import pytest

from simulators.meizu import signature
from tests.integration.simulators.clients.meizu import MeizuClient, receipts, verdicts
from tests.integration.simulators.running import DELETE, changed, fixtures_of, hook
from tests.page_vectors import MEIZU_MESSAGE, MEIZU_SIGNS

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
MESSAGE = json.loads(MEIZU_MESSAGE)
PUBLIC = changed(MESSAGE, "noticeBarInfo.noticeMsgType", 0)


meizu, client = fixtures_of("meizu", MeizuClient)


@pytest.mark.parametrize(
    ("parameters", "secret", "expected"), MEIZU_SIGNS.values(), ids=MEIZU_SIGNS
)
def test_the_pages_signatures(parameters, secret, expected):
    assert signature(parameters, secret) == expected


# ---------------------------------------------------------------- who may send


def test_each_refusal_of_a_signature(meizu, client):
    fields = {"pushIds": "A", "messageJson": MEIZU_MESSAGE}
    assert client.call("varnished/pushByPushId", fields)["code"] == "200"
    for signed in ("", "0" * 31, "F" * 32):
        assert client.call("varnished/pushByPushId", fields, signed=signed)["code"] == "1006"
    cases = (("999001", "1006"), ("wrong-1", "1006"), ("abc", "110000"), ("", "110004"))
    for app_id, code in cases:
        assert client.call("varnished/pushByPushId", {**fields, "appId": app_id})["code"] == code
    meizu.door("accounts", account="110001", secret=SECRET)
    assert client.call("varnished/pushByPushId", fields)["code"] == "200"
    assert client.call("varnished/pushByPushId", fields, signed="0" * 32)["code"] == "1006"
    meizu.door("accounts", account="110001", secret="another")
    answer = client.call("varnished/pushByPushId", fields)
    assert (answer["code"], answer["value"]) == ("1006", "")


def test_paths_and_methods(client):
    assert client.call("varnished/nothing", {}) == 404
    assert client.call("varnished/pushByPushId", {}, root="/other/") == 404
    assert client.call("varnished/pushByPushId", {}, "GET") == 405
    found = client.call("unvarnished/pushByPushId", {"pushIds": "A", "messageJson": "{}"})["code"]
    assert found == "110053"
    assert client._web.call("POST", "/garcia/api/server/push/varnished/pushByPushId", b"appId=%FF")[
        1
    ].startswith(b'{"code":"1005"')


# ---------------------------------------------------------------- what may be sent

REFUSED = [
    ("noticeBarInfo", DELETE),
    ("noticeBarInfo", []),
    ("noticeBarInfo.noticeMsgType", 2),
    ("noticeBarInfo.noticeMsgType", "1"),
    ("noticeBarInfo.noticeBarType", 3),
    ("noticeBarInfo.title", DELETE),
    ("noticeBarInfo.title", ""),
    ("noticeBarInfo.title", "张" * 33),
    ("noticeBarInfo.content", "张" * 101),
    ("noticeExpandInfo.noticeExpandType", 1),
    ("noticeExpandInfo.noticeExpandType", 3),
    ("clickTypeInfo.clickType", 4),
    ("clickTypeInfo.clickType", 1),
    ("clickTypeInfo.parameters", "text"),
    ("clickTypeInfo.customAttribute", "张" * 334),
    ("pushTimeInfo.validTime", 0),
    ("pushTimeInfo.validTime", 73),
    ("pushTimeInfo.validTime", DELETE),
    ("pushTimeInfo.offLine", "true"),
    ("advanceInfo.notifyKey", "123456789"),
    ("advanceInfo.notifyKey", "a b"),
    ("advanceInfo.fixStartDisplayTime", "2026-01-01"),
    ("advanceInfo.notificationType", {"sound": 2}),
    ("extra/callback", "https://example.com/" + "x" * 109),
    ("extra/callback.param", "x" * 65),
    ("extra/callback.type", 3),
]


def test_what_is_missing_or_too_much(meizu, client):
    assert client.push("", "A")["code"] == "110004"
    assert client.push(MESSAGE)["code"] == "110004"
    for text in ("[]", "{", "5", "[" * 100_000):
        assert client.push(text, "A")["code"] == "1005"
    assert client.push(MESSAGE, *[f"T{n}" for n in range(101)])["code"] == "1005"
    found = client.push(MESSAGE, "A", restrictedPackageNames=",".join(["a.b"] * 51))["code"]
    assert found == "1005"
    callbacks = ["https://push.example.com/cb/meizu"]
    meizu.door("accounts", account="110001", package="com.example.im", callbacks=callbacks)
    assert client.push(MESSAGE, "A", restrictedPackageNames="com.other")["code"] == "110031"
    assert client.push(MESSAGE, "A", restrictedPackageNames="com.example.im")["code"] == "200"
    seen = client.push(changed(MESSAGE, "extra/callback", "https://example.com/other"), "A")["code"]
    assert seen == "1005"


def test_bounds_are_inclusive(client):
    message = changed(
        changed(MESSAGE, "noticeBarInfo.title", "张" * 32), "noticeBarInfo.content", "张" * 100
    )
    message = changed(
        changed(message, "pushTimeInfo.validTime", 72), "extra/callback.param", "x" * 64
    )
    answer = client.push(message, *[f"T{n}" for n in range(100)])
    assert (answer["code"], answer["value"]) == ("200", {})


# ---------------------------------------------------------------- what becomes of it


def test_only_the_failed_are_named_and_110010_means_two_things(meizu, client):
    tokens = ["A", "dead-1", "quiet-1", "fail-1", "busy-1", "not ok", "B"]
    codes = ["accepted", "110002", "110010", "501", "518", "110003", "accepted"]
    assert list(verdicts(tokens, client.push(MESSAGE, *tokens)).values()) == codes
    found = verdicts(tokens[3:5], client.push(MESSAGE, *tokens[3:5]))
    assert found == {"fail-1": "501", "busy-1": "accepted"}
    assert verdicts(["fail-1"], client.push(MESSAGE, "fail-1")) == {"fail-1": "accepted"}
    meizu.faults(over_rate=True)
    answer = client.push(MESSAGE, "A")
    assert (answer["code"], answer["value"], answer["redirect"]) == ("110010", "", "")


def test_caps_of_a_device_a_minute_and_a_day(meizu, client):
    seen = [verdicts(["A"], client.push(PUBLIC, "A"))["A"] for _ in range(4)]
    assert seen == ["accepted"] * 3 + ["110011"]
    shown = [verdicts(["A"], client.push(MESSAGE, "A"))["A"] for _ in range(3)]
    assert shown == ["accepted"] * 2 + ["520"]
    meizu.door("limits", device_per_minute=0)
    found = [verdicts(["A"], client.push(message, "A"))["A"] for message in (PUBLIC, MESSAGE)]
    assert found == ["110011", "accepted"]
    meizu.door("clock", now_ms=int(time.time() * 1000) + 86_400_000)
    assert verdicts(["A"], client.push(PUBLIC, "A"))["A"] == "accepted", "another day"
    assert {line["class"] for line in meizu.lines} == {"private", "public"}


def test_the_apps_day(meizu, client):
    meizu.door("limits", daily=2)
    found = [client.push(MESSAGE, *tokens)["code"] for tokens in (("A", "B"), ("C",))]
    assert found == ["200", "110019"]
    meizu.door("limits", daily=0)
    meizu.faults(over_quota=True)
    assert client.push(MESSAGE, "A")["code"] == "110019"


# ---------------------------------------------------------------- tasks, statistics, receipts


def test_a_task_is_made_once_and_pushed_often(meizu, client):
    task = client.call("pushTask/getTaskId", {"pushType": "0", "messageJson": MEIZU_MESSAGE})[
        "value"
    ]["taskId"]
    fields = {"taskId": task, "pushIds": "A,dead-1"}
    answer = client.call("task/varnished/pushByPushId", fields)
    assert verdicts(["A", "dead-1"], answer) == {"A": "accepted", "dead-1": "110002"}
    value = client.call("statistics/getTaskStatistics", {"taskId": task}, "GET")["value"]
    assert (value["targetNo"], value["pushedNo"]) == (2, 1)
    assert client.call("pushTask/cancel", {"pushType": "0", "taskId": task})["code"] == "200"
    assert client.call("task/varnished/pushByPushId", fields)["code"] == "110032"
    form = {"pushType": "1", "messageJson": MEIZU_MESSAGE}
    assert client.call("pushTask/getTaskId", form)["code"] == "110053"
    daily = client.call(
        "statistics/dailyPushStatics", {"startTime": "20260101", "endTime": "20260102"}, "GET"
    )
    assert daily["value"][0]["pushedNo"] == 2
    span = {"startTime": "x", "endTime": "20260102"}
    assert client.call("statistics/dailyPushStatics", span, "GET")["code"] == "500"


def test_receipts_are_keyed_by_message_and_type(meizu, client):
    with hook() as (url, wait):
        meizu.door("receipts", on=True)
        message = changed(MESSAGE, "extra/callback", url)
        message_id = client.push(message, "A", "dead-1", "B")["msgId"]
        assert receipts(wait()[0][2].decode()) == [(message_id, "1", "d=7f3a9c", ["A", "B"])]
        client.push(changed(message, "extra/callback.type", "2"), "C")
        client.push(message, "D")
        assert receipts(wait(2)[1][2].decode())[0][3] == ["D"], "clicks only: nothing to tell"
