"""The vivo simulator refuses, records and reports as the vendor's page says."""

import json

import pytest

from simulators.vivo import formal
from tests.integration.simulators.clients.vivo import VivoClient, failed_users
from tests.integration.simulators.running import DELETE, changed, fixtures_of, hook

BODY = {
    "appId": 100000123,
    "regId": "16587320000000012345678",
    "notifyType": 4,
    "title": "张三",
    "content": "今晚八点开会",
    "timeToLive": 86400,
    "skipType": 1,
    "networkType": -1,
    "classification": 1,
    "category": "IM",
    "clientCustomMap": {"ext": '{"cid":"c2c_1001","mid":"9001"}'},
    "extra": {"callback.id": "100", "callback.param": "d=7f3a9c"},
    "requestId": "01JCV2W3X4Y5Z6A7B8C9D0E1F2",
    "pushMode": 0,
    "notifyId": 193842771,
    "foregroundShow": False,
}
NEWS = {**BODY, "classification": 0, "category": "NEWS"}


def to(token, body=BODY, **fields):
    return {**body, "regId": token, **fields}


vivo, client, access = fixtures_of("vivo", VivoClient, VivoClient.access, hour=12)


# ---------------------------------------------------------------- who may send

AUTHS = [
    ("appId", "", 10200),
    ("appId", "abc", 10205),
    ("appId", 999123, 10206),
    ("appKey", DELETE, 10201),
    ("appKey", "not a key!", 10202),
    ("appKey", "wrong", 10206),
    ("timestamp", None, 10203),
    ("timestamp", 1_700_000_000, 10207),  # seconds, where milliseconds are asked for
    ("sign", "", 10204),
    ("sign", "F" * 32, 10206),
]


@pytest.mark.parametrize(("name", "value", "code"), AUTHS)
def test_each_refusal_of_auth(vivo, client, name, value, code):
    vivo.door("limits", auth_per_second=0)
    assert client.call("/message/auth", changed(client.auth_body(), name, value))["result"] == code
    assert vivo.counts["auth"] == 1


def test_a_registered_secret_and_the_clock_are_verified(vivo, client):
    vivo.door("limits", auth_per_second=0)
    assert client.call("/message/auth", client.auth_body(590_000))["result"] == 0
    assert client.call("/message/auth", client.auth_body(-610_000))["result"] == 10207
    text = {name: str(value) for name, value in client.auth_body().items()}
    assert client.call("/message/auth", text)["result"] == 0
    app_key = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    vivo.door("accounts", account=100000123, secret="11111111-2222", app_key=app_key)
    assert client.call("/message/auth", client.auth_body())["result"] == 0
    vivo.door("accounts", account=100000123, secret="another")
    assert client.call("/message/auth", client.auth_body())["result"] == 10206
    vivo.door("accounts", account=100000123, app_key="another")
    assert client.call("/message/auth", client.auth_body())["result"] == 10202


def test_an_auth_token_belongs_to_its_app_and_several_are_good(vivo, client):
    first, second = client.access(), client.access()
    assert [client.send(BODY, token)["result"] for token in (first, second)] == [0, 0]
    assert client.send(BODY, None)["result"] == 10000
    assert client.send(BODY, "unknown")["result"] == 10000
    assert client.send({**BODY, "appId": 5}, first)["result"] == 10094
    vivo.faults(expire_access=True)
    assert client.send(BODY, first)["result"] == 10000
    assert client.send(BODY, client.access())["result"] == 0


def test_paths_methods_and_bodies(client, access):
    assert client.call("/message/recall", {}, access) == 404
    assert client.call("/message/send", None, access, "GET") == 405
    for raw in (b"", b"[]", b"{", b"[" * 100_000):
        assert client.call("/message/send", raw, access) == 400


# ---------------------------------------------------------------- what may be sent

REFUSED = [
    ("regId", DELETE, 10050),
    ("notifyType", 5, 10054),
    ("notifyType", DELETE, 10054),
    ("title", "", 10055),
    ("title", "张" * 41, 10056),
    ("content", DELETE, 10057),
    ("content", "张" * 101, 10058),
    ("timeToLive", 59, 10059),
    ("timeToLive", 86_401, 10059),
    ("skipType", 5, 10060),
    ("skipType", 2, 10060),
    ("skipContent", "x" * 1025, 10060),
    ("networkType", 0, 10065),
    ("classification", 2, 10051),
    ("clientCustomMap", {"a": 1}, 10067),
    ("clientCustomMap", {"a": "x" * 1024}, 10067),
    ("title", "Ann", 10085),
    ("title", "张三[1]", 10085),
    ("content", "666", 10104),
    ("content", "ok", 10104),
    ("content", "hello world", 10104),
    ("content", "？！👌", 10104),
    ("content", "[图片]", 10104),
    ("content", "测试一下", 10104),
    ("content", "敏感词", 10103),
    ("notifyId", 0, 10095),
    ("category", "im", 10096),
    ("category", "NEWS", 10097),
    ("classification", 0, 10097),
    ("extra", {"colour": "red"}, 10304),
    ("extra", {"callback": "x" * 129}, 10305),
    ("extra", {"callback.param": "x" * 193}, 10306),
    ("requestId", DELETE, 10352),
    ("requestId", "x" * 65, 10353),
    ("pushMode", 2, 10100),
    ("foregroundShow", "yes", 10100),
    ("profileId", "x" * 65, 10100),
]


FORMAL = dict.fromkeys(["张三", "See you at 7?", "a 张", "好的👌", "A1"], True) | dict.fromkeys(
    ["a b", "１２３", "……", "{a}1"], False
)


@pytest.mark.parametrize(("words", "good"), FORMAL.items())
def test_formal_content(words, good):
    assert formal(words) is good


def test_bounds_are_inclusive(client, access):
    body = {
        **BODY,
        "title": "张" * 40,
        "content": "张" * 100,
        "timeToLive": 60,
        "skipType": 2,
        "skipContent": "x" * 1024,
    }
    body |= {"clientCustomMap": {"a": "x" * 1023}, "requestId": "x" * 64, "notifyId": 1}
    body |= {"extra": {"callback": "x" * 128, "callback.param": "x" * 192}}
    assert client.send(body, access)["result"] == 0


# ---------------------------------------------------------------- what becomes of it


@pytest.mark.parametrize(("token", "status"), [("dead-1", 1), ("quiet-1", 2)])
def test_an_invalid_user_is_told_with_its_status(vivo, client, access, token, status):
    answer = client.send(to(token), access)
    assert (answer["result"], failed_users(answer)) == (10302, {token: status})
    assert vivo.lines == []


def test_fail_and_busy_end_by_themselves(client, access):
    assert [client.send(to("fail-1"), access) for _ in range(2)] == [500, 500]
    assert client.send(to("fail-1"), access)["result"] == 0
    assert [client.send(to("busy-1"), access)["result"] for _ in range(2)] == [10072, 0]


def test_test_messages_reach_test_devices_only(vivo, client, access):
    test = {**BODY, "pushMode": 1, "content": "测试"}
    assert failed_users(client.send(test, access)) == {BODY["regId"]: 4}
    vivo.door("accounts", account=100000123, test_devices=[BODY["regId"]])
    assert client.send(test, access)["result"] == 0


def test_the_list_goes_in_two_steps_and_names_who_failed(vivo, client, access):
    task = client.save(BODY, access)["taskId"]
    answer = client.push_list(task, ["A", "dead-1", "B", "quiet-1"], access)
    assert (answer["result"], failed_users(answer)) == (0, {"dead-1": 1, "quiet-1": 2})
    assert [
        (line["token"], line["tokens_in_request"], line["body"]["requestId"]) for line in vivo.lines
    ] == [("A", 4, "r-list"), ("B", 4, "r-list")]
    assert "invalidUsers" not in client.push_list(task, ["C", "D"], access), "the same task again"
    statistics = client.call(f"/report/getStatistics?taskIds={task},5", None, access, "GET")[
        "statistics"
    ]
    assert [(one["taskId"], one["send"]) for one in statistics] == [(task, 4)]


def test_each_refusal_of_the_list(vivo, client, access):
    task = client.save(BODY, access)["taskId"]
    assert client.push_list(task, [], access)["result"] == 10150
    assert client.push_list(task, ["A"], access)["result"] == 10153
    assert client.push_list(task, ["A"] * 1001, access)["result"] == 10153
    assert client.push_list("", ["A", "B"], access)["result"] == 10151
    assert client.push_list("5", ["A", "B"], access)["result"] == 10152
    assert client.push_list(task, ["A", "B"], access, requestId="")["result"] == 10352
    assert client.push_list(task, ["A", "fail-1"], access) == 500
    assert client.save({**BODY, "title": ""}, access)["result"] == 10055
    vivo.door("limits", list_bodies_daily=2, task_life_s=0)
    assert client.push_list(task, ["A", "B"], access)["result"] == 10155
    found = [client.save(BODY, access)["result"] for _ in range(3)]
    assert found == [0, 10252, 10252], "one was saved above"
    assert vivo.lines == []


# ---------------------------------------------------------------- hours, limits, classes


def test_operational_messages_have_hours_and_system_ones_have_none(vivo, client, access):
    for hour, result in ((6, 10071), (7, 0), (22, 0), (23, 10071)):
        assert vivo.door("clock", hour=hour)["hour"] == hour
        assert client.send({**NEWS, "content": f"新闻{hour}"}, access)["result"] == result
        assert client.send(BODY, access)["result"] == 0
    assert client.save(NEWS, access)["result"] == 10071


def test_without_a_category_a_message_is_what_it_claims(vivo, client, access):
    assert client.send(changed(BODY, "category", DELETE), access)["result"] == 0
    assert client.send(changed(BODY, "classification", DELETE), access)["result"] == 0
    bare = changed(changed(NEWS, "category", DELETE), "classification", DELETE)
    assert client.send(bare, access)["result"] == 0
    assert [line["class"] for line in vivo.lines] == ["private", "private", "public"]


def test_daily_totals_have_a_code_for_each_class(vivo, client, access):
    vivo.door("limits", operational_daily=2, system_daily=2)
    for body, code in ((NEWS, 10070), (BODY, 10073)):
        sent = [client.send(to(f"T{n}", body), access)["result"] for n in range(3)]
        assert sent == [0, 0, code]
    task = client.save(BODY, access)["taskId"]
    assert client.push_list(task, ["A", "B"], access)["result"] == 10073
    vivo.door("limits", operational_daily=0, system_daily=0)
    vivo.faults(over_quota=True)
    assert [client.send(body, access)["result"] for body in (NEWS, BODY)] == [10070, 10073]


def test_the_devices_cap_and_repeated_words_drop_after_the_success(vivo, client, access):
    for content in ("新闻一", "新闻一", "新闻二", "新闻三"):
        assert client.send({**NEWS, "content": content}, access)["result"] == 0
    found = [line.get("dropped") for line in vivo.lines]
    assert found == [None, "repeated", None, "operational_device_daily"]


def test_without_the_right_a_system_message_is_refused_and_an_advert_may_ban(vivo, client, access):
    vivo.door("accounts", account=100000123, rights=[])
    assert client.send(BODY, access)["result"] == 10082
    assert client.save(BODY, access)["result"] == 10082
    assert client.send(NEWS, access)["result"] == 0
    vivo.door("accounts", account=100000123, rights=["vivo.system"])
    advert = {**BODY, "content": "[AD] 大减价"}
    assert client.send(advert, access)["result"] == 10104, "brackets are no formal content either"
    assert vivo.counts["misclassed"] == 3
    vivo.door("guard", ban=True)
    assert [client.send(body, access)["result"] for body in (advert, BODY)] == [10045, 10045]
    assert client.save(BODY, access)["result"] == 10045


def test_receipts_are_keyed_by_task(vivo, client, access):
    with hook() as (url, wait):
        vivo.door("receipts", on=True)
        extra = {"callback": url, "callback.param": "d=7f3a9c"}
        task = client.send({**BODY, "extra": extra}, access)["taskId"]
        told = json.loads(wait()[0][2])[task]
        expected = {"param": "d=7f3a9c", "targets": BODY["regId"], "ackType": "0", "subStatus": "0"}
        assert expected.items() <= told.items()
        client.send(changed(BODY, "extra", DELETE), access)
        vivo.door("receipts", on=True, url=url)
        for n in range(3):
            client.send({**NEWS, "content": f"新闻{n}", "extra": {"callback.id": "100"}}, access)
        told = [next(iter(json.loads(body).values())) for _, _, body in wait(4)]
        found = [(one["ackType"], one["subStatus"]) for one in told]
        assert found == [("0", "0"), ("0", "0"), ("0", "0"), ("100", "12000")]
        vivo.door("receipts", detail="subAckType")
        client.send({**NEWS, "content": "新闻0", "extra": {"callback.id": "100"}}, access)
        [repeated] = json.loads(wait(5)[-1][2]).values()
        seen = (repeated["ackType"], repeated["subAckType"], "subStatus" in repeated)
        assert seen == ("104", "2124", False)
