"""Parallel rounds of many lanes of one vendor: one call of each kind for all of them.

Each lane's outcome is written when it is there.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from common.contracts import Device, Notification
from common.model import Vendor
from common.storage.lane_queues import LaneEntry, Taken
from common.storage.redis import best_effort
from common.storage.unavailable import STORE_UNAVAILABLE
from workers.delivery import deliver as delivery
from workers.delivery.lane import Lane
from workers.delivery.late import Standing
from workers.delivery.pacing import Pacer
from workers.delivery.work import PendingPush
from workers.handlers.lane_rounds import LaneRounds, OpenRound, RoundEnd
from workers.late_binding import BoundAddresses
from workers.runtime import Runtime
from workers.transport.engine import Flight, Http2Transport

log = logging.getLogger(__name__)

#: Interval at which answers are written, without waiting for the other lanes.
WRITE_EVERY_S: Final = 0.05


@dataclass(slots=True)
class Wanted:
    """A take of one lane that may go together with others'. most: pushes it may have on the wire.
    lost: see delivery.LaneTurn.
    """

    taken: Taken
    entries: Sequence[LaneEntry]
    lane: Lane
    most: int
    lost: Collection[str]


@dataclass(slots=True)
class _Part:
    """One lane's round on its way."""

    wanted: Wanted
    open: OpenRound
    ready: delivery.Ready


class JointRounds:
    """over: these rounds are written, with what became of them. apart: this take is to be done
    alone, in the general way.
    slow: this round, which is prepared, waits for its lane's rate or goes another way: the rest of
    it is to be done alone.
    """

    def __init__(
        self,
        runtime: Runtime,
        rounds: LaneRounds,
        over: Callable[[Sequence[tuple[Wanted, delivery.Delivered]]], None],
        apart: Callable[[Wanted], None],
        slow: Callable[[Wanted, Callable[[], delivery.Delivered]], None],
    ) -> None:
        self._runtime = runtime
        self._rounds = rounds
        self._over, self._apart, self._slow = over, apart, slow
        self._round_s = rounds.round_s

    def serves(self, vendor: Vendor) -> bool:
        """True when this vendor's lanes may share a round: one request per push, our own HTTP/2."""
        return isinstance(self._rounds.world(vendor).transport, Http2Transport)

    @staticmethod
    def may_join(lane: Lane, taken: Taken) -> bool:
        """True when the lane's round needs only the checks that are made for all lanes at once."""
        spec, limits = lane.spec, lane.limits
        counted = (
            limits.quota_private,
            limits.quota_public,
            limits.device_cap_private,
            limits.device_cap_public,
            limits.public_hours,
        )
        plain = (
            spec.http2
            and spec.request_tokens_max == 1
            and spec.follow is None
            and spec.images is None
            and not lane.reserve
        )
        first = all(entry.deliveries == 1 for entry in taken.entries)
        return (
            plain
            and first
            and taken.what == "go"
            and not taken.paced
            and all(limit is None for limit in counted)
        )

    def send(self, wanted: Sequence[Wanted]) -> None:
        """Sends the rounds and writes their results.

        Raises STORE_UNAVAILABLE only before any send.
        """
        vendor = wanted[0].lane.vendor
        transport = self._rounds.world(vendor).transport
        if not isinstance(transport, Http2Transport):
            raise TypeError("rounds go together over our own HTTP/2 only")
        opened = [one for one in map(self._opened, wanted) if one is not None]
        watched = {one.lane.id for one in wanted if one.taken.watched}
        world, good = self._world(
            vendor, [work for _, one in opened for work in one.chosen], watched
        )
        parts = [part for one in opened if (part := self._prepared(*one, world)) is not None]
        quiet = [part for part in parts if not part.ready.granted]
        rated = self._at_once([part for part in parts if part.ready.granted])
        flight, going = self._begun(rated, transport, world)
        self._end([*quiet, *(part for part in rated if not part.ready.granted)])
        self._wait(flight, going, world)
        if good:
            with best_effort("how rounds went"):
                self._runtime.lane_states.tell_good(good)

    def _opened(self, one: Wanted) -> tuple[Wanted, OpenRound] | None:
        try:
            return one, self._rounds.open(one.taken, one.entries, one.lane, one.most)
        except Exception:  # noqa: BLE001 - the general way finds out which entry it is
            self._apart(one)
            return None

    def _world(
        self, vendor: Vendor, works: Sequence[PendingPush], watched: Collection[str]
    ) -> tuple[delivery.DeliveryPorts, list[tuple[str, int, int]]]:
        """The vendor's ports with the pushes' claims and bindings loaded; and the good rounds."""
        world, good = self._rounds.world(vendor), list[tuple[str, int, int]]()
        addresses = world.addresses
        claims = _LeasedClaims(works, world)
        kept = _LookedUp(addresses, works) if isinstance(addresses, BoundAddresses) else addresses
        return dataclasses.replace(
            world,
            claims=claims,
            addresses=kept,
            breaker=_NotedBreaker(world.breaker, good, watched),
        ), good

    def _prepared(
        self, one: Wanted, open_: OpenRound, world: delivery.DeliveryPorts
    ) -> _Part | None:
        try:
            return _Part(
                one,
                open_,
                delivery.prepared(
                    open_.chosen, one.lane, world, delivery.LaneTurn(None, open_.pace, one.lost)
                ),
            )
        except STORE_UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it breaks, the others go on
            log.error(
                "a round broke", extra={"queue": one.lane.vendor, "reason": type(error).__name__}
            )
            self._apart(one)
            return None

    def _at_once(self, parts: Sequence[_Part]) -> list[_Part]:
        """Those whose lanes' rates let them go now; the others wait for their tokens alone."""
        costs = [part.ready.costs for part in parts]
        wanted = [
            (part.wanted.taken, sum(cost) + max(1, sum(cost) // 20), len(cost))
            for part, cost in zip(parts, costs, strict=True)
        ]
        going = []
        for part, cost, lease in zip(
            parts, costs, self._runtime.lane_queues.lease_all(wanted, self._round_s), strict=True
        ):
            pacer = Pacer(
                lease.tokens,
                lease.first_s,
                lease.rate_per_s,
                lease.lim_s,
                time.monotonic,
                time.sleep,
            )
            part.open.leases.append(lease)
            part.open.pace.pacer = pacer
            if pacer.part(cost) == (len(cost), 0.0):
                pacer.spend(sum(cost))
                going.append(part)
            else:
                self._alone(part)
        return going

    def _alone(self, part: _Part) -> None:
        def rest() -> delivery.Delivered:
            done = delivery.sent(
                part.ready, self._rounds.world(part.wanted.lane.vendor), part.open.pace
            )
            self._rounds.write_all([(part.open, self._rounds.settle(part.open, done))])
            return done

        self._slow(part.wanted, rest)

    def _begun(
        self, parts: Sequence[_Part], transport: Http2Transport, world: delivery.DeliveryPorts
    ) -> tuple[Flight | None, list[_Part]]:
        going, sends = list[_Part](), []
        for part in parts:
            route = part.wanted.lane.route
            try:
                if not delivery.keep_in_time(part.ready, world):
                    continue
                requests = delivery.requests_of(part.ready, world)
                fits = transport.handles(route, requests)
            except Exception as error:  # noqa: BLE001 - as in _prepared
                log.error(
                    "a round broke",
                    extra={"queue": part.wanted.lane.vendor, "reason": type(error).__name__},
                )
                self._apart(part.wanted)
                continue
            if fits:
                going.append(part)
                sends.append((route, requests))
            else:
                self._alone(part)
        return (transport.begin(sends, world.deadline_s) if sends else None), going

    def _wait(
        self, flight: Flight | None, parts: Sequence[_Part], world: delivery.DeliveryPorts
    ) -> None:
        left = dict(enumerate(parts))
        while flight is not None and left:
            over = flight.wait(WRITE_EVERY_S) or flight.late
            here = [number for number in left if over or flight.done(number)]
            ended = []
            for number in here:
                part = left.pop(number)
                try:
                    delivery.concluded(
                        part.ready.granted, flight.answers(number), part.ready, world
                    )
                    ended.append(part)
                except Exception as error:  # noqa: BLE001 - as in _prepared
                    log.error(
                        "a round broke",
                        extra={"queue": part.wanted.lane.vendor, "reason": type(error).__name__},
                    )
                    self._apart(part.wanted)
            self._end(ended)

    def _end(self, parts: Sequence[_Part]) -> None:
        """Writes the parts, then marks them as ended."""
        if not parts:
            return
        rounds = list[tuple[OpenRound, RoundEnd]]()
        fit = list[_Part]()
        for part in parts:
            try:
                rounds.append((part.open, self._rounds.settle(part.open, part.ready.done)))
                fit.append(part)
            except Exception as error:  # noqa: BLE001 - as in _prepared
                log.error(
                    "a round broke",
                    extra={"queue": part.wanted.lane.vendor, "reason": type(error).__name__},
                )
                self._apart(part.wanted)
        try:
            self._rounds.write_all(rounds)
        except STORE_UNAVAILABLE as error:  # they are taken again when their leases end
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__},
            )
        self._over([(part.wanted, part.ready.done) for part in fit])


class _LeasedClaims:
    """The port of claims over one lease of all works."""

    def __init__(self, works: Sequence[PendingPush], world: delivery.DeliveryPorts) -> None:
        now_ms = world.now_ms()
        steps = delivery.badge_steps(works, now_ms)
        claims = world.claims.lease(works, steps) if works else ()
        self._claims = {id(work): answer for work, answer in zip(works, claims, strict=True)}

    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[delivery.ClaimAnswer]:
        del badge_steps  # the numbers are taken
        return [self._claims[id(work)] for work in works]


class _LookedUp:
    """The port of addresses over one lookup of all bindings; a second call looks again."""

    def __init__(self, addresses: BoundAddresses, works: Sequence[PendingPush]) -> None:
        self._addresses = addresses
        self._seen: dict[int, str | None] = dict(
            zip(map(id, works), addresses.look(works) if works else (), strict=True)
        )

    def where(self, lane: Lane, works: Sequence[PendingPush]) -> Sequence[Device | Standing | None]:
        seen = self._seen
        if not all(id(work) in seen for work in works):
            return self._addresses.where(lane, works)
        return self._addresses.judge(lane, works, [seen.pop(id(work)) for work in works])

    def on_lane_of(self, work: PendingPush, lane: Lane, device: Device) -> Notification | None:
        return self._addresses.on_lane_of(work, lane, device)


class _NotedBreaker:
    """The port of the breaker: rounds without a failure are reported together at the end."""

    def __init__(
        self, breaker: delivery.Breaker, good: list[tuple[str, int, int]], watched: Collection[str]
    ) -> None:
        self._breaker = breaker
        self._good = good
        self._watched = watched

    def open_for(self, lane: Lane) -> delivery.BreakerProbe | delivery.BreakerOpen | None:
        return self._breaker.open_for(lane)

    def report(
        self,
        lane: Lane,
        good: int,
        failed: int,
        refused: bool,
        retry_after_s: float | None,
        throttled: int = 0,
        cause: str = "",
    ) -> None:
        if failed or refused or retry_after_s or throttled:
            self._breaker.report(lane, good, failed, refused, retry_after_s, throttled, cause)
        elif lane.id in self._watched:
            self._good.append((lane.id, lane.credential.version, good))
