"""What was recalled under the release before stays recalled after the upgrade, in its own
conversation only.
"""

from typing import Any

from common.clock import now_ms
from common.storage.claims import ClaimRequest, ClaimState
from common.storage.keys import CALL
from tests.records import event_record
from workers.maintenance.recalls import Recalls
from workers.runtime import Runtime

APP = "old"


def lease(runtime: Runtime, message: str, conversation: str, ts_ms: int) -> tuple[Any, str]:
    push_id = f"{abs(hash(message)):032x}"
    (claim,) = runtime.claims.lease(
        [ClaimRequest(APP, message, "u", "d", push_id, ts_ms, "e1", -1, conversation)]
    )
    return claim.state, claim.why


def test_marks_of_the_release_before_stop_what_they_stopped(runtime: Runtime) -> None:
    now = now_ms()
    named = {"app": APP, "ts_ms": now, "received_ms": now}
    events = [
        event_record(**named, event_id="e1", message_id="m1", conversation="c2c:bob"),
        event_record(**named, event_id="e2", message_id="c1", type="call.invited"),
        event_record(**named, event_id="e3", message_id="m2", conversation="c2c:bob"),
    ]
    runtime.ledger.write(events)
    for message, why in (("m1", "recalled"), ("c1", "call_ended"), ("unknown", "recalled")):
        runtime.redis.set(f"{runtime.keys.revoked_marks}{APP}:{message}", why, ex=600)
    Recalls(runtime).turn()
    assert lease(runtime, "m1", "c2c:bob", now) == (ClaimState.REVOKED, "recalled")
    assert lease(runtime, "m2", "c2c:bob", now) == (ClaimState.OURS, "")
    assert runtime.redis.exists(runtime.keys.revoked(APP, CALL, "c1"))
    assert runtime.redis.exists(f"{runtime.keys.revoked_marks}{APP}:m1"), (
        "workers of that release ask for it"
    )
