"""Huawei v1: every code of the page, the vectors, the payloads by class and right."""

import json

import pytest

from common.model import Again, BadgeMode, Bucket, Kind, PushType, Vendor, Verdict
from tests.builders import present
from tests.page_vectors import HUAWEI_TOKEN_FORM, HUAWEI_V1
from tests.tables import table
from tests.unit.vendors.cases import asked, reply
from tests.unit.vendors.pushkit_builders import ACCESS, NOW_MS, batch, brief, credential, note
from workers.vendors import huawei_codes
from workers.vendors.huawei import HUAWEI
from workers.vendors.huawei.request import CATEGORIES
from workers.vendors.ids import number_id
from workers.vendors.types import AccessRefused, AccessToken

V = Verdict
CRED = credential(Vendor.HUAWEI)

#: code -> (verdict, again, attempts_max, alarm) of a single token's first attempt, where the page's
#: table (test_pages.py) does not say it all: how often it is tried again, and by family what nobody
#: documents, which a person should look at.
CODES = {
    "80100022": (V.UNAVAILABLE, Again.WITHOUT_IMAGE, 2, False),
    **dict.fromkeys(
        ("80200001", "80200003", "80200005", "80300036"), (V.ACCESS_EXPIRED, None, 2, False)
    ),
    "80600003": (V.UNAVAILABLE, None, 4, False),
    **dict.fromkeys(
        ("81000002", "82200001", "80000009", "80600009"), (V.UNAVAILABLE, None, 4, True)
    ),
    "80200009": (V.ACCESS_EXPIRED, None, 2, True),
    # the first is documented for revoke only
    **dict.fromkeys(("80300028", "80100099", "80300099"), (V.UNKNOWN, None, None, True)),
}


@pytest.mark.parametrize("code", sorted({*huawei_codes.CODES, *CODES}))
def test_each_code_has_its_meaning_on_any_http_status(code):
    statuses = (200, 400, 401, 500)
    answers = [
        reply({"code": code, "msg": "words", "requestId": "r1"}, status) for status in statuses
    ]
    outcomes = [HUAWEI.classify(batch("T1"), answer)[0] for answer in answers]
    _, again, attempts_max, alarm = CODES.get(code, (None, None, None, False))
    assert len({brief(outcome) for outcome in outcomes}) == 1
    assert brief(outcomes[0]) == CODES.get(code, (outcomes[0].verdict, again, attempts_max, alarm))
    found = [(one.status, one.code, one.vendor_message_id) for one in outcomes]
    assert found == [(s, code, "r1") for s in ("200", "400", "401", "500")]


#: HTTP status -> meaning where the body has no code.
STATUSES = {
    200: (V.UNKNOWN, None, None, True),
    302: (V.UNKNOWN, None, None, True),
    400: (V.REJECTED, None, None, False),
    401: (V.ACCESS_EXPIRED, None, 2, False),
    403: (V.UNKNOWN, None, None, True),
    404: (V.CREDENTIAL_REFUSED, None, None, False),
    429: (V.THROTTLED, None, None, False),
    500: (V.UNAVAILABLE, None, None, False),
    502: (V.UNAVAILABLE, None, None, False),
    503: (V.THROTTLED, None, None, False),
    504: (V.UNAVAILABLE, None, None, False),
}


@pytest.mark.parametrize(
    "body", [b"", b"<html>gateway</html>", b"null", b'{"msg":"x"}', b'{"code":true}']
)
@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_a_status_counts_where_the_body_has_no_code(status, expected, body):
    found = [brief(o) for o in HUAWEI.classify(batch("a", "b"), reply(body, status))]
    assert found == [expected] * 2


@pytest.mark.parametrize("code", ["80499999", "12345", "E503", 99])
@pytest.mark.parametrize(
    ("status", "verdict"), [(200, V.UNKNOWN), (500, V.UNAVAILABLE), (503, V.THROTTLED)]
)
def test_an_unknown_code_outside_every_family_rings_and_follows_the_status(code, status, verdict):
    [outcome] = HUAWEI.classify(batch("a"), reply({"code": code}, status))
    assert brief(outcome) == (verdict, None, None, True)


def test_flow_control_waits_as_long_as_the_vendor_says():
    [outcome] = HUAWEI.classify(batch("a"), reply(b"", 503, retry_after="17"))
    assert outcome.retry_after_s == 17


#: Tokens; what the vendor says of them in `msg` (of the code 80100000) -> each one's verdict.
LISTS = table("""
V6 of v1 | T1 T2 T4 | {"success": 2, "failure": 1, "illegal_tokens": ["T4"]} | accepted accepted token_dead
V6 of v3, blanks in the reason | T1 T2 T3 | {"illegalTokens": {" tokenFormatError ": ["T2"], "noRight": ["T3"]}, "failure": 2} | accepted token_dead token_dead
other spelling of each shape | T1 T2 | {"illegal_tokens": {"tokenFormatError": ["T1"]}, "x": 1} | token_dead accepted
an object with its reason | T1 T2 | {"illegalTokens": [{"token": "T2", "reason": "noRight"}]} | accepted token_dead
an object without a reason | T1 T2 | {"illegalTokens": [{"token": "T2"}]} | accepted unknown
a reason that is none of the token's | T1 T2 | {"illegalTokens": [{"token": "T2", "reason": "countryNotSupport"}]} | accepted silenced
a masked token, and a failure | T1 T2 | {"illegalTokens": {"tokenFormatError": ["T2***"]}, "success": 0, "failure": 1} | unknown unknown
a token nobody sent | T1 T2 | {"illegal_tokens": ["zzz"]} | accepted accepted
commas within a list | T1 T2 T3 | {"illegal_tokens": ["T2,T3"], "success": 1, "failure": 2} | accepted token_dead token_dead
one text | T1 T2 | {"illegal_tokens": "T2", "failure": 1} | accepted token_dead
a token in the place of the reason | T1 T2 | {"illegal_tokens": {"T2": "x"}} | unknown unknown
both lists empty beside a failure | T1 T2 | {"illegalTokens": {}, "illegal_tokens": {}, "success": 1, "failure": 1} | unknown unknown
an empty list, tokens under the other | T1 T2 | {"illegalTokens": null, "illegal_tokens": ["T1"]} | token_dead accepted
nobody failed after all | T1 T2 | {"success": 2, "failure": 0} | accepted accepted
some failed and none is named | T1 T2 | {"success": 1, "failure": 1} | unknown unknown
a list that can't be read | T1 T2 | some failed | unknown unknown
""")  # noqa: E501


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(("tokens", "msg", "verdicts"), LISTS.values(), ids=LISTS)
def test_partial_success_is_read_token_by_token(tokens, msg, verdicts, as_text):
    told = json.dumps(msg) if as_text and isinstance(msg, dict) else msg
    body = {"code": "80100000", "msg": told, "requestId": "r"}
    outcomes = HUAWEI.classify(batch(*tokens.split()), reply(body))
    assert [o.verdict for o in outcomes] == verdicts.split()
    assert all("T4" not in o.words for o in outcomes)


def test_all_invalid_is_believed_only_of_a_token_alone():
    body = {"code": "80300007", "msg": "All the tokens are invalid"}
    assert [o.again for o in HUAWEI.classify(batch("a", "b"), reply(body))] == [Again.SINGLY] * 2
    [alone] = HUAWEI.classify(batch("a", again="singly"), reply(body))
    assert (alone.verdict, alone.again) == (V.TOKEN_DEAD, None)


#: What the push was told before, as (status, code); again; the code and the verdict now.
SECOND_TIMES = table("""
refused after a fresh token | [["200", "80200001"]] | - | "80200001" | credential_refused
an old refusal, then another trouble | [["200", "80200001"], ["503", ""]] | - | "80200001" | access_expired
expired, and the new one too | [["200", "80200003"]] | - | "80200003" | credential_refused
a code of no row, third retry left | [["200", "81000002"], ["200", "81000002"]] | - | "81000002" | unavailable
a code of no row after three | [["200", "81000002"], ["200", "81000002"], ["200", "81000002"]] | - | "81000002" | unknown
OAuth fault, third retry left | [["200", "80600003"], ["200", "80600003"]] | - | "80600003" | unavailable
OAuth fault after three | [["200", "80600003"], ["200", "80600003"], ["200", "80600003"]] | - | "80600003" | credential_refused
refused though there is no image | [["200", "80100022"]] | without_image | "80100022" | rejected
""")  # noqa: E501


@pytest.mark.parametrize(
    ("told", "again", "code", "verdict"), SECOND_TIMES.values(), ids=SECOND_TIMES
)
def test_a_remedy_is_tried_so_often_and_no_more(told, again, code, verdict):
    sent = batch(met=map(tuple, told), again=again)
    [outcome] = HUAWEI.classify(sent, reply({"code": code}))
    assert outcome.verdict == verdict


def test_an_unauthorised_status_twice_is_the_credentials_fault():
    sent = batch(met=[("401", "")])
    assert HUAWEI.classify(sent, reply(b"", 401))[0].verdict is V.CREDENTIAL_REFUSED


def test_the_vendors_words_lose_device_tokens():
    [outcome] = HUAWEI.classify(
        batch("SECRETTOKEN"), reply({"code": "80100001", "msg": "bad token SECRETTOKEN"})
    )
    assert outcome.words == "bad token <token>"


# ---------------------------------------------------------------- vectors

V1 = json.loads(HUAWEI_V1)


def test_a_built_body_has_every_field_of_vector_1():
    one = note(
        placement={"category": "IM", "importance": "NORMAL"},
        collapse_id="c2c-42",
        vendor_raw={"message": {"android": {"collapse_key": -1}}},
    )
    cred = credential(Vendor.HUAWEI, badge_class="com.example.im.MainActivity")
    message = json.loads(
        HUAWEI.build(batch("T1", note_=one, push_id="m-1001", badge=1), cred, ACCESS).body
    )["message"]
    android, wanted = message["android"], V1["message"]["android"]
    shown = android["notification"]
    found = {key: android[key] for key in wanted if key != "notification"}
    assert found == {key: wanted[key] for key in wanted if key != "notification"}
    seen = {key: shown[key] for key in wanted["notification"] if key != "badge"}
    assert seen == {k: v for k, v in wanted["notification"].items() if k != "badge"}
    assert shown["badge"] == {"set_num": 1, "class": "com.example.im.MainActivity"}


def test_vector_5_token_form():
    request = asked(HUAWEI, CRED, NOW_MS)
    found = (request.endpoint, request.path, request.method)
    assert found == ("HUAWEI_OAUTH", "/oauth2/v3/token", "POST")
    assert request.headers == {"content-type": "application/x-www-form-urlencoded"}
    assert request.body.decode() == HUAWEI_TOKEN_FORM


# ---------------------------------------------------------------- access

ACCESS_ANSWERS = {
    "escaped slash, 3600 s": (
        reply(b'{"access_token":"CF3\\/x=","expires_in":3600,"token_type":"Bearer"}'),
        AccessToken("CF3/x=", NOW_MS + 3_300_000, NOW_MS + 3_600_000),
    ),
    "short life: renewed at half": (
        reply({"access_token": "t", "expires_in": 60}),
        AccessToken("t", NOW_MS + 30_000, NOW_MS + 60_000),
    ),
    "no life given": (
        reply({"access_token": "t"}),
        AccessToken("t", NOW_MS + 3_300_000, NOW_MS + 3_600_000),
    ),
    "id and secret do not match": (
        reply({"error": 1101, "sub_error": 12304, "error_description": "no"}, 400),
        V.CREDENTIAL_REFUSED,
    ),
    "bad client id": (reply({"error": "1101", "sub_error": "20002"}, 200), V.CREDENTIAL_REFUSED),
    "client id does not exist": (
        reply({"error": 1101, "sub_error": 20003}, 500),
        V.CREDENTIAL_REFUSED,
    ),
    "secret empty": (reply({"error": 1101, "sub_error": 20171}, 400), V.CREDENTIAL_REFUSED),
    "403": (reply(b"", 403), V.CREDENTIAL_REFUSED),
    "404": (reply(b"", 404), V.CREDENTIAL_REFUSED),
    "405": (reply(b"", 405), V.CREDENTIAL_REFUSED),
    "503": (reply(b"", 503), V.THROTTLED),
    **{str(status): (reply(b"<html>", status), V.UNAVAILABLE) for status in (500, 502, 504, 590)},
    "a proxy's page": (reply(b"<html>", 200), V.UNAVAILABLE),
    "empty token": (reply({"access_token": ""}), V.UNAVAILABLE),
    "a token that would break a header": (reply({"access_token": "a\r\nb: c"}), V.UNAVAILABLE),
}


@pytest.mark.parametrize(("answer", "expected"), ACCESS_ANSWERS.values(), ids=ACCESS_ANSWERS)
def test_the_access_call_is_read(answer, expected):
    read = present(HUAWEI.access).read(answer, NOW_MS)
    assert (read.verdict if isinstance(read, AccessRefused) else read) == expected


def test_a_refusal_names_main_and_sub_code():
    said = reply({"error": 1101, "sub_error": 12304}, 400)
    refused = present(HUAWEI.access).read(said, NOW_MS)
    assert isinstance(refused, AccessRefused)
    assert refused.code == "1101.12304"


# ---------------------------------------------------------------- build


def shown(one, *, rights=(), options=None, **over):
    asked = batch(note_=one, **over)
    body = json.loads(
        HUAWEI.build(asked, credential(Vendor.HUAWEI, *rights, **(options or {})), ACCESS).body
    )
    return body["message"]["android"]


PRIVATE, PUBLIC = Bucket.PRIVATE, Bucket.PUBLIC


def class_of(
    category, importance="NORMAL", *, placement=None, rights=(), vendor=None, raw=None, **more
):
    """A row of CLASSES: a note, placed as a chat unless said else, and its class on the wire."""
    given = {"vendor": vendor or {}, "vendor_raw": raw or {}, **more}
    placed = {"category": "IM"} if placement is None else placement
    return note(placement=placed, **given), rights, category, importance


CLASSES = {
    **{
        f"{c} as placed": class_of(c, placement={"category": c, "importance": "NORMAL"})
        for c in sorted(CATEGORIES)
    },
    "marketing as placed": class_of(
        "MARKETING", "LOW", bucket=PUBLIC, placement={"category": "MARKETING", "importance": "LOW"}
    ),
    "marketing without a placement": class_of("MARKETING", "LOW", bucket=PUBLIC, placement={}),
    "nothing placed is marketing": class_of("MARKETING", placement={}),
    "public never travels as system, whatever is placed": class_of(
        "MARKETING", "LOW", bucket=PUBLIC, rights=("huawei.im",)
    ),
    "an override never raises marketing": class_of(
        "MARKETING",
        "LOW",
        bucket=PUBLIC,
        placement={"category": "MARKETING", "importance": "LOW"},
        rights=("huawei.im",),
        vendor={"category": "IM", "importance": "NORMAL"},
    ),
    "nor do raw fields": class_of(
        "MARKETING",
        "LOW",
        bucket=PUBLIC,
        placement={"category": "MARKETING", "importance": "LOW"},
        rights=("huawei.im",),
        raw={"message": {"android": {"category": "IM"}}, "notification": {"importance": "NORMAL"}},
    ),
    "an override among private classes needs its right": class_of(
        "IM", rights=("huawei.im",), vendor={"category": "WORK"}
    ),
    "and with its right it holds": class_of(
        "WORK", rights=("huawei.im", "huawei.work"), vendor={"category": "work"}
    ),
    "raw fields win over overrides": class_of(
        "MAIL",
        rights=("huawei.mail", "huawei.work"),
        vendor={"category": "WORK"},
        raw={"message": {"android": {"category": "MAIL"}}},
    ),
    "a sender may lower": class_of(
        "MARKETING",
        "LOW",
        rights=("huawei.im",),
        vendor={"category": "MARKETING", "importance": "LOW"},
    ),
    "HIGH is never sent": class_of(
        "IM", placement={"category": "IM", "importance": "NORMAL"}, vendor={"importance": "HIGH"}
    ),
    "a category nobody knows is ignored": class_of("IM", vendor={"category": "SYSTEM_REMINDER"}),
}


@pytest.mark.parametrize(
    ("about", "rights", "category", "importance"), CLASSES.values(), ids=CLASSES
)
def test_class_and_right_decide_the_category(about, rights, category, importance):
    android = shown(about, rights=rights)
    assert (android["category"], android["notification"]["importance"]) == (category, importance)


def test_a_call_is_voip_with_the_timeout_as_life():
    placement = {"category": "VOIP", "importance": "NORMAL"}
    one = note(kind=Kind.CALL_INVITE, placement=placement, push_type=PushType.VOIP)
    android = shown(one, ttl_s=45)
    assert (android["category"], android["ttl"]) == ("VOIP", "45s")


def test_what_overwrites_a_recalled_message_has_its_ids_and_no_sound():
    before = shown(note(placement={"category": "IM"}))
    after = shown(note(kind=Kind.RECALL, placement={"category": "IM"}))
    assert after["notification"]["notify_id"] == before["notification"]["notify_id"]
    assert after["notification"]["tag"] == before["notification"]["tag"]
    assert (after["category"], after["notification"]["importance"]) == ("IM", "LOW")


LAUNCH = "intent:#Intent;action=android.intent.action.MAIN;category=android.intent.category.LAUNCHER;launchFlags=0x10000000;"  # noqa: E501


def field(name, expected, *, of_item=None, **of_note):
    """A row of FIELDS. name: of what is shown, or with a full stop before it of `android`."""
    return note(**of_note), of_item or {}, name, expected


FIELDS = {
    "ttl below a second": field(".ttl", "1s", of_item={"ttl_s": 0}),
    "ttl over 15 days": field(".ttl", "1296000s", of_item={"ttl_s": 10**9}),
    "no badge without the activity": field("badge", None, of_item={"badge": 3}),
    "no sound": field("default_sound", False, sound_android="none"),
    "default sound is left to Huawei": field("default_sound", None, sound_android="default"),
    "an image must be https": field("image", None, image="http://a/b.png"),
    "no image once it was refused": field(
        "image", None, of_item={"again": "without_image"}, image="https://a/b.png"
    ),
    "nor a raw one": field(
        "image",
        None,
        of_item={"again": "without_image"},
        vendor_raw={"notification": {"image": "https://a/b.png"}},
    ),
    "group is the conversation": field("group", "c2c-42"),
    "channel override": field(
        "channel_id", "c9", vendor={"channel_id": "c9"}, placement={"channel_id": "c1"}
    ),
    "big text": field("big_body", "晚上一起吃饭吗？", vendor={"style": 1}),
    "title from the app's name": field("title", "Chat", title="", app_name="Chat"),
    "ext as intent": field(
        "click_action",
        {"type": 1, "intent": LAUNCH + "S.ext=a%20b%3Bc;end"},
        vendor={"ext_as_intent": 1},
        ext="a b;c",
    ),
    "raw colour": field("color", "#ff0000", vendor_raw={"notification": {"color": "#ff0000"}}),
    "raw lines": field("style", 3, vendor_raw={"notification": {"inbox_content": ["a"]}}),
    "no raw words for who hides detail": field(
        "ticker", None, hidden=True, vendor_raw={"notification": {"ticker": "x"}}
    ),
    "raw title is not taken": field("title", "张三", vendor_raw={"notification": {"title": "x"}}),
    "raw ids are not taken": field(
        "notify_id", number_id("m-1001"), vendor_raw={"notification": {"notify_id": 1}}
    ),
    "raw that is no object does not replace one": field(
        "click_action", {"type": 3}, vendor_raw={"notification": {"click_action": 5}}
    ),
    "raw collapse group": field(
        ".collapse_key", 5, vendor_raw={"message": {"android": {"collapse_key": 5}}}
    ),
    "raw receipt id is not taken": field(
        ".receipt_id", None, vendor_raw={"message": {"android": {"receipt_id": "x"}}}
    ),
    "raw test mode is not taken": field(
        ".target_user_type", None, vendor_raw={"message": {"android": {"target_user_type": 1}}}
    ),
}


@pytest.mark.parametrize(("about", "of_item", "name", "expected"), FIELDS.values(), ids=FIELDS)
def test_each_field_of_the_note_has_its_place(about, of_item, name, expected):
    android = shown(about, **of_item)
    place = android if name.startswith(".") else android["notification"]
    assert place.get(name.removeprefix(".")) == expected


def test_raw_fields_touch_neither_target_nor_mode():
    message = {"token": ["X"], "topic": "t", "condition": "c", "data": "mine"}
    raw = {"message": message, "validate_only": True, "token": ["X"], "notification": "junk"}
    body = json.loads(HUAWEI.build(batch("T1", note_=note(vendor_raw=raw)), CRED, ACCESS).body)
    assert set(body["message"]) == {"data", "android", "token"}
    found = (body["validate_only"], body["message"]["token"], body["message"]["data"])
    assert found == (False, ["T1"], "mine")


@pytest.mark.parametrize(("badge", "number"), [(0, 0), (1, 1), (99, 99), (1000, 99), (-1, 0)])
def test_the_badge_is_clipped(badge, number):
    android = shown(
        note(badge_mode=BadgeMode.INCREMENT), options={"badge_class": "a.Main"}, badge=badge
    )
    assert android["notification"]["badge"] == {"set_num": number, "class": "a.Main"}


# ---------------------------------------------------------------- credential


def test_the_check_delivers_nothing():
    request = present(HUAWEI.check)(CRED, ACCESS)
    assert json.loads(request.body)["validate_only"] is True
    assert request.path == "/v1/100000001/messages:send"


CHECKED = {
    "80000000": V.ACCEPTED,
    "80100000": V.ACCEPTED,
    "80300007": V.ACCEPTED,
    "80100001": V.ACCEPTED,
    "80200001": V.ACCESS_EXPIRED,
    "80300002": V.CREDENTIAL_REFUSED,
    "81000001": V.UNAVAILABLE,
    "80199999": V.UNKNOWN,
}


@pytest.mark.parametrize(("code", "verdict"), CHECKED.items())
def test_the_check_is_read(code, verdict):
    assert present(HUAWEI.checked)(reply({"code": code})) is verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(404, V.CREDENTIAL_REFUSED), (503, V.THROTTLED), (200, V.UNKNOWN), (400, V.REJECTED)],
)
def test_a_check_without_a_code_proves_nothing(status, verdict):
    assert present(HUAWEI.checked)(reply(b"<html>", status)) is verdict


def test_rights_are_the_documented_categories():
    assert "huawei.im" in HUAWEI.rights
    assert "huawei.marketing" not in HUAWEI.rights
    assert len(HUAWEI.rights) == 12
