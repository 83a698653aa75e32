"""Receipts of Huawei and HarmonyOS: both versions, every code, the signature's vectors."""

import base64
import hashlib
import hmac
import json

import pytest

from common.model import Verdict
from workers.vendors.huawei_receipts import ACK, nonce, read_receipts, signature_valid
from workers.vendors.receipt_bodies import Receipt, ReceiptsError

V = Verdict
V1 = {
    "biTag": "m-1001",
    "appid": "100000001",
    "token": "T1",
    "status": 0,
    "timestamp": 1489993883189,
    "requestId": "123",
}
V2 = {
    "biTag": "m-1001",
    "pushType": 0,
    "appPackageName": "com.example.im",
    "token": "T1",
    "requestId": "169…",
    "deliveryStatus": {"result": 0, "timestamp": 1697741455082},
}
FORM = {
    "biTag": "m-1",
    "pushType": 1,
    "token": "T1",
    "formStatus": {"formId": 7, "result": 155, "timestamp": 1697741455},
}


def body(*statuses):
    return json.dumps({"statuses": statuses}).encode()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (V1, Receipt("T1", "m-1001", "123", "delivered", 1489993883189, None)),
        (V2, Receipt("T1", "m-1001", "169…", "delivered", 1697741455082, None)),
        (FORM, Receipt("T1", "m-1", None, "not_shown", 1697741455000, None)),
    ],
    ids=["V1", "V2", "V2 of a widget"],
)
def test_both_versions_are_read(status, expected):
    assert read_receipts(body(status), {}) == [expected]


def test_a_thousand_receipts_are_read_and_more_refused():
    assert len(read_receipts(body(*[V1] * 1000), {})) == 1000
    with pytest.raises(ReceiptsError, match="over 1000"):
        read_receipts(body(*[V1] * 1001), {})


def test_the_consoles_test_call_has_no_receipts():
    assert read_receipts(b'{"statuses":[]}', {}) == []
    assert json.loads(ACK) == {"code": "0", "message": "success"}


def test_receipts_without_a_token_are_left_out():
    assert len(read_receipts(body({**V1, "token": 5}, "junk", None, {}, V1), {})) == 1


# ---------------------------------------------------------------- signature

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
USER, STAMP, NONCE = "push-receipt", "1700000000000", "a07bfa17-6d82-4b53-a9a2-07cfef5ceef1"
NEW, OLD = (
    "22hOQb3vajbyKfI/b3Ul76StQf8vzjTo14Iusmjn+W8=",
    "+lbDrOYnaEamRh3OkTLozIyPpZAvbVkHAP5SnQe0TIY=",
)
AT = 1_700_000_000_000


def headers(value=NEW, stamp=STAMP, nonce_=NONCE, name="x-huawei-callback-id"):
    return {name: f"timestamp={stamp}; nonce={nonce_}; value={value}"}


@pytest.mark.parametrize("value", [NEW, OLD], ids=["key of the newer console", "older key"])
def test_vector_3_both_key_forms(value):
    assert signature_valid(headers(value), SECRET, USER, AT)
    assert signature_valid(headers(value, name="X-HUAWEI-CALLBACK-ID"), SECRET, USER, AT)


def signed(stamp, secret=SECRET, user=USER):
    message = (stamp + NONCE + user).encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


#: name -> (headers, key, user, now, valid)
SIGNATURES = {
    "seconds": (headers(signed("1700000000"), "1700000000"), SECRET, USER, AT, True),
    "a secret that is no base64": (headers(signed(STAMP, "pässword")), "pässword", USER, AT, True),
    "five minutes early": (headers(), SECRET, USER, AT - 300_000, True),
    "five minutes late": (headers(), SECRET, USER, AT + 300_000, True),
    "too early": (headers(), SECRET, USER, AT - 300_001, False),
    "too late": (headers(), SECRET, USER, AT + 300_001, False),
    "another user": (headers(), SECRET, "x", AT, False),
    "another key": (headers(), "x", USER, AT, False),
    "no key": (headers(signed(STAMP, "")), "", USER, AT, False),
    "no header": ({}, SECRET, USER, AT, False),
    "no value": (
        {"x-huawei-callback-id": f"timestamp={STAMP}; nonce={NONCE}"},
        SECRET,
        USER,
        AT,
        False,
    ),
    "another nonce": (headers(nonce_="b"), SECRET, USER, AT, False),
    "12 digits": (
        headers(signed("170000000000"), "170000000000"),
        SECRET,
        USER,
        170_000_000_000,
        False,
    ),
    "no number": (headers(signed("abcdefghij"), "abcdefghij"), SECRET, USER, 0, False),
    "junk": ({"x-huawei-callback-id": ";;=;\ud800=é"}, SECRET, USER, AT, False),
}


@pytest.mark.parametrize(
    ("given_headers", "key", "user", "now_ms", "valid"), SIGNATURES.values(), ids=SIGNATURES
)
def test_a_signature_holds_for_its_key_user_and_time(given_headers, key, user, now_ms, valid):
    assert signature_valid(given_headers, key, user, now_ms) is valid


def test_the_nonce_is_there_to_be_remembered():
    assert nonce(headers()) == NONCE
    assert nonce({}) is None
