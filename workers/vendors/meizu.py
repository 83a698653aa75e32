"""Meizu (Flyme) push: a signed form for up to 100 tokens; the answer names those that failed. Sources: docs/vendors/meizu.md."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace

from common.contracts import Notification
from common.model import Again, Bucket, PushType, Vendor, Verdict
from workers.vendors.base import (
    AccessToken,
    Credential,
    CredentialError,
    Limits,
    Outcome,
    PushItem,
    RequestBatch,
    VendorSpec,
    body_within,
    compact,
    cut,
    no_answer,
    quiet,
    read,
    receipt_tag,
    require,
    retry_after_s,
    same,
    secret_text,
    told,
    tries_with,
    whole,
)
from workers.wire import Answer, NoAnswer, Request

PATH: Final = "/garcia/api/server/push/varnished/pushByPushId"
TOKENS_MAX: Final = 100
TITLE_CHARACTERS_MAX: Final = 32
CONTENT_CHARACTERS_MAX: Final = 100
VALID_HOURS_MAX: Final = 72
NOTIFY_KEY_CHARACTERS: Final = 8
CALLBACK_BYTES_MAX: Final = 128
SAFE_TITLE: Final = "新消息"
SAFE_CONTENT: Final = "您收到一条新消息"

# ---------------------------------------------------------------- codes

#: `code`: of the whole call. Source: Meizu, PUSH HTTP API, release of 2025-04-09, read 2026-11-22.
REQUEST_CODES: Final[Mapping[str, Verdict]] = {
    "300": Verdict.REJECTED,  # "call again at redirect": the words and tokens go nowhere but to the configured host
    "500": Verdict.UNAVAILABLE,
    "1001": Verdict.UNAVAILABLE,
    "1003": Verdict.UNAVAILABLE,
    "1005": Verdict.REJECTED,
    "1006": Verdict.CREDENTIAL_REFUSED,
    "110000": Verdict.CREDENTIAL_REFUSED,
    "110001": Verdict.CREDENTIAL_REFUSED,
    "110002": Verdict.TOKEN_DEAD,
    "110003": Verdict.TOKEN_DEAD,
    "110004": Verdict.REJECTED,
    "110009": Verdict.CREDENTIAL_REFUSED,
    "110010": Verdict.THROTTLED,  # the app sends too fast
    "110019": Verdict.QUOTA_SPENT,
    "110031": Verdict.CREDENTIAL_REFUSED,
    "110032": Verdict.REJECTED,
    "110033": Verdict.CREDENTIAL_REFUSED,
    "110051": Verdict.QUOTA_SPENT,
    "110053": Verdict.REJECTED,
    "-1": Verdict.UNAVAILABLE,
}
#: Codes inside `value`, each with the pushIds it names. Here 110010 means another thing: the person switched us off.
TOKEN_CODES: Final[Mapping[str, Verdict]] = {
    "201": Verdict.REJECTED,
    "501": Verdict.UNAVAILABLE,
    "513": Verdict.UNAVAILABLE,
    "518": Verdict.THROTTLED,
    "519": Verdict.UNAVAILABLE,
    "520": Verdict.FOLDED,  # more than five in a minute on this device: the minute ends, so the day stays open
    "110002": Verdict.TOKEN_DEAD,
    "110003": Verdict.TOKEN_DEAD,
    "110005": Verdict.TOKEN_DEAD,
    "110010": Verdict.SILENCED,
    "110011": Verdict.DEVICE_CAP,
}
#: Of a call with several tokens these judge one of them, and don't say which.
ONE_BY_ONE: Final = frozenset({"110002", "110003"})
NO_PERMISSION: Final = "201"
OTHER_ERROR: Final = "500"
OTHER_ERROR_TRIES: Final = 3


class Reply(msgspec.Struct):
    """code: text, but numbers are taken too. value: code -> pushIds, "" on errors."""

    code: str | int = ""
    message: Any = ""
    value: Any = ""
    msgId: Any = None  # noqa: N815 - Meizu's name


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    """One outcome a token: who is not named in `value` of a good call was accepted. Source: meizu.md §5."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, Reply) or Reply()
    code, status = str(reply.code).strip()[:32], str(answer.status)
    words, wait = told(reply.message, batch), retry_after_s(answer)
    if not 200 <= answer.status < 300 and (code == "200" or answer.status >= 500):
        code = ""  # every answer of Meizu is an HTTP 200: what a broken server or a proxy says beside its status is no word on a push
    if code == "200":
        return _partial(batch, Outcome(Verdict.ACCEPTED, status, code, words, told(reply.msgId) or None), reply.value)
    verdict = REQUEST_CODES.get(code) or _by_status(answer.status)
    alarm = verdict is Verdict.UNKNOWN or code == "300"
    outcome = Outcome(verdict, status, code, words, retry_after_s=wait, alarm=alarm)
    if code == OTHER_ERROR:  # also said of wrong arguments, so at last it is taken for one
        last = replace(outcome, verdict=Verdict.REJECTED)
        return [last if tries_with(item, code) >= OTHER_ERROR_TRIES else outcome for item in batch.items]
    if code in ONE_BY_ONE and len(batch.items) > 1:
        outcome = replace(outcome, verdict=Verdict.UNAVAILABLE, again=Again.SINGLY, retry_after_s=0.0)
    return same(batch, outcome)


def _partial(batch: RequestBatch, accepted: Outcome, value: Any) -> Sequence[Outcome]:
    """The outcomes of a call that was taken: by the code that names a token, `accepted` for the rest."""
    named: dict[str, str] = {}
    for code, tokens in value.items() if isinstance(value, dict) else ():
        for token in tokens if isinstance(tokens, list) else [tokens]:
            named.setdefault(str(token), str(code)[:32])
    codes = [named.get(item.target.token) for item in batch.items]
    nobody = all(code == NO_PERMISSION for code in codes)
    return [accepted if code is None else _named(accepted, code, nobody) for code in codes]


def _named(accepted: Outcome, code: str, nobody: bool) -> Outcome:
    """nobody: no token of the call had permission, so it is the app that has none."""
    verdict = Verdict.CREDENTIAL_REFUSED if nobody else TOKEN_CODES.get(code, Verdict.UNKNOWN)
    return replace(accepted, verdict=verdict, code=code, alarm=verdict is Verdict.UNKNOWN)


def _by_status(status: int) -> Verdict:
    if status == 429:
        return Verdict.THROTTLED
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


# ---------------------------------------------------------------- request


def build(batch: RequestBatch, credential: Credential, _access: AccessToken | None) -> Request:
    """The form of pushByPushId for all tokens of the request batch; signed, so there is no access token."""
    form = {
        "appId": credential.options.get("app_id", ""),
        "pushIds": ",".join(whole(item.target.token) for item in batch.items),
        "messageJson": compact(_message(batch)).decode(),
    }
    return _request(form, credential)


def _request(form: Mapping[str, str], credential: Credential) -> Request:
    signed = {**form, "sign": sign(form, credential.secrets.get("app_secret", ""))}
    return Request("MEIZU", PATH, {"content-type": "application/x-www-form-urlencoded;charset=UTF-8"}, urlencode(signed).encode())


def sign(form: Mapping[str, str], app_secret: str) -> str:
    """MD5, as Meizu's page has it, over name=value in order of name, raw and without separators, then the secret."""
    base = "".join(f"{name}={form[name]}" for name in sorted(form)) + app_secret
    return hashlib.md5(base.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def refuse(item: PushItem) -> str | None:
    """`silent_not_supported`: pass-through messages are not given to apps any more (110053)."""
    return "silent_not_supported" if item.note.push_type is PushType.SILENT else None


def _message(batch: RequestBatch) -> dict[str, Any]:
    """messageJson."""
    note = batch.items[0].note
    ttl_s = min(item.ttl_s for item in batch.items)
    hours = min(max(-(-ttl_s // 3600), 1), VALID_HOURS_MAX)
    advance: dict[str, Any] = {"notifyKey": notify_key(note.collapse_id)}
    if quiet(note):
        advance["suspend"] = 0
    if note.sound_android == "none" or quiet(note):
        advance["notificationType"] = {"vibrate": 0, "lights": 1, "sound": 0}
    click: dict[str, Any] = {"clickType": 0}
    parameters = _parameters(note)
    if parameters:
        click["parameters"] = parameters
    body = body_within(note, CONTENT_CHARACTERS_MAX, utf16_units)
    message = {
        "noticeBarInfo": {
            "noticeMsgType": _notice_type(note),
            "title": _first(TITLE_CHARACTERS_MAX, note.title, note.app_name, SAFE_TITLE),
            "content": _first(CONTENT_CHARACTERS_MAX, body, note.fallback_body, SAFE_CONTENT),
        },
        "clickTypeInfo": click,
        "pushTimeInfo": {"offLine": 1, "validTime": hours} if ttl_s > 0 else {"offLine": 0},
        "advanceInfo": advance,
    }
    if batch.callback_url and len(batch.callback_url.encode("utf-8", "replace")) <= CALLBACK_BYTES_MAX:
        message["extra"] = {"callback": batch.callback_url, "callback.param": receipt_tag(batch), "callback.type": "3"}
    return message


def _notice_type(note: Notification) -> int:
    """1 private, 0 public. A message in the public bucket is never lifted, a private one may be lowered by its sender."""
    if note.bucket is Bucket.PUBLIC or note.placement.get("notice_msg_type", "1") != "1":
        return 0
    return 0 if str(note.vendor.get("notice_msg_type", 1)) == "0" else 1


def _parameters(note: Notification) -> dict[str, Any]:
    """What the app gets on a click: the payload's keys, the sender's own parameters, ext."""
    raw = note.vendor_raw.get("parameters")
    parameters = {**(note.payload or {}), **(raw if isinstance(raw, dict) else {})}
    if note.ext is not None:
        parameters["ext"] = note.ext
    return parameters


def _first(most: int, *candidates: str) -> str:
    """The first text that is not blank, cut to `most` characters as Java counts them."""
    return next(fitted for text in candidates if (fitted := cut(whole(text).strip(), most, utf16_units)))


def utf16_units(text: str) -> int:
    """Length in UTF-16 units: never fewer than characters, so it fits whichever of them Meizu counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def notify_key(collapse_id: str) -> str:
    """Eight characters of [0-9A-Za-z_-] from the collapse id: 48 bits."""
    digest = hashlib.sha1(whole(collapse_id).encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:NOTIFY_KEY_CHARACTERS]


_TOKEN: Final = re.compile(r"[!-+\--~]{1,256}")


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks; a comma would make two of it."""
    return _TOKEN.fullmatch(token) is not None


def check(credential: Credential, _access: AccessToken | None) -> Request:
    """A push to a pushId that can't exist: refused as illegal, but only after the signature was taken."""
    message = {"noticeBarInfo": {"noticeMsgType": 1, "title": SAFE_TITLE, "content": SAFE_CONTENT}, "pushTimeInfo": {"offLine": 0}}
    form = {"appId": credential.options.get("app_id", ""), "pushIds": "0", "messageJson": compact(message).decode()}
    return _request(form, credential)


def checked(answer: Answer) -> Verdict:
    """ACCEPTED when Meizu got as far as looking at the pushId."""
    code = str((read(answer, Reply) or Reply()).code).strip() if answer.status < 500 else ""
    verdict = Verdict.ACCEPTED if code == "200" else REQUEST_CODES.get(code) or _by_status(answer.status)
    return Verdict.ACCEPTED if verdict is Verdict.TOKEN_DEAD else verdict


# ---------------------------------------------------------------- credential


def read_credential(options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """options: app_id (digits); files: app_secret, the server secret, not the appKey."""
    require(options, "app_id")
    if not re.fullmatch(r"[0-9]{1,18}", options["app_id"]):
        raise CredentialError("--app-id must be the number that Flyme's console shows as AppId")
    return {"app_id": options["app_id"]}, {"app_secret": secret_text(files, "app_secret", ascii_only=True)}


# ---------------------------------------------------------------- the vendor

MEIZU: Final = VendorSpec(
    vendor=Vendor.MEIZU,
    endpoints={"MEIZU": "https://server-api-push.meizu.com"},
    http2=False,
    request_tokens_max=TOKENS_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    limits=Limits(rate_per_s=200.0, burst=200.0, rate_unit="request", device_cap_public=3),
    token_valid=token_valid,
    check=check,
    checked=checked,
    rights=frozenset({"meizu.private"}),
    refuse=refuse,
)
