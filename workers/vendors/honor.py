"""Honor Push: phones with Magic UI 4.0 and later. Much of the API is unconfirmed: docs/vendors/honor.md says what we do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from common.contracts import Notification
from common.model import Bucket, PushType, Vendor, Verdict
from workers.vendors.base import (
    TOO_LONG,
    AccessRefused,
    AccessSpec,
    AccessToken,
    Credential,
    CredentialError,
    Limits,
    Outcome,
    RequestBatch,
    VendorSpec,
    body_within,
    cut,
    no_answer,
    number_id,
    quiet,
    read,
    require,
    retry_after_s,
    secret_text,
)
from workers.vendors.pushkit import (
    ACCEPTED,
    CREDENTIAL,
    DEAD,
    LATER,
    REJECTED,
    RENEW_ONCE,
    SINGLY,
    SLOWER,
    UNKNOWN,
    Meaning,
    Said,
    outcome,
    texts,
    vendor_words,
)
from workers.vendors.shaping import (
    Keep,
    badge_of,
    bearer,
    body_of,
    click_data,
    encoded,
    fitted,
    group_of,
    image_of,
    json_text,
    laid,
    part,
    plain,
    raw_fields,
    read_access,
    receipt_tag,
    text_id,
    text_option,
    title_of,
    token_request,
    token_valid,
    ttl_of,
)
from workers.wire import Answer, NoAnswer, Request

ENDPOINTS: Final = {"HONOR": "https://push-api.cloud.honor.com", "HONOR_OAUTH": "https://iam.developer.honor.com"}
TITLE_MAX: Final = 40  # code points; policy, docs/vendors/honor.md
BODY_MAX: Final = 256
SERVICE, MARKETING = "NORMAL", "LOW"  # android.notification.importance is Honor's class
SUCCESS: Final = frozenset({"200", "80000000", "0"})
PARTIAL: Final = "80100000"
ALL_INVALID: Final = "80300007"
#: "retry, max 2": two more tries.
TWICE: Final = Meaning(Verdict.UNAVAILABLE, retries=2)
TWICE_ALARM: Final = Meaning(Verdict.UNAVAILABLE, retries=2, then=Verdict.UNKNOWN, alarm=True)
UNREADABLE: Final = Meaning(Verdict.UNCERTAIN, alarm=True)  # it may have been accepted
#: Codes in the body, or HTTP statuses where it has none. Source: docs/vendors/honor.md §codes, rows A, P and H; Honor's own list is unread.
CODES: Final[Mapping[str, Meaning]] = {
    "400": REJECTED,
    "401": RENEW_ONCE,
    "403": CREDENTIAL,
    "404": CREDENTIAL,
    "413": REJECTED,
    "429": SLOWER,
    "500": LATER,
    "502": LATER,
    "503": SLOWER,
    "504": LATER,
    "80100001": REJECTED,
    "80100003": REJECTED,
    "80100004": REJECTED,
    "80200001": RENEW_ONCE,
    "80200003": RENEW_ONCE,
    "80300002": CREDENTIAL,
    "80300008": REJECTED,
    "80300010": REJECTED,
    "80600003": LATER,
    "81000001": LATER,
}
ACCESS_REFUSED: Final = frozenset({"invalid_client", "unauthorized_client"})
RAW_NOTIFICATION: Final = frozenset({"badge", "clickAction", "image", "when"})
RAW_WORDS: Final = frozenset({"buttons"})

_APP_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_CLIENT_ID = re.compile(r"[!-~]{1,128}")


# ---------------------------------------------------------------- build


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    note = batch.items[0].note
    if note.push_type is PushType.SILENT:
        body = _data_message(batch)
    else:
        title, text = cut(title_of(note), TITLE_MAX), cut(body_within(note, BODY_MAX) or body_of(note), BODY_MAX)
        repeats = 2 if _big_text(note) else 1
        body = fitted(lambda head, tail, keep: _alert(batch, credential, head, tail, keep), title, text, repeats)
    body["token"] = [item.target.token for item in batch.items]
    headers = {**bearer(access), "timestamp": str(batch.now_ms)}
    return Request("HONOR", f"/api/v1/{credential.options['app_id']}/sendMessage", headers, encoded(body))


def _data_message(batch: RequestBatch) -> dict[str, Any]:
    """No notification in it, so the app's process gets it and nothing is shown. Never cut: half a data text is worse than a refusal."""
    data = json_text(click_data(batch.items[0].note))
    return {**_with_data({"data": data}, batch.items[0].note), "android": _android(batch), "token": []}


def _android(batch: RequestBatch) -> dict[str, Any]:
    return {"ttl": f"{ttl_of(batch)}s", "biTag": receipt_tag(batch)}


def _alert(batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep) -> dict[str, Any]:
    note = batch.items[0].note
    raw = part(part(note.vendor_raw, "android"), "notification") if keep is Keep.ALL else {}
    allowed = raw_fields(batch, RAW_NOTIFICATION, RAW_WORDS)
    if importance_of(note) != SERVICE:  # a picture or an icon may cost the push (honor.md §3)
        allowed -= {"image"}
    shown = laid(_notification(batch, credential, title, text, keep), raw, allowed)
    data = {"data": json_text(fields)} if (fields := click_data(note, keep)) else {}
    if keep is Keep.ALL:
        data = _with_data(data, note)
    return {**data, "android": {**_android(batch), "notification": shown}, "token": []}


def _with_data(data: dict[str, Any], note: Notification) -> dict[str, Any]:
    """vendor_raw.honor.message.data, a text, takes the place of ours."""
    raw = part(note.vendor_raw, "message").get("data")
    return {"data": raw} if isinstance(raw, str) else data


def _notification(batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep) -> dict[str, Any]:
    note = batch.items[0].note
    importance = importance_of(note)
    shown: dict[str, Any] = {
        "title": title,
        "body": text,
        "clickAction": {"type": 3},
        "importance": importance,
        "notifyId": number_id(note.collapse_id),
        "tag": text_id(note.collapse_id),
        "group": group_of(note),
    }
    if _big_text(note):
        shown |= {"style": 1, "bigTitle": title, "bigBody": text}
    if (image := image_of(batch)) and importance == SERVICE and keep is Keep.ALL:
        shown["image"] = image
    # Without the launcher activity's name Honor refuses the badge, so no name means no badge.
    if (badge := badge_of(batch)) is not None and (activity := text_option(credential.options, "badge_class")):
        shown["badge"] = {"setNum": badge, "badgeClass": activity}
    return shown


def _big_text(note: Notification) -> bool:
    raw = part(part(note.vendor_raw, "android"), "notification")
    return plain(raw.get("style", note.vendor.get("style"))) == "1"


def importance_of(note: Notification) -> str:
    """NORMAL (service) only where the class policy placed it so; `vendor` and `vendor_raw` may lower it, never raise it.

    A quiet push takes the silent level, which is the marketing class: Honor has no other.
    """
    raw = part(part(note.vendor_raw, "android"), "notification")
    wanted = plain(raw.get("importance", note.vendor.get("importance"))).upper()
    placed = note.bucket is Bucket.PRIVATE and note.placement.get("importance") == SERVICE
    return SERVICE if placed and wanted != MARKETING and not quiet(note) else MARKETING


# ---------------------------------------------------------------- classify


class _Reply(msgspec.Struct):
    code: Any = None
    message: Any = None
    msg: Any = None
    data: Any = None


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    """One outcome per item, whatever the bytes. The body's code wins over the HTTP status, which counts only where there is none."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, _Reply) or _Reply()
    code = plain(reply.code)
    detail = reply.data if isinstance(reply.data, dict) else {}
    words = vendor_words(reply.message if isinstance(reply.message, str) else reply.msg, batch)
    said = Said(answer.status, code, words, plain(detail.get("requestId")) or None, retry_after_s(answer))
    if code in SUCCESS or code == PARTIAL:
        return _listed(batch, said, detail)
    meaning = meaning_of(code, answer.status)
    if code == ALL_INVALID:
        meaning = DEAD if len(batch.items) == 1 else SINGLY
    return [outcome(item, meaning, said) for item in batch.items]


def meaning_of(code: str, status: int) -> Meaning:
    """The code's, or the status's where there is no code; unknown ones ring and never retire a token."""
    if known := CODES.get(code or str(status)):
        return known
    if 400 <= status < 500 or (len(code) == 3 and code.startswith("4")):
        return UNKNOWN
    return UNREADABLE if not code and status < 400 else TWICE_ALARM


def _listed(batch: RequestBatch, said: Said, detail: Mapping[str, Any]) -> Sequence[Outcome]:
    """expireTokens are dead, other failTokens may try again, the rest was accepted."""
    expired, failed = frozenset(texts(detail.get("expireTokens"))), frozenset(texts(detail.get("failTokens")))
    unnamed = ACCEPTED
    if not expired and not failed:
        if said.code == PARTIAL:
            unnamed = UNKNOWN  # some failed and we can't read which
        elif detail.get("sendResult") in (False, "false"):
            unnamed = TWICE
    outcomes = []
    for item in batch.items:
        token = item.target.token
        if token in expired:
            outcomes.append(outcome(item, DEAD, _named(said, "expireTokens")))
        elif token in failed:
            outcomes.append(outcome(item, TWICE, _named(said, "failTokens")))
        else:
            outcomes.append(outcome(item, unnamed, said))
    return outcomes


def _named(said: Said, member: str) -> Said:
    """The answer's `success` is about the request; of this token it says the list that names it."""
    return msgspec.structs.replace(said, words=f"{member} names this token")


# ---------------------------------------------------------------- credential


def read_credential(options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """--app-id (App ID), --app-key (Client ID) and --app-secret-file (Client Secret); App Secret is another value and is refused later."""
    del now_ms
    require(options, "app_id", "app_key")
    if not _APP_ID.fullmatch(options["app_id"]):
        raise CredentialError("--app-id is not an Honor App ID: 1 to 64 letters and digits")
    if not _CLIENT_ID.fullmatch(options["app_key"]):
        raise CredentialError("--app-key is not an Honor Client ID: 1 to 128 printable characters without blanks")
    return dict(options), {"app_secret": secret_text(files, "app_secret", ascii_only=True)}


def ask_access(credential: Credential, now_ms: int) -> Request:
    del now_ms
    return token_request("HONOR_OAUTH", "/auth/token", credential.options["app_key"], credential.secrets["app_secret"])


def read_token(answer: Answer, now_ms: int) -> AccessToken | AccessRefused:
    return read_access(answer, now_ms, ACCESS_REFUSED)


HONOR: Final = VendorSpec(
    vendor=Vendor.HONOR,
    endpoints=ENDPOINTS,
    http2=False,  # unconfirmed, so HTTP/1.1
    request_tokens_max=1000,  # unconfirmed, Huawei's figure
    build=build,
    classify=classify,
    read_credential=read_credential,
    #: 80 % of the published 3000 a second, counted in devices; 2 marketing messages a device and day.
    #: Sources: docs/vendors/honor.md, 2026-05.
    limits=Limits(rate_per_s=2400, burst=2400, rate_unit="token", device_cap_public=2),
    badge_in_body=True,
    badge_alone=True,
    badge_option="badge_class",
    access=AccessSpec(ask_access, read_token),
    token_valid=token_valid,
    rights=frozenset({"honor.service"}),
    too_long=TOO_LONG | {"80300008"},
)
