"""What a written round counts: metrics, the guard of tokens, tokens that are retired, replies."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from common import metrics
from common.clock import now_ms
from common.model import Decision, MessageClass, Vendor, Verdict
from common.storage.redis import best_effort
from common.storage.unavailable import database_unavailable
from workers.delivery import settle as settling
from workers.delivery.lane import Lane
from workers.delivery.outcomes import GUARDED
from workers.delivery.ports import DeliveryPorts, RoundReport
from workers.delivery.results import Delivered
from workers.handlers import alike_rounds
from workers.handlers.ledger_rows import FOLLOW_UP_KINDS
from workers.handlers.replies import tell_ended
from workers.handlers.round_entries import OpenRound, RoundEnd
from workers.held_tokens import accepted_by_cohort, held
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds after which counts of good rounds reach the token guard.
FLUSH_S = 1.0


class RoundCounts:
    """Counts of one process's rounds. An error here must not cause a second send."""

    def __init__(self, runtime: Runtime, ports: Callable[[Vendor], DeliveryPorts]) -> None:
        self._runtime = runtime
        self._ports = ports
        self._good: dict[
            str, tuple[int, Counter[str]]
        ] = {}  # by lane: answers, and accepted pushes by cohort
        self._good_lock = threading.Lock()
        self._flush_at = 0.0

    def count_all(self, ends: Sequence[RoundEnd]) -> None:
        """ends: of one vendor."""
        stored: dict[MessageClass, list[int]] = {}
        for end in ends:
            if end.packed is not None and end.lane is not None:
                self.good_round(
                    end.lane,
                    end.done.accepted,
                    alike_rounds.cohorts(end.packed, end.lane, end.now),
                )
                for class_sent, times in alike_rounds.stored_by_class(end.packed).items():
                    stored.setdefault(class_sent, []).extend(times)
            if not end.done.whole:
                self._count_end(end)
        if stored:
            _count_accepted(ends[0].vendor, stored, ends[0].now)
        self._flush_due()

    def count_whole(
        self, one: OpenRound, number: int, stored: Mapping[MessageClass, Sequence[int]], now: int
    ) -> None:
        """Counts a round whose pushes were all accepted; stored: by class the events' times, ms."""
        if one.taken.watched:
            self._ports(one.lane.vendor).breaker.report(one.lane, RoundReport(number))
        _count_accepted(one.lane.vendor, stored, now)
        self._flush_due()

    def _count_end(self, end: RoundEnd) -> None:
        if end.lane is None:
            return
        refused = any(outcome.verdict in GUARDED for _, outcome in end.done.outcomes)
        retired: set[int] = set()
        if refused or end.settled.retires:
            self.flush()  # the guard judges refused tokens beside what was accepted
            retired = {id(one.work) for one in self._retire(end.lane, end.done, end.settled)}
        elif end.done.outcomes:
            self.good_round(
                end.lane,
                len(end.done.outcomes),
                accepted_by_cohort(end.done, end.lane, end.now),
            )
        self._after(end, retired)

    def _after(self, end: RoundEnd, retired: Collection[int]) -> None:
        """Sends the replies and counts the written results."""
        tell_ended(self._runtime, end.vendor, end.business_id, end.settled.ended, retired)
        if end.lane is not None:
            count(end.lane, end.done, end.settled, end.now)

    def good_round(self, lane: Lane, number: int, more: Counter[str]) -> None:
        """Counts a round without a refused token for the guard, reported later.

        more: accepted pushes by cohort.
        """
        with self._good_lock:
            total, accepted = self._good.get(lane.id, (0, Counter()))
            self._good[lane.id] = (total + number, accepted + more)

    def _flush_due(self) -> None:
        if time.monotonic() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Reports the accepted pushes of many lanes to the token guard, at the latest when idle."""
        self._flush_at = time.monotonic() + FLUSH_S
        with self._good_lock:
            good, self._good = self._good, {}
        if good:
            with best_effort("what the guard of tokens counts"):
                self._runtime.guard.count_good([(lane, *counts) for lane, counts in good.items()])

    def _retire(
        self, lane: Lane, done: Delivered, settled: settling.Settled
    ) -> Sequence[settling.Retire]:
        """Those whose tokens are given up now. Foreign ones are on hold first
        (workers/held_tokens.py).
        """
        verdicts = [outcome.verdict for _, outcome in done.outcomes]
        foreign, dead = verdicts.count(Verdict.TOKEN_FOREIGN), verdicts.count(Verdict.TOKEN_DEAD)
        if not settled.retires and not verdicts:
            return ()
        now = now_ms()
        calm = self._runtime.guard.count(
            lane.id, len(verdicts), foreign, dead, accepted_by_cohort(done, lane, now)
        )
        on_hold = [held(one, lane, now) for one in settled.retires if one.foreign]
        self._runtime.guard.hold(lane.id, on_hold, now)
        own = [one for one in settled.retires if not one.foreign]
        chosen = [one for one in own if not one.guarded or calm["dead"]]
        if len(chosen) < len(own):
            named = {"business_id": lane.credential.business_id, "vendor": lane.vendor}
            log.error("the token guard stopped the retiring of tokens", extra=named)
        for state in ("retired", "silenced"):
            rows = [
                (
                    w.note.app,
                    w.target.user,
                    w.target.device,
                    w.target.token,
                    w.target.registered_ms,
                    one.reason,
                )
                for one in chosen
                if one.state == state
                for w in (one.work,)
            ]
            try:
                retired = self._runtime.devices.retire(rows, state)
            except (
                database_unavailable()
            ) as error:  # the pushes are settled; the vendor will say the same of the next one
                log.warning(
                    "the database is away: dead tokens stay for now",
                    extra={"reason": type(error).__name__},
                )
                return ()
            if retired:
                metrics.TOKENS_RETIRED.labels(lane.vendor).inc(retired)
        return [one for one in chosen if one.state == "retired"]


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """Suppresses errors after the write: an error here must not cause a second send."""
    try:
        yield
    except Exception as error:
        log.exception("a round could not be counted", extra={"reason": type(error).__name__})


def stored_by_class(done: Delivered) -> dict[MessageClass, list[int]]:
    """By class as sent, the times at which all accepted messages were stored, ms."""
    stored: dict[MessageClass, list[int]] = {}
    for work, _ in done.outcomes:
        note = work.note
        stored.setdefault(note.class_sent, []).append(note.ts_ms)
    return stored


def _count_accepted(vendor: Vendor, stored: Mapping[MessageClass, Sequence[int]], now: int) -> None:
    for class_sent, times in stored.items():
        _count_decided(vendor, Decision.ACCEPTED, class_sent, times, now)


def _count_decided(
    vendor: Vendor, decision: Decision, class_sent: MessageClass, times: Sequence[int], now: int
) -> None:
    metrics.DECISIONS.labels(vendor, decision, class_sent).inc(len(times))
    if decision is Decision.ACCEPTED:
        seconds = metrics.STORED_TO_ACCEPTED_SECONDS.labels(vendor, class_sent)
        metrics.observe_all(seconds, [max(now - ts_ms, 0) / 1000 for ts_ms in times])


def count(lane: Lane, done: Delivered, settled: settling.Settled, now: int) -> None:
    stored: dict[tuple[Decision, MessageClass], list[int]] = {}
    for one in settled.ended:
        note = one.work.note
        if note.kind not in FOLLOW_UP_KINDS:  # they have no row of their own
            stored.setdefault((one.decision, note.class_sent), []).append(note.ts_ms)
    for (decision, class_sent), times in stored.items():
        _count_decided(lane.vendor, decision, class_sent, times, now)
    for reason, number in Counter(wait.reason for wait in settled.waits).items():
        metrics.RETRIES.labels(lane.vendor, reason).inc(number)
    if settled.alarms:
        metrics.UNKNOWN_CODES.labels(lane.vendor).inc(settled.alarms)
        codes = sorted(
            {
                f"{o.status}/{o.code}"[:40]
                for _, o in done.outcomes
                if o.alarm or o.verdict == Verdict.UNKNOWN
            }
        )
        log.error(
            "a vendor said something that nobody documents",
            extra={"vendor": lane.vendor, "code": " ".join(codes[:5])},
        )
