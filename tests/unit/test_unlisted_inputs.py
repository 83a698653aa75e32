"""Inputs beside those that were reported, of each kind of fault: what they are, and the right
value. Pure and quick.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.tokens import all_canonical, canonical
from workers.intake.decoding import Passed, read_entry

NOW = 1_800_000_000_000


# ---------------------------------------------------------------- one token, one person

SPELLINGS = {
    "mixed case": ("apns", "aB" * 32, "ab" * 32),  # a phone's plug-in may mix both
    "longer than 64 digits": ("apns", "AB" * 50, "ab" * 50),  # Apple gives no length
    "another vendor's": ("fcm", "aB:Cd", "aB:Cd"),  # there case is a part of the token
}


@pytest.mark.parametrize(("vendor", "token", "kept"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_token_is_the_same_in_every_spelling_that_its_vendor_takes(
    vendor: str, token: str, kept: str
) -> None:
    assert canonical(vendor, token) == kept
    for beside in ([], ["0102"], ["ab01"]):
        assert all_canonical(vendor, [*beside, token]) == (token == kept)


# ---------------------------------------------------------------- answers and receipts


# ---------------------------------------------------------------- what files and texts hold


HALF = "x\ud83d"
STATES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a conversation's name in a read report": (
        "message.read",
        {
            "user": "u",
            "conversation": {"type": "group", "id": "g", "name": HALF},
            "message_id": "m",
        },
        True,
    ),
    "in a recall": (
        "message.recalled",
        {"message_id": "m", "conversation": {"type": "group", "id": "g", "name": HALF}},
        True,
    ),
    "in a mute": (
        "settings.updated",
        {
            "user": "u",
            "mute": {"conversation": {"type": "c2c", "id": "a", "name": HALF}, "mode": "all"},
        },
        True,
    ),
    "a field that we do not know": (
        "app.background",
        {"user": "u", "device_id": "d", "badge": 1, "screen": {HALF: [HALF]}},
        True,
    ),
    "the phone's own name": (
        "device.registered",
        {
            "user": "u",
            "device_id": "d",
            "platform": "ios",
            "vendor": "apns",
            "business_id": "b",
            "token": "t",
            "model": HALF,
        },
        True,
    ),
    "a conversation's id": (
        "message.recalled",
        {"message_id": "m", "conversation": {"type": "group", "id": HALF}},
        False,
    ),
    "whom somebody blocks": ("settings.updated", {"user": "u", "blocked": ["a", HALF]}, False),
    "a platform": ("session.logout", {"user": "u", "platform": HALF}, False),
    "whose call it was": ("call.ended", {"call_id": "c", "reason": "no", "users": [HALF]}, False),
}


@pytest.mark.parametrize("bad", ["\ud83d", "\0"])
@pytest.mark.parametrize(("kind", "data", "taken"), STATES.values(), ids=STATES)
def test_what_is_no_character_stops_a_state_event_in_its_ids_only(
    kind: str, data: dict[str, Any], taken: bool, bad: str
) -> None:
    body = {"v": 1, "id": "e", "type": kind, "app": "A", "ts": NOW, "data": data}
    raw = json.dumps(body).replace("\\ud83d", json.dumps(bad)[1:-1]).encode("ascii")
    assert isinstance(read_entry("im:events", f"{NOW}-0", {b"e": raw}, ["A"], NOW), Passed) is taken


# ---------------------------------------------------------------- values of ours that become header


# ---------------------------------------------------------------- what it stands on
