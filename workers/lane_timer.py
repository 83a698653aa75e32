"""Timed work on the lanes' queues: due retries, sendable lanes, dead senders, bounds, expiry.

Part of the timer, which is one process at a time; a repeat does no harm. Its memory may be lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from common.clock import now_ms
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.cluster import owner_of
from common.storage.lane_entries import LaneEntry, Taken, vendor_of
from common.storage.lane_loads import Load
from common.storage.scripts import Call
from common.storage.server_clock import ServerClock
from workers.handlers.lane_rounds import LaneRounds
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: With many lanes they are looked through less often than in each look (one a second).
LANES_PER_S: Final = 500
#: Moves of due retries in one turn.
MOVES_MAX: Final = 10
#: Seconds of one look's work on waiting pushes; the next look continues.
BUDGET_S: Final = 0.25
#: Names of a queue that are looked through at a time, at its head and further on in turn; entries
#: that are ended at a time.
WINDOW: Final = 200
END_MAX: Final = 20
#: The server's memory is asked for so often; in each look while it is nearly full.
MEMORY_EVERY_S: Final = 5.0
#: Percent of its memory at which a server counts as full, and to which waiting bulk and groups end.
FULL_PERCENT: Final = 98
ROOM_PERCENT: Final = 95
#: Interval of the check for entries of an earlier release, once none was left.
OLD_EVERY_S: Final = 5.0
#: Entries of one lane and urgency that are looked through for what was recalled, and of one read.
PULL_MAX: Final = 1_000
PULL: Final = 50

#: Pushes behind one stopped lane that are looked through in a look for what was read meanwhile,
#: and the seconds of such looks. A call is not read.
READ_PUSHES: Final = 200
READ_S: Final = 0.05
READ_KINDS: Final = (Urgency.CHAT, Urgency.GROUP, Urgency.BULK)

#: Beyond the order of every entry.
EVERYTHING: Final = 1 << 62
FLEET_FULL: Final = "the queues of all lanes together are full"
SERVER_FULL: Final = "Redis is full"
_BULK_FIRST: Final = (Urgency.BULK, Urgency.GROUP)


class LaneTimer:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queues = runtime.lane_queues
        self._clock = ServerClock(runtime.redis, runtime.keys)
        self._rounds = LaneRounds(runtime, lambda: False)
        self._places: dict[tuple[str, Urgency], int] = {}
        self._memory_at = 0.0
        self._lanes_at = 0.0
        self._read_places: dict[tuple[str, Urgency], int] = {}
        self._old_at = 0.0
        self._memory_max = 0
        self._memory_used = 0

    # ------------------------------------------------------------ ten times a second

    def release(self) -> set[str]:
        """Returns due retries to their queues; returns the streams that got one.

        The vendors' are named `send:<vendor>:<urgency>`.
        """
        got = set[str]()
        for _ in range(MOVES_MAX):
            moved = self._runtime.delayed.release_due()
            got |= moved
            if not moved:
                break
        return got

    # ------------------------------------------------------------ once a second

    def look(self) -> set[Vendor]:
        """Everything else; the vendors whose workers have something to do."""
        return self.looked(self._queues.loaded(), self._clock.set_back_ms())

    def questions(self, server_ms: int) -> tuple[Sequence[Call], Sequence[str]]:
        """Script calls (one at most) and the command at the start of a look, for a shared round
        trip. server_ms: the server's time a moment ago.
        """
        clock = self._clock.call_at(server_ms)
        return [clock] if clock else [], ("SMEMBERS", self._runtime.keys.loaded_lanes)

    def looked(self, loaded: Sequence[str], set_back_ms: int) -> set[Vendor]:
        """As `look`, with the answers. loaded: lanes that hold something; set_back_ms: by how much
        the server's clock was set back.
        """
        self._clock.answered()
        vendors = self._old_work()
        if set_back_ms:
            self._follow_clock(set_back_ms, loaded)
        if not loaded:  # what is taken or waits keeps its lane among them
            return vendors
        loads: Mapping[str, Load] = {}
        if time.monotonic() >= self._lanes_at:
            self._lanes_at = time.monotonic() + len(loaded) // LANES_PER_S
            loaded = list(loads := self._held(loaded))
        if not loaded:  # as after a lone chat
            return vendors
        loaded_vendors = sorted({vendor_of(lane) for lane in loaded})
        self._queues.reap(*loaded_vendors)
        if loads:
            self._sweep(loads)
            self._shed(loads)
            self._end_read(loads)
        return vendors | set(self._queues.due_vendors(loaded_vendors))

    def _held(self, loaded: Sequence[str]) -> dict[str, Load]:
        """What lanes hold that hold something; the others are forgotten."""
        loads = self._queues.loads(loaded)
        empty = [lane for lane in loaded if not loads[lane].bytes]
        self._queues.forget(empty)
        for lane in empty:
            self._forget_account(lane)
        return {lane: load for lane, load in loads.items() if load.bytes}

    def _follow_clock(self, ms: int, loaded: Sequence[str]) -> None:
        """The server's clock was set back: what is due by the old one is due now. Leases are only
        cut, to what a sender can have.
        """
        keys_, queues = self._runtime.keys, self._queues
        log.warning("the clock of Redis was set back", extra={"delay_s": ms / 1000})
        ready = [keys_.ready(vendor, urgency) for vendor in Vendor for urgency in Urgency]
        self._clock.advance([keys_.delayed, keys_.replies_due, *ready], ms)
        self._clock.advance([keys_.lane_leases(lane) for lane in loaded], ms, queues.lease_ms)
        self._clock.advance(
            [keys_.popped(vendor) for vendor in Vendor], ms, queues.lease_ms + 1_000
        )

    def _forget_account(self, lane: str) -> None:
        """Deletes a removed account's data once its queue is empty."""
        app, vendor, business_id = lane.split(":", 2)
        if self._runtime.catalog.lane(app, Vendor(vendor), business_id) is None:
            self._queues.drop(lane)

    def old_names(self) -> list[str]:
        """The keys of work of releases before 0.2, where it is time to look for it."""
        if time.monotonic() < self._old_at:
            return []
        keys_ = self._runtime.keys
        streams = [keys_.stream(name) for names in keys.SEND.values() for name in names]
        return [keys_.parked_lanes, *streams]

    def no_old_work(self) -> None:
        """The caller has found none of old_names()."""
        self._old_at = time.monotonic() + OLD_EVERY_S

    def _old_work(self) -> set[Vendor]:
        """Vendors with work of releases before 0.2; checked each turn while there is some."""
        if time.monotonic() < self._old_at:
            return set()
        found = self._runtime.delayed.adopt_on_hold() | self._old_streams()
        self._old_at = 0.0 if found else time.monotonic() + OLD_EVERY_S
        return found

    def _old_streams(self) -> set[Vendor]:
        """Vendors with entries of releases before 0.2 in their streams: their workers move them."""
        redis, stream = self._runtime.redis, self._runtime.keys.stream
        names = [
            (vendor, stream(name)) for vendor, streams in keys.SEND.items() for name in streams
        ]
        if not redis.exists(*(name for _, name in names)):
            return set()
        with redis.pipeline(transaction=False) as pipe:
            for _, name in names:
                pipe.xlen(name)
            return {
                vendor for (vendor, _), length in zip(names, pipe.execute(), strict=True) if length
            }

    # ------------------------------------------------------------ what ran out of time

    def _sweep(self, loads: Mapping[str, Load]) -> None:
        """The head of each queue, and a window further on that moves from look to look."""
        filled = [
            (lane, urgency)
            for lane, load in loads.items()
            for urgency, count in load.entries.items()
            if count
        ]
        places = [
            (lane, urgency, self._place(lane, urgency, loads[lane].entries[urgency]))
            for lane, urgency in filled
        ]
        until = time.monotonic() + BUDGET_S
        for (lane, urgency), found in zip(
            filled, self._queues.over(places, now_ms(), WINDOW), strict=True
        ):
            over = list(dict.fromkeys(found))
            for start in range(0, len(over), END_MAX):
                self._review(self._queues.pick(lane, urgency, over[start : start + END_MAX]))
                if time.monotonic() >= until:
                    return

    def _place(self, lane: str, urgency: Urgency, count: int) -> int:
        start = self._places.pop((lane, urgency), 0) + WINDOW
        if start >= count:
            return 0
        self._places[lane, urgency] = start
        return start

    def _review(self, taken: Taken, words: str = "") -> int:
        self._known(taken)
        ended = self._rounds.unsent.review(taken, words)
        # a sender that looked meanwhile saw less in the queue
        self._queues.wake_at([(taken.lane, taken.urgency, 0)])
        return ended

    def _known(self, taken: Taken) -> None:
        """Sets why the entries waited, as a sender's take does; a stopped lane holds all."""
        reply = self._queues.paused(taken.lane, taken.urgency, "", 0)
        taken.noted, taken.noted_why, taken.slowed = reply.noted, reply.noted_why, reply.slowed
        why = self._runtime.lane_states.peek(taken.lane).why
        if why:
            taken.noted, taken.noted_why = EVERYTHING, why

    # ------------------------------------------------------------ bounds

    def _shed(self, loads: Mapping[str, Load]) -> None:
        """Ends pushes over the bounds: of a lane its bulk, then groups; of the fleet also chats.

        The fleet's oldest lanes come first. On a full server bulk and groups end whatever fills it:
        it takes no event any more, and no call.
        """
        until = time.monotonic() + BUDGET_S
        # people are spread evenly
        most = self._runtime.settings.lane_bytes_max // len(self._runtime.shards)
        for lane, load in loads.items():
            over = load.bytes - most
            if over > 0:
                self._end_of(
                    lane, _BULK_FIRST, over, f"the lane's queue is full ({most} bytes)", until
                )
        bound = self._fleet_bound()
        over = sum(load.bytes for load in loads.values()) - bound
        if bound and over > 0:
            self._end_oldest(loads, (*_BULK_FIRST, Urgency.CHAT), over, FLEET_FULL, until)
        elif (missing := self._missing_room()) > 0:
            self._end_oldest(loads, _BULK_FIRST, missing, SERVER_FULL, until)

    def _end_oldest(
        self,
        loads: Mapping[str, Load],
        urgencies: Sequence[Urgency],
        size: int,
        words: str,
        until: float,
    ) -> None:
        """Ends pushes of these urgencies until `size` bytes are free; the oldest lanes' first."""
        oldest = sorted(
            loads,
            key=lambda lane: min(
                (ms for ms in loads[lane].oldest_ms.values() if ms), default=1 << 62
            ),
        )
        for urgency in urgencies:
            for lane in oldest:
                if size > 0 and loads[lane].entries[urgency]:
                    size -= self._end_of(lane, (urgency,), size, words, until)

    def _end_of(
        self, lane: str, urgencies: Iterable[Urgency], size: int, words: str, until: float
    ) -> int:
        """Ends the youngest entries of these urgencies until `size` bytes are free.

        Returns the bytes freed.
        """
        freed = 0
        for urgency in urgencies:
            while freed < size and time.monotonic() < until:
                taken = self._queues.pick(lane, urgency, last=END_MAX)
                if not taken.entries:
                    break
                while (
                    len(taken.entries) > 1
                    and sum(len(one.blob) for one in taken.entries[1:]) >= size - freed
                ):
                    self._queues.give_back(taken, [taken.entries.pop(0)], 0)  # no more than must be
                freed += sum(len(one.blob) for one in taken.entries)
                ended = self._review(taken, words)
                log.warning(
                    "waiting pushes end: %s",
                    words,
                    extra={"count": ended, "queue": f"send:{vendor_of(lane)}:{urgency}"},
                )
        return freed

    def _fleet_bound(self) -> int:
        """Bytes of all lanes together; 0: the server has no bound."""
        if time.monotonic() >= self._memory_at:
            reply: Any = self._runtime.redis.info("memory")
            self._memory_max = int(reply.get("maxmemory", 0))
            self._memory_used = int(reply.get("used_memory", 0)) - int(
                reply.get("mem_not_counted_for_evict", 0)
            )
            if self._missing_room() <= 0:
                self._memory_at = time.monotonic() + MEMORY_EVERY_S
        bytes_max = self._memory_max * self._runtime.settings.bytes_max_percent // 100
        return bytes_max // self._shards_here()

    def _missing_room(self) -> int:
        """Bytes that this shard has to free on a full server; 0: it is not full."""
        if self._memory_used * 100 <= self._memory_max * FULL_PERCENT:
            return 0
        over = self._memory_used - self._memory_max * ROOM_PERCENT // 100
        return over // self._shards_here() if self._memory_max else 0

    def _shards_here(self) -> int:
        """Shards that share this shard's server now."""
        mine = owner_of(self._runtime.redis)
        return sum(owner_of(one.redis) == mine for one in self._runtime.shards)

    # ------------------------------------------------------------ what was read elsewhere

    def _end_read(self, loads: Mapping[str, Load]) -> None:
        """Ends pushes behind stopped lanes whose people have read them elsewhere, a part of each
        queue in each look. What flows is looked at when it is sent.
        """
        states = self._runtime.lane_states.peek_all(list(loads))
        places = [
            (lane, urgency)
            for lane, state in zip(loads, states, strict=True)
            if state.why or self._is_paused(lane)
            for urgency in READ_KINDS
            if loads[lane].entries[urgency]
        ]
        left = set(places)
        self._read_places = {one: at for one, at in self._read_places.items() if one in left}
        # who was looked at longest ago comes first
        turns = {one: turn for turn, one in enumerate(self._read_places)}
        places.sort(key=lambda one: turns.get(one, -1))
        until = time.monotonic() + READ_S
        for lane, urgency in places:
            if time.monotonic() >= until:
                return
            self._end_read_of(lane, urgency, self._read_places.pop((lane, urgency), 0))

    def _is_paused(self, lane: str) -> bool:
        app, vendor, business_id = lane.split(":", 2)
        found = self._runtime.catalog.lane(app, Vendor(vendor), business_id)
        return found is not None and found.paused

    def _end_read_of(self, lane: str, urgency: Urgency, start: int) -> None:
        (ids,) = self._queues.windows([(lane, urgency, start)], PULL)
        some, pushes = list[str](), 0
        for entry in ids:
            pushes += LaneEntry(entry, b"").pushes
            if some and pushes > READ_PUSHES:
                break
            some.append(entry)
        blobs = zip(some, self._queues.blobs(lane, some), strict=True)
        waiting = [(entry, blob) for entry, blob in blobs if blob]
        read = self._rounds.unsent.read_among(vendor_of(lane), lane, waiting)
        if read:
            self._review(self._queues.pick(lane, urgency, read))
        ends = not some or len(some) == len(ids) < PULL
        self._read_places[lane, urgency] = 0 if ends else start + len(some) - len(read)

    # ------------------------------------------------------------ recalls

    def recalled(self, words: Mapping[str, Sequence[str]], until: float) -> None:
        """Ends recalled pushes that wait in a lane's queue, or for a time, now: not when the lane
        resumes or the time has come.

        words: message ids by app. until: by time.monotonic; what it has not come to by then is
        dropped when it would be sent.
        """
        for lane in self._queues.loaded():
            wanted = [word.encode() for word in words.get(lane.split(":", 1)[0], ())]
            for urgency in Urgency if wanted else ():
                self._end_recalled(lane, urgency, wanted, until)
        self._end_recalled_later(
            {app: [word.encode() for word in some] for app, some in words.items()}, until
        )

    def _end_recalled(
        self, lane: str, urgency: Urgency, wanted: Sequence[bytes], until: float
    ) -> None:
        for start in range(0, PULL_MAX, PULL):
            if time.monotonic() >= until:
                return
            (ids,) = self._queues.windows([(lane, urgency, start)], PULL)
            found = [
                entry
                for entry, blob in zip(ids, self._queues.blobs(lane, ids), strict=True)
                # many words in large entries take a second a hundred of them
                if blob and time.monotonic() < until and any(word in blob for word in wanted)
            ]
            if found:
                self._review(self._queues.pick(lane, urgency, found))
            if len(ids) < PULL:
                return

    def _end_recalled_later(self, words: Mapping[str, Sequence[bytes]], until: float) -> None:
        """As `_end_recalled`, of pushes that wait for a time: a retry, the vendor's hours or its
        next day. The others of their entries wait on for it.
        """
        delayed, found = self._runtime.delayed, dict[tuple[str, str], list[bytes]]()
        for start in range(0, PULL_MAX, PULL):
            some = delayed.window(start, PULL) if time.monotonic() < until else []
            for header, blob, member in some:
                wanted = words.get(header.name.split(":", 1)[0], ()) if header.urgency else ()
                if time.monotonic() < until and any(word in blob for word in wanted):
                    found.setdefault((header.name, header.urgency), []).append(member)
            if len(some) < PULL:
                break
        for (lane, urgency), members in found.items():
            for at in range(0, len(members), END_MAX):
                if time.monotonic() >= until:
                    return
                some_of = members[at : at + END_MAX]
                taken, wait_ms = delayed.pick(lane, Urgency(urgency), some_of)
                if taken.entries:
                    self._rounds.unsent.review(taken, wait_ms=wait_ms)
