"""Event ids in plain commands: what they tell and write is what dedupe.lua tells and writes, and
two readers never both call one new.
"""

import random
import threading
import time
from typing import Any

import pytest
import redis

from common.storage.keys import Keys
from common.storage.marks import EVENTS_MAX, FEW, EventMarks, MessageTime
from common.storage.redis import connect

HALF_DAY_S = 43_200


def marks_of(client: redis.Redis, space: str, *, by_script: bool) -> EventMarks:
    marks = EventMarks(client, Keys(f"{space}:"))
    if by_script:
        marks._plain._met_until = float("inf")
    return marks


def written(client: redis.Redis, space: str) -> dict[str, dict[bytes, bytes]]:
    """The hashes by their names, without the seconds; each has an end."""
    found: dict[str, Any] = {}
    for key in client.scan_iter(f"{space}:*"):
        assert 0 < client.ttl(key) <= 4 * HALF_DAY_S
        name = key.decode().removeprefix(space)
        fields: Any = client.hgetall(key)
        found[name] = {
            field: value if ":ts:" in name else value[:8] for field, value in fields.items()
        }
    return found


@pytest.mark.parametrize("seed", range(6))
def test_both_ways_tell_and_write_the_same(
    redis_client: redis.Redis, space: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    ways = {way: marks_of(redis_client, f"{space}{way}", by_script=way == "s") for way in "ps"}
    began = time.time()
    for number in range(25):
        if draw.random() < 0.3:
            now = began + draw.choice([-1, 0, 1, 2]) * HALF_DAY_S
            monkeypatch.setattr("common.storage.marks.time.time", lambda now=now: now)
        app_and_id = [
            (draw.choice("ab"), f"e{draw.randrange(60)}") for _ in range(draw.choice([1, 5, 40]))
        ]
        events = [
            (*one, f"s/{number - draw.choice([0, 0, 1])}-{place // 3}")
            for place, one in enumerate(app_and_id)
        ]
        times: dict[int, MessageTime] = {
            place: (app, "c2c:x", event_id, 1_700_000_000_000 + number)
            for place, (app, event_id, _) in enumerate(events)
            if draw.random() < 0.6
        }
        told = {way: marks.repeats(events, times) for way, marks in ways.items()}
        assert told["p"] == told["s"]
    assert written(redis_client, f"{space}p") == written(redis_client, f"{space}s") != {}


@pytest.mark.parametrize("by_script", [False, True])
def test_the_largest_read_is_told_whole(
    redis_client: redis.Redis, space: str, by_script: bool
) -> None:
    marks = marks_of(redis_client, space, by_script=by_script)
    names = [f"e{number}" for number in range(EVENTS_MAX + 1)]
    times = {place: ("a", "c2c:x", name, 5) for place, name in enumerate(names)}
    assert marks.repeats([("a", name, "s/1-1") for name in names], times) == [False] * len(names)
    assert marks.repeats([("a", name, "s/2-1") for name in names]) == [True] * len(names)
    assert len(marks.times_of([one[:3] for one in times.values()])) == len(names)


def test_a_reader_alone_needs_no_script(redis_client: redis.Redis, space: str) -> None:
    marks = marks_of(redis_client, space, by_script=False)
    before = redis_client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    first = [("a", f"e{number}", f"s/1-{number}") for number in range(FEW + 1)]
    again = [("a", f"e{number}", f"s/2-{number}") for number in range(FEW + 1)]
    assert not any(marks.repeats(first, {0: ("a", "c2c:x", "m1", 5)}))
    assert not any(marks.repeats(first))
    assert all(marks.repeats(again))
    assert redis_client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"] == before


def test_an_event_alone_costs_six_commands(redis_client: redis.Redis, space: str) -> None:
    """Their script among them, once it is known that the hashes end; plain commands were ten."""
    marks, cost = marks_of(redis_client, space, by_script=False), 0
    for number in range(3):
        before = redis_client.info("stats")["total_commands_processed"]
        times = {0: ("a", "c2c:x", f"m{number}", 5)}
        assert marks.repeats([("a", f"e{number}", f"s/1-{number}")], times) == [False]
        cost = redis_client.info("stats")["total_commands_processed"] - before - 1
    assert cost <= 6
    assert len(written(redis_client, space)) == 2, "and both end"


def test_two_readers_at_once_never_both_call_an_event_new(redis_url: str, space: str) -> None:
    """Each meets the other's writes between its look and its own."""
    events = [[f"e{round_}-{number}" for number in range(50)] for round_ in range(40)]
    new: list[list[str]] = [[], []]
    start = threading.Barrier(2)

    def reads(reader: int) -> None:
        marks = marks_of(connect(redis_url), space, by_script=False)
        for names in events:
            start.wait(60)
            marks._plain._met_until = float("-inf")  # each time anew
            told = marks.repeats([("a", name, f"s/{reader}-{name}") for name in names])
            new[reader] += [name for name, repeat in zip(names, told, strict=True) if not repeat]

    readers = [threading.Thread(target=reads, args=(reader,)) for reader in (0, 1)]
    for one in readers:
        one.start()
    for one in readers:
        one.join(60)
    assert sorted(new[0] + new[1]) == sorted(name for names in events for name in names)


def test_who_met_another_writer_leaves_it_to_the_script(
    redis_client: redis.Redis, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (marks_of(redis_client, space, by_script=False) for _ in range(2))
    look = mine._plain._look

    def met(*args: object) -> object:
        told = look(*args)  # type: ignore[arg-type]
        other.repeats([("a", "e1", "s/1-0")])
        return told

    monkeypatch.setattr(mine._plain, "_look", met)
    more = [("a", f"more{number}", f"s/4-{number}") for number in range(FEW)]
    told = mine.repeats([("a", "e1", "s/2-0"), ("a", "e2", "s/3-0"), *more])
    assert told == [True, False, *[False] * FEW]
    assert other.repeats([("a", "e2", "s/4-0")]) == [True]


def test_a_full_server_takes_no_event_id(redis_client: redis.Redis, space: str) -> None:
    marks = marks_of(redis_client, space, by_script=False)
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError):
            marks.repeats([("a", "e1", "s/1-0")])
    finally:
        redis_client.config_set("maxmemory", 0)
    assert marks.repeats([("a", "e1", "s/2-0")]) == [False]
