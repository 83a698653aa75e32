"""usual_numbers.take for unstopped pushes of one lane, in columns: no tuple per push (Redis)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import ResponseError

from common.storage import badges
from common.storage.keys import Keys
from common.storage.raw_pipe import RawPipe, bulk, command, raw_pipe
from common.storage.usual_numbers import DAY_S, PROLONG_DAYS, UNTOLD, stop_of

_pack = msgspec.msgpack.Encoder().encode
#: Placeholder for a person in a key template: no app, prefix or user contains it.
_WHO = "\0who\0"


class RowAsks(msgspec.Struct, gc=False):
    """Pushes of one app in entries of one lane, all held by `word` (its hash: `holders`).

    entries: (name, number of pushes, badge step of each) in order; the other fields have a value
    per push. conversations: `<type>:<id>`.
    """

    holders: str
    word: str
    app: str
    entries: Sequence[tuple[str, int, int]]
    users: Sequence[str]
    devices: Sequence[str]
    conversations: Sequence[str]
    messages: Sequence[str]
    times_ms: Sequence[int]


def take(
    redis: Redis,
    keys: Keys,
    asks: RowAsks,
    keep_s: int,
    kept: Callable[[Sequence[bytes | None]], bool],
) -> list[tuple[int, str]] | None:
    """By push its badge and the number taken (`Target.counted`).

    kept: True for each person whose device still has the token of routing, given its `bindings`.
    None: something stops a push, or its device has another token; the general way decides, and
    nothing was taken. Raises RedisError; then something may have been taken and noted.
    """
    with raw_pipe(redis) as pipe:
        taken = (
            _numbered(pipe, keys, asks, keep_s) if _nothing_stops(pipe, keys, asks, kept) else None
        )
        if taken is None:
            pipe.ask(command("UNWATCH"), 1)
    return taken


def _made(make: Callable[[str, str], str], app: str, users: Sequence[str]) -> list[str]:
    """A key of each user."""
    head, tail = make(app, _WHO).split(_WHO)
    return [f"{head}{user}{tail}" for user in users]


def _nothing_stops(
    pipe: RawPipe, keys: Keys, asks: RowAsks, kept: Callable[[Sequence[bytes | None]], bool]
) -> bool:
    """Checks entries, recall and read marks and devices of the pushes in one write."""
    names = [name for name, *_ in asks.entries]
    records = list(map(keys.taken, names))
    gone = [
        keys.gone(asks.app, conversation, message)
        for conversation, message in zip(asks.conversations, asks.messages, strict=True)
    ]
    reads, bindings = (
        _made(keys.read, asks.app, asks.users),
        _made(keys.bindings, asks.app, asks.users),
    )
    heads = [
        command("WATCH", *records),
        command("MGET", *records),
        command("MGET", *gone),
        command("EXISTS", *reads),
    ]
    heads.append(command("HMGET", asks.holders, *names))
    if "".join(chain(bindings, asks.devices)).isascii():
        looks = [
            f"*3\r\n$4\r\nHGET\r\n${len(key)}\r\n{key}\r\n${len(device)}\r\n{device}\r\n"
            for key, device in zip(bindings, asks.devices, strict=True)
        ]
    else:
        looks = [
            command("HGET", key, device) for key, device in zip(bindings, asks.devices, strict=True)
        ]
    _, before, marked, readers, held, *found = pipe.ask(
        "".join([*heads, *looks]), len(heads) + len(looks)
    )
    free = (
        before.count(None) == len(before)
        and held.count(asks.word.encode()) == len(held)
        and marked.count(None) == len(marked)
    )
    return free and kept(found) and (not readers or _unread(pipe, asks, reads))


def _unread(pipe: RawPipe, asks: RowAsks, reads: Sequence[str]) -> bool:
    """True when the conversation is unread so far, and the message too."""
    both = list(zip(reads, asks.conversations, asks.messages, strict=True))
    looks = [
        command("HMGET", key, conversation, f"m:{conversation}\0{message}")
        for key, conversation, message in both
    ]
    found = pipe.ask("".join(looks), len(looks))
    return all(
        stop_of(None, read, ts_ms) is None for read, ts_ms in zip(found, asks.times_ms, strict=True)
    )


def _numbered(
    pipe: RawPipe, keys: Keys, asks: RowAsks, keep_s: int
) -> list[tuple[int, str]] | None:
    """None when one of the entries was taken by another process: then nothing was written."""
    names = _made(keys.badges, asks.app, asks.users)
    steps = list(chain.from_iterable([repeat(str(step), count) for _, count, step in asks.entries]))
    counts = [
        _counting(key, device, step)
        for key, device, step in zip(names, asks.devices, steps, strict=True)
    ]
    noted = [
        _record(keys, name, dict.fromkeys(range(1, count + 1), f"{step}@{UNTOLD}"), keep_s)
        for name, count, step in asks.entries
    ]
    written = b"".join(
        [b"*1\r\n$5\r\nMULTI\r\n", "".join(counts).encode(), *noted, b"*1\r\n$4\r\nEXEC\r\n"]
    )
    found: Any = pipe.ask(written, 2 * len(names) + len(noted) + 2)[-1]
    if found is None:
        return None
    for one in found:
        if isinstance(one, ResponseError):
            raise one
    taken, today, kept = list[tuple[int, str]](), int(time.time()) // DAY_S, dict[str, None]()
    for key, step, (own, everybodys, began, all_began, prolonged), since in zip(
        names, steps, found[::2], found[1::2], strict=False
    ):
        base = own or everybodys
        taken.append(
            (
                since + int(base) if base else since,
                f"{step}@{(began or all_began or b'0').decode()}",
            )
        )
        if not prolonged or today - int(prolonged) >= PROLONG_DAYS:
            kept[key] = None
    prolong = "".join(
        [
            command("HSET", key, ":x", str(today)) + command("EXPIRE", key, str(badges.KEEP_S))
            for key in kept
        ]
    )
    noted, start = list[bytes](), 0
    for name, count, _ in asks.entries:
        own_counts = [counted for _, counted in taken[start : start + count]]
        noted.append(_record(keys, name, dict(enumerate(own_counts, 1)), keep_s, again=True))
        start += count
    pipe.ask(prolong.encode() + b"".join(noted), 2 * len(kept) + len(noted))
    return taken


def _counting(key: str, device: str, step: str) -> str:
    """As usual_numbers.counting."""
    if not key.isascii() or not device.isascii():
        look = command("HMGET", key, f"{device}:b", ":b", f"{device}:t", ":t", ":x")
        return look + command("HINCRBY", key, f"{device}:n", step)
    name, own = f"${len(key)}\r\n{key}\r\n", f"${len(device) + 2}\r\n{device}"
    look = f"*7\r\n$5\r\nHMGET\r\n{name}{own}:b\r\n$2\r\n:b\r\n{own}:t\r\n$2\r\n:t\r\n$2\r\n:x\r\n"
    return f"{look}*4\r\n$7\r\nHINCRBY\r\n{name}{own}:n\r\n${len(step)}\r\n{step}\r\n"


def _record(
    keys: Keys, entry: str, taken: dict[int, str], keep_s: int, *, again: bool = False
) -> bytes:
    """As in usual_numbers: a SET of an entry's taken numbers, by place + 1.

    again: only where one exists.
    """
    record = _pack(taken)
    head = f"*{6 if again else 5}\r\n$3\r\nSET\r\n{bulk(keys.taken(entry))}${len(record)}\r\n"
    tail = f"\r\n$2\r\nEX\r\n{bulk(str(keep_s))}" + ("$2\r\nXX\r\n" if again else "")
    return head.encode() + record + tail.encode()
