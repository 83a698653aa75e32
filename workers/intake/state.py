"""State events -> the stores: registry, settings, badges, and the marks that stop what is queued.
Newest `ts` wins everywhere.

A read of the core's stream holds hundreds of them, and chats wait behind: each kind goes by a few
statements and one pipeline, however many events there are. Kinds do not depend on each other's
order, but a person's registrations and logouts do. What an event of a type changes: effects.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, text

from common.storage import preferences, registry
from common.storage.badges import Badges
from common.storage.bindings import Binding
from common.storage.marks import EventMarks
from workers.intake.effects import Ignored, Names, Times, Withdrawal, Writes
from workers.intake.event_types import effect_of
from workers.intake.events import Event


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
            _settings(connection, batch, names)
            times = self._times(connection, batch)
            changed = _changed(batch, bindings)
            with (
                self._marks.pipeline() as pipe
            ):  # while our transaction holds the rows nobody else's marks of them can cross ours
                people.changing(changed, pipe)
                self._marks.bindings.put(bindings, pipe)
                writes = Writes(self._marks, self._badges, pipe, names, times)
                for event in batch:
                    if (marks := effect_of(event).marks) is not None:
                        marks(event, writes)
                pipe.execute()
        people.changed(changed)
        return [withdraws(event) for event in batch if (withdraws := effect_of(event).withdraws)]

    def withdraw_elsewhere(self, event: Event) -> None:
        """Marks a recall, or a call's end, in all shards but the event's own, which is away: it is
        applied there when that is back.
        """
        effect = effect_of(event)
        if effect.withdraws is not None and effect.marks is not None:
            own = self._marks.pipeline()  # which is not sent
            effect.marks(event, Writes(self._marks, self._badges, own, {}, {}))

    def _times(self, connection: Connection, batch: Sequence[Event]) -> Times:
        """The storing times of the messages up to which people read, where known."""
        named = (read(event) for event in batch if (read := effect_of(event).message))
        wanted = sorted({message for message in named if message is not None})
        found = self._marks.times_of(wanted)
        return {**_times_kept(connection, [one for one in wanted if one not in found]), **found}


def _changed(batch: Sequence[Event], bindings: Sequence[Binding]) -> set[tuple[str, str]]:
    """People whose devices or settings changed: named, or without a token now."""
    named = {(event.app, event.data.user) for event in batch if effect_of(event).is_of_a_person}
    return named | {(app, user) for app, user, _, _ in bindings}


# ---------------------------------------------------------------- the registry


def _registry(connection: Connection, batch: Sequence[Event], ignored: Ignored) -> list[Binding]:
    """Registrations and logouts, in rounds.

    The events of a person, and of a token, keep the stream's order; the first ones of all go
    together.
    """
    rounds: dict[int, list[Event]] = {}
    reached: dict[tuple[str, ...], int] = {}
    for event in batch:
        effect = effect_of(event)
        leaving = effect.leaves is not None
        if not leaving and effect.registers is None:
            continue
        names: list[tuple[str, ...]] = [(event.app, event.data.user)]
        if effect.registers is not None:
            names += effect.registers(event).token_keys
        at = max(reached.get(name, 0) for name in names)
        at += at % 2 != leaving  # even rounds register, odd ones leave
        reached |= dict.fromkeys(names, at)
        rounds.setdefault(at, []).append(event)
    bindings: list[Binding] = []
    for at in sorted(rounds):
        bindings += (_leave if at % 2 else _register)(connection, rounds[at], ignored)
    return bindings


def _register(connection: Connection, batch: Sequence[Event], ignored: Ignored) -> list[Binding]:
    made = [make(event) for event in batch if (make := effect_of(event).registers)]
    registered = registry.register(connection, made)
    for event, news in zip(batch, registered.news, strict=True):
        if not news:
            ignored(event, "older_state")
    return list(registered.bindings)


def _leave(connection: Connection, batch: Sequence[Event], ignored: Ignored) -> list[Binding]:
    made = (make(event, ignored) for event in batch if (make := effect_of(event).leaves))
    return registry.leave(connection, [one for one in made if one is not None])


def _names(batch: Sequence[Event]) -> list[tuple[str, str, str]]:
    """Device names in events, each perhaps a push id: (app, user, name)."""
    return [
        (event.app, event.data.user, name)
        for event in batch
        if (device := effect_of(event).device) and (name := device(event.data)) is not None
    ]


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
        if (sets := effect_of(event).sets) is None:
            continue
        data = event.data
        for kind in ("mute", "content_key"):
            if getattr(data, kind) is None:
                preferences.apply(connection, words)
                words = []
                preferences.clear_all(connection, event.app, data.user, kind, event.ts_ms)
        words += [
            (event.app, data.user, field, value, event.ts_ms)
            for field, value in sets(event, names).items()
        ]
    preferences.apply(connection, words)
