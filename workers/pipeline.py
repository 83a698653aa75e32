"""The map of a message's way: streams, handlers and the three Celery tasks that consume them.

Nothing is kept in memory between two reads; a process that dies in the middle leaves entries that
another one claims.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from common.contracts import Device
from common.ledger_records import STREAM_MAX
from common.model import Vendor
from common.storage import keys
from common.storage.people import KnownDevices, Person
from workers.app import DELIVERY, PRESENCE, ROUTING, queue_of, task_of
from workers.delivery import deliver as delivery
from workers.handlers.delivery import LaneSender
from workers.handlers.forwarding import READ as OUT_READ
from workers.handlers.forwarding import READ_BESIDE as OUT_READ_BESIDE
from workers.handlers.forwarding import RECLAIM as OUT_RECLAIM
from workers.handlers.forwarding import Forwarder, Spread
from workers.handlers.presence import PresenceHandler, RoutedAtOnce
from workers.handlers.routing import RoutingHandler
from workers.handlers.shortcut import Shortcut
from workers.handlers.usual_pushes import UsualPushes
from workers.handlers.wire_share import WireShare
from workers.queues.consumer import Handler, Policy, Stores, StreamConsumer
from workers.runtime import Runtime

if TYPE_CHECKING:
    from celery import Celery

#: Entries of one read of the stages before delivery, by urgency; the last one is for the stream of
#: an older version.
READ = (8, 8, 4, 4, 4)
#: While calls and chats come, the others go in small portions between two looks for more of them.
READ_BESIDE = (8, 8, 2, 1, 1)
#: Seconds that intake waits for SQL to look up devices; the rest goes by the presence stream.
PEOPLE_S: Final = 2.0
#: Seconds after which a wake-up that came while no thread waited for it is found.
LOOK_S: Final = 0.5
#: Threads of one stage in a process that serves many shards; with more of them some wait for their
#: turn.
THREADS_MAX: Final = 128


class Stages:
    """The consumers of one process, made once. vendors: the number that it delivers to.

    They share the process's bound of pushes that a kill may double. stopping: it is to end.
    """

    def __init__(
        self, runtime: Runtime, vendors: int = 1, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.runtime = runtime
        self.in_flight_max = delivery.IN_FLIGHT_MAX // vendors
        self.stopping = stopping
        self.consumers: dict[str, StageConsumer] = {}
        self._making = threading.Lock()

    def consumer(self, stage: str, vendor: Vendor | None = None) -> StageConsumer:
        """One a queue, for whichever threads ask."""
        queue = queue_of(stage, vendor)
        with self._making:
            if queue not in self.consumers:
                self.consumers = {**self.consumers, queue: self._make(stage, vendor)}
            return self.consumers[queue]

    def _make(self, stage: str, vendor: Vendor | None) -> StageConsumer:
        if len(self.runtime.shards) == 1:
            return self._of_shard(self.runtime, stage, vendor)
        if vendor is not None and self.runtime.together:
            shards = self.runtime.shards
            return LaneSender(self.runtime, vendor, self.in_flight_max, self.stopping, shards)
        wire = WireShare(self.in_flight_max)
        consumers = [self._of_shard(one, stage, vendor, wire) for one in self.runtime.shards]
        if stage == PRESENCE:
            consumers += map(forwarding_of, self.runtime.shards)
        return ShardConsumers(consumers)

    def _of_shard(
        self, runtime: Runtime, stage: str, vendor: Vendor | None, wire: WireShare | None = None
    ) -> StreamConsumer | LaneSender:
        if stage == PRESENCE:
            routed = RoutedAtOnce(
                routing_of(runtime),
                lambda: runtime.living.replicas(ROUTING),
                runtime.people.sharing,
            )
            handler: Handler = replace(presence_of(runtime), at_once=routed)
            return StreamConsumer(handler, _policy(stage), stores_of(runtime, stage))
        if stage == ROUTING:
            return StreamConsumer(routing_of(runtime), _policy(stage), stores_of(runtime, stage))
        if vendor is None:
            raise ValueError("delivery consumes one vendor's streams")
        return LaneSender(runtime, vendor, self.in_flight_max, self.stopping, wire=wire)


class ShardConsumers:
    """One stage's consumers of all shards in one process, side by side."""

    def __init__(self, consumers: Sequence[StreamConsumer | LaneSender]) -> None:
        self._consumers = consumers
        self._called = threading.Event()
        self._running = threading.Lock()
        self._news = threading.Event()  # a call, or the end of a slice
        # Twice: a consumer that is called during its slice only learns that there is more.
        self._pool = ThreadPoolExecutor(
            min(2 * len(consumers), THREADS_MAX), thread_name_prefix="shard"
        )

    @property
    def progress_at(self) -> float:
        return max(one.progress_at for one in self._consumers)

    def __call__(self, stopping: Callable[[], bool]) -> None:
        """Runs until the slices of all shards have ended, then raises the first error.

        A call during a run is passed on to all shards and returns: an idle shard starts again while
        another one still runs.
        """
        self._called.set()
        self._news.set()
        errors: list[BaseException] = []
        while self._called.is_set() and self._running.acquire(blocking=False):
            try:
                errors += self._slices(stopping)
            finally:
                self._running.release()
        if errors:
            raise errors[0]

    def _slices(self, stopping: Callable[[], bool]) -> list[BaseException]:
        """Runs slices and returns their errors. After the first error no new slice starts."""
        at_work, errors = set[Future[None]](), list[BaseException]()
        while at_work or (self._called.is_set() and not errors):
            self._news.clear()
            if self._called.is_set() and not errors:
                self._called.clear()
                for begun in [self._pool.submit(one, stopping) for one in self._consumers]:
                    at_work.add(begun)
                    begun.add_done_callback(lambda _: self._news.set())
            elif not any(one.done() for one in at_work):
                self._news.wait(LOOK_S)
            done = {one for one in at_work if one.done()}
            errors += [error for one in done if (error := one.exception()) is not None]
            at_work -= done
        return errors


#: One stage's slices of work in this process.
StageConsumer: TypeAlias = StreamConsumer | LaneSender | ShardConsumers


def forwarding_of(runtime: Runtime) -> StreamConsumer:
    """The consumer that forwards a shard's entries to other shards."""
    shards = runtime.shards
    forwarder = Forwarder(
        runtime.streams,
        [one.streams for one in shards],
        lambda shard, *what: shards[shard].send_wake_up(*what),
    )
    stores = Stores(runtime.streams, runtime.delayed, runtime.vault, runtime.send_wake_up)
    policy = Policy(
        PRESENCE,
        OUT_READ,
        beside=[OUT_READ_BESIDE],
        # what was released for a shard that is away comes back as fast as it is worked off
        reclaim_max=OUT_RECLAIM,
        goes_on=lambda: forwarder.forwarded,
    )
    return StreamConsumer(forwarder, policy, stores)


def presence_of(
    runtime: Runtime, wait: Callable[[], AbstractContextManager[None]] | None = None
) -> PresenceHandler:
    return PresenceHandler(
        runtime.members,
        runtime.presence,
        KnownDevices(runtime.people, wait),
        runtime.fanouts,
        spread=spread_of(runtime),
        old_ledger=runtime.old_ledger,
    )


def spread_of(runtime: Runtime) -> Spread | None:
    """The division of people by shard; None with a single shard."""
    return Spread(runtime.settings.shards, runtime.number) if runtime.settings.shards > 1 else None


def routing_of(runtime: Runtime) -> RoutingHandler:
    spread = spread_of(runtime)
    return RoutingHandler(
        runtime.routing, runtime.catalog, runtime.lane_queues, runtime.replies, spread
    )


def shortcut_of(runtime: Runtime) -> Shortcut:
    """Presence and routing within intake's process."""
    routing = routing_of(runtime)
    presence = presence_of(runtime, lambda: runtime.optional_sql(PEOPLE_S))

    def devices(people: Sequence[Person]) -> dict[Person, Device]:
        return runtime.people.plain(people, runtime.optional_sql(PEOPLE_S))

    def workers() -> int:
        return max(map(runtime.living.replicas, (PRESENCE, ROUTING)))

    usual = UsualPushes(
        runtime.presence,
        devices,
        routing,
        lambda: runtime.catalog.now,
        old_ledger=runtime.old_ledger,
    )
    return Shortcut(presence, routing, workers, runtime.people.sharing, usual)


def _policy(stage: str) -> Policy:
    counts, beside = (
        dict(zip(keys.STAGE_STREAMS[stage], each, strict=True)) for each in (READ, READ_BESIDE)
    )
    return Policy(stage, counts, beside=[beside])


def stores_of(runtime: Runtime, stage: str, vendor: Vendor | None = None) -> Stores:
    """The stores of a stage's consumer.

    Delivery reads nothing while the ledger's stream is full.
    """
    streams = runtime.streams
    return Stores(
        streams=streams,
        delayed=runtime.delayed,
        vault=runtime.vault,
        wake=runtime.send_wake_up,
        heard=lambda: runtime.wakes.clear_wake_up(queue_of(stage, vendor)),
        room=lambda: (
            stage != DELIVERY or streams.redis.xlen(streams.keys.stream(keys.LEDGER)) <= STREAM_MAX
        ),
    )


def register(app: Celery, stages: Stages, stopping: Callable[[], bool]) -> None:
    """Puts the three tasks on the app. Their messages carry nothing but, for delivery, the vendor's
    name.
    """

    @app.task(name=task_of(PRESENCE))
    def drain_presence() -> None:
        stages.consumer(PRESENCE)(stopping)

    @app.task(name=task_of(ROUTING))
    def drain_routing() -> None:
        stages.consumer(ROUTING)(stopping)

    @app.task(name=task_of(DELIVERY))
    def drain_delivery(vendor: str) -> None:
        stages.consumer(DELIVERY, Vendor(vendor))(stopping)
