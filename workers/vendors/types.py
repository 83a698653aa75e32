"""The types of a vendor file: VendorSpec, Credential and their values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from common.contracts import Notification, Target
from common.model import Again, Bucket, Kind, MessageClass, PushType, Vendor, Verdict
from common.values import Value
from workers.vendors.receipt_bodies import ReceiptsSpec
from workers.wire import ClientIdentity, HttpResponse, NoAnswer, Request


class CredentialError(ValueError):
    """An unusable credential; the message gives reason and remedy, and holds no secret."""


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
    # topic, env, app_id, app_key, client_id, package, project_id, …: nothing secret
    options: Mapping[str, str]
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
    """The access token of a credential. refresh_at_ms: from then on a new one should be fetched.

    expires_at_ms: unusable after it.
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
    """The exchange of a credential for an access token.

    `ask` gives the request, or the token itself where it is signed here (APNs, HarmonyOS). again:
    set where it is signed here: the replacement when the vendor reports `ask`'s token as expired, a
    different one as far as its rules allow.
    """

    ask: Callable[[Credential, int], Request | AccessToken]  # (credential, now_ms)
    # (answer, now_ms); any bytes whatever
    read: Callable[[HttpResponse, int], AccessToken | AccessRefused]
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
    """The content of one request: 1 to `request_tokens_max` items.

    Unless the spec is `mixed`, all items share the notification (and the badge, where the spec's
    body has one). callback_url: the address for the vendor's receipts, None for none. now_ms: the
    time of sending. prepared: the result of the spec's `prepare` for this notification and
    credential; None: build does that work itself. image: the address to be sent in place of the
    notification's, "" for no image, None for the notification's own (`ImageSpec`).
    """

    items: tuple[PushItem, ...]
    now_ms: int
    callback_url: str | None = None
    prepared: object | None = None
    image: str | None = None


class Outcome(Value, frozen=True):
    """The meaning of an answer for one token; exactly one per item of the batch, in its order.

    code, words: the vendor's own. status: HTTP status as text, or timeout, refused, reset.
    retry_after_s: the vendor's delay. first_s: the first delay of this code, where it differs from
    its verdict's. token_only: a throttle or cap of this token, not of the lane. attempts_max: fewer
    attempts than the vendor's policy allows. again: the required change of the next attempt. alarm:
    a person should look (the unknown-codes counter). bucket: the one whose day is over, where the
    code names it; None: the push's own. lists_spent: the vendor takes no more requests for several
    tokens today, only single ones.
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


#: The common policy of the vendor pages; a vendor file replaces what its page states differently.
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
    """The review of an image before it is sent (HarmonyOS).

    wanted: the address that this request batch would send, None for none. ask: the request for a
    review. read: the address to be sent ("": the vendor refuses this image) and its expiry in ms;
    None: no answer about it. per_minute: reviews per credential.
    """

    wanted: Callable[[RequestBatch, Credential], str | None]
    ask: Callable[[str, Credential, AccessToken | None], Request]
    read: Callable[[HttpResponse, int], tuple[str, int] | None]
    per_minute: int


def _no_id(_name: str, _value: str) -> None:
    """The vendor's answers carry the id in their body."""


class AlikeSpec(Value, frozen=True):
    """Requests of usual pushes, which differ in a few values only (workers/vendors/forms.py).

    chars_max: characters of the text, the thread and `ext` that always fit. tokens_valid: True
    when the vendor's `token_valid` is of each. accepted_id: the vendor's id from a plain
    acceptance; None for any other answer. header_id: the same for an answer of status 200 without a
    body that has only this header (name, value).
    """

    chars_max: int
    tokens_valid: Callable[[Sequence[str]], bool]
    accepted_id: Callable[[HttpResponse], str | None]
    header_id: Callable[[str, str], str | None] = _no_id


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


#: Overrides that routing reads of every vendor, and `style`, which most of them have.
COMMON_OVERRIDES: Final = frozenset({"badge", "sound", "style"})


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
    `rejected` without a request; it depends on the item's notification and the credential only, so
    one answer holds for all its targets. None: it can be sent.
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
    overrides: the names, beside COMMON_OVERRIDES, that this vendor's part of `push.vendor` or of a
    preset may have.
    raw_wishes: where a sender's verbatim fields (vendor_raw) speak of class and channel: the object
    they stand in, if it is there, and their names, which are those of the overrides. A vendor
    without reads its own.
    receipts: how its callbacks are read; None: it sends none.
    account: the options of `credential add` that it needs, by name (vendor_app_id: `--app-id`).
    options: the further ones, which `--option NAME=VALUE` gives.
    rights_need_template: right -> the classes that need a channel and a template of their own with
    it (contract §6). rights_want_channel: rights that the vendor honours only with a channel of the
    app's.
    endpoints_used: names of the endpoints that this account's traffic goes to; None: all.
    endpoint_of: the endpoint that a device token names, beside those; None: tokens name none.
    platform: what its devices are. demo: a throw-away account. demo_share: of 100 phones of the
    demo, how many are of this vendor. demo_token: (outcome, 64 hexadecimal digits) -> a device
    token as the vendor's look, which its simulator takes; outcome "dead" or "fail" says what shall
    become of it; None: a text that begins with the outcome.
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
    overrides: frozenset[str]
    raw_wishes: tuple[str, tuple[str, ...]] = ("", ())
    receipts: ReceiptsSpec | None = None
    account: Mapping[str, AccountField]
    options: frozenset[str] = frozenset()
    rights_need_template: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rights_want_channel: frozenset[str] = frozenset()
    endpoints_used: Callable[[Credential], Sequence[str]] | None = None
    endpoint_of: Callable[[str], str] | None = None
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
    refuse: Callable[[PushItem, Credential], str | None] | None = None
    prepare: Callable[[Notification, Credential], object] | None = None
    alike: AlikeSpec | None = None
    request_tokens_min_list: int = 1
    shows_silent: bool = False  # it knows no silent push: one with words is a quiet banner
    refuses_silent: bool = False  # it knows no silent push, and none leaves
    brackets: bool = True  # takes them in texts; False: elements are named without
    buckets: tuple[Bucket, ...] = (Bucket.PRIVATE, Bucket.PUBLIC)
    group: Callable[[PushItem], str] = lambda _item: ""
    quota_reported: Callable[[HttpResponse], tuple[int, int] | None] | None = None
    images: ImageSpec | None = None
    too_long: frozenset[str] = TOO_LONG


#: They replace or end what is shown, or change a number; nothing needs to ring.
QUIET_KINDS: Final = frozenset({Kind.RECALL, Kind.CALL_CANCEL, Kind.BADGE, Kind.CLEAR})


def quiet(note: Notification) -> bool:
    """True when the push takes each vendor's most silent form, whatever its sender asked for.

    It is not a message of its own.
    """
    return note.kind in QUIET_KINDS
