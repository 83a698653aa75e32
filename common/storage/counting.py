"""Badge counts of devices of which no word is known (Redis, 8 to 12 weeks), many people's a hash.

A word is what the app says of its badge or of itself (badges.py): since then the device counts in
its person's own hash, beside the word. Most devices that a campaign reaches have said nothing, and
a hash of their own would cost each its commands: made, and given an end.

A period has BUCKETS hashes. A count is read of the newest one that has it and written to that of
now, so it lasts for KEPT - 1 periods at least after its device's last push. A hash lasts a little
longer than it is read; the first count of a period drops the one of its bucket that is read no
more, in the background: a large one that ends by itself holds older servers up. What earlier
releases counted in people's own hashes is added to it; they do not know of these hashes, and show
numbers that are too low by what is in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec
from redis import Redis

from common.storage import badges
from common.storage.keys import Keys, literal
from common.storage.plain_dedupe import KnownEnds
from common.storage.redis import scanned
from common.storage.scripts import Call, run_all, script

DAY_S: Final = 86_400
PERIOD_S: Final = 28 * DAY_S
#: Periods of which counts are read.
KEPT: Final = 3
#: As in lua/counts.lua. More than KEPT periods, and no more than a word is kept: a count from
#: before a word must not outlive it.
KEEP_S: Final = 90 * DAY_S
#: Few, as a round has two commands for each; not one, for what a look through one of them costs.
BUCKETS: Final = 8

#: A push's badge, and the number taken (`Target.counted`).
Taken = tuple[int, str]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[int], list[str]]).decode


def bucket_of(app: str, user: str) -> int:
    return crc32(f"{app}:{user}".encode()) % BUCKETS


def field_of(app: str, user: str, device: str) -> str:
    return f"{app}:{user}\0{device}"


def person_of(field: bytes) -> tuple[str, str]:
    """(app, user) of a field."""
    app, _, rest = field.decode().partition(":")
    return app, rest.partition("\0")[0]


def period_now() -> int:
    return int(time.time() // PERIOD_S)


def hashes_of(keys: Keys, bucket: int) -> tuple[str, ...]:
    """This bucket's hashes of the KEPT periods, the newest first, and the one to be dropped."""
    now = period_now()
    return tuple([keys.counts(now - ago, bucket) for ago in range(KEPT + 1)])


def forget(redis: Redis, keys: Keys, app: str, user: str) -> int:
    """Removes a person's counts; returns their number."""
    pattern, gone = literal(field_of(app, user, "")) + "*", 0
    for name in hashes_of(keys, bucket_of(app, user)):
        found = scanned(redis, "HSCAN", name, match=pattern, count=1000)
        fields = list({field for field, _ in found})
        gone += int(redis.hdel(name, *fields)) if fields else 0
    return gone


class FirstTake(msgspec.Struct, gc=False):
    """Pushes of entries that nobody has taken before, which ask for numbers.

    records: key of what is noted of an entry. entries: how many pushes each has, or (their places
    from 1 on, places noted without a number). lots: (key of the holders, the holder's word, names
    of entries). names, devices, steps, fields: by push, in the order of the entries; names: keys of
    badges. buckets: see by_bucket. said: keys that stop all where one exists.
    """

    records: Sequence[str]
    entries: Sequence[int | tuple[list[int], list[int]]]
    lots: Sequence[tuple[str, str, Sequence[str]]]
    names: Sequence[str]
    devices: Sequence[str]
    steps: Sequence[int]
    fields: Sequence[str]
    buckets: dict[tuple[str, ...], list[int]]
    said: Sequence[str] = ()


def by_bucket(
    people: Iterable[tuple[Keys, str, Sequence[str]]],
) -> dict[tuple[str, ...], list[int]]:
    """The numbers of pushes, from 1 on, by their bucket's hashes.

    people: in the order of the pushes, (the shard's keys, app, users).
    """
    found: dict[tuple[str, ...], list[int]] = {}
    number = 0
    for keys, app, users in people:
        head, own = crc32(f"{app}:".encode()), dict[int, list[int]]()
        for number, user in enumerate(users, number + 1):  # noqa: B020 - it goes on
            own.setdefault(crc32(user.encode(), head) % BUCKETS, []).append(number)
        for bucket, numbers in own.items():
            found.setdefault(hashes_of(keys, bucket), []).extend(numbers)
    return found


class FirstNumbers:
    """Takes them. It remembers which hashes have an end."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = script(redis, "take_first")
        self._ends = KnownEnds()

    def take(self, each: Sequence[FirstTake], keep_s: int) -> list[list[Taken] | None]:
        """By part and push; None for a part where something has to be looked at, or an entry is
        another's: nothing was taken of it. keep_s: how long it is noted. Raises RedisError; then
        something may have been taken and noted.
        """
        answers = run_all(self._redis, [self._call(asks, keep_s) for asks in each])
        return [self._taken(*one) for one in zip(each, answers, strict=True)]

    def _call(self, asks: FirstTake, keep_s: int) -> Call:
        buckets = [
            (int(self._ends.known(hashes[0])), those) for hashes, those in asks.buckets.items()
        ]
        lots = [(word, entries) for _, word, entries in asks.lots]
        holders = [one for one, *_ in asks.lots]
        hashes = [one for each in asks.buckets for one in each]
        packed = _pack(
            (len(asks.said), lots, asks.entries, asks.devices, asks.steps, asks.fields, buckets)
        )
        args: list[Any] = [keep_s, badges.KEEP_S, KEEP_S, int(time.time()) // DAY_S, packed]
        return self._script, [*asks.records, *asks.said, *asks.names, *holders, *hashes], args

    def _taken(self, asks: FirstTake, answer: bytes) -> list[Taken] | None:
        if not answer:
            return None
        self._ends.found([hashes[0] for hashes in asks.buckets])
        numbers, epochs = _unpack(answer)
        if not epochs:
            return [(number, f"{step}@0") for number, step in zip(numbers, asks.steps, strict=True)]
        each = zip(numbers, asks.steps, epochs, strict=True)
        return [(number, f"{step}@{epoch}") for number, step, epoch in each]
