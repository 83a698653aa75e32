"""HarmonyOS v3: reasons, revoke, the signed token, the vectors, the payloads by class, right and
push type.
"""

import base64
import json

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from common.model import Again, Bucket, Kind, PushType, Vendor, Verdict
from tests.builders import present
from tests.page_vectors import HUAWEI_JWT_DIGEST, digest
from tests.unit.vendors.cases import reply, signed
from tests.unit.vendors.pushkit_builders import (
    ACCESS,
    NOW_MS,
    PRIVATE_PEM,
    PUBLIC_KEY,
    PUSH_ID,
    batch,
    brief,
    credential,
    item,
    note,
)
from workers.vendors import huawei_codes
from workers.vendors.harmony import HARMONY
from workers.vendors.harmony.credential import signing_input
from workers.vendors.harmony.request import CATEGORIES
from workers.vendors.ids import base62, number_id
from workers.vendors.types import AccessRefused, AccessToken, CredentialError, RequestBatch

V = Verdict
CRED = credential(Vendor.HARMONY)
JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["83010000", "83010005", "https://a/b", "99999999999"])
)


def partial(reasons, code="80100000"):
    words = json.dumps({"illegalTokens": reasons, "success": 1, "failure": 1})
    return reply({"code": code, "msg": words, "requestId": "r1"})


#: reason -> verdict of the token that it names, in a batch where the other one was accepted; those
#: of the page's table stand in test_pages.py.
REASONS = {reason: it.verdict for reason, it in huawei_codes.REASONS.items() if reason}
REASONS["somethingNew"] = V.UNKNOWN


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize(("reason", "verdict"), REASONS.items())
def test_each_reason_speaks_of_its_token_only(reason, verdict, blank):
    good, bad = HARMONY.classify(batch("T1", "T2"), partial({f"{blank}{reason}{blank}": ["T2"]}))
    assert brief(good) == (V.ACCEPTED, None, None, False)
    assert (bad.verdict, bad.words, bad.alarm) == (verdict, reason, verdict is V.UNKNOWN)
    assert bad.vendor_message_id == "r1"


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [*((r, v) for r, v in REASONS.items() if r != "noRight"), ("noRight", V.TOKEN_FOREIGN)],
)
def test_a_token_alone_is_judged_by_its_reason(reason, verdict):
    """80300007 means the token is dead only where no reason says otherwise; noRight alone may be a
    wrong project: the guard decides.
    """
    [outcome] = HARMONY.classify(batch("T1"), partial({reason: ["T1"]}, "80300007"))
    assert outcome.verdict is verdict


def test_a_whole_batch_without_right_is_the_credentials_fault():
    answer = {"code": "80300007", "msg": '{"failure":2,"illegalTokens":{"noRight":["T1","T2"]}}'}
    outcomes = HARMONY.classify(batch("T1", "T2"), reply(answer))
    assert [o.verdict for o in outcomes] == [V.CREDENTIAL_REFUSED] * 2


def test_all_failed_by_several_reasons():
    outcomes = HARMONY.classify(
        batch("a", "b", "c"), partial({"noRight": ["a"], "tokenFormatError": ["b"]}, "80300007")
    )
    found = [(o.verdict, o.again) for o in outcomes]
    assert found == [(V.TOKEN_DEAD, None), (V.TOKEN_DEAD, None), (V.UNAVAILABLE, Again.SINGLY)]


def test_all_failed_without_a_reason():
    answer = reply({"code": "80300007", "msg": "junk"})
    found = [(o.verdict, o.again) for o in HARMONY.classify(batch("a", "b"), answer)]
    assert found == [(V.UNAVAILABLE, Again.SINGLY)] * 2
    assert HARMONY.classify(batch("a"), answer)[0].verdict is V.TOKEN_DEAD


#: Codes of v3 and JWT; the table that v1 shares is tested in test_huawei.py.
CODES = {
    "80000000": (V.ACCEPTED, None, None, False),
    "80100022": (V.UNAVAILABLE, Again.WITHOUT_IMAGE, 2, False),
    "80200001": (V.ACCESS_EXPIRED, None, 2, False),
    "80200005": (V.ACCESS_EXPIRED, None, 2, False),
    "80300029": (V.THROTTLED, None, None, False),
    "80300030": (V.REJECTED, None, None, False),
    "80300036": (V.ACCESS_EXPIRED, None, 2, False),
    "80300037": (V.CREDENTIAL_REFUSED, None, None, False),
}


@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_codes_of_the_whole_request(code, expected):
    found = [brief(o) for o in HARMONY.classify(batch("a", "b"), reply({"code": code}))]
    assert found == [expected] * 2


def test_an_unverified_image_is_left_out_once():
    again = batch(met=[("200", "80100022")], again="without_image")
    assert HARMONY.classify(again, reply({"code": "80100022"}))[0].verdict is V.REJECTED


#: code -> verdicts of a revoke of one token, of two.
REVOKES = {
    "80000000": (V.ACCEPTED, V.ACCEPTED),
    "80000001": (V.UNAVAILABLE, V.UNAVAILABLE),
    "80100020": (V.REJECTED, V.REJECTED),
    "80300017": (V.REJECTED, V.REJECTED),
    "80300028": (V.TOKEN_FOREIGN, V.CREDENTIAL_REFUSED),
    "80300032": (V.REJECTED, V.REJECTED),
}


@pytest.mark.parametrize(("code", "verdicts"), REVOKES.items())
def test_a_revoke_is_answered_by_codes_of_its_own(code, verdicts):
    recall = note(kind=Kind.RECALL)
    [one] = HARMONY.classify(batch("a", note_=recall), reply({"code": code}))
    two = HARMONY.classify(batch("a", "b", note_=recall), reply({"code": code}))
    assert (one.verdict, *(o.verdict for o in two)) == (verdicts[0], verdicts[1], verdicts[1])


def test_the_code_of_revoke_is_unknown_on_a_send():
    found = brief(HARMONY.classify(batch("a"), reply({"code": "80300028"}))[0])
    assert found == (V.UNKNOWN, None, None, True)


# ---------------------------------------------------------------- vectors


def test_vector_4_signing_input():
    text = signing_input("k1", "sub-1", 1_700_000_000)
    assert text == (
        "eyJraWQiOiJrMSIsInR5cCI6IkpXVCIsImFsZyI6IlBTMjU2In0.eyJhdWQiOiJodHRwczovL29hdXRoLWxvZ2luLmNsb3VkLmh1YXdlaS5jb20vb2F1dGgyL3YzL3Rva2VuIiwi"
        "aXNzIjoic3ViLTEiLCJleHAiOjE3MDAwMDM2MDAsImlhdCI6MTcwMDAwMDAwMH0"
    )
    assert digest(text) == HUAWEI_JWT_DIGEST


def test_the_token_is_signed_here_with_the_same_claims_in_every_process():
    token = signed(HARMONY, CRED, 1_700_000_000_000)
    later = signed(HARMONY, CRED, 1_700_000_000_000 + 100_000)
    head, claims, signature = token.value.split(".")
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    raw = base64.urlsafe_b64decode(signature + "==")
    PUBLIC_KEY.verify(raw, f"{head}.{claims}".encode(), pss, hashes.SHA256())
    read = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert read["iat"] == 1_700_000_000 // 1800 * 1800
    assert read["exp"] == read["iat"] + 3600
    assert "=" not in token.value
    assert later.value.rsplit(".", 1)[0] == f"{head}.{claims}"
    found = (token.refresh_at_ms, token.expires_at_ms)
    assert found == ((read["iat"] + 1800) * 1000, read["exp"] * 1000)
    assert isinstance(token, AccessToken)
    assert "access" not in repr(token)
    assert token.value not in repr(token)


def test_a_token_that_huawei_takes_for_expired_is_signed_anew_and_is_a_minute_old():
    now_ms = 1_700_000_000_000
    again = present(present(HARMONY.access).again)(CRED, now_ms)
    claims = json.loads(base64.urlsafe_b64decode(again.value.split(".")[1] + "=="))
    assert (claims["iat"], claims["exp"]) == (1_699_999_940, 1_700_003_540)
    assert (again.refresh_at_ms, again.expires_at_ms) == (now_ms + 1_740_000, now_ms + 3_540_000)


@pytest.mark.parametrize("second", [0, 1, 1799, 1800, 86_399])
def test_a_token_always_has_half_an_hour_left(second):
    now_ms = (1_700_000_000 + second) * 1000
    token = signed(HARMONY, CRED, now_ms)
    assert token.refresh_at_ms > now_ms
    assert token.expires_at_ms - now_ms > 1_800_000 - 1000


def test_nobody_answers_what_was_not_asked():
    assert isinstance(present(HARMONY.access).read(reply(b""), NOW_MS), AccessRefused)


# ---------------------------------------------------------------- images

URL, GIVEN = "https://cdn.example.com/a.png", "https://cdn.example.com/a.png?verifyKey=MEUC"
IMAGES = present(HARMONY.images)
#: image and other fields of the note -> what Huawei is shown.
WANTED = {
    "a picture": ({"image": URL}, {}, URL),
    "none": ({}, {}, None),
    "plain http": ({"image": "http://cdn.example.com/a.png"}, {}, None),
    "an address that Huawei gave itself": ({"image": GIVEN}, {}, None),
    "a silent message": ({"image": URL, "push_type": PushType.SILENT}, {}, None),
    "a recall": ({"image": URL, "kind": Kind.RECALL}, {}, None),
    "refused before": ({"image": URL}, {"again": "without_image"}, None),
}


@pytest.mark.parametrize(("of_note", "of_item", "expected"), WANTED.values(), ids=WANTED)
def test_only_an_image_that_would_be_sent_is_shown_to_huawei(of_note, of_item, expected):
    assert IMAGES.wanted(batch(note_=note(**of_note), **of_item), CRED) == expected


def test_the_request_that_has_an_image_looked_at():
    request = IMAGES.ask(URL, CRED, ACCESS)
    found = (request.method, request.endpoint, request.path)
    assert found == ("POST", "HARMONY", "/v2/p1/images:verify")
    assert request.headers == {
        "content-type": "application/json; charset=UTF-8",
        "authorization": "Bearer access-1",
        "push-type": "0",
    }
    assert request.body == b'{"imageUrl":"https://cdn.example.com/a.png"}'


NOW_S = NOW_MS // 1000
GOOD_IMAGE = {
    "code": "83010000",
    "msg": "Verify success",
    "downloadUrl": GIVEN,
    "expireTime": str(NOW_S + 600),
}
IMAGE_ANSWERS = {
    "looked at": (GOOD_IMAGE, (GIVEN, NOW_MS + 600_000)),
    "its end as a number": ({**GOOD_IMAGE, "expireTime": NOW_S + 5}, (GIVEN, NOW_MS + 5_000)),
    "over already": ({**GOOD_IMAGE, "expireTime": str(NOW_S)}, None),
    "without an end": ({"code": "83010000", "downloadUrl": GIVEN}, None),
    "without an address": ({**GOOD_IMAGE, "downloadUrl": ""}, None),
    "no picture there": ({"code": "83010005", "msg": "failed"}, ("", NOW_MS + 600_000)),
    "too fast": ({"code": "83010002"}, None),
    "the JWT has ended": ({"code": "80200005"}, None),
    "a list": ([], None),
    "no JSON": (b"<html>", None),
}


@pytest.mark.parametrize(("body", "expected"), IMAGE_ANSWERS.values(), ids=IMAGE_ANSWERS)
def test_what_huawei_says_of_an_image(body, expected):
    assert IMAGES.read(reply(body), NOW_MS) == expected


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda *of: json.dumps(dict(zip(GOOD_IMAGE, of, strict=True))).encode(), *[JSON] * 4
    )
)
def test_any_bytes_are_a_word_on_an_image_or_none(body):
    told = IMAGES.read(reply(body), NOW_MS)
    assert told is None or ((told[0] == "" or told[0].startswith("https://")) and told[1] > NOW_MS)


@pytest.mark.parametrize(("image", "shown"), [(None, URL), (GIVEN, GIVEN), ("", None)])
def test_the_address_that_huawei_gave_goes_out_in_place_of_the_senders(image, shown):
    one = msgspec.structs.replace(
        batch(note_=note(image=URL, placement={"category": "IM"})), image=image
    )
    body = json.loads(HARMONY.build(one, CRED, ACCESS).body)
    assert body["payload"]["notification"].get("image") == shown


# ---------------------------------------------------------------- build


def built(one, *, rights=(), options=None, **over):
    request = HARMONY.build(
        batch(note_=one, **over), credential(Vendor.HARMONY, *rights, **(options or {})), ACCESS
    )
    return request, json.loads(request.body)


def shown_id(sent):
    body = json.loads(HARMONY.build(sent, CRED, ACCESS).body)
    return body["payload"]["notification"]["appMessageId"]


def test_the_device_drops_a_repeat_by_an_id_that_is_the_same_in_every_attempt():
    def app_message_id(*tokens, **over):
        return shown_id(
            RequestBatch(tuple(item(token, note(**over), met=told) for token in tokens), NOW_MS)
        )

    told = []
    first, many = app_message_id("a"), app_message_id("a", "b")
    told = [("timeout", "")]
    assert (app_message_id("a"), app_message_id("a", "b")) == (first, many)
    assert first == base62(PUSH_ID, 22)
    assert many != app_message_id("a", "b", event_id="e-2")
    assert many != app_message_id("a", "b", kind=Kind.CALL_CANCEL)


CALL = {"kind": Kind.CALL_INVITE, "push_type": PushType.VOIP, "placement": {"category": "VOIP"}}


RINGS = ("harmony.voip",)


def travels_as(header, *, rights=(), call=False, **of_note):
    about = {**CALL, **of_note} if call else of_note
    return note(**about), rights, header


PUSH_TYPES = {
    "a chat": travels_as("0"),
    "a silent one": travels_as("6", push_type=PushType.SILENT),
    "asked for by the sender": travels_as("6", vendor={"push_type": 6}),
    "a call with the right": travels_as("10", rights=RINGS, call=True),
    "a call without the right": travels_as("0", rights=("harmony.im",), call=True),
    "its cancel is no call": travels_as("0", rights=RINGS, call=True, kind=Kind.CALL_CANCEL),
    "a call placed as marketing": travels_as("0", rights=RINGS, call=True, bucket=Bucket.PUBLIC),
    "a call that asks for an alert": travels_as(
        "0", rights=RINGS, call=True, push_type=PushType.ALERT
    ),
    "a call by override": travels_as(
        "10", rights=RINGS, call=True, push_type=PushType.ALERT, vendor={"push_type": 10}
    ),
    "a message is no call": travels_as(
        "0", rights=RINGS, vendor={"push_type": 10}, push_type=PushType.VOIP
    ),
    "live view is not sent": travels_as("0", vendor={"push_type": 7}),
    "raw fields do not choose it": travels_as(
        "0", vendor_raw={"push-type": 6, "pushType": 6, "push_type": 6}
    ),
}


@pytest.mark.parametrize(("about", "rights", "push_type"), PUSH_TYPES.values(), ids=PUSH_TYPES)
def test_the_push_type_follows_kind_and_right(about, rights, push_type):
    request, body = built(about, rights=rights)
    assert request.headers["push-type"] == push_type
    assert ("extraData" in body["payload"]) is (push_type != "0")


def test_a_silent_push_keeps_an_ext_that_alone_is_too_long():
    """Half a data text is worse than the refusal that Huawei gives."""
    silent = note(push_type=PushType.SILENT, ext="x" * 5000, payload={"a": 1})
    _, body = built(silent)
    assert body["payload"] == {"extraData": json.dumps({"ext": "x" * 5000}, separators=(",", ":"))}


def test_golden_body_of_an_in_app_call():
    call = note(**CALL, voip={"call_id": "c1"}, ext="e", payload={"call_id": "c2"})
    _, body = built(call, rights=("harmony.voip",), ttl_s=45)
    assert body == {
        "payload": {"extraData": '{"call_id":"c1","ext":"e"}'},
        "target": {"token": ["T1"]},
        "pushOptions": {"ttl": 45, "biTag": PUSH_ID},
    }


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"ext": "e", "payload": {"a": "x" * 5000}}, {"ext": "e"}),
        ({"ext": "会" * 1400, "payload": {"a": 1}}, {}),
        ({"voip": {"call": {"id": "c1", "handle": "会" * 1400}}}, {}),
    ],
)
def test_an_in_app_call_goes_without_the_data_that_does_not_fit(data, kept):
    call = {"voip": {"call": {"id": "c1"}}, **data}
    request, body = built(note(**CALL, **call), rights=("harmony.voip",))
    assert len(request.body) <= 4200  # 4,096 and the token
    assert json.loads(body["payload"]["extraData"]) == {"call": {"id": "c1"}, **kept}


def test_a_recall_revokes_where_the_client_id_is_known():
    sent = batch("a", "b", note_=note(kind=Kind.RECALL, collapse_id="m-1"))
    request = HARMONY.build(sent, credential(Vendor.HARMONY, app_id="100000001"), ACCESS)
    assert (request.path, request.headers["push-type"]) == ("/v1/100000001/messages:revoke", "0")
    assert json.loads(request.body) == {"notifyId": number_id("m-1"), "token": ["a", "b"]}


def test_a_repeat_is_shown_once_however_the_batch_fell_apart():
    def shown_as(*tokens, **of_note):
        return shown_id(batch(*tokens, note_=note(**of_note)))

    group = {"conversation_type": "group", "conversation_id": "g1"}
    assert shown_as("a", "b", **group) == shown_as("b", **group) == shown_as("a", **group)
    assert shown_as("a", **group) != shown_as("a", event_id="e-2", **group)
    assert shown_as("a") == base62(PUSH_ID, 22)


def test_the_check_of_a_credential_is_a_push_to_nobody():
    request = present(HARMONY.check)(CRED, ACCESS)
    found = (request.path, request.headers["push-type"], request.headers["authorization"])
    assert found == ("/v3/p1/messages:send", "0", "Bearer access-1")
    assert json.loads(request.body)["target"] == {"token": []}
    said = {
        "80300010": V.ACCEPTED,
        "80200001": V.ACCESS_EXPIRED,
        "80300002": V.CREDENTIAL_REFUSED,
        "81000001": V.UNAVAILABLE,
    }
    assert {code: present(HARMONY.checked)(reply({"code": code})) for code in said} == said


def test_a_recall_overwrites_where_it_is_not():
    request, body = built(note(kind=Kind.RECALL, collapse_id="m-1"))
    assert request.path == "/v3/p1/messages:send"
    assert body["payload"]["notification"]["notifyId"] == number_id("m-1")


PRIVATE, PUBLIC = Bucket.PRIVATE, Bucket.PUBLIC
CHATS, MISSED = ("harmony.im",), ("harmony.miss_call",)


def class_of(category, *, placed="IM", rights=(), **of_note):
    """A row of CLASSES: a note, placed as a chat unless said else, and its category on the wire."""
    return note(placement={"category": placed}, **of_note), rights, category


CLASSES = {
    **{f"{c} as placed": class_of(c, placed=c) for c in sorted(CATEGORIES)},
    "marketing": class_of("MARKETING", bucket=PUBLIC, placed="MARKETING"),
    "public is marketing whatever is placed": class_of("MARKETING", bucket=PUBLIC, rights=CHATS),
    "no override raises it": class_of(
        "MARKETING",
        bucket=PUBLIC,
        placed="MARKETING",
        rights=CHATS,
        vendor={"category": "IM"},
        vendor_raw={"notification": {"category": "IM"}},
    ),
    "an override needs its right": class_of("IM", vendor={"category": "WORK"}),
    "and with it holds": class_of("WORK", rights=("harmony.work",), vendor={"category": "work"}),
    "raw wins": class_of(
        "MAIL",
        rights=("harmony.work", "harmony.mail"),
        vendor={"category": "WORK"},
        vendor_raw={"category": "MAIL"},
    ),
    "missed call": class_of("MISS_CALL", placed="MISS_CALL", rights=MISSED),
    "a call's end is no call": class_of(
        "MISS_CALL",
        placed="VOIP",
        rights=RINGS + MISSED,
        kind=Kind.CALL_CANCEL,
        vendor={"category": "VOIP"},
    ),
    "a call's end without the right": class_of(
        "VOIP", placed="VOIP", rights=RINGS, kind=Kind.CALL_CANCEL
    ),
    "a call": class_of("VOIP", placed="VOIP", rights=RINGS + MISSED),
    "a call's end as marketing": class_of(
        "MARKETING", bucket=PUBLIC, rights=MISSED, kind=Kind.CALL_CANCEL
    ),
    "nobody's category": class_of("IM", vendor={"category": "CUSTOMER_SERVICE"}),
}


@pytest.mark.parametrize(("about", "rights", "category"), CLASSES.values(), ids=CLASSES)
def test_class_and_right_decide_the_category(about, rights, category):
    _, body = built(about, rights=rights)
    assert body["payload"]["notification"]["category"] == category


def field(name, expected, *, of_item=None, **of_note):
    """A row of FIELDS: what stands under a name of the notification."""
    return note(**of_note), of_item or {}, name, expected


FIELDS = {
    "page": field(
        "clickAction",
        {"actionType": 1, "uri": "im://c/42"},
        vendor={"click_type": 1, "uri": "im://c/42"},
    ),
    "page without uri is home": field("clickAction", {"actionType": 0}, vendor={"click_type": 1}),
    "badge clipped": field("badge", {"setNum": 99}, of_item={"badge": 500}),
    "badge override": field("badge", {"setNum": 5}, of_item={"badge": 1}, vendor={"badge": 5}),
    "badge left alone": field("badge", None, of_item={"badge": 1}, vendor={"badge": False}),
    "no badge": field("badge", None),
    "raw badge in place of the number taken": field(
        "badge", {"addNum": 2}, of_item={"badge": 1}, vendor_raw={"badge": {"addNum": 2}}
    ),
    "raw badge without a number": field(
        "badge", {"setNum": 1, "x": 2}, of_item={"badge": 1}, vendor_raw={"badge": {"x": 2}}
    ),
    "lines": field("inboxContent", ["a", "b", "c\nd"], body="a\nb\nc\nd", vendor={"style": 3}),
    "a long line": field(
        "inboxContent", ["x" * 1023 + "…", "y"], body="x" * 1500 + "\ny", vendor={"style": 3}
    ),
    "raw lines": field("style", 3, vendor_raw={"notification": {"inboxContent": ["x"]}}),
    "no raw lines for who hides detail": field(
        "inboxContent", None, hidden=True, vendor_raw={"notification": {"inboxContent": ["x"]}}
    ),
    "silent has no field": field("sound", None, sound_android="none"),
    "image once refused": field(
        "image", None, of_item={"again": "without_image"}, image="https://a/b.png"
    ),
    "raw foregroundShow, flat": field(
        "foregroundShow", False, vendor_raw={"foregroundShow": False}
    ),
    "raw title is not taken": field(
        "title", "张三", vendor_raw={"notification": {"title": "x", "appMessageId": "x"}}
    ),
}


@pytest.mark.parametrize(("about", "of_item", "name", "expected"), FIELDS.values(), ids=FIELDS)
def test_each_field_of_the_note_has_its_place(about, of_item, name, expected):
    _, body = built(about, **of_item)
    assert body["payload"]["notification"].get(name) == expected


def test_raw_fields_touch_neither_target_nor_mode():
    theirs = {"testMessage": True, "receiptId": "x", "biTag": "x", "ttl": 1, "collapseKey": 7}
    _, body = built(note(vendor_raw={"pushOptions": theirs, "target": {"token": ["X"]}}))
    assert body["pushOptions"] == {"ttl": 86400, "biTag": PUSH_ID, "collapseKey": 7}
    assert body["target"] == {"token": ["T1"]}


@pytest.mark.parametrize(("count", "test"), [(10, True), (11, None)])
def test_a_test_message_to_more_tokens_than_huawei_takes_is_a_usual_one(count, test):
    tokens = [f"T{n}" for n in range(count)]
    request = HARMONY.build(batch(*tokens, note_=note(vendor={"test_message": True})), CRED, ACCESS)
    assert json.loads(request.body)["pushOptions"].get("testMessage") is test


# ---------------------------------------------------------------- credential

ACCOUNT = {
    "project_id": "p1",
    "key_id": "k1",
    "sub_account": "sub-1",
    "private_key": PRIVATE_PEM,
    "token_uri": "https://elsewhere.example",
}


def account(**over):
    return {"service_account": json.dumps({**ACCOUNT, **over}).encode()}


def test_a_service_account_is_taken_apart():
    options, secrets = HARMONY.read_credential({"receipt_id": "R"}, account(), NOW_MS)
    expected = {"receipt_id": "R", "project_id": "p1", "key_id": "k1", "sub_account": "sub-1"}
    assert options == expected
    assert secrets == {"private_key": PRIVATE_PEM.strip()}


def pem(key, encryption=None):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    ).decode()


RSA = rsa.generate_private_key(65537, 1024)
BAD_ACCOUNTS = {
    "no file": ({}, {}, "service-account is missing"),
    "not JSON": ({}, {"service_account": b"-----BEGIN"}, "not JSON"),
    "not text": ({}, {"service_account": b"\xff\xfe"}, "is empty"),
    "no object": ({}, {"service_account": b"[1]"}, "no project_id"),
    **{
        f"no {name}": ({}, account(**{name: None}), f"no {name}")
        for name in ("project_id", "key_id", "sub_account", "private_key")
    },
    "a blank id": ({}, account(key_id=" "), "no key_id"),
    "a project that would change the path": ({}, account(project_id="a/../b"), "project_id"),
    "a key that does not parse": (
        {},
        account(private_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
        "does not parse",
    ),
    "an encrypted key": (
        {},
        account(private_key=pem(RSA, serialization.BestAvailableEncryption(b"x"))),
        "does not parse",
    ),
    "a short key": ({}, account(private_key=pem(RSA)), "2048 bits"),
    "an elliptic key": (
        {},
        account(private_key=pem(ec.generate_private_key(ec.SECP256R1()))),
        "not an RSA key",
    ),
    "a client id that would change the path": ({"app_id": "1/2"}, account(), "app-id"),
}


@pytest.mark.parametrize(("options", "files", "says"), BAD_ACCOUNTS.values(), ids=BAD_ACCOUNTS)
def test_a_bad_service_account_is_refused_and_not_repeated(options, files, says):
    with pytest.raises(CredentialError, match=says) as caught:
        HARMONY.read_credential(options, files, NOW_MS)
    assert "BEGIN" not in str(caught.value)


def test_rights_are_the_documented_categories():
    assert {"harmony.im", "harmony.voip", "harmony.miss_call"} <= HARMONY.rights
    assert "harmony.marketing" not in HARMONY.rights
    assert len(HARMONY.rights) == 13
