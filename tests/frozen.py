"""A PostgreSQL that stands still: all of its processes stopped, its connections open."""

import contextlib
import os
import signal
from pathlib import Path

from workers.embedded import Running


class FrozenPostgres:
    """An embedded server whose processes stop and go on by signal."""

    def __init__(self, running: Running) -> None:
        assert running.database_url
        self.url = running.database_url
        self._process = running.servers[0].process

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process
        for pid in _tree(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # ended since its parent named it
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]
