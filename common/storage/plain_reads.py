"""Plain XREADGROUP for streams that hold little: a script that bounds a read in bytes (lua/take.lua)
costs the server three times as much an entry.

A stream's bytes are those of all its entries: while they are few, so are those of any read of it.
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
#: Entries of a stream whose bytes are asked for: asking walks over its nodes, 0.1 µs for some ten entries.
ASKED_ENTRIES_MAX: Final = 60_000
#: How long it is relied on that little was written meanwhile, seconds; asked again after half of it.
RELIED_S: Final = 0.1
#: A read of fewer entries has no backlog behind it: the next one goes by the script, nothing is asked.
BACKLOG_MIN: Final = 50


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the streams held at a moment of this process' clock. bytes: None where they were not told."""

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

    def may(self, counts: Mapping[str, int], bytes_max: int) -> bool:
        """Whether so many entries of each stream are, as far as was told of late, bytes_max at most
        by their mean size, and never more than PLAIN_BYTES_MAX."""
        reply = self._asked
        if time.monotonic() - reply.at > RELIED_S:
            return False
        held, expected = 0, 0.0
        for name, count in counts.items():
            size = reply.bytes.get(name)
            if size is None:
                return False
            held += size
            expected += size / max(reply.entries[name], 1) * count
        return held <= PLAIN_BYTES_MAX and expected <= bytes_max

    def read(self, counts: Mapping[str, int]) -> list[Any]:
        """Per stream its entries [id, [field, value, ...]] that nobody has read, or a ResponseError."""
        reads = [
            command("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", str(count), "STREAMS", name, ">")
            for name, count in counts.items()
        ]
        asks = time.monotonic() - self._asked.at > RELIED_S / 2
        reply = self._exchange(reads, counts, asks=asks)
        found = [one if isinstance(one, ResponseError) else _entries(one) for one in reply]
        self._heed(found)
        return found

    def ask(self, counts: Mapping[str, int], found: int) -> None:
        """After a read by the script, which gave so many entries."""
        if found < BACKLOG_MIN:
            return
        self._exchange([], counts, asks=True)
        if None in self._asked.bytes.values():  # their numbers were not known
            self._exchange([], counts, asks=True)

    def _heed(self, found: Sequence[Any]) -> None:
        if sum(len(one) for one in found if not isinstance(one, ResponseError)) < BACKLOG_MIN:
            self._asked = _NEVER  # no backlog

    def _exchange(self, reads: Sequence[str], counts: Mapping[str, int], *, asks: bool) -> list[Any]:
        """The answers to the reads; `asks`: with a question for what the streams hold behind them."""
        known = self._asked.entries
        questions = [
            (name, kind)
            for name in (counts if asks else ())
            for kind in ("entries", "bytes")
            if kind == "entries" or known.get(name, ASKED_ENTRIES_MAX + 1) <= ASKED_ENTRIES_MAX
        ]
        commands = [*reads, *(_QUESTIONS[kind](name) for name, kind in questions)]
        at = time.monotonic()
        with raw_pipe(self._redis) as pipe:
            reply = pipe.ask_each("".join(commands), len(commands))
        if asks:
            answers = dict(zip(questions, reply[len(reads) :], strict=True))
            entries = {name: _number(answers[name, "entries"]) or 0 for name in counts}
            self._asked = _Asked(at, entries, {name: _number(answers.get((name, "bytes"))) for name in counts})
        return reply[: len(reads)]


_QUESTIONS: Final = {
    "entries": lambda name: command("XLEN", name),
    "bytes": lambda name: command("MEMORY", "USAGE", name, "SAMPLES", "0"),
}


def _number(answer: Any) -> int | None:
    """None where the server did not say: some allow no MEMORY."""
    return int(answer) if isinstance(answer, int) else None


def _entries(answer: Any) -> list[Any]:
    """Of a read of one stream, as either version of the protocol tells it."""
    if not answer:
        return []
    return list(next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1])
