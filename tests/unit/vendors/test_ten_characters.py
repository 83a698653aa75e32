"""However long nick and group name are, ten characters of the words stay, at every vendor. Source:
im-dialects §5.
"""

import json
from urllib.parse import unquote_plus

import pytest

from common.model import PushType, Vendor
from tests.builders import present
from tests.unit.vendors.cases import ACCESS, batch, credential, note
from tests.unit.vendors.strategies import FAMILY
from workers.vendors import VENDORS
from workers.vendors.json_text import compact
from workers.vendors.text import leaner

WORDS = (
    "今晚八点开会大家准时到场别忘了带材料",
    "Tonight at eight we meet in the large hall",
    "今晚八点开会大家准时到场" * 300,
)
LETTERS = {
    "Chinese": "名",
    "Latin": "n",
    "an emoji": "🚀",
    "combining": "e\u0301",
    "a family": FAMILY,
    "quotes": '"',
}


@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)
@pytest.mark.parametrize("words", WORDS, ids=["short", "English", "long"])
@pytest.mark.parametrize("vendor", Vendor)
def test_enormous_names_leave_ten_characters_of_the_words(vendor, words, letter):
    name = letter * 700
    about = note(
        conversation_type="group",
        title=name,
        prefix=f"{name}:",
        body=f"{name}:{words}",
        text=words,
        sender_name=name,
        ext="x" * 500,
    )
    account = credential(vendor, {"package": "com.example.im", "key_id": "k", "sub_account": "s"})
    body = VENDORS[vendor].build(batch(about, badge=1), account, ACCESS).body.decode()
    assert words[:10] in (unquote_plus(body) if "%" in body else body)


@pytest.mark.parametrize("vendor", sorted(set(Vendor) - {Vendor.VIVO, Vendor.MEIZU}))
def test_a_silent_push_goes_with_ext_where_the_payload_does_not_fit(vendor):
    """Vivo and Meizu have no silent push."""
    about = note(push_type=PushType.SILENT, ext="kept", payload={"a": "x" * 5000})
    account = credential(vendor, {"package": "com.example.im", "key_id": "k", "sub_account": "s"})
    spec, push = VENDORS[vendor], batch(about)
    assert spec.refuse is None or spec.refuse(push.items[0], account) is None
    body = spec.build(push, account, ACCESS).body
    assert len(body) <= 4096
    assert b"kept" in body


TOO_LONG = {
    "ext": {"ext": "x" * 5000},
    "payload": {"payload": {"a": "好" * 2000}},
    "escapes": {"ext": '"' * 2000},  # each takes three bytes or more inside a text of JSON
    "raw data": {"ext": "x" * 5000, "vendor_raw": {"message": {"data": "x" * 5000}}},
    "badges": {"ext": "x" * 5000, "badge_value": 3},
}
#: The others: APNs and FCM have tests of their own; Xiaomi and OPPO show a silent push, its words
#: go; vivo and Meizu send none.
FAMILY_OF_THREE = pytest.mark.parametrize("vendor", ["huawei", "harmony", "honor"])


@pytest.mark.parametrize("data", TOO_LONG.values(), ids=TOO_LONG)
@FAMILY_OF_THREE
def test_a_silent_push_whose_data_never_fits_is_refused_before_a_request(vendor, data):
    silent = batch(note(push_type=PushType.SILENT, **data)).items[0]
    refuse = present(VENDORS[Vendor(vendor)].refuse)
    assert refuse(silent, credential(Vendor(vendor))) == "payload_too_large"


@FAMILY_OF_THREE
def test_what_shows_words_is_shortened_and_not_refused(vendor):
    long = batch(note(body="x" * 9_000)).items[0]
    assert present(VENDORS[Vendor(vendor)].refuse)(long, credential(Vendor(vendor))) is None


def test_a_silent_push_without_data_has_nothing_to_leave_out():
    silent = note(push_type=PushType.SILENT)
    assert list(leaner(silent)) == [silent]


def test_a_silent_push_of_raw_data_alone_carries_it():
    raw = {"message": {"data": "raw"}}
    silent = batch(note(push_type=PushType.SILENT, vendor_raw=raw))
    body = json.loads(VENDORS[Vendor.HUAWEI].build(silent, credential(Vendor.HUAWEI), ACCESS).body)
    assert body["message"]["data"] == "raw"


@pytest.mark.parametrize("receipt_id", [{}, {"receipt_id": "r" * 64}], ids=["", "receipt id"])
@FAMILY_OF_THREE
def test_a_silent_push_up_to_the_vendors_limit_is_sent(vendor, receipt_id):
    account = credential(Vendor(vendor), {"key_id": "k", "sub_account": "s", **receipt_id})
    spec = VENDORS[Vendor(vendor)]
    longest = 4096
    while present(spec.refuse)(
        (push := batch(note(push_type=PushType.SILENT, ext="x" * longest))).items[0], account
    ):
        longest -= 1
    body = json.loads(spec.build(push, account, ACCESS).body)
    for place in (body, body.get("message", {}), body.get("target", {})):
        if "token" in place:
            place["token"] = []
    assert len(compact(body)) == 4096, "without tokens"


RAW_TOO_LONG = {
    "beside ext": {"ext": "kept"},
    "beside a payload": {"payload": {"a": "kept"}},
    "beside a payload that fits no more": {"ext": "kept", "payload": {"a": "x" * 5000}},
}


@pytest.mark.parametrize("ours", RAW_TOO_LONG.values(), ids=RAW_TOO_LONG)
@pytest.mark.parametrize("vendor", [Vendor.HUAWEI, Vendor.HONOR])
def test_raw_data_that_does_not_fit_is_left_out_of_a_silent_push_first(vendor, ours):
    raw = {"message": {"data": "x" * 5000}}
    push = batch(note(push_type=PushType.SILENT, vendor_raw=raw, **ours))
    spec = VENDORS[vendor]
    assert present(spec.refuse)(push.items[0], credential(vendor, {})) is None
    body = spec.build(push, credential(vendor, {}), ACCESS).body
    assert len(body) <= 4096
    assert b"kept" in body


def test_a_raw_option_that_does_not_fit_is_left_out_of_a_silent_push_to_harmony():
    raw = {"pushOptions": {"backgroundMode": "x" * 5000}}
    push = batch(note(push_type=PushType.SILENT, vendor_raw=raw, payload={"a": "kept"}))
    account = credential(Vendor.HARMONY, {"key_id": "k", "sub_account": "s"})
    body = VENDORS[Vendor.HARMONY].build(push, account, ACCESS).body
    assert len(body) <= 4096
    assert b"kept" in body


@pytest.mark.parametrize("vendor", [Vendor.HUAWEI, Vendor.HONOR])
def test_raw_data_that_fits_takes_the_place_of_ours_in_a_silent_push(vendor):
    raw = {"message": {"data": "theirs"}}
    push = batch(note(push_type=PushType.SILENT, vendor_raw=raw, ext="ours"))
    body = VENDORS[vendor].build(push, credential(vendor, {}), ACCESS).body
    assert b"theirs" in body
    assert b"ours" not in body
