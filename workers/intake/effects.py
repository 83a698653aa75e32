"""What a state event changes, one `Effect` a type: devices, settings, marks, badges, and what is
taken back from screens. Each part is a function of one event; state.py applies a read of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from common.call_times import end_at, ended_ms
from common.contracts import Conversation
from common.model import Kind
from common.storage.registrations import Leaving, Registration
from common.whole_seconds import latest_ms
from workers.intake import events
from workers.intake.events import Event

if TYPE_CHECKING:
    from common.storage.badges import Badges
    from common.storage.marks import EventMarks

#: (app, user, push id) -> device id.
Names = Mapping[tuple[str, str, str], str]
#: (app, conversation, message id) -> its ts, ms.
Times = Mapping[tuple[str, str, str], int]
Ignored = Callable[[Event, str], None]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The withdrawal of a message (or call) from screens. users: only these; None: everybody.

    conversation: the message's; a clear means all of it. reason: of the call's end, as the core
    gave it.
    """

    app: str
    event_id: str
    message_id: str
    kind: Kind
    ts_ms: int
    users: tuple[str, ...] | None = None
    conversation: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Writes:
    """Where marks and badges of a read go (one pipeline), and what its events' names stand for."""

    marks: EventMarks
    badges: Badges
    pipe: Any
    names: Names
    times: Times


@dataclass(frozen=True, slots=True)
class Effect:
    """The parts of a state event, None where a type has none.

    registers, leaves: the device's rows; a Leaving that is None changes nothing and says so.
    sets: the fields that the event names, as the settings table keeps them.
    device: a device's name in the data, perhaps a push id. message: the message whose time `marks`
    needs. withdraws: what goes from screens; the event gets a row of its own for `why`.
    """

    registers: Callable[[Event], Registration] | None = None
    leaves: Callable[[Event, Ignored], Leaving | None] | None = None
    sets: Callable[[Event, Names], dict[str, Any]] | None = None
    device: Callable[[Any], str | None] | None = None
    message: Callable[[Event], tuple[str, str, str] | None] | None = None
    marks: Callable[[Event, Writes], None] | None = None
    withdraws: Callable[[Event], Withdrawal] | None = None

    @property
    def is_of_a_person(self) -> bool:
        """True for events about one person, their devices and settings."""
        return bool(self.registers or self.leaves or self.sets)


def named(conversation: Conversation) -> str:
    return f"{conversation.type}:{conversation.id}"


# ---------------------------------------------------------------- devices


def _registration(event: Event) -> Registration:
    data: events.Registered = event.data
    platform = data.platform.lower()[: events.PLATFORM_MAX]  # some letters are two in lower case
    lang = data.lang[: events.LANG_MAX] if data.lang else data.lang
    device = msgspec.structs.asdict(data) | {"platform": platform, "lang": lang}
    return Registration(event.app, device, event.ts_ms, _latest_ms(event))


def _unregistered(event: Event, _ignored: Ignored) -> Leaving:
    data: events.Unregistered = event.data
    return Leaving(event.app, data.user, _latest_ms(event), "unregistered", data.device_id)


def _session_over(reason: str) -> Callable[[Event, Ignored], Leaving | None]:
    def leaving(event: Event, ignored: Ignored) -> Leaving | None:
        data: events.SessionEnded = event.data
        if data.device_id is None and data.platform is None:
            ignored(event, "no_device_no_platform")
            return None
        platform = data.platform.lower() if data.platform is not None else None
        return Leaving(event.app, data.user, _latest_ms(event), reason, data.device_id, platform)

    return leaving


def _latest_ms(event: Event) -> int:
    return latest_ms(event.ts_ms, event.received_ms)


# ---------------------------------------------------------------- marks and badges


def _mark_recall(event: Event, to: Writes) -> None:
    data: events.Recalled = event.data
    to.marks.recall(event.app, named(data.conversation), data.message_id, to.pipe)


def _recall(event: Event) -> Withdrawal:
    data: events.Recalled = event.data
    where = named(data.conversation)
    return Withdrawal(
        event.app, event.id, data.message_id, Kind.RECALL, event.ts_ms, conversation=where
    )


def _mark_end(event: Event, to: Writes) -> None:
    data: events.Ended = event.data
    end = end_at(event.ts_ms, event.received_ms, event.entry)
    to.marks.note_end(event.app, data.call_id, end, to.pipe)
    if data.users is None:
        to.marks.end_call(
            event.app, data.call_id, ended_ms(event.ts_ms, event.received_ms), to.pipe
        )
    for user in data.users or ():
        to.marks.end_call_of(
            event.app, user, data.call_id, ended_ms(event.ts_ms, event.received_ms), to.pipe
        )


def _call_end(event: Event) -> Withdrawal:
    data: events.Ended = event.data
    kind, users = Kind.CALL_CANCEL, data.users
    return Withdrawal(
        event.app,
        event.id,
        data.call_id,
        kind,
        ended_ms(event.ts_ms, event.received_ms),
        users,
        reason=data.reason,
    )


def _read_up_to(event: Event) -> tuple[str, str, str] | None:
    data: events.Read = event.data
    if data.up_to_ms is not None or data.up_to_message_id is None:
        return None
    return event.app, named(data.conversation), data.up_to_message_id


def _mark_read(event: Event, to: Writes) -> None:
    app, data, conversation = event.app, event.data, named(event.data.conversation)
    up_to_ms = data.up_to_ms
    if up_to_ms is None and data.up_to_message_id is not None:
        time_ms = to.times.get((app, conversation, data.up_to_message_id))
        up_to_ms = None if time_ms is None else latest_ms(time_ms, event.received_ms)
    if up_to_ms is not None:
        to.marks.read_up_to(app, data.user, conversation, up_to_ms, to.pipe)
    elif (message_id := data.up_to_message_id or data.message_id) is not None:
        to.marks.read_message(app, data.user, conversation, message_id, event.ts_ms, to.pipe)
    if data.unread is not None:
        to.badges.report(app, data.user, None, event.ts_ms, data.unread, to.pipe)


def _hidden(event: Event, to: Writes) -> None:
    if event.data.badge is not None:
        _report(event, event.data.badge, to)


def _shown(event: Event, to: Writes) -> None:
    _report(event, None, to)


def _report(event: Event, base: int | None, to: Writes) -> None:
    app, data = event.app, event.data
    device = to.names.get((app, data.user, data.device_id), data.device_id)
    to.badges.report(app, data.user, device, event.ts_ms, base, to.pipe)


# ---------------------------------------------------------------- settings

#: A mute may last until any number, but it travels with each message: the queues carry 64 bits.
FOR_EVER_MS: Final = 2**53 - 1


def _settings(event: Event, names: Names) -> dict[str, Any]:
    data: events.SettingsUpdated = event.data
    fields: dict[str, Any] = {}
    for name in ("dnd", "blocked", "show_detail", "mobile_when_desktop_online"):
        value = getattr(data, name)
        if value is not msgspec.UNSET:
            fields[name] = msgspec.to_builtins(value)
    if isinstance(data.mute, events.Mute):
        until_ms = data.mute.until_ms
        muted = {
            "mode": data.mute.mode,
            "until_ms": None if until_ms is None else min(until_ms, FOR_EVER_MS),
        }
        fields[f"mute:{named(data.mute.conversation)}"] = muted
    if isinstance(data.content_key, events.ContentKey):
        device = data.content_key.device_id
        device = names.get((event.app, data.user, device), device)
        fields[f"content_key:{device}"] = data.content_key.key
    return fields


def _device_of(data: Any) -> str | None:
    return str(data.device_id)


def _key_device(data: events.SettingsUpdated) -> str | None:
    given = data.content_key
    return given.device_id if isinstance(given, events.ContentKey) else None


NONE: Final = Effect()
REGISTERED: Final = Effect(registers=_registration)
UNREGISTERED: Final = Effect(leaves=_unregistered)
LOGOUT: Final = Effect(leaves=_session_over("logout"))
KICKED: Final = Effect(leaves=_session_over("kicked"))
SETTINGS: Final = Effect(sets=_settings, device=_key_device)
RECALLED: Final = Effect(marks=_mark_recall, withdraws=_recall)
ENDED: Final = Effect(marks=_mark_end, withdraws=_call_end)
READ: Final = Effect(marks=_mark_read, message=_read_up_to)
BACKGROUND: Final = Effect(marks=_hidden, device=_device_of)
FOREGROUND: Final = Effect(marks=_shown, device=_device_of)
