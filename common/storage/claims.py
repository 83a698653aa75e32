"""Claims on push ids and the badge numbers taken with them (Redis hashes, until the push can't be sent any more)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec
from redis import Redis
from redis.client import Pipeline

from common.storage import badges
from common.storage.keys import Keys
from common.storage.scripts import script, source

#: A claim outlives every attempt at its push: the longest ttl of a message (7 days), the rest of its day and a day of grace.
KEEP_S = 9 * 86_400
#: Leases of one script call: nobody else is served meanwhile.
LEASE_MAX = 1_000


class ClaimState(IntEnum):
    OURS = 0
    DONE = 1
    ELSEWHERE = 2
    GONE = 3


_STATES = tuple(ClaimState)
_told = msgspec.msgpack.Decoder(list[tuple[int, int, str]]).decode


@dataclass(frozen=True, slots=True)
class Ask:
    """One push that wants to be sent. badge_step: what to add to the device's count, -1 to leave the badge alone.

    conversation: `<type>:<id>`, or "" for a push that nobody can have read (a recall, a cancel). registered_ms: of the token."""

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


@dataclass(frozen=True, slots=True)
class Claim:
    """badge: the number for this push, None where it carries none. why: reason of GONE, a decision's name; of OURS `uncertain` where an
    earlier reader of the entry had it and may have sent it."""

    state: ClaimState
    badge: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """One push whose claim is given back. seen: it may be on the screen, so its badge number stays counted."""

    push_id: str
    ts_ms: int
    app: str
    user: str
    device: str
    seen: bool


def day_of(ts_ms: int) -> str:
    """Days since 1970, which is enough to tell one day's claims from another's."""
    return str(ts_ms // 86_400_000)


class Claims:
    """Leases, marks and releases, one call a batch."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._claim = script(redis, "claim")

    def lease(self, asks: Sequence[Ask]) -> list[Claim]:
        """One claim per ask, in order."""
        return [claim for start in range(0, len(asks), LEASE_MAX) for claim in self._lease(asks[start : start + LEASE_MAX])]

    def _lease(self, asks: Sequence[Ask]) -> list[Claim]:
        keys = self._keys
        packed = msgspec.msgpack.encode(
            [
                (
                    *(a.push_id, day_of(a.ts_ms), a.app, a.message_id, a.user, a.device),
                    *(a.conversation, a.ts_ms, a.entry, a.badge_step, a.registered_ms),
                )
                for a in asks
            ]
        )
        told = self._claim(keys=[keys.claim, keys.badge, keys.gone_marks, keys.read_marks], args=[KEEP_S, badges.KEEP_S, packed])
        return [Claim(_STATES[state], None if badge < 0 else badge, why) for state, badge, why in _told(told)]

    def mark_done(self, pipe: Pipeline, done: Sequence[tuple[str, int]]) -> None:
        """Inside the caller's MULTI: these (push id, event ts) are never sent again."""
        if done:
            names = [self._keys.claims(day_of(ts_ms), push_id) for push_id, ts_ms in done]
            pipe.eval(source("mark"), len(names), *names, KEEP_S, *(push_id for push_id, _ in done))

    def release(self, pipe: Pipeline, given: Sequence[Given]) -> None:
        """Inside the caller's MULTI: these pushes wait for another entry, or end unseen (and are marked done behind this).

        What nobody can have seen gives its badge number back; a later try takes a fresh one. What another process has finished
        meanwhile stays finished.
        """
        self._give_back(pipe, [(one, "") for one in given])

    def disown(self, pipe: Pipeline, owner: str, pushes: Sequence[tuple[str, int]]) -> None:
        """Inside the caller's MULTI: the entry `owner` is no more; its leases on these (push id, event ts) end."""
        self._give_back(pipe, [(Given(push_id, ts_ms, "", "", "", seen=True), owner) for push_id, ts_ms in pushes])

    def _give_back(self, pipe: Pipeline, given: Sequence[tuple[Given, str]]) -> None:
        if given:
            keys = self._keys
            names = [name for one, _ in given for name in (keys.claims(day_of(one.ts_ms), one.push_id), keys.badges(one.app, one.user))]
            args = [part for one, owner in given for part in (one.push_id, owner, one.device, int(one.seen))]
            # the whole text, not its hash: a server that restarts between two tries of the MULTI would do all of it but this
            pipe.eval(source("let_go"), len(names), *names, *args)
