"""A fleet of several shards on a cluster without replicas, one primary of which is away: the other
shards go on, and nothing of it is lost once it is back.
"""

import contextlib
import dataclasses
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.config import Settings
from common.ledger_records import PageRecord, RowRecord, decode_records, unpack_users
from common.storage import keys
from common.storage.away import ASK_EVERY_S, UNWANTED_S, SlotAwayError
from common.storage.redis import SOCKET_TIMEOUT_S
from common.storage.shards import shard_of, shard_of_group
from common.storage.streams import GROUP
from tests.builders import device_of
from tests.cluster import Node, ValkeyCluster, valkey_cluster
from tests.integration.conftest import opened
from tests.integration.test_core_elsewhere import Core
from tests.records import records_of
from tests.waiting import wait_for
from workers.app import PRESENCE, ROUTING
from workers.cli.worker import intake_loop
from workers.handlers import spread_intake
from workers.handlers.intake import IntakeLoop
from workers.handlers.shard_part import AT_ONCE
from workers.pipeline import Stages
from workers.runtime import Runtime

SHARDS = 8
#: Whose node is away in these tests; another one's than shard 0's.
ILL = 2


@pytest.fixture(scope="module")
def alone() -> Iterator[ValkeyCluster]:
    """Three primaries without replicas, each of which serves on without the others."""
    with valkey_cluster(replicas=False) as running:
        for node in running.nodes:
            node.say("CONFIG", "SET", "cluster-require-full-coverage", "no")
        yield running


@pytest.fixture
def fleet(keyed: Settings, redis_url: str, alone: ValkeyCluster) -> Iterator[Runtime]:
    """One process of eight shards; the core's Redis is another one."""
    urls = {"redis_url": alone.url(), "core_url": redis_url, "broker_url": redis_url}
    with opened(dataclasses.replace(keyed, shards=SHARDS, **urls)) as found:
        yield found


@pytest.fixture
def victim(alone: ValkeyCluster) -> Iterator[Node]:
    found = alone.owner(f"{{s{ILL}}}")
    assert alone.owner("{s0}") is not found
    yield found
    with contextlib.suppress(ProcessLookupError):
        found.send(signal.SIGCONT)
    alone.revive()
    wait_for(alone.healthy, "the cluster is whole")


class Fleet:
    """People who are online, who get a row at intake, and what of it which shard has."""

    def __init__(self, runtime: Runtime, alone: ValkeyCluster, victim: Node) -> None:
        self.core, self.runtime = Core(runtime), runtime
        self.ill = {k for k in range(SHARDS) if alone.owner(f"{{s{k}}}") is victim}
        assert len(self.ill) > 1, "more than one of its shards"
        until = int(time.time() * 1000) + 600_000
        self.people = [f"u{number}" for number in range(40)]
        for user in self.people:
            key = f"{self.core.prefix}presence:{{{self.core.app}:{user}}}"
            runtime.core.hset(key, "d", f"foreground|ios|{until}")

    def is_ill(self, user: str) -> bool:
        return shard_of(SHARDS, self.core.app, user) in self.ill

    def chats(self, count: int, people: Sequence[str] = ()) -> dict[str, str]:
        """Published chats, each to one person: the event's id and who it is to."""
        found = {}
        for number in range(count):
            identity = uuid.uuid4().hex
            event = self.core.chat(identity)
            event["data"]["recipients"] = [
                found.setdefault(
                    identity, (people or self.people)[number % len(people or self.people)]
                )
            ]
            self.core.put(event)
        return found

    def rows(self, *, well: bool) -> Counter[str]:
        """Outcomes by event in the shards that are well, or in all."""
        each = [one for k, one in enumerate(self.runtime.shards) if not (well and k in self.ill)]
        found = Counter[str]()
        for one in each:
            for _, fields in one.redis.xrange(one.keys.stream(keys.LEDGER)):
                records = decode_records(fields[b"b"])
                found.update(r.event_id for r in records if isinstance(r, RowRecord))
        return found

    def outcomes(self) -> dict[str, list[str]]:
        """By event, in all shards."""
        found: dict[str, list[str]] = {}
        for one in self.runtime.shards:
            for record in records_of(one.redis, one.keys.stream(keys.LEDGER)):
                if isinstance(record, RowRecord):
                    found.setdefault(record.event_id, []).append(str(record.decision))
        return found

    @staticmethod
    def of(chats: dict[str, str], user: str) -> set[str]:
        return {identity for identity, one in chats.items() if one == user}

    def well(self, chats: dict[str, str]) -> set[str]:
        return {identity for identity, user in chats.items() if not self.is_ill(user)}


@pytest.fixture
def town(fleet: Runtime, alone: ValkeyCluster, victim: Node) -> Fleet:
    return Fleet(fleet, alone, victim)


def turned(intake: IntakeLoop) -> None:
    """As its process does."""
    with contextlib.suppress(RedisError, OSError):
        intake.once(block_ms=10)


def wait_turning(intake: IntakeLoop, look: Callable[[], object], what: str) -> None:
    def turn() -> object:
        turned(intake)
        return look()

    wait_for(turn, what, 60)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_intake_serves_the_shards_that_are_well_and_keeps_the_others_entries(
    town: Fleet, alone: ValkeyCluster, victim: Node, how: signal.Signals
) -> None:
    intake = intake_loop(town.runtime)
    first = town.chats(40)
    wait_turning(intake, lambda: set(first) <= set(town.rows(well=False)), "all are well")
    victim.send(how)
    sent = town.chats(2 * AT_ONCE)
    wait_turning(intake, lambda: town.well(sent) <= set(town.rows(well=True)), "the well go on")
    more = town.chats(40)  # read after the shard was known to be away
    wait_turning(intake, lambda: town.well(more) <= set(town.rows(well=True)), "the well go on")
    waiting = len({**sent, **more}) - len(town.well({**sent, **more}))
    assert town.runtime.core.xpending(town.core.stream, GROUP)["pending"] == waiting
    if how == signal.SIGKILL:
        alone.revive()
    else:
        victim.send(signal.SIGCONT)
    wait_turning(intake, lambda: not town.runtime.core.xlen(town.core.stream), "all is taken in")
    rows = town.rows(well=False)
    assert {rows[one] for one in (*first, *sent, *more)} == {1}


def test_the_bytes_of_packed_entries_that_wait_are_bounded(
    town: Fleet, alone: ValkeyCluster, victim: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread_intake, "WAITING_BYTES_MAX", 100_000)
    intake, core = intake_loop(town.runtime), town.core
    turned(intake)
    victim.kill()
    user = next(user for user in town.people if town.is_ill(user))
    events = [core.chat(uuid.uuid4().hex) for _ in range(60)]
    for event in events:
        event["data"]["recipients"] = [user]
    for start in range(0, 60, 20):  # about 8 kB each
        core.put(*events[start : start + 20], field="b")
        wait_turning(intake, lambda: not unread(town), "it is read")
    monkeypatch.setattr(spread_intake, "WAITING_BYTES_MAX", 10_000)
    core.put(*events[:1], field="b")
    for _ in range(3):
        turned(intake)
    assert unread(town) == 1, "nothing more is read"
    alone.revive()
    wait_turning(intake, lambda: not town.runtime.core.xlen(core.stream), "all is taken in")
    rows = town.rows(well=False)
    assert {rows[event["id"]] for event in events} == {1}


def unread(town: Fleet) -> int:
    core = town.runtime.core
    read = core.xpending(town.core.stream, GROUP)["pending"]  # type: ignore[index,call-overload]
    return int(core.xlen(town.core.stream)) - int(read)  # type: ignore[arg-type]


def test_what_waits_for_a_shard_is_given_back_at_the_end(town: Fleet, victim: Node) -> None:
    """Another process takes it over at once, and its attempts do not count."""
    intake = intake_loop(town.runtime)
    turned(intake)
    victim.kill()
    sent = town.chats(40)
    wait_turning(intake, lambda: town.well(sent) <= set(town.rows(well=True)), "the well go on")
    intake.run(lambda: True)
    left = town.runtime.core.xpending_range(town.core.stream, GROUP, "-", "+", 100)
    idle_ms = town.runtime.streams.takeover_idle_ms
    assert len(left) == len(sent) - len(town.well(sent))
    assert all(one["time_since_delivered"] >= idle_ms for one in left)
    assert {one["times_delivered"] for one in left} == {0}


def test_a_process_that_begins_meanwhile_serves_the_shards_that_are_well(
    town: Fleet, alone: ValkeyCluster, victim: Node
) -> None:
    victim.kill()
    made = Runtime(town.runtime.settings, role="test")
    try:
        intake, sent = intake_loop(made), town.chats(40)
        wait_turning(intake, lambda: town.well(sent) <= set(town.rows(well=True)), "they go on")
        alone.revive()
        wait_turning(intake, lambda: not made.core.xlen(town.core.stream), "all is taken in")
    finally:
        made.close()
    rows = town.rows(well=False)
    assert {rows[one] for one in sent} == {1}


@pytest.mark.parametrize("is_ill", [False, True], ids=["well", "ill"])
def test_a_recall_marks_the_shards_that_are_well_and_holds_nobody_up(
    town: Fleet, alone: ValkeyCluster, victim: Node, is_ill: bool
) -> None:
    """It is marked in all shards: until the last one is back, its entry waits alone."""
    intake, app = intake_loop(town.runtime), town.core.app
    turned(intake)
    victim.kill()
    ill = town.chats(1, [user for user in town.people if town.is_ill(user)])
    names = (f"c{number}" for number in range(100))
    own = next(name for name in names if (shard_of_group(SHARDS, app, name) in town.ill) is is_ill)
    town.core.publish(
        "message.recalled", {"message_id": "gone", "conversation": {"type": "c2c", "id": own}}
    )
    chats = town.chats(40)
    wait_turning(intake, lambda: town.well(chats) <= set(town.rows(well=True)), "chats go on")
    name = [one.keys.revoked(app, f"c2c:{own}", "gone") for one in town.runtime.shards]
    each = list(zip(town.runtime.shards, name, strict=True))
    wait_turning(
        intake,
        lambda: all(
            one.redis.exists(key) for k, (one, key) in enumerate(each) if k not in town.ill
        ),
        "it is marked where it can be",
    )
    alone.revive()
    wait_turning(intake, lambda: not town.runtime.core.xlen(town.core.stream), "all is taken in")
    assert all(one.redis.exists(key) for one, key in each)
    assert town.rows(well=False)[next(iter(ill))] == 1


def test_a_chat_waits_behind_its_persons_registration(
    town: Fleet, alone: ValkeyCluster, victim: Node
) -> None:
    """The phone was that of somebody whose shard is away: first that one's word of it is marked
    there. Without it the chat would end, as its person has no device.
    """
    intake, core = intake_loop(town.runtime), town.core
    users = [f"p{number}" for number in range(200)]
    before = next(user for user in users if town.is_ill(user))
    after = next(user for user in users if not town.is_ill(user))
    other = next(user for user in town.people if not town.is_ill(user))
    token = f"a0a0{uuid.uuid4().hex}{uuid.uuid4().hex[4:]}"
    core.publish("device.registered", {**device_of(before, device_id="d"), "token": token})
    turned(intake)
    wait_turning(intake, lambda: not town.runtime.core.xlen(core.stream), "all is taken in")
    victim.kill()
    ill = [town.runtime.shards[k].redis for k in town.ill]
    wait_for(lambda: {*map(refused, ill)} == {SlotAwayError}, "all know that it is away", 30)
    core.publish("device.registered", {**device_of(after, device_id="e"), "token": token})
    sent = town.chats(4, [after, other])
    wait_turning(intake, lambda: town.of(sent, other) <= set(town.rows(well=True)), "others go on")
    late = town.chats(4, [after, other])  # behind what waits since an earlier read
    wait_turning(intake, lambda: town.of(late, other) <= set(town.rows(well=True)), "others go on")
    core.publish("device.unregistered", {"user": after, "device_id": "e"})
    last = town.chats(2, [after, other])
    wait_turning(intake, lambda: town.of(last, other) <= set(town.rows(well=True)), "others go on")
    alone.revive()
    wait_turning(intake, lambda: not town.runtime.core.xlen(core.stream), "all is taken in")
    found = town.outcomes()
    assert town.of(last, after).isdisjoint(found), "there was no device any more"
    mine = town.of(sent, after) | town.of(late, after)
    assert [found.get(one) for one in mine] == [["no_credential"]] * 4


def test_a_group_reaches_its_members_in_the_shards_that_are_well(
    town: Fleet, alone: ValkeyCluster, victim: Node
) -> None:
    core, members = town.core, [f"m{number}" for number in range(600)]
    group = next(
        name
        for name in map(str, range(100))
        if shard_of_group(SHARDS, core.app, name) not in town.ill
    )
    town.runtime.core.sadd(f"{core.prefix}members:{{{core.app}:{group}}}", *members)
    intake, stages = intake_loop(town.runtime), Stages(town.runtime)
    turned(intake)
    victim.kill()
    data = {"message_id": "m", "conversation": {"type": "group", "id": group}}
    words = {"sender": {"id": "boss"}, "elements": [{"type": "text", "text": "hi"}]}
    core.publish("message.stored", {**data, **words})
    well = {name for name in members if not town.is_ill(name)}

    def reached() -> Counter[str]:
        """Outcomes by person in the shards that answer."""
        turned(intake)
        found = Counter[str]()
        for one in town.runtime.shards:
            with contextlib.suppress(RedisError, OSError):
                one.delayed.release_due()
                found.update(people_of(one))
        for stage in (PRESENCE, ROUTING):
            stages.consumer(stage)(lambda: False)
        return found

    wait_for(lambda: well <= set(reached()), "members of the well shards", 60)
    alone.revive()
    wait_for(alone.healthy, "the cluster is whole")
    wait_for(lambda: set(members) <= set(reached()), "all members", 60)
    assert {reached()[name] for name in members} == {1}


def people_of(shard: Runtime) -> Iterator[str]:
    """Who has a row in the shard, once for each."""
    for _, fields in shard.redis.xrange(shard.keys.stream(keys.LEDGER)):
        for record in decode_records(fields[b"b"]):
            if isinstance(record, PageRecord):
                yield from unpack_users(record.users)
            elif isinstance(record, RowRecord):
                yield record.user


def refused(client: redis.Redis) -> type[Exception] | None:
    try:
        client.get("{s2}x")
    except (RedisError, OSError) as error:
        return type(error)
    return None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_commands_of_all_slots_of_a_node_that_is_away_fail_at_once_until_it_answers(
    town: Fleet, alone: ValkeyCluster, victim: Node, how: signal.Signals
) -> None:
    """Refused before anything is sent: the error says so."""
    ill = [town.runtime.shards[k].redis for k in sorted(town.ill)]
    well = [one.redis for k, one in enumerate(town.runtime.shards) if k not in town.ill]
    for client in (*ill, *well):
        client.ping()
    victim.send(how)
    wait_for(lambda: refused(ill[0]) is SlotAwayError, "it is known to be away", 30)
    for client in (*ill, *ill):
        with pytest.raises(SlotAwayError):
            client.ping()
    assert all(client.ping() for client in well)
    if how == signal.SIGKILL:
        alone.revive()
    else:
        victim.send(signal.SIGCONT)
    for client in ill:
        wait_for(lambda own=client: refused(own) is None, "it is back", 30)


def test_a_node_that_nobody_wants_is_asked_no_more(town: Fleet, victim: Node) -> None:
    """And whoever wants it then waits for it by themselves."""
    away, client = town.runtime.away, town.runtime.shards[ILL].redis
    assert away is not None
    client.ping()
    victim.kill()
    wait_for(lambda: refused(client) is SlotAwayError, "it is known to be away", 30)
    wait_for(lambda: away._asker is None, "nobody asks", UNWANTED_S + 30 * ASK_EVERY_S)
    assert refused(client) not in (SlotAwayError, None)


def test_a_user_who_may_not_ask_finds_out_that_a_node_is_back(
    town: Fleet, alone: ValkeyCluster, victim: Node
) -> None:
    for node in alone.nodes:
        node.say("ACL", "SETUSER", "few", "on", ">p", "~*", "&*", "+@all", "-exists")
    settings = dataclasses.replace(town.runtime.settings, redis_url=alone.url("few:p"))
    made = Runtime(settings, role="test")
    try:
        client = made.shards[ILL].redis
        assert refused(client) is None
        victim.send(signal.SIGSTOP)
        wait_for(lambda: refused(client) is SlotAwayError, "it is known to be away", 30)
        victim.send(signal.SIGCONT)
        wait_for(lambda: refused(client) is None, "it is back", 30)
    finally:
        made.close()


def test_a_command_that_waits_in_vain_beside_others_that_are_done_is_no_absence(
    town: Fleet,
) -> None:
    """Nobody is asked, and the connections to its node stay."""
    away, client, ended = town.runtime.away, town.runtime.shards[ILL].redis, threading.Event()
    assert away is not None

    def waits() -> None:
        with pytest.raises(RedisTimeoutError):
            client.blpop([f"{{s{ILL}}}nothing"], timeout=SOCKET_TIMEOUT_S + 5)
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits)
        while not ended.wait(0.01):
            assert refused(client) is None
        assert away._asker is None
        waiting.result()
