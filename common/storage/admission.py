"""Permits (Redis; counts 3 days, reservations 2, caps 1): rate, quota and caps in one step.

The decision is atomic and shared by all replicas. The scripts are in lua/: admit, refund, told,
slow, rebuild. The day is that of the vendor's calendar, by the server's clock.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final, cast

from redis import Redis

from common.model import Bucket, MessageClass, Urgency
from common.storage.keys import Keys
from common.storage.redis import existing
from common.storage.scripts import source
from common.values import Value, redacted

#: Indexes kept in Redis for two or three days: append, never reorder.
BUCKETS: Final = (Bucket.PRIVATE, Bucket.PUBLIC)
CLASSES: Final = (
    MessageClass.CHAT,
    MessageClass.CALL,
    MessageClass.ACCOUNT,
    MessageClass.ORDER,
    MessageClass.TODO,
    MessageClass.DEVICE,
    MessageClass.SUBSCRIPTION,
    MessageClass.NEWS,
    MessageClass.CONTENT,
    MessageClass.MARKETING,
    MessageClass.SOCIAL,
)
_BUCKET: Final = {bucket: number for number, bucket in enumerate(BUCKETS)}
_CLASS: Final = {message_class: number for number, message_class in enumerate(CLASSES)}
#: Urgency rank: the more urgent go first where the rate is short.
_LEVEL: Final = {Urgency.CALL: 0, Urgency.CHAT: 0, Urgency.GROUP: 1, Urgency.BULK: 2}
_LETTER: Final = {Bucket.PRIVATE: b"a", Bucket.PUBLIC: b"b"}
#: One push as admit.lua and refund.lua unpack it.
_ADMIT: Final = struct.Struct("<4s14sdiBBB4s10s")
_REFUND: Final = struct.Struct("<4s14sB4s10s")
#: A round of the usual send deadline that has not ended by then has died; its pushes are no longer
#: in flight.
ROUND_S: Final = 15
#: A field beside a day's counts, and their lifetime (as in told.lua).
LISTS_SPENT: Final = "lists:spent"
QUOTA_KEPT_S: Final = 3 * 86_400
#: Counts per call while the counts are rebuilt from the ledger.
REBUILD_BATCH: Final = 500


@dataclass(frozen=True)
class LaneLimits:
    """A lane's limits. rate_per_s, burst: in the vendor's unit.

    quotas, caps: a missing bucket has none. open_limits: our default quota only: the vendor's
    figure replaces it; else the lower of the two holds. reserve: (bucket, class, share 0..1 of its
    quota held back for it). offset_s: the vendor's clock, seconds east of UTC.
    """

    lane: str
    rate_per_s: float
    burst: float
    ramp_s: int = 0
    quotas: Mapping[Bucket, int] = field(default_factory=dict)
    caps: Mapping[Bucket, int] = field(default_factory=dict)
    open_limits: frozenset[Bucket] = frozenset()
    reserve: Sequence[tuple[Bucket, MessageClass, float]] = ()
    offset_s: int = 8 * 3600

    @cached_property
    def counted(self) -> str:
        """The buckets whose counts must be exact, as named in Redis; "" for an unlimited lane."""
        return ",".join(
            bucket for bucket in BUCKETS if bucket in self.quotas or bucket in self.caps
        )


class AdmissionRequest(Value, frozen=True):
    """One push that wants to go. cost: 0 to 1 of the rate; pushes of one call with the same
    `request` pay it once, together.
    """

    push_id: str  # hex
    bucket: Bucket
    message_class: MessageClass
    token: str
    cost: float = 1.0
    request: int | None = None  # None: a request of its own
    urgency: Urgency = Urgency.CHAT

    __repr__ = redacted("token")


class AdmissionAnswer(IntEnum):
    GRANTED = 0
    WAIT = 1
    QUOTA_SPENT = -1
    DEVICE_CAP = -2


class AdmissionResult(Value, frozen=True):
    """wait_ms: when to ask again, for WAIT only."""

    answer: AdmissionAnswer
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """One bucket on the vendor's day. limit None: unlimited; then `used` counts attempts, for
    people only.

    runs_out_ms: when the quota will be spent at today's pace (epoch), None if that is not today.
    """

    bucket: Bucket
    used: int
    limit: int | None
    runs_out_ms: int | None


@dataclass(frozen=True, slots=True)
class QuotaCount:
    """The ledger's count of a day: pushes of one bucket and class; with a token, of one device."""

    bucket: Bucket
    message_class: MessageClass
    pushes: int
    token: str | None = field(default=None, repr=False)


class Admission:
    """round_s: a round that has not ended by then has died. clock, read: for tests only: the time
    in seconds in place of the server's, and where the scripts' texts come from.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        round_s: int = ROUND_S,
        clock: Callable[[], float] | None = None,
        read: Callable[[str], str] = source,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._round_s = round_s
        self._clock = clock
        self._admit, self._refund, self._report, self._slow, self._rebuild = (
            redis.register_script(read(name))
            for name in ("admit", "refund", "told", "slow", "rebuild")
        )

    def admit(
        self,
        terms: LaneLimits,
        asks: Sequence[AdmissionRequest],
        round_: str = "",
        *,
        leased: bool = False,
    ) -> list[AdmissionResult] | None:
        """One answer per request, in order; None: the counts were lost, `rebuild` first.

        round_: names this round until `refund` ends it. A push id that was granted and not refunded
        is granted again without quota and cap; it pays the rate, as it is a request. leased: the
        rate was leased already (common/storage/lane_queues.py); only quotas and caps are checked.
        Less urgent pushes leave room for more urgent ones that the rate refused lately, and get all
        of it when there are none.
        """
        if not asks:
            return []
        if any(not 0 <= ask.cost <= 1 for ask in asks):
            raise ValueError("a push costs 0 to 1 of the rate")
        found = self._call(terms, asks, round_, leased)
        return None if found[0] == 0 else [_given(code) for code in found[3:]]

    def rate_now(self, terms: LaneLimits) -> float:
        """Rate per second now: reduced after a throttle or while it rises; 0 during Retry-After."""
        return int(self._call(terms, (), "")[2]) / 1000

    def refund(self, terms: LaneLimits, asks: Sequence[AdmissionRequest], round_: str = "") -> int:
        """Ends the round; returns quota and caps (never rate) of pushes that were not taken.

        They return to the day they were taken from. Returns their number.
        """
        lane, keys = terms.lane, self._keys
        items = b"".join(
            _REFUND.pack(
                *_push_place(terms, ask.push_id),
                _BUCKET[ask.bucket],
                *_device_place(terms, ask.token),
            )
            for ask in asks
        )
        exact = [int(bucket in terms.counted) for bucket in BUCKETS]
        args: list[Any] = [terms.offset_s, round_, *exact, len(asks), items]
        names = [keys.quota(lane), keys.caps, keys.held, keys.inflight(lane)]
        return int(self._refund(keys=names, args=[*args, *self._time()]))

    def report_quota_spent(self, terms: LaneLimits, bucket: Bucket) -> None:
        """Closes this bucket until the vendor's midnight, after a report of a spent quota."""
        self._send_report(terms, "spent", bucket)

    def report_open(self, terms: LaneLimits, bucket: Bucket) -> None:
        """Clears the vendor's report on this bucket, after an operator has set a quota."""
        self._send_report(terms, "open", bucket)

    def report_quota(self, terms: LaneLimits, bucket: Bucket, used: int, limit: int) -> None:
        """Applies the vendor's own numbers of today. Our count is never lowered.

        The vendor's number does not have the pushes on their way.
        """
        self._send_report(terms, "quota", bucket, used, limit)

    def report_capped(self, terms: LaneLimits, bucket: Bucket, tokens: Sequence[str]) -> None:
        """Fills the caps of devices that the vendor reported as full, where a cap is set."""
        if bucket in terms.caps and tokens:
            self._send_report(
                terms,
                "capped",
                bucket,
                terms.caps[bucket],
                *(part for token in tokens for part in _device_place(terms, token)),
            )

    def report_lists_spent(self, terms: LaneLimits) -> None:
        """The vendor takes no more requests for several tokens until its midnight."""
        key = f"{self._keys.quota(terms.lane)}{self.day(terms)}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, LISTS_SPENT, 1)
            pipe.expire(key, QUOTA_KEPT_S)
            pipe.execute()

    def lists_spent(self, terms: LaneLimits) -> bool:
        return bool(
            self._redis.hexists(f"{self._keys.quota(terms.lane)}{self.day(terms)}", LISTS_SPENT)
        )

    def slow_down(self, terms: LaneLimits, *, throttled: bool, hold_s: float = 0) -> float:
        """Halves the rate after flow control (once a second at most, 1/s at least); returns it.

        No grant for hold_s.
        """
        args = [terms.rate_per_s, int(throttled), hold_s, self._clock() if self._clock else ""]
        return int(self._slow(keys=[self._keys.rate(terms.lane)], args=args)) / 1000

    def day(self, terms: LaneLimits) -> int:
        """The number of the vendor's day since 1970."""
        return _day(terms, self._now())[0]

    def rebuild(self, terms: LaneLimits, day: int, counts: Iterable[QuotaCount]) -> None:
        """Raises the day's counts to these and trusts them from then on. Until it returns, `admit`
        grants nothing.
        """
        fields = (part for count in counts for part in _fields(terms, count))
        for part in _summed(fields):
            self._write(terms, day, "", part)
        self._write(terms, day, terms.counted, ())

    def usage(self, terms: LaneLimits) -> list[Usage]:
        """Both buckets on the vendor's day, now."""
        return self.usage_of([terms])[0]

    def usage_of(self, each: Sequence[LaneLimits]) -> list[list[Usage]]:
        """The same of many lanes; those that sent nothing today cost next to nothing."""
        now_s = self._now()
        days = [_day(terms, now_s) for terms in each]
        names = [
            f"{self._keys.quota(terms.lane)}{day}"
            for terms, (day, _) in zip(each, days, strict=True)
        ]
        there = existing(self._redis, names)
        found: list[list[Usage]] = []
        for terms, (_, began_ms), name in zip(each, days, names, strict=True):
            reply = cast(dict[bytes, bytes], self._redis.hgetall(name)) if name in there else {}
            counts = {field.decode(): int(count) for field, count in reply.items()}
            found.append(
                [_usage(terms, bucket, counts, began_ms, int(now_s * 1000)) for bucket in BUCKETS]
            )
        return found

    def in_flight(self, lane: str) -> int:
        """Pushes granted in rounds that have not ended; rounds of the dead are swept away."""
        rounds = cast(dict[bytes, bytes], self._redis.hgetall(self._keys.inflight(lane)))
        now = self._now()
        dead = [name for name, value in rounds.items() if float(value.split(b"|")[1]) < now]
        if dead:
            self._redis.hdel(self._keys.inflight(lane), *dead)
        return sum(int(value.split(b"|")[0]) for name, value in rounds.items() if name not in dead)

    # ------------------------------------------------------------ how the scripts are called

    def _call(
        self, terms: LaneLimits, asks: Sequence[AdmissionRequest], round_: str, leased: bool = False
    ) -> Any:
        burst = -1.0 if leased else max(terms.burst, 1.0)
        args: list[Any] = [terms.offset_s, terms.rate_per_s, burst, terms.ramp_s, terms.counted]
        args += [terms.quotas.get(bucket, -1) for bucket in BUCKETS]
        args += [int(bucket in terms.open_limits) for bucket in BUCKETS]
        args += [terms.caps.get(bucket, -1) for bucket in BUCKETS]
        args.append(
            ",".join(
                f"{_BUCKET[bucket]}:{_CLASS[name]}:{share:.6f}"
                for bucket, name, share in terms.reserve
            )
        )
        items = b"".join(_packed(terms, index, ask) for index, ask in enumerate(asks))
        args += (round_, self._round_s, len(asks), items)
        lane, keys = terms.lane, self._keys
        names = [
            keys.rate(lane),
            keys.quota(lane),
            keys.caps,
            keys.held,
            keys.counted(lane),
            keys.inflight(lane),
        ]
        return self._admit(keys=names, args=[*args, *self._time()])

    def _send_report(self, terms: LaneLimits, what: str, bucket: Bucket, *more: Any) -> None:
        args = [terms.offset_s, what, _BUCKET[bucket], self._clock() if self._clock else "", *more]
        self._report(keys=[self._keys.quota(terms.lane), self._keys.caps], args=args)

    def _write(
        self, terms: LaneLimits, day: int, counted: str, fields: Sequence[tuple[bytes, bytes, int]]
    ) -> None:
        lane, keys = terms.lane, self._keys
        args = [day, counted, *(part for one in fields for part in one)]
        self._rebuild(keys=[keys.quota(lane), keys.caps, keys.counted(lane)], args=args)

    def _time(self) -> list[float]:
        return [self._clock()] if self._clock else []

    def _now(self) -> float:
        if self._clock:
            return self._clock()
        seconds, micros = self._redis.time()
        return seconds + micros / 1e6


def _day(terms: LaneLimits, now_s: float) -> tuple[int, int]:
    day = int((now_s + terms.offset_s) // 86_400)
    return day, (day * 86_400 - terms.offset_s) * 1000


def _given(code: int) -> AdmissionResult:
    return (
        AdmissionResult(AdmissionAnswer.WAIT, code)
        if code > 0
        else AdmissionResult(AdmissionAnswer(code))
    )


#: (name of a hash, field in it); small hashes that all lanes share take a fifth of the memory of
#: one key each.
Place = tuple[bytes, bytes]
_NO_PLACE: Final[Place] = (b"", b"")


def _packed(terms: LaneLimits, index: int, ask: AdmissionRequest) -> bytes:
    """The packed request. An unlimited push needs no place."""
    held = _push_place(terms, ask.push_id) if ask.bucket in terms.counted else _NO_PLACE
    device = _device_place(terms, ask.token) if ask.bucket in terms.caps else _NO_PLACE
    request = -1 - index if ask.request is None else ask.request
    bucket = _BUCKET[ask.bucket]
    return _ADMIT.pack(
        *held, ask.cost, request, bucket, _CLASS[ask.message_class], _LEVEL[ask.urgency], *device
    )


def _push_place(terms: LaneLimits, push_id: str) -> Place:
    """A push keeps its id on whichever lane it goes, and each lane counts for itself."""
    raw = (int(push_id, 16) ^ _lane_mask(terms.lane)).to_bytes(16)
    return raw[:2].hex().encode(), raw[2:]


def _device_place(terms: LaneLimits, token: str) -> Place:
    """The token itself is not kept here. It is the device that counts: two people who share one
    share its cap.
    """
    raw = hashlib.blake2b(
        f"{terms.lane}\0{token}".encode("utf-8", "surrogatepass"), digest_size=12
    ).digest()
    return raw[:2].hex().encode(), raw[2:]


@lru_cache(4096)
def _lane_mask(lane: str) -> int:
    return int.from_bytes(hashlib.blake2b(lane.encode(), digest_size=16).digest())


def _fields(terms: LaneLimits, count: QuotaCount) -> Iterable[tuple[bytes, bytes, int]]:
    """(key part, field, number to add) of one count of the ledger, as rebuild.lua takes them."""
    if count.token is not None:
        place, digest = _device_place(terms, count.token)
        yield place, _LETTER[count.bucket] + digest, count.pushes
    else:
        yield b"", count.bucket.encode(), count.pushes
        yield b"", f"{count.bucket}:{_CLASS[count.message_class]}".encode(), count.pushes


def _summed(
    fields: Iterable[tuple[bytes, bytes, int]],
) -> Iterable[Sequence[tuple[bytes, bytes, int]]]:
    """Fields of the same name summed up, in calls of REBUILD_BATCH."""
    sums: dict[tuple[bytes, bytes], int] = {}
    for place, name, pushes in fields:
        sums[place, name] = sums.get((place, name), 0) + pushes
    left = ((place, name, pushes) for (place, name), pushes in sums.items())
    while part := list(islice(left, REBUILD_BATCH)):
        yield part


def _usage(
    terms: LaneLimits, bucket: Bucket, reply: Mapping[str, int], began_ms: int, now_ms: int
) -> Usage:
    used, limit = reply.get(bucket, 0), terms.quotas.get(bucket)
    word = reply.get(f"{bucket}:limit")
    if limit is not None and word is not None and (bucket in terms.open_limits or word < limit):
        limit = word
    if f"{bucket}:spent" in reply:
        limit = used if limit is None else limit
        used = max(used, limit)
    if limit is None or not used:
        return Usage(bucket, used, limit, None)
    if used >= limit:
        return Usage(bucket, used, limit, now_ms)
    out_ms = began_ms + (now_ms - began_ms) * limit // used
    return Usage(bucket, used, limit, out_ms if out_ms < began_ms + 86_400_000 else None)
