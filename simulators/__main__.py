"""`python -m simulators [VENDOR…] [--port N] [--dir DIR] [--host H]`: the vendors' simulators, each
a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from simulators.registry import SIMULATORS, present
from simulators.run import serve

PR_SET_PDEATHSIG = 1
STOP_S = 5.0
LOOK_S = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: stopped by a signal; 1: a simulator died; 2: wrong use, or a port is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m simulators", description="Simulators of the push vendors."
    )
    about = f"of {', '.join(SIMULATORS)}; none: all that are there"
    parser.add_argument("vendors", nargs="*", metavar="VENDOR", help=about)
    parser.add_argument(
        "--port", type=int, default=0, help="the first port, the others follow; 0: free ones"
    )
    folder = Path("var/simulators")
    parser.add_argument(
        "--dir", type=Path, default=folder, help="for the CA, the records and <vendor>.json"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    wanted = parser.parse_args(arguments)
    there = [vendor for vendor, entry in SIMULATORS.items() if entry.present()]
    missing = [vendor for vendor in wanted.vendors if vendor not in there]
    if missing:
        parser.error(f"no simulator: {', '.join(missing)}; there are {', '.join(there)}")
    vendors = list(dict.fromkeys(wanted.vendors)) or present()
    if not 0 <= wanted.port <= 65535 - sum(SIMULATORS[vendor].ports for vendor in vendors):
        parser.error("--port: 0 or a port with room for all behind it")
    wanted.dir.mkdir(parents=True, exist_ok=True)
    if len(vendors) == 1:
        return _one(vendors[0], wanted)
    return _many(vendors, wanted)


def _one(vendor: str, wanted: argparse.Namespace) -> int:
    if wanted.parent:
        _die_with(wanted.parent)
    try:
        asyncio.run(serve(vendor, wanted.dir, wanted.host, wanted.port))
    except OSError as error:
        why = f"{vendor}: {wanted.host} port {wanted.port or 'any'}: {error.strerror or error}"
        print(why, file=sys.stderr)
        return 2
    return 0


def _die_with(parent: int) -> None:
    """Stops this process when the parent ends in any way.

    Linux only; elsewhere it stops with the parent's SIGTERM.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we could say so
        sys.exit(1)


def _many(vendors: Sequence[str], wanted: argparse.Namespace) -> int:
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    children = _spawn(vendors, wanted)
    try:
        while not stopped:
            ended = [child for child in children if child.poll() is not None]
            if ended:
                return 2 if any(child.returncode == 2 for child in ended) else 1
            time.sleep(LOOK_S)
        return 0
    finally:
        _stop(children)


def _spawn(vendors: Sequence[str], wanted: argparse.Namespace) -> list[subprocess.Popen[bytes]]:
    children = []
    port = wanted.port
    for vendor in vendors:
        command = [
            sys.executable,
            "-m",
            "simulators",
            vendor,
            "--port",
            str(port),
            "--dir",
            str(wanted.dir),
            "--host",
            wanted.host,
        ]
        children.append(subprocess.Popen([*command, "--parent", str(os.getpid())]))
        port += SIMULATORS[vendor].ports if port else 0
    return children


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    ends = time.monotonic() + STOP_S
    for child in children:
        try:
            child.wait(max(0.1, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
