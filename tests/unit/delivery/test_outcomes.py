"""The one table of verdicts: each has its row, and the rows keep promises that hold for all of
them.
"""

import pytest

from common.model import Verdict
from workers.delivery.outcomes import LANE_FAULTS, VERDICTS


def test_every_verdict_has_its_row() -> None:
    assert set(VERDICTS) == set(Verdict)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_row_agrees_with_itself(verdict: Verdict) -> None:
    row = VERDICTS[verdict]
    assert row.held_by in (None, row.final), "what a push waits for is what it ends as"
    assert not row.guarded or row.token, "only a token's fate can be guarded"
    assert not (row.token and row.held_by), "a token that is given up is not tried again"
    assert not (row.seen and row.final in LANE_FAULTS), (
        "a lane's word never overrides that a push may be on the screen"
    )
