"""Waiting for what comes about in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(look: Callable[..., Any], seconds: float = 60.0) -> Any:
    """What `look` gives once it gives something; nothing after so many seconds fails the test.

    A minute, for a machine that stands still; a promised limit is the caller's to name.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.02)
    return found
