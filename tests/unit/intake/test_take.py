"""What is decided of a message before anybody's presence is asked: whether it has words, and whose
name stands before them.
"""

import json
from typing import Any

import pytest

from common.contracts import decode_messages, encode
from common.model import Decision
from tests.builders import device_of
from workers.handlers.intake import _taken_back, _times, packed_messages
from workers.intake.decoding import Passed, read_entry
from workers.intake.event_types import take
from workers.intake.messages import by_preset

NOW_MS = 1_763_787_600_000
TEXT = [{"type": "text", "text": "hello"}]
SENT = {
    "message_id": "m1",
    "conversation": {"type": "group", "id": "g1"},
    "sender": {"id": "ann", "nick": "Ann"},
    "recipients": ["bob"],
}


def text(words: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "text": words}


def forced(body: str, on: bool = True) -> dict[str, Any]:
    return {"force": {"on": on, "body": body}}


def entry(kind: str, data: dict[str, Any]) -> Any:
    event = {"v": 1, "id": "e1", "type": kind, "app": "demo", "ts": NOW_MS, "data": data}
    raw = json.dumps(event).encode()
    return read_entry("im:events", f"{NOW_MS}-0", {b"e": raw}, ["demo"], NOW_MS)


def taken(
    push: dict[str, Any], elements: list[dict[str, Any]] | None = None, kind: str = "group"
) -> Any:
    data = {**SENT, "conversation": {"type": kind, "id": "g1"}, "push": push}
    return take(passed("message.stored", {**data, "elements": elements or []}), NOW_MS)


def passed(kind: str, data: dict[str, Any]) -> Any:
    read = entry(kind, data)
    assert isinstance(read, Passed), read
    return read.events[0]


NONE = Decision.NO_TEXT
WORDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, Decision | None]] = {
    "an element's text": ({}, TEXT, "group", None),
    "a picture has words of ours": ({}, [{"type": "image"}], "group", None),
    "a custom element without a text": ({}, [{"type": "custom"}], "group", NONE),
    "a text of blanks": ({}, [text(" \n")], "group", NONE),
    "a zero-width space": ({}, [text("\u200b")], "group", NONE),
    "marks of direction around blanks": (
        {},
        [text("\u2067\u3000\u2069"), text("\ufeff", "custom")],
        "group",
        NONE,
    ),
    "a letter that is drawn as a blank": ({"display": {"body": "\u3164\u2800"}}, [], "group", NONE),
    "half an emoji has a sign of its own": ({}, [text("\ufffd")], "c2c", None),
    "one joined of several": ({}, [text("\u200b\u2764\ufe0f\u200d\U0001f525")], "c2c", None),
    "nothing": ({}, [], "group", NONE),
    "the sender's body": ({"display": {"body": "Look!"}}, [], "group", None),
    "a body of blanks": ({"display": {"body": "  "}}, [], "group", NONE),
    "a title alone is no text": ({"display": {"title": "Hi"}}, [], "group", NONE),
    "the text of a forced push": (forced("Wake up"), [], "group", None),
    "the text of a forced push that is off": (forced("Wake up", on=False), [], "group", NONE),
    "the text of a forced push of blanks": (forced(" "), [], "group", NONE),
    "a chat of two is never forced": (forced("Wake up"), [], "c2c", NONE),
    "a silent push needs none": ({"push_type": "silent"}, [], "group", None),
}


@pytest.mark.parametrize(("push", "elements", "kind", "decision"), WORDS.values(), ids=WORDS)
def test_a_message_without_words_is_not_pushed(
    push: dict[str, Any], elements: list[dict[str, Any]], kind: str, decision: Any
) -> None:
    assert taken(push, elements, kind).decision == decision


#: the message's own wishes, its preset, and what is decided of a message without words.
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, Any]] = {
    "a silent one": ({}, {"push_type": "silent"}, None),
    "one for calls": ({}, {"push_type": "voip"}, None),
    "one that says nothing of it": ({}, {"apns": {"push_type": "silent"}}, NONE),
    "an alert": ({}, {"push_type": "alert"}, NONE),
    "none of that name": ({}, None, NONE),
    "what is shut stays so": (
        {"gate": {"enabled": False}},
        {"push_type": "silent"},
        Decision.PUSH_DISABLED,
    ),
}


@pytest.mark.parametrize(("push", "preset", "decision"), PRESETS.values(), ids=PRESETS)
def test_a_silent_preset_needs_no_words(
    push: dict[str, Any], preset: dict[str, Any] | None, decision: Any
) -> None:
    found = taken({**push, "strategy_id": "s"})
    assert by_preset(found, preset, NOW_MS).decision == decision
    if decision is None:
        late = by_preset(found, preset, found.message.expires_at_ms)
        assert late.decision is Decision.EXPIRED


def test_each_person_is_named_once_and_what_says_nothing_is_not_pushed() -> None:
    data = {**SENT, "recipients": ["bob", "carl", "bob"]}
    found = take(passed("message.stored", data), NOW_MS)
    assert (found.message.recipients, found.decision) == (("bob", "carl"), Decision.NO_TEXT)


@pytest.mark.parametrize(("later_ms", "decision"), [(59_999, None), (60_000, Decision.EXPIRED)])
def test_a_message_that_comes_after_its_time_is_told_so(later_ms: int, decision: Any) -> None:
    data = {**SENT, "elements": TEXT, "push": {"ttl_s": 60}}
    assert take(passed("message.stored", data), NOW_MS + later_ms).decision is decision


PREFIXES: dict[str, tuple[dict[str, Any], str]] = {
    "built from the elements": ({}, "on"),
    "the sender's body": ({"body": "Look!"}, "off"),
    "an empty body is none": ({"body": ""}, "on"),
    "a body of blanks is none": ({"body": " "}, "on"),
    "the sender's wish": ({"body": "Look!", "nick_prefix": "on"}, "on"),
    "the sender's other wish": ({"nick_prefix": "off"}, "off"),
}


@pytest.mark.parametrize(("display", "prefix"), PREFIXES.values(), ids=PREFIXES)
def test_the_name_stands_before_words_that_are_built_and_not_before_the_senders_own(
    display: dict[str, Any], prefix: str
) -> None:
    assert taken({"display": display}, TEXT).message.push.display.nick_prefix == prefix


def test_a_life_longer_than_a_week_is_cut_however_long_it_is() -> None:
    message = taken({"ttl_s": 10**25}, TEXT).message
    assert message.expires_at_ms == NOW_MS + 7 * 86_400_000
    assert decode_messages(encode([message])) == [message]


@pytest.mark.parametrize(
    ("kind", "recipients", "most"),
    [("group", None, 40), ("c2c", ["bob"], 200), ("group", ["bob", "eve"], 200)],
)
def test_an_entry_holds_no_more_people_than_a_process_can_look_at(
    kind: str, recipients: Any, most: int
) -> None:
    data = {**SENT, "conversation": {"type": kind, "id": "ann"}, "elements": TEXT}
    event = passed("message.stored", {**data, "recipients": recipients})
    blobs = [blob for _, blob in packed_messages([take(event, NOW_MS).message] * 1_000)]
    sizes = [len(decode_messages(blob)) for blob in blobs]
    assert sum(sizes) == 1_000
    assert most // 2 < sizes[0] <= most


def test_people_read_up_to_a_message_that_was_not_to_be_pushed_too() -> None:
    chat = {"message_id": "m2", "conversation": {"type": "c2c", "id": "ann"}}
    stored = passed("message.stored", {**SENT, **chat, "push": {"gate": {"enabled": False}}})
    assert take(stored, NOW_MS).decision == Decision.PUSH_DISABLED
    data = {"call_id": "c1", "inviter": {"id": "ann"}, "invitees": ["bob"], "timeout_s": 60}
    call = passed("call.invited", data)
    assert _times([call, stored]) == {1: ("demo", "c2c:ann", "m2", NOW_MS)}


def test_the_ledger_hears_of_a_recall_and_of_the_end_of_a_call() -> None:
    recalled = {"message_id": "m1", "conversation": {"type": "group", "id": "g1"}}
    events = [
        passed("message.recalled", recalled),
        passed("message.read", {"user": "bob", **recalled}),
        passed("call.ended", {"call_id": "c1", "reason": "cancelled"}),
    ]
    told = _taken_back(events)
    assert [
        (one.event_id, one.message_id, one.type, one.conversation, one.decision) for one in told
    ] == [("e1", "m1", "message.recalled", "group:g1", None), ("e1", "c1", "call.ended", "", None)]


CALLS = {
    "words of ours": ({}, "on"),
    "the inviter's": ({"body": "Look!"}, "off"),
    "as wished": ({"nick_prefix": "off"}, "off"),
}


@pytest.mark.parametrize(("display", "prefix"), CALLS.values(), ids=CALLS)
def test_an_invitation_says_who_calls_as_a_message_says_who_wrote(
    display: dict[str, Any], prefix: str
) -> None:
    data = {
        "call_id": "c1",
        "inviter": {"id": "ann", "nick": "Ann"},
        "invitees": ["bob"],
        "timeout_s": 60,
        "push": {"display": display},
    }
    assert take(passed("call.invited", data), NOW_MS).message.push.display.nick_prefix == prefix


CJK, ASCII = "长" * 334, "a" * 512
DEVICE = device_of("bob", token="t")
GROUP = {"type": "group", "id": CJK}
PHONE, STORED, WISH = "device.registered", "message.stored", "settings.updated"
NAMES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "512 characters of ASCII": (
        PHONE,
        {**DEVICE, "user": ASCII, "device_id": ASCII, "push_id": ASCII},
        True,
    ),
    "333 of Chinese": (PHONE, {**DEVICE, "user": CJK[1:], "device_id": CJK[1:]}, True),
    "a person": (PHONE, {**DEVICE, "user": CJK}, False),
    "a device": (PHONE, {**DEVICE, "device_id": CJK}, False),
    "an alias": (PHONE, {**DEVICE, "push_id": CJK}, False),
    "a message, which stands alone in its index": (STORED, {**SENT, "message_id": CJK}, True),
    "one of many recipients": (STORED, {**SENT, "recipients": ["bob", CJK]}, False),
    "a group": (STORED, {**SENT, "conversation": GROUP}, False),
    "a muted group": (WISH, {"user": "b", "mute": {"conversation": GROUP, "mode": "all"}}, False),
    "a device of a content key": (
        WISH,
        {"user": "bob", "content_key": {"device_id": CJK, "key": "k"}},
        False,
    ),
    "nothing named": (WISH, {"user": "bob", "mute": None, "content_key": None}, True),
}


@pytest.mark.parametrize(("kind", "data", "fits"), NAMES.values(), ids=NAMES)
def test_a_name_that_no_index_takes_is_a_dead_letter(
    kind: str, data: dict[str, Any], fits: bool
) -> None:
    read = entry(kind, data)
    assert isinstance(read, Passed) is fits
    assert isinstance(read, Passed) or read.reason.startswith("wrong_shape: ")


@pytest.mark.parametrize(
    ("number", "fits"),
    [(2**64 - 1, True), (-(2**63), True), (2**64, False), (10**40, False), (1e300, True)],
)
@pytest.mark.parametrize("place", ["data", "vendor_raw"])
def test_a_number_that_no_stream_carries_is_a_dead_letter_with_its_reason(
    number: float, fits: bool, place: str
) -> None:
    push = {"data": {"payload": {"n": [number]}}, "vendor_raw": {"apns": {"n": number}}}
    read = entry("message.stored", {**SENT, "elements": TEXT, "push": {place: push[place]}})
    assert isinstance(read, Passed) is fits
    if isinstance(read, Passed):
        message = take(read.events[0], NOW_MS).message
        assert decode_messages(encode([message])) == [message]
    else:
        assert read.reason.startswith("out_of_range: ")


DIRECT: dict[str, Any] = {
    "target": {"vendor": "apns", "business_id": "ios", "token": "ab", "platform": "ios"},
    "message_id": "m1",
}


@pytest.mark.parametrize(
    ("gate", "decision"),
    [
        ({"enabled": False}, Decision.PUSH_DISABLED),
        ({"store_offline": False}, Decision.PUSH_DISABLED),
        ({"online_only": True}, Decision.ONLINE_ONLY),
        ({"respect_dnd": True, "require_friend": True}, None),
    ],
)
def test_the_gate_of_a_push_to_a_token_is_that_of_a_message(gate: Any, decision: Any) -> None:
    event = passed("push.direct", {**DIRECT, "push": {"gate": gate}})
    assert take(event, NOW_MS).decision == decision


NULLS: dict[str, tuple[str, dict[str, Any]]] = {
    "the reason of a call's end": ("call.ended", {"call_id": "c", "reason": None}),
    "the kind of a push to a token": ("push.direct", {**DIRECT, "kind": None}),
    "how long a reply waits": ("push.direct", {**DIRECT, "reply": {"key": "k", "wait_ms": None}}),
}


@pytest.mark.parametrize(("kind", "data"), NULLS.values(), ids=NULLS)
def test_null_is_absent_where_a_field_may_be(kind: str, data: dict[str, Any]) -> None:
    bare = {
        name: {inner: one for inner, one in value.items() if one is not None}
        if isinstance(value, dict)
        else value
        for name, value in data.items()
        if value is not None
    }
    assert passed(kind, data).data == passed(kind, bare).data


@pytest.mark.parametrize(
    ("since_ms", "known"),
    [
        (NOW_MS, NOW_MS),
        (NOW_MS + 2_000, NOW_MS + 2_000),  # just registered, by a clock that goes fast
        (NOW_MS + 300_001, None),
        (NOW_MS + 10**11, None),
        (None, None),
    ],
)
def test_a_registration_that_is_still_to_come_is_none(since_ms: Any, known: Any) -> None:
    target = {**DIRECT["target"], "since_ms": since_ms}
    assert passed("push.direct", {**DIRECT, "target": target}).data.target.since_ms == known
