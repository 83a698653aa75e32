"""Devices and settings kept in Redis: no look after a change meets an older word, and no look waits
for SQL in vain.
"""

import contextlib
import dataclasses
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from common.clock import now_ms
from common.contracts import (
    Device,
    Message,
    PushFields,
    decode_messages,
    encode,
)
from common.ledger_records import PageRecord, RowRecord
from common.model import Decision, MessageClass, Urgency, Vendor
from common.storage import keys, sql
from common.storage.erasure import erase
from common.storage.leases import Lease
from common.storage.people import (
    ANSWER_MS_MAX,
    SETTINGS_BYTES_MAX,
    Asked,
    Known,
    KnownDevices,
    KnownPreferences,
    People,
    PeopleCache,
    Person,
    UnknownPeopleError,
)
from common.storage.streams import Entry
from tests.builders import stored_message
from tests.ledger_writers import begin_upkeep
from workers.handlers.presence import RoutedAtOnce
from workers.handlers.shortcut import Shortcut
from workers.intake.event_types import TYPES
from workers.intake.events import Event
from workers.intake.state import StateKeeper
from workers.pipeline import presence_of, routing_of
from workers.queues.consumer import Commit
from workers.runtime import Runtime


class Town:
    """A tenant of its own whose people register, leave, change their settings."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.app = "p" + uuid.uuid4().hex[:12]
        self.keeper = StateKeeper(runtime.engine, runtime.badges, runtime.marks)
        self.devices, self.wishes = KnownDevices(runtime.people), KnownPreferences(runtime.people)
        self.ts = now_ms()

    def tell(self, kind: str, **data: Any) -> None:
        self.ts += 1
        decoded = TYPES[kind].decoder.decode(msgspec.json.encode(data))
        events = [Event(self.app, uuid.uuid4().hex, kind, self.ts, self.ts, "e", decoded)]
        self.keeper.apply(events, lambda *_: None)

    def register(self, user: str, token: str, device: str = "d") -> None:
        named = {"platform": "ios", "vendor": "fcm", "business_id": "ios"}
        self.tell("device.registered", user=user, device_id=device, token=token, **named)

    def tokens(self, *users: str) -> set[tuple[str, str]]:
        found = self.devices.of_users(self.app, users)
        return {(user, device.token) for user, devices in found.items() for device in devices}

    def truth(self, *users: str) -> set[tuple[str, str]]:
        found = self.runtime.devices.of_users(self.app, users)
        return {(user, device.token) for user, devices in found.items() for device in devices}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody reads the registry meanwhile."""
        with self.runtime.engine.connect() as connection, connection.begin():
            connection.execute(text("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE"))
            yield


@pytest.fixture
def town(runtime: Runtime) -> Town:
    return Town(runtime)


def test_a_look_after_every_event_tells_what_sql_tells(town: Town) -> None:
    users, dice = ["u1", "u2", "u3"], random.Random(7)
    assert town.tokens(*users) == set()
    for _ in range(30):
        user, device = dice.choice(users), dice.choice("de")
        match dice.randrange(4):
            case 0 | 1:
                town.register(user, dice.choice("ABC"), device)
            case 2:
                town.tell("device.unregistered", user=user, device_id=device)
            case 3:
                mute = dice.choice([None, _mute("ann"), _mute("carl")])
                town.tell("settings.updated", user=user, mute=mute)
        assert town.tokens(*users) == town.truth(*users)
        wished = town.wishes.of_people([(town.app, one) for one in users], ["c2c:ann"])
        assert wished == town.runtime.preferences.of_people(
            [(town.app, one) for one in users], ["c2c:ann"]
        )


def test_a_commit_looks_its_people_up_once(town: Town) -> None:
    town.register("u1", "A")
    town.tell("settings.updated", user="u1", blocked=["eve"])
    people = [(town.app, "u1"), (town.app, "u2")]

    def looks() -> int:
        return int(
            town.runtime.redis.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
        )

    for _ in range(2):  # from SQL, then from Redis
        with town.runtime.people.sharing():
            town.devices.of_people(people)
            before = looks()
            assert town.wishes.of_people(people, []) == {people[0]: {"blocked": ["eve"]}}
            assert looks() == before
    town.tell("settings.updated", user="u1", blocked=None)
    assert town.wishes.of_people(people, []) == {}


def _mute(who: str) -> dict[str, Any]:
    return {"conversation": {"type": "c2c", "id": who}, "mode": "all"}


def test_no_look_after_an_event_meets_an_older_word_whoever_looks_beside_it(town: Town) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            town.tokens("bob", "eve")

    readers = [threading.Thread(target=look) for _ in range(2)]
    for one in readers:
        one.start()
    try:
        for number in range(24):
            user = ("bob", "eve")[number % 2]
            town.register(user, f"t{number // 2}")
            assert (user, f"t{number // 2}") in town.tokens("bob", "eve")
            assert town.tokens("bob", "eve") == town.truth("bob", "eve")
    finally:
        stop.set()
        for one in readers:
            one.join()


def test_who_operates_settles_or_erases_is_seen_too(town: Town) -> None:
    runtime, app = town.runtime, town.app
    bob: Person = (app, "bob")

    def seen() -> set[tuple[str, str]]:
        found = town.tokens("bob")
        assert runtime.marks.people.look([bob]), "it was kept"
        return found

    town.register("bob", "A")
    assert seen() == {("bob", "A")}
    assert runtime.devices.replace_tokens([(app, "bob", "d", "A", "B", now_ms() * 2)]) == 1
    assert seen() == {("bob", "B")}
    assert runtime.devices.retire([(app, "bob", "d", "B", now_ms() * 2, "dead")], "retired") == 1
    assert seen() == set()
    assert runtime.devices.restore_lane(app, Vendor.FCM, "ios", 0) == 1
    assert seen() == {("bob", "B")}
    assert runtime.devices.set_state(app, "bob", "d", "silenced", "operator")
    assert seen() == set()
    assert runtime.devices.set_state(app, "bob", "d", "active", "operator")
    assert seen() == {("bob", "B")}
    with runtime.engine.begin() as connection:  # other tests' letters are under other keys
        connection.execute(text("DELETE FROM dead_letters"))
    erase(runtime.engine, runtime.redis, runtime.keys, runtime.dead_letters, app, "bob")
    assert runtime.marks.people.look([bob]) == {}
    assert seen() == set()


def test_what_sql_said_before_a_change_is_not_kept(town: Town) -> None:
    cache, bob = town.runtime.marks.people, (town.app, "bob")
    old = {bob: Known((_device("old"),), {})}
    asked = cache.ask([bob])
    cache.changing([bob])
    cache.keep(asked, old)
    assert cache.look([bob]) == {}, "its generation has moved"
    cache.keep(cache.ask([bob]), old)
    assert cache.look([bob]) == {}, "the change may not have ended"
    cache.changed([bob])
    cache.keep(asked, old)
    assert cache.look([bob]) == {}
    cache.keep(cache.ask([bob]), old)
    assert set(cache.look([bob])) == {bob}


def test_a_reader_that_stood_still_keeps_nothing(town: Town) -> None:
    """Its generation, none, would be the same again when the one of the change has ended; so would
    it be by a clock that was set back.
    """
    cache, bob = town.runtime.marks.people, (town.app, "bob")
    asked = cache.ask([bob])
    for at_ms in (asked.at_ms - ANSWER_MS_MAX - 1, asked.at_ms + 3_600_000):
        cache.keep(Asked(asked.generations, at_ms), {bob: Known((), {})})
        assert cache.look([bob]) == {}


def test_people_have_a_bound_in_bytes_and_so_has_a_person(town: Town) -> None:
    cache = PeopleCache(town.runtime.redis, town.runtime.keys, bytes_max=2_000)
    people = [(town.app, f"u{number}") for number in range(50)]
    cache.keep(cache.ask(people), {who: Known((_device("t"),), {}) for who in people})
    assert 3 < len(cache.look(people)) < 15
    large = (town.app, "large")
    town.runtime.marks.people.keep(cache.ask([large]), {large: Known((_device("t" * 20_000),), {})})
    assert cache.look([large]) == {}


def test_settings_of_a_person_with_too_many_are_asked_of_sql(town: Town) -> None:
    for number in range(3):
        mute = _mute(str(number) + "x" * (SETTINGS_BYTES_MAX // 3))
        town.tell("settings.updated", user="bob", mute=mute)
    town.tell("settings.updated", user="bob", mute=_mute("ann"))
    town.tokens("bob")
    assert town.runtime.marks.people.look([(town.app, "bob")])[town.app, "bob"].settings is None
    assert list(town.wishes.of_users(town.app, ["bob"], ["c2c:ann"])["bob"]) == ["mute:c2c:ann"]


def test_a_locked_registry_stops_only_those_who_do_not_stand_in_redis(town: Town) -> None:
    runtime = town.runtime
    town.register("bob", "A")
    town.tokens("bob")
    presence = presence_of(runtime, lambda: sql.optional(runtime.engine, 0.5))
    shortcut = Shortcut(presence, routing_of(runtime), lambda: 1)
    with town.locked():
        began = time.monotonic()
        commit, left = shortcut.commit(
            [_chat(town.app, "bob"), _chat(town.app, "carl"), _chat(town.app, "bob")], (), True
        )
        assert time.monotonic() - began < 20, "SQL's own deadline is longer"
        assert [message.recipients for message in left] == [("carl",)]
        assert {row.user for row in commit.rows} == {"bob"}  # type: ignore[union-attr]
        with pytest.raises(UnknownPeopleError):
            presence.look([_chat(town.app, "carl")])
        with pytest.raises(sql.DATABASE_UNAVAILABLE), sql.within(0.5):
            People(runtime.marks.people, runtime.devices, runtime.preferences).look(
                [(town.app, "carl")]
            )


def test_presence_routes_at_once_while_routing_has_one_worker(town: Town) -> None:
    """What breaks routing, or may have ended processes, goes by routing's stream."""
    runtime = town.runtime
    town.register("bob", "A")
    name = keys.presence(Urgency.CHAT)
    entry = Entry(name, b"1-1", encode([_chat(town.app, "bob"), _chat(town.app, "nobody")]))

    def commit(workers: int, given: Entry = entry, world: Any = runtime.routing) -> Commit:
        routing = dataclasses.replace(routing_of(runtime), ports=world)
        at_once = RoutedAtOnce(routing, lambda: workers, runtime.people.sharing)
        return dataclasses.replace(presence_of(runtime), at_once=at_once).handle([given])

    one, two = commit(1), commit(2)
    others = [commit(1, msgspec.structs.replace(entry, deliveries=3)), commit(1, world=None)]
    seen = [(len(other.forward), other.wake, len(other.deferred)) for other in others]
    assert seen == [(1, two.wake, 1)] * 2
    assert [row.decision for row in one.rows] == [Decision.NO_CREDENTIAL]  # type: ignore[union-attr]
    assert (list(one.forward), one.wake, len(one.deferred)) == ([], frozenset(), 1)
    ((stream, blob),) = two.forward
    found = (stream, two.wake, list(two.rows))
    assert found == (keys.routing(Urgency.CHAT), frozenset({("routing", None)}), [])
    routed = routing_of(runtime).handle([Entry(stream, b"1-1", blob)])
    assert [row.user for row in routed.rows] == [row.user for row in one.rows] == ["bob"]  # type: ignore[union-attr]


def test_while_upkeep_of_a_release_before_works_nobody_shares_a_record(town: Town) -> None:
    runtime, users = town.runtime, tuple(f"bare{number}" for number in range(20))
    everybody = msgspec.structs.replace(_chat(town.app, "bob"), recipients=users)

    def kinds() -> Counter[type]:
        runtime.__dict__.pop("old_ledger", None)  # another process asks
        presence = presence_of(runtime)
        (again,) = presence.look([everybody])[1].deferred
        return Counter(map(type, presence.look(decode_messages(again.blob))[1].rows))

    assert kinds() == {RowRecord: 20}, "nobody has read the ledger yet"
    before = Lease(runtime.redis, runtime.keys, "ledger")
    assert before.hold()
    assert kinds() == {RowRecord: 20}, "a build without columns has such leases, too"
    before.give_back()
    begin_upkeep(runtime)
    assert kinds() == {PageRecord: 1}
    runtime.redis.set(runtime.keys.upkeep_lock, "its word", px=60_000)
    assert kinds() == {RowRecord: 20}
    runtime.redis.delete(runtime.keys.upkeep_lock)
    assert kinds() == {PageRecord: 1}
    assert before.hold()
    assert kinds() == {RowRecord: 20}, "it goes on in the place of this one"


def test_tokens_without_a_person_are_not_kept(town: Town) -> None:
    town.tokens("token:0123456789ab")
    assert town.runtime.marks.people.look([(town.app, "token:0123456789ab")]) == {}


def _device(token: str) -> Device:
    return Device("d", "ios", Vendor.FCM, "ios", token, None, None, None, None, 1)


def _chat(app: str, user: str) -> Message:
    push = PushFields(message_class=MessageClass.CHAT)
    named: dict[str, Any] = {"event_id": uuid.uuid4().hex, "recipients": (user,), "push": push}
    return stored_message(at_ms=now_ms(), app=app, **named)
