"""The short forms: small enough for every change, the same figures and limits. `make isolation`
runs the long ones.
"""

from __future__ import annotations

import pytest

from tests.isolation.short import failed

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    "name", ["campaign", "absent_worker", "outage_over", "call_behind_adverts", "idle_tenants"]
)
def test_one_slow_lane_stops_no_other(name: str) -> None:
    assert not failed(name)
