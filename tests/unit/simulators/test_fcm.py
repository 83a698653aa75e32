"""FCM's checks and Google's token endpoint, one request at a time."""

import json
import time
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.fcm import BAD_REQUEST, BAD_TOKEN, FCM_ERROR, Fcm
from simulators.fcm_message import Invalid, check
from simulators.simulator import Record, VendorCall
from tests import simulator_keys as keys
from tests.tables import table

KEY = keys.rsa_key()
SEND = "/v1/projects/demo/messages:send"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def fcm(tmp_path):
    return Fcm(Record(tmp_path / "fcm.jsonl"))


def token_call(jwt: str, grant=GRANT, headers=FORM) -> VendorCall:
    return VendorCall(
        "POST", "/token", "", headers, urlencode({"grant_type": grant, "assertion": jwt}).encode()
    )


def access(fcm, **claims) -> str:
    reply = fcm.handle(token_call(keys.assertion(KEY, **claims)))
    return json.loads(reply.body)["access_token"]


def send(fcm, message, bearer=None, path=SEND, **request):
    body = json.dumps({"message": message, **request}, ensure_ascii=False).encode()
    reply = fcm.handle(
        VendorCall("POST", path, "", {"authorization": f"Bearer {bearer or access(fcm)}"}, body)
    )
    return reply, json.loads(reply.body)


def code_of(answer) -> str:
    """As a client reads it: FcmError's errorCode, else the status."""
    details = answer.get("error", {}).get("details", [])
    codes = [one["errorCode"] for one in details if one["@type"] == FCM_ERROR]
    return (codes or [answer["error"]["status"]])[0]


# ---------------------------------------------------------------- the token endpoint

ASSERTIONS = {
    "HS256": ({"header": {"alg": "HS256"}}, "invalid_grant"),
    "another audience": ({"aud": "https://localhost/token"}, "invalid_grant"),
    "no scope": ({"scope": ""}, "invalid_scope"),
    "a scope for mail": ({"scope": "https://mail.google.com/"}, "invalid_scope"),
    "over": ({"iat": -4000, "exp": -400}, "invalid_grant"),
    "two hours": ({"exp": 7300}, "invalid_grant"),
    "from the future": ({"iat": 900, "exp": 1000}, "invalid_grant"),
    "no exp": ({"exp": None}, "invalid_grant"),
}


@pytest.mark.parametrize(("claims", "wanted"), ASSERTIONS.values(), ids=ASSERTIONS)
def test_a_wrong_assertion_gets_no_token(fcm, claims, wanted):
    now = int(time.time())  # times are told from now: a session may be long
    told = {
        name: now + value if name in ("iat", "exp") and value else value
        for name, value in claims.items()
    }
    reply = fcm.handle(token_call(keys.assertion(KEY, **told)))
    assert (reply.status, json.loads(reply.body)["error"]) == (400, wanted)
    assert fcm.stats() == {"token_calls": 1, "access_tokens": 0, "access_tokens_alive": 0}


def test_what_is_no_jwt_gets_no_token(fcm):
    assert json.loads(fcm.handle(token_call("x")).body)["error"] == "invalid_grant"


def test_the_form_must_be_one_and_of_its_grant(fcm):
    jwt = keys.assertion(KEY)
    found = json.loads(fcm.handle(token_call(jwt, grant="password")).body)["error"]
    assert found == "unsupported_grant_type"
    assert json.loads(fcm.handle(token_call(jwt, headers={})).body)["error"] == "invalid_request"


def test_a_known_account_must_sign_with_its_own_key(fcm):
    email = "worker@demo.iam.gserviceaccount.com"
    other = keys.rsa_key("other")
    pem = keys.public_pem(other)
    fcm.control("accounts", {"client_email": email, "public_key_pem": pem, "project_id": "demo"})
    reply = fcm.handle(token_call(keys.assertion(KEY)))
    found = (reply.status, json.loads(reply.body)["error_description"])
    assert found == (400, "Invalid JWT Signature.")
    assert fcm.handle(token_call(keys.assertion(other))).status == 200


def test_a_known_account_sends_for_its_own_project_only(fcm):
    email = "worker@demo.iam.gserviceaccount.com"
    pem = keys.public_pem(KEY)
    fcm.control("accounts", {"client_email": email, "public_key_pem": pem, "project_id": "demo"})
    assert send(fcm, {"token": "a"})[0].status == 200
    found = send(fcm, {"token": "a"}, path="/v1/projects/else/messages:send")[1]["error"]["status"]
    assert found == "PERMISSION_DENIED"


def test_an_access_token_ends(fcm):
    fcm.control("options", {"access_token_s": 0})
    reply, answer = send(fcm, {"token": "a"})
    found = (reply.status, answer["error"]["status"], "details" in answer["error"])
    assert found == (401, "UNAUTHENTICATED", False)


def test_expire_access_refuses_all_tokens_given_until_then(fcm):
    old = access(fcm)
    assert send(fcm, {"token": "a"}, bearer=old)[0].status == 200
    fcm.faults.expire_access = True
    assert [send(fcm, {"token": "a"}, bearer=one)[0].status for one in (old, old)] == [401, 401]
    assert send(fcm, {"token": "a"})[0].status == 200


def test_without_a_bearer_nobody_is_let_in(fcm):
    assert send(fcm, {"token": "a"}, bearer="never-given")[0].status == 401
    assert fcm.handle(VendorCall("POST", SEND, "", {}, b"{}")).status == 401


# ---------------------------------------------------------------- messages

FULL = json.loads(
    """{"token":"<token>","notification":{"title":"Alice","body":"Meeting moved to 20:00"},
 "data":{"cid":"group_10086","seq":"52017","push_id":"m-9f3c"},
 "android":{"priority":"HIGH","ttl":"86400s","collapse_key":"im_alert","restricted_package_name":"com.example.chat",
  "notification":{"channel_id":"im_message","sound":"default","tag":"group_10086","click_action":"OPEN_CHAT",
   "notification_count":7,"visibility":"PRIVATE","title_loc_key":"group_title","title_loc_args":["Project Falcon"],
   "proxy":"IF_PRIORITY_LOWERED","light_settings":{"color":{"red":1,"green":0.5,"blue":0,"alpha":1},
   "light_on_duration":"3.5s","light_off_duration":"1s"}},
  "fcm_options":{"analytics_label":"im_private"}},
 "apns":{"headers":{"apns-priority":"10"},"payload":{"aps":{"badge":7}}},
 "webpush":{"headers":{"TTL":"86400"},"fcm_options":{"link":"https://chat.example.com/"}},
 "fcm_options":{"analytics_label":"im"}}"""  # noqa: E501
)


def test_the_pages_full_example_is_accepted_and_recorded(fcm):
    reply, answer = send(fcm, FULL, validate_only=False)
    assert (reply.status, answer["name"].startswith("projects/demo/messages/0:")) == (200, True)
    (line,) = fcm.record.lines()
    assert line["body"] == FULL
    names = ("vendor", "account", "project", "token", "id", "collapse_id", "topic", "name")
    shown = {name: line[name] for name in names}
    assert shown == {
        "vendor": "fcm",
        "account": "worker@demo.iam.gserviceaccount.com",
        "project": "demo",
        "token": "<token>",
        "id": "m-9f3c",
        "collapse_id": "group_10086",
        "topic": None,
        "name": answer["name"],
    }


def test_both_spellings_are_taken_and_the_last_of_two_counts():
    message, only = check(
        b'{"validateOnly":true,"message":{"token":"a","android":{"collapse_key":"1","collapseKey":"2"}}}'
    )
    assert (message["android"], only) == ({"collapse_key": "2"}, True)


def test_validate_only_delivers_nothing(fcm):
    reply, _ = send(fcm, {"token": "a"}, validate_only=True)
    assert (reply.status, fcm.record.lines()) == (200, [])


WRONG = table("""
    no target | {} | message
    two targets | {"token": "a", "topic": "b"} | message
    token and fid | {"token": "a", "fid": "b"} | message
    an unknown field | {"token": "a", "colour": "red"} | message
    an unknown field below | {"token": "a", "android": {"notification": {"x": 1}}}
      | message.android.notification
    a number in data | {"token": "a", "data": {"seq": 12}} | message.data[0].value
    a reserved key | {"token": "a", "data": {"from": "me"}} | message.data.from
    a reserved prefix | {"token": "a", "data": {"google.x": "1"}} | message.data.google.x
    a reserved key for android | {"token": "a", "android": {"data": {"gcm": "1"}}}
      | message.android.data.gcm
    29 days | {"token": "a", "android": {"ttl": "2419201s"}} | message.android.ttl
    before now | {"token": "a", "android": {"ttl": "-1s"}} | message.android.ttl
    a ttl in numbers | {"token": "a", "android": {"ttl": 60}} | message.android.ttl
    a nanosecond over 28 days | {"token": "a", "android": {"ttl": "2419200.000000001s"}}
      | message.android.ttl
    a priority nobody has | {"token": "a", "android": {"priority": "URGENT"}}
      | message.android.priority
    android twice | {"token": "a", "android": {}, "android_v2": {}} | message.android_v2
    v2 both ways | {"token": "a", "android_v2": {"remote_notification": {}, "background_sync": {}}}
      | message.android_v2
    half a light | {"token": "a", "android": {"notification": {"light_settings": {"color": {}}}}}
      | message.android.notification.light_settings
    a colour in words | {"token": "a", "android": {"notification": {"color": "red"}}}
      | message.android.notification.color
    a topic with a slash | {"topic": "/topics/x"} | message.topic
    a label with a blank | {"token": "a", "fcm_options": {"analytics_label": "a b"}}
      | message.fcm_options.analytics_label
    an http link | {"token": "a", "webpush": {"fcm_options": {"link": "http://x"}}}
      | message.webpush.fcm_options.link
""")


@pytest.mark.parametrize(("message", "field"), WRONG.values(), ids=WRONG)
def test_each_wrong_field_is_named(fcm, message, field):
    reply, answer = send(fcm, message)
    details = answer["error"]["details"]
    violations = [
        one["field"]
        for one in details
        if "fieldViolations" in one
        for one in one["fieldViolations"]
    ]
    found = (reply.status, answer["error"]["status"], violations)
    assert found == (400, "INVALID_ARGUMENT", [field])
    assert BAD_REQUEST in [one["@type"] for one in answer["error"]["details"]]
    assert fcm.record.lines() == []


@pytest.mark.parametrize("ttl", ["0s", "2419200s", "2419200.000s", "3.000000001s"])
def test_ttl_goes_from_nothing_to_28_days(fcm, ttl):
    assert send(fcm, {"token": "a", "android": {"ttl": ttl}})[0].status == 200


@pytest.mark.parametrize(("target", "limit"), [({"token": "a"}, 4096), ({"topic": "news"}, 2048)])
def test_keys_and_values_count_in_bytes(fcm, target, limit):
    fits = {"data": {"k": "会" * ((limit - 10) // 3 - 1)}, "notification": {"body": "x"}}
    room = limit - sum(
        len(k.encode()) + len(v.encode()) for part in fits.values() for k, v in part.items()
    )
    fits["android"] = {"notification": {"tag": "y" * (room - 3)}}
    assert send(fcm, {**target, **fits})[0].status == 200
    fits["android"]["notification"]["tag"] += "y"
    reply, answer = send(fcm, {**target, **fits})
    found = (reply.status, code_of(answer), answer["error"]["message"])
    assert found == (400, "INVALID_ARGUMENT", "Android message is too big")


TARGETS = {
    "dead": (404, "UNREGISTERED"),
    "foreign": (403, "SENDER_ID_MISMATCH"),
    "malformed": (400, "INVALID_ARGUMENT"),
    "apnsauth": (401, "THIRD_PARTY_AUTH_ERROR"),
    "busy": (429, "QUOTA_EXCEEDED"),
    "fail": (503, "UNAVAILABLE"),
}


@pytest.mark.parametrize(("part", "wanted"), TARGETS.items(), ids=TARGETS)
def test_a_targets_name_says_what_becomes_of_it(fcm, part, wanted):
    for target in ({"token": f"x:{part}:1"}, {"fid": f"{part}-2"}):
        reply, answer = send(fcm, target)
        assert (reply.status, code_of(answer)) == wanted
        assert (answer["error"]["message"] == BAD_TOKEN) == (part == "malformed")
    assert fcm.record.lines() == []


def test_fail_ends_after_two_tries_of_the_same_message(fcm):
    statuses = [send(fcm, {"token": "fail", "data": {"n": n}})[0].status for n in "aaab"]
    assert statuses == [503, 503, 200, 503]


def test_busy_says_when_to_come_back(fcm):
    fcm.control("options", {"retry_after_s": 17})
    assert send(fcm, {"token": "busy"})[0].headers["retry-after"] == "17"


@pytest.mark.parametrize("switch", ["over_quota", "over_rate"])
def test_over_quota_and_over_rate_are_quota_exceeded(fcm, switch):
    fcm.faults.change({switch: True, "retry_after_s": 5, "only_first": 1})
    reply, answer = send(fcm, {"token": "a"})
    found = (reply.status, code_of(answer), reply.headers["retry-after"])
    assert found == (429, "QUOTA_EXCEEDED", "5")
    assert send(fcm, {"token": "a"})[0].status == 200


def test_a_project_has_so_many_a_minute_and_refused_ones_count_too(fcm):
    fcm.control("options", {"project_per_minute": 3})
    statuses = [send(fcm, {"token": token})[0].status for token in ("a", "dead", "b", "c")]
    reply, _ = send(fcm, {"token": "d"})
    assert [*statuses, reply.status] == [200, 404, 200, 429, 429]
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert send(fcm, {"token": "a"}, path="/v1/projects/other/messages:send")[0].status == 200


def test_a_device_has_its_own_limit(fcm):
    fcm.control("options", {"device_per_minute": 2})
    bearer = access(fcm)
    found = [send(fcm, {"token": token}, bearer)[0].status for token in ("a", "a", "a", "b")]
    assert found == [200, 200, 429, 200]


def test_a_wrong_project_and_a_wrong_path(fcm):
    reply, answer = send(fcm, {"token": "a"}, path="/v1/projects/wrong-one/messages:send")
    found = (reply.status, code_of(answer), "details" in answer["error"])
    assert found == (403, "PERMISSION_DENIED", False)
    assert fcm.handle(VendorCall("POST", "/batch", "", {}, b"")).status == 404
    assert fcm.handle(VendorCall("GET", SEND, "", {}, b"")).status == 404


keys_of_messages = st.sampled_from(["token", "data", "android", "ttl", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys_of_messages, inner, max_size=3)
    ),
    max_leaves=8,
)


def read(value):
    try:
        return check(json.dumps(value).encode())
    except Invalid as invalid:
        return invalid


@given(json_values | st.dictionaries(st.sampled_from(["message", "validate_only"]), json_values))
def test_any_json_is_a_message_or_named_invalid(value):
    outcome = read(value)
    assert outcome.words if isinstance(outcome, Invalid) else outcome[0]["token"]


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_without_a_crash(body):
    with pytest.raises(Invalid):
        check(body)


def shown(part):
    return {"android": {"notification": part}}


#: "ProtoJSON Format": numbers as texts, whole numbers with a point or an exponent, enums by their
#: number, null as absent.
PROTO = {
    **table("""
    an enum by its number | {"android": {"priority": 1, "notification": {"visibility": 2,
      "notification_priority": "4"}}} | true
    null is absent | {"notification": {"image": null}, "webpush": null} | true
    an enum that is none | {"android": {"priority": 7}} | false
    a truth in a text | {"android": {"direct_boot_ok": "true"}} | false
    """),
    "a number as a text": (shown({"notification_count": "3"}), True),
    "a whole number with a point": (shown({"notificationCount": 3.0}), True),
    "an exponent": (shown({"notification_count": "1e2"}), True),
    "a colour in texts": (
        shown(
            {
                "light_settings": {
                    "color": {"red": "0.5", "alpha": 1},
                    "light_on_duration": "1s",
                    "light_off_duration": "0.5s",
                }
            }
        ),
        True,
    ),
    "a broken number": (shown({"notification_count": 3.5}), False),
    "more than 32 bits": (shown({"notification_count": "4294967296"}), False),
    "an empty text": (shown({"notification_count": ""}), False),
    "a truth for a number": (shown({"notification_count": True}), False),
}


@pytest.mark.parametrize(("part", "taken"), PROTO.values(), ids=PROTO)
def test_googles_json_takes_each_spelling_of_a_number(part, taken):
    body = json.dumps({"message": {"token": "t", **part}}).encode()
    if taken:
        check(body)
        return
    with pytest.raises(Invalid):
        check(body)
