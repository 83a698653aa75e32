"""Xiaomi: every code of the page, its vectors, the wire per class and right, and what holds for any
note and any bytes.
"""

import json
from dataclasses import replace
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given

from common.model import Again, Bucket, Kind, MessageClass, PushType, Vendor, Verdict
from common.push_ids import event_tag
from tests.builders import notification, present
from tests.page_vectors import (
    XIAOMI_FORM,
    XIAOMI_FORM_DIGEST,
    XIAOMI_MULTI_DIGEST,
    XIAOMI_TEMPLATE_VALUES,
    digest,
    xiaomi_message,
)
from tests.tables import table
from tests.unit.vendors.cases import PUSH_ID, batch, credential, item, reply
from tests.unit.vendors.strategies import FAMILY, FLAG, bodies, statuses
from workers.vendors.ids import base62, number_id
from workers.vendors.types import RequestBatch
from workers.vendors.xiaomi import XIAOMI
from workers.vendors.xiaomi.codes import CODES, channels_exceeded
from workers.vendors.xiaomi.request import encode, template_value, value_valid

REGID = "k8uROfAMl7Pr+VsoXt9i6Idv/9UDkQ=="
CREDENTIAL = credential(
    Vendor.XIAOMI,
    {"package": "com.example.im"},
    {"app_secret": "EXAMPLE_APP_SECRET"},
    ["xiaomi.private"],
)
PRIVATE = {
    "channel_id": "123456",
    "template_id": "T0001",
    "template_sender": "sender",
    "template_text": "text",
}
NOTE = notification(
    app_name="Example",
    title="[好友消息]Li Hua",
    body="晚上一起吃饭吗？",
    sender_name="Li Hua",
    text="晚上一起吃饭吗？👌",
    ext='{"conv":"p2p_7"}',
    placement=PRIVATE,
)
GROUP = msgspec.structs.replace(NOTE, conversation_type="group")


def with_(**changes):
    return msgspec.structs.replace(NOTE, **changes)


def batch_of(about=NOTE, tokens=1, **more):
    return batch(
        about, tuple(f"regid{n}==" for n in range(tokens)) if tokens > 1 else (REGID,), **more
    )


def built(*of, **more):
    return XIAOMI.build(batch_of(*of, **more), CREDENTIAL, None)


def form_of(request):
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def wire(about=NOTE, credential=CREDENTIAL, **more):
    return form_of(XIAOMI.build(batch_of(about, **more), credential, None))


def outcomes_of(tokens, *said, **headers):
    """Of one request to so many people of a group."""
    return XIAOMI.classify(batch_of(GROUP, tokens), reply(*said, **headers))


def told(*said, sent=None, **headers):
    """The outcome of one push."""
    [outcome] = XIAOMI.classify(sent or batch_of(), reply(*said, **headers))
    return outcome


# ---------------------------------------------------------------- codes

R, C, X = Verdict.UNAVAILABLE, Verdict.CREDENTIAL_REFUSED, Verdict.REJECTED
T, D = Verdict.THROTTLED, Verdict.TOKEN_DEAD
#: What the page's table (test_pages.py) does not say of a code, as one regid is answered: verdict,
#: most attempts, alarm.
ROWS = {
    10037: (R, 2, False),
    65003: (R, 2, False),
    20301: (R, 3, False),
    26006: (X, None, True),
    27001: (X, None, True),
    10038: (X, None, True),  # statistics only: never stops a lane
    10035: (Verdict.UNKNOWN, None, True),  # says nothing about a push
    66113: (X, None, True),  # 66xxx: unconfirmed, fix-request
    66999: (X, None, True),
    99999: (R, None, True),  # any other code: three times, then nobody knows
    70000: (R, None, True),
}


@pytest.mark.parametrize("code", sorted({*map(int, CODES), *ROWS}))
@pytest.mark.parametrize("as_text", [False, True], ids=["number", "text"])
def test_each_code_gives_its_verdict(code, as_text):
    shown = str(code) if as_text else code
    reply = {"result": "error", "code": shown, "reason": "why", "description": "d", "trace_id": "x"}
    outcome = told(reply)
    seen = (outcome.verdict, outcome.attempts_max, outcome.alarm)
    assert seen == ROWS.get(code, (CODES.get(str(code)), None, False))
    found = (outcome.code, outcome.words, outcome.status, outcome.again)
    assert found == (str(code), "why", "200", None)


@pytest.mark.parametrize(("code", "last"), [(99999, Verdict.UNKNOWN), (10001, R), (20301, R)])
def test_a_code_that_nobody_documents_is_unknown_in_the_end(code, last):
    said = reply({"result": "error", "code": code, "reason": "why"})
    verdicts = [
        XIAOMI.classify(batch_of(met=[200002, *[code] * n]), said)[0].verdict for n in range(3)
    ]
    assert verdicts == [R, R, last]


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"result":"ok"}'])
def test_what_can_t_be_read_is_tried_again_and_then_unknown(body):
    verdicts = [told(body, sent=batch_of(met=[200002, *[""] * n])).verdict for n in range(3)]
    assert verdicts == [Verdict.UNCERTAIN, Verdict.UNCERTAIN, Verdict.UNKNOWN]
    advert = msgspec.structs.replace(NOTE, message_class=MessageClass.MARKETING)
    assert told(body, sent=batch_of(advert)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("code", "reason", "tokens", "verdict", "again"),
    [
        (20301, "No valid targets!", 1, D, None),
        (20301, "No valid targets!", 2, R, Again.SINGLY),
        (20301, "sending failed", 2, R, None),
        (10029, "illegal device", 1, D, None),
        (10029, "illegal device", 3, R, Again.SINGLY),
        (99999, "No valid targets!", 1, R, None),  # an unknown code retires nothing
        (10031, "AppId(1) in the blacklist, forbid to send messages", 2, C, None),
    ],
)
def test_a_list_is_never_blamed_for_one_regid(code, reason, tokens, verdict, again):
    outcomes = outcomes_of(tokens, {"result": "error", "code": code, "reason": reason})
    assert [(o.verdict, o.again) for o in outcomes] == [(verdict, again)] * tokens


STATUSES = {
    "gateway error": (502, b"<html>", R),
    "gateway error with a code": (500, b'{"code":10029}', R),
    "a code on a 4xx": (401, b'{"code":21301}', C),
    "401": (401, b"", C),
    "403": (403, b"no", C),
    "404": (404, b"", X),
    "400 with code 0": (400, b'{"code":0}', X),
    "413": (413, b"", X),
    "408": (408, b"", R),
    "429": (429, b"", T),
    "moved": (301, b"", R),
    "200 without JSON": (200, b"<html>", Verdict.UNCERTAIN),
    "200 without body": (200, b"", Verdict.UNCERTAIN),
    "200 without code": (200, b'{"result":"ok"}', Verdict.UNCERTAIN),
    "200, half a body": (200, b'{"code":0,"res', Verdict.UNCERTAIN),
    "older errorCode": (200, b'{"errorCode":10029}', D),
    "code 0 that says error": (200, b'{"code":0,"result":"error"}', Verdict.UNKNOWN),
}


@pytest.mark.parametrize(("status", "body", "verdict"), STATUSES.values(), ids=STATUSES)
def test_what_has_no_code_is_judged_by_its_status(status, body, verdict):
    assert [o.verdict for o in XIAOMI.classify(batch_of(), reply(body, status))] == [verdict]


def test_what_is_the_app_s_own_stays_within_the_vendors_bound():
    own = dict.fromkeys(
        ("channel_name", "channel_description", "ticker", "badge", "notification_small_icon_uri"),
        "x" * 480,
    )
    form = wire(with_(vendor_raw={"extra": {**own, "sound_uri": "y" * 500}}))
    kept = {name: value for name, value in form.items() if value.startswith("xx")}
    assert set(kept) == {"extra.channel_name", "extra.channel_description"}
    assert form["extra.sound_uri"] == "y" * 500


def test_waits_are_the_vendors_and_at_least_a_second_for_qps():
    code = {"code": 200002, "result": "error"}
    assert told(code).retry_after_s == 1.0
    assert told(code, retry_after="7").retry_after_s == 7.0
    assert told(b"", 503, retry_after="9").retry_after_s == 9.0


def test_words_are_reason_then_description_then_info_and_hold_no_token():
    for said, words in (
        ({"reason": "r", "description": "d"}, "r"),
        ({"reason": "", "description": "d"}, "d"),
        ({"info": f"bad {REGID} here"}, "bad <token> here"),
        ({"reason": 7}, ""),
    ):
        assert told({"code": 10008, **said}).words == words
    assert len(told({"code": 10008, "reason": "x" * 9000}).words) == 200


SUCCESS = {
    "result": "ok",
    "trace_id": "X",
    "code": 0,
    "info": "i",
    "data": {"id": "sdm1", "day_quota": "20000", "day_acked": "137"},
}


def test_success_carries_the_message_id_to_every_token():
    outcomes = outcomes_of(3, SUCCESS)
    found = [(o.verdict, o.vendor_message_id, o.words) for o in outcomes]
    assert found == [(Verdict.ACCEPTED, "sdm1", "")] * 3


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no_channel:2 a:3", {"no_channel": 2, "a": 3}),
        ("a:0", {}),
        ("", {}),
        (None, {}),
        ("a:b:4", {"a:b": 4}),
        ("junk :5 a:x a:1 a:2", {"a": 3}),
        (7, {}),
    ],
)
def test_partial_quota_is_parsed(text, found):
    assert channels_exceeded(text) == found


def test_partly_over_quota_is_accepted_with_words_and_wholly_is_quota_spent():
    data = {
        "id": "s",
        "day_quota": "20000",
        "day_acked": "19990",
        "channel_exceed_quota": "no_channel:2 a:3",
    }
    over = {**SUCCESS, "data": data}
    some = outcomes_of(9, over)
    found = {(o.verdict, o.words, o.alarm) for o in some}
    assert found == {(Verdict.ACCEPTED, "5 of 9 over the day's quota", True)}
    assert {o.verdict for o in outcomes_of(5, over)} == {Verdict.QUOTA_SPENT}
    assert present(XIAOMI.quota_reported)(reply(over)) == (20000, 20000)  # closes the day


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"day_quota": "20000", "day_acked": "137"}, (137, 20000)),
        ({"day_quota": 5, "day_acked": 9}, (9, 5)),
        ({"day_quota": "20000"}, None),
        ({"day_quota": "-1", "day_acked": "1"}, None),
        ({"day_quota": "1" * 90, "day_acked": "1"}, None),
        ([], None),
    ],
)
def test_the_quota_an_answer_tells_is_read(data, told):
    assert present(XIAOMI.quota_reported)(reply({"code": 0, "data": data})) == told
    assert present(XIAOMI.quota_reported)(reply(b"<html>")) is None


# ---------------------------------------------------------------- vectors of the page

VECTOR = list(XIAOMI_FORM.items())


def test_vector_9_1_form_body():
    assert digest(encode(VECTOR)) == XIAOMI_FORM_DIGEST


def test_vector_9_1_is_what_build_sends_but_for_our_own_ids():
    """Same fields in the same order: payload, notify_id and the echoed tag are ours, a jobkey is
    added.
    """
    payload = {"conv": "p2p_7", "seq": 42}
    note = with_(
        ext=None, payload=payload, bucket=Bucket.PUBLIC, placement={"channel_id": "123456"}
    )
    request = built(note, callback_url="https://push.example.com/cb/xiaomi")
    ours = {"notify_id": str(number_id("m1")), "extra.callback.param": PUSH_ID}
    expected = [(key, ours.get(key, value)) for key, value in VECTOR] + [
        ("extra.jobkey", base62(PUSH_ID, 20))
    ]
    assert request.body == encode(expected)
    found = (request.endpoint, request.method, request.path)
    assert found == ("XIAOMI", "POST", "/v3/message/regid")
    assert dict(request.headers) == {
        "authorization": "key=EXAMPLE_APP_SECRET",
        "content-type": "application/x-www-form-urlencoded;charset=UTF-8",
    }


def test_vector_9_2_multi_body_is_the_same_form_encoding():
    many = [xiaomi_message("regidA==", 1), xiaomi_message("regidB==", 2)]
    form = [("messages", msgspec.json.encode(many).decode()), ("time_to_send", "0")]
    assert digest(encode(form)) == XIAOMI_MULTI_DIGEST


@pytest.mark.parametrize(("value", "valid"), XIAOMI_TEMPLATE_VALUES.items())
def test_vector_9_3_template_values(value, valid):
    assert value_valid(value) is valid
    assert (template_value(value) == value) is valid


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("好的👌", "好的"),
        ("28℃", "28"),
        (f"吃{FAMILY}饭{FLAG}", "吃饭"),
        ("1️⃣ ok 👍🏽", "1 ok"),
        (FAMILY, ""),
        ("x" * 129, "x" * 127 + "…"),
        ("\ud800", ""),
        ("\u0378", ""),  # unassigned
    ],
)
def test_template_values_lose_whole_graphemes(value, cleaned):
    assert template_value(value) == cleaned


def test_vector_9_4_payload_is_encoded_once():
    payload = '{"conv":"p2p_7","seq":42}'
    found = encode([("payload", payload)])
    assert found == b"payload=%7B%22conv%22%3A%22p2p_7%22%2C%22seq%22%3A42%7D"
    assert b"%25" not in built(with_(ext=None, payload={"conv": "p2p_7", "seq": 42})).body


# ---------------------------------------------------------------- the wire


OPEN = {"bucket": Bucket.PUBLIC, "placement": {"channel_id": "9"}}
CLASS_FIELDS = {
    **table("""
    private | {} | {"channel_id": "123456", "template_id": "T0001"}
    an override moves a private push | {"vendor": {"channel_id": "77", "template_id": "T7"}}
      | {"channel_id": "77", "template_id": "T7"}
    raw fields touch neither | {"vendor_raw": {"extra": {"channel_id": "66", "template_id": "T6",
      "template_param": "{}", "callback": "https://x"}, "title": "x"}}
      | {"channel_id": "123456", "template_id": "T0001"}
    """),
    "public with a channel": (OPEN, {"channel_id": "9"}),
    "public without": ({"bucket": Bucket.PUBLIC, "placement": {}}, {}),
    "an override never raises a public one": (
        {**OPEN, "vendor": {"channel_id": "123456", "template_id": "T0001"}},
        {"channel_id": "9"},
    ),
    "nor does a sender's template": (
        {**OPEN, "template": {"id": "T0001", "title_params": {"a": "b"}}},
        {"channel_id": "9"},
    ),
}


@pytest.mark.parametrize(("changes", "expected"), CLASS_FIELDS.values(), ids=CLASS_FIELDS)
def test_class_fields_follow_the_placement(changes, expected):
    form = wire(with_(**changes))
    assert {
        key: form[f"extra.{key}"] for key in ("channel_id", "template_id") if f"extra.{key}" in form
    } == expected
    assert ("extra.template_param" in form) is ("template_id" in expected)
    assert "extra.callback" not in form


def test_template_variables_have_the_vendors_names_and_fall_back_when_nothing_remains():
    placement = {**PRIVATE, "template_sender": "who", "template_text": "what"}
    note = with_(
        placement=placement, sender_name=FAMILY, text="★", fallback_body="", app_name="Example"
    )
    found = json.loads(wire(note)["extra.template_param"])
    assert found == {"who": "Example", "what": "您收到一条新消息"}
    note = with_(
        placement=placement,
        sender_name="★",
        text="★",
        fallback_body="[表情]",
        app_name="",
        lang="en",
    )
    seen = json.loads(wire(note)["extra.template_param"])
    assert seen == {"who": "You have a new message", "what": "[表情]"}


def test_a_senders_template_fills_its_own_variables():
    title, content = {"a": "A★", "d": "🎉"}, {"b": 7, "c": "👌"}
    for form in (
        wire(with_(template={"id": "T9", "title_params": one, "content_params": other}))
        for one, other in ((title, content), (json.dumps(title), json.dumps(content)))
    ):
        assert form["extra.template_id"] == "T9"
        found = json.loads(form["extra.template_param"])
        assert found == {"a": "A", "d": "Example", "b": "7", "c": "您收到一条新消息"}
    template = {"id": "T9", "title_params": "{half"}
    assert json.loads(wire(with_(template=template))["extra.template_param"]) == {}


@pytest.mark.parametrize(
    "changes", [{"hidden": True}, {"kind": Kind.RECALL}], ids=["hidden", "recalled"]
)
def test_hidden_and_recalled_words_travel_nowhere(changes):
    note = with_(
        title="您收到一条新消息", body="您收到一条新消息", sender_name="Li Secret", text="secret words",  # noqa: E501
        template={"id": "T9", "title_params": {"a": "secret"}}, vendor_raw={"extra": {"ticker": "secret"}}, **changes,  # noqa: E501
    )  # fmt: skip
    assert "ecret" not in "".join(value for key, value in wire(note).items() if key != "payload")
    assert "ecret" not in "".join(wire(msgspec.structs.replace(note, template=None)).values())


TTLS = {
    (Bucket.PRIVATE, 60): 60_000,
    (Bucket.PRIVATE, 10**9): 864_000_000,
    (Bucket.PUBLIC, 10**9): 86_400_000,
    (Bucket.PUBLIC, 0): 1000,
}


@pytest.mark.parametrize(("given_", "ms"), TTLS.items(), ids=str)
def test_time_to_live_is_milliseconds_within_the_class(given_, ms):
    assert wire(with_(bucket=given_[0]), ttl_s=given_[1])["time_to_live"] == str(ms)


NOISE = [
    ({}, "-1"),
    ({"sound_android": "none"}, "6"),
    ({"kind": Kind.RECALL}, "4"),
    ({"push_type": PushType.SILENT}, "4"),
]


@pytest.mark.parametrize(("changes", "kind"), NOISE, ids=str)
def test_noise_is_what_the_sender_asked_for(changes, kind):
    assert wire(with_(**changes))["notify_type"] == kind


@pytest.mark.parametrize(
    ("sound", "uri"),
    [
        ("ring.mp3", "android.resource://com.example.im/raw/ring"),
        ("ring", "android.resource://com.example.im/raw/ring"),
        ("default", None),
        ("none", None),
        ("../x", None),
        ("a b", None),
        (None, None),
    ],
)
def test_sound_is_a_resource_of_the_app(sound, uri):
    assert wire(with_(sound_android=sound)).get("extra.sound_uri") == uri


RAW = {
    "white keys": (
        {"extra": {"channel_name": "Chats", "notify_foreground": 0}},
        {"channel_name": "Chats", "notify_foreground": "0"},
    ),
    "activity with its address": (
        {"extra": {"notify_effect": "2", "intent_uri": "intent:#Intent;end"}},
        {"notify_effect": "2", "intent_uri": "intent:#Intent;end"},
    ),
    "activity without": ({"extra": {"notify_effect": "2"}}, {"notify_effect": "1"}),
    "no such effect": ({"extra": {"notify_effect": "9"}}, {"notify_effect": "1"}),
    "too long": ({"extra": {"channel_name": "x" * 513}}, {"channel_name": None}),
    "not a text": ({"extra": {"channel_name": ["x"]}}, {"channel_name": None}),
    "jobkey and mode": (
        {"extra": {"jobkey": "x", "only_send_once": "1", "callback.type": 3}},
        {"only_send_once": None},
    ),
    "not an object": ({"extra": "x"}, {"notify_effect": "1"}),
}


@pytest.mark.parametrize(("raw", "expected"), RAW.values(), ids=RAW)
def test_raw_extra_is_white_listed_and_valid(raw, expected):
    form = wire(with_(vendor_raw=raw))
    assert {key: form.get(f"extra.{key}") for key in expected} == expected
    assert form["extra.jobkey"] == base62(PUSH_ID, 20)


def test_style_1_is_big_text_and_the_credential_may_name_an_activity():
    options = {**CREDENTIAL.options, "intent_uri": "intent:#Intent;end", "region": "global"}
    credential = replace(CREDENTIAL, options=options)
    form = wire(with_(vendor={"style": 1, "channel_name": "Chats"}), credential)
    assert (form["extra.notification_style_type"], form["extra.channel_name"]) == ("1", "Chats")
    assert (form["extra.notify_effect"], form["extra.intent_uri"]) == ("2", "intent:#Intent;end")
    assert XIAOMI.build(batch_of(), credential, None).endpoint == "XIAOMI_GLOBAL"


@pytest.mark.parametrize("region", ["cn", "global"])
def test_doctor_looks_at_the_server_that_the_accounts_requests_go_to(region):
    account = replace(CREDENTIAL, options={**CREDENTIAL.options, "region": region})
    assert XIAOMI.check is not None
    assert XIAOMI.endpoints_used is not None
    sends, checks = XIAOMI.build(batch_of(), account, None), XIAOMI.check(account, None)
    assert list(XIAOMI.endpoints_used(account)) == [sends.endpoint] == [checks.endpoint]


def test_a_list_is_one_request_with_each_regid_once():
    items = [item(GROUP, token) for token in ("a", "b", "a")]
    form = form_of(XIAOMI.build(RequestBatch(tuple(items), 0), CREDENTIAL, None))
    assert form["registration_id"] == "a,b"
    assert XIAOMI.request_tokens_max == 1000


def test_the_jobkey_of_a_message_is_the_same_however_a_repeat_is_batched():
    first = wire(GROUP, tokens=3)["extra.jobkey"]
    assert (
        first
        == wire(GROUP, tokens=2, attempt=2)["extra.jobkey"]
        == wire(GROUP, tokens=1, attempt=3)["extra.jobkey"]
    )
    others = [
        wire(msgspec.structs.replace(GROUP, **change), tokens=3)["extra.jobkey"]
        for change in ({"event_id": "e2"}, {"kind": Kind.RECALL}, {"app": "1400000002"})
    ]
    assert len({first, *others}) == 4
    assert all(len(key) == 20 and key.isalnum() for key in (first, *others))


def test_c2c_pushes_never_share_a_request_and_group_pushes_may():
    assert XIAOMI.group(item(NOTE, push_id="1" * 32)) != XIAOMI.group(item(NOTE, push_id="2" * 32))
    found = XIAOMI.group(item(GROUP, push_id="1" * 32))
    assert found == XIAOMI.group(item(GROUP, push_id="2" * 32))


def test_a_list_echoes_its_tag_and_a_long_callback_is_left_out():
    form = wire(GROUP, tokens=2, callback_url="https://push.example.com/r")
    assert form["extra.callback.param"] == event_tag(GROUP.app, GROUP.event_id, GROUP.kind)
    assert "extra.callback" not in wire(callback_url="https://push.example.com/" + "x" * 128)


@pytest.mark.parametrize(
    ("ext", "payload", "expected"),
    [
        ("x", {"a": 1}, {"a": 1, "ext": "x"}),
        ("x", {"ext": "y"}, {"ext": "x"}),
        ("x", {"a": "y" * 5000}, {"ext": "x"}),
        ("x" * 5000, {"a": 1}, None),
        (None, {"a": 1}, {"a": 1}),
        (None, None, None),
        ("\ud800", None, {"ext": "\ufffd"}),
        ("x", {"a": "\ud800"}, {"a": "\ufffd", "ext": "x"}),
    ],
    ids=[
        "both",
        "ext wins",
        "payload too long",
        "ext too long",
        "no ext",
        "nothing",
        "surrogate",
        "surrogate in payload",
    ],
)
def test_click_data_is_whole_or_not_there(ext, payload, expected):
    form = wire(with_(ext=ext, payload=payload))
    assert (json.loads(form["payload"]) if "payload" in form else None) == expected


@pytest.mark.parametrize("cls", [MessageClass.CHAT, MessageClass.CALL, MessageClass.MARKETING])
def test_limits_of_title_and_description_hold(cls):
    form = wire(with_(message_class=cls, title=FAMILY * 30, body="吃" * 400))
    assert form["title"] == FAMILY * 6 + "…"
    assert form["description"] == "吃" * 126 + "…"


# ---------------------------------------------------------------- credential, tokens, check


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (reply({"code": 0}), Verdict.ACCEPTED),
        (reply({"code": 10027}), Verdict.ACCEPTED),
        (reply({"code": 10038}), Verdict.ACCEPTED),
        (reply({"code": 10039}), Verdict.ACCEPTED),
        (reply({"code": 21301}), C),
        (reply({"code": 21302}), C),
        (reply({"code": 10001}), R),
        (reply({"code": 424242}), Verdict.UNKNOWN),
        (reply(b"<html>", 503), R),
        (reply(b"", 401), C),
    ],
)
def test_the_check_spends_no_push_and_tells_whether_the_secret_was_taken(answer, verdict):
    request = present(XIAOMI.check)(CREDENTIAL, None)
    assert (request.method, request.path, request.body) == ("GET", "/v1/trace/quota/get", b"")
    assert request.headers["authorization"] == "key=EXAMPLE_APP_SECRET"
    assert present(XIAOMI.checked)(answer) is verdict


def test_the_spec_says_what_the_page_says():
    found = (XIAOMI.limits.rate_per_s, XIAOMI.limits.rate_unit, XIAOMI.limits.quota_public)
    assert found == (500, "request", 20_000)
    assert (
        XIAOMI.limits.quota_private,
        XIAOMI.limits.device_cap_private,
        XIAOMI.limits.device_cap_public,
    ) == (None, None, 5)
    assert XIAOMI.rights == {"xiaomi.private"}
    assert not XIAOMI.mixed
    assert set(XIAOMI.endpoints) == {"XIAOMI", "XIAOMI_GLOBAL"}


# ---------------------------------------------------------------- any note, any bytes


@given(body=bodies, status=statuses)
def test_any_bytes_tell_a_quota_or_none(body, status):
    told = present(XIAOMI.quota_reported)(reply(body, status))
    assert told is None or min(told) >= 0


# ---------------------------------------------------------------- refused regids


def taken(**data):
    data = {"id": "sdm1", "day_quota": "20000", "day_acked": "1", **data}
    body = {"result": "ok", "code": 0, "data": data}
    return [one.verdict for one in outcomes_of(3, body)]


OK, DEAD, SPENT = Verdict.ACCEPTED, Verdict.TOKEN_DEAD, Verdict.QUOTA_SPENT
#: xiaomi.md §4A and §9.7, in every form an answer that is a success as a whole may name refused
#: items.
BAD_REGIDS = {
    "one": ({"bad_regids": "regid1=="}, [OK, DEAD, OK]),
    "some, with blanks": ({"bad_regids": " regid0==, regid2==,"}, [DEAD, OK, DEAD]),
    "all": ({"bad_regids": "regid0==,regid1==,regid2=="}, [DEAD, DEAD, DEAD]),
    "repeated": ({"bad_regids": "regid1==,regid1=="}, [OK, DEAD, OK]),
    "unknown ones": ({"bad_regids": "somebody==,regid1=="}, [OK, DEAD, OK]),
    "the other spelling": ({"bad_regIds": "regid1=="}, [OK, DEAD, OK]),
    "both spellings": ({"bad_regids": "", "bad_regIds": "regid1=="}, [OK, DEAD, OK]),
    "a list": ({"bad_regids": ["regid1==", 7, None]}, [OK, DEAD, OK]),
    "empty": ({"bad_regids": ""}, [OK, OK, OK]),
    "null": ({"bad_regids": None}, [OK, OK, OK]),
    "an object": ({"bad_regids": {"regid1==": 1}}, [OK, DEAD, OK]),
    "a list of objects": ({"bad_regids": [{"regId": "regid1=="}]}, [OK, DEAD, OK]),
    "somebody, and nobody says who": ({"bad_regids": [{"id": "regid1=="}]}, [Verdict.UNKNOWN] * 3),
    "a part of a name": ({"bad_regids": "regid1"}, [OK, OK, OK]),
    "the others over the day's quota": (
        {"bad_regids": "regid1==", "channel_exceed_quota": "a:2"},
        [SPENT, DEAD, SPENT],
    ),
    "one of the others over it": (
        {"bad_regids": "regid1==", "channel_exceed_quota": "a:1"},
        [OK, DEAD, OK],
    ),
}


@pytest.mark.parametrize(("data", "verdicts"), BAD_REGIDS.values(), ids=BAD_REGIDS)
def test_a_refused_regid_is_dead_and_the_others_are_accepted(data, verdicts):
    assert taken(**data) == verdicts


def test_what_is_refused_as_a_whole_names_nobody():
    body = {"result": "error", "code": 10002, "data": {"bad_regids": "regid1=="}}
    assert {one.verdict for one in outcomes_of(3, body)} == {Verdict.UNAVAILABLE}
