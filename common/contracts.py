"""The values on a queue, and their packing.

Everything here is a frozen, keyword-only `msgspec.Struct` that ignores unknown fields: an older
worker reads a newer one's entries. Times are epoch milliseconds (`_ms`), durations seconds (`_s`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from common.model import BadgeMode, Bucket, Kind, MessageClass, PushType, Urgency, Vendor
from common.push_ids import push_id

#: In a list of mentions: everybody in the group.
ALL = "@all"


class Frozen(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all values on a queue. They hold one another as a tree, never in a ring: the
    collector need not know them.
    """


# ---------------------------------------------------------------- the push fields of an event (im-d


class Gate(Frozen, frozen=True, kw_only=True):
    enabled: bool = True
    online_only: bool = False
    store_offline: bool = True
    audience: str = "offline"
    respect_dnd: bool = True
    require_friend: bool = False


class Force(Frozen, frozen=True, kw_only=True):
    """Overrides mute and do-not-disturb for members of a group (NIM)."""

    on: bool = False
    all: bool = False
    ids: tuple[str, ...] | None = None
    body: str | None = None


class Localized(Frozen, frozen=True, kw_only=True):
    """Words that the app looks up in its own tables: the name of a text, and what stands in its
    slots.
    """

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    args: tuple[str, ...] = ()


class Display(Frozen, frozen=True, kw_only=True):
    title: str | None = None
    subtitle: str | None = None
    body: str | None = None
    loc: Localized | None = None
    nick_prefix: Literal["auto", "on", "off"] = "auto"


class Data(Frozen, frozen=True, kw_only=True):
    ext: str | None = None
    payload: dict[str, Any] | None = None


#: No phone shows more.
BADGE_MAX = 2**31 - 1


class Badge(Frozen, frozen=True, kw_only=True):
    """value: the number itself, of the mode `set` only; it is not added up."""

    mode: BadgeMode = BadgeMode.INCREMENT
    increment: Annotated[int, msgspec.Meta(ge=0, le=99)] = 1
    counts_unread: bool = True
    value: Annotated[int, msgspec.Meta(ge=0, le=BADGE_MAX)] | None = None


class Sound(Frozen, frozen=True, kw_only=True):
    ios: str | None = None
    android: str | None = None


#: Longest life of a push, seconds; larger wishes are cut to it.
TTL_MAX_S = 7 * 86_400


class PushFields(Frozen, frozen=True, kw_only=True, rename={"message_class": "class"}):
    """The keys of `push` in an event, canonical names. kind: anything but `message` is counted and
    sent as a plain message.
    """

    kind: str = "message"
    gate: Gate = Gate()
    force: Force | None = None
    display: Display = Display()
    data: Data = Data()
    badge: Badge = Badge()
    sound: Sound = Sound()
    message_class: MessageClass = MessageClass.CHAT
    push_type: PushType = PushType.ALERT
    ttl_s: Annotated[int, msgspec.Meta(ge=0)] = 86_400
    collapse_key: str | None = None
    thread_id: str | None = None
    image: dict[str, str] | None = None
    strategy_id: str | None = None
    template: dict[str, dict[str, Any]] | None = None
    vendor: dict[str, dict[str, Any]] | None = None
    vendor_raw: dict[str, dict[str, Any]] | None = None
    blob: dict[str, Any] | None = None


#: The empty overrides of a sender. NO_WISHES: as received from the core; PLAIN: as sent on by
#: intake.
NO_WISHES = PushFields()
PLAIN = PushFields(display=Display(nick_prefix="on"))


class Conversation(Frozen, frozen=True, kw_only=True):
    type: Literal["c2c", "group"]
    id: str
    name: str | None = None


class Sender(Frozen, frozen=True, kw_only=True):
    id: str
    nick: str | None = None
    group_card: str | None = None
    device_id: str | None = None


class Element(Frozen, frozen=True, kw_only=True):
    type: Literal["text", "sound", "file", "image", "video", "face", "location", "merger", "custom"]
    text: str | None = None


# ---------------------------------------------------------------- intake -> presence


class Message(Frozen, frozen=True, kw_only=True):
    """One checked `message.stored` or `call.invited` between the stages.

    recipients: None means the members of the group. cursor, position: where a fan-out by pages
    continues; pages: how many there were; cursor_of: the cursor's server; anybody: True if one of
    those pages had a recipient, None if unknown. ended_by: the core's reason for a call's end.
    second_look: the recipients had no device 300 ms ago. single: every reader so far was its
    entry's first, of a release that keeps to its entries: it has no twin on another stream. direct:
    it is addressed to a token; presence and settings are not checked. reply_key: the key for its
    decision (common/storage/replies.py).
    """

    app: str
    event_id: str
    type: str
    message_id: str
    kind: Kind = Kind.MESSAGE
    ts_ms: int
    received_ms: int
    expires_at_ms: int
    conversation: Conversation
    sender: Sender
    recipients: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    elements: tuple[Element, ...] = ()
    push: PushFields = PushFields()
    ended_by: str = ""
    cursor: int | None = None
    position: int = 0
    second_look: bool = False
    direct: bool = False
    reply_key: str | None = None
    pages: int = 0
    cursor_of: str | None = None
    single: bool = False
    anybody: bool | None = None


# ---------------------------------------------------------------- presence -> routing


class Device(Frozen, frozen=True, array_like=True, omit_defaults=False):
    """One registered device of one person, as the registry knows it."""

    device_id: str
    platform: str
    vendor: Vendor
    business_id: str
    token: str
    voip_token: str | None
    lang: str | None
    tz: str | None
    app_version: str | None
    registered_ms: int
    content_key: str | None = None
    push_id: str | None = None  # an alias of device_id


class Recipient(Frozen, frozen=True, array_like=True, omit_defaults=False):
    """A person with their absent devices; `desktop`: a desktop or web client is in front."""

    user: str
    devices: tuple[Device, ...]
    desktop: bool


class OfflineRecipients(Frozen, frozen=True, kw_only=True):
    """Those of one message's recipients (a chunk of them) who are not looking."""

    message: Message
    recipients: tuple[Recipient, ...]
    presence_ms: int


# ---------------------------------------------------------------- routing -> delivery


class Notification(Frozen, frozen=True, kw_only=True):
    """The visible text for one lane and one language, and all else but the address.

    placement: the wire fields that the class policy chose for this lane (see
    workers/routing/classes.py), for instance {"category": "IM"} for Huawei; `vendor` and
    `vendor_raw` hold only this vendor's overrides, already merged with the strategy preset.
    sender_name and text fill a vendor's private template; `title` and `body` were made of them.
    prefix: the name before the text, a part of `body`; "" for none. sender_id, mentioned,
    respect_dnd: for the consent check after a wait; respect_dnd is false for forced ones.
    badge_value: the absolute number of the mode `set`. loc: a text in the app's own tables. blob:
    the payload is opaque and is sent whole or not at all. direct, reply_key: as in Message.
    collapse_id is the raw value (collapse key or message id) from which each vendor derives its own
    id on the screen.
    """

    app: str
    event_id: str
    message_id: str
    kind: Kind = Kind.MESSAGE
    conversation_type: str
    conversation_id: str
    ts_ms: int
    received_ms: int
    presence_ms: int = 0
    routed_ms: int = 0
    expires_at_ms: int
    lang: str = "zh"
    app_name: str = ""
    title: str = ""
    subtitle: str | None = None
    body: str = ""
    prefix: str = ""
    fallback_body: str = ""
    hidden: bool = False
    sender_name: str = ""
    text: str = ""
    ext: str | None = None
    payload: dict[str, Any] | None = None
    message_class: MessageClass = MessageClass.CHAT
    class_sent: MessageClass = MessageClass.CHAT
    bucket: Bucket = Bucket.PRIVATE
    downgraded: bool = False
    placement: dict[str, str] = {}
    push_type: PushType = PushType.ALERT
    urgency: Urgency = Urgency.CHAT
    collapse_id: str
    thread_id: str | None = None
    sound_ios: str | None = None
    sound_android: str | None = None
    badge_mode: BadgeMode = BadgeMode.INCREMENT
    badge_increment: Annotated[int, msgspec.Meta(ge=0, le=99)] = 1
    badge_value: int | None = None
    loc: Localized | None = None
    blob: bool = False
    direct: bool = False
    reply_key: str | None = None
    image: str | None = None
    template: dict[str, Any] | None = None
    vendor: dict[str, Any] = {}
    vendor_raw: dict[str, Any] = {}
    voip: dict[str, Any] | None = None
    sender_id: str = ""
    mentioned: bool = False
    respect_dnd: bool = True


class Attempt(Frozen, frozen=True, array_like=True, omit_defaults=False):
    """One attempt at one push, as `why` shows it.

    verdict: its meaning, for the count of attempts; "" in older entries.
    """

    at_ms: int
    status: str
    code: str
    words: str
    vendor_message_id: str | None
    verdict: str = ""


class Target(Frozen, frozen=True, array_like=True, omit_defaults=False):
    """The target of a push. push_id: 32 hex digits, the same in every attempt.

    earlier: number of attempts before those kept here. app_version: the app's build, as it
    registered. counted: the badge number that it has taken and that may be on the screen, as
    `<step>@<epoch>` (common/storage/claims.py).
    """

    user: str
    device: str
    token: str
    push_id: str
    platform: str
    registered_ms: int
    attempts: tuple[Attempt, ...] = ()
    again: str | None = None
    held_by: str | None = None
    earlier: int = 0
    app_version: str | None = None
    counted: str = ""

    @property
    def tried(self) -> int:
        """The number of attempts."""
        return self.earlier + len(self.attempts)


class Push(Frozen, frozen=True, kw_only=True):
    """One notification and those it is for, on one lane."""

    note: Notification
    targets: tuple[Target, ...]


class Batch(Frozen, frozen=True, kw_only=True):
    """One stream entry of delivery: pushes of one lane, at most 100 targets.

    The bound is BATCH_MAX in workers/routing. by_entry: its pushes are in no other entry, so that
    the entry's holder may send them; else each is claimed by its id.
    """

    app: str
    vendor: Vendor
    business_id: str
    pushes: tuple[Push, ...]
    by_entry: bool = False


class LikeRow(Frozen, frozen=True, array_like=True, omit_defaults=False):
    """One push's own values in an `AlikeBatch`.

    nick: the sender's name before the text, "" none.
    """

    event_id: str
    message_id: str
    conversation_id: str
    ts_ms: int
    received_ms: int
    expires_at_ms: int
    nick: str
    text: str
    sender_id: str
    user: str
    device: str
    token: str
    registered_ms: int
    app_version: str | None


class AlikeBatch(Frozen, frozen=True, kw_only=True):
    """A `Batch` of usual pushes (workers/routing/alike.py), which share `like`.

    They are c2c messages with one text, each to one device.
    """

    app: str
    vendor: Vendor
    business_id: str
    by_entry: bool = False
    platform: str
    like: Notification
    rows: tuple[LikeRow, ...]


def push_like(like: Notification, row: LikeRow, platform: str) -> Push:
    """The push of one row. like: the notification of any other of them."""
    nick, text = row.nick, row.text
    prefix = f"{nick}:" if nick else ""
    note = msgspec.structs.replace(
        like,
        event_id=row.event_id,
        message_id=row.message_id,
        conversation_id=row.conversation_id,
        ts_ms=row.ts_ms,
        received_ms=row.received_ms,
        expires_at_ms=row.expires_at_ms,
        title=like.title and (nick or like.app_name or text),
        body=prefix + text,
        prefix=prefix,
        sender_name=nick or like.app_name,
        text=text,
        collapse_id=row.message_id,
        sender_id=row.sender_id,
    )
    identity = push_id(like.app, row.event_id, row.user, row.device, like.kind)
    target = Target(
        row.user,
        row.device,
        row.token,
        identity,
        platform,
        row.registered_ms,
        app_version=row.app_version,
    )
    return Push(note=note, targets=(target,))


class _AnyBatch(Frozen, frozen=True, kw_only=True):
    """Either of the two."""

    app: str
    vendor: Vendor
    business_id: str
    by_entry: bool = False
    pushes: tuple[Push, ...] | None = None
    platform: str = ""
    like: Notification | None = None
    rows: tuple[LikeRow, ...] = ()


def decode_batch(blob: bytes) -> Batch:
    """An entry of delivery. msgspec.MsgspecError: it is none."""
    read = read_batch(blob)
    return read if isinstance(read, Batch) else batch_of(read)


def read_batch(blob: bytes) -> Batch | AlikeBatch:
    """The same as it was packed. msgspec.MsgspecError: it is none."""
    read = _decode_batch(blob)
    like, pushes = read.like, read.pushes
    app, vendor, business_id, by_entry = read.app, read.vendor, read.business_id, read.by_entry
    if like is not None:
        return AlikeBatch(
            app=app,
            vendor=vendor,
            business_id=business_id,
            by_entry=by_entry,
            platform=read.platform,
            like=like,
            rows=read.rows,
        )
    if pushes is None:
        raise msgspec.ValidationError("Object missing required field `pushes`")
    return Batch(app=app, vendor=vendor, business_id=business_id, pushes=pushes, by_entry=by_entry)


def batch_of(alike: AlikeBatch) -> Batch:
    """The batch with a notification for each push."""
    pushes = tuple([push_like(alike.like, row, alike.platform) for row in alike.rows])
    return Batch(
        app=alike.app,
        vendor=alike.vendor,
        business_id=alike.business_id,
        pushes=pushes,
        by_entry=alike.by_entry,
    )


def encode(value: Any) -> bytes:
    """Pack one value (or a list of them) for a stream entry."""
    return _encoder.encode(value)


_encoder = msgspec.msgpack.Encoder()
decode_messages = msgspec.msgpack.Decoder(list[Message]).decode
decode_offline = msgspec.msgpack.Decoder(list[OfflineRecipients]).decode
_decode_batch = msgspec.msgpack.Decoder(_AnyBatch).decode
