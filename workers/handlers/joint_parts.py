"""One lane's round among the joint rounds of many: usual pushes in columns, or any others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from common.storage.lane_entries import LaneEntry, Taken
from workers.delivery import alike
from workers.delivery import deliver as delivery
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts, RoundReport
from workers.delivery.results import Delivered
from workers.handlers.lane_rounds import LaneRounds
from workers.handlers.round_entries import Ending, OpenRound, RoundEnd
from workers.wire import HttpResponse, NoAnswer, Request


@dataclass(slots=True)
class Wanted:
    """A take of one lane that may go together with others'. most: pushes it may have on the wire.
    lost: see LaneTurn.
    """

    taken: Taken
    entries: Sequence[LaneEntry]
    lane: Lane
    most: int
    lost: Collection[str]


#: The ports of the shards that take part, by number.
ShardPorts: TypeAlias = Mapping[int, DeliveryPorts]


class Part(Protocol):
    """One lane's round on its way: prepared, sent, answered, written. wanted: where it is in
    several shards, of the first one.
    """

    @property
    def wanted(self) -> Wanted: ...

    @property
    def open(self) -> OpenRound: ...

    @property
    def members(self) -> Sequence[Member]:
        """Its part of each shard."""
        ...

    @property
    def costs(self) -> list[int]:
        """The costs of its requests, in the unit of the lane's rate."""
        ...

    def look(self, ports: ShardPorts) -> None:
        """Asks the stores once more where what is known is too old for a send."""
        ...

    def requests(self, ports: ShardPorts) -> Sequence[Request] | None:
        """Its requests, which count as sent from here on; none: it is over. Asks no store.

        None: it goes on alone, also where its last look is too old by now.
        """
        ...

    def conclude(self, answers: Sequence[HttpResponse | NoAnswer], ports: ShardPorts) -> None: ...

    def ends(self, each: Sequence[RoundEnd]) -> Sequence[RoundEnd]:
        """What is counted of its written parts."""
        ...


class Member(Protocol):
    """A round in one shard."""

    @property
    def wanted(self) -> Wanted: ...

    @property
    def done(self) -> Delivered: ...

    def ending(self, rounds: LaneRounds, now: int) -> Ending:
        """now: when its usual pushes are decided, ms: that of all members."""
        ...

    def alone(self, rounds: LaneRounds) -> Delivered:
        """Sends the rest of the round without the others, and writes it."""
        ...


@dataclass(slots=True)
class GeneralPart:
    """A round of any pushes."""

    wanted: Wanted
    open: OpenRound
    ready: delivery.Ready

    @property
    def done(self) -> Delivered:
        return self.ready.done

    @property
    def members(self) -> Sequence[Member]:
        return (self,)

    @property
    def costs(self) -> list[int]:
        return self.ready.costs

    def look(self, ports: ShardPorts) -> None:
        delivery.keep_in_time(self.ready, ports[self.wanted.taken.shard])

    def requests(self, ports: ShardPorts) -> Sequence[Request] | None:
        own = ports[self.wanted.taken.shard]
        if not self.ready.granted:
            return ()
        if not self.ready.seen.fresh(own.now_ms()):
            return None
        return delivery.requests_of(self.ready, own)

    def conclude(self, answers: Sequence[HttpResponse | NoAnswer], ports: ShardPorts) -> None:
        own = ports[self.wanted.taken.shard]
        delivery.concluded(self.ready.granted, answers, self.ready, own)

    def ends(self, each: Sequence[RoundEnd]) -> Sequence[RoundEnd]:
        return each

    def ending(self, rounds: LaneRounds, now: int) -> Ending:
        del now
        return rounds.ending(self.open, self.ready.done)

    def alone(self, rounds: LaneRounds) -> Delivered:
        ports = rounds.ports(self.wanted.lane.vendor)
        done = delivery.sent(self.ready, ports, self.open.pace)
        rounds.write_ending(rounds.ending(self.open, done))
        return done


@dataclass(slots=True)
class AlikePart:
    """A round of usual pushes as they were packed (workers/delivery/alike.py)."""

    wanted: Wanted
    open: OpenRound
    ready: alike.ReadyRound
    done: Delivered

    @property
    def members(self) -> Sequence[Member]:
        return (self,)

    @property
    def costs(self) -> list[int]:
        return [1] * len(self.ready.one.rows)

    def look(self, ports: ShardPorts) -> None:
        del ports  # a usual round is sent at once or generally

    def requests(self, ports: ShardPorts) -> Sequence[Request] | None:
        now_ms = ports[self.wanted.taken.shard].now_ms()
        return self.ready.requests if self.ready.leaves(self.wanted.lost, now_ms) else None

    def conclude(self, answers: Sequence[HttpResponse | NoAnswer], ports: ShardPorts) -> None:
        own = ports[self.wanted.taken.shard]
        self.done = alike.answered(self.ready, answers, self.wanted.lost, own)
        if self.done.whole:
            own.breaker.report(self.wanted.lane, RoundReport(len(answers)))

    def ends(self, each: Sequence[RoundEnd]) -> Sequence[RoundEnd]:
        return each

    def ending(self, rounds: LaneRounds, now: int) -> Ending:
        one, entries = self.ready.one, self.wanted.entries
        return rounds.ending_alike(self.open, one, entries, self.done, now)

    def alone(self, rounds: LaneRounds) -> Delivered:
        wanted = self.wanted
        return rounds.send_generally(self.open, self.ready.one, wanted.entries, wanted.lost)


@dataclass(slots=True)
class SpreadPart:
    """A round of usual pushes of one lane in several shards: sent as one, written in each."""

    each: Sequence[AlikePart]
    ready: alike.ReadyRound
    done: Delivered | None = None  # all were accepted

    @property
    def wanted(self) -> Wanted:
        return self.each[0].wanted

    @property
    def open(self) -> OpenRound:
        return self.each[0].open

    @property
    def members(self) -> Sequence[Member]:
        return self.each

    @property
    def costs(self) -> list[int]:
        return [1] * len(self.ready.one.rows)

    def look(self, ports: ShardPorts) -> None:
        del ports  # as of AlikePart

    def requests(self, ports: ShardPorts) -> Sequence[Request] | None:
        lost = [name for one in self.each for name in one.wanted.lost]
        if not self.ready.leaves(lost, ports[self.wanted.taken.shard].now_ms()):
            return None
        start = 0
        for one in self.each:
            own, count = one.ready.one, len(one.ready.one.rows)
            own.sent_ms = self.ready.one.sent_ms
            own.push_ids = self.ready.one.push_ids[start : start + count]
            start += count
        return self.ready.requests

    def conclude(self, answers: Sequence[HttpResponse | NoAnswer], ports: ShardPorts) -> None:
        whole, start = alike.all_accepted(self.ready, answers), 0
        if whole:
            own = ports[self.wanted.taken.shard]
            self.done = alike.answered(self.ready, answers, (), own)
            own.breaker.report(self.wanted.lane, RoundReport(len(answers)))
        for one in self.each:
            part = slice(start, start + len(one.ready.one.rows))
            start = part.stop
            if self.done is None:
                one.conclude(answers[part], ports)
                continue
            one.ready.one.vendor_ids = self.ready.one.vendor_ids[part]
            one.done = Delivered(
                requests=part.stop - part.start,
                accepted=part.stop - part.start,
                addressed_ms=self.done.addressed_ms,
                lost=one.wanted.lost,
                whole=True,
            )

    def ends(self, each: Sequence[RoundEnd]) -> Sequence[RoundEnd]:
        if self.done is None:
            return each
        return [replace(one, done=self.done, packed=self.ready.one) for one in each[:1]]
