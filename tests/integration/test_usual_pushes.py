"""The quick way of chats of two makes the same pushes and records as the general way, whatever
stands beside them.
"""

import dataclasses
import random
import uuid
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import REGISTRY

from common.clock import now_ms
from common.contracts import Batch, Push, decode_batch, encode
from common.ledger_records import (
    DeadRecord,
    EventRecord,
    PageRecord,
    RowRecord,
    SingleRecord,
    singly,
)
from common.model import Vendor
from common.storage.direct_tokens import DirectTokens
from common.storage.people import KnownPreferences
from common.storage.streams import Entry
from common.storage.tenants import Tenant
from tests.builders import core_event, device_of
from tests.unit.routing.builders import credential
from workers.handlers import usual_pushes
from workers.handlers.intake import IntakeHandler, IntakePorts
from workers.handlers.shortcut import Shortcut
from workers.handlers.usual_pushes import UsualPushes
from workers.intake.directed import TokenPushes
from workers.intake.event_types import TYPES
from workers.intake.events import Event
from workers.intake.state import StateKeeper
from workers.pipeline import presence_of, routing_of
from workers.runtime import Runtime

PLACES = [
    (Vendor.APNS, "ios", "ios"),
    (Vendor.APNS, "old", "ios"),
    (Vendor.FCM, "gms", "android"),
    (Vendor.XIAOMI, "none", "android"),
]


class World:
    """Tenants with what a tenant may have; accounts for all places but the last."""

    def __init__(self, apps: Mapping[str, Tenant]) -> None:
        self.apps = apps

    def tenant(self, app: str) -> Tenant:
        return self.apps[app]

    def credential(self, app: str, vendor: Vendor, business_id: str) -> Any:
        return (
            None
            if business_id == "none"
            else dataclasses.replace(credential(vendor), app=app, business_id=business_id)
        )

    def strategy(self, app: str, strategy_id: str) -> None:
        return None


class Town:
    def __init__(self, runtime: Runtime, seed: int) -> None:
        self.runtime, self.dice = runtime, random.Random(seed)
        word = uuid.uuid4().hex[:8]
        hidden = {"hidden_content": "all"}
        made = [
            Tenant(f"a{word}", "Demo", "en", "UTC"),
            Tenant(f"b{word}", "", "zh", "UTC"),
            Tenant(f"c{word}", "C", "en", "UTC", hidden),
        ]
        self.apps = {one.app: one for one in made}
        self.keeper = StateKeeper(runtime.engine, runtime.badges, runtime.marks)
        self.users = [f"u{number}" for number in range(60)]
        self.quick: UsualPushes | None = None
        self.config = object()
        self._told: list[Event] = []
        for app in self.apps:
            for user in self.users[1:]:
                self._registered(app, user)
        self.keeper.apply(self._told, lambda *_: None)

    def _registered(self, app: str, user: str) -> None:
        dice = self.dice
        for number in range(dice.choice([1, 1, 1, 1, 2])):
            vendor, business, platform = dice.choice(PLACES)
            data = device_of(
                user, device_id=f"d{number}", platform=platform, vendor=vendor, business_id=business
            )
            lang = dice.choice([None, None, "en", "de"])
            token = f"a0a0{uuid.uuid4().hex}{uuid.uuid4().hex[4:]}"
            self._tell(
                app,
                "device.registered",
                {**data, "token": token, "lang": lang, "app_version": dice.choice([None, "1.2"])},
            )
        if dice.random() < 0.15:
            mute = {"conversation": {"type": "c2c", "id": "ann"}, "mode": "all"}
            self._tell(app, "settings.updated", {"user": user, "mute": mute})
        if dice.random() < 0.15:
            key = f"{self.runtime.settings.key_prefix}presence:{{{app}:{user}}}"
            presence = (
                f"{dice.choice(['foreground', 'background'])}|ios|{now_ms() + 60_000}".encode()
            )
            self.runtime.core.hset(key, "d0", presence)

    def _tell(self, app: str, kind: str, data: dict[str, Any]) -> None:
        decoded = TYPES[kind].decoder.decode(msgspec.json.encode(data))
        self._told.append(Event(app, uuid.uuid4().hex, kind, now_ms(), now_ms(), "e", decoded))

    def stored(self) -> bytes:
        """Mostly a chat of two; now and then something about it is not as usual."""
        dice = self.dice
        sender = {"id": dice.choice(["ann", "u3", "bel"])} | dice.choice(
            [{}, {"nick": "Ann"}, {"nick": " "}, {"nick": "A:n"}]
        )
        data: dict[str, Any] = {"message_id": uuid.uuid4().hex[:12], "sender": sender}
        data["conversation"] = {"type": "c2c", "id": sender["id"]}
        data["recipients"] = [dice.choice(self.users)]
        data["elements"] = [
            {"type": "text", "text": dice.choice(["hi", "多: text", " ", "", 'a\\b"c'])}
        ]
        ts = now_ms()
        match dice.randrange(25):
            case 0:
                data["elements"] = [{"type": dice.choice(["image", "sound", "custom"])}]
            case 1:
                data["message_id"] = "m" * 500
            case 2:
                data["conversation"] = {"type": "group", "id": "g1", "name": "G"}
                data["mentions"] = dice.choice([[], ["@all"], data["recipients"]])
            case 3:
                data["push"] = dice.choice(
                    [{}, {"display": {"title": "T"}}, {"ttl_s": 60}, {"gate": {"enabled": False}}]
                )
            case 4:
                data["exclude"] = data["recipients"]
            case 5:
                ts -= 8 * 86_400_000
            case 6:
                data["elements"] *= 2
        app = dice.choice([*self.apps, next(iter(self.apps))])
        return msgspec.json.encode(core_event(app, "message.stored", data, ts_ms=ts))

    def handle(
        self, entries: list[Entry], *, usual: bool
    ) -> tuple[list[SingleRecord], list[tuple[str, Batch]], set[Any]]:
        """The records, and the batches of each lane in order."""
        runtime = self.runtime
        ports = dataclasses.replace(
            runtime.routing, tenancy=World(self.apps), preferences=KnownPreferences(runtime.people)
        )
        routing = dataclasses.replace(routing_of(runtime), ports=ports)
        self.quick = self.quick or UsualPushes(
            runtime.presence, runtime.people.plain, routing, lambda: self.config
        )
        quick = self.quick if usual else None
        shortcut = Shortcut(presence_of(runtime), routing, lambda: 1, runtime.people.sharing, quick)
        ports_ = IntakePorts(
            core=runtime.core,
            streams=runtime.streams,
            marks=runtime.marks,
            state=self.keeper,
            vault=runtime.vault,
            apps=lambda: list(self.apps),
            wake=lambda *_: None,
            delayed=runtime.delayed,
            withdraw=lambda _: None,
            directly=TokenPushes(DirectTokens(runtime.engine), runtime.marks, runtime.replies),
            shortcut=shortcut,
        )
        commit = IntakeHandler(ports_).handle(entries)
        with runtime.redis.pipeline(transaction=True) as pipe:
            for more in commit.extra:
                more(pipe)
            pipe.execute()
        batches: list[tuple[str, Batch]] = []
        took_quick_way = False
        for lane in runtime.lane_queues.loaded():
            key = runtime.keys.lane_blobs(lane)
            blobs = dict(runtime.redis.hgetall(key))
            batches += [
                (lane, decode_batch(cast(bytes, blobs[name])))
                for name in sorted(blobs, key=lambda name: int(cast(bytes, name).split(b";")[2]))
            ]
            took_quick_way |= any(b"\xa4rows" in blob for blob in blobs.values())
            runtime.redis.delete(key)
        assert took_quick_way == usual
        assert all(later.due_ms > now_ms() - 60_000 for later in commit.deferred)
        rows = singly(commit.rows)
        return (rows, batches, {*commit.wake, len(commit.deferred), len(commit.forward)})


def pushes(batches: list[tuple[str, Batch]]) -> dict[tuple[str, str, str], list[Push]]:
    """By (lane, urgency, user) in order, without the times at which they were made."""
    found: dict[tuple[str, str, str], list[Push]] = {}
    for lane, batch in batches:
        for push in batch.pushes:
            note = msgspec.structs.replace(push.note, presence_ms=0, routed_ms=0)
            for target in push.targets:
                found.setdefault((lane, note.urgency, target.user), []).append(
                    Push(note=note, targets=(target,))
                )
    return found


def timeless(records: list[SingleRecord]) -> list[bytes]:
    fields = ("presence_ms", "routed_ms", "decided_ms", "at_ms")
    records = [one for one in records if not isinstance(one, DeadRecord)]
    return sorted(
        encode(msgspec.structs.replace(one, **{name: 0 for name in fields if hasattr(one, name)}))
        for one in records
    )


@pytest.mark.parametrize("seed", range(6))
def test_both_ways_make_the_same(runtime: Runtime, seed: int) -> None:
    town = Town(runtime, seed)
    stream = runtime.settings.event_streams[0]
    raws = [town.stored() for _ in range(120)]
    entries = [
        Entry(stream, b"%d-%d" % (now_ms(), n), raw, 1, False, {b"e": raw})
        for n, raw in enumerate(raws)
    ]
    for part in (entries[:60], entries[60:]):  # what the first read has made is kept for the second
        general, quick = town.handle(part, usual=False), town.handle(part, usual=True)
        assert pushes(quick[1]) == pushes(general[1])
        assert timeless(quick[0]) == timeless(general[0])
        assert quick[2] == general[2]
        assert all(batch.by_entry for _, batch in quick[1])
        events_come_first(quick[0])
        events_come_first(general[0])


def events_come_first(records: list[SingleRecord]) -> None:
    """In the ledger's writer an event waits a second for an outcome behind it."""
    met, outcomes = set(), 0
    for one in records:
        if isinstance(one, EventRecord):
            met.add((one.app, one.event_id))
        elif isinstance(one, RowRecord | PageRecord):
            outcomes += 1
            assert (one.app, one.event_id) in met
    assert outcomes


@pytest.mark.parametrize("usual", [False, True])
def test_what_intake_does_of_the_next_two_stages_is_counted_as_theirs(
    runtime: Runtime, usual: bool
) -> None:
    def counted(stage: str) -> float:
        found = REGISTRY.get_sample_value("pushfleet_stage_seconds_count", {"stage": stage})
        return found or 0.0

    town, stream = Town(runtime, 3), runtime.settings.event_streams[0]
    raws = [town.stored() for _ in range(40)]
    entries = [
        Entry(stream, b"%d-%d" % (now_ms(), n), raw, 1, False, {b"e": raw})
        for n, raw in enumerate(raws)
    ]
    before = {stage: counted(stage) for stage in ("presence", "routing")}
    town.handle(entries, usual=usual)
    assert all(counted(stage) > before[stage] for stage in before)


def test_what_is_kept_of_a_lane_is_of_its_tenant_as_it_is(runtime: Runtime) -> None:
    town = Town(runtime, 7)
    app, stream = next(iter(town.apps)), runtime.settings.event_streams[0]

    def told(name: str) -> set[str]:
        town.apps[app] = dataclasses.replace(town.apps[app], name=name)
        raws = [raw for raw in (town.stored() for _ in range(60)) if f'"{app}"'.encode() in raw]
        began = now_ms()
        entries = [
            Entry(stream, b"%d-%d" % (began, n), raw, 1, False, {b"e": raw})
            for n, raw in enumerate(raws)
        ]
        batches = town.handle(entries, usual=True)[1]
        notes = [
            push.note
            for _, batch in batches
            for push in batch.pushes
            if push.note.urgency == "chat"
        ]
        assert all(note.presence_ms >= began and note.routed_ms >= began for note in notes), (
            "judged in this read"
        )
        return {note.app_name for note in notes}

    assert told("Before") == {"Before"}
    town.config = object()
    assert told("After") == {"After"}


def test_the_quick_way_is_taken_by_the_usual_and_keeps_each_persons_order(runtime: Runtime) -> None:
    """A person with something unusual among theirs gets all of theirs the general way."""

    def event(number: int, user: str, **more: Any) -> Event:
        chat = {
            "message_id": f"m{number}",
            "conversation": {"type": "c2c", "id": "ann"},
            "sender": {"id": "ann"},
            "recipients": [user],
        }
        data = TYPES["message.stored"].decoder.decode(
            msgspec.json.encode({**chat, "elements": [{"type": "text", "text": "hi"}], **more})
        )
        return Event("app", f"e{number}", "message.stored", now_ms(), now_ms(), f"s/{number}", data)

    read = [
        event(1, "bob"),
        event(2, "eve"),
        event(3, "bob", mentions=["bob"]),
        event(4, "bob"),
        event(5, "ann"),
    ]
    usual, others = usual_pushes.apart(read, now_ms())
    assert [one.id for one in usual] == ["e2"]
    assert [one.id for one in others] == ["e1", "e3", "e4", "e5"]


def test_an_entry_without_pushes_is_none() -> None:
    with pytest.raises(msgspec.ValidationError, match="pushes"):
        decode_batch(encode({"app": "a", "vendor": "apns", "business_id": "ios"}))
