"""Waiting for what comes about in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(
    look: Callable[..., Any],
    seconds: float = 60.0,
    meanwhile: Callable[[], Any] = lambda: time.sleep(0.02),
    what: str = "",
) -> Any:
    """What `look` gives once it gives something; nothing after so many seconds fails the test, with
    these words.

    A minute, for a machine that stands still; a promised limit is the caller's to name.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        meanwhile()
    return found


def wait_for(look: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """`eventually` with words for what is awaited."""
    return eventually(look, seconds, what=what)
