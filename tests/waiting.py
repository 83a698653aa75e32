"""Waiting for what comes about in its own time."""

import time
from collections.abc import Callable
from typing import Any

#: Pauses between two looks, seconds: a look takes time of what is waited for, so that they grow
#: with what has passed.
PAUSE_S_FIRST, PAUSE_S_MAX, PAUSE_SHARE = 0.02, 0.25, 0.1

DAY_S, SHANGHAI_S = 86_400, 8 * 3_600


def eventually(
    look: Callable[..., Any],
    seconds: float = 60.0,
    meanwhile: Callable[[], Any] | None = None,
    what: str = "",
) -> Any:
    """What `look` gives once it gives something; nothing after so many seconds fails the test, with
    these words.

    A minute, for a machine that stands still; a promised limit is the caller's to name. meanwhile:
    instead of a pause between two looks.
    """
    began = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds:g} s: {what}"
        if meanwhile is None:
            time.sleep(min(PAUSE_S_FIRST + waited * PAUSE_SHARE, PAUSE_S_MAX))
        else:
            meanwhile()
    return found


def wait_for(look: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """`eventually` with words for what is awaited."""
    return eventually(look, seconds, what=what)


def seconds_until(look: Callable[[], Any], what: str, seconds: float = 60.0) -> float:
    """How long `wait_for` waited."""
    began = time.monotonic()
    wait_for(look, what, seconds)
    return time.monotonic() - began


def clear_of_midnight(seconds: float = 60.0) -> None:
    """Waits for the next day where Shanghai's, in which vendors count, ends within so many
    seconds.
    """
    left = DAY_S - (time.time() + SHANGHAI_S) % DAY_S
    if left < seconds:
        time.sleep(left + 1)
