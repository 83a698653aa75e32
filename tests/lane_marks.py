"""Marks that a round writes beside its entries, written by the same commit."""

from collections.abc import Sequence
from typing import Any

import redis

from common.model import Urgency
from common.storage.keys import Keys
from common.storage.lane_entries import LaneCommit, Taken
from common.storage.lane_queues import LaneQueues


def write_marks(
    client: redis.Redis,
    keys: Keys,
    *marks: tuple[str, Sequence[str], Any],
    counts: Sequence[str] = (),
) -> None:
    """marks: (kind, the mark's own keys, its values) each, see lane_commit.lua. No entry ends.

    counts: hashes of the counts of the person whom all of them name.
    """
    commit = LaneCommit()
    shared = [commit.share(counts)] if counts else []
    for kind, names, values in marks:
        commit.mark(kind, names, *values, *shared)
    assert (
        LaneQueues(client, keys).commit(Taken("a:apns:b", Urgency.CHAT, "", "go", 0), commit) == []
    )
