"""The first step of a round: the pushes that are ours to send, and in time."""

from __future__ import annotations

from collections.abc import Sequence

from common.model import BadgeMode, Decision, Kind, PushType
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts
from workers.delivery.results import Results, RoundStep
from workers.delivery.work import PendingPush

OUT_OF_TIME = "its time ran out"
#: The notes of pushes that must not be sent any more.
_WITHDRAWN_NOTES = {
    Decision.FOLDED: "another silent push went to this device less than 20 minutes ago",
    Decision.UNCERTAIN: "withdrawn, but an earlier try may have been seen",
    Decision.NO_DEVICE: "logged out, or the token is another's, since it was routed",
}


def claimed(
    works: Sequence[PendingPush], ports: DeliveryPorts, *, counts: bool = True
) -> RoundStep[PendingPush]:
    """Our pushes that are not too old.

    A recalled or read push is that, not expired. counts: True takes their badge numbers.
    """
    now_ms = ports.now_ms()
    steps = badge_steps(works, now_ms) if counts else [-1] * len(works)
    answers = ports.claims.lease(works, steps) if works else ()
    mine, decided, dropped = [], [], []
    for work, answer in zip(works, answers, strict=True):
        work.repeated = answer.why == Decision.UNCERTAIN
        work.counted, work.leased = answer.counted, True
        if answer.state == "revoked":
            decided.append((work, *_withdrawn(work, Decision(answer.why))))
        elif answer.state != "ours":
            dropped.append(work)
        elif work.note.expires_at_ms <= now_ms:
            decided.append((work, expired_as(work), OUT_OF_TIME))
        else:
            note = work.note
            work.badge = note.badge_value if note.badge_mode == BadgeMode.SET else answer.badge
            mine.append(work)
    if not decided and not dropped:
        return RoundStep(mine)
    return RoundStep(mine, Results(decided=decided, dropped=dropped))


def _withdrawn(work: PendingPush, why: Decision) -> tuple[Decision, str]:
    """Decision and note.

    An unanswered attempt may be on the screen: it stays UNCERTAIN (contract §7).
    """
    decision = Decision.UNCERTAIN if work.doubtful else why
    return decision, _WITHDRAWN_NOTES.get(decision, "withdrawn before it was sent")


def expired_as(work: PendingPush) -> Decision:
    """The decision on an expired push: what held it; `expired` when no lane was tried."""
    if work.doubtful:
        return Decision.UNCERTAIN
    return Decision(work.target.held_by or work.kept_by or Decision.EXPIRED)


def badge_step(work: PendingPush) -> int:
    """The push's increment of the device's badge; -1 leaves the badge alone."""
    note = work.note
    counts = (
        note.kind == Kind.MESSAGE
        and note.push_type == PushType.ALERT
        and note.badge_mode == BadgeMode.INCREMENT
    )
    return note.badge_increment if counts else -1


def badge_steps(works: Sequence[PendingPush], now_ms: int) -> list[int]:
    """The same for each; what ran out of time takes no number."""
    return [-1 if work.note.expires_at_ms <= now_ms else badge_step(work) for work in works]


def wellformed(works: Sequence[PendingPush], lane: Lane) -> RoundStep[PendingPush]:
    """The pushes whose token is valid for this vendor."""
    valid = lane.spec.token_valid
    fit = [work for work in works if valid(work.target.token)]
    if len(fit) == len(works):
        return RoundStep(works)
    bad = [work for work in works if not valid(work.target.token)]
    return RoundStep(
        fit, Results(decided=[(work, Decision.TOKEN_DEAD, "malformed token") for work in bad])
    )
