"""`push.direct`: a push to one token, for callers that know tokens and no people. Pure.

It bypasses presence: sessions, members, mutes and friends are not checked. The token stands for the
person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from common.contracts import (
    TTL_MAX_S,
    Badge,
    Conversation,
    Device,
    Message,
    OfflineRecipients,
    PushFields,
    Recipient,
    Sender,
)
from common.model import BadgeMode, Decision, Kind, MessageClass, PushType, Vendor
from common.tokens import declared_dead, token_user
from workers.intake.events import Addressee, Direct, Event
from workers.intake.wishes import prefixed

#: A call rings no longer than this where its sender names no ttl.
CALL_TTL_S: Final = 60
KINDS: Final[Mapping[str, Kind]] = {
    "message": Kind.MESSAGE,
    "call": Kind.CALL_INVITE,
    "badge": Kind.BADGE,
    "clear": Kind.CLEAR,
}


@dataclass(frozen=True, slots=True)
class KnownTargets:
    """The registry's record of a token. state: active, retired, silenced.

    registered_ms: 0 when never reported.
    """

    state: str
    registered_ms: int
    voip_token: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DirectRow:
    """A token that gets nothing, with the decision. is_dead: its vendor gave it up."""

    message: Message
    user: str
    device: Device
    decision: Decision
    note: str
    is_dead: bool = False


@dataclass(slots=True)
class DirectSorted:
    """offline: continues to routing; rows: decided here."""

    offline: list[OfflineRecipients] = field(default_factory=list)
    rows: list[DirectRow] = field(default_factory=list)


def user_of(target: Addressee) -> str:
    return token_user(target.vendor, target.business_id, target.token)


def message_of(event: Event) -> Message:
    """The event as what travels; its recipient is the token's own name."""
    data: Direct = event.data
    kind, user = KINDS[data.kind], user_of(data.target)
    push = _wishes(data)
    sender = data.sender or Sender(id="")
    return Message(
        app=event.app,
        event_id=event.id,
        type=event.type,
        message_id=data.message_id,
        kind=kind,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        expires_at_ms=event.ts_ms + push.ttl_s * 1000,
        conversation=data.conversation or Conversation(type="c2c", id=sender.id or user),
        sender=sender,
        recipients=(user,),
        elements=data.elements or (),
        push=push,
        direct=True,
        reply_key=data.reply.key if data.reply is not None else None,
    )


def _wishes(data: Direct) -> PushFields:
    """The push keys, those that speak of people or of counting set aside."""
    wished = prefixed(data.push or PushFields(), builds=bool(data.elements))
    changes: dict[str, object] = {
        "ttl_s": min(wished.ttl_s, TTL_MAX_S),
        "badge": _badge(wished.badge),
    }
    changes["gate"] = msgspec.structs.replace(wished.gate, respect_dnd=False, require_friend=False)
    if data.kind == "call":
        changes["message_class"] = MessageClass.CALL
        if wished.ttl_s == PushFields().ttl_s:
            changes["ttl_s"] = CALL_TTL_S
        if data.target.voip_token and wished.push_type == PushType.ALERT:
            changes["push_type"] = PushType.VOIP
    elif data.kind in ("badge", "clear"):
        alone = (
            data.kind == "badge" and data.target.vendor == Vendor.APNS
        )  # elsewhere the app itself sets the number
        changes["push_type"] = PushType.ALERT if alone else PushType.SILENT
        changes["collapse_key"] = wished.collapse_key or data.kind + ":" + _about(data)
    return msgspec.structs.replace(wished, **changes)


def _about(data: Direct) -> str:
    """The subject that a later badge or clear replaces: the token's number or the conversation."""
    if data.kind == "badge" or data.conversation is None:
        return user_of(data.target)
    return data.conversation.id


def _badge(wished: Badge) -> Badge:
    """Only an absolute number: this token's base is not reported, so nothing can be added to it."""
    if wished.value is None:
        return Badge(mode=BadgeMode.NONE if wished.mode == BadgeMode.NONE else BadgeMode.KEEP)
    return Badge(mode=BadgeMode.SET, value=wished.value)


def address(
    directed: Sequence[tuple[Event, Message]], known: Mapping[tuple[str, str], KnownTargets]
) -> DirectSorted:
    """Each event to its token as the registry knows it; a retired one gets nothing.

    known: by (app, user). Tokens that are absent are new.
    """
    found = DirectSorted()
    for event, message in directed:
        target: Addressee = event.data.target
        user = user_of(target)
        has = known.get((event.app, user)) or KnownTargets(
            "active", target.since_ms or 0, target.voip_token
        )
        device = _device(target, has)
        if has.state in ("retired", "silenced"):
            decision = Decision.TOKEN_DEAD if has.state == "retired" else Decision.SILENCED
            note = f"{has.state} before: {has.reason}" if has.reason else f"{has.state} before"
            found.rows.append(
                DirectRow(
                    message, user, device, decision, note, declared_dead(has.state, has.reason)
                )
            )
        else:
            found.offline.append(
                OfflineRecipients(
                    message=message, recipients=(Recipient(user, (device,), False),), presence_ms=0
                )
            )
    return found


def reply_of(
    message: Message,
    whom: Addressee | Device,
    decision: Decision,
    note: str = "",
    *,
    retired: bool = False,
) -> tuple[str, dict[str, Any]]:
    """(key, reply) of a push that intake decided."""
    reply: dict[str, Any] = {
        "event_id": message.event_id,
        "message_id": message.message_id,
        "user": (message.recipients or ("",))[0],
        "vendor": whom.vendor,
        "business_id": whom.business_id,
        "decision": decision,
        "note": note,
        "retired": retired,
    }
    return message.reply_key or "", reply


def _device(target: Addressee, known: KnownTargets) -> Device:
    registered_ms = max(known.registered_ms, target.since_ms or 0)
    platform = target.platform.lower()
    return Device(
        "",
        platform,
        target.vendor,
        target.business_id,
        target.token,
        known.voip_token,
        target.lang,
        None,
        None,
        registered_ms,
    )
