"""Admission once more, in plain Python and one process: what the Lua must agree with, push by push
and millisecond by millisecond.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.model import Bucket, Urgency
from common.storage.admission import (
    AdmissionAnswer,
    AdmissionRequest,
    AdmissionResult,
    LaneLimits,
    Usage,
)

WAIT_MAX_MS = 10_000
LEVEL = {Urgency.CALL: 0, Urgency.CHAT: 0, Urgency.GROUP: 1, Urgency.BULK: 2}
#: What a level leaves at most of the burst to the more urgent, and the time in vain after which it
#: leaves nothing.
YIELD_MAX, STARVED_S = {1: 0.5, 2: 0.75}, 5


def kept(value: float) -> float:
    """As the script stores it: six digits."""
    return float(f"{value:.6f}")


@dataclass
class Model:
    """One lane. counts: (day, bucket) and (day, bucket, class); held: push id -> what was taken, on
    which day.

    wants: by level, (cost refused lately, until when it counts); starves: by level, since when it
    waits without a grant.
    """

    terms: LaneLimits
    tat: float = 0.0
    slow: float | None = None
    slow_at: float = 0.0
    hold: float = 0.0
    hold_at: float = 0.0
    wants: dict[int, tuple[float, float]] = field(default_factory=dict)
    starves: dict[int, float] = field(default_factory=dict)
    counts: Counter[tuple[object, ...]] = field(default_factory=Counter)
    caps: Counter[tuple[int, Bucket, str]] = field(default_factory=Counter)
    held: dict[tuple[int, str], tuple[Bucket, object, str]] = field(default_factory=dict)
    limits: dict[tuple[int, Bucket], int] = field(default_factory=dict)
    spent: set[tuple[int, Bucket]] = field(default_factory=set)

    def day(self, now: float) -> int:
        return math.floor((now + self.terms.offset_s) / 86_400)

    def quota(self, now: float, bucket: Bucket) -> int | None:
        mine, told = self.terms.quotas.get(bucket), self.limits.get((self.day(now), bucket))
        if mine is None or told is None:
            return mine
        return told if bucket in self.terms.open_limits else min(mine, told)

    def has_room(self, now: float, ask: AdmissionRequest) -> bool:
        day, bucket = self.day(now), ask.bucket
        quota = self.quota(now, bucket)
        if (day, bucket) in self.spent:
            return False
        if quota is None:
            return True
        others = sum(
            max(0, math.floor(share * quota + 0.5) - self.counts[day, where, name])
            for where, name, share in self.terms.reserve
            if where == bucket and name != ask.message_class
        )
        return self.counts[day, bucket] + 1 <= quota - others

    def rate(self, now: float) -> float:
        limit, rate = self.terms.rate_per_s, self.terms.rate_per_s
        if self.slow is not None:
            if now < self.slow_at:
                self.slow_at = kept(now)
            rate = min(limit, self.slow + 0.1 * limit * math.floor((now - self.slow_at) / 10))
        return max(rate, min(1, limit))

    def admit(self, now: float, asks: Sequence[AdmissionRequest]) -> list[AdmissionResult]:  # noqa: PLR0915 - one story
        rate = self.rate(now)
        if now < self.hold_at:
            self.hold = kept(now + (self.hold - self.hold_at))
            self.hold_at = kept(now)
        room = max(1, self.terms.burst * rate / self.terms.rate_per_s) / rate
        if self.tat > now + room + 1e-6:
            self.tat = now + room
        ahead = max(0.0, self.tat - now)
        wants = {level: self._wanted(now, level) for level in (0, 1)}
        middle = self._room(now, room, 1, wants[0] / rate)
        rooms = [room, middle, self._room(now, room, 2, (wants[0] + wants[1]) / rate)]
        dry, paid, waiting = 0 if now < self.hold else 3, set(), set()
        behind, got, refused, longest = [0.0] * 3, [0.0] * 3, [0.0] * 3, [0] * 3
        answers = []
        for ask in asks:
            refusal = self._refusal(now, ask)
            if refusal is not None:
                answers.append(AdmissionResult(refusal))
                continue
            level = LEVEL[ask.urgency]
            request = object() if ask.request is None else ask.request
            step = 0.0 if request in paid else ask.cost / rate
            if level < dry and step > 0 and ahead + step > rooms[level] + 1e-6:
                dry = level
            if level < dry:
                paid.add(request)
                ahead += step
                got[level] += step * rate
                self._take(now, ask)
                answers.append(AdmissionResult(AdmissionAnswer.GRANTED))
                continue
            step = 0.0 if request in waiting else step
            waiting.add(request)
            behind[level:] = [queue + step for queue in behind[level:]]
            most = WAIT_MAX_MS + max(0, math.ceil((self.hold - now) * 1000))
            wait_s = max(
                max(ahead, self.hold - now) + behind[level] - rooms[level], self.hold - now
            )
            answers.append(
                AdmissionResult(AdmissionAnswer.WAIT, min(most, max(1, math.ceil(wait_s * 1000))))
            )
            refused[level] += step * rate
            longest[level] = max(longest[level], answers[-1].wait_ms)
        self._remember(now, wants, got, refused, longest)
        if AdmissionAnswer.GRANTED in [one.answer for one in answers]:
            self.tat = kept(now + ahead)
        return answers

    def _wanted(self, now: float, level: int) -> float:
        cost, till = self.wants.get(level, (0.0, 0.0))
        return cost if 0 < till - now <= WAIT_MAX_MS / 1000 + 1 else 0.0

    def _room(self, now: float, room: float, level: int, wanted_s: float) -> float:
        if level in self.starves and abs(now - self.starves[level]) > STARVED_S:
            return room
        return room - min(wanted_s, YIELD_MAX[level] * room)

    def _remember(
        self,
        now: float,
        wants: dict[int, float],
        got: Sequence[float],
        refused: Sequence[float],
        longest: Sequence[int],
    ) -> None:
        for level in (0, 1):
            cost, till = self.wants.get(level, (0.0, 0.0))
            flows = now >= self.hold
            left = max(wants[level] - got[level], refused[level] if flows else 0.0)
            cost = kept(left) if left != wants[level] else cost
            till = kept(now + longest[level] / 1000 + 1) if refused[level] > 0 and flows else till
            self.wants[level] = (cost, till)
        for level in (1, 2):
            if got[level] > 0:
                self.starves.pop(level, None)
            elif refused[level] > 0:
                self.starves.setdefault(level, kept(now))

    def _refusal(self, now: float, ask: AdmissionRequest) -> AdmissionAnswer | None:
        day = self.day(now)
        if (day, ask.push_id) in self.held or (day - 1, ask.push_id) in self.held:
            return None
        if not self.has_room(now, ask):
            return AdmissionAnswer.QUOTA_SPENT
        cap = self.terms.caps.get(ask.bucket)
        return (
            AdmissionAnswer.DEVICE_CAP
            if cap is not None and self.caps[day, ask.bucket, ask.token] >= cap
            else None
        )

    def _take(self, now: float, ask: AdmissionRequest) -> None:
        day = self.day(now)
        if (day, ask.push_id) in self.held or (day - 1, ask.push_id) in self.held:
            return
        self.counts[day, ask.bucket] += 1
        self.counts[day, ask.bucket, ask.message_class] += 1
        if ask.bucket in self.terms.caps:
            self.caps[day, ask.bucket, ask.token] += 1
        if ask.bucket in self.terms.caps or ask.bucket in self.terms.quotas:
            self.held[day, ask.push_id] = (ask.bucket, ask.message_class, ask.token)

    def refund(self, now: float, asks: Sequence[AdmissionRequest]) -> int:
        back = 0
        for ask in asks:
            days = (self.day(now), self.day(now) - 1)
            day = next((day for day in days if (day, ask.push_id) in self.held), None)
            if day is not None:
                bucket, name, token = self.held.pop((day, ask.push_id))
                for count in ((day, bucket), (day, bucket, name)):
                    self.counts[count] = max(0, self.counts[count] - 1)
                self.caps[day, bucket, token] = max(0, self.caps[day, bucket, token] - 1)
                back += 1
            elif ask.bucket not in self.terms.caps and ask.bucket not in self.terms.quotas:
                self.counts[self.day(now), ask.bucket] = max(
                    0, self.counts[self.day(now), ask.bucket] - 1
                )
        return back

    def told_day(self, now: float) -> int:
        """The day of which the vendor speaks: in the first minute of one it is the day before."""
        return self.day(now - 60)

    def report_quota_spent(self, now: float, bucket: Bucket) -> None:
        self.spent.add((self.told_day(now), bucket))

    def report_quota(self, now: float, bucket: Bucket, used: int, limit: int) -> None:
        day = self.told_day(now)
        self.counts[day, bucket] = max(self.counts[day, bucket], used)
        self.limits[day, bucket] = limit

    def report_capped(self, now: float, bucket: Bucket, token: str) -> None:
        if bucket in self.terms.caps:
            place = (self.told_day(now), bucket, token)
            self.caps[place] = max(self.caps[place], self.terms.caps[bucket])

    def slow_down(self, now: float, throttled: bool, hold_s: float) -> None:
        limit, rate = self.terms.rate_per_s, self.terms.rate_per_s
        if self.slow is not None:
            rate = min(
                limit, self.slow + 0.1 * limit * max(0, math.floor((now - self.slow_at) / 10))
            )
        if throttled and (self.slow is None or now - self.slow_at >= 1 or now < self.slow_at):
            self.slow, self.slow_at = kept(max(rate / 2, min(1, limit))), kept(now)
        if hold_s > 0 and (now + hold_s > self.hold or now < self.hold_at):
            self.hold, self.hold_at = kept(now + hold_s), kept(now)

    def used(self, now: float, usage: Usage) -> int:
        """What `usage` must say of its bucket."""
        used = self.counts[self.day(now), usage.bucket]
        quota = self.quota(now, usage.bucket)
        return max(used, quota or 0) if (self.day(now), usage.bucket) in self.spent else used
