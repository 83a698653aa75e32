"""How large a fleet must be: replicas, servers, memory and connections for so many pushes a minute,
by measured costs.

`python -m tests.benchmarks.sizing [--per-minute 1000000] [--report var/reports/bench.json]`: the
table of docs/scaling.md, and a minute of such load simulated on it: arrivals by chance, each stage
with as many workers as the table says, how long work waits for one.
"""

import argparse
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: µs of CPU a c2c push by process, alone on two virtual cores at 2.1 GHz (docs/benchmarks.md), and
#: what it moves and leaves.
COSTS: Mapping[str, float] = {
    "intake": 79,
    "delivery": 65,
    "valkey": 59,
    "postgres": 22,
    "upkeep": 19,
}
REDIS_BYTES, AOF_BYTES, WAL_BYTES, ROW_BYTES = 2_600, 1_620, 740, 680
#: Bytes of Redis that a push leaves for a day or more (claims, event ids), and one that waits in
#: its lane's queue.
KEPT_BYTES, WAITING_BYTES = 420, 700
#: No part is planned to be busier than this: above it what comes by chance waits long.
BUSY_MAX = 0.6
#: Pushes that one delivery process has on the wire, and requests that one HTTP/2 connection has in
#: flight.
IN_FLIGHT, STREAMS = 500, 500
TICK_S = 0.01


@dataclass(frozen=True, slots=True)
class Wanted:
    """per_s: pushes a second. vendor_ms: how long a vendor takes to answer. outage_min: so long a
    vendor may be away at full load.
    """

    per_s: float
    vendor_ms: float = 80.0
    outage_min: float = 10.0
    ledger_days: int = 7


@dataclass(slots=True)
class Size:
    """What it takes. processes: by stage. busy: of each part, 1 is one core."""

    processes: dict[str, int] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    shards: int = 1
    redis_gib: float = 0.0
    sql_gib_a_day: float = 0.0
    connections: int = 0
    mbit_s: float = 0.0


def size_of(wanted: Wanted, costs: Mapping[str, float]) -> Size:
    """The smallest fleet whose parts are at most BUSY_MAX busy."""
    cores = {name: wanted.per_s * us / 1e6 for name, us in costs.items()}
    found = Size(cores=cores, shards=max(1, math.ceil(cores["valkey"] / BUSY_MAX)))
    on_wire = wanted.per_s * wanted.vendor_ms / 1000
    for stage in ("intake", "delivery", "upkeep"):
        found.processes[stage] = max(1, math.ceil(cores[stage] / BUSY_MAX))
    found.processes["delivery"] = max(
        found.processes["delivery"], math.ceil(on_wire / (IN_FLIGHT * BUSY_MAX))
    )
    waiting = wanted.per_s * wanted.outage_min * 60 * WAITING_BYTES
    kept = wanted.per_s * 86_400 * 1.5 * KEPT_BYTES
    found.redis_gib = (waiting + kept) / 2**30
    found.sql_gib_a_day = wanted.per_s * 86_400 * ROW_BYTES / 2**30
    found.connections = found.processes["delivery"] * math.ceil(IN_FLIGHT / STREAMS)
    found.mbit_s = wanted.per_s * REDIS_BYTES * 8 / 1e6
    return found


def simulate(
    wanted: Wanted, size: Size, costs: Mapping[str, float], stopped_s: float = 15.0, seed: int = 1
) -> tuple[float, float]:
    """Two minutes of it, with all of it standing still for `stopped_s` (a failover): the 99th
    percentile of how long work waits before that, ms; and in how many seconds afterwards nothing
    waits any more.
    """
    rng = random.Random(seed)
    servers = {**size.processes, "valkey": size.shards}
    backlog = dict.fromkeys(servers, 0.0)
    waits: list[float] = []
    mean, began, back_s = wanted.per_s * TICK_S, 30.0, 0.0
    for tick in range(int(120.0 / TICK_S)):
        now, worst = tick * TICK_S, 0.0
        # messages come in conversations: three times the spread of chance
        came = max(0.0, rng.gauss(mean, math.sqrt(mean) * 3))
        for name, count in servers.items():
            work = 0.0 if began <= now < began + stopped_s else count * TICK_S
            backlog[name] += came * costs[name] / 1e6
            worst = max(worst, (backlog[name] - count * TICK_S) / count)
            backlog[name] = max(0.0, backlog[name] - work)
        if now < began:
            waits.append(max(0.0, worst) * 1000)
        elif now > began + stopped_s and worst > 0.02:
            back_s = now - began - stopped_s
    return sorted(waits)[int(len(waits) * 0.99)], back_s


def costs_of(report: Path | None) -> dict[str, float]:
    """By stage; the processes that deliver to one vendor each count as delivery."""
    if report is None:
        return dict(COSTS)
    found = dict.fromkeys(COSTS, 0.0)
    for name, us in json.loads(report.read_bytes())["cpu_us_by_process"].items():
        delivers = name.startswith("delivery")
        stage = "delivery" if delivers else "intake" if name in ("presence", "routing") else name
        if stage in found:
            found[stage] += us
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--per-minute", type=float, action="append")
    parser.add_argument("--vendor-ms", type=float, default=80.0)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    costs = costs_of(given.report)
    columns = [
        "pushes a minute",
        "intake",
        "delivery",
        "upkeep",
        "Valkey, cores",
        "PostgreSQL, cores",
        "Redis, GiB",
        "SQL a day, GiB",
    ]
    print(f"| {' | '.join([*columns, 'Mbit/s', 'wait p99, ms', 'caught up after, s'])} |")
    print("| --- " * 11 + "|")
    for per_minute in given.per_minute or (6_000, 60_000, 300_000, 600_000, 1_000_000):
        wanted = Wanted(per_minute / 60, given.vendor_ms)
        size = size_of(wanted, costs)
        wait_ms, back_s = simulate(wanted, size, costs)
        parts = [size.processes[name] for name in ("intake", "delivery", "upkeep")]
        valkey = f"{size.cores['valkey']:.2f} ({size.shards} server{'s' * (size.shards > 1)})"
        postgres = f"{size.cores['postgres']:.2f}"
        row = [f"{per_minute:,.0f}", *map(str, parts), valkey, postgres, f"{size.redis_gib:.1f}"]
        row += [
            f"{size.sql_gib_a_day:.1f}",
            f"{size.mbit_s:.0f}",
            f"{wait_ms:.0f}",
            f"{back_s:.0f}",
        ]
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
