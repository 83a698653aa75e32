"""The OPPO simulator refuses, records and reports as the vendor's page says."""

import json
import time

import pytest

from simulators.oppo import _regid_hex
from tests.integration.simulators.clients.oppo import OppoClient, sort_batch
from tests.integration.simulators.running import DELETE, changed, fixtures_of, hook
from tests.page_vectors import OPPO_MESSAGE, OPPO_REGIDS
from workers.vendors.oppo.credential import sign

MESSAGE = json.loads(OPPO_MESSAGE)


def regid(prefix="", number=0):
    return "CN_" + f"{prefix}{number:0{32 - len(prefix)}x}"


def to(token, body=MESSAGE, **notification):
    message = changed(body, "target_value", token)
    message["notification"].update(notification)
    return message


oppo, client, access = fixtures_of("oppo", OppoClient, OppoClient.access)


HEX = "b6bbd94b59cdb5df8391642c1509b7fe"


@pytest.mark.parametrize(("token", "endpoint"), OPPO_REGIDS.items())
def test_registration_ids(client, access, token, endpoint):
    assert bool(_regid_hex(token)) == bool(endpoint)
    assert client.unicast(access, to(token))["code"] == (0 if endpoint else 10000)


# ---------------------------------------------------------------- who may send


def test_each_refusal_of_auth(oppo, client):
    stamp = int(time.time() * 1000)
    good = {"app_key": "k1", "timestamp": stamp, "sign": sign("k1", stamp, "s")}
    for name, value, code in (
        ("app_key", "", 15),
        ("sign", "", 17),
        ("timestamp", "", 18),
        ("app_key", "not a key!", 14),
        ("timestamp", str(int(time.time())), 19),
        ("sign", "F" * 64, 16),
    ):
        assert client.call("auth", {**good, name: value})["code"] == code
    assert client.auth("k1", "s", 590_000)["code"] == 0
    assert client.auth("k1", "s", -610_000)["code"] == 19
    assert [client.auth(key)["code"] for key in ("wrong-key", "999key")] == [16, 16]
    assert set(client.auth("k1")["data"]) == {"auth_token", "create_time"}
    oppo.door("accounts", account="k1", secret="registered")
    assert client.auth("k1", "registered")["code"] == 0
    assert client.auth("k1", "another")["code"] == 16
    assert oppo.counts["auth"] == 13


def test_paths_methods_and_tokens(oppo, client, access):
    assert client.call("message/notification/recall")["code"] == 20
    assert client.call("message/notification/unicast", method="GET")["code"] == 12
    assert client.unicast("", MESSAGE)["code"] == 29
    assert client.unicast("x" * 24, MESSAGE)["code"] == 11
    found = client._web.call("POST", "/server/v1/auth", b"app_key=%FF")
    assert found == (200, b'{"code":25,"message":"not UTF-8, or not a form"}')
    oppo.faults(expire_access=True)
    assert client.unicast(access, MESSAGE)["code"] == 11
    assert client.unicast(client.access(), MESSAGE)["code"] == 0


# ---------------------------------------------------------------- what may be sent

REFUSED = [
    ("target_type", 3, 41),
    ("target_type", DELETE, 40),
    ("target_value", "", 40),
    ("target_value", "a;b", 10000),
    ("notification", DELETE, 40),
    ("verify_registration_id", "true", 41),
    ("notification.app_message_id", 5, 41),
    ("notification.style", 3, 41),
    ("notification.title", DELETE, 40),
    ("notification.title", "张" * 51, 41),
    ("notification.sub_title", "x" * 11, 41),
    ("notification.content", "", 40),
    ("notification.content", "张" * 201, 41),
    ("notification.style", 3, 41),
    ("notification.click_action_type", 3, 41),
    ("notification.click_action_type", 1, 40),
    ("notification.click_action_type", 5, 40),
    ("notification.click_action_url", "x" * 2001, 41),
    ("notification.action_parameters", {"a": 1}, 41),
    ("notification.action_parameters", "[]", 41),
    ("notification.action_parameters", json.dumps({"a": "x" * 4000}), 41),
    ("notification.off_line_ttl", 0, 41),
    ("notification.show_ttl", 86_401, 41),
    ("notification.network_type", 2, 41),
    ("notification.notify_id", "1", 41),
    ("notification.category", "CHAT", 67),
    ("notification.category", ["IM"], 41),
    ("notification.category", DELETE, 67),
    ("notification.notify_level", 3, 41),
    ("notification.private_title_parameters", 5, 41),
    ("notification.call_back_url", "https://example.com/" + "x" * 181, 41),
    ("notification.call_back_parameter", "x" * 101, 41),
]


def test_bounds_are_inclusive(client, access):
    fields = {
        "title": "张" * 50,
        "content": "张" * 50,
        "sub_title": "x" * 10,
        "show_ttl": 86_400,
        "off_line_ttl": 9_999_999,
        "call_back_parameter": "x" * 100,
        "private_title_parameters": {"a": "b"},
        "private_content_parameters": '{"a":"b"}',
    }
    assert client.unicast(access, to(regid(), **fields))["code"] == 0
    assert client.unicast(access, to(regid(), style=2, content="张" * 128))["code"] == 0
    public = {"category": "NEWS", "show_ttl": 43_200}
    assert client.unicast(access, to(regid(), **public))["code"] == 0
    assert client.unicast(access, to(regid(), **public | {"show_ttl": 43_201}))["code"] == 41


def test_strong_alerts_and_templates_need_what_the_page_says(oppo, client, access):
    assert client.unicast(access, to(regid(), notify_level=16))["code"] == 0
    assert client.unicast(access, to(regid(), notify_level=16, category="ORDER"))["code"] == 67
    key = {"account": "exampleAppKey0001"}
    oppo.door(
        "accounts", **key, rights=["oppo.private"], template_required=True, templates=["TPL1"]
    )
    assert client.unicast(access, to(regid(), notify_level=16))["code"] == 67
    assert client.unicast(access, MESSAGE)["code"] == 54
    assert client.unicast(access, to(regid(), private_msg_template_id="TPL1"))["code"] == 0
    assert client.unicast(access, to(regid(), private_msg_template_id="TPL2"))["code"] == 41
    assert client.unicast(access, to(regid(), category="ORDER"))["code"] == 0


# ---------------------------------------------------------------- what becomes of it


FATES = [
    ("dead", [10000, 10000, 10000]),
    ("fa11", [-1, -1, 0]),
    ("b05e", [55, 0, 0]),
    ("d1ed", [0, 0, 0]),
]


@pytest.mark.parametrize(("prefix", "codes"), FATES)
def test_tokens_fare_by_their_prefix(client, access, prefix, codes):
    assert [client.unicast(access, to(regid(prefix)))["code"] for _ in range(3)] == codes


def test_a_batch_has_one_entry_an_item(oppo, client, access):
    good = regid(number=1)
    tokens = [good, "CN_xyz", regid("dead"), regid("fa11"), regid("b05e"), regid(number=2)]
    messages = [to(token, app_message_id=f"m{n}") for n, token in enumerate(tokens)]
    messages[5] = to(tokens[5], title="")
    answer = client.batch(access, messages)
    assert answer["code"] == 0
    assert list(sort_batch(tokens, answer).values()) == ["accepted", "drop", "drop", -1, 55, 40]
    found = [(line["token"], line["id"], line["tokens_in_request"]) for line in oppo.lines]
    assert found == [(tokens[0], "m0", 6)]
    assert client.batch(access, [])["code"] == 40
    assert client.batch(access, {"a": 1})["code"] == 41
    assert client.batch(access, [{}] * 1001)["code"] == 41


def test_the_daily_total_and_the_devices_cap_of_public_messages(oppo, client, access):
    oppo.door("limits", public_daily=4)
    public = [to(regid(number=7), category="NEWS", app_message_id=f"p{n}") for n in range(5)]
    assert [client.unicast(access, message)["code"] for message in public] == [0, 0, 0, 0, 33]
    found = [line.get("dropped") for line in oppo.lines]
    assert found == [None, None, "public_device_daily", "public_device_daily"]
    assert {line["class"] for line in oppo.lines} == {"public"}
    assert client.unicast(access, MESSAGE)["code"] == 0, "private is not limited"
    permit = client.call("feedback/fetch_push_permit", {"auth_token": access}, "GET")
    assert permit["data"] == {"total": 4, "remain": 0}
    oppo.faults(over_quota=True, only_first=2)
    assert client.unicast(access, MESSAGE)["code"] == 33
    assert client.batch(access, [MESSAGE])["code"] == 33
    assert client.unicast(access, MESSAGE)["code"] == 0


# ---------------------------------------------------------------- broadcast, feedback, receipts


def test_broadcast_stores_a_body_and_names_refused_ids_by_code(oppo, client, access):
    fields = {
        "auth_token": access,
        "title": "12",
        "content": "news",
        "style": "1",
        "off_line": "true",
    }
    saved = client.call("message/notification/save_message_content", fields)
    where = {"auth_token": access, "message_id": saved["data"]["message_id"], "target_type": "2"}
    tokens = [regid(number=1), regid("dead"), "CN_xyz"]
    answer = client.call(
        "message/notification/broadcast", {**where, "target_value": ";".join(tokens)}
    )
    assert answer["data"]["10000"] == tokens[1:]
    assert [(line["token"], line["class"]) for line in oppo.lines] == [(tokens[0], "public")]
    found = client.call("message/notification/broadcast", {**where, "target_value": ""})["code"]
    assert found == 41
    form = {**where, "message_id": "x", "target_value": "y"}
    assert client.call("message/notification/broadcast", form)["code"] == 31
    form = {"auth_token": access, "title": "t"}
    assert client.call("message/notification/save_message_content", form)["code"] == 40


def test_a_dead_id_of_the_right_form_is_told_by_receipt_and_feedback(oppo, client, access):
    with hook() as (url, wait):
        oppo.door("receipts", on=True)
        gone, alive = regid("d1ed"), regid(number=3)
        tokens = (gone, alive, regid("dead"))
        messages = [to(token, call_back_url=url, call_back_parameter="p") for token in tokens]
        client.batch(access, messages)
        items = json.loads(wait()[0][2])
        found = [(item["registrationIds"], item["eventType"], item["param"]) for item in items]
        assert found == [(gone, "regid_invalid", "p"), (alive, "push_arrive", "p")]
        for n in range(3):
            message = to(
                regid(number=4), call_back_url=url, category="NEWS", app_message_id=f"n{n}"
            )
            client.unicast(access, message)
        assert json.loads(wait(4)[3][2])[0]["eventType"] == "user_daily_limit"
        listed = client.call("feedback/fetch_invalid_regidList", {"auth_token": access}, "GET")
        assert listed["data"] == {"registration_ids": [gone], "totalCount": 1}
