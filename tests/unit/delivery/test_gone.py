"""Pushes that must not go any more: what each is told, before any lane is asked."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.contracts import Target
from common.model import Decision
from tests.builders import notification
from tests.tables import table
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


#: What the claim says (state, why), whether its time is over, what held it before -> what it is
#: told, None: nothing (another entry's).
CASES = table("""
recalled in time | revoked recalled | false | - | recalled
recalled while it waited, too late by now | revoked recalled | true | lane_paused | recalled
recalled after a try without an answer | revoked recalled | false | uncertain | uncertain
logged out while it waited | revoked no_device | false | lane_paused | no_device
a second silent push | revoked folded | false | - | folded
too late, no lane was asked | ours | true | - | expired
too late behind a stopped lane | ours | true | lane_paused | lane_paused
too late, but sent already | done | true | - | -
its first reader died, perhaps after it had sent | ours uncertain | true | - | uncertain
the same, held before | ours uncertain | true | unavailable | uncertain
""")


@pytest.mark.parametrize(("claim", "late", "held_by", "decision"), CASES.values(), ids=CASES)
def test_what_a_push_is_told_that_must_not_go(
    claim: str, late: bool, held_by: str | None, decision: Decision | None
) -> None:
    state, _, why = claim.partition(" ")
    claims = Told(ClaimAnswer(cast(Any, state), None, why))
    world: Any = SimpleNamespace(claims=claims, now_ms=lambda: NOW_MS)
    lane: Any = SimpleNamespace(spec=SimpleNamespace(token_valid=bool))
    done = deliver([work(late=late, held_by=held_by)], lane, world)
    assert [told for _, told, _ in done.decided] == ([] if decision is None else [decision])
    assert len(done.dropped) == (decision is None)
    assert claims.steps == [-1 if late else 1], "a push that is too late takes no badge number"
    assert [*done.outcomes, *done.waiting, *done.on_hold] == []
