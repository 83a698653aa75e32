"""vivo: every code, the sign vectors, what a text may look like, single and list
bodies, receipts.
"""

import json
import re
from datetime import UTC, datetime

import pytest

from common.model import Again, Bucket, Kind, PushType, Vendor, Verdict
from tests.builders import present
from tests.page_vectors import VIVO_SIGNS
from tests.tables import spaced, table
from tests.unit.receipts.reading import read_any
from tests.unit.vendors.cases import ACCESS, NOW_MS, PUSH_ID, answer, batch, credential, note
from workers.vendors.ids import receipt_tag
from workers.vendors.types import AccessRefused, AccessToken
from workers.vendors.vivo import VIVO
from workers.vendors.vivo import codes as vivo_codes
from workers.vendors.vivo import credential as vivo_credential
from workers.vendors.vivo import receipts as vivo_receipts
from workers.vendors.vivo import request as vivo_request
from workers.vendors.vivo import texts as vivo_texts


def told(said, **of_batch):
    """The outcome of one push that vivo answered so."""
    [outcome] = vivo_codes.classify(batch(**of_batch), answer(200, said))
    return outcome


WORDS_CODES = dict.fromkeys((10056, 10058, 10085, 10104), Again.FALLBACK_TEXT)
CURED = {**WORDS_CODES, 10151: Again.SAVE_AGAIN, 10152: Again.SAVE_AGAIN, 10155: Again.SAVE_AGAIN}


NEW_CODE = 10999


@pytest.mark.parametrize("code", [*vivo_codes.CODES, NEW_CODE])
def test_each_code_is_told_with_its_words_and_cure(code):
    """Their verdicts: test_pages.py."""
    for said in (code, str(code)):
        outcome = told({"result": said, "desc": "words"})
        assert (outcome.status, outcome.code, outcome.words) == ("200", str(code), "words")
        assert outcome.again == CURED.get(code)
        assert outcome.alarm == (code in (NEW_CODE, 10207))
        assert (outcome.verdict is Verdict.UNKNOWN) == (code == NEW_CODE)


@pytest.mark.parametrize(("code", "again"), CURED.items())
def test_a_cure_is_tried_once(code, again):
    outcome = told({"result": code}, again=again)
    assert (outcome.verdict, outcome.again) == (Verdict.REJECTED, None)


TOKENS = tuple(f"r{n}" for n in range(20))


#: What vivo says of a list, beside that it took it -> the verdicts of tokens by name, and of the
#: rest.
LISTS = table("""
all taken | {} | - | accepted
each status | {"invalidUsers": [{"status": 1, "userid": "r3"}, {"status": "2", "userid": "r4"}, {"status": 3, "userid": "r5"}]} | r3=token_dead r4=token_dead r5=token_dead | accepted
other statuses | {"invalidUsers": [{"status": 4, "userid": "r6"}, {"status": 9, "userid": "r7"}]} | r6=rejected r7=unknown | accepted
a regId is bad, nobody says which | {"result": 10302, "desc": "regId不合法"} | - | unavailable
it is this one | {"result": 10302, "invalidUsers": [{"status": 1, "userid": "r3"}]} | r3=token_dead | unavailable
a status of one place | {"invalidUser": {"status": 1, "userid": "r2"}, "invalidUsers": [{"userid": "r2"}]} | r2=token_dead | accepted
of the later place | {"invalidUsers": [{"userid": "r2"}, {"status": 1, "userid": "r2"}]} | r2=token_dead | accepted
a list of texts | {"invalidUsers": ["r2"]} | r2=unknown | accepted
commas | {"invalidUsers": "r2,r3"} | r2=unknown r3=unknown | accepted
tokens as keys | {"invalidUsers": {"r2": 1}} | r2=unknown | accepted
userId | {"invalidUsers": [{"userId": "r2", "status": 1}]} | r2=token_dead | accepted
an object that names nobody | {"invalidUser": {"status": 0, "userid": ""}} | - | accepted
named without a status | {"result": 10302, "invalidUsers": [{"userid": "r2"}]} | - | unavailable
nobody says who | {"invalidUsers": [{"id": "r2", "status": 1}]} | - | unknown
nobody | {"invalidUser": "", "invalidUsers": [null]} | - | accepted
no more lists today | {"result": 10252} | - | unavailable
one can't be pushed | {"result": 10311} | - | unavailable
saved, but under no name | {"requestId": null} | - | unknown
quota | {"result": 10070} | - | quota_spent
""")  # noqa: E501


@pytest.mark.parametrize(("body", "named", "rest"), LISTS.values(), ids=LISTS)
def test_each_token_of_a_list_has_its_own_verdict(body, named, rest):
    taken = {"requestId": "q"} if "result" not in body else {}
    outcomes = vivo_codes.classify(batch(tokens=TOKENS), answer(200, {"result": 0} | taken | body))
    found = {t: o.verdict for t, o in zip(TOKENS, outcomes, strict=True)}
    told = dict(one.split("=") for one in (named or "").split())
    assert found == {t: told.get(t, rest) for t in TOKENS}
    assert all((o.again == Again.SINGLY) == (o.verdict is Verdict.UNAVAILABLE) for o in outcomes)


@pytest.mark.parametrize(
    ("code", "bucket"),
    [(10070, Bucket.PUBLIC), (10073, Bucket.PRIVATE), (10254, None), (10040, None)],
)
def test_the_code_says_whose_day_is_over(code, bucket):
    found = {o.bucket for o in vivo_codes.classify(batch(), answer(200, {"result": code}))}
    assert found == {bucket}


@pytest.mark.parametrize(("code", "spent"), [(10252, True), (10302, False), (10311, False)])
def test_only_the_end_of_the_days_lists_ends_lists(code, spent):
    outcomes = vivo_codes.classify(batch(tokens=TOKENS), answer(200, {"result": code}))
    assert {o.lists_spent for o in outcomes} == {spent}


def test_a_number_as_userid_is_the_token_of_those_digits():
    invalid_user = {"status": 4, "userid": 16587320000000012}
    outcome = told({"result": 10302, "invalidUser": invalid_user}, tokens=("16587320000000012",))
    assert (outcome.verdict, outcome.code) == (Verdict.REJECTED, "10302.4")


@pytest.mark.parametrize(
    ("hour_utc", "wait_s"), [(15, 8 * 3600), (22, 3600), (23, 60), (0, 60), (14, 60)]
)
def test_outside_the_hours_a_public_push_waits_for_seven_in_beijing_and_holds_up_nobody(
    hour_utc, wait_s
):
    """By day vivo's clock is not ours: what waited all night for our seven o'clock must not wait
    for tomorrow's.
    """
    push = batch()
    now_ms = int(datetime(2026, 1, 2, hour_utc, tzinfo=UTC).timestamp() * 1000)
    [outcome] = vivo_codes.classify(type(push)(push.items, now_ms), answer(200, {"result": 10071}))
    assert (outcome.retry_after_s, outcome.token_only) == (wait_s, True)


def test_too_fast_waits_a_second():
    outcome = told({"result": 10072})
    assert (outcome.retry_after_s, outcome.token_only) == (1.0, False)


# ---------------------------------------------------------------- bodies

PLACED = {"classification": "1", "category": "IM"}


def built(push):
    return vivo_request.build(push, credential(Vendor.VIVO), ACCESS)


def body_of(about=None, **of_batch):
    return json.loads(built(batch(about or note(placement=PLACED), **of_batch)).body)


def test_a_list_is_saved_and_then_pushed():
    push = batch(note(placement=PLACED), TOKENS)
    saved = built(push)
    body = json.loads(saved.body)
    assert saved.path == "/message/saveListPayload"
    assert "regId" not in body
    saved_as = answer(200, {"result": 0, "taskId": 121397329})
    sent = present(vivo_request.follow(push, saved_as, credential(Vendor.VIVO), ACCESS))
    assert (sent.path, sent.headers["authtoken"]) == ("/message/pushToList", "access-1")
    second = json.loads(sent.body)
    assert second == {
        "appId": 100000123,
        "taskId": "121397329",
        "regIds": list(TOKENS),
        "requestId": second["requestId"],
        "pushMode": 0,
    }
    assert len(second["requestId"]) <= 64
    assert second["requestId"] != body["requestId"]


@pytest.mark.parametrize(
    "said",
    [
        (200, {"result": 10252}),
        (200, {"result": 0}),
        (200, {"result": 0, "taskId": True}),
        (500, {"result": 0, "taskId": "1"}),
        (200, b"junk"),
    ],
)
def test_a_body_that_was_not_saved_is_not_pushed(said):
    sent = batch(tokens=TOKENS)
    assert vivo_request.follow(sent, answer(*said), credential(Vendor.VIVO), ACCESS) is None
    answered = {"result": 0, "taskId": "1"}
    assert (
        vivo_request.follow(batch(), answer(200, answered), credential(Vendor.VIVO), ACCESS) is None
    )


def test_request_ids_differ_by_attempt_and_people_and_never_by_chance():
    ids = [
        body_of(tokens=tokens, attempt=attempt)["requestId"]
        for tokens in (("a",), TOKENS, TOKENS[:3])
        for attempt in (1, 2)
    ]
    assert len(set(ids)) == 6
    assert ids[2] == body_of(tokens=TOKENS)["requestId"]
    assert VIVO.request_tokens_min_list == 20


RAISED = {"classification": 1, "category": "IM"}


def public(category, **more):
    placement = {"classification": "0", "category": category}
    return {"bucket": Bucket.PUBLIC, "placement": placement, **more}


CLASSES = {
    "chat": ({}, 1, "IM"),
    "marketing": (public("MARKETING"), 0, "MARKETING"),
    "marketing is not lifted": (public("MARKETING", vendor=RAISED), 0, "MARKETING"),
    "nor by raw": (public("NEWS", vendor_raw=RAISED), 0, "NEWS"),
    "a downgraded chat has no category": (public("IM"), 0, None),
    "lowered by the sender": ({"vendor": {"classification": 0, "category": "SOCIAL"}}, 0, "SOCIAL"),
    "another system category": ({"vendor": {"category": "ORDER"}}, 1, "ORDER"),
    "lower case is unknown": ({"vendor": {"category": "order"}}, 1, "IM"),
}


@pytest.mark.parametrize(("changes", "classification", "category"), CLASSES.values(), ids=CLASSES)
def test_class(changes, classification, category):
    body = body_of(note(**{"placement": PLACED, **changes}))
    assert (body["classification"], body.get("category")) == (classification, category)


@pytest.mark.parametrize(("ttl_s", "sent"), [(-1, 60), (0, 60), (61, 61), (86_401, 86_400)])
def test_time_to_live_is_clamped(ttl_s, sent):
    assert body_of(ttl_s=ttl_s)["timeToLive"] == sent


NOTIFY = {
    "usual": (note(), 4),
    "no sound": (note(sound_android="none"), 1),
    "recall": (note(kind=Kind.RECALL), 1),
    "wish": (note(vendor={"notify_type": 3}), 3),
    "nonsense": (note(vendor={"notify_type": 9}), 4),
    "raw": (note(vendor_raw={"notifyType": 2}), 2),
}


@pytest.mark.parametrize(("about", "kind"), NOTIFY.values(), ids=NOTIFY)
def test_notify_type(about, kind):
    assert body_of(about)["notifyType"] == kind


ALL_TAKEN = {
    "notifyType": 2,
    "networkType": 1,
    "foregroundShow": True,
    "sendOnline": True,
    "addBadge": False,
    "skipType": 1,
}
RAW = {
    **table("""
    an address | {"skipType": "2", "skipContent": "https://a.example"}
      | {"skipType": 2, "skipContent": "https://a.example"}
    an address that is missing | {"skipType": 2} | {"skipType": 1}
    what vivo would refuse | {"notifyType": 9, "networkType": 7, "foregroundShow": "yes",
      "skipType": {"a": 1}, "skipContent": 5, "timeToLive": 1}
      | {"notifyType": 4, "foregroundShow": false, "skipType": 1, "timeToLive": 86400}
    """),
    "all that vivo takes": (ALL_TAKEN, ALL_TAKEN),
    "an address that is too long": ({"skipType": 4, "skipContent": "x" * 1025}, {"skipType": 1}),
}


@pytest.mark.parametrize(("raw", "sent"), RAW.values(), ids=RAW)
def test_a_sender_s_own_fields_travel_as_far_as_vivo_takes_them(raw, sent):
    body = body_of(note(vendor_raw=raw))
    assert {name: body.get(name) for name in sent} == sent
    names = {"networkType", "sendOnline", "addBadge", "skipContent"}
    assert {name for name in names if name in body} == {name for name in names if name in sent}


def test_test_mode_and_badge_are_the_sender_s_wish():
    body = body_of(note(vendor={"push_mode": 1, "add_badge": True}))
    assert (body["pushMode"], body["addBadge"]) == (1, True)
    assert body_of(note(vendor_raw={"pushMode": 1}))["pushMode"] == 0


def test_receipts_are_asked_for_only_with_an_address():
    url = "https://push.example.com/r/vivo/3f9c"
    assert "extra" not in body_of()
    assert body_of(callback_url=url)["extra"] == {"callback": url, "callback.param": PUSH_ID}
    assert "extra" not in body_of(callback_url=url + "x" * 128)
    assert "extra" not in body_of(tokens=TOKENS, callback_url=url)
    push = batch(tokens=TOKENS, callback_url=url)
    with_id = vivo_request.build(push, credential(Vendor.VIVO, {"callback_id": "100"}), ACCESS)
    found = json.loads(with_id.body)["extra"]
    assert found == {"callback.id": "100", "callback.param": receipt_tag(push)}


# ---------------------------------------------------------------- words

GOOD = ["今晚八点开会", "ok 今晚", "Meeting moved to 20:00", "Li Hua 2", "李 Hua", "发来一张图片"]
ODD = spaced("ok Straße 666 👀 [图片] 发来{0} 这是测试消息")
FORMAL = dict.fromkeys(GOOD, True) | dict.fromkeys(
    [*ODD, "6 6 6", "Li Hua", "José Álvarez", "!!! …", "", "  "], False
)


@pytest.mark.parametrize(("text", "good"), FORMAL.items())
def test_what_vivo_takes_for_a_formal_text(text, good):
    assert vivo_texts.formal(text) is good


def as_shown(*, shown_title="张三", shown="今晚八点开会", kept=None, **of_note):
    """A row of WORDS: a note, its words as they travel, and those kept beside them for the app."""
    return note(**of_note), shown_title, shown, kept or {}


WORDS = {
    "good words stay": as_shown(),
    "ok": as_shown(shown="您收到一条新消息", kept={"content": "ok"}, body="ok"),
    "a nick in Latin": as_shown(shown_title="畅聊", kept={"title": "Alice"}, title="Alice"),
    "an app in Latin too": as_shown(
        shown_title="新消息", kept={"title": "Alice"}, title="Alice", app_name="Demo"
    ),
    "a fallback that breaks the rule": as_shown(
        shown="您收到一条新消息", kept={"content": "666"}, body="666", fallback_body="Message"
    ),
    "a fallback in English": as_shown(
        shown="You have 1 new message",
        kept={"content": "[图片]"},
        body="[图片]",
        fallback_body="You have 1 new message",
    ),
    "no title": as_shown(shown_title="畅聊", title=""),
}


@pytest.mark.parametrize(("about", "title", "content", "kept"), WORDS.values(), ids=WORDS)
def test_what_breaks_the_rules_is_replaced_and_kept_for_the_app(about, title, content, kept):
    body = body_of(about)
    found = (body["title"], body["content"], body.get("clientCustomMap", {}))
    assert found == (title, content, kept)


def test_an_app_name_of_latin_words_is_no_safe_title():
    found = body_of(note(title="张三", app_name="Test chat"), again=Again.FALLBACK_TEXT)["title"]
    assert found == "新消息"
    assert body_of(note(title="Hi", app_name="Test chat"))["title"] == "新消息"


def test_words_that_vivo_refused_are_replaced_by_the_safest():
    body = body_of(
        note(body="看起来没问题", fallback_body="You have 1 new message"), again=Again.FALLBACK_TEXT
    )
    assert (body["title"], body["content"]) == ("畅聊", "您收到一条新消息")
    assert body["clientCustomMap"] == {"title": "张三", "content": "看起来没问题"}


def test_the_original_is_kept_as_far_as_there_is_room():
    custom = body_of(note(body="[" + "长" * 3000, ext="x" * 1000))["clientCustomMap"]
    assert custom["content"].endswith("…")
    assert sum(len(k) + len(v) for k, v in custom.items()) == 1024
    assert "content" not in body_of(note(body="ok", ext="x" * 1020))["clientCustomMap"]


def test_a_payload_of_many_keys_travels_as_one():
    payload = {f"k{n}": n for n in range(12)}
    custom = body_of(note(payload=payload, ext="e"))["clientCustomMap"]
    assert json.loads(custom["payload"]) == payload
    assert set(custom) == {"payload", "ext"}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("abc", 3),
        ("会", 2),
        ("Ａ", 2),
        ("👍", 2),
        ("𝒜", 2),
        ("é", 1),
        ("…", 2),
        ("—", 2),
        ("“", 2),
        ("ｱ", 2),
        ("́", 1),
        ("ب", 1),
        ("한", 2),
        ("\u200d", 2),
    ],
)
def test_weights(text, size):
    assert vivo_texts.weight(text) == size


#: vivo.md §3: what our old count took for short and vivo's server SDK for too long.
SDK_COUNTS = {
    "quotation marks and dashes": ("他说：“明天……不行——后天吧”，" * 8, 100),
    "a title of Latin words": (
        "Meeting notes of the “Falcon” project — third draft, please read",
        40,
    ),
    "half-width katakana": ("ｱ" * 60, 100),
    "right to left with marks": ("שלום — عليكم — " * 9, 100),
    "zero-width joiners": ("👩\u200d👩\u200d👧" * 12, 100),
}


@pytest.mark.parametrize(("text", "most"), SDK_COUNTS.values(), ids=SDK_COUNTS)
def test_what_is_sent_is_short_by_the_count_of_vivos_own_sdk(text, most):
    fitted = vivo_texts._fit(text, most)
    sdk = sum(
        2
        if ord(c) > 0xFFFF
        or re.match("[\u2000-\u206f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef]", c)
        else 1
        for c in fitted
    )
    assert most - 12 < sdk <= most


REFUSED_PARTS = {
    10056: ("畅聊", "看起来没问题"),
    10085: ("畅聊", "看起来没问题"),
    10058: ("张三", "您收到一条新消息"),
    10104: ("张三", "您收到一条新消息"),
}


@pytest.mark.parametrize(("code", "words"), REFUSED_PARTS.items())
def test_the_refused_part_alone_is_replaced_and_once(code, words):
    met = (code,)
    body = body_of(note(body="看起来没问题"), again=Again.FALLBACK_TEXT, met=met)
    assert (body["title"], body["content"]) == words
    outcome = told({"result": code}, again=Again.FALLBACK_TEXT, met=met)
    assert outcome.verdict is Verdict.REJECTED


def test_a_refusal_of_the_other_part_is_cured_too_and_a_fault_between_them_changes_nothing():
    met = (10085, "")
    outcome = told({"result": 10104}, met=met)
    assert (outcome.verdict, outcome.again) == (Verdict.UNAVAILABLE, Again.FALLBACK_TEXT)
    assert body_of(met=met)["title"] == "畅聊"
    both = body_of(note(body="看起来没问题"), met=(*met, 10104))
    assert (both["title"], both["content"]) == ("畅聊", "您收到一条新消息")


def test_cut_at_forty_and_a_hundred_weights():
    body = body_of(note(title="题" * 21, body="会" * 51))
    assert (body["title"], body["content"]) == ("题" * 19 + "…", "会" * 49 + "…")
    assert body_of(note(title="题" * 20, body="会" * 50))["content"] == "会" * 50


REFUSED = {
    "fits": (note(ext="x" * 1021), None),
    "ext": (note(ext="x" * 3000), None),
    "opaque": (note(payload={"k": "x" * 1024}, blob=True), "payload_too_large"),
    "silent": (note(push_type=PushType.SILENT), "silent_not_supported"),
}


@pytest.mark.parametrize(("about", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_can_t_be_sent_is_refused_before_a_request(about, reason):
    assert vivo_request.refuse(batch(about).items[0], credential(Vendor.VIVO)) == reason


def test_what_does_not_fit_the_map_is_left_out_ext_last():
    found = body_of(note(payload={"k": "x" * 1000}, ext="e" * 100))["clientCustomMap"]
    assert found == {"ext": "e" * 100}
    assert "clientCustomMap" not in body_of(note(ext="x" * 3000))
    assert body_of(note(ext="x" * 3000))["content"] == "今晚八点开会"
    opaque = note(payload={"k": "x" * 1024}, blob=True)
    assert "clientCustomMap" not in body_of(opaque), "it is refused before; nothing is cut"


# ---------------------------------------------------------------- access token, credential


@pytest.mark.parametrize(("app_id", "app_key", "now_ms", "secret", "wanted"), VIVO_SIGNS)
def test_sign_vectors(app_id, app_key, now_ms, secret, wanted):
    assert vivo_credential.sign(app_id, app_key, now_ms, secret) == wanted
    options = {"app_id": app_id, "app_key": app_key}
    request = vivo_credential.ask(credential(Vendor.VIVO, options, {"app_secret": secret}), now_ms)
    found = json.loads(request.body)
    assert found == {"appId": int(app_id), "appKey": app_key, "timestamp": now_ms, "sign": wanted}
    assert request.path == "/message/auth"


AUTH = {
    "given": (
        200,
        {"result": 0, "authToken": "t"},
        AccessToken("t", NOW_MS + 5_400_000, NOW_MS + 82_800_000),
    ),
    "given no token": (200, {"result": 0}, Verdict.UNAVAILABLE),
    "sign wrong": (200, {"result": 10206}, Verdict.CREDENTIAL_REFUSED),
    "no app": (200, {"result": 10205}, Verdict.CREDENTIAL_REFUSED),
    "clock": (200, {"result": 10207}, Verdict.CREDENTIAL_REFUSED),
    "too often": (200, {"result": 10250}, Verdict.THROTTLED),
    "busy": (200, {"result": 10040}, Verdict.UNAVAILABLE),
    "new": (200, {"result": 12345}, Verdict.UNAVAILABLE),
    "500": (500, b"", Verdict.UNAVAILABLE),
    "429": (429, b"", Verdict.THROTTLED),
}


@pytest.mark.parametrize(("status", "body", "wanted"), AUTH.values(), ids=AUTH)
def test_what_auth_says(status, body, wanted):
    got = vivo_credential.read_access(answer(status, body), NOW_MS)
    assert (got.verdict if isinstance(got, AccessRefused) else got) == wanted


def test_a_wrong_clock_is_named():
    refused = vivo_credential.read_access(answer(200, {"result": 10207}), NOW_MS)
    assert isinstance(refused, AccessRefused)
    assert "clock" in refused.words


# ---------------------------------------------------------------- receipts


def receipts(value) -> list[tuple]:
    raw = json.dumps(value).encode()
    found = read_any(vivo_receipts.read_receipts, raw)
    return [(r.token, r.tag, r.request_id, r.status, r.at_ms, r.verdict) for r in found]


RECEIPTS = {
    "arrived": (
        {
            "1213": {
                "param": "p",
                "targets": "r1",
                "ackType": "0",
                "ackTime": 1767225612345,
                "subStatus": "0",
            }
        },
        [("r1", "p", "1213", "delivered", 1767225612345, None)],
    ),
    "old shape": (
        {"1213": {"param": "p", "targets": "r1,r2"}},
        [("r1", "p", "1213", "delivered", 0, None), ("r2", "p", "1213", "delivered", 0, None)],
    ),
    "a list": (
        {"1": {"targets": ["r1", 22]}},
        [("r1", "", "1", "delivered", 0, None), ("22", "", "1", "delivered", 0, None)],
    ),
    "new": ({"1": {"targets": "r1", "ackType": "777"}}, [("r1", "", "1", "other", 0, None)]),
    "not a task": ({"1": 5, "2": {"targets": {}}}, []),
}


@pytest.mark.parametrize(("body", "wanted"), RECEIPTS.values(), ids=RECEIPTS)
def test_receipts_are_read(body, wanted):
    assert receipts(body) == wanted


#: (kind, detail, our word, verdict); the words of vivo.md §8 stand in test_pages.py.
ROWS = [
    *(("104", detail, *told) for detail, told in vivo_receipts.DETAILS.items()),
    *((kind, None, *told) for kind, told in vivo_receipts.KINDS.items()),
    ("100", "99999", "controlled", None),
    ("102", "29999", "no_match", None),
    ("104", "2999", "not_shown", None),
    ("777", None, "other", None),
    ("777", "2183", "token_dead", Verdict.TOKEN_DEAD),
    (None, "20002", "token_dead", Verdict.TOKEN_DEAD),
]


@pytest.mark.parametrize("name", ["subStatus", "subAckType"])
@pytest.mark.parametrize("form", [str, int])
@pytest.mark.parametrize(("kind", "detail", "word", "verdict"), ROWS)
def test_the_detail_decides_under_either_name_and_the_kind_where_it_says_nothing(
    kind, detail, word, verdict, form, name
):
    item = {"targets": "r1", "param": "p", "ackTime": "1785000000000"}
    item |= {"ackType": form(kind)} if kind else {}
    item |= {name: form(detail)} if detail else {}
    assert receipts({"1": item}) == [("r1", "p", "1", word, 1785000000000, verdict)]


@pytest.mark.parametrize("empty", ["", "0", 0, " ", None, {}, [], True])
@pytest.mark.parametrize("known_first", [True, False])
def test_an_empty_detail_under_one_name_hides_none_under_the_other(empty, known_first):
    names = ("subStatus", "subAckType") if known_first else ("subAckType", "subStatus")
    told = {"1": {"targets": "r1", "ackType": "102", names[0]: "20001", names[1]: empty}}
    assert receipts(told)[0][3] == "token_dead"
    assert receipts({"1": {"targets": "r1", "ackType": "103", names[0]: empty}})[0][3] == "replaced"
