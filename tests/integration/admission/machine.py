"""A walk of random steps through admission, checked against the model after each one. Scripts may
be handed in with a fault planted.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from redis import Redis

from common.model import Bucket, MessageClass, Urgency
from common.storage.admission import Admission, AdmissionAnswer, AdmissionRequest, LaneLimits
from common.storage.keys import Keys
from tests.integration.admission.model import Model

#: Shanghai's midnight, 2026-01-01: 16:00 of the day before in UTC.
MIDNIGHT = 1_767_196_800.0
_numbers = itertools.count()

BUCKET = st.sampled_from([Bucket.PUBLIC, Bucket.PUBLIC, Bucket.PRIVATE])
IDS = st.integers(0, 23)


def ask_of(number: int, cost: float = 1.0, request: int | None = None) -> AdmissionRequest:
    """What a push is follows from its number: a repeat is the same push."""
    bucket = Bucket.PRIVATE if number % 4 == 3 else Bucket.PUBLIC
    message_class = (MessageClass.CHAT, MessageClass.MARKETING, MessageClass.NEWS)[number % 3]
    urgency = (Urgency.CHAT, Urgency.BULK, Urgency.GROUP, Urgency.BULK, Urgency.CALL)[number % 5]
    return AdmissionRequest(
        f"{number:032x}", bucket, message_class, f"device-{number % 5}", cost, request, urgency
    )


ASK = st.builds(
    ask_of,
    IDS,
    st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.25, 0.0]),
    st.sampled_from([None, None, 1, 2]),
)
LIMITS = st.builds(
    LaneLimits,
    lane=st.just(""),
    rate_per_s=st.sampled_from([4.0, 16.0, 1024.0]),
    burst=st.sampled_from([1.0, 4.0, 64.0]),
    quotas=st.sampled_from(
        [{Bucket.PUBLIC: 6}, {Bucket.PUBLIC: 10}, {Bucket.PUBLIC: 9, Bucket.PRIVATE: 2}, {}]
    ),
    caps=st.sampled_from([{}, {Bucket.PUBLIC: 2}, {Bucket.PUBLIC: 3, Bucket.PRIVATE: 1}]),
    open_limits=st.sampled_from([frozenset(), frozenset({Bucket.PUBLIC})]),
    reserve=st.sampled_from(
        [
            (),
            ((Bucket.PUBLIC, MessageClass.CHAT, 0.3),),
            ((Bucket.PUBLIC, MessageClass.CHAT, 0.5), (Bucket.PUBLIC, MessageClass.NEWS, 0.2)),
        ]
    ),
    offset_s=st.sampled_from([28_800, 28_800, -25_200]),
)


def machine(redis: Redis, keys: Keys, read: Callable[[str], str]) -> type[RuleBasedStateMachine]:  # noqa: C901 - the rules of one machine
    """The walk on this server with these scripts."""

    class Walk(RuleBasedStateMachine):
        @initialize(limits=LIMITS, before=st.sampled_from([3600.0, 2.0, 40.0, -30_000.0]))
        def begin(self, limits: LaneLimits, before: float) -> None:
            values: dict[str, Any] = {
                name: getattr(limits, name) for name in LaneLimits.__dataclass_fields__
            }
            self.terms = LaneLimits(**{**values, "lane": f"a:vivo:{next(_numbers)}"})
            self.now = MIDNIGHT - before
            self.store = Admission(redis, keys, clock=lambda: self.now, read=read)
            self.model = Model(self.terms)
            self.granted: list[AdmissionRequest] = []
            if self.terms.counted:
                found = self.store.admit(self.terms, [ask_of(0)])
                assert found is None, "counts that nobody vouches for grant nothing"
                self.store.rebuild(self.terms, self.store.day(self.terms), [])

        @rule(asks=st.lists(ASK, min_size=1, max_size=8))
        def admit(self, asks: Sequence[AdmissionRequest]) -> None:
            given = self.store.admit(self.terms, asks)
            assert given == self.model.admit(self.now, asks)
            self.granted += [
                ask
                for ask, one in zip(asks, given, strict=True)
                if one.answer == AdmissionAnswer.GRANTED
            ]

        @rule(
            before=st.integers(1, 8),
            after=st.integers(0, 4),
            pause_s=st.sampled_from([0.0, 0.125, 0.25]),
            bulk=st.integers(1, 6),
        )
        def chats_meet_a_campaign(self, before: int, after: int, pause_s: float, bulk: int) -> None:
            """Of a bucket and a class that nothing limits but the rate, if anything is free."""
            chats = [
                msgspec.structs.replace(ask_of(3 + 12 * (number % 2)), urgency=Urgency.CHAT)
                for number in range(max(before, after))
            ]
            crowd = [
                msgspec.structs.replace(ask_of(3 + 12 * (number % 2)), urgency=Urgency.BULK)
                for number in range(bulk)
            ]
            self.admit([*chats[:before], *crowd])
            self.now += pause_s
            if after:
                self.admit(chats[:after])
            self.admit(crowd)

        @rule(
            which=st.integers(0, 7),
            wait_s=st.sampled_from([0.0, 1.0]),
            others=st.lists(ASK, max_size=2),
        )
        def one_is_refused_by_the_vendor_and_goes_again(
            self, which: int, wait_s: float, others: Sequence[AdmissionRequest]
        ) -> None:
            if self.granted:
                ask = self.granted[-1 - which % len(self.granted)]
                self.refund([int(ask.push_id, 16)])
                self.now += wait_s
                self.admit([*others, ask])

        @rule(numbers=st.lists(IDS, min_size=1, max_size=6))
        def refund(self, numbers: Sequence[int]) -> None:
            asks = [ask_of(number) for number in numbers]
            assert self.store.refund(self.terms, asks) == self.model.refund(self.now, asks)

        @rule(seconds=st.sampled_from([0.015625, 0.25, 1.0, 2.5, 11.0, 61.0, 3600.0, 43_200.0]))
        def time_passes(self, seconds: float) -> None:
            self.now += seconds

        @rule(seconds=st.sampled_from([0.25, 30.0, 7200.0]))
        def the_clock_steps_back(self, seconds: float) -> None:
            self.now -= seconds

        @rule(bucket=BUCKET)
        def the_vendor_says_spent(self, bucket: Bucket) -> None:
            self.store.report_quota_spent(self.terms, bucket)
            self.model.report_quota_spent(self.now, bucket)

        @rule(bucket=BUCKET)
        def an_operator_opens_it(self, bucket: Bucket) -> None:
            self.store.report_open(self.terms, bucket)
            self.model.spent.discard((self.model.day(self.now), bucket))
            self.model.limits.pop((self.model.day(self.now), bucket), None)

        @rule(bucket=BUCKET, used=st.integers(0, 12), limit=st.integers(0, 14))
        def the_vendor_counts(self, bucket: Bucket, used: int, limit: int) -> None:
            self.store.report_quota(self.terms, bucket, used, limit)
            self.model.report_quota(self.now, bucket, used, limit)

        @rule(bucket=BUCKET, device=st.integers(0, 4))
        def the_vendor_caps_a_device(self, bucket: Bucket, device: int) -> None:
            self.store.report_capped(self.terms, bucket, [f"device-{device}"])
            self.model.report_capped(self.now, bucket, f"device-{device}")

        @rule(throttled=st.booleans(), hold_s=st.sampled_from([0.0, 0.0, 1.0, 30.0]))
        def flow_control(self, throttled: bool, hold_s: float) -> None:
            self.store.slow_down(self.terms, throttled=throttled, hold_s=hold_s)
            self.model.slow_down(self.now, throttled, hold_s)

        @invariant()
        def what_people_see_is_what_was_taken(self) -> None:
            if hasattr(self, "terms"):
                for usage in self.store.usage(self.terms):
                    assert usage.used == self.model.used(self.now, usage)

    return Walk
