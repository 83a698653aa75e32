"""An event that pushes -> the message that travels, with the decisions that need nobody's presence.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from common.contracts import (
    NO_WISHES,
    PLAIN,
    TTL_MAX_S,
    Conversation,
    Gate,
    Message,
    PushFields,
    Sender,
)
from common.model import Decision, Kind, MessageClass, PushType
from common.values import Value
from common.visible_text import shows
from workers.intake import direct, events
from workers.intake.events import Event
from workers.intake.wishes import prefixed

#: Wishes that are passed over, by the reason in `pushfleet_ignored_total`, and the words of `why`.
PASSED_OVER: Final = {
    "kind": "the kind is not message: sent as a plain message",
    "audience": "the audience is not offline: sent as a plain message",
    "insecure_image": "the address of a picture is not https: sent without it",
}
_HTTPS: Final = "https://"


class TakenEvent(Value, frozen=True):
    """A message on its way, or with the decision that ends it here. ignored: names of wishes that
    were counted and passed over.
    """

    message: Message
    decision: Decision | None
    ignored: tuple[str, ...] = ()


def stored(event: Event, now_ms: int) -> TakenEvent:
    """`message.stored`."""
    if event.data.push is NO_WISHES:
        message = _of_stored(event, PLAIN)
        return TakenEvent(message, _decided_plainly(message, now_ms))
    wished = event.data.push or NO_WISHES
    ttl_s = min(wished.ttl_s, TTL_MAX_S)
    push = wished if wished.ttl_s == ttl_s else msgspec.structs.replace(wished, ttl_s=ttl_s)
    return _taken(_of_stored(event, prefixed(push)), now_ms)


def invited(event: Event, now_ms: int) -> TakenEvent:
    """`call.invited`."""
    return _taken(_invited(event), now_ms)


def directed(event: Event, now_ms: int) -> TakenEvent:
    """`push.direct`."""
    message, ignored = _with_pictures(direct.message_of(event))
    return TakenEvent(message, _decided_directly(message, now_ms), ignored)


def _taken(message: Message, now_ms: int) -> TakenEvent:
    ignored = []
    if message.push.kind != "message":
        ignored.append("kind")
    if message.push.gate.audience != "offline":
        ignored.append("audience")
    message, insecure = _with_pictures(message)
    return TakenEvent(message, _decided(message, now_ms), (*ignored, *insecure))


def _with_pictures(message: Message) -> tuple[Message, tuple[str, ...]]:
    """The message without pictures that no vendor takes, and the reason where there were any."""
    push = message.push
    looks = {name: own for name, own in (push.vendor or {}).items() if "image" in own}
    if not push.image and not looks:
        return message, ()
    images = {place: _secure(url) for place, url in (push.image or {}).items()}
    owns = {name: _secure(own["image"]) for name, own in looks.items()}
    changed = msgspec.structs.replace(
        push,
        image={place: url for place, url in images.items() if url} or None,
        vendor={
            name: _with_own(own, owns[name]) if name in owns else own
            for name, own in (push.vendor or {}).items()
        }
        or push.vendor,
    )
    insecure = None in (*images.values(), *owns.values())
    return msgspec.structs.replace(message, push=changed), ("insecure_image",) * insecure


def _with_own(own: Mapping[str, Any], image: str | None) -> dict[str, Any]:
    rest = {name: value for name, value in own.items() if name != "image"}
    return {**rest, "image": image} if image else rest


def _secure(url: object) -> str | None:
    """The address, its scheme in small letters; "" for no picture, None where it is not https."""
    if not url:
        return ""
    if not isinstance(url, str) or url[: len(_HTTPS)].lower() != _HTTPS:
        return None
    return _HTTPS + url[len(_HTTPS) :]


def _of_stored(event: Event, push: PushFields) -> Message:
    """push: the wishes, with the ttl that counts."""
    data: events.Stored = event.data
    recipients = data.recipients
    if recipients is not None and len(recipients) > 1:
        recipients = tuple(dict.fromkeys(recipients))
    return Message(
        app=event.app,
        event_id=event.id,
        type=event.type,
        message_id=data.message_id,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        expires_at_ms=event.ts_ms + push.ttl_s * 1000,
        conversation=data.conversation,
        sender=data.sender,
        recipients=recipients,
        exclude=data.exclude or (),
        mentions=data.mentions or (),
        elements=data.elements or (),
        push=push,
    )


def _decided_plainly(message: Message, now_ms: int) -> Decision | None:
    """As `_decided`, where the sender wished nothing."""
    for element in message.elements:
        if element.type in _SPEAKING or shows(element.text):
            return Decision.EXPIRED if message.expires_at_ms <= now_ms else None
    return Decision.NO_TEXT


def _invited(event: Event) -> Message:
    data: events.Invited = event.data
    wished = data.push or PushFields()
    push: PushFields = msgspec.structs.replace(
        prefixed(wished), message_class=MessageClass.CALL, ttl_s=min(wished.ttl_s, TTL_MAX_S)
    )
    return Message(
        app=event.app,
        event_id=event.id,
        type=event.type,
        message_id=data.call_id,
        kind=Kind.CALL_INVITE,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        expires_at_ms=event.ts_ms + min(data.timeout_s, TTL_MAX_S) * 1000,
        conversation=Conversation(type="c2c", id=data.inviter.id),
        sender=Sender(id=data.inviter.id, nick=data.inviter.nick),
        recipients=tuple(dict.fromkeys(data.invitees)),
        push=push,
    )


def _decided(message: Message, now_ms: int) -> Decision | None:
    if (closed := _shut(message.push.gate)) is not None:
        return closed
    if message.push.push_type == PushType.ALERT and not _has_text(message):
        return Decision.NO_TEXT
    if message.expires_at_ms <= now_ms:
        return Decision.EXPIRED
    return None


def by_preset(taken: TakenEvent, preset: Mapping[str, Any] | None, now_ms: int) -> TakenEvent:
    """The same, where the preset that the message names says how it travels: a silent push needs no
    text, whoever made it one. The message's own type goes before (im-dialects §1, precedence).
    """
    push = taken.message.push
    wanted = (preset or {}).get("push_type")
    if taken.decision is not Decision.NO_TEXT or push.push_type != PushType.ALERT:
        return taken
    if wanted not in (PushType.SILENT, PushType.VOIP):
        return taken
    ended = taken.message.expires_at_ms <= now_ms
    return TakenEvent(taken.message, Decision.EXPIRED if ended else None, taken.ignored)


def _decided_directly(message: Message, now_ms: int) -> Decision | None:
    """A push to a token needs no text of its own: the tenant's replaces it."""
    if (closed := _shut(message.push.gate)) is not None:
        return closed
    return Decision.EXPIRED if message.expires_at_ms <= now_ms else None


def _shut(gate: Gate) -> Decision | None:
    """The decision where the sender wants no push; None where one may go."""
    if not gate.enabled or not gate.store_offline:
        return Decision.PUSH_DISABLED
    return Decision.ONLINE_ONLY if gate.online_only else None


#: Element types that have a text of their own in every language (im-dialects §2.2); text and custom
#: have only what they carry.
_SPEAKING = frozenset({"sound", "file", "image", "video", "face", "location", "merger"})


def _has_text(message: Message) -> bool:
    if message.kind == Kind.CALL_INVITE or shows(message.push.display.body):
        return True
    force = message.push.force
    if (
        force is not None
        and force.on
        and message.conversation.type == "group"
        and shows(force.body)
    ):
        return True
    return any(element.type in _SPEAKING or shows(element.text) for element in message.elements)
