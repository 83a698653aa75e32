"""Intake's memory of events (Redis): seen event ids (24 h); recalled or read messages (8 days)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

from redis import Redis

from common.storage.bindings import Bindings
from common.storage.keys import CALL, Keys
from common.storage.people import PeopleCache
from common.storage.plain_dedupe import REPEAT, PlainDedupe, Time
from common.storage.scripts import script

EVENT_KEEP_S = 86_400
#: Event ids of half a day share a hash; it is kept until the last of them is old enough.
HALF_DAY_S = 43_200
EVENT_HASH_KEEP_S = EVENT_KEEP_S + 2 * HALF_DAY_S
#: Events of one call of the script.
EVENTS_MAX = 1_000
MARK_KEEP_S = 8 * 86_400
#: Shortest time for which a message's time is kept: longer than the ledger takes to reach SQL.
TIME_KEEP_S = 600
#: Single messages and calls that are remembered of one person; beyond that the older half is
#: forgotten.
SINGLES_MAX = 2_000


#: (app, conversation, message id, ts_ms).
MessageTime = tuple[str, str, str, int]
_NO_TIMES: Final[Mapping[int, MessageTime]] = {}


class EventMarks:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self.bindings = Bindings(redis, keys)
        self.people = PeopleCache(redis, keys)
        self._dedupe = script(redis, "dedupe")
        self._plain = PlainDedupe(redis)
        self._free = script(redis, "free")
        self._read = script(redis, "read")
        self._gone = script(redis, "gone")

    def repeats(
        self,
        events: Sequence[tuple[str, str, str]],
        messages: Mapping[int, MessageTime] = _NO_TIMES,
    ) -> list[bool]:
        """For each (app, event id, entry id): True when another entry brought it within 24 h.

        messages: those, by place, whose times are noted if they are new: a read report may come
        before the ledger has them.
        """
        found: list[bool] = []
        bounds = (EVENT_KEEP_S, EVENT_HASH_KEEP_S, 3 * TIME_KEEP_S)
        keys = [self._keys.message_times(int(time.time()) // TIME_KEEP_S), *self._event_hashes()]
        for start in range(0, len(events), EVENTS_MAX):
            part = _event_fields(events[start : start + EVENTS_MAX])
            ends = start + len(part) // 2
            times: list[Time] = [
                (place - start, _digest(*one[:3]), one[3])
                for place, one in messages.items()
                if start <= place < ends
            ]
            reply = self._plain.tell(keys, bounds, part[::2], part[1::2], times)
            if reply is None:
                lines = b"".join(
                    [b"%04d%b%016d" % (place + 1, field, ts_ms) for place, field, ts_ms in times]
                )
                reply = cast(bytes, self._dedupe(keys=keys, args=[*bounds, b"".join(part), lines]))
            found += [one == REPEAT for one in reply]
        return found

    def free(self, events: Sequence[tuple[str, str, str]], pipe: Redis | None = None) -> None:
        """Frees the (app, event id, entry id) of a dead-lettered entry for a new publication."""
        for start in range(0, len(events), EVENTS_MAX):
            self._free(
                keys=self._event_hashes(),
                args=_event_fields(events[start : start + EVENTS_MAX]),
                client=pipe,
            )

    def _event_hashes(self) -> list[str]:
        """The current hash first; the next one too: another host's clock may be ahead."""
        now = int(time.time()) // HALF_DAY_S
        return [self._keys.seen_events(now + away) for away in (0, 1, -1, -2)]

    def pipeline(self) -> Any:
        """A pipeline for many marks in one round trip, also for badges (badges.py)."""
        return self._redis.pipeline(transaction=False)

    def recall(
        self, app: str, conversation: str, message_id: str, pipe: Redis | None = None
    ) -> None:
        """From now on nothing of this message is sent: it is `recalled`. pipe: the pipeline that
        carries it, with others.
        """
        self._gone(
            keys=[self._keys.gone(app, conversation, message_id)],
            args=["recalled", 0, MARK_KEEP_S],
            client=pipe,
        )

    def end_call(self, app: str, call_id: str, ts_ms: int, pipe: Redis | None = None) -> None:
        """Marks a call as ended at `ts_ms`: earlier invitations are not sent, later ones are."""
        self._gone(
            keys=[self._keys.gone(app, CALL, call_id)],
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
        self._read(
            keys=[self._keys.read(app, user)],
            args=[field, value_ms, MARK_KEEP_S, SINGLES_MAX],
            client=pipe,
        )

    def times_of(self, messages: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        """The times noted of these (app, conversation, message id), where there are any."""
        if not messages:
            return {}
        fields = [_digest(*message) for message in messages]
        bucket = int(time.time()) // TIME_KEEP_S
        with self._redis.pipeline(transaction=False) as pipe:
            for away in (-1, 0, 1):  # another host's clock may be ahead
                pipe.hmget(self._keys.message_times(bucket + away), fields)
            reply: Any = pipe.execute()
        found = {}
        for message, *times in zip(messages, *reply, strict=True):
            known = [int(ts_ms) for ts_ms in times if ts_ms is not None]
            if known:
                found[message] = known[-1]
        return found


#: Copied for each name: a new hash object costs half as much again.
_NEW_12: Final = blake2b(digest_size=12).copy
_NEW_8: Final = blake2b(digest_size=8).copy


def _event_fields(events: Sequence[tuple[str, str, str]]) -> list[bytes]:
    """Per event its field and its entry's mark."""
    fields: list[bytes] = []
    for app, event_id, entry in events:
        field, mark = _NEW_12(), _NEW_8()
        field.update(f"{app}\0{event_id}".encode("utf-8", "replace"))
        mark.update(entry.encode())
        fields += (field.digest(), mark.digest())
    return fields


def _digest(*names: str) -> bytes:
    """12 bytes over names from outside, none of which holds U+0000."""
    made = _NEW_12()
    made.update("\0".join(names).encode("utf-8", "replace"))
    return made.digest()
