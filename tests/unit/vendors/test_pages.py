"""docs/vendors/*.md and the code say the same: each code of a page's tables, as a single push's
first answer, and each receipt.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from common.model import Vendor
from tests.unit.vendors.cases import answer, batch, note
from workers.receipts.readers import READERS
from workers.vendors import VENDORS, huawei_codes, huawei_receipts
from workers.vendors.apns import codes as apns_codes
from workers.vendors.fcm import codes as fcm_codes
from workers.vendors.honor import codes as honor_codes
from workers.vendors.honor import receipts as honor_receipts
from workers.vendors.meizu import codes as meizu_codes
from workers.vendors.meizu import receipts as meizu_receipts
from workers.vendors.oppo import codes as oppo_codes
from workers.vendors.oppo import receipts as oppo_receipts
from workers.vendors.vivo import codes as vivo_codes
from workers.vendors.vivo import receipts as vivo_receipts
from workers.vendors.xiaomi import codes as xiaomi_codes
from workers.vendors.xiaomi import receipts as xiaomi_receipts

PAGES = Path(__file__).parents[3] / "docs" / "vendors"
TOKEN = "aa11"
#: Heading of a page's tables -> (what the code knows, the answer that says one of them).
Say = Callable[[str], Any]


def fcm_error(code: str) -> dict[str, Any]:
    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    return {"error": {"status": "", "message": "", "details": [detail]}}


def named(field: str, status: int = 200, **rest: Any) -> Say:
    """An answer that holds the code in this field."""
    return lambda code: (status, {field: code, **rest})


def numbered(field: str, **rest: Any) -> Say:
    """One that holds it as a number."""
    return lambda code: (200, {field: int(code), **rest})


def partial(code: str) -> dict[str, Any]:
    words = json.dumps({"illegalTokens": {code: [TOKEN]}})
    return {"code": "80100000", "requestId": "r", "msg": words}


def user(code: str) -> dict[str, Any]:
    return {"result": 10302, "invalidUser": {"status": int(code), "userid": TOKEN}}


ANSWERS: Mapping[str, tuple[Iterable[object], Say]] = {
    "apns: reason": (apns_codes.REASONS, named("reason", status=400)),
    "fcm: errorCode": (fcm_codes.FCM_CODES, lambda code: (400, fcm_error(code))),
    "fcm: status without errorCode": (
        fcm_codes.STATUS_CODES,
        lambda code: (400, {"error": {"status": code}}),
    ),
    "huawei: code": (huawei_codes.CODES, named("code", msg="", requestId="r")),
    "harmony: code": (huawei_codes.CODES, named("code", msg="", requestId="r")),
    "harmony: reason of 80100000": (
        set(huawei_codes.REASONS) - {""},
        lambda code: (200, partial(code)),
    ),
    "honor: code": (honor_codes.CODES, named("code", message="")),
    "xiaomi: code": (xiaomi_codes.CODES, numbered("code", result="error")),
    "oppo: code": (oppo_codes.CODES, numbered("code", message="")),
    "vivo: result": (vivo_codes.CODES, numbered("result", desc="")),
    "vivo: invalidUser.status": (vivo_codes.USER_STATUS, lambda code: (200, user(code))),
    "meizu: code": (meizu_codes.REQUEST_CODES, named("code", message="", value="")),
    "meizu: code inside value": (
        meizu_codes.TOKEN_CODES,
        lambda code: (200, {"code": "200", "value": {code: [TOKEN]}}),
    ),
}


def statuses(code: str) -> Any:
    one = {"token": TOKEN, "biTag": "p", "requestId": "q", "timestamp": 1, "status": int(code)}
    return {"statuses": [one]}


def targets(**of_one: Any) -> Any:
    return {"q": {"targets": TOKEN, **of_one}}


RECEIPTS: Mapping[str, tuple[Iterable[object], Say]] = {
    "huawei: receipt status": (huawei_receipts.CODES, statuses),
    "honor: receipt status": (honor_receipts.CODES, statuses),
    "xiaomi: receipt type": (
        xiaomi_receipts.STATUS,
        lambda code: targets(type=int(code), param="p"),
    ),
    "oppo: receipt eventType": (
        oppo_receipts.EVENTS,
        lambda code: [{"registrationIds": TOKEN, "eventType": code}],
    ),
    "vivo: receipt detail": (
        vivo_receipts.DETAILS,
        lambda code: targets(ackType="104", subStatus=code),
    ),
    "vivo: receipt ackType": (vivo_receipts.KINDS, lambda code: targets(ackType=code)),
    "meizu: receipt type": (
        meizu_receipts.STATUS,
        lambda code: {f"q-{code}": {"targets": [TOKEN], "type": int(code)}},
    ),
}


def vendor_of(heading: str) -> Vendor:
    return Vendor(heading.partition(":")[0])


def said_of(vendor: Vendor, status: int, body: Any) -> str:
    """The verdict of a single push's first answer, with what the next attempt does differently."""
    [outcome] = VENDORS[vendor].classify(batch(note(), (TOKEN,)), answer(status, body))
    return f"{outcome.verdict}, {outcome.again}" if outcome.again else str(outcome.verdict)


def told_of(vendor: Vendor, body: Any) -> str:
    [receipt] = READERS[vendor].read(json.dumps(body).encode(), {})
    return f"{receipt.status}, {receipt.verdict}" if receipt.verdict else receipt.status


def table_of(heading: str) -> dict[str, str]:
    """Code -> meaning, of the table under this heading of the vendor's page: |
    meaning | codes |.
    """
    vendor = vendor_of(heading)
    text = (PAGES / f"{vendor}.md").read_text()
    found = re.search(
        rf"^### {re.escape(heading)}\n\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"docs/vendors/{vendor}.md has no table under `### {heading}`"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]
    ]
    codes = [(code, meaning.strip("`")) for meaning, codes in rows for code in codes.split()]
    assert len(codes) == len(dict(codes)), f"{heading}: a code stands in two rows"
    return dict(codes)


@pytest.mark.parametrize("heading", ANSWERS)
def test_each_code_of_a_page_is_what_the_code_makes_of_it(heading):
    _, say = ANSWERS[heading]
    page = table_of(heading)
    assert {code: said_of(vendor_of(heading), *say(code)) for code in page} == page


@pytest.mark.parametrize("heading", RECEIPTS)
def test_each_receipt_of_a_page_is_what_the_code_makes_of_it(heading):
    _, say = RECEIPTS[heading]
    page = table_of(heading)
    assert {code: told_of(vendor_of(heading), say(code)) for code in page} == page


@pytest.mark.parametrize("heading", [*ANSWERS, *RECEIPTS])
def test_a_page_names_every_code_that_the_code_knows_and_no_other(heading):
    known = {**ANSWERS, **RECEIPTS}[heading][0]
    assert set(table_of(heading)) == {str(code) for code in known}
