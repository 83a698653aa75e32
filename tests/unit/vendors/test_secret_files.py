"""Secret files as editors and consoles leave them, for every vendor and option alike: cleaned, or
refused with the cure.
"""

import json

import pytest

from common.model import Vendor
from tests.simulator_keys import pem_of, rsa_key
from tests.unit.vendors.cases import NOW_MS
from workers.vendors import VENDORS
from workers.vendors.account_secrets import SECRET_BYTES_MAX, secret_text
from workers.vendors.types import CredentialError

OPTIONS = {"app_id": "100000123", "app_key": "0a1b2c", "package": "com.example.im"}
WITH_SECRET = (Vendor.HUAWEI, Vendor.HONOR, Vendor.XIAOMI, Vendor.OPPO, Vendor.VIVO, Vendor.MEIZU)


def secret_of(vendor, raw):
    return VENDORS[vendor].read_credential(OPTIONS, {"app_secret": raw}, NOW_MS)[1]["app_secret"]


CLEANED = {
    "white space": b"  s3cret \r\n\n",
    "a byte order mark": b"\xef\xbb\xbfs3cret",
    "UTF-16, as Notepad writes it": b"\xff\xfe" + "s3cret\r\n".encode("utf-16-le"),
    "UTF-16, the other way round": b"\xfe\xff" + "s3cret".encode("utf-16-be"),
    "a zero-width space at the end": "s3cret\u200b\n".encode(),
    "one inside": "s3c\u200bret".encode(),
    "a soft hyphen": "s3c\u00adret".encode(),
    "a mark of direction": "\u202as3cret\u202c".encode(),
    "a no-break space at the ends": "\u00a0s3cret\u00a0".encode(),
    "a word joiner and a second mark": "\ufeff\u2060s3cret".encode(),
}


@pytest.mark.parametrize("raw", CLEANED.values(), ids=CLEANED)
@pytest.mark.parametrize("vendor", WITH_SECRET)
def test_what_is_unambiguous_is_cleaned(vendor, raw):
    assert secret_of(vendor, raw) == "s3cret"


REFUSED = {
    "two lines": (b"s3cret\nother\n", "holds 2 lines"),
    "two lines of Unicode": ("s3cret\u2028other".encode(), "2 lines"),
    "a blank inside": (b"s3 cret", "blank or a character outside ASCII"),
    "a no-break space inside": ("s3\u00a0cret".encode(), "control character|outside ASCII"),
    "a full-width letter": ("ｓ3cret".encode(), "outside ASCII"),
    "a control character": (b"s3\x07cret", "control character"),
    "a tab": (b"s3\tcret", "control character"),
    "nothing": ("\ufeff \u200b\n".encode(), "is empty"),
    "no text": (b"s3\xffcret", "is not text"),
    "zeros": (b"s3\0cret", "is not text"),
    "too much": (b"x" * (SECRET_BYTES_MAX + 1), "more than 65536 bytes"),
}


@pytest.mark.parametrize(("raw", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("vendor", WITH_SECRET)
def test_what_is_ambiguous_is_refused_with_its_option(vendor, raw, words):
    with pytest.raises(CredentialError, match=words) as caught:
        secret_of(vendor, raw)
    assert "--app-secret-file" in str(caught.value)
    assert "s3" not in str(caught.value)


def test_a_password_may_hold_blanks_and_any_letter_but_nothing_that_can_t_be_seen():
    assert secret_text({"password": "\ufeffpaß wort 密\r\n".encode()}, "password") == "paß wort 密"
    for raw, words in (("a\u200bb", "invisible"), ("a\nb", "2 lines"), ("a\x00b", "not text")):
        with pytest.raises(CredentialError, match=words):
            secret_text({"password": raw.encode()}, "password")


def key_file(vendor):
    pem = pem_of(rsa_key())
    account = {"project_id": "demo-im", "private_key": pem, "key_id": "k1", "sub_account": "s1"}
    account |= {"client_email": "a@b.iam", "private_key_id": "k1", "type": "service_account"}
    return vendor, json.dumps(account).encode()


@pytest.mark.parametrize("vendor", [Vendor.FCM, Vendor.HARMONY])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n", "\u200b".encode()])
def test_key_files_are_cleaned_alike(vendor, before):
    _, raw = key_file(vendor)
    options, _ = VENDORS[vendor].read_credential(
        {}, {"service_account": before + raw + b"\n"}, NOW_MS
    )
    assert options["project_id"] == "demo-im"


@pytest.mark.parametrize("vendor", [Vendor.FCM, Vendor.HARMONY])
@pytest.mark.parametrize("raw", [b"", b"\xff", b"{", b"[" * 50_000])
def test_key_files_that_are_none_are_refused(vendor, raw):
    with pytest.raises(CredentialError, match="--service-account"):
        VENDORS[vendor].read_credential({}, {"service_account": raw}, NOW_MS)
