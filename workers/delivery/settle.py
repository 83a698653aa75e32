"""Outcomes -> ledger, retired tokens, delayed pushes. Pure: gives back what to write; `pipeline` writes it in one MULTI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.contracts import Attempt, Batch, Push, Target
from common.model import Again, Decision, Urgency, Verdict
from workers.delivery.fold import SHARED, Group, group_of
from workers.delivery.lane import Lane
from workers.delivery.retry import Done, Park, next_step
from workers.delivery.stage import Delivered
from workers.delivery.work import Work
from workers.vendors.base import Outcome

#: Attempts that travel with a push and stand in its row; older ones are counted only.
ATTEMPTS_KEPT: Final = 20
WORDS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Ended:
    """One push that is decided, for good."""

    work: Work
    decision: Decision
    attempts: tuple[Attempt, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Wait:
    """One push that goes again: delay_s from now, or behind its stopped lane (None)."""

    work: Work
    target: Target
    delay_s: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Retire:
    work: Work
    state: str  # retired, silenced
    reason: str
    guarded: bool
    foreign: bool = False


@dataclass(slots=True)
class Settled:
    ended: list[Ended] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    retires: list[Retire] = field(default_factory=list)
    alarms: int = 0


def settle(done: Delivered, lane: Lane, now_ms: int, first_cap_s: float | None, chance: Callable[[], float]) -> Settled:
    """What follows from a round. Every work of it, led ones too, stands in exactly one of ended and waits (dropped ones in none)."""
    settled = Settled()
    for work, decision, note in done.decided:
        settled.ended.append(Ended(work, decision, work.target.attempts, note))
        if decision == Decision.TOKEN_DEAD:
            settled.retires.append(Retire(work, "retired", "malformed", guarded=False))
    for work, delay_s, held_by in done.waiting:
        settled.waits.append(Wait(work, _held(work.target, held_by), delay_s, held_by))
    for work, held_by in done.parked:
        settled.waits.append(Wait(work, _held(work.target, held_by), None, held_by))
    chances: dict[Group, float] = {}  # one jitter a conversation and device: its messages come back together, in their order
    for work, outcome in done.told:
        mine = chances.setdefault(group_of(work), chance())
        _tell(work, outcome, lane, now_ms, first_cap_s, mine, settled)
    _follow(settled)
    return settled


def _follow(settled: Settled) -> None:
    """Those who are led by another share its fate: it went out for them, or they wait with it. What befell its own words only
    (rejected, too old) leaves them to go again without it."""
    for one in [one for one in settled.ended if one.work.led]:
        for work in one.work.led:
            if one.decision == Decision.ACCEPTED:
                settled.ended.append(Ended(work, Decision.FOLDED, work.target.attempts, f"went out with {one.work.note.message_id}"))
            elif one.decision in SHARED:
                settled.ended.append(Ended(work, one.decision, work.target.attempts, f"as {one.work.note.message_id}, which led it"))
            else:
                settled.waits.append(Wait(work, _kept(work, Decision.UNAVAILABLE), 0.0, Decision.UNAVAILABLE))
    for wait in [wait for wait in settled.waits if wait.work.led]:
        held = Decision(wait.target.held_by or Decision.UNAVAILABLE)
        if held == Decision.UNCERTAIN:  # the newest may be on the screen, these are not
            held = Decision.UNAVAILABLE
        settled.waits += [Wait(work, _kept(work, held), wait.delay_s, held) for work in wait.work.led]


def _kept(work: Work, held_by: Decision) -> Target:
    return work.target if work.target.held_by == held_by else _held(work.target, held_by)


def _tell(work: Work, outcome: Outcome, lane: Lane, now_ms: int, first_cap_s: float | None, chance: float, settled: Settled) -> None:
    attempts = (*work.target.attempts, _attempt(work, outcome, now_ms))[-ATTEMPTS_KEPT:]
    settled.alarms += outcome.alarm or outcome.verdict == Verdict.UNKNOWN
    left_s = (work.note.expires_at_ms - now_ms) / 1000
    tries = 1 + sum(one.verdict in ("", outcome.verdict) for one in work.target.attempts)  # a long throttle uses up no try after silence
    step = next_step(outcome, tries, left_s, work.note.message_class, lane.spec.retry, first_cap_s, chance)
    if isinstance(step, Done):
        settled.ended.append(Ended(work, step.decision, attempts, _story(outcome)))
        _retire(work, outcome, settled)
        return
    held = Decision.CREDENTIAL_REFUSED if isinstance(step, Park) else _HELD[outcome.verdict]
    target = msgspec.structs.replace(work.target, attempts=attempts, again=_again(work.target, outcome), held_by=held)
    settled.waits.append(Wait(work, target, None if isinstance(step, Park) else step.delay_s, outcome.verdict))


_HELD: Final = {
    Verdict.ACCESS_EXPIRED: Decision.CREDENTIAL_REFUSED,
    Verdict.THROTTLED: Decision.THROTTLED,
    Verdict.UNAVAILABLE: Decision.UNAVAILABLE,
    Verdict.UNCERTAIN: Decision.UNCERTAIN,
}


#: Cures of one attempt only. The others stay with the push: a 500 in between does not make refused words good again.
_ONCE: Final = frozenset({Again.NEW_CONNECTION, Again.SAVE_AGAIN})


def _again(target: Target, outcome: Outcome) -> str | None:
    return outcome.again or (target.again if target.again not in _ONCE else None)


def _held(target: Target, held_by: Decision) -> Target:
    """Uncertain stays uncertain: the push may be on somebody's screen, whatever stopped the lane later (contract §7)."""
    if target.held_by == Decision.UNCERTAIN:
        return target
    return msgspec.structs.replace(target, held_by=held_by)


def _attempt(work: Work, outcome: Outcome, now_ms: int) -> Attempt:
    words = outcome.words[:WORDS_MAX]
    return Attempt(work.sent_ms or now_ms, outcome.status, outcome.code, words, outcome.vendor_message_id, outcome.verdict)


def _story(outcome: Outcome) -> str:
    return f"{outcome.status} {outcome.code}".strip()


def _retire(work: Work, outcome: Outcome, settled: Settled) -> None:
    reason = outcome.code or outcome.verdict
    if outcome.verdict == Verdict.TOKEN_DEAD or outcome.verdict == Verdict.TOKEN_FOREIGN:
        foreign = outcome.verdict == Verdict.TOKEN_FOREIGN
        settled.retires.append(Retire(work, "retired", reason, guarded=True, foreign=foreign))
    elif outcome.verdict == Verdict.SILENCED:
        settled.retires.append(Retire(work, "silenced", reason, guarded=False))


def batches(waits: Iterable[Wait], lane: Lane) -> list[tuple[Urgency, Batch]]:
    """Waiting pushes packed again, same words together."""
    by_urgency: dict[Urgency, dict[int, tuple[Work, list[Target]]]] = {}
    for wait in waits:
        notes = by_urgency.setdefault(wait.work.note.urgency, {})
        notes.setdefault(id(wait.work.note), (wait.work, []))[1].append(wait.target)
    credential = lane.credential
    return [
        (
            urgency,
            Batch(
                app=credential.app,
                vendor=credential.vendor,
                business_id=credential.business_id,
                pushes=tuple(Push(note=work.note, targets=tuple(targets)) for work, targets in notes.values()),
            ),
        )
        for urgency, notes in by_urgency.items()
    ]


def works_of(entry: str, batch: Batch) -> Sequence[Work]:
    return [Work(entry, push.note, target) for push in batch.pushes for target in push.targets]
