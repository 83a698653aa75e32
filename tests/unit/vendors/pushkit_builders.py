"""Notes, request batches and answers for the tests of Huawei, HarmonyOS and Honor, and the texts
that cutting must survive.
"""

from __future__ import annotations

import json
from typing import Any

import regex
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import strategies as st

from common.contracts import Attempt, Notification, Target
from common.model import Bucket, Kind, MessageClass, PushType, Vendor
from tests.builders import notification
from workers.vendors.types import AccessToken, Credential, Outcome, PushItem, RequestBatch
from workers.wire import HttpResponse

PUSH_ID = "0123456789abcdef0123456789abcdef"
NOW_MS = 1_748_793_600_000  # 2025-06-01T16:00:00Z
ACCESS = AccessToken("access-1", NOW_MS + 1, NOW_MS + 2)

_KEY = rsa.generate_private_key(65537, 2048)
PRIVATE_PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
PUBLIC_KEY = _KEY.public_key()


def note(**over: Any) -> Notification:
    named = {
        "app": "1400000001",
        "event_id": "e-1",
        "message_id": "m-1001",
        "conversation_id": "c2c-42",
        "collapse_id": "m-1001",
    }
    times = {"ts_ms": NOW_MS, "received_ms": NOW_MS, "expires_at_ms": NOW_MS + 86_400_000}
    return notification(**{**named, **times, "title": "张三", "body": "晚上一起吃饭吗？", **over})


def item(
    token: str = "T1",
    note_: Notification | None = None,
    *,
    badge: int | None = None,
    ttl_s: int = 86_400,
    **over: Any,
) -> PushItem:
    attempts = tuple(Attempt(0, status, code, "", None) for status, code in over.pop("told", ()))
    target = Target(
        "u",
        "d",
        token,
        over.pop("push_id", PUSH_ID),
        "android",
        0,
        attempts,
        over.pop("again", None),
    )
    return PushItem(note_ or note(), target, badge, ttl_s, 1 + len(attempts))


def batch(*tokens: str, note_: Notification | None = None, **over: Any) -> RequestBatch:
    shared = note_ or note()
    return RequestBatch(tuple(item(token, shared, **over) for token in tokens or ("T1",)), NOW_MS)


def credential(vendor: Vendor, *rights: str, **options: str) -> Credential:
    base = {
        Vendor.HUAWEI: ({"app_id": "100000001"}, {"app_secret": "a+b/c="}),
        Vendor.HARMONY: (
            {"project_id": "p1", "key_id": "k1", "sub_account": "sub-1"},
            {"private_key": PRIVATE_PEM},
        ),
        Vendor.HONOR: ({"app_id": "1040000001", "app_key": "100000001"}, {"app_secret": "a+b/c="}),
    }[vendor]
    return Credential(
        "1400000001", vendor, "b1", 1, {**base[0], **options}, base[1], frozenset(rights)
    )


def reply(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(
        status, {key.replace("_", "-"): value for key, value in headers.items()}, raw
    )


def brief(outcome: Outcome) -> tuple[Any, ...]:
    """(verdict, again, attempts_max, alarm): what a row of a test's table says."""
    return outcome.verdict, outcome.again, outcome.attempts_max, outcome.alarm


def without_tokens(body: dict[str, Any]) -> bytes:
    """The bytes that the vendors' limit counts."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def whole_graphemes(shown: str, original: str) -> bool:
    """`shown` is `original`, or its first graphemes (blanks at the end dropped) and an ellipsis.
    Lone surrogates count as U+FFFD.
    """
    original = regex.sub("[\ud800-\udfff]", "\ufffd", original)
    if shown == original:
        return True
    if not shown.endswith("…"):
        return False
    borders, end = {0}, 0
    for match in regex.finditer(r"\X", original):
        end = match.end()
        borders.add(end)
    kept = shown[:-1]
    return original.startswith(kept) and any(
        original[len(kept) : border].strip() == "" for border in borders if border >= len(kept)
    )


# ---------------------------------------------------------------- hypothesis

PIECES = [
    "👨‍👩‍👧‍👦",
    "🇨🇳",
    "🇩🇪",
    "e\u0301\u0323\u0308",
    "晚",
    "吃饭",
    "שלום",
    "مرحبا",
    "👍🏽",
    "\ud83d",
    "\udc00",
    '"',
    "\\",
    "\x00",
    "\x1f",
    "\n",
    " ",
    "a",
    "Z\u0335" * 3,
    "한",
]
texts = st.lists(st.sampled_from(PIECES), max_size=40).flatmap(
    lambda some: st.sampled_from([1, 1, 7, 120]).map(lambda n: "".join(some) * n)
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
RAW_KEYS = [
    "notification",
    "message",
    "android",
    "data",
    "token",
    "topic",
    "category",
    "importance",
    "badge",
    "style",
    "image",
    "push_type",
]
RAW_KEYS += [
    "click_action",
    "clickAction",
    "inboxContent",
    "inbox_content",
    "pushOptions",
    "collapseKey",
    "channel_id",
    "uri",
    "click_type",
]
raws = st.recursive(
    st.dictionaries(st.sampled_from(RAW_KEYS), junk, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(RAW_KEYS), inner | junk, max_size=4),
    max_leaves=6,
)
placements = st.dictionaries(
    st.sampled_from(["category", "importance", "channel_id"]),
    st.sampled_from(["IM", "VOIP", "MARKETING", "NORMAL", "LOW", "HIGH", ""]),
    max_size=3,
)
notes = st.builds(
    note,
    title=texts,
    body=texts,
    ext=st.none() | texts,
    payload=st.none() | st.dictionaries(st.text(max_size=8), junk, max_size=3),
    kind=st.sampled_from(Kind),
    bucket=st.sampled_from(Bucket),
    push_type=st.sampled_from(PushType),
    message_class=st.sampled_from(MessageClass),
    placement=placements,
    collapse_id=texts,
    thread_id=st.none() | texts,
    conversation_id=texts,
    event_id=texts,
    sound_android=st.none() | st.sampled_from(["none", "default", "ring.mp3", "/raw/x"]) | texts,
    image=st.none() | st.just("https://cdn.example.com/a.png") | texts,
    vendor=raws,
    vendor_raw=raws,
    voip=st.none() | st.dictionaries(st.text(max_size=8), junk, max_size=2),
    hidden=st.booleans(),
)
batches = st.builds(
    lambda one, tokens, badge, ttl_s, again: batch(
        *tokens, note_=one, badge=badge, ttl_s=ttl_s, again=again
    ),
    notes,
    st.lists(st.text("abcXYZ019-_", min_size=1, max_size=8), min_size=1, max_size=4, unique=True),
    st.none() | st.integers(-5, 500),
    st.integers(-10, 10**8),
    st.sampled_from([None, "without_image", "singly"]),
)
CODES = [
    "80000000",
    "80100000",
    "80300007",
    "80200001",
    "80100022",
    "401",
    200,
    0,
    "",
    "89",
    "80499999",
    True,
    10**30,
    1.5,
    None,
    [],
    {},
]
answers = st.builds(
    lambda status, body: HttpResponse(status, {"retry-after": "7"}, body),
    st.integers(100, 599),
    st.binary(max_size=60)
    | st.sampled_from(
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"<html>502</html>",
            b'{"code":',
            b'{"code":"80000000"',
            b"[" * 4000,
            b'{"msg":"\\ud800"}',
        ]
    )
    | junk.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"code": st.sampled_from(CODES)},
        optional={
            "msg": junk
            | st.dictionaries(st.sampled_from(["illegalTokens", "illegal_tokens"]), junk).map(
                json.dumps
            ),
            "message": junk,
            "data": st.dictionaries(
                st.sampled_from(["failTokens", "expireTokens", "sendResult", "requestId"]), junk
            ),
            "requestId": junk,
        },
    ).map(lambda value: json.dumps(value).encode()),
)
