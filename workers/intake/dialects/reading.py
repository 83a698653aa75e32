"""The dialect adapters' common part: their result, their error, and field readers. Pure and total.

Whatever the body is, an adapter returns or raises DialectError. An error names the wrong field, and
holds no value of the body. Source of the rules: im-callbacks §5, im-dialects §1.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from workers.intake.dialects.mending import readable

EVENT_ID_MAX: Final = 128  # contract §3
JSON_DEPTH_MAX: Final = 32  # contract §3; JSON inside a text is held to the same bound
TTL_S_MAX: Final = 604_800
BADGE_MAX: Final = 99
_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_INT64: Final = 1 << 63
_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}


class Ignored(StrEnum):
    """The reason for ignoring a body; label `reason` of `pushfleet_ignored_total`."""

    ROOM = "room"
    SEND_FAILED = "send_failed"
    SYSTEM_NOTIFICATION = "system_notification"
    BLOCKED_BY_CLOUD = "blocked_by_cloud"
    LOGIN = "login"
    NOT_A_LOGOUT = "not_a_logout"
    NO_PLATFORM = "no_platform"
    NOBODY = "nobody"
    NO_EVENT = "no_event"
    UNKNOWN_COMMAND = "unknown_command"
    UNKNOWN_CONVERSATION = "unknown_conversation"


class DialectError(ValueError):
    """An unreadable body; becomes a dead letter. reason: snake_case, closed set.

    words: the message, without content of the body.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(f"{reason}: {words}")
        self.reason = reason
        self.words = words


@dataclass(frozen=True, slots=True)
class Translated:
    """The result of one callback body. events: native envelopes.

    An envelope is `{"v": 1, "id", "type", "app", "ts", "data"}`. ignored: the reason for no events.
    unknown_fields: unknown fields, or values that the cloud does not document; left out, counted.
    """

    events: tuple[dict[str, Any], ...]
    ignored: str | None = None
    unknown_fields: int = 0


#: A handler's result: events, or the reason for none.
Found = Sequence[dict[str, Any]] | Ignored


class Fields:
    """One JSON object of a callback, read field by field; it records unread fields.

    Readers return None for what is absent: no such key, null, and the empty text (im-callbacks §5).
    They raise DialectError `wrong_type`, `out_of_range` or `missing_field` with the field's name.
    """

    __slots__ = ("_asked", "_inner", "_name", "_odd", "_value")

    def __init__(self, value: Any, name: str = "") -> None:
        if not isinstance(value, dict):
            raise DialectError("wrong_type", f"{name or 'the body'} is not an object")
        self._value: dict[str, Any] = value
        self._name = name
        self._asked: set[str] = set()
        self._inner: list[Fields] = []
        self._odd = 0

    @property
    def unknown(self) -> int:
        """The number of unread fields and of unusable values, with those of inner objects."""
        return (
            sum(key not in self._asked for key in self._value)
            + self._odd
            + sum(inner.unknown for inner in self._inner)
        )

    def skip(self, *keys: str) -> None:
        """Known, and of no use to a push (`raw` in the tables)."""
        self._asked.update(keys)

    def odd(self) -> None:
        """Count a value that is left out because the cloud does not document it."""
        self._odd += 1

    def path(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def raw(self, key: str) -> Any:
        self._asked.add(key)
        return self._value.get(key)

    def given(self, key: str) -> bool:
        """The key is there, be it null."""
        return key in self._value

    def keys(self) -> list[str]:
        return list(self._value)

    def text(self, key: str) -> str | None:
        value = self.raw(key)
        return None if value is None or value == "" else self._checked_text(key, value)

    def ident(self, key: str) -> str | None:
        """A text; a whole number is taken as its digits (some clouds send ids either way)."""
        value = self.raw(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(self._bounded(key, value))
        return self.text(key)

    def need(self, key: str, read: Callable[[Fields, str], str | None] | None = None) -> str:
        value = (read or Fields.text)(self, key)
        if value is None:
            raise DialectError("missing_field", f"{self.path(key)} is missing")
        return value

    def integer(self, key: str) -> int | None:
        """A whole number, also as digit text."""
        value = self.raw(key)
        if value is None or value == "":
            return None
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise DialectError("wrong_type", f"{self.path(key)} is not a whole number")
        return self._bounded(key, value)

    def need_integer(self, key: str) -> int:
        value = self.integer(key)
        if value is None:
            raise DialectError("missing_field", f"{self.path(key)} is missing")
        return value

    def flag(self, key: str) -> bool | None:
        """true and false, 1 and 0, also as text."""
        value = self.raw(key)
        if value is None or value == "":
            return None
        if isinstance(value, bool):
            return value
        sign = str(value).lower() if isinstance(value, int | str) else ""
        if sign not in _FLAGS:
            raise DialectError("wrong_type", f"{self.path(key)} is not a flag")
        return _FLAGS[sign]

    def fields(self, key: str) -> Fields | None:
        """The object under key; what is unknown inside adds to our own number."""
        value = self.raw(key)
        return None if value is None or value == "" else self.adopt(value, key)

    def adopt(self, value: Any, key: str) -> Fields:
        """An object that was unpacked from key by hand, counted like one found there."""
        inner = Fields(value, self.path(key))
        self._inner.append(inner)
        return inner

    def array(self, key: str) -> list[Any] | None:
        value = self.raw(key)
        if value is None or value == "":
            return None
        if not isinstance(value, list):
            raise DialectError("wrong_type", f"{self.path(key)} is not an array")
        return value

    def objects(self, key: str) -> list[Fields]:
        """The objects of an array, not counted; [] when absent."""
        return [Fields(item, self.path(key)) for item in self.array(key) or []]

    def texts(self, key: str) -> list[str] | None:
        """An array of texts without repeats; empty ones are left out. None when absent."""
        value = self.array(key)
        if value is None:
            return None
        return list(dict.fromkeys(self._checked_text(key, item) for item in value if item != ""))

    def unpacked(self, key: str, chars_max: int | None = None) -> dict[str, Any] | None:
        """An object, or the object that a JSON text holds. What is neither, too long or unfit to
        travel is left out and counted.
        """
        value = self.raw(key)
        if value is None or value == "":
            return None
        too_long = chars_max is not None and isinstance(value, str) and len(value) > chars_max
        value = read_json(value) if isinstance(value, str) and not too_long else value
        if isinstance(value, dict) and fit(value):
            return value
        self.odd()
        return None

    def _checked_text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            raise DialectError("wrong_type", f"{self.path(key)} is not a text")
        if not is_unicode(value):
            raise DialectError("not_unicode", f"{self.path(key)} holds half a surrogate pair")
        return value

    def _bounded(self, key: str, value: int) -> int:
        if not -_INT64 <= value < _INT64:
            raise DialectError("out_of_range", f"{self.path(key)} is out of range")
        return value


@dataclass(frozen=True, slots=True)
class Call:
    """One callback apart from its body. entry_ms: the stream entry's own time, for bodies that have
    none.
    """

    app: str
    entry_ms: int
    query: Mapping[str, str] = field(default_factory=dict)

    def event(
        self, event_type: str, event_id: str, ts: int | None, data: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "v": 1,
            "id": short_id(event_id),
            "type": event_type,
            "app": self.app,
            "ts": self.entry_ms if ts is None else ts,
            "data": data,
        }


Handler = Callable[[Fields, Call], Found]


def run(
    handlers: Mapping[Any, Handler],
    silent: Collection[Any],
    name: Any,
    body: Fields,
    call: tuple[str | None, str | None, int],
) -> Translated:
    """The findings of the handler of this name. silent: known names with nothing for us.

    call: app, query, time of the entry. An app of None is DialectError `no_app`.
    """
    app, query, entry_ms = call
    handler = handlers.get(name)
    if handler is None:
        return Translated((), Ignored.NO_EVENT if name in silent else Ignored.UNKNOWN_COMMAND)
    if not app:
        raise DialectError("no_app", "the body does not say whose it is, and nobody else did")
    found = handler(body, Call(app, entry_ms, read_query(query)))
    if isinstance(found, Ignored):
        return Translated((), found)
    return Translated(tuple(found), None, body.unknown)


# ---------------------------------------------------------------- small things


def short_id(value: str) -> str:
    """An event id, or `sha256:` and its digest where it is longer than the contract allows."""
    if len(value) <= EVENT_ID_MAX:
        return value
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()


def joined(*parts: object) -> str:
    """Parts of an id joined by ':', escaped in all but the last, so that ids stay distinct."""
    *first, last = (str(part) for part in parts)
    return ":".join([*(part.replace("%", "%25").replace(":", "%3A") for part in first), last])


def read_query(query: str | None) -> dict[str, str]:
    """The first value of every name of a raw URL query, however malformed."""
    return {name: values[0] for name, values in _parameters(query).items()}


def named_in_query(query: str | None, name: str) -> list[str]:
    """All different values that a query gives a name, names compared without case."""
    return list(
        dict.fromkeys(
            value
            for key, values in _parameters(query).items()
            if key.lower() == name.lower()
            for value in values
        )
    )


def _parameters(query: str | None) -> dict[str, list[str]]:
    return parse_qs((query or "").removeprefix("?"))


def millis(body: Fields, *, ms: Sequence[str] = (), s: Sequence[str] = ()) -> int | None:
    """The first time found, as epoch ms: fields in milliseconds, then fields in seconds. 0 counts
    as absent.
    """
    body.skip(*ms, *s)
    for unit, keys in ((1, ms), (1000, s)):
        for key in keys:
            value = body.integer(key)
            if value:
                if not 0 < value * unit < 1 << 53:
                    raise DialectError("out_of_range", f"{body.path(key)} is no time")
                return value * unit
    return None


def read_json(text: str) -> Any:
    """The content of a JSON text; None for any other text."""
    try:
        return msgspec.json.decode(readable(text))
    except (ValueError, RecursionError):
        return None


def fit(value: Any, depth: int = JSON_DEPTH_MAX) -> bool:
    """May travel on our queues: bounded depth, 64-bit numbers, whole characters."""
    if isinstance(value, str):
        return is_unicode(value)
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    if depth == 0:
        return not isinstance(value, dict | list)
    if isinstance(value, dict):
        return all(
            isinstance(key, str) and is_unicode(key) and fit(item, depth - 1)
            for key, item in value.items()
        )
    return all(fit(item, depth - 1) for item in value) if isinstance(value, list) else True


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def cut(text: str, most: int) -> str:
    """The first `most` characters; a combined character (emoji, flag, accent) is not split."""
    if len(text) <= most:
        return text
    end = most
    while end and _tied(text[end - 1], text[end]):
        end -= 1
    return text[: end or most]


def _tied(before: str, after: str) -> bool:
    if before == "\u200d" or after == "\u200d" or "\U0001f3fb" <= after <= "\U0001f3ff":
        return True
    if "\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff":
        return True
    return unicodedata.category(after) in ("Mn", "Me", "Mc")


# ---------------------------------------------------------------- rows of a field table

#: Reads one field; None: absent, or left out and counted.
Read = Callable[[Fields, str], Any]
#: One row of a table of im-dialects: the cloud's field, our path in `push`, how it is read.
Row = tuple[str, str, Read]


def put(push: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a dotted path unless something is there already: the first found wins."""
    *way, last = path.split(".")
    for step in way:
        push = push.setdefault(step, {})
    push.setdefault(last, value)


def apply(rows: Iterable[Row], source: Fields | None, push: dict[str, Any]) -> None:
    """Carry every row's field from source into push."""
    for key, path, read in rows if source is not None else ():
        value = read(source, key)  # type: ignore[arg-type]
        if value is not None:
            put(push, path, value)


def negated(source: Fields, key: str) -> bool | None:
    value = source.flag(key)
    return None if value is None else not value


def badge_kept(source: Fields, key: str) -> str | None:
    """1 or true: the badge stays as it is; else it counts, as it does anyway."""
    return "keep" if source.flag(key) else None


def https(source: Fields, key: str) -> str | None:
    """A picture's address; what is not https is counted, and left out by intake (messages.py)."""
    value = source.text(key)
    if value and not value.lower().startswith("https://"):
        source.odd()
    return value


#: Names for silence and for the system's own sound. Source: V2TIMOfflinePushInfo, iOSSound.
_SILENT = frozenset({"push.no_sound", "kIOSOfflinePushNoSound"})
_USUAL = frozenset({"default", "kIOSOfflinePushDefaultSound"})


def sound(source: Fields, key: str) -> str | None:
    value = source.text(key)
    if value in _USUAL:
        return None
    return "none" if value in _SILENT else value


def one_of(*allowed: str | int) -> Read:
    """A value out of a documented set; another is left out and counted."""

    def read(source: Fields, key: str) -> str | int | None:
        value = source.text(key) if isinstance(allowed[0], str) else source.integer(key)
        if value is None or value in allowed:
            return value
        source.odd()
        return None

    return read


def up_to(chars_max: int) -> Read:
    """A text that means nothing when cut: over the limit it is left out and counted."""

    def read(source: Fields, key: str) -> str | None:
        value = source.text(key)
        if value is not None and len(value) > chars_max:
            source.odd()
            return None
        return value

    return read


def shown(chars_max: int) -> Read:
    """A text that people read: cut at the limit."""

    def read(source: Fields, key: str) -> str | None:
        value = source.text(key)
        return None if value is None else cut(value, chars_max)

    return read


def as_text(source: Fields, key: str) -> str | None:
    """A text, or an object as JSON text: template parameters are documented as either."""
    if isinstance(source.raw(key), dict):
        value = source.unpacked(key)
        return None if value is None else msgspec.json.encode(value).decode()
    return source.text(key)


text: Read = Fields.text
flag: Read = Fields.flag
integer: Read = Fields.integer
