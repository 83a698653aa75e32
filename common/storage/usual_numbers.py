"""take_numbers.lua for entries that nobody has taken before, in plain commands: a script costs by the number of its redis.calls.

Only for pushes of messages that no earlier try has counted. Whatever is different is left to the script, before anything is written.
Three writes: what stands in the way; the numbers with a note of them, in one step; the moments at which the counts had begun.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec
from redis import Redis
from redis.exceptions import ResponseError

from common.storage import badges
from common.storage.keys import CALL, Keys
from common.storage.raw_pipe import RawPipe, bulk, command, raw_pipe

#: Stands for the moment at which a count began, in what is noted together with the number: that is known one step later.
UNTOLD = "?"
#: As in take_numbers.lua.
PROLONG_DAYS, CLOCKS_MS, DAY_S = 30, 2_000, 86_400

#: As claims.Wanted and claims.Number.
Wanted = tuple[str, int, str, str, str, int, str, str, int, str]
Number = tuple[int, int, str, str]
#: (key of the hash of who holds the lane's entries, the asker's word, what is asked for).
Part = tuple[str, str, Sequence[Wanted]]
_OURS, _GONE = 0, 3
_UNREAD: list[bytes | None] = [None, None]
_pack = msgspec.msgpack.Encoder().encode


def is_usual(asks: Sequence[Wanted]) -> bool:
    """Whether these may be asked for here: no call, none that was counted before."""
    return all(not ask[9] and ask[4] != CALL for ask in asks)


def take(redis: Redis, keys: Keys, parts: Sequence[Part], keep_s: int) -> list[list[Number] | None]:
    """For each part what Claims.take says; None where the script has to say it, and then nothing was taken for it.

    keep_s: how long it is noted what was taken. Raises RedisError; then something may have been taken and noted.
    """
    with raw_pipe(redis) as pipe:
        stops = _looked(pipe, keys, parts)
        chosen = [(asks, found) for (_, _, asks), found in zip(parts, stops, strict=True) if found is not None]
        told = _numbered(pipe, keys, chosen, keep_s) if chosen else None
        if told is None:
            pipe.ask(command("UNWATCH"), 1)
            return [None] * len(parts)
    numbers = iter(told)
    return [None if found is None else next(numbers) for found in stops]


def _looked(pipe: RawPipe, keys: Keys, parts: Sequence[Part]) -> list[list[str | None] | None]:
    """By push what stops it; None for a part whose entries are not all the asker's, or were taken before."""
    records: list[str] = []
    marks: dict[str, int] = {}
    of: list[int] = []  # by push, which of the marks is its message's
    holds, reads = [], []
    for holders, _, asks in parts:
        entries = dict.fromkeys([ask[0] for ask in asks])
        records += map(keys.taken, entries)
        holds.append(command("HMGET", holders, *entries))
        for _, _, app, message, conversation, _, user, *_ in asks:
            of.append(marks.setdefault(keys.gone(app, conversation, message), len(marks)))
            fields = bulk(conversation) + bulk(f"m:{conversation}\0{message}")
            reads.append("*4\r\n$5\r\nHMGET\r\n" + bulk(keys.read(app, user)) + fields)
    heads = [command("WATCH", *records), command("MGET", *records), command("MGET", *marks), *holds]
    _, before, gone, *told = pipe.ask("".join(heads + reads), len(heads) + len(reads))
    taken, words = iter(before), zip(of, told[len(parts) :], strict=True)
    found: list[list[str | None] | None] = []
    for (_, word, asks), held in zip(parts, told, strict=False):
        fresh = [next(taken) for _ in held].count(None) == held.count(word.encode()) == len(held)
        stops = [_stop(gone[mark], read, ask[5]) for ask, (mark, read) in zip(asks, words, strict=False)]
        found.append(stops if fresh else None)
    return found


def _stop(gone: bytes | None, read: Sequence[bytes | None], ts_ms: int) -> str | None:
    """Why nothing of this push's message may go, or its person need not see it any more; as in take_numbers.lua."""
    if gone is not None:
        why, _, upto = gone.decode().partition("|")
        if not int(upto or 0) or ts_ms <= int(upto) + CLOCKS_MS:
            return why
    if read == _UNREAD:
        return None
    upto_read, alone = read
    return "read_elsewhere" if alone is not None or (upto_read is not None and ts_ms <= int(upto_read)) else None


def _numbered(
    pipe: RawPipe, keys: Keys, chosen: Sequence[tuple[Sequence[Wanted], Sequence[str | None]]], keep_s: int
) -> list[list[Number]] | None:
    """None where one of the entries was taken meanwhile: then nothing was written."""
    wants = [ask for asks, stops in chosen for ask, stop in zip(asks, stops, strict=True) if stop is None and ask[8] >= 0]
    asked = [part for ask in wants for part in _counting(keys, ask)]
    noted = _records(keys, chosen, [f"{ask[8]}@{UNTOLD}" for ask in wants], keep_s)
    count = len(asked) + len(noted)
    *_, told = pipe.ask(b"".join((b"*1\r\n$5\r\nMULTI\r\n", "".join(asked).encode(), *noted, b"*1\r\n$4\r\nEXEC\r\n")), count + 2)
    if told is None:
        return None
    for one in told:
        if isinstance(one, ResponseError):
            raise one
    answers = iter(told)
    numbers = [_number(ask, next(answers), next(answers) if ask[8] > 0 else 0) for ask in wants]
    today, kept = int(time.time()) // DAY_S, dict[str, None]()
    for ask, (_, _, prolonged) in zip(wants, numbers, strict=True):
        if ask[8] > 0 and today - int(prolonged or 0) >= PROLONG_DAYS:
            kept[keys.badges(ask[2], ask[6])] = None
    prolong = [part for key in kept for part in _prolonging(key, today)]
    noted = _records(keys, chosen, [counted for _, counted, _ in numbers], keep_s, again=True)
    pipe.ask("".join(prolong).encode() + b"".join(noted), len(prolong) + len(noted))
    return _told(chosen, [(_OURS, badge, "", counted) for badge, counted, _ in numbers])


def _counting(keys: Keys, ask: Wanted) -> tuple[str, ...]:
    """The commands of one push: what its device shows and since when, and what this one adds."""
    key, device, step = bulk(keys.badges(ask[2], ask[6])), ask[7], ask[8]
    fields = f"{bulk(device + ':b')}$2\r\n:b\r\n{bulk(device + ':t')}$2\r\n:t\r\n$2\r\n:x\r\n{(number := bulk(device + ':n'))}"
    look = f"*8\r\n$5\r\nHMGET\r\n{key}{fields}"
    return (look, f"*4\r\n$7\r\nHINCRBY\r\n{key}{number}{bulk(str(step))}") if step > 0 else (look,)


def _number(ask: Wanted, told: Sequence[bytes | None], since: int) -> tuple[int, str, bytes | None]:
    """The badge, the push's count (`<step>@<epoch>`), and the day on which the badge was last prolonged."""
    own, everybodys, began, all_began, prolonged, count = told
    base = int(own if own is not None else everybodys or 0)
    if not ask[8]:
        since = int(count or 0)
    return base + since, f"{ask[8]}@{(began or all_began or b'0').decode()}", prolonged


def _records(
    keys: Keys, chosen: Iterable[tuple[Sequence[Wanted], Sequence[str | None]]], counts: Iterable[str], keep_s: int, *, again: bool = False
) -> list[bytes]:
    """By entry, a SET of what its pushes have taken: place + 1 -> count. again: only where one stands there."""
    entries: dict[str, dict[int, str]] = {}
    given = iter(counts)
    for asks, stops in chosen:
        for ask, stop in zip(asks, stops, strict=True):
            taken = entries.setdefault(ask[0], {})
            if stop is None:
                taken[ask[1] + 1] = next(given) if ask[8] >= 0 else ""
    found = []
    for entry, taken in entries.items():
        record = _pack(taken)
        head = f"*{6 if again else 5}\r\n$3\r\nSET\r\n{bulk(keys.taken(entry))}${len(record)}\r\n"
        tail = f"\r\n$2\r\nEX\r\n{bulk(str(keep_s))}" + ("$2\r\nXX\r\n" if again else "")
        found.append(head.encode() + record + tail.encode())
    return found


def _prolonging(key: str, today: int) -> tuple[str, str]:
    return command("HSET", key, ":x", str(today)), command("EXPIRE", key, str(badges.KEEP_S))


def _told(chosen: Iterable[tuple[Sequence[Wanted], Sequence[str | None]]], counted: Iterable[Number]) -> list[list[Number]]:
    """By part and push."""
    given = iter(counted)
    found = []
    for asks, stops in chosen:
        found.append(
            [
                (_GONE, -1, stop, "") if stop is not None else next(given) if ask[8] >= 0 else (_OURS, -1, "", "")
                for ask, stop in zip(asks, stops, strict=True)
            ]
        )
    return found
