"""Bytes -> events, or a dead letter that says why. Pure but for the ports it is handed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from common.contracts import TTL_MAX_S, Conversation, Message, PushFields, Sender
from common.model import Decision, Kind, MessageClass, PushType
from workers.intake import events
from workers.intake.dialects import DIALECTS, DialectError, tenant_named

#: Contract §3: entries up to this size; nested no deeper than this.
ENTRY_BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
#: A ts further ahead than this counts as now.
AHEAD_MAX_MS = 300_000


@dataclass(frozen=True, slots=True)
class Event:
    """One event that passed every check. data: one of workers/intake/events.py; entry: id of the stream entry."""

    app: str
    id: str
    type: str
    ts_ms: int
    received_ms: int
    entry: str
    data: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that can't be read. reason: short and without any of its content."""

    entry: str
    reason: str
    app: str | None
    raw: bytes
    fields: Mapping[str, str]
    type: str = "unknown"


@dataclass(frozen=True, slots=True)
class Passed:
    """What one entry gave: events, and what was ignored on purpose."""

    events: tuple[Event, ...]
    ignored: str | None = None
    unknown_fields: int = 0


class _UnreadableError(ValueError):
    """Carries the reason of a dead letter. app, type: what a native event names, type only where we know it."""

    app: str | None = None
    type: str = "unknown"


def read_entry(stream: str, entry_id: str, fields: Mapping[bytes, bytes], apps: Sequence[str], now_ms: int) -> Passed | Refused:
    """One stream entry -> events, or why not. `apps`: the registered tenants; `stream` makes entry ids unique among streams."""
    raw = fields.get(b"e")
    names = {key: fields[name].decode("utf-8", "replace")[:1024] for name, key in _NAMES.items() if name in fields}
    entry = f"{stream}/{entry_id}"
    received_ms = int(entry_id.split("-", maxsplit=1)[0])
    app: str | None = names.get("app")
    try:
        body = checked(raw)
        dialect = names.get("d", "native")
        if dialect == "native":
            return Passed((_own(body, apps, entry, received_ms, now_ms),))
        return _foreign(dialect, body, names, apps, entry, received_ms, now_ms)
    except _UnreadableError as error:
        shown = (raw if raw is not None else _all(fields))[:ENTRY_BYTES_MAX]
        return Refused(entry, str(error), error.app or app, shown, names, error.type)


_NAMES = {b"d": "d", b"app": "app", b"q": "q"}


def _all(fields: Mapping[bytes, bytes]) -> bytes:
    """An entry without `e`, as far as it can be shown to an operator."""
    shown = {key.decode("utf-8", "replace"): value[:4096].decode("utf-8", "replace") for key, value in list(fields.items())[:50]}
    return json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")


def checked(raw: bytes | None) -> bytes:
    """The JSON text if it is within bounds and nobody can read it two ways; _UnreadableError says what is wrong."""
    if raw is None:
        raise _UnreadableError("no_e: the entry has no field e")
    if len(raw) > ENTRY_BYTES_MAX:
        raise _UnreadableError(f"too_large: more than {ENTRY_BYTES_MAX} bytes")
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _depth(raw) > DEPTH_MAX:
        raise _UnreadableError(f"too_deep: nested deeper than {DEPTH_MAX}")
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
    if b"\\u0000" in raw and _NUL.search(raw):
        raise _UnreadableError("nul: a text holds U+0000")
    return raw


_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def _no_repeats(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
        raise _UnreadableError("duplicate_key: an object names a key twice")


def _no_constants(_name: str) -> None:
    raise _UnreadableError("not_json")


_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for match in _STRUCTURE.finditer(raw):
        sign = match.group()
        if sign in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif sign in (b"}", b"]"):
            depth -= 1
    return deepest


def _own(body: bytes, apps: Sequence[str], entry: str, received_ms: int, now_ms: int) -> Event:
    """A native event of a known tenant. What is wrong with it is that tenant's dead letter, if it names one."""
    try:
        event = _native(body, entry, received_ms, now_ms)
        _known(event.app, apps)
    except _UnreadableError as error:
        value = json.loads(body)
        app, kind = (value.get("app"), value.get("type")) if isinstance(value, dict) else (None, None)
        error.app = app[: events.NAME_MAX] if isinstance(app, str) else None
        error.type = kind if isinstance(kind, str) and kind in events.DECODERS else error.type
        raise
    return event


def _native(body: bytes, entry: str, received_ms: int, now_ms: int) -> Event:
    try:
        envelope = events.decode_envelope(body)
        if envelope.app is None:
            raise _UnreadableError("no_app: the event names no tenant")
        decoder = events.DECODERS.get(envelope.type)
        if decoder is None:
            raise _UnreadableError("unknown_type")
        data = decoder.decode(envelope.data)
    except msgspec.ValidationError as error:
        raise _UnreadableError(f"wrong_shape: {_without_values(str(error))}") from None
    except msgspec.DecodeError:
        raise _UnreadableError("not_json") from None
    _check(data)
    ts_ms = now_ms if envelope.ts > now_ms + AHEAD_MAX_MS else envelope.ts
    return Event(envelope.app, envelope.id, envelope.type, ts_ms, received_ms, entry, data)


def _check(data: Any) -> None:
    """What a shape alone can't say."""
    for part in ("conversation", "sender", "inviter"):
        if hasattr(data, part) and not 0 < len(getattr(data, part).id) <= events.NAME_MAX:
            raise _UnreadableError(f"wrong_shape: {part}.id has 1 to {events.NAME_MAX} characters")
    if isinstance(data, events.Stored) and data.conversation.type == "c2c" and len(set(data.recipients or ())) != 1:
        raise _UnreadableError("wrong_shape: a c2c message has exactly one recipient")
    if isinstance(data, events.Read) and (data.up_to_message_id, data.message_id, data.up_to_ms).count(None) != 2:
        raise _UnreadableError("wrong_shape: a read report names exactly one of up_to_message_id, message_id, up_to_ms")


_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"")


def _without_values(words: str) -> str:
    """A decoder's complaint without the value it complains about."""
    return _VALUE.sub("…", words)[:200]


def _known(app: str, apps: Sequence[str]) -> None:
    if app not in apps:
        raise _UnreadableError("unknown_app: no such tenant; `pushfleet app add` first")


def _foreign(dialect: str, body: bytes, names: Mapping[str, str], apps: Sequence[str], entry: str, received_ms: int, now_ms: int) -> Passed:
    translate = DIALECTS.get(dialect)
    if translate is None:
        raise _UnreadableError("unknown_dialect: d takes native, tencent, zego or nim")
    value = msgspec.json.decode(body)
    if not isinstance(value, dict):
        raise _UnreadableError("wrong_shape: the body is not an object")
    app = _settle_app(dialect, value, names, apps)
    _known(app, apps)
    try:
        translated = translate(value, app=app, query=names.get("q"), entry_ms=received_ms)
    except DialectError as error:
        raise _UnreadableError(str(error)) from None
    found = []
    for index, event in enumerate(translated.events):
        found.append(_native(msgspec.json.encode(event), f"{entry}#{index}" if index else entry, received_ms, now_ms))
    return Passed(tuple(found), translated.ignored, translated.unknown_fields)


def _settle_app(dialect: str, body: Mapping[str, Any], names: Mapping[str, str], apps: Sequence[str]) -> str:
    """The tenant, by the entry's field, the query or the body; differing names are refused (contract §3)."""
    named = {name for name in (names.get("app"), *tenant_named(dialect, dict(body), names.get("q"))) if name}
    if len(named) > 1:
        raise _UnreadableError("app_conflict: the entry, its query and its body name different tenants")
    if named:
        return named.pop()
    if len(apps) == 1:
        return apps[0]
    raise _UnreadableError("no_app: nothing names the tenant")


# ---------------------------------------------------------------- message.stored, call.invited -> Message


@dataclass(frozen=True, slots=True)
class Taken:
    """A message on its way, or with the decision that ends it here. ignored: names of wishes that were counted and passed over."""

    message: Message
    decision: Decision | None
    ignored: tuple[str, ...] = ()


def take(event: Event, now_ms: int) -> Taken:
    """One `message.stored` or `call.invited` -> what travels on, with the decisions that need nobody's presence."""
    message = _stored(event) if isinstance(event.data, events.Stored) else _invited(event)
    ignored = []
    if message.push.kind != "message":
        ignored.append("kind")
    if message.push.gate.audience != "offline":
        ignored.append("audience")
    return Taken(message, _decided(message, now_ms), tuple(ignored))


def _stored(event: Event) -> Message:
    data: events.Stored = event.data
    ttl_s = min(data.push.ttl_s, TTL_MAX_S)
    recipients = tuple(dict.fromkeys(data.recipients)) if data.recipients is not None else None
    push = data.push
    if push.display.nick_prefix == "auto":
        display = msgspec.structs.replace(push.display, nick_prefix="off" if push.display.body is not None else "on")
        push = msgspec.structs.replace(push, display=display)
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
        exclude=data.exclude,
        mentions=data.mentions,
        elements=data.elements,
        push=push,
    )


def _invited(event: Event) -> Message:
    data: events.Invited = event.data
    push: PushFields = msgspec.structs.replace(data.push, message_class=MessageClass.CALL)
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


#: Element types that have a text of their own in every language (im-dialects §2.2); text and custom have only what they carry.
_SPEAKING = frozenset({"sound", "file", "image", "video", "face", "location", "merger"})


def _has_text(message: Message) -> bool:
    if message.kind == Kind.CALL_INVITE or message.push.display.body:
        return True
    if message.push.force is not None and message.push.force.body:
        return True
    return any(element.type in _SPEAKING or (element.text or "").strip() for element in message.elements)
