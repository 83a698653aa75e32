"""A lane's queue in a shard without the lane's rate and state (Redis).

Those are one for the fleet, in shard 0, and are read once a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from redis import Redis

from common.model import Urgency
from common.storage.keys import Keys
from common.storage.lane_entries import RANK, LaneCommit, LaneTerms, RateLease, Taken
from common.storage.lane_queues import BYTES_MAX, LaneQueues
from common.storage.lanes import LaneStates
from common.storage.redis import best_effort
from common.storage.scripts import Call, run_all, script

#: A copy of a lane's rate and state is made for one take; it is kept no longer than this.
COPY_MS: Final = 60_000
#: Delay of the next look at a stopped lane that another process probes.
TRIED_MS: Final = 1_000
#: Lifetime of a lane's rate in shard 0, as in rate_lease.lua.
RATE_S: Final = 172_800
_LEAST_URGENT: Final = 3


def _fields(redis: Redis, fields: Sequence[tuple[str, str]]) -> list[bytes | None]:
    """The values of these (hash, field), in one round trip."""
    with redis.pipeline(transaction=False) as pipe:
        for name, field in fields:
            pipe.hget(name, field)
        return cast(list[bytes | None], pipe.execute())


class ShardLaneQueues(LaneQueues):
    """As LaneQueues. Each take is judged by a copy of the lane's rate and state; what follows is
    agreed with shard 0.
    """

    def __init__(self, redis: Redis, keys: Keys, home: LaneQueues, states: LaneStates) -> None:
        """home: the queues of shard 0; states: of all lanes."""
        super().__init__(redis, keys)
        self._home = home
        self._states = states
        self._rate_back = script(home.redis, "rate_back")

    def take(
        self,
        wanted: Sequence[tuple[str, Urgency, LaneTerms, int]],
        probe_s: float,
        bytes_max: int = BYTES_MAX,
    ) -> list[Taken]:
        self._copy(sorted({lane for lane, _, terms, _ in wanted if not terms.gone}))
        taken = super().take(wanted, probe_s, bytes_max)
        for one in taken:
            if one.what == "probe":
                self._probed(one)
        self._announce([one for one in taken if one.what in ("go", "probe") and not one.terms.gone])
        self._starve(
            [
                one
                for one in taken
                if one.what == "wait" and RANK[one.urgency] >= RANK[Urgency.GROUP]
            ]
        )
        return taken

    def _copy(self, lanes: Sequence[str]) -> None:
        """One step a copy: a take never meets half of it."""
        if not lanes:
            return
        home = self._home.keys
        with self._home.redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.hgetall(home.lane(lane))
                pipe.hgetall(home.rate(lane))
            reply = iter(cast(list[dict[bytes, bytes]], pipe.execute()))
        with self.redis.pipeline(transaction=True) as pipe:
            for lane in lanes:
                for name in (self.keys.lane(lane), self.keys.rate(lane)):
                    pipe.delete(name)
                    if fields := next(reply):
                        pipe.hset(name, mapping=cast(Any, fields))
                        pipe.pexpire(name, COPY_MS)
            pipe.execute()

    def _probed(self, taken: Taken) -> None:
        """One process of the fleet probes a stopped lane; the others return what they took."""
        reply = self._states.ask(taken.lane, taken.terms.version)
        if reply.probe:
            return
        self.commit(taken, LaneCommit(back=list(taken.entries)))
        taken.left += len(taken.entries)
        taken.what, taken.why, taken.entries = "shut", reply.why or taken.why, []
        taken.due_ms = taken.now_ms + TRIED_MS
        self.paused(taken.lane, taken.urgency, taken.why, TRIED_MS)  # it waits behind it

    def _announce(self, taken: Sequence[Taken]) -> None:
        """Makes the less urgent of all shards leave room for these, which lease soon."""
        urgent = [one for one in taken if RANK[one.urgency] < _LEAST_URGENT]
        if not urgent:
            return
        with self._home.redis.pipeline(transaction=False) as pipe:
            for one in urgent:
                level, now = RANK[one.urgency], f"{one.now_ms / 1000:.6f}"
                name = self._home.keys.rate(one.lane)
                pipe.hset(
                    name,
                    mapping={
                        f"p{level}": now,
                        **({"w0": now} if level < RANK[Urgency.GROUP] else {}),
                    },
                )
                pipe.expire(name, RATE_S, nx=True)
            pipe.execute()

    def _starve(self, taken: Sequence[Taken]) -> None:
        """Copies the starvation times of these to shard 0 where it has none (rate_now.lua).

        The next copy would lose them.
        """
        if not taken:
            return
        own, home = (
            [(queues.keys.rate(one.lane), f"s{RANK[one.urgency]}") for one in taken]
            for queues in (self, self._home)
        )
        noted, known = _fields(self.redis, own), _fields(self._home.redis, home)
        with self._home.redis.pipeline(transaction=False) as pipe:
            for (name, field), since, there in zip(home, noted, known, strict=True):
                if float(since or 0) and not float(there or 0):
                    pipe.hset(name, field, cast(Any, since))
                    pipe.expire(name, RATE_S, nx=True)
            pipe.execute()

    def lease_all(
        self, wanted: Sequence[tuple[Taken, int, int]], round_s: float
    ) -> list[RateLease]:
        return self._home.lease_all(wanted, round_s)

    def commit_all(self, commits: Sequence[tuple[Taken, LaneCommit]]) -> list[list[str]]:
        answers = super().commit_all(commits)
        home, calls = self._home.keys, list[Call]()
        for (taken, commit), lost in zip(commits, answers, strict=True):
            if taken.tokens and not lost:
                calls.append(
                    (
                        self._rate_back,
                        [home.rate(taken.lane), home.inflight(taken.lane)],
                        [taken.word, *commit.unused],
                    )
                )
        with best_effort("what a round did not need of its lane's rate"):
            run_all(self._home.redis, calls)
        return answers
