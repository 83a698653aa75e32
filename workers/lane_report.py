"""Every lane as people see it, for the command line and the console: state, speed, what waits, what is left of the vendor's day."""

from __future__ import annotations

from typing import Any

from common.clock import now_ms
from workers.delivery.lane import Lane
from workers.gate import rate_shown, terms_of
from workers.runtime import Runtime


def lanes_of(runtime: Runtime, app: str | None = None) -> list[Lane]:
    """In the order of tenant, vendor, account; one tenant's or all."""
    found = runtime.catalog.now.lanes
    return [found[key] for key in sorted(found) if app is None or key[0] == app]


def lane_row(runtime: Runtime, lane: Lane) -> dict[str, Any]:
    """As contract §9. inflight, parked: pushes. rate_now is 0 while the vendor's Retry-After holds the lane."""
    credential, terms = lane.credential, terms_of(lane, now_ms())
    return {
        "app": credential.app,
        "vendor": credential.vendor,
        "business_id": credential.business_id,
        "env": credential.options.get("env"),
        "state": "paused" if lane.paused else runtime.lane_states.peek(lane.id).state,
        "rate": lane.limits.rate_per_s,
        "rate_now": rate_shown(lane, terms, runtime.admission.rate_now(terms)),
        "inflight": runtime.admission.in_flight(lane.id),
        "parked": runtime.lane_queues.waiting(lane.id),
        "queue_bytes": runtime.lane_queues.bytes_of([lane.id])[lane.id],
        "quotas": quota_rows(runtime, lane),
    }


def quota_rows(runtime: Runtime, lane: Lane) -> list[dict[str, Any]]:
    """limit null: unlimited, `used` then counts attempts. runs_out_ms: when it will be spent at today's pace, null if not today."""
    return [
        {"bucket": usage.bucket, "used": usage.used, "limit": usage.limit, "runs_out_ms": usage.runs_out_ms}
        for usage in runtime.admission.usage(terms_of(lane, now_ms()))
    ]


def console_rows(runtime: Runtime) -> list[dict[str, Any]]:
    """The same with what only people ask: `why` a lane is stopped, and whether its token guard has stopped the retiring (`guard`)."""
    return [
        {
            **lane_row(runtime, lane),
            "why": "" if lane.paused else runtime.lane_states.peek(lane.id).why,
            "guard": runtime.guard.stopped(lane.id),
        }
        for lane in lanes_of(runtime)
    ]
