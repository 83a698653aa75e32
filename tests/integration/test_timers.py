"""One timer for the shards of a server: none of them holds up another."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from common.config import Settings
from tests.integration.conftest import opened
from workers.maintenance.timer import LOOKS_S, ShardTimers, Timer
from workers.runtime import Runtime

SHARDS = 4


@pytest.fixture
def runtime(keyed: Settings) -> Iterator[Runtime]:
    with opened(replace(keyed, shards=SHARDS)) as made:
        yield made


def test_a_shard_whose_turn_fails_leaves_the_others_theirs(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, looked = ShardTimers(runtime), set[int]()
    places = {id(one): place for place, one in enumerate(timers._timers)}
    monkeypatch.setattr(Timer, "_look", lambda one: looked.add(places[id(one)]))

    def broken() -> set[str]:
        raise OSError("its dead letter finds no room")

    monkeypatch.setattr(timers._timers[0].lanes, "release", broken)
    runtime.redis.zadd(runtime.shards[0].keys.delayed, {b"x": 1})
    with pytest.raises(OSError, match="no room"):
        timers.turn()
    assert looked == set(range(SHARDS))
    alone = Timer(runtime.shards[0])
    places[id(alone)] = SHARDS
    monkeypatch.setattr(alone.lanes, "release", broken)
    with pytest.raises(OSError, match="no room"):
        alone.turn()
    assert SHARDS in looked, "on a full server the look is what makes room"


def test_long_looks_share_a_turn_and_take_turns(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, looked = ShardTimers(runtime), list[int]()
    places = {id(one): place for place, one in enumerate(timers._timers)}

    def long(one: Timer) -> None:
        looked.append(places[id(one)])
        time.sleep(LOOKS_S)

    monkeypatch.setattr(Timer, "_look", long)
    turns = []
    for _ in range(2 * SHARDS):
        began = time.monotonic()
        timers.turn()
        turns.append(time.monotonic() - began)
    assert sorted(turns)[SHARDS] < 2 * LOOKS_S, "what is due waits for one look, not for all"
    assert set(looked) == set(range(SHARDS))
