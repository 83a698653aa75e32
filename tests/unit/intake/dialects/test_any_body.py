"""Whatever the body is: an adapter returns events that the canonical schema can read, or raises
DialectError. Nothing else.
"""

import ast
import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.contracts import Conversation, Element, PushFields, Sender
from tests.examples import examples
from tests.tables import spaced
from tests.unit.intake.dialects.test_push_fields import BODIES, ROWS
from tests.unit.intake.dialects.test_samples import SAMPLES, body_of
from workers.intake import dialects
from workers.intake.dialects import (
    DIALECTS,
    DialectError,
    Ignored,
    Translated,
    reading,
    tenant_named,
)


class Stored(msgspec.Struct, forbid_unknown_fields=True):
    message_id: str
    conversation: Conversation
    sender: Sender
    elements: list[Element]
    push: PushFields
    recipients: list[str] | None = None
    exclude: list[str] | None = None
    mentions: list[str] | None = None


class Read(msgspec.Struct, forbid_unknown_fields=True):
    user: str
    conversation: Conversation
    message_id: str | None = None
    up_to_ms: int | None = None


class Recalled(msgspec.Struct, forbid_unknown_fields=True):
    message_id: str
    conversation: Conversation


class Invited(msgspec.Struct, forbid_unknown_fields=True):
    call_id: str
    inviter: Sender
    invitees: list[str]
    timeout_s: int
    push: PushFields


class Ended(msgspec.Struct, forbid_unknown_fields=True):
    call_id: str
    reason: Literal["cancelled", "timeout", "accepted", "rejected"]
    users: list[str] | None = None


class Session(msgspec.Struct, forbid_unknown_fields=True):
    user: str
    platform: Literal["ios", "android", "harmony", "windows", "mac", "linux", "web", "ipad"]


DATA = {
    "message.stored": Stored,
    "message.read": Read,
    "message.recalled": Recalled,
    "call.invited": Invited,
    "call.ended": Ended,
    "session.logout": Session,
    "session.kicked": Session,
}


REASONS = set(
    spaced("""
        wrong_type missing_field out_of_range not_unicode no_command no_app unknown_dialect
    """)
)


def check(found: Translated) -> None:
    """The result keeps the contract, and can be packed."""
    assert (found.ignored is None) == bool(found.events)
    assert found.ignored is None or found.ignored in set(Ignored)
    assert found.unknown_fields >= 0
    for event in found.events:
        assert set(event) == {"v", "id", "type", "app", "ts", "data"}
        assert (event["v"], event["app"]) == (1, "a")
        assert 1 <= len(event["id"]) <= 128
        assert isinstance(event["ts"], int)
        assert 0 < event["ts"] < 1 << 53
        data: Any = msgspec.convert(event["data"], DATA[event["type"]], strict=True)
        if isinstance(data, Stored | Invited):
            assert 0 <= data.push.badge.increment <= 99
            assert 0 < data.push.ttl_s <= 604_800
            assert data.push.display.nick_prefix != "auto"
        msgspec.msgpack.encode(data)
    assert len({event["id"] for event in found.events}) == len(found.events)


def tried(dialect: str, body: Any, query: str | None) -> None:
    try:
        tenant_named(dialect, body, query)
        check(DIALECTS[dialect](body, app="a", query=query, entry_ms=1763787799999))
    except DialectError as error:
        if error.reason not in REASONS:
            pytest.fail(f"{error.reason} is not in the closed set")


numbers = st.one_of(
    st.integers(), st.integers(-2, 3), st.floats(allow_nan=False, allow_infinity=False)
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=6),
    st.sampled_from(["", "0", "1", "true", "{}", "[]", '{"a":1}', "\ud83c"]),
)
junk = st.recursive(
    leaves,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3), st.dictionaries(st.text(max_size=6), inside, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value, the root left out."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found: list[tuple[Any, ...]] = []
    for key, item in inside:
        found += [(*way, key), *places(item, (*way, key))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any, str | None]:
    """A sample with keys dropped, types changed and keys of other samples added."""
    sample = draw(st.sampled_from(SAMPLES))
    body = json.loads(json.dumps(body_of(sample)))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(places(body) or [("CallbackCommand",)]))
        holder = body
        for step in way:
            holder = holder[step]
        if isinstance(holder, dict) and draw(st.booleans()):
            holder.pop(last)
        else:
            holder[last] = draw(junk)
    other = body_of(draw(st.sampled_from(SAMPLES)))
    for key in draw(st.lists(st.sampled_from(sorted(other)), max_size=2)):
        body[key] = draw(st.one_of(st.just(other[key]), junk))
    query = draw(st.one_of(st.none(), st.just(sample.get("query")), st.text(max_size=20)))
    return sample["d"], body, query


@settings(max_examples=examples(60), deadline=None)
@given(mutated())
def test_a_damaged_sample_gives_events_or_a_dialect_error(case):
    tried(*case)


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(sorted(DIALECTS)), junk, st.one_of(st.none(), st.text(max_size=20)))
def test_any_json_gives_events_or_a_dialect_error(dialect, body, query):
    tried(dialect, body, query)


@st.composite
def push_blocks(draw: st.DrawFn) -> tuple[str, Any]:
    """A good message with a push block whose every field may be anything."""
    cloud = draw(st.sampled_from(sorted(BODIES)))
    make = draw(st.sampled_from(BODIES[cloud]))
    extras = [extra for name, extra, _ in ROWS.values() if name == cloud]
    body: dict[str, Any] = make()
    for extra in draw(st.lists(st.sampled_from(extras), min_size=1, max_size=4)):
        body |= json.loads(json.dumps(extra))
    if draw(st.booleans()):
        *way, last = draw(st.sampled_from(places(body)))
        holder = body
        for step in way:
            holder = holder[step]
        holder[last] = draw(junk)
    return cloud, body


@settings(max_examples=examples(60), deadline=None)
@given(push_blocks())
def test_any_push_block_gives_canonical_fields_or_a_dialect_error(case):
    dialect, body = case
    tried(dialect, body, None)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_json_inside_a_text_may_be_as_deep_as_it_likes(dialect):
    deep = "[" * 100_000
    for body in [body_of(sample) for sample in SAMPLES if sample["d"] == dialect]:
        for key in ("payload", "msg_body", "tMembers", "forcepushlist", "option"):
            tried(dialect, {**body, key: deep, "msg_type": 10, "vendorParams": deep}, None)


@given(
    st.lists(st.text(alphabet="ab:%", min_size=1, max_size=4), min_size=3, max_size=3),
    st.lists(st.text(alphabet="ab:%", min_size=1, max_size=4), min_size=3, max_size=3),
)
def test_ids_of_different_parts_differ(one, other):
    assert (reading.joined(*one) == reading.joined(*other)) == (one == other)


@pytest.mark.parametrize(("length", "kept"), [(128, True), (129, False)])
def test_an_id_over_128_characters_becomes_its_digest(length, kept):
    short = reading.short_id("x" * length)
    assert (short == "x" * length) == kept
    assert len(short) <= 128
    assert kept or short.startswith("sha256:")


CUTS = {
    "short": ("abc", 5, "abc"),
    "plain": ("abcdef", 3, "abc"),
    "a family is not torn": ("ab👨\u200d👩\u200d👧", 4, "ab"),
    "a skin tone stays with its hand": ("ab👍🏽", 3, "ab"),
    "a flag is not torn": ("abc🇨🇳", 4, "abc"),
    "an accent stays with its letter": ("abe\u0301", 3, "ab"),
    "nothing but accents": ("\u0301" * 5, 3, "\u0301" * 3),
}


@pytest.mark.parametrize(("text", "most", "kept"), CUTS.values(), ids=CUTS)
def test_a_cut_text_has_whole_characters(text, most, kept):
    assert reading.cut(text, most) == kept


ALLOWED = set(
    spaced("""
        __future__ collections common dataclasses enum hashlib hmac msgspec re typing unicodedata
        urllib
    """)
)


def test_the_adapters_import_the_standard_library_msgspec_and_commons_values_only():
    files = sorted(Path(dialects.__file__).parent.glob("*.py"))
    assert len(files) == 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                own = name.startswith("workers.intake.dialects")
                assert (
                    own
                    or name in ("common.model", "common.contracts")
                    or name.split(".")[0] in ALLOWED - {"common"}
                ), (file.name, name)


def test_an_unknown_dialect_names_nobody():
    with pytest.raises(DialectError, match="unknown_dialect"):
        tenant_named("morse", {}, None)


def test_a_native_event_is_handed_on_as_it_came():
    from workers.intake.dialects import native

    event = {"v": 1, "id": "x", "app": "a"}
    assert native.translate(event, app="a", query=None, entry_ms=1).events == (event,)
    assert tenant_named("native", event, None) == ["a"]
    assert tenant_named("native", {}, None) == []
