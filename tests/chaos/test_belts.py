"""Nothing is lost between the stages: kills, stops, cut and half-open connections, Redis killed, bells thrown away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.belts import FAULTS, BeltFleet, campaign
from tests.conftest import OwnValkey

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

TAKEOVER_MS = 3_000


def test_ten_thousand_numbers_pass_three_stages_while_everything_breaks(
    restartable_valkey: OwnValkey, database_url: str, data_dir: Path
) -> None:
    environ = {"PUSHFLEET_DATABASE_URL": database_url, "PUSHFLEET_CHAOS_TAKEOVER_MS": str(TAKEOVER_MS)}
    with BeltFleet(restartable_valkey, data_dir, environ).running() as fleet:
        report = campaign(fleet, numbers=10_000, per_second=400, seconds=TAKEOVER_MS / 1000 + 1)
    print(report)
    assert report.numbers >= 10_000
    assert set(report.faults) == set(FAULTS)
    assert (report.lost, report.left, report.restarts) == (0, 0, 0)
    assert report.recovery_s.pop("killed_back") <= 30.0  # a new process loads its libraries first: 3 s, more where other tests run beside
    assert max(report.recovery_s.values()) <= 10.0
