"""Every lane as people see it: one row each, in the contract's shape (§9, `lanes`), for the command line and the console."""

from __future__ import annotations

from typing import Any

from workers.runtime import Runtime


def lane_rows(runtime: Runtime) -> list[dict[str, Any]]:
    """[{app, vendor, business_id, env, state, why, guard, rate, rate_now, inflight, parked, quotas}], paused lanes as `paused`."""
    return [_row(runtime, key) for key in sorted(runtime.catalog.now.lanes)]


def _row(runtime: Runtime, key: tuple[str, Any, str]) -> dict[str, Any]:
    lane = runtime.catalog.now.lanes[key]
    state = runtime.lane_states.peek(lane.id)
    return {
        "app": lane.credential.app,
        "vendor": lane.vendor.value,
        "business_id": lane.credential.business_id,
        "env": lane.credential.options.get("env"),
        "state": "paused" if lane.paused else state.state,
        "why": "" if lane.paused else state.why,
        "guard": runtime.guard.stopped(lane.id),
        "rate": lane.limits.rate_per_s,
        "rate_now": lane.limits.rate_per_s,
        "inflight": None,
        "parked": runtime.delayed.parked_count(lane.id),
        "quotas": [],
    }
