"""The short forms of the scenarios in which a store is slow, locked or full."""

from __future__ import annotations

import pytest

from tests.isolation.short import failed

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    "name", ["postgres_frozen", "devices_locked", "redis_full", "large_events", "busy_recall"]
)
def test_a_slow_store_stops_no_lane(name: str) -> None:
    assert not failed(name)
