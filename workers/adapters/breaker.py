"""Delivery's port of breakers over the lanes' states, and what a process says of a change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from common import metrics
from common.clock import now_ms
from common.model import Decision
from common.storage import lanes as lane_store
from common.storage.admission import Admission
from common.storage.redis import best_effort
from workers.delivery.causes import in_words, whose_fault
from workers.delivery.lane import Lane
from workers.delivery.ports import BreakerOpen, BreakerProbe, RoundReport
from workers.gate import terms_of

log = logging.getLogger(__name__)


class FleetBreaker:
    def __init__(
        self,
        store: lane_store.LaneStates,
        admission: Admission,
        lane_ids: Callable[[], Sequence[str]],
    ) -> None:
        """lane_ids: of all lanes, to tell one vendor's failure from a common one."""
        self._store = store
        self._admission = admission
        self._lane_ids = lane_ids

    def open_for(self, lane: Lane) -> BreakerProbe | BreakerOpen | None:
        if lane.paused:
            return BreakerOpen(Decision.LANE_PAUSED)
        state = self._store.ask(lane.id, lane.credential.version)
        if state.state == lane_store.FLOWING:
            return None
        why = Decision(state.why or Decision.UNAVAILABLE)
        return BreakerProbe(why) if state.probe else BreakerOpen(why)

    def report(self, lane: Lane, found: RoundReport) -> None:
        refused, failed = found.refused, found.failed
        cause = found.cause or ("credential" if refused else "unknown" if failed else "")
        with best_effort("how a round went"):
            if found.throttled or found.retry_after_s:
                hold_s = found.retry_after_s or 0
                self._admission.slow_down(
                    terms_of(lane, now_ms()), throttled=found.throttled > 0, hold_s=hold_s
                )
            version = lane.credential.version
            state = self._store.tell(lane.id, version, found.good, failed, refused, cause)
            if state is not None:
                self._log_changed(lane, state, cause if state != lane_store.FLOWING else "")

    def _log_changed(self, lane: Lane, state: str, cause: str) -> None:
        """Logs and counts each change with its cause; also how many lanes have stopped."""
        ids = self._lane_ids()
        last = [
            change
            for change in self._store.last_changes(ids)
            if change and change.state == lane_store.STOPPED
        ]
        log_lane_changed(
            lane, state, cause, whose_fault([change.cause for change in last], len(ids))
        )


def log_lane_changed(lane: Lane, state: str, cause: str, hint: str = "") -> None:
    """In the log and as pushfleet_lane_changes_total."""
    credential = lane.credential
    metrics.LANE_CHANGES.labels(credential.vendor, state, cause or metrics.NONE).inc()
    words = f"lane {credential.vendor} {credential.business_id} of {credential.app} "
    words += (
        "flows again"
        if state == lane_store.FLOWING
        else f"{state}: {in_words('', cause)}" + (f" ({hint})" if hint else "")
    )
    extra = {
        "app": credential.app,
        "vendor": credential.vendor,
        "business_id": credential.business_id,
        "reason": cause or "none",
    }
    log.log(logging.INFO if state == lane_store.FLOWING else logging.WARNING, words, extra=extra)
