"""dedupe.lua in plain commands (Redis), at half the cost, while there is no other writer.

Looked up under WATCH, written in a MULTI: test and set are one step, as in the script. A process
that meets another writer uses the script for a while.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, TypeAlias

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


#: (keys, 12 bytes and 8 bytes per event, times) of one shard's events: as dedupe.lua has them.
Part: TypeAlias = tuple[Sequence[str], Sequence[bytes], Sequence[bytes], Sequence[Time]]


class PlainDedupe:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._met_until = float("-inf")
        self._filled: set[str] = set()  # hashes that were there when last looked for
        self.ends = KnownEnds()

    def tell(self, parts: Sequence[Part], bounds: Sequence[int]) -> list[bytes] | None:
        """The script's result for each part, all of this server, and its bounds.

        None: another writer was met, and nothing was written. RedisError: it may be written.
        """
        if time.monotonic() < self._met_until:
            return None
        with raw_pipe(self._redis) as pipe:
            now, lasts, found = self._look(pipe, [(keys[1:], fields) for keys, fields, *_ in parts])
            told, writes, ends = list[bytes](), list[bytes](), list[tuple[str, int]]()
            for (keys, fields, marks, times), values in zip(parts, found, strict=True):
                reply, adds = _judged(fields, marks, values, now - bounds[0])
                new = [one for one in times if reply[one[0]] == NEW]
                told.append(reply)
                writes += _writes(keys, adds, new, now)
                ends += [(keys[1], bounds[1])] if adds and keys[1] not in lasts else []
                ends += [(keys[0], bounds[2])] if new and not self.ends.known(keys[0]) else []
            if not writes:
                pipe.ask(_UNWATCH, 1)
                return told
            writes += [command("EXPIRE", key, str(seconds)).encode() for key, seconds in ends]
            answers = pipe.ask(b"".join((_MULTI, *writes, _EXEC)), len(writes) + 2)[-1]
        if answers is None:
            self._met_until = time.monotonic() + MET_S
            return None
        for one in answers:
            if isinstance(one, ResponseError):
                raise one
        self.ends.found([*[key for key, _ in ends], *lasts])
        return told

    def _look(
        self, pipe: RawPipe, parts: Sequence[tuple[Sequence[str], Sequence[bytes]]]
    ) -> tuple[int, set[str], list[list[list[bytes | None]]]]:
        """The server's seconds, those of the first hashes that expire, and by part each hash's
        values. parts: (hashes, fields).
        """
        firsts = [hashes[0] for hashes, _ in parts]
        asks = [(name, fields) for hashes, fields in parts for name in hashes]
        here = [(name, fields) for name, fields in asks if name in firsts or name in self._filled]
        others = [(name, fields) for name, fields in asks if (name, fields) not in here]
        unsure = [name for name in firsts if not self.ends.known(name)]
        one = bool(others)
        heads = command("WATCH", *[name for name, _ in asks]) + command("TIME")
        heads += command("EXISTS", *[name for name, _ in others]) if others else ""
        looks = b"".join([_hmget(name, fields) for name, fields in here])
        looks += "".join([command("TTL", name) for name in unsure]).encode()
        _, (seconds, _), *reply = pipe.ask(
            heads.encode() + looks, 2 + one + len(here) + len(unsure)
        )
        ttls = reply[len(reply) - len(unsure) :]
        lasts = set(firsts).difference(
            name for name, ttl in zip(unsure, ttls, strict=True) if ttl <= 0
        )
        values = {name: value for (name, _), value in zip(here, reply[one:], strict=False)}
        if one and reply[0]:  # rarely
            each = pipe.ask("".join([command("EXISTS", name) for name, _ in others]), len(others))
            there = [ask for ask, is_there in zip(others, each, strict=True) if is_there]
            more = pipe.ask(b"".join([_hmget(*ask) for ask in there]), len(there))
            values |= {name: value for (name, _), value in zip(there, more, strict=True)}
        self._filled = set(values)
        found = [[values[name] for name in hashes if name in values] for hashes, _ in parts]
        return int(seconds), lasts, found


def _writes(
    keys: Sequence[str],
    adds: Sequence[tuple[bytes, bytes]],
    new: Sequence[Time],
    now: int,
) -> list[bytes]:
    """adds: (field, mark) of events; new: times of messages."""
    found = [_hset(keys[1], adds, 18, b"%010d" % now)] if adds else []
    noted = [(field, b"%016d" % ts_ms) for _, field, ts_ms in new]
    return [*found, _hset(keys[0], noted, 16)] if noted else found


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


def _hset(key: str, pairs: Sequence[tuple[bytes, bytes]], size: int, end: bytes = b"") -> bytes:
    """Sets fields of 12 bytes to values of `size`, of which the last ones are `end`."""
    name = key.encode()
    head = b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n" % (2 * len(pairs) + 2, len(name), name)
    between, end = b"\r\n$%d\r\n" % size, end + b"\r\n"
    return head + b"".join([b"$12\r\n" + field + between + value + end for field, value in pairs])


def _hmget(key: str, fields: Sequence[bytes]) -> bytes:
    name = key.encode()
    parts = (len(fields) + 2, len(name), name, b"\r\n$12\r\n".join(fields))
    return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n$12\r\n%b\r\n" % parts
