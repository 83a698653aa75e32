"""The usual message read in one go says what the general way says of the same bytes, or leaves it
to that way.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.intake import decoding
from workers.intake.event_types import take
from workers.intake.usual import read_usual

NOW = 1_763_787_600_000
ENTRY = f"{NOW}-7"
NAMES = st.sampled_from(
    ["ann", "bob", "a:b", "\u4f60\u597d", "", " ", ":", "e\u0301\n", '"', "\\", "\U0001f600"]
)
TEXTS = st.one_of(
    st.sampled_from(["20:00", "a\\u003ab", "\\ud83d", "\\u0000", "{", ":)", " : ", '":']), NAMES
)
ABSENT = st.just(None)


def plain() -> dict[str, Any]:
    conversation = {"type": "c2c", "id": "ann"}
    sender = {"id": "ann", "nick": "Ann"}
    data = {"message_id": "m-1", "conversation": conversation, "sender": sender}
    more = {"recipients": ["bob"], "elements": [{"type": "text", "text": "hello at 20:00"}]}
    return {
        "v": 1,
        "id": "e-1",
        "type": "message.stored",
        "app": "demo",
        "ts": NOW - 5,
        "data": {**data, **more},
    }


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """An event that differs from the plain one in a few places, of which any may be wrong."""
    event = plain()
    places: dict[str, Callable[[Any], Any]] = {
        "app": lambda value: event.update(app=value),
        "id": lambda value: event.update(id=value),
        "conversation": lambda value: event["data"]["conversation"].update(id=value),
        "name": lambda value: event["data"]["conversation"].update(name=value),
        "sender": lambda value: event["data"]["sender"].update(id=value),
        "nick": lambda value: event["data"]["sender"].update(nick=value),
        "card": lambda value: event["data"]["sender"].update(group_card=value),
        "recipients": lambda value: event["data"].update(
            recipients=[value, *draw(st.lists(NAMES, max_size=2))]
        ),
        "mentions": lambda value: event["data"].update(mentions=[value]),
        "exclude": lambda value: event["data"].update(exclude=[value] if value else []),
        "text": lambda value: event["data"]["elements"].append({"type": "text", "text": value}),
        "unknown": lambda value: event["data"].update(more={value: value}),
        "extra": lambda value: event.update({value: value}),
    }
    for place in draw(st.lists(st.sampled_from(sorted(places)), max_size=3)):
        places[place](draw(TEXTS))
    times = [NOW + 10**9, -1, 1_763_787_600, "1", None]
    odd = {"v": st.sampled_from([1, 2, "1"]), "ts": st.sampled_from(times), "app": st.none()}
    for key in draw(st.lists(st.sampled_from(sorted(odd)), max_size=1)):
        event[key] = draw(odd[key])
    data = {
        "type": lambda: event["data"]["conversation"].update(
            type=draw(st.sampled_from(["group", "room"]))
        ),
        "none": lambda: event["data"].update(
            {draw(st.sampled_from(["recipients", "elements", "mentions", "push"])): None}
        ),
        "gone": lambda: event["data"].pop(
            draw(st.sampled_from(["recipients", "elements", "sender", "message_id"]))
        ),
        "push": lambda: event["data"].update(
            push=draw(st.sampled_from([{}, {"ttl_s": 60}, {"display": {"title": "T"}}]))
        ),
    }
    for change in draw(st.lists(st.sampled_from(sorted(data)), max_size=1)):
        data[change]()
    return event


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """An event as some core writes it, at times with a key named twice."""
    event = draw(changed())
    gap = draw(st.sampled_from([(",", ":"), (", ", ": "), (",", " : ")]))
    text = json.dumps(event, ensure_ascii=draw(st.booleans()), separators=gap)
    if draw(st.booleans()):
        key = draw(st.sampled_from(['"id"', '"text"', '"type"', '"recipients"', '"nick"', '"v"']))
        at = text.find(key + gap[1])
        if at >= 0:
            end = json.JSONDecoder().raw_decode(text, at + len(key) + len(gap[1]))[1]
            text = text[:at] + text[at:end] + gap[0] + text[at:]
    return text.encode("utf-8", "surrogatepass").replace(b"\\\\u", b"\\u")


#: To all members of a group, and without a word.
BARE = {
    **plain(),
    "data": {
        "conversation": {"type": "group", "id": "g"},
        "message_id": "m-1",
        "sender": {"id": "ann"},
    },
}


@given(written())
@example(json.dumps(BARE).encode())
def test_what_is_read_in_one_go_is_what_the_general_way_reads(raw: bytes) -> None:
    fields = {b"e": raw}
    found = decoding.read_entries("im:events", ENTRY, fields, ("demo",), NOW)
    assert found == [decoding.read_entry("im:events", ENTRY, fields, ("demo",), NOW)]


@pytest.mark.parametrize("gap", [(",", ":"), (", ", ": "), (",", " : ")])
@pytest.mark.parametrize(
    "text", ["hello", "20:00", ":)", 'say "a": b', "\u4f60\u597d", "\U0001f600", "two\nlines", ""]
)
def test_a_message_without_wishes_needs_no_closer_look(gap: tuple[str, str], text: str) -> None:
    event = plain()
    event["data"]["elements"][0]["text"] = text
    for is_ascii in (True, False):
        found = read_usual(json.dumps(event, ensure_ascii=is_ascii, separators=gap).encode())
        assert found is not None


def test_a_colon_that_is_written_as_an_escape_hides_no_key_named_twice() -> None:
    escaped = json.dumps(plain(), separators=(",", ":")).replace("20:00", "20\\u003a00")
    text = escaped.replace('"v":1', '"v":1,"v":1')
    (read,) = decoding.read_entries("im:events", ENTRY, {b"e": text.encode()}, ("demo",), NOW)
    assert isinstance(read, decoding.Refused)
    assert read.reason.startswith("duplicate_key")


@pytest.mark.parametrize("quote", ['\\"', "\\u0022"])
@pytest.mark.parametrize("twice", ['"v":1,"v":1', '"exclude":null,"v":1', '"v" :1 ,"v":1'])
def test_quotes_inside_a_text_hide_no_key(quote: str, twice: str) -> None:
    """twice: in place of the version, a key named twice or without a value."""
    plainly = json.dumps(plain(), separators=(",", ":")).replace("20:00", f"{quote}20:00{quote}")
    for raw in (plainly, plainly.replace('"v":1', twice)):
        fields = {b"e": raw.encode()}
        found = decoding.read_entries("im:events", ENTRY, fields, ("demo",), NOW)
        assert found == [decoding.read_entry("im:events", ENTRY, fields, ("demo",), NOW)]
    assert read_usual(plainly.replace('"v":1', twice).encode()) is None


@pytest.mark.parametrize("missing", ["sender.nick", "recipients", "elements"])
def test_an_unknown_key_with_as_many_quotes_as_a_missing_one_is_seen(missing: str) -> None:
    event = plain()
    part, _, key = missing.rpartition(".")
    del (event["data"][part] if part else event["data"])[key]
    strange = {"recipients": ["x"], "elements": [["x", "x"], ["x", "x"]]}.get(key, "x")
    event["data"]["x"] = strange
    assert json.dumps(event).count('"') == json.dumps(plain()).count('"')
    assert read_usual(json.dumps(event).encode()) is None


@given(changed(), st.integers(-(10**9), 10**9))
def test_a_message_without_wishes_travels_on_as_one_with_empty_wishes_does(
    event: dict[str, Any], later_ms: int
) -> None:
    event["data"].pop("push", None)
    both = []
    for data in (event["data"], {**event["data"], "push": {}}):
        (read,) = decoding.read_entries(
            "im:events", ENTRY, {b"e": json.dumps({**event, "data": data}).encode()}, ("demo",), NOW
        )
        both.append(
            [take(one, NOW + later_ms) for one in read.events]
            if isinstance(read, decoding.Passed)
            else read.reason
        )
    assert both[0] == both[1]
