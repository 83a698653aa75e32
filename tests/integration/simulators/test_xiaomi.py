"""The Xiaomi simulator refuses, records and reports as the vendor's page says."""

import json
import time
from typing import Any

import pytest

from simulators.xiaomi_rules import template_value_ok
from tests.integration.simulators.clients.xiaomi import XiaomiClient, exceeded, receipts
from tests.integration.simulators.running import fixtures_of, hook
from tests.page_vectors import XIAOMI_FORM, XIAOMI_TEMPLATE_VALUES, xiaomi_message

CHAT = {
    **XIAOMI_FORM,
    "extra.template_id": "T0001",
    "extra.template_param": '{"sender":"Li Hua","text":"晚上"}',
    "extra.jobkey": "m1001u7",
}


def without(form, *names):
    return {name: value for name, value in form.items() if name not in names}


def item(target, number=1, **extra):
    one = xiaomi_message(target, number)
    one["message"]["extra"] |= extra
    return one


xiaomi, client = fixtures_of("xiaomi", XiaomiClient)


TEMPLATE_VALUES: dict[Any, bool] = {**XIAOMI_TEMPLATE_VALUES, "": False, 5: False}


@pytest.mark.parametrize(("value", "good"), TEMPLATE_VALUES.items())
def test_template_values(client, value, good):
    assert template_value_ok(value) is good
    answer = client.send({**CHAT, "extra.template_param": json.dumps({"text": value})})
    assert answer["code"] == (0 if good else 10017)


# ---------------------------------------------------------------- who may send


def test_each_refusal_of_a_secret(xiaomi, client):
    assert client.send(XIAOMI_FORM)["code"] == 0
    assert client.send(XIAOMI_FORM, secret="so wrong")["code"] == 21301
    assert client.raw("POST", "/v3/message/regid", b"", secret=" ")["code"] == 21301
    xiaomi.door("accounts", account="im", secret="REGISTERED", package="com.example.im")
    answer = client.send(XIAOMI_FORM)
    found = (answer["result"], answer["code"], answer["reason"])
    assert found == ("error", 21301, "Invalid application secret.")
    assert client.send(XIAOMI_FORM, secret="REGISTERED")["code"] == 0
    form = {**XIAOMI_FORM, "restricted_package_name": "com.other.im"}
    assert client.send(form, secret="REGISTERED")["code"] == 66108
    assert [line["account"] for line in xiaomi.lines] == ["com.example.im", "im"]
    assert "REGISTERED" not in xiaomi.simulator.record.path.read_text()


def test_the_quota_is_a_probe_that_costs_nothing(client):
    assert client.quota()["data"]["day_quota"] == "20000"
    answers = [client.quota()["code"] for _ in range(3)]
    assert 10039 in answers
    assert client.quota(secret="so wrong")["code"] == 21301


def test_paths_methods_and_types(client):
    assert client.raw("POST", "/v1/feedback/fetch_invalid_regids")["code"] == 10020, "withdrawn"
    assert client.raw("GET", "/v3/message/regid")["code"] == 10021
    assert client.raw("POST", "/v3/message/regid", b"{}", kind="application/json")["code"] == 10007
    assert client.raw("POST", "/v3/message/regid", b"title=%FF")["code"] == 10012
    for path in ("/v2/message/regid", "/v4/message/regid"):
        assert client.send(XIAOMI_FORM, path)["code"] == 0


# ---------------------------------------------------------------- what may be sent


def in_eight_days():
    """Told when the test runs: later than Xiaomi keeps a message."""
    return str(int(time.time() * 1000) + 8 * 86_400_000)


REFUSED = [
    ("registration_id", None, 21305),
    ("registration_id", ",".join(["r"] * 1001), 10017),
    ("restricted_package_name", None, 10016),
    ("restricted_package_name", "no package", 22022),
    ("title", None, 10016),
    ("title", "  ", 10016),
    ("title", "张" * 50, 22100),
    ("description", None, 10016),
    ("description", "张" * 128, 65009),
    ("payload", "x" * 4096, 65009),
    ("pass_through", "1", 10036),
    ("pass_through", "x", 10008),
    ("notify_type", "8", 10017),
    ("notify_id", "-1", 22103),
    ("notify_id", "2147483648", 22103),
    ("time_to_live", "864000001", 10017),
    ("time_to_live", "1d", 10008),
    ("time_to_send", in_eight_days, 10017),
    ("extra.template_param", None, 10016),
    ("extra.template_param", "[]", 10016),
    ("extra.template_param", json.dumps({f"v{n}": "x" for n in range(10)}), 10017),
    ("extra.notify_effect", None, 22100),
    ("extra.notify_effect", "2", 22100),
    ("extra.notify_effect", "3", 22100),
    ("extra.notify_foreground", "2", 10017),
    ("extra.callback", "https://example.com/" + "x" * 109, 65037),
    ("extra.callback", "not a url", 65038),
    ("extra.callback.param", "x" * 65, 65036),
    ("extra.callback.type", "x", 10008),
    ("extra.jobkey", "_starts", 10017),
    ("extra.jobkey", "x" * 21, 10017),
    ("extra.own", "x" * 1022, 65015),
]


def test_bounds_are_inclusive_where_the_page_says_so(client):
    form = {
        **CHAT,
        "title": "张" * 49,
        "description": "张" * 127,
        "payload": "x" * 4095,
        "time_to_live": "864000000",
        "extra.callback": "https://example.com/" + "x" * 108,
        "extra.callback.param": "x" * 64,
        "extra.jobkey": "x" * 20,
    }
    assert client.send(form)["code"] == 0
    assert client.send({**XIAOMI_FORM, **{f"extra.k{n}": "v" for n in range(10)}})["code"] == 0
    assert client.send({**XIAOMI_FORM, **{f"extra.k{n}": "v" for n in range(11)}})["code"] == 65014
    found = client.send({**XIAOMI_FORM, "time_to_live": "86400001"})["code"]
    assert found == 10017, "a public message lives a day"
    assert client.send({**XIAOMI_FORM, "restricted_package_name": "com.a.b,com.c.d"})["code"] == 0
    two = {**XIAOMI_FORM, "restricted_package_name": "com.a.b,com.c.d"}
    assert client.send(two, "/v2/message/regid")["code"] == 22022


def test_channels_and_templates_of_a_registered_account_are_known(xiaomi, client):
    channels = {"123456": "private", "7": "public"}
    templates = {"T0001": ["sender", "text"]}
    xiaomi.door("accounts", account="com.example.im", channels=channels, templates=templates)
    assert client.send(CHAT)["code"] == 0
    assert client.send(XIAOMI_FORM)["code"] == 10016, "a private channel without a template"
    assert client.send({**CHAT, "extra.channel_id": "8"})["code"] == 27001
    assert client.send({**CHAT, "extra.template_id": "T2"})["code"] == 10017
    assert client.send({**CHAT, "extra.template_param": '{"text":"x"}'})["code"] == 10017
    assert client.send({**XIAOMI_FORM, "extra.channel_id": "7"})["code"] == 0
    assert client.send(without(XIAOMI_FORM, "extra.channel_id"))["code"] == 0
    xiaomi.door("accounts", account="com.example.im", channels_only=True)
    assert client.send(without(XIAOMI_FORM, "extra.channel_id"))["code"] == 27001
    found = [(line["class"], line["bucket"]) for line in xiaomi.lines]
    assert found == [("private", "private"), ("public", "public"), ("public", "default")]


# ---------------------------------------------------------------- what becomes of it


def test_a_dead_token_is_told_alone_and_passed_over_among_others(xiaomi, client):
    answer = client.send({**CHAT, "registration_id": "dead-1"})
    assert (answer["code"], answer["reason"]) == (20301, "No valid targets!")
    answer = client.send({**CHAT, "registration_id": "A,dead-1,dead-2"})
    assert (answer["code"], answer["data"]["bad_regids"]) == (0, "dead-1,dead-2")
    assert client.multi([item("B"), item("dead-3", jobkey="d")])["data"]["bad_regids"] == "dead-3"
    assert "bad_regids" not in client.send({**CHAT, "registration_id": "C"})["data"]
    assert [line["token"] for line in xiaomi.lines] == ["A", "B", "C"]


def test_fail_and_busy_end_by_themselves(client):
    fail, busy = ({**CHAT, "registration_id": token} for token in ("fail-1", "busy-1"))
    assert [client.send(fail)["code"] for _ in range(3)] == [10001, 10001, 0]
    assert [client.send(busy)["code"] for _ in range(2)] == [200002, 0]
    both = [item("fail-2", jobkey="a"), item("fail-3", jobkey="b"), item("C")]
    assert [client.multi(both)["code"] for _ in range(3)] == [10001, 10001, 0]


def test_many_messages_in_one_request(xiaomi, client):
    answer = client.multi([item("A", 1, jobkey="j1"), item("B", 2, jobkey="j2"), item("dead-1", 3)])
    assert answer["code"] == 0
    assert [
        (line["token"], line["id"], line["body"]["title"], line["batch"])
        for line in xiaomi.lines
        if "dropped" not in line
    ] == [("A", "j1", "t1", xiaomi.lines[0]["batch"]), ("B", "j2", "t2", xiaomi.lines[0]["batch"])]
    assert client.multi([item("dead-1")])["code"] == 20301
    assert client.multi([])["code"] == 21305
    assert client.multi([{"target": "A"}])["code"] == 21305
    assert client.multi([item("A")] * 1001)["code"] == 10017
    bad = item("A")
    bad["message"]["title"] = "x" * 50
    assert client.multi([item("B"), bad])["code"] == 22100


def test_over_the_daily_total(xiaomi, client):
    xiaomi.door("limits", public_daily=2)
    assert [
        client.send({**XIAOMI_FORM, "registration_id": token})["code"] for token in ("A,B", "C")
    ] == [0, 200001]
    assert client.send(CHAT)["code"] == 0, "private is not limited"
    none = {
        key: value for key, value in item("D")["message"]["extra"].items() if key != "channel_id"
    }
    bare = item("D")
    bare["message"]["extra"] = none
    xiaomi.door("limits", default_daily=1)
    answer = client.multi([item("A"), bare, bare, item("B")])
    assert exceeded(answer["data"]["channel_exceed_quota"]) == {"123456": 2, "no_channel": 1}
    xiaomi.faults(over_quota=True, only_first=1)
    assert [client.send(CHAT)["code"] for _ in range(2)] == [200001, 0]


def test_over_the_devices_cap_it_is_accepted_and_dropped(xiaomi, client):
    bare = without(XIAOMI_FORM, "extra.channel_id")
    assert [client.send(bare)["code"] for _ in range(2)] == [0, 0]
    for _ in range(6):
        assert client.send(XIAOMI_FORM)["code"] == 0
    dropped = [line.get("dropped") for line in xiaomi.lines]
    assert dropped == [None, "default_device_daily", *[None] * 5, "public_device_daily"]


# ---------------------------------------------------------------- receipts and revoke


def test_receipts_are_the_asked_for_kinds_only(xiaomi, client):
    with hook() as (url, wait):
        xiaomi.door("receipts", on=True)
        form = {**CHAT, "registration_id": "A,dead-1,quiet-1", "extra.callback": url}
        client.send(form)
        seen = {
            item["type"]: item
            for _, _, body in wait(2)
            for item in receipts(body.decode()).values()
        }
        assert {kind: one["targets"] for kind, one in seen.items()} == {1: "A", 16: "dead-1"}
        found = (seen[16]["errorCode"], seen[1]["param"], seen[1]["jobkey"])
        assert found == (1, "m-1001-u7", "m1001u7")
        client.send({**form, "extra.callback.type": "246"})
        client.send({**form, "extra.callback.type": "32"})
        shown = [one["targets"] for one in receipts(wait(3)[2][2].decode()).values()]
        assert shown == ["quiet-1"], "246 tells nothing at all"
        plain = without(XIAOMI_FORM, "extra.channel_id")
        client.send({**plain, "extra.callback": url, "extra.callback.type": "128"})
        plain = without(XIAOMI_FORM, "extra.channel_id")
        client.send({**plain, "extra.callback": url, "extra.callback.type": "128"})
        (over,) = receipts(wait(4)[3][2].decode()).values()
        assert (over["type"], set(over["extra"])) == (128, {"ack", "quota"})


def test_revoke_is_recorded(xiaomi, client):
    form = {
        "registration_id": "A,B",
        "restricted_package_name": "com.example.im",
        "notify_id": "1042",
    }
    assert client.revoke(form)["code"] == 0
    found = [(line["kind"], line["token"]) for line in xiaomi.lines]
    assert found == [("revoke", "A"), ("revoke", "B")]
    assert client.revoke(without(form, "notify_id"))["code"] == 21305
