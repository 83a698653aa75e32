"""The short forms: small enough for every change, the same figures and limits. `make isolation`
runs the long ones, each on a fleet of its own; here one fleet is each scenario's in its turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from common.model import Vendor
from tests.isolation.place import Place, place
from tests.isolation.scenarios import SCENARIOS, Places

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

#: Of the long form: the shares of load and time.
SIZE = 0.005
#: Times of a few seconds beside another test file are that file's: the long form judges them.
OF_TIME = frozenset(
    {
        "all_chats_taken_s",
        "call_ms",
        "call_over_alone",
        "commands_per_push",
        "commands_per_push_with_chats",
        "cpu_s",
        "lane_rate_never_over",
        "lane_rate_over_limit",
        "maintenance_share_of_a_core",
        "p99_over_alone",
        "recall_read_s",
        "redis_commands_per_second",  # by how many processes there are
    }
)
#: What a full server refuses goes by all that it holds.
ALONE = "redis_full"


@pytest.fixture(scope="module")
def together() -> Iterator[Places]:
    vendors = (Vendor.APNS, Vendor.FCM, Vendor.HUAWEI)
    replicas = {"intake": 2, "presence": 2, "routing": 2}
    with place(vendors, (), replicas, LANE_BYTES_MAX="1GiB", RETRY_FIRST_S="1") as here:

        @contextlib.contextmanager
        def beside(*_: object, **__: object) -> Iterator[Place]:
            with here.beside() as other:
                yield other

        yield beside


@pytest.mark.parametrize("name", SCENARIOS)
def test_one_slow_thing_stops_no_other(name: str, request: pytest.FixtureRequest) -> None:
    places = place if name == ALONE else request.getfixturevalue("together")
    figures = SCENARIOS[name](SIZE, places)
    assert not {
        one: (value.figure, value.limit)
        for one, value in figures.items()
        if not value.holds and one not in OF_TIME
    }
