"""Honor: every row of the page's code table, the vectors, the payloads by class and right."""

import json

import pytest

from common.model import Again, Bucket, Kind, Vendor, Verdict
from tests.builders import present
from tests.page_vectors import HUAWEI_TOKEN_FORM
from tests.unit.vendors.cases import asked, reply
from tests.unit.vendors.pushkit_builders import (
    ACCESS,
    NOW_MS,
    PUSH_ID,
    batch,
    brief,
    credential,
    item,
    note,
)
from workers.vendors.honor import HONOR
from workers.vendors.honor import codes as honor_codes
from workers.vendors.types import AccessRefused, AccessToken, RequestBatch

V = Verdict
CRED = credential(Vendor.HONOR)

OK = (V.ACCEPTED, None, None, False)
ONCE_MORE = (V.ACCESS_EXPIRED, None, 2, False)
#: code in the body, at HTTP 200 -> (verdict, again, attempts_max, alarm) of a single token; the
#: verdicts of the page's table stand in test_pages.py.
CODES = {
    **{code: (it.verdict, None, None, False) for code, it in honor_codes.CODES.items()},
    **dict.fromkeys(("200", "80000000", "0"), OK),
    **dict.fromkeys(("401", "80200001", "80200003"), ONCE_MORE),
    "80300007": (V.TOKEN_DEAD, None, None, False),
    "418": (V.UNKNOWN, None, None, True),
    **dict.fromkeys(("12345", "80399999"), (V.UNAVAILABLE, None, 3, True)),
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
    found = [brief(o) for o in HONOR.classify(batch("a", "b"), reply(body, status))]
    assert found == [expected] * 2


def test_an_unknown_code_with_a_4xx_rings_and_is_final():
    found = brief(HONOR.classify(batch("a"), reply({"code": 77}, 422))[0])
    assert found == (V.UNKNOWN, None, None, True)


def test_a_throttle_waits_as_long_as_the_vendor_says():
    found = HONOR.classify(batch("a"), reply({"code": 429}, 429, retry_after="9"))[0].retry_after_s
    assert found == 9


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


def said(data):
    return {"code": 200, "data": data}


#: name -> (body, verdicts for H1, H2, H3)
A, U, D = V.ACCEPTED, V.UNAVAILABLE, V.TOKEN_DEAD
LISTS = {
    "V5": (V5, [A, U, D]),
    "V5 as partial success": ({**V5, "code": "80100000"}, [A, U, D]),
    "lists are null": (
        said({"sendResult": True, "failTokens": None, "expireTokens": None}),
        [A] * 3,
    ),
    "lists are empty": (said({"failTokens": [], "expireTokens": []}), [A] * 3),
    "no data": ({"code": 0}, [A] * 3),
    "sendResult false and no lists": (said({"sendResult": False}), [U] * 3),
    "sendResult false with a list": (
        said({"sendResult": False, "expireTokens": ["H1"]}),
        [D, A, A],
    ),
    "a token nobody sent": (said({"expireTokens": ["zzz"]}), [A] * 3),
    "commas within a list": (said({"failTokens": ["H1,H2"]}), [U, U, A]),
    "objects": (said({"expireTokens": [{"token": "H1"}]}), [D, A, A]),
    "data as a text": (said('{"expireTokens":["H1"]}'), [D, A, A]),
    "expired only": (said({"expireTokens": ["H2"]}), [A, D, A]),
    "partial success without lists": ({"code": 80100000, "data": {}}, [V.UNKNOWN] * 3),
    "a text, and a list with junk": (
        said({"failTokens": "H1", "expireTokens": [1, None, "H2"]}),
        [U, D, A],
    ),
    "somebody, and nobody says who": (said({"failTokens": [{"id": "H1"}]}), [V.UNKNOWN] * 3),
    "no lists at all": (said({"failTokens": {"H1": 1}, "expireTokens": 7}), [U, A, A]),
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
        batch("H1", met=[("401", "401")]), reply({"code": 401, "message": "x"})
    )
    assert (first.verdict, second.verdict) == (V.ACCESS_EXPIRED, V.CREDENTIAL_REFUSED)
    [unknown] = HONOR.classify(batch("H1"), reply({"code": 12345, "message": "x"}))
    assert (unknown.verdict, unknown.attempts_max, unknown.alarm) == (V.UNAVAILABLE, 3, True)
    [at_last] = HONOR.classify(
        batch("H1", met=[("200", "12345")] * 2), reply({"code": 12345, "message": "x"})
    )
    assert (at_last.verdict, at_last.alarm) == (V.UNKNOWN, True)


def test_all_invalid_is_believed_only_of_a_token_alone():
    answer = reply({"code": 80300007})
    found = [(o.verdict, o.again) for o in HONOR.classify(batch("a", "b"), answer)]
    assert found == [(V.UNAVAILABLE, Again.SINGLY)] * 2
    assert HONOR.classify(batch("a"), answer)[0].verdict is V.TOKEN_DEAD


# ---------------------------------------------------------------- vectors


def test_vector_2_token_form():
    request = asked(HONOR, CRED, NOW_MS)
    assert (request.endpoint, request.path) == ("HONOR_OAUTH", "/auth/token")
    assert request.body.decode() == HUAWEI_TOKEN_FORM


def test_vector_3_timestamp_is_that_of_the_sending():
    headers = HONOR.build(batch("H1"), CRED, ACCESS).headers
    assert headers["timestamp"] == "1748793600000"
    found = HONOR.build(RequestBatch((item("H1"),), NOW_MS + 5), CRED, ACCESS).headers["timestamp"]
    assert found == "1748793600005"


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
    read = present(HONOR.access).read(answer, NOW_MS)
    assert (read.verdict if isinstance(read, AccessRefused) else read) == expected


# ---------------------------------------------------------------- build


def built(one, *, options=None, **over):
    asked = batch(note_=one, **over)
    request = HONOR.build(
        asked, credential(Vendor.HONOR, "honor.service", **(options or {})), ACCESS
    )
    return json.loads(request.body)


def shown(one, **over):
    return built(one, **over)["android"]["notification"]


SERVICE = {"importance": "NORMAL"}


PRIVATE, PUBLIC = Bucket.PRIVATE, Bucket.PUBLIC


def importance_of(importance, *, placement=SERVICE, **of_note):
    return note(placement=placement, **of_note), importance


CLASSES = {
    "service": importance_of("NORMAL"),
    "marketing": importance_of("LOW", bucket=PUBLIC, placement={"importance": "LOW"}),
    "public is marketing whatever is placed": importance_of("LOW", bucket=PUBLIC),
    "nothing placed is marketing": importance_of("LOW", placement={}),
    "no override raises it": importance_of(
        "LOW",
        bucket=PUBLIC,
        placement={"importance": "LOW"},
        vendor={"importance": "NORMAL"},
        vendor_raw={"android": {"notification": {"importance": "NORMAL"}}},
    ),
    "nor for a private one placed low": importance_of(
        "LOW", placement={"importance": "LOW"}, vendor={"importance": "NORMAL"}
    ),
    "a sender may lower": importance_of("LOW", vendor={"importance": "low"}),
    "raw may lower": importance_of(
        "LOW", vendor_raw={"android": {"notification": {"importance": "LOW"}}}
    ),
    "HIGH is never sent": importance_of("NORMAL", vendor={"importance": "HIGH"}),
}


@pytest.mark.parametrize(("about", "importance"), CLASSES.values(), ids=CLASSES)
def test_class_and_right_decide_the_importance(about, importance):
    assert shown(about)["importance"] == importance


def field(name, expected, *, of_item=None, raw=None, **of_note):
    """A row of FIELDS. raw: the sender's own `android.notification`."""
    about = note(vendor_raw={"android": {"notification": raw}} if raw else {}, **of_note)
    return about, of_item or {}, name, expected


FIELDS = {
    "marketing has no image": field("image", None, image="https://a/b.png"),
    "nor by its sender's raw options": field("image", None, raw={"image": "https://a/b.png"}),
    "a service message has it by raw": field(
        "image", "https://a/b.png", placement=SERVICE, raw={"image": "https://a/b.png"}
    ),
    "title of 40": field("title", "题" * 39 + "…", title="题" * 41),
    "body of 256": field("body", "文" * 255 + "…", body="文" * 257),
    "a family is not cut in two": field("title", "a" * 38 + "…", title="a" * 38 + "👨‍👩‍👧‍👦"),
    "big text equals the text": field("bigBody", "晚上一起吃饭吗？", vendor={"style": 1}),
    "big text by raw": field("bigTitle", "张三", raw={"style": 1}),
    "no badge without the activity": field("badge", None, of_item={"badge": 2}),
    "badge clipped": field(
        "badge",
        {"setNum": 99, "badgeClass": "a.M"},
        of_item={"badge": 200, "options": {"badge_class": "a.M"}},
    ),
    "sound is unconfirmed: left out": field("sound", None, sound_android="ring"),
    "group is the conversation": field("group", "c2c-42"),
    "raw when": field("when", "2025-06-01T16:00:00Z", raw={"when": "2025-06-01T16:00:00Z"}),
    "raw ids are not taken": field("tag", "m-1001", raw={"tag": "x"}),
    "no raw buttons for who hides detail": field("buttons", None, hidden=True, raw={"buttons": []}),
}


@pytest.mark.parametrize(("about", "of_item", "name", "expected"), FIELDS.values(), ids=FIELDS)
def test_each_field_of_the_note_has_its_place(about, of_item, name, expected):
    assert shown(about, **of_item).get(name) == expected


def test_raw_fields_touch_neither_target_nor_mode():
    android = {"targetUserType": 1, "biTag": "x", "ttl": "1s", "data": "y"}
    raw = {"message": {"token": ["X"], "data": "mine"}, "android": android, "token": ["X"]}
    body = built(note(vendor_raw=raw))
    assert (body["token"], body["data"]) == (["T1"], "mine")
    assert set(body) == {"data", "android", "token"}
    assert set(body["android"]) == {"ttl", "biTag", "notification"}
    assert (body["android"]["ttl"], body["android"]["biTag"]) == ("86400s", PUSH_ID)


def test_a_recall_overwrites_by_the_same_ids():
    before, after = shown(note()), shown(note(kind=Kind.RECALL, title="t", body="撤回"))
    assert (before["notifyId"], before["tag"]) == (after["notifyId"], after["tag"])


# ---------------------------------------------------------------- credential


def test_the_only_right_is_service():
    assert HONOR.rights == {"honor.service"}
    assert HONOR.check is None
