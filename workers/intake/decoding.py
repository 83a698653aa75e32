"""Bytes -> events, or a dead letter with its reason. Pure but for its ports."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from common.values import Value
from common.whole_seconds import latest_ms
from workers.intake import events
from workers.intake.dialects import DIALECTS, DialectError, tenant_named
from workers.intake.dialects.mending import NotTextError, is_odd, marked, mended
from workers.intake.event_types import TYPES
from workers.intake.events import Event
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
    apps: Collection[str],
    now_ms: int,
    *,
    is_whole: bool = True,
) -> list[Passed | Refused]:
    """One stream entry -> the result of each event: one in `e`, or native ones in `b`, by line.

    `b` has up to LINES_MAX lines. A bad line is refused alone; its entry id ends with its number.
    """
    reads = read_quickly(stream, entry_id, fields, apps, now_ms, is_whole=is_whole)
    return [Passed((one,)) if isinstance(one, Event) else one for one in reads]


def read_quickly(
    stream: str,
    entry_id: str,
    fields: Mapping[bytes, bytes],
    apps: Collection[str],
    now_ms: int,
    *,
    is_whole: bool = True,
) -> list[Event | Passed | Refused]:
    """As `read_entries`; a message without overrides is its event, and no `Passed` is made."""
    raw = fields.get(b"e")
    if raw is not None or b"b" not in fields:
        usual = None
        if raw is not None and is_whole and len(fields) == 1:
            usual = read_usual_event(
                raw, apps, f"{stream}/{entry_id}", _received_ms(entry_id), now_ms
            )
        return [usual or read_entry(stream, entry_id, fields, apps, now_ms, is_whole=is_whole)]
    raw = fields[b"b"]
    lines = lines_of(raw)
    why = None if is_whole else TOO_LARGE
    if len(raw) > ENTRY_BYTES_MAX:
        why = TOO_LARGE
    elif (fields.get(b"d") or b"native") != b"native":
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
    entry, received_ms = f"{stream}/{entry_id}", _received_ms(entry_id)
    return [
        read_usual_event(line, apps, f"{entry}#{number}", received_ms, now_ms)
        or read_entry(stream, f"{entry_id}#{number}", {b"e": line}, apps, now_ms)
        for number, line in enumerate(lines)
    ]


def lines_of(raw: bytes) -> list[bytes]:
    """The events of a field `b`; blank lines are ignored."""
    return [line for line in raw.split(b"\n") if line.strip()]


def read_entry(
    stream: str,
    entry_id: str,
    fields: Mapping[bytes, bytes],
    apps: Collection[str],
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


def read_usual_event(
    raw: bytes, apps: Collection[str], entry: str, received_ms: int, now_ms: int
) -> Event | None:
    """A message without overrides, read once; None for one that is unclear or refused."""
    event = read_usual(raw) if len(raw) <= ENTRY_BYTES_MAX else None
    if event is None or event.app not in apps or (ts_ms := event.ts) < _SECONDS.stop:
        return None
    if ts_ms > now_ms:
        ts_ms = _by_now(ts_ms, now_ms)
    return Event(event.app, event.id, event.type, ts_ms, received_ms, entry, event.data)


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


def _head(raw: bytes, names: Mapping[str, str], apps: Collection[str]) -> tuple[str | None, str]:
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
    kind = head.type if native and isinstance(head.type, str) and head.type in TYPES else "unknown"
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
        found, count = mended(event, mark, has_texts=_has_texts(event.get("type")))
    except NotTextError:
        raise _UnreadableError(
            "not_unicode: an id or a name holds half a surrogate pair or U+0000"
        ) from None
    return json.dumps(found, ensure_ascii=False).encode(), count


def _has_texts(kind: object) -> bool:
    return isinstance(kind, str) and kind in TYPES and TYPES[kind].has_texts


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
        kind = TYPES.get(envelope.type)
        if kind is None:
            raise _UnreadableError("unknown_type")
        data = events.decode_data(envelope.data, kind.decoder)
    except msgspec.ValidationError as error:
        raise _UnreadableError(f"wrong_shape: {_with_cure(_without_values(str(error)))}") from None
    except msgspec.DecodeError:
        raise _UnreadableError("not_json") from None
    if (fault := kind.fault(data)) is not None:
        raise _UnreadableError(fault)
    for name, value in (("ts", envelope.ts), *kind.times(data)):
        if value is not None and value in _SECONDS:
            raise _UnreadableError(
                f"wrong_shape: {name} looks like seconds; it is milliseconds since 1970, so "
                "1000 times as many"
            )
    if isinstance(data, events.Read) and data.up_to_ms is not None:
        # nobody has read what is not written yet; a second reading must judge alike
        up_to_ms = min(latest_ms(data.up_to_ms, received_ms), received_ms)
        data = msgspec.structs.replace(data, up_to_ms=up_to_ms)
    elif (
        isinstance(data, events.Direct) and (data.target.since_ms or 0) > received_ms + AHEAD_MAX_MS
    ):
        # a registration that is still to come would be newer than each word of the vendor's that
        # the token is dead; one of just now, by a clock that goes fast, is news
        target = msgspec.structs.replace(data.target, since_ms=None)
        data = msgspec.structs.replace(data, target=target)
    ts_ms = (
        received_ms if envelope.ts is None else envelope.ts
    )  # not now: a second reading of the entry must judge alike
    return Event(
        envelope.app, envelope.id, envelope.type, _by_now(ts_ms, now_ms), received_ms, entry, data
    )


def _by_now(ts_ms: int, now_ms: int) -> int:
    """A time that is too far ahead counts as now."""
    return now_ms if ts_ms > now_ms + AHEAD_MAX_MS else ts_ms


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


def _known(app: str, apps: Collection[str]) -> None:
    if app not in apps:
        raise _UnreadableError(UNKNOWN_APP)


def _foreign(
    dialect: str,
    body: bytes,
    mark: str,
    names: Mapping[str, str],
    apps: Collection[str],
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


def _settle_app(names: Mapping[str, str], body: dict[str, Any], apps: Collection[str]) -> str:
    """The tenant by the entry's field, the query or the body; they must agree (contract §3)."""
    named = _tenants(names, body)
    if len(named) > 1:
        raise _UnreadableError("app_conflict")
    if named:
        return named[0]
    if len(apps) == 1:
        return next(iter(apps))
    raise _UnreadableError("no_app")


def _tenants(names: Mapping[str, str], body: Any) -> list[str]:
    """Every different tenant that a dialect's entry names. DialectError."""
    tenants = (
        tenant_named(names.get("d", ""), body, names.get("q")) if isinstance(body, dict) else []
    )
    return list(dict.fromkeys(name for name in (names.get("app"), *tenants) if name))
