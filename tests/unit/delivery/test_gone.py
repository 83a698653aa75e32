"""Pushes that must not go any more: what each is told, before any lane is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.contracts import Target
from common.model import Decision
from tests.builders import notification
from workers.delivery.deliver import deliver
from workers.delivery.ports import ClaimAnswer
from workers.delivery.work import PendingPush

NOW_MS = 1_763_787_600_000


class Told:
    """Claims as a value: every push is told the same; remembers the badge steps it
    was asked for.
    """

    def __init__(self, answer: ClaimAnswer) -> None:
        self.answer = answer
        self.steps: list[Any] = []

    def lease(self, works: Any, badge_steps: Any) -> list[ClaimAnswer]:
        self.steps += badge_steps
        return [self.answer] * len(works)


def work(*, late: bool, held_by: str | None) -> PendingPush:
    note = notification(
        ts_ms=NOW_MS, received_ms=NOW_MS, expires_at_ms=NOW_MS - 1 if late else NOW_MS + 60_000
    )
    return PendingPush("e1", note, Target("u2", "d", "token", "0" * 32, "ios", 0, held_by=held_by))


RECALLED, OURS, DONE = (
    ClaimAnswer("revoked", None, "recalled"),
    ClaimAnswer("ours", None, ""),
    ClaimAnswer("done", None, ""),
)
TAKEN_OVER = ClaimAnswer("ours", None, "uncertain")
#: (what the claim says, whether its time is over, what held it before) -> what it is told, None:
#: nothing (another entry's)
CASES = {
    "recalled in time": (RECALLED, False, None, Decision.RECALLED),
    "recalled while it waited, and too late by now": (
        RECALLED,
        True,
        "lane_paused",
        Decision.RECALLED,
    ),
    "recalled after a try that was never answered": (
        RECALLED,
        False,
        "uncertain",
        Decision.UNCERTAIN,
    ),
    "logged out while it waited": (
        ClaimAnswer("revoked", None, "no_device"),
        False,
        "lane_paused",
        Decision.NO_DEVICE,
    ),
    "a second silent push": (ClaimAnswer("revoked", None, "folded"), False, None, Decision.FOLDED),
    "too late, no lane was asked": (OURS, True, None, Decision.EXPIRED),
    "too late behind a stopped lane": (OURS, True, "lane_paused", Decision.LANE_PAUSED),
    "too late, but sent already": (DONE, True, None, None),
    "too late after its first reader died, perhaps after it had sent": (
        TAKEN_OVER,
        True,
        None,
        Decision.UNCERTAIN,
    ),
    "the same, held before": (TAKEN_OVER, True, "unavailable", Decision.UNCERTAIN),
}


@pytest.mark.parametrize(("answer", "late", "held_by", "decision"), CASES.values(), ids=CASES)
def test_what_a_push_is_told_that_must_not_go(
    answer: ClaimAnswer, late: bool, held_by: str | None, decision: Decision | None
) -> None:
    claims = Told(answer)
    world: Any = SimpleNamespace(claims=claims, now_ms=lambda: NOW_MS)
    lane: Any = SimpleNamespace(spec=SimpleNamespace(token_valid=bool))
    done = deliver([work(late=late, held_by=held_by)], lane, world)
    assert [told for _, told, _ in done.decided] == ([] if decision is None else [decision])
    assert len(done.dropped) == (decision is None)
    assert claims.steps == [-1 if late else 1], "a push that is too late takes no badge number"
    assert [*done.outcomes, *done.waiting, *done.on_hold] == []
