"""A running simulator seen from outside: what it has taken, the lines of its record, each read
once; and its side door.
"""

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def told_by(folder: Path, vendor: str) -> dict[str, Any]:
    """What the simulator of a vendor says of itself in the simulators' folder."""
    told: dict[str, Any] = json.loads((folder / f"{vendor}.json").read_bytes())
    return told


def ask(told: Mapping[str, Any], action: str, wanted: Mapping[str, Any] | None = None) -> Any:
    """A call at the side door of the simulator that told this of itself: `stats`, `faults` …"""
    data = None if wanted is None else json.dumps(wanted).encode()
    with urllib.request.urlopen(f"{told['control']}/_sim/{action}", data, timeout=60) as answer:
        return json.loads(answer.read())


class Taken:
    """path: `<vendor>.jsonl` in the simulators' folder; not there: nothing was taken yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._lines: list[dict[str, Any]] = []
        self._by_token: dict[str, list[dict[str, Any]]] = {}

    def lines(self) -> list[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole, end, _ = file.read().rpartition(b"\n")
            self._read += len(whole) + len(end)
            for one in map(json.loads, whole.splitlines()):
                self._lines.append(one)
                self._by_token.setdefault(one["token"], []).append(one)
        return list(self._lines)

    def of_token(self, token: str) -> list[dict[str, Any]]:
        self.lines()
        return list(self._by_token.get(token, ()))
