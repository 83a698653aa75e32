"""When a push goes again: the vendor's wish, the page's first delay as the least, the operator's
cap as the most.
"""

import pytest

from common.model import MessageClass, Verdict
from workers.delivery.retry import Done, TryAgain, next_step
from workers.vendors.apns import APNS
from workers.vendors.fcm import FCM
from workers.vendors.types import Outcome, Retry

LEFT_S = 86_400.0


def delays(outcome: Outcome, retry: Retry, cap_s: float | None, attempt: int = 1) -> list[float]:
    """With the least, a middling and the most jitter."""
    steps = [
        next_step(outcome, attempt, LEFT_S, MessageClass.CHAT, retry, cap_s, chance)
        for chance in (0.0, 0.5, 1.0)
    ]
    return [step.delay_s for step in steps if isinstance(step, TryAgain)]


UNAVAILABLE, THROTTLED = Outcome(Verdict.UNAVAILABLE, "503"), Outcome(Verdict.THROTTLED, "429")


@pytest.mark.parametrize(
    ("outcome", "retry", "least_s"),
    [
        (UNAVAILABLE, FCM.retry, 10.0),
        (THROTTLED, FCM.retry, 60.0),
        (UNAVAILABLE, APNS.retry, 900.0),
        (Outcome(Verdict.UNAVAILABLE, "503", "Shutdown", first_s=1.0), APNS.retry, 1.0),
        (Outcome(Verdict.UNAVAILABLE, "503", retry_after_s=17.0), FCM.retry, 17.0),
    ],
)
def test_nothing_goes_again_before_the_vendor_wants_it(
    outcome: Outcome, retry: Retry, least_s: float
) -> None:
    first = delays(outcome, retry, None)
    assert first[0] == least_s
    assert first == sorted(first)
    assert len({*first}) == 3
    if outcome.retry_after_s is None:
        assert delays(outcome, retry, None, attempt=2)[0] == 2 * least_s


@pytest.mark.parametrize("cap_s", [0.2, 5.0, 12.0, 60.0, 1000.0])
@pytest.mark.parametrize(
    "outcome", [UNAVAILABLE, THROTTLED, Outcome(Verdict.THROTTLED, "429", first_s=1200.0)]
)
def test_the_operator_s_cap_holds_for_every_first_delay_and_spreads_it_below(
    outcome: Outcome, cap_s: float
) -> None:
    first = delays(outcome, FCM.retry, cap_s)
    assert max(first) <= cap_s
    assert min(first) >= min(cap_s / 2, 10.0)
    assert len({*first}) > 1


def test_a_retry_after_wins_over_the_cap() -> None:
    found = delays(Outcome(Verdict.THROTTLED, "429", retry_after_s=17.0), FCM.retry, 0.2)
    assert found == [17.0, pytest.approx(17.85), pytest.approx(18.7)]


def test_what_would_come_too_late_is_over_now() -> None:
    late = next_step(UNAVAILABLE, 1, 9.0, MessageClass.CHAT, FCM.retry, None, 0.0)
    assert isinstance(late, Done)
