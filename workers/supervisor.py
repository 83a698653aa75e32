"""Starts the lines of a Procfile as processes and starts again what dies; none outlives us."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import shlex
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, TextIO

from workers.processes import kill_group, spawn

log = logging.getLogger(__name__)

#: After a death, seconds until the next start: doubled with each death within HEALTHY_S of its
#: start, up to the bound.
RESTART_S_FIRST: Final = 0.2
#: A dead process is back within a second (contract §1), however often it dies.
RESTART_S_MAX: Final = 0.8
#: A process that lived this long has left its crash loop, seconds.
HEALTHY_S: Final = 10.0
#: Seconds that processes may take to end at SIGTERM: a slice plus one send deadline.
STOP_S_MAX: Final = 20.0
LINE_BYTES_MAX: Final = 64 * 1024
LOG_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a Procfile. env: beside our own environment. replicas: how many processes, named
    NAME.1, NAME.2, …
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    replicas: int = 1


def read_procfile(path: Path, environ: Mapping[str, str] | None = None) -> list[Line]:
    """The lines `name: command`, with `$NAME`, `${NAME}` and `${NAME:-default}` replaced.
    ValueError names a line that is none.
    """
    known = dict(os.environ if environ is None else environ)
    lines: dict[str, Line] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9_-]+):\s*(\S.*)", text.strip())
        if match is None or match[1] in lines:
            raise ValueError(
                f"{path.name}, line {number}: not `name: command`, or a name that is there twice"
            )
        env, argv = _split_command(_expand(match[2], known))
        lines[match[1]] = Line(match[1], argv, env)
    return list(lines.values())


def _expand(command: str, known: Mapping[str, str]) -> str:
    command = re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda match: known.get(match[1]) or match[2], command
    )
    return string.Template(command).safe_substitute(known)


def _split_command(command: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The shell's `NAME=value program arguments`."""
    words = shlex.split(command)
    env = {}
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    return env, tuple(words)


@dataclass(slots=True, eq=False)
class Worker:
    """One process of a line, in all its lives."""

    name: str
    line: Line
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    delay_s: float = 0.0
    restarts: int = 0
    rest: bytes = b""
    file: IO[bytes] | None = None

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs lines until `stop`. Everything happens in the caller's thread: call `tick` often, it
    never blocks for long.

    Output goes to `stream` with the process's name before each line, or, with log_dir, to a file
    per process there.
    """

    def __init__(
        self, lines: Sequence[Line], *, log_dir: Path | None = None, stream: TextIO | None = None
    ) -> None:
        self.workers = [worker for line in lines for worker in _replicas(line)]
        self.log_dir = log_dir
        self.stream = stream or sys.stdout
        self._selector = selectors.DefaultSelector()

    def start(self) -> None:
        """Starts every process. Call from the thread that lives longest: its end ends them."""
        if self.log_dir is not None:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        for worker in self.workers:
            self._start(worker)

    def tick(self, wait_s: float = 0.1) -> None:
        """Passes on output within wait_s, and restarts dead processes that are due."""
        self._read(wait_s)
        for worker in self.workers:
            if worker.process is not None and not worker.alive():
                self._died(worker)
            if worker.process is None and time.monotonic() >= worker.due:
                worker.restarts += 1
                self._start(worker)

    def run(self, *, until: Mapping[str, bool]) -> None:
        """Ticks until `until["stop"]` is true."""
        while not until["stop"]:
            self.tick()

    def stop(self, wait_s: float = STOP_S_MAX) -> None:
        """SIGTERM to all at once, wait_s in all, then SIGKILL to the rest of their groups."""
        living = [worker for worker in self.workers if worker.process is not None]
        for worker in living:
            if worker.alive() and worker.process:
                worker.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + wait_s
        while any(worker.alive() for worker in living) and time.monotonic() < until:
            self._read(0.05)
        for worker in living:
            if worker.process:
                kill_group(worker.process)
                worker.process.wait()
        self._read(0)
        for worker in living:
            self._close(worker)

    def alive(self) -> Mapping[str, bool]:
        return {worker.name: worker.alive() for worker in self.workers}

    def _start(self, worker: Worker) -> None:
        worker.started = time.monotonic()
        env = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **worker.line.env,
            "PUSHFLEET_PROCESS": worker.name,
        }
        reading, writing = os.pipe()
        try:
            worker.process = spawn(worker.line.argv, env=env, output=writing)
        except OSError as error:
            os.close(reading)
            self._postpone(worker, f"can't start: {error.strerror}")
            return
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, worker)

    def _died(self, worker: Worker) -> None:
        assert worker.process is not None
        code = worker.process.returncode
        self._read(0)
        # its own children, were there any, must not work beside the next life
        kill_group(worker.process)
        self._close(worker)
        worker.process = None
        self._postpone(worker, f"ended with {code}")

    def _postpone(self, worker: Worker, why: str) -> None:
        lived_s = time.monotonic() - worker.started
        worker.delay_s = (
            RESTART_S_FIRST
            if lived_s >= HEALTHY_S or not worker.delay_s
            else min(worker.delay_s * 2, RESTART_S_MAX)
        )
        worker.due = time.monotonic() + worker.delay_s
        log.warning(
            "%s %s, starts again", worker.name, why, extra={"delay_s": round(worker.delay_s, 1)}
        )

    def _read(self, wait_s: float) -> None:
        if not self._selector.get_map():
            time.sleep(wait_s)
            return
        for key, _ in self._selector.select(wait_s):
            with contextlib.suppress(BlockingIOError):
                output = os.read(key.fd, LINE_BYTES_MAX)
                if output:
                    self._relay(key.data, output)
                else:
                    self._selector.unregister(key.fd)
                    os.close(key.fd)

    def _relay(self, worker: Worker, output: bytes) -> None:
        *lines, worker.rest = (worker.rest + output).split(b"\n")
        if len(worker.rest) > LINE_BYTES_MAX:
            lines, worker.rest = [*lines, worker.rest], b""
        for line in lines:
            self._write(worker, line)

    def _write(self, worker: Worker, line: bytes) -> None:
        if self.log_dir is None:
            self.stream.write(f"{worker.name:<20} | {line.decode(errors='replace')}\n")
            self.stream.flush()
            return
        if worker.file is None:
            worker.file = (self.log_dir / f"{worker.name}.log").open("ab")
        worker.file.write(line + b"\n")
        worker.file.flush()
        if worker.file.tell() > LOG_BYTES_MAX:
            worker.file.close()
            worker.file = None
            (self.log_dir / f"{worker.name}.log").replace(self.log_dir / f"{worker.name}.log.1")

    def _close(self, worker: Worker) -> None:
        for key in [key for key in self._selector.get_map().values() if key.data is worker]:
            self._selector.unregister(key.fd)
            os.close(key.fd)
        if worker.rest:
            self._write(worker, worker.rest)
            worker.rest = b""
        if worker.file is not None:
            worker.file.close()
            worker.file = None


def _replicas(line: Line) -> Iterator[Worker]:
    for number in range(1, line.replicas + 1):
        yield Worker(f"{line.name}.{number}", line)
