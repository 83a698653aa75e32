"""usual_numbers.take for unstopped pushes, in columns: no tuple per push (Redis)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice, repeat
from typing import Any

import msgspec
from hiredis import pack_command
from redis import Redis

from common.storage.counting import FirstNumbers, FirstTake, Taken, by_bucket, field_of
from common.storage.keys import Keys
from common.storage.raw_pipe import RawPipe, command, raw_pipe
from common.storage.usual_numbers import stop_of

#: Placeholder for a person in a key template: no app, prefix or user contains it.
_WHO = "\0who\0"


class RowAsks(msgspec.Struct, gc=False):
    """Pushes of one app in entries of one lane, all held by `word` (its hash: `holders`), and of
    one shard (`keys`).

    entries: (name, number of pushes, badge step of each) in order; the other fields have a value
    per push. conversations: `<type>:<id>`.
    """

    keys: Keys
    holders: str
    word: str
    app: str
    entries: Sequence[tuple[str, int, int]]
    users: Sequence[str]
    devices: Sequence[str]
    conversations: Sequence[str]
    messages: Sequence[str]
    times_ms: Sequence[int]


#: Pushes of one lane, and the check of their devices' bindings: True while each device has the
#: token that it had at routing. It is asked only when somebody's devices have changed.
Lot = tuple[RowAsks, Callable[[Sequence[bytes | None]], bool]]


def take(
    redis: Redis, first: FirstNumbers, lots: Sequence[Lot], keep_s: int
) -> list[list[Taken] | None]:
    """By lot and push its badge and the number taken, in two exchanges for all.

    None for a lot: something stops a push, or its device has another token; the general way
    decides, and nothing was taken. Raises RedisError; then something may have been taken and noted.
    """
    with raw_pipe(redis) as pipe:
        free = _free(pipe, lots)
    chosen = [asks for (asks, _), fits in zip(lots, free, strict=True) if fits]
    (taken,) = _numbered(first, chosen, keep_s) if chosen else (None,)
    if taken is None:
        return [None] * len(lots)
    given = iter(taken)
    return [
        list(islice(given, len(asks.users))) if fits else None
        for (asks, _), fits in zip(lots, free, strict=True)
    ]


def _numbered(
    first: FirstNumbers, lots: Sequence[RowAsks], keep_s: int
) -> Sequence[list[Taken] | None]:
    return first.take([_first_of(lots)], keep_s)


def take_few(first: FirstNumbers, lots: Sequence[RowAsks], keep_s: int) -> list[list[Taken] | None]:
    """As `take`, in one exchange, where nothing at all was said of a lot's pushes."""
    return first.take([_first_of([asks], looks=True) for asks in lots], keep_s)


def _first_of(lots: Sequence[RowAsks], *, looks: bool = False) -> FirstTake:
    """looks: what may stop a push is looked for."""
    entries = [(asks.keys, *entry) for asks in lots for entry in asks.entries]
    revoked, reads, bindings = _says(lots) if looks else ((), (), ())
    return FirstTake(
        records=[keys.taken(name) for keys, name, *_ in entries],
        entries=[count for _, _, count, _ in entries],
        lots=[(asks.holders, asks.word, [name for name, *_ in asks.entries]) for asks in lots],
        names=_of_all(Keys.badges, lots),
        devices=list(chain.from_iterable([asks.devices for asks in lots])),
        steps=list(chain.from_iterable([repeat(step, count) for *_, count, step in entries])),
        fields=[
            field_of(asks.app, user, device)
            for asks in lots
            for user, device in zip(asks.users, asks.devices, strict=True)
        ],
        buckets=by_bucket([(asks.keys, asks.app, asks.users) for asks in lots]),
        said=list(dict.fromkeys([*revoked, *reads, *bindings])),
    )


def _made(make: Callable[[str, str], str], app: str, users: Sequence[str]) -> list[str]:
    """A key of each user."""
    head, tail = make(app, _WHO).split(_WHO)
    return [f"{head}{user}{tail}" for user in users]


def _says(lots: Sequence[RowAsks]) -> tuple[list[str], list[str], list[str]]:
    """Per push the keys of what may be said of it: its message's mark, read marks, bindings."""
    revoked = [
        f"{head}{conversation}{middle}{message}"
        for asks in lots
        for head, middle, _ in (asks.keys.revoked(asks.app, _WHO, _WHO).split(_WHO),)
        for conversation, message in zip(asks.conversations, asks.messages, strict=True)
    ]
    return revoked, _of_all(Keys.read, lots), _of_all(Keys.bindings, lots)


def _of_all(make: Callable[[Keys, str, str], str], lots: Sequence[RowAsks]) -> list[str]:
    made = [_made(partial(make, asks.keys), asks.app, asks.users) for asks in lots]
    return list(chain.from_iterable(made))


def _free(pipe: RawPipe, lots: Sequence[Lot]) -> list[bool]:
    """True for each lot of which nothing stops a push.

    Entries, recall and read marks and devices of all are looked at, mostly in one write.
    """
    records = [asks.keys.taken(name) for asks, _ in lots for name, *_ in asks.entries]
    revoked, reads, bindings = _says([asks for asks, _ in lots])
    heads: list[tuple[Any, ...]] = [
        ("MGET", *records),
        ("EXISTS", *revoked, *reads, *bindings),  # mostly nobody has said anything
        *(("HMGET", asks.holders, *[name for name, *_ in asks.entries]) for asks, _ in lots),
    ]
    before, some, *holders = pipe.ask(b"".join([pack_command(one) for one in heads]), len(heads))
    marked = readers = changed = 0
    if some:
        each = [command("EXISTS", *names) for names in (revoked, reads, bindings)]
        marked, readers, changed = pipe.ask("".join(each), len(each))
    every = [True] * len(lots)
    checks = zip(
        _unmarked(pipe, lots, revoked) if marked else every,
        _unread(pipe, lots, reads) if readers else every,
        _kept(pipe, lots, bindings) if changed else every,
        strict=True,
    )
    free, earlier = list[bool](), iter(before)
    for (asks, _), held, checked in zip(lots, holders, checks, strict=True):
        count = len(asks.entries)
        untaken = list(islice(earlier, count)).count(None) == count
        free.append(untaken and held.count(asks.word.encode()) == count and all(checked))
    return free


def _kept(pipe: RawPipe, lots: Sequence[Lot], bindings: Sequence[str]) -> list[bool]:
    """True for each lot whose devices have the tokens of their routing."""
    devices = list(chain.from_iterable([asks.devices for asks, _ in lots]))
    found = iter(_bound(pipe, bindings, devices))
    return [kept(list(islice(found, len(asks.users)))) for asks, kept in lots]


def _bound(
    pipe: RawPipe, bindings: Sequence[str], devices: Sequence[str]
) -> Sequence[bytes | None]:
    """The binding of each device; None where unchanged for days."""
    if "".join(chain(bindings, devices)).isascii():
        looks = [
            f"*3\r\n$4\r\nHGET\r\n${len(key)}\r\n{key}\r\n${len(device)}\r\n{device}\r\n"
            for key, device in zip(bindings, devices, strict=True)
        ]
    else:
        looks = [
            command("HGET", key, device) for key, device in zip(bindings, devices, strict=True)
        ]
    return pipe.ask("".join(looks), len(looks))


def _unmarked(pipe: RawPipe, lots: Sequence[Lot], revoked: Sequence[str]) -> list[bool]:
    """True for each lot none of whose messages has a mark of its own."""
    names = iter(revoked)
    looks = [command("EXISTS", *islice(names, len(asks.users))) for asks, _ in lots]
    return [not marked for marked in pipe.ask("".join(looks), len(looks))]


def _unread(pipe: RawPipe, lots: Sequence[Lot], reads: Sequence[str]) -> list[bool]:
    """True for each lot whose conversations are unread so far, and their messages too."""
    names = iter(reads)
    looks = [
        command("HMGET", next(names), conversation, f"m:{conversation}\0{message}")
        for asks, _ in lots
        for conversation, message in zip(asks.conversations, asks.messages, strict=True)
    ]
    found = iter(pipe.ask("".join(looks), len(looks)))
    stops = [[stop_of(None, next(found), ts_ms) for ts_ms in asks.times_ms] for asks, _ in lots]
    return [not any(one) for one in stops]
