"""docs/vendors/*.md and the code say the same: each code of a page's tables, as a single push's
first answer, and each receipt.
"""

from __future__ import annotations

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
#: Heading of a page's tables -> (the vendor, what the code knows, the answer that says one of
#: them).
Say = Callable[[str], Any]


def fcm_error(code: str) -> dict[str, Any]:
    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    return {"error": {"status": "", "message": "", "details": [detail]}}


def named(field: str, status: int = 200, **rest: Any) -> Say:
    """An answer that holds the code in this field."""
    return lambda code: (status, {field: code, **rest})


def partial(code: str) -> dict[str, Any]:
    return {
        "code": "80100000",
        "requestId": "r",
        "msg": json.dumps({"illegalTokens": {code: [TOKEN]}}),
    }


ANSWERS: Mapping[str, tuple[Vendor, Iterable[object], Say]] = {
    "apns: reason": (Vendor.APNS, apns_codes.REASONS, named("reason", status=400)),
    "fcm: errorCode": (Vendor.FCM, fcm_codes.FCM_CODES, lambda code: (400, fcm_error(code))),
    "fcm: status without errorCode": (
        Vendor.FCM,
        fcm_codes.STATUS_CODES,
        lambda code: (400, {"error": {"status": code}}),
    ),
    "huawei: code": (Vendor.HUAWEI, huawei_codes.CODES, named("code", msg="", requestId="r")),
    "harmony: code": (Vendor.HARMONY, huawei_codes.CODES, named("code", msg="", requestId="r")),
    "harmony: reason of 80100000": (
        Vendor.HARMONY,
        set(huawei_codes.REASONS) - {""},
        lambda code: (200, partial(code)),
    ),
    "honor: code": (Vendor.HONOR, honor_codes.CODES, named("code", message="")),
    "xiaomi: code": (
        Vendor.XIAOMI,
        xiaomi_codes.CODES,
        lambda code: (200, {"result": "error", "code": int(code)}),
    ),
    "oppo: code": (
        Vendor.OPPO,
        oppo_codes.CODES,
        lambda code: (200, {"code": int(code), "message": ""}),
    ),
    "vivo: result": (
        Vendor.VIVO,
        vivo_codes.CODES,
        lambda code: (200, {"result": int(code), "desc": ""}),
    ),
    "vivo: invalidUser.status": (
        Vendor.VIVO,
        vivo_codes.USER_STATUS,
        lambda code: (
            200,
            {"result": 10302, "invalidUser": {"status": int(code), "userid": TOKEN}},
        ),
    ),
    "meizu: code": (Vendor.MEIZU, meizu_codes.REQUEST_CODES, named("code", message="", value="")),
    "meizu: code inside value": (
        Vendor.MEIZU,
        meizu_codes.TOKEN_CODES,
        lambda code: (200, {"code": "200", "value": {code: [TOKEN]}}),
    ),
}


def statuses(**item: Any) -> bytes:
    return json.dumps(
        {"statuses": [{"token": TOKEN, "biTag": "p", "requestId": "q", "timestamp": 1, **item}]}
    ).encode()


RECEIPTS: Mapping[str, tuple[Vendor, Iterable[object], Callable[[str], bytes]]] = {
    "huawei: receipt status": (
        Vendor.HUAWEI,
        huawei_receipts.CODES,
        lambda code: statuses(status=int(code)),
    ),
    "honor: receipt status": (
        Vendor.HONOR,
        honor_receipts.CODES,
        lambda code: statuses(status=int(code)),
    ),
    "xiaomi: receipt type": (
        Vendor.XIAOMI,
        xiaomi_receipts.STATUS,
        lambda code: json.dumps(
            {"q": {"targets": TOKEN, "type": int(code), "param": "p"}}
        ).encode(),
    ),
    "oppo: receipt eventType": (
        Vendor.OPPO,
        oppo_receipts.EVENTS,
        lambda code: json.dumps([{"registrationIds": TOKEN, "eventType": code}]).encode(),
    ),
    "vivo: receipt detail": (
        Vendor.VIVO,
        vivo_receipts.DETAILS,
        lambda code: json.dumps(
            {"q": {"targets": TOKEN, "ackType": "104", "subStatus": code}}
        ).encode(),
    ),
    "vivo: receipt ackType": (
        Vendor.VIVO,
        vivo_receipts.KINDS,
        lambda code: json.dumps({"q": {"targets": TOKEN, "ackType": code}}).encode(),
    ),
    "meizu: receipt type": (
        Vendor.MEIZU,
        meizu_receipts.STATUS,
        lambda code: json.dumps({f"q-{code}": {"targets": [TOKEN], "type": int(code)}}).encode(),
    ),
}


def said_of(vendor: Vendor, status: int, body: Any) -> str:
    """The verdict of a single push's first answer, with what the next attempt does differently."""
    [outcome] = VENDORS[vendor].classify(batch(note(), (TOKEN,)), answer(status, body))
    return f"{outcome.verdict}, {outcome.again}" if outcome.again else str(outcome.verdict)


def told_of(vendor: Vendor, body: bytes) -> str:
    [receipt] = READERS[vendor].read(body, {})
    return f"{receipt.status}, {receipt.verdict}" if receipt.verdict else receipt.status


def table_of(heading: str) -> dict[str, str]:
    """Code -> meaning, of the table under this heading of the vendor's page: |
    meaning | codes |.
    """
    vendor = heading.partition(":")[0]
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
    vendor, _, say = ANSWERS[heading]
    page = table_of(heading)
    assert {code: said_of(vendor, *say(code)) for code in page} == page


@pytest.mark.parametrize("heading", RECEIPTS)
def test_each_receipt_of_a_page_is_what_the_code_makes_of_it(heading):
    vendor, _, say = RECEIPTS[heading]
    page = table_of(heading)
    assert {code: told_of(vendor, say(code)) for code in page} == page


@pytest.mark.parametrize("heading", [*ANSWERS, *RECEIPTS])
def test_a_page_names_every_code_that_the_code_knows_and_no_other(heading):
    known = {**ANSWERS, **RECEIPTS}[heading][1]
    assert set(table_of(heading)) == {str(code) for code in known}
