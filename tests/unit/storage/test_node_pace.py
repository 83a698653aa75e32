"""The bucket of an XMPP node: so many at once, then one by one; equal words once; each node its
own.
"""

import pytest
import redis

from common.storage.keys import Keys
from common.storage.node_pace import NODE_BURST, NODE_EACH_MS, NodePace, NodeTurn


@pytest.fixture
def pace(redis_client: redis.Redis, space: str) -> NodePace:
    return NodePace(redis_client, Keys(f"push{space}"))


def test_a_bucket_a_node_and_equal_words_once(pace: NodePace) -> None:
    assert pace.take("a", "w", folds=True) is NodeTurn.GO
    assert pace.take("a", "w", folds=True) is NodeTurn.SAME
    assert pace.take("b", "w", folds=True) is NodeTurn.GO
    pace.forget("a", "w")
    assert pace.take("a", "w", folds=True) is NodeTurn.GO
    turns = [pace.take("a", str(number), folds=True) for number in range(NODE_BURST)]
    assert turns[: NODE_BURST - 2] == [NodeTurn.GO] * (NODE_BURST - 2)
    assert turns[-1] is NodeTurn.EMPTY
    assert pace.take("a", "call", folds=True, rings=True) is NodeTurn.GO
    assert pace.take("b", "x", folds=False) is NodeTurn.GO


def test_one_more_after_its_time_whatever_folds(pace: NodePace, redis_client: redis.Redis) -> None:
    while pace.take("c", "w", folds=False) is NodeTurn.GO:
        pass
    key = pace._keys.push_node("c")
    left_ms = redis_client.pttl(key)
    redis_client.set(key, int(redis_client.get(key) or 0) - NODE_EACH_MS, px=left_ms)
    assert [pace.take("c", "w", folds=False) for _ in range(2)] == [NodeTurn.GO, NodeTurn.EMPTY]
    assert 0 < redis_client.pttl(key) <= NODE_BURST * NODE_EACH_MS
