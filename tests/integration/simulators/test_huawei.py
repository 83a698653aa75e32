"""The Huawei simulator refuses, records and reports as the vendor's page says."""

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.clock import now_ms
from simulators.huawei import callback_value
from simulators.huawei_rules import SENSITIVE, check_size
from simulators.state import VendorError
from tests.integration.simulators.clients.huawei import HuaweiClient, make_jwt, refused_tokens
from tests.integration.simulators.running import DELETE, changed, fixtures_of, hook
from tests.page_vectors import HUAWEI_V1, HUAWEI_V3
from tests.simulator_keys import rsa_key
from workers.vendors.huawei_receipts import signature_valid

KEY = rsa_key()
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

BODY, BODY3 = json.loads(HUAWEI_V1), json.loads(HUAWEI_V3)
SHOWN = "message.android.notification"
MARKETING = changed(BODY, "message.android.category", "MARKETING")


def to(*tokens, body=BODY):
    return changed(body, "message.token", list(tokens))


def to3(*tokens, body=BODY3):
    return changed(body, "target.token", list(tokens))


huawei, client, access = fixtures_of("huawei", HuaweiClient, HuaweiClient.access)


def test_the_receipts_signature_has_both_forms_of_the_key():
    secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    user = "push-receipt"
    stamp = "1700000000000"
    nonce = "a07bfa17-6d82-4b53-a9a2-07cfef5ceef1"
    assert base64.b64decode(secret) == bytes(range(32))
    assert len(stamp + nonce + user) == 61
    found = callback_value(stamp, nonce, user, secret, "base64")
    assert found == "22hOQb3vajbyKfI/b3Ul76StQf8vzjTo14Iusmjn+W8="
    seen = callback_value(stamp, nonce, user, secret, "text")
    assert seen == "+lbDrOYnaEamRh3OkTLozIyPpZAvbVkHAP5SnQe0TIY="


# ---------------------------------------------------------------- who may send


@pytest.mark.parametrize(
    ("client_id", "secret", "sub"),
    [
        ("abc", "s", 20002),
        ("99900", "s", 20003),
        ("1", "", 20171),
        ("1", "so wrong", 12304),
        ("2", "other", 12304),
    ],
)
def test_each_oauth_refusal(huawei, client, client_id, secret, sub):
    huawei.door("accounts", account="2", secret="right")
    status, answer = client.token(client_id, secret)
    assert status == 400
    assert (answer["error"], answer["sub_error"]) == (1101, sub)


def test_issuing_is_refused_above_its_rate(huawei, client):
    huawei.door("limits", oauth_per_5_min=2)
    assert [client.token("1", "s")[0] for _ in range(3)] == [200, 200, 503]
    assert huawei.counts["auth"] == 3


def test_v1_and_v2_take_the_access_token_of_their_own_app(huawei, client, access):
    assert client.v1(BODY, access)[1]["code"] == "80000000"
    assert client.v2(BODY, access)[1]["code"] == "80000000"
    assert client.v1(BODY, access, "100000002")[1]["code"] == "80300002", "a wrong id in the URL"
    huawei.door("accounts", account="100000002")
    assert client.v1(BODY, access, "100000002")[1]["code"] == "80200001", "another app that exists"
    huawei.door("accounts", account="100000001", project="700002")
    assert client.v2(BODY, access)[1]["code"] == "80200001", "another project"
    for bearer in ("", "unknown"):
        status, answer = client.v1(BODY, bearer)
        assert (status, answer["code"]) == (401, "80200001")


def test_access_given_until_now_expires_at_a_switch(huawei, client, access):
    jwt = make_jwt(KEY)
    assert client.v3(BODY3, jwt)[1]["code"] == "80000000"
    huawei.faults(expire_access=True)
    assert client.v1(BODY, access)[1]["code"] == "80200003"
    assert client.v3(BODY3, jwt)[1]["code"] == "80200005"
    assert client.v1(BODY, client.access())[1]["code"] == "80000000"
    assert client.v3(BODY3, make_jwt(KEY))[1]["code"] == "80000000"


JWTS = {
    "good": ({}, "80000000"),
    "another algorithm": ({"alg": "RS256"}, "80200001"),
    "no key id": ({"kid": ""}, "80200001"),
    "another key id": ({"kid": "k2"}, "80200001"),
    "another audience": ({"aud": "https://example.com"}, "80200001"),
    "another issuer": ({"iss": "sub-2"}, "80200001"),
    "a life over a day": ({"exp": 90_000}, "80300036"),
    "expired": ({"iat": -7200, "exp": -3600}, "80200005"),
    "from the future": ({"iat": 1000, "exp": 2000}, "80200001"),
    "times as text": ({"exp": "soon"}, "80200001"),
}


@pytest.mark.parametrize(("changes", "code"), JWTS.values(), ids=JWTS)
def test_v3_takes_only_a_good_jwt_of_the_registered_key(huawei, client, changes, code):
    now = int(time.time())  # times are told from now: a session may be long
    told = {
        name: now + value if isinstance(value, int) else value for name, value in changes.items()
    }
    check_v3(huawei, client, make_jwt(KEY, **told), code)


DAMAGED = {
    "a signature changed": lambda jwt: jwt[:-8] + "AAAAAAAA",
    "no signature": lambda jwt: jwt.rpartition(".")[0] + ".",
    "not base64": lambda jwt: "a.b.c!",
    "an access token": lambda jwt: "abcdef",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_v3_takes_no_damaged_jwt(huawei, client, damage):
    check_v3(huawei, client, damage(make_jwt(KEY)), "80200001")


def check_v3(huawei, client, jwt, code):
    huawei.door("accounts", account="700001", public_key=PEM, key_id="k1", sub_account="sub-1")
    status, answer = client.v3(BODY3, jwt)
    assert answer["code"] == code
    assert (status == 200) == (code == "80000000")


def test_another_key_than_the_registered_one_is_refused_and_nobodys_key_is_not_checked(
    huawei, client
):
    jwt = make_jwt(rsa_key("another"))
    assert client.v3(BODY3, jwt)[1]["code"] == "80000000"
    huawei.door("accounts", account="700001", public_key=PEM)
    assert client.v3(BODY3, jwt)[1]["code"] == "80200001"
    assert client.v1(BODY, make_jwt(KEY))[1]["code"] == "80000000", "v1 takes a JWT too"


# ---------------------------------------------------------------- what may be sent

V1_REFUSED = [
    ("validate_only", "no", "80100001"),
    ("review", [{"reviewer": "me", "type": 0}], "80100001"),
    ("message", DELETE, "80300010"),
    ("message", [], "80100003"),
    ("message.topic", "news", "80100003"),
    ("message.token", DELETE, "80300010"),
    ("message.token", [], "80300010"),
    ("message.token", ["T"] * 1001, "80300010"),
    ("message.token", [1], "80300010"),
    ("message.data", "x" * 4096, "80300008"),
    ("message.data", {}, "80100001"),
    ("message.android", [], "80100003"),
    ("message.android", DELETE, "80100003"),
    ("message.android.ttl", 86400, "80100001"),
    ("message.android.ttl", "1296001s", "80100001"),
    ("message.android.ttl", "0s", "80100004"),
    ("message.android.collapse_key", 101, "80100013"),
    ("message.android.collapse_key", "1", "80100013"),
    ("message.android.bi_tag", 5, "80100001"),
    ("message.android.urgency", "low", "80100001"),
    ("message.android.target_user_type", 2, "80100001"),
    ("message.android.receipt_id", "wrong", "80300013"),
    (f"{SHOWN}.title", DELETE, "80100001"),
    (f"{SHOWN}.body", "", "80100001"),
    (f"{SHOWN}.body", SENSITIVE, "80100016"),
    (f"{SHOWN}.click_action", DELETE, "80100001"),
    (f"{SHOWN}.click_action", {"type": 1}, "80100001"),
    (f"{SHOWN}.click_action", {"type": 2, "url": "http://example.com"}, "80100001"),
    (f"{SHOWN}.importance", "MAX", "80100001"),
    (f"{SHOWN}.badge", {"add_num": 1}, "80100001"),
    (f"{SHOWN}.badge.add_num", 0, "80100001"),
    (f"{SHOWN}.badge.set_num", 100, "80100001"),
    (f"{SHOWN}.notify_id", "42", "80100001"),
    (f"{SHOWN}.notify_id", True, "80100001"),
    (f"{SHOWN}.style", 1, "80100001"),
    (f"{SHOWN}.inbox_content", ["a"] * 6, "80100001"),
    (f"{SHOWN}.foreground_show", 1, "80100001"),
    (f"{SHOWN}.visibility", "private", "80100001"),
    (f"{SHOWN}.image", "http://example.com/a.png", "80100001"),
    (f"{SHOWN}.color", "red", "80100001"),
    (f"{SHOWN}.when", "today", "80100001"),
    (f"{SHOWN}.profile_id", "x" * 65, "80100001"),
    (f"{SHOWN}.vibrate_config", ["1"] * 11, "80100001"),
    (f"{SHOWN}.buttons", [{"name": "x" * 41}], "80100001"),
]


def test_wrong_urls_and_methods_have_no_code(huawei, client, access):
    assert client._web.call("POST", "/v4/1/messages:send", b"{}")[0] == 404
    assert client._web.call("POST", "/v2/1/messages:revoke", b"{}")[0] == 404
    assert client._web.call("GET", "/v1/1/messages:send")[0] == 405
    assert client._web.call("GET", "/oauth2/v3/token")[0] == 405


V3_REFUSED = [
    ("payload", DELETE, "80100003"),
    ("payload.notification", DELETE, "80100003"),
    ("target", DELETE, "80300010"),
    ("target", [], "80100003"),
    ("target.token", [], "80300010"),
    ("payload.notification.category", DELETE, "80100001"),
    ("payload.notification.title", "", "80100001"),
    ("payload.notification.body", DELETE, "80100001"),
    ("payload.notification.body", "x" * 4096, "80300008"),
    ("payload.notification.clickAction", DELETE, "80100001"),
    ("payload.notification.clickAction", {"actionType": 1}, "80100001"),
    ("payload.notification.clickAction.data", "text", "80100001"),
    ("payload.notification.badge.addNum", 100, "80100001"),
    ("payload.notification.notifyId", -2, "80100001"),
    ("payload.notification.appMessageId", "x" * 65, "80100001"),
    ("payload.notification.appMessageId", "", "80100001"),
    ("payload.notification.style", 3, "80100001"),
    ("payload.notification.image", "https://example.com/a.png", "80100022"),
    ("payload.notification.soundDuration", 61, "80100001"),
    ("payload.notification.profileId", "x" * 65, "80100001"),
    ("pushOptions.ttl", "86400s", "80100001"),
    ("pushOptions.ttl", 0, "80100004"),
    ("pushOptions.ttl", 1_296_001, "80100001"),
    ("pushOptions.biTag", "张" * 22, "80100001"),
    ("pushOptions.collapseKey", 101, "80100001"),
    ("pushOptions.testMessage", 1, "80100001"),
    ("pushOptions.backgroundMode", 2, "80100001"),
]


def test_v3_needs_its_push_type_and_other_types_their_own_payload(huawei, client):
    jwt = make_jwt(KEY)
    assert client.v3(BODY3, jwt, push_type="")[1]["code"] == "80100001"
    assert client.v3(BODY3, jwt, push_type="3")[1]["code"] == "80100001"
    assert client.v3(BODY3, jwt, push_type="6")[1]["code"] == "80100001"
    call = {"payload": {"extraData": "{}"}, "target": {"token": ["T1"]}, "pushOptions": {"ttl": 30}}
    assert client.v3(call, jwt, push_type="10")[1]["code"] == "80000000"
    found = client.v3(changed(call, "target.token", ["a", "b"]), jwt, push_type="1")[1]["code"]
    assert found == "80300010"
    assert [line["push_type"] for line in huawei.lines] == [10]


def test_an_in_app_call_needs_its_right(huawei, client):
    target = {"token": ["T1", "T2"]}
    call = {"payload": {"extraData": "{}"}, "target": target, "pushOptions": {"ttl": 30}}
    huawei.door("accounts", account="700001", rights=["harmony.im"])
    answer = client.v3(call, make_jwt(KEY), push_type="10")[1]
    assert answer["code"] == "80300007"
    assert refused_tokens(answer) == {"noPushTypeRight": ["T1", "T2"]}
    assert huawei.lines == []


def test_only_the_address_that_images_verify_gives_may_be_sent(client):
    jwt = make_jwt(KEY)
    status, told = client.verify_image("https://example.com/a.png", jwt)
    assert (status, told["code"]) == (200, "83010000")
    assert told["downloadUrl"].startswith("https://example.com/a.png?verifyKey=")
    assert int(told["expireTime"]) > time.time()
    sent = {
        url: client.v3(changed(BODY3, "payload.notification.image", url), jwt)[1]["code"]
        for url in ("https://example.com/a.png", told["downloadUrl"])
    }
    assert list(sent.values()) == ["80100022", "80000000"]


IMAGES_REFUSED = {
    "no image behind the address": ({"image": "https://example.com/broken.png"}, "83010005"),
    "plain http": ({"image": "http://example.com/a.png"}, "80100003"),
    "no push type": ({"image": "https://example.com/a.png", "push_type": "7"}, "80100003"),
}


@pytest.mark.parametrize(("wanted", "code"), IMAGES_REFUSED.values(), ids=IMAGES_REFUSED)
def test_an_image_is_refused_with_a_code_of_its_own(client, wanted, code):
    assert client.verify_image(jwt=make_jwt(KEY), **wanted)[1]["code"] == code


def test_no_more_images_are_looked_at_than_the_minute_allows(huawei, client):
    huawei.door("limits", images_per_min=2)
    jwt = make_jwt(KEY)
    codes = [client.verify_image(f"https://example.com/{n}.png", jwt)[1]["code"] for n in range(5)]
    assert set(codes) == {"83010000", "83010002"}, "two in a minute, however the minutes fall"


@pytest.mark.parametrize("size", [4096, 4097])
def test_the_size_is_counted_without_tokens(client, access, size):
    body = changed(BODY, f"{SHOWN}.body", "x" * (size - 316 + len("晚上一起吃饭吗？".encode())))
    body = to(*[f"TOKEN-{n}" for n in range(1000)], body=body)
    assert client.v1(body, access)[1]["code"] == ("80000000" if size == 4096 else "80300008")
    with pytest.raises(VendorError):
        check_size(b"x" * 4102, ["ab"])


def test_validate_only_delivers_nothing(huawei, client, access):
    assert client.v1(changed(BODY, "validate_only", True), access)[1]["code"] == "80000000"
    assert huawei.lines == []


# ---------------------------------------------------------------- what becomes of it


def test_the_record_tells_what_was_accepted(huawei, client, access):
    client.v1(to("A", "B"), access)
    client.v3(BODY3, make_jwt(KEY))
    first, second, third = huawei.lines
    expected = {
        "vendor": "huawei",
        "account": "100000001",
        "token": "A",
        "id": "m-1001",
        "tokens_in_request": 2,
        "class": "private",
    }
    assert expected.items() <= first.items()
    assert first["body"]["android"]["notification"]["title"] == "张三"
    assert first["batch"] == second["batch"] != third["batch"]
    found = (third["vendor"], third["account"], third["id"], third["class"])
    assert found == ("harmony", "700001", "m-1001", "private")
    counts = huawei.counts
    seen = (counts["tokens"], counts["per_second_max_targets"] >= 2, counts.get("doubled"))
    assert seen == (3, True, None)


def test_v1_names_some_dead_tokens_in_json_and_all_of_them_in_plain_text(huawei, client, access):
    answer = client.v1(to("T1", "dead-1", "T2", "dead-2"), access)[1]
    assert answer["code"] == "80100000"
    assert refused_tokens(answer) == {"illegal": ["dead-1", "dead-2"]}
    assert {"success": 2, "failure": 2}.items() <= json.loads(answer["msg"]).items()
    answer = client.v1(to("dead-1"), access)[1]
    assert (answer["code"], answer["msg"]) == ("80300007", "All the tokens are invalid")
    assert client.v1(to("T1", "norig"), access)[1]["code"] == "80300002"
    assert huawei.tokens == ["T1", "T2"]


def test_v3_names_tokens_by_reason(huawei, client):
    jwt = make_jwt(KEY)
    answer = client.v3(to3("T1", "dead-1", "norig-1"), jwt)[1]
    assert answer["code"] == "80100000"
    assert refused_tokens(answer) == {"tokenFormatError": ["dead-1"], "noRight": ["norig-1"]}
    answer = client.v3(to3("norig-1"), jwt)[1]
    assert answer["code"] == "80300007"
    assert json.loads(answer["msg"]) == {"failure": 1, "illegalTokens": {"noRight": ["norig-1"]}}
    assert huawei.tokens == ["T1"]


def test_fail_and_busy_end_by_themselves(client, access):
    failing = [client.v1(to("T1", "fail-1"), access) for _ in range(3)]
    found = [(status, answer["code"]) for status, answer in failing]
    assert found == [(500, "81000001")] * 2 + [(200, "80000000")]
    assert [client.v1(to("busy-1"), access)[0] for _ in range(2)] == [503, 200]


# ---------------------------------------------------------------- limits and classes


def test_marketing_over_its_cap_is_accepted_and_dropped(huawei, client, access):
    assert [client.v1(MARKETING, access)[1]["code"] for _ in range(3)] == ["80000000"] * 3
    assert [line.get("dropped") for line in huawei.lines] == [None, None, "marketing_device_daily"]
    huawei.door("clock", now_ms=int(time.time() * 1000) + 86_400_000)
    client.v1(MARKETING, access)
    assert huawei.lines[-1].get("dropped") is None, "another day"
    assert {line["class"] for line in huawei.lines} == {"public"}


def test_over_quota_drops_after_the_success(huawei, client, access):
    huawei.faults(over_quota=True)
    assert client.v1(BODY, access)[1]["code"] == "80000000"
    assert huawei.lines[0]["dropped"] == "over_quota"


def test_test_messages_have_limits_of_their_own(huawei, client, access):
    huawei.door("limits", test_daily_v1=1, test_daily_v3=1)
    test = changed(MARKETING, "message.android.target_user_type", 1)
    for _ in range(2):
        client.v1(test, access)
    assert [line.get("dropped") for line in huawei.lines] == [None, "test_daily"]
    test3, jwt = changed(BODY3, "pushOptions.testMessage", True), make_jwt(KEY)
    assert client.v3(to3(*"abcdefghijk", body=test3), jwt)[1]["code"] == "80300030"
    assert [client.v3(test3, jwt)[1]["code"] for _ in range(2)] == ["80000000", "80300029"]


def test_without_the_right_a_service_message_is_marketing_and_counted(huawei, client, access):
    huawei.door("accounts", account="100000001", rights=["huawei.voip"])
    assert client.v1(BODY, access)[1]["code"] == "80000000"
    client.v1(changed(BODY, "message.android.category", "VOIP"), access)
    client.v1(changed(BODY, "message.android.category", DELETE), access)
    client.v1(changed(BODY, "message.android.category", "im"), access)
    assert [line["class"] for line in huawei.lines] == ["public", "private", "public", "public"]
    assert huawei.counts["misclassed"] == 1
    assert client.v1(changed(BODY, f"{SHOWN}.importance", "HIGH"), access)[1]["code"] == "80300011"


# ---------------------------------------------------------------- receipts and revoke


def test_receipts_come_in_the_version_of_the_send_and_are_signed(huawei, client, access):
    with hook() as (url, wait):
        key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        huawei.door("receipts", on=True, url=url, user="push-receipt", key=key)
        client.v1(to("T1", "quiet-1"), access)
        huawei.door("receipts", key_form="text")
        client.v3(BODY3, make_jwt(KEY))
        (_, headers, first), (_, headers3, second) = wait(2)[:2]
        statuses = json.loads(first)["statuses"]
        found = [(one["token"], one["status"], one["biTag"], one["appid"]) for one in statuses]
        assert found == [("T1", 0, "m-1001", "100000001"), ("quiet-1", 6, "m-1001", "100000001")]
        assert json.loads(second)["statuses"][0]["deliveryStatus"]["result"] == 0
        for each in (headers, headers3):
            assert signature_valid(each, key, "push-receipt", now_ms())
            assert not signature_valid(each, key, "another", now_ms())


def test_receipts_go_to_loopback_only_and_not_at_all_when_off(huawei, client, access):
    client.v1(BODY, access)
    huawei.door("receipts", on=True, url="https://push.example.com/cb")
    client.v1(BODY, access)
    assert huawei.counts["receipts_dropped"] == 1


REVOKES = [
    ({"token": ["T1"], "notifyId": 42}, "80000000"),
    ({"token": ["T1"]}, "80300032"),
    ({"notifyId": 42}, "80300032"),
    ({"token": ["T1"], "notifyId": "x"}, "80100020"),
    ({"token": [], "notifyId": 42}, "80300010"),
    ([], "80100003"),
]


@pytest.mark.parametrize(("body", "code"), REVOKES)
def test_revoke_takes_token_and_notify_id_with_a_jwt(huawei, client, body, code):
    assert client.revoke(body, make_jwt(KEY))[1]["code"] == code
    assert [line["kind"] for line in huawei.lines] == (["revoke"] if code == "80000000" else [])


def test_revoke_with_an_access_token_is_refused(client, access):
    assert client.revoke({"token": ["T1"], "notifyId": 42}, access)[1]["code"] == "80200001"
