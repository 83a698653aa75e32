"""Processes that tests start: whether one has ended, and several that go at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.waiting import eventually


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
