"""What is to be forwarded to a shard that is away comes back as fast as it is worked off."""

import contextlib

from redis.exceptions import RedisError

from common.storage import keys
from tests.cluster import Node, ValkeyCluster
from tests.integration.cluster.test_shards_away import ILL, Fleet, alone, fleet, town, victim
from tests.waiting import wait_for
from workers.handlers.forwarding import out_entries
from workers.pipeline import forwarding_of

__all__ = ["alone", "fleet", "town", "victim"]

COUNT = 600


def test_a_backlog_for_a_shard_that_was_away_is_forwarded_in_one_slice(
    town: Fleet, alone: ValkeyCluster, victim: Node
) -> None:
    home, ill = town.runtime, town.runtime.shards[ILL]
    stream = keys.STAGE_STREAMS["presence"][2]
    out, forwarding = keys.OUT[2], forwarding_of(home)
    forwarding(lambda: False)
    ill.redis.ping()
    victim.kill()
    for _ in range(COUNT):
        home.redis.xadd(home.keys.stream(out), {b"b": out_entries([(ILL, stream, b"x")])[0][1]})

    def released() -> bool:
        with contextlib.suppress(RedisError, OSError):
            forwarding(lambda: False)
        found = home.streams.backlog([out])[out]
        return found.unread == 0 and found.pending == COUNT

    wait_for(released, "all are read and wait", 60)
    alone.revive()
    wait_for(alone.healthy, "the cluster is whole")

    def answers() -> bool:
        with contextlib.suppress(RedisError, OSError):
            return bool(ill.redis.ping())
        return False

    wait_for(answers, "the shard is back", 30)
    forwarding._reclaim_at = 0.0  # its pause is over
    forwarding(lambda: False)
    assert ill.redis.xlen(ill.keys.stream(stream)) == COUNT
    assert home.redis.xlen(home.keys.stream(out)) == 0
