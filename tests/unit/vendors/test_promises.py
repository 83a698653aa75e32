"""What holds for every vendor: any answer is read, any note is built, and nothing is cut inside a
character.
"""

import json
import time
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.contracts import Notification
from common.model import Again, PushType, Verdict
from tests.examples import examples
from tests.unit.vendors.cases import ACCESS, NOW_MS, answer, batch, credential, item, note
from tests.unit.vendors.strategies import (
    FAMILY,
    FLAG,
    answered_notes,
    bodies,
    kept_whole,
    notes_for,
    statuses,
    texts,
)
from workers.vendors import VENDORS
from workers.vendors.answers import redact, retry_after_s
from workers.vendors.apns import APNS
from workers.vendors.fcm import FCM
from workers.vendors.harmony import HARMONY
from workers.vendors.honor import HONOR
from workers.vendors.huawei import HUAWEI
from workers.vendors.json_text import compact
from workers.vendors.meizu import MEIZU
from workers.vendors.meizu.request import utf16_units
from workers.vendors.oppo import OPPO
from workers.vendors.text import cut, shrink, utf8_bytes
from workers.vendors.types import AccessRefused, AccessToken, Credential, VendorSpec
from workers.vendors.vivo import VIVO
from workers.vendors.vivo.texts import formal, weight
from workers.vendors.xiaomi import XIAOMI
from workers.wire import NoAnswer, Request

every_spec = pytest.mark.parametrize("spec", VENDORS.values(), ids=VENDORS)
quick = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
#: A whole note is fifty draws.
dear = settings(quick, max_examples=examples(30))


def vendor_of(spec: VendorSpec) -> str:
    return spec.vendor.value


#: Their codes count whatever the status is.
HUAWEI_FAMILY = (HUAWEI, HARMONY, HONOR)


def account(spec: VendorSpec, full: bool = True) -> Credential:
    """full: with all that a vendor may allow or offer an account."""
    options = {"package": "com.example.im", "key_id": "k", "sub_account": "s"}
    if full:
        options |= {"badge_class": "a.Main", "receipt_id": "RCP1"}
    elif spec is HARMONY:
        options["app_id"] = ""
    return credential(spec.vendor, options, rights=spec.rights if full else ())


def built(spec: VendorSpec, about: Notification, *tokens: str, **of_batch: Any) -> Request:
    push = batch(about, tokens or ("aa11",), **of_batch)
    return spec.build(push, account(spec), ACCESS)


def sizes(spec: Any) -> list[int]:
    return [1] if spec.request_tokens_max == 1 else [1, max(2, spec.request_tokens_min_list)]


@every_spec
@quick
@given(
    about=answered_notes,
    status=statuses,
    body=bodies,
    retry_after=texts,
    again=st.sampled_from([None, *Again]),
)
def test_any_bytes_give_exactly_one_outcome_a_token(spec, about, status, body, retry_after, again):
    for size in sizes(spec):
        push = batch(about, tuple(f"a{n}" for n in range(size)), again=again)
        outcomes = spec.classify(push, answer(status, body, retry_after=retry_after))
        assert len(outcomes) == size
        for outcome in outcomes:
            assert isinstance(outcome.verdict, Verdict)
            assert outcome.status == str(status)
            assert len(outcome.words) <= 200
            assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 86_400
            assert outcome.attempts_max is None or outcome.attempts_max >= 1
            if spec not in HUAWEI_FAMILY:
                assert status < 300 or outcome.verdict is not Verdict.ACCEPTED
    if spec.checked is not None:
        assert spec.checked(answer(status, body)) in Verdict


HEADERS = {
    "7": 7.0,
    " 1.5 ": 1.5,
    "0": 0.0,
    "9999999": 86_400.0,
    "9" * 40: 86_400.0,  # a long wait, not none
    "": None,
    "NAN": None,
    "inf": None,
    "-1": None,
    "1_0": None,
    "30, 60": None,
    "9" * 4000: None,
    "soon": None,
}


@pytest.mark.parametrize(
    ("told", "seconds"), HEADERS.items(), ids=[f"[{name}]" for name in HEADERS]
)
def test_only_a_number_of_seconds_is_a_retry_after(told, seconds):
    assert retry_after_s(answer(503, b"", retry_after=told)) == seconds


def test_a_date_counts_from_the_answers_own_date():
    until = {"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT"}
    assert retry_after_s(answer(503, b"", **until)) is None
    assert retry_after_s(answer(503, b"", **until, date="Wed, 21 Oct 2026 07:28:00 GMT")) == 30.0
    assert retry_after_s(answer(503, b"", **until, date="Wed, 21 Oct 2026 08:28:00 GMT")) == 0.0


DATES = [
    "Wed, 21 Oct 2026 07:28:30 GMT",
    "Wednesday, 21-Oct-26 07:28:30 GMT",
    "Wed Oct 21 07:28:30 2026",
    "Wed, 21 Oct 2026 07:28:30 -0000",
    "Wed, 21 Oct 2026 07:28:30 +0000",
    "Wed, 21 Oct 2026 15:28:30 +0800",
]


@pytest.mark.parametrize(
    ("told", "seconds"),
    {
        "Wed, 21 Oct 2026 07:26:60 GMT": 29.0,  # a leap second is a time of HTTP (RFC 9110 5.6.7)
        "Wed, 21 Oct 2026 07:26:61 GMT": None,
        "Wed, 31 Feb 2026 07:26:30 GMT": None,
        "Sat, 21 Oct 2056 07:26:30 GMT": 86_400.0,
        "Sunday, 21-Oct-90 07:26:30 GMT": 0.0,
        "2026-10-21T07:28:30Z": None,  # no form of HTTP
    }.items(),
)
def test_odd_dates_are_a_wait_within_a_day_or_none(told, seconds):
    now = "Wed, 21 Oct 2026 07:26:30 GMT"
    assert retry_after_s(answer(503, b"", retry_after=told, date=now)) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("told", DATES)
def test_a_date_is_utc_whatever_the_zone_of_this_machine(told, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for now in ("Wed, 21 Oct 2026 07:26:30 GMT", "Wed Oct 21 07:26:30 2026"):
            assert retry_after_s(answer(503, b"", retry_after=told, date=now)) == 120.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "told",
    [
        "Wed, 99 Oct 2026 07:28:30 GMT",
        "Wed, 21 Oct",
        "0x10",
        "12 s",
        "٣",
        "1e3",
        "Wed, 21 Oct 2026 07:28:30 +9999999",
    ],
)
def test_no_junk_is_a_date(told):
    found = retry_after_s(answer(503, b"", retry_after=told, date="Wed, 21 Oct 2026 07:26:30 GMT"))
    assert found is None


@every_spec
@pytest.mark.parametrize("status", [200, 400, 403, 404, 410, 418])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad Gateway</html>",
        b'{"reason":"BrandNew"}',
        b'{"result":19999}',
        b'{"code":"999999"}',
        b'{"error":{"status":"BRAND_NEW"}}',
    ],
)
def test_what_nobody_documented_retires_no_token_and_pauses_nothing(spec, status, body):
    [outcome] = spec.classify(batch(), answer(status, body))
    assert outcome.verdict not in (Verdict.TOKEN_DEAD, Verdict.TOKEN_FOREIGN, Verdict.SILENCED)
    says_account = spec in (*HUAWEI_FAMILY, XIAOMI) and status in (403, 404)  # their pages do
    assert outcome.verdict is not Verdict.CREDENTIAL_REFUSED or says_account


@every_spec
def test_silence_is_uncertain_where_the_request_was_written_and_unavailable_else(spec):
    for sent, verdict in ((True, Verdict.UNCERTAIN), (False, Verdict.UNAVAILABLE)):
        for size in sizes(spec):
            outcomes = spec.classify(
                batch(tokens=tuple(f"a{n}" for n in range(size))), NoAnswer("timeout", sent)
            )
            assert [o.verdict for o in outcomes] == [verdict] * size


@pytest.mark.parametrize(
    "spec", [spec for spec in VENDORS.values() if spec.access is not None], ids=vendor_of
)
@quick
@given(status=statuses, body=bodies)
@example(status=100, body=b'{"access_token":"0"}')
def test_any_bytes_of_a_token_endpoint_give_a_token_or_a_reason(spec, status, body):
    got = spec.access.read(answer(status, body), NOW_MS)
    assert isinstance(got, AccessToken | AccessRefused)
    if isinstance(got, AccessRefused):
        assert got.verdict in (Verdict.CREDENTIAL_REFUSED, Verdict.THROTTLED, Verdict.UNAVAILABLE)
    else:
        assert status == 200
        assert NOW_MS < got.refresh_at_ms <= got.expires_at_ms


#: A body without a code, where the status decides; and what a broken server says beside its status,
#: which is no word on a push.
BESIDE = [
    *((VIVO, status, b"<html>", Verdict.UNKNOWN) for status in (200, 404)),
    *((VIVO, status, b"<html>", Verdict.ACCESS_EXPIRED) for status in (401, 403)),
    *((MEIZU, status, b"<html>", Verdict.UNKNOWN) for status in (200, 404)),
    *((spec, 429, b"<html>", Verdict.THROTTLED) for spec in (VIVO, MEIZU)),
    *((spec, 500, b"<html>", Verdict.UNAVAILABLE) for spec in (VIVO, MEIZU)),
    (VIVO, 502, {"result": 0, "taskId": "1"}, Verdict.UNAVAILABLE),
    (VIVO, 500, {"result": 10302}, Verdict.UNAVAILABLE),
    (VIVO, 404, {"result": 0, "taskId": "1"}, Verdict.UNKNOWN),  # a proxy's
    (VIVO, 400, {"result": 10206}, Verdict.CREDENTIAL_REFUSED),
    (MEIZU, 502, {"code": "200", "value": {}, "msgId": "m"}, Verdict.UNAVAILABLE),
    (MEIZU, 500, {"code": "110002", "value": ""}, Verdict.UNAVAILABLE),
    (MEIZU, 403, {"code": "200", "value": {}}, Verdict.UNKNOWN),
    (MEIZU, 400, {"code": "1006", "value": ""}, Verdict.CREDENTIAL_REFUSED),
]


@pytest.mark.parametrize(("spec", "status", "body", "verdict"), BESIDE)
def test_a_status_goes_before_the_word_of_a_broken_server(spec, status, body, verdict):
    [outcome] = spec.classify(batch(), answer(status, body))
    assert outcome.verdict is verdict


def decoded(spec: VendorSpec, request: Request) -> dict[str, Any]:
    """The message as the vendor reads it."""
    if spec not in (MEIZU, OPPO, XIAOMI):
        return dict(json.loads(request.body))
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))
    if spec is XIAOMI:
        return form
    inside = json.loads(form.get("messageJson") or form.get("message") or form["messages"])
    return dict(inside[0] if isinstance(inside, list) else inside)


def tokens_in(spec: VendorSpec, message: dict[str, Any]) -> list[str] | None:
    if spec in HUAWEI_FAMILY:
        holder = message if "token" in message else message.get("message") or message["target"]
        return list(holder["token"])
    return message["registration_id"].split(",") if spec is XIAOMI else None


@every_spec
@dear
@given(
    data=st.data(),
    badge=st.none() | st.integers(-5, 2**40),
    ttl_s=st.integers(-10, 2**33),
    again=st.sampled_from([None, *Again]),
    full=st.booleans(),
)
def test_any_note_can_be_built_and_comes_out_as_json(spec, data, badge, ttl_s, again, full):
    about = data.draw(notes_for[spec.vendor])
    for size in sizes(spec):
        tokens = tuple(f"a{n}" for n in range(size))
        push = batch(about, tokens, badge, ttl_s, again=again)
        request = spec.build(push, account(spec, full), ACCESS)
        message = decoded(spec, request)
        assert tokens_in(spec, message) in (None, list(tokens))
        if spec in HUAWEI_FAMILY and shown_in(spec, message):
            assert size_without_tokens(spec, message) <= 4096
        assert request.path.startswith("/")
        assert request.endpoint in spec.endpoints
        assert all(value.isprintable() for value in request.headers.values())
        if spec.refuse is not None:
            reasons = (None, "payload_too_large", "silent_not_supported")
            assert spec.refuse(push.items[0], credential(spec.vendor)) in reasons


def shown_in(spec: VendorSpec, message: dict[str, Any]) -> dict[str, Any]:
    """What a person may see: under the names `title` and `body`, whatever the vendor calls them."""
    if spec is APNS:
        return dict(message["aps"]["alert"])
    if spec in (FCM, OPPO):
        shown = message["message"] if spec is FCM else message
        shown = shown["notification"]
    elif spec is MEIZU:
        shown = message["noticeBarInfo"]
    elif spec is HUAWEI:
        shown = message.get("message", {}).get("android", {}).get("notification", {})
    elif spec in (HARMONY, HONOR):
        inner = "payload" if spec is HARMONY else "android"
        shown = message.get(inner, {}).get("notification", {})
    else:
        shown = message
    other = shown.get("content" if spec in (VIVO, OPPO, MEIZU) else "description")
    return shown if other is None else {"title": shown["title"], "body": other}


def size_without_tokens(spec: VendorSpec, message: dict[str, Any]) -> int:
    """The bytes that the limit of Huawei and Honor counts."""
    holder = {HUAWEI.vendor: "message", HARMONY.vendor: "target"}.get(spec.vendor)
    (message[holder] if holder else message)["token"] = []
    return len(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode())


def within_limits(spec: VendorSpec, request: Request, message: dict[str, Any]) -> bool:
    title, body = (shown_in(spec, message).get(name, "") for name in ("title", "body"))
    if spec is APNS:
        return len(request.body) <= 4096
    if spec is FCM:
        parts = message["message"]
        inner = (parts.get("data", {}), parts["notification"], parts["android"]["notification"])
        return sum(map(_size, inner)) <= 4096
    if spec is VIVO:
        short = weight(title) <= 40 and weight(body) <= 100
        return short and formal(title) and formal(body)
    if spec is MEIZU:
        return 1 <= utf16_units(title) <= 32 and 1 <= utf16_units(body) <= 100
    if spec is XIAOMI:
        return 0 < len(title) < 50 and 0 < len(body) < 128
    if spec is OPPO:
        return 0 < len(title) <= 50 and 0 < len(body) <= 128
    return bool(title and body) and size_without_tokens(spec, message) <= 4096


@every_spec
@quick
@given(
    title=texts,
    body=texts,
    subtitle=texts,
    ext=st.text(max_size=100) | texts,
    style=st.sampled_from([0, 1, 3]),
)
@example(title=FAMILY * 40, body=FAMILY * 40, subtitle="", ext="", style=0)
@example(title=FLAG * 40, body=FLAG * 40, subtitle="", ext="", style=0)
@example(title="\ud800" * 60, body="\ud800" * 60, subtitle="", ext="", style=0)
def test_words_stay_within_the_limits_and_are_never_cut_inside_a_character(
    spec, title, body, subtitle, ext, style
):
    about = note(title=title, body=body, subtitle=subtitle, ext=ext, vendor={"style": style})
    request = built(spec, about, badge=99)
    message = decoded(spec, request)
    shown = shown_in(spec, message)
    assert within_limits(spec, request, message)
    for name, given_, usual in (("title", title, "畅聊"), ("body", body, "您收到一条新消息")):
        instead = [usual, "新消息"] if spec is VIVO or not given_.strip() else []
        strip = spec in (MEIZU, XIAOMI, OPPO)
        text = shown.get(name, "")
        assert any(kept_whole(one, text, strip) for one in [given_, *instead]) or not given_


def _size(part: dict[str, Any]) -> int:
    return sum(
        utf8_bytes(key) + (utf8_bytes(value) if isinstance(value, str) else len(json.dumps(value)))
        for key, value in part.items()
    )


@every_spec
def test_a_vendor_can_t_be_told_another_target_credential_or_mode_by_raw_fields(spec):
    theirs = {
        "regId": "x",
        "token": "x",
        "pushIds": "x",
        "appId": 1,
        "requestId": "x",
        "pushMode": 1,
        "extra": {"callback": "x"},
        "validate_only": True,
        "message": {"token": "x"},
        "notification": {"tag": "x"},
        "aps": {"content-available": 1},
    }
    with_raw = built(spec, note(vendor_raw=theirs))
    without = built(spec, note())
    assert with_raw == without


@every_spec
def test_prepared_once_or_not_the_request_is_the_same(spec):
    if spec.prepare is None:
        assert spec not in (APNS, FCM)  # lists: the body is built once a request as it is
        return
    for badge in (None, 0, 7):
        push = batch(note(ext='{"a":1}'), badge=badge)
        ready = spec.prepare(push.items[0].note, credential(spec.vendor))
        prepared = type(push)(push.items, push.now_ms, None, ready)
        found = spec.build(prepared, credential(spec.vendor), ACCESS)
        assert found == spec.build(push, credential(spec.vendor), ACCESS)


@every_spec
@given(token=texts)
@quick
def test_what_is_no_token_is_known_before_a_request(spec, token):
    if spec.token_valid(token):
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token


@pytest.mark.parametrize("spec", [APNS, FCM], ids=["apns", "fcm"])
@given(
    tokens=st.lists(texts | st.sampled_from(["ab" * 32, "A9", "a" * 512, "a" * 4097, "a\n", ""]))
)
@quick
def test_tokens_of_a_round_are_valid_when_each_of_them_is(spec, tokens):
    assert spec.alike.tokens_valid(tokens) == all(map(spec.token_valid, tokens))


@every_spec
def test_doctor_knows_what_becomes_of_a_silent_push(spec):
    """With words of its sender, and without any."""
    about = note(push_type=PushType.SILENT, text="hi", fallback_body="a message")
    wordless = note(push_type=PushType.SILENT, text="a message", fallback_body="a message")
    refused = [
        spec.refuse is not None and spec.refuse(item(one), account(spec)) == "silent_not_supported"
        for one in (about, wordless)
    ]
    known = [spec.refuses_silent, spec.refuses_silent or spec.shows_silent]
    assert refused == known


def test_a_lone_surrogate_becomes_the_replacement_character_wherever_it_stands():
    found = compact({"\ud800": ["a\udfff", {"b": ("\ud800",)}, 1, None]})
    assert found == '{"\ufffd":["a\ufffd",{"b":["\ufffd"]},1,null]}'.encode()
    assert utf8_bytes("\ud800") == 3


def test_what_must_make_room_keeps_its_beginning():
    found = shrink({"body": "b" * 50, "title": "t" * 50}, 20, len)
    assert found == {"body": "b" * 29 + "…", "title": "t" * 50}
    seen = shrink({"body": "b" * 50, "title": "t" * 50}, 60, len)
    assert seen == {"body": "b" * 10 + "…", "title": "t" * 28 + "…"}
    assert shrink({"body": "b" * 50}, 500, len) == {"body": "b" * 10 + "…"}
    assert shrink({"body": "short"}, 500, len) == {"body": "short"}
    named = {"body": "Ann:" + "b" * 50, "title": "t" * 50}
    shown = shrink(named, 50, len, "Ann:")
    assert shown == {"body": "Ann:" + "b" * 10 + "…", "title": "t" * 38 + "…"}
    # the words before the name
    assert shrink(named, 500, len, "Ann:") == {"body": "b" * 10 + "…", "title": "t" * 10 + "…"}
    # one grapheme that fills a screen
    assert shrink({"body": "e" + "\u0301" * 500}, 400, len) == {"body": "…"}
    assert cut("abc", 0) == ""


def test_a_vendor_s_words_are_short_and_without_tokens():
    assert redact("bad token tok-9 here", ["tok-9"]) == "bad token <token> here"
    assert redact("ab abcd", ["ab", "abcd"]) == "<token> <token>"
    assert (len(redact("x" * 5000)), redact(None), redact(5)) == (200, "", "")


@pytest.mark.parametrize("size", [64, 163, 2_048])
def test_no_part_of_a_token_is_left_where_an_answer_repeats_hundreds_of_them(size):
    tokens = [f"{n:03}".ljust(size, "t") for n in range(500)]
    assert "ttt" not in redact(" ".join(tokens), tokens)
