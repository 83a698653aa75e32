"""Watches of the active upkeep: paused or resumed lanes, and unserved Procfile lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from common import metrics
from common.model import Vendor
from common.storage import living
from common.storage.cluster import client_for
from common.storage.lanes import FLOWING, PAUSED, LaneChange, hold_in
from workers.adapters.breaker import log_lane_changed
from workers.delivery.causes import OPERATOR
from workers.delivery.lane import Lane
from workers.gateway.secrets import open_doors
from workers.runtime import Runtime


class PauseWatch:
    """Logs once when a lane is paused or resumed, by any operator, and records what nobody has.

    The state at the first look is no change, but one that was made while nobody looked.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._states = runtime.lane_states
        self._paused: dict[str, bool] = {}

    def look(self, lanes: Sequence[Lane]) -> None:
        before, self._paused = self._paused, {lane.id: lane.paused for lane in lanes}
        turned = [lane for lane in lanes if before.get(lane.id) != lane.paused]
        histories = self._states.histories([lane.id for lane in turned])
        for lane, history in zip(turned, histories, strict=True):
            seen = lane.id in before
            held = hold_in(history) is not None if lane.paused or seen else _looks_held(history)
            if held != lane.paused:
                self._states.hold(lane.id, lane.paused)
            if seen:
                state, cause = (PAUSED, OPERATOR) if lane.paused else (FLOWING, "")
                log_lane_changed(lane, state, cause)


def _looks_held(history: Sequence[LaneChange]) -> bool:
    """As for an older version, whose resumes look like an answer's: of lanes that flow at the first
    look none is recorded again.
    """
    turns = (one.state for one in history if one.state in (PAUSED, FLOWING))
    return next(turns, FLOWING) == PAUSED


def show_missing(runtime: Runtime) -> None:
    """pushfleet_processes_missing: 1 for each required line without a process, 0 for others."""
    vendors = {Vendor(vendor) for _, vendor, _ in runtime.catalog.now.lanes}
    receipts = runtime.settings.receipts_url is not None
    doors = open_doors(one.options for one in runtime.catalog.now.tenants.values())
    wanted = living.missing([], vendors, receipts=receipts, doors=doors)
    roles = runtime.living.roles().values()
    missing = set(living.missing(roles, vendors, receipts=receipts, doors=doors))
    metrics.show(metrics.PROCESSES_MISSING, {(line,): int(line in missing) for line in wanted})


def show_memory(runtime: Runtime) -> None:
    """pushfleet_redis_memory_ratio of the fleet's and the core's server, if INFO is allowed."""
    shared = runtime.settings.core_url == runtime.settings.redis_url
    servers = {
        "fleet": runtime.redis,
        **({} if shared else {"core": client_for(runtime.core, runtime.settings.event_streams[0])}),
    }
    found: dict[tuple[str, ...], float] = {}
    for name, server in servers.items():
        try:
            info: Any = server.info("memory")
        except ResponseError:
            continue
        most = int(info.get("maxmemory", 0))
        found[(name,)] = int(info.get("used_memory", 0)) / most if most else 0.0
    metrics.show(metrics.REDIS_MEMORY, found)
