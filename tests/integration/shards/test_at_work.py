"""A process is at work from before it is ready until its last request has its answer; until then no
keys move.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.config import environ_of
from common.storage.streams import GROUP
from tests.integration.shards.conftest import ShardedFleet
from tests.waiting import eventually
from workers.cli.at_work import WorkBeat
from workers.resharding.steps import Resharding, ReshardingError
from workers.shards import any_left

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("sharded", [1], indirect=True)
def test_who_begins_or_finishes_is_waited_for(sharded: ShardedFleet) -> None:
    living = sharded.runtime.living
    beat = WorkBeat(lambda: living, "delivery.1@h", "delivery:meizu", 0.05)
    beat.begin()
    assert not living.roles(), "it takes no work yet, or no more"
    sharded.runtime.redis.delete(sharded.runtime.keys.at_work("delivery.1@h"))
    eventually(living.at_work)
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
    fleet.take_in(fleet.phone("ann"))
    fleet.through(fleet.chat("ann", "slow"))
    fleet.meizu.door("faults", delay_ms=1_500)
    command = [sys.executable, "-m", "workers", "worker", "delivery", "--vendors", "meizu"]
    environ = {**os.environ, **environ_of(fleet.runtime.settings), "PUSHFLEET_PROCESS": "sender"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    living, lane = fleet.runtime.living, f"{fleet.app}:meizu:m1"
    try:
        eventually(living.roles)
        eventually(lambda: fleet.runtime.redis.exists(fleet.runtime.keys.lane_leases(lane)))
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not living.roles())
        assert list(living.at_work()) == ["sender"]
        eventually(lambda: not living.at_work())
        assert not any_left(fleet.runtime), "its answer was written first"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert fleet.rows("slow") == {"ann": ["accepted"]}


def test_a_process_that_is_to_end_leaves_the_other_shards_to_others(sharded: ShardedFleet) -> None:
    """A read of a fleet that is behind is eight times the usual one: writing all of it would take
    longer than a process has to end.
    """
    fleet, people = sharded, [f"u{number}" for number in range(40)]
    fleet.apart()
    core = fleet.runtime.core
    consumer: Any = fleet.intake.consumer
    fleet.take_in(*map(fleet.phone, people))
    fleet.publish(*(fleet.chat(user, f"e-{user}") for user in people))
    consumer.finish_s = 0.0
    consumer.stopping = lambda: int(core.xlen(fleet.stream)) < len(people)
    fleet.intake.once(block_ms=10)
    left = int(core.xlen(fleet.stream))
    assert 0 < left < len(people)
    waiting: Any = core.xpending_range(fleet.stream, GROUP, "-", "+", len(people))
    assert [entry["times_delivered"] for entry in waiting] == [0] * left
    consumer.stopping = lambda: False
    end = time.monotonic() + 60
    while core.xlen(fleet.stream):
        assert time.monotonic() < end, "nobody takes over what was left"
        fleet.intake.once(block_ms=100)
    fleet.route()
    fleet.all_sent()
    for user in people:
        assert fleet.rows(f"e-{user}") == {user: ["accepted"]}
    assert set(fleet.shown().values()) == {1}


@pytest.mark.parametrize("sharded", [2], indirect=True)
def test_a_process_with_another_number_of_shards_says_so_in_one_line(
    sharded: ShardedFleet,
) -> None:
    given = environ_of(sharded.runtime.settings)
    sharded.runtime.redis.set(sharded.runtime.keys.shards, 2)
    told = subprocess.run(
        [sys.executable, "-m", "workers", "worker", "receipts"],
        cwd=ROOT,
        env={**os.environ, **given, "PUSHFLEET_SHARDS": "3", "PUSHFLEET_PROCESS": "other"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 2
    (line,) = (told.stdout + told.stderr).splitlines()
    assert line.startswith("PUSHFLEET_SHARDS is 3")
