"""Each lane's pushes to send (Redis, until sent): queues, ready sets and leases.

A queue per lane and urgency, ready sets per vendor, leases of senders. An entry is one batch of
pushes. It stays in its lane's queue until a sender takes it, and returns to its place when it was
not sent. The scripts are in lua/: ready_pop, ready_put, lane_take, rate_lease, lane_commit,
lane_renew, lane_reap, lane_pick, lane_loads, lane_over. A lane's own keys carry the hash tag
`{<lane>}`, a vendor's ready sets `{<vendor>}`.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError

from common.model import Urgency, Vendor
from common.storage.keys import Keys
from common.storage.raw_pipe import ask_all, command
from common.storage.scripts import Call, run_all, script
from common.storage.streams import StreamDepth

URGENCIES: Final = tuple(Urgency)
RANK: Final = {urgency: number for number, urgency in enumerate(URGENCIES)}
#: A sender silent for this long is dead; its entries go to another (send 10 s < lease 15 s).
LEASE_MS: Final = 15_000
#: Entries, and bytes, of one take: an entry that is larger than the bytes is taken alone.
ENTRIES_MAX: Final = 200
#: Lanes of one vendor whose takers are looked after in one call.
REAP_MAX: Final = 500
#: Lanes whose loads, and queues whose ends, one script call reads; it blocks all others.
LOADS_EACH: Final = 200
OVER_EACH: Final = 50
BYTES_MAX: Final = 8 * 1024 * 1024
#: Share of a second's rate that an idle lane may send at once. It is also the sender's delay before
#: it loses tokens: 20 ms and a push.
BURST_SHARE: Final = 0.02

_order_lock = threading.Lock()
_last_order = 0


@dataclass(frozen=True, slots=True)
class NewBatch:
    """One batch for a lane. requests: different notifications in it. expires_ms: when its last push
    does.
    """

    lane: str
    urgency: Urgency
    blob: bytes
    pushes: int
    requests: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class LaneEntry:
    """One entry as it was taken. deliveries: 1, and one more for each sender that died with it."""

    id: str
    blob: bytes
    deliveries: int = 1

    @property
    def owner(self) -> str:
        """The entry's name in its pushes' claims (claims.py); a remainder keeps it."""
        return self.id.partition(";")[0]

    @property
    def pushes(self) -> int:
        return int(self.id.split(";")[3])

    @property
    def order(self) -> int:
        return int(self.id.split(";")[2])


@dataclass(frozen=True, slots=True)
class LaneTerms:
    """The parameters of a lane's take. gone: the account was removed; nothing is checked.

    rate_per_s, burst: in requests where `by_request`, else in pushes.
    """

    version: int = 0
    rate_per_s: float = 1.0
    burst: float = 1.0
    ramp_s: int = 0
    by_request: bool = False
    gone: bool = False


@dataclass(slots=True)
class Taken:
    """The answer to one take. what: go, probe, wait, shut or empty.

    tokens: the lane's rate for the next second (see `lease`); burst: the part that may go at once.
    due_ms: when the lane may be asked again, by Redis' clock; now_ms: that clock at the take. left:
    entries still in the queue. noted, noted_why: entries up to this order were held by an outage,
    and its cause. slowed: up to this order, by the rate. watched: the breaker counts the lane's
    answers, as some failed lately; else it ignores good ones.
    """

    lane: str
    urgency: Urgency
    word: str
    what: str
    now_ms: int
    why: str = ""
    due_ms: int = 0
    tokens: int = 0
    burst: int = 1
    noted: int = 0
    noted_why: str = ""
    slowed: int = 0
    left: int = 0
    watched: bool = True
    terms: LaneTerms = LaneTerms(gone=True)
    entries: list[LaneEntry] = field(default_factory=list)

    @property
    def paced(self) -> bool:
        """True when the lane is at its rate."""
        return self.due_ms > self.now_ms


@dataclass(frozen=True, slots=True)
class RateLease:
    """Permits for `tokens`, the first in `first_s`, then at `rate_per_s`.

    lim_s: how much earlier than its time one may go. last_s: time of the last one in epoch seconds,
    by Redis' clock.
    """

    tokens: int
    first_s: float
    last_s: float
    rate_per_s: float
    lim_s: float


@dataclass(slots=True)
class LaneCommit:
    """The writes for the entries of one take, in one step.

    changed: (entry, its remainder), once per part. later: members of the delayed set with their
    delay in ms. bytes_less: how much the lane's queues shrink. unused: tokens that were not needed.
    taken: keys of the badge numbers that the entries' pushes have taken. marks: see
    lane_commit.lua; keys: the marks' keys.
    """

    ended: list[LaneEntry] = field(default_factory=list)
    back: list[LaneEntry] = field(default_factory=list)
    changed: list[tuple[LaneEntry, NewBatch]] = field(default_factory=list)
    record: bytes = b""
    later: list[tuple[bytes, int]] = field(default_factory=list)
    bytes_more: int = 0
    unused: tuple[float, ...] = ()
    taken: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    marks: list[tuple[Any, ...]] = field(default_factory=list)

    def mark(self, kind: str, names: Sequence[str], *values: Any) -> None:
        """names: the mark's own keys, next to each other."""
        self.marks.append((kind, _OWN_KEYS + 1 + len(self.keys), *values))
        self.keys.extend(names)


#: Keys of lane_commit before those of the marks.
_OWN_KEYS: Final = 10


@dataclass(frozen=True, slots=True)
class Load:
    """One lane's content. bytes: of everything; waiting: pushes in its queues.

    entries, oldest_ms: by urgency, without taken ones.
    """

    bytes: int
    waiting: int
    entries: Mapping[Urgency, int]
    oldest_ms: Mapping[Urgency, int | None]


def entry_id(batch: NewBatch, owner: str = "", order: int = 0) -> str:
    """The entry's name, which holds all that a script needs of it."""
    made = order or _next_order()
    numbers = (
        RANK[batch.urgency],
        made,
        batch.pushes,
        batch.requests,
        len(batch.blob),
        batch.expires_ms,
    )
    return ";".join((owner or os.urandom(9).hex(), *map(str, numbers)))


def _next_order() -> int:
    """The time in µs, or the next number where this process has given that one already."""
    global _last_order
    with _order_lock:
        _last_order = max(time.time_ns() // 1000, _last_order + 1)
        return _last_order


def vendor_of(lane: str) -> Vendor:
    return Vendor(lane.split(":")[1])


class LaneQueues:
    """word: of this process; a take's own word begins with it. clock: tests only, seconds."""

    clock: Callable[[], float] | None = None

    def __init__(
        self, redis: Redis, keys: Keys, lease_ms: int = LEASE_MS, shared: Keys | None = None
    ) -> None:
        """shared: keys of the lanes' rates and states, one for all shards; None: `keys`."""
        self.redis = redis
        self.keys = keys
        self._shared = shared or keys
        self.lease_ms = lease_ms
        self.word = os.urandom(6).hex()
        self._words = itertools.count()
        self._pop, self._commit = script(redis, "ready_pop"), script(redis, "lane_commit")
        self._take, self._lease = (
            script(redis, "lane_take", "rate_now"),
            script(redis, "rate_lease", "rate_now"),
        )
        self._ready, self._looked = script(redis, "ready_put"), script(redis, "lane_looked")
        self._drop = script(redis, "lane_drop")
        self._renew, self._reap, self._pick = (
            script(redis, name) for name in ("lane_renew", "lane_reap", "lane_pick")
        )
        self._loads, self._over = script(redis, "lane_loads"), script(redis, "lane_over")

    # ------------------------------------------------------------ in

    def put(self, pipe: Pipeline, batches: Iterable[NewBatch], owner: str = "") -> None:
        """Inside the caller's MULTI: these wait for their lanes' senders, in this order."""
        keys, of_lanes = self.keys, dict[str, list[tuple[str, NewBatch]]]()
        ready: dict[str, dict[str, int]] = {}
        for batch in batches:
            of_lanes.setdefault(batch.lane, []).append((entry_id(batch, owner), batch))
            ready.setdefault(keys.ready(vendor_of(batch.lane), batch.urgency), {})[batch.lane] = 0
        do = cast(
            Any, pipe
        ).execute_command  # what redis-py does around it is most of the time with many lanes
        for lane, entries in of_lanes.items():
            do(
                "HSET",
                keys.lane_blobs(lane),
                *(part for entry, batch in entries for part in (entry, batch.blob)),
            )
            for urgency in {batch.urgency for _, batch in entries}:
                names = (entry for entry, batch in entries if batch.urgency == urgency)
                do(
                    "ZADD",
                    keys.lane_queue(lane, urgency),
                    *(part for entry in names for part in (entry.split(";")[2], entry)),
                )
            load = keys.lane_load(lane)
            do("HINCRBY", load, "b", sum(len(batch.blob) for _, batch in entries))
            do("HINCRBY", load, "w", sum(batch.pushes for _, batch in entries))
        if of_lanes:
            pipe.sadd(keys.loaded_lanes, *of_lanes)
        for name, lanes in ready.items():
            pipe.zadd(name, lanes, nx=True)

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        return run_all(self.redis, calls)

    def wake_at(self, lanes: Sequence[tuple[str, Urgency, int]]) -> None:
        """Each (lane, urgency, time in ms) may send again then, unless a time is set."""
        if not lanes:
            return
        names = [self.keys.ready(vendor_of(lane), urgency) for lane, urgency, _ in lanes]
        puts = [
            command("ZADD", name, "NX", str(due_ms), lane)
            for name, (lane, _, due_ms) in zip(names, lanes, strict=True)
        ]
        for reply in ask_all(self.redis, "".join(puts), len(puts)):
            if isinstance(reply, OutOfMemoryError):
                self._ready(
                    keys=names, args=[part for lane, _, due_ms in lanes for part in (due_ms, lane)]
                )
                return
            if isinstance(reply, Exception):
                raise reply

    def wake_now(self, lane: str) -> None:
        """Makes a lane due now, after it was resumed or got a new credential."""
        with self.redis.pipeline(transaction=False) as pipe:
            for urgency in URGENCIES:
                pipe.zadd(self.keys.ready(vendor_of(lane), urgency), {lane: 0}, xx=True)
            pipe.execute()

    # ------------------------------------------------------------ out

    def pop(
        self, vendor: Vendor, most: Mapping[Urgency, int], busy: Iterable[tuple[str, Urgency]]
    ) -> tuple[list[tuple[str, Urgency]], float | None]:
        """The lanes that may send now, most urgent first; the seconds until the next, or None.

        busy: lanes that this process works on already. The caller takes from each, then sets when
        it may send again (`wake`).
        """
        names = [
            *(self.keys.ready(vendor, urgency) for urgency in URGENCIES),
            self.keys.popped(vendor),
        ]
        args: list[Any] = [self.lease_ms + 1000, *(most.get(urgency, 0) for urgency in URGENCIES)]
        args += [f"{RANK[urgency]}|{lane}" for lane, urgency in busy]
        ((now, due, *rest),) = self._run([(self._pop, names, args)])
        found = [
            (lane.decode(), URGENCIES[int(u)])
            for u, lane in zip(rest[::2], rest[1::2], strict=True)
        ]
        return found, None if due < 0 else max(due - now, 0) / 1000

    def take(
        self,
        wanted: Sequence[tuple[str, Urgency, LaneTerms, int]],
        probe_s: float,
        bytes_max: int = BYTES_MAX,
    ) -> list[Taken]:
        """Takes entries of each of these lanes, up to its number of pushes, in one round trip.

        probe_s: how long a probe of a stopped lane may take.
        """
        words = [f"{self.word}:{next(self._words)}" for _ in wanted]
        calls = []
        for (lane, urgency, terms, pushes_max), word in zip(wanted, words, strict=True):
            args: list[Any] = [
                word,
                self.lease_ms,
                ENTRIES_MAX,
                pushes_max,
                bytes_max,
                terms.version,
                probe_s,
                terms.rate_per_s,
            ]
            args += [
                terms.burst,
                terms.ramp_s,
                int(terms.by_request),
                RANK[urgency],
                int(terms.gone),
            ]
            calls.append((self._take, self._take_keys(lane, urgency), args))
        answers = self._run(calls)
        return [
            _taken(*one[:3], word, answer)
            for one, word, answer in zip(wanted, words, answers, strict=True)
        ]

    def lease(self, taken: Taken, wanted: int, pushes: int, round_s: float) -> RateLease:
        """Leases up to `wanted` of the lane's rate for the next second; perhaps none."""
        return self.lease_all([(taken, wanted, pushes)], round_s)[0]

    def lease_all(
        self, wanted: Sequence[tuple[Taken, int, int]], round_s: float
    ) -> list[RateLease]:
        """The same for each (take, how many, pushes), in one round trip."""
        keys, calls = self._shared, []
        for taken, tokens, pushes in wanted:
            terms = taken.terms
            args: list[Any] = [
                taken.word,
                terms.rate_per_s,
                terms.burst,
                terms.ramp_s,
                RANK[taken.urgency],
                tokens,
                pushes,
                round_s,
            ]
            args += [self.clock()] if self.clock else []
            calls.append((self._lease, [keys.rate(taken.lane), keys.inflight(taken.lane)], args))
        leases = []
        for (taken, _, _), (tokens, first_s, last_s, rate) in zip(
            wanted, self._run(calls), strict=True
        ):
            rate_per_s = float(rate)
            lim_s = _burst(taken.terms, rate_per_s) / rate_per_s
            leases.append(RateLease(int(tokens), float(first_s), float(last_s), rate_per_s, lim_s))
        return leases

    def paused(self, lane: str, urgency: Urgency, why: str, due_ms: int) -> Taken:
        """As `take` of a lane that is not to be sent to: nothing is taken. due_ms: from now."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(
                self.keys.lane_load(lane),
                f"n{RANK[urgency]}",
                f"why{RANK[urgency]}",
                f"r{RANK[urgency]}",
            )
            pipe.zcard(self.keys.lane_queue(lane, urgency))
            (seconds, micros), (noted, noted_why, slowed), left = pipe.execute()
        now = seconds * 1000 + micros // 1000
        taken = Taken(
            lane, urgency, "", "shut" if left else "empty", now, why, now + due_ms, left=left
        )
        taken.noted, taken.noted_why = int(noted or 0), (noted_why or b"").decode()
        taken.slowed = int(slowed or 0)
        return taken

    def commit(self, taken: Taken, commit: LaneCommit) -> list[str]:
        """Writes it; the entries that are not ours any more, and then nothing was written."""
        return self.commit_all([(taken, commit)])[0]

    def commit_all(self, commits: Sequence[tuple[Taken, LaneCommit]]) -> list[list[str]]:
        """Each in one step, all in one round trip."""
        calls = [
            (self._commit, self._commit_keys(taken, commit), [taken.word, *_packed(commit)])
            for taken, commit in commits
        ]
        answers = self._run(calls)
        return [[entry.decode() for entry in answer] for answer in answers]

    def give_back(self, taken: Taken, entries: Sequence[LaneEntry], due_ms: int) -> None:
        """Returns entries that were not worked on; their lane may be asked again at due_ms."""
        if entries:
            self.commit(taken, LaneCommit(back=list(entries)))
        self.wake_at([(taken.lane, taken.urgency, due_ms)])

    def renew(self, taken: Taken, entries: Sequence[LaneEntry]) -> list[str]:
        """Their sender is alive; those that are not its any more."""
        keys = self.keys
        args: list[Any] = [taken.word, self.lease_ms, *(entry.id for entry in entries)]
        lost = self._renew(
            keys=[keys.lane_leases(taken.lane), keys.lane_holders(taken.lane)], args=args
        )
        return [entry.decode() for entry in cast(list[bytes], lost)]

    def pick(
        self, lane: str, urgency: Urgency, entries: Sequence[str] = (), last: int = 0
    ) -> Taken:
        """Leases these waiting entries, or the `last` youngest, to end them."""
        keys, word = self.keys, f"{self.word}:{next(self._words)}"
        names = [keys.lane_queue(lane, urgency), keys.lane_blobs(lane), keys.lane_leases(lane)]
        names += [keys.lane_holders(lane), keys.lane_load(lane)]
        args: list[Any] = [word, self.lease_ms, last, *entries]
        reply = cast(Any, self._pick(keys=names, args=args))
        found = [
            LaneEntry(entry.decode(), blob)
            for entry, blob in zip(reply[::2], reply[1::2], strict=True)
        ]
        return Taken(lane, urgency, word, "go", 0, entries=found)

    # ------------------------------------------------------------ looks

    def walk(self, lane: str, urgency: Urgency, after: int, count: int) -> list[tuple[int, bytes]]:
        """(order, batch) of entries that wait, in their order, from beyond `after`."""
        key, beyond = self.keys.lane_queue(lane, urgency), f"({after}"
        ids = cast(list[bytes], self.redis.zrangebyscore(key, beyond, "+inf", 0, count))
        blobs = cast(Any, self.redis.hmget(self.keys.lane_blobs(lane), ids)) if ids else []
        return [
            (int(entry.split(b";")[2]), blob)
            for entry, blob in zip(ids, blobs, strict=True)
            if blob is not None
        ]

    def noted(self, pipe: Pipeline, lane: str, urgency: Urgency, upto: int, why: str) -> None:
        """Within the caller's MULTI: marks entries up to this order as held by an outage."""
        pipe.hset(
            self.keys.lane_load(lane),
            mapping={f"n{RANK[urgency]}": upto, f"why{RANK[urgency]}": why},
        )

    def windows(self, wanted: Sequence[tuple[str, Urgency, int]], count: int) -> list[list[str]]:
        """Names of waiting entries from each (lane, urgency, start) on, in their order."""
        with self.redis.pipeline(transaction=False) as pipe:
            for lane, urgency, start in wanted:
                pipe.zrange(self.keys.lane_queue(lane, urgency), start, start + count - 1)
            return [[entry.decode() for entry in found] for found in pipe.execute()]

    def blobs(self, lane: str, entries: Sequence[str]) -> list[bytes | None]:
        return (
            cast(list[bytes | None], self.redis.hmget(self.keys.lane_blobs(lane), list(entries)))
            if entries
            else []
        )

    def loaded(self) -> list[str]:
        """Lanes that hold something, or did a moment ago."""
        return self.names_of(cast(set[bytes], self.redis.smembers(self.keys.loaded_lanes)))

    @staticmethod
    def names_of(loaded: Iterable[bytes]) -> list[str]:
        """The lanes among the members of keys.loaded_lanes."""
        return sorted(lane.decode() for lane in loaded)

    def any_left(self) -> bool:
        """True when any lane holds something, also retries that are not due."""
        return any(self.bytes_of(self.loaded()).values())

    def over(
        self, wanted: Sequence[tuple[str, Urgency, int]], now_ms: int, count: int
    ) -> list[list[str]]:
        """The expired entries of each (lane, urgency, place): the first `count`, and from place."""
        calls: list[Call] = []
        for start in range(0, len(wanted), OVER_EACH):
            part = wanted[start : start + OVER_EACH]
            names = [self.keys.lane_queue(lane, urgency) for lane, urgency, _ in part]
            calls.append((self._over, names, [now_ms, count, *(place for _, _, place in part)]))
        return [
            [entry.decode() for entry in found] for reply in self._run(calls) for found in reply
        ]

    def loads(self, lanes: Sequence[str]) -> dict[str, Load]:
        keys, calls, found = self.keys, list[Call](), dict[str, Load]()
        for start in range(0, len(lanes), LOADS_EACH):
            names = list[str]()
            for lane in lanes[start : start + LOADS_EACH]:
                names += [
                    keys.lane_load(lane),
                    *(keys.lane_queue(lane, urgency) for urgency in URGENCIES),
                ]
            calls.append((self._loads, names, []))
        reply = [one for answer in self._run(calls) for one in _decode_loads(answer)]
        for lane, at in zip(lanes, range(0, len(reply), 10), strict=True):
            size, waiting, *queues = reply[at : at + 10]
            counts = dict(zip(URGENCIES, queues[::2], strict=True))
            firsts = {
                urgency: first // 1000 if first else None
                for urgency, first in zip(URGENCIES, queues[1::2], strict=True)
            }
            found[lane] = Load(size, max(waiting, 0), counts, firsts)
        return found

    def backlog(self, loads: Mapping[str, Load] | None = None) -> dict[str, StreamDepth]:
        """By vendor and urgency (`send:<vendor>:<urgency>`): waiting entries, and since when.

        loads: of all lanes with entries, where the caller has them.
        """
        entries = {(vendor, urgency): 0 for vendor in Vendor for urgency in URGENCIES}
        oldest: dict[tuple[Vendor, Urgency], int] = {}
        for lane, load in (self.loads(self.loaded()) if loads is None else loads).items():
            vendor = vendor_of(lane)
            for urgency, count in load.entries.items():
                name, first = (vendor, urgency), load.oldest_ms[urgency]
                entries[name] += count
                if first is not None:
                    oldest[name] = min(first, oldest.get(name, first))
        return {
            f"send:{name[0]}:{name[1]}": StreamDepth(count, 0, oldest.get(name))
            for name, count in entries.items()
        }

    def untaken_s(self, loads: Mapping[str, Load] | None = None) -> dict[Vendor, float]:
        """Of each vendor with work: the wait of its sendable lane that no sender took, seconds.

        A lane that is stopped, paused or at its rate may not send now: more senders would not help
        it. loads: as in `backlog`.
        """
        loads = self.loads(self.loaded()) if loads is None else loads
        if not loads:
            return {}
        found = {
            vendor: 0.0 for vendor in Vendor if any(vendor_of(lane) == vendor for lane in loads)
        }
        asked: dict[tuple[Vendor, Urgency], list[str]] = {}
        for lane, load in loads.items():
            for urgency, first_ms in load.oldest_ms.items():
                if first_ms is not None:
                    asked.setdefault((vendor_of(lane), urgency), []).append(lane)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for (vendor, urgency), lanes in asked.items():
                cast(Any, pipe).zmscore(self.keys.ready(vendor, urgency), lanes)
            (seconds, micros), *reply = pipe.execute()
        now = seconds * 1000 + micros // 1000
        for ((vendor, urgency), lanes), dues in zip(asked.items(), reply, strict=True):
            for lane, due_ms in zip(lanes, dues, strict=True):
                if due_ms is not None and due_ms <= now:
                    since_ms = (
                        due_ms or loads[lane].oldest_ms[urgency] or now
                    )  # 0: at once, since it came
                    found[vendor] = max(found[vendor], (now - since_ms) / 1000)
        return found

    def bytes_of(self, lanes: Sequence[str]) -> dict[str, int]:
        with self.redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.hget(self.keys.lane_load(lane), "b")
            return {lane: int(size or 0) for lane, size in zip(lanes, pipe.execute(), strict=True)}

    def waiting(self, lane: str) -> int:
        """Pushes in the lane's queues, those that are being sent aside."""
        return max(int(cast(Any, self.redis.hget(self.keys.lane_load(lane), "w")) or 0), 0)

    def forget(self, lanes: Sequence[str]) -> None:
        """Lanes that hold nothing are looked at no more."""
        if not lanes:
            return
        self.redis.srem(self.keys.loaded_lanes, *lanes)
        filled = [
            lane for lane, size in self.bytes_of(lanes).items() if size
        ]  # something came in between
        if filled:
            self.redis.sadd(self.keys.loaded_lanes, *filled)

    def drop(self, lane: str) -> None:
        """Forgets the counts of a lane without an account, unless it has entries."""
        self._drop(keys=[self.keys.lane_load(lane), self.keys.lane_tries(lane)])

    # ------------------------------------------------------------ by the clock

    def due_vendors(self, vendors: Sequence[Vendor] = tuple(Vendor)) -> list[Vendor]:
        """Those of the vendors one of whose lanes may send now."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for vendor in vendors:
                for urgency in URGENCIES:
                    pipe.zrange(self.keys.ready(vendor, urgency), 0, 0, withscores=True)
            (seconds, micros), *firsts = pipe.execute()
        now = seconds * 1000 + micros // 1000
        each = [
            (vendor, first)
            for vendor, first in zip((v for v in vendors for _ in URGENCIES), firsts, strict=True)
        ]
        return list(dict.fromkeys(vendor for vendor, first in each if first and first[0][1] <= now))

    def reap(self, *vendors: Vendor) -> int:
        """Returns the entries of dead senders to their queues; returns their number."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for vendor in vendors:
                pipe.zrange(self.keys.popped(vendor), 0, 0, withscores=True)
            (seconds, micros), *firsts = pipe.execute()
        now = seconds * 1000 + micros // 1000
        late = [
            vendor
            for vendor, first in zip(vendors, firsts, strict=True)
            if first and first[0][1] <= now
        ]
        return sum(self._reap_lanes(vendor, self._popped(vendor, now), now) for vendor in late)

    def _popped(self, vendor: Vendor, until_ms: int) -> list[tuple[str, float]]:
        over = cast(
            Any,
            self.redis.zrangebyscore(
                self.keys.popped(vendor), "-inf", until_ms, 0, REAP_MAX, withscores=True
            ),
        )
        return [(lane.decode(), due) for lane, due in over]

    def _reap_lanes(self, vendor: Vendor, lanes: Sequence[tuple[str, float]], now_ms: int) -> int:
        """Each step for all lanes in one round trip."""
        popped, again_ms = [self.keys.popped(vendor)], now_ms + self.lease_ms + 1000
        known = self._run(
            [(self._looked, popped, [lane, due_ms, again_ms]) for lane, due_ms in lanes]
        )
        reply = self._run([(self._reap, self._reap_keys(lane), [""]) for lane, _ in lanes])
        ready, looked = [], list[Call]()
        for (lane, _), ours, (_, ends_ms, *waiting) in zip(lanes, known, reply, strict=True):
            ready += [
                (lane, urgency, 0)
                for urgency, number in zip(URGENCIES, waiting, strict=True)
                if number
            ]
            if ours:
                next_ms = max(int(ends_ms), now_ms + 1000) if ends_ms >= 0 else -1
                looked.append((self._looked, popped, [lane, again_ms, next_ms]))
        self.wake_at(ready)
        self._run(looked)
        return sum(int(count) for count, *_ in reply)

    def _reap_keys(self, lane: str) -> list[str]:
        keys = self.keys
        own = [
            keys.lane_leases(lane),
            keys.lane_holders(lane),
            keys.lane_tries(lane),
            keys.lane_load(lane),
        ]
        return [*own, *(keys.lane_queue(lane, urgency) for urgency in URGENCIES)]

    def _take_keys(self, lane: str, urgency: Urgency) -> list[str]:
        keys = self.keys
        own = [
            keys.lane_queue(lane, urgency),
            keys.lane_blobs(lane),
            keys.lane_leases(lane),
            keys.lane_holders(lane),
        ]
        return [
            *own,
            keys.lane_tries(lane),
            keys.lane_load(lane),
            self._shared.lane(lane),
            self._shared.rate(lane),
        ]

    def _commit_keys(self, taken: Taken, commit: LaneCommit) -> list[str]:
        keys, lane = self.keys, taken.lane
        own = [
            keys.lane_blobs(lane),
            keys.lane_leases(lane),
            keys.lane_holders(lane),
            keys.lane_tries(lane),
            keys.lane_load(lane),
        ]
        own += [
            keys.lane_queue(lane, taken.urgency),
            self._shared.rate(lane),
            self._shared.inflight(lane),
        ]
        own += [keys.stream("ledger"), keys.delayed]
        return [*own, *commit.keys, *commit.taken]


def _taken(lane: str, urgency: Urgency, terms: LaneTerms, word: str, answer: Any) -> Taken:
    what, now_ms, why, due, tokens, rate, noted, noted_why, slowed, left, watched, *rest = answer
    taken = Taken(
        lane,
        urgency,
        word,
        what.decode(),
        now_ms,
        why.decode(),
        due,
        tokens,
        max(1, int(_burst(terms, float(rate)) + 1e-6)),
    )
    taken.noted, taken.noted_why, taken.slowed, taken.left, taken.terms = (
        noted,
        noted_why.decode(),
        slowed,
        left,
        terms,
    )
    taken.watched = bool(watched)
    taken.entries = [LaneEntry(*one) for one in _triples(rest)]
    return taken


def _burst(terms: LaneTerms, rate_per_s: float) -> float:
    """The most that may go at once, as in rate_now.lua."""
    return max(1.0, terms.burst * rate_per_s / terms.rate_per_s)


_decode_loads: Callable[[bytes], list[int]] = msgspec.msgpack.Decoder(list[int]).decode


def _triples(rest: Sequence[Any]) -> Iterator[tuple[str, bytes, int]]:
    for index in range(0, len(rest), 3):
        yield rest[index].decode(), rest[index + 1], rest[index + 2]


def _packed(commit: LaneCommit) -> list[bytes]:
    parts, changed = Counter[str](), []
    for old, new in commit.changed:  # an entry of several parts: their names differ in the order
        changed.append((old.id, entry_id(new, old.owner, old.order + parts[old.id])))
        parts[old.id] += 1
    packed = msgspec.msgpack.encode(
        (
            [entry.id for entry in commit.ended],
            [entry.id for entry in commit.back],
            changed,
            commit.bytes_more,
            [delay_ms for _, delay_ms in commit.later],
            commit.unused,
            commit.marks,
            len(commit.taken),
        )
    )
    return [
        packed,
        commit.record,
        *(new.blob for _, new in commit.changed),
        *(member for member, _ in commit.later),
    ]
