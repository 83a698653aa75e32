"""Honor: every row of the page's code table, the vectors, the payloads by class and right."""

from __future__ import annotations

import hashlib
import json

import pytest

from common.model import Again, Bucket, Kind, PushType, Vendor, Verdict
from tests.unit.vendors.pushkit_builders import (
    ACCESS,
    NOW_MS,
    PUSH_ID,
    batch,
    brief,
    credential,
    item,
    note,
    reply,
)
from workers.vendors.honor import HONOR
from workers.vendors.ids import number_id
from workers.vendors.json_text import compact
from workers.vendors.types import AccessRefused, AccessToken, CredentialError, RequestBatch

V = Verdict
CRED = credential(Vendor.HONOR)

OK = (V.ACCEPTED, None, None, False)
FIX = (V.REJECTED, None, None, False)
LATER = (V.UNAVAILABLE, None, None, False)
#: code in the body, at HTTP 200 -> (verdict, again, attempts_max, alarm) of a single token.
CODES = {
    "200": OK,
    "80000000": OK,
    "0": OK,
    "400": FIX,
    "401": (V.ACCESS_EXPIRED, None, 2, False),
    "403": (V.CREDENTIAL_REFUSED, None, None, False),
    "404": (V.CREDENTIAL_REFUSED, None, None, False),
    "413": FIX,
    "429": (V.THROTTLED, None, None, False),
    "500": LATER,
    "502": LATER,
    "503": (V.THROTTLED, None, None, False),
    "504": LATER,
    **dict.fromkeys(("80100001", "80100003", "80100004", "80300008", "80300010"), FIX),
    "80200001": (V.ACCESS_EXPIRED, None, 2, False),
    "80200003": (V.ACCESS_EXPIRED, None, 2, False),
    "80300002": (V.CREDENTIAL_REFUSED, None, None, False),
    "80300007": (V.TOKEN_DEAD, None, None, False),
    "80600003": LATER,
    "81000001": LATER,
    "418": (V.UNKNOWN, None, None, True),
    "12345": (V.UNAVAILABLE, None, 3, True),
    "80399999": (V.UNAVAILABLE, None, 3, True),
}


@pytest.mark.parametrize("as_number", [True, False])
@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=CODES)
def test_each_code_has_its_meaning_as_number_and_as_text(code, expected, as_number):
    [outcome] = HONOR.classify(
        batch("H1"), reply({"code": int(code) if as_number else code, "message": "x"})
    )
    assert brief(outcome) == expected
    assert (outcome.code, outcome.words) == (code, "x")


@pytest.mark.parametrize("status", [400, 401, 500])
def test_the_bodys_code_wins_over_the_status(status):
    assert brief(HONOR.classify(batch("H1"), reply({"code": 200, "data": None}, status))[0]) == OK
    assert HONOR.classify(batch("H1"), reply({"code": 429}, status))[0].verdict is V.THROTTLED


#: HTTP status -> meaning where the body has no code.
STATUSES = {
    **{status: CODES[str(status)] for status in (400, 401, 403, 404, 413, 429, 500, 502, 503, 504)},
    200: (V.UNCERTAIN, None, None, True),  # a page of a proxy: it may have been accepted
    204: (V.UNCERTAIN, None, None, True),
    302: (V.UNCERTAIN, None, None, True),
    409: (V.UNKNOWN, None, None, True),
    590: (V.UNAVAILABLE, None, 3, True),
}


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b'{"message":"x"}', b'{"code":null}'])
@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_a_status_counts_where_the_body_has_no_code(status, expected, body):
    assert [brief(o) for o in HONOR.classify(batch("a", "b"), reply(body, status))] == [
        expected
    ] * 2


def test_an_unknown_code_with_a_4xx_rings_and_is_final():
    assert brief(HONOR.classify(batch("a"), reply({"code": 77}, 422))[0]) == (
        V.UNKNOWN,
        None,
        None,
        True,
    )


def test_a_throttle_waits_as_long_as_the_vendor_says():
    assert (
        HONOR.classify(batch("a"), reply({"code": 429}, 429, retry_after="9"))[0].retry_after_s == 9
    )


V5 = {
    "code": 200,
    "message": "success",
    "data": {
        "sendResult": True,
        "requestId": "r-1",
        "failTokens": ["H2", "H3"],
        "expireTokens": ["H3"],
    },
}
SENT = ["H1", "H2", "H3"]
#: name -> (body, verdicts for H1, H2, H3)
LISTS = {
    "V5": (V5, [V.ACCEPTED, V.UNAVAILABLE, V.TOKEN_DEAD]),
    "V5 as partial success": (
        {**V5, "code": "80100000"},
        [V.ACCEPTED, V.UNAVAILABLE, V.TOKEN_DEAD],
    ),
    "lists are null": (
        {"code": 200, "data": {"sendResult": True, "failTokens": None, "expireTokens": None}},
        [V.ACCEPTED] * 3,
    ),
    "lists are empty": (
        {"code": 200, "data": {"failTokens": [], "expireTokens": []}},
        [V.ACCEPTED] * 3,
    ),
    "no data": ({"code": 0}, [V.ACCEPTED] * 3),
    "sendResult false and no lists": (
        {"code": 200, "data": {"sendResult": False}},
        [V.UNAVAILABLE] * 3,
    ),
    "sendResult false with a list": (
        {"code": 200, "data": {"sendResult": False, "expireTokens": ["H1"]}},
        [V.TOKEN_DEAD, V.ACCEPTED, V.ACCEPTED],
    ),
    "a token nobody sent": ({"code": 200, "data": {"expireTokens": ["zzz"]}}, [V.ACCEPTED] * 3),
    "expired only": (
        {"code": 200, "data": {"expireTokens": ["H2"]}},
        [V.ACCEPTED, V.TOKEN_DEAD, V.ACCEPTED],
    ),
    "partial success without lists": ({"code": 80100000, "data": {}}, [V.UNKNOWN] * 3),
    "junk lists": (
        {"code": 200, "data": {"failTokens": "H1", "expireTokens": [1, None, "H2"]}},
        [V.ACCEPTED, V.TOKEN_DEAD, V.ACCEPTED],
    ),
}


@pytest.mark.parametrize(("body", "verdicts"), LISTS.values(), ids=LISTS)
def test_the_lists_are_read_token_by_token(body, verdicts):
    outcomes = HONOR.classify(batch(*SENT), reply(body))
    assert [o.verdict for o in outcomes] == verdicts
    assert all(o.attempts_max == (3 if o.verdict is V.UNAVAILABLE else None) for o in outcomes)


def test_a_token_that_a_list_names_is_told_by_which_one_not_success():
    words = [o.words for o in HONOR.classify(batch(*SENT), reply(V5))]
    assert words == ["success", "failTokens names this token", "expireTokens names this token"]


def test_the_request_id_is_kept_for_receipts():
    assert [o.vendor_message_id for o in HONOR.classify(batch(*SENT), reply(V5))] == ["r-1"] * 3


def test_vector_6():
    [ok] = HONOR.classify(batch("H1"), reply({"code": "200", "msg": "ok", "data": None}))
    assert (ok.verdict, ok.words) == (V.ACCEPTED, "ok")
    [first] = HONOR.classify(batch("H1"), reply({"code": 401, "message": "x"}))
    [second] = HONOR.classify(
        RequestBatch((item("H1", told=[("401", "401")]),), NOW_MS),
        reply({"code": 401, "message": "x"}),
    )
    assert (first.verdict, second.verdict) == (V.ACCESS_EXPIRED, V.CREDENTIAL_REFUSED)
    [unknown] = HONOR.classify(batch("H1"), reply({"code": 12345, "message": "x"}))
    assert (unknown.verdict, unknown.attempts_max, unknown.alarm) == (V.UNAVAILABLE, 3, True)
    [at_last] = HONOR.classify(
        RequestBatch((item("H1", told=[("200", "12345")] * 2),), NOW_MS),
        reply({"code": 12345, "message": "x"}),
    )
    assert (at_last.verdict, at_last.alarm) == (V.UNKNOWN, True)


def test_all_invalid_is_believed_only_of_a_token_alone():
    answer = reply({"code": 80300007})
    assert [(o.verdict, o.again) for o in HONOR.classify(batch("a", "b"), answer)] == [
        (V.UNAVAILABLE, Again.SINGLY)
    ] * 2
    assert HONOR.classify(batch("a"), answer)[0].verdict is V.TOKEN_DEAD


# ---------------------------------------------------------------- vectors


def test_vector_1_bytes_of_a_body():
    shown = {
        "title": "张三",
        "body": "晚上一起吃饭吗？",
        "clickAction": {"type": 3},
        "importance": "NORMAL",
        "style": 0,
        "notifyId": 42,
        "tag": "c2c-42",
        "badge": {"addNum": 1, "badgeClass": "com.example.im.MainActivity"},
    }
    android = {"ttl": "86400s", "biTag": "m-1001", "targetUserType": 0, "notification": shown}
    body = {"data": '{"conv":"c2c-42","mid":"m-1001"}', "android": android}
    raw = compact({**body, "token": ["H1"]})
    assert len(raw) == 347
    assert (
        hashlib.sha256(raw).hexdigest()
        == "e48a47ffad7bcc763d80743f5bfec7881b12eb0dd5800defea43496efb6759ae"
    )
    assert len(compact({**body, "token": []})) == 343


def test_vector_2_token_form():
    request = HONOR.access.ask(CRED, NOW_MS)
    assert (request.endpoint, request.path) == ("HONOR_OAUTH", "/auth/token")
    assert (
        request.body
        == b"grant_type=client_credentials&client_id=100000001&client_secret=a%2Bb%2Fc%3D"
    )


def test_vector_3_timestamp_is_that_of_the_sending():
    headers = HONOR.build(batch("H1"), CRED, ACCESS).headers
    assert headers["timestamp"] == "1748793600000"
    assert (
        HONOR.build(RequestBatch((item("H1"),), NOW_MS + 5), CRED, ACCESS).headers["timestamp"]
        == "1748793600005"
    )


ACCESS_ANSWERS = {
    "a token": (
        reply({"access_token": "eyJ", "expires_in": 3600, "token_type": "Bearer"}),
        AccessToken("eyJ", NOW_MS + 3_300_000, NOW_MS + 3_600_000),
    ),
    "24 hours": (
        reply({"access_token": "eyJ", "expires_in": "86400"}),
        AccessToken("eyJ", NOW_MS + 86_100_000, NOW_MS + 86_400_000),
    ),
    "life missing": (
        reply({"access_token": "eyJ"}),
        AccessToken("eyJ", NOW_MS + 3_300_000, NOW_MS + 3_600_000),
    ),
    "invalid_client": (reply({"error": "invalid_client"}, 401), V.CREDENTIAL_REFUSED),
    "unauthorized_client": (reply({"error": "unauthorized_client"}, 400), V.CREDENTIAL_REFUSED),
    **{str(status): (reply(b"", status), V.CREDENTIAL_REFUSED) for status in (403, 404, 405)},
    **{str(status): (reply(b"", status), V.THROTTLED) for status in (429, 503)},
    **{
        str(status): (reply(b"<html>", status), V.UNAVAILABLE)
        for status in (200, 400, 500, 502, 504)
    },
    "empty token": (reply({"access_token": ""}), V.UNAVAILABLE),
}


@pytest.mark.parametrize(("answer", "expected"), ACCESS_ANSWERS.values(), ids=ACCESS_ANSWERS)
def test_the_access_call_is_read(answer, expected):
    read = HONOR.access.read(answer, NOW_MS)
    assert (read.verdict if isinstance(read, AccessRefused) else read) == expected


# ---------------------------------------------------------------- build


def built(one, *, options=None, **over):
    return json.loads(
        HONOR.build(
            batch(note_=one, **over),
            credential(Vendor.HONOR, "honor.service", **(options or {})),
            ACCESS,
        ).body
    )


def shown(one, **over):
    return built(one, **over)["android"]["notification"]


SERVICE = {"importance": "NORMAL"}


def test_golden_body_of_a_chat():
    one = note(
        ext="e",
        payload={"k": 1},
        image="https://cdn.example.com/a.png",
        placement=SERVICE,
        sound_android="ring.mp3",
        thread_id="t-1",
    )
    sent = batch("H1", note_=one, badge=2)
    request = HONOR.build(sent, credential(Vendor.HONOR, badge_class="a.Main"), ACCESS)
    assert (request.endpoint, request.path) == ("HONOR", "/api/v1/1040000001/sendMessage")
    assert request.headers == {
        "content-type": "application/json; charset=UTF-8",
        "authorization": "Bearer access-1",
        "timestamp": "1748793600000",
    }
    assert json.loads(request.body) == {
        "data": '{"k":1,"ext":"e"}',
        "android": {
            "ttl": "86400s",
            "biTag": PUSH_ID,
            "notification": {
                "title": "张三",
                "body": "晚上一起吃饭吗？",
                "clickAction": {"type": 3},
                "importance": "NORMAL",
                "notifyId": number_id("m-1001"),
                "tag": "m-1001",
                "group": "t-1",
                "image": "https://cdn.example.com/a.png",
                "badge": {"setNum": 2, "badgeClass": "a.Main"},
            },
        },
        "token": ["H1"],
    }


def test_golden_body_of_a_silent_message():
    assert built(note(push_type=PushType.SILENT, ext="e"), ttl_s=3600) == {
        "data": '{"ext":"e"}',
        "android": {"ttl": "3600s", "biTag": PUSH_ID},
        "token": ["T1"],
    }


PRIVATE, PUBLIC = Bucket.PRIVATE, Bucket.PUBLIC
#: name -> (bucket, placement, vendor, vendor_raw, importance)
CLASSES = {
    "service": (PRIVATE, SERVICE, {}, {}, "NORMAL"),
    "marketing": (PUBLIC, {"importance": "LOW"}, {}, {}, "LOW"),
    "public is marketing whatever is placed": (PUBLIC, SERVICE, {}, {}, "LOW"),
    "nothing placed is marketing": (PRIVATE, {}, {}, {}, "LOW"),
    "no override raises it": (
        PUBLIC,
        {"importance": "LOW"},
        {"importance": "NORMAL"},
        {"android": {"notification": {"importance": "NORMAL"}}},
        "LOW",
    ),
    "nor for a private one placed low": (
        PRIVATE,
        {"importance": "LOW"},
        {"importance": "NORMAL"},
        {},
        "LOW",
    ),
    "a sender may lower": (PRIVATE, SERVICE, {"importance": "low"}, {}, "LOW"),
    "raw may lower": (
        PRIVATE,
        SERVICE,
        {},
        {"android": {"notification": {"importance": "LOW"}}},
        "LOW",
    ),
    "HIGH is never sent": (PRIVATE, SERVICE, {"importance": "HIGH"}, {}, "NORMAL"),
}


@pytest.mark.parametrize(
    ("bucket", "placement", "vendor", "raw", "importance"), CLASSES.values(), ids=CLASSES
)
def test_class_and_right_decide_the_importance(bucket, placement, vendor, raw, importance):
    assert (
        shown(note(bucket=bucket, placement=placement, vendor=vendor, vendor_raw=raw))["importance"]
        == importance
    )


FIELDS = {
    "marketing has no image": ({"image": "https://a/b.png"}, {}, "image", None),
    "nor by its sender's raw options": (
        {"vendor_raw": {"android": {"notification": {"image": "https://a/b.png"}}}},
        {},
        "image",
        None,
    ),
    "a service message has it by raw": (
        {
            "placement": SERVICE,
            "vendor_raw": {"android": {"notification": {"image": "https://a/b.png"}}},
        },
        {},
        "image",
        "https://a/b.png",
    ),
    "title of 40": ({"title": "题" * 41}, {}, "title", "题" * 39 + "…"),
    "body of 256": ({"body": "文" * 257}, {}, "body", "文" * 255 + "…"),
    "a family is not cut in two": ({"title": "a" * 38 + "👨‍👩‍👧‍👦"}, {}, "title", "a" * 38 + "…"),
    "big text equals the text": ({"vendor": {"style": 1}}, {}, "bigBody", "晚上一起吃饭吗？"),
    "big text by raw": (
        {"vendor_raw": {"android": {"notification": {"style": 1}}}},
        {},
        "bigTitle",
        "张三",
    ),
    "no badge without the activity": ({}, {"badge": 2}, "badge", None),
    "badge clipped": (
        {},
        {"badge": 200, "options": {"badge_class": "a.M"}},
        "badge",
        {"setNum": 99, "badgeClass": "a.M"},
    ),
    "sound is unconfirmed: left out": ({"sound_android": "ring"}, {}, "sound", None),
    "group is the conversation": ({}, {}, "group", "c2c-42"),
    "raw when": (
        {"vendor_raw": {"android": {"notification": {"when": "2025-06-01T16:00:00Z"}}}},
        {},
        "when",
        "2025-06-01T16:00:00Z",
    ),
    "raw ids are not taken": (
        {"vendor_raw": {"android": {"notification": {"tag": "x"}}}},
        {},
        "tag",
        "m-1001",
    ),
    "no raw buttons for who hides detail": (
        {"hidden": True, "vendor_raw": {"android": {"notification": {"buttons": []}}}},
        {},
        "buttons",
        None,
    ),
}


@pytest.mark.parametrize(("fields", "of_item", "name", "expected"), FIELDS.values(), ids=FIELDS)
def test_each_field_of_the_note_has_its_place(fields, of_item, name, expected):
    assert shown(note(**fields), **of_item).get(name) == expected


def test_raw_fields_touch_neither_target_nor_mode():
    raw = {
        "message": {"token": ["X"], "data": "mine"},
        "android": {"targetUserType": 1, "biTag": "x", "ttl": "1s", "data": "y"},
        "token": ["X"],
    }
    body = built(note(vendor_raw=raw))
    assert (body["token"], body["data"]) == (["T1"], "mine")
    assert set(body) == {"data", "android", "token"}
    assert set(body["android"]) == {"ttl", "biTag", "notification"}
    assert (body["android"]["ttl"], body["android"]["biTag"]) == ("86400s", PUSH_ID)


def test_a_recall_overwrites_by_the_same_ids():
    before, after = shown(note()), shown(note(kind=Kind.RECALL, title="t", body="撤回"))
    assert (before["notifyId"], before["tag"]) == (after["notifyId"], after["tag"])


# ---------------------------------------------------------------- credential

GOOD = {"app_id": "1040000001", "app_key": "220000001"}


def test_a_credential_is_read_and_its_secret_trimmed():
    assert HONOR.read_credential(GOOD, {"app_secret": b"s\n"}, NOW_MS) == (
        GOOD,
        {"app_secret": "s"},
    )


BAD_CREDENTIALS = {
    "no app id": ({"app_key": "1"}, {"app_secret": b"s"}, "--app-id"),
    "no client id": ({"app_id": "1"}, {"app_secret": b"s"}, "--app-key"),
    "an app id that would change the path": (
        {**GOOD, "app_id": "1/2"},
        {"app_secret": b"s"},
        "--app-id",
    ),
    "a client id with a blank": ({**GOOD, "app_key": "a b"}, {"app_secret": b"s"}, "--app-key"),
    "no secret": (GOOD, {}, "--app-secret-file"),
}


@pytest.mark.parametrize(
    ("options", "files", "names"), BAD_CREDENTIALS.values(), ids=BAD_CREDENTIALS
)
def test_a_bad_credential_is_refused_by_the_option_it_came_with(options, files, names):
    with pytest.raises(CredentialError, match=names):
        HONOR.read_credential(options, files, NOW_MS)


def test_the_only_right_is_service():
    assert HONOR.rights == {"honor.service"}
    assert HONOR.check is None
