"""dedupe.lua in plain commands (Redis), at half the cost, while there is no other writer.

Looked up under WATCH, written in a MULTI: test and set are one step, as in the script. A process
that meets another writer uses the script for a while.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from redis import Redis
from redis.exceptions import ResponseError

from common.storage.raw_pipe import RawPipe, command, raw_pipe

#: After another writer was met, seconds: with two readers the script is the cheaper way.
MET_S: Final = 10.0
#: A hash whose end was seen or set is known to have one for so long, seconds: not for ever, as
#: the server may lose its data.
LASTS_S: Final = 60.0
NEW: Final = ord("0")
REPEAT: Final = ord("1")

#: Number of the event within the call, from 0 on; the message's field (12 bytes); its time, ms.
Time = tuple[int, bytes, int]

_MULTI, _EXEC, _UNWATCH = command("MULTI").encode(), command("EXEC").encode(), command("UNWATCH")


class KnownEnds:
    """Hashes of which this process knows that they have an end."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def known(self, name: str) -> bool:
        return time.monotonic() < self._until.get(name, 0.0)

    def found(self, names: Sequence[str]) -> None:
        """These have one; those of which that is known no more are forgotten."""
        if not all(map(self.known, names)):
            now = time.monotonic()
            self._until = {name: until for name, until in self._until.items() if until > now}
            self._until |= {name: now + LASTS_S for name in names if name not in self._until}


class PlainDedupe:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._met_until = float("-inf")
        self._filled: set[str] = set()  # hashes that were there when last looked for
        self.ends = KnownEnds()

    def tell(
        self,
        keys: Sequence[str],
        bounds: Sequence[int],
        fields: Sequence[bytes],
        marks: Sequence[bytes],
        times: Sequence[Time],
    ) -> bytes | None:
        """The script's result for its keys and bounds; fields, marks: 12 and 8 bytes per event.

        None: another writer was met, and nothing was written. RedisError: it may be written.
        """
        if time.monotonic() < self._met_until:
            return None
        with raw_pipe(self._redis) as pipe:
            now, lasts, found = self._look(pipe, keys[1:], fields)
            reply, adds = _judged(fields, marks, found, now - bounds[0])
            new = [one for one in times if reply[one[0]] == NEW]
            if not adds and not new:
                pipe.ask(_UNWATCH, 1)
                return reply
            events = b"".join(
                [b"$12\r\n%b\r\n$18\r\n%b%010d\r\n" % (field, mark, now) for field, mark in adds]
            )
            writes = [_hset(keys[1], len(adds), events)] if adds else []
            ends = [(keys[1], bounds[1])] if adds and not lasts else []
            if new:
                noted = b"".join(
                    [b"$12\r\n%b\r\n$16\r\n%016d\r\n" % (field, ts_ms) for _, field, ts_ms in new]
                )
                writes.append(_hset(keys[0], len(new), noted))
                ends += [] if self.ends.known(keys[0]) else [(keys[0], bounds[2])]
            writes += [command("EXPIRE", key, str(seconds)).encode() for key, seconds in ends]
            answers = pipe.ask(b"".join((_MULTI, *writes, _EXEC)), len(writes) + 2)[-1]
        if answers is None:
            self._met_until = time.monotonic() + MET_S
            return None
        for one in answers:
            if isinstance(one, ResponseError):
                raise one
        self.ends.found([key for key, _ in ends] + [keys[1]] * lasts)
        return reply

    def _look(
        self, pipe: RawPipe, hashes: Sequence[str], fields: Sequence[bytes]
    ) -> tuple[int, bool, list[list[bytes | None]]]:
        """The server's seconds, True if the first hash expires, and each hash's values."""
        here = [name for name in hashes if name == hashes[0] or name in self._filled]
        others = [name for name in hashes if name not in here]
        lasts, one = self.ends.known(hashes[0]), bool(others)
        heads = command("WATCH", *hashes) + command("TIME")
        heads += command("EXISTS", *others) if others else ""
        looks = b"".join([_hmget(name, fields) for name in here])
        looks += b"" if lasts else command("TTL", hashes[0]).encode()
        _, (seconds, _), *reply = pipe.ask(
            heads.encode() + looks, 2 + one + len(here) + (not lasts)
        )
        lasts = lasts or reply.pop() > 0
        there, found = set[str](), reply[one:]
        if one and reply[0]:  # rarely
            each = pipe.ask("".join([command("EXISTS", name) for name in others]), len(others))
            there = {name for name, is_there in zip(others, each, strict=True) if is_there}
            found += pipe.ask(
                b"".join([_hmget(name, fields) for name in others if name in there]), len(there)
            )
        self._filled = there.union(here)
        return int(seconds), lasts, found


def _judged(
    fields: Sequence[bytes],
    marks: Sequence[bytes],
    found: Sequence[Sequence[bytes | None]],
    since: int,
) -> tuple[bytes, Sequence[tuple[bytes, bytes]]]:
    """One character per event, and what to add: (field, mark)."""
    pairs: Sequence[tuple[bytes, bytes]] = list(zip(fields, marks, strict=True))
    if len(set(fields)) == len(fields) and all(one.count(None) == len(one) for one in found):
        return b"0" * len(fields), pairs
    taken: dict[bytes, bytes] = {}
    for one in found:
        for field, value in zip(fields, one, strict=True):
            if value is not None and int(value[8:]) > since:
                taken[field] = value[:8]
    adds: list[tuple[bytes, bytes]] = []
    reply = bytearray()
    for field, mark in pairs:
        holder = taken.get(field)
        if holder is None:
            taken[field] = mark
            adds.append((field, mark))
        reply.append(NEW if holder is None or holder == mark else REPEAT)
    return bytes(reply), adds


def _hset(key: str, count: int, pairs: bytes) -> bytes:
    name = key.encode()
    return b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n%b" % (2 * count + 2, len(name), name, pairs)


def _hmget(key: str, fields: Sequence[bytes]) -> bytes:
    name = key.encode()
    parts = (len(fields) + 2, len(name), name, b"\r\n$12\r\n".join(fields))
    return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n$12\r\n%b\r\n" % parts
