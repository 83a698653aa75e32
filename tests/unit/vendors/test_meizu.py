"""Meizu: both meanings of its codes, the sign vectors, the form, receipts."""

import json
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts import Attempt
from common.model import Again, Bucket, Kind, PushType, Vendor, Verdict
from tests.page_vectors import MEIZU_SIGNS
from tests.unit.receipts.reading import read_any
from tests.unit.vendors.cases import NOW_MS, PUSH_ID, answer, batch, credential, note
from workers.vendors.ids import receipt_tag
from workers.vendors.meizu import codes as meizu_codes
from workers.vendors.meizu import request as meizu_request
from workers.vendors.meizu.receipts import read_receipts

NEW_CODE = "424242"


@pytest.mark.parametrize("code", [*meizu_codes.REQUEST_CODES, NEW_CODE])
def test_each_code_of_the_call_is_told_with_its_words(code):
    """Their verdicts: test_pages.py."""
    for said in (code, int(code)):
        [outcome] = meizu_codes.classify(
            batch(), answer(200, {"code": said, "message": "words", "value": "", "redirect": ""})
        )
        assert (outcome.code, outcome.words) == (code, "words")
        assert outcome.alarm == (code in (NEW_CODE, "300"))
        assert (outcome.verdict is Verdict.UNKNOWN) == (code == NEW_CODE)


def test_another_error_is_our_fault_after_three_tries():
    reply = answer(200, {"code": "500", "message": "words", "value": ""})
    before = [
        [Attempt(NOW_MS, "200", code, "", None) for code in ("110010", *["500"] * n)]
        for n in range(3)
    ]
    verdicts = [
        meizu_codes.classify(batch(attempts=tuple(met)), reply)[0].verdict for met in before
    ]
    assert verdicts == [Verdict.UNAVAILABLE, Verdict.UNAVAILABLE, Verdict.REJECTED]


@pytest.mark.parametrize(
    ("code", "verdict"), [*meizu_codes.TOKEN_CODES.items(), (NEW_CODE, Verdict.UNKNOWN)]
)
def test_each_code_of_a_token_has_its_verdict_and_the_rest_is_accepted(code, verdict):
    body = {"code": "200", "message": "", "value": {code: ["ID1"]}, "msgId": "c2ee"}
    named, other = meizu_codes.classify(batch(tokens=("ID1", "ID2")), answer(200, body))
    assert (named.verdict, named.code, named.alarm) == (verdict, code, verdict is Verdict.UNKNOWN)
    assert (other.verdict, other.code, other.vendor_message_id) == (Verdict.ACCEPTED, "200", "c2ee")


@pytest.mark.parametrize("code", ["110002", "110003"])
def test_a_dead_token_of_a_whole_call_is_looked_for_one_by_one(code):
    outcomes = meizu_codes.classify(
        batch(tokens=("a", "b")), answer(200, {"code": code, "value": ""})
    )
    assert [(o.verdict, o.again) for o in outcomes] == [(Verdict.UNAVAILABLE, Again.SINGLY)] * 2


VALUES = {
    "nobody named": ({}, [Verdict.ACCEPTED] * 3),
    "an empty text": ("", [Verdict.ACCEPTED] * 3),
    "two codes": (
        {"110002": ["a"], "110010": ["b"]},
        [Verdict.TOKEN_DEAD, Verdict.SILENCED, Verdict.ACCEPTED],
    ),
    "one text for a list": (
        {"110002": "a"},
        [Verdict.TOKEN_DEAD, Verdict.ACCEPTED, Verdict.ACCEPTED],
    ),
    "strangers": ({"110002": ["zz", None, 5]}, [Verdict.ACCEPTED] * 3),
    "somebody, and nobody says who": ({"110002": [{"id": "a"}]}, [Verdict.UNKNOWN] * 3),
    "tokens as keys": (
        {"110002": {"a": 1}},
        [Verdict.TOKEN_DEAD, Verdict.ACCEPTED, Verdict.ACCEPTED],
    ),
    "a list of objects": (
        [{"110002": ["a"]}, {"110010": "b"}],
        [Verdict.TOKEN_DEAD, Verdict.SILENCED, Verdict.ACCEPTED],
    ),
    "without a code": (["a,b"], [Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.ACCEPTED]),
    "a code without tokens": ({"110002": []}, [Verdict.ACCEPTED] * 3),
    "201 for some": ({"201": ["a", "b"]}, [Verdict.REJECTED, Verdict.REJECTED, Verdict.ACCEPTED]),
    "201 for all": ({"201": ["a", "b", "c"]}, [Verdict.CREDENTIAL_REFUSED] * 3),
}


@pytest.mark.parametrize(("value", "verdicts"), VALUES.values(), ids=VALUES)
def test_partial_answers(value, verdicts):
    outcomes = meizu_codes.classify(
        batch(tokens=("a", "b", "c")), answer(200, {"code": "200", "value": value, "msgId": "m"})
    )
    assert [o.verdict for o in outcomes] == verdicts


# ---------------------------------------------------------------- sign


@pytest.mark.parametrize(("form", "secret", "wanted"), MEIZU_SIGNS.values(), ids=MEIZU_SIGNS)
def test_sign_vectors(form, secret, wanted):
    assert meizu_request.sign(form, secret) == wanted


# ---------------------------------------------------------------- the form


def form_of(about=None, **of_batch) -> dict[str, str]:
    request = meizu_request.build(
        batch(about, **of_batch), credential(Vendor.MEIZU, {"app_id": "110001"}), None
    )
    fields = parse_qs(request.body.decode(), strict_parsing=True).items()
    return {name: values[0] for name, values in fields}


def message_of(about=None, **of_batch) -> dict:
    return json.loads(form_of(about, **of_batch)["messageJson"])


TYPES = {
    "chat": ({"placement": {"notice_msg_type": "1"}}, 1),
    "a chat with no placement": ({}, 1),
    "marketing": ({"bucket": Bucket.PUBLIC, "placement": {"notice_msg_type": "0"}}, 0),
    "marketing with no placement": ({"bucket": Bucket.PUBLIC}, 0),
    "marketing is not lifted": (
        {
            "bucket": Bucket.PUBLIC,
            "placement": {"notice_msg_type": "0"},
            "vendor": {"notice_msg_type": 1},
        },
        0,
    ),
    "lowered by its sender": (
        {"placement": {"notice_msg_type": "1"}, "vendor": {"notice_msg_type": 0}},
        0,
    ),
}


@pytest.mark.parametrize(("changes", "kind"), TYPES.values(), ids=TYPES)
def test_notice_type(changes, kind):
    assert message_of(note(**changes))["noticeBarInfo"]["noticeMsgType"] == kind


LIVES = [
    (0, {"offLine": 0}),
    (-5, {"offLine": 0}),
    (1, {"offLine": 1, "validTime": 1}),
    (3600, {"offLine": 1, "validTime": 1}),
    (3601, {"offLine": 1, "validTime": 2}),
    (999_999, {"offLine": 1, "validTime": 72}),
]


@pytest.mark.parametrize(("ttl_s", "info"), LIVES)
def test_seconds_become_hours(ttl_s, info):
    assert message_of(ttl_s=ttl_s)["pushTimeInfo"] == info


@pytest.mark.parametrize(
    "about", [note(sound_android="none"), note(kind=Kind.RECALL)], ids=["none", "recall"]
)
def test_silence(about):
    found = message_of(about)["advanceInfo"]["notificationType"]
    assert found == {"vibrate": 0, "lights": 1, "sound": 0}
    assert "notificationType" not in message_of(note())["advanceInfo"]


def test_words_are_never_empty():
    found = message_of(note(title=" ", body="", app_name="", fallback_body=""))["noticeBarInfo"]
    assert found == {"noticeMsgType": 1, "title": "新消息", "content": "您收到一条新消息"}


def test_words_are_cut_at_32_and_100():
    bar = message_of(note(title="题" * 33, body="👍" * 51))["noticeBarInfo"]
    assert (bar["title"], bar["content"]) == ("题" * 31 + "…", "👍" * 49 + "…")


@given(first=st.text(max_size=30), second=st.text(max_size=30))
def test_a_repeat_overwrites_and_another_message_does_not(first, second):
    keys = [meizu_request.notify_key(one) for one in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)
    assert all(
        len(key) == 8 and key.replace("-", "a").replace("_", "a").isalnum() and key.isascii()
        for key in keys
    )


def test_receipts_are_asked_for_only_with_an_address():
    url = "https://push.example.com/r/meizu/3f9c"
    assert "extra" not in message_of()
    assert "extra" not in message_of(callback_url=url + "x" * 100)
    found = message_of(callback_url=url)["extra"]
    assert found == {"callback": url, "callback.param": PUSH_ID, "callback.type": "3"}
    push = batch(tokens=("a", "b"))
    seen = message_of(tokens=("a", "b"), callback_url=url)["extra"]["callback.param"]
    assert seen == receipt_tag(push)


def test_a_silent_push_is_refused_before_a_request():
    silent = batch(note(push_type=PushType.SILENT)).items[0]
    assert meizu_request.refuse(silent, credential(Vendor.MEIZU)) == "silent_not_supported"
    assert meizu_request.refuse(batch().items[0], credential(Vendor.MEIZU)) is None


CHECKS = [
    ("110003", Verdict.ACCEPTED),
    ("200", Verdict.ACCEPTED),
    ("1006", Verdict.CREDENTIAL_REFUSED),
    ("110000", Verdict.CREDENTIAL_REFUSED),
    ("1003", Verdict.UNAVAILABLE),
]


@pytest.mark.parametrize(("code", "verdict"), CHECKS)
def test_a_credential_is_proved_without_a_push(code, verdict):
    request = meizu_request.check(credential(Vendor.MEIZU), None)
    assert parse_qs(request.body.decode())["pushIds"] == ["0"]
    assert meizu_codes.checked(answer(200, {"code": code, "value": ""})) is verdict


# ---------------------------------------------------------------- receipts


def receipts(value) -> list[tuple]:
    raw = urlencode({"cb": json.dumps(value), "access_token": "x"}).encode()
    found = read_any(read_receipts, raw)
    return [(r.token, r.tag, r.request_id, r.status, r.at_ms, r.verdict) for r in found]


RECEIPTS = {
    "delivered": (
        {"m-1-1": {"param": "p", "type": 1, "targets": ["a", "b"]}},
        [("a", "p", "m-1", "delivered", 0, None), ("b", "p", "m-1", "delivered", 0, None)],
    ),
    "clicked, type in the key only": (
        {"m-2": {"param": "p", "targets": ["a"]}},
        [("a", "p", "m", "clicked", 0, None)],
    ),
    "new type": ({"m-9": {"targets": ["a"]}}, [("a", "", "m", "other", 0, None)]),
    "one target as text": ({"m-1": {"targets": "a"}}, [("a", "", "m", "delivered", 0, None)]),
    "no targets": ({"m-1": {}, "n-1": 5}, []),
}


@pytest.mark.parametrize(("body", "wanted"), RECEIPTS.values(), ids=RECEIPTS)
def test_receipts_are_read(body, wanted):
    assert receipts(body) == wanted
