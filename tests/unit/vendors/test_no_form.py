"""Where requests have no form: what differs in more than a push's own values is
built one by one.
"""

import dataclasses
from typing import Any

import pytest

from common.model import Vendor
from tests.unit.vendors import cases
from tests.unit.vendors.test_forms import batch
from workers.vendors import VENDORS, forms
from workers.wire import Request

SPEC = VENDORS[Vendor.FCM]
VALUES = {"push_id": "0b0f", "title": "Words"}
ONE = batch(Vendor.FCM, {}, [("Ann", "hi", "m1", "t1", 1, 60)])


def request(
    path: str = "/send", headers: dict[str, str] | None = None, body: bytes = b"{}", **more: str
) -> Request:
    return Request("FCM", path, headers or {}, body, **more)


NONE = {
    "octets that are no text": request(body=b"\xff"),
    "a value amid a header": request(headers={"tag": "a-0b0f"}),
    "another method": request(method="PUT"),
    "words in the path": request(path="/send/Words"),
}


@pytest.mark.parametrize("sent", NONE.values(), ids=NONE)
def test_what_is_no_form(sent: Request) -> None:
    assert forms._cut(sent, VALUES) is None
    assert forms._cut(request(headers={"tag": "0b0f"}), VALUES) is not None


def found(**changes: Any) -> object:
    spec = dataclasses.replace(SPEC, **changes)
    return forms._found(
        spec, forms._neutral(ONE.like), "ios", cases.credential(Vendor.FCM), cases.ACCESS, None
    )


def test_a_refused_sample_a_request_without_a_form_and_one_that_knows_the_time_have_none() -> None:
    assert found() is not None
    assert found(refuse=lambda _item, _account: "not that") is None
    assert found(build=lambda *_: request(method="PUT")) is None
    assert found(build=lambda sent, *_: request(body=b"%d" % sent.now_ms)) is None


def test_a_vendor_that_takes_many_tokens_has_none_and_old_forms_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = cases.credential(Vendor.MEIZU)
    assert forms.form_of(VENDORS[Vendor.MEIZU], ONE, account, cases.ACCESS, None) is None
    monkeypatch.setattr(forms, "FORMS_MAX", 0)
    for number in range(2):
        account = cases.credential(Vendor.FCM, {"number": str(number)})
        assert forms.form_of(SPEC, ONE, account, cases.ACCESS, f"u{number}") is not None
        assert len(forms._forms) == 1
