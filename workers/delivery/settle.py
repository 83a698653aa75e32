"""Outcomes -> ledger, retired tokens, delayed pushes. Pure: gives back what to write; `pipeline`
writes it in one MULTI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.contracts import Attempt, Batch, Push, Target
from common.model import Again, Decision, Kind, Urgency, Vendor, Verdict
from common.values import Value
from workers.delivery.coalescing import Group
from workers.delivery.lane import Lane
from workers.delivery.outcomes import LANE_FAULTS, SHARED, VERDICTS
from workers.delivery.results import Delivered
from workers.delivery.retry import Done, Park, next_step
from workers.delivery.work import Hold, PendingPush
from workers.vendors.answers import WORDS_MAX
from workers.vendors.attempts import tries_of
from workers.vendors.types import Outcome

#: Attempts kept with a push and in its row; older ones are only counted.
ATTEMPTS_KEPT: Final = 20


class FinalOutcome(Value, frozen=True):
    """One push that is decided, for good."""

    work: PendingPush
    decision: Decision
    attempts: tuple[Attempt, ...]
    note: str


class Deferral(Value, frozen=True):
    """One push that goes again: delay_s from now, or behind its stopped lane (None)."""

    work: PendingPush
    target: Target
    delay_s: float | None
    reason: str


class Retire(Value, frozen=True):
    work: PendingPush
    state: str  # retired, silenced
    reason: str
    guarded: bool
    foreign: bool = False


#: The reason of a push that continues on another lane.
MOVED: Final = "moved"


@dataclass(slots=True)
class Settled:
    ended: list[FinalOutcome] = field(default_factory=list)
    waits: list[Deferral] = field(default_factory=list)
    retires: list[Retire] = field(default_factory=list)
    alarms: int = 0


def settle(
    done: Delivered, lane: Lane, now_ms: int, first_cap_s: float | None, chance: Callable[[], float]
) -> Settled:
    """The settlement of a round: each push is in exactly one of ended and waits.

    This includes coalesced pushes. Dropped pushes are in neither.
    """
    settled = Settled(ended=decided(done))
    for work, decision, _ in done.decided:
        if decision == Decision.TOKEN_DEAD:
            settled.retires.append(Retire(work, "retired", "malformed", guarded=False))
    for work, delay_s, held_by in done.waiting:
        settled.waits.append(Deferral(work, _held(work, held_by), delay_s, held_by))
    for work, held_by in done.on_hold:
        settled.waits.append(Deferral(work, _held(work, held_by), None, held_by))
    settled.waits += [Deferral(work, work.target, 0.0, MOVED) for work in done.moved]
    # one jitter a conversation: its messages come back in their order, and those who shared a
    # request share the next one
    chances: dict[Group, float] = {}
    for work, outcome in done.outcomes:
        if outcome.verdict is Verdict.ACCEPTED and not work.target.tried and not outcome.alarm:
            settled.ended.append(
                FinalOutcome(
                    work,
                    Decision.ACCEPTED,
                    (attempt_of(work, outcome, now_ms),),
                    trace_text(outcome),
                )
            )
            continue
        mine = chances.setdefault(
            (work.note.app, work.note.conversation_type, work.note.conversation_id), chance()
        )
        _tell(work, outcome, lane, now_ms, first_cap_s, mine, settled)
    _follow(settled)
    return settled


def decided(done: Delivered) -> list[FinalOutcome]:
    """The pushes that were decided without a request."""
    return [
        FinalOutcome(work, _final(work, decision), work.target.attempts, note)
        for work, decision, note in done.decided
    ]


def _follow(settled: Settled) -> None:
    """Coalesced pushes share the fate of their newest: sent with it, or waiting with it.

    A failure of the newest one's own text (rejected, too old) lets them go again without it.
    """
    for one in [one for one in settled.ended if one.work.coalesced]:
        for work in one.work.coalesced:
            if one.decision == Decision.ACCEPTED:
                settled.ended.append(
                    FinalOutcome(
                        work,
                        Decision.FOLDED,
                        work.target.attempts,
                        f"went out with {one.work.note.message_id}",
                    )
                )
            elif one.decision in SHARED:
                settled.ended.append(
                    FinalOutcome(
                        work,
                        one.decision,
                        work.target.attempts,
                        f"as {one.work.note.message_id}, which led it",
                    )
                )
            else:
                settled.waits.append(
                    Deferral(work, _kept(work, Decision.UNAVAILABLE), 0.0, Decision.UNAVAILABLE)
                )
    for wait in [wait for wait in settled.waits if wait.work.coalesced]:
        held = Decision(wait.target.held_by or Decision.UNAVAILABLE)
        if held == Decision.UNCERTAIN:  # the newest may be on the screen, these are not
            held = Decision.UNAVAILABLE
        settled.waits += [
            Deferral(work, _kept(work, held), wait.delay_s, held) for work in wait.work.coalesced
        ]


def _kept(work: PendingPush, held_by: Decision) -> Target:
    return work.target if work.target.held_by == held_by else _held(work, held_by)


def _tell(
    work: PendingPush,
    outcome: Outcome,
    lane: Lane,
    now_ms: int,
    first_cap_s: float | None,
    chance: float,
    settled: Settled,
) -> None:
    tried = work.target.tried + 1
    attempts = (*work.target.attempts, attempt_of(work, outcome, now_ms))[-ATTEMPTS_KEPT:]
    settled.alarms += outcome.alarm or outcome.verdict == Verdict.UNKNOWN
    left_s = (work.note.expires_at_ms - now_ms) / 1000
    tries = tries_of(work.target, outcome.verdict)
    step = next_step(
        outcome, tries, left_s, work.note.message_class, lane.spec.retry, first_cap_s, chance
    )
    if isinstance(step, Done):
        settled.ended.append(
            FinalOutcome(work, _final(work, step.decision), attempts, trace_text(outcome))
        )
        _retire(work, outcome, settled)
        return
    row = VERDICTS[outcome.verdict]
    held = row.held_by or row.final
    again, earlier = _again(work.target, outcome), tried - len(attempts)
    target = msgspec.structs.replace(
        _held(work, held), attempts=attempts, again=again, earlier=earlier
    )
    settled.waits.append(
        Deferral(work, target, None if isinstance(step, Park) else step.delay_s, outcome.verdict)
    )


def _final(work: PendingPush, decision: Decision) -> Decision:
    """An unanswered attempt stays `uncertain`, whatever stopped the lane later (contract §7)."""
    return Decision.UNCERTAIN if work.doubtful and decision in LANE_FAULTS else decision


def without_lane(works: Sequence[PendingPush]) -> list[FinalOutcome]:
    """The outcomes of pushes whose account was removed on their way."""
    return [
        FinalOutcome(
            work,
            _final(work, Decision.NO_CREDENTIAL),
            work.target.attempts,
            "the credential was removed",
        )
        for work in works
    ]


#: Remedies of one attempt only. The others stay with the push: a 500 in between does not make a
#: rejected text valid.
_ONCE: Final = frozenset({Again.NEW_CONNECTION, Again.SAVE_AGAIN})


def _again(target: Target, outcome: Outcome) -> str | None:
    return outcome.again or (target.again if target.again not in _ONCE else None)


def _held(work: PendingPush, held_by: Decision) -> Target:
    """Uncertain stays uncertain: see `_final`."""
    return msgspec.structs.replace(
        work.target, held_by=Decision.UNCERTAIN if work.doubtful else held_by
    )


def attempt_of(work: PendingPush, outcome: Outcome, now_ms: int) -> Attempt:
    words = outcome.words[:WORDS_MAX]
    return Attempt(
        work.sent_ms or now_ms,
        outcome.status,
        outcome.code,
        words,
        outcome.vendor_message_id,
        outcome.verdict,
    )


def trace_text(outcome: Outcome) -> str:
    return f"{outcome.status} {outcome.code}".strip() if outcome.code else outcome.status.strip()


def _retire(work: PendingPush, outcome: Outcome, settled: Settled) -> None:
    row = VERDICTS[outcome.verdict]
    if row.token:
        foreign = outcome.verdict is Verdict.TOKEN_FOREIGN
        settled.retires.append(
            Retire(
                work,
                row.token,
                outcome.code or outcome.verdict,
                guarded=row.guarded,
                foreign=foreign,
            )
        )


def kept(work: PendingPush, target: Target) -> Target:
    """The target of a push that goes again: it keeps UNCERTAIN, and with it its counted number."""
    if not work.by_entry:
        return target
    doubtful = work.doubtful or target.held_by == Decision.UNCERTAIN
    counted = work.counted if doubtful else ""
    held_by = Decision.UNCERTAIN if doubtful else target.held_by
    if (counted, held_by) == (target.counted, target.held_by):
        return target
    return msgspec.structs.replace(target, counted=counted, held_by=held_by)


def batches(waits: Iterable[Deferral], lane: Lane) -> list[tuple[Urgency, Batch]]:
    """Waiting pushes grouped again by notification, each for its lane."""
    own = (lane.vendor, lane.credential.business_id)
    by_urgency: dict[
        tuple[Urgency, tuple[Vendor, str], bool], dict[int, tuple[PendingPush, list[Target]]]
    ] = {}
    for wait in waits:
        notes = by_urgency.setdefault(
            (wait.work.note.urgency, wait.work.lane or own, wait.work.by_entry), {}
        )
        notes.setdefault(id(wait.work.note), (wait.work, []))[1].append(wait.target)
    return [
        (
            urgency,
            Batch(
                app=lane.credential.app,
                vendor=vendor,
                business_id=business_id,
                pushes=tuple(
                    Push(note=work.note, targets=tuple(targets)) for work, targets in notes.values()
                ),
                by_entry=by_entry,
            ),
        )
        for (urgency, (vendor, business_id), by_entry), notes in by_urgency.items()
    ]


#: Kinds whose pushes are in one entry only; recalls and cancels are routed several times
#: (workers/withdraw.py).
ONCE: Final = frozenset({Kind.MESSAGE, Kind.CALL_INVITE})


def works_of(entry: str, batch: Batch, hold: Hold | None = None) -> list[PendingPush]:
    """The pushes of a lane's entry in their places."""
    works: list[PendingPush] = []
    for push in batch.pushes:
        by_entry = batch.by_entry and push.note.kind in ONCE
        for target in push.targets:
            place = len(works)
            works.append(
                PendingPush(
                    entry,
                    push.note,
                    target,
                    place=place,
                    by_entry=by_entry,
                    counted=target.counted,
                    hold=hold,
                )
            )
    return works
