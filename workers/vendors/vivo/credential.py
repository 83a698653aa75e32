"""An account with vivo: what `credential add` checks, and the access token it is exchanged for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from common.model import Verdict
from workers.vendors.account_secrets import require, secret_text
from workers.vendors.answers import read, redact, retry_after_s
from workers.vendors.types import (
    APP_ID,
    APP_SECRET,
    AccessRefused,
    AccessToken,
    AccountField,
    Credential,
    CredentialError,
    DemoAccount,
    DemoKeys,
)
from workers.vendors.vivo.codes import CLOCK_CODE, CODES, TOO_FAST_S, number
from workers.vendors.vivo.request import app_id, request
from workers.vendors.vivo.texts import TOKEN
from workers.wire import HttpResponse, Request

ACCESS_REFRESH_S: Final = 90 * 60
ACCESS_LIFE_S: Final = 23 * 3600  # vivo: 24 h


def ask(credential: Credential, now_ms: int) -> Request:
    """POST /message/auth, signed with the same timestamp that it carries. Source: vivo.md §2."""
    options = credential.options
    body = {
        "appId": app_id(credential),
        "appKey": options["app_key"],
        "timestamp": now_ms,
        "sign": sign(
            options["app_id"], options["app_key"], now_ms, credential.secrets["app_secret"]
        ),
    }
    return request("/message/auth", body, None)


def sign(app_id: str, app_key: str, now_ms: int, app_secret: str) -> str:
    """MD5, as vivo's page has it, of id, key, time and secret in this order."""
    base = f"{app_id}{app_key}{now_ms}{app_secret}".strip().encode("utf-8", "replace")
    return hashlib.md5(base, usedforsecurity=False).hexdigest()


def read_access(answer: HttpResponse, now_ms: int) -> AccessToken | AccessRefused:
    """The authToken, good for 23 hours, to be renewed after 90 minutes; else why there is none."""
    reply = read(answer, dict[str, Any]) or {}
    code, token = number(reply.get("result")), reply.get("authToken")
    if answer.status == 200 and code == 0 and isinstance(token, str) and TOKEN.fullmatch(token):
        return AccessToken(token, now_ms + ACCESS_REFRESH_S * 1000, now_ms + ACCESS_LIFE_S * 1000)
    verdict = CODES.get(code) if code is not None and answer.status < 500 else None
    if verdict not in (Verdict.CREDENTIAL_REFUSED, Verdict.THROTTLED):
        verdict = Verdict.THROTTLED if answer.status == 429 else Verdict.UNAVAILABLE
    words = (
        "this machine's clock is off by more than 10 minutes"
        if code == CLOCK_CODE
        else redact(reply.get("desc"))
    )
    wait = retry_after_s(answer)
    wait = TOO_FAST_S if wait is None and verdict is Verdict.THROTTLED else wait
    return AccessRefused(verdict, str(answer.status) if code is None else str(code), words, wait)


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """options: app_id (digits), app_key; files: app_secret."""
    require(options, "app_id", "app_key")
    if number(options["app_id"]) is None:
        raise CredentialError("--app-id must be the number that vivo's console shows as AppID")
    if not TOKEN.fullmatch(options["app_key"]):
        raise CredentialError("--app-key must be printable ASCII without blanks")
    kept = {
        name: options[name] for name in ("app_id", "app_key", "callback_id") if options.get(name)
    }
    return kept, {"app_secret": secret_text(files, "app_secret", ascii_only=True)}


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "vendor_app_id": APP_ID,
    "app_key": AccountField("text"),
    "app_secret_file": APP_SECRET,
}


def demo(keys: DemoKeys) -> DemoAccount:
    fields = {
        "vendor_app_id": "100000123",
        "app_key": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "app_secret_file": keys.secret,
    }
    return DemoAccount(fields, ("vivo.system",))
