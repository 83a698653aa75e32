"""One shard's part of intake on a cluster: its entries, in order, wait in this process while the
shard is away, and the other shards' go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, cast

from common.clock import now_ms
from common.storage.away import SlotAwayError
from common.storage.streams import Entry, StreamStore
from common.storage.unavailable import store_unavailable
from workers.handlers.intake import IntakeHandler
from workers.handlers.joint_intake import events_of
from workers.handlers.unseen import Unseen
from workers.intake.events import Event
from workers.queues.consumer import StreamConsumer

log = logging.getLogger(__name__)

#: Seconds between two tries of what waits for a shard.
AGAIN_S: Final = 0.25
#: Entries, and about the bytes of them, that are worked on again at once.
AT_ONCE: Final = 256
AT_ONCE_BYTES: Final = 1024 * 1024
#: Waiting entries that are renewed in one step.
RENEWED_AT_ONCE: Final = 500


class ShardPart:
    """ready: asks the shard for anything; raises a store's error while it is away. elsewhere: does
    what an event that waits does in other shards. slots: the shard's own and shard 0's, without
    which nothing of it is done; another one's absence concerns single events, as a recall, which is
    marked in all shards.
    """

    def __init__(
        self,
        consumer: StreamConsumer,
        source: StreamStore,
        ready: Callable[[], object],
        elsewhere: Callable[[Event], None],
        slots: Collection[int | None],
        unseen: Unseen,
    ) -> None:
        self.consumer = consumer
        self._source = source
        self._ready = ready
        self._elsewhere = elsewhere
        self._slots = slots
        self._unseen = unseen
        self._waiting: list[Entry] = []
        self._beside: list[Entry] = []
        self._again_at = 0.0

    @property
    def waits(self) -> bool:
        """True while its next entries have to wait behind others."""
        return bool(self._waiting)

    @property
    def holds(self) -> bool:
        """True while anything waits."""
        return bool(self._waiting or self._beside or self._unseen)

    @property
    def held(self) -> Sequence[Entry]:
        """What waits, for this shard or for another one."""
        return [*self._waiting, *self._beside, *self._unseen.entries]

    def take(
        self, entries: Sequence[Entry], reads: Mapping[tuple[str, bytes], Sequence[Any]]
    ) -> Exception | None:
        """Finishes the entries, behind those that wait; the error of an unavailable store, for
        which they wait now. reads: their content.
        """
        error = None
        if self._waiting:
            self._waiting += entries
        else:
            error = self._finish(self._unseen.apart(entries, reads), reads)
        if self._waiting:
            known = [read for one in entries for read in reads.get((one.stream, one.id), ())]
            for event in (event for read in known for event in events_of(read)):
                self._elsewhere(event)
        return error

    def again(self) -> int:
        """Tries what waits; how many entries were finished. Raises where the entries' own server is
        away.
        """
        if not self.holds or time.monotonic() < self._again_at:
            return 0
        held = self.held
        self._again_at = time.monotonic() + AGAIN_S
        try:
            self._ready()
        except store_unavailable():
            return 0
        ready = [] if self._waiting else self._unseen.ready()
        some = ready or self._next()
        try:
            mine = self._source.renew(some, counted=True) if some else []
        except store_unavailable():
            self._waiting[:0] = some
            raise
        if mine:
            reads = self._read(mine)
            # behind those that are ready others may wait about the same
            self._finish(mine if ready else self._unseen.apart(mine, reads), reads)
        done = len(held) - len(self.held)
        if done:
            self._again_at = 0.0
            if not self._waiting:
                log.info("a shard is back: its entries go on", extra={"count": done})
        return done

    def _next(self) -> Sequence[Entry]:
        """What is worked on again now; it waits no more."""
        queue = self._waiting or self._beside
        some = _first(queue) if queue is self._waiting else queue[:1]
        del queue[: len(some)]
        return some

    def _read(self, entries: Sequence[Entry]) -> Mapping[tuple[str, bytes], Sequence[Any]]:
        """Their content, but of what may have killed its readers."""
        handler = cast(IntakeHandler, self.consumer.handler)
        sound = [entry for entry in entries if not entry.is_suspect]
        try:
            found = handler.reads(sound, now_ms())
        except Exception:  # noqa: BLE001 - what breaks here breaks again where it is worked on, and is found there
            return {}
        return {(entry.stream, entry.id): contents for entry, contents in found}

    def renew(self) -> None:
        """Keeps what waits; the death of this process meanwhile condemns no entry."""
        for queue in (self._waiting, self._beside, self._unseen.entries):
            for start in range(0, len(queue), RENEWED_AT_ONCE):
                self._source.renew(queue[start : start + RENEWED_AT_ONCE], counted=False)

    def give_back(self) -> None:
        """Releases what waits; no attempt is counted."""
        held, self._waiting, self._beside = self.held, [], []
        self._unseen.clear()
        for start in range(0, len(held), RENEWED_AT_ONCE):
            self._source.release(held[start : start + RENEWED_AT_ONCE])

    def _finish(
        self, entries: Sequence[Entry], reads: Mapping[tuple[str, bytes], Sequence[Any]]
    ) -> Exception | None:
        if not entries:
            return None
        cast(IntakeHandler, self.consumer.handler).known = reads
        try:
            self.consumer.finish(entries)
        except store_unavailable() as error:
            kept = self.consumer.take_kept()
            if isinstance(error, SlotAwayError) and error.slot not in self._slots:
                return self._without(kept, reads)
            log.warning(
                "a shard is away: its entries wait",
                extra={"count": len(kept), "reason": type(error).__name__},
            )
            self._waiting[:0] = kept
            return error
        return None

    def _without(
        self, entries: Sequence[Entry], reads: Mapping[tuple[str, bytes], Sequence[Any]]
    ) -> Exception | None:
        """Puts those aside that concern another shard, which is away, and finishes the others."""
        if len(entries) < 2:
            self._beside += entries
            return None
        middle, error = len(entries) // 2, None
        for some in (entries[:middle], entries[middle:]):
            if self._waiting:
                self._waiting += some
            else:
                error = self._finish(some, reads) or error
        return error


def _first(entries: Sequence[Entry]) -> Sequence[Entry]:
    """As many as are worked on at once."""
    size = 0
    for count, entry in enumerate(entries[:AT_ONCE]):
        size += len(entry.blob)
        if size > AT_ONCE_BYTES:
            return entries[: count + 1]
    return entries[:AT_ONCE]
