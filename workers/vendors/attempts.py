"""How often a push was tried, and what was said to it: the only place where attempts are counted.
Pure.
"""

from __future__ import annotations

from common.contracts import Target
from common.model import Verdict
from workers.vendors.types import PushItem


def in_a_row(item: PushItem, code: str) -> int:
    """How often the vendor has now said `code` (or, where it has none, the status) to this push,
    without another answer between.
    """
    times = 1
    for attempt in reversed(item.target.attempts):
        if (attempt.code or attempt.status) != code:
            break
        times += 1
    return times


def tries_with(item: PushItem, code: str) -> int:
    """How many tries of this push, this one included, met the code: the others say nothing about
    it.
    """
    return 1 + sum(one.code == code for one in item.target.attempts)


def tries_met(item: PushItem, verdict: Verdict) -> int:
    """How many tries of this push, this one included, met the verdict."""
    return 1 + sum(one.verdict == verdict for one in item.target.attempts)


def tries_of(target: Target, verdict: Verdict) -> int:
    """What counts against the verdict's limit, this try included. A long throttle uses up none of
    those after silence.

    Only throttles come in such numbers that the first of them no longer travel with the push.
    """
    earlier = target.earlier if verdict == Verdict.THROTTLED else 0
    return 1 + earlier + sum(one.verdict in ("", verdict) for one in target.attempts)
