"""Events of many callers -> the core's stream, in few commands.

One thread writes the events that came during its last write.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

#: Events of one write, and the callers waiting for one at most: further ones are asked to retry.
WRITE_MAX: Final = 500
WAITING_MAX: Final = 20_000
#: Events of one entry, and their bytes: intake takes 200 in 256 KiB.
LINES_MAX: Final = 200
LINES_BYTES_MAX: Final = 200 * 1024
#: Longest wait of a caller for its write; a later write is recognised by its event ids.
WRITE_S_MAX: Final = 5.0
Fields = Mapping[str, bytes | str]


class StreamUnavailable(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """The events are not known to be on the stream: the caller has to come again."""


@dataclass(slots=True)
class _Write:
    entries: Sequence[Fields]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None] = field(repr=False)


class StreamFeed:
    """Writes entries for coroutines of any loop. `put` returns when they are on the stream."""

    def __init__(self, core: Redis, stream: str) -> None:
        self._core = core
        self._stream = stream
        # put is one step in C: the condition of a Queue took a tenth of a POST's CPU
        self._asks: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stream-feed", daemon=True)
        self._thread.start()

    async def put(self, entries: Sequence[Fields]) -> None:
        """All of the entries are on the stream. StreamAway: perhaps none is."""
        if not entries:
            return
        if self._asks.qsize() >= WAITING_MAX:
            raise StreamUnavailable("Full")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        try:
            self._asks.put(_Write(entries, loop, done))
            async with asyncio.timeout(WRITE_S_MAX):
                await done
        except (TimeoutError, RedisError, OSError) as error:
            raise StreamUnavailable(type(error).__name__) from None

    def close(self) -> None:
        """After the last `put`."""
        self._asks.put(None)
        self._thread.join(WRITE_S_MAX)

    def _run(self) -> None:
        while (first := self._asks.get()) is not None:
            asks, count = [first], len(first.entries)
            while count < WRITE_MAX:
                try:
                    more = self._asks.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._write(asks)
                    return
                asks.append(more)
                count += len(more.entries)
            self._write(asks)

    def _write(self, asks: Sequence[_Write]) -> None:
        try:
            with self._core.pipeline(transaction=False) as pipe:
                for fields in packed([entry for ask in asks for entry in ask.entries]):
                    pipe.xadd(self._stream, dict(fields))  # type: ignore[arg-type]
                pipe.execute()
        except (RedisError, OSError) as error:
            log.warning(
                "the core's stream can't be written", extra={"reason": type(error).__name__}
            )
            _tell(asks, error)
            return
        except Exception as error:  # what one of them breaks must not end the thread for all
            log.exception(
                "a write to the core's stream broke", extra={"reason": type(error).__name__}
            )
            _tell(asks, OSError("broken write"))
            return
        _tell(asks, None)


def packed(entries: Sequence[Fields]) -> list[Fields]:
    """The entries in order; adjacent native events share one entry, one per line (contract: b)."""
    done: list[Fields] = []
    lines: list[bytes] = []
    size = 0
    for entry in entries:
        event = entry["e"] if entry.keys() == {"e"} else None
        raw = event if isinstance(event, bytes) else None
        if lines and (raw is None or len(lines) >= LINES_MAX or size + len(raw) > LINES_BYTES_MAX):
            done.append(_joined(lines))
            lines, size = [], 0
        if raw is None:
            done.append(entry)
        else:
            lines.append(raw)
            size += len(raw) + 1
    return [*done, _joined(lines)] if lines else done


def _joined(lines: Sequence[bytes]) -> Fields:
    return {"e": lines[0]} if len(lines) == 1 else {"b": b"\n".join(lines)}


def _tell(asks: Sequence[_Write], error: Exception | None) -> None:
    """One wake-up a loop, however many wait."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for ask in asks:
        by_loop.setdefault(ask.loop, []).append(ask)
    for loop, mine in by_loop.items():
        loop.call_soon_threadsafe(_settle, mine, error)


def _settle(asks: Sequence[_Write], error: Exception | None) -> None:
    for ask in asks:
        if ask.done.done():
            continue
        if error is None:
            ask.done.set_result(None)
        else:
            ask.done.set_exception(error)
