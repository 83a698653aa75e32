"""OPPO: every code of the page, its vectors, the wire per class and right, access tokens, and what
holds for any note and any bytes.
"""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given

from common.contracts import Notification
from common.model import Again, Bucket, Kind, MessageClass, Vendor, Verdict
from tests.builders import notification, present
from tests.page_vectors import OPPO_REGIDS, OPPO_SIGNS
from tests.tables import cell, table
from tests.unit.vendors.cases import PUSH_ID, asked, credential, item, reply
from tests.unit.vendors.strategies import kept_whole, texts
from workers.vendors.oppo import OPPO
from workers.vendors.oppo.codes import CODES
from workers.vendors.oppo.credential import sign
from workers.vendors.oppo.registration_ids import endpoint_of, sent
from workers.vendors.types import AccessRefused, AccessToken, RequestBatch

HEX = "b6bbd94b59cdb5df8391642c1509b7fe"
REGID = "CN_0123456789abcdef0123456789abcdef"
NOW = 1_767_225_600_000
ACCESS = AccessToken("58ad47319e8d725350a5afd5", NOW + 1, NOW + 2)
CREDENTIAL = credential(
    Vendor.OPPO,
    {"app_key": "exampleAppKey0001"},
    {"app_secret": "exampleMasterSecret0001"},
    ["oppo.private"],
)
STRONG = replace(CREDENTIAL, rights=frozenset({"oppo.private", "oppo.strong"}))
PRIVATE = {
    "category": "IM",
    "notify_level": "2",
    "channel_id": "im_message",
    "template_id": "TPL0001",
    "template_sender": "sender",
    "template_text": "text",
}
WORDS = {"title": "Li Hua", "body": "晚上一起吃饭吗？"}
NOTE = notification(
    app_name="Example",
    **WORDS,
    sender_name=WORDS["title"],
    text=WORDS["body"],
    ext='{"conv":"p2p_7"}',
    placement=PRIVATE,
)


def with_(**changes):
    return msgspec.structs.replace(NOTE, **changes)


OPEN = with_(
    bucket=Bucket.PUBLIC,
    message_class=MessageClass.MARKETING,
    placement={"category": "MARKETING", "notify_level": "1"},
)


def item_of(about=NOTE, token=REGID, push_id=PUSH_ID, **more):
    return item(about, token, push_id=push_id, **more)


def request_batch_of(*items, callback_url=None):
    return RequestBatch(items or (item_of(),), NOW, callback_url)


def batch_of(count, notes_differ=False):
    each = [with_(event_id=f"e{n}" if notes_differ else "e") for n in range(count)]
    return request_batch_of(*(item_of(each[n], f"CN_{n:032x}", f"{n:032x}") for n in range(count)))


def sent_form(batch, credential=CREDENTIAL):
    request = OPPO.build(batch, credential, ACCESS)
    form = parse_qsl(request.body.decode("ascii"), strict_parsing=True, keep_blank_values=True)
    return request, dict(form)


def wire(about=NOTE, credential=CREDENTIAL, callback_url=None, **more):
    sent = request_batch_of(item_of(about, **more), callback_url=callback_url)
    return json.loads(sent_form(sent, credential)[1]["message"])["notification"]


def outcomes_of(batch, *said, **headers):
    return OPPO.classify(batch, reply(*said, **headers))


def told(*said, of=None, **headers):
    """The outcome of one push."""
    [outcome] = outcomes_of(request_batch_of(*[of] if of else []), *said, **headers)
    return outcome


# ---------------------------------------------------------------- codes

R, C, X, T, Q, D, A = (
    Verdict.UNAVAILABLE,
    Verdict.CREDENTIAL_REFUSED,
    Verdict.REJECTED,
    Verdict.THROTTLED,
    Verdict.QUOTA_SPENT,
    Verdict.TOKEN_DEAD,
    Verdict.ACCESS_EXPIRED,
)
WITHOUT_LEVEL = Again.WITHOUT_NOTIFY_LEVEL
#: What the page's table (test_pages.py) does not say: code -> at the first attempt, at the second;
#: each (verdict, most attempts, again, alarm).
ROWS = {
    19: ((R, None, None, False), (C, None, None, False)),
    29: ((A, None, None, False), (A, None, None, True)),
    32: ((X, None, None, False), (Verdict.ACCEPTED, None, None, False)),
    54: ((X, None, None, True),) * 2,
    67: ((R, 2, WITHOUT_LEVEL, True), (R, 3, WITHOUT_LEVEL, True)),
    **dict.fromkeys((35, 36, 52, 60, 61, 62, 63, 41000), ((R, None, None, True),) * 2),
    **dict.fromkeys((10001, 15000, 20000), ((X, None, None, True),) * 2),
    **dict.fromkeys((1, 99, 600, 9999, 20001, 30000), ((Verdict.UNKNOWN, None, None, True),) * 2),
}
PLAIN = {
    int(code): ((verdict, None, None, False),) * 2
    for code, verdict in CODES.items()
    if int(code) not in ROWS
}


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize(("code", "expected"), [*PLAIN.items(), *ROWS.items()], ids=str)
@pytest.mark.parametrize("shape", ["unicast", "entry"])
def test_each_code_gives_its_verdict(code, expected, attempt, shape):
    items: tuple[Any, ...]
    if shape == "unicast":
        items, reply = (item_of(met=[code] * (attempt - 1)),), {"code": code, "message": "why"}
    else:
        items = (item_of(met=[code] * (attempt - 1)), item_of(token=f"CN_{HEX}"))
        entry = {
            "messageId": "m",
            "registrationId": REGID,
            "errorCode": code,
            "errorMessage": "why",
        }
        reply = {"code": 0, "data": [{"messageId": "n", "registrationId": f"CN_{HEX}"}, entry]}
    outcome = outcomes_of(request_batch_of(*items), reply)[0]
    seen = (outcome.verdict, outcome.attempts_max, outcome.again, outcome.alarm)
    assert seen == expected[attempt - 1]
    found = (outcome.code, outcome.words, outcome.status, outcome.token_only)
    assert found == (str(code), "why", "200", False)


@pytest.mark.parametrize("code", [35, 41000])
def test_a_code_that_no_source_explains_is_our_fault_after_two_retries(code):
    verdicts = [
        told({"code": code}, of=item_of(met=[55, 55] + [code] * n)).verdict for n in range(4)
    ]
    assert verdicts == [R, R, X, X]


def test_a_wrong_clock_is_found_on_the_second_word_of_it_not_on_the_second_try():
    verdicts = [told({"code": 19}, of=item_of(met=met)).verdict for met in ([], [55, -1], [55, 19])]
    assert verdicts == [R, R, C]


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"data":{}}'])
def test_what_can_t_be_read_is_tried_again_and_then_unknown(body):
    verdicts = [told(body, of=item_of(met=[55, *[""] * n])).verdict for n in range(3)]
    assert verdicts == [Verdict.UNCERTAIN, Verdict.UNCERTAIN, Verdict.UNKNOWN]
    advert = item_of(OPEN)
    assert told(body, of=advert).verdict is Verdict.UNKNOWN


def test_67_without_a_notify_level_is_about_the_category():
    outcome = told({"code": 67}, of=item_of(attempt=2, again=WITHOUT_LEVEL))
    assert (outcome.verdict, outcome.alarm) == (X, True)
    assert "notify_level" not in wire(again=WITHOUT_LEVEL)
    assert wire(again=WITHOUT_LEVEL)["category"] == "IM"


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("invalid registration_id", D),
        ("registrationId is wrong", D),
        ("Registration ID", D),
        ("invalid category", X),
        ("", X),
        (None, X),
    ],
)
def test_41_retires_a_token_only_when_it_names_the_registration_id(words, verdict):
    assert told({"code": 41, "message": words}).verdict is verdict


OUTER = {
    # code, words, different messages -> verdict, again
    "the token of one of many": (10000, "", False, R, Again.SINGLY),
    "41 that names a registration id": (41, "registration_id", False, R, Again.SINGLY),
    "41 of one message to many": (41, "", False, X, None),
    "41 of many messages": (41, "", True, R, Again.SINGLY),
    "54 of one message to many": (54, "", False, X, None),
    "54 of many messages": (54, "", True, R, Again.SINGLY),
    "67 of one message to many": (67, "", False, R, WITHOUT_LEVEL),
    "67 of many messages": (67, "", True, R, Again.SINGLY),
    "a business code of many messages": (10500, "", True, R, Again.SINGLY),
    "our mistake": (12, "", True, X, None),
    "the access token": (11, "", True, A, None),
    "the credential": (28, "", True, C, None),
    "too fast": (55, "", True, T, None),
    "quota": (33, "", False, Q, None),
    "later": (-1, "", True, R, None),
}


@pytest.mark.parametrize(("code", "words", "differ", "verdict", "again"), OUTER.values(), ids=OUTER)
def test_an_outer_code_speaks_for_all_but_one_item_does_not_spoil_the_others(
    code, words, differ, verdict, again
):
    outcomes = outcomes_of(batch_of(3, differ), {"code": code, "message": words})
    assert [(o.verdict, o.again) for o in outcomes] == [(verdict, again)] * 3


def test_a_batch_that_is_too_large_goes_one_by_one():
    outcomes = outcomes_of(batch_of(3), b"", 413)
    assert [(o.verdict, o.again) for o in outcomes] == [(R, Again.SINGLY)] * 3
    assert [(o.verdict, o.again) for o in outcomes_of(request_batch_of(), b"", 413)] == [(R, None)]


@pytest.mark.parametrize("note", [NOTE, OPEN, with_(vendor={"category": "MARKETING"})])
def test_a_spent_day_is_the_public_class_s_whatever_push_it_is_told_of(note):
    outcome = told({"code": 33}, of=item_of(note))
    assert (outcome.verdict, outcome.bucket, outcome.token_only) == (Q, Bucket.PUBLIC, False)


STATUSES = {
    "502": (502, b"<html>", R, ""),
    "500 with a code": (500, b'{"code":11}', R, "11"),
    "401 with a known code": (401, b'{"code":11}', A, "11"),
    "401": (401, b"", R, ""),
    "404": (404, b"nothing", R, ""),
    "404 with an unknown code": (404, b'{"code":404}', R, "404"),
    "400 with code 0": (400, b'{"code":0}', R, "0"),
    "429": (429, b"", T, ""),
    "301": (301, b"", R, ""),
    "200 without JSON": (200, b"<html>", Verdict.UNCERTAIN, ""),
    "200 without body": (200, b"", Verdict.UNCERTAIN, ""),
    "200 without code": (200, b'{"data":{}}', Verdict.UNCERTAIN, ""),
    "200, half a body": (200, b'{"code":0,"dat', Verdict.UNCERTAIN, ""),
    "a list": (200, b"[]", Verdict.UNCERTAIN, ""),
    "too deep": (200, b"[" * 100_000, Verdict.UNCERTAIN, ""),
}


@pytest.mark.parametrize(("status", "body", "verdict", "code"), STATUSES.values(), ids=STATUSES)
@pytest.mark.parametrize("count", [1, 2])
def test_what_has_no_code_is_judged_by_its_status(status, body, verdict, code, count):
    outcomes = outcomes_of(batch_of(count), body, status)
    found = [(o.verdict, o.code, o.status) for o in outcomes]
    assert found == [(verdict, code, str(status))] * count


def test_flow_control_of_the_service_wants_a_longer_back_off():
    assert told({"code": -2}).first_s == 5.0
    assert told({"code": -1}).first_s is None


@pytest.mark.parametrize(
    ("code", "headers", "wait"),
    [(-2, {}, None), (55, {}, 1.0), (13, {}, None), (55, {"retry_after": "30"}, 30.0)],
)
def test_waits_are_the_vendors_or_the_pages(code, headers, wait):
    assert told({"code": code}, **headers).retry_after_s == wait


SUCCESS = {"code": 0, "message": None, "data": {"messageId": "app-1-1-0123"}}


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_success_carries_the_message_id_even_when_encoded_twice(twice):
    value = json.dumps(SUCCESS) if twice else SUCCESS
    outcome = told(value)
    assert (outcome.verdict, outcome.vendor_message_id) == (Verdict.ACCEPTED, "app-1-1-0123")


@pytest.mark.parametrize("data", [None, {}, {"messageId": ["x"]}, "x", 5])
def test_code_0_is_success_whatever_stands_in_data(data):
    assert told({"code": 0, "data": data}).verdict is Verdict.ACCEPTED


def test_words_hold_no_token():
    batch = batch_of(2)
    outer = outcomes_of(batch, {"code": 10000, "message": f"bad {batch.items[1].target.token}"})
    assert {o.words for o in outer} == {"bad <token>"}
    entry = {"registrationId": REGID, "errorCode": 10000, "errorMessage": f"{REGID}?"}
    assert told({"code": 0, "data": [entry]}).words == "<token>?"


def test_entries_are_joined_by_registration_id_and_a_missing_one_is_asked_for_once_more_alone():
    batch = batch_of(4)
    tokens = [item.target.token for item in batch.items]
    data = [
        {"messageId": "d", "registrationId": tokens[3]},
        {"messageId": "b", "registrationId": tokens[1], "errorCode": 10000, "errorMessage": "x"},
        {"registrationId": tokens[2]},
        {"messageId": "z", "registrationId": "CN_other"},
        None,
        {"messageId": "no id"},
    ]
    outcomes = outcomes_of(batch, {"code": 0, "data": data})
    assert [o.verdict for o in outcomes] == [R, D, R, Verdict.ACCEPTED]
    assert outcomes[3].vendor_message_id == "d"
    assert {(outcomes[n].attempts_max, outcomes[n].again) for n in (0, 2)} == {(2, Again.SINGLY)}


def test_a_batch_whose_answer_has_no_list_is_all_missing():
    assert [o.again for o in outcomes_of(batch_of(2), SUCCESS)] == [Again.SINGLY] * 2


def test_the_same_registration_id_travels_once_and_hosts_are_not_mixed():
    abroad = f"realme_IN_{HEX}"
    items = (
        item_of(),
        item_of(push_id="1" * 32),
        item_of(token=f"CN_{HEX}"),
        item_of(token=abroad),
    )
    batch = request_batch_of(*items)
    request, form = sent_form(batch)
    assert request.endpoint == "OPPO"
    assert [m["target_value"] for m in json.loads(form["messages"])] == [REGID, f"CN_{HEX}"]
    assert [item.target.push_id for item in sent(batch)] == [PUSH_ID, PUSH_ID]
    second = {"messageId": "b", "registrationId": f"CN_{HEX}"}
    data = [{"messageId": "a", "registrationId": REGID}, second]
    outcomes = outcomes_of(batch, {"code": 0, "data": data})
    assert [o.verdict for o in outcomes] == [Verdict.ACCEPTED, R, Verdict.ACCEPTED, R]
    assert outcomes[1].again is None
    assert outcomes[1].attempts_max is None


# ---------------------------------------------------------------- vectors of the page


@pytest.mark.parametrize(("key", "timestamp", "secret", "expected"), OPPO_SIGNS)
def test_vector_9_1_sign(key, timestamp, secret, expected):
    assert sign(key, timestamp, secret) == expected


def test_vector_9_1_auth_body():
    request = asked(OPPO, CREDENTIAL, 1767225600000)
    assert (request.endpoint, request.method, request.path) == ("OPPO", "POST", "/server/v1/auth")
    found = request.body.decode()
    assert found == f"app_key=exampleAppKey0001&sign={OPPO_SIGNS[0][3]}&timestamp=1767225600000"


REGIDS = {
    **OPPO_REGIDS,
    f"IN_{HEX}": "OPPO_INTL",
    f"{HEX}\n": None,
    "0123456789abcdef01234567": "OPPO",
    "0123456789ABCDEF01234567": "OPPO",
    "CN_0123456789abcdef01234567": None,
    "0123456789abcdef0123456": None,
    "": None,
}


@pytest.mark.parametrize(("token", "endpoint"), REGIDS.items())
def test_vector_9_3_registration_ids_and_their_host(token, endpoint):
    assert OPPO.token_valid(token) is (endpoint is not None)
    if endpoint:
        assert OPPO.group(item_of(token=token)) == endpoint_of(token) == endpoint
        assert sent_form(request_batch_of(item_of(token=token)))[0].endpoint == endpoint


# ---------------------------------------------------------------- the wire


def test_a_batch_carries_different_messages_each_with_its_own_id():
    batch = request_batch_of(item_of(), item_of(OPEN, f"CN_{HEX}", "f" * 32))
    request, form = sent_form(batch)
    assert request.path == "/server/v1/message/notification/unicast_batch"
    first, second = (m["notification"] for m in json.loads(form["messages"]))
    assert (first["app_message_id"], second["app_message_id"]) == (PUSH_ID, "f" * 32)
    assert (first["category"], second["category"]) == ("IM", "MARKETING")
    assert "private_msg_template_id" not in second
    assert second["show_ttl"] == 43_200
    assert (OPPO.mixed, OPPO.request_tokens_max) == (True, 1000)


GIVEN = {"id": "T9", "title_params": {"a": "b"}, "content_params": '{"c":"d"}'}
#: Account, what of the private chat message is different (of its placement: `placed`) -> category,
#: notify_level, channel and template as they travel.
CLASSES = table("""
as it is | private | {} | IM 2 im_message TPL0001
placed strong | strong | {"placed": {"notify_level": "16"}} | IM 16 im_message TPL0001
strong asked for | strong | {"vendor": {"notify_level": 16}} | IM 16 im_message TPL0001
without the right | private | {"vendor": {"notify_level": 16}} | IM 2 im_message TPL0001
strong is for chat only | strong | {"message_class": "order", "vendor": {"notify_level": "16"}, "placement": {"category": "ORDER", "notify_level": "2"}} | ORDER 2 - -
a lower level | private | {"vendor": {"notify_level": "1"}} | IM 1 im_message TPL0001
no such level | private | {"vendor": {"notify_level": 7}} | IM 2 im_message TPL0001
silent: nothing rings | strong | {"push_type": "silent", "vendor": {"notify_level": 16}} | IM 1 im_message TPL0001
another private category | private | {"vendor": {"category": "TODO", "channel_id": "c"}} | TODO 2 c TPL0001
no such category | private | {"vendor": {"category": "VIP"}} | IM 2 im_message TPL0001
lowered by its sender | strong | {"vendor": {"category": "MARKETING"}} | MARKETING - im_message -
no placement | private | {"placement": {}} | - - - -
a level needs a category | private | {"placement": {"notify_level": "2"}} | - - - -
public | private | {"open": true} | MARKETING - - -
public is never raised | strong | {"open": true, "vendor": {"category": "IM", "notify_level": 16, "channel_id": "im_message"}, "template": {"id": "T9"}} | MARKETING - - -
another public category | private | {"open": true, "vendor": {"category": "NEWS"}} | NEWS - - -
chat placed public | strong | {"bucket": "public", "vendor": {"notify_level": 16}, "placement": {"category": "SOCIAL", "notify_level": "2"}} | SOCIAL - - -
a sender's template | private | {"template": {"id": "T9"}} | IM 2 im_message T9
a template without an id | private | {"template": {"title_params": {"a": "b"}}} | IM 2 im_message TPL0001
raw fields touch no class | private | {"vendor_raw": {"category": "ORDER", "notify_level": 1, "channel_id": "x", "private_msg_template_id": "y"}} | IM 2 im_message TPL0001
""")  # noqa: E501


@pytest.mark.parametrize(("account", "changes", "expected"), CLASSES.values(), ids=CLASSES)
def test_class_fields_follow_placement_rights_and_overrides(account, changes, expected):
    usual = msgspec.to_builtins(OPEN if changes.pop("open", False) else NOTE)
    usual["placement"] |= changes.pop("placed", {})
    notification = msgspec.convert(usual | changes, Notification)
    sent_ = wire(notification, STRONG if account == "strong" else CREDENTIAL)
    names = ("category", "notify_level", "channel_id", "private_msg_template_id")
    assert [sent_.get(name) for name in names] == [cell(one) for one in expected.split()]


def test_a_senders_template_fills_its_own_variables_as_object_or_as_text():
    sent_ = wire(with_(template=GIVEN))
    found = (sent_["private_title_parameters"], sent_["private_content_parameters"])
    assert found == ({"a": "b"}, {"c": "d"})
    text = replace(CREDENTIAL, options={**CREDENTIAL.options, "template_params": "json_text"})
    sent_ = wire(with_(template=GIVEN), text)
    seen = (sent_["private_title_parameters"], sent_["private_content_parameters"])
    assert seen == ('{"a":"b"}', '{"c":"d"}')
    assert "private_title_parameters" not in wire(
        with_(template={"id": "T9", "title_params": ["a"], "content_params": "{"})
    )
    blank = with_(template={"id": "T9", "title_params": {"a": " ", "b": 7, "c": ["x"]}})
    shown = wire(blank)["private_title_parameters"]
    assert shown == {"a": "您收到一条新消息", "b": "7", "c": "您收到一条新消息"}


def test_template_variables_have_the_vendors_names_and_are_never_blank():
    placement = {**PRIVATE, "template_sender": "who", "template_text": "what"}
    note = with_(placement=placement, sender_name="", text=" ", title=" ", body="")
    sent_ = wire(note)
    assert sent_["private_title_parameters"] == {"who": "Example"}
    assert sent_["private_content_parameters"] == {"what": "您收到一条新消息"}


@pytest.mark.parametrize(
    "changes", [{"hidden": True}, {"kind": Kind.RECALL}], ids=["hidden", "recalled"]
)
@pytest.mark.parametrize(
    "template",
    [None, {"id": "T", "title_params": {"a": "secret"}, "content_params": {"b": "secret"}}],
)
def test_hidden_and_recalled_words_travel_nowhere(changes, template):
    note = with_(
        title="新消息", body="您收到一条新消息", sender_name="Li Secret", text="secret words",
        template=template, vendor_raw={"sub_title": "secret"}, **changes,
    )  # fmt: skip
    assert "ecret" not in json.dumps(wire(note))


@pytest.mark.parametrize(("ttl_s", "sent_s"), [(60, 60), (10**9, 864_000), (0, 1), (-5, 1)])
def test_offline_ttl_is_seconds_within_ten_days(ttl_s, sent_s):
    assert wire(ttl_s=ttl_s)["off_line_ttl"] == sent_s


RAW = table(r"""
activity | {"click_action_type": 4, "click_action_activity": "a.B"} | {"click_action_type": 4, "click_action_activity": "a.B"}
under notification | {"notification": {"network_type": "1"}} | {"network_type": 1}
click without its address | {"click_action_type": 2} | {"click_action_type": 0}
no such click | {"click_action_type": 3} | {"click_action_type": 0}
too long | {"sub_title": "xxxxxxxxxxx"} | {"sub_title": null}
shorter on screen | {"show_ttl": 60} | {"show_ttl": 60}
longer on screen | {"show_ttl": 1000000} | {"show_ttl": 86400}
mode and style | {"off_line": false, "style": 3} | {"off_line": true, "style": 1}
target and receipt | {"target_value": "x", "call_back_url": "https://x"} | {"target_value": null, "call_back_url": null}
ids | {"app_message_id": "x"} | {"app_message_id": "0b0f8f0e5a2c4c1e9a572f6f3c1d9e01"}
below ext | {"action_parameters": {"ext": "x", "a": 1}} | {"action_parameters": "{\"ext\":\"{\\\"conv\\\":\\\"p2p_7\\\"}\",\"a\":1}"}
as text | {"action_parameters": "{\"a\":1}"} | {"action_parameters": "{\"a\":1,\"ext\":\"{\\\"conv\\\":\\\"p2p_7\\\"}\"}"}
none | {"action_parameters": "nope"} | {"action_parameters": "{\"ext\":\"{\\\"conv\\\":\\\"p2p_7\\\"}\"}"}
""")  # noqa: E501


@pytest.mark.parametrize(("raw", "expected"), RAW.values(), ids=RAW)
def test_raw_fields_are_white_listed_and_valid(raw, expected):
    sent_ = wire(with_(vendor_raw=raw))
    assert {key: sent_.get(key) for key in expected} == expected


def test_long_text_style_shows_more():
    assert len(wire(with_(body="吃" * 300))["content"]) == 50
    long = wire(with_(body="吃" * 300, vendor={"style": 1}))
    assert (long["style"], len(long["content"])) == (2, 128)


def test_pushes_of_one_notification_differ_in_target_id_ttl_and_level_only():
    items = (
        item_of(),
        item_of(token=f"CN_{HEX}", push_id="1" * 32, ttl_s=5),
        item_of(token=HEX, push_id="2" * 32, again=WITHOUT_LEVEL),
    )
    _, form = sent_form(request_batch_of(*items, callback_url="https://push.example.com/r"))
    sent_ = [m["notification"] for m in json.loads(form["messages"])]
    own = ("app_message_id", "off_line_ttl", "notify_level", "call_back_parameter")
    assert [tuple(s.pop(key, None) for key in own) for s in sent_] == [
        (PUSH_ID, 86400, 2, PUSH_ID),
        ("1" * 32, 5, 2, "1" * 32),
        ("2" * 32, 86400, None, "2" * 32),
    ]
    assert sent_[0] == sent_[1] == sent_[2]


def test_a_callback_longer_than_200_is_left_out():
    assert "call_back_url" not in wire(callback_url="https://push.example.com/" + "x" * 200)


@pytest.mark.parametrize(
    ("ext", "payload", "expected"),
    [
        ("x", {"a": 1}, {"a": 1, "ext": "x"}),
        ("吃" * 3900, None, {"ext": "吃" * 3900}),  # characters, not bytes
        ("x", {"a": "y" * 4000}, {"ext": "x"}),
        ("x" * 4001, None, None),
        (None, None, None),
    ],
    ids=["both", "cjk", "payload too long", "ext too long", "nothing"],
)
def test_click_data_is_whole_or_not_there(ext, payload, expected):
    sent_ = wire(with_(ext=ext, payload=payload))
    found = json.loads(sent_["action_parameters"]) if "action_parameters" in sent_ else None
    assert found == expected


# ---------------------------------------------------------------- access token, credential

DAY, EARLY = 86_400_000, 72_000_000


@pytest.mark.parametrize(
    ("create_time", "created"),
    [
        (NOW - 5000, NOW - 5000),
        (str(NOW - 5000), NOW - 5000),
        (None, NOW),
        (NOW + 99_999_999, NOW),
        (1, NOW),
        ("x", NOW),
    ],
)
def test_an_access_token_lives_a_day_from_creation_and_is_renewed_at_20_hours(create_time, created):
    token = present(OPPO.access).read(
        reply({"code": 0, "data": {"auth_token": "t0k", "create_time": create_time}}), NOW
    )
    assert token == AccessToken("t0k", created + EARLY, created + DAY)
    assert "t0k" not in repr(token)


REFUSALS = {
    "bad signature": (reply({"code": 16, "message": "sign"}), C, "16"),
    "no such key": (reply({"code": 14}), C, "14"),
    "disabled": (reply({"code": 28}), C, "28"),
    "argument": (reply({"code": 40}), C, "40"),
    "too fast": (reply({"code": 13}), T, "13"),
    "day's limit": (reply({"code": 33}), T, "33"),
    "later": (reply({"code": -1}), R, "-1"),
    "nobody knows": (reply({"code": 424242}), R, "424242"),
    "no token": (reply({"code": 0, "data": {}}), R, "0"),
    "junk": (reply(b"<html>"), R, ""),
    "gateway": (reply(b"", 502), R, ""),
    "429": (reply(b"", 429), T, ""),
    "our clock is off": (reply({"code": 19}, date="Thu, 01 Jan 2026 01:00:00 GMT"), C, "19"),
    "came late": (reply({"code": 19}, date="Thu, 01 Jan 2026 00:00:09 GMT"), R, "19"),
    "no clock to compare with": (reply({"code": 19}), C, "19"),
}


@pytest.mark.parametrize(("answer", "verdict", "code"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_access_token_says_whether_a_person_must_act(answer, verdict, code):
    refused = present(OPPO.access).read(answer, NOW)
    assert isinstance(refused, AccessRefused)
    assert (refused.verdict, refused.code) == (verdict, code)


def test_the_spec_says_what_the_page_says():
    found = (OPPO.limits.rate_per_s, OPPO.limits.rate_unit, OPPO.limits.quota_public)
    assert found == (5000, "token", 100_000)
    assert (
        OPPO.limits.quota_private,
        OPPO.limits.device_cap_private,
        OPPO.limits.device_cap_public,
    ) == (None, None, 2)
    assert OPPO.rights == {"oppo.private", "oppo.strong"}
    assert set(OPPO.endpoints) == {"OPPO", "OPPO_INTL", "OPPO_FEEDBACK"}
    assert (OPPO.check, OPPO.checked) == (None, None)


# ---------------------------------------------------------------- any note, any bytes


@given(text=texts.filter(str.strip))
def test_no_variable_of_a_template_is_cut_inside_a_grapheme(text):
    sent_ = wire(with_(title=text, body=text, sender_name=text, text=text))
    for shown in sent_["private_title_parameters"].values():
        assert kept_whole(text, shown, strip=True)
    for shown in sent_["private_content_parameters"].values():
        assert kept_whole(text, shown, strip=True)
