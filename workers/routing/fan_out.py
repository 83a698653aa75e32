"""OfflineRecipients -> Push, in batches of device tokens. Plain functions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import msgspec

from common.contracts import (
    Batch,
    Device,
    Message,
    Notification,
    OfflineRecipients,
    Push,
    Recipient,
    Target,
)
from common.model import (
    PRIVATE_CLASSES,
    BadgeMode,
    Decision,
    Kind,
    MessageClass,
    PushType,
    Urgency,
    Vendor,
)
from common.ports import AwayError, Friends, PreferenceBook
from common.values import Value
from workers.routing import classes
from workers.routing.alike import Pattern, pattern_of, push_like
from workers.routing.consent import Named, by_clock, named_by, refusal, unknown_zone
from workers.routing.identity import collapse_id, push_id
from workers.routing.render import Redaction, redaction_of, words
from workers.routing.texts import NOTHING, Catalogue, lang_of, translate
from workers.routing.wordless import WORDLESS, placing
from workers.vendors import VENDORS
from workers.vendors.types import Credential

#: Targets of one entry on a delivery stream.
BATCH_MAX = 100


class TenantView(Protocol):
    """One tenant's name, language, zone and options (see common/storage/tenants.py)."""

    @property
    def name(self) -> str: ...
    @property
    def lang(self) -> str: ...
    @property
    def tz(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


class Tenancy(Protocol):
    """Routing's port to tenants and their vendor accounts."""

    def tenant(self, app: str) -> TenantView: ...
    def credential(self, app: str, vendor: Vendor, business_id: str) -> Credential | None: ...
    def strategy(self, app: str, strategy_id: str) -> Mapping[str, Any] | None: ...


class RoutingRow(Value, frozen=True):
    """One decision about one device of one recipient."""

    message: Message
    user: str
    device: Device
    decision: Decision
    presence_ms: int


@dataclass(slots=True)
class Routed:
    """presets_missing: messages (chunks) that name an unknown preset; they used the defaults.
    odd_zones: whose do-not-disturb was judged by another zone, and the unknown name.
    """

    batches: list[tuple[Urgency, Batch]] = field(default_factory=list)
    odd_zones: list[tuple[Message, str, str]] = field(default_factory=list)
    rows: list[RoutingRow] = field(default_factory=list)
    presets_missing: int = 0
    #: Whose friends nobody can tell now: nothing is decided about them.
    unasked: list[OfflineRecipients] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RoutingPorts:
    preferences: PreferenceBook
    friends: Friends
    tenancy: Tenancy


#: Tenant, vendor, business id and urgency of what travels in one batch.
LaneName = tuple[str, Vendor, str, Urgency]
#: A notification that is the same for many devices of one message, its lane, and those devices.
Draft = tuple[LaneName, Notification, list[Target]]
#: The notes of one `route` call without what belongs to a single message: messages of one kind
#: share theirs.
Shapes = dict[tuple[Any, ...], Notification]


class _Style(Value, frozen=True):
    """What makes one person's notification differ from another's of the same message and lane."""

    lang: str
    redaction: Redaction | None
    is_forced: bool
    push_type: PushType
    urgency: Urgency
    mentioned: bool


class _FannedOut(Value, frozen=True):
    """One message and what all its people share; drafts: its notifications so far."""

    one: OfflineRecipients
    tenancy: Tenancy
    tenant: TenantView
    named: Named
    now_ms: int
    shapes: Shapes
    drafts: dict[tuple[Vendor, str, _Style], Draft]


def route(
    offline: Sequence[OfflineRecipients],
    ports: RoutingPorts,
    now_ms: int,
    *,
    by_entry: bool = False,
) -> Routed:
    """Drops those who do not want it, renders for the rest, one batch per lane and urgency.
    by_entry: as in Batch.
    """
    routed = Routed()
    shapes: Shapes = {}
    outbox: dict[LaneName, list[Push]] = {}
    patterns: dict[Pattern, tuple[Notification, list[Push]]] = {}
    settings = _settings(offline, ports.preferences)
    for one in _once(offline):
        pattern = pattern_of(one, now_ms)
        if (
            pattern is not None
            and settings
            and (one.message.app, one.recipients[0].user) in settings
        ):
            pattern = None
        known = patterns.get(pattern) if pattern is not None else None
        if known is not None:
            known[1].append(push_like(known[0], one))
            continue
        for those, friends in _with_friends(one, ports.friends, routed):
            _one(those, friends, settings, ports, now_ms, routed, outbox, shapes)
        if pattern is not None and not ports.tenancy.tenant(one.message.app).options:
            _learn(patterns, pattern, one.message.event_id, outbox)
    for (app, vendor, business_id, urgency), pushes in outbox.items():
        for part in parts(pushes):
            batch = Batch(
                app=app, vendor=vendor, business_id=business_id, pushes=part, by_entry=by_entry
            )
            routed.batches.append((urgency, batch))
    return routed


def _learn(
    patterns: dict[Pattern, tuple[Notification, list[Push]]],
    pattern: Pattern,
    event_id: str,
    outbox: Mapping[LaneName, list[Push]],
) -> None:
    """Keeps the result for this event, if any, for all people like this one."""
    app, vendor, business_id, *_ = pattern
    pushes = outbox.get((app, vendor, business_id, Urgency.CHAT))
    if pushes and pushes[-1].note.event_id == event_id:
        patterns[pattern] = (pushes[-1].note, pushes)


def _once(offline: Sequence[OfflineRecipients]) -> Iterator[OfflineRecipients]:
    """Removes repeated people of one event.

    Two pages of a group may name a person, and an entry may come twice.
    """
    if len({one.message.event_id for one in offline}) == len(offline):
        yield from offline
        return
    first: dict[tuple[str, str, Kind], OfflineRecipients] = {}
    met: dict[tuple[str, str, Kind], set[str]] = {}
    for one in offline:
        message = one.message
        key = (message.app, message.event_id, message.kind)
        earlier = first.setdefault(key, one)
        if earlier is one:
            yield one
            continue
        known = met.get(key)
        if known is None:
            known = met[key] = {who.user for who in earlier.recipients}
        if recipients := tuple(who for who in one.recipients if who.user not in known):
            known.update(who.user for who in recipients)
            yield msgspec.structs.replace(one, recipients=recipients)


#: Settings of people, by (app, user).
Settings = Mapping[tuple[str, str], Mapping[str, Any]]


def _settings(offline: Sequence[OfflineRecipients], book: PreferenceBook) -> Settings:
    """All recipients' settings; a token has none."""
    people: dict[tuple[str, str], None] = {}
    conversations: set[str] = set()
    for one in offline:
        message = one.message
        if not message.direct:
            for who in one.recipients:
                people[(message.app, who.user)] = None
            conversations.add(_conversation(message))
    return book.of_people(list(people), sorted(conversations)) if people else {}


def _conversation(message: Message) -> str:
    conversation = message.conversation
    return f"{conversation.type}:{conversation.id}"


def _with_friends(
    one: OfflineRecipients, friends: Friends, routed: Routed
) -> Sequence[tuple[OfflineRecipients, Collection[str]]]:
    """The message with those of its recipients whom its sender may reach, as far as their friends
    matter; one by one where of some of them nobody can tell.
    """
    message, users = one.message, [who.user for who in one.recipients]
    if not message.push.gate.require_friend:
        return [(one, users)]
    try:
        return [(one, friends.friends(message.app, users, message.sender.id))]
    except AwayError:
        if len(users) == 1:
            routed.unasked.append(one)
            return []
    each = [msgspec.structs.replace(one, recipients=(who,)) for who in one.recipients]
    return [part for single in each for part in _with_friends(single, friends, routed)]


def _one(
    one: OfflineRecipients,
    friends: Collection[str],
    settings: Settings,
    ports: RoutingPorts,
    now_ms: int,
    routed: Routed,
    outbox: dict[LaneName, list[Push]],
    shapes: Shapes,
) -> None:
    message, tenancy = one.message, ports.tenancy
    friends = set(friends)
    mute, strategy_id = f"mute:{_conversation(message)}", message.push.strategy_id
    routed.presets_missing += (
        bool(strategy_id) and tenancy.strategy(message.app, str(strategy_id)) is None
    )
    tenant = tenancy.tenant(message.app)
    about = _FannedOut(one, tenancy, tenant, named_by(message), now_ms, shapes, {})
    same: dict[tuple[Vendor, str, str | None], Draft] | None = None
    if message.expires_at_ms > now_ms and _is_same_for_all(message) and not tenant.options:
        same = {}
    for who in one.recipients:
        wishes = settings.get((message.app, who.user)) or {}
        if same and not wishes and _join(message, who, same):
            continue
        if mute in wishes:
            wishes = {**wishes, "mute": wishes[mute]}
        for part in by_clock(who, wishes) if wishes else (who,):
            no = _refusal(about, part, wishes, who.user in friends)
            if wishes and (name := unknown_zone(message, part, wishes)) is not None:
                routed.odd_zones.append((message, who.user, name))
            for device in part.devices:
                credential = None
                if not no:
                    credential = tenancy.credential(message.app, device.vendor, device.business_id)
                if credential is None:
                    why = no or Decision.NO_CREDENTIAL
                    routed.rows.append(RoutingRow(message, who.user, device, why, one.presence_ms))
                    continue
                draft = _draft(about, who, wishes, device, credential)
                if same is not None and not wishes:
                    same[(device.vendor, device.business_id, device.lang)] = draft
    for lane, note, targets in about.drafts.values():
        outbox.setdefault(lane, []).append(Push(note=note, targets=tuple(targets)))


def _refusal(
    about: _FannedOut, who: Recipient, wishes: Mapping[str, Any], is_friend: bool
) -> Decision | None:
    """Why a person gets no push. A token is no person and is not asked."""
    message, now_ms, tz = about.one.message, about.now_ms, about.tenant.tz
    no = (
        None
        if message.direct
        else refusal(message, who, wishes, is_friend, tz, now_ms, about.named)
    )
    return no or (Decision.EXPIRED if message.expires_at_ms <= now_ms else None)


def _is_same_for_all(message: Message) -> bool:
    """True when people without settings get the same push, but for lane and language.

    The message then names nobody, forces nothing and requires no friendship.
    """
    push = message.push
    if message.direct or message.mentions or push.force is not None or push.gate.require_friend:
        return False
    return push.push_type == PushType.ALERT and push.strategy_id is None and push.vendor is None


def _join(
    message: Message, who: Recipient, same: Mapping[tuple[Vendor, str, str | None], Draft]
) -> bool:
    """Adds a person's devices to the notifications of others without settings.

    False: one of the devices has none.
    """
    drafts = [same.get((device.vendor, device.business_id, device.lang)) for device in who.devices]
    if None in drafts:
        return False
    for device, draft in zip(who.devices, drafts, strict=True):
        identity = push_id(message.app, message.event_id, who.user, device.device_id, message.kind)
        cast(Draft, draft)[2].append(_target(who, device, device.token, identity))
    return True


def _draft(
    about: _FannedOut,
    who: Recipient,
    wishes: Mapping[str, Any],
    device: Device,
    credential: Credential,
) -> Draft:
    """Adds the device to the notification that it shares with others; renders the first one."""
    message, tenant, named = about.one.message, about.tenant, about.named
    own = _catalogue(tenant)
    lang = lang_of(device.lang, tenant.lang, own)
    push_type = _push_type(_wanted(message, about.tenancy, device.vendor), device)
    style = _Style(
        lang,
        redaction_of(message, wishes, tenant.options, device.content_key, lang, own),
        named.forces(who.user),
        push_type,
        urgency_of(message, who.user, named),
        named.mentions(who.user),
    )
    key = (device.vendor, device.business_id, style)
    draft = about.drafts.get(key)
    if draft is None:
        lane = (message.app, device.vendor, device.business_id, style.urgency)
        draft = about.drafts[key] = (lane, _note(about, credential, style), [])
    token = device.voip_token if push_type == PushType.VOIP and device.voip_token else device.token
    identity = push_id(message.app, message.event_id, who.user, device.device_id, message.kind)
    draft[2].append(_target(who, device, token, identity))
    return draft


def _target(who: Recipient, device: Device, token: str, identity: str) -> Target:
    return Target(
        who.user,
        device.device_id,
        token,
        identity,
        device.platform,
        device.registered_ms,
        app_version=device.app_version,
    )


def _wanted(message: Message, tenancy: Tenancy, vendor: Vendor) -> PushType:
    """The sender's push type, else their preset's, or one for Apple alone.

    A push that takes a call back is never a call.
    """
    push = message.push
    if message.kind in (Kind.CALL_CANCEL, Kind.RECALL):
        return PushType.ALERT if push.push_type == PushType.VOIP else push.push_type
    preset = (
        tenancy.strategy(message.app, push.strategy_id)
        if push.strategy_id and push.push_type == PushType.ALERT
        else None
    )
    wanted = (preset or {}).get("push_type") or push.push_type
    if vendor == Vendor.APNS and wanted == PushType.ALERT:
        wanted = _overrides(preset, push.vendor, vendor).get("push_type") or wanted
    return _PUSH_TYPES.get(wanted, push.push_type) if isinstance(wanted, str) else push.push_type


_PUSH_TYPES: Final[Mapping[str, PushType]] = {str(one): one for one in PushType}


def _push_type(wanted: PushType, device: Device) -> PushType:
    """VoIP only with a VoIP token (Apple) or an own channel (HarmonyOS); else an alert."""
    if wanted == PushType.VOIP and not (
        device.vendor == Vendor.HARMONY or (device.vendor == Vendor.APNS and device.voip_token)
    ):
        return PushType.ALERT
    return wanted


def urgency_of(message: Message, user: str, named: Named | None = None) -> Urgency:
    """call > chat (c2c, mention) > group > bulk."""
    message_class = message.push.message_class
    if message_class == _CALL or message.kind in _CALLS:
        return Urgency.CALL
    if message_class != _CHAT and message_class not in PRIVATE_CLASSES:
        return Urgency.BULK
    if message.conversation.type == "c2c" or (
        message.mentions and user in (named or named_by(message)).people
    ):
        return Urgency.CHAT
    return Urgency.GROUP


_CALL, _CHAT = MessageClass.CALL, MessageClass.CHAT
_CALLS: Final = frozenset({Kind.CALL_INVITE, Kind.CALL_CANCEL})


def _note(about: _FannedOut, credential: Credential, style: _Style) -> Notification:
    """The shape of messages of its kind, with this message's ids, times and texts."""
    message, push, tenant = about.one.message, about.one.message.push, about.tenant
    lang, redaction = style.lang, style.redaction
    ids_only = redaction is not None and redaction.ids_only
    # no words of the sender beside ours
    redacted = redaction is not None or message.kind in (Kind.RECALL, Kind.CALL_CANCEL)
    shape = _shape_shared(about, credential, style, redacted, ids_only)
    texts = words(
        message,
        lang,
        tenant.name,
        redaction=redaction,
        forced=style.is_forced,
        own=_catalogue(tenant),
        brackets=VENDORS[credential.vendor].brackets,
    )
    return msgspec.structs.replace(
        shape,
        event_id=message.event_id,
        message_id=message.message_id,
        conversation_type=message.conversation.type,
        conversation_id=message.conversation.id,
        ts_ms=message.ts_ms,
        received_ms=message.received_ms,
        presence_ms=about.one.presence_ms,
        routed_ms=about.now_ms,
        expires_at_ms=message.expires_at_ms,
        title=texts.title if credential.vendor == Vendor.APNS else texts.android_title,
        subtitle=texts.subtitle,
        body=texts.body,
        prefix=texts.prefix,
        hidden=texts.hidden,
        sender_name=texts.sender_name,
        text=texts.text,
        ext=None if ids_only else push.data.ext,
        payload=_payload(message, ids_only),
        loc=push.display.loc if not redacted else None,
        blob=push.blob is not None,
        direct=message.direct,
        reply_key=message.reply_key,
        collapse_id=collapse_id(message),
        thread_id=None if ids_only else push.thread_id,
        sender_id=message.sender.id,
        mentioned=style.mentioned,
        respect_dnd=push.gate.respect_dnd and not style.is_forced,
    )


def _shape_shared(
    about: _FannedOut, credential: Credential, style: _Style, redacted: bool, ids_only: bool
) -> Notification:
    """The shape of this message's notification; one made before where others share it."""
    message, vendor = about.one.message, credential.vendor
    lang, push_type, urgency = style.lang, style.push_type, style.urgency
    reader = (lang, push_type, urgency, redacted, ids_only)
    key = (vendor, credential.app, credential.business_id, *reader, *_wishes(message))
    shape = about.shapes.get(key) if key[-1] else None
    if shape is None:
        tenancy, tenant = about.tenancy, about.tenant
        shape = _shape(
            message, credential, tenancy, tenant, lang, redacted, ids_only, push_type, urgency
        )
        if key[-1]:
            about.shapes[key] = shape
    return shape


def _wishes(message: Message) -> tuple[Any, ...]:
    """The shape's key beside lane and reader. Last part: True when other messages can share it."""
    push = message.push
    usual = (
        push.vendor is None
        and push.vendor_raw is None
        and push.template is None
        and push.image is None
        and push.strategy_id is None
    )
    return (
        message.kind,
        push.message_class,
        push.sound,
        push.badge,
        usual and push.push_type != PushType.VOIP,
    )


def _shape(
    message: Message,
    credential: Credential,
    tenancy: Tenancy,
    tenant: TenantView,
    lang: str,
    redacted: bool,
    ids_only: bool,
    push_type: PushType,
    urgency: Urgency,
) -> Notification:
    push, vendor = message.push, credential.vendor
    preset = tenancy.strategy(message.app, push.strategy_id) if push.strategy_id else None
    raw = _raw(push.vendor_raw, vendor)
    over = classes.with_raw(vendor, _overrides(preset, push.vendor, vendor), raw)
    placed = classes.place(push.message_class, push_type, credential, over)
    sound_ios, sound_android = _sounds(preset, vendor)
    return Notification(
        app=message.app,
        event_id="",
        message_id="",
        kind=message.kind,
        conversation_type="",
        conversation_id="",
        ts_ms=0,
        received_ms=0,
        expires_at_ms=0,
        lang=lang,
        app_name=tenant.name,
        fallback_body=translate("hidden", lang, _catalogue(tenant)),
        message_class=push.message_class,
        class_sent=placed.class_sent,
        bucket=placed.bucket,
        downgraded=placed.downgraded,
        placement=dict(placed.fields),
        push_type=push_type,
        urgency=urgency,
        collapse_id="",
        sound_ios=push.sound.ios or sound_ios,
        sound_android=push.sound.android or sound_android,
        badge_mode=_badge_mode(message, over),
        badge_increment=push.badge.increment,
        badge_value=push.badge.value if push.badge.mode == BadgeMode.SET else None,
        image=_image(push.image, vendor) if not redacted else None,
        template=(push.template or {}).get(vendor) if not redacted else None,
        vendor=_shown(over, redacted, ids_only),
        vendor_raw=raw if not redacted else placing(raw),
        voip=_call_data(message, over, redacted) if push_type == PushType.VOIP else None,
    )


def _raw(given: Mapping[str, Mapping[str, Any]] | None, vendor: Vendor) -> dict[str, Any]:
    """The vendor's verbatim fields; FCM has two names, by API version (im-dialects §4.4)."""
    raw = dict((given or {}).get(vendor) or {})
    newer = (given or {}).get("fcm_v1") if vendor == Vendor.FCM else None
    return {**raw, "fcm_v1": newer} if newer else raw


def _call_data(message: Message, over: Mapping[str, Any], hidden: bool) -> dict[str, Any]:
    """The call's data for the app: what shows the call, or ends its ringing.

    One key of the payload: {"call": {"id", "action", "handle", "handle_type", "video"}}. The handle
    is a number or an address of the caller: it is left out for people who hide details.
    """
    own = over.get("voip") or ((message.push.vendor or {}).get(Vendor.APNS) or {}).get("voip")
    wishes = own if isinstance(own, Mapping) else {}
    shown = ("video",) if hidden else ("handle", "handle_type", "video")
    action = "cancel" if message.kind in (Kind.CALL_CANCEL, Kind.RECALL) else "invite"
    call = {"id": message.message_id, "action": action}
    return {"call": call | {name: wishes[name] for name in shown if wishes.get(name) is not None}}


def _shown(over: dict[str, Any], redacted: bool, ids_only: bool) -> dict[str, Any]:
    """The overrides as far as this person may see them. uri: where a click leads; it travels as
    data do.
    """
    if not redacted:
        return over
    return {
        name: value
        for name, value in over.items()
        if name in WORDLESS or (name == "uri" and not ids_only)
    }


def _catalogue(tenant: TenantView) -> Catalogue:
    """The tenant's own texts, as stored by `app add --texts`."""
    return tenant.options.get("texts") or NOTHING


def _overrides(
    preset: Mapping[str, Any] | None, own: Mapping[str, Mapping[str, Any]] | None, vendor: Vendor
) -> dict[str, Any]:
    """The message's own overrides over the strategy preset's (im-dialects §1, precedence)."""
    layers = ((preset or {}).get(vendor) or {}, (own or {}).get(vendor) or {})
    if vendor == Vendor.FCM:
        layers = (_with_data_only(layers[0]), _with_data_only(layers[1]))
    return {**layers[0], **layers[1]}


def _with_data_only(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """ZEGO's `type` as our `data_only`, so that the two names of one wish meet in the merge.

    Within a layer `data_only` wins.
    """
    kind = layer.get("type")
    if kind not in ("data", "notification") or layer.get("data_only") is not None:
        return layer
    return {**layer, "data_only": kind == "data"}


def _sounds(preset: Mapping[str, Any] | None, vendor: Vendor) -> tuple[str | None, str | None]:
    """(sound on Apple, sound on Android) of a preset: this vendor's own before the common one.

    ZEGO's resources name a sound at each vendor (im-dialects §3.3).
    """
    if preset is None:
        return None, None
    common = preset.get("sound") or {}
    own = (preset.get(vendor) or {}).get("sound")
    if not isinstance(own, str):
        return common.get("ios"), common.get("android")
    if vendor == Vendor.APNS:
        return own, common.get("android")
    return common.get("ios"), own


def _badge_mode(message: Message, over: Mapping[str, Any]) -> BadgeMode:
    if message.push.badge.mode == BadgeMode.SET:
        return BadgeMode.SET if message.push.badge.value is not None else BadgeMode.KEEP
    if message.kind != Kind.MESSAGE or not message.push.badge.counts_unread:
        return BadgeMode.KEEP if message.push.badge.mode != BadgeMode.NONE else BadgeMode.NONE
    # Tencent's ignoreHarmonyBadge: false
    if over.get("badge") in ("keep", "none") or over.get("badge") is False:
        return BadgeMode.KEEP
    return message.push.badge.mode


def _payload(message: Message, ids_only: bool) -> dict[str, Any] | None:
    """The app's own keys, with an opaque blob's over them.

    A message reduced to its id keeps its blob: the blob is unreadable to vendors.
    """
    own = {"message_id": message.message_id} if ids_only else message.push.data.payload
    return {**(own or {}), **message.push.blob} if message.push.blob is not None else own


_IMAGES = {Vendor.APNS: "ios"}


def _image(images: Mapping[str, str] | None, vendor: Vendor) -> str | None:
    """The vendor's picture, https only."""
    url = (images or {}).get(_IMAGES.get(vendor, vendor))
    return url if url and url.startswith("https://") else None


def parts(pushes: Sequence[Push]) -> list[tuple[Push, ...]]:
    """The pushes in parts of at most BATCH_MAX targets, in order."""
    if all(len(push.targets) == 1 for push in pushes):
        return [
            tuple(pushes[start : start + BATCH_MAX]) for start in range(0, len(pushes), BATCH_MAX)
        ]
    done: list[tuple[Push, ...]] = []
    part: list[Push] = []
    room = BATCH_MAX
    for push in pushes:
        targets = push.targets
        while targets:
            take, targets = targets[:room], targets[room:]
            part.append(Push(note=push.note, targets=take))
            room -= len(take)
            if room == 0:
                done.append(tuple(part))
                part, room = [], BATCH_MAX
    if part:
        done.append(tuple(part))
    return done
