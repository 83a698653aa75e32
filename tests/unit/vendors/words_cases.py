"""Hard texts and strategies that the Xiaomi and OPPO tests share, and a grapheme oracle."""

from __future__ import annotations

import regex
from hypothesis import strategies as st

from common.contracts import Notification
from common.model import Bucket, Kind, MessageClass, PushType

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG = "\U0001f1e8\U0001f1f3"
COMBINED = "e\u0301\u0323"
HARD = (
    FAMILY,
    FLAG,
    COMBINED,
    "👍🏽",
    "1️⃣",
    "晚上一起吃饭吗？",
    "שלום",
    "مرحبا",
    "नमस्ते",
    "한국어",
    "\ud800",
    "\udfff",
    "\u200d",
    " ",
    "\n",
    "\x00",
    "★",
    "a",
)

texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(HARD), max_size=120).map("".join),
    st.text(st.characters(), max_size=200),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    texts,
    st.binary(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
)

#: Every key an override may try to touch, allowed or not.
_KEYS = (
    "channel_id channel_name template_id style category notify_level extra notify_effect "
    "intent_uri web_uri notify_foreground ticker "
    "notification sub_title click_action_type click_action_activity click_action_url "
    "action_parameters show_ttl target_value "
    "registration_id restricted_package_name app_message_id call_back_url callback "
    "callback.type private_msg_template_id pass_through "
    "off_line jobkey template_param id title_params content_params auth_token"
)
KEYS = tuple(_KEYS.split())
overrides = st.dictionaries(
    st.sampled_from(KEYS),
    st.one_of(values, st.dictionaries(st.sampled_from(KEYS), values, max_size=6)),
    max_size=8,
)
placements = st.dictionaries(
    st.sampled_from(
        (
            "channel_id",
            "template_id",
            "template_sender",
            "template_text",
            "category",
            "notify_level",
        )
    ),
    texts,
)

notes = st.builds(
    Notification,
    app=st.just("1400000001"),
    event_id=texts,
    message_id=st.just("m1"),
    kind=st.sampled_from(Kind),
    conversation_type=st.sampled_from(("c2c", "group")),
    conversation_id=st.just("li"),
    ts_ms=st.just(0),
    received_ms=st.just(0),
    expires_at_ms=st.just(0),
    lang=st.sampled_from(("zh", "en", "fr", "")),
    app_name=texts,
    title=texts,
    body=texts,
    fallback_body=texts,
    hidden=st.booleans(),
    sender_name=texts,
    text=texts,
    ext=st.one_of(st.none(), texts),
    payload=st.one_of(st.none(), st.dictionaries(texts, values, max_size=4)),
    message_class=st.sampled_from(MessageClass),
    bucket=st.sampled_from(Bucket),
    placement=placements,
    push_type=st.sampled_from(PushType),
    collapse_id=texts,
    sound_android=st.one_of(st.none(), st.sampled_from(("none", "default", "ring.mp3")), texts),
    template=st.one_of(st.none(), overrides),
    vendor=overrides,
    vendor_raw=overrides,
)

bodies = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        (
            b"",
            b"null",
            b"[]",
            b"{}",
            b'"{}"',
            b"<html>502</html>",
            b'{"code":',
            b'{"code":0}',
            b'{"code":0,"data":[null,1,{}]}',
            b"[" * 5000,
        )
    ),
    st.builds(
        lambda code: b'{"code":%d,"reason":"x","data":{"id":"m"}}' % code, st.integers(-5, 300_000)
    ),
)
statuses = st.sampled_from((200, 204, 301, 400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 599))

_GRAPHEME = regex.compile(r"\X")


def cut_between_graphemes(shown: str, source: str) -> bool:
    """Whether `shown` is `source`, or a run of its whole graphemes followed by an ellipsis (white
    space at ends aside).
    """
    source = regex.sub("[\ud800-\udfff]", "\ufffd", source).strip()
    if shown == source:
        return True
    kept, borders, end = shown.removesuffix("…"), {""}, 0
    for match in _GRAPHEME.finditer(source):
        end = match.end()
        borders.add(source[:end].rstrip())
    return shown.endswith("…") and kept in borders
