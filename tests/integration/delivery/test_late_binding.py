"""The address, the consent and the place on the screen are those of the moment of sending, whatever
a push waited for.
"""

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from common.clock import now_ms
from common.contracts import Target
from common.model import Decision, MessageClass, Vendor
from common.storage.bindings import LEFT, bound
from common.storage.credentials import StoredCredential
from common.storage.erasure import erase
from common.storage.migrations import migrate
from tests.integration.delivery.conftest import World, chat
from tests.tables import spaced
from workers.delivery.work import PendingPush
from workers.intake.event_types import TYPES
from workers.intake.events import Event
from workers.intake.state import StateKeeper

DEVICE = "phone"


def said(line: dict[str, Any]) -> str:
    """The words of an accepted push."""
    return str(line["body"]["noticeBarInfo"]["content"])


class Town(World):
    """A world whose people register, leave and are written to."""

    def __init__(self, world: World) -> None:
        self.__dict__ |= world.__dict__
        self.keeper = StateKeeper(self.runtime.engine, self.runtime.badges, self.runtime.marks)
        self.ts = now_ms() - 1_000_000
        self.number = 0

    @property
    def business_id(self) -> str:
        return self.lane.credential.business_id

    def tell(self, kind: str, **data: Any) -> None:
        self.ts += 1
        decoded = TYPES[kind].decoder.decode(msgspec.json.encode(data))
        self.keeper.apply(
            [Event("demo", uuid.uuid4().hex, kind, self.ts, self.ts, "e", decoded)], lambda *_: None
        )

    def register(self, user: str, token: str, device: str = DEVICE, **more: Any) -> None:
        named = {
            "platform": "android",
            "vendor": "meizu",
            "business_id": self.business_id,
            "token": token,
        }
        self.tell("device.registered", user=user, device_id=device, **(named | more))

    def erased(self, user: str) -> None:
        with self.runtime.engine.begin() as connection:  # other tests' letters are under other keys
            connection.execute(text("DELETE FROM dead_letters"))
        runtime = self.runtime
        erase(runtime.engine, runtime.redis, runtime.keys, runtime.dead_letters, "demo", user)

    def routed(self, user: str, device: str = DEVICE, **note: Any) -> PendingPush:
        """A push as routing makes it at this moment, words that name its person."""
        devices = self.runtime.devices.of_users("demo", [user])[user]
        (found,) = [one for one in devices if one.device_id == device]
        self.number += 1
        one = chat(self.number)
        changes = {"body": f"for {user}", "presence_ms": now_ms(), "sender_id": "ann"} | note
        one.note = msgspec.structs.replace(one.note, **changes)
        one.target = Target(
            user, device, found.token, uuid.uuid4().hex, "android", found.registered_ms
        )
        return one

    def pause(self, paused: bool) -> None:
        self.runtime.credentials.set_paused("demo", "meizu", self.business_id, paused)
        self.runtime.catalog.changed()

    def stored(self) -> StoredCredential:
        (found,) = [
            one for one in self.runtime.credentials.all() if one.business_id == self.business_id
        ]
        return found

    def rows_of(self, works: Sequence[PendingPush]) -> dict[str, tuple[str, str, str]]:
        """(decision, business id, class sent) of the decided ones, by push id and
        in their order.
        """
        while self.writer.flush():
            pass
        asked = text(
            "SELECT push_id, decision, business_id, class_sent FROM ledger_all WHERE app = "
            "'demo' AND decision IS NOT NULL"
        )
        with self.runtime.engine.connect() as connection:
            told: dict[str, Any] = {
                str(row[0]).replace("-", ""): (row[1], row[2], row[3])
                for row in connection.execute(asked)
            }
        return {one.target.push_id: told.get(one.target.push_id, ()) for one in works}

    def parked(self, *works: PendingPush) -> None:
        """Puts them into the queues of the paused lane and waits until they are told so."""
        self.pause(True)
        self.put(works)
        self.turn(lambda: self.all_noted(works))

    def go(self, works: Sequence[PendingPush]) -> list[str | None]:
        self.pause(False)
        self.turn(lambda: self.all_decided(works))
        return self.decisions(works)

    def tokens(self) -> list[str]:
        return [line["token"] for line in self.accepted()]


@pytest.fixture
def town(world: World) -> Town:
    with world.runtime.engine.begin() as connection:  # the tests share a database
        for table in ("devices", "token_owners", "logouts", "settings"):
            connection.execute(text(f"DELETE FROM {table} WHERE app IN ('demo', 'merge')"))
    return Town(world)


def registers(*of: Any, **more: Any) -> Callable[[Town], None]:
    return lambda town: town.register(*of, **more)


def tells(kind: str, **data: Any) -> Callable[[Town], None]:
    return lambda town: town.tell(kind, **data)


def is_set(*states: str) -> Callable[[Town], Any]:
    """By an operator, one after the other."""
    return lambda town: [
        town.runtime.devices.set_state("demo", "alice", DEVICE, state, "x") for state in states
    ]


def in_turn(*steps: Callable[[Town], Any]) -> Callable[[Town], None]:
    def all_of_them(town: Town) -> None:
        for step in steps:
            step(town)

    return all_of_them


#: What happens to alice's phone, token T1, while her push waits; where it goes then (None:
#: nowhere).
CHANGES: dict[str, tuple[Callable[[Town], Any], str | None]] = {
    "her token is rotated": (registers("alice", "T2"), "T2"),
    "she logs out": (tells("session.logout", user="alice", device_id=DEVICE), None),
    "bob has her phone": (registers("bob", "T1"), None),
    "an operator retires it and restores it": (is_set("retired", "active"), "T1"),
    "its person is erased": (lambda town: town.erased("alice"), None),
    "a vendor's word retires it": (
        lambda town: town.runtime.devices.retire(
            [("demo", "alice", DEVICE, "T1", now_ms(), "dead")], "retired"
        ),
        None,
    ),
    "a receipt replaces its token": (
        lambda town: town.runtime.devices.replace_tokens(
            [("demo", "alice", DEVICE, "T1", "T4", now_ms())]
        ),
        "T4",
    ),
    "a receipt gives it bob's token": (
        in_turn(
            registers("bob", "T5", "bobs"),
            lambda town: town.runtime.devices.replace_tokens(
                [("demo", "alice", DEVICE, "T1", "T5", now_ms())]
            ),
        ),
        None,
    ),
}


@pytest.mark.parametrize(("change", "token"), CHANGES.values(), ids=CHANGES)
def test_what_waits_goes_to_the_token_of_the_moment_of_sending(
    town: Town, change: Callable[[Town], Any], token: str | None
) -> None:
    town.register("alice", "T1")
    waiting = town.routed("alice")
    town.parked(waiting)
    change(town)
    assert town.go([waiting]) == ["accepted" if token else "no_device"]
    assert town.tokens() == ([token] if token else [])


#: Where alice's phone is when its push may go: its vendor and account, the decision, and the class
#: sent.
MOVES = {
    "another account of its vendor": ("meizu", "second", "accepted", "marketing"),
    "an account that is not there": ("meizu", "third", "no_credential", "chat"),
    "a vendor without an account": ("honor", "second", "no_credential", "chat"),
}


@pytest.mark.parametrize(("vendor", "account", "decision", "class_sent"), MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("held", [True, False])
def test_a_push_follows_its_device_to_the_lane_that_it_registered_with(
    town: Town, vendor: str, account: str, decision: str, class_sent: str, held: bool
) -> None:
    """held: it waited behind a stopped lane; else it was on its way. Its class has the new
    account's rights: none here.
    """
    second = replace(town.stored(), business_id=town.business_id + "-2", rights=frozenset())
    town.runtime.credentials.add(second)
    town.runtime.catalog.changed()
    town.register("alice", "T1")
    works = [town.routed("alice"), town.routed("alice", message_class=MessageClass.CALL)]
    if held:
        town.parked(works[0])
        town.parked(works[1])
    names = {"second": second.business_id}
    town.register("alice", "T6", vendor=vendor, business_id=names.get(account, account))
    if not held:
        town.put(works)
    town.pause(False)
    town.turn(lambda: all(row for row in town.rows_of(works).values()))
    assert town.tokens() == ["T6"] * (2 if decision == "accepted" else 0)
    told = (
        decision,
        second.business_id if decision == "accepted" else town.business_id,
        class_sent,
    )
    assert list(town.rows_of(works).values()) == [told, told]
    loads = town.runtime.lane_queues.bytes_of([town.lane.id, f"demo:meizu:{second.business_id}"])
    assert set(loads.values()) == {0}


def test_a_retry_goes_to_the_token_of_the_moment(town: Town) -> None:
    town.register("alice", "T1")
    waiting = town.routed("alice")
    town.meizu.door("faults", status=503, status_share=1.0)
    town.put([waiting])
    town.turn(town.runtime.delayed.waiting_count)
    town.register("bob", "T1")
    town.register("alice", "T2")
    town.meizu.door("faults", status_share=0.0)
    assert town.go([waiting]) == ["accepted"]
    assert town.tokens() == ["T2"]


def test_while_the_database_is_away_only_what_changed_waits_for_it(town: Town) -> None:
    for user in ("alice", "bob"):
        town.register(user, f"token-{user}")
    waiting = [town.routed(user) for user in ("alice", "bob")]
    town.parked(*waiting)
    town.tell("session.logout", user="alice", device_id=DEVICE)
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", poolclass=NullPool)
    there, town.runtime.devices._engine = town.runtime.devices._engine, away
    town.pause(False)
    town.turn(town.tokens)
    town.turn(lambda: town.decisions(waiting)[1])
    assert town.tokens() == ["token-bob"]
    assert town.decisions(waiting) == [None, "accepted"]
    town.runtime.devices._engine = there
    assert town.go(waiting) == ["no_device", "accepted"]


def test_no_token_stands_in_a_key_of_redis(town: Town) -> None:
    town.register("alice", "a-token-that-is-secret", voip_token="another-secret")
    town.tell("session.logout", user="alice", device_id=DEVICE)
    town.register("alice", "a-token-that-is-secret", voip_token="another-secret")
    found = town.runtime.redis.hgetall(town.runtime.keys.bindings("demo", "alice"))
    assert list(found) == [DEVICE.encode()]
    assert len(found[DEVICE.encode()]) == 24
    assert b"secret" not in found[DEVICE.encode()]


PEOPLE = ("alice", "bob", "carl")
TOKENS = ("T1", "T2", "T3", "T4")


class Truth:
    """Who owns each token, and which each device has, by the words alone."""

    def __init__(self) -> None:
        self.owner: dict[str, tuple[str, str]] = {}
        self.token: dict[tuple[str, str], str] = {}
        self.off: set[tuple[str, str]] = set()

    def register(self, who: tuple[str, str], token: str) -> None:
        for other in [key for key, held in self.token.items() if held == token and key != who]:
            del self.token[other]
        self.owner[token], self.token[who] = who, token
        self.off.discard(who)

    def leave(self, who: tuple[str, str]) -> None:
        self.token.pop(who, None)

    def sendable(self, who: tuple[str, str]) -> str | None:
        return None if who in self.off else self.token.get(who)


@pytest.mark.parametrize("seed", range(6))
def test_no_push_ever_leaves_for_a_token_whose_owner_at_that_moment_is_another(  # noqa: PLR0915 - one story
    town: Town, seed: int
) -> None:
    chance, truth, told = random.Random(seed), Truth(), 0
    waiting: list[PendingPush] = []

    def look() -> None:
        """Whatever was accepted since the last look went to the owner of its token."""
        nonlocal told
        for line in town.accepted()[told:]:
            assert truth.owner[line["token"]][0] == said(line).removeprefix("for "), line
            found = truth.token.get(truth.owner[line["token"]])
            assert found == line["token"], "and to a token that is in use"
            told += 1

    for _ in range(40):
        who = (chance.choice(PEOPLE), chance.choice(("phone", "pad")))
        act = chance.choice(
            tuple(spaced("register register leave retire restore write write write open shut"))
        )
        if act == "register":
            token = chance.choice(TOKENS)
            town.register(who[0], token, who[1])
            truth.register(who, token)
        elif act == "leave":
            town.tell("session.logout", user=who[0], device_id=who[1])
            truth.leave(who)
        elif act in ("retire", "restore") and who in truth.token:
            town.runtime.devices.set_state(
                "demo", *who, "retired" if act == "retire" else "active", "x"
            )
            (truth.off.add if act == "retire" else truth.off.discard)(who)
        elif act == "write" and truth.sendable(who):
            waiting.append(town.routed(*who))
            town.put(waiting[-1:])
        elif act in ("open", "shut"):
            town.pause(act == "shut")
            town.timer.turn()
            brief = time.monotonic() + (0.2 if act == "shut" else 1.0)
            town.drain(lambda until=brief: time.monotonic() > until)  # type: ignore[misc]
            look()
    town.go(waiting)
    look()
    assert set(town.decisions(waiting)) <= {"accepted", "no_device", "folded"}


# ---------------------------------------------------------------- tokens in two spellings, and VoIP

UPPER, LOWER = "AB" * 32, "ab" * 32


def test_an_apns_token_in_capitals_is_the_same_as_in_small_letters(town: Town) -> None:
    more = {"vendor": "apns", "business_id": "ios", "platform": "ios"}
    town.register("alice", UPPER, **more)
    town.register("bob", LOWER, **more)
    found = town.runtime.devices.of_users("demo", ["alice", "bob"])
    seen = {user: [one.token for one in devices] for user, devices in found.items()}
    assert seen == {"bob": [LOWER]}
    town.register("alice", UPPER[:-2] + "Ab", **more)
    assert set(town.runtime.devices.of_users("demo", ["alice", "bob"])) == {"alice"}
    town.register("carl", UPPER, vendor="fcm", business_id="f")
    shown = town.runtime.devices.of_users("demo", ["carl"])["carl"][0].token
    assert shown == UPPER, "others' tokens mean what they spell"


@pytest.mark.parametrize("order", ["alice first", "bob first"])
def test_a_voip_token_has_one_owner_the_latest(town: Town, order: str) -> None:
    more = {"vendor": "apns", "business_id": "ios", "platform": "ios"}
    words = [
        ("alice", "phone", "aa", UPPER),
        ("bob", "phone", "bb", LOWER),
        ("bob", "pad", "cc", LOWER),
    ]
    base = town.ts
    for place, (user, device, token, voip) in sorted(
        enumerate(words), reverse=order == "bob first"
    ):
        town.ts = base + place
        town.register(user, token, device, voip_token=voip, **more)
    found = town.runtime.devices.of_users("demo", ["alice", "bob"])
    assert {
        (user, one.device_id): one.voip_token for user, devices in found.items() for one in devices
    } == {("alice", "phone"): None, ("bob", "phone"): None, ("bob", "pad"): LOWER}, (
        "one rings once; the others see an alert"
    )


@pytest.mark.parametrize("order", ["alice first", "bob first"])
@pytest.mark.parametrize("kind", ["a PushKit token as an alert token", "the other way round"])
def test_a_token_has_one_owner_whichever_kind_it_is_registered_as(
    town: Town, kind: str, order: str
) -> None:
    more = {"vendor": "apns", "business_id": "ios", "platform": "ios"}
    alices, bobs = {"token": "aa", "voip_token": UPPER}, {"token": LOWER, "voip_token": "bb"}
    as_alert = kind.startswith("a PushKit")
    words = [("alice", alices), ("bob", bobs)] if as_alert else [("bob", bobs), ("alice", alices)]
    base = town.ts
    for place, (user, tokens) in sorted(enumerate(words), reverse=order == "bob first"):
        town.ts = base + place
        town.register(user, **tokens, **more)
    found = town.runtime.devices.of_users("demo", ["alice", "bob"])
    assert {
        user: (one.token, one.voip_token) for user, devices in found.items() for one in devices
    } == (
        {"alice": ("aa", None), "bob": (LOWER, "bb")} if as_alert else {"alice": ("aa", LOWER)}
    ), "never on another person's phone"


def test_one_device_may_register_one_token_as_both_kinds(town: Town) -> None:
    town.register(
        "alice", UPPER, vendor="apns", business_id="ios", platform="ios", voip_token=LOWER
    )
    (device,) = town.runtime.devices.of_users("demo", ["alice"])["alice"]
    assert (device.token, device.voip_token) == (LOWER, LOWER)


def test_a_call_that_waits_goes_nowhere_where_another_person_has_its_voip_token_as_alert_token(
    town: Town,
) -> None:
    more = {"vendor": "apns", "business_id": "ios", "platform": "ios"}
    town.register("alice", "aa", voip_token=LOWER, **more)
    town.register("bob", LOWER, "pad", **more)
    (binding,) = town.runtime.marks.bindings.look([("demo", "alice", "phone")])
    assert binding == bound("apns", "ios", "aa", None)


def test_tokens_of_an_older_version_are_merged_the_latest_registration_keeps_them(
    town: Town,
) -> None:
    engine = town.runtime.engine
    rows = [
        ("alice", "phone", UPPER, "VV" * 4, 10, "active"),
        ("bob", "phone", LOWER, "CD" * 4, 20, "active"),
        ("carl", "phone", "CC" * 32, "cd" * 4, 30, "active"),
        ("dora", "phone", "cc" * 32, None, 25, "active"),
        ("erik", "phone", "ee" * 32, "ff" * 32, 10, "active"),
        ("fred", "phone", "ff" * 32, "ab" * 4, 20, "active"),
        ("gina", "phone", "dd" * 32, "ee" * 32, 30, "active"),
    ]
    columns = (
        'app, "user", device_id, platform, vendor, business_id, token, voip_token, registered_ms,'
        " state, state_ms"
    )
    with engine.begin() as connection:
        for user, device, token, voip, at_ms, state in rows:
            given = {"u": user, "d": device, "t": token, "v": voip, "at": at_ms, "s": state}
            query = text(
                f"INSERT INTO devices ({columns}) VALUES ('merge', :u, :d, 'ios', 'apns',"
                " 'ios', :t, :v, :at, :s, :at)"
            )
            connection.execute(query, given)
            connection.execute(
                text("INSERT INTO token_owners VALUES ('merge', 'apns', :t, :u, :d, :at)"), given
            )
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    migrate(engine)
    found = town.runtime.devices.listed("merge")
    assert {row["user"]: (row["state"], row["token"], row["voip_token"]) for row in found} == {
        "alice": ("moved", LOWER, "VV" * 4),
        "bob": ("active", LOWER, None),
        "carl": ("active", "cc" * 32, "cd" * 4),
        "dora": ("moved", "cc" * 32, None),
        "erik": ("moved", "ee" * 32, None),
        "fred": ("active", "ff" * 32, "ab" * 4),
        "gina": ("active", "dd" * 32, "ee" * 32),
    }
    owners = town.runtime.devices.owners("merge", Vendor.APNS, [LOWER, UPPER, "cc" * 32, "CC" * 32])
    assert owners == {LOWER: ("bob", "phone"), "cc" * 32: ("carl", "phone")}


# ---------------------------------------------------------------- consent as of now


def _settings(town: Town, **fields: Any) -> None:
    town.tell("settings.updated", user="alice", **fields)


def _present(town: Town, device: str, state: str, platform: str = "android") -> None:
    key = f"{town.runtime.settings.key_prefix}presence:{{demo:alice}}"
    town.runtime.core.hset(key, device, f"{state}|{platform}|{now_ms() + 600_000}")


def wishes(**settings: Any) -> Callable[[Town], None]:
    return lambda town: _settings(town, **settings)


def is_present(*of: str) -> Callable[[Town], None]:
    return lambda town: _present(town, *of)


ALL_DAY = {"start": "00:00", "end": "00:00", "tz": "UTC"}
MUTE = {"conversation": {"type": "c2c", "id": "s"}, "mode": "all"}
WISHES: dict[str, tuple[Callable[[Town], Any], dict[str, Any], str]] = {
    "she opened the app": (is_present(DEVICE, "foreground"), {}, "online"),
    "her app is in the background": (is_present(DEVICE, "background"), {}, "accepted"),
    "she muted the chat": (wishes(mute=MUTE), {}, "muted"),
    "she muted another chat": (
        wishes(mute={**MUTE, "conversation": {"type": "c2c", "id": "x"}}),
        {},
        "accepted",
    ),
    "she muted all but mentions and is named": (
        wishes(mute={**MUTE, "mode": "mention"}),
        {"mentioned": True},
        "accepted",
    ),
    "she does not want to be disturbed": (wishes(dnd=ALL_DAY), {}, "dnd"),
    "the same, and the push is forced": (wishes(dnd=ALL_DAY), {"respect_dnd": False}, "accepted"),
    "she blocked the sender": (wishes(blocked=["ann"]), {}, "blocked"),
    "she works at a desk now": (
        in_turn(wishes(mobile_when_desktop_online=False), is_present("desk", "foreground", "mac")),
        {},
        "online_elsewhere",
    ),
}


@pytest.mark.parametrize(("change", "note", "decision"), WISHES.values(), ids=WISHES)
@pytest.mark.parametrize("waited_s", [5, 40])
def test_what_waited_longer_than_half_a_minute_is_asked_again(
    town: Town, change: Callable[[Town], Any], note: dict[str, Any], decision: str, waited_s: int
) -> None:
    town.register("alice", "T1")
    waiting = town.routed("alice", presence_ms=now_ms() - waited_s * 1000, **note)
    town.parked(waiting)
    change(town)
    assert town.go([waiting]) == [decision if waited_s > 30 else "accepted"]


def test_a_window_without_a_zone_is_asked_again_on_this_devices_clock(town: Town) -> None:
    town.register("alice", "T1", tz="Etc/UTC")
    town.register("alice", "T2", device="a tablet abroad", tz="Etc/GMT-12")
    waiting = town.routed("alice", presence_ms=now_ms() - 40_000)
    town.parked(waiting)
    hour = int(now_ms() / 3_600_000) % 24
    begins, ends = f"{(hour - 2) % 24:02d}:00", f"{(hour + 3) % 24:02d}:00"
    _settings(town, dnd={"start": begins, "end": ends})
    assert town.go([waiting]) == ["dnd"]


# ---------------------------------------------------------------- one place on the screen


def test_an_older_push_is_not_sent_over_a_newer_one_with_its_collapse_key(town: Town) -> None:
    town.register("alice", "T1")
    older = town.routed("alice", body="shipped", collapse_id="order-1", ts_ms=now_ms() - 5_000)
    newer = town.routed("alice", body="delivered", collapse_id="order-1")
    town.meizu.door("faults", status=503, status_share=1.0)
    town.put([older])
    town.turn(town.runtime.delayed.waiting_count)
    town.meizu.door("faults", status_share=0.0)
    town.put([newer])
    assert town.go([newer, older]) == ["accepted", "folded"]
    assert [said(line) for line in town.accepted()] == ["delivered"]


def test_an_edit_stays_though_what_it_replaced_is_tried_again(town: Town) -> None:
    town.register("alice", "T1")
    older = town.routed("alice", body="see you at 8", ts_ms=now_ms() - 5_000)
    edit = town.routed("alice", body="see you at 9", collapse_id=older.note.message_id)
    town.meizu.door("faults", status=503, status_share=1.0)
    town.put([older])
    town.turn(town.runtime.delayed.waiting_count)
    town.meizu.door("faults", status_share=0.0)
    town.put([edit])
    assert town.go([edit, older]) == ["accepted", "folded"]
    assert [said(line) for line in town.accepted()] == ["see you at 9"]


def test_of_two_in_one_round_the_newer_goes_for_both(town: Town) -> None:
    town.register("alice", "T1")
    newer = town.routed("alice", body="delivered", collapse_id="order-1")
    older = town.routed("alice", body="shipped", collapse_id="order-1", ts_ms=now_ms() - 5_000)
    another = town.routed("alice", body="another", collapse_id="order-2", ts_ms=now_ms() - 9_000)
    plain = town.routed("alice", body="see you at 8", ts_ms=now_ms() - 5_000)
    edit = town.routed("alice", body="see you at 9", collapse_id=plain.note.message_id)
    works = [newer, older, another, edit, plain]
    town.put(works)
    assert town.go(works) == ["accepted", "folded", "accepted", "accepted", "folded"]
    shown = ["another", "delivered", "see you at 9"]
    assert sorted(said(line) for line in town.accepted()) == shown


def test_an_edit_stays_though_what_it_replaced_had_waited_for_the_database(town: Town) -> None:
    town.register("alice", "T1")
    older = town.routed("alice", body="see you at 8", ts_ms=now_ms() - 5_000)
    edit = town.routed("alice", body="see you at 9", collapse_id=older.note.message_id)
    town.register("alice", "T2")
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", poolclass=NullPool)
    there, town.runtime.devices._engine = town.runtime.devices._engine, away
    town.put([older])
    town.turn(town.runtime.delayed.waiting_count)
    town.runtime.devices._engine = there
    town.put([edit])
    town.go([edit, older])
    assert [said(line) for line in town.accepted()] == ["see you at 9"]


def test_messages_of_two_chats_may_have_one_id(town: Town) -> None:
    """Ids are unique within a conversation only: a late one is not covered by the other's."""
    town.register("alice", "T1")
    late = town.routed("alice", body="of bob", conversation_id="bob", ts_ms=now_ms() - 5_000)
    late.target = msgspec.structs.replace(late.target, earlier=1)
    shared = {"message_id": late.note.message_id, "collapse_id": late.note.collapse_id}
    other = town.routed("alice", body="of carl", conversation_id="carl", **shared)
    town.put([late, other])
    assert town.go([late, other]) == ["accepted", "accepted"]


def test_a_newer_push_that_is_refused_leaves_the_place_to_the_older(town: Town) -> None:
    town.register("alice", "T1")
    older = town.routed("alice", body="shipped", collapse_id="order-1", ts_ms=now_ms() - 5_000)
    newer = town.routed(
        "alice", body="delivered", collapse_id="order-1", expires_at_ms=now_ms() - 1
    )
    town.put([newer])
    town.turn(lambda: town.all_decided([newer]))
    town.put([older])
    assert town.go([newer, older]) == ["expired", "accepted"]


def test_a_binding_that_says_left_is_asked_of_the_database(town: Town) -> None:
    """A registration's transaction that failed has written its word into Redis already; SQL has the
    last word.
    """
    town.register("alice", "T1")
    waiting = town.routed("alice")
    town.parked(waiting)
    town.runtime.marks.bindings.put([("demo", "alice", DEVICE, LEFT)])
    assert town.go([waiting]) == [Decision.ACCEPTED]
