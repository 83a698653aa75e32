"""Each lane's pushes to send (Redis, until sent): queues, ready sets and leases.

A queue per lane and urgency, ready sets per vendor, leases of senders. An entry is one batch of
pushes. It stays in its lane's queue until a sender takes it, and returns to its place when it was
not sent. The scripts are in lua/: ready_pop, ready_put, lane_take, rate_lease, lane_commit,
lane_renew, lane_reap, lane_pick. A lane's own keys carry the hash tag
`{<lane>}`, a vendor's ready sets `{<vendor>}`.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, Final, cast

import msgspec
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError

from common.ledger_records import joined_rows
from common.model import Urgency, Vendor
from common.storage.keys import LEDGER, Keys
from common.storage.lane_entries import (
    ANY_ROOM,
    RANK,
    URGENCIES,
    LaneCommit,
    LaneEntry,
    LaneTerms,
    NewBatch,
    PushRoom,
    RateLease,
    Taken,
    entry_id,
    vendor_of,
)
from common.storage.lane_loads import LaneLoads
from common.storage.raw_pipe import ask_all, command, first_score, read_all
from common.storage.scripts import Call, run_all, script

#: A sender silent for this long is dead; its entries go to another (send 10 s < lease 15 s).
LEASE_MS: Final = 15_000
#: Entries, and bytes, of one take: an entry that is larger than the bytes is taken alone.
ENTRIES_MAX: Final = 200
#: Lanes that one call of a script takes, leases or ends at once: the server does nothing else
#: meanwhile.
LANES_A_CALL: Final = 64
#: Lanes of one vendor whose takers are looked after in one call.
REAP_MAX: Final = 500
#: Entries that one call returns to their queues; the other ones' lanes are looked after again.
REAPED_MAX: Final = 500
BYTES_MAX: Final = 8 * 1024 * 1024
#: Lanes whose keys are kept, some hundred bytes each.
OWN_KEYS_MAX: Final = 5_000
#: Share of a second's rate that an idle lane may send at once. It is also the sender's delay before
#: it loses tokens: 20 ms and a push.
BURST_SHARE: Final = 0.02

_pack = msgspec.msgpack.Encoder().encode


class LaneQueues(LaneLoads):
    """word: of this process; a take's own word begins with it. clock: tests only, seconds."""

    clock: Callable[[], float] | None = None

    def __init__(
        self, redis: Redis, keys: Keys, lease_ms: int = LEASE_MS, shared: Keys | None = None
    ) -> None:
        """shared: keys of the lanes' rates and states, one for all shards; None: `keys`."""
        super().__init__(redis, keys)
        self._shared = shared or keys
        self.lease_ms = lease_ms
        self.word = os.urandom(6).hex()
        self._words = itertools.count()
        self._own: dict[str, list[str]] = {}  # keys by lane
        self._pops: dict[Vendor, list[str]] = {}  # keys of `pop`
        self._found: dict[Vendor, int] = {}  # the least urgent that the last pop found, by rank
        self._pop = script(redis, "ready_pop")
        self._commit = script(redis, "lane_commit", "counts", "noted", "join")
        self._end = script(redis, "lanes_end")
        self._take, self._lease = (
            script(redis, "lane_take", "rate_now"),
            script(redis, "rate_lease", "rate_now"),
        )
        self._ready, self._looked = script(redis, "ready_put"), script(redis, "lane_looked")
        self._renew, self._pick = (script(redis, name) for name in ("lane_renew", "lane_pick"))
        self._reap = script(redis, "lane_reap", "noted")

    # ------------------------------------------------------------ in

    def put(self, pipe: Pipeline, batches: Iterable[NewBatch], owner: str = "") -> None:
        """Inside the caller's MULTI: these wait for their lanes' senders, in this order."""
        keys, grown = self.keys, dict[str, list[int]]()
        blobs, places = dict[str, list[Any]](), dict[tuple[str, Urgency], list[str]]()
        for batch in batches:
            lane, entry = batch.lane, entry_id(batch, owner)
            blobs.setdefault(lane, []).extend((entry, batch.blob))
            places.setdefault((lane, batch.urgency), []).extend((entry.split(";", 3)[2], entry))
            load = grown.setdefault(lane, [0, 0])
            load[0] += len(batch.blob)
            load[1] += batch.pushes
        # what redis-py does around it is most of the time with many lanes
        do = cast(Any, pipe).execute_command
        ready = dict[str, dict[str, None]]()
        for (lane, urgency), parts in places.items():
            do("ZADD", keys.lane_queue(lane, urgency), *parts)
            ready.setdefault(keys.ready(vendor_of(lane), urgency), {})[lane] = None
        for lane, parts in blobs.items():
            do("HSET", keys.lane_blobs(lane), *parts)
            size, pushes = grown[lane]
            do("HINCRBY", keys.lane_load(lane), "b", size)
            do("HINCRBY", keys.lane_load(lane), "w", pushes)
        if blobs:
            do("SADD", keys.loaded_lanes, *blobs)
        for name, lanes in ready.items():
            do("ZADD", name, "NX", *chain.from_iterable([(0, lane) for lane in lanes]))

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        return run_all(self.redis, calls)

    def wake_at(self, lanes: Sequence[tuple[str, Urgency, int]]) -> bool:
        """Each (lane, urgency, time in ms) may send again then, unless a time is set.

        False: all had one.
        """
        return self.wake_in([self] * len(lanes), lanes)

    def wake_in(
        self, owners: Sequence[LaneQueues], lanes: Sequence[tuple[str, Urgency, int]]
    ) -> bool:
        """As `wake_at`. owners: of each the queues of its shard, on this server."""
        if not lanes:
            return False
        names = [
            own.keys.ready(vendor_of(lane), urgency)
            for own, (lane, urgency, _) in zip(owners, lanes, strict=True)
        ]
        puts = [
            command("ZADD", name, "NX", str(due_ms), lane)
            for name, (lane, _, due_ms) in zip(names, lanes, strict=True)
        ]
        news = False
        for reply in ask_all(self.redis, "".join(puts), len(puts)):
            if isinstance(reply, OutOfMemoryError):
                self._ready(
                    keys=names, args=[part for lane, _, due_ms in lanes for part in (due_ms, lane)]
                )
                return True
            if isinstance(reply, Exception):
                raise reply
            news = news or bool(reply)
        return news

    def wake_now(self, lane: str) -> None:
        """Makes a lane due now, after it was resumed or got a new credential."""
        with self.redis.pipeline(transaction=False) as pipe:
            for urgency in URGENCIES:
                pipe.zadd(self.keys.ready(vendor_of(lane), urgency), {lane: 0}, xx=True)
            pipe.execute()

    # ------------------------------------------------------------ out

    def pop(
        self,
        vendor: Vendor,
        most: Mapping[Urgency, int],
        busy: Iterable[tuple[str, Urgency]],
        room: PushRoom = ANY_ROOM,
    ) -> tuple[list[tuple[str, Urgency]], float | None, list[int]]:
        """The lanes that may send now, most urgent first; the seconds until the next, or None; the
        pushes that wait for each of these lanes, of any urgency (of the only one that waits: many).

        busy: lanes that this process works on already. room: no more lanes are found than what they
        hold fits into it, but one at least. The caller takes from each, then sets when it may send
        again (`wake`).
        """
        found, due_s, waiting = self.pop_in([self], vendor, most, busy, room)
        return [(lane, urgency) for lane, urgency, _ in found], due_s, waiting

    def pop_in(
        self,
        owners: Sequence[LaneQueues],
        vendor: Vendor,
        most: Mapping[Urgency, int],
        busy: Iterable[tuple[str, Urgency]],
        room: PushRoom,
    ) -> tuple[list[tuple[str, Urgency, int]], float | None, list[int]]:
        """As `pop`, with the place of each lane's shard in `owners`, the queues of some shards on
        this server: the first ones are served first.
        """
        names = list(chain(*[own._pop_keys(vendor) for own in owners]))  # noqa: SLF001 - its own class
        args: list[Any] = [self.lease_ms + 1000, *(most.get(urgency, 0) for urgency in URGENCIES)]
        args += [room.pushes, room.others, room.each, room.lane, self._found.get(vendor, 0)]
        args += [f"{RANK[urgency]}|{lane}" for lane, urgency in busy]
        ((now, due, *rest),) = self._run([(self._pop, names, args)])
        found = [
            (lane.decode(), URGENCIES[u], owner)
            for u, lane, owner in zip(rest[::4], rest[1::4], rest[3::4], strict=True)
        ]
        if found:
            self._found[vendor] = RANK[found[-1][1]]
        return found, None if due < 0 else max(due - now, 0) / 1000, rest[2::4]

    def _pop_keys(self, vendor: Vendor) -> list[str]:
        found = self._pops.get(vendor)
        if found is None:
            keys = self.keys
            ready = [keys.ready(vendor, urgency) for urgency in URGENCIES]
            found = self._pops[vendor] = [*ready, keys.popped(vendor), f"{keys.prefix}:"]
        return found

    def take(
        self,
        wanted: Sequence[tuple[str, Urgency, LaneTerms, int]],
        probe_s: float,
        bytes_max: int = BYTES_MAX,
    ) -> list[Taken]:
        """Takes entries of each of these lanes, up to its number of pushes, in one round trip.

        probe_s: how long a probe of a stopped lane may take.
        """
        return self.take_in([self] * len(wanted), wanted, probe_s, bytes_max)

    def take_in(
        self,
        owners: Sequence[LaneQueues],
        wanted: Sequence[tuple[str, Urgency, LaneTerms, int]],
        probe_s: float,
        bytes_max: int = BYTES_MAX,
    ) -> list[Taken]:
        """As `take`. owners: of each the queues of its shard, on this server."""
        words = [self.new_word() for _ in wanted]
        own = [
            (
                word,
                pushes_max,
                str(terms.version),
                terms.rate_per_s,
                terms.burst,
                terms.ramp_s,
                terms.by_request,
                RANK[urgency],
                terms.gone,
            )
            for (_, urgency, terms, pushes_max), word in zip(wanted, words, strict=True)
        ]
        args, calls = [self.lease_ms, ENTRIES_MAX, bytes_max, probe_s], list[Call]()
        for start in range(0, len(wanted), LANES_A_CALL):
            part = slice(start, start + LANES_A_CALL)
            names = [
                own._take_keys(lane, urgency)  # noqa: SLF001 - its own class
                for own, (lane, urgency, *_) in zip(owners[part], wanted[part], strict=True)
            ]
            calls.append((self._take, list(chain(*names)), [*args, _pack(own[part])]))
        answers = chain(*self._run(calls))
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
        keys, calls = self._shared, list[Call]()
        clock = [self.clock()] if self.clock else []
        for start in range(0, len(wanted), LANES_A_CALL):
            part = wanted[start : start + LANES_A_CALL]
            names = [(keys.rate(one.lane), keys.inflight(one.lane)) for one, *_ in part]
            own = [
                (
                    taken.word,
                    (terms := taken.terms).rate_per_s,
                    terms.burst,
                    terms.ramp_s,
                    RANK[taken.urgency],
                    tokens,
                    pushes,
                )
                for taken, tokens, pushes in part
            ]
            calls.append((self._lease, list(chain(*names)), [round_s, _pack(own), *clock]))
        leases = []
        for (taken, _, _), (tokens, first_s, last_s, rate) in zip(
            wanted, chain(*self._run(calls)), strict=True
        ):
            rate_per_s = float(rate)
            lim_s = _burst(taken.terms, rate_per_s) / rate_per_s
            leases.append(RateLease(int(tokens), float(first_s), float(last_s), rate_per_s, lim_s))
        return leases

    def paused(self, lane: str, urgency: Urgency, why: str, due_ms: int) -> Taken:
        """As `take` of a lane that is not to be sent to: nothing is taken. due_ms: from now."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            load, rank = self.keys.lane_load(lane), RANK[urgency]
            pipe.hmget(load, f"n{rank}", f"why{rank}", f"r{rank}", f"g{rank}")
            pipe.zcard(self.keys.lane_queue(lane, urgency))
            (seconds, micros), (noted, noted_why, slowed, found), left = pipe.execute()
        if why and bool(left) != (found == b"shut"):  # see lane_take.lua
            with suppress(OutOfMemoryError):
                if left:
                    self.redis.hset(load, mapping={f"g{rank}": "shut", f"why{rank}": why})
                else:
                    self.redis.hdel(load, f"g{rank}")
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
        """Each in one step, all in one round trip. Those that only end their entries share steps:
        what of such a step can't be written so, as others hold some of it, is written one by one.
        """
        return self.commit_in([self] * len(commits), commits)

    def commit_in(
        self, owners: Sequence[LaneQueues], commits: Sequence[tuple[Taken, LaneCommit]]
    ) -> list[list[str]]:
        """As `commit_all`. owners: of each the queues of its shard, on this server."""

        def committing(number: int) -> Call:
            return owners[number]._committing(*commits[number])  # noqa: SLF001 - its own class

        whole = [number for number, (_, one) in enumerate(commits) if one.ends_all]
        if len(whole) < 2:
            whole = []
        parts = [whole[at : at + LANES_A_CALL] for at in range(0, len(whole), LANES_A_CALL)]
        alone = sorted(set(range(len(commits))).difference(whole))
        joint = [self._ending([(owners[n], *commits[n]) for n in part]) for part in parts]
        single = [committing(number) for number in alone]
        answers = self._run([*joint, *single])
        lost = dict(zip(alone, answers[len(joint) :], strict=True))
        pairs = zip(parts, answers, strict=False)
        again = [number for part, foreign in pairs if foreign for number in part]
        more = self._run([committing(number) for number in again])
        lost |= zip(again, more, strict=True)
        return [[entry.decode() for entry in lost.get(n, ())] for n in range(len(commits))]

    def _ending(self, commits: Sequence[tuple[LaneQueues, Taken, LaneCommit]]) -> Call:
        """Its records lie in the first one's shard: one writer reads those of a server."""
        keys, first = self._shared, commits[0][0].keys
        names = [
            (blobs, leases, holders, load, keys.rate(taken.lane), keys.inflight(taken.lane))
            for own, taken, _ in commits
            for blobs, leases, holders, _, load in (own._own_keys(taken.lane),)  # noqa: SLF001 - its own class
        ]
        noted = list(chain(*[one.taken for *_, one in commits]))
        records = joined_rows(chain(*[one.records for *_, one in commits]))
        lanes = [
            (taken.word, [entry.id for entry in one.ended], one.bytes_more, one.unused)
            for _, taken, one in commits
        ]
        return (
            self._end,
            [first.stream(LEDGER), *chain(*names), *noted],
            [_pack(records) if records else b"", len(noted), _pack(lanes)],
        )

    def _committing(self, taken: Taken, commit: LaneCommit) -> Call:
        return self._commit, self._commit_keys(taken, commit), [taken.word, *_packed(commit)]

    def give_back(self, taken: Taken, entries: Sequence[LaneEntry], due_ms: int) -> None:
        """Returns entries that were not worked on; their lane may be asked again at due_ms."""
        if entries:
            self.commit(taken, LaneCommit(back=list(entries)))
        self.wake_at([(taken.lane, taken.urgency, due_ms)])

    def renew(self, taken: Taken, entries: Sequence[LaneEntry]) -> list[str]:
        """Their sender is alive; those that are not its any more."""
        return self.renew_named(taken.lane, taken.word, [entry.id for entry in entries])

    def renew_named(self, lane: str, word: str, entries: Collection[str]) -> list[str]:
        """As `renew`, by the take's word and the entries' names."""
        keys = self.keys
        args: list[Any] = [word, self.lease_ms, *entries]
        lost = self._renew(keys=[keys.lane_leases(lane), keys.lane_holders(lane)], args=args)
        return [entry.decode() for entry in cast(list[bytes], lost)]

    def new_word(self) -> str:
        """What a new take of ours is known by, as the holder of its entries."""
        return f"{self.word}:{next(self._words)}"

    def pick(
        self, lane: str, urgency: Urgency, entries: Sequence[str] = (), last: int = 0
    ) -> Taken:
        """Leases these waiting entries, or the `last` youngest, to end them."""
        keys, word = self.keys, self.new_word()
        names = [keys.lane_queue(lane, urgency), keys.lane_blobs(lane), keys.lane_leases(lane)]
        names += [keys.lane_holders(lane), keys.lane_load(lane)]
        args: list[Any] = [word, self.lease_ms, last, *entries]
        reply = cast(Any, self._pick(keys=names, args=args))
        found = [
            LaneEntry(entry, blob, noted=bool(noted)) for entry, blob, noted in _triples(reply)
        ]
        return Taken(lane, urgency, word, "go", 0, entries=found)

    # ------------------------------------------------------------ by the clock

    def due_vendors(self, vendors: Sequence[Vendor] = tuple(Vendor)) -> list[Vendor]:
        """Those of the vendors one of whose lanes may send now; as a rule none has a lane."""
        return self.due_vendors_in([self], vendors)

    def due_vendors_in(
        self, owners: Sequence[LaneQueues], vendors: Sequence[Vendor]
    ) -> list[Vendor]:
        """As `due_vendors`, of some shards on this server."""
        ready = {
            vendor: [own.keys.ready(vendor, urgency) for own in owners for urgency in URGENCIES]
            for vendor in vendors
        }
        looks = [command("EXISTS", *names) for names in ready.values()]
        some = read_all(self.redis, "".join(looks), len(looks)) if looks else []
        filled = [vendor for vendor, count in zip(ready, some, strict=True) if count]
        if not filled:
            return []
        asked = [(vendor, name) for vendor in filled for name in ready[vendor]]
        firsts = [command("ZRANGE", name, "0", "0", "WITHSCORES") for _, name in asked]
        reply = read_all(self.redis, command("TIME") + "".join(firsts), 1 + len(firsts))
        (seconds, micros), *found = reply
        now = int(seconds) * 1000 + int(micros) // 1000
        each = zip(asked, found, strict=True)
        due = [vendor for (vendor, _), first in each if first and first_score(first) <= now]
        return list(dict.fromkeys(due))

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
        again_ms = now_ms + self.lease_ms + 1000
        known = self._told_looked(vendor, [(lane, due_ms, again_ms) for lane, due_ms in lanes])
        calls = [
            (self._reap, list(chain(*[self._reap_keys(lane) for lane, _ in part])), [REAPED_MAX])
            for at in range(0, len(lanes), LANES_A_CALL)
            for part in (lanes[at : at + LANES_A_CALL],)
        ]
        reply = list(chain(*self._run(calls)))
        ready, looked = [], []
        for (lane, _), ours, (_, ends_ms, *waiting) in zip(lanes, known, reply, strict=True):
            ready += [
                (lane, urgency, 0)
                for urgency, number in zip(URGENCIES, waiting, strict=True)
                if number
            ]
            if ours:
                next_ms = max(int(ends_ms), now_ms + 1000) if ends_ms >= 0 else -1
                looked.append((lane, again_ms, next_ms))
        self.wake_at(ready)
        self._told_looked(vendor, looked)
        return sum(int(count) for count, *_ in reply)

    def _told_looked(
        self, vendor: Vendor, lanes: Sequence[tuple[str, float, int]]
    ) -> Sequence[int]:
        """By lane, as lane_looked.lua has it: 1, or 0 when somebody took it meanwhile."""
        if not lanes:
            return ()
        args = list(chain(*lanes))
        return cast(Sequence[int], self._run([(self._looked, [self.keys.popped(vendor)], args)])[0])

    def _reap_keys(self, lane: str) -> list[str]:
        keys = self.keys
        leases = keys.lane_leases(lane)
        own = [leases, keys.lane_holders(lane), keys.lane_tries(lane), keys.lane_load(lane)]
        return [*own, *(keys.lane_queue(lane, urgency) for urgency in URGENCIES)]

    def _own_keys(self, lane: str) -> list[str]:
        """As lane_take and lane_commit have them."""
        found = self._own.get(lane)
        if found is None:
            if len(self._own) >= OWN_KEYS_MAX:
                self._own.clear()
            keys = self.keys
            found = self._own[lane] = [
                keys.lane_blobs(lane),
                keys.lane_leases(lane),
                keys.lane_holders(lane),
                keys.lane_tries(lane),
                keys.lane_load(lane),
            ]
        return found

    def _take_keys(self, lane: str, urgency: Urgency) -> list[str]:
        rates = [self._shared.lane(lane), self._shared.rate(lane)]
        return [self.keys.lane_queue(lane, urgency), *self._own_keys(lane), *rates]

    def _commit_keys(self, taken: Taken, commit: LaneCommit) -> list[str]:
        keys, lane = self.keys, taken.lane
        own = [
            *self._own_keys(lane),
            keys.lane_queue(lane, taken.urgency),
            self._shared.rate(lane),
            self._shared.inflight(lane),
        ]
        own += [keys.stream(LEDGER), keys.delayed, keys.timer_wake_up]
        return [*own, *commit.keys, *commit.taken]


def put_all(pipe: Pipeline, puts: Sequence[tuple[LaneQueues, Iterable[NewBatch]]]) -> None:
    """Inside the caller's MULTI: as `put` of the queues of some shards, each its own batches."""
    for queues, batches in puts:
        queues.put(pipe, batches)


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
    if noted and taken.entries and taken.entries[0].order <= noted:  # they are in front
        taken.entries = [replace(one, noted=one.order <= noted) for one in taken.entries]
    return taken


def _burst(terms: LaneTerms, rate_per_s: float) -> float:
    """The most that may go at once, as in rate_now.lua."""
    return max(1.0, terms.burst * rate_per_s / terms.rate_per_s)


def _triples(rest: Sequence[Any]) -> Iterator[tuple[str, bytes, int]]:
    for index in range(0, len(rest), 3):
        yield rest[index].decode(), rest[index + 1], rest[index + 2]


def _noted(commit: LaneCommit, changed: Sequence[tuple[str, str]]) -> list[str]:
    """The names of those that come back noted. changed: names of old and new."""
    back = [entry.id for entry in commit.back if entry.noted]
    pairs = zip(commit.changed, changed, strict=True)
    return back + [name for (old, _), (_, name) in pairs if old.noted]


def _packed(commit: LaneCommit) -> list[bytes]:
    parts, changed = Counter[str](), []
    for old, new in commit.changed:  # an entry of several parts: their names differ in the order
        changed.append((old.id, entry_id(new, old.owner, old.order + parts[old.id])))
        parts[old.id] += 1
    packed = _pack(
        (
            [entry.id for entry in commit.ended],
            [entry.id for entry in commit.back],
            changed,
            commit.bytes_more,
            [delay_ms for _, delay_ms in commit.later],
            commit.unused,
            commit.marks,
            len(commit.taken),
            _noted(commit, changed),
        )
    )
    return [
        packed,
        _pack(commit.records) if commit.records else b"",
        *(new.blob for _, new in commit.changed),
        *(member for member, _ in commit.later),
    ]
