"""What holds for Huawei, HarmonyOS and Honor alike: any answer gives one outcome a token, any text
fits, no note breaks build.
"""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.model import Bucket, Vendor, Verdict
from tests.examples import examples
from tests.unit.vendors.pushkit_builders import (
    ACCESS,
    NOW_MS,
    answers,
    batch,
    batches,
    credential,
    note,
    texts,
    whole_graphemes,
)
from workers.vendors.harmony import HARMONY
from workers.vendors.honor import HONOR
from workers.vendors.huawei import HUAWEI
from workers.vendors.types import AccessRefused, AccessToken, VendorSpec
from workers.wire import NoAnswer

SPECS = [HUAWEI, HARMONY, HONOR]
every_vendor = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.vendor)
FULL = {
    Vendor.HUAWEI: {"badge_class": "a.Main", "receipt_id": "RCP1"},
    Vendor.HARMONY: {"receipt_id": "RCP1"},
    Vendor.HONOR: {"badge_class": "a.Main"},
}


def shown_in(spec: VendorSpec, body: dict) -> dict | None:
    inner = {
        Vendor.HUAWEI: lambda: body.get("message", {}).get("android", {}),
        Vendor.HARMONY: lambda: body.get("payload", {}),
        Vendor.HONOR: lambda: body.get("android", {}),
    }[spec.vendor]()
    return inner.get("notification")


def size_without_tokens(spec: VendorSpec, body: dict) -> int:
    holder = {
        Vendor.HUAWEI: body.get("message"),
        Vendor.HARMONY: body.get("target"),
        Vendor.HONOR: body,
    }[spec.vendor]
    holder["token"] = []
    return len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


@every_vendor
@settings(max_examples=examples(50), deadline=None)
@given(sent=batches, answer=answers)
def test_any_bytes_give_exactly_one_outcome_a_token(spec, sent, answer):
    outcomes = spec.classify(sent, answer)
    assert len(outcomes) == len(sent.items)
    for outcome in outcomes:
        assert isinstance(outcome.verdict, Verdict)
        assert outcome.status == str(answer.status)
        assert len(outcome.words) <= 200
        assert outcome.attempts_max is None or outcome.attempts_max >= 1


@every_vendor
@settings(max_examples=examples(50), deadline=None)
@given(sent=batches)
def test_build_takes_any_note_and_every_token_is_in_the_request(spec, sent):
    request = spec.build(sent, credential(spec.vendor, **FULL[spec.vendor]), ACCESS)
    body = json.loads(request.body)
    tokens = [one.target.token for one in sent.items]
    assert tokens in (
        body.get("token"),
        body.get("message", {}).get("token"),
        body.get("target", {}).get("token"),
    )
    assert request.headers["authorization"] == "Bearer access-1"
    if shown_in(spec, body):
        assert size_without_tokens(spec, body) <= 4096


@every_vendor
@settings(max_examples=examples(50), deadline=None)
@given(
    title=texts.filter(bool), body=texts.filter(bool), style=st.sampled_from([0, 1, 3]), ext=texts
)
def test_any_text_fits_and_is_never_cut_inside_a_grapheme(spec, title, body, style, ext):
    sent = batch(note_=note(title=title, body=body, ext=ext, vendor={"style": style}))
    shown = shown_in(spec, json.loads(spec.build(sent, credential(spec.vendor), ACCESS).body))
    assert whole_graphemes(shown["title"], title)
    assert whole_graphemes(shown["body"], body)
    assert shown["title"]
    assert shown["body"]


@every_vendor
def test_long_words_use_the_room_there_is(spec):
    built = spec.build(
        batch(note_=note(title="题" * 3000, body="文" * 3000)), credential(spec.vendor), ACCESS
    )
    body = json.loads(built.body)
    if spec is HONOR:  # its own limits are narrower
        shown = shown_in(spec, body)
        assert (len(shown["title"]), len(shown["body"])) == (40, 256)
    else:
        assert 4096 - 32 <= size_without_tokens(spec, body) <= 4096


@every_vendor
def test_what_stands_beside_the_words_goes_before_the_words_go(spec):
    dropped = note(
        ext="x" * 200,
        payload={"big": "y" * 5000},
        image="https://cdn.example.com/a.png",
        placement={"importance": "NORMAL"},
    )
    body = spec.build(batch(note_=dropped), credential(spec.vendor), ACCESS).body.decode()
    assert "x" * 200 in body
    assert "yyy" not in body
    assert "晚上一起吃饭吗？" in body
    nothing = spec.build(
        batch(note_=note(ext="x" * 5000)), credential(spec.vendor), ACCESS
    ).body.decode()
    assert "xxx" not in nothing
    assert "晚上一起吃饭吗？" in nothing


@every_vendor
def test_a_request_that_was_written_and_never_answered_is_uncertain(spec):
    sent = batch("a", "b")
    assert [o.verdict for o in spec.classify(sent, NoAnswer("timeout", True))] == [
        Verdict.UNCERTAIN
    ] * 2
    assert [o.verdict for o in spec.classify(sent, NoAnswer("refused", False))] == [
        Verdict.UNAVAILABLE
    ] * 2


@every_vendor
@settings(max_examples=examples(50), deadline=None)
@given(answer=answers)
def test_any_answer_of_the_access_call_is_a_token_or_a_refusal(spec, answer):
    read = spec.access.read(answer, NOW_MS)
    assert isinstance(read, AccessToken | AccessRefused)
    if isinstance(read, AccessRefused):
        assert read.verdict in (Verdict.CREDENTIAL_REFUSED, Verdict.THROTTLED, Verdict.UNAVAILABLE)


@every_vendor
def test_retries_carry_the_same_ids_and_two_messages_never_overwrite_each_other(spec):
    def ids(**over):
        body = json.loads(
            spec.build(batch(note_=note(**over)), credential(spec.vendor), ACCESS).body
        )
        shown = shown_in(spec, body)
        return shown.get("notify_id", shown.get("notifyId")), shown.get("tag")

    assert ids() == ids()
    assert ids()[0] != ids(collapse_id="m-1002")[0]
    assert 1 <= ids()[0] <= 2**31 - 1
    assert ids(collapse_id="x" * 300)[1] is None or len(ids(collapse_id="x" * 300)[1]) <= 64


@every_vendor
def test_one_push_has_its_push_id_as_tag_and_a_batch_one_of_the_event(spec):
    def tag(sent):
        text = spec.build(sent, credential(spec.vendor), ACCESS).body.decode()
        return next(
            text.split(f'"{name}":"')[1].split('"')[0]
            for name in ("bi_tag", "biTag")
            if name in text
        )

    assert tag(batch("a")) == "0123456789abcdef0123456789abcdef"
    many = tag(batch("a", "b"))
    assert many == tag(batch("c", "d", "e"))
    assert many != tag(batch("a", "b", note_=note(event_id="e-2")))
    assert len(many) == 32


#: V7 of Huawei's page, V4 of Honor's: the day of the quota is Shanghai's.
QUOTA_DAYS = {1_748_793_599_000: "20250601", 1_748_793_600_000: "20250602"}


@every_vendor
@pytest.mark.parametrize(("at_ms", "day"), QUOTA_DAYS.items())
def test_the_quota_day_is_that_of_the_vendors_calendar(spec, at_ms, day):
    import datetime

    at = datetime.datetime.fromtimestamp(at_ms / 1000, ZoneInfo(spec.limits.timezone))
    assert at.strftime("%Y%m%d") == day


@every_vendor
def test_limits_are_those_of_the_page(spec):
    assert spec.limits.rate_unit == "token"
    assert spec.limits.burst >= spec.request_tokens_max
    assert spec.limits.device_cap_public == 2
    assert spec.limits.device_cap_private == (3000 if spec is HUAWEI else None)
    assert set(spec.buckets) == set(Bucket)


@every_vendor
@pytest.mark.parametrize(
    ("token", "valid"),
    [
        ("T1", True),
        ("A" * 1024, True),
        ("A" * 1025, False),
        ("", False),
        ("a b", False),
        ("令", False),
        ("a\n", False),
    ],
)
def test_what_cannot_be_a_token_is_known_without_asking(spec, token, valid):
    assert spec.token_valid(token) is valid
