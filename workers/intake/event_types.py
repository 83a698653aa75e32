"""The types of the core's events (contract §3), one row each: the shape of its data, what takes it,
and what `why` says of it. A new type is a row here, a shape (events.py) and its handler: a message
(messages.py) or an effect (effects.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final

import msgspec

from workers.intake import checks, direct, effects, events, messages
from workers.intake.effects import Effect
from workers.intake.events import Event
from workers.intake.messages import TakenEvent

#: The person or group whose shard works on an event, and whether it is a group.
Subject = tuple[str, bool]


class Way(Enum):
    """MESSAGE: by presence and routing. TOKEN: to routing at once. STATE: into the stores."""

    MESSAGE = 1
    TOKEN = 2
    STATE = 3


def _no_message(event: Event, _now_ms: int) -> TakenEvent:
    raise ValueError(f"{event.type} pushes nothing")


@dataclass(frozen=True)
class EventType:
    """A row. The type's name is also the label of its metrics.

    subject: see there. take: the message that travels. effect: what a state event changes.
    fault: what is wrong with data of the right shape, as a dead letter's reason.
    times: fields of the data that hold times, ms. people: whom the data names.
    has_texts: data holds texts for people, in which a broken character is replaced.
    trace: says in `why` where the effect of an event without recipients is seen.
    """

    shape: type[msgspec.Struct]
    way: Way = Way.STATE
    subject: Callable[[Any], Subject] = lambda data: (data.user, False)
    take: Callable[[Event, int], TakenEvent] = _no_message
    effect: Effect = effects.NONE
    fault: Callable[[Any], str | None] = checks.of_state
    times: Callable[[Any], Sequence[tuple[str, int | None]]] = lambda _data: ()
    people: Callable[[Any], Sequence[str]] = lambda _data: ()
    has_texts: bool = False
    trace: str = ""

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self.shape)


def _of_people(people: Sequence[str], about: str) -> Subject:
    """One person; of several, what it is about, whose shard forwards each part."""
    one = len(people) == 1 or len(set(people)) == 1
    return (people[0], False) if one else (about, True)


def _of_message(data: events.Stored) -> Subject:
    if data.conversation.type == "group":
        return data.conversation.id, True
    return _of_people(data.recipients or (), data.conversation.id)


def _mute_until(data: events.SettingsUpdated) -> Sequence[tuple[str, int | None]]:
    return (("mute.until_ms", data.mute.until_ms),) if isinstance(data.mute, events.Mute) else ()


_TAKEN_BACK: Final = "what it took back stands in the steps of its message's recipients"

TYPES: Final[Mapping[str, EventType]] = {
    "message.stored": EventType(
        events.Stored,
        Way.MESSAGE,
        _of_message,
        messages.stored,
        fault=checks.of_stored,
        people=lambda data: data.recipients or (),
        has_texts=True,
    ),
    "message.read": EventType(
        events.Read,
        effect=effects.READ,
        fault=checks.of_read,
        times=lambda data: (("up_to_ms", data.up_to_ms),),
    ),
    "message.recalled": EventType(
        events.Recalled,
        subject=lambda data: (data.conversation.id, True),
        effect=effects.RECALLED,
        trace=_TAKEN_BACK,
    ),
    "call.invited": EventType(
        events.Invited,
        Way.MESSAGE,
        lambda data: _of_people(data.invitees, data.call_id),
        messages.invited,
        fault=checks.of_invited,
        people=lambda data: data.invitees,
        has_texts=True,
    ),
    "call.ended": EventType(
        events.Ended,
        subject=lambda data: (data.call_id, True),
        effect=effects.ENDED,
        has_texts=True,
        trace=_TAKEN_BACK,
    ),
    "push.direct": EventType(
        events.Direct,
        Way.TOKEN,
        lambda data: (direct.user_of(data.target), False),
        messages.directed,
        fault=checks.of_direct,
        has_texts=True,
    ),
    "device.registered": EventType(
        events.Registered, effect=effects.REGISTERED, fault=checks.of_registered
    ),
    "device.unregistered": EventType(events.Unregistered, effect=effects.UNREGISTERED),
    "session.logout": EventType(events.SessionEnded, effect=effects.LOGOUT),
    "session.kicked": EventType(events.SessionEnded, effect=effects.KICKED),
    "app.background": EventType(events.Background, effect=effects.BACKGROUND),
    "app.foreground": EventType(events.Foreground, effect=effects.FOREGROUND),
    "settings.updated": EventType(
        events.SettingsUpdated, effect=effects.SETTINGS, fault=checks.of_settings, times=_mute_until
    ),
}


def take(event: Event, now_ms: int) -> TakenEvent:
    """The message that an event becomes. Raises ValueError for one that pushes nothing."""
    return TYPES[event.type].take(event, now_ms)


def effect_of(event: Event) -> Effect:
    return TYPES[event.type].effect
