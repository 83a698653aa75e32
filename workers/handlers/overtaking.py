"""Urgent entries taken before their turn while a campaign fills the core's stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from common.model import PRIVATE_CLASSES, MessageClass
from common.storage.streams import CoreStreams, Entry, Overtaken

#: Seconds of one look at unread entries; then the front of the stream has its turn.
LOOK_S = 0.08
#: ... up to a call that is there: each entry is looked at once, all of a long backlog in half a
#: second.
CALLS_LOOK_S = 0.5
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
        self._to_calls: dict[str, str] = dict.fromkeys(streams, "0-0")
        self._calls: dict[str, str] = {}  # the last that is known of and was not reached yet
        self._asked: dict[str, str] = dict.fromkeys(streams, "0-0")  # all calls up to it are known

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
            stream,
            self._newest[stream],
            LOOK_ENTRIES,
            TAKE_MAX,
            CAN_WAIT,
            Overtaken.NEWEST_CALLS,
        )
        self._finish(found)
        return len(found)

    def call_turn(self) -> int:
        """As `turn`, behind messages that can't wait: where a call is among what came since the
        last turn, all calls up to it are taken, each after what says whom it reaches.
        """
        taken = 0
        for stream in self._streams:
            self._look_for_calls(stream)
            taken += self._take_calls(stream)
        return taken

    def _look_for_calls(self, stream: str) -> None:
        """Among the newest entries first; where more came since the last turn, then among those
        between, each once.
        """
        before = self._newest[stream]
        self._newest[stream], is_all = self._ask(stream, before, Overtaken.NEWEST_CALLS_THERE)
        newest = _place(self._newest[stream])
        if is_all and _place(self._asked[stream]) >= _place(before):
            self._asked[stream] = self._newest[stream]
        end = time.monotonic() + LOOK_S
        while _place(self._asked[stream]) < newest and time.monotonic() < end:
            at = self._asked[stream]
            self._asked[stream], is_all = self._ask(stream, at, Overtaken.CALLS_THERE)
            if is_all:
                self._asked[stream] = max(self._asked[stream], self._newest[stream], key=_place)

    def _ask(self, stream: str, position: str, wanted: Overtaken) -> tuple[str, bool]:
        """Notes the last call of one look; the position to continue from, True at the end."""
        at, ended, calls = self._source.overtake(
            stream, position, LOOK_ENTRIES, LOOK_ENTRIES, CAN_WAIT, wanted
        )
        if calls:
            known, found = self._calls.get(stream, "0-0"), calls[-1].id.decode()
            self._calls[stream] = max(known, found, key=_place)
        return at, ended

    def _take_calls(self, stream: str) -> int:
        """Up to the last call that is known of; one that is not reached within its time is looked
        for in the next turn, one behind what may not be passed has its turn as all others.
        """
        taken, last = 0, self._calls.get(stream)
        end = time.monotonic() + CALLS_LOOK_S
        while last is not None and time.monotonic() < end:
            found: list[Entry]
            self._to_calls[stream], ended, found = self._source.overtake(
                stream, self._to_calls[stream], LOOK_ENTRIES, TAKE_MAX, CAN_WAIT, Overtaken.CALLS
            )
            self._finish(found)
            taken += len(found)
            if ended or _place(self._to_calls[stream]) >= _place(last):
                del self._calls[stream]
                last = None
        return taken


def _place(entry_id: str) -> tuple[int, ...]:
    """In the order of their stream."""
    return tuple(map(int, entry_id.split("-")))
