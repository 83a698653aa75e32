"""`make isolation`: every scenario in its long form; report var/reports/isolation.json.

python -m tests.isolation [--size 1.0] [--only NAME,…] [--seed N] [--report
var/reports/isolation.json]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.isolation.place import place
from tests.isolation.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    about = "1.0: the long form; 0.1: a tenth of the load and the time"
    parser.add_argument("--size", type=float, default=1.0, help=about)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--report", type=Path, default=Path("var/reports/isolation.json"))
    given = parser.parse_args()
    wanted = [name for name in given.only.split(",") if name] or list(SCENARIOS)
    random.seed(given.seed)
    found: dict[str, Any] = {}
    for name in wanted:
        print(f"{name} …", flush=True)
        try:
            figures = SCENARIOS[name](given.size, place)
            found[name] = {
                one: {**asdict(value), "holds": value.holds} for one, value in figures.items()
            }
        except Exception as error:
            figure = {"figure": None, "limit": f"{type(error).__name__}: {error}", "holds": False}
            found[name] = {"broke": figure}
        for one, value in found[name].items():
            print(
                f"  {'holds' if value['holds'] else 'FAILS'}  {one:28} {value['figure']}  "
                f"limit {value['limit']}",
                flush=True,
            )
    given.report.parent.mkdir(parents=True, exist_ok=True)
    given.report.write_text(
        json.dumps({"seed": given.seed, "size": given.size, "scenarios": _finite(found)}, indent=1)
    )
    print(f"the report is in {given.report}")
    return (
        0 if all(value["holds"] for figures in found.values() for value in figures.values()) else 1
    )


def _finite(value: Any) -> Any:
    """JSON has no infinity: null."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
