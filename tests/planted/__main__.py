"""`make planted [ARGS="--only WORDS"]`: each planted fault alone in a copy of this tree; the tests
that must notice are run there.

Leaves var/reports/planted.json: `{faults: {name: {noticed, by, seconds}}}`. Exit code 1: one was
not noticed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.planted.faults import FAULTS, Fault

HERE = Path(__file__).parents[2]
REPORT = HERE / "var/reports/planted.json"
SECONDS = 600


def copied(folder: Path) -> Path:
    """The tracked files of this checkout."""
    place = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=HERE, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HERE / name, place / name)
    return place


def tried(fault: Fault, place: Path) -> dict[str, Any]:
    """Plants the fault, runs its tests, takes it out again."""
    path = place / fault.file
    text = path.read_text()
    path.write_text(text.replace(fault.old, fault.new))
    began = time.monotonic()
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:rerunfailures",
        *fault.tests,
    ]
    try:
        env = {**os.environ, "PYTHONPATH": str(place)}
        done = subprocess.run(
            argv, cwd=place, env=env, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"noticed": True, "by": "the tests hang", "seconds": SECONDS}
    finally:
        path.write_text(text)
    if done.returncode not in (0, 1):
        words = f"pytest ended with {done.returncode}: {done.stdout[-300:]}"
        return {"noticed": False, "by": words, "seconds": 0}
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    took_s = round(time.monotonic() - began)
    return {"noticed": done.returncode == 1, "by": failed[1] if failed else None, "seconds": took_s}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name has these words")
    wanted = [fault for fault in FAULTS if parser.parse_args().only in fault.name]
    told = {}
    with tempfile.TemporaryDirectory(prefix="pushfleet-planted-") as folder:
        Path(folder).chmod(0o755)
        place = copied(Path(folder))
        for fault in wanted:
            told[fault.name] = tried(fault, place)
            print(f"{fault.name}: {told[fault.name]}", flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"faults": told}, indent=1))
    missed = [name for name, one in told.items() if not one["noticed"]]
    print(f"{len(told) - len(missed)} of {len(told)} were noticed - the report is {REPORT}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
