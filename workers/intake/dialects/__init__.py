"""Dialects: callback bodies of IM clouds -> native events (contract §8). `d` of the stream entry
decides; nothing is guessed.

Pure: the standard library, msgspec and common's values; no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from workers.intake.dialects import native, nim, tencent, zego
from workers.intake.dialects.reading import DialectError, Ignored, Translated

__all__ = ["DIALECTS", "DialectError", "Ignored", "Translate", "Translated", "tenant_named"]


class Translate(Protocol):
    """One cloud's adapter. app: the tenant as intake settled it. query: raw URL query of the
    callback. entry_ms: the entry's time.

    Raises DialectError, and nothing else, whatever the body.
    """

    def __call__(
        self, body: dict[str, Any], *, app: str | None, query: str | None, entry_ms: int
    ) -> Translated: ...


#: The values of `d` that need translating; `native` needs none.
DIALECTS: Final[Mapping[str, Translate]] = {
    "tencent": tencent.translate,
    "zego": zego.translate,
    "nim": nim.translate,
}

_TENANTS: Final[Mapping[str, Callable[[dict[str, Any], str | None], list[str]]]] = {
    "native": native.tenants,
    "tencent": tencent.tenants,
    "zego": zego.tenants,
    "nim": nim.tenants,
}


def tenant_named(dialect: str, body: dict[str, Any], query: str | None) -> list[str]:
    """The apps in query and body, without repeats: none, one, or several (`app_conflict`).

    The caller adds the entry's own field `app`. Raises DialectError for an unknown dialect or a
    name that is no text.
    """
    if dialect not in _TENANTS:
        raise DialectError(
            "unknown_dialect", "the entry's field d is none of native, tencent, zego, nim"
        )
    return _TENANTS[dialect](body, query)
