"""One vendor's simulator as a process: its ports, its record, and its address file."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.http2 import serve_port, serve_side_door
from simulators.registry import SIMULATORS, doors
from simulators.simulator import Record, ensure_ca, issue


@dataclass(slots=True)
class SimulatorRunning:
    """endpoints: name -> URL. control: URL of the side door that stays open while the vendor is
    down.
    """

    vendor: str
    record: Path
    ca_file: Path
    simulator: Any
    endpoints: dict[str, str] = field(default_factory=dict)
    control: str = ""
    servings: list[Any] = field(default_factory=list)

    def announcement(self) -> dict[str, Any]:
        return {
            "vendor": self.vendor,
            "pid": os.getpid(),
            "endpoints": self.endpoints,
            "ca_file": str(self.ca_file.absolute()),
            "record": str(self.record.absolute()),
            "control": self.control,
        }

    async def close(self) -> None:
        for serving in self.servings:
            ended = serving.close()
            if inspect.isawaitable(ended):
                await ended


async def start(
    vendor: str, folder: Path, host: str = "127.0.0.1", port: int = 0
) -> SimulatorRunning:
    """Opens the vendor's ports from `port` on (0: free ones), inside this event loop. OSError when
    one is taken.
    """
    entry = SIMULATORS[vendor]
    ca_file = ensure_ca(folder / "ca")
    certificate, key = issue(folder / "ca", vendor)
    record = Record(folder / f"{vendor}.jsonl")
    running = SimulatorRunning(vendor, record.path, ca_file, entry.make(record))
    try:
        for number, (endpoints, door) in enumerate(doors(running.simulator)):
            serving = await serve_port(
                door, host, port + number if port else 0, certificate, key, manners=entry.manners
            )
            running.servings.append(serving)
            running.endpoints.update(
                dict.fromkeys(endpoints, f"https://{_reachable(host)}:{serving.port}")
            )
        side = await serve_side_door(doors(running.simulator)[0][1], host)
    except BaseException:
        await running.close()
        raise
    running.servings.append(side)
    running.control = f"http://{_reachable(host)}:{side.port}"
    return running


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


async def serve(vendor: str, folder: Path, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; ready with `<folder>/<vendor>.json` and its stdout line."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    announced = folder / f"{vendor}.json"
    announced.unlink(missing_ok=True)
    running = await start(vendor, folder, host, port)
    line = json.dumps(running.announcement())
    half = folder / f".{vendor}.json.{os.getpid()}"
    half.write_text(line + "\n")
    half.rename(announced)
    # one write: the other simulators' lines come through the same pipe
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    await stop.wait()
    announced.unlink(missing_ok=True)
    await running.close()
