"""What the vendors' properties are tried with: texts that break careless code, notes, and answers
of any kind; and how a cut text is judged.
"""

import json

import regex
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from common.contracts import Notification
from common.model import Bucket, Kind, MessageClass, PushType
from tests.unit.vendors.cases import note

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG = "\U0001f1e8\U0001f1f3"
_WORDS = 'a 中 é 7 … " \\ { 👍🏽 1️⃣ ★ 𝒜 测试 晚上一起吃饭吗？ שלום ש مرحبا नमस्ते 한국어 ZZ̵Z̵'
_MARKS = "e\u0301\u0327 e\u0301\u0323\u0308 م\u064e \u202e \u200d \ud800 \udc00 \udfff"
_BLANKS = [" ", "\n", "\r\n", "\x00", "\x1f"]
PIECES = [*_WORDS.split(" "), *_MARKS.split(" "), *_BLANKS, FAMILY, FLAG]
texts = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(), max_size=200),
    st.lists(st.sampled_from(PIECES), max_size=400).map("".join),
    st.builds(lambda piece, times: piece * times, st.sampled_from(PIECES), st.integers(0, 6000)),
    st.just("e" + "\u0301" * 5000),
)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
_JSON_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | texts


def nested(of: SearchStrategy[object]) -> SearchStrategy[object]:
    return st.recursive(
        of,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    )


#: What JSON can say, and what else a sender's fields may hold once they are decoded.
json_values = nested(_JSON_SCALARS)
values = nested(_SCALARS | st.binary(max_size=8))


def objects_of(keys: str, inner: SearchStrategy[object]) -> SearchStrategy[dict[str, object]]:
    """Objects of these keys, two deep, with anything as their values."""
    names = st.sampled_from(keys.split())
    return st.dictionaries(names, inner | st.dictionaries(names, inner, max_size=4), max_size=5)


_APPLE_GOOGLE = (
    "aps notification fcm_v1 parameters alert badge sound interruption-level title body tag "
    "channel_id ext interruption_level mutable_content category critical priority image data_only"
)
_HUAWEI = (
    "notification message android data token topic category importance badge style image push_type "
    "click_action clickAction inboxContent inbox_content pushOptions collapseKey channel_id uri "
    "click_type"
)
_XIAOMI_OPPO = (
    "channel_id channel_name template_id style category notify_level extra notify_effect "
    "intent_uri web_uri notify_foreground ticker notification sub_title click_action_type "
    "click_action_activity click_action_url action_parameters show_ttl target_value "
    "registration_id restricted_package_name app_message_id call_back_url callback callback.type "
    "private_msg_template_id pass_through off_line jobkey template_param id title_params "
    "content_params auth_token"
)
_VIVO_MEIZU = (
    "notifyType skipType regId requestId pushMode extra classification category notify_type "
    "push_mode add_badge notice_msg_type parameters"
)
_PLACED = (
    "priority interruption_level channel_id classification notice_msg_type template_id "
    "template_sender template_text notify_level"
)
_CLASSES = st.sampled_from(["IM", "VOIP", "MARKETING", "NORMAL", "LOW", "HIGH", "2", "16", ""])
#: Huawei's category and importance are words of its tables, whatever the sender wishes.
_PLACEMENTS = st.builds(
    lambda free, ours: free | ours,
    st.dictionaries(st.sampled_from(_PLACED.split()), texts | _CLASSES, max_size=4),
    st.dictionaries(st.sampled_from(["category", "importance"]), _CLASSES),
)


def _notes(keys: str, inner: SearchStrategy[object] = json_values) -> SearchStrategy[Notification]:
    fields = objects_of(keys, inner)
    return st.builds(
        note,
        title=texts,
        subtitle=st.none() | texts,
        body=texts,
        sender_name=texts,
        text=texts,
        app_name=texts,
        fallback_body=texts,
        lang=st.sampled_from(("zh", "en", "fr", "")),
        event_id=texts,
        collapse_id=texts,
        conversation_type=st.sampled_from(("c2c", "group")),
        conversation_id=texts,
        thread_id=st.none() | texts,
        ext=st.none() | texts,
        payload=st.none() | st.dictionaries(texts, inner, max_size=4),
        image=st.none() | st.just("https://cdn.example.com/a.png") | texts,
        sound_ios=st.none() | texts,
        sound_android=st.none()
        | st.sampled_from(["none", "default", "ring.mp3", "/raw/x"])
        | texts,
        hidden=st.booleans(),
        kind=st.sampled_from(Kind),
        message_class=st.sampled_from(MessageClass),
        push_type=st.sampled_from(PushType),
        bucket=st.sampled_from(Bucket),
        expires_at_ms=st.integers(-1, 2**53),
        placement=_PLACEMENTS,
        voip=st.none() | st.dictionaries(texts, json_values, max_size=2),
        template=st.none() | fields,
        vendor=fields,
        vendor_raw=fields,
    )


_GROUPS = (
    (("apns", "fcm"), _notes(_APPLE_GOOGLE)),
    (("huawei", "harmony", "honor"), _notes(_HUAWEI)),
    (("xiaomi", "oppo"), _notes(_XIAOMI_OPPO, values)),
    (("vivo", "meizu"), _notes(_VIVO_MEIZU)),
)
notes = st.one_of(*(group for _, group in _GROUPS))
#: Half of them with the vendor's own fields.
notes_for = {
    vendor: st.one_of(group, group, notes) for vendors, group in _GROUPS for vendor in vendors
}
#: With what an answer's meaning may hang on.
answered_notes = st.builds(
    note,
    kind=st.sampled_from(Kind),
    message_class=st.sampled_from(MessageClass),
    push_type=st.sampled_from(PushType),
    bucket=st.sampled_from(Bucket),
    hidden=st.booleans(),
    collapse_id=texts,
    placement=_PLACEMENTS,
    template=st.none() | st.just({"id": "t1", "title_params": {"name": "x"}}),
    vendor=st.just({}) | st.just({"private_msg_template_id": "t1", "channel_id": "c"}),
)

_JUNK = [
    b"", b"null", b"[]", b"{}", b"0", b'""', b'"{}"', b"\xff\xfe\x00", b"[" * 5000,
    b"<html><body>502</body></html>", b'{"reason":"Unreg', b'{"code":', b'{"code":"80000000"',
    b'{"error":{"details":[1]}}', b'{"code":0,"data":[null,1,{}]}', b'{"msg":"\\ud800"}',
]  # fmt: skip
_CODES = [
    0, "0", 200, "200", "401", 10302, "Unregistered", "80000000", "80100000", "80300007",
    "80200001", "80100022", "", "89", "80499999", True, 10**30, 1.5, None, [], {},
]  # fmt: skip
_NAMES = (
    "reason timestamp error name result desc taskId invalidUser invalidUsers code value message "
    "msgId authToken access_token expires_in"
)
_LISTS = "failTokens expireTokens sendResult requestId id day_quota day_acked bad_regids"
_ILLEGAL = objects_of("illegalTokens illegal_tokens success failure", json_values)


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()


bodies = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(_JUNK),
    objects_of(_NAMES, json_values | st.sampled_from(_CODES)).map(_encoded),
    json_values.map(lambda value: _encoded({"error": value})),
    st.integers(-5, 300_000).map(lambda code: b'{"code":%d,"reason":"x","data":{"id":"m"}}' % code),
    st.fixed_dictionaries(
        {"code": st.sampled_from(_CODES)},
        optional={
            "msg": json_values | _ILLEGAL.map(json.dumps),
            "message": json_values,
            "data": objects_of(_LISTS, json_values),
            "requestId": json_values,
        },
    ).map(_encoded),
)
statuses = st.sampled_from(
    [100, 200, 201, 204, 301, 400, 401, 403, 404, 405, 408, 410, 413, 429, 500, 502, 503, 504, 599]
)


def kept_whole(text: str, shown: str, strip: bool = False) -> bool:
    """Whether `shown` is `text`, or some of its first graphemes and an ellipsis, blanks before it
    aside. Lone surrogates count as U+FFFD. strip: blanks at the text's own ends do not count.
    """
    text = regex.sub("[\ud800-\udfff]", "\ufffd", text)
    if strip:
        text = text.strip()
    if shown == text:
        return True
    start, heads = shown.removesuffix("…"), {""}
    for grapheme in regex.finditer(r"\X", text):
        heads |= {text[: grapheme.end()], text[: grapheme.end()].rstrip()}
        if grapheme.end() > len(start) + 100:
            break
    return shown.endswith("…") and start in heads
