"""Foreign tokens on hold (guard.py): retired where their cohort works, or released."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from common import metrics
from common.clock import now_ms
from common.model import Verdict
from common.storage.bindings import digest_of
from common.storage.guard import NEW_MS, Held, cohort_of
from workers.delivery import deliver as delivery
from workers.delivery.lane import Lane
from workers.delivery.settle import Retire
from workers.delivery.work import PendingPush
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def accepted_by_cohort(done: delivery.Delivered, lane: Lane, now: int) -> Counter[str]:
    """The number of a round's accepted pushes per cohort."""
    tokens = [
        ((target := work.target).app_version, target.registered_ms)
        for work, outcome in done.outcomes
        if outcome.verdict is Verdict.ACCEPTED
    ]
    return by_cohort(tokens, lane, now)


def by_cohort(tokens: Sequence[tuple[str | None, int]], lane: Lane, now: int) -> Counter[str]:
    """The number of these tokens per cohort. tokens: (app version, time of registration)."""
    version, new_ms = lane.credential.version, now - NEW_MS
    if (
        tokens and max([registered_ms for _, registered_ms in tokens]) <= new_ms
    ):  # of old tokens one time stands for all
        return Counter({cohort_of(version, None, 0, now): len(tokens)})
    ages = Counter([token if token[1] > new_ms else (None, 0) for token in tokens])
    found = Counter[str]()
    for (app_version, registered_ms), number in ages.items():
        found[cohort_of(version, app_version, registered_ms, now)] += number
    return found


def held(one: Retire, lane: Lane, now: int) -> Held:
    """A foreign token of a round in the form of the hold."""
    work: PendingPush = one.work
    target = work.target
    cohort = cohort_of(lane.credential.version, target.app_version, target.registered_ms, now)
    digest = digest_of(str(lane.vendor), lane.credential.business_id, target.token)
    return Held(cohort, target.user, target.device, digest, target.registered_ms, one.reason)


def decide_held(runtime: Runtime) -> int:
    """One look at every lane that has tokens on hold. How many were retired."""
    lanes = {lane.id: lane for lane in runtime.catalog.now.lanes.values()}
    count = 0
    for lane_id in runtime.guard.lanes_with_held():
        lane = lanes.get(lane_id)
        decided = runtime.guard.decide(
            lane_id, lane.credential.version if lane is not None else -1, now_ms()
        )
        runtime.guard.release(lane_id, decided.forget)
        if lane is None or not decided.retire:
            continue
        retired = runtime.devices.retire_held(lane.credential.app, decided.retire)
        runtime.guard.release(lane_id, decided.retire)
        if retired:
            metrics.TOKENS_RETIRED.labels(lane.vendor).inc(retired)
        count += retired
    return count
