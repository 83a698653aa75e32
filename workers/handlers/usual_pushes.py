"""Chats of two that differ in little: from intake's events straight to the entries of their lanes.

Whatever is not as usual with an event, its person or their lane, is left to the general way
(shortcut.py), which makes the same of an event: tests/integration/test_usual_pushes.py holds both
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from common.clock import now_ms
from common.contracts import (
    NO_WISHES,
    PLAIN,
    AlikeBatch,
    Device,
    Notification,
    OfflineRecipients,
    Recipient,
    encode,
)
from common.ledger_records import EventColumns, singly
from common.metrics import STAGE_SECONDS
from common.model import Urgency
from common.ports import Presences
from common.storage.lane_entries import NewBatch
from common.storage.lane_queues import LaneQueues, put_all
from common.storage.people import Person
from common.visible_text import shows
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.handlers.routing import RoutingHandler
from workers.intake.event_types import TYPES, take
from workers.intake.events import Event, Stored
from workers.queues.consumer import Commit
from workers.routing.alike import Pattern, like_row, pattern_of
from workers.routing.fan_out import BATCH_MAX, route

if TYPE_CHECKING:
    from workers.handlers.forwarding import Spread

#: The only device of people who are away.
Looked = Mapping[Person, Device]
#: An event, whom it is for, and their only device.
Away = tuple[Event, str, Device]

#: Patterns whose notifications are kept, some KiB each.
PATTERNS_MAX = 5_000
_TTL_MS = PLAIN.ttl_s * 1000


@dataclass(frozen=True, slots=True)
class UsualEvents:
    """Usual events of one shard (`apart`). single: as in Message. queues: the shard's lanes'."""

    events: Sequence[Event]
    single: bool
    queues: LaneQueues | None


def apart(
    stored: Sequence[Event], now: int, spread: Spread | None = None
) -> tuple[list[Event], list[Event]]:
    """The usual events, and the others. spread: other shards' people have nothing usual here.

    A person named in one of the others gets all of theirs the other way, in order.
    """
    usual: list[Event] = []
    others: list[Event] = []
    for event in stored:
        here = _is_usual(event, now) and (
            spread is None or spread.has(event.app, event.data.recipients[0])
        )
        (usual if here else others).append(event)
    if not others or not usual:
        return usual, others
    named = {(event.app, user) for event in others for user in _named(event)}
    behind = {id(event) for event in usual if (event.app, event.data.recipients[0]) in named}
    if not behind:
        return usual, others
    kept = [event for event in usual if id(event) not in behind]
    own = set(map(id, kept))
    return kept, [event for event in stored if id(event) not in own]


def people_of(events: Sequence[Event]) -> list[Person]:
    """Whom usual events are for."""
    return list(dict.fromkeys([(event.app, event.data.recipients[0]) for event in events]))


def _named(event: Event) -> Sequence[str]:
    return TYPES[event.type].people(event.data)


def _is_usual(event: Event, now: int) -> bool:
    data = event.data
    if (
        type(data) is not Stored
        or data.push is not NO_WISHES
        or data.conversation.type != "c2c"
        or event.ts_ms + _TTL_MS <= now
    ):
        return False
    people, elements = data.recipients, data.elements
    if (
        people is None
        or elements is None
        or len(people) != 1
        or len(elements) != 1
        or data.mentions
        or data.exclude
    ):
        return False
    (element,) = elements
    return element.type == "text" and shows(element.text) and people[0] != data.sender.id


class UsualPushes:
    """devices: the only active device of each person with one device and no settings.

    It raises UnknownPeopleError. config: the tenants, accounts and presets: another object after
    each change; until then notifications are kept for other events of their pattern.
    """

    def __init__(
        self,
        presences: Presences,
        devices: Callable[[Sequence[Person]], dict[Person, Device]],
        routing: RoutingHandler,
        config: Callable[[], object],
        old_ledger: Callable[[], bool] = lambda: False,
    ) -> None:
        """old_ledger: as in PresenceHandler."""
        self._presences = presences
        self._devices = devices
        self._routing = routing
        self._config = config
        self._old_ledger = old_ledger
        self._kept_of: object = None
        self._kept: dict[Pattern, Notification] = {}

    def look(self, people: Sequence[Person]) -> Looked:
        """The only device of each of these people, of any shard on this server, who is away and has
        one device and no settings.
        """
        with STAGE_SECONDS.labels(PRESENCE).time():
            sessions, malformed = self._presences.sessions(people)
            if malformed:  # the general way says so
                return {}
            devices = self._devices(people)
            for who, own in zip(people, sessions, strict=True):
                if own or own is None:  # of the unknown the general way knows what to do
                    devices.pop(who, None)
            return devices

    def commit(
        self, parts: Sequence[UsualEvents], looked: Looked
    ) -> tuple[Commit, list[list[Event]]]:
        """The commit of these events of some shards on this server, and of each part the events
        that need the general path.

        looked: of their people, at least.
        """
        with STAGE_SECONDS.labels(PRESENCE).time():
            each = [self._grouped(part.events, looked) for part in parts]
        left = [others for _, others in each]
        if not any(groups for groups, _ in each):
            return Commit(), left
        with STAGE_SECONDS.labels(ROUTING).time():
            return self._routed(parts, [groups for groups, _ in each], left), left

    def _routed(
        self,
        parts: Sequence[UsualEvents],
        each: Sequence[Mapping[Pattern, Sequence[Away]]],
        left: Sequence[list[Event]],
    ) -> Commit:
        """Adds the events that have no pattern to those that are `left`, by part."""
        firsts = {pattern: group[0] for groups in each for pattern, group in groups.items()}
        likes = self._likes(firsts, all(part.single for part in parts), now_ms())
        puts = list[tuple[LaneQueues, list[NewBatch]]]()
        routed: dict[str, list[Event]] = {}
        for part, groups, others in zip(parts, each, left, strict=True):
            batches = list[NewBatch]()
            for pattern, group in groups.items():
                like = likes.get(pattern)
                if like is None or part.queues is None:
                    others += [event for event, *_ in group]
                    continue
                routed.setdefault(pattern[0], []).extend([event for event, *_ in group])
                lots = [group[at : at + BATCH_MAX] for at in range(0, len(group), BATCH_MAX)]
                batches += [_batch(pattern, like, lot, part.single) for lot in lots]
            if batches and part.queues is not None:
                puts.append((part.queues, batches))
        rows = [
            _records(app, events[at : at + BATCH_MAX])
            for app, events in routed.items()
            for at in range(0, len(events), BATCH_MAX)
        ]
        return Commit(
            rows=singly(rows) if self._old_ledger() else rows,
            wake=frozenset((DELIVERY, pattern[1]) for pattern in likes),
            extra=[lambda pipe: put_all(pipe, puts)] if puts else (),
        )

    @staticmethod
    def _grouped(
        events: Sequence[Event], looked: Looked
    ) -> tuple[dict[Pattern, list[Away]], list[Event]]:
        """The events to people away with one device, by their pushes' pattern; and the others."""
        groups: dict[Pattern, list[Away]] = {}
        left: list[Event] = []
        for event in events:
            app, user = event.app, event.data.recipients[0]
            device = looked.get((app, user))
            if device is None:
                left.append(event)
                continue
            pattern = (app, device.vendor, device.business_id, device.lang, device.platform)
            group = groups.get(pattern)
            if group is None:
                groups[pattern] = [(event, user, device)]
            else:
                group.append((event, user, device))
        return groups, left

    def _likes(
        self, firsts: Mapping[Pattern, Away], single: bool, now: int
    ) -> dict[Pattern, Notification]:
        """By pattern a notification that all pushes of it are like, as of now."""
        config = self._config()
        if config is not self._kept_of or len(self._kept) > PATTERNS_MAX:
            self._kept_of, self._kept = config, {}
        kept = self._kept
        found = {
            pattern: replace(kept[pattern], presence_ms=now, routed_ms=now)
            for pattern in firsts
            if pattern in kept
        }
        fresh = self._made(
            [first for pattern, first in firsts.items() if pattern not in found], single, now
        )
        if self._config() is config:  # else they may be of one or the other
            kept |= fresh
        return found | fresh

    def _made(self, firsts: Sequence[Away], single: bool, now: int) -> dict[Pattern, Notification]:
        """Each pattern's notification, from its first event if that becomes a chat's push."""
        ports = self._routing.ports
        offline: list[OfflineRecipients] = []
        by_event: dict[tuple[str, str], Pattern] = {}
        for event, user, device in firsts:
            message = take(event, now).message
            one = OfflineRecipients(
                message=message, recipients=(Recipient(user, (device,), False),), presence_ms=now
            )
            pattern = pattern_of(one, now)
            if pattern is not None and not ports.tenancy.tenant(event.app).options:
                by_event[event.app, event.id] = pattern
                offline.append(one)
        if not offline:
            return {}
        routed = route(offline, ports, now, by_entry=single)
        found: dict[Pattern, Notification] = {}
        for urgency, batch in routed.batches:
            for push in batch.pushes:
                if urgency == Urgency.CHAT:
                    found[by_event[push.note.app, push.note.event_id]] = push.note
        return found


def _batch(pattern: Pattern, like: Notification, group: Sequence[Away], single: bool) -> NewBatch:
    app, vendor, business_id, _, platform = pattern
    rows = [
        like_row(
            event.data,
            event.id,
            event.ts_ms,
            event.received_ms,
            event.ts_ms + _TTL_MS,
            user,
            device,
        )
        for event, user, device in group
    ]
    lot = AlikeBatch(
        app=app,
        vendor=vendor,
        business_id=business_id,
        by_entry=single,
        platform=platform,
        like=like,
        rows=tuple(rows),
    )
    expires_ms = max([row.expires_at_ms for row in rows])
    return NewBatch(
        f"{app}:{vendor}:{business_id}", Urgency.CHAT, encode(lot), len(rows), len(rows), expires_ms
    )


def _records(app: str, events: Sequence[Event]) -> EventColumns:
    """As ledger_rows.event_record has them."""
    return EventColumns(
        app=app,
        type=events[0].type,
        event_ids=[event.id for event in events],
        message_ids=[event.data.message_id for event in events],
        conversations=[f"c2c:{event.data.conversation.id}" for event in events],
        times_ms=[event.ts_ms for event in events],
        received_ms=[event.received_ms for event in events],
    )
