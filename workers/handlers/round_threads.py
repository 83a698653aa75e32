"""Takes of lanes -> rounds in threads: many lanes together, or one alone, and what broke one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Final

from redis.exceptions import RedisError

from common import metrics
from common.model import Vendor
from common.storage.joint_lanes import JointLanes, Place, place_of
from common.storage.lane_entries import LaneEntry, Taken
from common.storage.lanes import FLOWING
from common.storage.redis import best_effort
from common.storage.streams import DELIVERIES_MAX
from common.storage.unavailable import if_store_answers, store_unavailable
from workers.app import DELIVERY
from workers.delivery.lane import Lane
from workers.delivery.results import Delivered
from workers.handlers.joint_parts import Wanted
from workers.handlers.joint_rounds import JointRounds
from workers.handlers.lane_rounds import LaneRounds
from workers.handlers.running_rounds import LANES_TOGETHER, RunningRound, RunningRounds
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Delay of the next look at a lane that could not be served.
AGAIN_MS: Final = 500
#: An entry with more dead senders is handled alone: its neighbours are not blamed for it.
SUSPECT_AFTER: Final = 2


class RoundThreads:
    """One vendor's rounds in this process, each in a thread."""

    def __init__(
        self,
        shards: Sequence[Runtime],
        vendor: Vendor,
        running: RunningRounds,
        lanes: JointLanes,
        stopping: Callable[[], bool],
    ) -> None:
        """shards: those whose lanes are served, by number in `lanes`."""
        self._rounds = [LaneRounds(one, stopping) for one in shards]
        self._runtime = shards[0]
        self._lanes = lanes
        self._vendor = vendor
        self._running = running
        self._joint = JointRounds(
            self._runtime, lanes, self._rounds, self._over, self._apart, self._slow
        )
        self._pool = ThreadPoolExecutor(LANES_TOGETHER, thread_name_prefix=f"lanes-{vendor}")

    def rounds_of(self, taken: Taken) -> LaneRounds:
        """Those of the take's shard."""
        return self._rounds[taken.shard]

    def flush(self) -> None:
        """What is counted reaches the token guard."""
        for one in self._rounds:
            one.counts.flush()

    @cached_property
    def joins(self) -> bool:
        """True when lanes of the vendor may share a round."""
        return self._joint.serves(self._vendor)

    def go(self, begun: Sequence[tuple[RunningRound, Lane | None]]) -> None:
        """Rounds of many lanes together where they may, else each in a thread of its own."""
        together: list[Wanted] = []
        for running, lane in begun:
            if (
                self.joins
                and lane is not None
                and not running.silent
                and running.leader is None
                and self._joint.may_join(lane, running.taken)
            ):
                running.together = True
                together.append(
                    Wanted(running.taken, running.entries, lane, running.most, running.lost)
                )
            else:
                self._pool.submit(self._round, running, lane)
        if len(together) == 1:
            self._apart(together[0])
        elif together:
            self._pool.submit(self._together, together)

    def _together(self, wanted: Sequence[Wanted]) -> None:
        started = time.perf_counter()
        try:
            self._joint.send(wanted)
        except store_unavailable() as error:
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__, "queue": self._vendor},
            )
            for one in self._still_together(wanted):
                self._give_back(one.taken, one.entries)
        except Exception as error:  # they are taken again when their leases end, and counted
            log.exception(
                "rounds broke", extra={"queue": self._vendor, "reason": type(error).__name__}
            )
        finally:
            metrics.STAGE_SECONDS.labels(DELIVERY).observe(time.perf_counter() - started)
            self._running.forget([one.taken.word for one in self._still_together(wanted)])

    def _still_together(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Those that are neither over nor done alone."""
        at_work = [(one, self._running.of(one.taken.word)) for one in wanted]
        return [one for one, running in at_work if running is not None and running.together]

    def _over(self, rounds: Sequence[tuple[Wanted, Delivered]]) -> None:
        """These are written: their lanes may go on.

        What is left of a round is ready before its end is told: who looks then must find it.
        """
        for one, done in rounds:
            self._running.learn(one.taken.lane, done)
        try:
            self._lanes.wake_at(
                [self._rest_due(one.taken, done) for one, done in rounds if done.stays]
            )
        except (RedisError, OSError) as error:
            log.warning(
                "lanes wait until they are looked after", extra={"reason": type(error).__name__}
            )
        finally:
            self._running.forget([one.taken.word for one, _ in rounds])

    def _apart(self, one: Wanted) -> None:
        """This round is done in the general way."""
        running = self._alone(one)
        self._pool.submit(self._round, running, one.lane)

    def _slow(self, one: Wanted, rest: Callable[[], Delivered]) -> None:
        """The rest of a round that waits for its lane's rate."""
        running = self._alone(one)
        self._pool.submit(self._round, running, one.lane, rest)

    def _alone(self, one: Wanted) -> RunningRound:
        """The round, from here on without the others."""
        running = self._running.of(one.taken.word)
        if running is None:
            raise LookupError("the round is over")
        running.together = False
        return running

    def put_off(self, taken: Taken, lane: Lane | None) -> None:
        """What was taken is not sent now. Raises nothing while Redis is away: the rounds beside it
        have begun.
        """
        self._give_back(taken, taken.entries, taken.now_ms + AGAIN_MS)
        if taken.what == "probe" and lane is not None:  # it was not sent: another may be it
            with best_effort("a probe that was not sent"):
                self._runtime.lane_states.tell(
                    lane.id, lane.credential.version, good=0, failed=0, refused=False
                )

    def _round(
        self,
        running: RunningRound,
        lane: Lane | None,
        rest: Callable[[], Delivered] | None = None,
    ) -> None:
        """rest: the remainder of a round that was prepared with others."""
        taken, started = running.taken, time.perf_counter()
        try:
            if rest is None:
                self._fit(running, lane)
            else:
                done = rest()
                self._running.learn(taken.lane, done)
                self._lanes.wake_at([self._rest_due(taken, done)] if done.stays else [])
        except store_unavailable() as error:
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__, "queue": self._vendor},
            )
            self._give_back(taken, running.entries)
        except Exception as error:  # it is taken again when its lease ends, and counted
            log.exception(
                "a round broke", extra={"queue": self._vendor, "reason": type(error).__name__}
            )
        finally:
            metrics.STAGE_SECONDS.labels(DELIVERY).observe(time.perf_counter() - started)
            self._running.forget([taken.word])

    def _fit(self, running: RunningRound, lane: Lane | None) -> None:
        """Handles entries that outlived their senders: suspects go alone.

        An entry delivered too often is split or dead-lettered.
        """
        fit: list[LaneEntry] = []
        for entry in list(running.entries):
            if entry.deliveries > DELIVERIES_MAX:
                self._split_or_dead_letter(
                    running,
                    entry,
                    f"poison: handed out {entry.deliveries} times and never finished",
                )
            else:
                fit.append(entry)
        suspects = [entry for entry in fit if entry.deliveries > SUSPECT_AFTER]
        fit = [entry for entry in fit if entry.deliveries <= SUSPECT_AFTER]
        if suspects and (fit or len(suspects) > 1):  # their turn comes, one by one
            alone = [] if fit else suspects[:1]
            self._give_back(running.taken, [entry for entry in suspects if entry not in alone])
            running.entries = fit or alone
        elif suspects:
            running.entries = suspects
        else:
            running.entries = fit
        if running.entries:
            self._send(running, lane)

    def _send(self, running: RunningRound, lane: Lane | None) -> None:
        try:
            self._sent(running, running.entries, lane)
            running.quiet = running.quiet and running.entries == running.taken.entries
        except store_unavailable():
            raise
        except Exception as error:  # noqa: BLE001 - whatever an entry breaks, the others must go on
            self._isolate(running, lane, error)

    def _sent(self, running: RunningRound, entries: Sequence[LaneEntry], lane: Lane | None) -> None:
        taken = running.taken
        if lane is None:
            _, vendor, business_id = taken.lane.split(":", 2)
            self.rounds_of(taken).unsent.without_account(
                taken, entries, Vendor(vendor), business_id
            )
            return
        done = self.rounds_of(taken).send(
            taken,
            entries,
            lane,
            running.most,
            running.lost,
            lambda whole: self._running.reached(running, whole=whole and len(self._rounds) == 1),
        )
        self._running.learn(taken.lane, done)
        # else nothing is prepared behind it, or more of it follows
        if running.whole and entries is running.entries:
            running.clean = done.whole or self._leaves_nothing(taken, done)
        # a lane whose time is set already is looked at then: what stays goes with its next entries
        news = done.stays and self._lanes.wake_at([self._rest_due(taken, done)])
        running.quiet = taken.paced and taken.what == "go" and not news
        if taken.what == "probe" and self._runtime.lane_states.peek(taken.lane).state == FLOWING:
            self._lanes.wake_now(taken.lane)  # all that waits behind it

    def _leaves_nothing(self, taken: Taken, done: Delivered) -> bool:
        """True when what follows in the lane may go: nothing of this round waits in the queue, and
        the vendor's answers have not stopped the lane.
        """
        if done.stays or taken.lane in self._running.silent:
            return False
        state = ""
        with if_store_answers():
            state = self._runtime.lane_states.peek(taken.lane).state
        return state == FLOWING

    @staticmethod
    def _rest_due(taken: Taken, done: Delivered) -> tuple[Place, int]:
        """The lane's next due time for what returned to the queue."""
        due_ms = taken.now_ms if done.on_hold else max(taken.due_ms, taken.now_ms)
        return place_of(taken), due_ms

    def _isolate(self, running: RunningRound, lane: Lane | None, error: Exception) -> None:
        """Isolates an entry that breaks the round: each entry alone, then each push alone."""
        running.clean = False
        if len(running.entries) == 1:
            self._broken(running, running.entries[0], error)
            return
        for entry in list(running.entries):
            if entry.id in running.lost:
                continue
            try:
                self._sent(running, [entry], lane)
                self._past(running, entry)
            except store_unavailable():
                raise
            except Exception as own:  # noqa: BLE001
                self._broken(running, entry, own)
        running.quiet = False  # each of them was told alone: the lane is looked at again

    def _broken(self, running: RunningRound, entry: LaneEntry, error: Exception) -> None:
        log.error(
            "an entry broke its round",
            extra={"queue": self._vendor, "reason": type(error).__name__},
            exc_info=error,
        )
        self._split_or_dead_letter(running, entry, f"broke_stage: {type(error).__name__}")

    def _split_or_dead_letter(self, running: RunningRound, entry: LaneEntry, reason: str) -> None:
        unsent = self.rounds_of(running.taken).unsent
        if not unsent.split(running.taken, entry):
            unsent.dead_letter(running.taken, entry, reason)
        self._past(running, entry)

    @staticmethod
    def _past(running: RunningRound, entry: LaneEntry) -> None:
        running.entries = [one for one in running.entries if one is not entry]

    def _give_back(self, taken: Taken, entries: Sequence[LaneEntry], due_ms: int = 0) -> None:
        """due_ms: when their lane may be asked again; 0: at once."""
        try:
            self._lanes.give_back(taken, entries, due_ms or taken.now_ms)
        except (RedisError, OSError) as error:
            log.warning(
                "entries come back by themselves when their lease ends",
                extra={"reason": type(error).__name__},
            )
