"""What a simulator has taken: the lines of its record, each read once."""

import json
from pathlib import Path
from typing import Any


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
