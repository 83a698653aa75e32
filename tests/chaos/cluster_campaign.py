"""`make cluster`: the demo, then a fleet under load while the cluster it stands on loses its
primaries and moves its slots.

Every 10 s a primary is killed (and comes back as a replica), and between two kills the slot of the
fleet's keys, or of the core's stream, goes to another node, key by key. Then the books are settled.
Report: var/reports/cluster.json.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.chaos.campaign import Trouble, _pass, good, run, show, write
from tests.chaos.fleet import APP, Town
from tests.cluster import ValkeyCluster, published, valkey_cluster
from tests.waiting import wait_for

#: Keys whose slots suffer: the fleet's, and the core's stream.
VICTIMS = ("{s0}", "im:events")
EVERY_S = 10.0
#: From the death of a primary until what was published after it is taken in.
RECOVERY_S_MAX = 15.0
#: Until a dead primary is back, as a replica that has what the new one has.
IN_STEP_S = 60.0
#: While a slot moves key by key its commits wait: so many keys a step, and so long at most.
KEYS_AT_ONCE = 1_000
MOVE_S_MAX = 15.0
#: Members of the group that is read while its node dies.
GROUP = int(os.environ.get("GROUP") or 100_000)


class ClusterTrouble:
    """Kills and moves. recovery_s: how long after each kill until an event that was published then
    is taken in.
    """

    def __init__(self, cluster: ValkeyCluster) -> None:
        self.cluster = cluster
        self.recovery_s: list[float] = []
        self.moves: list[float] = []
        self.faults_at: list[tuple[float, str, str]] = []
        self.failed = ""

    def whole(self) -> bool:
        try:
            return self.cluster.healthy()
        except (RedisError, OSError, AssertionError):
            return False

    def kill(self, place: Town, trouble: Trouble, key: str) -> None:
        """A primary whose replica has what it has: if it died before that, the engine itself would
        lose what it had acknowledged (docs/scaling.md).
        """
        wait_for(
            lambda: self.whole() and self.cluster.replicated(key), "a replica is in step", IN_STEP_S
        )
        victim = self.cluster.owner(key)
        self.faults_at.append((round(time.time(), 1), "kill", key))
        victim.kill()
        began = time.monotonic()
        trouble.faults["kill_primary"] += 1
        for worker in place.workers:  # a batch on the wire can't be marked while its store is away
            place.kills[worker.name] += 1
        self._taken_in(place)
        self.recovery_s.append(round(time.monotonic() - began, 2))
        victim.start()

    def _taken_in(self, place: Town) -> None:
        """Until one message that is published now is on its way: intake has committed it."""
        event = {
            "v": 1,
            "id": f"probe-{time.time_ns()}",
            "type": "app.foreground",
            "app": "chaos",
            "ts": int(time.time() * 1000),
        }
        event |= {"data": {"user": "probe", "device_id": "d"}}
        entry: Any = None
        while True:
            try:
                entry = entry or published(
                    place.runtime.core, "im:events", {"e": json.dumps(event)}
                )
                if not place.runtime.core.xrange("im:events", entry, entry):
                    return
            except RedisError:
                pass
            time.sleep(0.05)

    def group(self, place: Town, trouble: Trouble, size: int) -> None:
        """A message to a group whose members have no device, whose node dies while it is read; each
        of them must have one row.
        """
        core = place.runtime.core
        key = f"im:members:{{{APP}:big}}"
        names = [f"g{number}" for number in range(size)]
        for start in range(0, size, 5_000):
            core.sadd(key, *names[start : start + 5_000])
        conversation = {"type": "group", "id": "big"}
        data = {"message_id": "big", "conversation": conversation, "sender": {"id": "nobody"}}
        identity = place._add(
            "message.stored", {**data, "elements": [{"type": "text", "text": "to all"}]}
        )
        place.books.expected |= {(identity, name, "") for name in names}
        place.books.messages += 1
        _pass(place, trouble, 0.5)
        self.kill(place, trouble, key)

    def move(self, trouble: Trouble, key: str) -> None:
        began = time.monotonic()
        try:
            if len(self.moves) % 2:
                self.cluster.move_slot(key, keys_at_once=KEYS_AT_ONCE)
            else:
                self.cluster.move_slot_whole(key)
        except (RedisError, OSError, StopIteration, AssertionError) as error:
            self.failed = f"{type(error).__name__}: {error}"
            return
        self.moves.append(round(time.monotonic() - began, 2))
        self.faults_at.append((round(time.time(), 1), "moved", key))
        trouble.faults["move_slot"] += 1

    def __call__(self, place: Town, trouble: Trouble, rng: random.Random, seconds: float) -> None:
        end = time.monotonic() + seconds
        turn = 0
        self.group(place, trouble, GROUP)
        while time.monotonic() < end:
            began = time.monotonic()
            self.kill(place, trouble, VICTIMS[turn % 2])
            wait_for(self.whole, "each primary has a replica", IN_STEP_S)
            self.move(trouble, VICTIMS[(turn // 2) % 2])
            _pass(
                place, trouble, max(0.0, began + EVERY_S * rng.uniform(0.8, 1.2) - time.monotonic())
            )
            turn += 1


def campaign(seconds: float, messages: int, per_second: float, seed: int) -> dict[str, Any]:
    with valkey_cluster() as cluster:
        faults = ClusterTrouble(cluster)
        report = run(
            messages,
            per_second,
            seed,
            lambda place, trouble, rng: faults(place, trouble, rng, seconds),
            settings={"REDIS_URL": cluster.url()},
        )
    report |= {
        "recovery_after_kill_s": faults.recovery_s,
        "moves_s": faults.moves,
        "faults_at": faults.faults_at,
        "move_failed": faults.failed,
    }
    slowest = max(faults.recovery_s, default=0.0)
    soon = slowest <= RECOVERY_S_MAX and max(faults.moves, default=0.0) <= MOVE_S_MAX
    report["holds"] = good(report) and soon and not faults.failed
    return report


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    seconds = float(os.environ.get("SECONDS_OF_FAULTS") or 180)
    messages = int(os.environ.get("MESSAGES") or 20_000)
    demo = 0
    if not os.environ.get("NO_DEMO"):
        command = str(Path(sys.executable).parent / "pushfleet")
        demo = subprocess.run(
            [sys.executable, "-m", "tests.cluster", command, "demo"], check=False
        ).returncode
    report = campaign(seconds, messages, 100, seed)
    report["demo"] = demo
    write("cluster.json", report)
    show(report)
    well = report["holds"] and not demo
    words = "nothing was lost" if well else "NOT everything is accounted for"
    print(words, "- the report is in var/reports/cluster.json")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
