"""Claims of pushes, and their badge numbers (Redis, while a sender holds them).

A push is in one entry of its lane's queue, and the entry's holder may send it: `take`. A push that
may be in several (recalls, cancels, entries of releases before 0.2) is claimed by its id: `lease`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

import msgspec
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from common.storage import badges, counting, row_numbers, usual_numbers
from common.storage.counting import FirstNumbers
from common.storage.keys import Keys
from common.storage.row_numbers import Lot
from common.storage.scripts import Call, run_all, script

#: A claim outlives every attempt at its push: the longest ttl of a message (7 days), the rest of
#: its day and a day of grace.
KEEP_S = 9 * 86_400
#: Lots of which few pushes are taken by a script, which is called for each.
FEW_LOTS = 2
#: Leases of one script call, which blocks all others.
LEASE_MAX = 1_000


class ClaimState(IntEnum):
    OURS = 0
    DONE = 1
    ELSEWHERE = 2
    REVOKED = 3


_STATES = tuple(ClaimState)
#: Values of a push in the call of take_numbers.lua.
_ASKED = 11
#: (entry, place, app, message, conversation, ts in ms, user, device, badge step, counted): a push
#: of a leased entry that asks to be sent; conversation is `call` for an invitation. The requests of
#: one entry are adjacent.
Wanted = tuple[str, int, str, str, str, int, str, str, int, str]
#: (state, badge or -1, why, counted): state and why as in `Claim`.
Number = tuple[int, int, str, str]
_decode_flat: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[int | str]).decode
_decode_numbers = msgspec.msgpack.Decoder(list[tuple[int, int, str]]).decode


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A push that asks to be sent. badge_step: added to the device's count; -1: none.

    conversation: `<type>:<id>`, or "" for a push that cannot have been read (a recall, a cancel).
    registered_ms: of the token. judged_ms: compared to what was read or ended; 0: ts_ms.
    """

    app: str
    message_id: str
    user: str
    device: str
    push_id: str
    ts_ms: int
    entry: str
    badge_step: int
    conversation: str = ""
    registered_ms: int = 0
    judged_ms: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """badge: the number for this push, None where it carries none. why: reason of REVOKED, a
    decision's name; of OURS `uncertain` where an earlier reader of the entry had it and may have
    sent it.
    """

    state: ClaimState
    badge: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ReturnedClaim:
    """One push whose claim is given back. seen: it may be on the screen, so its badge number stays
    counted.
    """

    push_id: str
    ts_ms: int
    app: str
    user: str
    device: str
    seen: bool


def day_of(ts_ms: int) -> str:
    """Days since 1970: tells one day's claims from another's."""
    return str(ts_ms // 86_400_000)


def _by_place(record: list[str] | dict[int, str]) -> dict[int, str]:
    """Lua's tables with the numbers from 1 on are arrays, others maps."""
    items = enumerate(record, 1) if isinstance(record, list) else record.items()
    return {place - 1: counted for place, counted in items}


def _within(places: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """The places in groups whose sizes together are `most` at the most."""
    group, size = list[int](), 0
    for place, own in zip(places, sizes, strict=True):
        if group and size + own > most:
            yield group
            group, size = [], 0
        group.append(place)
        size += own
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class TakenPart:
    """Pushes of entries of one take, as `Claims.take` wants them."""

    holders: str
    word: str
    asks: Sequence[Wanted]
    sends: bool


class Claims:
    """Leases and badge numbers, one call a batch. lane_commit.lua marks and releases."""

    #: Pushes of one call that a script takes with fewer commands than plain ones.
    few_max = 8

    def __init__(self, redis: Redis, keys: Keys, *, usual: bool = True) -> None:
        """usual: first deliveries go by usual_numbers.py, not by the script."""
        self.keys = keys
        self._redis = redis
        self._usual = usual
        self._claim = script(redis, "claim", "counts")
        self._take = script(redis, "take_numbers", "counts")
        self._first = FirstNumbers(redis)

    def lease(self, asks: Sequence[ClaimRequest]) -> list[Claim]:
        """One claim per ask, in order."""
        return [
            claim
            for start in range(0, len(asks), LEASE_MAX)
            for claim in self._lease(asks[start : start + LEASE_MAX])
        ]

    def _lease(self, asks: Sequence[ClaimRequest]) -> list[Claim]:
        keys = self.keys
        told = [
            (
                *(a.push_id, day_of(a.ts_ms), a.app, a.message_id, a.user, a.device),
                *(a.conversation, a.judged_ms or a.ts_ms, a.entry, a.badge_step, a.registered_ms),
                counting.bucket_of(a.app, a.user),
            )
            for a in asks
        ]
        packed = msgspec.msgpack.encode(told)
        reply = self._claim(
            keys=[
                *(keys.claim, keys.badge, keys.revoked_marks, keys.read_marks),
                keys.count_hashes,
            ],
            args=[KEEP_S, badges.KEEP_S, packed, counting.period_now()],
        )
        return [
            Claim(_STATES[state], None if badge < 0 else badge, why)
            for state, badge, why in _decode_numbers(reply)
        ]

    # ------------------------------------------------------------ by the entry

    def take(self, holders: str, word: str, asks: Sequence[Wanted], *, sends: bool) -> list[Number]:
        """Decides for each push of leased entries whether it may go, and its badge number.

        No number is taken twice. holders: key of the hash of the lane's entry holders; word: the
        caller's token, "" where no process holds them. sends: what was taken is noted with the
        entry, for its next holder.
        """
        return self.take_all([TakenPart(holders, word, asks, sends)])[0]

    def take_all(self, parts: Sequence[TakenPart]) -> list[list[Number]]:
        """The same for entries of several takes together."""
        found = self._usually(parts)
        rest = iter(
            self._take_rest(
                [part for part, reply in zip(parts, found, strict=True) if reply is None]
            )
        )
        return [next(rest) if reply is None else reply for reply in found]

    def take_rows(self, lots: Sequence[Lot]) -> list[list[tuple[int, str]] | None]:
        """As `take` with `sends`, in columns, for lots whose pushes nothing stops; of any shards on
        this server.

        None for a lot: `take` has to decide; nothing was taken, or what was taken is noted.
        """
        found: list[list[tuple[int, str]] | None] = [None] * len(lots)
        chosen = [
            place
            for place, (asks, _) in enumerate(lots)
            if len(asks.users) <= LEASE_MAX and all(step > 0 for *_, step in asks.entries)
        ]
        if not self._usual:
            return found
        pushes = sum(len(lots[place][0].users) for place in chosen)
        if len(chosen) <= FEW_LOTS and pushes <= self.few_max:
            chosen = self._take_few(lots, chosen, found)
        for some in _within(chosen, [len(lots[place][0].users) for place in chosen], LEASE_MAX):
            with contextlib.suppress(RedisConnectionError, ResponseError):
                taken = row_numbers.take(
                    self._redis, self._first, [lots[place] for place in some], KEEP_S
                )
                for place, numbers in zip(some, taken, strict=True):
                    found[place] = numbers
        return found

    def _take_few(
        self,
        lots: Sequence[Lot],
        chosen: list[int],
        found: list[list[tuple[int, str]] | None],
    ) -> list[int]:
        """Puts numbers of these lots into `found`, by a script; those that are to be looked at."""
        try:
            some = [lots[place][0] for place in chosen]
            answers = row_numbers.take_few(self._first, some, KEEP_S)
        except (RedisConnectionError, ResponseError):  # what was taken is noted: as in take_rows
            return []
        for place, answer in zip(chosen, answers, strict=True):
            found[place] = answer
        return [place for place in chosen if found[place] is None]

    def _usually(self, parts: Sequence[TakenPart]) -> list[list[Number] | None]:
        """The parts that plain commands can take; None for a part that needs the script."""
        found: list[list[Number] | None] = [None] * len(parts)
        chosen = [
            at
            for at, part in enumerate(parts)
            if part.sends and part.word and part.asks and usual_numbers.is_usual(part.asks)
        ]
        if not self._usual or not chosen or sum(len(parts[at].asks) for at in chosen) > LEASE_MAX:
            return found
        wanted = [(parts[at].holders, parts[at].word, parts[at].asks) for at in chosen]
        try:
            reply = usual_numbers.take(self._redis, self.keys, self._first, wanted, KEEP_S)
        except (
            RedisConnectionError,
            ResponseError,
        ):  # what was taken is noted: the script finds it, once the server is there
            return found
        for at, numbers in zip(chosen, reply, strict=True):
            found[at] = numbers
        return found

    def _take_rest(self, parts: Sequence[TakenPart]) -> list[list[Number]]:
        """By the script, in one round trip."""
        calls, owners = list[Call](), list[int]()
        for number, part in enumerate(parts):
            for start in range(0, len(part.asks), LEASE_MAX):
                calls.append(self._taking(part, part.asks[start : start + LEASE_MAX]))
                owners.append(number)
        found: list[list[Number]] = [[] for _ in parts]
        for owner, answer in zip(owners, run_all(self._redis, calls), strict=True):
            reply = _decode_flat(answer)
            found[owner] += zip(reply[::4], reply[1::4], reply[2::4], reply[3::4], strict=True)
        return found

    def holders(self, lane: str) -> str:
        return self.keys.lane_holders(lane)

    def _taking(self, part: TakenPart, asks: Sequence[Wanted]) -> Call:
        prefix, entries = self.keys, dict[str, list[str | int]]()
        names, revoked = dict[str, int](), dict[str, int]()
        for entry, place, app, message, conversation, ts_ms, user, device, step, counted in asks:
            pushes = entries.setdefault(entry, [])
            mark = revoked.setdefault(prefix.revoked(app, conversation, message), len(revoked) + 1)
            read = names.setdefault(prefix.read(app, user), len(names))
            badge = hashes = 0
            if step >= 0:
                badge = names.setdefault(prefix.badges(app, user), len(names))
                those = counting.hashes_of(prefix, counting.bucket_of(app, user))
                hashes = min([names.setdefault(one, len(names)) for one in those])
            pushes += (place, mark, read, conversation, message, ts_ms)
            pushes += (badge, device, step, counted, hashes)
        first = 2 + len(entries)
        keys = [part.holders, *map(prefix.taken, entries), *names, *revoked]
        packed = msgspec.msgpack.encode(
            [
                one
                for entry, pushes in entries.items()
                for one in (entry, len(pushes) // _ASKED, *pushes)
            ]
        )
        args: list[str | int | bytes] = [
            part.word,
            int(part.sends),
            KEEP_S,
            badges.KEEP_S,
            len(revoked),
            first,
            packed,
        ]
        return self._take, keys, args

    def taken(self, entries: Sequence[str]) -> list[dict[int, str]]:
        """For each entry, by place, the numbers that its pushes took while it was being sent."""
        reply = (
            cast(
                list[bytes | None], self._redis.mget([self.keys.taken(entry) for entry in entries])
            )
            if entries
            else []
        )
        return [_by_place(msgspec.msgpack.decode(one)) if one is not None else {} for one in reply]
