"""Which simulators there are. A vendor's module is imported only when its simulator is made, and
has a `make(record)`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.door import Manners
from simulators.simulator import Record, Simulator


@dataclass(frozen=True, slots=True)
class SimulatorEntry:
    """module under `simulators`. ports: how many it opens, one after the other."""

    module: str
    ports: int = 1
    manners: Manners = field(default_factory=Manners)

    def present(self) -> bool:
        return importlib.util.find_spec(f"simulators.{self.module}") is not None

    def make(self, record: Record) -> Any:
        """The simulator. One with several ports has `doors()`: endpoint name -> its server."""
        return importlib.import_module(f"simulators.{self.module}").make(record)


def _modules() -> list[str]:
    """The modules beside this one that have a `make(record)`, unimported: one for
    each simulator.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [
        path.stem
        for path in files
        if path != Path(__file__) and re.search(r"^def make\(", path.read_text(), re.MULTILINE)
    ]


#: Vendor -> its simulator; HTTP/1.1 on one port unless given here. HarmonyOS uses Huawei's, on the
#: same host: where all are started it is started once.
SIMULATORS: dict[str, SimulatorEntry] = {
    **{vendor: SimulatorEntry(vendor, 1, Manners(http1_only=True)) for vendor in _modules()},
    "apns": SimulatorEntry(
        "apns", 2, Manners(max_streams=1000, certificates=True, http2_only=True)
    ),
    "fcm": SimulatorEntry("fcm", 1, Manners(max_streams=100)),
    "harmony": SimulatorEntry("huawei", 1, Manners(http1_only=True)),
}


def present() -> list[str]:
    """One for each simulator that is there."""
    return [
        vendor for vendor, entry in SIMULATORS.items() if entry.present() and entry.module == vendor
    ]


def doors(simulator: Any) -> list[tuple[tuple[str, ...], Simulator]]:
    """(endpoint names, what to serve there), one for each port."""
    several = getattr(simulator, "doors", None)
    if callable(several):
        return [((endpoint,), door) for endpoint, door in several().items()]
    return [(tuple(simulator.endpoints), simulator)]
