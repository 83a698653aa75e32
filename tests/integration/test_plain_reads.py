"""The core's streams read by plain commands where they hold little: the same entries, and never
many large ones at once.
"""

import time
from collections.abc import Sequence

import pytest
import redis
from redis.exceptions import ResponseError

from common.storage import plain_reads
from common.storage.keys import Keys
from common.storage.redis import connect
from common.storage.streams import GROUP, READ_BYTES_MAX, CoreStreams, Entry

LIMIT, KEPT = 10_000, 4_000


class Core:
    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.redis = client
        self.name = keys.stream("core")
        self.streams = CoreStreams(client, keys, LIMIT, KEPT)
        self.streams.make(self.name)

    def put(self, *texts: bytes) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for text in texts:
                pipe.xadd(self.name, {"e": text})
            pipe.execute()

    def read(self, count: int, bytes_max: int = READ_BYTES_MAX) -> list[Entry]:
        return self.streams.read_weighted({self.name: count}, bytes_max)

    def scripts(self) -> int:
        told = self.redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
        return int(told["calls"])

    def reads_plainly(self, count: int) -> Sequence[Entry]:
        """Reads so many; without a script."""
        before = self.scripts()
        found = self.read(count)
        assert self.scripts() == before
        return found


@pytest.fixture
def core(redis_client: redis.Redis, space: str) -> Core:
    return Core(redis_client, Keys(f"{space}:"))


def test_a_backlog_of_little_is_read_without_a_script(core: Core) -> None:
    core.put(*(b"%d" % number for number in range(400)))
    found = list(core.read(100))
    for _ in range(3):
        found += core.reads_plainly(100)
    assert [entry.blob for entry in found] == [b"%d" % number for number in range(400)]
    assert not core.read(100)


def test_both_ways_give_the_same_entries(core: Core, redis_url: str) -> None:
    odd: list[dict[bytes, bytes]] = [
        {b"e": b"x"},
        {b"e": b""},
        {b"e": b"x" * (LIMIT - 1)},
        {b"e": b"x" * LIMIT},
        {b"b": b"x" * 30_000, b"d": b"y" * 5_000},
        {b"d": b"nim", b"e": b"x"},
        {b"other": b"x" * 20_000},
        {b"%d" % number: b"x" * 300 for number in range(60)},
        {b"b": b"line", b"s": b"1"},
    ]
    core.put(*[b"-"] * 100)
    before = core.read(100)[-1].id
    with core.redis.pipeline(transaction=False) as pipe:
        for fields in odd:
            pipe.xadd(core.name, fields)  # type: ignore[arg-type]
        pipe.execute()
    plain = core.reads_plainly(100)
    core.redis.xgroup_setid(core.name, GROUP, before)
    by_script = CoreStreams(connect(redis_url), core.streams.keys, LIMIT, KEPT).read_weighted(
        {core.name: 100}
    )
    assert by_script == plain
    found = [entry.size > 0 for entry in plain]
    assert found == [False, False, False, True, True, False, True, True, False]


def test_many_large_ones_behind_little_are_never_read_at_once(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_reads, "PLAIN_BYTES_MAX", 1_000_000)
    core.put(*[b"x"] * 200)
    core.read(100)
    core.reads_plainly(50)
    core.put(*[b"x" * 100_000] * 60)
    time.sleep(plain_reads.RELIED_S)  # what is written within that time may come along
    found: list[Entry] = []
    while len(found) < 110:
        found += (some := core.read(500, 100_000))
        assert sum(len(entry.blob) for entry in some) <= 100_000 + KEPT
    assert [entry.size for entry in found if entry.size] == [100_001] * 60


def test_large_ones_among_little_count_by_their_mean(core: Core) -> None:
    """A reader that wants 2 MB does not take 16 because they are there."""
    core.put(*[b"x" * 9_000] * 300)
    core.read(100, 10_000_000)
    assert len(core.read(200, 500_000)) <= 70


def test_a_lost_group_is_made_again(core: Core) -> None:
    core.put(*[b"x"] * 300)
    core.read(100)
    core.redis.xgroup_destroy(core.name, GROUP)
    with pytest.raises(ResponseError):
        core.read(100)
    assert len(core.read(500)) == 300


def test_a_server_that_tells_no_memory_is_read_by_scripts(core: Core, redis_url: str) -> None:
    core.redis.execute_command("ACL", "SETUSER", "plain", "on", "nopass", "~*", "+@all", "-memory")
    as_plain = redis_url.replace("//default:", "//plain:")  # a name in the URL wins
    assert as_plain != redis_url
    client = redis.Redis.from_url(as_plain)
    try:
        shy = Core(client, core.streams.keys)
        shy.put(*[b"x"] * 300)
        before = core.scripts()
        assert [len(shy.read(100)) for _ in range(4)] == [100, 100, 100, 0]
        assert core.scripts() >= before + 4
    finally:
        core.redis.execute_command("ACL", "DELUSER", "plain")
        client.close()
