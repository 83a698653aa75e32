"""Usual chats to people of several shards on one server: one read, one round, each shard's own
writes.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.config import Settings
from common.model import Vendor
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
from workers.handlers.joint_parts import AlikePart, SpreadPart
from workers.handlers.joint_rounds import JointRounds
from workers.runtime import Runtime
from workers.shards import any_left
from workers.transport.engine import Http2Transport


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
    where = {"ENDPOINT_APNS_PRODUCTION": apns.base, "CA_FILE": str(apns.ca), "SHARDS": "4"}
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
