"""A store that is made, and its libraries loaded, with its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")
_OWN = frozenset({"_late_make", "_late_made", "_late_lock"})


def late(make: Callable[[], T]) -> T:
    """Stands for what `make` returns. `make` is called once, with the first use of an attribute."""
    return cast(T, _Late(make))


class _Late:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._late_make = make
        self._late_made: Any = None
        self._late_lock = threading.Lock()

    def _late(self) -> Any:
        if self._late_made is None:
            with self._late_lock:
                if self._late_made is None:
                    self._late_made = self._late_make()
        return self._late_made

    def __getattr__(self, name: str) -> Any:
        """Called for whatever is not of this class itself."""
        return getattr(self._late(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._late(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._late(), name)
