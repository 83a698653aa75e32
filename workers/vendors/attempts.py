"""The attempts of a push and their answers: the only place that counts attempts. Pure."""

from __future__ import annotations

from common.contracts import Target
from common.model import Verdict
from workers.vendors.types import PushItem


def in_a_row(item: PushItem, code: str) -> int:
    """The number of consecutive answers with `code` (or, without one, the status) so far."""
    times = 1
    for attempt in reversed(item.target.attempts):
        if (attempt.code or attempt.status) != code:
            break
        times += 1
    return times


def tries_with(item: PushItem, code: str) -> int:
    """The number of attempts, this one included, with this code; others do not count."""
    return 1 + sum(one.code == code for one in item.target.attempts)


def tries_met(item: PushItem, verdict: Verdict) -> int:
    """The number of attempts, this one included, with this verdict."""
    return 1 + sum(one.verdict == verdict for one in item.target.attempts)


def tries_of(target: Target, verdict: Verdict) -> int:
    """The attempts that count against the verdict's limit, this one included.

    A long throttle does not use up the attempts after silence. Only throttles are so many that the
    first of them are no longer kept with the push.
    """
    earlier = target.earlier if verdict == Verdict.THROTTLED else 0
    return 1 + earlier + sum(one.verdict in ("", verdict) for one in target.attempts)
