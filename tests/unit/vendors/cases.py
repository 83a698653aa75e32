"""What the vendors' tests share: notes, request batches, credentials, answers, and texts that break
careless code.
"""

from __future__ import annotations

import json
from typing import Any

import regex
from hypothesis import strategies as st

from common.contracts import Notification, Target
from common.model import Vendor
from tests.builders import NOW_MS as NOW_MS
from tests.builders import notification
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch
from workers.wire import HttpResponse

PUSH_ID = "0b0f8f0e5a2c4c1e9a572f6f3c1d9e01"
ACCESS = AccessToken("access-1", NOW_MS + 1_000_000, NOW_MS + 2_000_000)


def note(**changes: Any) -> Notification:
    """A chat message of Zhang San to one person."""
    words = {
        "app_name": "畅聊",
        "title": "张三",
        "body": "今晚八点开会",
        "fallback_body": "您收到一条新消息",
        "placement": {},
    }
    named = {
        "event_id": "stored:1",
        "message_id": "m-9f3c",
        "collapse_id": "m-9f3c",
        "conversation_id": "c2c_1001",
    }
    return notification(**{"expires_at_ms": NOW_MS + 86_400_000, **named, **words, **changes})


def target(token: str = "aa11", registered_ms: int = NOW_MS - 86_400_000, **changes: Any) -> Target:
    usual: dict[str, Any] = {
        "user": "lisi",
        "device": "d1",
        "push_id": PUSH_ID,
        "platform": "android",
    }
    return Target(token=token, registered_ms=registered_ms, **(usual | changes))


def batch(
    about: Notification | None = None,
    tokens: tuple[str, ...] = ("aa11",),
    badge: int | None = None,
    ttl_s: int = 86_400,
    attempt: int = 1,
    callback_url: str | None = None,
    **of_target: Any,
) -> RequestBatch:
    ids = [f"{PUSH_ID[:-4]}{n:04x}" if n else PUSH_ID for n in range(len(tokens))]
    items = tuple(
        PushItem(
            about or note(),
            target(token, **({"push_id": push_id} | of_target)),
            badge,
            ttl_s,
            attempt,
        )
        for token, push_id in zip(tokens, ids, strict=True)
    )
    return RequestBatch(items, NOW_MS, callback_url)


def credential(
    vendor: Vendor, options: dict[str, str] | None = None, secrets: dict[str, str] | None = None
) -> Credential:
    usual = {
        "topic": "com.example.chat",
        "env": "production",
        "project_id": "demo-im",
        "app_id": "100000123",
        "app_key": "0a1b",
    }
    return Credential(
        "demo", vendor, "b1", 1, usual | (options or {}), {"app_secret": "s3cret"} | (secrets or {})
    )


def answer(status: int, body: Any = b"", **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return HttpResponse(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, raw
    )


FAMILY = "👨‍👩‍👧‍👦"
PIECES = [
    "a",
    "中",
    "é",
    "e\u0301\u0327",
    FAMILY,
    "🇨🇳",
    "👍🏽",
    "ש",
    "م\u064e",
    "\u202e",
    "\ud800",
    "\udc00",
    '"',
    "\\",
    "\x00",
    "\n",
    "\r\n",
    " ",
    "𝒜",
    "{",
    "测试",
    "7",
    "…",
]
texts = st.one_of(
    st.text(st.characters(), max_size=120),
    st.lists(st.sampled_from(PIECES), max_size=400).map("".join),
    st.builds(lambda piece, times: piece * times, st.sampled_from(PIECES), st.integers(0, 6000)),
    st.just("e" + "\u0301" * 5000),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def kept_whole(text: str, shown: str) -> bool:
    """Whether `shown` is `text`, or some of its first graphemes and an ellipsis."""
    text = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    if shown == text or shown == "":
        return True
    so_far, start = "", shown.removesuffix("…")
    heads = {""}
    for grapheme in regex.findall(r"\X", text):
        so_far += grapheme
        heads.add(so_far.rstrip())
        if len(so_far) > len(start) + 100:
            break
    return shown.endswith("…") and start in heads
