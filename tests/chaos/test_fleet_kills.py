"""Every process of a fleet is killed while messages travel: each recipient's device has one row,
the vendor has each push at least once.
"""

from __future__ import annotations

import pytest

from tests.chaos.campaign import good, kill_each, run, show

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.timeout(300)
def test_two_thousand_messages_are_all_accounted_for_while_each_process_is_killed_once() -> None:
    report = run(
        2_000,
        100,
        7,
        lambda place, trouble, rng: kill_each(place, 1, (1.0, 3.0), trouble, rng),
        replicas={"delivery-apns": 2},
        people=300,
    )
    show(report)
    assert report["messages"] >= 2_000
    assert report["kills"] == {
        "intake.1": 1,
        "presence.1": 1,
        "routing.1": 1,
        "delivery-apns.1": 1,
        "delivery-apns.2": 1,
        "upkeep.1": 1,
    }
    found = set(report["decisions"])
    assert found <= {"accepted", "expired", "throttled", "quota_spent", "uncertain"}
    assert good(report)
