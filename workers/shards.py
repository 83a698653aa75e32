"""Queries over all shards of a fleet; with one shard, that shard's own answer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from redis import Redis

from common.config import Settings
from common.model import Vendor
from common.storage.delayed import Delayed
from common.storage.keys import Keys
from common.storage.lane_loads import Load
from common.storage.lane_queues import LaneQueues
from common.storage.streams import StreamDepth, StreamStore
from common.storage.vault import Vault

T = TypeVar("T", bound=Hashable)


class ServerStores(Protocol):
    """What doors and console use of a fleet, whatever else each of them does."""

    @property
    def settings(self) -> Settings: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def core(self) -> Redis: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def vault(self) -> Vault: ...


class Shard(Protocol):
    """The stores of one shard."""

    @property
    def streams(self) -> StreamStore: ...
    @property
    def delayed(self) -> Delayed: ...
    @property
    def lane_queues(self) -> LaneQueues: ...


class Fleet(Protocol):
    """The shards of a fleet."""

    @property
    def shards(self) -> Sequence[Shard]: ...


def backlog(fleet: Fleet, streams: Sequence[str]) -> dict[str, StreamDepth]:
    """Depth of each stream in all shards."""
    return _depths([one.streams.backlog(streams) for one in fleet.shards])


def any_filled(fleet: Fleet, streams: Sequence[str]) -> bool:
    """True when one of these streams has an entry in any shard, taken or not."""
    return any(one.streams.any_filled(streams) for one in fleet.shards)


def untaken_s(fleet: Fleet, streams: Sequence[str]) -> dict[str, float]:
    """The longest wait of each stream's first unread entry, seconds."""
    return _longest([one.streams.untaken_s(streams) for one in fleet.shards])


#: The content of each shard's lanes, where the caller has it.
Loads: TypeAlias = Sequence[Mapping[str, Load]] | None


def lanes_backlog(fleet: Fleet, loads: Loads = None) -> dict[str, StreamDepth]:
    """As LaneQueues.backlog."""
    return _depths([one.lane_queues.backlog(held) for one, held in _each(fleet, loads)])


def lanes_untaken_s(fleet: Fleet, loads: Loads = None) -> dict[Vendor, float]:
    """As LaneQueues.untaken_s."""
    return _longest([one.lane_queues.untaken_s(held) for one, held in _each(fleet, loads)])


def _each(fleet: Fleet, loads: Loads) -> Iterable[tuple[Shard, Mapping[str, Load] | None]]:
    nothing: Sequence[Mapping[str, Load] | None] = [None] * len(fleet.shards)
    return zip(fleet.shards, loads or nothing, strict=True)


def bytes_of_lanes(fleet: Fleet) -> dict[str, int]:
    """Bytes in the queues of each lane that holds something."""
    found: dict[str, int] = {}
    for one in fleet.shards:
        for lane, size in one.lane_queues.bytes_of(one.lane_queues.loaded()).items():
            found[lane] = found.get(lane, 0) + size
    return found


def bytes_of_lane(fleet: Fleet, lane: str) -> int:
    return sum(one.lane_queues.bytes_of([lane])[lane] for one in fleet.shards)


def waiting(fleet: Fleet, lane: str) -> int:
    """Pushes in a lane's queues, those that are being sent aside."""
    return sum(one.lane_queues.waiting(lane) for one in fleet.shards)


def any_left(fleet: Fleet) -> bool:
    """True when any lane holds something, also retries that are not due."""
    return any(one.lane_queues.any_left() for one in fleet.shards)


def due_vendors(fleet: Fleet, vendors: Sequence[Vendor] = tuple(Vendor)) -> list[Vendor]:
    """Those of the vendors one of whose lanes may send now."""
    return list(
        dict.fromkeys(
            vendor for one in fleet.shards for vendor in one.lane_queues.due_vendors(vendors)
        )
    )


def delayed_count(fleet: Fleet) -> int:
    return sum(one.delayed.waiting_count() for one in fleet.shards)


def delayed_oldest_ms(fleet: Fleet) -> int | None:
    return min(
        (ms for one in fleet.shards if (ms := one.delayed.oldest_due_ms()) is not None),
        default=None,
    )


def _depths(each: Sequence[dict[str, StreamDepth]]) -> dict[str, StreamDepth]:
    if len(each) == 1:
        return each[0]
    found: dict[str, StreamDepth] = {}
    for by_name in each:
        for name, depth in by_name.items():
            known = found.get(name, StreamDepth(0, 0, None))
            oldest = min(
                (ms for ms in (known.oldest_ms, depth.oldest_ms) if ms is not None), default=None
            )
            found[name] = StreamDepth(
                known.unread + depth.unread, known.pending + depth.pending, oldest
            )
    return found


def _longest(each: Sequence[dict[T, float]]) -> dict[T, float]:
    found: dict[T, float] = {}
    for by_name in each:
        for name, seconds in by_name.items():
            found[name] = max(found.get(name, 0.0), seconds)
    return found
