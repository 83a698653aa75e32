"""One lane's round among the joint rounds of many: usual pushes in columns, or any others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.storage.lane_entries import LaneEntry, Taken
from workers.delivery import alike
from workers.delivery import deliver as delivery
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts, RoundReport
from workers.delivery.results import Delivered
from workers.handlers.lane_rounds import LaneRounds
from workers.handlers.round_entries import Ending, OpenRound
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


class Part(Protocol):
    """One lane's round on its way: prepared, sent, answered, written."""

    wanted: Wanted
    open: OpenRound

    @property
    def done(self) -> Delivered: ...

    @property
    def costs(self) -> list[int]:
        """The costs of its requests, in the unit of the lane's rate."""
        ...

    def look(self, ports: DeliveryPorts) -> None:
        """Asks the stores once more where what is known is too old for a send."""
        ...

    def requests(self, ports: DeliveryPorts) -> Sequence[Request] | None:
        """Its requests, which count as sent from here on; none: it is over. Asks no store.

        None: it goes on alone, also where its last look is too old by now.
        """
        ...

    def conclude(
        self, answers: Sequence[HttpResponse | NoAnswer], ports: DeliveryPorts
    ) -> None: ...

    def ending(self, rounds: LaneRounds) -> Ending: ...

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
    def costs(self) -> list[int]:
        return self.ready.costs

    def look(self, ports: DeliveryPorts) -> None:
        delivery.keep_in_time(self.ready, ports)

    def requests(self, ports: DeliveryPorts) -> Sequence[Request] | None:
        if not self.ready.granted:
            return ()
        if not self.ready.seen.fresh(ports.now_ms()):
            return None
        return delivery.requests_of(self.ready, ports)

    def conclude(self, answers: Sequence[HttpResponse | NoAnswer], ports: DeliveryPorts) -> None:
        delivery.concluded(self.ready.granted, answers, self.ready, ports)

    def ending(self, rounds: LaneRounds) -> Ending:
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
    def costs(self) -> list[int]:
        return [1] * len(self.ready.one.rows)

    def look(self, ports: DeliveryPorts) -> None:
        del ports  # a usual round is sent at once or generally

    def requests(self, ports: DeliveryPorts) -> Sequence[Request] | None:
        leaves = self.ready.leaves(self.wanted.lost, ports.now_ms())
        return self.ready.requests if leaves else None

    def conclude(self, answers: Sequence[HttpResponse | NoAnswer], ports: DeliveryPorts) -> None:
        self.done = alike.answered(self.ready, answers, self.wanted.lost, ports)
        if self.done.whole:
            ports.breaker.report(self.wanted.lane, RoundReport(len(answers)))

    def ending(self, rounds: LaneRounds) -> Ending:
        return rounds.ending_alike(self.open, self.ready.one, self.wanted.entries, self.done)

    def alone(self, rounds: LaneRounds) -> Delivered:
        wanted = self.wanted
        return rounds.send_generally(self.open, self.ready.one, wanted.entries, wanted.lost)
