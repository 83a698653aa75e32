"""take_numbers.lua in fewer commands, for first deliveries (Redis): a script costs per redis.call.

Only for pushes of messages that no earlier attempt has counted. Everything else is left to the
script, before anything is written. The checks are plain commands, the numbers one call for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redis import Redis

from common.storage.counting import FirstNumbers, FirstTake, by_bucket, field_of
from common.storage.keys import CALL, Keys
from common.storage.raw_pipe import RawPipe, command, raw_pipe

#: As claims.Wanted and claims.Number.
Wanted = tuple[str, int, str, str, str, int, str, str, int, str]
Number = tuple[int, int, str, str]
#: (key of the hash of the lane's entry holders, the caller's word, the requests).
Part = tuple[str, str, Sequence[Wanted]]
#: By push the reason why it may not go.
Stops = Sequence[str | None]
_OURS, _REVOKED = 0, 3


_UNREAD: list[bytes | None] = [None, None]


def is_usual(asks: Sequence[Wanted]) -> bool:
    """True for requests without a call, without an earlier count, and with a badge step."""
    return all(not ask[9] and ask[4] != CALL and ask[8] for ask in asks)


def take(
    redis: Redis, keys: Keys, first: FirstNumbers, parts: Sequence[Part], keep_s: int
) -> list[list[Number] | None]:
    """As Claims.take per part; None where the script has to decide: nothing was taken for it.

    keep_s: lifetime of the record. Raises RedisError; then something may have been taken and
    recorded.
    """
    with raw_pipe(redis) as pipe:
        stops = _looked(pipe, keys, parts)
    chosen = [(part, found) for part, found in zip(parts, stops, strict=True) if found is not None]
    reply = _numbered(keys, first, chosen, keep_s) if chosen else None
    if reply is None:
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
        command("MGET", *records),
        command("MGET", *marks),
        command("EXISTS", *people),
        *holds,
    ]
    before, marked, readers, *reply = pipe.ask("".join(heads), len(heads))
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
    keys: Keys, first: FirstNumbers, chosen: Sequence[tuple[Part, Stops]], keep_s: int
) -> list[list[Number]] | None:
    """None when one of the entries was taken by another process: then nothing was written."""
    wants, entries = list[Wanted](), dict[str, tuple[list[int], list[int]]]()
    for (_, _, asks), stops in chosen:
        for ask, stop in zip(asks, stops, strict=True):
            numbered, others = entries.setdefault(ask[0], ([], []))
            if stop is None and ask[8] >= 0:
                wants.append(ask)
                numbered.append(ask[1] + 1)
            elif stop is None:
                others.append(ask[1] + 1)
    lots = [
        (holders, word, list(dict.fromkeys([ask[0] for ask in asks])))
        for (holders, word, asks), _ in chosen
    ]
    asked = FirstTake(
        records=list(map(keys.taken, entries)),
        entries=list(entries.values()),
        lots=lots,
        names=[keys.badges(ask[2], ask[6]) for ask in wants],
        devices=[ask[7] for ask in wants],
        steps=[ask[8] for ask in wants],
        fields=[field_of(ask[2], ask[6], ask[7]) for ask in wants],
        buckets=by_bucket([(keys, ask[2], [ask[6]]) for ask in wants]),
    )
    (taken,) = first.take([asked], keep_s)
    if taken is None:
        return None
    return _numbers_in_order(chosen, [(_OURS, badge, "", count) for badge, count in taken])


def _numbers_in_order(
    chosen: Iterable[tuple[Part, Stops]], counted: Iterable[Number]
) -> list[list[Number]]:
    """By part and push."""
    given = iter(counted)
    found = []
    for (_, _, asks), stops in chosen:
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
