"""A process is at work from before it is ready until its last request has its answer; until then no
keys move.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.config import environ_of
from tests.integration.shards.conftest import ShardedFleet
from workers.cli.at_work import WorkBeat
from workers.resharding.steps import Resharding, ReshardingError
from workers.shards import any_left

ROOT = Path(__file__).parents[3]


def until(said: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_who_begins_or_finishes_is_waited_for(sharded: ShardedFleet) -> None:
    living = sharded.runtime.living
    beat = WorkBeat(lambda: living, "delivery.1@h", "delivery:meizu", 0.05)
    beat.begin()
    assert not living.roles(), "it takes no work yet, or no more"
    sharded.runtime.redis.delete(sharded.runtime.keys.at_work("delivery.1@h"))
    until(living.at_work)
    with pytest.raises(ReshardingError, match=r"delivery\.1@h"):
        Resharding(sharded.runtime.settings, 2, lambda _words: None).run(0.0, 0.3)
    beat.end()
    assert not living.at_work()
    Resharding(sharded.runtime.settings, 2, lambda _words: None).run(0.0, 0.3)


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_a_sender_that_stops_is_at_work_until_its_answers_are_written(
    sharded: ShardedFleet,
) -> None:
    fleet = sharded
    fleet.publish(fleet.phone("ann"))
    fleet.take_in()
    fleet.publish(fleet.chat("ann", "slow"))
    fleet.take_in()
    fleet.route()
    fleet.meizu.door("faults", delay_ms=1_500)
    command = [sys.executable, "-m", "workers", "worker", "delivery", "--vendors", "meizu"]
    environ = {**os.environ, **environ_of(fleet.runtime.settings), "PUSHFLEET_PROCESS": "sender"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    living, lane = fleet.runtime.living, f"{fleet.app}:meizu:m1"
    try:
        until(living.roles)
        until(lambda: fleet.runtime.redis.exists(fleet.runtime.keys.lane_leases(lane)))
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        until(lambda: not living.roles())
        assert list(living.at_work()) == ["sender"]
        until(lambda: not living.at_work())
        assert not any_left(fleet.runtime), "its answer was written first"
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
    assert fleet.rows("slow") == {"ann": ["accepted"]}
