"""OPPO Push (OPPO, OnePlus, realme): limits, codes, build, classify, access token. Pure. Sources: docs/vendors/oppo.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from common.contracts import Notification
from common.model import Again, Bucket, MessageClass, Vendor, Verdict
from workers.vendors.base import (
    AccessRefused,
    AccessSpec,
    AccessToken,
    Credential,
    CredentialError,
    Limits,
    Outcome,
    PushItem,
    RequestBatch,
    VendorSpec,
    characters,
    http_date,
    no_answer,
    number_id,
    quiet,
    require,
    retry_after_s,
    secret_text,
    tries_with,
)
from workers.vendors.words import (
    body_of,
    click_text,
    code_of,
    first_words,
    generic,
    json_text,
    mapping,
    number,
    scalar,
    title_of,
    told,
    unreadable_once,
    veiled,
    whole,
)
from workers.wire import Answer, NoAnswer, Request

# ---------------------------------------------------------------- limits (open.oppomobile.com 11234-11238; wire notes of 2026-08)

BATCH_MAX: Final = 1000  # (target, message) pairs of one unicast_batch
TITLE_MAX: Final = 50
SUB_TITLE_MAX: Final = 10
CONTENT_MAX: Final = {1: 50, 2: 128}  # by style: standard, long text
PARAMETERS_CHARS_MAX: Final = 4000  # action_parameters
TEMPLATE_VALUE_MAX: Final = 50  # no limit is published: that of the content they become a part of
OFFLINE_TTL_S_MAX: Final = 864_000  # 10 days
SHOW_TTL_S: Final = {Bucket.PRIVATE: 86_400, Bucket.PUBLIC: 43_200}  # the most a class may stay on the screen
CALLBACK_URL_MAX: Final = 200
ACTIVITY_MAX, URL_MAX = 500, 2000
NAME_MAX: Final = 128  # channel ids, template ids; ours
ACCESS_LIFE_MS, ACCESS_EARLY_MS = 86_400_000, 72_000_000  # 24 h; renewed at 20 h
CLOCK_MAY_DIFFER_MS: Final = 600_000  # a timestamp more than 10 minutes off is refused (19)

#: Classes of 2024-11-20. An unknown category is never sent.
PRIVATE_CATEGORIES: Final = frozenset({"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"})
PUBLIC_CATEGORIES: Final = frozenset({"NEWS", "CONTENT", "MARKETING", "SOCIAL"})
#: Shade, shade and lock screen, and the strong alert, which needs a right of its own and is for chat messages only.
SHADE, LOCK_SCREEN, STRONG = 1, 2, 16
STRONG_CLASSES: Final = frozenset({MessageClass.CHAT, MessageClass.CALL})

# ---------------------------------------------------------------- codes (11235, 11238, SDK ReturnCode)

_CREDENTIAL = "14 15 16 17 18 26 27 28 30"
_REQUEST = "12 20 21 22 23 24 25 31 40 41 51 54 59"
#: 19, 32, 41, 67 and 10000 depend on more than the code: see `_verdict`. 34 is told of pictures, which we never upload;
#: as the SDK mixes it with 33, on a push it can only mean the day's messages.
CODES: Final[Mapping[str, Verdict]] = {
    **dict.fromkeys(_CREDENTIAL.split(), Verdict.CREDENTIAL_REFUSED),
    **dict.fromkeys(_REQUEST.split(), Verdict.REJECTED),
    "-1": Verdict.UNAVAILABLE,
    "-2": Verdict.UNAVAILABLE,
    "11": Verdict.ACCESS_EXPIRED,
    "29": Verdict.ACCESS_EXPIRED,
    "13": Verdict.THROTTLED,
    "55": Verdict.THROTTLED,
    "33": Verdict.QUOTA_SPENT,
    "34": Verdict.QUOTA_SPENT,
    "10000": Verdict.TOKEN_DEAD,
}
#: Asked for, found in no source: "fix-request after 2 retries".
UNCONFIRMED: Final = frozenset({"35", "36", "52", "60", "61", "62", "63", "41000"})
UNCONFIRMED_ATTEMPTS: Final = 3
#: Seconds to wait at least: call frequency (">= 1 s").
WAITS: Final = {"55": 1.0}
#: First delay of a code that asks for a longer back-off: the service's flow control.
FIRST_S: Final = {"-2": 5.0}
TOO_LARGE: Final = 413  # HTTP, of the body
#: Codes about one message of a batch. In a batch of different messages one of them must not spoil the others.
ABOUT_A_MESSAGE: Final = frozenset({"32", "40", "41", "51", "54", "59", "67"})
_NAMES_REGID = re.compile(r"registration[_ ]?id", re.IGNORECASE)

# ---------------------------------------------------------------- registration ids

_REGID = re.compile(r"((([0-9A-Za-z]{2,10})_)?([A-Z]{2}|EUEX)_)?[0-9a-fA-F]{32}|[0-9a-fA-F]{24}")


def token_valid(token: str) -> bool:
    """The SDK's own two expressions (2.3.1, 1.0.4; the 24 hex digits are old ids); what does not fit is answered with 10000."""
    return bool(_REGID.fullmatch(token))


def endpoint_of(token: str) -> str:
    """OPPO for a domestic registration id, OPPO_INTL for any other: the part before the hex digits names the region."""
    parts = token.split("_")
    return "OPPO" if len(parts) == 1 or (len(parts) <= 3 and parts[-2] == "CN") else "OPPO_INTL"


def group(item: PushItem) -> str:
    """A request has one host."""
    return endpoint_of(item.target.token)


def sent(batch: RequestBatch) -> Sequence[PushItem]:
    """The items that travel: those of the first one's host, each registration id once (answers are joined by it)."""
    return tuple(batch.items[index] for index in _travelling(batch))


def _travelling(batch: RequestBatch) -> Sequence[int]:
    home = group(batch.items[0])
    first: dict[str, int] = {}
    for index, item in enumerate(batch.items):
        if group(item) == home:
            first.setdefault(item.target.token, index)
    return tuple(first.values())


# ---------------------------------------------------------------- build

#: Keys of `notification` that a sender may set verbatim. None names a target, a template, a receipt or a mode; channel, category and
#: level are overrides by the time they come here (workers/routing/classes.py: with_raw).
RAW_NUMBERS: Final = {
    "click_action_type": (0, 5),
    "show_time_type": (0, 1),
    "show_start_time": (0, 1 << 53),
    "show_end_time": (0, 1 << 53),
    "network_type": (0, 1),
}
RAW_TEXTS: Final = {"sub_title": SUB_TITLE_MAX, "click_action_activity": ACTIVITY_MAX, "click_action_url": URL_MAX}
CLICK_NEEDS: Final = {0: None, 1: "click_action_activity", 2: "click_action_url", 4: "click_action_activity", 5: "click_action_url"}


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """One target by unicast, several by unicast_batch, each with its own message and its own `app_message_id`."""
    items = sent(batch)
    shared: dict[tuple[int, bool], dict[str, Any]] = {}  # what a notification's items have in common, rendered once
    for item in items:
        key = (id(item.note), _without_level(item))
        if key not in shared:
            shared[key] = _notification(item, credential)
    messages = [_message(item, shared[id(item.note), _without_level(item)], batch) for item in items]
    if len(messages) == 1:
        path, field, value = "unicast", "message", json_text(messages[0])
    else:
        path, field, value = "unicast_batch", "messages", json_text(messages)
    form = (("auth_token", access.value if access else ""), (field, value or ""))
    return Request(group(items[0]), f"/server/v1/message/notification/{path}", _FORM, encode(form))


_FORM: Final = {"content-type": "application/x-www-form-urlencoded;charset=UTF-8"}


def encode(form: Sequence[tuple[str, str]]) -> bytes:
    return urlencode([(key, whole(value)) for key, value in form]).encode()


def _message(item: PushItem, shared: Mapping[str, Any], batch: RequestBatch) -> dict[str, Any]:
    """One (target, message) pair. verify_registration_id: a device that got another id since then drops it."""
    own = {"app_message_id": item.target.push_id, "off_line_ttl": min(max(item.ttl_s, 1), OFFLINE_TTL_S_MAX)}
    notification = {**own, **shared, **_callback(item, batch)}
    token = whole(item.target.token)
    return {"target_type": 2, "target_value": token, "verify_registration_id": True, "notification": notification}


def _notification(item: PushItem, credential: Credential) -> dict[str, Any]:
    """The fields that do not depend on the target (but for `again`)."""
    note = item.note
    style = 2 if scalar(note.vendor.get("style"), 4) == "1" else 1
    notification: dict[str, Any] = {
        "style": style,
        "title": title_of(note, TITLE_MAX),
        "content": body_of(note, CONTENT_MAX[style]),
        "click_action_type": 0,
        "off_line": True,
        "show_ttl": SHOW_TTL_S[note.bucket],
        "notify_id": number_id(note.collapse_id),
        **_class_fields(item, _category(note), credential),
        **_raw(note),
    }
    if parameters := click_text(note, PARAMETERS_CHARS_MAX, _raw_parameters(note), characters):
        notification["action_parameters"] = parameters
    return notification


def _without_level(item: PushItem) -> bool:
    return item.target.again == Again.WITHOUT_NOTIFY_LEVEL


def _category(note: Notification) -> str:
    """The placed category, or the sender's: within the bucket or below it, never from public to private."""
    over = scalar(note.vendor.get("category"), NAME_MAX) or ""
    allowed = PUBLIC_CATEGORIES if note.bucket is Bucket.PUBLIC else PRIVATE_CATEGORIES | PUBLIC_CATEGORIES
    return over if over in allowed else note.placement.get("category", "")


def _private(note: Notification, category: str) -> bool:
    """Whether the push travels as communication & service. Without a category the channel decides (the old scheme)."""
    return note.bucket is Bucket.PRIVATE and category not in PUBLIC_CATEGORIES


def _class_fields(item: PushItem, category: str, credential: Credential) -> dict[str, Any]:
    note = item.note
    private = _private(note, category)
    over = scalar(note.vendor.get("channel_id"), NAME_MAX) if private else None
    channel = over or note.placement.get("channel_id")
    level = _notify_level(item, category, credential.rights)
    fields: dict[str, Any] = {}
    if channel:
        fields["channel_id"] = whole(channel)
    if category:
        fields["category"] = whole(category)
    if category and level:
        fields["notify_level"] = level
    return {**fields, **_template(note, credential)} if private else fields


def _notify_level(item: PushItem, category: str, rights: frozenset[str]) -> int | None:
    """1, 2 or 16; 16 needs the right and a chat message, a quiet push takes 1: without a level the phone rings.

    None for a public push, where the vendor has refused it (67) or nothing was placed.
    """
    note = item.note
    if _without_level(item) or not _private(note, category):
        return None
    if quiet(note):
        return SHADE
    placed = number(note.placement.get("notify_level"), SHADE, STRONG)
    wanted = number(note.vendor.get("notify_level"), SHADE, STRONG) or placed
    strong = note.message_class in STRONG_CLASSES and (placed == STRONG or "oppo.strong" in rights)
    most = STRONG if strong else LOCK_SCREEN
    levels = [level for level in (SHADE, LOCK_SCREEN, STRONG) if level <= min(wanted or 0, most)]
    return max(levels, default=None)


def _template(note: Notification, credential: Credential) -> dict[str, Any]:
    """The sender's private template, else the credential's with sender and text as its variables."""
    given = note.template or {}
    chosen = scalar(given.get("id"), NAME_MAX)
    identity = chosen or note.placement.get("template_id")
    if not identity:
        return {}
    if chosen:
        title, content = (_given(note, given.get(part)) for part in ("title_params", "content_params"))
    else:
        title, content = _own(note)
    wire = json_text if credential.options.get("template_params") == "json_text" else dict
    fields: dict[str, Any] = {"private_msg_template_id": whole(identity)}
    for name, values in (("private_title_parameters", title), ("private_content_parameters", content)):
        if values:
            fields[name] = wire(values)
    return fields


def _own(note: Notification) -> tuple[dict[str, str], dict[str, str]]:
    placed, name, text = note.placement, note.sender_name or note.title, note.text or note.body
    if veiled(note):
        name, text = note.title, note.body
    sender = first_words(TEMPLATE_VALUE_MAX, name, note.app_name, generic(note))
    words = first_words(TEMPLATE_VALUE_MAX, text, note.fallback_body, generic(note))
    title, content = placed.get("template_sender", "sender"), placed.get("template_text", "text")
    return ({whole(title): sender} if title else {}), ({whole(content): words} if content else {})


def _given(note: Notification, values: Any) -> dict[str, str]:
    """A sender's template values (an object, or its JSON text), each as text that is not blank, of ours where theirs is none or may not
    be seen: a variable that is missing would cost the person the message."""
    return {
        whole(key): first_words(TEMPLATE_VALUE_MAX, None if veiled(note) else scalar(value, PARAMETERS_CHARS_MAX), generic(note))
        for key, value in mapping(values).items()
        if isinstance(key, str)
    }


def _raw_notification(note: Notification) -> Mapping[str, Any]:
    """A sender's own fields stand at the root or under `notification`."""
    inner = note.vendor_raw.get("notification")
    return inner if isinstance(inner, Mapping) else note.vendor_raw


def _raw(note: Notification) -> dict[str, Any]:
    """White-listed fields with valid values; a click that lacks its address stays what it was."""
    raw = _raw_notification(note)
    fields: dict[str, Any] = {}
    for key, (low, high) in RAW_NUMBERS.items():
        if (value := number(raw.get(key), low, high)) is not None:
            fields[key] = value
    for key, most in RAW_TEXTS.items():
        if text := scalar(raw.get(key), most):
            fields[key] = text
    if (shorter := number(raw.get("show_ttl"), 0, SHOW_TTL_S[note.bucket])) is not None:
        fields["show_ttl"] = shorter
    if veiled(note):
        fields.pop("sub_title", None)
    click = fields.get("click_action_type")
    if click is not None and (click not in CLICK_NEEDS or (CLICK_NEEDS[click] and CLICK_NEEDS[click] not in fields)):
        del fields["click_action_type"]
    return fields


def _raw_parameters(note: Notification) -> Mapping[str, Any]:
    """A sender's own action_parameters, object or text; they lie below `ext`."""
    return mapping(_raw_notification(note).get("action_parameters"))


def _loads(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _callback(item: PushItem, batch: RequestBatch) -> dict[str, str]:
    url = whole(batch.callback_url or "")
    return {"call_back_url": url, "call_back_parameter": item.target.push_id} if 0 < len(url) <= CALLBACK_URL_MAX else {}


# ---------------------------------------------------------------- classify


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    """An outer code other than 0 speaks for all items; else the entries are joined to the items by registration id."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    travelling = frozenset(_travelling(batch))
    judge = _judge(batch, answer)
    return [judge(item) if index in travelling else _left_out(answer) for index, item in enumerate(batch.items)]


def _left_out(answer: Answer) -> Outcome:
    """Not in the request (its registration id was there already, or it has another host): goes in a next one."""
    return Outcome(Verdict.UNAVAILABLE, str(answer.status), words="not in this request: a registration id goes once in each")


def _judge(batch: RequestBatch, answer: Answer) -> Callable[[PushItem], Outcome]:
    """What the answer means, as a function of one item that travelled."""
    reply = _reply(answer)
    code, data, several = code_of(reply.get("code")), reply.get("data"), len(sent(batch)) > 1
    if answer.status == TOO_LARGE and several:  # no page says how large a body may be
        return lambda _item: Outcome(Verdict.UNAVAILABLE, str(TOO_LARGE), code, again=Again.SINGLY)
    if not _usable(answer, code):
        return lambda item: unreadable_once(item, _by_status(answer, code))
    if code != "0":
        tokens = [item.target.token for item in batch.items]
        words = told(reply.get("message"), *tokens)
        return lambda item: _outer(batch, item, answer, code, words) if several else _refused(item, answer, code, words)
    if isinstance(data, list):
        entries = {regid: entry for entry in data if isinstance(entry, dict) and isinstance(regid := entry.get("registrationId"), str)}
        return lambda item: _entry(item, answer, entries.get(item.target.token))
    if several:
        return lambda item: _entry(item, answer, None)
    message_id = _message_id(data) if isinstance(data, dict) else None
    return lambda _item: Outcome(Verdict.ACCEPTED, str(answer.status), "0", vendor_message_id=message_id)


def _reply(answer: Answer) -> Mapping[str, Any]:
    """The JSON object; a text that holds it (seen by a peer) is read once more."""
    reply = _loads(answer.body)
    if isinstance(reply, str):
        reply = _loads(reply.encode("utf-8", "replace"))
    return reply if isinstance(reply, dict) else {}


def _usable(answer: Answer, code: str) -> bool:
    """A code counts on a 2xx; a known one also on a 4xx. Everything else is the network between us."""
    if 200 <= answer.status < 300:
        return bool(code)
    return 400 <= answer.status < 500 and (code in CODES or code in ("19", "32", "67"))


def _by_status(answer: Answer, code: str) -> Outcome:
    """No usable code. A 2xx that can't be read may well have been done: uncertain, with the same app_message_id again."""
    status, wait = str(answer.status), retry_after_s(answer)
    if 200 <= answer.status < 300:
        return Outcome(Verdict.UNCERTAIN, status, code)
    verdict = Verdict.THROTTLED if answer.status == 429 else Verdict.UNAVAILABLE
    return Outcome(verdict, status, code, retry_after_s=wait)


def _entry(item: PushItem, answer: Answer, entry: Mapping[str, Any] | None) -> Outcome:
    """One entry of a batch's answer; a missing one is asked for once more, alone, with the same app_message_id."""
    status = str(answer.status)
    code = code_of(entry.get("errorCode")) if entry else ""
    if entry and code not in ("", "0"):
        return _refused(item, answer, code, told(entry.get("errorMessage"), item.target.token))
    if entry and (message_id := _message_id(entry)):
        return Outcome(Verdict.ACCEPTED, status, "0", vendor_message_id=message_id)
    return Outcome(Verdict.UNAVAILABLE, status, "0", "no entry for this registration id", attempts_max=2, again=Again.SINGLY)


def _message_id(data: Mapping[str, Any]) -> str | None:
    return scalar(data.get("messageId"), NAME_MAX)


def _outer(batch: RequestBatch, item: PushItem, answer: Answer, code: str, words: str) -> Outcome:
    """A whole batch refused. What may be one item's fault alone is found out by sending them one by one."""
    outcome = _refused(item, answer, code, words)
    first = batch.items[0].note
    mixed = any(other.note != first for other in batch.items)
    if outcome.verdict is Verdict.TOKEN_DEAD or (mixed and (code in ABOUT_A_MESSAGE or _business(code))):
        return Outcome(Verdict.UNAVAILABLE, outcome.status, code, words, again=Again.SINGLY, alarm=outcome.alarm)
    return outcome


def _business(code: str) -> bool:
    return number(code, 10_000, 20_000) is not None


def _refused(item: PushItem, answer: Answer, code: str, words: str) -> Outcome:
    """A code other than 0, for one item."""
    status, repeat = str(answer.status), item.attempt > 1
    if code == "67":
        return _class_refused(item, status, words)
    if code == "32":  # duplicate: on a repeat it is our own first attempt that got through
        return Outcome(Verdict.ACCEPTED if repeat else Verdict.REJECTED, status, code, words)
    if code == "19":
        verdict = Verdict.CREDENTIAL_REFUSED if tries_with(item, code) > 1 else Verdict.UNAVAILABLE
        return Outcome(verdict, status, code, words)
    if code == "41" and _NAMES_REGID.search(words):
        return Outcome(Verdict.TOKEN_DEAD, status, code, words)
    if code in CODES:
        wait, alarm = retry_after_s(answer) or WAITS.get(code), code == "54" or (code == "29" and repeat)
        spent = Bucket.PUBLIC if CODES[code] is Verdict.QUOTA_SPENT else None  # the private class has no daily limit
        return Outcome(CODES[code], status, code, words, retry_after_s=wait, first_s=FIRST_S.get(code), alarm=alarm, bucket=spent)
    return _undocumented(item, status, code, words)


def _class_refused(item: PushItem, status: str, words: str) -> Outcome:
    """67: the category, or its notify_level, is not ours to use. Once more without the level, then it is the category."""
    if _without_level(item):
        return Outcome(Verdict.REJECTED, status, "67", words, alarm=True)
    again = Again.WITHOUT_NOTIFY_LEVEL
    return Outcome(Verdict.UNAVAILABLE, status, "67", words, attempts_max=item.attempt + 1, again=again, alarm=True)


def _undocumented(item: PushItem, status: str, code: str, words: str) -> Outcome:
    """No row of its own: a range, a code that no source explains, or one nobody has heard of. Never a dead token."""
    if code in UNCONFIRMED:
        verdict = Verdict.REJECTED if tries_with(item, code) >= UNCONFIRMED_ATTEMPTS else Verdict.UNAVAILABLE
        return Outcome(verdict, status, code, words, alarm=True)
    if number(code, 500, 599):
        return Outcome(Verdict.UNAVAILABLE, status, code, words)
    return Outcome(Verdict.REJECTED if _business(code) else Verdict.UNKNOWN, status, code, words, alarm=True)


# ---------------------------------------------------------------- access token, credential


def sign(app_key: str, timestamp_ms: int, master_secret: str) -> str:
    """Lower-case hex of SHA-256 over the three, one after the other."""
    return hashlib.sha256(f"{app_key}{timestamp_ms}{master_secret}".encode()).hexdigest()


def ask_access(credential: Credential, now_ms: int) -> Request:
    key = credential.options.get("app_key", "")
    signature = sign(key, now_ms, credential.secrets.get("app_secret", ""))
    return Request("OPPO", "/server/v1/auth", _FORM, encode((("app_key", key), ("sign", signature), ("timestamp", str(now_ms)))))


def read_access(answer: Answer, now_ms: int) -> AccessToken | AccessRefused:
    """24 h from creation, renewed at 20 h. A creation time that makes no sense counts as now."""
    reply = _reply(answer)
    code, data = code_of(reply.get("code")), reply.get("data")
    value = scalar(data.get("auth_token"), URL_MAX) if isinstance(data, dict) else None
    if not _usable(answer, code) or code != "0" or not value or not isinstance(data, dict):
        return _access_refused(answer, code, told(reply.get("message")), now_ms)
    created = number(data.get("create_time"), now_ms - ACCESS_EARLY_MS, now_ms) or now_ms
    return AccessToken(value, created + ACCESS_EARLY_MS, created + ACCESS_LIFE_MS)


def _access_refused(answer: Answer, code: str, words: str, now_ms: int) -> AccessRefused:
    """Our own clock being off (19) is for a person to mend; a request that only came late may be made anew."""
    if not _usable(answer, code) or code == "0":
        verdict = Verdict.THROTTLED if answer.status == 429 else Verdict.UNAVAILABLE
        return AccessRefused(verdict, code, words, retry_after_s(answer))
    verdict = CODES.get(code, Verdict.UNAVAILABLE)
    if code == "19":
        right = _clock_right(answer, now_ms)
        verdict, words = (Verdict.UNAVAILABLE, words) if right else (Verdict.CREDENTIAL_REFUSED, f"{words} (check this machine's clock)")
    elif verdict in (Verdict.REJECTED, Verdict.TOKEN_DEAD, Verdict.ACCESS_EXPIRED):
        verdict = Verdict.CREDENTIAL_REFUSED
    elif verdict is Verdict.QUOTA_SPENT:
        verdict = Verdict.THROTTLED
    return AccessRefused(verdict, code, words, retry_after_s(answer) or WAITS.get(code) or FIRST_S.get(code))


def _clock_right(answer: Answer, now_ms: int) -> bool:
    theirs = http_date(answer.headers.get("date", ""))
    return theirs is not None and abs(theirs.timestamp() * 1000 - now_ms) < CLOCK_MAY_DIFFER_MS


def read_credential(options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """app_key, app_secret (the master secret); optional template_params `object` or `json_text`."""
    require(options, "app_key")
    if not re.fullmatch(r"[!-~]{1,128}", options["app_key"]):
        raise CredentialError("--app-key takes printable ASCII without spaces")
    if options.get("template_params", "object") not in ("object", "json_text"):
        raise CredentialError("--template-params takes object or json_text")
    secret = secret_text(files, "app_secret", ascii_only=True)
    if not re.fullmatch(r"[!-~]{1,256}", secret):
        raise CredentialError("the file of --app-secret-file holds more than the master secret: one line of printable ASCII is wanted")
    return {name: options[name] for name in ("app_key", "template_params") if options.get(name)}, {"app_secret": secret}


OPPO = VendorSpec(
    vendor=Vendor.OPPO,
    endpoints={
        "OPPO": "https://api.push.oppomobile.com",
        "OPPO_INTL": "https://api-intl.push.oppomobile.com",
        "OPPO_FEEDBACK": "https://feedback.push.oppomobile.com",
    },
    http2=False,
    request_tokens_max=BATCH_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    # Under 10 million users 5,000 targets/s; under 50,000 users 100,000 public a day, 2 a device (news apps 5); private unlimited.
    limits=Limits(rate_per_s=5000, burst=5000, rate_unit="token", quota_public=100_000, device_cap_public=2),
    mixed=True,
    access=AccessSpec(ask=ask_access, read=read_access),
    token_valid=token_valid,
    rights=frozenset({"oppo.private", "oppo.strong"}),
    group=group,
)
