"""Parallel rounds of many lanes of one vendor: one call of each kind for all of them.

Each lane's outcome is written when it is there.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from redis.exceptions import RedisError

from common.clock import now_ms
from common.contracts import Device, Notification
from common.model import Urgency, Vendor
from common.storage.joint_lanes import JointLanes
from common.storage.lane_entries import Taken
from common.storage.redis import best_effort
from common.storage.unavailable import store_unavailable
from workers.delivery import alike
from workers.delivery import deliver as delivery
from workers.delivery.claiming import badge_steps
from workers.delivery.lane import Lane
from workers.delivery.late import Standing
from workers.delivery.ports import (
    ClaimAnswer,
    DeliveryPorts,
    LaneTurn,
)
from workers.delivery.results import Delivered
from workers.delivery.work import PendingPush
from workers.handlers import alike_rounds
from workers.handlers.joint_parts import (
    AlikePart,
    GeneralPart,
    Member,
    Part,
    ShardPorts,
    SpreadPart,
    Wanted,
)
from workers.handlers.lane_rounds import LaneRounds, pacer_of, with_spare
from workers.handlers.noted_breaker import NotedBreaker
from workers.handlers.round_counts import suppressed
from workers.handlers.round_entries import Ending, OpenRound, RoundEnd
from workers.late_binding import BoundAddresses, ClaimedRows
from workers.runtime import Runtime
from workers.transport.engine import Flight, Http2Transport
from workers.wire import Request, Route

log = logging.getLogger(__name__)

#: By push its badge and the number taken.
Numbers: TypeAlias = list[tuple[int, str]]

#: Interval at which answers are written, without waiting for the other lanes.
WRITE_EVERY_S: Final = 0.05


class JointRounds:
    """over: these rounds are written, with what became of them. apart: this take is to be done
    alone, in the general way.
    slow: this round, which is prepared, waits for its lane's rate or goes another way: the rest of
    it is to be done alone.
    """

    def __init__(
        self,
        runtime: Runtime,
        lanes: JointLanes,
        shards: Sequence[LaneRounds],
        over: Callable[[Sequence[tuple[Wanted, Delivered]]], None],
        apart: Callable[[Wanted], None],
        slow: Callable[[Wanted, Callable[[], Delivered]], None],
    ) -> None:
        self._runtime = runtime
        self._lanes = lanes
        self._shards = shards
        self._over, self._apart, self._slow = over, apart, slow
        self._round_s = shards[0].round_s

    def _rounds_of(self, one: Wanted) -> LaneRounds:
        return self._shards[one.taken.shard]

    def serves(self, vendor: Vendor) -> bool:
        """True when this vendor's lanes may share a round: one request per push, our own HTTP/2."""
        return isinstance(self._shards[0].ports(vendor).transport, Http2Transport)

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

        Raises store_unavailable() only before any send.
        """
        vendor = wanted[0].lane.vendor
        transport = self._shards[0].ports(vendor).transport
        if not isinstance(transport, Http2Transport):
            raise TypeError("rounds go together over our own HTTP/2 only")
        good = list[tuple[str, int, int]]()
        watched = {one.lane.id for one in wanted if one.taken.watched}
        ports = _WatchedPorts(lambda shard: self._watched(shard, vendor, good, watched))
        parts = self._parts(wanted, ports)
        quiet = [part for part in parts if not part.costs]
        flight, going, over = self._begun(
            self._at_once([part for part in parts if part.costs]), transport, ports
        )
        self._end([*quiet, *over])
        self._wait(flight, going, ports)
        if good:
            with best_effort("how rounds went"):
                self._runtime.lane_states.tell_good(good)

    def _watched(
        self,
        shard: int,
        vendor: Vendor,
        good: list[tuple[str, int, int]],
        watched: Collection[str],
    ) -> DeliveryPorts:
        """The vendor's ports in a shard; rounds without a failure go to `good`."""
        ports = self._shards[shard].ports(vendor)
        return dataclasses.replace(ports, breaker=NotedBreaker(ports.breaker, good, watched))

    # ------------------------------------------------------------ up to the send

    def _parts(self, wanted: Sequence[Wanted], ports: ShardPorts) -> list[Part]:
        """The rounds of usual pushes as they were packed, then the others."""
        packed = list[tuple[Wanted, alike.AlikeRound]]()
        others = list[tuple[Wanted, alike.AlikeRound | None]]()
        for one in wanted:
            read = alike_rounds.read(one.taken, one.entries, one.lane, one.most)
            if read is None:
                others.append((one, None))
            else:
                packed.append((one, read))
        parts, lanes = list[Part](), _by_lane(packed)
        units = [(those[0][0].lane, _as_one([read for _, read in those])) for those in lanes]
        shards = {one.taken.shard for one, _ in packed}
        for those, ready in zip(lanes, self._prepared_alike(units, shards, ports), strict=True):
            if ready is None:
                others += those
            else:
                parts.append(self._alike_part(those, ready))
        for number in sorted({one.taken.shard for one, _ in others}):
            own = [(one, packed) for one, packed in others if one.taken.shard == number]
            parts += self._general(own, ports[number])
        return parts

    def _alike_part(
        self, own: Sequence[tuple[Wanted, alike.AlikeRound]], ready: alike.ReadyRound
    ) -> Part:
        """own: the takes of one lane, in one shard or in several."""
        each = [
            AlikePart(
                one,
                self._rounds_of(one).paced(one.taken, one.lane),
                ready
                if read is ready.one
                else alike.ReadyRound(read, ready.lane, (), ready.access, ready.began_ms),
                Delivered(),
            )
            for one, read in own
        ]
        return each[0] if len(each) == 1 else SpreadPart(each, ready)

    def _prepared_alike(
        self,
        rounds: Sequence[tuple[Lane, alike.AlikeRound]],
        shards: Collection[int],
        ports: ShardPorts,
    ) -> Sequence[alike.ReadyRound | None]:
        """shards: those of the rounds."""
        if not rounds:
            return ()
        first, vendor = ports[min(shards)], rounds[0][0].vendor
        if len(shards) > 1:
            rows = {number: self._shards[number].ports(vendor).rows for number in shards}
            first = dataclasses.replace(first, rows=_JointRows(rows))
        try:
            return alike.prepared(rounds, first)
        except store_unavailable():
            raise
        except Exception as error:  # noqa: BLE001 - the general way finds out which round it is
            log.error(
                "usual rounds broke",
                extra={"queue": rounds[0][0].vendor, "reason": type(error).__name__},
            )
            return [None] * len(rounds)

    def _general(
        self,
        wanted: Sequence[tuple[Wanted, alike.AlikeRound | None]],
        ports: DeliveryPorts,
    ) -> list[Part]:
        """Of one shard. Beside a take its pushes as they were packed, whose numbers may have been
        taken.
        """
        known, asked_ms = dict[int, ClaimAnswer](), ports.now_ms()
        opened = [
            (one, packed, round_)
            for one, packed in wanted
            if (round_ := self._opened(one, packed, known)) is not None
        ]
        works = [work for *_, round_ in opened for work in round_.chosen]
        addresses = ports.addresses
        kept = _LookedUp(addresses, works) if isinstance(addresses, BoundAddresses) else addresses
        ports = dataclasses.replace(
            ports, claims=_LeasedClaims(works, known, ports), addresses=kept
        )
        parts = [
            self._prepared(one, round_, ports, (packed.numbers_ms if packed else 0) or asked_ms)
            for one, packed, round_ in opened
        ]
        return [part for part in parts if part is not None]

    def _opened(
        self, one: Wanted, packed: alike.AlikeRound | None, known: dict[int, ClaimAnswer]
    ) -> OpenRound | None:
        """The round with its pushes read; claims that were taken before are added to `known`."""
        try:
            round_ = self._rounds_of(one).open(one.taken, one.entries, one.lane, one.most)
            if packed is not None and packed.numbers is not None:
                # all or none: another round's pushes get the ids of one that is given up
                known |= dict(zip(map(id, round_.chosen), alike.claims_of(packed), strict=True))
        except Exception:  # noqa: BLE001 - the general way finds out which entry it is
            self._apart(one)
            return None
        return round_

    def _prepared(
        self, one: Wanted, open_: OpenRound, ports: DeliveryPorts, leased_ms: int
    ) -> GeneralPart | None:
        """leased_ms: see LaneTurn."""
        try:
            turn = LaneTurn(None, open_.pace, one.lost, leased_ms=leased_ms)
            return GeneralPart(one, open_, delivery.prepared(open_.chosen, one.lane, ports, turn))
        except store_unavailable():
            raise
        except Exception as error:  # noqa: BLE001 - whatever it breaks, the others go on
            self._broke(one, error)
            return None

    def _broke(self, one: Wanted, error: Exception) -> None:
        log.error("a round broke", extra={"queue": one.lane.vendor, "reason": type(error).__name__})
        self._apart(one)

    def _all_broke(self, part: Part, error: Exception) -> None:
        for one in part.members:
            self._broke(one.wanted, error)

    def _at_once(self, parts: Sequence[Part]) -> list[Part]:
        """Those whose lanes' rates let them go now; the others wait for their tokens alone."""
        costs = [part.costs for part in parts]
        wanted = [
            (part.wanted.taken, with_spare(part.wanted.taken, sum(cost)), len(cost))
            for part, cost in zip(parts, costs, strict=True)
        ]
        asked_at, going = time.monotonic(), list[Part]()
        leases = self._lanes.lease_all(wanted, self._round_s)
        for part, cost, lease in zip(parts, costs, leases, strict=True):
            part.open.leases.append(lease)
            part.open.pace.pacer = pacer = pacer_of(lease, asked_at)
            if pacer.part(cost) == (len(cost), 0.0):
                going.append(part)
            else:
                self._alone(part)
        return going

    def _alone(self, part: Part) -> None:
        for one in part.members:
            self._slow(one.wanted, partial(one.alone, self._rounds_of(one.wanted)))

    def _begun(
        self, parts: Sequence[Part], transport: Http2Transport, ports: ShardPorts
    ) -> tuple[Flight | None, list[Part], list[Part]]:
        """The flight, the rounds in it, and those that are over without a send.

        What a round still asks of the stores, which may take seconds, none that was looked at
        before it waits for.
        """
        going, over, sends = list[Part](), list[Part](), list[tuple[Route, Sequence[Request]]]()
        for part in [part for part in parts if self._looked(part, ports)]:
            route, pacer = part.wanted.lane.route, part.open.pace
            try:
                requests = part.requests(ports)
                if requests is not None and not requests:
                    over.append(part)
                elif requests is None or not transport.handles(route, requests):
                    self._alone(part)
                else:
                    pacer.spend(sum(part.costs))
                    going.append(part)
                    sends.append((route, requests))
            except Exception as error:  # noqa: BLE001 - as in _prepared
                self._all_broke(part, error)
        deadline_s = self._runtime.settings.send_timeout_s
        return (transport.begin(sends, deadline_s) if sends else None), going, over

    def _looked(self, part: Part, ports: ShardPorts) -> bool:
        try:
            part.look(ports)
        except Exception as error:  # noqa: BLE001 - as in _prepared
            self._all_broke(part, error)
            return False
        return True

    # ------------------------------------------------------------ from the send on

    def _wait(self, flight: Flight | None, parts: Sequence[Part], ports: ShardPorts) -> None:
        left = dict(enumerate(parts))
        while flight is not None and left:
            ended = flight.wait(WRITE_EVERY_S) or flight.late
            here = [number for number in left if ended or flight.done(number)]
            concluded = list[Part]()
            for number in here:
                part = left.pop(number)
                try:
                    part.conclude(flight.answers(number), ports)
                    concluded.append(part)
                except Exception as error:  # noqa: BLE001 - as in _prepared
                    self._all_broke(part, error)
            self._end(concluded)

    def _end(self, parts: Sequence[Part]) -> None:
        """Writes the parts, then marks them as ended."""
        if not parts:
            return
        endings, fit, ends, now = list[Ending](), list[Member](), list[RoundEnd](), now_ms()
        for part in parts:
            own = list[Ending]()
            for one in part.members:
                try:
                    own.append(one.ending(self._rounds_of(one.wanted), now))
                    fit.append(one)
                except Exception as error:  # noqa: BLE001 - as in _prepared
                    self._broke(one.wanted, error)
            endings += own
            ends += part.ends([one.end for one in own])
        try:
            self._write_all(endings, ends)
        except store_unavailable() as error:  # they are taken again when their leases end
            log.warning(
                "a store is away; the work waits in its queue",
                extra={"reason": type(error).__name__},
            )
        self._over([(one.wanted, one.done) for one in fit])

    def _write_all(self, rounds: Sequence[Ending], ends: Sequence[RoundEnd]) -> None:
        """Each written in one step, all in one round trip, then counted. What can't be written so
        goes singly. ends: what is counted.
        """
        commits = [(one.taken, one.commit_of(one.entries, set())) for one in rounds]
        try:
            gone = self._lanes.commit_all(commits)
        except (
            RedisError,
            OSError,
        ):  # some may be written: they are another's then, and nothing is written twice
            gone = [[""]] * len(commits)
        for one, lost in zip(rounds, gone, strict=True):
            if lost:
                self._shards[one.taken.shard].write(one)
        with suppressed():
            self._shards[0].counts.count_all(ends)


def _by_lane(
    packed: Sequence[tuple[Wanted, alike.AlikeRound]],
) -> list[list[tuple[Wanted, alike.AlikeRound]]]:
    """Those of one lane and urgency together, which are in different shards."""
    found: dict[tuple[str, Urgency], list[tuple[Wanted, alike.AlikeRound]]] = {}
    for one, read in packed:
        found.setdefault((one.taken.lane, one.taken.urgency), []).append((one, read))
    return list(found.values())


def _as_one(parts: Sequence[alike.AlikeRound]) -> alike.AlikeRound:
    return parts[0] if len(parts) == 1 else alike.joined_round(parts)


class _WatchedPorts(dict[int, DeliveryPorts]):
    """By shard its ports, made for those that are asked for: of a usual round one shard's are."""

    def __init__(self, make: Callable[[int], DeliveryPorts]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, shard: int) -> DeliveryPorts:
        made = self[shard] = self._make(shard)
        return made


class _JointRows:
    """The port of usual pushes' numbers over those of several shards, asked together."""

    def __init__(self, rows: Mapping[int, object]) -> None:
        """rows: the port of each shard."""
        self._each = {number: one for number, one in rows.items() if isinstance(one, ClaimedRows)}

    def take(self, rounds: Sequence[tuple[Lane, alike.AlikeRound]]) -> list[Numbers | None]:
        each = [(lane, part) for lane, one in rounds for part in one.parts or (one,)]
        owners = [self._each[part.hold.shard] for _, part in each]
        taken = iter(owners[0].taken(each, owners))
        return [_numbers(one, taken) for _, one in rounds]


def _numbers(one: alike.AlikeRound, taken: Iterator[Numbers | None]) -> Numbers | None:
    """Of all its parts, or None; each part has its own then."""
    if not one.parts:
        return next(taken)
    found: Numbers | None = []
    for part, numbers in zip(one.parts, taken, strict=False):
        part.numbers = numbers
        found = None if found is None or numbers is None else found + numbers
    return found


class _LeasedClaims:
    """The port of claims over one lease of all works. known: the claims of those that were taken
    for before, by id.
    """

    def __init__(
        self,
        works: Sequence[PendingPush],
        known: dict[int, ClaimAnswer],
        ports: DeliveryPorts,
    ) -> None:
        asked = [work for work in works if id(work) not in known]
        steps = badge_steps(asked, ports.now_ms())
        claims = ports.claims.lease(asked, steps) if asked else ()
        self._claims = known | {
            id(work): answer for work, answer in zip(asked, claims, strict=True)
        }

    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[ClaimAnswer]:
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
