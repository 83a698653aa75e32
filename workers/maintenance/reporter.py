"""The reporter: the fleet's gauges, the ledger's days, and deletion by age."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from common import metrics
from common.clock import now_ms
from common.storage import ageing, keys, sql
from common.storage import lanes as lane_store
from common.storage.away import SlotAwayError
from common.storage.cluster import slot_of
from common.storage.core_streams import core_streams
from common.storage.lane_loads import Load
from common.storage.leases import Lease
from common.storage.streams import CoreStreams, StreamDepth
from workers import shards
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.delivery.lane import Lane
from workers.fleet_watch import PauseWatch, show_memory, show_missing
from workers.gate import terms_of
from workers.lane_report import lane_status
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Between two looks at the streams.
STREAMS_EVERY_S = 5.0
#: The lanes' states, all in one round trip.
LANES_EVERY_S = 5.0
#: What is due so soon is done with what is due now: one wake-up for both.
SLACK_S = 0.5
#: With many lanes they are looked at less often.
LANES_PER_S = 500
#: Looks at the lanes for one at their quotas and guards, which costs three times as much.
LIMITS_AFTER_LOOKS = 5
#: Gauges that cost a query; the dead letters are counted in one, which reads as much as there is.
#: The ledger's old days, where its size is bounded.
EVERY_15_S = 15.0
#: Old days otherwise, dead readers.
EVERY_MINUTE_S = 60.0
#: Values of pushfleet_lane_state; a paused lane is a stopped one.
LANE_NUMBERS = {lane_store.FLOWING: 0, lane_store.PROBING: 1, lane_store.STOPPED: 2}
#: Possible origins of a dead letter: shown as 0 before the first one, so that it is an increase.
LETTER_STAGES = ("intake", PRESENCE, ROUTING, DELIVERY, "ledger")
#: Milliseconds after which a silent reader without entries is removed.
DEAD_READER_MS = 3_600_000
#: Seconds between two counts of the ledger's minutes, which are counted when they are over; a
#: backlog is counted sooner.
TALLY_EVERY_S = 60.0
TALLY_AGAIN_S = 2.0
#: Longest duration of one such count, seconds.
TALLY_S = 20.0
#: Seconds between two deletions by age.
AGES_EVERY_S = 900.0
#: Between two comparisons of the accounts in SQL with their copy in Redis.
ACCOUNTS_EVERY_S = 60.0
#: Longest duration of one such look; the rest waits for the next.
AGES_S = 120.0
#: A gauge's query is not waited for longer than this.
QUERY_S = 3.0


class Reporter:
    name = "reporter"

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._pauses = PauseWatch(runtime)
        self._waiting: dict[str, int] = {}
        self._due: dict[Callable[[], None], float] = {}

    @cached_property
    def _core(self) -> CoreStreams:
        return core_streams(
            self._runtime.core, self._runtime.settings.event_streams, self._runtime.keys
        )

    def turn(self, lease: Lease | None = None) -> float:
        # Gauges are set only while the lease is ours; dropping a day twice drops it once.
        del lease
        look_s = max(LANES_EVERY_S, len(self._runtime.catalog.now.lanes) / LANES_PER_S)
        pace = {
            self.show_streams: STREAMS_EVERY_S,
            self.show_lanes: look_s,
            self.show_dead_letters: EVERY_15_S,
            self.every_15_s: max(EVERY_15_S, LIMITS_AFTER_LOOKS * look_s),
            self.keep_days: EVERY_MINUTE_S
            if self._runtime.settings.ledger_bytes_max is None
            else EVERY_15_S,
            self.forget_readers: EVERY_MINUTE_S,
            self.count_minutes: TALLY_EVERY_S,
            self.forget: AGES_EVERY_S,
            self.check_accounts: ACCOUNTS_EVERY_S,
        }
        for each, every_s in pace.items():
            if time.monotonic() + SLACK_S >= self._due.get(each, 0.0):
                self._due[each] = time.monotonic() + every_s
                self._without_database(each)
        return max(min(self._due.values()) - time.monotonic(), SLACK_S)

    def rest(self) -> None:
        metrics.hide()

    def _without_database(self, do: Callable[[], None]) -> None:
        """Does what needs the database, or all shards, or postpones it: the other gauges do not
        wait for it.
        """
        try:
            do()
        except sql.DATABASE_UNAVAILABLE as error:
            log.warning("the database is away", extra={"reason": type(error).__name__})
        except SlotAwayError as error:
            if error.slot == slot_of(self._runtime.redis):
                raise
            log.warning("a shard is away", extra={"reason": type(error).__name__})

    def show_streams(self) -> None:
        """Shows our streams, the core's streams and the delayed set."""
        runtime, fleet = self._runtime, self._answering()
        loads = shards.lanes_loads(fleet)
        found = {
            **shards.backlog(fleet, _streams(runtime)),
            **shards.lanes_backlog(fleet, loads),
        }
        core, now = runtime.core, now_ms()
        depth, oldest = 0, None
        for stream in runtime.settings.event_streams:
            length = int(core.xlen(stream))
            depth += length
            first: Any = core.xrange(stream, count=1) if length else None
            oldest = min(oldest or now, int(first[0][0].split(b"-")[0])) if first else oldest
        self._show_waiting(found, depth, oldest, now, fleet)
        empty = [name for name, one in found.items() if not one.unread]
        empty += () if depth else runtime.settings.event_streams
        self.show_queue_wait(loads, empty, fleet)

    def _answering(self) -> shards.Answering:
        """The shards of which something can be told; pushfleet_shard_away shows the others."""
        found = shards.answering(self._runtime)
        numbers = range(len(self._runtime.shards))
        metrics.show(metrics.SHARD_AWAY, {(str(one),): int(one in found.away) for one in numbers})
        return found

    def show_queue_wait(
        self,
        loads: Sequence[Mapping[str, Load]] | None = None,
        empty: Collection[str] = (),
        fleet: shards.Fleet | None = None,
    ) -> None:
        """Shows autoscaling's input: work that could be done now and has no worker.

        empty: streams of which it is known that nothing waits. loads, fleet: of the shards that
        answer.
        """
        runtime = self._runtime
        fleet = fleet or runtime
        streams = dict.fromkeys(_streams(runtime), 0.0)
        if asked := [name for name in streams if name not in empty]:
            streams |= shards.untaken_s(fleet, asked)
        events = dict.fromkeys(runtime.settings.event_streams, 0.0)
        if asked := [name for name in events if name not in empty]:
            events |= self._core.untaken_s(asked)
        found: dict[tuple[str, ...], float] = {("intake", metrics.NONE): max(events.values())}
        for stream, waited in streams.items():
            stage = (keys.QUEUES.get(stream, stream), metrics.NONE)
            found[stage] = max(found.get(stage, 0.0), waited)
        found |= {(DELIVERY, vendor): 0.0 for _, vendor, _ in runtime.catalog.now.lanes}
        found |= {
            (DELIVERY, vendor): waited
            for vendor, waited in shards.lanes_untaken_s(fleet, loads).items()
        }
        metrics.show(metrics.QUEUE_WAIT_SECONDS, found)

    def _show_waiting(
        self,
        found: Mapping[str, StreamDepth],
        depth: int,
        oldest: int | None,
        now: int,
        fleet: shards.Fleet,
    ) -> None:
        queues: dict[str, tuple[int, int | None]] = {}
        for stream, backlog in found.items():
            queue = keys.QUEUES.get(stream, stream)
            count, first = queues.get(queue, (0, None))
            times = [one for one in (first, backlog.oldest_ms) if one is not None]
            queues[queue] = count + backlog.unread + backlog.pending, min(times, default=None)
        queues |= {
            "events": (depth, oldest),
            "delayed": shards.delayed_waiting(fleet),
        }
        self._waiting = {queue: number for queue, (number, _) in queues.items()}
        metrics.show(metrics.BACKLOG, {(queue,): number for queue, number in self._waiting.items()})
        ages = {
            queue: now - first if first is not None else 0 for queue, (_, first) in queues.items()
        }
        metrics.show(
            metrics.OLDEST_SECONDS, {(queue,): max(age, 0) / 1000 for queue, age in ages.items()}
        )

    def show_lanes(self) -> None:
        lanes = list(self._runtime.catalog.now.lanes.values())
        states = list(
            zip(lanes, self._runtime.lane_states.peek_all([lane.id for lane in lanes]), strict=True)
        )
        self.show_queue_bytes(lanes)
        self._pauses.look(lanes)
        show_missing(self._runtime)
        metrics.show(metrics.LANE_PAUSED, {_labels(lane): int(lane.paused) for lane in lanes})
        numbers = {
            _labels(lane): 2 if lane.paused else LANE_NUMBERS[state.state] for lane, state in states
        }
        metrics.show(metrics.LANE_STATE, numbers)

        stopped = [
            lane for lane, state in states if not lane.paused and state.state != lane_store.FLOWING
        ]
        self.show_stopped(stopped)

    def show_stopped(self, lanes: Sequence[Lane]) -> None:
        """Shows since when and why lanes are stopped, in the texts of `lanes` and doctor."""
        status_of = zip(lanes, lane_status(self._runtime, lanes), strict=True) if lanes else ()
        values = {
            (*_labels(lane), str(status.why)): status.since_ms / 1000
            for lane, status in status_of
            if status.why
        }
        metrics.show(metrics.LANE_STOPPED_SINCE, values)

    def show_queue_bytes(self, lanes: Sequence[Lane]) -> None:
        """Shows every lane; empty ones are not queried."""
        held = shards.bytes_of_lanes(shards.answering(self._runtime))
        metrics.show(metrics.QUEUE_BYTES, {_labels(lane): held.get(lane.id, 0) for lane in lanes})

    def show_dead_letters(self) -> None:
        with sql.optional(self._runtime.engine, QUERY_S):
            letters = {**dict.fromkeys(LETTER_STAGES, 0), **self._runtime.dead_letters.counts()}
        metrics.show(metrics.DEAD_LETTERS, {(stage,): count for stage, count in letters.items()})

    def every_15_s(self) -> None:
        runtime = self._runtime
        lanes = list(runtime.catalog.now.lanes.values())
        stopped = runtime.guard.stopped_of([lane.id for lane in lanes])
        metrics.show(metrics.TOKEN_GUARD, {_labels(lane): int(stopped[lane.id]) for lane in lanes})
        ends = {_labels(lane): lane.credential.options.get("expires_ms") for lane in lanes}
        metrics.show(
            metrics.CREDENTIAL_EXPIRES_SECONDS,
            {labels: (int(ms) - now_ms()) / 1000 for labels, ms in ends.items() if ms},
        )
        self._show_quotas(lanes)
        show_memory(runtime)

    def forget_readers(self) -> None:
        fleet = shards.answering(self._runtime)
        shards.forget_dead_readers(fleet, _streams(self._runtime), DEAD_READER_MS)

    def _show_quotas(self, lanes: Sequence[Lane]) -> None:
        admission, now = self._runtime.admission, now_ms()
        usages = zip(
            lanes, admission.usage_of([terms_of(lane, now) for lane in lanes]), strict=True
        )
        found = {(*_labels(lane), usage.bucket): usage for lane, both in usages for usage in both}
        metrics.show(metrics.QUOTA_USED, {labels: usage.used for labels, usage in found.items()})
        metrics.show(
            metrics.QUOTA_LIMIT,
            {labels: usage.limit for labels, usage in found.items() if usage.limit is not None},
        )

    def keep_days(self) -> None:
        """The ledger's day of tomorrow is made, those that are too old are dropped."""
        runtime, today = self._runtime, datetime.now(UTC).date()
        with sql.optional(runtime.engine, sql.DEADLINE_S):
            runtime.ledger.ready_for(today + timedelta(days=1))
            dropped = runtime.ledger.drop_old(today - timedelta(days=runtime.settings.ledger_days))
            most = runtime.settings.ledger_bytes_max
            over = runtime.ledger.drop_over(most, today) if most is not None else []
        if over:
            log.warning(
                "the ledger was larger than PUSHFLEET_LEDGER_BYTES_MAX: its oldest days were "
                "dropped",
                extra={"count": len(over)},
            )
        if dropped:
            log.info("old days of the ledger were dropped", extra={"count": len(dropped)})

    def count_minutes(self) -> None:
        """Counts by minute for the console and the API. What still waits for the ledger is looked
        at first: it is counted again.
        """
        runtime = self._runtime
        unwritten = shards.backlog(runtime, (keys.LEDGER,))[keys.LEDGER].oldest_ms
        with sql.optional(runtime.engine, TALLY_S):
            runtime.tallies.sample(now_ms(), self._waiting)
            if runtime.tallies.count(now_ms(), unwritten):
                self._due[self.count_minutes] = time.monotonic() + TALLY_AGAIN_S

    def check_accounts(self) -> None:
        """A change whose notice was lost is noticed all the same."""
        with sql.optional(self._runtime.engine, QUERY_S):
            self._runtime.catalog.check()

    def forget(self) -> None:
        """Data of people who left, dead letters beyond their age or size, dead readers."""
        runtime = self._runtime
        for stream in runtime.settings.event_streams:
            self._core.make(stream)
            self._core.forget_dead_readers(stream, DEAD_READER_MS)
        runtime.streams.make(keys.RECEIPTS)
        runtime.streams.forget_dead_readers(keys.RECEIPTS, DEAD_READER_MS)
        with sql.optional(runtime.engine, AGES_S):
            deleted = ageing.forget(runtime.engine, now_ms())
            runtime.tallies.fold(now_ms(), runtime.settings.ledger_days)
        for kind, count in deleted.items():
            log.warning(
                "what is too old or too much was forgotten", extra={"cause": kind, "count": count}
            )


def _streams(runtime: Runtime) -> tuple[str, ...]:
    """The streams of each shard."""
    return (*keys.STREAMS, *(keys.OUT if len(runtime.shards) > 1 else ()), keys.LEDGER)


def _labels(lane: Lane) -> tuple[str, ...]:
    return lane.credential.app, lane.vendor, lane.credential.business_id
