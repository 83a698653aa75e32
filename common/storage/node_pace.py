"""How many pushes of an XMPP node may go (Redis, seconds): one of equal words, and a bucket of
tokens a node.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, cast

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

#: Equal words of a node within this time are one push.
FOLD_MS: Final = 2_000
#: A node's bucket: so many at once, then one more in so many ms.
NODE_BURST: Final = 30
NODE_EACH_MS: Final = 1_000


class NodeTurn(IntEnum):
    GO = 0
    SAME = 1
    EMPTY = 2


class NodePace:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._take = script(redis, "node_take")

    def take(self, node: str, words: str, *, folds: bool, rings: bool = False) -> NodeTurn:
        """May this push go? words: a digest of what it says; folds: equal words are one push;
        rings: no bucket stops it.
        """
        names = [self._keys.push_node(node), self._keys.push_text(node, words)]
        reply = self._take(
            keys=names, args=[0 if rings else NODE_BURST, NODE_EACH_MS, FOLD_MS if folds else 0]
        )
        return NodeTurn(cast(Any, reply))

    def forget(self, node: str, words: str) -> None:
        """The push did not go after all: the same words may."""
        self._redis.delete(self._keys.push_text(node, words))
