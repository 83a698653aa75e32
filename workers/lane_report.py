"""Every lane for the command line and the console: state, speed, backlog, remaining quota."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.clock import now_ms
from common.storage.lanes import FLOWING, PAUSED, STOPPED, LaneChange, LaneState, hold_in
from common.values import BothWords
from workers import shards
from workers.delivery.causes import OPERATOR, WORDS, in_words, whose_fault
from workers.delivery.lane import Lane
from workers.gate import rate_shown, terms_of
from workers.runtime import Runtime


def lanes_of(runtime: Runtime, app: str | None = None) -> list[Lane]:
    """In the order of tenant, vendor, account; one tenant's or all."""
    found = runtime.catalog.now.lanes
    return [found[key] for key in sorted(found) if app is None or key[0] == app]


def lane_rows(runtime: Runtime, lanes: Sequence[Lane]) -> list[dict[str, Any]]:
    """As contract §9. inflight, parked: pushes. rate_now is 0 while the vendor's Retry-After holds
    the lane.
    """
    states, fleet = lane_status(runtime, lanes), shards.answering(runtime)
    return [_row(runtime, fleet, lane, one) for lane, one in zip(lanes, states, strict=True)]


def _row(runtime: Runtime, fleet: shards.Fleet, lane: Lane, status: LaneStatus) -> dict[str, Any]:
    credential, terms = lane.credential, terms_of(lane, now_ms())
    return {
        "app": credential.app,
        "vendor": credential.vendor,
        "business_id": credential.business_id,
        "env": credential.options.get("env"),
        **status.shown(),
        "rate": lane.limits.rate_per_s,
        "rate_now": rate_shown(lane, terms, runtime.admission.rate_now(terms)),
        "inflight": runtime.admission.in_flight(lane.id),
        "parked": shards.waiting(fleet, lane.id),
        "queue_bytes": shards.bytes_of_lane(fleet, lane.id),
        "quotas": quota_rows(runtime, lane),
    }


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """state: flowing|probing|stopped|paused. why: a text for people, None while it flows.

    since_ms: of this state, or of this cause. decision: of its pushes when they expire, "" while it
    flows. cause: of workers/delivery/causes.py, "" as before.
    """

    state: str
    why: BothWords | None
    since_ms: int
    decision: str = ""
    cause: str = ""

    def shown(self) -> dict[str, Any]:
        """As contract §9."""
        why = str(self.why) if self.why else None
        return {"state": self.state, "why": why, "since_ms": self.since_ms}


def lane_status(runtime: Runtime, lanes: Sequence[Lane]) -> list[LaneStatus]:
    """The status of each lane, in a few round trips for all.

    The text mentions the network where it stops most lanes of the fleet.
    """
    everybody = list(runtime.catalog.now.lanes.values())
    ids = [lane.id for lane in lanes]
    found = zip(
        lanes, runtime.lane_states.peek_all(ids), runtime.lane_states.last_changes(ids), strict=True
    )
    last = runtime.lane_states.last_changes([lane.id for lane in everybody])
    stopped = [change.cause for change in last if change is not None and change.state == STOPPED]
    hint = BothWords(*(whose_fault(stopped, len(everybody), lang) for lang in ("en", "zh")))
    held = [lane.id for lane in lanes if lane.paused]
    holds = dict(zip(held, map(hold_in, runtime.lane_states.histories(held)), strict=True))
    return [
        _status(lane, state, holds.get(lane.id) or change, hint) for lane, state, change in found
    ]


def _status(lane: Lane, state: LaneState, change: LaneChange | None, hint: BothWords) -> LaneStatus:
    # the version is the time at which the account was stored
    began = change.at_ms if change is not None else lane.credential.version
    if lane.paused:
        return LaneStatus(PAUSED, _words("", OPERATOR), began, "lane_paused", OPERATOR)
    if state.state == FLOWING:
        return LaneStatus(FLOWING, None, began)
    cause = change.cause if change is not None and change.state == STOPPED else ""
    if not cause:
        return LaneStatus(state.state, BothWords(state.why, state.why), began, state.why, cause)
    own = hint if cause in WORDS and WORDS[cause][1] else BothWords("", "")
    words = _words(state.why, cause)
    en = f"{state.why}: {words.en}" + (f" ({own.en})" if own.en else "")
    zh = f"{state.why}：{words.zh}" + (f"（{own.zh}）" if own.zh else "")
    return LaneStatus(state.state, BothWords(en, zh), began, state.why, cause)


def _words(why: str, cause: str) -> BothWords:
    return BothWords(in_words(why, cause, "en"), in_words(why, cause, "zh"))


def quota_rows(runtime: Runtime, lane: Lane) -> list[dict[str, Any]]:
    """limit null: unlimited, `used` then counts attempts. runs_out_ms: when it will be spent at
    today's pace, null if not today.
    """
    return [
        {
            "bucket": usage.bucket,
            "used": usage.used,
            "limit": usage.limit,
            "runs_out_ms": usage.runs_out_ms,
        }
        for usage in runtime.admission.usage(terms_of(lane, now_ms()))
    ]


def console_rows(runtime: Runtime, lang: str = "en") -> list[dict[str, Any]]:
    """The rows with the data for people only.

    The cause in both languages (`reason`, None while it flows), True for a suspended retirement
    (`guard`), the last changes (`history`).
    """
    lanes, fleet = lanes_of(runtime), shards.answering(runtime)
    histories = runtime.lane_states.histories([lane.id for lane in lanes], 5)
    return [
        {
            **_row(runtime, fleet, lane, status),
            "why": getattr(status.why, lang) if status.why else "",
            "reason": status.why,
            "guard": runtime.guard.stopped(lane.id),
            "history": [
                (one.at_ms, one.state, in_words(one.why, one.cause, lang) if one.why else "")
                for one in history
            ],
        }
        for lane, status, history in zip(lanes, lane_status(runtime, lanes), histories, strict=True)
    ]
