"""Receipts of Honor: each status of the page, and the others, which change nothing."""

import json

import pytest

from workers.vendors.honor.receipts import ACK, read_receipts
from workers.vendors.receipt_bodies import Receipt

STATUS = {
    "biTag": "m-1001",
    "appid": "1040000001",
    "token": "H1",
    "status": 40000002,
    "timestamp": 1748793605123,
    "requestId": "r-1",
}


def body(*statuses):
    return json.dumps({"statuses": statuses}).encode()


def test_delivered_is_read():
    found = read_receipts(body(STATUS), {})
    assert found == [Receipt("H1", "m-1001", "r-1", "delivered", 1748793605123, None)]
    assert json.loads(ACK) == {"code": "0", "message": "success"}


@pytest.mark.parametrize("code", [0, 2, 5, 40000008, 80300007, "x"])
def test_a_code_nobody_documents_is_kept_and_changes_nothing(code):
    [receipt] = read_receipts(body({**STATUS, "status": code}), {})
    assert (receipt.status, receipt.verdict) == (f"code {code}", None)


def test_a_code_of_odd_characters_can_be_stored():
    [receipt] = read_receipts(body({**STATUS, "status": "a\0b\n"}), {})
    assert receipt.status == "code ab"


def test_receipts_without_a_token_are_left_out():
    [receipt] = read_receipts(
        body({**STATUS, "token": ""}, {**STATUS, "token": None}, 7, STATUS), {}
    )
    assert receipt.token == "H1"
