"""A fleet of four shards says and does what a fleet of one does."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import text

from common.clock import now_ms
from common.contracts import Message, decode_messages, encode
from common.ledger_records import unpack_users
from common.model import Urgency, Vendor
from common.ports import MemberPage
from common.storage import keys
from common.storage.core_streams import core_streams
from common.storage.lane_queues import LaneQueues
from common.storage.leases import JointLease
from common.storage.shards import shard_of, shard_of_group
from common.storage.streams import StreamStore
from common.storage.tenants import Tenant
from simulators.meizu import make
from simulators.simulator import Record
from tests.integration.delivery.conftest import most_in_a_second
from tests.integration.shards.conftest import PEOPLE, ShardedFleet, token_of
from tests.waiting import eventually
from workers import shards
from workers.app import DELIVERY, PRESENCE, queue_of
from workers.cli.worker import doors_of
from workers.gate import lane_terms
from workers.handlers import delivery
from workers.handlers.intake import ENTRY_FIELDS_MAX
from workers.handlers.presence import PresenceHandler
from workers.handlers.spread_intake import Sorter
from workers.intake.decoding import ENTRY_BYTES_MAX
from workers.intake.events import Event
from workers.maintenance.backup import own_names, place
from workers.pipeline import ShardConsumers, presence_of, routing_of


def _roots(fleet: ShardedFleet) -> list[int]:
    """Pushes that wait in each shard."""
    lane = f"{fleet.app}:meizu:m1"
    return [one.lane_queues.waiting(lane) for one in fleet.runtime.shards]


def test_each_persons_push_lies_in_their_shard_and_is_sent_once(peopled: ShardedFleet) -> None:
    fleet = peopled
    messages = [fleet.chat(user, f"m-{user}") for user in PEOPLE]
    fleet.publish(*messages)
    fleet.publish(*messages)  # the same event ids once more
    fleet.take_in()
    fleet.route()
    assert sum(_roots(fleet)) == len(PEOPLE)
    assert all(_roots(fleet))
    fleet.all_sent()
    assert {user: fleet.rows(f"m-{user}")[user] for user in PEOPLE} == {
        user: ["accepted"] for user in PEOPLE
    }
    assert len(fleet.shown()) == len(PEOPLE)
    assert set(fleet.shown().values()) == {1}


def test_packed_events_of_many_people(sharded: ShardedFleet) -> None:
    fleet = sharded
    fleet.take_in(*map(fleet.phone, PEOPLE), packed=True)
    fleet.through(*(fleet.chat(user, f"p-{user}") for user in PEOPLE), packed=True)
    assert sum(_roots(fleet)) == len(PEOPLE)
    fleet.all_sent()
    assert not fleet.runtime.core.xlen(fleet.stream)
    assert {user: fleet.rows(f"p-{user}")[user] for user in PEOPLE} == {
        user: ["accepted"] for user in PEOPLE
    }


def test_a_bad_line_of_a_packed_entry_keeps_its_number(sharded: ShardedFleet) -> None:
    """Though the entry's people are of several shards."""
    fleet = sharded
    lines = [fleet.chat(user, f"b-{user}") for user in PEOPLE]
    lines[3] = {**lines[3], "ts": "yesterday"}
    fleet.take_in(*lines, packed=True)
    fleet.write()
    letters = fleet.runtime.dead_letters.listed("intake")
    (letter,) = [one for one in letters if one.app == fleet.app]
    assert letter.entry_id.endswith("#3")


@pytest.mark.parametrize("beside", [0, 1])
def test_a_bad_event_may_be_all_that_a_shard_has_of_a_read(
    sharded: ShardedFleet, beside: int
) -> None:
    fleet = sharded
    bad = fleet.chat("nobody", "bad") | {"ts": "yesterday"}
    fleet.take_in(bad, *(fleet.chat(user, f"b-{user}") for user in PEOPLE[:beside]))
    fleet.write()
    letters = fleet.runtime.dead_letters.listed("intake")
    (letter,) = [one for one in letters if one.app == fleet.app]
    assert not letter.reason.startswith("broke_stage")


def test_a_logout_of_a_packed_entry_is_there_before_later_entries(peopled: ShardedFleet) -> None:
    """The entry is of people of several shards, and is written anew at the stream's end."""
    fleet = peopled
    ends = [
        fleet.event("session.logout", {"user": user, "device_id": f"d-{user}"}) for user in PEOPLE
    ]
    fleet.publish(*ends, packed=True)
    fleet.through(*(fleet.chat(user, f"l-{user}") for user in PEOPLE))
    fleet.send(lambda: not shards.delayed_count(fleet.runtime))  # the second look
    fleet.route()
    fleet.all_sent()
    fleet.write()
    found = [fleet.runtime.reports.find(f"l-{user}", fleet.app, None) for user in PEOPLE]
    assert {event and event["row_decision"] for event in found} == {"no_device"}
    assert not fleet.shown()


def source_of(fleet: ShardedFleet) -> StreamStore:
    limits = (ENTRY_FIELDS_MAX, ENTRY_BYTES_MAX, 1_000)
    return core_streams(fleet.runtime.core, [fleet.stream], fleet.runtime.keys, *limits)


def test_a_packed_entry_leaves_a_full_server(sharded: ShardedFleet) -> None:
    fleet = sharded
    fleet.publish(*(fleet.chat(user, f"f-{user}") for user in PEOPLE), packed=True)
    source = source_of(fleet)
    entries = source.read([fleet.stream], 10)
    sorter = Sorter(source, 4, doors_of(fleet.runtime))
    fleet.runtime.core.config_set("maxmemory", 1)
    try:
        assert not sorter.sorted(entries)
    finally:
        fleet.runtime.core.config_set("maxmemory", 0)
    assert fleet.runtime.core.xlen(fleet.stream) == 4
    (turn,) = sorter.sorted(source.read([fleet.stream], 10))
    assert set(turn) == {0, 1, 2, 3}


def test_an_event_of_a_new_tenant_comes_to_the_shard_of_its_repeats(sharded: ShardedFleet) -> None:
    """The tenant is added after this process has read the catalogue; the core publishes the event
    twice.
    """
    fleet = sharded
    source = source_of(fleet)
    sorter = Sorter(source, 4, doors_of(fleet.runtime))
    assert fleet.app in fleet.runtime.catalog.now.tenants
    fleet.app = "late" + fleet.app
    fleet.runtime.tenants.add(Tenant(fleet.app, "Late", "en", "UTC"))
    fleet.runtime.redis.incr(fleet.runtime.keys.config_version)  # by another process
    fleet.publish(*(fleet.chat(user, f"n-{user}") for user in PEOPLE))
    read = source.read([fleet.stream], 100)
    (found,) = sorter.sorted(read)
    where = {entry.id: shard for shard, entries in found.items() for entry in entries}
    assert [where[entry.id] for entry in read] == [shard_of(4, fleet.app, user) for user in PEOPLE]


def test_a_group_has_one_row_a_member_in_the_members_shards(peopled: ShardedFleet) -> None:
    fleet = peopled
    nobody = [f"n{number}" for number in range(700)]
    fleet.members("g", [*PEOPLE, *nobody, "boss"])
    fleet.through(fleet.group("g", "g1"))
    assert sum(_roots(fleet)) == len(PEOPLE)
    assert all(_roots(fleet))
    fleet.all_sent()
    rows = fleet.rows("g1")
    assert {user: rows[user] for user in PEOPLE} == {user: ["accepted"] for user in PEOPLE}
    assert len(fleet.shown()) == len(PEOPLE)
    assert set(fleet.shown().values()) == {1}


class Repeating:
    """Members whom each page names anew, as SSCAN may while a set grows: two pages of everybody."""

    def page(
        self, _app: str, _group: str, cursor: int, _server: str | None, _count: int
    ) -> MemberPage:
        return MemberPage(PEOPLE, 0 if cursor else 7, "server")


@pytest.mark.parametrize("together", [True, False], ids=["in one read", "by two replicas at once"])
def test_whom_two_pages_name_is_pushed_once(peopled: ShardedFleet, together: bool) -> None:
    fleet = peopled
    fleet.take_in(fleet.group("g", "g1"))
    each = [
        dataclasses.replace(presence_of(one), members=Repeating()) for one in fleet.runtime.shards
    ]
    for shard, parts in enumerate(_parts_of_pages(fleet, each)):
        assert len(parts) == 2
        looks = [
            each[shard].look(read) for read in ([parts] if together else [[part] for part in parts])
        ]
        runtime = fleet.runtime.shards[shard]
        routed = [
            routing_of(runtime).route_marked([one]) for offline, _ in looks for one in offline
        ]
        commits = [*(commit for _, commit in looks), *routed]
        with runtime.redis.pipeline(transaction=True) as pipe:
            for commit in commits:
                for fill in commit.extra:
                    fill(pipe)
            pipe.execute()
    fleet.all_sent()
    assert len(fleet.shown()) == len(PEOPLE)
    assert set(fleet.shown().values()) == {1}


def _parts_of_pages(fleet: ShardedFleet, each: Sequence[PresenceHandler]) -> list[list[Message]]:
    """By shard: what all pages of the group's message that waits give for its people."""
    names = keys.STAGE_STREAMS[PRESENCE]
    home = next(
        one for one in fleet.runtime.shards if one.streams.backlog(names)["presence:group"].unread
    )
    todo = [
        message for entry in home.streams.read(names, 10) for message in decode_messages(entry.blob)
    ]
    parts: list[list[Message]] = [[] for _ in each]
    while todo:
        spread = each[home.number].spread
        assert spread is not None
        mine, commit = spread.pages([todo.pop()], Repeating())
        parts[home.number] += mine
        for stream, blob in commit.forward:
            shard, _, packed = (
                msgspec.msgpack.decode(blob) if stream.startswith("out:") else (None, None, blob)
            )
            (todo if shard is None else parts[shard]).extend(decode_messages(packed))
    return parts


def test_calls_and_groups_of_one_read_reach_all_their_people(peopled: ShardedFleet) -> None:
    """What leaves a shard by several streams in one commit may have the same entry ids there."""
    fleet = peopled
    calls = [f"call-{number}" for number in range(12)]
    invited = [
        fleet.event(
            "call.invited",
            {"call_id": one, "inviter": {"id": "boss"}, "invitees": PEOPLE, "timeout_s": 600},
        )
        for one in calls
    ]
    groups = [f"among-{number}" for number in range(12)]
    sent = [fleet.group(one, one, recipients=PEOPLE) for one in groups]
    fleet.through(*(event for pair in zip(invited, sent, strict=True) for event in pair))
    fleet.all_sent()
    for one in (*calls, *groups):
        assert sorted(fleet.rows(one)) == sorted(PEOPLE), one


@pytest.mark.parametrize("packed", [True, False])
def test_a_call_rings_again_behind_its_end_wherever_they_are_worked_on(
    peopled: ShardedFleet, packed: bool
) -> None:
    """All of one moment; its end is of another shard than its invitations."""
    fleet, ts = peopled, now_ms()
    told = list[tuple[str, dict[str, Any]]]()
    for user in PEOPLE:
        data = {"inviter": {"id": "boss"}, "invitees": [user], "timeout_s": 600}
        for ends in (1, 2):
            name = f"{user}-{ends}"
            end: tuple[str, dict[str, Any]] = ("call.ended", {"call_id": name})
            told += [end, ("call.invited", {"call_id": name, **data}), end][: ends + 1]
    fleet.through(*({**fleet.event(*one), "ts": ts} for one in told), packed=packed)
    fleet.all_sent()
    for user in PEOPLE:
        assert fleet.rows(f"{user}-1") == {user: ["accepted"]}
        assert fleet.rows(f"{user}-2") == {user: ["call_ended"]}


def test_a_group_of_nobody_is_decided(sharded: ShardedFleet) -> None:
    fleet = sharded
    fleet.through(fleet.group("nobody", "g0"))
    fleet.write()
    event = fleet.runtime.reports.find("g0", fleet.app, None)
    assert event is not None
    assert event["decision"] == "no_device"


def test_who_is_excluded_is_not_pushed(peopled: ShardedFleet) -> None:
    """Of a group by its members, and of a group by a list of recipients."""
    fleet = peopled
    fleet.members("g", PEOPLE)
    excluded = PEOPLE[::2]
    fleet.publish(
        fleet.group("g", "g1", exclude=excluded),
        fleet.group("g", "g2", exclude=excluded, recipients=PEOPLE),
        fleet.group("g", "g3", exclude=PEOPLE),
        fleet.group("g", "g4", exclude=PEOPLE, recipients=PEOPLE),
    )
    crowd = [f"c{number}" for number in range(900)]  # of several pages
    fleet.members("crowd", crowd)
    first = fleet.group("crowd", "g5", exclude=crowd)
    fleet.through(first, fleet.group("crowd", "g6", exclude=crowd, recipients=crowd))
    fleet.all_sent()
    for message_id in ("g1", "g2"):
        assert fleet.rows(message_id) == {user: ["accepted"] for user in PEOPLE[1::2]}
    for message_id in ("g3", "g4", "g5", "g6"):
        assert not fleet.rows(message_id)
        event = fleet.runtime.reports.find(message_id, fleet.app, None)
        assert event is not None
        assert event["decision"] == "no_device"


def test_what_is_recalled_or_read_is_not_sent_wherever_it_waits(peopled: ShardedFleet) -> None:
    fleet = peopled
    fleet.pause("m1", True)
    fleet.members("g", PEOPLE)
    fleet.through(fleet.group("g", "g1"), fleet.group("g", "g2"))
    assert sum(_roots(fleet)) == 2 * len(PEOPLE)
    group = {"type": "group", "id": "g"}
    fleet.take_in(
        fleet.event("message.recalled", {"message_id": "g1", "conversation": group}),
        *(
            fleet.event(
                "message.read", {"user": user, "conversation": group, "up_to_message_id": "g2"}
            )
            for user in PEOPLE[:20]
        ),
    )
    fleet.pause("m1", False)
    fleet.all_sent()
    assert {decision for told in fleet.rows("g1").values() for decision in told} == {"recalled"}
    rows = fleet.rows("g2")
    assert {user: rows[user][0] for user in PEOPLE} == {
        user: "read_elsewhere" if user in PEOPLE[:20] else "accepted" for user in PEOPLE
    }


def test_a_recall_reaches_everybody_who_saw_it(peopled: ShardedFleet) -> None:
    fleet = peopled
    fleet.members("g", PEOPLE)
    fleet.through(fleet.group("g", "g1"))
    fleet.all_sent()
    fleet.write()
    conversation = {"type": "group", "id": "g"}
    fleet.take_in(
        fleet.event("message.recalled", {"message_id": "g1", "conversation": conversation})
    )

    def withdrawn() -> bool:
        fleet.write()
        for role in fleet.recalls:
            role.turn()
        fleet.route()
        return len(fleet.shown()) == len(PEOPLE) and min(fleet.shown().values()) >= 2

    fleet.send(withdrawn)


def test_a_token_that_moves_to_a_person_of_another_shard(sharded: ShardedFleet) -> None:
    """The first owner's push that waits is sent to nobody else's phone."""
    fleet = sharded
    token = "t" * 32
    for user in ("alice", "bob", "carol", "dora"):
        phone = fleet.phone(user)
        phone["data"] |= {"token": token, "device_id": "one"}
        fleet.take_in(phone)
        fleet.pause("m1", True)
        fleet.through(fleet.chat(user, f"w-{user}"))
    fleet.pause("m1", False)
    fleet.all_sent()
    assert {user: fleet.rows(f"w-{user}")[user] for user in ("alice", "bob", "carol", "dora")} == {
        **{user: ["no_device"] for user in ("alice", "bob", "carol")},
        "dora": ["accepted"],
    }


@pytest.mark.parametrize("packed", [False, True])
def test_a_tokens_last_user_of_one_read_has_it_though_another_shard_came_first(
    wherever: ShardedFleet, *, packed: bool
) -> None:
    """Of one time, too."""
    fleet = wherever
    first, last = (next(one for one in PEOPLE if shard_of(4, fleet.app, one) == n) for n in (0, 1))
    phones = [fleet.phone(user) for user in (first, last)]
    for phone in phones:
        phone["ts"] = phones[0]["ts"]
        phone["data"] |= {"token": "t" * 32, "device_id": "one"}
    fleet.take_in(fleet.chat(last, "earlier"), *phones, packed=packed)
    assert not fleet.runtime.devices.of_users(fleet.app, [first]).get(first)
    assert fleet.runtime.devices.of_users(fleet.app, [last])[last]


def test_a_made_up_token_lives(tmp_path: Path) -> None:
    simulator = make(Record(tmp_path / "meizu.jsonl"))
    assert not any(simulator.fate(token_of("u1")) for _ in range(20_000))


def test_a_lanes_rate_is_one_for_all_shards(wherever: ShardedFleet) -> None:
    fleet = wherever
    fleet.lane("slow", rate=25.0)
    fleet.take_in(*(fleet.phone(user, "slow") for user in PEOPLE))
    fleet.through(*(fleet.chat(user, f"r-{user}") for user in PEOPLE))
    began_ms = now_ms()
    fleet.all_sent()
    assert {user: fleet.rows(f"r-{user}")[user] for user in PEOPLE} == {
        user: ["accepted"] for user in PEOPLE
    }
    times = sorted(line["at_ms"] for line in fleet.meizu.simulator.record.lines())
    assert len(times) == len(PEOPLE)
    # From before the first one: what arrives is late and never early, so that a machine that stands
    # still makes no rate higher. The burst is one and a half.
    over = [at_ms - began_ms for n, at_ms in enumerate(times, 1) if at_ms - began_ms < (n - 2) * 40]
    assert not over
    assert most_in_a_second(times) >= 25 / 2.5, "the shards do not wait for each other"
    assert times[-1] - times[0] < 12_000, "and none waits for long: it is less than two of rate"
    assert shards.waiting(fleet.runtime, f"{fleet.app}:meizu:slow") == 0


@pytest.mark.parametrize(("urgency", "kind"), [("group", "group"), ("bulk", "marketing")])
def test_who_starves_in_another_shard_gets_its_turn(
    wherever: ShardedFleet, urgency: str, kind: str
) -> None:
    """Chats of all shards are about to lease again and again: after half a second the others go all
    the same.
    """
    fleet = wherever
    user = next(name for name in PEOPLE if shard_of(4, fleet.app, name) == 3)
    fleet.lane("slow", rate=10.0)
    fleet.take_in(fleet.phone(user, "slow"))
    fleet.members("g", [user])
    fleet.through(
        fleet.group("g", "g1") if kind == "group" else fleet.chat(user, "m1", push={"class": kind})
    )
    lane = f"{fleet.app}:meizu:slow"
    home = fleet.runtime
    queues = fleet.runtime.shards[3].lane_queues
    terms = lane_terms(home.catalog.fresh().lanes[fleet.app, Vendor.MEIZU, "slow"])

    def take() -> str:
        home.redis.hset(home.keys.rate(lane), "p1", f"{now_ms() / 1000:.3f}")
        (taken,) = queues.take([(lane, Urgency(urgency), terms, 10)], 15.0)
        return taken.what

    began = time.monotonic()
    assert take() == "wait"
    if (again := take()) == "wait":
        time.sleep(0.6)
        again = take()
    assert again == "go"
    assert time.monotonic() - began >= 0.5


def test_work_in_several_shards_wakes_one_worker_once(peopled: ShardedFleet) -> None:
    fleet = peopled
    calls: list[str] = []
    fleet.runtime.app = cast(
        Any, SimpleNamespace(send_task=lambda *_, queue, **__: calls.append(queue))
    )
    fleet.through(*(fleet.chat(user, f"w-{user}") for user in PEOPLE))
    assert all(_roots(fleet))
    assert calls.count(queue_of(DELIVERY, Vendor.MEIZU)) == 1


def test_a_read_for_many_shards_wakes_a_busy_worker_once(peopled: ShardedFleet) -> None:
    """The worker takes each wake-up at once, so that none is found waiting."""
    fleet = peopled
    calls: list[str] = []

    def send_task(*_: object, queue: str, **__: object) -> None:
        calls.append(queue)
        fleet.runtime.wakes.clear_wake_up(queue)

    fleet.runtime.app = cast(Any, SimpleNamespace(send_task=send_task))
    fleet.take_in(*(fleet.chat(user, f"w-{user}") for user in PEOPLE))
    assert all(_roots(fleet))
    assert calls == [queue_of(DELIVERY, Vendor.MEIZU)]


def test_a_usual_event_is_read_once(sharded: ShardedFleet) -> None:
    """What the sorter has read of it is what its shard works on, in intake's quick form."""
    fleet = sharded
    limits = ENTRY_FIELDS_MAX, ENTRY_BYTES_MAX, 1_000
    source = core_streams(fleet.runtime.core, [fleet.stream], fleet.runtime.keys, *limits)
    sorter = Sorter(source, 4, doors_of(fleet.runtime))
    fleet.publish(*(fleet.chat(user, f"o-{user}") for user in PEOPLE))
    sorter.sorted(source.read([fleet.stream], 100))
    assert [type(read) for reads in sorter.reads.values() for read in reads] == [Event] * len(
        PEOPLE
    )


def test_a_shards_batch_is_not_cut_to_the_room_that_another_leaves(sharded: ShardedFleet) -> None:
    fleet = sharded
    names = [f"p{number}" for number in range(800)]
    users = [
        name
        for shard in (1, 2)
        for name in [one for one in names if shard_of(4, fleet.app, one) == shard][:60]
    ]
    fleet.take_in(*map(fleet.phone, users))
    fleet.through(*(fleet.chat(user, f"r-{user}") for user in users))
    fleet.stages.in_flight_max = 100
    rounds: list[int] = []
    for one in fleet.runtime.shards[1:3]:
        _counted(one.lane_queues, rounds)
    fleet.all_sent()
    assert rounds == [1, 1], "a round each"


def _counted(queues: LaneQueues, rounds: list[int]) -> None:
    """Notes how many rounds each write of these queues ends."""
    commit_all = queues.commit_all

    def counted(commits: Any) -> Any:
        rounds.append(len(commits))
        return commit_all(commits)

    queues.commit_all = counted  # type: ignore[method-assign]


def test_shards_share_the_bound_of_pushes_on_the_wire(wherever: ShardedFleet) -> None:
    """One busy shard may have all of it."""
    fleet = wherever
    users = [name for number in range(400) if shard_of(4, fleet.app, name := f"p{number}") == 2][
        :40
    ]
    fleet.take_in(*map(fleet.phone, users))
    fleet.through(*(fleet.chat(user, f"b-{user}") for user in users))
    fleet.stages.in_flight_max = 64
    queues, calls = fleet.runtime.shards[2].lane_queues, list[int]()
    commit_all = queues.commit_all

    def counted(commits: Any) -> Any:
        calls.append(len(commits))
        return commit_all(commits)

    queues.commit_all = counted  # type: ignore[method-assign]
    fleet.all_sent()
    assert calls == [1], "one round"


def test_a_sender_without_room_looks_at_the_other_shards_when_a_round_ends(
    sharded: ShardedFleet,
) -> None:
    fleet = sharded
    names = [f"p{number}" for number in range(400)]
    users = [
        next(name for name in names if shard_of(4, fleet.app, name) == shard) for shard in range(4)
    ]
    fleet.take_in(*map(fleet.phone, users))
    fleet.through(*(fleet.chat(user, f"w-{user}") for user in users))
    shards_ = fleet.runtime.shards
    sender = delivery.LaneSender(fleet.runtime, Vendor.MEIZU, 1, lambda: False, shards_)
    began, _ = sender.start()
    assert began
    assert sender.passes(), "any round that ends makes room for them"
    fleet.all_sent()


def test_a_full_ledger_of_one_shard_stops_no_other_shard(
    peopled: ShardedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rows of one shard's people wait to be written: their next ones wait, and no others'."""
    fleet = peopled
    fleet.through(*(fleet.chat(user, f"f-{user}") for user in PEOPLE))
    for writer in fleet.writers:
        writer.flush()
    full = fleet.runtime.shards[2]
    monkeypatch.setattr(delivery, "STREAM_MAX", 50)
    with full.redis.pipeline() as pipe:
        for _ in range(60):
            pipe.xadd(full.keys.stream(keys.LEDGER), {"b": encode([])})
        pipe.execute()
    waits = [user for user in PEOPLE if shard_of(4, fleet.app, user) == 2]
    drain = fleet.stages.consumer(DELIVERY, Vendor.MEIZU)
    eventually(
        lambda: len(fleet.meizu.simulator.record.lines()) >= len(PEOPLE) - len(waits),
        60,
        lambda: drain(lambda: False),
        "the other shards are sent from",
    )
    assert 0 < len(waits) == shards.waiting(fleet.runtime, f"{fleet.app}:meizu:m1")
    fleet.write()
    fleet.all_sent()
    assert len(fleet.meizu.simulator.record.lines()) == len(PEOPLE)


class SliceOfShard:
    """A drain that counts its slices and takes as long as it is told to."""

    progress_at = 0.0

    def __init__(self) -> None:
        self.count, self.over = 0, threading.Event()
        self.over.set()

    def __call__(self, stopping: Callable[[], bool]) -> None:
        del stopping
        self.count += 1
        assert self.over.wait(60.0)


def test_a_call_does_not_wait_for_another_shards_slice() -> None:
    busy, idle = SliceOfShard(), SliceOfShard()
    drains = ShardConsumers(cast(Any, [busy, idle]))
    busy.over.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(drains, lambda: False)
        for count in (1, 2, 3):
            end = time.monotonic() + 30.0
            while idle.count < count:
                assert time.monotonic() < end, "a shard that was done is called again"
                time.sleep(0.005)
            began = time.monotonic()
            drains(lambda: False)  # another wake-up
            assert time.monotonic() - began < 30, "it does not keep its slot"
        assert not first.done()
        busy.over.set()
        first.result(30)


def test_a_backup_has_each_key_of_every_shard_once_and_knows_where_it_goes(
    peopled: ShardedFleet,
) -> None:
    fleet = peopled
    fleet.pause("m1", True)
    fleet.take_in(*(fleet.chat(user, f"b-{user}") for user in PEOPLE))
    root = fleet.runtime.settings.key_root
    named = [(one, name) for one in fleet.runtime.shards for name in own_names(one)]
    names = fleet.runtime.redis.scan_iter(match=f"{root}:*")
    kept = {name for name in names if b":queue:" in name or b":badge:" in name or b":ev:" in name}
    assert kept
    assert kept <= {name for _, name in named}
    assert len({name for _, name in named}) == len(named)
    assert all(place(fleet.runtime, name, root) == (one.redis, name) for one, name in named)


def test_nobody_without_a_phone_has_two_rows_though_a_group_is_read_anew(
    wherever: ShardedFleet,
) -> None:
    """As after a restart of the core's server between two pages."""
    fleet, crowd = wherever, [f"c{number}" for number in range(900)]
    lease = JointLease(fleet.runtime.redis, [one.keys for one in fleet.runtime.shards], "ledger")
    assert lease.hold()
    fleet.writers[0].begin(lease)  # it knows pages
    fleet.members("g", crowd)
    prefix = fleet.runtime.settings.key_prefix
    for user in crowd:
        key = f"{prefix}presence:{{{fleet.app}:{user}}}"
        fleet.runtime.core.hset(key, "pc", f"foreground|windows|{now_ms() + 600_000}")
    fleet.take_in(fleet.group("g", "g1"))
    home = fleet.runtime.shards[shard_of_group(4, fleet.app, "g")]
    waiting: Any = home.redis.xrange(home.keys.stream(keys.presence(Urgency.GROUP)))
    ((_, fields),) = waiting
    (message,) = decode_messages(fields[b"b"])
    anew = msgspec.structs.replace(message, cursor=5, cursor_of="another", pages=2)
    home.streams.hand_on((), [(keys.presence(Urgency.GROUP), encode([anew]))])
    fleet.route()
    fleet.write()
    sql = text("SELECT users FROM pages JOIN events USING (day, app, event_id) WHERE app = :app")
    with fleet.runtime.engine.connect() as connection:
        found = [
            name
            for (users,) in connection.execute(sql, {"app": fleet.app})
            for name in unpack_users(users)
        ]
    assert sorted(found) == sorted(crowd)
