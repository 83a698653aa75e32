"""The core's streams in a fleet of several shards on a cluster: each event is handled in its
subject's shard.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from common.clock import now_ms
from common.storage.away import SlotAwayError
from common.storage.cluster import slot_of
from common.storage.scripts import script
from common.storage.streams import GROUP, Entry, StreamStore
from common.storage.unavailable import if_store_answers, store_unavailable
from workers.handlers.intake import (
    FLOW_REST_S_MAX,
    READ_BYTES,
    SMALL_READ,
    IntakeHandler,
    IntakeLoop,
    IntakePorts,
    behind,
    names_a_stranger,
    wakes_of,
)
from workers.handlers.joint_intake import (
    Turns,
    events_of,
    shard_of_any,
    shard_of_event,
    shard_of_read,
)
from workers.handlers.overtaking import Overtaking
from workers.handlers.shard_part import ShardPart, bytes_of
from workers.handlers.unseen import Unseen
from workers.intake import decoding
from workers.intake.event_types import effect_of
from workers.intake.events import Event
from workers.queues.consumer import Policy, Stores, StreamConsumer
from workers.queues.lease_renewer import RENEW_S

if TYPE_CHECKING:
    from workers.intake.state import StateKeeper

log = logging.getLogger(__name__)

#: Times the usual read: a call behind more would wait for too long.
READS_MAX: Final = 8
#: Bytes of such a read: with usual messages its entries, not the bytes, are what bounds it.
SPREAD_READ_BYTES: Final = 2 * READ_BYTES
#: Lines of one entry rewritten for one shard, and its approximate bytes.
LINES: Final = decoding.LINES_MAX
BYTES: Final = decoding.ENTRY_BYTES_MAX
#: Entries, and bytes of them, that may wait in this process for shards that are away; then it reads
#: nothing more.
WAITING_MAX: Final = 20_000
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024


#: What one event of an entry became.
Read: TypeAlias = Event | decoding.Passed | decoding.Refused


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
        self._apps: Collection[str] | None = None  # asked anew in this read
        #: The content of the last call's entries, by stream and id.
        self.reads: dict[tuple[str, bytes], Sequence[Read]] = {}

    def sorted(self, entries: Sequence[Entry]) -> list[dict[int, list[Entry]]]:
        """By turn and shard (Turns)."""
        self.reads, self._apps = {}, None
        found: list[dict[int, list[Entry]]] = [{}]
        mixed: list[tuple[Entry, list[int]]] = []
        turns = Turns()
        for entry in entries:
            shards = self._shards(entry)
            if len(set(shards)) > 1:
                mixed.append((entry, shards))
                continue
            reads = self.reads.get((entry.stream, entry.id), ())
            if turns.begins(reads, shards[0]):
                found.append({})
            found[-1].setdefault(shards[0], []).append(entry)
        if mixed:
            self._apply_states(entries, {(entry.stream, entry.id) for entry, _ in mixed})
        for stream in {entry.stream for entry, _ in mixed}:
            self._part(stream, [one for one in mixed if one[0].stream == stream])
        return [turn for turn in found if turn]

    def _apply_states(self, entries: Sequence[Entry], mixed: Collection[tuple[str, bytes]]) -> None:
        """Applies state events of mixed entries now: their new entries are behind all others.

        They are applied again there, which changes nothing, as the newest `ts` wins.
        """
        states, all_events = list[Event](), list[Event]()
        for name in ((entry.stream, entry.id) for entry in entries):
            events_ = [event for read in self.reads.get(name, ()) for event in events_of(read)]
            all_events += events_
            states += [
                event for event in events_ if name in mixed and effect_of(event).is_of_a_person
            ]
        later = behind(all_events, states)
        by_shard: dict[int, list[Event]] = {}
        for event in states:
            if event.entry not in later:
                by_shard.setdefault(shard_of_event(event, self._count), []).append(event)
        for those in by_shard.values():
            self._apply(those)

    def _apply(self, states: Sequence[Event]) -> None:
        try:
            self._ports.state.apply(states, lambda _event, _why: None)
        except SlotAwayError:  # they wait with their entry
            return
        except store_unavailable():
            raise
        except Exception as error:  # noqa: BLE001 - what breaks here breaks again where it is worked on, and is found there
            log.warning(
                "states of a packed entry take effect with its parts",
                extra={"reason": type(error).__name__},
            )

    def _shards(self, entry: Entry) -> list[int]:
        """The shards of a packed entry's lines, or of any other entry.

        An entry that may have killed its readers is not read here: it is handled alone in its
        shard.
        """
        if entry.is_suspect:
            return [shard_of_any(entry, 0, self._count)]
        apps_now = self._ports.apps_now
        try:
            reads = _read(entry, self._apps or self._ports.apps())
            if type(reads[0]) is Event and len(reads) == 1:  # nearly every entry
                self.reads[entry.stream, entry.id] = reads
                return [shard_of_event(reads[0], self._count)]
            if self._apps is None and apps_now is not None and names_a_stranger(reads):
                self._apps = apps_now()  # else a repeat of the event could come to another shard
                reads = _read(entry, self._apps)
        except Exception:  # noqa: BLE001 - what breaks here breaks again where it is worked on, and is found there
            reads = ()
        if reads:
            self.reads[entry.stream, entry.id] = reads
        count = self._count
        shards = [shard_of_read(read, entry, place, count) for place, read in enumerate(reads)]
        shards = shards or [shard_of_any(entry, 0, count)]
        packed = b"b" in entry.fields and b"e" not in entry.fields and not entry.size
        return (
            shards
            if packed and len(reads) == len(decoding.lines_of(entry.fields[b"b"]))
            else shards[:1]
        )

    def _part(self, stream: str, mixed: Sequence[tuple[Entry, list[int]]]) -> None:
        """Replaces these entries by one per shard in one step, also on a server without memory.

        A repeated step is recognised by the events' ids.
        """
        found: list[dict[int, list[bytes]]] = [{}]
        turns = Turns()
        for entry, shards in mixed:
            lines = decoding.lines_of(entry.fields[b"b"])
            reads = self.reads[entry.stream, entry.id]
            for shard, line, read in zip(shards, lines, reads, strict=True):
                if turns.begins((read,), shard):
                    found.append({})
                found[-1].setdefault(shard, []).append(line)
        each = [lines for turn in found for lines in turn.values()]
        packs = [b"\n".join(pack) for lines in each for pack in _packs(lines)]
        leaving = [entry.id for entry, _ in mixed]
        self._part_entries(
            keys=[self._source.name_of(stream)], args=[GROUP, len(leaving), *leaving, *packs]
        )


def _read(entry: Entry, apps: Collection[str]) -> Sequence[Read]:
    return decoding.read_quickly(
        entry.stream, entry.id.decode(), entry.fields, apps, now_ms(), is_whole=not entry.size
    )


def _events_in(ports: IntakePorts, entry: Entry) -> Sequence[Event]:
    """The readable events of an entry; none of one that may have ended its readers."""
    if entry.is_suspect:
        return ()
    try:
        reads = _read(entry, ports.apps())
    except Exception:  # noqa: BLE001 - what breaks here breaks again where it is worked on, and is found there
        return ()
    return [event for read in reads for event in events_of(read)]


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


def _withdraw_elsewhere(state: StateKeeper, event: Event) -> None:
    with if_store_answers():
        state.withdraw_elsewhere(event)


#: Seconds that a process which is to end goes on with what it has read; its end may take 15 s, of
#: which one shard's part may take the rest.
FINISH_S: Final = 5.0


class SpreadConsumer(StreamConsumer):
    """Reads as one consumer; the shards' consumers finish what it has read, and keep what waits for
    a shard that is away.
    """

    def __init__(
        self,
        parts: Sequence[ShardPart],
        sorter: Sorter,
        policy: Policy,
        stores: Stores,
    ) -> None:
        super().__init__(parts[0].consumer.handler, policy, stores)
        self._parts = parts
        self._sorter = sorter
        self.finish_s = FINISH_S
        self._ends_at: float | None = None
        self._renew_at = 0.0
        self._error: Exception | None = None  # for which the last part began to wait

    def run(
        self, stopping: Callable[[], bool], turn: Callable[[], int], pause: Callable[[], object]
    ) -> None:
        for part in self._parts:
            part.consumer.stopping = stopping
        super().run(stopping, turn, pause)
        with if_store_answers():
            for part in self._parts:
                part.give_back()

    def once(self, waits: bool = False) -> int:
        """Reads nothing while all shards wait, or too much does."""
        self._renew_waiting()
        done = sum(part.again() for part in self._parts)
        if self._is_full():
            if done:
                return done
            raise self._error or SlotAwayError(-1)
        return done + super().once(waits)

    def _is_full(self) -> bool:
        if all(part.waits for part in self._parts):
            return True
        if not any(part.holds for part in self._parts):  # nearly always
            return False
        held = [entry for part in self._parts for entry in part.held]
        return len(held) >= WAITING_MAX or sum(map(bytes_of, held)) >= WAITING_BYTES_MAX

    def _renew_waiting(self) -> None:
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_S
            for part in self._parts:
                part.renew()

    def finish(self, entries: Sequence[Entry]) -> None:
        """The parts keep what could not be written; an error is raised only when that is all of it,
        or all of them wait. When the process is to end and its time is over, the shards whose turn
        has not come leave theirs to others.
        """
        if not entries:
            return
        errors = list[Exception | None]()
        with self._renewer.holding(entries):
            try:
                turns = self._sorter.sorted(entries)
            except store_unavailable():
                self._kept += entries
                raise
            for shard, those in (part for turn in turns for part in turn.items()):
                if self._over():
                    self._source.release(those)
                    continue
                with if_store_answers():
                    self._renew_waiting()
                errors.append(self._parts[shard].take(those, self._sorter.reads))
                self._error = errors[-1] or self._error
                self.progress_at = time.monotonic()
        nothing = all(errors) or all(part.waits for part in self._parts)
        if errors and nothing and self._error is not None:
            raise self._error

    def _over(self) -> bool:
        """True once finish_s have passed since the process was first seen to be about to end."""
        if not self.stopping():
            return False
        now = time.monotonic()
        self._ends_at = now + self.finish_s if self._ends_at is None else self._ends_at
        return now >= self._ends_at


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


#: Shards with which intake's longest rest after a small read is twice as long as with one, shards
#: with which twice as many events are a small read, and how many times both are at most: each shard
#: that a read has something for costs a commit and a round of its own here, whether of one event or
#: of hundreds.
SHARDS_TWICE_THE_REST: Final = 8
SHARDS_TWICE_AS_MANY: Final = 4
TIMES_MAX: Final = 5


class SpreadIntakeLoop(IntakeLoop):
    """As IntakeLoop, of several shards. ports: of each."""

    read_bytes = SPREAD_READ_BYTES

    def __init__(self, streams: Sequence[str], ports: Sequence[IntakePorts]) -> None:
        super().__init__(streams, ports[0])
        handlers = [IntakeHandler(one) for one in ports]
        whole: Any = self.consumer
        stores = [
            Stores(one.streams, one.delayed, one.vault, wakes_of(one), self._source)
            for one in ports
        ]
        home = slot_of(ports[0].streams.redis)
        parts = [
            ShardPart(
                StreamConsumer(handler, whole.policy, store),
                self._source,
                one.streams.redis.ping,
                partial(_events_in, one),
                partial(_withdraw_elsewhere, one.state),
                {home, slot_of(one.streams.redis)},
                Unseen(one.away_of),
            )
            for one, handler, store in zip(ports, handlers, stores, strict=True)
        ]
        sorter = Sorter(self._source, len(ports), ports[0])
        self.consumer = SpreadConsumer(parts, sorter, whole.policy, stores[0])
        self._overtaking = Overtaking(self._source, self._streams, self.consumer.finish)
        self._handler = cast(Any, _Mean(handlers))
        # each read is divided by the shards: commits stay full
        self.reads = min(len(ports), READS_MAX)
        count = len(ports)
        self.rest_s_max = FLOW_REST_S_MAX * min(1 + count / SHARDS_TWICE_THE_REST, TIMES_MAX)
        self.small_read = int(SMALL_READ * min(1 + count / SHARDS_TWICE_AS_MANY, TIMES_MAX))
        self._bound()
