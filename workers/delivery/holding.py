"""The steps of a round that hold pushes back: the breaker, an outage's backlog, no access token."""

from __future__ import annotations

from collections.abc import Sequence

from common.model import Decision, Verdict
from workers.delivery.causes import cause_of
from workers.delivery.coalescing import OLD_S, coalesce, group_of, joins, may_coalesce
from workers.delivery.lane import Lane
from workers.delivery.ports import BreakerOpen, BreakerProbe, DeliveryPorts, RoundReport
from workers.delivery.results import Results, RoundStep
from workers.delivery.work import PendingPush
from workers.vendors.types import AccessRefused, Outcome

#: Interval of a held push's check for the newest of its conversation.
COALESCE_LOOK_S = 0.5


def behind_breaker(works: Sequence[PendingPush], state: BreakerOpen) -> RoundStep[PendingPush]:
    """None of them goes."""
    return RoundStep((), Results(on_hold=[(work, state.why) for work in works]))


def probing(works: Sequence[PendingPush], state: BreakerProbe) -> RoundStep[PendingPush]:
    """The one push that is the probe.

    It has failed least: one that can never succeed must not keep the breaker open. The others go
    where the lane's waiting pushes are, and leave with them in their order.
    """
    ordered = sorted(works, key=lambda work: work.target.tried)
    return RoundStep(ordered[:1], Results(on_hold=[(work, state.why) for work in ordered[1:]]))


def coalesced(
    works: Sequence[PendingPush], ports: DeliveryPorts, *, waits: bool
) -> RoundStep[PendingPush]:
    """Coalesces pushes that an outage held into one per conversation and device.

    Pushes that waited a moment only go singly and in order.
    """
    old_ms = ports.now_ms() - OLD_S * 1000
    if all(work.target.held_by is None and work.note.received_ms >= old_ms for work in works):
        return RoundStep(works)
    held = [work for work in works if work.target.held_by is not None and may_coalesce(work)]
    # whoever an outage holds is in its group: an earlier release left some without one
    asks = [
        (
            group_of(work),
            work.target.push_id,
            work.note.received_ms,
            work.note.ts_ms if joins(work, work.target.held_by) else None,
        )
        for work in held
    ]
    found = ports.backlog.look(asks) if held else ()
    views = {
        work.target.push_id: view
        for work, view in zip(held, found, strict=True)
        if view is not None
    }
    now = coalesce(works, views, ports.now_ms(), waits=waits)
    for work in now.go:
        badges = [one.badge for one in (work, *work.coalesced) if one.badge is not None]
        work.badge = max(badges, default=None)
    folded = "a newer message of its conversation went out for it"
    return RoundStep(
        now.go,
        Results(
            decided=[(work, Decision.FOLDED, folded) for work in now.folded],
            waiting=[
                (work, COALESCE_LOOK_S, Decision(work.target.held_by or Decision.UNAVAILABLE))
                for work in now.later
            ],
        ),
    )


def without_access(
    works: Sequence[PendingPush], lane: Lane, access: AccessRefused, ports: DeliveryPorts
) -> RoundStep[PendingPush]:
    """Without an access token no request is possible: the lane stops, or the pushes wait.

    It stops for a bad credential.
    """
    refused = access.verdict == Verdict.CREDENTIAL_REFUSED
    wait_s = access.retry_after_s
    outcome = Outcome(access.verdict, "access", access.code, access.words, retry_after_s=wait_s)
    cause = cause_of([outcome])
    ports.breaker.report(
        lane,
        RoundReport(failed=len(works), refused=refused, retry_after_s=wait_s, cause=cause),
    )
    if refused:
        return RoundStep(
            (), Results(on_hold=[(work, Decision.CREDENTIAL_REFUSED) for work in works])
        )
    return RoundStep((), Results(outcomes=[(work, outcome) for work in works]))
