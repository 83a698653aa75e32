"""The last step before a send: what has expired, is another sender's by now, or lost its token."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from common.model import Decision
from common.values import Value
from workers.delivery import late
from workers.delivery.batching import smaller
from workers.delivery.claiming import OUT_OF_TIME, expired_as
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts
from workers.delivery.results import Granted, Results, RoundStep
from workers.delivery.work import PendingPush
from workers.vendors.types import RequestBatch


class LastSeen(Value, frozen=True):
    """When what a round knows was seen; the fields are those of Delivered."""

    addressed_ms: int
    leased_ms: int
    lost: Collection[str]

    def fresh(self, now_ms: int) -> bool:
        """True while entries and tokens are good enough for a send."""
        return self.leased(now_ms) and 0 <= now_ms - self.addressed_ms <= late.ADDRESS_GOOD_MS

    def leased(self, now_ms: int) -> bool:
        """True while the entries are."""
        return 0 <= now_ms - self.leased_ms <= late.LEASE_GOOD_MS


def checked(
    granted: Granted, lane: Lane, ports: DeliveryPorts, seen: LastSeen
) -> tuple[RoundStep[tuple[RequestBatch, list[PendingPush]]], LastSeen]:
    """The batches that may still go, and what is known by now.

    The reservations of those that stay are refunded, but not of what is another sender's: they are
    that one's.
    """
    now_ms = ports.now_ms()
    works = [work for _, batch_works in granted for work in batch_works]
    if not _expired(works, now_ms) and not seen.lost and seen.fresh(now_ms):
        return RoundStep(granted), seen
    lost, seen = _lost(works, ports, seen)
    if lost is None:
        return RoundStep((), _unknown_whose(works, _expired(works, ports.now_ms()))), seen
    theirs = [work for work in works if work.entry in lost]
    own = [work for work in works if work.entry not in lost]
    moved, seen = _moved(own, lane, ports, seen)
    expired = _expired(own, ports.now_ms())  # the stores may have taken seconds
    stay = {id(work) for work in (*theirs, *expired)}
    moved = [work for work in moved if id(work) not in stay]
    if expired or moved:
        ports.gate.refund(lane, [*expired, *moved])
    results = Results(
        dropped=theirs,
        # what such a push has coalesced stays where its own entry is still ours
        left=[one for work in theirs for one in work.coalesced if one.entry not in lost],
        decided=[(work, expired_as(work), OUT_OF_TIME) for work in expired],
        waiting=[
            (work, 0.0, Decision(work.target.held_by or Decision.UNAVAILABLE)) for work in moved
        ],
    )
    stay |= {id(work) for work in moved}
    return RoundStep(_without(granted, stay) if stay else granted, results), seen


def _expired(works: Sequence[PendingPush], now_ms: int) -> list[PendingPush]:
    return [work for work in works if work.note.expires_at_ms <= now_ms]


def _lost(
    works: Sequence[PendingPush], ports: DeliveryPorts, seen: LastSeen
) -> tuple[Collection[str] | None, LastSeen]:
    """The entries that are another sender's by now; None: nobody could be asked.

    A process that stood still finds out here, before its lease renewer does.
    """
    now_ms = ports.now_ms()
    if not works or seen.leased(now_ms):
        return seen.lost, seen
    lost = ports.leases.renewed(works)
    if lost is None:
        return None, seen
    return {*seen.lost, *lost}, replace(seen, leased_ms=now_ms)


def _unknown_whose(works: Sequence[PendingPush], expired: Sequence[PendingPush]) -> Results:
    """What was admitted is not given back: another may have sent it."""
    over = {id(work) for work in expired}
    return Results(
        decided=[(work, expired_as(work), OUT_OF_TIME) for work in expired],
        waiting=[
            (work, late.AWAY_LOOK_S, Decision.UNAVAILABLE) for work in works if id(work) not in over
        ],
    )


def _moved(
    works: Sequence[PendingPush], lane: Lane, ports: DeliveryPorts, seen: LastSeen
) -> tuple[list[PendingPush], LastSeen]:
    """The pushes whose token changed during the fetch of an access token; they go again."""
    now_ms = ports.now_ms()
    if not works or now_ms - seen.addressed_ms <= late.ADDRESS_GOOD_MS:
        return [], seen
    standings = ports.addresses.where(lane, works)
    moved = [
        work
        for work, standing in zip(works, standings, strict=True)
        if standing is not late.Standing.KEPT
    ]
    return moved, replace(seen, addressed_ms=now_ms)


def _without(granted: Granted, stay: set[int]) -> list[tuple[RequestBatch, list[PendingPush]]]:
    """The batches without the pushes of these ids; an empty one is left out."""
    rest = []
    for batch, works in granted:
        kept = [
            (item, work)
            for item, work in zip(batch.items, works, strict=True)
            if id(work) not in stay
        ]
        if kept:
            items, fit = zip(*kept, strict=True)
            rest.append((smaller(batch, items), list(fit)))
    return rest
