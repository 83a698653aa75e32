"""`make scaling`: what a push costs with 1, 2, 4 and 16 shards, and while replicas of intake and
delivery come and go (1, 4, 1), as ratios to the first of a run.

python -m tests.benchmarks.scaling [--messages 20000] [--repeats 5] [--cluster] [--report
var/reports/scaling.json]

--cluster: the shards on a cluster of three primaries and their replicas, all of which count.

Full load: a burst that lies on the core's stream before the clock starts, and each message is
accepted and has its row before it stops. Small load: messages at a pace, which the other fleets of
the table also get. The fleets of shards start anew; that of replicas is one, to which processes are
added and from which they are taken. Figures of one run may be compared, those of two may not.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.stand import APP, Burst, Stand, stand, vendor
from tests.cluster import valkey_cluster

USERS: Final = 5_000
SHARDS: Final = (1, 2, 4, 16)
#: Messages a second of a small load, and for how many seconds.
PACES: Final = (200, 1_500)
PACE_S: Final = 6.0
MORE: Final = ("intake", "delivery --vendors apns") * 3


def loads(ours: Stand, messages: int) -> Iterator[tuple[str, Burst]]:
    """A load's name, and what it cost."""
    for pace in PACES:
        yield f"{pace} a second", ours.steadily(pace, PACE_S, USERS)
    yield "burst", ours.burst(messages, USERS)


def by_shards(url: str, ca: Path, messages: int) -> Iterator[tuple[str, str, Burst]]:
    for shards in SHARDS:
        with stand(url, ca, {}, SHARDS=str(shards)) as ours:
            ours.devices(APP, USERS)
            ours.burst(1_000, USERS)
            for load, found in loads(ours, messages):
                yield f"shards {shards}", load, found


def by_cluster(url: str, ca: Path, messages: int) -> Iterator[tuple[str, str, Burst]]:
    for shards in SHARDS:
        with valkey_cluster() as cluster:
            pids = [node.process.pid for node in cluster.nodes if node.process is not None]
            where = {"SHARDS": str(shards), "REDIS_URL": cluster.url()}
            with stand(url, ca, {}, pids, **where) as ours:
                ours.devices(APP, USERS)
                ours.burst(1_000, USERS)
                for load, found in loads(ours, messages):
                    yield f"cluster {shards}", load, found


def by_replicas(url: str, ca: Path, messages: int) -> Iterator[tuple[str, str, Burst]]:
    with stand(url, ca, {}) as ours:
        ours.devices(APP, USERS)
        ours.burst(1_000, USERS)
        for load, found in loads(ours, messages):
            yield "replicas 1", load, found
        with ours.more(MORE):
            ours.burst(1_000, USERS)
            for load, found in loads(ours, messages):
                yield "replicas 4", load, found
        for load, found in loads(ours, messages):
            yield "replicas 1 again", load, found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--report", type=Path, default=Path("var/reports/scaling.json"))
    chosen = parser.parse_args()
    told: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with vendor(Path(tempfile.mkdtemp())) as (url, ca, _):
        for _ in range(chosen.repeats):
            for part in (by_cluster,) if chosen.cluster else (by_shards, by_replicas):
                for name, load, found in part(url, ca, chosen.messages):
                    us = found.used["cpu_us_per_push"]
                    one = {"us": us, "per_second": round(found.per_second)}
                    told.setdefault((name, load), []).append(one)
                    print(name, load, one, found.used["cpu_us_by_process"], flush=True)
    table = [_row(name, load, each, told) for (name, load), each in told.items()]
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(table, indent=1))
    for row in table:
        print(f"{row['fleet']:18} {row['load']:14} {row['ratio']:5.2f}  of {row['ratios']}")


def _row(
    name: str,
    load: str,
    each: list[dict[str, Any]],
    told: dict[tuple[str, str], list[dict[str, Any]]],
) -> dict[str, Any]:
    """Beside the first fleet of its kind with the same load, turn by turn."""
    first = told[f"{name.split(maxsplit=1)[0]} 1", load]
    ratios = [round(one["us"] / was["us"], 2) for one, was in zip(each, first, strict=True)]
    row = {"fleet": name, "load": load, "ratio": statistics.median(ratios)}
    return {**row, "ratios": ratios, "measured": each}


if __name__ == "__main__":
    main()
