"""Nothing is lost between the stages: kills, stops, cut and half-open connections, Redis killed,
wake-ups thrown away.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.storage.streams import TAKEOVER_IDLE_MS
from tests.chaos.streams import FAULTS, StreamFleet, campaign
from tests.conftest import OwnValkey

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

#: `make chaos` runs the long form; an ordinary run a short one, with a shorter take-over time.
LONG = bool(os.environ.get("PUSHFLEET_TEST_CHAOS_LONG"))
NUMBERS, PER_SECOND, ROUNDS, TAKEOVER_MS = (
    (100_000, 1_000, 2, TAKEOVER_IDLE_MS) if LONG else (10_000, 400, 1, 2_000)
)


def test_numbers_pass_three_stages_while_everything_breaks(
    restartable_valkey: OwnValkey, database_url: str, data_dir: Path
) -> None:
    takeover_ms = str(TAKEOVER_MS)
    environ = {
        "PUSHFLEET_DATABASE_URL": database_url,
        "PUSHFLEET_TEST_CHAOS_TAKEOVER_MS": takeover_ms,
    }
    with StreamFleet(restartable_valkey, data_dir, environ).running() as fleet:
        report = campaign(fleet, NUMBERS, PER_SECOND, TAKEOVER_MS / 1000 + 1, ROUNDS)
    print(report)
    assert report.numbers >= NUMBERS
    assert set(report.faults) == set(FAULTS)
    assert (report.lost, report.left) == (0, 0)
    assert report.restarts <= len(FAULTS), (
        "a worker may end when Redis goes away, its supervisor starts it again; it must not "
        "be a habit"
    )
    if not LONG:  # runs beside other files: whoever does not go on within a minute has failed
        return
    # a new process loads its libraries first
    assert report.recovery_s.pop("killed_back") <= 30.0
    # silence has to last before it is noticed: 5 to 10 s
    assert report.recovery_s.pop("half_open") <= 15.0
    assert max(report.recovery_s.values()) <= 10.0
