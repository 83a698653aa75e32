"""Delivery's port AdmissionGate over Redis: permits within a lane's limits.

Counts that Redis lost are rebuilt from the ledger first.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import TYPE_CHECKING

from common.model import PRIVATE_CLASSES, Bucket, Decision, MessageClass, PushType
from common.storage import lane_queues
from common.storage.admission import (
    Admission,
    AdmissionAnswer,
    AdmissionRequest,
    AdmissionResult,
    LaneLimits,
    QuotaCount,
)
from common.storage.lane_entries import LaneTerms
from common.storage.redis import best_effort
from common.storage.unavailable import store_errors
from workers.delivery.hours import day_began_ms, offset_s, shut_for_s
from workers.delivery.lane import Lane
from workers.delivery.ports import GRANTED, Permit
from workers.delivery.work import PendingPush
from workers.routing.classes import place
from workers.vendors.types import PushItem

if TYPE_CHECKING:
    from common.storage.ledger import Ledger

log = logging.getLogger(__name__)

#: Share of a second's rate that an idle lane may send at once, where the rate is checked push by
#: push.
BURST_SHARE = 0.1
#: Seconds that a round waits for its lane's counts to be rebuilt; after them its pushes wait in the
#: delayed set.
REBUILD_WAIT_S = 2.0
#: Delay of the next check while the counts are being rebuilt.
REBUILD_AGAIN_S = 1.0

_DECISION = {
    AdmissionAnswer.GRANTED: None,
    AdmissionAnswer.WAIT: Decision.THROTTLED,
    AdmissionAnswer.QUOTA_SPENT: Decision.QUOTA_SPENT,
    AdmissionAnswer.DEVICE_CAP: Decision.DEVICE_CAP,
}


def terms_of(lane: Lane, now_ms: int) -> LaneLimits:
    """The lane's limits as the store takes them. A class's reserve is held back in the bucket that
    the class travels in on this lane.

    A vendor counts what arrives within a second: burst and refill together stay within its figure
    in every second: a burst is a part of the rate, not on top of it.
    """
    limits, own = lane.limits, lane.spec.limits
    quotas = {Bucket.PRIVATE: limits.quota_private, Bucket.PUBLIC: limits.quota_public}
    usual = {Bucket.PRIVATE: own.quota_private, Bucket.PUBLIC: own.quota_public}
    caps = {Bucket.PRIVATE: limits.device_cap_private, Bucket.PUBLIC: limits.device_cap_public}
    reserve = [
        (
            place(MessageClass(name), PushType.ALERT, lane.credential, {}).bucket,
            MessageClass(name),
            share,
        )
        for name, share in lane.reserve.items()
    ]
    return LaneLimits(
        lane=lane.id,
        rate_per_s=limits.rate_per_s * (1 - BURST_SHARE),
        burst=min(limits.burst, 1 + limits.rate_per_s * BURST_SHARE),
        ramp_s=limits.ramp_s,
        quotas={bucket: quota for bucket, quota in quotas.items() if quota is not None},
        caps={bucket: cap for bucket, cap in caps.items() if cap is not None},
        open_limits=frozenset(
            bucket
            for bucket, quota in quotas.items()
            if quota is not None and quota == usual[bucket]
        ),
        reserve=reserve,
        offset_s=offset_s(limits.timezone, now_ms),
    )


def lane_terms(lane: Lane) -> LaneTerms:
    """The same for the take of the lane's entries.

    Burst and refill stay within the vendor's figure in every second there, too.
    """
    limits, share = lane.limits, lane_queues.BURST_SHARE
    burst = min(limits.burst, 1 + limits.rate_per_s * share)
    by_request = limits.rate_unit == "request"
    return LaneTerms(
        lane.credential.version, limits.rate_per_s * (1 - share), burst, limits.ramp_s, by_request
    )


def rate_shown(lane: Lane, terms: LaneLimits, rate_per_s: float) -> float:
    """A rate of the store in terms of the lane's own figure, for people: full is full."""
    return round(rate_per_s * lane.limits.rate_per_s / terms.rate_per_s, 3)


class FleetGate:
    """now_ms: this machine's clock, for the vendor's hours and the zone's summer time only.

    Rate and day go by Redis' clock. leased: the rate was leased with the take of the entries
    (common/storage/lane_queues.py), only quotas and caps are checked.
    """

    def __init__(
        self, store: Admission, ledger: Ledger, now_ms: Callable[[], int], *, leased: bool = False
    ) -> None:
        self._leased = leased
        self._store = store
        self._ledger = ledger
        self._now_ms = now_ms
        self._word = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._rebuilding: dict[str, Future[None]] = {}

    def admit(self, lane: Lane, asks: Sequence[tuple[PushItem, int]]) -> Sequence[Permit]:
        now_ms = self._now_ms()
        shut = {bucket: shut_for_s(lane.limits, bucket, now_ms) for bucket in Bucket}
        if self._leased and not any(shut.values()) and not terms_of(lane, now_ms).counted:
            return [GRANTED] * len(asks)
        open_ = [(item, number) for item, number in asks if not shut[item.note.bucket]]
        given = iter(self._ask(lane, terms_of(lane, now_ms), open_))
        return [
            Permit(Decision.THROTTLED, shut[item.note.bucket])
            if shut[item.note.bucket]
            else _leave(next(given))
            for item, _ in asks
        ]

    def refund(self, lane: Lane, works: Sequence[PendingPush]) -> None:
        if self._leased and not works:
            return
        terms = terms_of(lane, self._now_ms())
        if self._leased and not terms.counted:
            return
        asks = [
            AdmissionRequest(
                work.target.push_id, work.note.bucket, work.note.message_class, work.target.token
            )
            for work in works
        ]
        with best_effort("a refund"):
            self._store.refund(terms, asks, self._round())

    def report_quota_spent(self, lane: Lane, bucket: Bucket) -> None:
        log.warning(
            "the vendor says this day's quota is spent",
            extra={"vendor": lane.vendor, "business_id": lane.credential.business_id},
        )
        with best_effort("the vendor's word on a quota"):
            self._store.report_quota_spent(terms_of(lane, self._now_ms()), bucket)

    def report_quota(self, lane: Lane, bucket: Bucket, used: int, limit: int) -> None:
        terms, own = terms_of(lane, self._now_ms()), lane.spec.limits
        counted = own.quota_private if bucket is Bucket.PRIVATE else own.quota_public
        # A bucket that the vendor does not limit is not counted by it: its numbers are another
        # bucket's, also where an operator has set a quota.
        if bucket in terms.quotas and counted is not None:
            with best_effort("the vendor's word on a quota"):
                self._store.report_quota(terms, bucket, used, limit)

    def report_lists_spent(self, lane: Lane) -> None:
        with best_effort("the vendor's word on its lists"):
            self._store.report_lists_spent(terms_of(lane, self._now_ms()))

    def lists_spent(self, lane: Lane) -> bool:
        return self._store.lists_spent(terms_of(lane, self._now_ms()))

    def report_capped(self, lane: Lane, works: Sequence[PendingPush]) -> None:
        terms = terms_of(lane, self._now_ms())
        for bucket in {work.note.bucket for work in works}:
            with best_effort("the vendor's word on a device"):
                tokens = [work.target.token for work in works if work.note.bucket == bucket]
                self._store.report_capped(terms, bucket, tokens)

    def report_receipts(
        self, lane: Lane, bucket: Bucket, capped: Sequence[tuple[str, int]], spent_ms: Sequence[int]
    ) -> None:
        """Applies receipts to today's counts. capped: (device token, time of its send).

        spent_ms: sends that exceeded the day. A push sent on an earlier day has no effect on today.
        Only answers close a private day: few vendors sign receipts, and a forged one would do much
        harm.
        """
        terms = terms_of(lane, self._now_ms())
        began_ms = day_began_ms(lane.limits.timezone, self._store.day(terms))
        self._store.report_capped(
            terms, bucket, [token for token, sent_ms in capped if sent_ms >= began_ms]
        )
        if bucket is Bucket.PUBLIC and any(sent_ms >= began_ms for sent_ms in spent_ms):
            self.report_quota_spent(lane, bucket)

    def _ask(
        self, lane: Lane, terms: LaneLimits, wanted: Sequence[tuple[PushItem, int]]
    ) -> Sequence[AdmissionResult]:
        if self._leased and not terms.counted:
            return [_FREE] * len(wanted)
        by_request = lane.limits.rate_unit == "request"
        asks = [
            AdmissionRequest(
                item.target.push_id,
                item.note.bucket,
                item.note.message_class,
                item.target.token,
                cost=0.0 if self._leased else 1.0,
                request=number if by_request else None,
                urgency=item.note.urgency,
            )
            for item, number in wanted
        ]
        given = self._store.admit(terms, asks, self._round(), leased=self._leased)
        if given is None and self._rebuilt(lane, terms):
            given = self._store.admit(terms, asks, self._round(), leased=self._leased)
        if given is None:
            given = [AdmissionResult(AdmissionAnswer.WAIT, int(REBUILD_AGAIN_S * 1000))] * len(asks)
        return given

    def _round(self) -> str:
        """A thread of this process sends one round of a lane at a time."""
        return f"{self._word}:{threading.get_ident()}"

    # ------------------------------------------------------------ lost counts

    def _rebuilt(self, lane: Lane, terms: LaneLimits) -> bool:
        """True when the lane's counts are rebuilt; until then nothing is granted.

        Over-issue is punished, waiting is not.
        """
        with self._lock:
            job = self._rebuilding.get(lane.id)
            if job is None:
                self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="rebuild")
                job = self._rebuilding[lane.id] = self._pool.submit(self._rebuild, lane, terms)
        try:
            job.result(REBUILD_WAIT_S)
        except StillRunning:
            return False
        except store_errors() as error:
            log.warning(
                "a lane's counts are lost and the ledger can't be read: it waits",
                extra={"reason": type(error).__name__},
            )
        with self._lock:
            self._rebuilding.pop(lane.id, None)
        return job.exception() is None

    def _rebuild(self, lane: Lane, terms: LaneLimits) -> None:
        day = self._store.day(terms)
        counts = self._counts(lane, terms, day_began_ms(lane.limits.timezone, day))
        self._store.rebuild(terms, day, counts)
        log.info(
            "a lane's counts of today were read from the ledger",
            extra={"vendor": lane.vendor, "app": lane.credential.app},
        )

    def _counts(self, lane: Lane, terms: LaneLimits, since_ms: int) -> Iterator[QuotaCount]:
        credential = lane.credential
        key = (credential.app, credential.vendor, credential.business_id, since_ms)
        for wanted, sent, pushes in self._ledger.spent(*key):
            yield QuotaCount(_bucket(sent), MessageClass(wanted), pushes)
        if not terms.caps:
            return
        for token, sent, pushes in self._ledger.spent_by_token(*key):
            if _bucket(sent) in terms.caps:
                yield QuotaCount(_bucket(sent), MessageClass(sent), pushes, token)


def _bucket(class_sent: str) -> Bucket:
    """The bucket of a sent class; a downgraded message was sent as marketing."""
    return Bucket.PRIVATE if class_sent in PRIVATE_CLASSES else Bucket.PUBLIC


_FREE = AdmissionResult(AdmissionAnswer.GRANTED)


def _leave(given: AdmissionResult) -> Permit:
    return Permit(_DECISION[given.answer], given.wait_ms / 1000)
