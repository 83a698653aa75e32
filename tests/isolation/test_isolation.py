"""The short forms: small enough for every change, the same figures and limits. `make isolation`
runs the long ones.
"""

from __future__ import annotations

import pytest

from tests.isolation.scenarios import SCENARIOS

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

#: A p99 of a few seconds' chats beside another test file is that file's; the long form judges
#: times.
OF_TIME = frozenset(
    {"p99_over_alone", "call_over_alone", "commands_per_push", "lane_rate_over_limit"}
)


@pytest.mark.parametrize("name", ["absent_worker", "postgres_frozen", "large_events"])
def test_one_slow_thing_stops_no_other(name: str) -> None:
    figures = SCENARIOS[name](0.02)
    failed = {
        one: (value.figure, value.limit)
        for one, value in figures.items()
        if not value.holds and one not in OF_TIME
    }
    assert not failed
