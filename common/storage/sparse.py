"""Keys of which hardly any exist (Redis): one EXISTS for dozens, then the few that may be there.

A command of its own for each key costs server and client several times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.storage.raw_pipe import RawPipe, command

#: Keys of one EXISTS.
TOGETHER: Final = 25
#: Beyond this share of keys that exist, nearly every EXISTS finds one of them and saves nothing.
SHARE_MAX: Final = 0.02


class Sparse:
    """Remembers how many of the last keys existed, to tell whether EXISTS pays."""

    def __init__(self) -> None:
        self._is_sparse = True

    def places(self, pipe: RawPipe, keys: Sequence[str]) -> Sequence[int]:
        """Places of the keys that may exist; all of them while many do."""
        if not self._is_sparse or len(keys) <= TOGETHER:
            return range(len(keys))
        starts = range(0, len(keys), TOGETHER)
        commands = "".join([command("EXISTS", *keys[at : at + TOGETHER]) for at in starts])
        counts = pipe.ask(commands, len(starts))
        if not any(counts):
            return ()
        return [
            place
            for at, count in zip(starts, counts, strict=True)
            if count
            for place in range(at, min(at + TOGETHER, len(keys)))
        ]

    def found(self, existing: int, keys: int) -> None:
        """Of so many keys so many existed."""
        self._is_sparse = existing <= keys * SHARE_MAX
