"""`make bench-against BASE=DIR`: this build and another, turn by turn, each with a fleet of its own
on an otherwise idle machine.

python -m tests.benchmarks.against BASE [--repeats 5] [--messages 20000] [--tenants 0] [--group 0
--absent 0]

BASE is a checkout with its own .venv. It is measured by its own code and these benchmarks:
`counters.py` and `stand.py` are copied over its own. Prints the medians and their ratio; one JSON
line a run.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COPIED = ("against.py", "bench.py", "counters.py", "stand.py")


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """One fleet, one warm burst, one measured burst (or group)."""
    from tests.benchmarks.bench import USERS, group_ms
    from tests.benchmarks.stand import APP, TAKES_EFFECT_S, stand, vendor

    with (
        vendor(Path(tempfile.mkdtemp(prefix="pushfleet-bench-"))) as (url, ca, _),
        stand(url, ca) as ours,
    ):
        if given.group:
            before = ours.counters()
            ms = group_ms(ours, given.group, given.absent)
            used = ours.counters()
            return {"group_ms": ms, "rss_kib": used.rss_kib, **used.since(before, given.absent * 2)}
        apps: tuple[str, ...] = (APP,)
        users = USERS
        if given.tenants:
            apps, users = tuple(f"tenant{n}" for n in range(given.tenants)), 5
            for app in apps:
                ours.tenant(app)
                ours.devices_quick(app, users)
            ours.runtime.catalog.changed()
            time.sleep(TAKES_EFFECT_S)
        else:
            ours.devices(APP, users)
        ours.burst(1_000, users, apps)
        burst = ours.burst(given.messages, users, apps)
        per_second = round(burst.per_second)
        return {"per_second": per_second, **burst.used, "rss_kib": ours.counters().rss_kib}


def one(checkout: Path, argv: list[str]) -> dict[str, Any]:
    command = [str(checkout / ".venv/bin/python"), "-m", "tests.benchmarks.against", *argv, "--one"]
    done = subprocess.run(
        command, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True, timeout=900
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--tenants", type=int, default=0)
    parser.add_argument("--group", type=int, default=0)
    parser.add_argument("--absent", type=int, default=0)
    parser.add_argument("--one", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given)))
        return 0
    for name in COPIED:
        target = given.base / "tests/benchmarks" / name
        if not target.exists() or not target.samefile(HERE / name):
            shutil.copy(HERE / name, target)
    runs: dict[str, list[dict[str, Any]]] = {"base": [], "this": []}
    for _ in range(given.repeats):
        for name, checkout in (("base", given.base), ("this", HERE.parent.parent)):
            runs[name].append(one(checkout, sys.argv[1:]))
            print(name, json.dumps(runs[name][-1]), flush=True)
    for figure in ("cpu_us_per_push", "per_second", "group_ms"):
        values = {
            name: [run[figure] for run in told if figure in run] for name, told in runs.items()
        }
        if all(values.values()):
            base, this = (statistics.median(values[name]) for name in ("base", "this"))
            print(f"{figure:20} base {base:g}  this {this:g}  this/base {this / base:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
