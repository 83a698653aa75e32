"""take_numbers.lua in plain commands, for first deliveries (Redis): a script costs per redis.call.

Only for pushes of messages that no earlier attempt has counted. Everything else is left to the
script, before anything is written. Three writes: the checks; the numbers with their record, in one
step; the times at which the counts had begun.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
from redis import Redis
from redis.exceptions import ResponseError

from common.storage import badges
from common.storage.keys import CALL, Keys
from common.storage.raw_pipe import RawPipe, command, raw_pipe

#: Placeholder of the time at which a count began, in the record of its number: it is known one step
#: later.
UNTOLD = "?"
#: As in take_numbers.lua.
PROLONG_DAYS, DAY_S = 30, 86_400

#: As claims.Wanted and claims.Number.
Wanted = tuple[str, int, str, str, str, int, str, str, int, str]
Number = tuple[int, int, str, str]
#: (key of the hash of the lane's entry holders, the caller's word, the requests).
Part = tuple[str, str, Sequence[Wanted]]
_OURS, _REVOKED = 0, 3
_UNREAD: list[bytes | None] = [None, None]
_pack = msgspec.msgpack.Encoder().encode


def is_group(conversation: str) -> bool:
    """conversation: `<type>:<id>`."""
    return conversation.startswith("group:")


def is_usual(asks: Sequence[Wanted]) -> bool:
    """True for requests without a call, without an earlier count, and with a badge step."""
    return all(not ask[9] and ask[4] != CALL and ask[8] for ask in asks)


def take(redis: Redis, keys: Keys, parts: Sequence[Part], keep_s: int) -> list[list[Number] | None]:
    """As Claims.take per part; None where the script has to decide: nothing was taken for it.

    keep_s: lifetime of the record. Raises RedisError; then something may have been taken and
    recorded.
    """
    with raw_pipe(redis) as pipe:
        stops = _looked(pipe, keys, parts)
        chosen = [
            (asks, found)
            for (_, _, asks), found in zip(parts, stops, strict=True)
            if found is not None
        ]
        reply = _numbered(pipe, keys, chosen, keep_s) if chosen else None
        if reply is None:
            pipe.ask(command("UNWATCH"), 1)
            return [None] * len(parts)
    numbers = iter(reply)
    return [None if found is None else next(numbers) for found in stops]


def _looked(pipe: RawPipe, keys: Keys, parts: Sequence[Part]) -> list[list[str | None] | None]:
    """By push its stop; None for a part with foreign entries, or entries taken before."""
    records: list[str] = []
    holds, revoked, people = [], [], dict[str, None]()
    for holders, _, asks in parts:
        entries = dict.fromkeys([ask[0] for ask in asks])
        records += map(keys.taken, entries)
        holds.append(command("HMGET", holders, *entries))
        revoked += [keys.revoked(ask[2], ask[4], ask[3]) for ask in asks]
        people.update(dict.fromkeys([keys.read(ask[2], ask[6]) for ask in asks]))
    marks = dict.fromkeys(revoked)
    heads = [
        command("WATCH", *records),
        command("MGET", *records),
        command("MGET", *marks),
        command("EXISTS", *people),
        *holds,
    ]
    _, before, marked, readers, *reply = pipe.ask("".join(heads), len(heads))
    taken = iter(before)
    fresh = [
        [next(taken) for _ in held].count(None) == held.count(word.encode()) == len(held)
        for (_, word, _), held in zip(parts, reply, strict=True)
    ]
    if not readers and marked.count(None) == len(marked):  # nobody has said anything
        return [
            [None] * len(asks) if free else None
            for (_, _, asks), free in zip(parts, fresh, strict=True)
        ]
    why = dict(zip(marks, marked, strict=True))
    asked = [ask for _, _, asks in parts for ask in asks]
    reads = _reads(pipe, keys, asked) if readers else [_UNREAD] * len(asked)
    stops = iter(
        [
            stop_of(why[mark], read, ask[5])
            for mark, read, ask in zip(revoked, reads, asked, strict=True)
        ]
    )
    found = [[next(stops) for _ in asks] for _, _, asks in parts]
    return [mine if free else None for mine, free in zip(found, fresh, strict=True)]


def _reads(pipe: RawPipe, keys: Keys, asked: Sequence[Wanted]) -> list[list[bytes | None]]:
    """By push: its person's read position in the conversation, and the mark of this message."""
    looks = [
        command("HMGET", keys.read(app, user), conversation, f"m:{conversation}\0{message}")
        for _, _, app, message, conversation, _, user, *_ in asked
    ]
    return pipe.ask("".join(looks), len(looks))


def stop_of(revoked: bytes | None, read: Sequence[bytes | None], ts_ms: int) -> str | None:
    """The reason why this push may not go, or is already read; as in take_numbers.lua."""
    if revoked is not None:
        why, _, upto = revoked.decode().partition("|")
        if not int(upto or 0) or ts_ms <= int(upto):
            return why
    if read == _UNREAD:
        return None
    upto_read, alone = read
    return (
        "read_elsewhere"
        if alone is not None or (upto_read is not None and ts_ms <= int(upto_read))
        else None
    )


def _numbered(
    pipe: RawPipe,
    keys: Keys,
    chosen: Sequence[tuple[Sequence[Wanted], Sequence[str | None]]],
    keep_s: int,
) -> list[list[Number]] | None:
    """None when one of the entries was taken by another process: then nothing was written."""
    wants = [
        ask
        for asks, stops in chosen
        for ask, stop in zip(asks, stops, strict=True)
        if stop is None and ask[8] >= 0
    ]
    names, devices = [keys.badges(ask[2], ask[6]) for ask in wants], [ask[7] for ask in wants]
    if all(is_group(ask[4]) for ask in wants) and unseen(pipe, names, devices):
        counts = first_counts(names, devices, [str(ask[8]) for ask in wants]).encode()
        noted = _records(keys, chosen, [f"{ask[8]}@0" for ask in wants], keep_s)
        if written(pipe, b"".join((counts, *noted)), 2 * len(wants) + len(noted)) is None:
            return None
        return _numbers_in_order(chosen, [(_OURS, ask[8], "", f"{ask[8]}@0") for ask in wants])
    asked = "".join(
        [_counting(key, ask[7], ask[8]) for key, ask in zip(names, wants, strict=True)]
    ).encode()
    noted = _records(keys, chosen, [f"{ask[8]}@{UNTOLD}" for ask in wants], keep_s)
    reply = written(pipe, b"".join((asked, *noted)), 2 * len(wants) + len(noted))
    if reply is None:
        return None
    numbers, today, kept = list[Number](), int(time.time()) // DAY_S, dict[str, None]()
    for key, ask, (own, everybodys, began, all_began, prolonged), since in zip(
        names, wants, reply[::2], reply[1::2], strict=False
    ):
        base = own or everybodys
        numbers.append(
            (
                _OURS,
                since + int(base) if base else since,
                "",
                f"{ask[8]}@{(began or all_began or b'0').decode()}",
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
    noted = _records(keys, chosen, [counted for *_, counted in numbers], keep_s, again=True)
    pipe.ask(prolong.encode() + b"".join(noted), 2 * len(kept) + len(noted))
    return _numbers_in_order(chosen, numbers)


_MULTI, _EXEC = command("MULTI").encode(), command("EXEC").encode()


def unseen(pipe: RawPipe, names: Sequence[str], devices: Sequence[str]) -> bool:
    """True when none of these counts exists, and none may begin before the next EXEC.

    A group's message often goes to phones that had no push before: four commands each, the other
    way. names: keys of badges, of different devices.
    """
    if not names or len(set(zip(names, devices, strict=True))) < len(names):
        return False
    look = command("EXISTS", *names)
    if pipe.ask(look, 1) != [0]:
        return False
    return bool(pipe.ask(command("WATCH", *names) + look, 2)[-1] == 0)


def first_counts(names: Sequence[str], devices: Sequence[str], steps: Sequence[str]) -> str:
    """Two commands for each device: its first count, which lasts as long as any other."""
    today, keep = str(int(time.time()) // DAY_S), str(badges.KEEP_S)
    return "".join(
        [
            command("HSET", key, f"{device}:n", step, ":x", today) + command("EXPIRE", key, keep)
            for key, device, step in zip(names, devices, steps, strict=True)
        ]
    )


def written(pipe: RawPipe, commands: bytes, count: int) -> list[Any] | None:
    """The answers to these in one step; None when a watched key has changed. Raises errors."""
    found = pipe.ask(b"".join((_MULTI, commands, _EXEC)), count + 2)[-1]
    for one in found or ():
        if isinstance(one, ResponseError):
            raise one
    return cast("list[Any] | None", found)


def _counting(key: str, device: str, step: int) -> str:
    """The two commands of one push: its device's badge and start; the count after this push."""
    if not key.isascii() or not device.isascii():
        look = command("HMGET", key, f"{device}:b", ":b", f"{device}:t", ":t", ":x")
        return look + command("HINCRBY", key, f"{device}:n", str(step))
    name, own = f"${len(key)}\r\n{key}\r\n", f"${len(device) + 2}\r\n{device}"
    look = f"*7\r\n$5\r\nHMGET\r\n{name}{own}:b\r\n$2\r\n:b\r\n{own}:t\r\n$2\r\n:t\r\n$2\r\n:x\r\n"
    return f"{look}*4\r\n$7\r\nHINCRBY\r\n{name}{own}:n\r\n${1 if step < 10 else 2}\r\n{step}\r\n"


def _records(
    keys: Keys,
    chosen: Iterable[tuple[Sequence[Wanted], Sequence[str | None]]],
    counts: Iterable[str],
    keep_s: int,
    *,
    again: bool = False,
) -> list[bytes]:
    """By entry, a SET of its pushes' taken numbers: place + 1 -> count.

    again: see record_of.
    """
    entries: dict[str, dict[int, str]] = {}
    given = iter(counts)
    for asks, stops in chosen:
        for ask, stop in zip(asks, stops, strict=True):
            taken = entries.setdefault(ask[0], {})
            if stop is None:
                taken[ask[1] + 1] = next(given) if ask[8] >= 0 else ""
    return [record_of(keys, entry, taken, keep_s, again=again) for entry, taken in entries.items()]


def record_of(
    keys: Keys, entry: str, taken: dict[int, str], keep_s: int, *, again: bool = False
) -> bytes:
    """A SET of an entry's taken numbers: place + 1 -> count. again: only where one exists."""
    name, record, keep = keys.taken(entry).encode(), _pack(taken), b"%d" % keep_s
    return b"*%d\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nEX\r\n$%d\r\n%b\r\n%b" % (
        6 if again else 5,
        len(name),
        name,
        len(record),
        record,
        len(keep),
        keep,
        b"$2\r\nXX\r\n" if again else b"",
    )


def _numbers_in_order(
    chosen: Iterable[tuple[Sequence[Wanted], Sequence[str | None]]], counted: Iterable[Number]
) -> list[list[Number]]:
    """By part and push."""
    given = iter(counted)
    found = []
    for asks, stops in chosen:
        found.append(
            [
                (_REVOKED, -1, stop, "")
                if stop is not None
                else next(given)
                if ask[8] >= 0
                else (_OURS, -1, "", "")
                for ask, stop in zip(asks, stops, strict=True)
            ]
        )
    return found
