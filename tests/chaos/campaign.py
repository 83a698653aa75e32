"""Kills every process of a fleet at random while messages travel, then settles accounts:
`python -m tests.chaos.campaign chaos|soak`.

`make chaos`: the streams' and the fleet's campaign in their long forms, var/reports/chaos.json.
`make soak [MINUTES=30]`: the same load with random faults for so many minutes,
var/reports/soak.json. The tests call `run` with smaller figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.chaos.fleet import Town, accounts, town
from workers.supervisor import Worker

REPORTS = Path("var/reports")
REPLICAS = {"presence": 2, "routing": 2, "delivery-apns": 2}
SETTLE_S = 240.0


@dataclass(slots=True)
class Trouble:
    """What was done, and how long each process took to say anew that it lives (seconds, the longest
    by name).
    """

    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, float] = field(default_factory=dict)
    _waiting: dict[str, float] = field(default_factory=dict)

    def down(self, names: list[str]) -> None:
        self._waiting |= dict.fromkeys(names, time.monotonic())

    def look(self, place: Town) -> None:
        for worker in place.workers:
            if worker.name in self._waiting and place.says_it_lives(worker.name):
                took = time.monotonic() - self._waiting.pop(worker.name)
                self.recovery_s[worker.name] = round(
                    max(self.recovery_s.get(worker.name, 0.0), took), 2
                )

    @property
    def all_back(self) -> bool:
        return not self._waiting


def kill(place: Town, worker: Worker, trouble: Trouble) -> None:
    """SIGKILL to a process that lives."""
    assert worker.process
    with contextlib.suppress(RedisError):
        place.runtime.redis.delete(place.runtime.keys.alive(worker.name))
    worker.process.send_signal(signal.SIGKILL)
    place.kills[worker.name] += 1
    trouble.faults["kill"] += 1
    trouble.down([worker.name])


def kill_each(
    place: Town, times: int, pause_s: tuple[float, float], trouble: Trouble, rng: random.Random
) -> None:
    """Each process so many times, in random order, at random moments."""
    left = [worker for worker in place.workers for _ in range(times)]
    rng.shuffle(left)
    while left:
        up = [worker for worker in left if worker.alive() and worker.name not in trouble._waiting]
        if up:
            left.remove(up[0])
            kill(place, up[0], trouble)
            _pass(place, trouble, rng.uniform(*pause_s))
        else:
            _pass(place, trouble, 0.1)


def _pass(place: Town, trouble: Trouble, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        trouble.look(place)
        time.sleep(0.05)


# ---------------------------------------------------------------- faults of the soak


def stop_a_worker(place: Town, trouble: Trouble, rng: random.Random) -> None:
    """For longer than the take-over time; then it goes on with what it held."""
    worker = rng.choice([worker for worker in place.workers if worker.alive()])
    process = worker.process
    assert process
    process.send_signal(signal.SIGSTOP)
    _pass(place, trouble, 18.0)
    process.send_signal(signal.SIGCONT)
    # what it holds was sent by another meanwhile, and may be sent once more, as after a kill
    place.kills[worker.name] += 1


def kill_a_worker(place: Town, trouble: Trouble, rng: random.Random) -> None:
    kill(place, rng.choice([worker for worker in place.workers if worker.alive()]), trouble)
    trouble.faults["kill"] -= 1  # counted by its name below


def kill_redis(place: Town, trouble: Trouble, rng: random.Random) -> None:
    """The supervisor starts it again; every reply it gave is in its file."""
    servers = place.fleet._servers
    assert servers
    server = next(server for server in servers.servers if server.name == "valkey")
    assert server.process
    server.process.kill()
    # a batch on the wire can't be marked while Redis is away
    for worker in place.workers:
        place.kills[worker.name] += 1


def stop_postgres(place: Town, trouble: Trouble, rng: random.Random) -> None:
    servers = place.fleet._servers
    assert servers
    server = next(server for server in servers.servers if server.name.startswith("postgres"))
    assert server.process
    os.killpg(server.process.pid, signal.SIGSTOP)
    _pass(place, trouble, 10.0)
    os.killpg(server.process.pid, signal.SIGCONT)


SOAK_FAULTS: Mapping[str, Callable[[Town, Trouble, random.Random], None]] = {
    "kill_a_worker": kill_a_worker,
    "stop_a_worker": stop_a_worker,
    "kill_redis": kill_redis,
    "stop_postgres": stop_postgres,
}


def soak_for(place: Town, minutes: float, trouble: Trouble, rng: random.Random) -> None:
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        _pass(place, trouble, rng.uniform(5.0, 20.0))
        name = rng.choice(list(SOAK_FAULTS))
        trouble.faults[name] += 1
        SOAK_FAULTS[name](place, trouble, rng)


# ---------------------------------------------------------------- a campaign


def run(
    messages: int,
    per_second: float,
    seed: int,
    trouble_of: Callable[[Town, Trouble, random.Random], None],
    *,
    replicas: Mapping[str, int] = REPLICAS,
    people: int = 500,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`run_on` a fleet of its own."""
    quota = max(messages // 40, 20)
    with town(replicas, people=people, quota=quota, seed=seed, **(settings or {})) as place:
        return run_on(place, messages, per_second, seed, trouble_of)


def run_on(
    place: Town,
    messages: int,
    per_second: float,
    seed: int,
    trouble_of: Callable[[Town, Trouble, random.Random], None],
) -> dict[str, Any]:
    """At least so many messages at a pace, and on until the trouble is over; the report. `settled`
    false: something still moved.
    """
    trouble, rng = Trouble(), random.Random(seed)
    over = threading.Event()

    def load() -> None:
        while not over.is_set() or place.books.messages < messages:
            place.publish()
            time.sleep(1 / per_second)

    publisher = threading.Thread(target=load, name="publisher")
    publisher.start()
    try:
        trouble_of(place, trouble, rng)
    finally:
        over.set()
        while publisher.is_alive():
            _pass(place, trouble, 0.1)
    settled = place.settled(SETTLE_S, lambda: trouble.look(place))
    return {
        "seed": seed,
        "messages": place.books.messages,
        "faults": {name: count for name, count in trouble.faults.items() if count},
        "kills": dict(place.kills),
        "recovery_s": trouble.recovery_s,
        "settled": settled,
        **accounts(place),
    }


def good(report: Mapping[str, Any]) -> bool:
    """Whether nothing was lost, and nothing was doubled or sent beyond what the contract allows."""
    zero = ("lost", "rows_without_message", "dead_letters", "over_quota", "over_rate", "stale_sent")
    return (
        bool(report["settled"])
        and not any(report[name] for name in zero)
        and report["doubled"] <= report["doubled_bound"]
    )


def show(report: Mapping[str, Any]) -> None:
    for name, value in report.items():
        print(f"{name:<22} {value if not isinstance(value, dict) else json.dumps(value)}")


def write(name: str, report: Mapping[str, Any]) -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / name).write_text(json.dumps(report, indent=1))


def streams() -> int:
    """The long form of the streams' campaign: 100,000 numbers."""
    environ = {**os.environ, "PUSHFLEET_TEST_CHAOS_LONG": "1"}
    file = "tests/chaos/test_streams.py"
    argv = [sys.executable, "-m", "pytest", "-x", "-s", "--timeout", "1200", file]
    return subprocess.run(argv, env=environ, check=False).returncode


def main() -> int:
    what = sys.argv[1]
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    if what == "soak":
        minutes = float(os.environ.get("MINUTES") or 30)
        report = run(
            0, 50, seed, lambda place, trouble, rng: soak_for(place, minutes, trouble, rng)
        )
        report["minutes"] = minutes
        failed = 0
    else:
        times = int(os.environ.get("KILLS") or 5)
        messages = int(os.environ.get("MESSAGES") or 20_000)
        report = run(
            messages,
            150,
            seed,
            lambda place, trouble, rng: kill_each(place, times, (0.2, 3.0), trouble, rng),
        )
        failed = streams()
        report["belts_failed"] = failed
    write(f"{what}.json", report)
    show(report)
    well = good(report) and not failed
    words = "nothing was lost" if well else "NOT everything is accounted for"
    print(words, f"- the report is in {REPORTS / what}.json")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
