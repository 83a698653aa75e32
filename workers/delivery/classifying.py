"""The last step of a round: answers -> outcomes, and what gate, breaker and transport learn."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from common.model import Again, Verdict
from common.values import Value
from workers.delivery.batching import too_long_before
from workers.delivery.causes import cause_of
from workers.delivery.lane import Lane
from workers.delivery.outcomes import ACCESS, DOWN, NOT_TAKEN
from workers.delivery.ports import DeliveryPorts, RoundReport
from workers.delivery.results import Granted
from workers.delivery.work import PendingPush
from workers.vendors.attempts import in_a_row
from workers.vendors.types import Outcome, PushItem, VendorSpec
from workers.wire import HttpResponse, NoAnswer

Outcomes = Sequence[tuple[PendingPush, Outcome]]


class Classified(Value, frozen=True):
    """failed: requests that show the vendor unavailable. stale: the access token was refused: what
    was refused is not used again, by no later probe either. renew: connections are to be new.
    """

    outcomes: list[tuple[PendingPush, Outcome]]
    failed: int
    stale: bool
    renew: bool


def classified(
    granted: Granted, answers: Sequence[HttpResponse | NoAnswer], spec: VendorSpec
) -> Classified:
    """The outcome of each push of these requests."""
    found: list[tuple[PendingPush, Outcome]] = []
    failed, stale, renew, classify = 0, False, False, spec.classify
    for (batch, works), answer in zip(granted, answers, strict=True):
        outcomes = classify(batch, answer)
        if len(outcomes) == 1 and outcomes[0].verdict is Verdict.ACCEPTED:
            found.append((works[0], outcomes[0]))
            continue
        outcomes = [
            shortened(item, escalate_expired_token(item, outcome), spec)
            for item, outcome in zip(batch.items, outcomes, strict=True)
        ]
        found += zip(works, outcomes, strict=True)
        failed += all(is_down(outcome) for outcome in outcomes)
        stale = stale or any(outcome.verdict in ACCESS for outcome in outcomes)
        renew = renew or any(outcome.again == Again.NEW_CONNECTION for outcome in outcomes)
    return Classified(found, failed, stale, renew)


def shortened(item: PushItem, outcome: Outcome, spec: VendorSpec) -> Outcome:
    """Retries a push that the vendor found too long, shortened; a second refusal is final."""
    if (
        outcome.verdict is not Verdict.REJECTED
        or (outcome.code or outcome.status) not in spec.too_long
        or too_long_before(item.target, spec)
    ):
        return outcome
    return replace(outcome, verdict=Verdict.UNAVAILABLE, again=Again.SHORTEST, retry_after_s=0.0)


def escalate_expired_token(item: PushItem, outcome: Outcome) -> Outcome:
    """An access token is renewed once: a second refusal concerns the credential, or the clock."""
    again = (
        outcome.verdict is Verdict.ACCESS_EXPIRED
        and in_a_row(item, outcome.code or outcome.status) > 1
    )
    return replace(outcome, verdict=Verdict.CREDENTIAL_REFUSED) if again else outcome


def is_down(outcome: Outcome) -> bool:
    """True when the vendor is unavailable.

    One that asks for the push in another form is available.
    """
    return outcome.verdict in DOWN and outcome.again in (None, Again.NEW_CONNECTION)


def report(outcomes: Outcomes, good: int, failed: int, lane: Lane, ports: DeliveryPorts) -> None:
    """Refunds what was not taken, reports quota and caps, and reports the round to the breaker."""
    if not failed and all(
        outcome.verdict is Verdict.ACCEPTED and not outcome.lists_spent for _, outcome in outcomes
    ):
        ports.gate.refund(lane, ())
        ports.breaker.report(lane, RoundReport(good))
        return
    ports.gate.refund(lane, [work for work, outcome in outcomes if outcome.verdict in NOT_TAKEN])
    _report_limits(outcomes, lane, ports)
    ports.breaker.report(lane, _round_report([one for _, one in outcomes], good, failed))


def _report_limits(outcomes: Outcomes, lane: Lane, ports: DeliveryPorts) -> None:
    for bucket in {
        one.bucket or work.note.bucket
        for work, one in outcomes
        if one.verdict == Verdict.QUOTA_SPENT and not one.token_only
    }:
        ports.gate.report_quota_spent(lane, bucket)
    if any(one.lists_spent for _, one in outcomes):
        ports.gate.report_lists_spent(lane)
    if capped := [work for work, one in outcomes if one.verdict == Verdict.DEVICE_CAP]:
        ports.gate.report_capped(lane, capped)


def _round_report(outcomes: Sequence[Outcome], good: int, failed: int) -> RoundReport:
    refused = any(one.verdict == Verdict.CREDENTIAL_REFUSED for one in outcomes)
    return RoundReport(
        good,
        failed,
        refused,
        _retry_after_s(outcomes, failed >= good),
        sum(one.verdict == Verdict.THROTTLED and not one.token_only for one in outcomes),
        cause_of(outcomes) if failed or refused else "",
    )


def _retry_after_s(outcomes: Sequence[Outcome], down: bool) -> float | None:
    """The longest Retry-After of the lane's flow control; after mostly failures, of any answer."""
    verdicts = (Verdict.THROTTLED, Verdict.UNAVAILABLE) if down else (Verdict.THROTTLED,)
    waits = [
        one.retry_after_s
        for one in outcomes
        if one.verdict in verdicts
        and one.retry_after_s
        and one.status.isdigit()
        and not one.token_only
    ]
    return max(waits, default=None)


def report_quotas(
    granted: Granted, answers: Sequence[HttpResponse | NoAnswer], lane: Lane, ports: DeliveryPorts
) -> None:
    """The last numbers that the vendor's answers gave of each bucket's day."""
    numbers_of, quota_reported = {}, lane.spec.quota_reported
    if quota_reported is None:
        return
    for (batch, _), answer in zip(granted, answers, strict=True):
        numbers = quota_reported(answer) if isinstance(answer, HttpResponse) else None
        if numbers is not None:
            numbers_of[batch.items[0].note.bucket] = numbers
    for bucket, (used, limit) in numbers_of.items():
        ports.gate.report_quota(lane, bucket, used, limit)
