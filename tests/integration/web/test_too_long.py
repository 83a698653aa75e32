"""A push that a vendor finds too long by its own measure goes once more, as short as it can be; the
second time its word stands.
"""

import json

import pytest

from common.contracts import Attempt
from common.model import Again, Vendor, Verdict
from tests.integration.web.conftest import call
from tests.integration.web.test_receipts import pushed
from tests.unit.vendors.cases import batch, note
from workers.delivery.classifying import shortened
from workers.vendors import VENDORS
from workers.vendors.text import SHORTEST_CHARACTERS, shortest
from workers.vendors.types import Outcome

CODES = {
    Vendor.APNS: ("PayloadTooLarge", "413"),
    Vendor.FCM: ("413",),
    Vendor.HUAWEI: ("80300008",),
    Vendor.HARMONY: ("80300008",),
    Vendor.HONOR: ("413", "80300008"),
    Vendor.XIAOMI: ("10018", "65009", "65014", "65015"),
    Vendor.OPPO: ("413",),
    Vendor.VIVO: ("10067",),
    Vendor.MEIZU: ("413",),
}


@pytest.mark.parametrize(
    ("vendor", "code"), [(vendor, code) for vendor, codes in CODES.items() for code in codes]
)
def test_each_code_that_says_too_long_has_a_cure_once(vendor, code):
    status = code if code == "413" else "200"
    outcome = Outcome(Verdict.REJECTED, status, "" if code == "413" else code)
    first, again = (
        batch().items[0],
        batch(attempts=(Attempt(0, status, outcome.code, "", None, Verdict.UNAVAILABLE),)).items[0],
    )
    cured = shortened(first, outcome, VENDORS[vendor])
    found = (cured.verdict, cured.again, cured.retry_after_s)
    assert found == (Verdict.UNAVAILABLE, Again.SHORTEST, 0.0)
    assert shortened(again, outcome, VENDORS[vendor]) == outcome
    other = Outcome(Verdict.REJECTED, "400", "80100016")
    assert shortened(first, other, VENDORS[vendor]) == other


def test_the_shortest_form_keeps_the_words_beginning_and_no_data():
    body = "阿" * 50 + ":" + "今晚八点开会大家准时到场"
    about = note(title="名" * 90, prefix="阿" * 50 + ":", body=body, payload={"a": 1}, ext="e")
    short = shortest(about)
    found = (short.payload, short.ext, short.subtitle, len(short.title))
    assert found == (None, None, None, SHORTEST_CHARACTERS)
    assert "今晚八点开会大家准时" in short.body
    assert len(short.body) <= SHORTEST_CHARACTERS


def faults(simulators, **wanted):
    call(f"{simulators['control']['huawei']}/_sim/faults", json.dumps(wanted).encode())


@pytest.mark.parametrize(("times", "decision"), [(1, "accepted"), (2, "rejected")])
def test_a_push_that_huawei_finds_too_long_goes_short(
    runtime, tenant, simulators, fleet, times, decision
):
    # an access token is there
    pushed(fleet, runtime, "huawei", {"lea": f"live-long{times}"}, message_id="warm")
    body = json.dumps({"code": "80300008", "msg": "too long", "requestId": "r"})
    faults(simulators, status=400, status_share=1.0, status_body=body, only_first=times)
    try:
        row = pushed(
            fleet, runtime, "huawei", {"lea": f"live-long{times}"}, message_id=f"long{times}"
        )["lea"]
    finally:
        faults(simulators, status=0, status_share=0.0, status_body="", only_first=0)
    assert (row["decision"], row["attempts"][0]["code"]) == (decision, "80300008")
    assert len(row["attempts"]) == 2
