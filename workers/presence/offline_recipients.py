"""Message -> OfflineRecipients, in chunks of people. Plain functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from common.contracts import ALL, Device, Message, OfflineRecipients, Recipient
from common.model import Decision, Kind
from common.ports import (
    AwayError,
    DeviceDirectory,
    FanOut,
    MemberPages,
    NamedBefore,
    Presences,
    Session,
)
from common.values import Value
from workers.presence.absence import in_front, judge, sent_ms

#: People of one message that travel together, page by page: the first ones hear of it soon, the
#: others cheaply.
PAGES = (200, 500, 2_000)
#: Milliseconds that a message whose recipient has no device waits, once, before a second look: the
#: registration may be on its way.
SECOND_LOOK_MS = 300
#: Milliseconds that a message waits for a server of the core that is away: a quarter of its age, so
#: that much that waits for long is not looked at all the time, and no less and no more than these.
AWAY_MS_MIN = 1_000
AWAY_MS_MAX = 5_000


def again_ms(message: Message, now_ms: int) -> int:
    """When to look again at a message that waits for a server that is away, ms."""
    age_ms = now_ms - message.received_ms
    return now_ms + min(max(age_ms // 4, AWAY_MS_MIN), AWAY_MS_MAX)


class PresenceRow(Value, frozen=True):
    """One decision about one recipient, with the device it is about."""

    message: Message
    user: str
    device: Device
    decision: Decision


class Deviceless(Value, frozen=True):
    """People of one chunk and one decision without a device: their rows differ in the name only."""

    message: Message
    decision: Decision
    users: Sequence[str]


@dataclass(slots=True)
class Seen:
    """The result of a batch of messages. later: for a second look. unasked: to the people, or the
    group, of whom nobody can tell now, as their server is away: nothing is decided about them.

    onward: pages of large groups still to be read; empty: messages without any recipient. named:
    marks of the people whom these pages name; ended: fan-outs whose last page was read.
    """

    offline: list[OfflineRecipients] = field(default_factory=list)
    rows: list[PresenceRow] = field(default_factory=list)
    deviceless: list[Deviceless] = field(default_factory=list)
    later: list[Message] = field(default_factory=list)
    unasked: list[Message] = field(default_factory=list)
    onward: list[Message] = field(default_factory=list)
    empty: list[Message] = field(default_factory=list)
    malformed: int = 0
    named: dict[FanOut, list[bytes]] = field(default_factory=dict)
    ended: set[FanOut] = field(default_factory=set)


class Chunk(Value, frozen=True):
    message: Message
    users: tuple[str, ...]


def chunks(
    messages: Sequence[Message], members: MemberPages, unasked: list[Message] | None = None
) -> Iterator[tuple[Chunk, Message | None]]:
    """One chunk of people per message, and the rest of the message, if any. unasked: gets the
    messages to a group whose members nobody can tell now.
    """
    for message in messages:
        if (
            message.recipients is not None
            and len(message.recipients) == 1
            and not message.exclude
            and not message.position
        ):
            yield Chunk(message, message.recipients), None
            continue
        try:
            users, more = page_for(message, members)
        except AwayError:
            if unasked is None:
                raise
            unasked.append(message)
            continue
        yield Chunk(message, users), more


def page_for(message: Message, members: MemberPages) -> tuple[tuple[str, ...], Message | None]:
    """As `page_of`, without excluded people; the rest records whether there were recipients."""
    page, more = page_of(message, members)
    users = without_excluded(message, page)
    # what an earlier release began does not tell
    known = message.anybody is not None or not _goes_on(message)
    if more is not None and known and message.anybody is not True:
        more = msgspec.structs.replace(more, anybody=bool(users))
    return users, more


def is_for_nobody(message: Message, users: Sequence[str], more: Message | None) -> bool:
    """True when no recipient of the message is left after its last page."""
    return more is None and not users and (message.anybody is False or not _goes_on(message))


def _goes_on(message: Message) -> bool:
    return bool(message.cursor or message.position)


def without_excluded(message: Message, users: Sequence[str]) -> tuple[str, ...]:
    """Each of these people of the message once, without those whom it excludes."""
    excluded = frozenset(message.exclude)
    return tuple(user for user in dict.fromkeys(users) if user not in excluded)


def page_of(message: Message, members: MemberPages) -> tuple[Sequence[str], Message | None]:
    """The next of a message's people, and the rest of the message, if any."""
    size = PAGES[min(message.pages, len(PAGES) - 1)]
    if message.recipients is not None:
        end = message.position + size
        rest = end < len(message.recipients)
        more = (
            msgspec.structs.replace(message, position=end, pages=message.pages + 1)
            if rest
            else None
        )
        return message.recipients[message.position : end], more
    if message.conversation.type != "group":
        return (), None
    page = members.page(
        message.app, message.conversation.id, message.cursor or 0, message.cursor_of, size
    )
    if not page.cursor:
        return page.users, None
    return page.users, msgspec.structs.replace(
        message, cursor=page.cursor, cursor_of=page.server, pages=message.pages + 1
    )


def look(
    messages: Sequence[Message],
    members: MemberPages,
    presences: Presences,
    directory: DeviceDirectory,
    now_ms: int,
    fanouts: NamedBefore | None = None,
) -> Seen:
    """Reads presence and devices of all these messages' people in a few calls and judges each.

    fanouts: of a message in pages nobody is judged twice.
    """
    seen = Seen()
    todo: list[Chunk] = []
    for chunk, more in chunks(messages, members, seen.unasked):
        todo.append(chunk)
        if more is not None:
            seen.onward.append(more)
        elif is_for_nobody(chunk.message, chunk.users, more):
            seen.empty.append(chunk.message)
    if fanouts is not None:
        todo = _once(todo, fanouts, seen)
    people: list[tuple[str, str]] = []
    for chunk in todo:
        app = chunk.message.app
        people += [(app, user) for user in chunk.users]
    sessions, seen.malformed = presences.sessions(people)
    devices = directory.of_people(people) if people else {}
    at = 0
    for chunk in todo:
        end = at + len(chunk.users)
        known, own = _known(chunk, sessions[at:end], seen)
        app = known.message.app
        _judge_all(known, own, [devices.get((app, user), ()) for user in known.users], now_ms, seen)
        at = end
    return seen


def _known(
    chunk: Chunk, sessions: Sequence[Sequence[Session] | None], seen: Seen
) -> tuple[Chunk, Sequence[Sequence[Session]]]:
    """Without the people whose presence nobody can tell now: a message of their own waits."""
    pairs = [
        (user, own) for user, own in zip(chunk.users, sessions, strict=True) if own is not None
    ]
    if len(pairs) < len(chunk.users):
        names = {user for user, _ in pairs}
        unasked = [user for user in chunk.users if user not in names]
        # they are looked at again, after more than the time of a second look
        seen.unasked.append(_again(_slim(chunk.message, unasked), unasked))
        chunk = Chunk(chunk.message, tuple([user for user, _ in pairs]))
    return chunk, [own for _, own in pairs]


def _once(todo: list[Chunk], fanouts: NamedBefore, seen: Seen) -> list[Chunk]:
    """The chunks without people whom an earlier page of their fan-out has named, or an earlier one
    of these: with several shards two parts may come in one read.
    """
    # a long second look goes on by pages of its own
    onward = {(more.app, more.event_id) for more in seen.onward if not more.second_look}
    people: dict[FanOut, list[str]] = {}
    for chunk in todo:
        event = chunk.message.app, chunk.message.event_id
        if chunk.message.second_look:  # their own page has named them, and waits for this look
            continue
        if chunk.message.pages or event in onward:
            people.setdefault(event, []).extend(chunk.users)
    if not people:
        return todo
    seen.ended = people.keys() - onward
    unnamed, found = fanouts.unnamed(people), list[Chunk]()
    for chunk in todo:
        fresh = unnamed.get((chunk.message.app, chunk.message.event_id))
        if fresh is not None and not chunk.message.second_look:
            users = tuple([user for user in chunk.users if user in fresh])
            marks = [fresh.pop(user) for user in users]
            seen.named.setdefault((chunk.message.app, chunk.message.event_id), []).extend(marks)
            found.append(chunk if len(users) == len(chunk.users) else Chunk(chunk.message, users))
        else:
            found.append(chunk)
    return found


def _judge_all(
    chunk: Chunk,
    sessions: Sequence[Sequence[Session]],
    devices: Sequence[Sequence[Device]],
    now_ms: int,
    seen: Seen,
) -> None:
    """Each person of the chunk, with their sessions and devices in the order of its users."""
    message = chunk.message
    waiting: list[str] = []
    away: list[Recipient] = []
    deviceless: dict[Decision, list[str]] = {}
    ts_ms, sender = sent_ms(message), message.sender.id
    online: list[str] = []
    for user, own, registered in zip(chunk.users, sessions, devices, strict=True):
        if not registered and len(own) == 1 and in_front(own[0], ts_ms) and user != sender:
            online.append(user)  # as judge() has it: most of a large group
            continue
        verdicts = judge(message, user, own, registered)
        for device, decision in verdicts.rows:
            if device is None:
                deviceless.setdefault(decision, []).append(user)
            else:
                seen.rows.append(PresenceRow(message, user, device, decision))
        if verdicts.away is not None:
            away.append(verdicts.away)
        if verdicts.waits:
            waiting.append(user)
    if online:
        deviceless[Decision.ONLINE] = online + deviceless.get(Decision.ONLINE, [])
    seen.deviceless += [
        Deviceless(message, decision, users) for decision, users in deviceless.items()
    ]
    if away and message.expires_at_ms <= now_ms:
        seen.rows += [
            PresenceRow(message, who.user, device, Decision.EXPIRED)
            for who in away
            for device in who.devices
        ]
    elif away:
        seen.offline.append(
            OfflineRecipients(
                message=_slim(message, chunk.users), recipients=tuple(away), presence_ms=now_ms
            )
        )
    if waiting:
        seen.later.append(_again(_slim(message, waiting), waiting))


#: Lists of people that are shorter go along whole: cutting them down costs more than it saves.
SHORT = 10


def _slim(message: Message, users: Sequence[str]) -> Message:
    """The message without other people's data: a full list would go with each group page."""
    changes: dict[str, Any] = {}
    count = len(message.recipients or ())
    if count >= SHORT or (
        count != 1 and message.recipients is not None and message.kind == Kind.MESSAGE
    ):
        changes = {"recipients": None, "exclude": ()}
    elif len(message.exclude) > SHORT:
        changes["exclude"] = ()  # nobody of them is among these
    force = message.push.force
    ids = force.ids if force is not None else None
    if len(message.mentions) > SHORT or len(ids or ()) > SHORT:
        people = {ALL, *users}
        changes["mentions"] = tuple(name for name in message.mentions if name in people)
        if force is not None and ids is not None:
            mine = msgspec.structs.replace(force, ids=tuple(name for name in ids if name in people))
            changes["push"] = msgspec.structs.replace(message.push, force=mine)
    return msgspec.structs.replace(message, **changes) if changes else message


def _again(message: Message, users: Sequence[str]) -> Message:
    start = {"cursor": None, "cursor_of": None, "pages": 0, "position": 0, "anybody": None}
    return msgspec.structs.replace(
        message, recipients=tuple(users), exclude=(), second_look=True, **start
    )
