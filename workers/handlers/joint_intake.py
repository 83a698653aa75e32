"""The core's streams in a fleet whose shards lie on one server: a read is worked on in all shards
at once, and one commit writes what follows in each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from redis.client import Pipeline

from common.clock import now_ms
from common.storage.keys import LEDGER
from common.storage.marks import MarksAsked
from common.storage.shards import shard_of, shard_of_group
from common.storage.streams import Entry
from workers.handlers.intake import (
    FLOW_REST_S_MAX,
    Counted,
    IntakeHandler,
    IntakeLoop,
    IntakePorts,
    count_all,
    usual_commit,
)
from workers.intake import decoding
from workers.intake.calls import Read
from workers.intake.event_types import TYPES, effect_of
from workers.intake.events import Event
from workers.queues.consumer import Commit, Letter, packed_records


def shard_of_event(event: Event, count: int) -> int:
    """The shard that works on an event; a repeat of it comes to the same one."""
    name, is_group = TYPES[event.type].subject(event.data)
    return (shard_of_group if is_group else shard_of)(count, event.app, name)


def shard_of_read(
    read: Event | decoding.Passed | decoding.Refused, entry: Entry, place: int, count: int
) -> int:
    """The shard of one event of an entry, readable or not."""
    if type(read) is Event:
        return shard_of_event(read, count)
    if isinstance(read, decoding.Passed) and read.events:
        return shard_of_event(read.events[0], count)
    return shard_of_any(entry, place, count)


def shard_of_any(entry: Entry, place: int, count: int) -> int:
    """The same one each time the entry is read."""
    return zlib.crc32(b"%b#%d" % (entry.id, place)) % count


def events_of(read: Event | decoding.Passed | decoding.Refused) -> Sequence[Event]:
    if isinstance(read, Event):
        return (read,)
    return read.events if isinstance(read, decoding.Passed) else ()


#: The type of nearly all events.
USUAL: Final = "message.stored"


class Turns:
    """A read is worked on shard by shard. Where a token's users of one time are of two shards, the
    stream's order would be lost, by which the last one has it: with that one a new turn of all
    shards begins.
    """

    def __init__(self) -> None:
        self._shards: dict[tuple[str, str, str, int], int] = {}  # of a token and a time

    def begins(
        self, reads: Sequence[Event | decoding.Passed | decoding.Refused], shard: int
    ) -> bool:
        """True when a new turn begins with these, which are of one shard."""
        if len(reads) == 1 and type(one := reads[0]) is Event and one.type == USUAL:
            return False
        events = [event for read in reads for event in events_of(read)]
        made = [makes(event) for event in events if (makes := effect_of(event).registers)]
        names = [
            (*name, one.ts_ms)
            for one in made
            for name in (one.token_key, one.voip_key)
            if name is not None
        ]
        begins = any(self._shards.get(name, shard) != shard for name in names)
        if begins:
            self._shards = {}
        self._shards |= dict.fromkeys(names, shard)
        return begins


#: Shards for which intake leaves one more turn to what comes next: a small read costs the more, and
#: its rounds do, the more shards it has something for; and the shards with which its longest rest
#: is twice as long as with one, and no longer with more.
SHARDS_A_TURN: Final = 4
SHARDS_TWICE: Final = 32


class JointIntakeLoop(IntakeLoop):
    """As IntakeLoop, of several shards. Its reads are no larger: more events than a processor's
    caches hold cost more than what each shard's part of a read does (measured with 16).
    """

    def __init__(self, streams: Sequence[str], ports: Sequence[IntakePorts]) -> None:
        """ports: of each shard."""
        super().__init__(streams, ports[0], handler=JointIntake(ports))
        self.more_turns = len(ports) / SHARDS_A_TURN
        self.rest_s_max = FLOW_REST_S_MAX * (1 + min(len(ports) / SHARDS_TWICE, 1))


#: Of a shard's part: its entries, and what its handler says of them.
_Told: TypeAlias = tuple[int, float, float]


class JointIntake:
    """As IntakeHandler, which it has one of for each shard."""

    def __init__(self, ports: Sequence[IntakePorts]) -> None:
        """ports: of each shard."""
        self._ports = ports
        self.others = [one.streams.keys for one in ports[1:]]
        self._each = [IntakeHandler(one) for one in ports]
        self.can_wait = 0.0
        self.per_entry = 1.0

    def handle(self, entries: Sequence[Entry]) -> Commit:
        now = now_ms()
        commits, told = dict[int, Commit](), list[_Told]()
        usual, counted = Commit(), list[Counted]()
        for parts in self._by_shard(self._each[0].reads(entries, now)):
            onward, each = self._worked(parts, now)
            usual += onward
            for number, (commit, one) in each.items():
                commits[number] = commits[number] + commit if number in commits else commit
                counted.append(one)
            handlers = [(len(part), self._each[number]) for number, part in parts.items()]
            told += [(count, one.can_wait, one.per_entry) for count, one in handlers]
        total = sum(count for count, *_ in told)
        self.can_wait = sum(count * can_wait for count, can_wait, _ in told) / max(total, 1)
        self.per_entry = sum(count * per_entry for count, _, per_entry in told) / len(entries)
        return self._joint(commits, usual + Commit(after=[lambda: count_all(counted)]))

    def _worked(
        self, parts: Mapping[int, Sequence[Read]], now: int
    ) -> tuple[Commit, Mapping[int, tuple[Commit, Counted]]]:
        """The commit of the usual events of all shards, and by shard that of the others."""
        steps = {
            number: self._each[number].steps(part, now, divided=True)
            for number, part in parts.items()
        }
        asked: list[MarksAsked] = [next(one) for one in steps.values()]
        told = self._ports[0].marks.repeats_in(asked)
        usual = [one.send(mine) for one, mine in zip(steps.values(), told, strict=True)]
        onward, left = usual_commit(self._ports[0].shortcut, usual)
        each = zip(steps.items(), left, strict=True)
        return onward, {number: one.send(mine) for (number, one), mine in each}

    def _by_shard(self, reads: Sequence[Read]) -> list[dict[int, list[Read]]]:
        """In turns. Of a packed entry each shard has its own lines."""
        turns, count = Turns(), len(self._each)
        found: list[dict[int, list[Read]]] = [{}]
        for entry, contents in reads:
            if len(contents) == 1 and type(event := contents[0]) is Event and event.type == USUAL:
                # nearly every entry
                found[-1].setdefault(shard_of_event(event, count), []).append((entry, contents))
                continue
            for place, one in enumerate(contents):
                number = shard_of_read(one, entry, place, count)
                if turns.begins((one,), number):
                    found.append({})
                part = found[-1].setdefault(number, [])
                if place and part and part[-1][0] is entry:
                    cast(list[Any], part[-1][1]).append(one)
                else:
                    part.append((entry, [one]))
        return found

    def _joint(self, commits: Mapping[int, Commit], usual: Commit) -> Commit:
        """One commit. Its records lie in one shard, each time another: one writer reads those of a
        server.
        """
        ledger = self._ports[next(iter(commits), 0)].streams
        every = [*commits.values(), usual]
        rows = [row for commit in every for row in commit.rows]
        whole: list[Callable[[Pipeline], object]] = [
            self._of_shard(number, commit)
            for number, commit in commits.items()
            if commit.forward or commit.deferred or commit.extra
        ]
        whole += usual.extra
        if rows:
            blobs = [(LEDGER, blob) for blob in packed_records(rows)]
            whole.append(lambda pipe: ledger.add(pipe, blobs))
        return Commit(
            extra=whole,
            wake=frozenset(wake for commit in every for wake in commit.wake),
            after=[do for commit in every for do in commit.after],
        )

    def _of_shard(self, number: int, commit: Commit) -> Callable[[Pipeline], object]:
        ports = self._ports[number]

        def fill(pipe: Pipeline) -> None:
            ports.streams.add(pipe, commit.forward)
            ports.delayed.put(pipe, commit.deferred)
            for more in commit.extra:
                more(pipe)

        return fill

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        return self._each[0].split(entry)

    def letter(self, entry: Entry) -> Letter:
        return self._each[0].letter(entry)

    def on_leave(self, entry: Entry, reason: str | None) -> Commit:
        """In all shards, as nobody knows which have its events."""
        commits = {number: one.on_leave(entry, reason) for number, one in enumerate(self._each)}
        return self._joint(commits, Commit())
