"""Which entry of the core's streams took an event id, read back from its mark (the core's Redis,
and the fleet's for 36 h): one that is lost with the core's server gives the id to the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from redis import Redis

from common.storage.cluster import client_for
from common.storage.keys import Keys

#: Seconds for which committed entries of another server are remembered at least: their
#: acknowledgement is a second step.
PASSED_S: Final = 43_200
#: A mark's 64 bits: the ms of the entry's id, its number within the ms, and the event's number
#: within the entry, 0 where the entry has no numbers.
_MS_BITS, _SEQUENCE_BITS, _PLACE_BITS = 42, 14, 8
#: Seconds between the ms of an entry's id and its mark: what lies outside is no mark of an entry's
#: id, but of an earlier release, or of an id that did not fit.
WAITED_S_MAX: Final = 86_400
AHEAD_S_MAX: Final = 600

#: A stream and the id of one of its entries.
Name = tuple[str, str]
#: An entry's mark, and the seconds at which it was made.
Holder = tuple[bytes, int]

_NEW_8: Final = blake2b(digest_size=8).copy


def digest_mark(entry: str) -> bytes:
    """8 bytes that tell entries apart and do not tell which entry it is."""
    mark = _NEW_8()
    mark.update(entry.encode())
    return mark.digest()


def passed_digest(stream_key: str, entry_id: bytes) -> bytes:
    """The name of a committed entry. Has the stream's key: two servers' entries may share an id."""
    return blake2b(b"\0".join((stream_key.encode(), entry_id)), digest_size=12).digest()


@lru_cache(maxsize=1024)
def _of_stream(stream: str) -> int:
    return int.from_bytes(digest_mark(stream), "big")


class CoreEntries:
    """Entries of the core's streams, on another server than the marks. core: asked only when a
    repeat came whose entry is not known as committed. places: where commits note their entries.
    """

    def __init__(
        self,
        core: Callable[[], Redis],
        streams: Sequence[str],
        places: Callable[[], Sequence[tuple[Redis, Keys]]],
    ) -> None:
        self._core, self._streams, self._places = core, streams, places

    def mark(self, entry: str) -> bytes:
        """8 bytes for `<stream>/<id>[#<number of the event>]`, from which `lost` reads it back."""
        stream, _, name = entry.rpartition("/")
        entry_id, _, place = name.partition("#")
        ms, _, sequence = entry_id.partition("-")
        number = (int(ms) << _SEQUENCE_BITS | int(sequence)) << _PLACE_BITS
        number |= int(place) + 1 if place else 0
        if number >> 64 or int(sequence) >> _SEQUENCE_BITS or (place and int(place) >= 255):
            return digest_mark(entry)
        return (number ^ _of_stream(stream)).to_bytes(8, "big")

    def lost(self, holders: Sequence[Holder]) -> list[bool]:
        """For each: True when its entry is neither committed nor in its stream any more."""
        names = [self._names(*holder) for holder in holders]
        open_ = {name for those in names for name in those}
        # once more at the end: an entry that was committed in between has left its stream
        for step in (self._uncommitted, self._missing, self._uncommitted):
            open_ = step(sorted(open_)) if open_ else open_
        return [bool(those) and open_.issuperset(those) for those in names]

    def _names(self, mark: bytes, seconds: int) -> list[Name]:
        """The entries whose mark it may be: at most one, but by a rare chance."""
        found = []
        for stream in self._streams:
            number = int.from_bytes(mark, "big") ^ _of_stream(stream)
            ms, sequence = divmod(number >> _PLACE_BITS, 1 << _SEQUENCE_BITS)
            if -AHEAD_S_MAX <= seconds - ms // 1000 <= WAITED_S_MAX:
                found.append((stream, f"{ms}-{sequence}"))
        return found

    def _uncommitted(self, names: Sequence[Name]) -> set[Name]:
        digests = [passed_digest(stream, entry_id.encode()) for stream, entry_id in names]
        half_day, reply = int(time.time()) // PASSED_S, list[Any]()
        for redis, keys in self._places():
            with redis.pipeline(transaction=False) as pipe:
                for back in (-1, 0, 1, 2, 3):  # another host's clock may be ahead, or behind
                    pipe.smismember(keys.passed(half_day - back), digests)
                reply += pipe.execute()
        return {name for name, *marks in zip(names, *reply, strict=True) if not any(marks)}

    def _missing(self, names: Sequence[Name]) -> set[Name]:
        found: set[Name] = set()
        for stream in {stream for stream, _ in names}:
            those = [name for name in names if name[0] == stream]
            with client_for(self._core(), stream).pipeline(transaction=False) as pipe:
                for _, entry_id in those:
                    pipe.xrange(stream, entry_id, entry_id, count=1)
                found |= {
                    name for name, there in zip(those, pipe.execute(), strict=True) if not there
                }
        return found
