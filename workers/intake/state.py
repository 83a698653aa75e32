"""State events -> the stores: registry, settings, badges, and the marks that stop what is queued.
Newest `ts` wins everywhere.

A read of the core's stream holds hundreds of them, and chats wait behind: each kind goes by a few
statements and one pipeline, however many events there are. Kinds do not depend on each other's
order, but a person's registrations and logouts do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from common.contracts import Conversation
from common.model import Kind
from common.storage import preferences, registry
from common.storage.badges import Badges
from common.storage.bindings import Binding
from common.storage.marks import EventMarks
from common.storage.registry import Leaving, Registration
from workers.intake import events
from workers.intake.decoding import Event

Ignored = Callable[[Event, str], None]

#: (app, user, push id) -> device id.
Names = Mapping[tuple[str, str, str], str]
#: (app, conversation, message id) -> its ts, ms.
Times = dict[tuple[str, str, str], int]


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


#: Events about one person, their devices and settings.
OF_PEOPLE = (events.Registered, events.Unregistered, events.SessionEnded, events.SettingsUpdated)


class StateKeeper:
    """Applies the state events of one read as if one after the other, in one transaction."""

    def __init__(self, engine: Engine, badges: Badges, marks: EventMarks) -> None:
        self._engine = engine
        self._badges = badges
        self._marks = marks

    def apply(self, batch: Sequence[Event], ignored: Ignored) -> list[Withdrawal]:
        """Applies the whole batch or nothing (SQL); returns the withdrawals.

        ignored: called for each event that changes nothing, with the reason.
        """
        if not batch:
            return []
        people = self._marks.people
        with self._engine.begin() as connection:
            bindings = _registry(connection, batch, ignored)
            names = registry.named(connection, _names(batch))
            _settings(
                connection,
                [event for event in batch if isinstance(event.data, events.SettingsUpdated)],
                names,
            )
            times = self._times(
                connection, [event for event in batch if isinstance(event.data, events.Read)]
            )
            changed = _changed(batch, bindings)
            with (
                self._marks.pipeline() as pipe
            ):  # while our transaction holds the rows nobody else's marks of them can cross ours
                people.changing(changed, pipe)
                self._marks.bindings.put(bindings, pipe)
                for event in batch:
                    self._tell(pipe, event, names, times)
                pipe.execute()
        people.changed(changed)
        return [one for one in map(_withdrawal, batch) if one is not None]

    def _times(self, connection: Connection, reads: Sequence[Event]) -> Times:
        """The storing times of the messages up to which people read, where known."""
        named = ((event.app, event.data) for event in reads if event.data.up_to_ms is None)
        asked = sorted(
            {
                (app, _named(read.conversation), read.up_to_message_id)
                for app, read in named
                if read.up_to_message_id is not None
            }
        )
        found = self._marks.times_of(asked)
        return {**_times_kept(connection, [one for one in asked if one not in found]), **found}

    def _tell(self, pipe: Any, event: Event, names: Names, times: Times) -> None:
        """Marks and badges of one event."""
        app, data = event.app, event.data
        if isinstance(data, events.Recalled):
            self._marks.recall(app, _named(data.conversation), data.message_id, pipe)
        elif isinstance(data, events.Ended):
            if data.users is None:
                self._marks.end_call(app, data.call_id, event.ts_ms, pipe)
            for user in data.users or ():
                self._marks.end_call_of(app, user, data.call_id, event.ts_ms, pipe)
        elif isinstance(data, events.Read):
            self._read(pipe, event, times)
        elif isinstance(data, events.Background | events.Foreground):
            base = data.badge if isinstance(data, events.Background) else None
            if base is not None or isinstance(data, events.Foreground):
                device = names.get((app, data.user, data.device_id), data.device_id)
                self._badges.report(app, data.user, device, event.ts_ms, base, pipe)

    def _read(self, pipe: Any, event: Event, times: Times) -> None:
        app, data = event.app, event.data
        conversation = _named(data.conversation)
        up_to_ms = data.up_to_ms
        if up_to_ms is None and data.up_to_message_id is not None:
            up_to_ms = times.get((app, conversation, data.up_to_message_id))
        if up_to_ms is not None:
            self._marks.read_up_to(app, data.user, conversation, up_to_ms, pipe)
        elif (message_id := data.up_to_message_id or data.message_id) is not None:
            self._marks.read_message(app, data.user, conversation, message_id, event.ts_ms, pipe)
        if data.unread is not None:
            self._badges.report(app, data.user, None, event.ts_ms, data.unread, pipe)


def _changed(batch: Sequence[Event], bindings: Sequence[Binding]) -> set[tuple[str, str]]:
    """People whose devices or settings changed: named, or without a token now."""
    named = {(event.app, event.data.user) for event in batch if isinstance(event.data, OF_PEOPLE)}
    return named | {(app, user) for app, user, _, _ in bindings}


def _withdrawal(event: Event) -> Withdrawal | None:
    data = event.data
    if isinstance(data, events.Recalled):
        return Withdrawal(
            event.app,
            event.id,
            data.message_id,
            Kind.RECALL,
            event.ts_ms,
            conversation=_named(data.conversation),
        )
    if isinstance(data, events.Ended):
        return Withdrawal(
            event.app,
            event.id,
            data.call_id,
            Kind.CALL_CANCEL,
            event.ts_ms,
            data.users,
            reason=data.reason,
        )
    return None


def _named(conversation: Conversation) -> str:
    return f"{conversation.type}:{conversation.id}"


# ---------------------------------------------------------------- the registry


def _registry(connection: Connection, batch: Sequence[Event], ignored: Ignored) -> list[Binding]:
    """Registrations and logouts, in rounds.

    A person's events keep the stream's order; the first events of all people go together.
    """
    rounds: dict[int, list[Event]] = {}
    reached: dict[tuple[str, str], int] = {}
    for event in batch:
        leaving = isinstance(event.data, events.Unregistered | events.SessionEnded)
        if not leaving and not isinstance(event.data, events.Registered):
            continue
        person = (event.app, event.data.user)
        at = reached.get(person, 0)
        at += at % 2 != leaving  # even rounds register, odd ones leave
        reached[person] = at
        rounds.setdefault(at, []).append(event)
    bindings: list[Binding] = []
    for at in sorted(rounds):
        bindings += (_leave if at % 2 else _register)(connection, rounds[at], ignored)
    return bindings


def _register(connection: Connection, batch: Sequence[Event], ignored: Ignored) -> list[Binding]:
    registered = registry.register(
        connection, [Registration(event.app, _device(event.data), event.ts_ms) for event in batch]
    )
    for event, news in zip(batch, registered.news, strict=True):
        if not news:
            ignored(event, "older_state")
    return list(registered.bindings)


def _device(data: events.Registered) -> dict[str, Any]:
    platform = data.platform.lower()[: events.PLATFORM_MAX]  # some letters are two in lower case
    return msgspec.structs.asdict(data) | {
        "platform": platform,
        "lang": data.lang[: events.LANG_MAX] if data.lang else data.lang,
    }


def _leave(connection: Connection, batch: Sequence[Event], ignored: Ignored) -> list[Binding]:
    return registry.leave(
        connection, [one for event in batch if (one := _leaving(event, ignored)) is not None]
    )


def _leaving(event: Event, ignored: Ignored) -> Leaving | None:
    data = event.data
    if isinstance(data, events.Unregistered):
        return Leaving(event.app, data.user, event.ts_ms, "unregistered", data.device_id)
    if data.device_id is None and data.platform is None:
        ignored(event, "no_device_no_platform")
        return None
    reason = "kicked" if event.type == "session.kicked" else "logout"
    platform = data.platform.lower() if data.platform is not None else None
    return Leaving(event.app, data.user, event.ts_ms, reason, data.device_id, platform)


def _names(batch: Sequence[Event]) -> list[tuple[str, str, str]]:
    """Device names in events, each perhaps a push id: (app, user, name)."""
    named = []
    for event in batch:
        data = event.data
        if isinstance(data, events.Background | events.Foreground):
            named.append((event.app, data.user, data.device_id))
        elif isinstance(data, events.SettingsUpdated) and isinstance(
            data.content_key, events.ContentKey
        ):
            named.append((event.app, data.user, data.content_key.device_id))
    return named


# ---------------------------------------------------------------- times and settings

_TIMES = text(
    "SELECT app, conversation, message_id, max(ts_ms) FROM events"
    " JOIN unnest(CAST(:apps AS text[]), CAST(:conversations AS text[]), CAST(:ids AS "
    "text[])) AS m (app, conversation, message_id)"
    " USING (app, conversation, message_id) WHERE type = 'message.stored' GROUP BY app, "
    "conversation, message_id"
)


def _times_kept(connection: Connection, messages: Sequence[tuple[str, str, str]]) -> Times:
    """The ledger's ts of these (app, conversation, message id), where known; one query."""
    if not messages:
        return {}
    apps, conversations, ids = zip(*messages, strict=True)
    rows = connection.execute(
        _TIMES, {"apps": list(apps), "conversations": list(conversations), "ids": list(ids)}
    )
    return {
        (app, conversation, message_id): int(ts_ms) for app, conversation, message_id, ts_ms in rows
    }


def _settings(connection: Connection, batch: Sequence[Event], names: Names) -> None:
    """One statement for all, except those that clear every field of a kind.

    Earlier events are applied before these.
    """
    words: list[preferences.Word] = []
    for event in batch:
        data: events.SettingsUpdated = event.data
        for kind in ("mute", "content_key"):
            if getattr(data, kind) is None:
                preferences.apply(connection, words)
                words = []
                preferences.clear_all(connection, event.app, data.user, kind, event.ts_ms)
        words += [
            (event.app, data.user, field, value, event.ts_ms)
            for field, value in _fields(event, names).items()
        ]
    preferences.apply(connection, words)


def _fields(event: Event, names: Names) -> dict[str, Any]:
    """The fields that the event names, as the settings table keeps them."""
    data: events.SettingsUpdated = event.data
    fields: dict[str, Any] = {}
    for name in ("dnd", "blocked", "show_detail", "mobile_when_desktop_online"):
        value = getattr(data, name)
        if value is not msgspec.UNSET:
            fields[name] = msgspec.to_builtins(value)
    if isinstance(data.mute, events.Mute):
        key = f"mute:{data.mute.conversation.type}:{data.mute.conversation.id}"
        fields[key] = {"mode": data.mute.mode, "until_ms": data.mute.until_ms}
    if isinstance(data.content_key, events.ContentKey):
        device = data.content_key.device_id
        fields[f"content_key:{names.get((event.app, data.user, device), device)}"] = (
            data.content_key.key
        )
    return fields
