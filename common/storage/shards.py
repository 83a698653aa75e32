"""The assignment of keys to shards, and the stores that span several shards.

All that follows from an event for a person is in the person's shard (Keys under the root of
Settings.root_of); a group's event is in the group's shard until its pages are forwarded to the
members' shards. What is one for the whole fleet (lanes' rates, quotas and states, leases of tokens,
replies, processes) is in shard 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError

from common.call_times import End
from common.config import SettingError, Settings
from common.storage.away import SlotAwayError
from common.storage.badges import Badges
from common.storage.bindings import Binding, Bindings
from common.storage.entry_marks import CoreEntries
from common.storage.keys import LEDGER, Keys
from common.storage.living import ShardCount
from common.storage.marks import EventMarks
from common.storage.people import Asked, Known, PeopleCache, Person
from common.storage.redis import connect
from common.storage.replies import Replies
from common.storage.scripts import Call
from common.storage.streams import StreamStore

T = TypeVar("T")
#: Role of the process that changes the number of shards, and the others' state meanwhile: intake
#: has stopped, then all workers have.
RESHARD: Final = "reshard"
DRAIN, STOP = "drain", "stop"


def shard_of(count: int, app: str, user: str) -> int:
    """Number of a person's shard among `count`. The hash is CRC-32 (ISO 3309) of both names: it
    never changes.
    """
    return (
        0 if count == 1 else zlib.crc32(f"{app}\0{user}".encode("utf-8", "surrogatepass")) % count
    )


def shard_of_group(count: int, app: str, group: str) -> int:
    """Number of the shard that reads a group's members. No person's name begins with U+0000."""
    return shard_of(count, app, f"\0{group}")


def by_shard(
    count: int, items: Iterable[T], person: Callable[[T], tuple[str, ...]]
) -> dict[int, list[T]]:
    """The items by shard, in their order. person: item -> (app, user)."""
    found: dict[int, list[T]] = {}
    for item in items:
        app, user = person(item)
        found.setdefault(shard_of(count, app, user), []).append(item)
    return found


def must_stop(redis: Redis, keys: Keys, stage: str, shards: int) -> bool:
    """True when a process of this stage has to end: the number of shards changes or has changed.

    keys: of shard 0.
    """
    with redis.pipeline(transaction=False) as pipe:
        pipe.hget(keys.resharding, "phase")
        pipe.get(keys.shards)
        phase, number = pipe.execute()
    return says_stop((phase, number), stage, shards)


def says_stop(count: ShardCount, stage: str, shards: int) -> bool:
    """As must_stop, by the answer to a heartbeat."""
    phase, number = count
    if phase is not None:
        return stage == "intake" or (stage in _AT_WORK and phase.decode() != DRAIN)
    return number is not None and int(number) != shards


#: Stages that move keys that a change of the number of shards also moves.
_AT_WORK: Final = frozenset({"intake", "presence", "routing", "delivery", "upkeep"})


def check_shards(redis: Redis, keys: Keys, wanted: int, *, starts: bool) -> None:
    """SettingError where the fleet has another number of shards. keys: of shard 0.

    starts: a process of the fleet asks; the first one fixes the number. A fleet of a release that
    fixed none has one.
    """
    reply: Any = redis.get(keys.shards)
    if reply is None and starts:
        number = 1 if redis.exists(keys.process_names, keys.stream(LEDGER)) else wanted
        redis.set(keys.shards, number, nx=True)
        reply = redis.get(keys.shards)
    if reply is not None and int(reply) != wanted:
        raise SettingError(
            f"PUSHFLEET_SHARDS is {wanted}, but this fleet was started with {int(reply)}: "
            "set it so,"
            f" or change the fleet with `pushfleet reshard {wanted}`"
        )


def known_shards(settings: Settings) -> Settings:
    """For a command beside a fleet: with the fleet's number of shards where none is named.

    While Redis is away they are as they were: the command says so itself.
    """
    if settings.shards_named:
        return settings
    with contextlib.suppress(RedisError, OSError):
        client = connect(settings.redis_url)
        try:
            number: Any = client.get(Keys(settings.key_root).shards)
        finally:
            client.close()
        return dataclasses.replace(settings, shards=int(number or 1))
    return settings


class JointStreams(StreamStore):
    """The streams of several shards on one server, read as one. A stream's name is
    `<shard>|<name there>`.
    """

    def __init__(self, redis: Redis, each: Sequence[Keys]) -> None:
        """each: the keys of every shard."""
        super().__init__(redis, each[0])
        self._each = each

    def names(self, stream: str) -> list[str]:
        """The stream's name in each shard."""
        return [f"{number}|{stream}" for number in range(len(self._each))]

    def names_of(self, streams: Iterable[str]) -> dict[str, str]:
        """These streams' names in each shard, and which of them each is."""
        return {name: stream for stream in streams for name in self.names(stream)}

    def _key(self, stream: str) -> str:
        number, _, name = stream.partition("|")
        return self._each[int(number)].stream(name)


class SpreadMarks(EventMarks):
    """As EventMarks of one shard; what concerns people of other shards goes to theirs."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        each: Sequence[EventMarks],
        own: int,
        entries: CoreEntries | None = None,
    ) -> None:
        """each: the marks of every shard; own: the number of this one; entries: as EventMarks."""
        super().__init__(redis, keys, entries)
        self._each, self._own = each, own
        self.bindings = SpreadBindings(redis, keys, each, own)
        self.people = SpreadPeopleCache(redis, keys, each, own)

    def _others(self) -> Iterable[EventMarks]:
        return (one for number, one in enumerate(self._each) if number != self._own)

    def _in_others(self, mark: Callable[[EventMarks], None]) -> None:
        """A shard that is away keeps no other from its mark; its error is raised last."""
        away: Exception | None = None
        for other in self._others():
            try:
                mark(other)
            except (RedisError, OSError) as error:
                away = error
        if away is not None:
            raise away

    def recall(
        self, app: str, conversation: str, message_id: str, pipe: Redis | None = None
    ) -> None:
        """In all shards: the message's pushes lie where its recipients are."""
        own = super().recall
        try:
            self._in_others(lambda other: other.recall(app, conversation, message_id))
        except (RedisError, OSError):  # the event comes again
            own(app, conversation, message_id)
            raise
        own(app, conversation, message_id, pipe)

    def end_call(self, app: str, call_id: str, ts_ms: int, pipe: Redis | None = None) -> None:
        """In all shards."""
        own = super().end_call
        try:
            self._in_others(lambda other: other.end_call(app, call_id, ts_ms))
        except (RedisError, OSError):  # the event comes again
            own(app, call_id, ts_ms)
            raise
        own(app, call_id, ts_ms, pipe)

    def _remember(self, app: str, user: str, field: str, value_ms: int, pipe: Redis | None) -> None:
        """In the person's shard."""
        number = shard_of(len(self._each), app, user)
        if number == self._own:
            super()._remember(app, user, field, value_ms, pipe)
        else:
            self._each[number]._remember(app, user, field, value_ms, None)  # noqa: SLF001 - the same class

    def free(self, events: Sequence[tuple[str, str, str]], pipe: Redis | None = None) -> None:
        """pipe None: in all shards, as the caller does not know which had the entry."""
        if pipe is None:
            for other in self._others():
                other.free(events)
        super().free(events, pipe)

    def ends_of(self, calls: Sequence[tuple[str, str]]) -> dict[tuple[str, str], End]:
        """A call can't wait: of a shard that is away no end is known."""
        found = super().ends_of(calls)
        for other in self._others():
            if missing := [one for one in calls if one not in found]:
                with contextlib.suppress(SlotAwayError):
                    found |= other.ends_of(missing)
        return found

    def times_of(self, messages: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        """A group's message is in the group's shard; its readers are in others."""
        found = super().times_of(messages)
        for other in self._others():
            if missing := [one for one in messages if one not in found]:
                found |= other.times_of(missing)
        return found


class SpreadBindings(Bindings):
    """As Bindings of one shard, each device in its person's."""

    def __init__(self, redis: Redis, keys: Keys, each: Sequence[EventMarks], own: int) -> None:
        super().__init__(redis, keys)
        self._each, self._own = each, own

    def put(self, bindings: Iterable[Binding], pipe: Any = None) -> None:
        for number, those in by_shard(len(self._each), bindings, lambda one: one[:2]).items():
            if number == self._own:
                super().put(those, pipe)
            else:
                self._each[number].bindings.put(those)

    def own(self, people: Iterable[tuple[str, str]]) -> bool:
        return all(shard_of(len(self._each), *who) == self._own for who in people)

    def look(self, devices: Sequence[tuple[str, str, str]]) -> list[str | None]:
        parts = by_shard(len(self._each), devices, lambda one: one[:2])
        found: dict[tuple[str, str, str], str | None] = {}
        for number, those in parts.items():
            reply = (
                super().look(those)
                if number == self._own
                else self._each[number].bindings.look(those)
            )
            found |= dict(zip(those, reply, strict=True))
        return [found[device] for device in devices]


class SpreadPeopleCache(PeopleCache):
    """As PeopleCache of one shard, each person in their own."""

    def __init__(self, redis: Redis, keys: Keys, each: Sequence[EventMarks], own: int) -> None:
        super().__init__(redis, keys)
        self._each, self._own = each, own
        #: One question may be about people of several shards.
        self._together = each[0].people.redis is each[-1].people.redis

    def _names(self, people: Sequence[Person]) -> list[str]:
        of, count = [one.people.keys.person for one in self._each], len(self._each)
        return [of[shard_of(count, app, user)](app, user) for app, user in people]

    def _changed_names(self, people: Sequence[Person]) -> list[str]:
        of, count = [one.people.keys.person_changed for one in self._each], len(self._each)
        return [of[shard_of(count, app, user)](app, user) for app, user in people]

    def _keeps(self, asked: Asked, given: Sequence[tuple[Person, bytes]]) -> list[Call]:
        if not self._together:
            return super()._keeps(asked, given)
        parts = by_shard(len(self._each), given, lambda one: one[0])
        return [
            call
            for number, those in parts.items()
            for call in self._each[number].people._keeps(asked, those)  # noqa: SLF001 - its own class
        ]

    def _parts(self, people: Iterable[Person]) -> Iterable[tuple[PeopleCache | None, list[Person]]]:
        """(a cache, None for our own, and its people)."""
        for number, those in by_shard(len(self._each), people, lambda who: who).items():
            yield None if number == self._own else self._each[number].people, those

    def look(self, people: Sequence[Person]) -> dict[Person, Known]:
        if self._together:
            return super().look(people)
        found: dict[Person, Known] = {}
        for part, those in self._parts(people):
            found |= super().look(those) if part is None else part.look(those)
        return found

    def ask(self, people: Sequence[Person]) -> Asked:
        """Uses the time of the slowest server clock: an answer expires early, never late."""
        if self._together:
            return super().ask(people)
        reply = [
            super(SpreadPeopleCache, self).ask(those) if part is None else part.ask(those)
            for part, those in self._parts(people)
        ]
        generations = {who: word for one in reply for who, word in one.generations.items()}
        return Asked(generations, min((one.at_ms for one in reply), default=0))

    def keep(self, asked: Asked, found: Mapping[Person, Known]) -> None:
        if self._together:
            super().keep(asked, found)
            return
        for part, those in self._parts(found):
            own = {who: found[who] for who in those}
            if part is None:
                super().keep(asked, own)
            else:
                part.keep(asked, own)

    def changing(self, people: Iterable[Person], pipe: Any = None) -> None:
        for part, those in self._parts(set(people)):
            if part is None:
                super().changing(those, pipe)
            else:
                part.changing(those)

    def changed(self, people: Iterable[Person]) -> None:
        for part, those in self._parts(set(people)):
            if part is None:
                super().changed(those)
            else:
                part.changed(those)


class SpreadBadges(Badges):
    """As Badges of one shard, each person's in their own. each: those of every shard."""

    def __init__(self, redis: Redis, keys: Keys, each: Sequence[Badges], own: int) -> None:
        super().__init__(redis, keys)
        self._each, self._own = each, own

    def report(
        self,
        app: str,
        user: str,
        device: str | None,
        ts_ms: int,
        base: int | None,
        pipe: Redis | None = None,
    ) -> None:
        number = shard_of(len(self._each), app, user)
        if number == self._own:
            super().report(app, user, device, ts_ms, base, pipe)
        else:
            self._each[number].report(app, user, device, ts_ms, base)


class HomeReplies(Replies):
    """Replies of another shard's pushes, sent at once to shard 0, where callers wait.

    They are outside the caller's MULTI. A reply may be lost or come twice, the row may not.
    """

    def tell(self, pipe: Pipeline, decisions: Sequence[tuple[str, dict[str, Any]]]) -> None:
        del pipe
        with self._redis.pipeline(transaction=False) as own:
            super().tell(own, decisions)
            own.execute()

    def wait(self, pipe: Pipeline, waits: Sequence[tuple[str, str, str, int]]) -> None:
        del pipe
        with self._redis.pipeline(transaction=False) as own:
            super().wait(own, waits)
            own.execute()
