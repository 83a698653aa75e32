"""The core's streams in a fleet of several shards: each event is handled in its subject's shard."""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, cast

from common.clock import now_ms
from common.storage.scripts import script
from common.storage.shards import shard_of, shard_of_group
from common.storage.streams import GROUP, Entry, StreamStore
from common.storage.unavailable import STORE_UNAVAILABLE
from workers.handlers.intake import (
    READ_EVENTS,
    IntakeHandler,
    IntakeLoop,
    IntakePorts,
    behind,
    entries_of,
    names_a_stranger,
    wakes_of,
)
from workers.handlers.overtaking import Overtaking
from workers.intake import decoding, direct, events
from workers.intake.decoding import Event
from workers.intake.state import OF_PEOPLE
from workers.queues.consumer import Handler, Policy, Stores, StreamConsumer

log = logging.getLogger(__name__)

#: Times the usual read: a call behind more would wait for too long.
READS_MAX: Final = 8
#: Lines of one entry rewritten for one shard, and its approximate bytes.
LINES: Final = decoding.LINES_MAX
BYTES: Final = decoding.ENTRY_BYTES_MAX


def shard_of_event(event: Event, count: int) -> int:
    """The shard that works on an event; a repeat of it comes to the same one."""
    data, app = event.data, event.app
    if isinstance(data, events.Direct):
        return shard_of(count, app, direct.user_of(data.target))
    if isinstance(data, events.Invited):
        return _of_people(count, app, data.invitees, data.call_id)
    if isinstance(data, events.Stored) and data.conversation.type != "group":
        return _of_people(count, app, data.recipients or (), data.conversation.id)
    if isinstance(data, events.Stored | events.Recalled):
        return shard_of_group(count, app, data.conversation.id)
    if isinstance(data, events.Ended):
        return shard_of_group(count, app, data.call_id)
    return shard_of(count, app, data.user)


def _of_people(count: int, app: str, people: Sequence[str], about: str) -> int:
    """Of one person theirs; of several that of what it is about, from where each part goes to its
    people's.
    """
    return (
        shard_of(count, app, people[0])
        if len(set(people)) == 1
        else shard_of_group(count, app, about)
    )


class Sorter:
    """Divides the core's entries by shard.

    A packed entry of several shards is rewritten per shard.
    """

    def __init__(self, source: StreamStore, count: int, ports: IntakePorts) -> None:
        """ports: of shard 0."""
        self._source = source
        self._count = count
        self._ports = ports
        self._part_entries = script(source.redis, "part")
        self._apps: Sequence[str] | None = None  # asked anew in this read
        #: The content of the last call's entries, by stream and id.
        self.reads: dict[tuple[str, bytes], list[decoding.Passed | decoding.Refused]] = {}

    def sorted(self, entries: Sequence[Entry]) -> dict[int, list[Entry]]:
        self.reads, self._apps = {}, None
        found: dict[int, list[Entry]] = {}
        mixed: list[tuple[Entry, list[int]]] = []
        for entry in entries:
            shards = self._shards(entry)
            if len(set(shards)) > 1:
                mixed.append((entry, shards))
            else:
                found.setdefault(shards[0], []).append(entry)
        if mixed:
            self._apply_states(entries, {(entry.stream, entry.id) for entry, _ in mixed})
        for stream in {entry.stream for entry, _ in mixed}:
            self._part(stream, [one for one in mixed if one[0].stream == stream])
        return found

    def _apply_states(self, entries: Sequence[Entry], mixed: Collection[tuple[str, bytes]]) -> None:
        """Applies state events of mixed entries now: their new entries are behind all others.

        They are applied again there, which changes nothing, as the newest `ts` wins.
        """
        states, all_events = list[Event](), list[Event]()
        for name in ((entry.stream, entry.id) for entry in entries):
            events_ = [
                event
                for read in self.reads.get(name, ())
                if isinstance(read, decoding.Passed)
                for event in read.events
            ]
            all_events += events_
            states += [
                event for event in events_ if name in mixed and isinstance(event.data, OF_PEOPLE)
            ]
        later = behind(all_events, states)
        try:
            self._ports.state.apply(
                [event for event in states if event.entry not in later], lambda _event, _why: None
            )
        except STORE_UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - what breaks here breaks again where it is worked on, and is found there
            log.warning(
                "states of a packed entry take effect with its parts",
                extra={"reason": type(error).__name__},
            )

    def _shards(self, entry: Entry) -> list[int]:
        """Of each line of a packed entry; of any other one. What may have ended its readers is not
        read here: where it is worked on, it is worked on alone.
        """
        if entry.is_suspect:
            return [self._any(entry, 0)]
        try:
            reads = self._read(entry, self._apps or self._ports.apps())
            if self._apps is None and self._ports.apps_now is not None and names_a_stranger(reads):
                self._apps = (
                    self._ports.apps_now()
                )  # else a repeat of the event could come to another shard
                reads = self._read(entry, self._apps)
        except Exception:  # noqa: BLE001 - what breaks here breaks again where it is worked on, and is found there
            reads = []
        if reads:
            self.reads[entry.stream, entry.id] = reads
        shards = [self._shard(read, entry, place) for place, read in enumerate(reads)] or [
            self._any(entry, 0)
        ]
        packed = b"b" in entry.fields and b"e" not in entry.fields and not entry.size
        return (
            shards
            if packed and len(reads) == len(decoding.lines_of(entry.fields[b"b"]))
            else shards[:1]
        )

    @staticmethod
    def _read(entry: Entry, apps: Sequence[str]) -> list[decoding.Passed | decoding.Refused]:
        return decoding.read_entries(
            entry.stream, entry.id.decode(), entry.fields, apps, now_ms(), is_whole=not entry.size
        )

    def _shard(self, read: decoding.Passed | decoding.Refused, entry: Entry, place: int) -> int:
        if isinstance(read, decoding.Passed) and read.events:
            return shard_of_event(read.events[0], self._count)
        return self._any(entry, place)

    def _any(self, entry: Entry, place: int) -> int:
        return zlib.crc32(b"%b#%d" % (entry.id, place)) % self._count

    def _part(self, stream: str, mixed: Sequence[tuple[Entry, list[int]]]) -> None:
        """Replaces these entries by one per shard in one step, also on a server without memory.

        A repeated step is recognised by the events' ids.
        """
        by_shard: dict[int, list[bytes]] = {}
        for entry, shards in mixed:
            for shard, line in zip(shards, decoding.lines_of(entry.fields[b"b"]), strict=True):
                by_shard.setdefault(shard, []).append(line)
        packs = [b"\n".join(pack) for lines in by_shard.values() for pack in _packs(lines)]
        leaving = [entry.id for entry, _ in mixed]
        self._part_entries(
            keys=[self._source.name_of(stream)], args=[GROUP, len(leaving), *leaving, *packs]
        )


def _packs(lines: Sequence[bytes]) -> list[list[bytes]]:
    packs: list[list[bytes]] = []
    size = BYTES
    for line in lines:
        if size + len(line) + 1 > BYTES or len(packs[-1]) >= LINES:
            packs.append([])
            size = 0
        packs[-1].append(line)
        size += len(line) + 1
    return packs


class SpreadConsumer(StreamConsumer):
    """Reads as one consumer; the shards' consumers finish what it has read."""

    def __init__(
        self,
        parts: Sequence[StreamConsumer],
        sorter: Sorter,
        handler: Handler,
        policy: Policy,
        stores: Stores,
    ) -> None:
        super().__init__(handler, policy, stores)
        self._parts = parts
        self._sorter = sorter

    def run(
        self, stopping: Callable[[], bool], turn: Callable[[], int], pause: Callable[[], object]
    ) -> None:
        for part in self._parts:
            part.stopping = stopping
        super().run(stopping, turn, pause)
        for part in self._parts:
            with contextlib.suppress(*STORE_UNAVAILABLE):
                part.give_back()

    def once(self) -> int:
        return sum(part.again() for part in self._parts) + super().once()

    def finish(self, entries: Sequence[Entry]) -> None:
        """The shards' consumers keep what could not be written; the first error is raised last."""
        if not entries:
            return
        errors: list[Exception] = []
        with self._renewer.holding(entries):
            try:
                by_shard = self._sorter.sorted(entries)
            except STORE_UNAVAILABLE:
                self._kept += entries
                raise
            for shard, those in by_shard.items():
                try:
                    cast(IntakeHandler, self._parts[shard].handler).known = self._sorter.reads
                    self._parts[shard].finish(those)
                except STORE_UNAVAILABLE as error:
                    errors.append(error)
        if errors:
            raise errors[0]


class _Mean:
    """The loop's view of the shards' handlers: their means."""

    def __init__(self, each: Sequence[IntakeHandler]) -> None:
        self._each = each

    @property
    def can_wait(self) -> float:
        return sum(one.can_wait for one in self._each) / len(self._each)

    @property
    def per_entry(self) -> float:
        return max(one.per_entry for one in self._each)


class SpreadIntakeLoop(IntakeLoop):
    """As IntakeLoop, of several shards. doors: of each."""

    def __init__(self, streams: Sequence[str], doors: Sequence[IntakePorts]) -> None:
        super().__init__(streams, doors[0])
        handlers = [IntakeHandler(one) for one in doors]
        whole: Any = self.consumer
        stores = [
            Stores(one.streams, one.delayed, one.vault, wakes_of(one), self._source)
            for one in doors
        ]
        parts = [
            StreamConsumer(handler, whole.policy, store)
            for handler, store in zip(handlers, stores, strict=True)
        ]
        sorter = Sorter(self._source, len(doors), doors[0])
        self.consumer = SpreadConsumer(parts, sorter, handlers[0], whole.policy, stores[0])
        self._overtaking = Overtaking(self._source, self._streams, self.consumer.finish)
        self._handler: Any = _Mean(handlers)
        self._reads = min(len(doors), READS_MAX)
        self._bound()

    def _bound(self) -> None:
        """Multiplies the read size, as each read is divided by the shards: commits stay full."""
        self._counts |= dict.fromkeys(
            self._streams, self._reads * entries_of(READ_EVENTS, self._handler.per_entry)
        )
