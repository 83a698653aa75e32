"""The timer: due pushes go back to their streams, wake-ups that were missed are sent again. It
never touches SQL.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from common.model import Vendor
from common.storage import keys
from common.storage.leases import Lease
from common.storage.raw_pipe import command, first_score, raw_pipe, read_all
from common.storage.scripts import run_all
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.lane_timer import LaneTimer
from workers.runtime import Runtime

#: Between two looks at the delayed set while anything waits or a lane has work. A retry is due a
#: second after its first try at the soonest, so the look of each second has seen its lane by then.
TICK_S = 0.2
#: Between two looks for missed wake-ups, and at the lanes' queues.
EVERY_S = 1.0
#: Looks at the shards of one server take so long together before what is due is served again; one
#: look may take about twice as much (workers/lane_timer.py).
LOOKS_S = 0.25


class Timer:
    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next = 0.0
        self._streams = (*keys.STREAMS, *(keys.OUT if len(runtime.shards) > 1 else ()))
        self.lanes = LaneTimer(runtime)

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # each move is atomic, and two timers move each entry once
        ((retries, replies, idle),) = _dues([self._runtime])
        return self.work(retries=retries, replies=replies, idle=idle)

    def work(self, *, retries: bool, replies: bool, idle: bool) -> float:
        """As `turn`. retries: one is due; replies: the wait for one is over; idle: none waits."""
        try:
            self.release(retries=retries, replies=replies)
        finally:  # on a full server the look is what makes room
            self.look()
        return self.pause_s(idle)

    def release(self, *, retries: bool, replies: bool) -> None:
        if retries:
            self._wake(self.lanes.release())
        if replies:
            self._runtime.replies.release_due()

    def look(self) -> None:
        """The look of each second, where it is time for it."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._look()

    def pause_s(self, idle: bool) -> float:
        """Seconds until the next turn."""
        return EVERY_S if idle and not self.lanes.loaded else TICK_S

    def listen(self, seconds: float) -> None:
        """Waits for `seconds` at most, or until something earlier is put (lua/delay.lua)."""
        _listen([self._runtime], seconds)

    def rest(self) -> None:
        """Nothing is kept."""

    def _look(self) -> None:
        """Looks for missed wake-ups and at the lanes' queues; one round trip on an idle fleet."""
        runtime, (clock, members) = self._runtime, self.lanes.questions
        missed, set_back_ms, loaded = run_all(
            runtime.redis, [runtime.streams.missed_call(self._streams), clock], [members]
        )
        self._wake({self._streams[place] for place in missed})
        for vendor in self.lanes.looked(runtime.lane_queues.names_of(loaded), int(set_back_ms)):
            runtime.send_wake_up(DELIVERY, vendor)

    def _wake(self, streams: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if any(keys.QUEUES.get(stream) == stage for stream in streams):
                self._runtime.send_wake_up(stage)
        for vendor in {
            Vendor(stream.split(":")[1]) for stream in streams if stream.startswith("send:")
        }:
            self._runtime.send_wake_up(DELIVERY, vendor)


class ShardTimers:
    """The timers of all shards of one server, with one common round trip."""

    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._shards = runtime.shards
        self._timers = [Timer(one) for one in runtime.shards]
        self._first = 0  # whose look is next

    def turn(self, lease: Lease | None = None) -> float:
        """What is due in any shard goes before a look at one; looks share LOOKS_S a turn, and the
        next turn goes on where they ended.
        """
        del lease
        dues = _dues(self._shards)
        failed = list[Exception]()
        for one, (retries, replies, _) in zip(self._timers, dues, strict=True):
            try:
                one.release(retries=retries, replies=replies)
            except Exception as error:  # noqa: BLE001 - of this shard: the others go on
                failed.append(error)
        pause_s = min([one.pause_s(due[2]) for one, due in zip(self._timers, dues, strict=True)])
        until = time.monotonic() + LOOKS_S
        for one in [*self._timers[self._first :], *self._timers[: self._first]]:
            self._first = (self._first + 1) % len(self._timers)
            try:
                one.look()
            except Exception as error:  # noqa: BLE001 - likewise
                failed.append(error)
            if time.monotonic() >= until:
                pause_s = 0.0
                break
        if failed:
            raise failed[0]
        return pause_s

    def listen(self, seconds: float) -> None:
        """As Timer.listen, of all shards."""
        _listen(self._shards, seconds)

    def rest(self) -> None:
        """Nothing is kept."""


def _listen(shards: Sequence[Runtime], seconds: float) -> None:
    with raw_pipe(shards[0].redis) as pipe:
        pipe.ask(
            command(
                "BLPOP", *[one.keys.timer_wake_up for one in shards], str(max(seconds, TICK_S))
            ),
            1,
        )


def _dues(shards: Sequence[Runtime]) -> list[tuple[bool, bool, bool]]:
    """Per shard: a retry is due, a reply's wait is due, nothing waits. One round trip."""
    names = [name for one in shards for name in (one.keys.delayed, one.keys.replies_due)]
    asked = "".join(
        [command("TIME"), *[command("ZRANGE", name, "0", "0", "WITHSCORES") for name in names]]
    )
    (seconds, micros), *firsts = read_all(shards[0].redis, asked, 1 + len(names))
    now = int(seconds) * 1000 + int(micros) // 1000
    due = [bool(first) and first_score(first) <= now for first in firsts]
    idle = [not first for first in firsts]
    return [(due[at], due[at + 1], idle[at] and idle[at + 1]) for at in range(0, len(firsts), 2)]
