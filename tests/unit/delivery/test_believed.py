"""A vendor that refuses the access token twice in a row, a fresh one between: the credential is at
fault, and its lane stops.
"""

from typing import Any

import pytest

from common.contracts import Attempt
from common.model import Vendor, Verdict
from tests.unit.vendors.cases import NOW_MS, answer, note, target
from workers.delivery.classifying import escalate_expired_token
from workers.vendors import VENDORS
from workers.vendors.types import PushItem, RequestBatch

#: An answer by which each vendor that takes access tokens says that this one is none, or no longer.
REFUSALS = {
    Vendor.APNS: answer(403, {"reason": "ExpiredProviderToken"}),
    Vendor.FCM: answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": ""}}),
    Vendor.HUAWEI: answer(200, {"code": "80200003", "msg": ""}),
    Vendor.HARMONY: answer(401, {"code": "80200005", "msg": ""}),
    Vendor.HONOR: answer(401, b""),
    Vendor.OPPO: answer(200, {"code": 11, "message": ""}),
    Vendor.VIVO: answer(200, {"result": 10000, "desc": ""}),
}


@pytest.mark.parametrize(("vendor", "refusal"), REFUSALS.items())
def test_an_access_token_that_is_refused_again_is_the_credential_s_fault(
    vendor: Vendor, refusal: Any
) -> None:
    spec = VENDORS[vendor]
    told: list[Any] = []
    for before in ([], ["same"], ["same", "500"], ["500", "same"]):
        attempts = tuple(
            Attempt(NOW_MS, "500", "x", "", None) if one == "500" else told[0] for one in before
        )
        item = PushItem(note(), target(attempts=attempts), None, 60, 1 + len(attempts))
        [outcome] = spec.classify(RequestBatch((item,), NOW_MS), refusal)
        told.append(Attempt(NOW_MS, outcome.status, outcome.code, outcome.words, None))
        again = bool(before) and before[-1] == "same"
        assert escalate_expired_token(item, outcome).verdict is (
            Verdict.CREDENTIAL_REFUSED if again else Verdict.ACCESS_EXPIRED
        )
