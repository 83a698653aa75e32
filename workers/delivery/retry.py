"""verdict x tries x expiry -> next step. Pure. What counts as a try:
workers/vendors/attempts.py.
"""

from __future__ import annotations

from typing import Final

from common.model import Decision, MessageClass, Verdict
from common.values import Value
from workers.delivery.outcomes import VERDICTS
from workers.vendors.types import Outcome, Retry

#: An uncertain push is sent again, with the same ids, only where a repeat that is perhaps seen does
#: less harm than silence.
SENT_AGAIN_WHEN_UNCERTAIN: Final = frozenset(MessageClass) - {
    MessageClass.MARKETING,
    MessageClass.NEWS,
    MessageClass.CONTENT,
    MessageClass.SOCIAL,
}


class Done(Value, frozen=True):
    decision: Decision


class TryAgain(Value, frozen=True):
    delay_s: float


class Park(Value, frozen=True):
    """The lane is stopped: wait behind it."""


Step = Done | TryAgain | Park


def next_step(
    outcome: Outcome,
    attempt: int,
    left_s: float,
    message_class: MessageClass,
    retry: Retry,
    first_cap_s: float | None,
    chance: float,
) -> Step:
    """The next step after the `attempt`-th answer of this verdict (1: the first).

    left_s: until the push expires. chance: the jitter, 0..1.
    """
    verdict = outcome.verdict
    if verdict == Verdict.CREDENTIAL_REFUSED:
        return Park()
    if VERDICTS[verdict].held_by is None or (
        verdict == Verdict.UNCERTAIN and message_class not in SENT_AGAIN_WHEN_UNCERTAIN
    ):
        return Done(VERDICTS[verdict].final)
    most = min(retry.attempts_max.get(verdict, 1), outcome.attempts_max or 1_000)
    if attempt >= most:
        return Done(VERDICTS[verdict].final)
    delay_s = _delay(outcome, attempt, retry, first_cap_s, chance)
    return Done(VERDICTS[verdict].final) if delay_s >= left_s else TryAgain(delay_s)


def _delay(
    outcome: Outcome, attempt: int, retry: Retry, first_cap_s: float | None, chance: float
) -> float:
    """The vendor's delay, else doubling from the first delay; jitter only adds to it.

    A vendor's figure is a minimum. Only the operator's cap of the first delay is a maximum: below
    it jitter subtracts.
    """
    if outcome.retry_after_s is not None:
        return outcome.retry_after_s * (1 + 0.1 * chance)
    wish_s = retry.first_s.get(outcome.verdict, 1.0) if outcome.first_s is None else outcome.first_s
    first_s = wish_s * (1 + 0.5 * chance)
    if first_cap_s is not None:
        first_s = min(
            first_s, first_cap_s if wish_s < first_cap_s else first_cap_s * (1 - 0.5 * chance)
        )
    return min(first_s * 2.0 ** min(attempt - 1, 20), retry.delay_max_s * (0.5 + 0.5 * chance))
