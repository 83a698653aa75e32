"""Urgent entries taken before their turn while a campaign fills the core's stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from common.model import PRIVATE_CLASSES, MessageClass
from common.storage.streams import CoreStreams, Entry

#: Seconds of one look at unread entries; then the front of the stream has its turn.
LOOK_S = 0.08
#: Entries of one call (about 2 ms of the server), and of those that are taken before their turn at
#: once.
LOOK_ENTRIES = 1_000
TAKE_MAX = 200
#: Classes of messages that can wait for their turn.
CAN_WAIT = tuple(str(name) for name in MessageClass if name not in PRIVATE_CLASSES)


class Overtaking:
    """One process's place in each stream up to which it has looked.

    It also keeps the newest entry that it has looked at for calls, which wait for no such look:
    hundreds of thousands of entries between take seconds.
    """

    def __init__(
        self, source: CoreStreams, streams: Sequence[str], finish: Callable[[Sequence[Entry]], None]
    ) -> None:
        self._source = source
        self._streams = streams
        self._finish = finish
        self._looked: dict[str, str] = dict.fromkeys(streams, "0-0")
        self._newest: dict[str, str] = dict.fromkeys(streams, "0-0")

    def turn(self) -> int:
        """Number of the entries that were taken before their turn."""
        taken = 0
        for stream in self._streams:
            end = time.monotonic() + LOOK_S
            ended = False
            while not ended and time.monotonic() < end:
                found: list[Entry]
                self._looked[stream], ended, found = self._source.overtake(
                    stream, self._looked[stream], LOOK_ENTRIES, TAKE_MAX, CAN_WAIT
                )
                self._finish(found)
                taken += len(found)
            if not ended:
                taken += self._take_newest_calls(stream)
        return taken

    def _take_newest_calls(self, stream: str) -> int:
        self._newest[stream], _, found = self._source.overtake(
            stream, self._newest[stream], LOOK_ENTRIES, TAKE_MAX, CAN_WAIT, newest_calls=True
        )
        self._finish(found)
        return len(found)
