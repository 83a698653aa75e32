"""One shard's part of intake on a cluster: its entries, in order, wait in this process while the
shard is away, and the other shards' go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from common.storage.away import SlotAwayError
from common.storage.streams import Entry, StreamStore
from common.storage.unavailable import store_unavailable
from workers.handlers.intake import IntakeHandler
from workers.handlers.joint_intake import events_of
from workers.handlers.unseen import Unseen
from workers.intake.event_types import TYPES, effect_of
from workers.intake.events import Event
from workers.queues.consumer import Name, StreamConsumer

log = logging.getLogger(__name__)

#: Seconds between two tries of what waits for a shard.
AGAIN_S: Final = 0.25
#: Entries, and about the bytes of them, that are worked on again at once.
AT_ONCE: Final = 256
AT_ONCE_BYTES: Final = 1024 * 1024
#: Waiting entries that are renewed in one step.
RENEWED_AT_ONCE: Final = 500

#: (app, user).
Person: TypeAlias = tuple[str, str]


class ShardPart:
    """ready: asks the shard for anything; raises a store's error while it is away. events: of an
    entry. elsewhere: does what an event that waits does in other shards. slots: the shard's own and
    shard 0's, without which nothing of it is done; another one's absence concerns single events, as
    a recall, which is marked in all shards. What comes for somebody whose registration waits so
    waits behind it, as there is no device to send to before.
    """

    def __init__(
        self,
        consumer: StreamConsumer,
        source: StreamStore,
        ready: Callable[[], object],
        events: Callable[[Entry], Sequence[Event]],
        elsewhere: Callable[[Event], None],
        slots: Collection[int | None],
        unseen: Unseen,
    ) -> None:
        self.consumer = consumer
        self._source = source
        self._ready = ready
        self._events = events
        self._elsewhere = elsewhere
        self._slots = slots
        self._unseen = unseen
        self._waiting: list[Entry] = []
        self._beside: list[Entry] = []
        self._owed: dict[Name, set[Person]] = {}  # whose registrations and logouts are beside
        self._named: dict[Name, set[Person]] = {}  # the people of what is there because of these
        self._next = 0  # the place of what is tried next there
        self._again_at = 0.0

    @property
    def waits(self) -> bool:
        """True while its next entries have to wait behind others."""
        return bool(self._waiting)

    @property
    def holds(self) -> bool:
        """True while anything waits."""
        return bool(self._waiting or self._beside or self._unseen)

    @property
    def held(self) -> Sequence[Entry]:
        """What waits, for this shard or for another one."""
        return [*self._waiting, *self._beside, *self._unseen.entries]

    def take(
        self, entries: Sequence[Entry], reads: Mapping[tuple[str, bytes], Sequence[Any]]
    ) -> Exception | None:
        """Finishes the entries, behind those that wait; the error of an unavailable store, for
        which they wait now. reads: their content.
        """
        error = None
        if self._waiting:
            self._waiting += entries
        else:
            left = self._unseen.apart(entries, lambda one: reads.get((one.stream, one.id), ()))
            cast(IntakeHandler, self.consumer.handler).known = reads
            error = self._finish(left)
        if self._waiting:
            known = [read for one in entries for read in reads.get((one.stream, one.id), ())]
            for event in (event for read in known for event in events_of(read)):
                self._elsewhere(event)
        return error

    def again(self) -> int:
        """Tries what waits; how many entries were finished. Raises where the entries' own server is
        away.
        """
        if not self.holds or time.monotonic() < self._again_at:
            return 0
        self._again_at = time.monotonic() + AGAIN_S
        try:
            self._ready()
        except store_unavailable():
            return 0
        before = len(self.held)
        if self._waiting:
            some = _first(self._waiting)
            mine = self._source.renew(some, counted=True)
            del self._waiting[: len(some)]
            cast(IntakeHandler, self.consumer.handler).known = {}
            self._finish(self._unseen.apart(mine, self._events))
        elif not self._seen_again() and self._beside:
            self._beside_again()
        done = before - len(self.held)
        if done:
            self._again_at = 0.0
            if not self._waiting:
                log.info("a shard is back: its entries go on", extra={"count": done})
        return done

    def _seen_again(self) -> bool:
        """Finishes what waited for a node of the core that answers again; False: nothing."""
        ready = self._unseen.ready()
        try:
            mine = self._source.renew(ready, counted=True) if ready else []
        except store_unavailable():
            self._waiting[:0] = ready
            raise
        cast(IntakeHandler, self.consumer.handler).known = {}
        self._finish(mine)
        return bool(ready)

    def _beside_again(self) -> None:
        """Tries the next one of what waits for other shards. If it waits on, it keeps its place."""
        at = self._next_place()
        entry = self._beside[at]
        mine = self._source.renew([entry], counted=True)
        owed = self._owed.pop(_name(entry), None)
        people = self._named.pop(_name(entry), None)
        del self._beside[at]
        cast(IntakeHandler, self.consumer.handler).known = {}
        self._try(mine)
        if self._beside and self._beside[-1] is entry:
            self._beside.insert(at, self._beside.pop())
            self._named |= {} if people is None else {_name(entry): people}
            at += 1
        elif owed:
            at = 0
        self._next = at

    def _next_place(self) -> int:
        """From `_next` on, of those that wait behind no other one."""
        if not self._owed:
            return self._next if self._next < len(self._beside) else 0
        free, owed = list[int](), set[Person]()
        for at, entry in enumerate(self._beside):
            if owed.isdisjoint(self._named.get(_name(entry), ())):
                free.append(at)
            owed |= self._owed.get(_name(entry), set())
        return next((at for at in free if at >= self._next), 0)

    def renew(self) -> None:
        """Keeps what waits; the death of this process meanwhile condemns no entry."""
        for queue in (self._waiting, self._beside, self._unseen.entries):
            for start in range(0, len(queue), RENEWED_AT_ONCE):
                self._source.renew(queue[start : start + RENEWED_AT_ONCE], counted=False)

    def give_back(self) -> None:
        """Releases what waits; no attempt is counted."""
        held, self._waiting, self._beside = self.held, [], []
        self._owed, self._named = {}, {}
        self._unseen.clear()
        for start in range(0, len(held), RENEWED_AT_ONCE):
            self._source.release(held[start : start + RENEWED_AT_ONCE])

    def _finish(self, entries: Sequence[Entry]) -> Exception | None:
        return self._try(self._apart(entries) if self._owed else entries)

    def _try(self, entries: Sequence[Entry]) -> Exception | None:
        try:
            self.consumer.finish(entries)
        except store_unavailable() as error:
            kept = self.consumer.take_kept()
            if isinstance(error, SlotAwayError) and error.slot not in self._slots:
                return self._without(kept)
            log.warning(
                "a shard is away: its entries wait",
                extra={"count": len(kept), "reason": type(error).__name__},
            )
            self._waiting[:0] = kept
            return error
        return None

    def _without(self, entries: Sequence[Entry]) -> Exception | None:
        """Puts those aside that concern another shard, which is away, and finishes the others."""
        if len(entries) < 2:
            for entry in entries:
                self._put_beside(entry)
            return None
        middle, error = len(entries) // 2, None
        for some in (entries[:middle], entries[middle:]):
            if self._waiting:
                self._waiting += some
            else:
                error = self._finish(some) or error
        return error

    def _apart(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those that need not wait behind what is owed to their people."""
        owed = set[Person]().union(*self._owed.values())
        left = list[Entry]()
        for entry in entries:
            people = _people(self._events(entry))
            if owed.isdisjoint(people):
                left.append(entry)
            else:
                self._named[_name(entry)] = people
                self._put_beside(entry)
                owed |= self._owed.get(_name(entry), set())
        return left

    def _put_beside(self, entry: Entry) -> None:
        self._beside.append(entry)
        devices = [event for event in self._events(entry) if _is_of_a_device(event)]
        if devices:
            self._owed[_name(entry)] = _people(devices)


def bytes_of(entry: Entry) -> int:
    """Of what was read of it: a packed one's, or another dialect's, are not in its blob."""
    return max(len(entry.blob), sum(map(len, entry.fields.values())))


def _name(entry: Entry) -> Name:
    return entry.stream, entry.id


def _is_of_a_device(event: Event) -> bool:
    effect = effect_of(event)
    return effect.registers is not None or effect.leaves is not None


def _people(events: Sequence[Event]) -> set[Person]:
    found = {(one.app, user) for one in events for user in TYPES[one.type].people(one.data)}
    return found | {(one.app, one.data.user) for one in events if effect_of(one).is_of_a_person}


def _first(entries: Sequence[Entry]) -> Sequence[Entry]:
    """As many as are worked on at once."""
    size = 0
    for count, entry in enumerate(entries[:AT_ONCE]):
        size += bytes_of(entry)
        if size > AT_ONCE_BYTES:
            return entries[: count + 1]
    return entries[:AT_ONCE]
