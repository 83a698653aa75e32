"""Google FCM, HTTP v1: one HTTP/2 request a token; OAuth by a service account's key. Sources: docs/vendors/fcm.md."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from common.contracts import Notification
from common.model import Bucket, PushType, Vendor, Verdict
from workers.vendors.base import (
    DEFAULT_RETRY,
    AccessRefused,
    AccessSpec,
    AccessToken,
    Credential,
    CredentialError,
    Limits,
    Outcome,
    PushItem,
    RequestBatch,
    Retry,
    VendorSpec,
    compact,
    in_a_row,
    leaner,
    merged,
    no_answer,
    quiet,
    read,
    retry_after_s,
    same,
    secret_file_text,
    shrink,
    text_id,
    told,
    utf8_bytes,
)
from workers.wire import Answer, NoAnswer, Request

PAYLOAD_BYTES_MAX: Final = 4096  # keys and values of data, notification and android.notification, in UTF-8
TTL_S_MAX: Final = 2_419_200  # 28 days
COUNT_MAX: Final = 2**31 - 1
TOKEN_CHARACTERS_MAX: Final = 4096

# ---------------------------------------------------------------- codes

#: errorCode of a FcmError. Source: FCM error codes, read 2026-11-22. INVALID_ARGUMENT: see `_bad_argument`.
FCM_CODES: Final[Mapping[str, Verdict]] = {
    "INVALID_ARGUMENT": Verdict.REJECTED,
    "UNREGISTERED": Verdict.TOKEN_DEAD,
    "SENDER_ID_MISMATCH": Verdict.TOKEN_FOREIGN,
    "QUOTA_EXCEEDED": Verdict.THROTTLED,
    "INTERNAL": Verdict.UNAVAILABLE,
    "UNAVAILABLE": Verdict.UNAVAILABLE,
    # the APNs or web-push key that Firebase holds is bad; Android's pushes go on, so the lane does too
    "THIRD_PARTY_AUTH_ERROR": Verdict.REJECTED,
    "APNS_AUTH_ERROR": Verdict.REJECTED,
    "UNSPECIFIED_ERROR": Verdict.UNAVAILABLE,
}
#: error.status where no FcmError came with it: never a dead token.
STATUS_CODES: Final[Mapping[str, Verdict]] = {
    "INVALID_ARGUMENT": Verdict.REJECTED,
    "UNAUTHENTICATED": Verdict.ACCESS_EXPIRED,
    "PERMISSION_DENIED": Verdict.CREDENTIAL_REFUSED,
    "NOT_FOUND": Verdict.CREDENTIAL_REFUSED,
    "RESOURCE_EXHAUSTED": Verdict.THROTTLED,
    "QUOTA_EXCEEDED": Verdict.THROTTLED,
    "INTERNAL": Verdict.UNAVAILABLE,
    "UNAVAILABLE": Verdict.UNAVAILABLE,
    "UNSPECIFIED_ERROR": Verdict.UNAVAILABLE,
}
ALARMS: Final = frozenset({"THIRD_PARTY_AUTH_ERROR", "APNS_AUTH_ERROR", "UNSPECIFIED_ERROR"})
UNSPECIFIED_TRIES: Final = 3  # then it is taken for our request's fault
#: A token registered less than this ago may not have reached all of Google: asked once more before it is given up.
FRESH_TOKEN_S: Final = 120
FRESH_TOKEN_RETRY_S: Final = 5.0

RETRY: Final = Retry(
    first_s={**DEFAULT_RETRY.first_s, Verdict.UNAVAILABLE: 10.0, Verdict.UNCERTAIN: 10.0, Verdict.THROTTLED: 60.0},
    attempts_max=DEFAULT_RETRY.attempts_max,
)


class Accepted(msgspec.Struct):
    name: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error body says. code: errorCode of its FcmError, "" without one. fields: those that a BadRequest names."""

    status: str = ""
    message: str = field(default="", repr=False)
    code: str = ""
    fields: tuple[str, ...] = ()
    quota_text: str = ""


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    """One outcome, as there is one token a request. Source: fcm.md §5."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    if answer.status == 200:
        accepted = read(answer, Accepted)
        if accepted is not None and accepted.name:
            return same(batch, Outcome(Verdict.ACCEPTED, "200", vendor_message_id=accepted.name[:256]))
        return same(batch, Outcome(Verdict.UNKNOWN, "200", alarm=True))
    refusal = _refusal(answer)
    return [_refused(batch, item, answer, refusal) for item in batch.items]


def _refusal(answer: Answer) -> Refusal:
    body = read(answer, dict[str, Any]) or {}
    error = body.get("error")
    if not isinstance(error, dict):
        return Refusal()
    details = [d for d in error.get("details") or () if isinstance(d, dict)] if isinstance(error.get("details"), list) else []
    fcm, bad, quota = (_detail(details, kind) for kind in ("FcmError", "BadRequest", "QuotaFailure"))
    return Refusal(
        status=_text(error.get("status")),
        message=_text(error.get("message")),
        code=_text(fcm.get("errorCode")),
        fields=tuple(_text(v.get("field")) for v in _objects(bad.get("fieldViolations"))),
        quota_text=" ".join(f"{_text(v.get('subject'))} {_text(v.get('description'))}" for v in _objects(quota.get("violations"))),
    )


def _detail(details: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((d for d in details if _text(d.get("@type")).endswith(kind)), {})


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _refused(batch: RequestBatch, item: PushItem, answer: Answer, refusal: Refusal) -> Outcome:
    code = refusal.code or refusal.status
    verdict = FCM_CODES.get(refusal.code) or STATUS_CODES.get(refusal.status) or _by_status(answer.status)
    if refusal.code and refusal.code not in FCM_CODES:
        verdict = _by_status(answer.status)  # a code of next year: its status must not retire or pause anything
    if code == "INVALID_ARGUMENT":
        verdict = _bad_argument(refusal)
    if code == "UNSPECIFIED_ERROR" and in_a_row(item, code) >= UNSPECIFIED_TRIES:
        verdict = Verdict.REJECTED
    words = ", ".join(refusal.fields)[:200] or told(refusal.message, batch)  # a BadRequest's message repeats the bad value
    outcome = Outcome(
        verdict,
        str(answer.status),
        code[:64],
        words,
        retry_after_s=retry_after_s(answer),
        token_only=verdict is Verdict.THROTTLED and "device" in f"{refusal.message} {refusal.quota_text}".lower(),
        alarm=verdict is Verdict.UNKNOWN or code in ALARMS,
    )
    return _unregistered(batch, item, outcome) if refusal.code == "UNREGISTERED" else outcome


def _bad_argument(refusal: Refusal) -> Verdict:
    """400 is a dead token only where FCM itself speaks of the token and of no other field; even then other tokens' answers guard it."""
    elsewhere = [name for name in refusal.fields if name not in ("message.token", "message.fid")]
    about_token = "registration token" in refusal.message.lower() or "message.token" in refusal.fields
    return Verdict.TOKEN_DEAD if refusal.code and about_token and not elsewhere else Verdict.REJECTED


def _unregistered(batch: RequestBatch, item: PushItem, outcome: Outcome) -> Outcome:
    """UNREGISTERED comes without a time, so ours must tell whether the token is a new one."""
    age_ms = batch.now_ms - item.target.registered_ms
    if age_ms < 0:
        words = "the device registered this token again after that"
        return Outcome(Verdict.REJECTED, outcome.status, outcome.code, words)
    if age_ms < FRESH_TOKEN_S * 1000 and in_a_row(item, outcome.code) == 1:
        words = "registered moments ago: asked once more"
        return Outcome(Verdict.THROTTLED, outcome.status, outcome.code, words, first_s=FRESH_TOKEN_RETRY_S, token_only=True)
    return outcome


def _by_status(status: int) -> Verdict:
    """What is left to go by when the body is not FCM's (an edge server's HTML page)."""
    if status == 401:
        return Verdict.ACCESS_EXPIRED
    if status == 429:
        return Verdict.THROTTLED
    if status in (502, 504):
        return Verdict.UNCERTAIN  # a gateway lost the answer
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


# ---------------------------------------------------------------- request

#: Keys of android.notification that a sender may lay over ours. Not `tag` (our identity on the screen), not the count.
RAW_NOTIFICATION: Final = frozenset(
    {
        "icon",
        "color",
        "sound",
        "click_action",
        "channel_id",
        "ticker",
        "sticky",
        "event_time",
        "local_only",
        "notification_priority",
        "default_sound",
        "default_vibrate_timings",
        "default_light_settings",
        "vibrate_timings",
        "visibility",
        "light_settings",
        "image",
        "proxy",
    }
)
#: Those of them that make a noise, light up or come to the front.
NOISE: Final = frozenset(
    {"sound", "default_sound", "default_vibrate_timings", "vibrate_timings", "default_light_settings", "light_settings"}
    | {"notification_priority", "sticky", "ticker"}
)
#: A quiet push: up to Android 7; later the app's channel decides.
QUIET_LOOK: Final[Mapping[str, Any]] = {"notification_priority": "PRIORITY_LOW", "default_sound": False, "default_vibrate_timings": False}
#: Keys of a data message that the app draws.
DRAWN: Final = frozenset({"title", "body", "tag", "channel_id", "sound", "image", "badge"})
_RESERVED: Final = re.compile(r"from|message_type|collapse_key|gcm.*|google.*", re.DOTALL)
_HEAD: Final = b'{"message":{"android":{"ttl":"%ds",'


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is the same for all tokens of a notification: path, and the body before and after the badge. too_large: even cut."""

    path: str
    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    badge: bytes  # the badge's JSON as a format, b"" where none is shown
    too_large: bool


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """POST …/messages:send for the batch's one item."""
    item = batch.items[0]
    ready = batch.prepared if isinstance(batch.prepared, Prepared) else prepare(item.note, credential)
    headers = {"content-type": "application/json"}
    if access is not None:
        headers["authorization"] = f"Bearer {access.value}"
    shown = item.badge is not None and item.badge > 0 and ready.badge  # FCM: 0 means one more, not none
    badge = ready.badge % min(item.badge or 0, COUNT_MAX) if shown else b""
    ttl = _HEAD % min(max(item.ttl_s, 0), TTL_S_MAX)
    body = b"".join((ttl, ready.head, badge, ready.tail, b',"token":', compact(item.target.token), b"}}"))
    return Request("FCM", ready.path, headers, body)


def prepare(note: Notification, credential: Credential) -> Prepared:
    """Path and body but for token, lifetime, access token and badge number."""
    data_only = _data_only(note, credential)
    head, tail, too_large = _fitting(_data_message if data_only else _shown_message, note)
    badge = b"" if note.push_type is PushType.SILENT else b'"badge":"%d",' if data_only else b'"notification_count":%d,'
    return Prepared(f"/v1/projects/{credential.options.get('project_id', '')}/messages:send", head, tail, badge, too_large)


def refuse(item: PushItem) -> str | None:
    """`payload_too_large` where not even ten characters of text fit without data; looks at the notification only."""
    note = item.note
    if note.payload is None and not note.vendor_raw:
        uncut = (note.ext, note.image, note.vendor.get("image"), note.vendor.get("channel_id"))
        if sum(len(text) for text in uncut if isinstance(text, str)) <= 256:
            return None
    return "payload_too_large" if _fitting(_data_message, note)[2] or _fitting(_shown_message, note)[2] else None


def _data_only(note: Notification, credential: Credential) -> bool:
    """Whether the app draws the notification itself: message over credential; a silent push always is."""
    wanted = note.vendor.get("data_only", credential.options.get("data_only"))
    return note.push_type is PushType.SILENT or wanted in (True, 1, "1", "true")


def _fitting(render: Callable[[Notification], tuple[bytes, bytes, bool]], note: Notification) -> tuple[bytes, bytes, bool]:
    """What `render` gives, without as much beside the words as it takes to fit."""
    message = b"", b"", True
    for lean in leaner(note):
        message = render(lean)
        if not message[2]:
            return message
    return message


def _shown_message(note: Notification) -> tuple[bytes, bytes, bool]:
    """(up to the count, after it, whether it is too large even so) of a message that Android draws."""
    look, data, words = _look(note), _data(note), _words(note)
    words, too_large = _fitted(words, (look, data), spare=len("notification_count") + 10, prefix=note.prefix)
    android = compact({"notification": look, "priority": _priority(note)})
    rest = {"data": data, "notification": words} if data else {"notification": words}
    split = len(b'{"notification":{')
    return android[1:split], android[split:] + b"," + compact(rest)[1:-1], too_large


def _data_message(note: Notification) -> tuple[bytes, bytes, bool]:
    """The same for a message that the app reads: everything in `data`, values are texts."""
    silent = note.push_type is PushType.SILENT
    extra, said = ({}, {}) if silent else (_drawing(note), _words(note))
    data = {**extra, **_data(note, frozenset() if silent else DRAWN.union(extra))}
    words, too_large = _fitted(said, (data,), spare=len("badge") + 10, prefix=note.prefix)
    if silent and note.badge_value is not None:
        data["badge"] = str(note.badge_value)
    priority = "NORMAL" if silent else _priority(note)
    head = compact({"priority": priority})[1:] + b',"data":{'
    return head, compact({**words, **data})[1:], too_large


def _fitted(words: dict[str, str], beside: Sequence[Mapping[str, Any]], spare: int, prefix: str) -> tuple[dict[str, str], bool]:
    """Title and body (which may begin with a name, `prefix`) cut so that everything stays within the limit; whether it does not even so."""
    room = PAYLOAD_BYTES_MAX - spare - sum(_weight(part) for part in beside) - sum(map(utf8_bytes, words))
    texts: dict[str, str] = {name: words[name] for name in ("body", "title") if name in words}
    cut_words = {**words, **shrink(texts, sum(map(utf8_bytes, texts.values())) - room, utf8_bytes, prefix)}
    return cut_words, sum(map(utf8_bytes, cut_words.values())) > room


def _weight(part: Mapping[str, Any]) -> int:
    """UTF-8 bytes of keys and values, which is how FCM counts."""
    return sum(utf8_bytes(key) + (utf8_bytes(value) if isinstance(value, str) else len(compact(value))) for key, value in part.items())


def _words(note: Notification) -> dict[str, str]:
    raw = _raw_notification(note) if not note.hidden and not quiet(note) else {}
    title = _text(raw.get("title")) or note.title or note.app_name
    body = _text(raw.get("body")) or note.body
    return {"title": title, "body": body} if title else {"body": body}


def _look(note: Notification) -> dict[str, Any]:
    """android.notification: how it looks and sounds, and which one it replaces."""
    look: dict[str, Any] = {"tag": text_id(note.collapse_id)}
    channel = note.vendor.get("channel_id") or note.placement.get("channel_id")
    if isinstance(channel, str) and channel:
        look["channel_id"] = channel
    sound = note.sound_android if note.sound_android is not None else "default"
    if quiet(note):
        look |= QUIET_LOOK
    elif sound not in ("none", ""):
        look["sound"] = sound.rpartition(".")[0] or sound  # Android names resources without suffix
    image = note.vendor.get("image") or note.image
    if isinstance(image, str) and image.startswith("https://"):
        look["image"] = image
    if note.loc is not None and not quiet(note):
        look |= {"body_loc_key": note.loc.key, "body_loc_args": list(note.loc.args)}
    raw = _raw_notification(note)
    return merged(look, raw, RAW_NOTIFICATION - NOISE if quiet(note) else RAW_NOTIFICATION)


def _drawing(note: Notification) -> dict[str, str]:
    """The same for a message that the app draws."""
    return {key: value if isinstance(value, str) else compact(value).decode() for key, value in _look(note).items()}


def _raw_notification(note: Notification) -> dict[str, Any]:
    """The sender's own notification keys (NIM: fcmField, fcmFieldV1), legacy names turned into today's."""
    raw: dict[str, Any] = {}
    for name in ("notification", "fcm_v1"):
        part = note.vendor_raw.get(name)
        raw |= {key: value for key, value in part.items() if value is not None} if isinstance(part, dict) else {}
    if "android_channel_id" in raw:
        raw.setdefault("channel_id", raw["android_channel_id"])
    return raw


def _data(note: Notification, ours: frozenset[str] = frozenset()) -> dict[str, str]:
    """ext and the payload's keys; values as texts, as FCM wants. A key that FCM keeps for itself gets an x- before it, and
    so does one of `ours`: what the app is to draw (hidden words stay hidden, a repeat replaces itself) is not the payload's to say."""
    data = {}
    for key, value in (note.payload or {}).items():
        name = f"x-{key}" if key in ours or _RESERVED.fullmatch(key) else key
        data[name] = value if isinstance(value, str) else compact(value).decode()
    if note.ext is not None:
        data["ext"] = note.ext
    return data


def _priority(note: Notification) -> str:
    """HIGH wakes the device. A public message is never lifted; a recall and the end of a call wake nobody."""
    placed = "NORMAL" if note.placement.get("priority") == "NORMAL" or quiet(note) else "HIGH"
    wish = _text(note.vendor.get("priority")).upper()
    if wish == "NORMAL" or (wish == "HIGH" and note.bucket is Bucket.PRIVATE and not quiet(note)):
        return wish
    return placed


_TOKEN: Final = re.compile(rf"[!-~]{{1,{TOKEN_CHARACTERS_MAX}}}")


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks: registration tokens and installation ids are both opaque."""
    return _TOKEN.fullmatch(token) is not None


def check(credential: Credential, access: AccessToken | None) -> Request:
    """Full validation of a push to a token that can't exist, with nothing delivered."""
    body = {"message": {"token": "pushfleet-credential-check", "notification": {"body": "check"}}, "validate_only": True}
    headers = {"content-type": "application/json"}
    if access is not None:
        headers["authorization"] = f"Bearer {access.value}"
    return Request("FCM", f"/v1/projects/{credential.options.get('project_id', '')}/messages:send", headers, compact(body))


def checked(answer: Answer) -> Verdict:
    """ACCEPTED when FCM got as far as looking at the token."""
    refusal = _refusal(answer)
    if answer.status == 200 or "INVALID_ARGUMENT" in (refusal.code, refusal.status):
        return Verdict.ACCEPTED
    verdict = FCM_CODES.get(refusal.code) or STATUS_CODES.get(refusal.status) or _by_status(answer.status)
    return Verdict.ACCEPTED if verdict in (Verdict.TOKEN_DEAD, Verdict.TOKEN_FOREIGN) else verdict


# ---------------------------------------------------------------- access token

SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
AUDIENCE: Final = "https://oauth2.googleapis.com/token"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S: Final = 3600
ACCESS_S_DEFAULT: Final = 3600
ACCESS_S_MIN: Final = 60
ACCESS_S_MAX: Final = 86_400
_PASSING_ERRORS: Final = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})
_PASSING_STATUS: Final = frozenset({408, 500, 502, 503, 504})


class Granted(msgspec.Struct):
    access_token: str
    expires_in: float = ACCESS_S_DEFAULT


def ask(credential: Credential, now_ms: int) -> Request:
    """The service account's signed assertion for an access token. Source: fcm.md §2."""
    token = assertion(credential.options, credential.secrets["private_key"], now_ms // 1000)
    form = urlencode({"grant_type": GRANT_TYPE, "assertion": token})
    return Request("GOOGLE_OAUTH", "/token", {"content-type": "application/x-www-form-urlencoded"}, form.encode())


def assertion(options: Mapping[str, str], private_key: str, now_s: int) -> str:
    """A JWT, RS256; `aud` is Google's address wherever the request really goes."""
    header = {"alg": "RS256", "typ": "JWT", "kid": options["key_id"]}
    claims = {"iss": options["client_email"], "scope": SCOPE, "aud": AUDIENCE, "iat": now_s, "exp": now_s + ASSERTION_S}
    signed = f"{_base64url(compact(header))}.{_base64url(compact(claims))}"
    signature = _rsa_key(private_key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_base64url(signature)}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_access(answer: Answer, now_ms: int) -> AccessToken | AccessRefused:
    """The access token, to be renewed at 85 % of its life; else why there is none."""
    granted = read(answer, Granted) if answer.status == 200 else None
    if granted is not None and granted.access_token and granted.access_token.isascii() and granted.access_token.isprintable():
        given = granted.expires_in if granted.expires_in == granted.expires_in else 0.0  # NaN is not itself
        life_ms = int(min(max(given, ACCESS_S_MIN), ACCESS_S_MAX) * 1000)
        return AccessToken(granted.access_token, now_ms + life_ms * 85 // 100, now_ms + life_ms)
    body = read(answer, dict[str, Any]) or {}
    code = _text(body.get("error"))[:64]
    return AccessRefused(
        _no_access(answer.status, code), code or str(answer.status), told(body.get("error_description")), retry_after_s(answer)
    )


def _no_access(status: int, code: str) -> Verdict:
    """google-auth tries again what may pass; what Google itself words otherwise is about the key or the clock."""
    if status == 429:
        return Verdict.THROTTLED
    if status in _PASSING_STATUS or code in _PASSING_ERRORS or not code:
        return Verdict.UNAVAILABLE
    return Verdict.CREDENTIAL_REFUSED


# ---------------------------------------------------------------- credential

KEY_FILE_BYTES_MAX: Final = 65_536
_PROJECT: Final = re.compile(r"[A-Za-z0-9:._-]{1,128}")


class ServiceAccount(msgspec.Struct):
    """The fields we use of a service account's key file. Its token_uri is not among them: the endpoint is Google's or the operator's."""

    client_email: str
    private_key: str
    private_key_id: str
    project_id: str
    type: str = "service_account"


def read_credential(_options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """files: service_account. Gives options {project_id, client_email, key_id} and the private key."""
    if "service_account" not in files:
        raise CredentialError("--service-account is missing: the JSON key file of a service account of the Firebase project")
    if len(files["service_account"]) > KEY_FILE_BYTES_MAX:
        raise CredentialError(f"--service-account has more than {KEY_FILE_BYTES_MAX} bytes: not a key file")
    try:
        account = msgspec.json.decode(secret_file_text(files["service_account"], "--service-account"), type=ServiceAccount)
    except (msgspec.DecodeError, RecursionError) as error:
        missing = re.search(r"missing required field `\w+`", str(error))
        raise CredentialError(
            f"--service-account is not a service account's JSON key file{': ' + missing.group() if missing else ''}"
        ) from None
    if account.type != "service_account":
        raise CredentialError("--service-account must be the key file of a service account (its type is another)")
    for name in ("client_email", "private_key_id"):
        if not re.fullmatch(r"[!-~]{1,256}", getattr(account, name)):
            raise CredentialError(f"--service-account: {name} is empty or not ASCII")
    if not _PROJECT.fullmatch(account.project_id):
        raise CredentialError("--service-account: project_id is not a Firebase project's id")
    _rsa_key(account.private_key)
    options = {"project_id": account.project_id, "client_email": account.client_email, "key_id": account.private_key_id}
    return options, {"private_key": account.private_key}


def _rsa_key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode("utf-8", "replace"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError("--service-account: private_key does not parse as a private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CredentialError("--service-account: private_key is of another kind: Google wants RSA")
    return key


# ---------------------------------------------------------------- the vendor

FCM: Final = VendorSpec(
    vendor=Vendor.FCM,
    endpoints={"FCM": "https://fcm.googleapis.com", "GOOGLE_OAUTH": "https://oauth2.googleapis.com"},
    http2=True,
    request_tokens_max=1,
    build=build,
    classify=classify,
    read_credential=read_credential,
    limits=Limits(rate_per_s=10_000.0, burst=10_000.0, rate_unit="token", timezone="America/Los_Angeles", ramp_s=60),
    retry=RETRY,
    badge_in_body=True,
    badge_alone=True,
    access=AccessSpec(ask=ask, read=read_access),
    token_valid=token_valid,
    check=check,
    checked=checked,
    refuse=refuse,
    prepare=prepare,
)
