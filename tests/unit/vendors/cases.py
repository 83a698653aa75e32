"""What the vendors' tests share: notes, request batches, credentials, and answers."""

import json
from collections.abc import Iterable
from typing import Any

from common.contracts import Attempt, Notification, Target
from common.model import Vendor, Verdict
from tests.builders import NOW_MS as NOW_MS
from tests.builders import notification, present
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, VendorSpec
from workers.wire import HttpResponse, Request

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


def tries(codes: Iterable[object], status: str = "200") -> tuple[Attempt, ...]:
    """The attempts before, by the code that each was answered with, or (status, code); a code of
    no letters: nobody knows what became of it.
    """
    told = [code if isinstance(code, tuple) else (status, code) for code in codes]
    return tuple(Attempt(NOW_MS, of, str(code), "", None, meant(code)) for of, code in told)


def meant(code: object) -> Verdict:
    return Verdict.UNCERTAIN if code == "" else Verdict.UNAVAILABLE


def item(
    about: Notification | None = None,
    token: str = "aa11",
    *,
    badge: int | None = None,
    ttl_s: int = 86_400,
    attempt: int = 1,
    met: Iterable[object] = (),
    **of_target: Any,
) -> PushItem:
    """met: what the push was answered before (`tries`); the attempt is one more."""
    before = tries(met)
    of_target = {"attempts": before, **of_target} if before else of_target
    return PushItem(
        about or note(), target(token, **of_target), badge, ttl_s, attempt + len(before)
    )


def batch(
    about: Notification | None = None,
    tokens: tuple[str, ...] = ("aa11",),
    badge: int | None = None,
    ttl_s: int = 86_400,
    callback_url: str | None = None,
    **of_item: Any,
) -> RequestBatch:
    about = about or note()
    ids = [f"{PUSH_ID[:-4]}{n:04x}" if n else PUSH_ID for n in range(len(tokens))]
    items = tuple(
        item(about, token, badge=badge, ttl_s=ttl_s, **({"push_id": push_id} | of_item))
        for token, push_id in zip(tokens, ids, strict=True)
    )
    return RequestBatch(items, NOW_MS, callback_url)


def credential(
    vendor: Vendor,
    options: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
    rights: Iterable[str] = (),
) -> Credential:
    usual = {
        "topic": "com.example.chat",
        "env": "production",
        "project_id": "demo-im",
        "app_id": "100000123",
        "app_key": "0a1b",
    }
    given = usual | (options or {})
    secrets = {"app_secret": "s3cret"} | (secrets or {})
    return Credential("demo", vendor, "b1", 1, given, secrets, frozenset(rights))


def answer(status: int, body: Any = b"", **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, named, raw)


def reply(body: Any = b"", status: int = 200, **headers: str) -> HttpResponse:
    """`answer`, for the vendors whose bodies say more than their statuses."""
    return answer(status, body, **headers)


def asked(spec: VendorSpec, account: Credential, now_ms: int) -> Request:
    """How the vendor is asked for an access token."""
    request = present(spec.access).ask(account, now_ms)
    assert isinstance(request, Request)
    return request


def signed(spec: VendorSpec, account: Credential, now_ms: int) -> AccessToken:
    """An access token that is made here, without a question."""
    token = present(spec.access).ask(account, now_ms)
    assert isinstance(token, AccessToken)
    return token
