"""An account with OPPO: what `credential add` checks, and the access token it is exchanged for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from common.model import Verdict
from workers.vendors.account_secrets import require, secret_text
from workers.vendors.answers import http_date, redact, retry_after_s
from workers.vendors.form_texts import (
    code_of,
    number,
    scalar,
)
from workers.vendors.oppo.codes import CODES, FIRST_S, WAITS, reply_of, usable
from workers.vendors.oppo.request import FORM, URL_MAX, encode
from workers.vendors.types import (
    APP_SECRET,
    AccessRefused,
    AccessToken,
    AccountField,
    Credential,
    CredentialError,
    DemoAccount,
    DemoKeys,
)
from workers.wire import HttpResponse, Request

ACCESS_LIFE_MS, ACCESS_EARLY_MS = 86_400_000, 72_000_000  # 24 h; renewed at 20 h
CLOCK_MAY_DIFFER_MS: Final = 600_000  # a timestamp more than 10 minutes off is refused (19)


def sign(app_key: str, timestamp_ms: int, master_secret: str) -> str:
    """Lower-case hex of SHA-256 over the three, one after the other."""
    return hashlib.sha256(f"{app_key}{timestamp_ms}{master_secret}".encode()).hexdigest()


def ask_access(credential: Credential, now_ms: int) -> Request:
    key = credential.options.get("app_key", "")
    signature = sign(key, now_ms, credential.secrets.get("app_secret", ""))
    form = (("app_key", key), ("sign", signature), ("timestamp", str(now_ms)))
    return Request("OPPO", "/server/v1/auth", FORM, encode(form))


def read_access(answer: HttpResponse, now_ms: int) -> AccessToken | AccessRefused:
    """24 h from creation, renewed at 20 h. A creation time that makes no sense counts as now."""
    reply = reply_of(answer)
    code, data = code_of(reply.get("code")), reply.get("data")
    value = scalar(data.get("auth_token"), URL_MAX) if isinstance(data, dict) else None
    if not usable(answer, code) or code != "0" or not value or not isinstance(data, dict):
        return _access_refused(answer, code, redact(reply.get("message")), now_ms)
    created = number(data.get("create_time"), now_ms - ACCESS_EARLY_MS, now_ms) or now_ms
    return AccessToken(value, created + ACCESS_EARLY_MS, created + ACCESS_LIFE_MS)


def _access_refused(answer: HttpResponse, code: str, words: str, now_ms: int) -> AccessRefused:
    """A wrong clock of ours (19) needs a person; a request that only came late may be repeated."""
    if not usable(answer, code) or code == "0":
        verdict = Verdict.THROTTLED if answer.status == 429 else Verdict.UNAVAILABLE
        return AccessRefused(verdict, code, words, retry_after_s(answer))
    verdict = CODES.get(code, Verdict.UNAVAILABLE)
    if code == "19":
        right = _clock_right(answer, now_ms)
        verdict, words = (
            (Verdict.UNAVAILABLE, words)
            if right
            else (Verdict.CREDENTIAL_REFUSED, f"{words} (check this machine's clock)")
        )
    elif verdict in (Verdict.REJECTED, Verdict.TOKEN_DEAD, Verdict.ACCESS_EXPIRED):
        verdict = Verdict.CREDENTIAL_REFUSED
    elif verdict is Verdict.QUOTA_SPENT:
        verdict = Verdict.THROTTLED
    return AccessRefused(
        verdict, code, words, retry_after_s(answer) or WAITS.get(code) or FIRST_S.get(code)
    )


def _clock_right(answer: HttpResponse, now_ms: int) -> bool:
    theirs = http_date(answer.headers.get("date", ""))
    return theirs is not None and abs(theirs.timestamp() * 1000 - now_ms) < CLOCK_MAY_DIFFER_MS


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """app_key, app_secret (the master secret); optional template_params `object` or `json_text`."""
    require(options, "app_key")
    if not re.fullmatch(r"[!-~]{1,128}", options["app_key"]):
        raise CredentialError("--app-key takes printable ASCII without spaces")
    if options.get("template_params", "object") not in ("object", "json_text"):
        raise CredentialError("--template-params takes object or json_text")
    secret = secret_text(files, "app_secret", ascii_only=True)
    if not re.fullmatch(r"[!-~]{1,256}", secret):
        raise CredentialError(
            "the file of --app-secret-file holds more than the master secret: one line of "
            "printable ASCII is wanted"
        )
    return {name: options[name] for name in ("app_key", "template_params") if options.get(name)}, {
        "app_secret": secret
    }


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "app_key": AccountField("text"),
    "app_secret_file": APP_SECRET,
}


def demo(keys: DemoKeys) -> DemoAccount:
    return DemoAccount(
        {"app_key": "demoAppKey0001", "app_secret_file": keys.secret}, ("oppo.private",)
    )


def demo_token(outcome: str, digits: str) -> str:
    return "CN_" + {"": "a1b2", "dead": "dead", "fail": "fa11"}[outcome] + digits[:28]
