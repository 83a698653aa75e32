"""However long nick and group name are, ten characters of the words stay, at every vendor. Source:
im-dialects §5.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

import pytest

from common.model import PushType, Vendor
from tests.unit.vendors.cases import ACCESS, FAMILY, batch, credential, note
from workers.vendors import VENDORS

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
    assert spec.refuse is None or spec.refuse(push.items[0]) is None
    body = spec.build(push, account, ACCESS).body
    assert len(body) <= 4096
    assert b"kept" in body
