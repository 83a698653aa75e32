"""Child processes that never outlive us: a parent-death signal, and an end within a bound."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Final

_PR_SET_PDEATHSIG: Final = 1
# Loaded before any fork: the child may not allocate between fork and exec.
_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def _dies_with(parent: int, death_signal: int) -> Callable[[], None]:
    """The first step in the child, after setuid: an id change makes the kernel drop the signal.

    subprocess keeps that order.
    """

    def in_child() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the signal was set
            os._exit(1)

    return in_child


def set_on_signals(stop: threading.Event, numbers: Iterable[signal.Signals]) -> dict[int, Any]:
    """Each of these signals sets `stop`. Returns the handlers that stood there before.

    A handler runs between two steps of the main thread, which may hold the lock of `stop` just
    then (in `wait`, or in the `set` of the signal before): setting it there would wait for ever.
    `SimpleQueue.put` may interrupt itself; a thread of its own sets the event.
    """
    caught: SimpleQueue[int] = SimpleQueue()

    def pass_on() -> None:
        caught.get()
        stop.set()

    threading.Thread(target=pass_on, name="signals", daemon=True).start()
    return {number: signal.signal(number, lambda n, _: caught.put(n)) for number in numbers}


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
    uid: int | None = None,
    gid: int | None = None,
    death_signal: int = signal.SIGTERM,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own; stdout and stderr go to `output`, stdin is empty.

    It gets death_signal when the calling *thread* ends, so call this from a thread that lives as
    long as the process may (Linux; on other systems a killed parent leaves it behind). uid, gid:
    run as this user, without other groups. keep: file descriptors the child inherits. Raises
    OSError when it cannot start.
    """
    return subprocess.Popen(
        list(argv),
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
        pass_fds=keep,
        preexec_fn=_dies_with(os.getpid(), death_signal),  # noqa: PLW1509 - two calls into libc, nothing that takes a lock
    )


def end(process: subprocess.Popen[bytes], *signals: tuple[int, float]) -> None:
    """Sends each (signal, seconds to wait) until the process ends; then SIGKILL to its group."""
    for number, seconds in signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    kill_group(process)
    process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process group, also the children of a dead leader."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
        pass


#: Objects made before the collector looks at the young ones: a read of a stream makes some ten
#: thousand, and 700 (Python's own figure) meant that the whole heap was walked several times a
#: read: half of a stage's CPU time (measured, docs/benchmarks.md).
COLLECT_AFTER: Final = 50_000
COLLECT_OLDER_AFTER: Final = (20, 50)


def tune_gc() -> None:
    """Excludes loaded modules from garbage collection, for a process that now lives long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *COLLECT_OLDER_AFTER)
