"""Processes that tests start: whether one has ended, and several that go at once."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.waiting import eventually
from workers.cli.up import LocalFleet
from workers.processes import kill_group


def gone(pid: int, seconds: float = 30.0) -> bool:
    """Whether the process ends in time; a zombie has ended."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    try:
        return bool(eventually(ended, seconds))
    except AssertionError:
        return False


def at_once(commands: Sequence[Sequence[str]]) -> list[Any]:
    """Starts all, sends each a line when all are there; what each printed, read as JSON."""
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=60)[0]) for process in started]
    finally:
        for process in started:
            process.kill()


def end_at_once(fleet: LocalFleet) -> None:
    """Before a fleet that nobody asks anything more is stopped: else its end takes many seconds, in
    which each process finishes its slice. tests/chaos/test_honcho.py stops one as operators do.
    """
    for supervisor in (fleet._lines, fleet._simulators):
        for worker in supervisor.workers if supervisor else ():
            if worker.process:
                kill_group(worker.process)
