"""Every vendor's receipts in JSON and in a form; what can't be read is an error of its own, never a
crash and never silence.
"""

import json
import re
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.model import Vendor
from tests.unit.receipts.reading import read_any
from workers.receipts.readers import READERS
from workers.vendors.receipt_bodies import BODY_BYTES_MAX, Receipt, ReceiptsError, value_of

STATUS = {"token": "r1", "biTag": "p", "requestId": "q", "timestamp": 1}
#: (field of the form, its value), each telling that r1 got its push.
TOLD = {
    Vendor.HUAWEI: ("statuses", [{**STATUS, "status": 0}]),
    Vendor.HARMONY: ("statuses", [{**STATUS, "deliveryStatus": {"result": 0, "timestamp": 1}}]),
    Vendor.HONOR: ("statuses", [{**STATUS, "status": 40000002}]),
    Vendor.XIAOMI: ("data", {"q": {"targets": "r1", "param": "p", "type": 1, "timestamp": 1}}),
    Vendor.OPPO: (
        "data",
        [
            {
                "registrationIds": "r1",
                "param": "p",
                "messageId": "q",
                "eventType": "push_arrive",
                "eventTime": 1,
            }
        ],
    ),
    Vendor.VIVO: ("data", {"q": {"targets": "r1", "param": "p", "ackType": "0", "ackTime": 1}}),
    Vendor.MEIZU: ("cb", {"q-1": {"targets": ["r1"], "param": "p", "type": 1}}),
}


def dumped(value) -> str:
    return json.dumps(value, ensure_ascii=False)


FORMS = {
    "its field in JSON": lambda field, value: dumped({field: value}),
    "its field as text in JSON": lambda field, value: dumped({field: dumped(value)}),
    "its field in a form": lambda field, value: urlencode(
        {"access_token": "x", field: dumped(value)}
    ),
    "its field in a form, encoded twice": lambda field, value: urlencode(
        {field: quote(dumped(value))}
    ),
    "another field of a form": lambda _field, value: urlencode(
        {"access_token": "x", "body": dumped(value)}
    ),
    "bare": lambda _field, value: dumped(value),
    "as text": lambda _field, value: dumped(dumped(value)),
    "behind a byte order mark": lambda field, value: "\ufeff" + dumped({field: value}),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("vendor", TOLD)
def test_receipts_are_read_in_json_and_in_a_form(vendor, form):
    [receipt] = READERS[vendor].read(form(*TOLD[vendor]).encode(), {})
    found = (receipt.token, receipt.tag, receipt.request_id, receipt.status)
    assert found == ("r1", "p", "q", "delivered")


def test_every_reader_is_tried():
    assert set(TOLD) == set(READERS)


UNREADABLE = {
    "nothing": b"",
    "a word": b"hello",
    "no text": b"\xff\xfe\x00[",
    "a number": b"7",
    "markup": b"<html></html>",
    "a form without JSON": b"cb=hello&data=hello&statuses=hello",
    "too many fields": b"&".join(b"a%d=1" % n for n in range(50)),
    "deep": b"[" * 100_000,
    "deep in a form": b"cb=" + b"[" * 100_000,
    "items that are none": b'{"data":{"a":5},"cb":{"a":5},"statuses":[5]}',
    "too large": b" " * (BODY_BYTES_MAX + 1),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("vendor", READERS)
def test_what_can_t_be_read_says_so(vendor, body):
    with pytest.raises(ReceiptsError) as error:
        READERS[vendor].read(body, {})
    assert "hello" not in str(error.value)


@pytest.mark.parametrize("vendor", TOLD)
def test_a_callback_without_receipts_is_no_fault(vendor):
    field, value = TOLD[vendor]
    assert READERS[vendor].read(dumped({field: type(value)()}).encode(), {}) == []


#: What receipts of every vendor may hold, at any place of theirs.
NAMES = st.sampled_from(
    re.findall(
        r"\w+",
        "statuses token biTag status timestamp deliveryStatus result requestId data cb targets type"
        " param replaceTarget targetRegion extra errorCode registrationIds eventType ackType",
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "r1,r2", "16"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=8,
)


@given(
    body=st.binary(max_size=80) | VALUES.map(lambda value: json.dumps(value).encode()),
    field=st.sampled_from(["cb", "data", "statuses"]),
)
def test_any_bytes_are_read_or_refused(body, field):
    for whole in (body, b"%s=%s" % (field.encode(), quote(body).encode())):
        for reader in READERS.values():
            for receipt in read_any(reader.read, whole):
                assert receipt.token
                assert receipt.at_ms >= 0
    assert value_of(json.dumps({field: []}).encode(), field) == []


def test_a_receipt_shows_no_token():
    assert "secret" not in repr(Receipt("secret", "t", None, "invalid", 0, None, "secret2"))
