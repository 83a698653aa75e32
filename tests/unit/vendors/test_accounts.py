"""Accounts of the vendors that give an app's secret: what is kept of one, and what is refused, by
the option it came with; and what can be a vendor's token.
"""

import pytest

from common.model import Vendor
from tests.page_vectors import MEIZU_IDS, XIAOMI_FORM
from workers.vendors import VENDORS
from workers.vendors.types import CredentialError

#: The options of a good account.
GOOD = {
    Vendor.HUAWEI: {"app_id": "100000001"},
    Vendor.HONOR: {"app_id": "1040000001", "app_key": "220000001"},
    Vendor.XIAOMI: {"package": "com.example.im"},
    Vendor.OPPO: {"app_key": "k", "template_params": "json_text"},
    Vendor.VIVO: {"app_id": "1", "app_key": "k"},
    Vendor.MEIZU: {"app_id": "1"},
}
BAD = [
    (Vendor.HUAWEI, {"app_id": None}, "--app-id is missing"),
    (Vendor.HUAWEI, {"app_id": "abc"}, "--app-id"),
    (Vendor.HUAWEI, {"app_id": "1/../2"}, "--app-id"),  # it would change the path
    (Vendor.HONOR, {"app_id": None}, "--app-id"),
    (Vendor.HONOR, {"app_id": "1/2"}, "--app-id"),
    (Vendor.HONOR, {"app_key": None}, "--app-key"),
    (Vendor.HONOR, {"app_key": "a b"}, "--app-key"),
    (Vendor.XIAOMI, {"package": None}, "--package is missing"),
    (Vendor.XIAOMI, {"package": "a,b"}, "Android package"),
    (Vendor.XIAOMI, {"region": "mars"}, "--region"),
    (Vendor.OPPO, {"app_key": None}, "--app-key is missing"),
    (Vendor.OPPO, {"app_key": "a b"}, "--app-key takes"),
    (Vendor.OPPO, {"template_params": "xml"}, "--template-params"),
    (Vendor.VIVO, {"app_id": None}, "--app-id is missing"),
    (Vendor.VIVO, {"app_id": "abc"}, "--app-id must be the number"),
    (Vendor.VIVO, {"app_key": None}, "--app-key is missing"),
    (Vendor.VIVO, {"app_key": "k k"}, "--app-key must"),
    (Vendor.MEIZU, {"app_id": None}, "--app-id is missing"),
    (Vendor.MEIZU, {"app_id": "x"}, "--app-id must be the number"),
]


@pytest.mark.parametrize(("vendor", "change", "says"), BAD)
def test_a_bad_option_is_refused_by_its_name(vendor, change, says):
    options = {name: value for name, value in (GOOD[vendor] | change).items() if value is not None}
    with pytest.raises(CredentialError, match=says):
        VENDORS[vendor].read_credential(options, {"app_secret": b"s"}, 0)


@pytest.mark.parametrize("vendor", GOOD)
def test_a_secret_is_trimmed_and_one_that_is_none_is_refused_and_not_repeated(vendor):
    read = VENDORS[vendor].read_credential
    kept = read(GOOD[vendor], {"app_secret": b"\xe2\x80\x83S3cret \r\n"}, 0)
    assert kept == (GOOD[vendor], {"app_secret": "S3cret"})
    for raw in (None, b"", b" \n", b"\xff\xfe", b"SECRET\r\nx: y"):
        with pytest.raises(CredentialError, match="--app-secret-file") as refused:
            read(GOOD[vendor], {} if raw is None else {"app_secret": raw}, 0)
        assert "SECRET" not in str(refused.value)


FAMILY = (["T1", "A" * 1024], ["A" * 1025, "", "a b", "令", "a\n"])
#: What can be a token, and what can not; OPPO's are those of its page (test_oppo.py).
TOKENS = {
    Vendor.APNS: (
        ["ab" * 32, "AB" * 80, "0f"],
        ["", "xyz", "ab/../cd", "ab" * 257, "ab" * 32 + "\n", "a", "ab" * 32 + "a", "\u0661" * 64],
    ),
    Vendor.HUAWEI: FAMILY,
    Vendor.HARMONY: FAMILY,
    Vendor.HONOR: FAMILY,
    Vendor.XIAOMI: ([XIAOMI_FORM["registration_id"]], ["a,b", "", "a b", "x" * 513, "吃"]),
    Vendor.MEIZU: ([MEIZU_IDS[0]], ["", "a,b", "a b", "a" * 257, "会"]),
}


@pytest.mark.parametrize("vendor", TOKENS)
def test_what_cannot_be_a_token_is_known_without_asking(vendor):
    valid, wrong = TOKENS[vendor]
    found = [token for token in (*valid, *wrong) if VENDORS[vendor].token_valid(token)]
    assert found == valid
