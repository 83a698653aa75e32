"""Apple APNs: one HTTP/2 request a token; provider token (p8) or client certificate (p12). Sources: docs/vendors/apns.md."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from common.contracts import Notification, Target
from common.model import Again, Bucket, Kind, PushType, Vendor, Verdict
from common.values import Value, redacted
from workers.vendors.apple_account import p8_key, read_credential
from workers.vendors.base import (
    DEFAULT_RETRY,
    TOO_LONG,
    AccessRefused,
    AccessSpec,
    AccessToken,
    Credential,
    Limits,
    Outcome,
    PushItem,
    RequestBatch,
    Retry,
    VendorSpec,
    compact,
    header_id,
    in_a_row,
    leaner,
    merged,
    no_answer,
    quiet,
    read,
    retry_after_s,
    shrink,
    uuid_text,
)
from workers.wire import Answer, ClientIdentity, NoAnswer, Request

PAYLOAD_BYTES_MAX: Final = 4096
VOIP_PAYLOAD_BYTES_MAX: Final = 5120
COLLAPSE_ID_BYTES_MAX: Final = 64
TOKEN_CHARACTERS_MAX: Final = 512  # Apple names no length: 64 today, far fewer than this for ever
BADGE_MAX: Final = 2**31 - 1
_BADGE_BYTES: Final = len(b'"badge":%d,' % BADGE_MAX)

# ---------------------------------------------------------------- codes

#: Reasons of a refusal that mean the same whoever asks. Source: Apple, Handling notification responses from APNs, read 2026-11-22.
REASONS: Final[Mapping[str, Verdict]] = {
    "BadCollapseId": Verdict.REJECTED,
    "BadDeviceToken": Verdict.TOKEN_FOREIGN,  # malformed, or of the other environment
    "BadExpirationDate": Verdict.REJECTED,
    "BadMessageId": Verdict.REJECTED,
    "BadPriority": Verdict.REJECTED,
    "BadTopic": Verdict.CREDENTIAL_REFUSED,
    "DeviceTokenNotForTopic": Verdict.TOKEN_FOREIGN,
    "DuplicateHeaders": Verdict.REJECTED,
    "IdleTimeout": Verdict.UNAVAILABLE,
    "InvalidPushType": Verdict.REJECTED,
    "MissingDeviceToken": Verdict.REJECTED,
    "MissingTopic": Verdict.CREDENTIAL_REFUSED,
    "PayloadEmpty": Verdict.REJECTED,
    "TopicDisallowed": Verdict.CREDENTIAL_REFUSED,
    "BadCertificate": Verdict.CREDENTIAL_REFUSED,
    "BadCertificateEnvironment": Verdict.CREDENTIAL_REFUSED,
    "ExpiredProviderToken": Verdict.ACCESS_EXPIRED,
    "Forbidden": Verdict.CREDENTIAL_REFUSED,
    "InvalidProviderToken": Verdict.CREDENTIAL_REFUSED,
    "MissingProviderToken": Verdict.CREDENTIAL_REFUSED,
    "UnrelatedKeyIdInToken": Verdict.UNAVAILABLE,
    "BadEnvironmentKeyIdInToken": Verdict.CREDENTIAL_REFUSED,  # as Apple's page spells it
    "BadEnvironmentKeyInToken": Verdict.CREDENTIAL_REFUSED,  # as the live servers do
    "BadPath": Verdict.REJECTED,
    "MethodNotAllowed": Verdict.REJECTED,
    "ExpiredToken": Verdict.TOKEN_DEAD,
    "Unregistered": Verdict.TOKEN_DEAD,
    "PayloadTooLarge": Verdict.REJECTED,
    "TooManyProviderTokenUpdates": Verdict.THROTTLED,
    "TooManyRequests": Verdict.THROTTLED,
    "InternalServerError": Verdict.UNAVAILABLE,
    "ServiceUnavailable": Verdict.UNAVAILABLE,
    "Shutdown": Verdict.UNAVAILABLE,
    # of the broadcast and channel interface, which we don't call
    "FeatureNotEnabled": Verdict.REJECTED,
    "MissingChannelId": Verdict.REJECTED,
    "BadChannelId": Verdict.REJECTED,
    "ChannelNotRegistered": Verdict.REJECTED,
    "BadRequestParams": Verdict.REJECTED,
    "BadRequestPayload": Verdict.REJECTED,
    "MissingPushType": Verdict.REJECTED,
    "CannotCreateChannelConfig": Verdict.REJECTED,
    "TopicMismatch": Verdict.CREDENTIAL_REFUSED,
}

#: Reasons whose next attempt must not use this connection.
NEW_CONNECTION: Final = frozenset({"ExpiredProviderToken", "UnrelatedKeyIdInToken", "IdleTimeout", "Shutdown"})
RETRY_FIRST_S: Final = 900.0  # Apple: 5xx may be tried again after 15 minutes
QUICK_S: Final = 1.0  # nothing was taken and nobody asked for the quarter of an hour
#: First delays of single reasons: a new connection is all it takes, or the provider token may change every 20 minutes.
FIRST_S: Final = {"UnrelatedKeyIdInToken": QUICK_S, "IdleTimeout": QUICK_S, "Shutdown": QUICK_S, "TooManyProviderTokenUpdates": 1200.0}
#: Longer than any reason of Apple's, and all that is kept of one.
REASON_MAX: Final = 64

RETRY: Final = Retry(first_s={**DEFAULT_RETRY.first_s, Verdict.UNAVAILABLE: RETRY_FIRST_S}, attempts_max=DEFAULT_RETRY.attempts_max)


class Reply(msgspec.Struct):
    """Body of a refusal. timestamp (410 only): ms, when APNs last knew the token to be invalid."""

    reason: str = ""
    timestamp: Any = None


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    """One outcome, as there is one token a request. Source: apns.md §5."""
    if isinstance(answer, NoAnswer):
        quick = None if answer.sent else QUICK_S
        return [Outcome(o.verdict, o.status, words=o.words, first_s=quick) for o in no_answer(batch, answer)]
    vendor_id = answer.headers.get("apns-id", "")[:REASON_MAX] or None
    if answer.status == 200:
        return [Outcome(Verdict.ACCEPTED, "200", vendor_message_id=vendor_id)] * len(batch.items)
    reply = read(answer, Reply) or Reply()
    return [_refused(item, answer, reply, vendor_id) for item in batch.items]


def _refused(item: PushItem, answer: Answer, reply: Reply, vendor_id: str | None) -> Outcome:
    reason = reply.reason[:REASON_MAX]
    verdict, words = REASONS.get(reason) or _by_status(answer.status), ""
    if verdict is Verdict.TOKEN_DEAD and _registered_since(item.target, reply.timestamp):
        verdict, words = Verdict.REJECTED, "the device registered this token again after that"
    if reason == "UnrelatedKeyIdInToken" and in_a_row(item, reason) > 1:
        verdict = Verdict.CREDENTIAL_REFUSED  # a new connection was no cure
    return Outcome(
        verdict,
        str(answer.status),
        reason,
        words,
        vendor_id,
        retry_after_s=retry_after_s(answer),
        first_s=FIRST_S.get(reason),
        token_only=reason == "TooManyRequests",
        again=Again.NEW_CONNECTION if reason in NEW_CONNECTION else None,
        alarm=verdict is Verdict.UNKNOWN or reason == "TooManyProviderTokenUpdates",
    )


def _by_status(status: int) -> Verdict:
    """What is left to go by when the body names no known reason (a proxy's page, a code of next year)."""
    if status == 413:
        return Verdict.REJECTED
    if status == 429:
        return Verdict.THROTTLED
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


def _registered_since(target: Target, timestamp: Any) -> bool:
    """Whether the device gave us this token again after APNs saw it dead. Without a time the word of APNs stands."""
    known = isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and timestamp > 0
    return known and target.registered_ms > timestamp


# ---------------------------------------------------------------- request

_LEVELS: Final = {"passive": 0, "active": 1, "time-sensitive": 2, "critical": 3}
_TOPIC_SUFFIX: Final = {PushType.ALERT: "", PushType.SILENT: "", PushType.VOIP: ".voip"}
_WIRE_TYPE: Final = {PushType.ALERT: "alert", PushType.SILENT: "background", PushType.VOIP: "voip"}
#: Keys of `aps` that a sender may lay over ours (NIM's apsField). No content-available: the push type must match the payload.
RAW_APS: Final = frozenset(
    {
        "alert",
        "badge",
        "sound",
        "thread-id",
        "category",
        "mutable-content",
        "interruption-level",
        "relevance-score",
        "target-content-id",
        "filter-criteria",
    }
)


class Prepared(Value, frozen=True):
    """What is the same for all tokens of a notification. The badge goes between head and tail; badge: whether it may.

    too_large: even with the words cut short.
    """

    endpoint: str
    headers: Mapping[str, str]
    head: bytes
    tail: bytes
    badge: bool
    too_large: bool

    __repr__ = redacted("head", "tail")


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """POST /3/device/<token> for the batch's one item."""
    item = batch.items[0]
    prepared, target = batch.prepared, item.target
    ready = prepared if isinstance(prepared, Prepared) else prepare(item.note, credential)
    headers = {**ready.headers, "apns-id": uuid_text(target.push_id)}
    if access is not None and access.value:
        headers["authorization"] = _bearer(access.value)
    if ready.badge and item.badge is not None:
        body = b'%b"badge":%d,%b' % (ready.head, min(max(item.badge, 0), BADGE_MAX), ready.tail)
    else:
        body = ready.head + ready.tail
    return Request(ready.endpoint, "/3/device/" + target.token, headers, body)


@lru_cache(1024)
def _bearer(token: str) -> str:
    return f"bearer {token}"


def refuse(item: PushItem) -> str | None:
    """`payload_too_large` where not even ten characters of text fit without data; looks at the notification only."""
    note = item.note
    if note.payload is None and note.voip is None and not note.vendor_raw:
        if not note.vendor and note.image is None and len(note.ext or "") + len(note.thread_id or note.conversation_id) <= 512:
            return None
        uncut = (note.ext, note.thread_id or note.conversation_id, note.image, note.vendor.get("category"))
        if sum(len(text) for text in uncut if isinstance(text, str)) <= 512:
            return None  # six bytes a character at the most: it fits
    return "payload_too_large" if _body(note)[2] else None


def prepare(note: Notification, credential: Credential) -> Prepared:
    """Headers and body but for token, id, access token and badge number."""
    options, usual = credential.options, _usual_body(note)
    head, tail, too_large = usual or _body(note)
    if usual is None:
        priority, badge = _priority(note), _takes_badge(note)
    else:  # an alert of a message, and no wish of its sender
        priority, badge = "5" if note.placement.get("priority") == "5" else "10", True
    push_type, collapse_id = note.push_type, note.collapse_id
    headers = {
        "apns-topic": options.get("topic", "") + _TOPIC_SUFFIX[push_type],
        "apns-push-type": _WIRE_TYPE[push_type],
        "apns-priority": priority,
        "apns-expiration": str(max(note.expires_at_ms // 1000, 0)),
    }
    if collapse_id:
        headers["apns-collapse-id"] = header_id(collapse_id, COLLAPSE_ID_BYTES_MAX)
    endpoint = "APNS_SANDBOX" if options.get("env") == "sandbox" else "APNS_PRODUCTION"
    return Prepared(endpoint, headers, head, tail, badge, too_large)


def _priority(note: Notification) -> str:
    if note.push_type is PushType.VOIP:
        return "10"
    if note.push_type is PushType.SILENT or quiet(note):
        return "5"
    return "5" if note.placement.get("priority") == "5" else "10"


#: An alert whose words have at most this many characters fits whatever they are: six bytes each at the most.
_SHORT_CHARACTERS_MAX: Final = 500


class _UsualAlert(Value, frozen=True):
    title: str | msgspec.UnsetType
    body: str


class _UsualAps(Value, frozen=True):
    alert: _UsualAlert
    sound: str | msgspec.UnsetType
    thread: str = msgspec.field(name="thread-id")
    level: str | msgspec.UnsetType = msgspec.field(name="interruption-level", default=msgspec.UNSET)


class _Usual(Value, frozen=True):
    """The body of a short alert without wishes of its sender; fields in `_body`'s order."""

    aps: _UsualAps
    ext: str | msgspec.UnsetType

    __repr__ = redacted("aps", "ext")


_encode_usual: Final = msgspec.json.Encoder().encode


def _usual_body(note: Notification) -> tuple[bytes, bytes, bool] | None:
    """What `_body` gives for a short alert without wishes of its sender, made without a dict; None for any other."""
    if note.kind is not Kind.MESSAGE or note.push_type is not PushType.ALERT or note.vendor or note.vendor_raw:
        return None
    if note.payload or note.image or note.subtitle or note.loc is not None:
        return None
    title, body, ext, ring = note.title, note.body, note.ext, note.sound_ios
    thread = note.thread_id or note.conversation_id
    if len(body) + len(title) + len(thread) + (len(ext) if ext else 0) > _SHORT_CHARACTERS_MAX:
        return None
    unset, level = msgspec.UNSET, note.placement.get("interruption_level")
    sound = "default" if ring is None else unset if ring in ("none", "") else ring
    aps = _UsualAps(_UsualAlert(title or unset, body), sound, thread, level if level in _LEVELS else unset)
    try:
        raw = _encode_usual(_Usual(aps, unset if ext is None else ext))
    except UnicodeEncodeError:  # half a character
        return None
    return raw[:8], raw[8:], False  # {"aps":{ is eight bytes


def _body(note: Notification) -> tuple[bytes, bytes, bool]:
    """(before the badge, after it, whether it is too large even so), without as much beside the words as it takes to fit."""
    body = b"", b"", True
    for lean in leaner(note):
        body = _whole_body(lean)
        if not body[2]:
            return body
    return body


def _whole_body(note: Notification) -> tuple[bytes, bytes, bool]:
    most = VOIP_PAYLOAD_BYTES_MAX if note.push_type is PushType.VOIP else PAYLOAD_BYTES_MAX
    aps, rest = _aps(note), _beside(note)
    room = most - (_BADGE_BYTES if _takes_badge(note) else 0)
    raw = compact({"aps": aps, **rest})
    excess = len(raw) - room
    if excess > 0 and "alert" in aps:
        words = {name: aps["alert"][name] for name in ("body", "subtitle", "title") if isinstance(aps["alert"].get(name), str)}
        aps["alert"] |= shrink(words, excess, _json_bytes, note.prefix)
        raw = compact({"aps": aps, **rest})
    return raw[:8], raw[8:], len(raw) > room  # {"aps":{ is eight bytes


def _json_bytes(text: str) -> int:
    """Bytes of `text` inside a JSON string: a quotation mark counts two, a control character six."""
    return len(compact(text)) - 2


def _beside(note: Notification) -> dict[str, Any]:
    """The keys beside `aps`: ext, the app's own payload, a call's data, the picture. ext, aps and the call are never overwritten."""
    image = {"image": note.image} if note.image and note.push_type is PushType.ALERT else {}
    call = note.voip or {} if note.push_type is PushType.VOIP else {}
    rest: dict[str, Any] = {**image, **(note.payload or {}), **call}
    rest.pop("aps", None)
    if note.ext is not None:
        rest["ext"] = note.ext
    return rest


def _aps(note: Notification) -> dict[str, Any]:
    if note.kind is Kind.BADGE:
        return {"badge": note.badge_value}
    if note.push_type is PushType.SILENT:
        return {"content-available": 1} | ({} if note.badge_value is None else {"badge": note.badge_value})
    if note.push_type is PushType.VOIP:
        return {"alert": _alert(note)}
    aps: dict[str, Any] = {"alert": _alert(note)}
    sound = _sound(note)
    if sound is not None:
        aps["sound"] = sound
    aps["thread-id"] = note.thread_id or note.conversation_id
    vendor = note.vendor
    if isinstance(vendor.get("category"), str):
        aps["category"] = vendor["category"]
    if note.image or vendor.get("mutable_content"):
        aps["mutable-content"] = 1
    if _count(vendor.get("badge")) is not None:
        aps["badge"] = _count(vendor["badge"])
    level = _level(
        note, note.placement.get("interruption_level"), vendor.get("interruption_level"), "critical" if vendor.get("critical") else None
    )
    if level is not None:
        aps["interruption-level"] = level
    return _with_raw(note, aps, level)


def _alert(note: Notification) -> dict[str, Any]:
    """Always an object. A sender's title for iOS counts only where the words are the message's own."""
    own = note.vendor.get("title")
    title = own if isinstance(own, str) and own and _own_words(note) else note.title
    alert = {"title": title} if title else {}
    if note.subtitle:
        alert["subtitle"] = note.subtitle
    if note.loc is not None and _own_words(note):
        return {**alert, "loc-key": note.loc.key, "loc-args": list(note.loc.args)}
    alert["body"] = note.body
    return alert


def _own_words(note: Notification) -> bool:
    """Neither hidden nor quiet: there the neutral words must not be put back to what they were."""
    return not note.hidden and not quiet(note)


def _sound(note: Notification) -> str | dict[str, Any] | None:
    """The file in the app, `default`, or an object for a critical alert; None for silence."""
    name = note.sound_ios if note.sound_ios is not None else "default"
    if quiet(note) or name in ("none", ""):
        return None
    if note.vendor.get("critical") and note.bucket is Bucket.PRIVATE:
        return {"critical": 1, "name": name, "volume": 1.0}
    return name


def _level(note: Notification, placed: Any, *wishes: Any) -> str | None:
    """The last known wish; a public message is never lifted over `active` or what its class was given. Quiet: no banner, no lit screen."""
    if quiet(note):
        return "passive"
    level = placed if placed in _LEVELS else None
    bound = 3 if note.bucket is Bucket.PRIVATE else _LEVELS[level or "active"]
    for wish in wishes:
        if isinstance(wish, str) and wish in _LEVELS and _LEVELS[wish] <= bound:
            level = wish
    return level


def _with_raw(note: Notification, aps: dict[str, Any], level: str | None) -> dict[str, Any]:
    """`aps` under the sender's own keys, as far as these are on the white list and of the shape that Apple wants."""
    raw = note.vendor_raw.get("aps")
    if not isinstance(raw, Mapping):
        return aps
    over = {key: value for key, value in raw.items() if value is not None}
    if not isinstance(over.get("alert"), Mapping) or not _own_words(note):
        over.pop("alert", None)  # a text would replace the object, and hidden words stay hidden
    else:
        over["alert"] = {key: value for key, value in over["alert"].items() if _is_words(value)}
    if "badge" in over and _count(over["badge"]) is None:
        del over["badge"]
    if quiet(note) or (isinstance(over.get("sound"), Mapping) and note.bucket is Bucket.PUBLIC):
        over.pop("sound", None)
    if over.pop("interruption-level", None) is not None:
        wanted = _level(note, level, raw["interruption-level"])
        over |= {"interruption-level": wanted} if wanted else {}
    return merged(aps, over, RAW_APS)


def _is_words(value: Any) -> bool:
    """All that an alert consists of: texts, and lists of texts for the slots of localised ones."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _count(value: Any) -> int | None:
    """A badge number, None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= BADGE_MAX else None


def _takes_badge(note: Notification) -> bool:
    """Whether the item's number is shown: alerts, unless the sender gave a number of their own."""
    if not note.vendor and not note.vendor_raw:
        return note.push_type is PushType.ALERT and note.kind is not Kind.BADGE
    raw = note.vendor_raw.get("aps")
    given = _count(note.vendor.get("badge")) if not isinstance(raw, Mapping) or _count(raw.get("badge")) is None else raw["badge"]
    return note.push_type is PushType.ALERT and given is None and note.kind is not Kind.BADGE


_TOKEN: Final = re.compile(rf"[0-9a-fA-F]{{1,{TOKEN_CHARACTERS_MAX}}}")


def token_valid(token: str) -> bool:
    """Hex digits; Apple warns against counting them."""
    return _TOKEN.fullmatch(token) is not None


def check(credential: Credential, access: AccessToken | None) -> Request:
    """A push to nobody: a device token of zeros is refused with BadDeviceToken, but only after the credential was taken."""
    body = compact({"aps": {"content-available": 1}})
    options = credential.options
    headers = {"apns-topic": options.get("topic", ""), "apns-push-type": "background", "apns-priority": "5", "apns-expiration": "0"}
    if access is not None and access.value:
        headers["authorization"] = f"bearer {access.value}"
    endpoint = "APNS_SANDBOX" if options.get("env") == "sandbox" else "APNS_PRODUCTION"
    return Request(endpoint, "/3/device/" + "0" * 64, headers, body)


def checked(answer: Answer) -> Verdict:
    """ACCEPTED when APNs got as far as looking at the token."""
    reply = read(answer, Reply) or Reply()
    verdict = Verdict.ACCEPTED if answer.status == 200 else REASONS.get(reply.reason) or _by_status(answer.status)
    return Verdict.ACCEPTED if verdict in (Verdict.TOKEN_FOREIGN, Verdict.TOKEN_DEAD) else verdict


# ---------------------------------------------------------------- provider token

PROVIDER_TOKEN_S: Final = 2400  # a new one each 40 minutes: Apple wants 20 to 60
PROVIDER_TOKEN_S_MIN: Final = 1200
PROVIDER_TOKEN_LIFE_S: Final = 3600 - 60  # a minute for clocks that differ
FOR_EVER_MS: Final = 253_402_300_799_000  # the year 9999


def ask(credential: Credential, now_ms: int) -> AccessToken:
    """The provider token of this moment's 40 minutes, the same in every process; empty where a certificate speaks."""
    return _signed(credential, now_ms, PROVIDER_TOKEN_S)


def ask_again(credential: Credential, now_ms: int) -> AccessToken:
    """In the second half of the 40 minutes one that is 20 minutes younger, also the same in every process; else the same again."""
    return _signed(credential, now_ms, PROVIDER_TOKEN_S_MIN)


def _signed(credential: Credential, now_ms: int, step_s: int) -> AccessToken:
    options, now_s = credential.options, now_ms // 1000
    if "p8" not in credential.secrets:
        return AccessToken("", FOR_EVER_MS, FOR_EVER_MS)
    issued_s, ends_s = now_s // step_s * step_s, (now_s // PROVIDER_TOKEN_S + 1) * PROVIDER_TOKEN_S
    value = provider_token(credential.secrets["p8"], options["key_id"], options["team_id"], issued_s)
    return AccessToken(value, ends_s * 1000, (issued_s + PROVIDER_TOKEN_LIFE_S) * 1000)


def provider_token(p8: str, key_id: str, team_id: str, issued_s: int) -> str:
    """A JWT, ES256 with RFC 6979's deterministic k, so that whoever makes it makes the same one. Source: apns.md §2.1."""
    signed = ".".join(_base64url(compact(part)) for part in ({"alg": "ES256", "kid": key_id}, {"iss": team_id, "iat": issued_s}))
    der = p8_key(p8).sign(signed.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = utils.decode_dss_signature(der)
    return f"{signed}.{_base64url(r.to_bytes(32) + s.to_bytes(32))}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _never_asked(_answer: Answer, _now_ms: int) -> AccessRefused:
    """`ask` always gives the token itself, so there is never an answer to read."""
    return AccessRefused(Verdict.UNAVAILABLE, "", "APNs has no token endpoint")


def identity(credential: Credential) -> ClientIdentity | None:
    """The client certificate of a p12 credential, None with a p8 key."""
    if "certificate" not in credential.secrets:
        return None
    return ClientIdentity(credential.secrets["certificate"].encode(), credential.secrets["key"].encode())


# ---------------------------------------------------------------- the vendor

APNS: Final = VendorSpec(
    vendor=Vendor.APNS,
    endpoints={"APNS_PRODUCTION": "https://api.push.apple.com", "APNS_SANDBOX": "https://api.sandbox.push.apple.com"},
    http2=True,
    request_tokens_max=1,
    build=build,
    classify=classify,
    read_credential=read_credential,
    limits=Limits(rate_per_s=50_000.0, burst=50_000.0, rate_unit="token", timezone="UTC"),  # Apple publishes none: a fuse
    retry=RETRY,
    badge_in_body=True,
    badge_alone=True,
    access=AccessSpec(ask=ask, read=_never_asked, again=ask_again),
    token_valid=token_valid,
    identity=identity,
    check=check,
    checked=checked,
    refuse=refuse,
    prepare=prepare,
    too_long=TOO_LONG | {"PayloadTooLarge"},
)
