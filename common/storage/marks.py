"""Intake's memory of events (Redis): seen event ids (24 h); recalled or read messages (8 days)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any, Final, cast

from redis import Redis

from common.call_times import End
from common.storage.bindings import Bindings
from common.storage.entry_marks import CoreEntries, Holder, digest_mark
from common.storage.keys import CALL, Keys
from common.storage.people import PeopleCache
from common.storage.plain_dedupe import REPEAT, Part, PlainDedupe, Time
from common.storage.scripts import Call, run_all, script

log = logging.getLogger(__name__)

EVENT_KEEP_S = 86_400
#: Event ids of half a day share a hash; it is kept until the last of them is old enough.
HALF_DAY_S = 43_200
EVENT_HASH_KEEP_S = EVENT_KEEP_S + 2 * HALF_DAY_S
#: Events of one call of the script.
EVENTS_MAX = 2_000
MARK_KEEP_S = 8 * 86_400
#: Shortest time for which a message's time is kept: longer than the ledger takes to reach SQL.
TIME_KEEP_S = 600
#: Events of one read that the script marks in fewer commands than plain ones (plain_dedupe.py).
FEW = 8
#: ... of so many shards at most: it is called for each.
FEW_SHARDS = 2
#: Single messages and calls that are remembered of one person; beyond that the older half is
#: forgotten.
SINGLES_MAX = 2_000


#: (app, conversation, message id, ts_ms).
MessageTime = tuple[str, str, str, int]
_NO_TIMES: Final[Mapping[int, MessageTime]] = {}


@dataclass(frozen=True, slots=True)
class MarksAsked:
    """A question to the marks of one shard, as EventMarks.repeats has it."""

    marks: EventMarks
    events: Sequence[tuple[str, str, str]]
    messages: Mapping[int, MessageTime]


class EventMarks:
    def __init__(self, redis: Redis, keys: Keys, entries: CoreEntries | None = None) -> None:
        """entries: the core's, where they are on another server, which may lose an entry and leave
        its marks.
        """
        self._redis = redis
        self._keys = keys
        self._entries = entries
        self._mark = digest_mark if entries is None else entries.mark
        self.bindings = Bindings(redis, keys)
        self.people = PeopleCache(redis, keys)
        self._hashes: tuple[int, list[str]] = (0, [])  # of a half day
        self._dedupe = script(redis, "dedupe")
        self._plain = PlainDedupe(redis)
        self._free = script(redis, "free")
        self._read = script(redis, "read")
        self._revoke = script(redis, "gone")

    def repeats(
        self,
        events: Sequence[tuple[str, str, str]],
        messages: Mapping[int, MessageTime] = _NO_TIMES,
    ) -> list[bool]:
        """For each (app, event id, entry id): True when another entry brought it within 24 h.

        messages: those, by place, whose times are noted if they are new: a read report may come
        before the ledger has them.
        """
        found = self._tell(events, messages)
        if self._entries is not None and True in found:
            self._take_from_lost(self._entries, events, messages, found)
        return found

    def _tell(
        self, events: Sequence[tuple[str, str, str]], messages: Mapping[int, MessageTime]
    ) -> list[bool]:
        found: list[bool] = []
        for start in range(0, len(events), EVENTS_MAX):
            part = events[start : start + EVENTS_MAX]
            times = {
                place - start: one
                for place, one in messages.items()
                if start <= place < start + len(part)
            }
            (told,) = self._told([MarksAsked(self, part, times)])
            found += told
        return found

    def repeats_in(self, parts: Sequence[MarksAsked]) -> list[list[bool]]:
        """As `repeats` of the marks of several shards on this server, in as many round trips."""
        if self._entries is not None or any(len(one.events) > EVENTS_MAX for one in parts):
            return [one.marks.repeats(one.events, one.messages) for one in parts]
        told = iter(self._told([one for one in parts if one.events]))
        # a shard may have nothing but what nobody could read
        return [next(told) if one.events else [] for one in parts]

    def _told(self, parts: Sequence[MarksAsked]) -> list[list[bool]]:
        """Each of EVENTS_MAX events at most."""
        asked = [one.marks._part(one.events, one.messages) for one in parts]  # noqa: SLF001 - its own class
        few = len(parts) <= FEW_SHARDS and sum(len(one.events) for one in parts) <= FEW
        reply = None if few else self._plain.tell(asked, _bounds())
        if reply is None:
            reply = self._by_script(asked)
        return [[one == REPEAT for one in told] for told in reply]

    def _part(
        self, events: Sequence[tuple[str, str, str]], messages: Mapping[int, MessageTime]
    ) -> Part:
        keys = [self._keys.message_times(int(time.time()) // TIME_KEEP_S), *self._event_hashes()]
        marks = [self._mark(entry) for _, _, entry in events]
        times: list[Time] = [
            (place, _digest(f"{app}\0{conversation}\0{message_id}"), ts_ms)
            for place, (app, conversation, message_id, ts_ms) in messages.items()
        ]
        return keys, _fields(events), marks, times

    def _by_script(self, parts: Sequence[Part]) -> list[bytes]:
        """As PlainDedupe.tell."""
        ends, calls = self._plain.ends, list[Call]()
        for keys, fields, marks, times in parts:
            lines = b"".join(
                [b"%04d%b%016d" % (place + 1, field, ts_ms) for place, field, ts_ms in times]
            )
            events = b"".join(_interleaved(fields, marks))
            known = [int(ends.known(name)) for name in (keys[1], keys[0])]
            calls.append((self._dedupe, keys, [*_bounds(), events, lines, *known]))
        told = list[bytes]()
        for (keys, *_), (reply, *lasts) in zip(parts, run_all(self._redis, calls), strict=True):
            names = zip((keys[1], keys[0]), lasts, strict=True)
            ends.found([name for name, one in names if one])
            told.append(reply)
        return told

    def _take_from_lost(
        self,
        entries: CoreEntries,
        events: Sequence[tuple[str, str, str]],
        messages: Mapping[int, MessageTime],
        found: list[bool],
    ) -> None:
        """Corrects `found` where no entry will bring the event that was noted first: the entry was
        read, not committed, and lost with the core's server.
        """
        fields, own = _fields(events), {self._mark(entry) for _, _, entry in events}
        places = [place for place, is_repeat in enumerate(found) if is_repeat]
        holders: dict[int, Holder] = {}
        for place, holder in zip(
            places, self._holders([fields[place] for place in places]), strict=True
        ):
            if holder[0] == digest_mark(events[place][2]):  # a process of an earlier release's
                found[place] = False
            elif holder[0] not in own:
                holders[place] = holder
        lost = entries.lost(list(holders.values()))
        taken = [place for place, is_lost in zip(holders, lost, strict=True) if is_lost]
        if not taken:
            return
        log.warning(
            "entries were lost with the core's server; their events came again",
            extra={"count": len(taken)},
        )
        pairs = [part for place in taken for part in (fields[place], holders[place][0])]
        self._free(keys=self._event_hashes(), args=pairs)
        times = {number: messages[place] for number, place in enumerate(taken) if place in messages}
        # another reader may have come first with a publication of its own
        again = self._tell([events[place] for place in taken], times)
        for place, is_repeat in zip(taken, again, strict=True):
            found[place] = is_repeat

    def _holders(self, fields: Sequence[bytes]) -> list[Holder]:
        """The newest mark of each field; an empty one where it was given back meanwhile."""
        with self._redis.pipeline(transaction=False) as pipe:
            for name in self._event_hashes():
                pipe.hmget(name, list(fields))
            reply: Any = pipe.execute()
        return [
            max(
                ((value[:8], int(value[8:])) for value in values if value is not None),
                key=lambda holder: holder[1],
                default=(b"", 0),
            )
            for values in zip(*reply, strict=True)
        ]

    def free(self, events: Sequence[tuple[str, str, str]], pipe: Redis | None = None) -> None:
        """Frees the (app, event id, entry id) of a dead-lettered entry for a new publication."""
        # an earlier release's process may have marked them
        kinds = {self._mark: None, digest_mark: None}
        for start in range(0, len(events), EVENTS_MAX):
            some = events[start : start + EVENTS_MAX]
            self._free(
                keys=self._event_hashes(),
                args=[
                    part
                    for mark in kinds
                    for part in _interleaved(_fields(some), [mark(entry) for _, _, entry in some])
                ],
                client=pipe,
            )

    def _event_hashes(self) -> list[str]:
        """The current hash first; the next one too: another host's clock may be ahead."""
        now = int(time.time()) // HALF_DAY_S
        if now != self._hashes[0]:
            names = [self._keys.seen_events(now + away) for away in (0, 1, -1, -2)]
            self._hashes = now, names
        return self._hashes[1]

    def pipeline(self) -> Any:
        """A pipeline for many marks in one round trip, also for badges (badges.py)."""
        return self._redis.pipeline(transaction=False)

    def recall(
        self, app: str, conversation: str, message_id: str, pipe: Redis | None = None
    ) -> None:
        """From now on nothing of this message is sent: it is `recalled`. pipe: the pipeline that
        carries it, with others.
        """
        self._revoke(
            keys=[self._keys.revoked(app, conversation, message_id)],
            args=["recalled", 0, MARK_KEEP_S],
            client=pipe,
        )

    def end_call(self, app: str, call_id: str, ts_ms: int, pipe: Redis | None = None) -> None:
        """Marks a call as ended at `ts_ms`: earlier invitations are not sent, later ones are."""
        self._revoke(
            keys=[self._keys.revoked(app, CALL, call_id)],
            args=["call_ended", ts_ms, MARK_KEEP_S],
            client=pipe,
        )

    def read_up_to(
        self, app: str, user: str, conversation: str, up_to_ms: int, pipe: Redis | None = None
    ) -> None:
        """Marks the conversation as read up to `up_to_ms`; an older mark changes nothing."""
        self._remember(app, user, conversation, up_to_ms, pipe)

    def read_message(
        self,
        app: str,
        user: str,
        conversation: str,
        message_id: str,
        ts_ms: int,
        pipe: Redis | None = None,
    ) -> None:
        """This one message of the conversation was read, as of `ts_ms`."""
        self._remember(app, user, f"m:{conversation}\0{message_id}", ts_ms, pipe)

    def end_call_of(
        self, app: str, user: str, call_id: str, ts_ms: int, pipe: Redis | None = None
    ) -> None:
        """Marks a person's answer or refusal at `ts_ms`: their other devices stop ringing.

        A later invitation into the same call rings again (a call is never read, so the mark can
        share the hash).
        """
        self._remember(app, user, f"c:{call_id}", ts_ms, pipe)

    def _remember(self, app: str, user: str, field: str, value_ms: int, pipe: Redis | None) -> None:
        names = [self._keys.read(app, user)]
        self._read(keys=names, args=[field, value_ms, MARK_KEEP_S, SINGLES_MAX], client=pipe)

    def note_end(self, app: str, call_id: str, end: End, pipe: Redis) -> None:
        """Notes when and where the call was ended last, for an invitation right behind it."""
        name = self._keys.message_times(int(time.time()) // TIME_KEEP_S)
        pipe.hset(name, cast(Any, _digest(f"{app}\0{CALL}\0{call_id}")), " ".join(map(str, end)))
        pipe.expire(name, 3 * TIME_KEEP_S)

    def ends_of(self, calls: Sequence[tuple[str, str]]) -> dict[tuple[str, str], End]:
        """The ends noted of these (app, call id)."""
        found = self._noted([(app, CALL, call_id) for app, call_id in calls])
        return {(app, name): End(*map(int, told.split())) for (app, _, name), told in found.items()}

    def times_of(self, messages: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        """The times noted of these (app, conversation, message id), where there are any."""
        return {message: int(told) for message, told in self._noted(messages).items()}

    def _noted(self, names: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], bytes]:
        """What was noted last of each."""
        if not names:
            return {}
        fields = [_digest("\0".join(name)) for name in names]
        bucket = int(time.time()) // TIME_KEEP_S
        with self._redis.pipeline(transaction=False) as pipe:
            for away in (-1, 0, 1):  # another host's clock may be ahead
                pipe.hmget(self._keys.message_times(bucket + away), fields)
            reply: Any = pipe.execute()
        found = {}
        for name, *notes in zip(names, *reply, strict=True):
            known = [told for told in notes if told is not None]
            if known:
                found[name] = known[-1]
        return found


#: Copied for each name: a new hash object costs half as much again.
def _bounds() -> tuple[int, int, int]:
    return EVENT_KEEP_S, EVENT_HASH_KEEP_S, 3 * TIME_KEEP_S


_NEW_12: Final = blake2b(digest_size=12).copy


def _fields(events: Sequence[tuple[str, str, str]]) -> list[bytes]:
    return [_digest(f"{app}\0{event_id}") for app, event_id, _ in events]


def _interleaved(fields: Sequence[bytes], marks: Sequence[bytes]) -> list[bytes]:
    return list(chain.from_iterable(zip(fields, marks, strict=True)))


def _digest(names: str) -> bytes:
    """12 bytes over names from outside, divided by U+0000, which none of them holds."""
    made = _NEW_12()
    made.update(names.encode("utf-8", "replace"))
    return made.digest()
