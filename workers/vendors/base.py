"""VendorSpec, Credential and the few helpers that all vendor files use. Pure: no I/O, no clock, no
randomness.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, Literal, TypeVar

import msgspec

from common.contracts import Notification, Target
from common.model import Again, Bucket, Kind, MessageClass, PushType, Vendor, Verdict
from common.values import Value
from workers.vendors.receipt_bodies import ReceiptsSpec
from workers.wire import ClientIdentity, HttpResponse, NoAnswer, Request


class CredentialError(ValueError):
    """A credential that can't be used; the text says why and what would cure it, and holds no
    secret.
    """


@dataclass(frozen=True, slots=True)
class Template:
    """A vendor's approved template for one class: its id and the names of the variables that take
    sender and text.
    """

    id: str
    sender: str = "sender"
    text: str = "text"


@dataclass(frozen=True, slots=True)
class Credential:
    """One app's account with one vendor, one version of it. The pair (vendor, business_id) is
    unique within an app.

    version: grows with each, and never comes again for the same pair.
    """

    app: str
    vendor: Vendor
    business_id: str
    version: int
    options: Mapping[
        str, str
    ]  # topic, env, app_id, app_key, client_id, package, project_id, …: nothing secret
    secrets: Mapping[str, str] = field(repr=False)
    rights: frozenset[str] = frozenset()
    channels: Mapping[str, str] = field(default_factory=dict)  # message class -> channel id
    templates: Mapping[str, Template] = field(default_factory=dict)  # message class -> template
    identity: ClientIdentity | None = field(default=None, repr=False)

    @property
    def lane(self) -> str:
        """Key of the lane in Redis and in metrics: `<app>:<vendor>:<business_id>`."""
        return f"{self.app}:{self.vendor}:{self.business_id}"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a credential was exchanged for. refresh_at_ms: from then on somebody should fetch a new
    one; unusable after expires_at_ms.
    """

    value: str = field(repr=False)
    refresh_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class AccessRefused:
    """The vendor did not give a token. verdict: CREDENTIAL_REFUSED, THROTTLED or UNAVAILABLE."""

    verdict: Verdict
    code: str
    words: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class AccessSpec:
    """How a credential becomes an access token. `ask` gives the request, or the token itself where
    it is signed here (APNs, HarmonyOS).

    again: set where it is signed here: the one to use when the vendor takes `ask`'s for expired,
    another as far as its rules allow.
    """

    ask: Callable[[Credential, int], Request | AccessToken]  # (credential, now_ms)
    read: Callable[
        [HttpResponse, int], AccessToken | AccessRefused
    ]  # (answer, now_ms); any bytes whatever
    again: Callable[[Credential, int], AccessToken] | None = None  # (credential, now_ms)


class PushItem(Value, frozen=True):
    """One push to one token inside a batch. badge: the number taken for this push, None where none
    is shown. attempt: 1 is the first.
    """

    note: Notification
    target: Target
    badge: int | None
    ttl_s: int
    attempt: int = 1


class RequestBatch(Value, frozen=True):
    """What one request carries: 1 to `request_tokens_max` items.

    Unless the spec is `mixed`, all items share the notification (and the badge, where the spec's
    body has one).
    callback_url: where the vendor shall send receipts, None for nowhere. now_ms: the time of
    sending. prepared: what the spec's `prepare` gave for this notification and credential; None:
    build does that work itself. image: the address to be sent in place of the notification's, ""
    for no image, None for the notification's own (`ImageSpec`).
    """

    items: tuple[PushItem, ...]
    now_ms: int
    callback_url: str | None = None
    prepared: object | None = None
    image: str | None = None


class Outcome(Value, frozen=True):
    """What an answer means for one token. Exactly one per item of the request batch, in the batch's
    order.

    code, words: the vendor's own. status: HTTP status as text, or timeout, refused, reset.
    retry_after_s: the vendor's wish. first_s: the first delay that this code asks for, where it is
    not its verdict's. token_only: a throttle or cap of this token, not of the lane. attempts_max:
    fewer tries than the vendor's policy allows. again: how the next attempt must differ. alarm: a
    person should look (rings the unknown-codes counter). bucket: whose day is over, where the
    code says that; None: the push's own. lists_spent: the vendor takes no more requests for several
    tokens today; singly it takes them.
    """

    verdict: Verdict
    status: str
    code: str = ""
    words: str = ""
    vendor_message_id: str | None = None
    retry_after_s: float | None = None
    first_s: float | None = None
    token_only: bool = False
    attempts_max: int | None = None
    again: Again | None = None
    alarm: bool = False
    bucket: Bucket | None = None
    lists_spent: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """A vendor's published limits, our defaults where the operator sets none. Source and date:
    docs/vendors/<vendor>.md.

    rate_per_s in rate_unit; quota_* per day of the vendor's calendar, None: unlimited.
    device_cap_*: per device and day.
    """

    rate_per_s: float
    burst: float
    rate_unit: Literal["request", "token"]
    quota_private: int | None = None
    quota_public: int | None = None
    device_cap_private: int | None = None
    device_cap_public: int | None = None
    # of the day that quotas and caps are counted by; an operator may set another
    timezone: str = "Asia/Shanghai"
    public_hours: tuple[int, int] | None = None  # vivo: (7, 23), of `hours_timezone`
    hours_timezone: str = "Asia/Shanghai"
    ramp_s: int = 0  # FCM: 60


class Retry(Value, frozen=True):
    """First delay and number of tries by verdict; the delay doubles with jitter. A vendor's
    Retry-After wins.
    """

    first_s: Mapping[Verdict, float]
    attempts_max: Mapping[Verdict, int]
    delay_max_s: float = 3600.0


#: What most vendor pages ask for; a vendor file replaces what its page says differently.
DEFAULT_RETRY = Retry(
    first_s={
        Verdict.UNAVAILABLE: 1.0,
        Verdict.UNCERTAIN: 1.0,
        Verdict.THROTTLED: 1.0,
        Verdict.ACCESS_EXPIRED: 0.0,
        Verdict.UNKNOWN: 5.0,
    },
    attempts_max={
        Verdict.UNAVAILABLE: 8,
        Verdict.UNCERTAIN: 3,
        Verdict.THROTTLED: 50,
        Verdict.ACCESS_EXPIRED: 8,
        Verdict.UNKNOWN: 1,
    },
)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How a vendor is shown an image that it wants to see before it is sent (HarmonyOS).

    wanted: the address that this request batch would send, None for none. ask: the request that has
    it looked at. read: the address to be sent ("": the vendor won't have this image) and until when
    that holds, in ms; None: no word on it.
    per_minute: how many images of a credential the vendor looks at.
    """

    wanted: Callable[[RequestBatch, Credential], str | None]
    ask: Callable[[str, Credential, AccessToken | None], Request]
    read: Callable[[HttpResponse, int], tuple[str, int] | None]
    per_minute: int


class AlikeSpec(Value, frozen=True):
    """How requests of usual pushes, which differ in a few values only, are made and answered
    (workers/vendors/forms.py).

    chars_max: so many characters of the words, the thread and `ext` fit whatever they are.
    accepted_id: the vendor's id from an answer that accepts the push and says no more; None for any
    other answer.
    """

    chars_max: int
    accepted_id: Callable[[HttpResponse], str | None]


#: HTTP status of a body that is too large, whatever the vendor.
TOO_LONG: Final = frozenset({"413"})

Build = Callable[[RequestBatch, Credential, AccessToken | None], Request]
Classify = Callable[[RequestBatch, HttpResponse | NoAnswer], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class AccountField:
    """An option of `credential add` that this vendor's account needs.

    kind: a file's path, a file with one secret line, text, or an environment of APNs. means: its
    help. as_given: the secret is stored as its file was, so that `rotate` may change an option
    beside it without being given the file again.
    """

    kind: Literal["file", "secret", "text", "env"]
    means: str = ""
    as_given: bool = False


APP_ID: Final = AccountField("text", "the vendor's id of the app")
APP_SECRET: Final = AccountField("secret", as_given=True)


@dataclass(frozen=True, slots=True)
class DemoKeys:
    """Throw-away secrets: PEM of an RSA and of a P-256 key, a line of text, and a key's id."""

    rsa: str = field(repr=False)
    p256: str = field(repr=False)
    secret: str = field(repr=False)
    key_id: str


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """A throw-away account that the vendor's simulator takes. fields: account field -> text, or
    content of its file.
    """

    fields: Mapping[str, str] = field(repr=False)
    rights: tuple[str, ...] = ()


class Placement(Value, frozen=True):
    """bucket: the quota it counts in. fields: what the vendor file puts on the wire, names as in
    its own page.
    """

    bucket: Bucket
    class_sent: MessageClass
    downgraded: bool
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorSpec:
    """Everything the fleet knows of one vendor. A new vendor is one of these.

    endpoints: name -> the vendor's own base URL. mixed: items of different notifications may share
    a request.
    badge_in_body: the request's body carries the badge number, so items with different badges need
    different requests.
    badge_alone: a push may carry nothing but the number on the icon.
    badge_option: the credential's option without which it does not; None: it always does.
    token_valid: false for what can't be a token of this vendor (such a push is `token_dead` without
    a request).
    read_credential: checks what `credential add` was given, offline: (options, secrets, now_ms) ->
    (options, secrets) completed, e.g. with what a p12 holds; raises CredentialError. identity:
    client certificate, if any.
    follow: the second request that a first answer asks for (vivo's list push), None when the answer
    is final.
    check: a request that proves the credential without a push reaching anybody; `checked` reads it.
    refuse: the reason why a push can't be sent at all (`payload_too_large`), which makes it
    `rejected` without a request; it depends on the item's notification only, so one answer holds
    for all its targets. None: it can be sent.
    prepare: the part of `build` that is the same for all items of a notification; goes into
    `RequestBatch.prepared`.
    alike: set where requests of usual pushes are made from one form; only with one item a request.
    request_tokens_min_list: a request batch holds one item or at least so many (vivo's list push).
    images: set where the vendor looks at images before they are sent.
    too_long: codes (statuses where there is no code) that say: too long. Such a push is sent once
    more, as short as it can be.
    group: items of different groups never share a request (OPPO: home and overseas have a host
    each); pure.
    quota_told: (used, limit) of the vendor's day when an answer names them, else None; any bytes
    whatever.
    place: how a message of a class travels: (class, push type, credential, the sender's overrides)
    -> Placement.
    raw_wishes: where a sender's verbatim fields (vendor_raw) speak of class and channel: the object
    they stand in, if it is there, and their names, which are those of the overrides. A vendor
    without reads its own.
    receipts: how its callbacks are read; None: it sends none.
    account: the options of `credential add` that it needs, by name (vendor_app_id: `--app-id`).
    rights_need_template: right -> the classes that need a channel and a template of their own with
    it (contract §6). rights_want_channel: rights that the vendor honours only with a channel of the
    app's.
    endpoints_used: names of the endpoints that this account's traffic goes to; None: all.
    platform: what its devices are. demo: a throw-away account. demo_share: of 100 phones of the
    demo, how many are of this vendor. demo_token: (mood, 64 hexadecimal digits) -> a device token
    as the vendor's look, which its simulator takes; mood "dead" or "fail" says what shall become of
    it; None: a text that begins with the mood.
    """

    vendor: Vendor
    endpoints: Mapping[str, str]
    http2: bool
    request_tokens_max: int
    build: Build
    classify: Classify
    read_credential: Callable[
        [Mapping[str, str], Mapping[str, bytes], int], tuple[dict[str, str], dict[str, str]]
    ]
    limits: Limits
    place: Callable[[MessageClass, PushType, Credential, Mapping[str, Any]], Placement]
    raw_wishes: tuple[str, tuple[str, ...]] = ("", ())
    receipts: ReceiptsSpec | None = None
    account: Mapping[str, AccountField]
    rights_need_template: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rights_want_channel: frozenset[str] = frozenset()
    endpoints_used: Callable[[Credential], Sequence[str]] | None = None
    platform: Literal["android", "ios", "harmony"] = "android"
    demo: Callable[[DemoKeys], DemoAccount]
    demo_share: int = 5
    demo_token: Callable[[str, str], str] | None = None
    retry: Retry = DEFAULT_RETRY
    mixed: bool = False
    badge_in_body: bool = False
    badge_option: str | None = None
    badge_alone: bool = False
    access: AccessSpec | None = None
    token_valid: Callable[[str], bool] = bool
    identity: Callable[[Credential], ClientIdentity | None] = lambda _credential: None
    follow: (
        Callable[[RequestBatch, HttpResponse, Credential, AccessToken | None], Request | None]
        | None
    ) = None
    check: Callable[[Credential, AccessToken | None], Request] | None = None
    checked: Callable[[HttpResponse], Verdict] | None = None
    rights: frozenset[str] = frozenset()
    refuse: Callable[[PushItem], str | None] | None = None
    prepare: Callable[[Notification, Credential], object] | None = None
    alike: AlikeSpec | None = None
    request_tokens_min_list: int = 1
    withdraws: bool = False  # has a call that takes back what was shown; else a recall overwrites
    buckets: tuple[Bucket, ...] = (Bucket.PRIVATE, Bucket.PUBLIC)
    group: Callable[[PushItem], str] = lambda _item: ""
    quota_reported: Callable[[HttpResponse], tuple[int, int] | None] | None = None
    images: ImageSpec | None = None
    too_long: frozenset[str] = TOO_LONG


# ---------------------------------------------------------------- helpers

#: They overwrite or end what is shown, or change a number; nobody need be woken.
QUIET_KINDS: Final = frozenset({Kind.RECALL, Kind.CALL_CANCEL, Kind.BADGE, Kind.CLEAR})


def quiet(note: Notification) -> bool:
    """Whether the push takes each vendor's most silent form, whatever its sender asked for: no
    message of its own.
    """
    return note.kind in QUIET_KINDS


_T = TypeVar("_T")
ELLIPSIS = "…"
WORDS_MAX = 200  # of a vendor's own words, kept beside an outcome
WORDS_READ_MAX = 2000  # of them, looked through for device tokens
CHARACTERS_KEPT = 10  # of a text that must make room (im-dialects §5)


@cache
def graphemes() -> Any:
    """The pattern of what people take for one character. Loaded where a text has to be cut."""
    import regex  # noqa: PLC0415

    return regex.compile(r"\X")


def characters(text: str) -> int:
    """Length as most vendors count it: Unicode code points."""
    return len(text)


def utf8_bytes(text: str) -> int:
    """Length in UTF-8 bytes; a lone surrogate counts as the three bytes of U+FFFD
    that replace it.
    """
    return len(text.encode("utf-8", "surrogatepass"))


def cut(text: str, most: int, measure: Callable[[str], int] = characters) -> str:
    """`text`, or its longest prefix of whole graphemes that fits with an ellipsis into `most` units
    of `measure`.

    Never cuts inside a grapheme (emoji families, flags, combining marks). When not even the
    ellipsis fits: "".
    """
    if measure(text) <= most:
        return text
    room = most - measure(ELLIPSIS)
    if room < 0:
        return ""
    used, end = 0, 0
    for match in graphemes().finditer(
        text
    ):  # pragma: no branch - all of it has no room: the loop breaks
        size = measure(match.group())
        if used + size > room:
            break
        used, end = used + size, match.end()
    return text[:end].rstrip() + ELLIPSIS


def body_within(note: Notification, most: int, measure: Callable[[str], int] = characters) -> str:
    """The note's body, not cut yet, with a name before it so short that `cut` leaves
    CHARACTERS_KEPT characters of the words.
    """
    return named_within(note.body, note.prefix, most, measure)


def named_within(
    body: str, prefix: str, most: int, measure: Callable[[str], int] = characters
) -> str:
    """The same for a `body` that begins with a name, `prefix`."""
    if not prefix or not body.startswith(prefix) or measure(body) <= most:
        return body
    rest = body[len(prefix) :]
    least = min(measure(rest), measure(_beginning(rest) + ELLIPSIS))
    if measure(prefix) + least <= most:
        return body
    name = cut(prefix.rstrip(":"), most - least - measure(":"), measure)
    return f"{name}:{rest}" if name else rest


SHORTEST_CHARACTERS = 40  # of title and body, where the vendor found our measure too long


def shortest(note: Notification) -> Notification:
    """`note` without what need not travel, title and body of at most SHORTEST_CHARACTERS."""
    *_, bare = leaner(note)
    title, body = (
        cut(note.title, SHORTEST_CHARACTERS),
        cut(body_within(note, SHORTEST_CHARACTERS), SHORTEST_CHARACTERS),
    )
    return msgspec.structs.replace(bare, title=title, body=body, subtitle=None, prefix="")


WISH_CHARACTERS_MAX = 256  # of one of a sender's overrides that is kept where room is wanted


def leaner(note: Notification) -> Iterator[Notification]:
    """`note`, then without what need not travel, one thing after the other: picture and raw
    options, payload, ext (contract §7).

    An opaque payload and the data of a silent push are all that there is to send: nothing is left
    out there.
    """
    yield note
    if note.blob or note.push_type is PushType.SILENT:
        return
    wishes = {
        name: value
        for name, value in note.vendor.items()
        if not isinstance(value, str) or len(value) <= WISH_CHARACTERS_MAX
    }
    bare = msgspec.structs.replace(note, image=None, vendor=wishes, vendor_raw={})
    yield bare
    bare = msgspec.structs.replace(bare, payload=None)
    yield bare
    yield msgspec.structs.replace(bare, ext=None)


def shrink(
    texts: Mapping[str, str], excess: int, measure: Callable[[str], int], prefix: str = ""
) -> dict[str, str]:
    """`texts`, cut one after the other in their order until `excess` units of `measure` are saved
    or nothing more can be.

    Each keeps its first CHARACTERS_KEPT characters (whole graphemes), unless one grapheme alone is
    a screenful; behind a name, `prefix`, that some of them begins with, which is shortened when the
    others have nothing more to give.
    """
    result = dict(texts)
    for kept in (prefix, "") if prefix else ("",):
        for name, text in texts.items():
            if excess <= 0:
                return result
            size, named = measure(result[name]), bool(prefix) and text.startswith(prefix)
            head = kept if named else ""
            start = len(prefix) if named else 0
            most = max(size - excess, measure(head + _beginning(text[start:]) + ELLIPSIS))
            result[name] = cut(
                text if kept else named_within(text, prefix, most, measure), most, measure
            )
            excess -= size - measure(result[name])
    return result


def _beginning(text: str) -> str:
    """The shortest prefix of whole graphemes with CHARACTERS_KEPT characters; "" where that takes a
    screenful (stacked marks).
    """
    end = 0
    for match in graphemes().finditer(text):
        end = match.end()
        if end >= CHARACTERS_KEPT:
            break
    return text[:end] if end <= 5 * CHARACTERS_KEPT else ""


_encode: Final = msgspec.json.Encoder().encode  # kept: msgspec.json.encode makes an encoder a call


def compact(value: Any) -> bytes:
    """JSON without spaces, UTF-8 without escapes (a CJK character is 3 bytes, not 6). A lone
    surrogate becomes U+FFFD.
    """
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_whole(value))


def _whole(value: Any) -> Any:
    """`value` with every lone surrogate in its texts replaced."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, Mapping):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def whole(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, so that it has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def read(answer: HttpResponse | NoAnswer, shape: type[_T]) -> _T | None:
    """The body as `shape`, None for anything else (a proxy's HTML page, half a body, nothing)."""
    if isinstance(answer, NoAnswer):
        return None
    try:
        return msgspec.json.decode(answer.body, type=shape, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


#: What Python's float takes beside it (NAN, INF, 1_0) is no number of seconds.
_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


def retry_after_s(answer: HttpResponse) -> float | None:
    """Seconds of a `Retry-After` header, bounded to a day; None when absent or neither a number nor
    a date (RFC 9110 §10.2.3).

    A date counts from the answer's own `Date`: the vendor's clock, not ours.
    """
    value = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), 86_400.0)
    at, now = http_date(value), http_date(answer.headers.get("date", ""))
    return (
        min(max((at - now).total_seconds(), 0.0), 86_400.0)
        if at is not None and now is not None
        else None
    )


def http_date(words: str) -> datetime | None:
    """An HTTP date of any of the three forms, always UTC (RFC 9110 §5.6.7); None
    for anything else.
    """
    try:
        found = parsedate_to_datetime(words[:40])
        # Python gives no zone for asctime's form and for -0000, and would read such a time in this
        # machine's zone
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def no_answer(batch: RequestBatch, answer: NoAnswer) -> Sequence[Outcome]:
    """Nothing came back: rejected where we could not write it, uncertain where it was written, else
    unavailable.
    """
    verdict = (
        Verdict.REJECTED
        if answer.unsendable
        else Verdict.UNCERTAIN
        if answer.sent
        else Verdict.UNAVAILABLE
    )
    return [Outcome(verdict, answer.reason, words=answer.words)] * len(batch.items)


def same(batch: RequestBatch, outcome: Outcome) -> Sequence[Outcome]:
    """One outcome for every token of the request."""
    return [outcome] * len(batch.items)


def number_id(value: str, bits: int = 31) -> int:
    """A stable positive number of `value` for a vendor's notify id: 1 to 2**bits - 1."""
    digest = int.from_bytes(
        hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).digest()
    )
    return 1 + digest % ((1 << bits) - 1)


_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62(hex_id: str, length: int) -> str:
    """The first `length` digits of the base62 form (22 digits, zero-padded) of a 128-bit id given
    as 32 hex digits (contract §8a).
    """
    number, digits = int(hex_id, 16), []
    for _ in range(22):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))[:length]


def uuid_text(push_id: str) -> str:
    """32 hex digits as a lower-case UUID 8-4-4-4-12."""
    return f"{push_id[:8]}-{push_id[8:12]}-{push_id[12:16]}-{push_id[16:20]}-{push_id[20:]}"


def text_id(value: str, bytes_max: int = 64) -> str:
    """`value` where it is printable and has at most so many bytes of UTF-8, else its SHA-256 in hex
    (64 bytes).
    """
    raw = whole(value).encode()
    return (
        value
        if len(raw) <= bytes_max and value.isprintable() and value == value.strip()
        else hashlib.sha256(raw).hexdigest()
    )


def header_id(value: str, bytes_max: int = 64) -> str:
    """As text_id, for a header: `value` where it is printable ASCII of at most so many bytes, else
    its SHA-256 in hex.
    """
    if value.isascii() and len(value) <= bytes_max and value.isprintable() and " " not in value:
        return value
    return (
        text_id(value, bytes_max)
        if value.isascii()
        else hashlib.sha256(whole(value).encode()).hexdigest()
    )


def receipt_tag(batch: RequestBatch) -> str:
    """What a vendor shall echo in receipts, 32 hex digits: the push id where the request holds one
    push, else a digest of (app, event, kind), as one request has one tag only.
    """
    if len(batch.items) == 1:
        return batch.items[0].target.push_id
    note = batch.items[0].note
    return hashlib.blake2b(
        whole("\0".join((note.app, note.event_id, note.kind))).encode(), digest_size=16
    ).hexdigest()


def redact(words: Any, batch: RequestBatch | None = None) -> str:
    """A vendor's own words, shortened, without the device tokens that some answers repeat; "" for
    what is no text.
    """
    text = whole(words)[:WORDS_READ_MAX] if isinstance(words, str) else ""
    for item in batch.items if batch else ():
        text = text.replace(item.target.token, "<token>")
    return text[:WORDS_MAX]


def merged(base: dict[str, Any], over: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """`base` with the white-listed keys of `over` laid on top, nested objects merged. Neither
    argument is changed.
    """
    white = frozenset(allowed)
    result = dict(base)
    for key, value in over.items():
        if key not in white:
            continue
        old = result.get(key)
        result[key] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result


def require(options: Mapping[str, str], *names: str) -> None:
    """CredentialError that names the first missing option as the command line spells it."""
    for name in names:
        if not options.get(name):
            raise CredentialError(f"--{name.replace('_', '-')} is missing")


#: Secrets whose option names them, without `-file`.
_NAMED_FILES: Final = frozenset({"p8", "p12", "service_account"})
SECRET_BYTES_MAX: Final = 65_536
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def option_of(name: str) -> str:
    """The option of `credential add` that an account field is given with."""
    return "--" + name.removeprefix("vendor_").replace("_", "-")


def secret_option(name: str) -> str:
    """The option of `credential add` that names this secret's file."""
    return f"--{name.replace('_', '-')}" + ("" if name in _NAMED_FILES else "-file")


def secret_file_text(raw: bytes, option: str) -> str:
    """The text of a secret file, without a byte order mark, and white space and invisible
    characters at its ends.

    UTF-8, or UTF-16 with its mark, as Windows writes it. CredentialError when empty, too large or
    no text.
    """
    if len(raw) > SECRET_BYTES_MAX:
        raise CredentialError(
            f"the file of {option} has more than {SECRET_BYTES_MAX} bytes: not a secret"
        )
    try:
        text = raw.decode("utf-16" if raw[:2] in _UTF16_MARKS else "utf-8-sig")
    except UnicodeDecodeError:
        raise CredentialError(f"the file of {option} is not text") from None
    if "\0" in text:
        raise CredentialError(f"the file of {option} is not text")
    text = re.sub(rf"\A(?:\s|{_INVISIBLE.pattern})+|(?:\s|{_INVISIBLE.pattern})+\Z", "", text)
    if not text:
        raise CredentialError(f"the file of {option} is empty")
    return text


def secret_text(files: Mapping[str, bytes], name: str, *, ascii_only: bool = False) -> str:
    """The one line of a secret file. A byte order mark and invisible characters that an editor left
    are dropped.

    ascii_only: the secrets that vendors make are printable ASCII without blanks. CredentialError
    says what would cure it.
    """
    option = secret_option(name)
    if (raw := files.get(name)) is None:
        raise CredentialError(f"{option} is missing")
    text = secret_file_text(raw, option)
    if len(text.splitlines()) > 1:
        raise CredentialError(
            f"the file of {option} holds {len(text.splitlines())} lines: one line with "
            "nothing but the secret is wanted"
        )
    if ascii_only:
        text = _INVISIBLE.sub("", text)
    elif _INVISIBLE.search(text):
        raise CredentialError(
            f"the file of {option} holds an invisible character inside the secret: type it anew"
        )
    if not all(char.isprintable() for char in text):
        raise CredentialError(
            f"the file of {option} holds a control character: leave the secret alone in it"
        )
    if ascii_only and not re.fullmatch(r"[!-~]+", text):
        raise CredentialError(
            f"the file of {option} holds a blank or a character outside ASCII: one line is "
            "wanted, copied from the console"
        )
    return text
