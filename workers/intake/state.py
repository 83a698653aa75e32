"""State events -> the stores: registry, settings, badges, and the marks that stop what is queued. Newest `ts` wins everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from common.model import Decision, Kind
from common.storage import devices, preferences
from common.storage.badges import Badges
from common.storage.marks import Marks
from workers.intake import events
from workers.intake.stage import Event


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What was shown of a message (or call) must go. users: only these people's, None: everybody's."""

    app: str
    event_id: str
    message_id: str
    kind: Kind
    ts_ms: int
    users: tuple[str, ...] | None = None


class StateKeeper:
    """Applies the state events of one read, in stream order, in one transaction."""

    def __init__(self, engine: Engine, badges: Badges, marks: Marks) -> None:
        self._engine = engine
        self._badges = badges
        self._marks = marks

    def apply(self, batch: Sequence[Event], ignored: Callable[[Event, str], None]) -> list[Withdrawal]:
        """All of the batch or none (SQL); what has to be withdrawn. ignored: told of each event that changes nothing, with the reason."""
        if not batch:
            return []
        withdrawals: list[Withdrawal] = []
        with self._engine.begin() as connection:
            for event in batch:
                withdrawal = self._one(connection, event, ignored)
                if withdrawal is not None:
                    withdrawals.append(withdrawal)
        return withdrawals

    def _one(self, connection: Connection, event: Event, ignored: Callable[[Event, str], None]) -> Withdrawal | None:
        data = event.data
        if isinstance(data, events.Recalled):
            self._marks.withdraw(event.app, data.message_id, Decision.RECALLED)
            return Withdrawal(event.app, event.id, data.message_id, Kind.RECALL, event.ts_ms)
        if isinstance(data, events.Ended):
            return self._call_ended(event)
        if isinstance(data, events.Read):
            self._read(connection, event)
        elif isinstance(data, events.Registered):
            if not self._registered(connection, event):
                ignored(event, "older_state")
        elif isinstance(data, events.Unregistered):
            self._leave(event, devices.unbind(connection, event.app, data.user, event.ts_ms, "unregistered", device_id=data.device_id))
        elif isinstance(data, events.SessionEnded):
            self._session_ended(connection, event, ignored)
        elif isinstance(data, events.Background) and data.badge is not None:
            self._badges.report(
                event.app, data.user, devices.named(connection, event.app, data.user, data.device_id), event.ts_ms, data.badge
            )
        elif isinstance(data, events.Foreground):
            self._badges.report(event.app, data.user, devices.named(connection, event.app, data.user, data.device_id), event.ts_ms, None)
        elif isinstance(data, events.SettingsUpdated):
            _settings(connection, event)
        return None

    def _session_ended(self, connection: Connection, event: Event, ignored: Callable[[Event, str], None]) -> None:
        data: events.SessionEnded = event.data
        if data.device_id is None and data.platform is None:
            ignored(event, "no_device_no_platform")
            return
        reason = "kicked" if event.type == "session.kicked" else "logout"
        platform = data.platform.lower() if data.platform is not None else None
        self._leave(event, devices.unbind(connection, event.app, data.user, event.ts_ms, reason, data.device_id, platform))

    def _registered(self, connection: Connection, event: Event) -> bool:
        """Whether the event says anything new. While our transaction holds the rows nobody else's marks of them can cross ours."""
        data: events.Registered = event.data
        platform = data.platform.lower()[: events.PLATFORM_MAX]  # some letters are two in lower case
        kept = {"platform": platform, "lang": data.lang[: events.LANG_MAX] if data.lang else data.lang}
        device_data = msgspec.structs.asdict(data) | kept
        told = devices.register(connection, event.app, device_data, event.ts_ms)
        for user, lost in told.displaced:
            self._marks.leave(event.app, user, lost, told.since_ms)
        if told.active:
            self._marks.come(event.app, data.user, data.device_id)
        return told.changed

    def _leave(self, event: Event, left: Sequence[str]) -> None:
        for device in left:
            self._marks.leave(event.app, event.data.user, device, event.ts_ms)

    def _call_ended(self, event: Event) -> Withdrawal:
        data: events.Ended = event.data
        if data.users is None:
            self._marks.withdraw(event.app, data.call_id, Decision.CALL_ENDED)
        for user in data.users or ():
            self._marks.end_call_of(event.app, user, data.call_id, event.ts_ms)
        return Withdrawal(event.app, event.id, data.call_id, Kind.CALL_CANCEL, event.ts_ms, data.users)

    def _read(self, connection: Connection, event: Event) -> None:
        data: events.Read = event.data
        conversation = f"{data.conversation.type}:{data.conversation.id}"
        if data.up_to_ms is not None:
            self._marks.read_up_to(event.app, data.user, conversation, data.up_to_ms)
        elif data.up_to_message_id is not None:
            known = self._marks.time_of(event.app, data.up_to_message_id) or _time_of(connection, event.app, data.up_to_message_id)
            if known is None:
                self._marks.read_message(event.app, data.user, data.up_to_message_id, event.ts_ms)
            else:
                self._marks.read_up_to(event.app, data.user, conversation, known)
        elif data.message_id is not None:
            self._marks.read_message(event.app, data.user, data.message_id, event.ts_ms)
        if data.unread is not None:
            self._badges.report(event.app, data.user, None, event.ts_ms, data.unread)


_TIME = text("SELECT max(ts_ms) FROM events WHERE app = :app AND message_id = :id AND type = 'message.stored'")


def _time_of(connection: Connection, app: str, message_id: str) -> int | None:
    found = connection.execute(_TIME, {"app": app, "id": message_id}).scalar()
    return int(found) if found is not None else None


def _settings(connection: Connection, event: Event) -> None:
    data: events.SettingsUpdated = event.data
    fields: dict[str, Any] = {}
    for name in ("dnd", "blocked", "show_detail", "mobile_when_desktop_online"):
        value = getattr(data, name)
        if value is not msgspec.UNSET:
            fields[name] = msgspec.to_builtins(value)
    if isinstance(data.mute, events.Mute):
        key = f"mute:{data.mute.conversation.type}:{data.mute.conversation.id}"
        fields[key] = {"mode": data.mute.mode, "until_ms": data.mute.until_ms}
    elif data.mute is None:
        preferences.clear_all(connection, event.app, data.user, "mute", event.ts_ms)
    if isinstance(data.content_key, events.ContentKey):
        device = devices.named(connection, event.app, data.user, data.content_key.device_id)
        fields[f"content_key:{device}"] = data.content_key.key
    elif data.content_key is None:
        preferences.clear_all(connection, event.app, data.user, "content_key", event.ts_ms)
    preferences.apply(connection, event.app, data.user, fields, event.ts_ms)
