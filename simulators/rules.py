"""Predicates for the field tables of the Chinese vendors' pages, and the reader of such a table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Rule = Callable[[Any], bool]

INT32_MAX = 2_147_483_647


def integer(low: int, high: int = INT32_MAX) -> Rule:
    """A JSON number without fraction; true and false are none."""
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    )


def text(most: int | None = None, least: int = 0) -> Rule:
    """A string of `least` to `most` Unicode code points."""
    return lambda value: (
        isinstance(value, str) and least <= len(value) and (most is None or len(value) <= most)
    )


def text_bytes(most: int, least: int = 0) -> Rule:
    return lambda value: (
        isinstance(value, str) and least <= len(value.encode("utf-8", "surrogatepass")) <= most
    )


def one_of(*allowed: Any) -> Rule:
    """One of the values, of the same type (1 is not true)."""
    return lambda value: any(value == one and type(value) is type(one) for one in allowed)


def either(*rules: Rule) -> Rule:
    """Any of the rules: sources disagree, so the vendor must accept both."""
    return lambda value: any(rule(value) for rule in rules)


def boolean(value: Any) -> bool:
    return isinstance(value, bool)


def https(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"https://[^\s/]+\S*", value) is not None


def url(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"https?://[^\s/]+\S*", value) is not None


def pattern(expression: str) -> Rule:
    compiled = re.compile(expression)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def listing(rule: Rule, most: int, least: int = 0) -> Rule:
    return lambda value: (
        isinstance(value, list) and least <= len(value) <= most and all(rule(one) for one in value)
    )


def shape(fields: Mapping[str, Rule], required: tuple[str, ...] = ()) -> Rule:
    """An object whose known fields obey their rules; unknown ones are let through."""
    return lambda value: isinstance(value, dict) and wrong(value, fields, required) is None


def json_object_text(value: Any) -> bool:
    """A string that holds a JSON object."""
    return isinstance(value, str) and isinstance(parsed(value), dict)


def wrong(
    value: Mapping[str, Any], fields: Mapping[str, Rule], required: tuple[str, ...] = ()
) -> str | None:
    """A field that is missing or breaks its rule, in the order of the value; None when all is well.
    A null counts as absent.
    """
    for name in required:
        if value.get(name) is None:
            return name
    for name, one in value.items():
        if one is not None and (rule := fields.get(name)) is not None and not rule(one):
            return name
    return None


def parsed(raw: str | bytes) -> Any:
    """The JSON value; None when it is none, holds half a surrogate pair or a number that JSON has
    not (NaN).

    Members that are null are left out: to all six vendors they count as absent.
    """
    try:
        text_ = raw.decode() if isinstance(raw, bytes) else raw
        hook = _without_nulls if "null" in text_ else None
        value = json.loads(text_, parse_constant=_no_number, object_hook=hook)
        if "\\u" in text_:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate can't be encoded
        return value
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if one is not None}
