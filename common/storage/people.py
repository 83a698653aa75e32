"""Cache of SQL's people (Redis, an hour): their active devices and their settings.

A writer calls `changing` before its transaction ends and `changed` after it. A reader asks for the
people's generations before it asks SQL; its result is kept only if none of them has moved since. A
reader after `changed` thus never finds older data.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis import Redis

from common.contracts import Device
from common.storage.keys import Keys
from common.storage.raw_pipe import command, raw_pipe, read_all
from common.storage.scripts import Call, run_all, script
from common.storage.unavailable import database_unavailable

if TYPE_CHECKING:
    from common.storage.devices import Devices
    from common.storage.preferences import Preferences

#: Unchanged people are read from SQL again after this.
KEEP_S: Final = 3_600
#: A generation outlives every question to SQL that began before it (sql.DEADLINE_S).
GENERATION_MS: Final = 120_000
#: An answer of SQL that is older is not kept.
ANSWER_MS_MAX: Final = 60_000
#: Bytes of all people together, those of one person, and of a person's settings: with more, SQL is
#: asked for them each time.
PEOPLE_BYTES_MAX: Final = 128 * 1024 * 1024
PERSON_BYTES_MAX: Final = 16 * 1024
SETTINGS_BYTES_MAX: Final = 4 * 1024
#: Prefix of the names of tokens without a person: their rows change in other ways
#: (direct_tokens.py).
NOBODY: Final = "token:"
#: Bytes of a key and its place in the server, beside the value.
KEY_BYTES: Final = 150
#: People of one call.
LOOK_MAX: Final = 1_000
#: Bytes are counted per half hour: the sum of three is more than what is still kept.
_COUNTED_S: Final = 1_800

#: (app, user).
Person = tuple[str, str]

_encode = msgspec.msgpack.Encoder().encode


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """settings: fields of the settings table with all mutes; None: too many to keep."""

    devices: tuple[Device, ...]
    settings: dict[str, Any] | None


_decode = msgspec.msgpack.Decoder(Known).decode
_NO_SETTINGS: Final[dict[str, Any]] = {}
_NOBODY: Final = Known((), {})
_NOTHING: Final = _encode(_NOBODY)


@dataclass(frozen=True, slots=True)
class Asked:
    """People whose rows are about to be read, with their generations. at_ms: by
    the server's clock.
    """

    generations: Mapping[Person, bytes]
    at_ms: int


class PeopleCache:
    """The store in Redis."""

    def __init__(self, redis: Redis, keys: Keys, bytes_max: int = PEOPLE_BYTES_MAX) -> None:
        self.redis = redis
        self.keys = keys
        self._bytes_max = bytes_max
        self._keep = script(redis, "people_keep")

    def look(self, people: Sequence[Person]) -> dict[Person, Known]:
        """The people who are in the cache."""
        found: dict[Person, Known] = {}
        for start in range(0, len(people), LOOK_MAX):
            part = people[start : start + LOOK_MAX]
            with raw_pipe(self.redis) as pipe:
                (reply,) = pipe.ask(command("MGET", *self._names(part)), 1)
            for who, blob in zip(part, reply, strict=True):
                if blob == _NOTHING:
                    found[who] = _NOBODY
                elif blob is not None:
                    try:
                        found[who] = _decode(blob)
                    except msgspec.MsgspecError:  # of another version
                        continue
        return found

    def _names(self, people: Sequence[Person]) -> list[str]:
        return [self.keys.person(*who) for who in people]

    def _changed_names(self, people: Sequence[Person]) -> list[str]:
        return [self.keys.person_changed(*who) for who in people]

    def ask(self, people: Sequence[Person]) -> Asked:
        """Before SQL is asked about these."""
        parts = [people[start : start + LOOK_MAX] for start in range(0, len(people), LOOK_MAX)]
        looks = [command("MGET", *self._changed_names(part)) for part in parts]
        commands = command("TIME") + "".join(looks)
        (seconds, micros), *reply = read_all(self.redis, commands, 1 + len(parts))
        generations = [one or b"" for part in reply for one in part]
        at_ms = int(seconds) * 1000 + int(micros) // 1000
        return Asked(dict(zip(people, generations, strict=True)), at_ms)

    def keep(self, asked: Asked, found: Mapping[Person, Known]) -> None:
        """Keeps SQL's answer for people who have not changed since, while there is room."""
        given: list[tuple[Person, bytes]] = []
        for who, known in found.items():
            blob = _encode(known)
            if len(blob) <= PERSON_BYTES_MAX:
                given.append((who, blob))
        run_all(self.redis, self._keeps(asked, given))

    def _keeps(self, asked: Asked, given: Sequence[tuple[Person, bytes]]) -> list[Call]:
        slot, calls = int(time.time()) // _COUNTED_S, list[Call]()
        counters = [self.keys.people_bytes(slot - ago) for ago in range(3)]
        for start in range(0, len(given), LOOK_MAX):
            part = given[start : start + LOOK_MAX]
            names = [
                key
                for who, _ in part
                for key in (self.keys.person(*who), self.keys.person_changed(*who))
            ]
            bounds = [asked.at_ms, ANSWER_MS_MAX, KEEP_S, self._bytes_max, KEY_BYTES]
            args: list[int | bytes] = [
                *bounds,
                *(one for who, blob in part for one in (asked.generations[who], blob)),
            ]
            calls.append((self._keep, [*counters, *names], args))
        return calls

    def changing(self, people: Iterable[Person], pipe: Any = None) -> None:
        """Before the transaction that changes something of theirs ends: from now on SQL is asked.
        pipe: the pipeline that carries it.
        """
        self._mark(people, b"-", pipe)

    def changed(self, people: Iterable[Person]) -> None:
        """After that transaction."""
        self._mark(people, b"+", None)

    def _mark(self, people: Iterable[Person], sign: bytes, pipe: Any) -> None:
        given = set(people)
        if not given:
            return
        own = self.redis.pipeline(transaction=False) if pipe is None else pipe
        word = sign + secrets.token_bytes(8)
        for who in given:
            own.set(self.keys.person_changed(*who), word, px=GENERATION_MS)
            own.delete(self.keys.person(*who))
        if pipe is None:
            own.execute()


class UnknownPeopleError(Exception):
    """SQL does not answer in time, and these people are not in Redis."""

    def __init__(self, people: Iterable[Person]) -> None:
        super().__init__("nobody can tell the devices of some people now")
        self.people = frozenset(people)


class People:
    """Devices and settings from Redis where cached, else from SQL, and then cached."""

    def __init__(self, cache: PeopleCache, devices: Devices, preferences: Preferences) -> None:
        self._cache = cache
        self._devices = devices
        self._preferences = preferences
        self._shared = threading.local()

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Within it, this thread looks each person up once: a commit's data are of one moment."""
        self._shared.known = {}
        try:
            yield
        finally:
            self._shared.known = None

    def look(
        self, people: Iterable[Person], wait: AbstractContextManager[None] | None = None
    ) -> dict[Person, Known]:
        """The devices and settings of all. wait: the bound of the SQL query (sql.optional).

        Raises sql.DATABASE_UNAVAILABLE when somebody is not in Redis and SQL does not answer; with
        wait, UnknownPeopleError instead.
        """
        chosen = list(dict.fromkeys(people))
        found = self._cache.look(chosen)
        if len(found) < len(chosen):
            found |= self._asked([who for who in chosen if who not in found], wait)
        shared = getattr(self._shared, "known", None)
        if shared is not None:
            shared.update(found)
        return found

    def plain(
        self, people: Sequence[Person], wait: AbstractContextManager[None] | None = None
    ) -> dict[Person, Device]:
        """The only active device of each person with one device and no settings. As `look`."""
        found = self.look(people, wait).items()
        return {
            who: known.devices[0]
            for who, known in found
            if len(known.devices) == 1 and known.settings == _NO_SETTINGS
        }

    def _asked(
        self, missing: Sequence[Person], wait: AbstractContextManager[None] | None
    ) -> dict[Person, Known]:
        """SQL's answer for these people, cached from now on."""
        asked = self._cache.ask(missing)
        try:
            with wait or nullcontext():
                read = self._read(missing)
        except database_unavailable() as error:
            if wait is None:
                raise
            raise UnknownPeopleError(missing) from error
        self._cache.keep(
            asked, {who: known for who, known in read.items() if not who[1].startswith(NOBODY)}
        )
        return read

    def _read(self, missing: Sequence[Person]) -> dict[Person, Known]:
        devices, settings = self._devices.of_people(missing), self._preferences.whole(missing)
        return {
            who: Known(tuple(devices.get(who, ())), _bounded(settings.get(who, {})))
            for who in missing
        }

    def settings(
        self, people: Collection[Person], conversations: Sequence[str]
    ) -> dict[Person, dict[str, Any]]:
        """As Preferences.of_people; reads SQL for people whose settings are not in Redis."""
        chosen = list(dict.fromkeys(people))
        known = getattr(self._shared, "known", None) or {}
        if not known or not all(who in known for who in chosen):
            known = self._cache.look(chosen)
        found: dict[Person, dict[str, Any]] = {}
        missing: list[Person] = []
        mutes = {f"mute:{conversation}" for conversation in conversations}
        for who in chosen:
            one = known.get(who)
            if one is None or one.settings is None:
                missing.append(who)
            elif one.settings:
                own = {
                    name: value
                    for name, value in one.settings.items()
                    if name in mutes or not name.startswith("mute:")
                }
                if own:
                    found[who] = own
        return found | self._preferences.of_people(missing, conversations) if missing else found


class KnownDevices:
    """The registry as presence asks it. wait: makes what bounds the question to SQL."""

    def __init__(
        self, people: People, wait: Callable[[], AbstractContextManager[None]] | None = None
    ) -> None:
        self._people = people
        self._wait = wait

    def of_users(self, app: str, users: Sequence[str]) -> dict[str, Sequence[Device]]:
        return {
            user: found
            for (_, user), found in self.of_people([(app, user) for user in users]).items()
        }

    def of_people(self, people: Collection[Person]) -> dict[Person, Sequence[Device]]:
        """UnknownPeopleError: SQL was to answer soon, and did not."""
        found = self._people.look(people, self._wait() if self._wait is not None else None)
        return {who: known.devices for who, known in found.items() if known.devices}


class KnownPreferences:
    """Settings as routing asks for them."""

    def __init__(self, people: People) -> None:
        self._people = people

    def of_users(
        self, app: str, users: Sequence[str], conversations: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        by_person = self.of_people([(app, user) for user in users], conversations).items()
        return {user: found for (_, user), found in by_person}

    def of_people(
        self, people: Collection[Person], conversations: Sequence[str]
    ) -> dict[Person, dict[str, Any]]:
        return self._people.settings(people, conversations)


def _bounded(settings: dict[str, Any]) -> dict[str, Any] | None:
    return settings if len(_encode(settings)) <= SETTINGS_BYTES_MAX else None
