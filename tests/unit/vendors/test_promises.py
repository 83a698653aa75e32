"""What holds for every vendor: any answer is read, any note is built, and nothing is cut inside a
character.
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.model import Again, Bucket, Kind, PushType, Verdict
from tests.unit.vendors.cases import (
    ACCESS,
    NOW_MS,
    answer,
    batch,
    credential,
    json_values,
    kept_whole,
    note,
    texts,
)
from workers.vendors.account_secrets import secret_text
from workers.vendors.answers import redact, retry_after_s
from workers.vendors.apns import APNS
from workers.vendors.fcm import FCM
from workers.vendors.json_text import compact
from workers.vendors.meizu import MEIZU
from workers.vendors.meizu.request import utf16_units
from workers.vendors.text import cut, shrink, utf8_bytes
from workers.vendors.types import AccessRefused, AccessToken, CredentialError
from workers.vendors.vivo import VIVO
from workers.vendors.vivo.texts import formal, weight
from workers.wire import NoAnswer

SPECS = {"apns": APNS, "fcm": FCM, "vivo": VIVO, "meizu": MEIZU}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

STATUSES = st.sampled_from(
    [100, 200, 201, 204, 301, 400, 401, 403, 404, 405, 410, 413, 429, 500, 502, 503, 504, 599]
)
ROOTS = [
    "reason",
    "timestamp",
    "error",
    "name",
    "result",
    "desc",
    "taskId",
    "invalidUser",
    "invalidUsers",
    "code",
    "value",
    "message",
    "msgId",
    "authToken",
    "access_token",
    "expires_in",
]
near_misses = st.dictionaries(
    st.sampled_from(ROOTS),
    json_values | st.sampled_from([0, "0", 200, "200", 10302, "Unregistered"]),
    max_size=5,
)
JUNK = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'""',
    b"<html><body>502</body></html>",
    b'{"reason":"Unreg',
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"error":{"details":[1]}}',
]
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(JUNK),
    near_misses.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps({"error": value}).encode()),
)


def sizes(spec: Any) -> list[int]:
    return [1] if spec.request_tokens_max == 1 else [1, max(2, spec.request_tokens_min_list)]


@every_spec
@quick
@given(status=STATUSES, body=bodies, retry_after=texts)
def test_any_bytes_give_exactly_one_outcome_a_token(spec, status, body, retry_after):
    for size in sizes(spec):
        push = batch(tokens=tuple(f"a{n}" for n in range(size)))
        outcomes = spec.classify(push, answer(status, body, retry_after=retry_after))
        assert len(outcomes) == size
        assert all(isinstance(o.verdict, Verdict) and len(o.words) <= 200 for o in outcomes)
        assert all(o.retry_after_s is None or 0 <= o.retry_after_s <= 86_400 for o in outcomes)


HEADERS = {
    "7": 7.0,
    " 1.5 ": 1.5,
    "0": 0.0,
    "9999999": 86_400.0,
    "": None,
    "NAN": None,
    "inf": None,
    "-1": None,
    "1_0": None,
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
]


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
    assert (
        retry_after_s(answer(503, b"", retry_after=told, date="Wed, 21 Oct 2026 07:26:30 GMT"))
        is None
    )


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
    assert outcome.verdict not in (
        Verdict.TOKEN_DEAD,
        Verdict.TOKEN_FOREIGN,
        Verdict.SILENCED,
        Verdict.CREDENTIAL_REFUSED,
    )


@every_spec
def test_silence_is_uncertain_where_the_request_was_written_and_unavailable_else(spec):
    for sent, verdict in ((True, Verdict.UNCERTAIN), (False, Verdict.UNAVAILABLE)):
        for size in sizes(spec):
            outcomes = spec.classify(
                batch(tokens=tuple(f"a{n}" for n in range(size))), NoAnswer("timeout", sent)
            )
            assert [o.verdict for o in outcomes] == [verdict] * size


@every_spec
@quick
@given(status=STATUSES, body=bodies)
def test_any_bytes_of_a_token_endpoint_give_a_token_or_a_reason(spec, status, body):
    if spec.access is None:
        return
    got = spec.access.read(answer(status, body), NOW_MS)
    assert isinstance(got, AccessToken | AccessRefused)
    if isinstance(got, AccessRefused):
        assert got.verdict in (Verdict.CREDENTIAL_REFUSED, Verdict.THROTTLED, Verdict.UNAVAILABLE)
    else:
        assert status == 200
        assert NOW_MS < got.refresh_at_ms <= got.expires_at_ms


notes = st.builds(
    note,
    title=texts,
    subtitle=st.none() | texts,
    body=texts,
    app_name=texts,
    fallback_body=texts,
    collapse_id=texts,
    ext=st.none() | texts,
    payload=st.none() | st.dictionaries(texts, json_values, max_size=3),
    image=st.none() | texts,
    sound_ios=st.none() | texts,
    sound_android=st.none() | texts,
    thread_id=st.none() | texts,
    hidden=st.booleans(),
    kind=st.sampled_from(Kind),
    push_type=st.sampled_from(PushType),
    bucket=st.sampled_from(Bucket),
    expires_at_ms=st.integers(-1, 2**53),
    placement=st.dictionaries(
        st.sampled_from(
            [
                "priority",
                "interruption_level",
                "channel_id",
                "classification",
                "category",
                "notice_msg_type",
            ]
        ),
        texts,
        max_size=3,
    ),
    vendor=st.dictionaries(
        st.sampled_from(
            [
                "title",
                "interruption_level",
                "mutable_content",
                "badge",
                "category",
                "critical",
                "channel_id",
                "priority",
                "image",
                "data_only",
                "classification",
                "notify_type",
                "push_mode",
                "add_badge",
                "notice_msg_type",
            ]
        ),
        json_values,
        max_size=4,
    ),
    vendor_raw=st.dictionaries(
        st.sampled_from(
            [
                "aps",
                "notification",
                "fcm_v1",
                "parameters",
                "notifyType",
                "skipType",
                "regId",
                "requestId",
                "pushMode",
                "extra",
                "classification",
                "category",
            ]
        ),
        json_values
        | st.dictionaries(
            st.sampled_from(
                [
                    "alert",
                    "badge",
                    "sound",
                    "interruption-level",
                    "title",
                    "body",
                    "tag",
                    "channel_id",
                    "ext",
                ]
            ),
            json_values,
            max_size=3,
        ),
        max_size=3,
    ),
)


def decoded(spec: Any, body: bytes) -> dict[str, Any]:
    """The message as the vendor reads it."""
    if spec is MEIZU:
        form = parse_qs(body.decode(), keep_blank_values=True)
        return json.loads(form["messageJson"][0])
    return json.loads(body)


@every_spec
@quick
@given(
    about=notes,
    badge=st.none() | st.integers(-5, 2**40),
    ttl_s=st.integers(-5, 2**33),
    again=st.sampled_from([None, *Again]),
)
def test_any_note_can_be_built_and_comes_out_as_json(spec, about, badge, ttl_s, again):
    for size in sizes(spec):
        push = batch(about, tuple(f"a{n}" for n in range(size)), badge, ttl_s, again=again)
        request = spec.build(push, credential(spec.vendor), ACCESS)
        assert isinstance(decoded(spec, request.body), dict)
        assert request.path.startswith("/")
        assert request.endpoint in spec.endpoints
        assert all(value.isprintable() for value in request.headers.values())
        assert spec.refuse(push.items[0]) in (None, "payload_too_large", "silent_not_supported")


@every_spec
@quick
@given(title=texts, body=texts, subtitle=texts, ext=st.text(max_size=100))
def test_words_stay_within_the_limits_and_are_never_cut_inside_a_character(
    spec, title, body, subtitle, ext
):
    about = note(title=title, body=body, subtitle=subtitle, ext=ext)
    request = spec.build(batch(about, badge=99), credential(spec.vendor), ACCESS)
    message = decoded(spec, request.body)
    if spec is APNS:
        assert len(request.body) <= 4096
        shown, allowed = message["aps"]["alert"], {"title": [title], "body": [body]}
    elif spec is FCM:
        parts = message["message"]
        assert (
            sum(_size(parts.get(name, {})) for name in ("data", "notification"))
            + _size(parts["android"]["notification"])
            <= 4096
        )
        shown, allowed = parts["notification"], {"title": [title, "畅聊"], "body": [body]}
    elif spec is VIVO:
        assert weight(message["title"]) <= 40
        assert weight(message["content"]) <= 100
        assert formal(message["title"])
        assert formal(message["content"])
        shown = {"title": message["title"], "body": message["content"]}
        allowed = {"title": [title, "畅聊"], "body": [body, "您收到一条新消息"]}
    else:
        bar = message["noticeBarInfo"]
        assert 1 <= utf16_units(bar["title"]) <= 32
        assert 1 <= utf16_units(bar["content"]) <= 100
        shown = {"title": bar["title"], "body": bar["content"]}
        allowed = {"title": [title.strip(), "畅聊"], "body": [body.strip(), "您收到一条新消息"]}
    for name, text in shown.items():
        if name in allowed:
            assert any(kept_whole(one, text) for one in allowed[name])


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
    with_raw = spec.build(batch(note(vendor_raw=theirs)), credential(spec.vendor), ACCESS)
    without = spec.build(batch(note()), credential(spec.vendor), ACCESS)
    assert with_raw == without


@every_spec
def test_prepared_once_or_not_the_request_is_the_same(spec):
    if spec.prepare is None:
        assert spec in (VIVO, MEIZU)  # lists: the body is built once a request as it is
        return
    for badge in (None, 0, 7):
        push = batch(note(ext='{"a":1}'), badge=badge)
        ready = spec.prepare(push.items[0].note, credential(spec.vendor))
        prepared = type(push)(push.items, push.now_ms, None, ready)
        assert spec.build(prepared, credential(spec.vendor), ACCESS) == spec.build(
            push, credential(spec.vendor), ACCESS
        )


@every_spec
@given(token=texts)
@quick
def test_what_is_no_token_is_known_before_a_request(spec, token):
    if spec.token_valid(token):
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token


def test_a_lone_surrogate_becomes_the_replacement_character_wherever_it_stands():
    assert (
        compact({"\ud800": ["a\udfff", {"b": ("\ud800",)}, 1, None]})
        == '{"\ufffd":["a\ufffd",{"b":["\ufffd"]},1,null]}'.encode()
    )
    assert utf8_bytes("\ud800") == 3


def test_what_must_make_room_keeps_its_beginning():
    assert shrink({"body": "b" * 50, "title": "t" * 50}, 20, len) == {
        "body": "b" * 29 + "…",
        "title": "t" * 50,
    }
    assert shrink({"body": "b" * 50, "title": "t" * 50}, 60, len) == {
        "body": "b" * 10 + "…",
        "title": "t" * 28 + "…",
    }
    assert shrink({"body": "b" * 50}, 500, len) == {"body": "b" * 10 + "…"}
    assert shrink({"body": "short"}, 500, len) == {"body": "short"}
    named = {"body": "Ann:" + "b" * 50, "title": "t" * 50}
    assert shrink(named, 50, len, "Ann:") == {
        "body": "Ann:" + "b" * 10 + "…",
        "title": "t" * 38 + "…",
    }
    assert shrink(named, 500, len, "Ann:") == {
        "body": "b" * 10 + "…",
        "title": "t" * 10 + "…",
    }  # the words before the name
    assert shrink({"body": "e" + "\u0301" * 500}, 400, len) == {
        "body": "…"
    }  # one grapheme that fills a screen
    assert cut("abc", 0) == ""


def test_a_vendor_s_words_are_short_and_without_tokens():
    assert redact("bad token tok-9 here", ["tok-9"]) == "bad token <token> here"
    assert redact("ab abcd", ["ab", "abcd"]) == "<token> <token>"
    assert (len(redact("x" * 5000)), redact(None), redact(5)) == (200, "", "")


@pytest.mark.parametrize("size", [64, 163, 2_048])
def test_no_part_of_a_token_is_left_where_an_answer_repeats_hundreds_of_them(size):
    tokens = [f"{n:03}".ljust(size, "t") for n in range(500)]
    assert "ttt" not in redact(" ".join(tokens), tokens)


@pytest.mark.parametrize(
    "files",
    [{}, {"app_secret": b"\xff"}, {"app_secret": b"  "}],
    ids=["missing", "not text", "empty"],
)
def test_a_secret_file_that_can_t_be_used_is_named(files):
    with pytest.raises(CredentialError, match="--app-secret-file"):
        secret_text(files, "app_secret")
