"""What a vendor folds within a minute says nothing of the day; silent pushes are spaced for Apple's
devices only.
"""

import json

from common.model import Vendor
from tests.integration.web.conftest import APP, call, message, registered
from tests.integration.web.test_receipts import publish, pushed
from tests.waiting import eventually
from workers.cli.why import message_trace


def limits(simulators, **wanted):
    call(f"{simulators['control']['meizu']}/_sim/limits", json.dumps(wanted).encode())


def test_a_push_that_meizu_folds_leaves_the_devices_day_open(runtime, tenant, simulators, fleet):
    limits(simulators, device_per_minute=1)
    try:
        decided = [
            pushed(fleet, runtime, "meizu", {"fay": "live-fold"}, message_id=f"f{n}")["fay"][
                "decision"
            ]
            for n in range(2)
        ]
    finally:
        limits(simulators, device_per_minute=0)  # as for all tests: their devices share tokens
    again = pushed(fleet, runtime, "meizu", {"fay": "live-fold"}, message_id="f2")["fay"]
    assert (decided, again["decision"]) == (["accepted", "folded"], "accepted")


def test_silent_pushes_close_together_go_to_other_vendors_devices(
    runtime, tenant, simulators, fleet
):
    publish(runtime, registered("sam", "sam-phone", Vendor.HUAWEI, "live-silent"))
    fleet.step()

    def decided(number):
        event = message(f"s{number}", ["sam"], "c2c")
        event["data"]["push"] = {"push_type": "silent", "data": {"ext": "sync"}}
        publish(runtime, event)

        def look():
            fleet.step()
            told = message_trace(runtime, f"s{number}", APP, None, None)
            return told and told["recipients"] and told["recipients"][0]["decision"]

        return eventually(look)

    assert [decided(n) for n in range(2)] == ["accepted"] * 2
