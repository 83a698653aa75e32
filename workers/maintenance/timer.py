"""The timer: due pushes go back to their streams, wake-ups that were missed are sent again. It
never touches SQL.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from common.model import Vendor
from common.storage import keys
from common.storage.leases import Lease
from common.storage.raw_pipe import command, first_score, raw_pipe, read_all
from common.storage.scripts import Call, run_all
from common.storage.shards import JointStreams
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.lane_timer import LaneTimer
from workers.runtime import Runtime

#: Least and longest time between two looks at what is due. Whoever puts something that is due
#: earlier than the rest wakes the timer.
TICK_S = 0.2
#: Between two looks for missed wake-ups, and at the lanes' queues.
EVERY_S = 1.0
#: Looks at the shards of one server take so long together before what is due is served again; one
#: look may take about twice as much (workers/lane_timer.py).
LOOKS_S = 0.25
#: Shards whose streams one script call looks at: Lua hands over some thousand names at once.
SHARDS_A_CALL = 64


class Timer:
    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next = 0.0
        self._told: Looked | None = None
        #: The server's time at the start of this turn.
        self.server_ms = 0
        self._streams = (*keys.STREAMS, *(keys.OUT if len(runtime.shards) > 1 else ()))
        self.lanes = LaneTimer(runtime)

    def turn(self, lease: Lease | None = None) -> float:
        del lease  # each move is atomic, and two timers move each entry once
        self.server_ms, ((retries, replies, next_s),) = _dues([self._runtime])
        try:
            self.release(retries=retries, replies=replies)
        finally:  # on a full server the look is what makes room
            self.look()
        return _pause_s(next_s)

    def release(self, *, retries: bool, replies: bool) -> None:
        if retries:
            self._wake(self.lanes.release())
        if replies:
            self._runtime.replies.release_due()

    @property
    def is_due(self) -> bool:
        """It is time for the look of each second."""
        return time.monotonic() >= self._next

    def look(self, told: Looked | None = None) -> None:
        """The look of each second, where it is time for it. told: what it begins with, where the
        caller has asked.
        """
        self._told = told
        if self.is_due:
            self._next = time.monotonic() + EVERY_S
            self._look()

    def listen(self, seconds: float) -> None:
        """Waits for `seconds` at most, or until something earlier is put (lua/delay.lua)."""
        _listen([self._runtime], seconds)

    def rest(self) -> None:
        """Nothing is kept."""

    def questions(self) -> tuple[Sequence[Call], Sequence[str]]:
        """As LaneTimer.questions."""
        return self.lanes.questions(self.server_ms)

    def _look(self) -> None:
        """Looks for missed wake-ups and at the lanes' queues; one round trip on an idle fleet."""
        told, self._told = self._told or self._asked(), None
        self._wake(set(told.missed))
        held = self._runtime.lane_queues.names_of(told.loaded)
        for vendor in self.lanes.looked(held, told.set_back_ms):
            self._runtime.send_wake_up(DELIVERY, vendor)

    def _asked(self) -> Looked:
        runtime, (clock, members) = self._runtime, self.questions()
        missed, *set_back_ms, loaded = run_all(
            runtime.redis, [runtime.streams.missed_call(self._streams), *clock], [members]
        )
        names = [self._streams[place] for place in missed]
        return Looked(names, loaded, sum(map(int, set_back_ms)))

    def _wake(self, streams: set[str]) -> None:
        for stage in (PRESENCE, ROUTING):
            if any(keys.QUEUES.get(stream) == stage for stream in streams):
                self._runtime.send_wake_up(stage)
        for vendor in {
            Vendor(stream.split(":")[1]) for stream in streams if stream.startswith("send:")
        }:
            self._runtime.send_wake_up(DELIVERY, vendor)


@dataclass(frozen=True, slots=True)
class Looked:
    """The answers at the start of a look. missed: streams that wait for a wake-up; loaded: members
    of keys.loaded_lanes; set_back_ms: by how much the server's clock was set back.
    """

    missed: Sequence[str]
    loaded: Iterable[bytes]
    set_back_ms: int


class ShardTimers:
    """The timers of all shards of one server, with one common round trip."""

    name = "timer"

    def __init__(self, runtime: Runtime) -> None:
        self._shards = runtime.shards
        self._timers = [Timer(one) for one in runtime.shards]
        self._joint = JointStreams(runtime.redis, [one.keys for one in runtime.shards])
        self._streams = list(self._joint.names_of((*keys.STREAMS, *keys.OUT)).items())
        self._first = 0  # whose look is next

    def turn(self, lease: Lease | None = None) -> float:
        """Serves what is due in any shard before a look at one; looks share LOOKS_S a turn.

        The next turn continues where they ended.
        """
        del lease
        server_ms, dues = _dues(self._shards)
        failed = list[Exception]()
        for one, (retries, replies, _) in zip(self._timers, dues, strict=True):
            one.server_ms = server_ms
            try:
                one.release(retries=retries, replies=replies)
            except Exception as error:  # noqa: BLE001 - of this shard: the others go on
                failed.append(error)
        pause_s = _pause_s(min([next_s for *_, next_s in dues]))
        until = time.monotonic() + LOOKS_S
        due = {number: one for number, one in enumerate(self._timers) if one.is_due}
        looked = self._looked(due, failed)
        for number in [*range(self._first, len(self._timers)), *range(self._first)]:
            self._first = (number + 1) % len(self._timers)
            try:
                self._timers[number].look(looked.get(number))
            except Exception as error:  # noqa: BLE001 - likewise
                failed.append(error)
            if time.monotonic() >= until:
                pause_s = 0.0
                break
        if failed:
            raise failed[0]
        return pause_s

    def _looked(self, due: Mapping[int, Timer], failed: list[Exception]) -> Mapping[int, Looked]:
        """What the looks of these shards begin with; where that fails, each asks for itself."""
        found, numbers = dict[int, Looked](), list(due)
        old = {number: names for number, one in due.items() if (names := one.lanes.old_names())}
        if old and not self._shards[0].redis.exists(*chain.from_iterable(old.values())):
            for number in old:  # as a rule
                due[number].lanes.no_old_work()
        for at in range(0, len(numbers), SHARDS_A_CALL):
            some = {number: due[number] for number in numbers[at : at + SHARDS_A_CALL]}
            try:
                found |= self._asked(some)
            except Exception as error:  # noqa: BLE001 - perhaps of one shard
                failed.append(error)
        return found

    def _asked(self, due: Mapping[int, Timer]) -> dict[int, Looked]:
        """In one round trip."""
        streams = [(name, stream) for name, stream in self._streams if self._of(name) in due]
        asked = {number: one.questions() for number, one in due.items()}
        clocks = [(number, call) for number, (calls, _) in asked.items() for call in calls]
        missed, *reply = run_all(
            self._shards[0].redis,
            [self._joint.missed_call([name for name, _ in streams]), *(c for _, c in clocks)],
            [members for _, members in asked.values()],
        )
        set_back: dict[int, int] = {}
        for (number, _), ms in zip(clocks, reply, strict=False):
            set_back[number] = set_back.get(number, 0) + int(ms)
        waiting: dict[int, list[str]] = {}
        for name, stream in [streams[place] for place in missed]:
            waiting.setdefault(self._of(name), []).append(stream)
        loaded = dict(zip(asked, reply[len(clocks) :], strict=True))
        return {
            number: Looked(waiting.get(number, ()), loaded[number], set_back.get(number, 0))
            for number in due
        }

    @staticmethod
    def _of(name: str) -> int:
        """The shard of a stream of `_joint`."""
        return int(name.partition("|")[0])

    def listen(self, seconds: float) -> None:
        """As Timer.listen, of all shards."""
        _listen(self._shards, seconds)

    def rest(self) -> None:
        """Nothing is kept."""


def _pause_s(next_s: float) -> float:
    """Seconds until the next turn. next_s: until the first is due."""
    return max(TICK_S, min(next_s, EVERY_S))


def _listen(shards: Sequence[Runtime], seconds: float) -> None:
    with raw_pipe(shards[0].redis) as pipe:
        names = [one.keys.timer_wake_up for one in shards]
        pipe.ask(command("BLPOP", *names, str(max(seconds, TICK_S))), 1)


def _dues(shards: Sequence[Runtime]) -> tuple[int, list[tuple[bool, bool, float]]]:
    """The server's time, ms; per shard: a retry is due, a reply's wait is due, seconds until the
    first is due.

    One round trip while nothing waits, as mostly.
    """
    redis = shards[0].redis
    names = [name for one in shards for name in (one.keys.delayed, one.keys.replies_due)]
    (seconds, micros), some = read_all(redis, command("TIME") + command("EXISTS", *names), 2)
    looks = [command("ZRANGE", name, "0", "0", "WITHSCORES") for name in names if some]
    firsts = read_all(redis, "".join(looks), len(looks)) if looks else [None] * len(names)
    now = int(seconds) * 1000 + int(micros) // 1000
    waits = [(first_score(first) - now) / 1000 if first else math.inf for first in firsts]
    return now, [
        (one <= 0, other <= 0, min(one, other))
        for one, other in zip(waits[::2], waits[1::2], strict=True)
    ]
