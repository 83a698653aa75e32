"""What a push shares with the one that takes it back: its channel and its form, never its words."""

from typing import Any

import pytest

from common.contracts import PushFields
from workers.routing.wordless import VALUE_MAX, shared_wishes

#: name: what the sender wished, and what of it is shared.
WISHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "words, names and pictures": (
        {
            "vendor": {
                "apns": {"title": "T", "voip": {"handle": "u"}},
                "xiaomi": {"channel_name": ""},
            },
            "vendor_raw": {"apns": {"aps": {"alert": {"body": "B"}}}, "fcm_v1": {"image": "I"}},
        },
        {},
    ),
    "channel, class and form": (
        {"vendor": {"fcm": {"channel_id": "c", "data_only": True, "image": "I"}}},
        {"vendor": {"fcm": {"channel_id": "c", "data_only": True}}},
    ),
    "verbatim ones where each vendor has them": (
        {
            "vendor_raw": {
                "huawei": {"message": {"android": {"notification": {"importance": "LOW"}}}},
                "honor": {"android": {"notification": {"importance": "LOW", "title": "T"}}},
                "xiaomi": {"extra": {"channel_id": 7}, "title": "T"},
            }
        },
        {
            "vendor_raw": {
                "huawei": {"message": {"android": {"notification": {"importance": "LOW"}}}},
                "honor": {"android": {"notification": {"importance": "LOW"}}},
                "xiaomi": {"extra": {"channel_id": 7}},
            }
        },
    ),
    "no badge of the push's own moment": (
        {
            "vendor": {
                "apns": {"badge": 5, "category": "RING"},
                "vivo": {"add_badge": True},
                "harmony": {"badge": 3},
            }
        },
        {"vendor": {"apns": {"category": "RING"}}},
    ),
    "no vendor of ours": ({"vendor": {"nokia": {"channel_id": "c"}}}, {}),
    "no channel's name": (
        {"vendor": {"fcm": {"channel_id": "x" * (VALUE_MAX + 1), "priority": ["high"]}}},
        {},
    ),
}


@pytest.mark.parametrize(("given", "shared"), WISHES.values(), ids=WISHES)
def test_a_withdrawal_shares_channel_and_form_and_no_words(
    given: dict[str, Any], shared: dict[str, Any]
) -> None:
    assert shared_wishes(PushFields(**given)) == shared
