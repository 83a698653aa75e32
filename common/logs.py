"""Logs: one JSON object (or console line) per record, one id from event to outcome.

They never hold tokens, user ids or texts: of a record's extra fields only the known ones are
written, and free text is scrubbed (`scrub`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TextIO

from common.config import Settings

#: The only extra fields that go out (`log.info("…", extra={"count": 3})`). None of them can hold a
#: token, a user id or a text.
FIELDS: Final = (
    *(
        "app",
        "vendor",
        "business_id",
        "event_id",
        "message_id",
        "entry_id",
        "push_id",
        "queue",
        "reason",
        "code",
        "status",
        "decision",
    ),
    *(
        "count",
        "tokens",
        "attempt",
        "attempts",
        "seconds",
        "bytes",
        "port",
        "pid",
        "name",
        "url",
        "delay_s",
        "exit_code",
        "dialect",
        "bucket",
    ),
)
#: Other libraries' loggers that are too verbose for a fleet's log.
QUIET: Final = (
    "httpx",
    "httpcore",
    "urllib3",
    "asyncio",
    "kombu",
    "celery",
    "amqp",
    "h2",
    "hpack",
    "aioapns",
    "alembic",
    "uvicorn.access",
)
#: Longest text of one record, characters: an answer of a vendor pasted into an exception must not
#: flood the log.
TEXT_MAX: Final = 4000
HIDDEN: Final = "<hidden>"

_SCRUBS: Final = (
    # SQLAlchemy and PostgreSQL repeat the row that they could not store
    (re.compile(r"\[parameters: .*?\](?=\s|$)", re.DOTALL), "[parameters hidden]"),
    (re.compile(r"^(DETAIL|CONTEXT|LINE \d+):.*$", re.MULTILINE), r"\1: <hidden>"),
    (re.compile(r"(?<=://)[^/\s@]*@"), "***@"),
    (re.compile(r"(?i)\b(bearer|basic|key=|auth=)\s*[\w.+/=~-]{8,}"), r"\1 <hidden>"),
    (
        re.compile(
            r"(?i)\b(\w*(?:token|secret|password|passwd|authorization|user|user_id|text|body|title|nick))(['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;)}\]]+)"
        ),
        r"\1\2<hidden>",
    ),
    # tokens, keys, JWTs: long, without spaces, letters and digits mixed
    (
        re.compile(
            r"(?<![\w.+/=~-])(?=[\w.+/=:~-]*\d)(?=[\w.+/=:~-]*[A-Za-z])[\w+=~-](?:[\w+=:~-]|[./](?=[\w+=:~-]{16})){23,}"
        ),
        HIDDEN,
    ),
    # Our own texts are ASCII: all else comes from outside.
    (re.compile(r"[^\x00-\x7f…–—×→]+(?:\s+[^\x00-\x7f…–—×→]+)*"), HIDDEN),
)

_context: ContextVar[Mapping[str, str]] = ContextVar(
    "pushfleet_log_context", default=MappingProxyType({})
)


@contextlib.contextmanager
def bind(**ids: str | None) -> Iterator[None]:
    """Puts ids (of FIELDS: event_id, message_id, app, …) on every record written inside."""
    mark = _context.set(
        {
            **_context.get(),
            **{name: value for name, value in ids.items() if value is not None and name in FIELDS},
        }
    )
    try:
        yield
    finally:
        _context.reset(mark)


def scrub(text: str) -> str:
    """The text without possible secrets, device tokens, people or their texts; TEXT_MAX at most."""
    for pattern, instead in _SCRUBS:
        text = pattern.sub(instead, text[: 4 * TEXT_MAX])
    return text[:TEXT_MAX]


class _Redact(logging.Filter):
    """Turns a record into plain, scrubbed values: `said`, `fields`, `trace`.

    Formatters use nothing else.
    """

    def __init__(self, stage: str, process: str) -> None:
        super().__init__()
        self.stage = stage
        self.process = process

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # a library's own mistake in its arguments
            said = str(record.msg)
        extra = {
            name: _plain(record.__dict__[name])
            for name in FIELDS
            if name in record.__dict__ and name != "name"
        }
        record.said = scrub(said)
        record.fields = {**_context.get(), **extra}
        record.trace = (
            _trace(record.exc_info[1]) if record.exc_info and record.exc_info[1] else None
        )
        record.stage = self.stage
        record.process_name = self.process
        return True


def _plain(value: Any) -> Any:
    return (
        value
        if isinstance(value, int | float | None)
        else scrub(str(value))
        if "://" in str(value)
        else str(value)[:300]
    )


def _trace(error: BaseException) -> dict[str, Any]:
    """The place of an error and its scrubbed message; local values never."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"
        for frame in frames[-12:]
    ]
    found: dict[str, Any] = {"type": type(error).__name__, "words": scrub(str(error)), "at": places}
    if error.__cause__ is not None:
        found["cause"] = f"{type(error.__cause__).__name__}: {scrub(str(error.__cause__))}"
    return found


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seen = record.__dict__
        line = {"at": _at(record), "level": record.levelname.lower(), "stage": seen["stage"]}
        line |= ({"process": seen["process_name"]} if seen["process_name"] else {}) | seen["fields"]
        line |= {"logger": record.name, "message": seen["said"]} | (
            {"error": seen["trace"]} if seen["trace"] else {}
        )
        return json.dumps(line, ensure_ascii=False, default=str, separators=(",", ":"))


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seen = record.__dict__
        more = "".join(f" {name}={value}" for name, value in seen["fields"].items())
        line = (
            f"{_at(record)[11:23]} {record.levelname.lower():<7} "
            f"{seen['process_name'] or seen['stage']}: {seen['said']}{more}"
        )
        if seen["trace"]:
            line += f"\n    {seen['trace']['type']}: {seen['trace']['words']}" + "".join(
                f"\n      {at}" for at in seen["trace"]["at"]
            )
        return line


def _at(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")


def setup(settings: Settings, stage: str, stream: TextIO | None = None, process: str = "") -> None:
    """Sends all logs of this process through one redacting handler; called once at the start.

    stream: stderr by default. process: its name, as `up` and doctor use it.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_Redact(stage, process))
    handler.setFormatter(_Json() if settings.log_format == "json" else _Console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
