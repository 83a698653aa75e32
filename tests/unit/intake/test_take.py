"""What is decided of a message before anybody's presence is asked: whether it has words, and whose name stands before them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.contracts import decode_messages
from common.model import Decision
from workers.intake.consumer import _packed, _times
from workers.intake.stage import Passed, read_entry, take

NOW_MS = 1_763_787_600_000
TEXT = [{"type": "text", "text": "hello"}]
FORCE = {"force": {"on": True, "body": "Wake up"}}


def taken(push: dict[str, Any], elements: list[dict[str, Any]] | None = None, kind: str = "group") -> Any:
    conversation = {"type": kind, "id": "g1"}
    data = {"message_id": "m1", "conversation": conversation, "sender": {"id": "ann", "nick": "Ann"}, "recipients": ["bob"], "push": push}
    return take(passed("message.stored", {**data, "elements": elements or []}), NOW_MS)


def passed(kind: str, data: dict[str, Any]) -> Any:
    event = {"v": 1, "id": "e1", "type": kind, "app": "demo", "ts": NOW_MS, "data": data}
    read = read_entry("im:events", f"{NOW_MS}-0", {b"e": json.dumps(event).encode()}, ["demo"], NOW_MS)
    assert isinstance(read, Passed), read
    return read.events[0]


WORDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, Decision | None]] = {
    "an element's text": ({}, TEXT, "group", None),
    "a picture has words of ours": ({}, [{"type": "image"}], "group", None),
    "a custom element without a text": ({}, [{"type": "custom"}], "group", Decision.NO_TEXT),
    "a text of blanks": ({}, [{"type": "text", "text": " \n"}], "group", Decision.NO_TEXT),
    "nothing": ({}, [], "group", Decision.NO_TEXT),
    "the sender's body": ({"display": {"body": "Look!"}}, [], "group", None),
    "a body of blanks": ({"display": {"body": "  "}}, [], "group", Decision.NO_TEXT),
    "a title alone is no text": ({"display": {"title": "Hi"}}, [], "group", Decision.NO_TEXT),
    "the text of a forced push": (FORCE, [], "group", None),
    "the text of a forced push that is off": ({"force": {"on": False, "body": "Wake up"}}, [], "group", Decision.NO_TEXT),
    "the text of a forced push of blanks": ({"force": {"on": True, "body": " "}}, [], "group", Decision.NO_TEXT),
    "a chat of two is never forced": (FORCE, [], "c2c", Decision.NO_TEXT),
    "a silent push needs none": ({"push_type": "silent"}, [], "group", None),
}


@pytest.mark.parametrize(("push", "elements", "kind", "decision"), WORDS.values(), ids=WORDS)
def test_a_message_without_words_is_not_pushed(push: dict[str, Any], elements: list[dict[str, Any]], kind: str, decision: Any) -> None:
    assert taken(push, elements, kind).decision == decision


PREFIXES: dict[str, tuple[dict[str, Any], str]] = {
    "built from the elements": ({}, "on"),
    "the sender's body": ({"body": "Look!"}, "off"),
    "an empty body is none": ({"body": ""}, "on"),
    "a body of blanks is none": ({"body": " "}, "on"),
    "the sender's wish": ({"body": "Look!", "nick_prefix": "on"}, "on"),
    "the sender's other wish": ({"nick_prefix": "off"}, "off"),
}


@pytest.mark.parametrize(("display", "prefix"), PREFIXES.values(), ids=PREFIXES)
def test_the_name_stands_before_words_that_are_built_and_not_before_the_senders_own(display: dict[str, Any], prefix: str) -> None:
    assert taken({"display": display}, TEXT).message.push.display.nick_prefix == prefix


@pytest.mark.parametrize(("kind", "recipients", "most"), [("group", None, 40), ("c2c", ["bob"], 200), ("group", ["bob", "eve"], 200)])
def test_an_entry_holds_no_more_people_than_a_process_can_look_at(kind: str, recipients: Any, most: int) -> None:
    data = {"message_id": "m1", "conversation": {"type": kind, "id": "ann"}, "sender": {"id": "ann"}, "elements": TEXT}
    event = passed("message.stored", {**data, "recipients": recipients})
    blobs = _packed([take(event, NOW_MS).message] * 1_000)
    sizes = [len(decode_messages(blob)) for blob in blobs]
    assert sum(sizes) == 1_000
    assert most // 2 < sizes[0] <= most


def test_people_read_up_to_a_message_that_was_not_to_be_pushed_too() -> None:
    silent = {"message_id": "m2", "conversation": {"type": "c2c", "id": "ann"}, "sender": {"id": "ann"}, "recipients": ["bob"]}
    stored = passed("message.stored", {**silent, "push": {"gate": {"enabled": False}}})
    assert take(stored, NOW_MS).decision == Decision.PUSH_DISABLED
    call = passed("call.invited", {"call_id": "c1", "inviter": {"id": "ann"}, "invitees": ["bob"], "timeout_s": 60})
    assert _times([stored, call]) == [("demo", "m2", NOW_MS)]


CALLS = {"words of ours": ({}, "on"), "the inviter's": ({"body": "Look!"}, "off"), "as wished": ({"nick_prefix": "off"}, "off")}


@pytest.mark.parametrize(("display", "prefix"), CALLS.values(), ids=CALLS)
def test_an_invitation_says_who_calls_as_a_message_says_who_wrote(display: dict[str, Any], prefix: str) -> None:
    data = {"call_id": "c1", "inviter": {"id": "ann", "nick": "Ann"}, "invitees": ["bob"], "timeout_s": 60, "push": {"display": display}}
    assert take(passed("call.invited", data), NOW_MS).message.push.display.nick_prefix == prefix
