"""Usual chats to people of several shards on one server: one read, one round, each shard's own
writes.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from common.clock import now_ms
from common.config import Settings
from common.contracts import AlikeBatch, read_batch
from common.ledger_records import EventColumns, RowColumns, decode_records
from common.model import Urgency, Vendor
from common.storage.joint_lanes import Place
from common.storage.keys import LEDGER
from common.storage.lane_entries import LaneTerms, NewBatch, Taken
from common.storage.shards import shard_of
from common.storage.streams import GROUP
from tests.builders import device_of, stored_credential
from tests.integration.delivery.conftest import most_in_a_second
from tests.integration.delivery.test_together import Apns
from tests.integration.shards.conftest import PEOPLE, ShardedFleet
from tests.ledger_writers import begin_upkeep
from tests.simulator_keys import ec_key, pem_of
from tests.waiting import eventually
from workers.app import DELIVERY
from workers.handlers.delivery import LaneSender
from workers.handlers.joint_parts import AlikePart, SpreadPart
from workers.handlers.joint_rounds import JointRounds
from workers.runtime import Runtime
from workers.shards import any_left
from workers.transport.engine import Http2Transport

SHARDS = 4


@pytest.fixture
def apns(tmp_path: Path) -> Iterator[Apns]:
    with Apns("apns", tmp_path / "apns") as running:  # type: ignore[no-untyped-call]
        yield running


class Iphones(ShardedFleet):
    """A fleet with an account of Apple's; each of PEOPLE has an iPhone."""

    def __init__(self, runtime: Runtime, apns: Apns) -> None:
        super().__init__(runtime, apns)
        options = {"topic": "com.example.im", "env": "production"}
        options |= {"key_id": "ABCDEFGHIJ", "team_id": "ABCDEFGHIK"}
        secrets = {"p8": pem_of(ec_key())}
        runtime.credentials.add(
            stored_credential(self.app, Vendor.APNS, "ios", options=options, secrets=secrets)
        )
        runtime.catalog.changed()
        begin_upkeep(runtime)  # rows may come in columns
        self.tokens = {user: uuid.uuid4().hex + uuid.uuid4().hex for user in PEOPLE}
        self.take_in(*map(self.iphone, PEOPLE))
        self.drain = self.stages.consumer(DELIVERY, Vendor.APNS)

    def iphone(self, user: str) -> dict[str, Any]:
        data = device_of(user, device_id="d", platform="ios", vendor="apns", business_id="ios")
        return self.event("device.registered", {**data, "token": self.tokens[user]})

    def lane_of(self, shard: int) -> str:
        return self.runtime.shards[shard].keys.lane_holders(f"{self.app}:apns:ios")

    def chats(self, word: str) -> None:
        self.take_in(*(self.chat(user, f"{word}-{user}") for user in PEOPLE))

    def decisions(self, word: str) -> Counter[tuple[str | None, ...]]:
        """Of each of PEOPLE the decisions of their rows."""
        return Counter(tuple(self.rows(f"{word}-{user}").get(user, ())) for user in PEOPLE)


@pytest.fixture
def iphones(own_settings: Callable[..., Settings], apns: Apns) -> Iterator[Iphones]:
    where = {"ENDPOINT_APNS_PRODUCTION": apns.base, "CA_FILE": str(apns.ca), "SHARDS": str(SHARDS)}
    fleet = Iphones(Runtime(own_settings(**where), role="test"), apns)
    yield fleet
    fleet.runtime.close()


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards of each round of one lane that was sent as one."""
    found, conclude = list[int](), SpreadPart.conclude

    def noted(self: SpreadPart, *args: Any) -> None:
        found.append(len(self.each))
        conclude(self, *args)

    monkeypatch.setattr(SpreadPart, "conclude", noted)
    return found


def sent(fleet: Iphones) -> None:
    eventually(
        lambda: not any_left(fleet.runtime),
        60,
        lambda: fleet.drain(lambda: not any_left(fleet.runtime)),
    )


def test_a_lane_in_four_shards_is_sent_as_one(iphones: Iphones, rounds: list[int]) -> None:
    core = iphones.runtime.core

    def transactions() -> int:
        return int(core.info("commandstats")["cmdstat_exec"]["calls"])

    before = transactions()
    iphones.chats("a")
    assert transactions() - before <= 4, "not one a shard and step"
    assert all(
        iphones.runtime.redis.exists(one.keys.lane_blobs(f"{iphones.app}:apns:ios"))
        for one in iphones.runtime.shards
    )
    sent(iphones)
    assert rounds == [4]
    assert iphones.decisions("a") == {("accepted",): len(PEOPLE)}
    assert set(iphones.shown().values()) == {1}
    iphones.chats("b")
    sent(iphones)
    badges = {line["body"]["aps"]["badge"] for line in iphones.meizu.simulator.record.lines()}
    assert badges == {1, 2}, "each person's number is in their shard"


def test_what_apple_refuses_ends_in_its_shard(iphones: Iphones, rounds: list[int]) -> None:
    gone = PEOPLE[3]
    iphones.meizu.door("tokens", **{iphones.tokens[gone]: {"reason": "Unregistered"}})
    iphones.chats("a")
    sent(iphones)
    assert rounds == [4]
    assert iphones.rows(f"a-{gone}")[gone] == ["token_dead"]
    assert iphones.decisions("a") == {("accepted",): len(PEOPLE) - 1, ("token_dead",): 1}
    iphones.take_in(iphones.chat(gone, "again"))
    sent(iphones)
    assert iphones.runtime.devices.of_users(iphones.app, [gone]).get(gone) is None


def test_entries_that_another_has_taken_meanwhile_are_left_to_it(
    iphones: Iphones, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    holders, begin = iphones.lane_of(2), Http2Transport.begin
    redis_ = iphones.runtime.redis

    def taken_over(self: Http2Transport, *args: Any) -> Any:
        for entry in redis_.hkeys(holders):
            redis_.hset(holders, entry, "another")
        return begin(self, *args)

    monkeypatch.setattr(Http2Transport, "begin", taken_over)
    iphones.chats("a")
    theirs = {user for user in PEOPLE if shard_of(4, iphones.app, user) == 2}
    eventually(lambda: rounds, 30, lambda: iphones.drain(lambda: bool(rounds)))
    expected = {("accepted",): len(PEOPLE) - len(theirs), (): len(theirs)}
    eventually(lambda: iphones.decisions("a") == expected, 30)
    lane = f"{iphones.app}:apns:ios"
    found = [one.lane_queues.bytes_of([lane])[lane] > 0 for one in iphones.runtime.shards]
    assert found == [False, False, True, False]


def test_a_lane_whose_results_break_in_all_shards_is_told_alone(
    iphones: Iphones, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written and counted with it, of other lanes, goes on."""
    over = list[str]()

    def breaks(*_args: Any) -> Any:
        raise ValueError("no result")

    def written(self: JointRounds, endings: Sequence[Any], ends: Sequence[Any]) -> None:
        over.append("written")
        write(self, endings, ends)

    write = JointRounds._write_all
    with monkeypatch.context() as broken:
        broken.setattr(AlikePart, "ending", breaks)
        broken.setattr(JointRounds, "_write_all", written)
        iphones.chats("a")
        sent(iphones)
    assert (rounds, over) == ([4], ["written"])


def test_a_lane_at_its_rate_is_sent_at_its_rate(iphones: Iphones, rounds: list[int]) -> None:
    iphones.runtime.credentials.set_limits(iphones.app, "apns", "ios", {"rate": 30})
    iphones.runtime.catalog.changed()
    iphones.runtime.catalog.fresh()
    iphones.chats("a")
    sent(iphones)
    assert iphones.decisions("a") == {("accepted",): len(PEOPLE)}
    times = sorted(line["at_ms"] for line in iphones.meizu.simulator.record.lines())
    assert most_in_a_second(times) <= 33


def test_a_read_for_many_shards_makes_no_list_of_its_entries(iphones: Iphones) -> None:
    """As in one shard (open_reads.py): the list costs the server as much as all else."""
    iphones.chats("a")
    source = iphones.intake._source
    assert source.reads_open
    assert iphones.runtime.core.xpending(iphones.stream, GROUP)["pending"] == 0
    assert iphones.runtime.core.xlen(iphones.stream) == 0


def records(fleet: Iphones, kind: type) -> list[Any]:
    """Those of this kind on the ledger's streams of all shards."""
    found = [
        record
        for one in fleet.runtime.shards
        for _, fields in cast(Any, fleet.runtime.redis.xrange(one.keys.stream(LEDGER)))
        for record in decode_records(fields[b"b"])
    ]
    return [record for record in found if isinstance(record, kind)]


def test_usual_chats_of_all_shards_share_their_form_and_their_records(
    iphones: Iphones, rounds: list[int]
) -> None:
    iphones.write()
    iphones.chats("a")
    (events,) = records(iphones, EventColumns)
    assert len(events.event_ids) == len(PEOPLE)
    lane, redis_ = f"{iphones.app}:apns:ios", iphones.runtime.redis
    blobs = [
        blob
        for one in iphones.runtime.shards
        for blob in cast(Any, redis_.hvals(one.keys.lane_blobs(lane)))
    ]
    likes = [batch.like for batch in map(read_batch, blobs) if isinstance(batch, AlikeBatch)]
    assert len(likes) == len(blobs) == SHARDS
    assert all(like == likes[0] for like in likes), "so that one round has one form"
    sent(iphones)
    (rows,) = records(iphones, RowColumns)
    assert sorted(rows.users) == sorted(PEOPLE)
    assert rounds == [SHARDS]
    assert iphones.decisions("a") == {("accepted",): len(PEOPLE)}


def called(fleet: Iphones, do: Callable[[], object]) -> Counter[str]:
    """The commands meanwhile, those of scripts too."""

    def told() -> Counter[str]:
        found = cast(Any, fleet.runtime.redis.info("commandstats"))
        return Counter({name: one["calls"] for name, one in found.items()})

    before = told()
    do()
    return told() - before


def taken(fleet: Iphones, *places: Place) -> list[Taken]:
    terms = LaneTerms(rate_per_s=1_000, burst=1_000)
    assert isinstance(fleet.drain, LaneSender)
    return fleet.drain.lanes.take([(place, terms, 100) for place in places], 10.0)


def test_what_is_one_for_a_lane_is_asked_once_a_take(iphones: Iphones) -> None:
    lane = f"{iphones.app}:apns:ios"
    iphones.chats("a")
    one = called(iphones, lambda: taken(iphones, (lane, Urgency.CHAT, 0)))
    more = called(
        iphones, lambda: taken(iphones, *[(lane, Urgency.CHAT, shard) for shard in (1, 2, 3)])
    )
    own = ("cmdstat_zrem", "cmdstat_zadd", "cmdstat_hincrby")
    assert [more[name] for name in own] == [3 * one[name] for name in own] == [3, 3, 3]
    # the breaker, the rate, what waits before, the batches; the rate's note and the holders
    assert (one["cmdstat_hmget"], more["cmdstat_hmget"]) == (4, 2 + 3 * 2)
    assert (one["cmdstat_hset"], more["cmdstat_hset"]) == (2, 1 + 3)


def test_a_stopped_lane_is_probed_by_one_push_whatever_shards_it_waits_in(
    iphones: Iphones,
) -> None:
    lane, keys = f"{iphones.app}:apns:ios", iphones.runtime.keys
    iphones.chats("a")
    stopped = {"state": "stopped", "why": "unavailable", "until": "0"}
    iphones.runtime.redis.hset(keys.lane(lane), mapping=cast(Any, stopped))
    found = taken(iphones, *[(lane, Urgency.CHAT, shard) for shard in range(SHARDS)])
    assert [one.what for one in found] == ["probe", "shut", "shut", "shut"]
    assert [len(one.entries) for one in found] == [1, 0, 0, 0]


def test_calls_of_one_shard_lease_before_chats_of_another(iphones: Iphones) -> None:
    lane, first = f"{iphones.app}:apns:ios", iphones.runtime.shards[0]
    iphones.chats("a")
    call = NewBatch(lane, Urgency.CALL, b"call", 1, 1, now_ms() + 60_000)
    with iphones.runtime.redis.pipeline(transaction=True) as pipe:
        first.lane_queues.put(pipe, [call])
        pipe.execute()
    places = [(lane, Urgency.CHAT, 3), (lane, Urgency.CALL, 0), (lane, Urgency.CHAT, 1)]
    assert [one.what for one in taken(iphones, *places)] == ["go", "go", "wait"]
