"""Queries over all shards of a fleet; with one shard, that shard's own answer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.config import Settings
from common.model import Vendor
from common.storage.away import SlotAwayError
from common.storage.delayed import Delayed
from common.storage.keys import Keys
from common.storage.lane_loads import Load
from common.storage.lane_queues import LaneQueues
from common.storage.shards import JointStreams
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
    """The shards of a fleet. joint_streams: all shards' streams where they are on one server: then
    one question is about all of them; None: each has to be asked.
    """

    @property
    def shards(self) -> Sequence[Shard]: ...
    @property
    def joint_streams(self) -> JointStreams | None: ...


@dataclass(frozen=True, slots=True)
class Answering:
    """The shards of a fleet that answer now, a Fleet of its own. away: the numbers of the others,
    of which nothing is known; never shard 0, without which no fleet works.
    """

    shards: Sequence[Shard]
    joint_streams: JointStreams | None
    away: Sequence[int] = ()


def answering(fleet: Fleet) -> Answering:
    """Asks each shard of a cluster. Raises the error of shard 0."""
    if fleet.joint_streams is not None or len(fleet.shards) == 1:
        return Answering(fleet.shards, fleet.joint_streams)
    well, away = list[Shard](), list[int]()
    for number, one in enumerate(fleet.shards):
        try:
            one.streams.redis.ping()
            well.append(one)
        except (RedisConnectionError, RedisTimeoutError, SlotAwayError, OSError):
            if not number:
                raise
            away.append(number)
    return Answering(well, None, away)


def backlog(fleet: Fleet, streams: Sequence[str]) -> dict[str, StreamDepth]:
    """Depth of each stream in all shards."""
    joint = fleet.joint_streams
    if joint is None:
        return _depths([one.streams.backlog(streams) for one in fleet.shards])
    names = joint.names_of(streams)
    found = joint.backlog([*names])
    return _depths([{names[name]: depth} for name, depth in found.items()])


def any_filled(fleet: Fleet, streams: Sequence[str]) -> bool:
    """True when one of these streams has an entry in any shard, taken or not."""
    joint = fleet.joint_streams
    if joint is None:
        return any(one.streams.any_filled(streams) for one in fleet.shards)
    return joint.any_filled([*joint.names_of(streams)])


def untaken_s(fleet: Fleet, streams: Sequence[str]) -> dict[str, float]:
    """The longest wait of each stream's first unread entry, seconds."""
    joint = fleet.joint_streams
    if joint is None:
        return _longest([one.streams.untaken_s(streams) for one in fleet.shards])
    names = joint.names_of(streams)
    return _longest([{names[name]: waited} for name, waited in joint.untaken_s([*names]).items()])


def forget_dead_readers(fleet: Fleet, streams: Sequence[str], idle_ms: int) -> None:
    """As StreamStore.forget_all_dead_readers, in all shards."""
    joint = fleet.joint_streams
    if joint is not None:
        joint.forget_all_dead_readers([*joint.names_of(streams)], idle_ms)
        return
    for one in fleet.shards:
        one.streams.forget_all_dead_readers(streams, idle_ms)


#: The content of each shard's lanes, where the caller has it.
Loads: TypeAlias = Sequence[Mapping[str, Load]] | None


def lanes_loads(fleet: Fleet) -> Sequence[Mapping[str, Load]]:
    """By shard the content of its lanes that hold something."""
    queues = [one.lane_queues for one in fleet.shards]
    if fleet.joint_streams is not None:
        return queues[0].all_loads(queues)
    return [own.loads(own.loaded()) for own in queues]


def lanes_backlog(fleet: Fleet, loads: Loads = None) -> dict[str, StreamDepth]:
    """As LaneQueues.backlog."""
    return _depths([one.lane_queues.backlog(held) for one, held in _each(fleet, loads)])


def lanes_untaken_s(fleet: Fleet, loads: Loads = None) -> dict[Vendor, float]:
    """As LaneQueues.untaken_s."""
    if fleet.joint_streams is not None:
        queues = [one.lane_queues for one in fleet.shards]
        return _longest(queues[0].all_untaken_s(queues, loads))
    return _longest([one.lane_queues.untaken_s(held) for one, held in _each(fleet, loads)])


def _each(fleet: Fleet, loads: Loads) -> Iterable[tuple[Shard, Mapping[str, Load] | None]]:
    nothing: Sequence[Mapping[str, Load] | None] = [None] * len(fleet.shards)
    return zip(fleet.shards, loads or nothing, strict=True)


def bytes_of_lanes(fleet: Fleet) -> dict[str, int]:
    """Bytes in the queues of each lane that holds something."""
    found: dict[str, int] = {}
    for loads in lanes_loads(fleet):
        for lane, load in loads.items():
            found[lane] = found.get(lane, 0) + load.bytes
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
    if fleet.joint_streams is not None:
        queues = [one.lane_queues for one in fleet.shards]
        return queues[0].due_vendors_in(queues, vendors)
    return list(
        dict.fromkeys(
            vendor for one in fleet.shards for vendor in one.lane_queues.due_vendors(vendors)
        )
    )


def delayed_waiting(fleet: Fleet) -> tuple[int, int | None]:
    """The number of delayed entries, and when the first is due, ms; None: there is none."""
    each = [one.delayed for one in fleet.shards]
    if fleet.joint_streams is not None:
        return each[0].all_waiting(each)
    told = [one.all_waiting([one]) for one in each]
    return sum(count for count, _ in told), min(
        (ms for _, ms in told if ms is not None), default=None
    )


def delayed_count(fleet: Fleet) -> int:
    return delayed_waiting(fleet)[0]


def delayed_oldest_ms(fleet: Fleet) -> int | None:
    return delayed_waiting(fleet)[1]


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
