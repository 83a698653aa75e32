"""Inputs beside those that were reported, of each kind of fault: what they are, and the right
value. Pure and quick.
"""

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


# ---------------------------------------------------------------- what files and texts hold


HALF = "x\ud83d"
GROUP = {"type": "group", "id": "g", "name": HALF}
PHONE = {"user": "u", "device_id": "d"}
IOS = {**PHONE, "platform": "ios", "vendor": "apns", "business_id": "b", "token": "t"}
STATES: dict[str, tuple[str, dict[str, Any]]] = {
    "a conversation's name in a read report": (
        "message.read",
        {"user": "u", "conversation": GROUP, "message_id": "m"},
    ),
    "in a recall": ("message.recalled", {"message_id": "m", "conversation": GROUP}),
    "in a mute": (
        "settings.updated",
        {"user": "u", "mute": {"conversation": GROUP, "mode": "all"}},
    ),
    "a field that we do not know": (
        "app.background",
        {**PHONE, "badge": 1, "screen": {HALF: [HALF]}},
    ),
    "the phone's own name": ("device.registered", {**IOS, "model": HALF}),
}
IDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a conversation's id": (
        "message.recalled",
        {"message_id": "m", "conversation": {"type": "group", "id": HALF}},
    ),
    "whom somebody blocks": ("settings.updated", {"user": "u", "blocked": ["a", HALF]}),
    "a platform": ("session.logout", {"user": "u", "platform": HALF}),
    "whose call it was": ("call.ended", {"call_id": "c", "reason": "no", "users": [HALF]}),
}


@pytest.mark.parametrize("bad", ["\ud83d", "\0"])
@pytest.mark.parametrize("name", [*STATES, *IDS])
def test_what_is_no_character_stops_a_state_event_in_its_ids_only(name: str, bad: str) -> None:
    kind, data = {**STATES, **IDS}[name]
    body = {"v": 1, "id": "e", "type": kind, "app": "A", "ts": NOW, "data": data}
    raw = json.dumps(body).replace("\\ud83d", json.dumps(bad)[1:-1]).encode("ascii")
    assert isinstance(read_entry("im:events", f"{NOW}-0", {b"e": raw}, ["A"], NOW), Passed) is (
        name in STATES
    )
