"""Rate limit of an XMPP node (Redis, seconds): a token bucket; equal texts are one push."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, cast

from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import script

#: Equal texts of a node within this time are one push.
FOLD_MS: Final = 2_000
#: A node's bucket: the burst, and the ms per further push.
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
        """Decides whether this push may go. words: a digest of its text.

        folds: equal texts are one push; rings: no bucket stops it.
        """
        names = [self._keys.push_node(node), self._keys.push_text(node, words)]
        reply = self._take(
            keys=names, args=[0 if rings else NODE_BURST, NODE_EACH_MS, FOLD_MS if folds else 0]
        )
        return NodeTurn(cast(Any, reply))

    def forget(self, node: str, words: str) -> None:
        """Forgets a push that did not go: the same text may go."""
        self._redis.delete(self._keys.push_text(node, words))
