"""What several senders get of one lane's rate: nearly all of it, and in no second more."""

import random
from collections.abc import Callable

import pytest
import redis

from common.model import Urgency
from common.storage.keys import Keys
from common.storage.lane_entries import LaneCommit, LaneTerms, RateLease, Taken
from common.storage.lane_queues import BURST_SHARE, LaneQueues
from common.storage.lanes import LaneStates
from common.storage.shard_lanes import ShardLaneQueues
from workers.delivery.pacing import ANSWER_S, PART, Pacer

LANE = "a:fcm:b"


class Clock:
    def __init__(self) -> None:
        self.now = 1_767_150_000.0

    def __call__(self) -> float:
        return self.now


class Sender:
    """One process: leases, sends at its tokens' times, is late by chance, gives back what it did
    not need.
    """

    def __init__(
        self,
        queues: LaneQueues,
        clock: Clock,
        terms: LaneTerms,
        late: Callable[[], float],
        stands: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """stands: seconds for which it stands still before it reads the answer to a lease."""
        self.queues, self.clock, self.terms, self.late = queues, clock, terms, late
        self.stands = stands
        self.pacer: Pacer | None = None
        self.unread: tuple[RateLease, float] | None = None
        self.wakes = clock.now

    def turn(self, sent: list[float]) -> None:
        if self.clock.now < self.wakes:
            return
        if self.unread is not None:
            (lease, asked_at), self.unread = self.unread, None
            self.pacer = Pacer(
                lease.tokens,
                lease.first_s,
                lease.rate_per_s,
                lease.lim_s,
                self.clock,
                lambda _: None,
                asked_at,
            )
        part = self.pacer.part([1] * 1_000) if self.pacer is not None else None
        if self.pacer is None or part is None:
            lease = lease_of(self.queues, self.terms, 1_000, self.clock.now)
            if not lease.tokens:
                self.pacer, self.wakes = None, self.clock.now + 0.01
                return
            self.unread = lease, self.clock.now
            self.wakes = self.clock.now + self.stands()
            return
        count, wait_s = part
        if wait_s > 0:
            self.wakes = self.clock.now + wait_s + self.late()
            return
        self.pacer.spend(count)
        sent += [self.clock.now] * count


def lease_of(
    queues: LaneQueues, terms: LaneTerms, wanted: int, now: float, urgency: Urgency = Urgency.BULK
) -> RateLease:
    taken = Taken(LANE, urgency, "w", "go", 0, terms=terms)
    queues.clock = lambda: now
    return queues.lease(taken, wanted, wanted, 15)


def terms_of(rate: float) -> LaneTerms:
    return LaneTerms(version=1, rate_per_s=rate * (1 - BURST_SHARE), burst=1 + rate * BURST_SHARE)


def most_in_a_second(sent: list[float]) -> int:
    start = most = 0
    for end, time in enumerate(sent):
        while time - sent[start] >= 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most


@pytest.mark.parametrize("senders", [1, 3])
@pytest.mark.parametrize("rate", [7, 100, 2_000])
def test_a_lane_at_its_rate_reaches_it_and_is_never_over(
    redis_client: redis.Redis, space: str, rate: int, senders: int
) -> None:
    clock, chance = Clock(), random.Random(rate)
    queues, sent = LaneQueues(redis_client, Keys(f"push{space}")), list[float]()
    numbers = range(senders)
    fleet = [Sender(queues, clock, terms_of(rate), lambda: chance.random() * 0.01) for _ in numbers]
    began, step = clock.now, 0.001 if rate < 1_000 else 0.0005
    while clock.now < began + 12:
        for sender in fleet:
            sender.turn(sent)
        clock.now += step
    late = [time for time in sent if time >= began + 2]
    assert most_in_a_second(sent) <= rate
    assert len(late) / 10 >= (0.97 if rate >= 100 else 0.8) * rate


@pytest.mark.parametrize("rate", [7, 100, 2_000])
def test_who_stood_still_behind_a_lease_sends_no_second_of_it_beside_the_others(
    redis_client: redis.Redis, space: str, rate: int
) -> None:
    """Its tokens' time is over, or another's by then."""
    clock, chance = Clock(), random.Random(rate)
    queues, sent = LaneQueues(redis_client, Keys(f"push{space}")), list[float]()

    def stands() -> float:
        return chance.uniform(0.3, 2.0) if chance.random() < 0.5 else 0.0

    fleet = [Sender(queues, clock, terms_of(rate), lambda: 0.0, stands) for _ in range(3)]
    began, step = clock.now, 0.001 if rate < 1_000 else 0.0005
    while clock.now < began + 12:
        for sender in fleet:
            sender.turn(sent)
        clock.now += step
    of_each = max(1.0, (1 + rate * BURST_SHARE) * PART) + rate * ANSWER_S
    assert most_in_a_second(sent) <= rate + len(fleet) * of_each
    late = [time for time in sent if time >= began + 2]
    assert len(late) >= 2 * rate, "the lane goes on"


def test_a_lease_reaches_a_second_ahead_and_what_comes_next_comes_after_it(
    redis_client: redis.Redis, space: str
) -> None:
    queues, now = LaneQueues(redis_client, Keys(f"push{space}")), 1_767_150_000.0
    first = lease_of(queues, terms_of(100), 1_000, now)
    assert 98 <= first.tokens <= 102
    assert lease_of(queues, terms_of(100), 10, now).tokens <= 1, "all of the next second is taken"
    found = lease_of(queues, terms_of(100), 10, now + 0.5).first_s
    assert found > 0.4, "what comes next comes after it"


def test_adverts_leave_room_where_chats_ask(redis_client: redis.Redis, space: str) -> None:
    queues, now = LaneQueues(redis_client, Keys(f"push{space}")), 1_767_150_000.0
    assert lease_of(queues, terms_of(100), 1, now, Urgency.CHAT).tokens == 1
    short = lease_of(queues, terms_of(100), 1_000, now + 0.01)
    assert short.tokens <= 25, "a fifth of a second of them, not a whole one"
    assert lease_of(queues, terms_of(100), 5, now + 0.02, Urgency.CHAT).first_s < 0.3


@pytest.mark.parametrize("where", ["alone", "together", "apart"])
def test_tokens_that_a_round_did_not_need_are_for_the_next(
    redis_client: redis.Redis, space: str, where: str
) -> None:
    """Also of a lane's queue in another shard, on the same server or on one of its own; not where
    another has tokens behind them.
    """
    home = LaneQueues(redis_client, Keys(f"push{space}"))
    shard = Keys(f"push{space}:1")
    now = 1_767_150_000.0
    queues = {
        "alone": home,
        "together": LaneQueues(redis_client, shard, shared=home.keys),
        "apart": ShardLaneQueues(redis_client, shard, home, LaneStates(redis_client, home.keys)),
    }[where]

    def first_s_of_next(*, another: bool) -> float:
        redis_client.delete(home.keys.rate(LANE))
        lease = lease_of(home, terms_of(100), 60, now)
        if another:
            lease_of(home, terms_of(100), 10, now)
        taken = Taken(LANE, Urgency.BULK, "w", "go", 0, tokens=60, terms=terms_of(100))
        queues.commit(taken, LaneCommit(unused=(lease.last_s, 40, lease.rate_per_s)))
        return lease_of(home, terms_of(100), 10, now).first_s

    rate = terms_of(100).rate_per_s
    assert first_s_of_next(another=False) == pytest.approx(20 / rate, abs=0.01)
    assert first_s_of_next(another=True) == pytest.approx(70 / rate, abs=0.01)
