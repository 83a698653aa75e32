"""A vendor's answer read: its body, Retry-After, the outcomes that it means for every token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import msgspec

from common.model import Verdict
from workers.vendors.json_text import whole
from workers.vendors.types import Outcome, RequestBatch
from workers.wire import HttpResponse, NoAnswer

_T = TypeVar("_T")
WORDS_MAX = 200  # of a vendor's own words, kept beside an outcome
#: Characters of them that are looked through for device tokens. Replacing tokens of 2,048
#: characters shrinks a text at most 293 times, so that no cut token comes within WORDS_MAX.
WORDS_READ_MAX = 65_536
#: Members under which the vendors' answers name a token, in small letters.
NAME_KEYS: Final = frozenset(
    {"token", "tokens", "regid", "regids", "pushid", "pushids", "userid", "userids"}
)
NAMES_DEPTH_MAX: Final = 3  # lists within lists of names


def read(answer: HttpResponse | NoAnswer, shape: type[_T]) -> _T | None:
    """The body as `shape`, None for anything else (a proxy's HTML page, half a body, nothing)."""
    if isinstance(answer, NoAnswer):
        return None
    try:
        return msgspec.json.decode(answer.body, type=shape, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


#: Python's float also accepts NAN, INF and 1_0, which are no numbers of seconds.
_SECONDS: Final = re.compile(r"[0-9]{1,300}(?:\.[0-9]{1,300})?")
_LEAP_SECOND: Final = re.compile(r"(:[0-5][0-9]):60\b")


def retry_after_s(answer: HttpResponse) -> float | None:
    """Seconds of a `Retry-After` header (RFC 9110 §10.2.3), bounded to a day; None if unusable.

    A date counts from the answer's own `Date`: the vendor's clock, not ours.
    """
    value = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), 86_400.0)
    at, now = http_date(value), http_date(answer.headers.get("date", ""))
    return (
        min(max((at - now).total_seconds(), 0.0), 86_400.0)
        if at is not None and now is not None
        else None
    )


def http_date(words: str) -> datetime | None:
    """An HTTP date of any of the three forms, in UTC (RFC 9110 §5.6.7); None for others."""
    try:
        found = parsedate_to_datetime(_LEAP_SECOND.sub(r"\1:59", words[:40]))
        # Python gives no zone for asctime's form and for -0000, and would read such a time in this
        # machine's zone
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def no_answer(batch: RequestBatch, answer: NoAnswer) -> Sequence[Outcome]:
    """Outcomes without an answer: rejected if unsendable, uncertain if sent, else unavailable."""
    verdict = (
        Verdict.REJECTED
        if answer.unsendable
        else Verdict.UNCERTAIN
        if answer.sent
        else Verdict.UNAVAILABLE
    )
    return [Outcome(verdict, answer.reason, words=answer.words)] * len(batch.items)


def same(batch: RequestBatch, outcome: Outcome) -> Sequence[Outcome]:
    """One outcome for every token of the request."""
    return [outcome] * len(batch.items)


def listed_names(value: Any, depth: int = NAMES_DEPTH_MAX) -> list[str]:
    """The tokens that a part of an answer names: one text or several apart by commas, an object of
    NAME_KEYS or with the tokens as its keys, or a list of those.

    Vendors write all of them; a form that was not read would make a refused token an accepted one.
    """
    if isinstance(value, dict):
        own = [one for key, one in value.items() if key.lower() in NAME_KEYS]
        value = own or list(value)
    if isinstance(value, list):
        return [name for one in value for name in listed_names(one, depth - 1)] if depth else []
    if isinstance(value, bool) or not isinstance(value, str | int):
        return []
    return [part.strip() for part in (str(value), *str(value).split(",")) if part.strip()]


def _blank(one: Any) -> bool:
    """True for nothing, and for an object whose names are all empty."""
    if isinstance(one, dict) and any(key.lower() in NAME_KEYS for key in one):
        return not any(name for key, name in one.items() if key.lower() in NAME_KEYS)
    return not one


def names_nobody(value: Any, batch: RequestBatch) -> bool:
    """True for objects that name no token of the request: somebody was refused, and nobody can say
    who.

    Plain texts that are none of ours are strangers' tokens and say nothing of ours.
    """
    parts = [one for one in (value if isinstance(value, list) else [value]) if not _blank(one)]
    plain_texts = all(isinstance(one, str | int) for one in parts)
    return not plain_texts and set(tokens_of(batch)).isdisjoint(listed_names(value))


def object_of(value: Any) -> Mapping[str, Any]:
    """The object, also one that is written as a text of JSON; {} for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def redact(words: Any, tokens: Iterable[str] = ()) -> str:
    """A vendor's message, shortened and without the device tokens that some answers repeat; "" for
    what is no text.
    """
    text = whole(words[:WORDS_READ_MAX]) if isinstance(words, str) else ""
    # the longest first: one token may begin with another
    for token in sorted(filter(None, tokens), key=len, reverse=True) if text else ():
        text = text.replace(token, "<token>")
    return text[:WORDS_MAX]


def tokens_of(batch: RequestBatch) -> Iterator[str]:
    return (item.target.token for item in batch.items)
