"""take_numbers.lua in plain commands, for first deliveries (Redis): a script costs per redis.call.

Only for pushes of messages that no earlier attempt has counted. Everything else is left to the
script, before anything is written. Three writes: the checks; the numbers with their record, in one
step; the times at which the counts had begun.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

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
#: Of a group's phones at most one in so many may have a count, for the others to begin theirs with
#: two commands; and how many are looked at together for those few.
FEW, PART = 4, 8

#: As claims.Wanted and claims.Number.
Wanted = tuple[str, int, str, str, str, int, str, str, int, str]
Number = tuple[int, int, str, str]
#: (key of the hash of the lane's entry holders, the caller's word, the requests).
Part = tuple[str, str, Sequence[Wanted]]
_OURS, _REVOKED = 0, 3


class Records(Protocol):
    """By entry, a SET of its pushes' numbers. counts: of all in order. again: see record_of."""

    def __call__(self, counts: Sequence[str], *, again: bool) -> list[bytes]: ...


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
    each = zip(revoked, reads, asked, strict=True)
    stops = iter([stop_of(why[mark], read, ask[5]) for mark, read, ask in each])
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
    names = [keys.badges(ask[2], ask[6]) for ask in wants]
    devices, steps = [ask[7] for ask in wants], [str(ask[8]) for ask in wants]
    groups = all(is_group(ask[4]) for ask in wants)

    def records(counts: Sequence[str], *, again: bool) -> list[bytes]:
        return _records(keys, chosen, counts, keep_s, again=again)

    taken = counted(pipe, names, devices, steps, unseen(pipe, names, devices, groups), records)
    if taken is None:
        return None
    return _numbers_in_order(chosen, [(_OURS, badge, "", count) for badge, count in taken])


_MULTI, _EXEC, _END = command("MULTI").encode(), command("EXEC").encode(), "\r\n"
#: Of a device that has told no badge: as HMGET answers.
_NOTHING: list[bytes | None] = [None, None, None, None]


def unseen(
    pipe: RawPipe, names: Sequence[str], devices: Sequence[str], groups: bool
) -> frozenset[str]:
    """Those of these keys that do not exist, and that nobody may make before the next EXEC.

    A group's message often goes to phones that had no push before: four commands each, the other
    way. Where most exist, or two pushes go to one device, all of them go that way.
    names: keys of badges. groups: all are pushes of groups.
    """
    if not groups or not names or len(set(zip(names, devices, strict=True))) < len(names):
        return frozenset()
    (found,) = pipe.ask(command("EXISTS", *names), 1)
    if found * FEW > len(names):
        return frozenset()
    new = list(dict.fromkeys(names))
    if found:  # a few are looked for in small parts: with one of them goes its part
        parts = [new[start : start + PART] for start in range(0, len(new), PART)]
        looks = pipe.ask("".join([command("EXISTS", *part) for part in parts]), len(parts))
        new = [name for part, some in zip(parts, looks, strict=True) if not some for name in part]
    if not new:
        return frozenset()
    look = command("EXISTS", *new)
    return frozenset(new if pipe.ask(command("WATCH", *new) + look, 2)[-1] == 0 else ())


def counted(
    pipe: RawPipe,
    names: Sequence[str],
    devices: Sequence[str],
    steps: Sequence[str],
    new: frozenset[str],
    records: Records,
) -> list[tuple[int, str]] | None:
    """By push its badge and the number taken, noted with its entry in the same step.

    None when a watched key has changed: then nothing was written. new: as `unseen` has it.
    """
    today, keep = str(int(time.time()) // DAY_S), str(badges.KEEP_S)
    asked = "".join(
        [
            first_count(key, device, step, today, keep)
            if key in new
            else _counting([key], [device], [step])
            for key, device, step in zip(names, devices, steps, strict=True)
        ]
        if new
        else _counting(names, devices, steps)
    )
    untold = [
        f"{step}@0" if key in new else f"{step}@{UNTOLD}"
        for key, step in zip(names, steps, strict=True)
    ]
    noted = records(untold, again=False)
    reply = written(pipe, b"".join((asked.encode(), *noted)), 2 * len(names) + len(noted))
    if reply is None:
        return None
    taken, kept = _taken(names, steps, new, reply)
    told = [count for _, count in taken]
    if told != untold:
        noted = records(told, again=True)
        longer = _prolonging(kept, today, keep).encode()
        pipe.ask(b"".join((longer, *noted)), 2 * len(kept) + len(noted))
    return taken


def _taken(
    names: Sequence[str], steps: Sequence[str], new: frozenset[str], reply: Sequence[Any]
) -> tuple[list[tuple[int, str]], list[str]]:
    """By push its badge and number, and the keys of counts that would end before long.

    reply: the answers to each one's two commands.
    """
    taken, today, kept = list[tuple[int, str]](), int(time.time()) // DAY_S, dict[str, None]()
    looked, counts = reply[: 2 * len(names) : 2], reply[1 : 2 * len(names) : 2]
    if not new and [told[:4] for told in looked].count(_NOTHING) == len(looked):
        days = {told[4] for told in looked}
        if days and None not in days and today - min(map(int, days)) < PROLONG_DAYS:
            return list(zip(counts, [f"{step}@0" for step in steps], strict=True)), []
    for key, step, told, since in zip(names, steps, looked, counts, strict=True):
        if key in new:
            taken.append((int(step), f"{step}@0"))
            continue
        own, everybodys, began, all_began, prolonged = told
        base = own or everybodys
        number = since + int(base) if base else since
        taken.append((number, f"{step}@{(began or all_began or b'0').decode()}"))
        if not prolonged or today - int(prolonged) >= PROLONG_DAYS:
            kept[key] = None
    return taken, list(kept)


def first_count(key: str, device: str, step: str, today: str, keep_s: str) -> str:
    """The two commands of a device's first count, which lasts as long as any other."""
    return command("HSET", key, f"{device}:n", step, ":x", today) + command("EXPIRE", key, keep_s)


def written(pipe: RawPipe, commands: bytes, count: int) -> list[Any] | None:
    """The answers to these in one step; None when a watched key has changed. Raises errors."""
    found = pipe.ask(b"".join((_MULTI, commands, _EXEC)), count + 2)[-1]
    for one in found or ():
        if isinstance(one, ResponseError):
            raise one
    return cast("list[Any] | None", found)


def _counting(names: Sequence[str], devices: Sequence[str], steps: Sequence[str]) -> str:
    """The two commands of each push: its device's badge and start; the count after this push."""
    each = zip(names, devices, steps, strict=True)
    if not "".join((*names, *devices)).isascii():
        return "".join(
            [
                command("HMGET", key, f"{device}:b", ":b", f"{device}:t", ":t", ":x")
                + command("HINCRBY", key, f"{device}:n", step)
                for key, device, step in each
            ]
        )
    return "".join(
        [
            f"*7\r\n$5\r\nHMGET\r\n{(name := f'${len(key)}{_END}{key}{_END}')}"
            f"{(own := f'${len(device) + 2}{_END}{device}')}:b\r\n$2\r\n:b\r\n"
            f"{own}:t\r\n$2\r\n:t\r\n$2\r\n:x\r\n"
            f"*4\r\n$7\r\nHINCRBY\r\n{name}{own}:n\r\n${len(step)}\r\n{step}\r\n"
            for key, device, step in each
        ]
    )


def _prolonging(names: Sequence[str], today: str, keep_s: str) -> str:
    """The two commands of each key: it was prolonged today, and lasts so long."""
    if not "".join(names).isascii():
        return "".join(
            [command("HSET", key, ":x", today) + command("EXPIRE", key, keep_s) for key in names]
        )
    noted, lasts = f"$2\r\n:x\r\n${len(today)}\r\n{today}", f"${len(keep_s)}\r\n{keep_s}"
    return "".join(
        [
            f"*4\r\n$4\r\nHSET\r\n{(name := f'${len(key)}{_END}{key}')}\r\n{noted}\r\n"
            f"*3\r\n$6\r\nEXPIRE\r\n{name}\r\n{lasts}\r\n"
            for key in names
        ]
    )


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
    keys: Keys, entry: str, taken: dict[int, str] | list[str], keep_s: int, *, again: bool = False
) -> bytes:
    """A SET of an entry's taken numbers: place + 1 -> count, or those of all places.

    again: only where one exists.
    """
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
