"""Plain XREADGROUP for small streams (Redis): the bounded script costs three times as much.

lua/take.lua bounds a read in bytes. A stream's bytes are those of all its entries: while they are
few, so are those of any read of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.exceptions import ResponseError

from common.storage.raw_pipe import command, raw_pipe

#: Streams of more bytes, in all, are read by the script.
PLAIN_BYTES_MAX: Final = 16 * 1024 * 1024
#: Seconds for which a low write rate is assumed; asked again after half of it.
RELIED_S: Final = 0.1
#: A read of fewer entries has no backlog behind it: the next one goes by the script, nothing is
#: asked.
BACKLOG_MIN: Final = 50
#: Entries of a stream of unknown size whose bytes are asked for: that walks over its nodes, 0.1 µs
#: for some ten entries.
ASKED_ENTRIES_MAX: Final = 60_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """The streams' sizes at a moment of this process' clock. bytes: None where not reported."""

    at: float
    entries: Mapping[str, int]
    bytes: Mapping[str, int | None]


_NEVER: Final = _Asked(float("-inf"), {}, {})


class PlainReads:
    """group, consumer: as whom it reads. The streams are named by their keys."""

    def __init__(self, redis: Redis, group: str, consumer: str) -> None:
        self._redis = redis
        self._group = group
        self._consumer = consumer
        self._asked = _NEVER
        self._means: dict[str, float] = {}  # bytes of an entry, at their last measurement
        self._backlog = False

    def may(self, counts: Mapping[str, int], bytes_max: int) -> bool:
        """True when `counts` entries of each stream are within bytes_max by their mean size.

        They must also be within PLAIN_BYTES_MAX; the sizes are read again after a large read.
        """
        if not self._backlog:
            return False
        if time.monotonic() - self._asked.at > RELIED_S / 2:
            self._ask(counts)
        reply, held, expected = self._asked, 0, 0.0
        for name, count in counts.items():
            size = reply.bytes.get(name)
            if size is None:
                return False
            held += size
            expected += size / max(reply.entries[name], 1) * count
        return (
            held <= PLAIN_BYTES_MAX
            and expected <= bytes_max
            and time.monotonic() - reply.at < RELIED_S
        )

    def found(self, entries: int) -> None:
        """Records the number of entries of the last read, of either kind."""
        self._backlog = entries >= BACKLOG_MIN

    def read(self, counts: Mapping[str, int]) -> list[Any]:
        """Per stream its unread entries [id, [field, value, ...]], or a ResponseError."""
        reads = [
            command(
                "XREADGROUP",
                "GROUP",
                self._group,
                self._consumer,
                "COUNT",
                str(count),
                "STREAMS",
                name,
                ">",
            )
            for name, count in counts.items()
        ]
        return [
            one if isinstance(one, ResponseError) else entries_of_one(one)
            for one in self._exchange(reads)
        ]

    def _ask(self, counts: Mapping[str, int]) -> None:
        """Bytes only where they may be few."""
        at, names = time.monotonic(), list(counts)
        lengths = map(_number, self._exchange([command("XLEN", name) for name in names]))
        entries = dict(zip(names, lengths, strict=True))
        few = [name for name in names if self._may_be_few(name, entries[name])]
        answers = self._exchange([command("MEMORY", "USAGE", name, "SAMPLES", "0") for name in few])
        sizes = dict(zip(few, map(_number, answers), strict=True))
        self._means.update(
            {
                name: size / max(entries[name] or 1, 1)
                for name, size in sizes.items()
                if size is not None
            }
        )
        counts = {name: entries[name] or 0 for name in names}
        self._asked = _Asked(at, counts, {name: sizes.get(name) for name in names})

    def _may_be_few(self, name: str, entries: int | None) -> bool:
        if entries is None:
            return False
        mean = self._means.get(name)
        return entries <= ASKED_ENTRIES_MAX if mean is None else entries * mean <= PLAIN_BYTES_MAX

    def _exchange(self, commands: Sequence[str]) -> list[Any]:
        if not commands:
            return []
        with raw_pipe(self._redis) as pipe:
            return pipe.ask_each("".join(commands), len(commands))


def _number(answer: Any) -> int | None:
    """None when the server gave no number: some forbid MEMORY."""
    return int(answer) if isinstance(answer, int) else None


def entries_of_one(answer: Any) -> list[Any]:
    """The entries of a read of one stream, in either version of the protocol."""
    if not answer:
        return []
    return list(next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1])
