"""The core's streams, read as one of their group. Many replicas share it."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from redis import Redis

from common import metrics
from common.clock import now_ms
from common.contracts import TTL_MAX_S, Message, OfflineRecipients, encode
from common.ledger_records import DeadRecord, EventRecord, NoteRecord, Record
from common.model import Decision, Urgency, Vendor
from common.storage import keys
from common.storage.core_streams import core_streams
from common.storage.delayed import Delayed
from common.storage.marks import EventMarks, MarksAsked, MessageTime
from common.storage.streams import Entry, StreamStore
from common.storage.unavailable import if_store_answers
from common.storage.vault import Vault
from workers.app import PRESENCE, ROUTING
from workers.handlers import usual_pushes
from workers.handlers.ledger_rows import event_record, step
from workers.handlers.overtaking import Overtaking
from workers.handlers.presence import packed_offline, presence_stream
from workers.handlers.shortcut import Shortcut
from workers.intake import decoding
from workers.intake.calls import Read, in_order_of
from workers.intake.decoding import Refused
from workers.intake.directed import Directed, TokenPushes
from workers.intake.effects import Withdrawal
from workers.intake.event_types import TYPES, Way, effect_of, take
from workers.intake.events import Event, SettingsUpdated, Stored
from workers.intake.messages import PASSED_OVER, by_preset
from workers.queues.consumer import Commit, Letter, Policy, Stores, StreamConsumer
from workers.routing.consent import zone_named
from workers.routing.fan_out import urgency_of

if TYPE_CHECKING:
    from workers.handlers.forwarding import Spread
    from workers.handlers.joint_intake import JointIntake
    from workers.intake.state import StateKeeper

log = logging.getLogger(__name__)

#: Entries of one read, and about how many events where entries hold several: more would keep a call
#: waiting.
READ_COUNT = 2_000
READ_EVENTS = 2_000
#: ... of a read right behind a wait: a burst's first pushes leave while the rest is read.
FIRST_EVENTS = 400
INTAKE = "intake"
#: People of one read that go the short way: more would keep the next read waiting.
SHORT_WAY_MAX = 5_000
#: Share of a full read from which intake looks past entries that can wait.
CAN_WAIT_SHARE = 0.5
#: Bytes of one read: packed by the hundred, some thousands of events.
READ_BYTES = 2 * 1024 * 1024
BLOCK_MS = 2_000
TAKEOVER_EVERY_S = 5.0
#: Reads of fewer events are small: after one of them a process leaves as many turns to each of the
#: other replicas as it had, and where reads follow each other within FLOW_S, so many to what comes
#: next; up to these times. Else each entry finds a process that waits for it, and what a read and
#: its rounds cost is paid once an entry. Between two looks at how many replicas there are.
SMALL_READ = 100
FLOW_S = 0.02
FLOW_TURNS = 4
FLOW_REST_S_MAX = 0.02
#: ... of each of the replicas: together they read as often as one.
FLOW_REST_S_ALL = 0.08
#: After fewer entries than that intake waits for the next ones without looking for them first.
FEW = 10
REST_S_MAX = 0.02
REPLICAS_EVERY_S = 5.0
#: Messages of one entry on the presence stream, and about how many bytes of them (of dead letters,
#: on the ledger's).
PACK_MAX = 200
PACK_BYTES = 512 * 1024
#: Assumed size of a group whose members are not named: hundreds of groups in one entry would be a
#: hundred thousand people, more than a process reads before its lease ends.
MEMBERS_GUESSED = 200
#: Bytes of all fields of an entry that is read whole: those of the event, and of the names beside
#: it.
ENTRY_FIELDS_MAX = decoding.ENTRY_BYTES_MAX + 8 * 1024


#: Yields a MarksAsked and is sent its answer, yields its usual events and is sent those of them
#: that need the general path, yields the commit of all others and a Counted.
Steps: TypeAlias = Generator[Any, Any, None]


#: (app, id) -> the preset of that name, None where there is none.
PresetOf = Callable[[str, str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class IntakePorts:
    """The ports of intake's consumer."""

    core: Redis
    streams: StreamStore
    marks: EventMarks
    state: StateKeeper
    vault: Vault
    apps: Callable[[], Collection[str]]
    wake: Callable[[str, Vendor | None], None]
    delayed: Delayed
    withdraw: Callable[[Sequence[Withdrawal]], None]
    directly: TokenPushes = field(kw_only=True)
    shortcut: Shortcut | None = None
    spread: Spread | None = None  # of a fleet of several shards
    apps_now: Callable[[], Collection[str]] | None = (
        None  # as `apps`, not from memory: asked before a tenant counts as unknown
    )
    replicas: Callable[[], int] = lambda: 1  # live processes of intake
    preset_of: PresetOf = lambda _app, _name: None
    #: The node of the core's cluster that has this person's or group's key, while it is away.
    away_of: Callable[[str, str, bool], str | None] = lambda _app, _name, _is_group: None


_NOTHING = Commit()


class IntakeHandler:
    """Turns entries of the core into messages, state changes and dead letters.

    can_wait: share of the last read's events that are not urgent. per_entry: mean events per entry.
    """

    def __init__(self, ports: IntakePorts) -> None:
        self._ports = ports
        self.can_wait = 0.0
        self.per_entry = 1.0
        #: The decoded content of the next entries, where already read: by stream and id.
        self.known: Mapping[tuple[str, bytes], Sequence[Event | decoding.Passed | Refused]] = {}

    def handle(self, entries: Sequence[Entry]) -> Commit:
        ports, now = self._ports, now_ms()
        steps = self.steps(self.reads(entries, now), now)
        asked = next(steps)
        usual = steps.send(ports.marks.repeats(asked.events, asked.messages))
        onward, left = usual_commit(ports.shortcut, [usual])
        commit, counted = steps.send(left[0])
        return cast(Commit, onward + commit + Commit(after=[lambda: count_all([counted])]))

    def steps(self, reads: Sequence[Read], now: int, *, divided: bool = False) -> Steps:
        """As `handle`; what it asks is answered by the caller, for several shards together, who
        also commits its usual events and counts. divided: each content is of this shard, as far as
        its first event tells.
        """
        ports, found = self._ports, _sorted(reads)
        events = [(event.app, event.id, event.entry) for event in found.fresh]
        # with the times of messages: a read report beside them names one of them
        found.divide((yield MarksAsked(ports.marks, events, _times(found.fresh))))
        fresh, repeated, refused = found.fresh, found.repeated, found.refused
        stored, direct, states = _apart(fresh)
        self.per_entry = (found.read + len(refused)) / len(reads)
        shortcut = (
            ports.shortcut if ports.shortcut is not None and ports.shortcut.is_open() else None
        )
        quick = shortcut is not None and shortcut.usual is not None
        spread = None if divided and not found.several else ports.spread
        usual, stored = usual_pushes.apart(stored, now, spread) if quick else ([], stored)
        # nearly always all are usual
        plain = len(usual) == len(fresh) and not repeated and not refused
        beside = Beside() if plain else self._beside(found, (stored, direct, states), now)
        self.can_wait = _that_can_wait(beside.messages) / max(len(fresh), 1)
        single = all(entry.deliveries == 1 for entry, _ in reads)
        queues = shortcut.queues if shortcut is not None else None
        left = yield usual_pushes.UsualEvents(usual, single, queues)
        usual_only = plain and not left
        commit = _NOTHING if usual_only else self._commit(beside, left, shortcut, single, now)
        yield commit, Counted(found, beside.ignored)

    def _commit(
        self,
        beside: Beside,
        left: Sequence[Event],
        shortcut: Shortcut | None,
        single: bool,
        now: int,
    ) -> Commit:
        """What follows from all but usual events. left: those of them that go the general way."""
        ports, directed = self._ports, beside.directed
        more, records = _taken(left, ports.preset_of, now)
        messages, onward = [*beside.messages, *more], Commit()
        if messages or directed.offline:
            onward = self._onward(shortcut, messages, directed.offline, single)
        if beside.later:
            ports.state.apply(beside.later, beside.ignore)
        # The waits come first: what is decided on the way ends its own. So do the events: in the
        # ledger's writer each waits for an outcome behind it.
        tells = directed.taken or directed.decisions
        return (
            Commit(
                extra=[lambda pipe: ports.directly.tell(pipe, directed)] if tells else (),
                rows=[*beside.records, *records],
            )
            + onward
        )

    def _beside(
        self, found: Sorted, parts: tuple[list[Event], list[Event], list[Event]], now: int
    ) -> Beside:
        """What follows from all but usual events; states are applied. parts: as `_apart` has."""
        ports, (stored, direct, states) = self._ports, parts
        beside = Beside(*_taken(stored, ports.preset_of, now))
        beside.directed, records = self._directed(direct, found.repeated, now)
        beside.records += records
        later = behind(found.fresh, states)
        beside.later = [event for event in states if event.entry in later]
        first = [event for event in states if event.entry not in later] if later else states
        # without such events the registry's libraries are not loaded
        withdrawals = ports.state.apply(first, beside.ignore) if first else []
        beside.records += self._records_beside(states, found.refused, found.repeated, now)
        ports.withdraw([*withdrawals, *beside.directed.withdrawals])
        return beside

    def _directed(
        self, direct: Sequence[Event], repeated: Sequence[Event], now: int
    ) -> tuple[Directed, list[Record]]:
        """Pushes to tokens with their records, and what became of those that come again."""
        directed = self._ports.directly.take(direct, now)
        records = [event_record(message, decision) for message, decision in directed.taken]
        passed = [_passed_over(message, wish, now) for message, wish in directed.passed_over]
        directed.decisions += self._ports.directly.again(
            [event for event in repeated if TYPES[event.type].way is Way.TOKEN]
        )
        return directed, [*records, *directed.rows, *passed]

    def _records_beside(
        self,
        states: Sequence[Event],
        refused: Sequence[Refused],
        repeated: Sequence[Event],
        now: int,
    ) -> list[Record]:
        """Records of events that are no message: taken back, refused, or repeated."""
        return [
            *_taken_back(states),
            *(_dead(one, self._ports.vault, now) for one in refused),
            *(
                _repeated(event, now)
                for event in repeated
                if TYPES[event.type].way is not Way.STATE
            ),
        ]

    def _onward(
        self,
        shortcut: Shortcut | None,
        messages: Sequence[Message],
        offline: Sequence[OfflineRecipients],
        single: bool,
    ) -> Commit:
        """Continues here with the people of this shard, and forwards the rest.

        single: as in Message.
        """
        spread = self._ports.spread
        if spread is None:
            return _onward(shortcut, messages, offline, single)
        if single:
            messages = [msgspec.structs.replace(message, single=True) for message in messages]
        mine, out = spread.messages(messages)
        away, away_out = spread.offline(offline)
        return _onward(shortcut, mine, away, single) + out + away_out

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        if b"e" in entry.fields or b"b" not in entry.fields or entry.size:
            return [entry.fields]
        return [{b"e": line} for line in decoding.lines_of(entry.fields[b"b"])]

    def letter(self, entry: Entry) -> Letter:
        names = {**decoding.names_of(entry.fields), "stream": entry.stream}
        if b"e" in entry.fields:
            return Letter(entry.fields[b"e"][: decoding.ENTRY_BYTES_MAX], names)
        return Letter(entry.fields.get(b"b", b"")[: decoding.ENTRY_BYTES_MAX], {**names, "as": "b"})

    def on_leave(self, entry: Entry, _reason: str | None) -> Commit:
        """Gives back the event ids that the entry took: published again, its event is no repeat."""
        try:
            apps, whole = self._ports.apps(), not entry.size
            reads = decoding.read_entries(
                entry.stream, entry.id.decode(), entry.fields, apps, now_ms(), is_whole=whole
            )
        except Exception:  # noqa: BLE001 - then reading is what broke, and nothing was taken
            return Commit()
        passed = [read for read in reads if isinstance(read, decoding.Passed)]
        taken = [(event.app, event.id, event.entry) for read in passed for event in read.events]
        return Commit(extra=[lambda pipe: self._ports.marks.free(taken, pipe)])

    def reads(self, entries: Sequence[Entry], now: int) -> list[Read]:
        """The entries with their content."""
        ports, found = self._ports, list[Read]()
        apps = ports.apps()
        asked = (
            ports.apps_now is None
        )  # once a read: unknown tenants by the thousand cost no more than one
        known, self.known = self.known, {}
        for entry in entries:
            if not known and (event := _usual(entry, apps, now)) is not None:
                found.append((entry, (event,)))
                continue
            reads = (known and known.get((entry.stream, entry.id))) or _read(entry, apps, now)
            if (
                not asked
                and (len(reads) != 1 or type(reads[0]) is Refused)
                and names_a_stranger(reads)
            ):
                apps, asked = ports.apps_now() if ports.apps_now else apps, True
                reads = _read(entry, apps, now)
            found.append((entry, reads))
        return in_order_of(found, ports.marks.ends_of)


def _sorted(reads: Sequence[Read]) -> Sorted:
    """All events as fresh ones, so far."""
    found = Sorted()
    events = found.fresh
    for entry, contents in reads:
        for one in contents:
            if isinstance(one, Event):
                events.append(one)
            elif isinstance(one, Refused):
                found.refused.append(one)
            else:
                found.read += 1 - len(one.events)
                found.several = found.several or len(one.events) > 1
                events += one.events
                if one.ignored is not None or one.unknown_fields or one.mended:
                    found.odd.append((entry, one))
    found.read += len(events)
    return found


@dataclass(slots=True)
class Beside:
    """What follows from a read's events that are not usual. later: states that are applied after
    its messages; ignored: why an event changed nothing, by its entry.
    """

    messages: list[Message] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    directed: Directed = field(default_factory=Directed)
    later: list[Event] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)

    def ignore(self, event: Event, why: str) -> None:
        self.ignored[event.entry] = why


@dataclass(slots=True)
class Sorted:
    """A read's events: new ones in stream order, repeated ones, refused ones.

    It also has the number of readable events, and where an event was passed over. several: events
    of one content may be of several shards.
    """

    fresh: list[Event] = field(default_factory=list)
    repeated: list[Event] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    read: int = 0
    odd: list[tuple[Entry, decoding.Passed]] = field(default_factory=list)
    several: bool = False

    def divide(self, repeats: Sequence[bool]) -> None:
        """repeats: which of the fresh events are none."""
        if True in repeats:
            events, self.fresh = self.fresh, []
            for event, repeat in zip(events, repeats, strict=True):
                (self.repeated if repeat else self.fresh).append(event)

    def add(self, other: Sorted) -> None:
        self.fresh += other.fresh
        self.repeated += other.repeated
        self.refused += other.refused
        self.odd += other.odd
        self.read += other.read

    def count(self, ignored: Mapping[str, str]) -> None:
        """ignored: why an event changed nothing, by its entry."""
        for refused in self.refused:
            metrics.EVENTS.labels(refused.type, "dead_letter").inc()
        for entry, read in self.odd:
            if read.ignored is not None:
                _ignored(read.ignored)
                metrics.EVENTS.labels("unknown", "ignored").inc()
            if read.unknown_fields:
                dialect = entry.fields.get(b"d", b"native").decode("utf-8", "replace")
                metrics.UNKNOWN_FIELDS.labels(metrics.dialect(dialect)).inc(read.unknown_fields)
            if read.mended:
                metrics.IGNORED.labels("bad_characters").inc(read.mended)
        if zones := sum(
            names_unknown_zone(event) for event in self.fresh if type(event.data) is not Stored
        ):
            metrics.IGNORED.labels("unknown_tz").inc(zones)
        for event in self.repeated:
            metrics.EVENTS.labels(event.type, "duplicate").inc()
        for why in ignored.values():
            _ignored(why)
        of_no_effect = (
            Counter([event.type for event in self.fresh if event.entry in ignored])
            if ignored
            else Counter[str]()
        )
        for kind, count in Counter([event.type for event in self.fresh]).items():
            for result, part in (
                ("accepted", count - of_no_effect[kind]),
                ("ignored", of_no_effect[kind]),
            ):
                if part:
                    metrics.EVENTS.labels(kind, result).inc(part)


@dataclass(frozen=True, slots=True)
class Counted:
    """A read of one shard, and why events of it changed nothing, by their entries."""

    found: Sorted
    ignored: Mapping[str, str]


def count_all(reads: Sequence[Counted]) -> None:
    """Counts what was read in some shards, once it is written."""
    joint = Sorted()
    for one in reads:
        if one.ignored:  # an entry may have events of several shards
            one.found.count(one.ignored)
        else:
            joint.add(one.found)
    joint.count({})


def usual_commit(
    shortcut: Shortcut | None, parts: Sequence[usual_pushes.UsualEvents]
) -> tuple[Commit, Sequence[Sequence[Event]]]:
    """The commit of usual events, and of each part those that need the general path."""
    if shortcut is None or not any(part.events for part in parts):
        return Commit(), [part.events for part in parts]
    return shortcut.usual_commit(parts)


def _apart(fresh: Sequence[Event]) -> tuple[list[Event], list[Event], list[Event]]:
    """Messages and calls, pushes to tokens, and what changes a state; each in stream order."""
    messages, tokens, states = list[Event](), list[Event](), list[Event]()
    for event in fresh:
        way = TYPES[event.type].way
        (messages if way is Way.MESSAGE else tokens if way is Way.TOKEN else states).append(event)
    return messages, tokens, states


def behind(fresh: Sequence[Event], states: Sequence[Event]) -> frozenset[str]:
    """Entries of settings that come after all messages of the read to their person.

    They take effect when those messages are routed: what goes by the streams of presence and
    routing is judged by the state there.
    """
    if not any(effect_of(event).sets for event in states):
        return frozenset()
    last: dict[tuple[str, str], int] = {}
    settings = [(place, event) for place, event in enumerate(fresh) if effect_of(event).sets]
    for place, event in enumerate(fresh):
        last |= {(event.app, user): place for user in TYPES[event.type].people(event.data)}
    return frozenset(
        event.entry
        for place, event in settings
        if last.get((event.app, event.data.user), place) < place
    )


def _onward(
    shortcut: Shortcut | None,
    messages: Sequence[Message],
    offline: Sequence[OfflineRecipients],
    single: bool,
) -> Commit:
    """Messages to few people on to delivery at once, the others by the streams. single: as in
    Message.
    """
    if shortcut is None:
        return _by_streams(messages, offline, single)
    short: list[Message] = []
    others: list[Message] = []
    people = 0
    for message in messages:
        chosen = short if people < SHORT_WAY_MAX and shortcut.takes(message) else others
        chosen.append(message)
        people += len(message.recipients or ()) if chosen is short else 0
    commit, left = shortcut.commit(short, offline, single)
    return commit + _by_streams([*left, *others], (), single)


def _by_streams(
    messages: Sequence[Message], offline: Sequence[OfflineRecipients], single: bool
) -> Commit:
    if single:
        messages = [msgspec.structs.replace(message, single=True) for message in messages]
        offline = [
            msgspec.structs.replace(one, message=msgspec.structs.replace(one.message, single=True))
            for one in offline
        ]
    forward = packed_messages(messages)
    forward += [(keys.routing(urgency), blob) for urgency, blob in packed_offline(offline)]
    return Commit(
        forward=forward,
        wake=frozenset(
            (stage, None) for stage, given in ((PRESENCE, messages), (ROUTING, offline)) if given
        ),
    )


def _usual(entry: Entry, apps: Collection[str], now: int) -> Event | None:
    """A message without overrides; None: `_read` tells."""
    if entry.size or len(entry.fields) != 1:
        return None
    name, received_ms = entry.id.decode(), int(entry.id.partition(b"-")[0])
    return decoding.read_usual_event(entry.blob, apps, f"{entry.stream}/{name}", received_ms, now)


def _read(
    entry: Entry, apps: Collection[str], now: int
) -> Sequence[Event | decoding.Passed | Refused]:
    return decoding.read_quickly(
        entry.stream, entry.id.decode(), entry.fields, apps, now, is_whole=not entry.size
    )


def names_unknown_zone(event: Event) -> bool:
    """True for a registration or a setting whose time zone counts as none."""
    data: Any = event.data
    if isinstance(data, SettingsUpdated):
        data = data.dnd
    name = getattr(data, "tz", None)
    return isinstance(name, str) and bool(name) and zone_named(name) is None


def names_a_stranger(reads: Sequence[Event | decoding.Passed | Refused]) -> bool:
    """True when an event names a tenant that is not registered, as far as this process knows."""
    return any(type(read) is Refused and read.reason == decoding.UNKNOWN_APP for read in reads)


def wakes_of(ports: IntakePorts) -> Callable[[str, Vendor | None], None]:
    """Intake itself looks all the time and need not be woken."""
    return lambda stage, vendor: None if stage == INTAKE else ports.wake(stage, vendor)


class IntakeLoop:
    """Intake's process: reads the core's streams until it is stopped."""

    #: Bytes of one read, and how many times the usual number of events.
    read_bytes = READ_BYTES
    reads = 1
    #: Turns left to what comes next beyond FLOW_TURNS, and for how long at most.
    more_turns = 0.0
    rest_s_max = FLOW_REST_S_MAX
    small_read = SMALL_READ
    #: Seconds that reads have been full before it is asked whether calls lie behind what can't
    #: wait either: the look costs a tenth of what a chat costs here, and a short burst is over.
    calls_wait_s = 0.2

    def __init__(
        self,
        streams: Sequence[str],
        ports: IntakePorts,
        nap: Callable[[float], object] = time.sleep,
        handler: JointIntake | None = None,
    ) -> None:
        """handler: of a fleet of several shards."""
        self._streams = list(streams)
        self._nap = nap
        limits = ENTRY_FIELDS_MAX, decoding.ENTRY_BYTES_MAX, ports.streams.takeover_idle_ms
        self._source = core_streams(ports.core, self._streams, ports.streams.keys, *limits)
        # the fencing of takeovers guards such reads, and it is of one server
        one_commit = ports.spread is None or handler is not None
        self._source.reads_open = ports.core is ports.streams.redis and one_commit
        others = handler.others if handler is not None else ()
        own = (ports.streams, ports.delayed, ports.vault, wakes_of(ports), self._source)
        stores = Stores(*own, others=others)
        self._counts = dict.fromkeys(self._streams, READ_COUNT)
        policy = Policy(
            INTAKE,
            self._counts,
            bytes_max=self.read_bytes,
            reclaim_max=READ_COUNT,
            reclaim_every_s=TAKEOVER_EVERY_S,
            keeps_order=True,
        )
        self._handler: IntakeHandler | JointIntake = handler or IntakeHandler(ports)
        self.consumer = StreamConsumer(self._handler, policy, stores)
        self._overtaking = Overtaking(self._source, self._streams, self.consumer.finish)
        self._count_replicas = ports.replicas
        self._replicas, self._counted_at = 1, float("-inf")
        self._ended_at = float("-inf")
        self._full_from = math.inf  # since when each read was full of what can't wait

    @property
    def progress_at(self) -> float:
        return self.consumer.progress_at

    def run(self, stopping: Callable[[], bool]) -> None:
        """Runs until `stopping`.

        It waits for an unavailable store and acknowledges nothing before.
        """
        self.consumer.run(stopping, self._turn, lambda: self._wait(BLOCK_MS))

    def once(self, block_ms: int = BLOCK_MS) -> int:
        """One read; the number of entries that were finished."""
        return self._turn() or self._wait(block_ms)

    def _turn(self) -> int:
        """One read. waits: `_wait` follows where nothing came."""
        began = time.monotonic()
        return self._finished(self.consumer.once(waits=True), began)

    def _wait(self, block_ms: int) -> int:
        """A read as soon as something comes, of all that is there then: a commit costs the same.

        Nothing else is looked for where the wait was longer than between entries that flow.
        """
        asked = time.monotonic()
        entries = self._source.wait(self._streams, block_ms)
        began = time.monotonic()
        first = self.reads * entries_of(FIRST_EVENTS, self._handler.per_entry)
        left = {name: min(count, first) - len(entries) for name, count in self._counts.items()}
        if entries and min(left.values()) > 0 and began - asked < FLOW_S:
            with if_store_answers():  # the commit meets it too, and the entries are kept
                entries += self._source.read_weighted(left, self.read_bytes)
        self.consumer.silent = len(entries) < min(FEW, first)
        self.consumer.finish(entries)
        return self._finished(len(entries), began)

    def _finished(self, done: int, began: float) -> int:
        """After a full read it looks for entries that are more urgent than what it brought; the
        number with those.
        """
        if done < next(iter(self._counts.values())):
            self._full_from = math.inf
        elif self._handler.can_wait > CAN_WAIT_SHARE:
            done += self._overtaking.turn()
        else:
            self._full_from = min(self._full_from, began)
            if time.monotonic() - self._full_from > self.calls_wait_s:
                done += self._overtaking.call_turn()
        self._bound()
        self._leave_turns(done, began)
        return done

    def _leave_turns(self, done: int, began: float) -> None:
        """Rests after a small read that began then, so that the next ones are larger."""
        if not 0 < done * self._handler.per_entry < self.small_read:
            return
        now, flows = time.monotonic(), began - self._ended_at < FLOW_S * max(self._replicas, 1)
        if now - self._counted_at > REPLICAS_EVERY_S:
            with if_store_answers():
                self._replicas = self._count_replicas()
            self._counted_at = now
        seconds = now - began
        rest_s = min((self._replicas - 1) * seconds, REST_S_MAX)
        if flows:
            turns = FLOW_TURNS + self.more_turns
            one_s = min(turns * seconds, self.rest_s_max)
            rest_s = max(rest_s, min(self._replicas * one_s, FLOW_REST_S_ALL))
        if rest_s > 0:  # nobody may be seen to live yet
            self._nap(rest_s)
        self._ended_at = time.monotonic()

    def _bound(self) -> None:
        """Sizes the next read for about READ_EVENTS events, at the last read's events per entry."""
        self._counts |= dict.fromkeys(
            self._streams, self.reads * entries_of(READ_EVENTS, self._handler.per_entry)
        )


def entries_of(events: int, per_entry: float) -> int:
    """The number of entries that hold about `events` events, at `per_entry` events an entry."""
    return min(max(int(events / max(per_entry, 1.0)), 1), READ_COUNT)


def _ignored(reason: str) -> None:
    metrics.IGNORED.labels(reason).inc()


def _taken(
    batch: Sequence[Event], preset_of: PresetOf, now: int
) -> tuple[list[Message], list[Record]]:
    """Messages that travel on, and one ledger record for each event."""
    messages: list[Message] = []
    records: list[Record] = []
    for event in batch:
        taken = take(event, now)
        message = taken.message
        if taken.decision is Decision.NO_TEXT and (name := message.push.strategy_id):
            taken = by_preset(taken, preset_of(event.app, name), now)
        for wish in taken.ignored:
            _ignored(wish)
            records.append(_passed_over(message, wish, now))
        if taken.decision is None:
            messages.append(message)
        else:
            metrics.DECISIONS.labels("none", taken.decision, "none").inc()
        records.append(event_record(message, taken.decision))
    return messages, records


def _times(events: Sequence[Event]) -> dict[int, MessageTime]:
    """Times of stored messages by place: (app, conversation, message id, ts).

    Messages without a push are included: people read up to them too.
    """
    found: dict[int, MessageTime] = {}
    for place, event in enumerate(events):
        data = event.data
        if isinstance(data, Stored):
            where = data.conversation
            found[place] = (event.app, f"{where.type}:{where.id}", data.message_id, event.ts_ms)
    return found


def _that_can_wait(messages: Sequence[Message]) -> int:
    return sum(urgency_of(message, "") in (Urgency.GROUP, Urgency.BULK) for message in messages)


def _taken_back(states: Sequence[Event]) -> list[EventRecord]:
    """The rows of recalls and calls' ends, for `why --event`; their effect is in other rows."""
    found = [(one, withdraws(one)) for one in states if (withdraws := effect_of(one).withdraws)]
    return [
        EventRecord(
            app=event.app,
            event_id=event.id,
            message_id=withdrawal.message_id,
            type=event.type,
            conversation=withdrawal.conversation,
            ts_ms=event.ts_ms,
            received_ms=event.received_ms,
            decision=None,
            note="",
        )
        for event, withdrawal in found
    ]


def _repeated(event: Event, now: int) -> NoteRecord:
    """A repeat writes no row, only a step."""
    return _event_step(event.app, event.id, event, now, "the same event id came again: ignored")


def _passed_over(message: Message, wish: str, now: int) -> NoteRecord:
    """A step of the whole event for a wish of its sender that counts as none."""
    return _event_step(message.app, message.event_id, message, now, PASSED_OVER[wish])


def _event_step(
    app: str, event_id: str, times: Event | Message, now: int, words: str
) -> NoteRecord:
    old = _outlived(times.ts_ms, times.received_ms)
    filed_ms = times.received_ms if old else times.ts_ms
    return step(app, event_id, filed_ms, "", "", "intake", now, words)


def _outlived(ts_ms: int, received_ms: int) -> bool:
    """True when the message is so old that no push of it can live: it is decided here."""
    return ts_ms <= received_ms - TTL_MAX_S * 1000


def _dead(refused: Refused, vault: Vault, now: int) -> DeadRecord:
    log.warning(
        "an entry became a dead letter", extra={"entry_id": refused.entry, "reason": refused.reason}
    )
    return DeadRecord(
        # the same when the entry is read again: the core's server may be another, and acknowledge
        # after the letter is stored
        id=blake2b(refused.entry.encode() + refused.raw, digest_size=16).hexdigest(),
        entry_id=refused.entry.rsplit("/", 1)[1],
        stage="intake",
        reason=refused.reason,
        app=refused.app,
        at_ms=now,
        raw=vault.encrypt(refused.raw),
        fields={**refused.fields, "stream": refused.entry.rsplit("/", 1)[0]},
    )


def packed_messages(messages: Sequence[Message]) -> list[tuple[str, bytes]]:
    """Entries for presence, by urgency, of up to PACK_MAX messages and about PACK_BYTES."""
    by_stream: dict[str, list[Message]] = {}
    for message in messages:
        by_stream.setdefault(presence_stream(message), []).append(message)
    return [
        (stream, encode(pack))
        for stream, those in by_stream.items()
        for pack in _packs(those, map(_size, those))
    ]


def _size(message: Message) -> int:
    return 1024 + 64 * _people(message) + sum(len(part.text or "") for part in message.elements)


def _people(message: Message) -> int:
    return MEMBERS_GUESSED if message.recipients is None else len(message.recipients)


def _packs(items: Sequence[Any], sizes: Iterable[int], most: int = PACK_MAX) -> Iterator[list[Any]]:
    """The items in order, in packs of up to `most` and about PACK_BYTES."""
    pack: list[Any] = []
    size = 0
    for item, bytes_of in zip(items, sizes, strict=True):
        pack.append(item)
        size += bytes_of
        if len(pack) >= most or size >= PACK_BYTES:
            yield pack
            pack, size = [], 0
    if pack:
        yield pack
