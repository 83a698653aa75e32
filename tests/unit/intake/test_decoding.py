"""The bytes of one stream entry: an event, or a dead letter that says why, whose and of which type;
never an exception.
"""

import json
import random
import re
import time
from typing import Any

import msgspec
import pytest

from common.contracts import TTL_MAX_S, encode
from tests.examples import examples
from tests.tables import table
from workers.intake import events
from workers.intake.decoding import ENTRY_BYTES_MAX, Passed, Refused, read_entry
from workers.intake.event_types import effect_of, take
from workers.intake.events import Event

APP, NOW = "1400000001", 1_767_225_600_000
C2C = {
    "message_id": "m1",
    "conversation": {"type": "c2c", "id": "ann"},
    "sender": {"id": "ann"},
    "recipients": ["bob"],
}
STORED = {**C2C, "elements": [{"type": "text", "text": "hi"}]}
READ = {"user": "bob", "conversation": {"type": "c2c", "id": "ann"}}
MUTE = {"conversation": {"type": "group", "id": "g"}, "mode": "all"}
REGISTERED = {
    "user": "bob",
    "device_id": "d",
    "platform": "ios",
    "vendor": "apns",
    "business_id": "b",
    "token": "t",
}


def native(
    data: dict[str, Any] = STORED, kind: str = "message.stored", **more: Any
) -> dict[str, Any]:
    return {"v": 1, "id": "e1", "type": kind, "app": APP, "ts": NOW, "data": data, **more}


def read(body: Any, apps: tuple[str, ...] = (APP, "other"), **fields: str) -> Passed | Refused:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    entry = {b"e": raw} | {name.encode(): value.encode() for name, value in fields.items()}
    return read_entry("im:events", f"{NOW}-0", entry, apps, NOW)


def refused(body: Any, **fields: Any) -> Refused:
    found = read(body, **fields)
    assert isinstance(found, Refused)
    return found


def event(body: Any, **fields: Any) -> Event:
    found = read(body, **fields)
    assert isinstance(found, Passed), found
    (one,) = found.events
    return one


# ---------------------------------------------------------------- what can't be read


def text(value: str) -> bytes:
    """A message whose text is this JSON string, quotes and all."""
    return octets({**C2C, "elements": [{"type": "text", "text": "HERE"}]}, put=('"HERE"', value))


def octets(
    data: Any = STORED, kind: str = "message.stored", put: tuple[str, str] = ("", ""), **more: Any
) -> bytes:
    """A native event; put: a text of its JSON, and what stands there instead."""
    return json.dumps(native(data, kind, **more)).replace(*put).encode()


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not_json"),
    "half an object": (b'{"v":1', "not_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + octets(), "not_json"),
    "NaN": (b'{"v":1,"ts":NaN}', "not_json"),
    "-Infinity": (b'{"v":1,"ts":-Infinity}', "not_json"),
    "a raw NUL": (text('"a\0b"'), "not_json"),
    "half a surrogate pair in an id": (octets({**STORED, "message_id": "\ud83d"}), "not_unicode"),
    "half a pair beside a type that is a list": (octets(C2C, type=["\ud83d"]), "not_unicode"),
    "half a pair beside a type that is an object": (octets(type={}, x="\ud83d"), "wrong_shape"),
    "not UTF-8": (text('"a"').replace(b'"a"', b'"\xff"'), "not_utf8"),
    "an escaped NUL in a name": (octets({**C2C, "recipients": ["b\0"]}), "not_unicode"),
    "seconds": (octets(STORED, ts=1_767_225_600), "wrong_shape"),
    "seconds read up to": (
        octets({**READ, "up_to_ms": NOW // 1000}, "message.read"),
        "wrong_shape",
    ),
    "a mute until some second": (
        octets({"user": "u", "mute": {**MUTE, "until_ms": NOW // 1000}}, "settings.updated"),
        "wrong_shape",
    ),
    "a key twice": (b'{"v":1,"v":1}', "duplicate_key"),
    "a key twice deep inside": (
        octets({**STORED, "x": [{"y": "Z"}]}, put=('"y": "Z"', '"y":1,"y":2')),
        "duplicate_key",
    ),
    "nested to 33": (b"[" * 33 + b"]" * 33, "too_deep"),
    "a bound too large": (b'"' + b"x" * (ENTRY_BYTES_MAX - 1) + b'"', "too_large"),
    "an array": (b"[1]", "wrong_shape"),
    "a number": (b"5", "wrong_shape"),
    "a number of 5,000 digits": (b'{"ts":' + b"9" * 5000 + b"}", "not_json"),
}


@pytest.mark.parametrize(("raw", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_can_not_be_read_says_why(raw: bytes, reason: str) -> None:
    found = refused(raw)
    assert found.reason.partition(":")[0] == reason
    assert found.raw == raw[:ENTRY_BYTES_MAX]


READABLE: dict[str, bytes] = {
    "an escaped backslash before u0000": text(r'"\\u0000"'),
    "a whole surrogate pair": text(r'"\ud83d\ude00"'),
    "brackets in a text": text('"' + "[{" * 100 + r"\"" * 50 + '"'),
    "nested to 32": octets({**STORED, "x": json.loads("[" * 30 + "]" * 30)}),
    "unknown fields, whatever they hold": octets({**STORED, "new": {"n": 10**30}}, glow=[None]),
}


@pytest.mark.parametrize("raw", READABLE.values(), ids=READABLE)
def test_what_only_looks_unreadable_is_read(raw: bytes) -> None:
    assert event(raw).data.message_id == "m1"


#: Where a core may write half an emoji or U+0000, and where it is read.
WORDS = table("""
    a text | {"elements": [{"type": "text", "text": "HERE"}]} | elements 0 text
    a nick | {"sender": {"id": "ann", "nick": "HERE"}} | sender nick
    a card | {"sender": {"id": "ann", "group_card": "HERE"}} | sender group_card
    a conversation's name | {"conversation": {"type": "c2c", "id": "ann", "name": "HERE"}}
      | conversation name
    a body | {"push": {"display": {"body": "HERE"}}} | push display body
    ext | {"push": {"data": {"ext": "HERE"}}} | push data ext
    a payload, deep | {"push": {"data": {"payload": {"id": [{"x": "HERE"}]}}}}
      | push data payload id 0 x
    a forced body | {"push": {"force": {"on": true, "body": "HERE"}}} | push force body
    a vendor's own | {"push": {"vendor": {"oppo": {"id": "HERE"}}}} | push vendor oppo id
""")
BAD = {
    "the first half": r"a\ud83d",
    "the second half": r"\uDE00b",
    "halves the wrong way round": r"\ude00\ud83d",
    "U+0000": r"x\u0000y",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("made", "place"), WORDS.values(), ids=WORDS)
def test_half_an_emoji_in_a_text_is_replaced_and_counted(made: Any, place: str, bad: str) -> None:
    raw = json.dumps(native({**C2C, **made})).replace("HERE", bad + r" \ud83d\ude00\ufdd0")
    passed = read(raw.encode())
    assert isinstance(passed, Passed), passed
    expected = re.sub(r"\\u(d83d|de00|0000)", "\ufffd", bad, flags=re.IGNORECASE)
    found = msgspec.to_builtins(passed.events[0].data)
    for step in place.split():
        found = found[int(step) if isinstance(found, list | tuple) else step]
    assert found == f"{expected} \U0001f600\ufdd0", "and a whole one stays"
    assert passed.mended == expected.count("\ufffd")


IDS = {
    "an event id": lambda bad: native(STORED, id=bad),
    "a conversation": lambda bad: native({**C2C, "conversation": {"type": "c2c", "id": bad}}),
    "a sender": lambda bad: native({**C2C, "sender": {"id": bad}}),
    "a mention": lambda bad: native({**C2C, "mentions": ["eve", bad]}),
    "a collapse key": lambda bad: native({**C2C, "push": {"collapse_key": bad}}),
    "who is forced": lambda bad: native({**C2C, "push": {"force": {"on": True, "ids": [bad]}}}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("make", IDS.values(), ids=IDS)
def test_half_an_emoji_in_an_id_is_refused(make: Any, bad: str) -> None:
    assert refused(json.dumps(make("HERE")).replace("HERE", bad).encode()).reason.startswith(
        "not_unicode"
    )


COPIES = table("""
    nim | body | to | {"eventType": "1", "convType": "PERSON", "to": "bob", "fromAccount": "ann",
      "msgType": "TEXT", "msgidServer": "1"}
    zego | msg_body | conv_id | {"appid": "1400000001", "event": "send_msg", "from_user_id": "ann",
      "conv_type": 0, "conv_id": "bob", "msg_type": 1, "msg_id": "m"}
""")


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("dialect", COPIES)
def test_half_an_emoji_in_a_clouds_body_is_replaced_too(dialect: str, bad: str) -> None:
    key, whose, copy = COPIES[dialect]
    whole = json.dumps({**copy, key: "HERE"}).replace("HERE", bad).encode()
    found = read(whole, d=dialect, app=APP)
    assert isinstance(found, Passed), found
    texts = [element.text for one in found.events for element in one.data.elements if element.text]
    assert all("\ufffd" in text for text in texts)
    broken = json.dumps({**copy, whose: "HERE", key: "x"}).replace("HERE", bad).encode()
    assert isinstance(read(broken, d=dialect, app=APP), Refused)


CURES = {
    "seconds": (native(STORED, ts=1_767_225_600), "1000 times"),
    "a number for an id": (native({**STORED, "message_id": 5}), "put it in quotes"),
    "a number for a person": (native({**C2C, "recipients": [7]}), "put it in quotes"),
    "a byte order mark": (b"\xef\xbb\xbf" + octets(), "without one"),
}


@pytest.mark.parametrize(("raw", "cure"), CURES.values(), ids=CURES)
def test_what_is_refused_by_a_common_mistake_names_the_cure(raw: Any, cure: str) -> None:
    assert cure in refused(raw).reason


ENDLESS = {"quotes": b'\\"', "backslashes": b"\\", "openings": b'"[', "newlines": b"\\\n"}


@pytest.mark.parametrize("part", ENDLESS.values(), ids=ENDLESS)
def test_no_bytes_hold_the_reader_up(part: bytes) -> None:
    """A text that never ends was looked through once for each of its quotes: half an hour for one
    entry.
    """
    raw = (b"[" * 40 + b'"' + part * (ENTRY_BYTES_MAX // len(part)))[:ENTRY_BYTES_MAX]
    started = time.thread_time()
    assert refused(raw).reason.startswith("too_deep")
    assert time.thread_time() - started < 10


SPLINTERS = [*rb'" { [ \ \u0000 \ud800 1e999 NaN null -'.split(), b"\0", b"9" * 30, b"\xff"]


@pytest.mark.parametrize("dialect", [b"native", b"tencent", b"zego", b"nim", b"\xff"])
def test_broken_bytes_are_an_event_or_a_letter_and_never_an_exception(dialect: bytes) -> None:
    whole, dice = text('"\u00e9 \u5582"') + b" ", random.Random(5)
    for _ in range(examples(400)):
        raw = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(raw))
            raw[at : at + dice.randint(0, 3)] = dice.choice(
                [*SPLINTERS, bytes([dice.randrange(256)]), raw[at : at + 20]]
            )
        entry = {b"e": bytes(raw), b"d": dialect, b"app": APP.encode()}
        found = read_entry("im:events", f"{NOW}-0", entry, (APP,), NOW)
        assert isinstance(found, Passed | Refused)


# ---------------------------------------------------------------- whose it is, and of which type

ZEGO, NIM = {"event": "send_msg", "appid": APP}, {"eventType": "1"}
#: What stands beside the event, the event; the refusal's reason, tenant and type.
NAMED: dict[str, tuple[dict[str, str], Any, str]] = {
    "an unknown tenant": ({}, native(app="nobody"), "unknown_app nobody message.stored"),
    "a tenant of 300 characters": (
        {},
        native(app="x" * 300),
        f"unknown_app {'x' * 64} message.stored",
    ),
    "no tenant": ({}, {**native(), "app": None}, "no_app None message.stored"),
    "an empty tenant": ({}, native(app=""), "no_app None message.stored"),
    "an unknown type": ({}, native(kind="message.sung"), f"unknown_type {APP} unknown"),
    "a wrong type of data": (
        {},
        native({**STORED, "recipients": "bob"}),
        f"wrong_shape {APP} message.stored",
    ),
    "another version": ({}, native(v=2), f"wrong_shape {APP} message.stored"),
    "a tenant that is a number": ({}, native(app=5), "wrong_shape None message.stored"),
    "no JSON": ({}, b"{", "not_json None unknown"),
    "a cloud's unknown tenant": ({"d": "zego"}, {**ZEGO, "appid": "5"}, "unknown_app 5 unknown"),
    "a cloud's tenant that is a list": (
        {"d": "zego"},
        {**ZEGO, "appid": ["5"]},
        "wrong_type None unknown",
    ),
    "names that differ": ({"d": "zego", "app": "other"}, ZEGO, "app_conflict other unknown"),
    "nobody's copy": ({"d": "nim"}, NIM, "no_app None unknown"),
    "a copy without its fields": ({"d": "nim", "app": APP}, NIM, f"missing_field {APP} unknown"),
    "no dialect": ({"d": "klingon", "app": APP}, {}, f"unknown_dialect {APP} unknown"),
    "NUL in the names beside": ({"d": "nim", "app": "a\0b"}, {}, "unknown_app a\ufffdb unknown"),
    "half a pair in a copy": (
        {"d": "nim", "app": APP},
        {**NIM, "to": "\ud800"},
        f"missing_field {APP} unknown",
    ),
    "a number beyond all bounds in a copy": (
        {"d": "nim", "app": APP},
        b'{"eventType":"1","x":1e999}',
        f"out_of_range {APP} unknown",
    ),
}


@pytest.mark.parametrize(("fields", "body", "told"), NAMED.values(), ids=NAMED)
def test_a_refusal_names_its_reason_its_tenant_and_its_type(
    fields: dict[str, str], body: Any, told: str
) -> None:
    found = refused(body, **fields)
    reason = found.reason.partition(":")[0]
    assert f"{reason} {found.app} {found.type}" == told
    assert found.reason.count(reason) == 1
    assert all("\0" not in value for value in found.fields.values())


@pytest.mark.parametrize("reason", ["unknown_app", "no_app", "app_conflict"])
def test_the_reasons_that_the_contract_names_stand_alone(reason: str) -> None:
    assert reason in {refused(body, **fields).reason for fields, body, _ in NAMED.values()}


def test_the_only_tenant_has_what_names_nobody() -> None:
    found = read({"eventType": "2"}, apps=(APP,), d="nim")
    assert isinstance(found, Passed)
    assert found.ignored == "login"
    dead = read({"eventType": "1"}, apps=(APP,), d="nim")
    assert isinstance(dead, Refused)
    assert dead.app == APP


def test_an_empty_field_beside_the_event_is_none() -> None:
    assert event(native(), d="", app="", q="").app == APP


def test_what_a_copy_hides_in_a_text_is_checked_too() -> None:
    copy = {
        "eventType": "1",
        "convType": "TEAM",
        "to": "t",
        "fromAccount": "ann",
        "msgType": "TEXT",
        "msgidServer": "1",
    }
    assert refused({**copy, "tMembers": '["bob\\u0000"]'}, d="nim", app=APP).reason.startswith(
        "not_unicode"
    )


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("ts", ["absent", None], ids=str)
def test_an_event_without_a_time_is_of_the_time_at_which_it_was_written(ts: Any) -> None:
    event = native(STORED, ts=ts)
    if ts == "absent":
        del event["ts"]
    entry = {b"e": json.dumps(event).encode()}
    # read later, or a second time
    found = read_entry("im:events", f"{NOW}-0", entry, (APP,), NOW + 90_000)
    assert not isinstance(found, Refused)
    assert found.events[0].ts_ms == NOW


@pytest.mark.parametrize(
    "ahead_ms",
    [300_001, 10**15, 10**30],
    ids=["5 minutes", "microseconds", "a number of 30 digits"],
)
def test_a_time_too_far_ahead_counts_as_now(ahead_ms: int) -> None:
    assert event(native(ts=NOW + ahead_ms)).ts_ms == NOW
    assert event(native({**READ, "up_to_ms": NOW + ahead_ms}, "message.read")).data.up_to_ms == NOW


def test_a_time_a_little_ahead_stays() -> None:
    assert event(native(ts=NOW + 300_000)).ts_ms == NOW + 300_000


@pytest.mark.parametrize(
    ("up_to_ms", "counted"),
    [
        (NOW + 1, NOW),  # of a clock that is ahead: what comes in that time is not read yet
        (NOW + 300_000, NOW),
        (NOW, NOW),  # whole seconds, and its last millisecond is still to come
        (NOW - 1, NOW - 1),
        (NOW - 1000, NOW - 1),  # whole seconds
        (NOW - 999, NOW - 999),
    ],
)
def test_a_conversation_is_read_up_to_now_at_most(up_to_ms: int, counted: int) -> None:
    entry = {b"e": octets({**READ, "up_to_ms": up_to_ms}, "message.read")}
    for seconds in (0, 90):  # read later, or a second time
        found = read_entry("im:events", f"{NOW}-0", entry, (APP,), NOW + 1000 * seconds)
        assert not isinstance(found, Refused)
        assert found.events[0].data.up_to_ms == counted


def test_a_mute_may_last_for_ever() -> None:
    mute = {"user": "bob", "mute": {**MUTE, "until_ms": 2**53 - 1}}
    found = event(native(mute, "settings.updated")).data.mute.until_ms
    assert found == 2**53 - 1


def test_a_mute_that_no_queue_carries_ends_nobodys_messages() -> None:
    """What people set travels with each message to them: behind such a number none came."""
    muted = event(native({"user": "bob", "mute": {**MUTE, "until_ms": 10**30}}, "settings.updated"))
    sets = effect_of(muted).sets
    assert sets is not None
    (kept,) = sets(muted, {}).values()
    assert msgspec.msgpack.decode(encode(kept))["until_ms"] == 2**53 - 1


@pytest.mark.parametrize("ttl_s", [TTL_MAX_S + 1, 10**30])
def test_a_wish_to_live_longer_is_cut(ttl_s: int) -> None:
    message = take(event(native({**STORED, "push": {"ttl_s": ttl_s}})), NOW).message
    assert (message.expires_at_ms, message.push.ttl_s) == (NOW + TTL_MAX_S * 1000, TTL_MAX_S)


def test_a_number_that_no_queue_carries_is_refused_where_it_would_travel() -> None:
    def with_number(number: int) -> dict[str, Any]:
        return native({**STORED, "push": {"data": {"payload": {"n": [number]}}}})

    assert event(with_number(2**64 - 1))
    assert refused(with_number(2**64)).reason.startswith("out_of_range")


LONG = "😀" * (events.NAME_BYTES_MAX // 4 + 1)
TOO_LONG = {
    "a recipient": native({**STORED, "recipients": [LONG]}),
    "a conversation": native({**STORED, "conversation": {"type": "group", "id": LONG}}),
    "an invitee": native(
        {"call_id": "c", "inviter": {"id": "ann"}, "invitees": [LONG], "timeout_s": 30},
        "call.invited",
    ),
    "a user": native({**READ, "user": LONG, "message_id": "m"}, "message.read"),
    "a token": native(
        {**REGISTERED, "token": "x" * (events.TOKEN_BYTES_MAX + 1)}, "device.registered"
    ),
    "a token of wide characters": native(
        {**REGISTERED, "token": "😀" * (events.TOKEN_BYTES_MAX // 4 + 1)}, "device.registered"
    ),
    "a push id": native({**REGISTERED, "push_id": LONG}, "device.registered"),
    "a platform": native({"user": "bob", "platform": LONG}, "session.logout"),
    "a muted conversation": native(
        {"user": "b", "mute": {"conversation": {"type": "group", "id": LONG}, "mode": "all"}},
        "settings.updated",
    ),
    "a device's content key": native(
        {"user": "bob", "content_key": {"device_id": LONG, "key": "k"}}, "settings.updated"
    ),
    "a badge": native({"user": "bob", "device_id": "d", "badge": 2**31}, "app.background"),
}


@pytest.mark.parametrize("body", TOO_LONG.values(), ids=TOO_LONG)
def test_what_the_database_has_no_key_for_is_refused(body: dict[str, Any]) -> None:
    assert refused(body).reason.startswith("wrong_shape")


def test_long_names_of_narrow_characters_are_fine() -> None:
    long = "x" * events.NAME_MAX
    assert event(native({**STORED, "message_id": long, "recipients": [long]})).data.recipients == (
        long,
    )


def test_null_counts_as_absent_where_a_field_may_be() -> None:
    absent = dict.fromkeys(("exclude", "mentions", "elements", "push"))
    group = {**C2C, "conversation": {"type": "group", "id": "g", "name": None}, "recipients": None}
    message = take(event(native({**group, **absent})), NOW).message
    found = (message.recipients, message.exclude, message.mentions, message.elements)
    assert found == (None, (), (), ())
    assert message.push.ttl_s == 86_400
    inviter = {"id": "ann", "nick": None}
    call = {"call_id": "c", "inviter": inviter, "invitees": ["bob"], "timeout_s": 30, "push": None}
    assert take(event(native(call, "call.invited")), NOW).message.push.message_class == "call"


def test_a_wish_that_is_null_is_none() -> None:
    nulls = dict.fromkeys(("gate", "force", "class", "ttl_s", "collapse_key", "image", "vendor"))
    push = {
        **nulls,
        "display": {"title": None, "nick_prefix": None, "body": "B"},
        "badge": {"increment": None},
        "data": {"payload": {"k": None}},
    }
    wished = take(event(native({**STORED, "push": push})), NOW).message.push
    found = (wished.ttl_s, wished.message_class, wished.gate.enabled, wished.badge.increment)
    assert found == (86_400, "chat", True, 1)
    seen = (wished.display.body, wished.display.nick_prefix, wished.data.payload)
    assert seen == ("B", "off", {"k": None})
    assert refused(native({**STORED, "message_id": None, "push": push})).reason.startswith(
        "wrong_shape"
    )
    assert refused(native({**STORED, "push": {"ttl_s": "60", "gate": None}})).reason.startswith(
        "wrong_shape"
    )


def test_a_part_of_a_wish_that_is_null_is_none() -> None:
    push = {
        "image": {"ios": None, "fcm": "https://example.com/a.png"},
        "template": {"oppo": None},
        "vendor": {"apns": None, "fcm": {"priority": "high"}},
        "vendor_raw": {"oppo": None, "vivo": {"a": None}},
        "display": {"loc": {"key": "K", "args": None}},
    }
    wished = take(event(native({**STORED, "push": push})), NOW).message.push
    assert (wished.image, wished.template) == ({"fcm": "https://example.com/a.png"}, {})
    found = (wished.vendor, wished.vendor_raw)
    assert found == ({"fcm": {"priority": "high"}}, {"vivo": {"a": None}})
    assert wished.display.loc is not None
    assert wished.display.loc.args == ()


def test_the_end_of_a_long_query_is_read() -> None:
    info = {"Action": "Logout", "To_Account": "bob", "Reason": "Unregister"}
    body = {"CallbackCommand": "State.StateChange", "EventTime": NOW, "Info": info}
    query = f"SdkAppid={APP}&trace={'x' * 2000}&OptPlatform=iOS"
    assert event(json.dumps(body).encode(), d="tencent", q=query).data.platform == "ios"


@pytest.mark.parametrize("start", ["24:00", "9:00", "09:00\n", " 09:00", "٠٩:٠٠"])
def test_a_clock_that_is_none_is_refused(start: str) -> None:
    dnd = {"user": "bob", "dnd": {"start": start, "end": "08:00"}}
    assert refused(native(dnd, "settings.updated")).reason.startswith("wrong_shape")


# ---------------------------------------------------------------- nick_prefix

PREFIXES = {
    "text from the elements": ({}, "on"),
    "an empty body is none": ({"display": {"body": ""}}, "on"),
    "a body": ({"display": {"body": "B"}}, "off"),
    "as the sender says": ({"display": {"body": "B", "nick_prefix": "on"}}, "on"),
}


@pytest.mark.parametrize(("push", "prefix"), PREFIXES.values(), ids=PREFIXES)
def test_the_nick_goes_before_what_is_built_from_the_elements(
    push: dict[str, Any], prefix: str
) -> None:
    found = take(event(native({**STORED, "push": push})), NOW).message.push.display.nick_prefix
    assert found == prefix
