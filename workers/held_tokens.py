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
from workers.delivery.lane import Lane
from workers.delivery.results import Delivered
from workers.delivery.settle import Retire
from workers.delivery.work import PendingPush
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def accepted_by_cohort(done: Delivered, lane: Lane, now: int) -> Counter[str]:
    """The number of a round's accepted pushes per cohort."""
    targets = [
        work.target for work, outcome in done.outcomes if outcome.verdict is Verdict.ACCEPTED
    ]
    versions = [target.app_version for target in targets]
    return by_cohort(versions, [target.registered_ms for target in targets], lane, now)


def by_cohort(
    app_versions: Sequence[str | None], registered_ms: Sequence[int], lane: Lane, now: int
) -> Counter[str]:
    """The number of tokens per cohort, given the app's version and the registration of each."""
    version, new_ms = lane.credential.version, now - NEW_MS
    if registered_ms and max(registered_ms) <= new_ms:  # of old tokens one time stands for all
        return Counter({cohort_of(version, None, 0, now): len(registered_ms)})
    both = zip(app_versions, registered_ms, strict=True)
    ages = Counter([(name, since) if since > new_ms else (None, 0) for name, since in both])
    found = Counter[str]()
    for (app_version, since_ms), number in ages.items():
        found[cohort_of(version, app_version, since_ms, now)] += number
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
