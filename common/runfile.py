"""`DATA_DIR/run.json` (0600): the addresses of the running fleet.

Many processes write it, each change under one file lock. Shape (contract §2): {redis_url,
database_url, console, metrics[] (URLs), receipts, simulators{vendor: url}, ca_file, pid}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Run = dict[str, Any]
NAME = "run.json"


def read(data_dir: Path) -> Run:
    """The file's content; {} without a readable file."""
    try:
        value = json.loads((data_dir / NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def alive(run: Run) -> bool:
    """True while the process that wrote it runs: kill -9 leaves the file behind."""
    pid = run.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, as another user
        return True
    return True


def change(data_dir: Path, edit: Callable[[Run], None]) -> None:
    """Read, edit, write as one step for all processes. OSError when the folder can't be written."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with _locked(data_dir):
        run = read(data_dir)
        edit(run)
        write_private(data_dir / NAME, json.dumps(run, indent=1).encode() + b"\n")


def remove(data_dir: Path) -> None:
    """Takes the file away: nothing is running any more."""
    with contextlib.suppress(OSError), _locked(data_dir):
        (data_dir / NAME).unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Replaces the file in one step; readable by its owner only from its first moment."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    with os.fdopen(os.open(data_dir / ".run.lock", os.O_RDWR | os.O_CREAT, 0o600), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
