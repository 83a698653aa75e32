"""What a vendor's code does seldom: words of the app's own, a silent badge, odd answers, accounts'
files that are nearly right.
"""

import json
from typing import Any

import pytest

from common.contracts import Localized
from common.model import PushType, Vendor, Verdict
from tests.unit.vendors.cases import ACCESS, answer, batch, credential, note
from workers.vendors import VENDORS, huawei_codes, huawei_family, receipt_bodies
from workers.vendors.account_secrets import option_of
from workers.vendors.answers import read
from workers.vendors.apns import account as apns_account
from workers.vendors.apns import codes as apns_codes
from workers.vendors.apns import credential as apns_credential
from workers.vendors.apns import request as apns_request
from workers.vendors.fcm import codes as fcm_codes
from workers.vendors.fcm import request as fcm_request
from workers.vendors.form_texts import json_text
from workers.vendors.oppo import codes as oppo_codes
from workers.vendors.text import shortest
from workers.vendors.types import CredentialError
from workers.vendors.xiaomi import receipts as xiaomi_receipts
from workers.vendors.xiaomi import request as xiaomi_request
from workers.wire import NoAnswer

WORDS = Localized(key="CHAT", args=("Ann",))
SECRET = b"printable-secret"


def sent(vendor: Vendor, about: Any, access: Any = ACCESS) -> dict[str, Any]:
    found = VENDORS[vendor].build(batch(about), credential(vendor), access)
    return dict(json.loads(found.body))


def test_words_that_the_app_holds_are_named_by_their_key() -> None:
    about = note(loc=WORDS)
    found = sent(Vendor.APNS, about)["aps"]["alert"]
    assert found == {"title": "张三", "loc-key": "CHAT", "loc-args": ["Ann"]}
    shown = sent(Vendor.FCM, about)["message"]["android"]["notification"]
    assert (shown["body_loc_key"], shown["body_loc_args"]) == ("CHAT", ["Ann"])
    assert apns_request._alert(note(loc=WORDS, hidden=True))["body"], "a veil has words of its own"


def test_a_silent_push_carries_the_badges_number_as_data() -> None:
    about = note(push_type=PushType.SILENT, badge_value=5)
    assert sent(Vendor.FCM, about)["message"]["data"]["badge"] == "5"
    assert huawei_family.click_data(about)["badge"] == 5


def test_without_an_access_token_no_header_claims_one() -> None:
    sends = fcm_request.build(batch(), credential(Vendor.FCM), None)
    for request in (sends, fcm_request.check(credential(Vendor.FCM), None)):
        assert "authorization" not in request.headers


def test_the_shortest_form_has_the_first_words_only() -> None:
    short = shortest(
        note(title="t" * 100, body="words " * 100, payload={"k": 1}, ext="e", subtitle="s")
    )
    assert (len(short.title), short.payload, short.ext, short.subtitle) == (40, None, None, None)
    assert short.body.startswith("words words")
    assert len(short.body) <= 40


def test_options_are_spelt_as_the_command_line_has_them() -> None:
    found = [option_of(name) for name in ("vendor_app_id", "app_secret_file")]
    assert found == ["--app-id", "--app-secret-file"]


def test_what_json_cannot_say_is_left_out() -> None:
    assert [json_text(value) for value in ({"a": object()}, {"a": 1})] == [None, '{"a":1}']


@pytest.mark.parametrize("text", ['"\\"\\\\\\"deep\\\\\\"\\""', "7", "{"])
def test_a_receipt_that_is_no_object_within_two_texts_is_none(text: str) -> None:
    assert receipt_bodies._loads(text) is None


def test_tokens_of_a_broken_detail_are_unknown() -> None:
    assert huawei_codes.illegal_tokens('{"illegalTokens"') is None


def test_oppos_numbers_of_a_server_in_trouble_come_again() -> None:
    (outcome,) = VENDORS[Vendor.OPPO].classify(batch(), answer(200, {"code": 550, "message": "m"}))
    assert (outcome.verdict, outcome.alarm) == (Verdict.UNAVAILABLE, False)
    assert "550" not in oppo_codes.CODES


@pytest.mark.parametrize("vendor", [Vendor.OPPO, Vendor.XIAOMI])
def test_a_secret_file_with_more_than_the_secret_is_refused(vendor: Vendor) -> None:
    options = {"app_key": "key", "package": "com.example.im"}
    with pytest.raises(CredentialError, match="--app-secret-file holds more than"):
        VENDORS[vendor].read_credential(options, {"app_secret": SECRET * 20}, 0)


def test_a_xiaomi_template_takes_only_so_many_variables() -> None:
    given = {"content_params": {f"name{number}": "value" for number in range(20)}}
    assert len(xiaomi_request._given_values(note(), given)) == xiaomi_request.TEMPLATE_VARIABLES_MAX


def test_apples_environment_names_its_endpoint() -> None:
    envs = ("sandbox", "production")
    told = [apns_account.endpoints_used(credential(Vendor.APNS, {"env": env})) for env in envs]
    assert told == [("APNS_SANDBOX",), ("APNS_PRODUCTION",)]


P8_OF_A_P12 = b"-----BEGIN PKCS12-----\nAAAA\n-----END PKCS12-----\n"


def test_armour_without_base64_and_a_p12_as_p8_are_named() -> None:
    options = {
        "topic": "com.example.chat",
        "env": "production",
        "key_id": "ABC123DEFG",
        "team_id": "DEF123GHIJ",
    }
    with pytest.raises(CredentialError, match="--p8 is a PKCS#12 file"):
        apns_credential.read_credential(options, {"p8": P8_OF_A_P12}, 0)
    with pytest.raises(CredentialError, match="holds no base64"):
        apns_credential._p12_bytes(P8_OF_A_P12.replace(b"AAAA", b"!!!"))
    assert apns_credential._public(object()) == b"?"
    assert not apns_credential._is_p12(b"\x30\x03abc")


def test_no_answer_is_nothing_to_read() -> None:
    assert read(NoAnswer("timeout", sent=True), dict) is None


def test_the_vendors_own_id_is_that_of_an_accepting_answer() -> None:
    named = {"name": "projects/p/messages/1"}
    assert [
        fcm_codes.accepted_id(answer(*said)) for said in ((200, named), (200, {}), (404, named))
    ] == [named["name"], None, None]
    found = [apns_codes.accepted_id(answer(status, apns_id="A-1")) for status in (200, 410)]
    assert found == ["A-1", None]
    assert apns_codes.accepted_id(answer(200)) is None


def test_a_xiaomi_detail_that_is_no_json_is_none() -> None:
    assert [xiaomi_receipts._loads(text) for text in ("{", '{"a":1}')] == [None, {"a": 1}]
