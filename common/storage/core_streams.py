"""The core's streams with a hash slot each: one client per stream, for the node that has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline

from common.storage.cluster import client_for, is_core
from common.storage.keys import Keys
from common.storage.streams import (
    READ_BYTES_MAX,
    TAKEOVER_IDLE_MS,
    CoreStreams,
    Entry,
    Overtaken,
    StreamDepth,
)


def core_streams(
    core: Redis,
    streams: Sequence[str],
    keys: Keys,
    entry_bytes_max: int = 0,
    kept_bytes: int = 0,
    takeover_idle_ms: int = TAKEOVER_IDLE_MS,
) -> CoreStreams:
    """These streams of the core, on one server or on a cluster. kept_bytes: of the text of an entry
    over the limit.
    """
    if is_core(core) and len(streams) > 1:
        return SpreadCoreStreams(core, keys, entry_bytes_max, kept_bytes, takeover_idle_ms)
    kind = SlotCoreStreams if is_core(core) else CoreStreams
    return kind(client_for(core, streams[0]), keys, entry_bytes_max, kept_bytes, takeover_idle_ms)


class SlotCoreStreams(CoreStreams):
    """As CoreStreams, of one slot."""

    sweeps = False

    def _takeovers(self, stream: str) -> str:
        return f"{{{stream}}}:pushfleet-takeovers"


class SpreadCoreStreams(CoreStreams):
    """As CoreStreams. A read of several streams is one a stream; what leaves them leaves each in a
    MULTI of its own.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        entry_bytes_max: int,
        kept_bytes: int,
        takeover_idle_ms: int = TAKEOVER_IDLE_MS,
    ) -> None:
        super().__init__(redis, keys, entry_bytes_max, kept_bytes, takeover_idle_ms)
        self._core = redis
        self._streams: dict[str, CoreStreams] = {}
        self.redis = cast(Redis, _Spread(redis))

    def _of(self, stream: str) -> CoreStreams:
        if stream not in self._streams:
            client = client_for(self._core, stream)
            self._streams[stream] = SlotCoreStreams(
                client, self.keys, self.entry_bytes_max, self.kept_bytes, self.takeover_idle_ms
            )
        return self._streams[stream]

    def make(self, stream: str) -> None:
        self._of(stream).make(stream)

    def wait(self, streams: Sequence[str], block_ms: int) -> list[Entry]:
        """For each stream in turn, a part of the time."""
        for stream in streams:
            if found := self._of(stream).wait([stream], max(block_ms // len(streams), 1)):
                return found
        return []

    def read_weighted(
        self, counts: Mapping[str, int], bytes_max: int = READ_BYTES_MAX
    ) -> list[Entry]:
        found: list[Entry] = []
        room = bytes_max
        for stream, count in counts.items():
            if room > 0:
                entries = self._of(stream).read_weighted({stream: count}, room)
                found += entries
                room -= sum(len(value) for entry in entries for value in entry.fields.values())
        return found

    def take_over(self, stream: str, count: int, bytes_max: int = READ_BYTES_MAX) -> list[Entry]:
        return self._of(stream).take_over(stream, count, bytes_max)

    def with_pending(self, streams: Sequence[str]) -> list[str]:
        return [one for stream in streams for one in self._of(stream).with_pending([stream])]

    def overtake(
        self,
        name: str,
        position: str,
        look: int,
        most: int,
        classes: Sequence[str],
        wanted: Overtaken = Overtaken.URGENT,
    ) -> tuple[str, bool, list[Entry]]:
        return self._of(name).overtake(name, position, look, most, classes, wanted)

    def backlog(self, streams: Sequence[str]) -> dict[str, StreamDepth]:
        return {
            name: found
            for stream in streams
            for name, found in self._of(stream).backlog([stream]).items()
        }

    def untaken_s(self, streams: Sequence[str]) -> dict[str, float]:
        return {
            name: waited
            for stream in streams
            for name, waited in self._of(stream).untaken_s([stream]).items()
        }

    def forget_dead_readers(self, stream: str, idle_ms: int) -> None:
        self._of(stream).forget_dead_readers(stream, idle_ms)

    def _kept(self, entries: Sequence[Entry], *args: Any) -> list[Entry]:
        by_stream: dict[str, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        kept = [
            one
            for stream, those in by_stream.items()
            for one in self._of(stream)._kept(those, *args)  # noqa: SLF001
        ]
        ours = {(one.stream, one.id) for one in kept}
        return [entry for entry in entries if (entry.stream, entry.id) in ours]


class _Spread:
    """Makes transactions that hold one MULTI a slot."""

    def __init__(self, core: Redis) -> None:
        self._core = core

    def pipeline(
        self, transaction: bool = True
    ) -> contextlib.AbstractContextManager[_SpreadPipeline]:
        return self._opened(transaction)

    @contextlib.contextmanager
    def _opened(self, transaction: bool) -> Iterator[_SpreadPipeline]:
        with contextlib.ExitStack() as stack:
            yield _SpreadPipeline(self._core, stack, transaction)


class _SpreadPipeline:
    """Commands about one stream each. Each slot's commands go in one step; a crash between two
    leaves the later ones undone.
    """

    def __init__(self, core: Redis, stack: contextlib.ExitStack, transaction: bool) -> None:
        self._core, self._stack, self._transaction = core, stack, transaction
        self._pipes: dict[Redis, Pipeline] = {}

    def _of(self, stream: str) -> Any:
        client = client_for(self._core, stream)
        if client not in self._pipes:
            self._pipes[client] = self._stack.enter_context(
                client.pipeline(transaction=self._transaction)
            )
        return self._pipes[client]

    def xadd(self, stream: str, *args: Any, **options: Any) -> None:
        self._of(stream).xadd(stream, *args, **options)

    def xack(self, stream: str, *args: Any) -> None:
        self._of(stream).xack(stream, *args)

    def xdel(self, stream: str, *args: Any) -> None:
        self._of(stream).xdel(stream, *args)

    def execute(self) -> list[Any]:
        return [answer for pipe in self._pipes.values() for answer in pipe.execute()]
