"""`make scaling`: what a push costs with 1, 2, 4 and 16 shards, and with 1, 4 and 1 delivery
processes, as ratios to the first of a run.

python -m tests.benchmarks.scaling [--messages 10000] [--repeats 5] [--report
var/reports/scaling.json]

Each fleet starts anew, its burst lies on the core's stream before the clock starts, and each
message is accepted and has its row before it stops. Figures of one run may be compared, those of
two may not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.stand import APP, stand, vendor

USERS: Final = 5_000
#: (name, shards, processes of delivery and intake)
FLEETS: Final = (
    ("1 shard", 1, 1),
    ("2 shards", 2, 1),
    ("4 shards", 4, 1),
    ("16 shards", 16, 1),
    ("4 replicas", 1, 4),
    ("1 replica again", 1, 1),
)


def measured(url: str, ca: Path, shards: int, replicas: int, messages: int) -> dict[str, Any]:
    """µs of CPU a push, all processes and servers together, and pushes a second."""
    processes = {"delivery-apns": replicas, "intake": replicas}
    with stand(url, ca, processes, SHARDS=str(shards)) as ours:
        ours.devices(APP, USERS)
        ours.burst(1_000, USERS)
        found = ours.burst(messages, USERS)
    return {"us": found.used["cpu_us_per_push"], "per_second": round(found.per_second)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=Path, default=Path("var/reports/scaling.json"))
    chosen = parser.parse_args()
    told: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in FLEETS}
    with vendor(Path(tempfile.mkdtemp())) as (url, ca, _):
        for _ in range(chosen.repeats):
            for name, shards, replicas in FLEETS:
                told[name].append(measured(url, ca, shards, replicas, chosen.messages))
                print(name, told[name][-1], flush=True)
    first = FLEETS[0][0]
    ratios = {
        name: [round(one["us"] / told[first][turn]["us"], 2) for turn, one in enumerate(each)]
        for name, each in told.items()
    }
    table = {
        name: {"ratio": statistics.median(each), "ratios": each, "measured": told[name]}
        for name, each in ratios.items()
    }
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(table, indent=1))
    for name, row in table.items():
        print(f"{name:16} {row['ratio']:5.2f}  of {row['ratios']}")


if __name__ == "__main__":
    main()
