"""Bytes -> events, or a dead letter with its reason. Pure but for its ports."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from common.contracts import (
    NO_WISHES,
    PLAIN,
    TTL_MAX_S,
    Conversation,
    Message,
    PushFields,
    Sender,
    encode,
)
from common.model import Decision, Kind, MessageClass, PushType
from common.values import Value
from workers.intake import direct, events
from workers.intake.dialects import DIALECTS, DialectError, tenant_named
from workers.intake.dialects.mending import NotTextError, is_odd, marked, mended
from workers.intake.json_keys import certainly_unambiguous
from workers.intake.usual import read_usual

#: Contract §3: entries up to this size; nested no deeper than this.
ENTRY_BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
#: Events of one entry's field `b`.
LINES_MAX = 200
#: Reason of an entry over size.
TOO_LARGE = f"too_large: more than {ENTRY_BYTES_MAX} bytes"
#: Reason of an entry whose tenant is not registered.
UNKNOWN_APP = "unknown_app"
#: A ts further ahead than this counts as now.
AHEAD_MAX_MS = 300_000


class Event(Value, frozen=True):
    """One event that passed every check. data: one of workers/intake/events.py; entry: id of the
    stream entry.
    """

    app: str
    id: str
    type: str
    ts_ms: int
    received_ms: int
    entry: str
    data: Any


class Refused(Value, frozen=True):
    """An entry that can't be read. reason: short and without any of its content."""

    entry: str
    reason: str
    app: str | None
    raw: bytes
    fields: Mapping[str, str]
    type: str = "unknown"


class Passed(Value, frozen=True):
    """The result of one entry: events, or the reason why it was ignored on purpose.

    mended: invalid characters of its texts.
    """

    events: tuple[Event, ...]
    ignored: str | None = None
    unknown_fields: int = 0
    mended: int = 0


class _UnreadableError(ValueError):
    """Carries the reason of a dead letter."""


def read_entries(
    stream: str,
    entry_id: str,
    fields: Mapping[bytes, bytes],
    apps: Sequence[str],
    now_ms: int,
    *,
    is_whole: bool = True,
) -> list[Passed | Refused]:
    """One stream entry -> the result of each event: one in `e`, or native ones in `b`, by line.

    `b` has up to LINES_MAX lines. A bad line is refused alone; its entry id ends with its number.
    """
    raw = fields.get(b"b")
    if raw is None or b"e" in fields:
        if (
            len(fields) == 1
            and is_whole
            and (usual := _usual(fields.get(b"e", b""), apps, stream, entry_id, now_ms))
        ):
            return [usual]
        return [read_entry(stream, entry_id, fields, apps, now_ms, is_whole=is_whole)]
    lines = lines_of(raw)
    why = None if is_whole else TOO_LARGE
    if len(raw) > ENTRY_BYTES_MAX:
        why = TOO_LARGE
    elif fields.get(b"d", b"native") != b"native":
        why = "wrong_shape: the field b holds native events only"
    elif not 0 < len(lines) <= LINES_MAX:
        why = f"too_many: the field b holds 1 to {LINES_MAX} events, one a line"
    if why is not None:
        return [
            Refused(
                f"{stream}/{entry_id}",
                why,
                None,
                raw[:ENTRY_BYTES_MAX],
                {**names_of(fields), "as": "b"},
            )
        ]
    named = [(f"{entry_id}#{number}", line) for number, line in enumerate(lines)]
    return [
        _usual(line, apps, stream, name, now_ms)
        or read_entry(stream, name, {b"e": line}, apps, now_ms)
        for name, line in named
    ]


def lines_of(raw: bytes) -> list[bytes]:
    """The events of a field `b`; blank lines are ignored."""
    return [line for line in raw.split(b"\n") if line.strip()]


def read_entry(
    stream: str,
    entry_id: str,
    fields: Mapping[bytes, bytes],
    apps: Sequence[str],
    now_ms: int,
    *,
    is_whole: bool = True,
) -> Passed | Refused:
    """One stream entry -> events, or why not. `apps`: the registered tenants; `stream` makes entry
    ids unique among streams.

    is_whole: False for an entry over the limit, whose fields were cut.
    """
    raw = fields.get(b"e")
    names = names_of(fields) if len(fields) > 1 else {}
    entry = f"{stream}/{entry_id}"
    received_ms = _received_ms(entry_id)
    dialect = names.get("d") or "native"
    try:
        if not is_whole:
            raise _UnreadableError(TOO_LARGE)
        body = checked(raw)
        body, mark = marked(body) if is_odd(body) else (body, "")
        if dialect == "native":
            body, count = _mended(body, mark)
            event = _native(body, entry, received_ms, now_ms)
            _known(event.app, apps)
            return Passed((event,), mended=count)
        return _foreign(dialect, body, mark, names, apps, entry, received_ms, now_ms)
    except (_UnreadableError, DialectError) as error:
        whose, kind = _head(raw or b"", names, apps)
        return Refused(
            entry,
            str(error),
            whose,
            (raw if raw is not None else _all(fields))[:ENTRY_BYTES_MAX],
            names,
            kind,
        )


def _usual(
    raw: bytes, apps: Sequence[str], stream: str, entry_id: str, now_ms: int
) -> Passed | None:
    """A message without overrides, read once; None for one that is unclear or refused."""
    event = read_usual(raw) if len(raw) <= ENTRY_BYTES_MAX else None
    if event is None or event.app not in apps or event.ts in _SECONDS:
        return None
    received_ms = _received_ms(entry_id)
    entry = f"{stream}/{entry_id}"
    return Passed(
        (
            Event(
                event.app,
                event.id,
                event.type,
                _by_now(event.ts, now_ms),
                received_ms,
                entry,
                event.data,
            ),
        )
    )


def _received_ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def names_of(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """The fields beside an entry's text: its dialect, tenant and query."""
    return {
        key: _readable(fields[key.encode()][:most])
        for key, most in _NAMES.items()
        if key.encode() in fields
    }


#: Fields beside `e`, and the bytes of each that are read. q: no web server takes a longer query.
_NAMES = {"d": 1024, "app": 1024, "q": 16_384}


def _readable(name: bytes) -> str:
    """As an operator's list can show it and a database can keep it: Unicode without NUL."""
    return name.decode("utf-8", "replace").replace("\0", "\ufffd")


class _Head(msgspec.Struct, frozen=True):
    app: Any = None
    type: Any = None


def _head(raw: bytes, names: Mapping[str, str], apps: Sequence[str]) -> tuple[str | None, str]:
    """Tenant and type of a refused entry, as far as readable; for display only."""
    native = (names.get("d") or "native") == "native"
    try:
        head = msgspec.json.decode(raw[:ENTRY_BYTES_MAX], type=_Head)
        named = (
            [head.app]
            if native
            else _tenants(names, msgspec.json.decode(raw[:ENTRY_BYTES_MAX])) or list(apps)
        )
    except (
        msgspec.MsgspecError,
        ValueError,
        RecursionError,
    ):  # a DialectError and half a character are ValueErrors
        head, named = _Head(), []
    app = named[0] if len(named) == 1 else None if native else names.get("app")
    kind = (
        head.type
        if native and isinstance(head.type, str) and head.type in events.TYPES
        else "unknown"
    )
    return app.replace("\0", "\ufffd")[: events.APP_MAX] or None if isinstance(
        app, str
    ) else None, kind


def _all(fields: Mapping[bytes, bytes]) -> bytes:
    """An entry without `e`, as far as it can be shown to an operator."""
    shown = {
        key.decode("utf-8", "replace"): value[:4096].decode("utf-8", "replace")
        for key, value in list(fields.items())[:50]
    }
    return json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")


def checked(raw: bytes | None) -> bytes:
    """The JSON text, within bounds and unambiguous; raises _UnreadableError with the reason."""
    if raw is None:
        raise _UnreadableError("no_e: the entry has no field e")
    if len(raw) > ENTRY_BYTES_MAX:
        raise _UnreadableError(TOO_LARGE)
    if raw.startswith(codecs.BOM_UTF8):
        raise _UnreadableError(
            "not_json: it begins with a byte order mark; publish UTF-8 without one"
        )
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _too_deep(raw):
        raise _UnreadableError(f"too_deep: nested deeper than {DEPTH_MAX}")
    if certainly_unambiguous(raw):
        return raw
    try:
        json.loads(raw.decode("utf-8"), object_pairs_hook=_no_repeats, parse_constant=_no_constants)
    except UnicodeDecodeError:
        raise _UnreadableError("not_utf8") from None
    except _UnreadableError:
        raise
    except ValueError:  # JSON's own error, or a number of thousands of digits
        raise _UnreadableError("not_json") from None
    except RecursionError:
        raise _UnreadableError(f"too_deep: nested deeper than {DEPTH_MAX}") from None
    return raw


def _mended(body: bytes, mark: str) -> tuple[bytes, int]:
    """A native event without marks, and how many stood in its texts."""
    if not mark:
        return body, 0
    event = json.loads(body)
    if not isinstance(event, dict):
        return body, 0
    try:
        found, count = mended(event, mark)
    except NotTextError:
        raise _UnreadableError(
            "not_unicode: an id or a name holds half a surrogate pair or U+0000"
        ) from None
    return json.dumps(found, ensure_ascii=False).encode(), count


def _no_repeats(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
        raise _UnreadableError("duplicate_key: an object names a key twice")


def _no_constants(_name: str) -> None:
    raise _UnreadableError("not_json")


#: An unterminated string reaches to the end of the bytes: each byte is read once, however many
#: quotes it holds.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def _too_deep(raw: bytes) -> bool:
    depth = 0
    for match in _STRUCTURE.finditer(raw):
        sign = match.group()
        if sign in (b"{", b"["):
            depth += 1
            if depth > DEPTH_MAX:
                return True
        elif sign in (b"}", b"]"):
            depth -= 1
    return False


def _native(body: bytes, entry: str, received_ms: int, now_ms: int) -> Event:
    try:
        envelope = events.decode_envelope(body)
        if not envelope.app:
            raise _UnreadableError("no_app")
        if envelope.type not in events.TYPES:
            raise _UnreadableError("unknown_type")
        data = events.decode_data(envelope.type, envelope.data)
    except msgspec.ValidationError as error:
        raise _UnreadableError(f"wrong_shape: {_with_cure(_without_values(str(error)))}") from None
    except msgspec.DecodeError:
        raise _UnreadableError("not_json") from None
    _check(data)
    for name, value in (("ts", envelope.ts), *_times_in(data)):
        if value is not None and value in _SECONDS:
            raise _UnreadableError(
                f"wrong_shape: {name} looks like seconds; it is milliseconds since 1970, so "
                "1000 times as many"
            )
    if (
        isinstance(data, events.Read) and data.up_to_ms is not None
    ):  # nobody has read what is not written yet
        data = msgspec.structs.replace(data, up_to_ms=_by_now(data.up_to_ms, now_ms))
    ts_ms = (
        received_ms if envelope.ts is None else envelope.ts
    )  # not now: a second reading of the entry must judge alike
    return Event(
        envelope.app, envelope.id, envelope.type, _by_now(ts_ms, now_ms), received_ms, entry, data
    )


def _times_in(data: Any) -> tuple[tuple[str, int | None], ...]:
    """The times that an event names beside its own, by their fields."""
    if isinstance(data, events.Read):
        return (("up_to_ms", data.up_to_ms),)
    if isinstance(data, events.SettingsUpdated) and isinstance(data.mute, events.Mute):
        return (("mute.until_ms", data.mute.until_ms),)
    return ()


def _by_now(ts_ms: int, now_ms: int) -> int:
    """A time that is too far ahead counts as now."""
    return now_ms if ts_ms > now_ms + AHEAD_MAX_MS else ts_ms


#: The parts of each event type that carry an id of their own.
_NAMED_PARTS = {
    shape: tuple(
        part for part in ("conversation", "sender", "inviter") if part in shape.__struct_fields__
    )
    for shape in (decoder.type for decoder in events.DECODERS.values())
}


def _check(data: Any) -> None:
    """Checks that a type cannot express."""
    for part in _NAMED_PARTS.get(type(data), ()):
        named = getattr(data, part)
        if named is not None and not 0 < len(named.id) <= events.NAME_MAX:
            raise _UnreadableError(f"wrong_shape: {part}.id has 1 to {events.NAME_MAX} characters")
    if (name := events.too_long(data)) is not None:
        raise _UnreadableError(f"wrong_shape: {name} has too many bytes")
    if isinstance(data, events.Stored | events.Invited | events.Direct) and data.push is not None:
        _check_travels(data.push)
    if isinstance(data, events.Direct):
        _check_direct(data)
    if (
        isinstance(data, events.Stored)
        and data.conversation.type == "c2c"
        and len(set(data.recipients or ())) != 1
    ):
        raise _UnreadableError("wrong_shape: a c2c message has exactly one recipient")
    if (
        isinstance(data, events.Read)
        and (data.up_to_message_id, data.message_id, data.up_to_ms).count(None) != 2
    ):
        raise _UnreadableError(
            "wrong_shape: a read report names exactly one of up_to_message_id, message_id, up_to_ms"
        )


def _check_direct(data: events.Direct) -> None:
    badge = data.push.badge if data.push is not None else None
    if data.kind == "badge" and (badge is None or badge.value is None):
        raise _UnreadableError("wrong_shape: a push of kind badge has push.badge.value")


def _check_travels(push: PushFields) -> None:
    """The parts of any shape fit into what our queues carry."""
    found = [
        part
        for part in (push.data.payload, push.template, push.vendor, push.vendor_raw, push.blob)
        if part is not None
    ]
    if not found:
        return
    try:
        encode(found)
    except OverflowError:
        raise _UnreadableError("out_of_range: push holds a number beyond 64 bits") from None


#: Times of this century in seconds. As milliseconds they are days of January 1970.
_SECONDS = range(1_000_000_000, 5_000_000_000)


def _with_cure(words: str) -> str:
    if "Expected `str" in words and "got `int`" in words:
        return f"{words}; an id is a text also where it is a number: put it in quotes"
    return words


_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"")


def _without_values(words: str) -> str:
    """A decoder's complaint without the value it complains about."""
    return _VALUE.sub("…", words)[:200]


def _known(app: str, apps: Sequence[str]) -> None:
    if app not in apps:
        raise _UnreadableError(UNKNOWN_APP)


def _foreign(
    dialect: str,
    body: bytes,
    mark: str,
    names: Mapping[str, str],
    apps: Sequence[str],
    entry: str,
    received_ms: int,
    now_ms: int,
) -> Passed:
    translate = DIALECTS.get(dialect)
    if translate is None:
        raise _UnreadableError("unknown_dialect: d takes native, tencent, zego or nim")
    try:
        value = msgspec.json.decode(body)
    except msgspec.ValidationError:  # JSON's grammar allows a number that no type holds
        raise _UnreadableError("out_of_range: the body holds a number beyond all bounds") from None
    except msgspec.DecodeError:
        raise _UnreadableError("not_json") from None
    if not isinstance(value, dict):
        raise _UnreadableError("wrong_shape: the body is not an object")
    app = _settle_app(names, value, apps)
    _known(app, apps)
    translated = translate(value, app=app, query=names.get("q"), entry_ms=received_ms)
    found, count = [], 0
    for index, event in enumerate(translated.events):
        encoded, here = _mended(msgspec.json.encode(event), mark)
        if is_odd(encoded):  # JSON inside a text of the body was not looked into before
            encoded, more = _mended(*marked(encoded))
            here += more
        count += here
        found.append(_native(encoded, f"{entry}#{index}" if index else entry, received_ms, now_ms))
    return Passed(tuple(found), translated.ignored, translated.unknown_fields, count)


def _settle_app(names: Mapping[str, str], body: dict[str, Any], apps: Sequence[str]) -> str:
    """The tenant by the entry's field, the query or the body; they must agree (contract §3)."""
    named = _tenants(names, body)
    if len(named) > 1:
        raise _UnreadableError("app_conflict")
    if named:
        return named[0]
    if len(apps) == 1:
        return apps[0]
    raise _UnreadableError("no_app")


def _tenants(names: Mapping[str, str], body: Any) -> list[str]:
    """Every different tenant that a dialect's entry names. DialectError."""
    tenants = (
        tenant_named(names.get("d", ""), body, names.get("q")) if isinstance(body, dict) else []
    )
    return list(dict.fromkeys(name for name in (names.get("app"), *tenants) if name))


# ---------------------------------------------------------------- message.stored, call.invited -> M


class Taken(Value, frozen=True):
    """A message on its way, or with the decision that ends it here. ignored: names of wishes that
    were counted and passed over.
    """

    message: Message
    decision: Decision | None
    ignored: tuple[str, ...] = ()


def take(event: Event, now_ms: int) -> Taken:
    """One `message.stored`, `call.invited` or `push.direct` -> message and early decisions."""
    if isinstance(event.data, events.Direct):
        message = direct.message_of(event)
        return Taken(message, _decided_directly(message, now_ms))
    if isinstance(event.data, events.Stored) and event.data.push is NO_WISHES:
        message = _plain(event, event.data)
        return Taken(message, _decided_plainly(message, now_ms))
    message = _stored(event) if isinstance(event.data, events.Stored) else _invited(event)
    ignored = []
    if message.push.kind != "message":
        ignored.append("kind")
    if message.push.gate.audience != "offline":
        ignored.append("audience")
    return Taken(message, _decided(message, now_ms), tuple(ignored))


def _plain(event: Event, data: events.Stored) -> Message:
    """A message without wishes of its sender; `_stored` makes the same of it."""
    recipients = data.recipients
    if recipients is not None and len(recipients) > 1:
        recipients = tuple(dict.fromkeys(recipients))
    return Message(
        app=event.app,
        event_id=event.id,
        type=event.type,
        message_id=data.message_id,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        expires_at_ms=event.ts_ms + PLAIN.ttl_s * 1000,
        conversation=data.conversation,
        sender=data.sender,
        recipients=recipients,
        exclude=data.exclude or (),
        mentions=data.mentions or (),
        elements=data.elements or (),
        push=PLAIN,
    )


def _decided_plainly(message: Message, now_ms: int) -> Decision | None:
    """As `_decided`, where the sender wished nothing."""
    for element in message.elements:
        if element.type in _SPEAKING or _is_text(element.text):
            return Decision.EXPIRED if message.expires_at_ms <= now_ms else None
    return Decision.NO_TEXT


def _stored(event: Event) -> Message:
    data: events.Stored = event.data
    wished = data.push or NO_WISHES
    ttl_s = min(wished.ttl_s, TTL_MAX_S)
    recipients = tuple(dict.fromkeys(data.recipients)) if data.recipients is not None else None
    push = wished if wished.ttl_s == ttl_s else msgspec.structs.replace(wished, ttl_s=ttl_s)
    return Message(
        app=event.app,
        event_id=event.id,
        type=event.type,
        message_id=data.message_id,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        expires_at_ms=event.ts_ms + ttl_s * 1000,
        conversation=data.conversation,
        sender=data.sender,
        recipients=recipients,
        exclude=data.exclude or (),
        mentions=data.mentions or (),
        elements=data.elements or (),
        push=_prefixed(push),
    )


def _prefixed(push: PushFields) -> PushFields:
    """Resolves `auto`: the name precedes texts that we build, not the sender's own."""
    if push.display.nick_prefix != "auto":
        return push
    display = msgspec.structs.replace(
        push.display, nick_prefix="off" if _is_text(push.display.body) else "on"
    )
    return msgspec.structs.replace(push, display=display)


def _invited(event: Event) -> Message:
    data: events.Invited = event.data
    wished = data.push or PushFields()
    push: PushFields = msgspec.structs.replace(
        _prefixed(wished), message_class=MessageClass.CALL, ttl_s=min(wished.ttl_s, TTL_MAX_S)
    )
    return Message(
        app=event.app,
        event_id=event.id,
        type=event.type,
        message_id=data.call_id,
        kind=Kind.CALL_INVITE,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        expires_at_ms=event.ts_ms + min(data.timeout_s, TTL_MAX_S) * 1000,
        conversation=Conversation(type="c2c", id=data.inviter.id),
        sender=Sender(id=data.inviter.id, nick=data.inviter.nick),
        recipients=tuple(dict.fromkeys(data.invitees)),
        push=push,
    )


def _decided(message: Message, now_ms: int) -> Decision | None:
    gate = message.push.gate
    if not gate.enabled or not gate.store_offline:
        return Decision.PUSH_DISABLED
    if gate.online_only:
        return Decision.ONLINE_ONLY
    if message.push.push_type == PushType.ALERT and not _has_text(message):
        return Decision.NO_TEXT
    if message.expires_at_ms <= now_ms:
        return Decision.EXPIRED
    return None


def _decided_directly(message: Message, now_ms: int) -> Decision | None:
    """A push to a token needs no text of its own: the tenant's replaces it."""
    if not message.push.gate.enabled:
        return Decision.PUSH_DISABLED
    return Decision.EXPIRED if message.expires_at_ms <= now_ms else None


#: Element types that have a text of their own in every language (im-dialects §2.2); text and custom
#: have only what they carry.
_SPEAKING = frozenset({"sound", "file", "image", "video", "face", "location", "merger"})


def _has_text(message: Message) -> bool:
    if message.kind == Kind.CALL_INVITE or _is_text(message.push.display.body):
        return True
    force = message.push.force
    if (
        force is not None
        and force.on
        and message.conversation.type == "group"
        and _is_text(force.body)
    ):
        return True
    return any(element.type in _SPEAKING or _is_text(element.text) for element in message.elements)


def _is_text(text: str | None) -> bool:
    """True when a text holds visible characters; blanks count as not given."""
    return bool(text and text.strip())
