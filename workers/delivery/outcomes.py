"""The effects of each verdict on a push, its lane and its token, in one table. Pure.

All other questions about verdicts are derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.model import Decision, Verdict
from common.values import Value


class VerdictRow(Value, frozen=True):
    """The effects of one verdict. final: the decision when nothing more is tried.

    held_by: the cause of the wait for a retry; None: no retry. seen: the push may be on the screen;
    else it was definitely not taken, and is refunded. down: the vendor is unavailable, which the
    breaker counts. lane_fault: a failure of the lane, which never overrides UNCERTAIN: an earlier,
    unanswered attempt may be on the screen already. shared: the older pushes that this one replaces
    have the same fate, as they have its token, lane and bucket. outage: while it lasts, a backlog
    is coalesced. access: the access token should be checked. token: the token's new state ("":
    unchanged); guarded: only while the guard allows it.
    """

    final: Decision
    held_by: Decision | None = None
    seen: bool = False
    down: bool = False
    lane_fault: bool = False
    shared: bool = False
    outage: bool = False
    access: bool = False
    token: str = ""
    guarded: bool = False


V, D = Verdict, Decision
VERDICTS: Final[Mapping[Verdict, VerdictRow]] = {
    V.ACCEPTED: VerdictRow(D.ACCEPTED, seen=True),
    V.TOKEN_DEAD: VerdictRow(D.TOKEN_DEAD, shared=True, token="retired", guarded=True),
    V.SILENCED: VerdictRow(D.SILENCED, shared=True, token="silenced"),
    V.TOKEN_FOREIGN: VerdictRow(D.TOKEN_FOREIGN, shared=True, token="retired", guarded=True),
    V.REJECTED: VerdictRow(D.REJECTED),
    V.ACCESS_EXPIRED: VerdictRow(
        D.CREDENTIAL_REFUSED, D.CREDENTIAL_REFUSED, lane_fault=True, outage=True, access=True
    ),
    V.CREDENTIAL_REFUSED: VerdictRow(
        D.CREDENTIAL_REFUSED, lane_fault=True, outage=True, access=True
    ),
    V.THROTTLED: VerdictRow(D.THROTTLED, D.THROTTLED, lane_fault=True),
    V.QUOTA_SPENT: VerdictRow(D.QUOTA_SPENT, lane_fault=True, shared=True),
    V.DEVICE_CAP: VerdictRow(D.DEVICE_CAP, lane_fault=True, shared=True),
    V.FOLDED: VerdictRow(D.FOLDED),
    V.UNAVAILABLE: VerdictRow(
        D.UNAVAILABLE, D.UNAVAILABLE, down=True, lane_fault=True, outage=True
    ),
    V.UNCERTAIN: VerdictRow(D.UNCERTAIN, D.UNCERTAIN, seen=True, down=True, shared=True),
    V.UNKNOWN: VerdictRow(D.UNKNOWN, seen=True),
}
#: Decisions of the lane that no verdict leads to.
_WITHOUT_ANSWER: Final = frozenset({D.LANE_PAUSED, D.NO_CREDENTIAL})

NOT_TAKEN: Final = frozenset(verdict for verdict, row in VERDICTS.items() if not row.seen)
DOWN: Final = frozenset(verdict for verdict, row in VERDICTS.items() if row.down)
ACCESS: Final = frozenset(verdict for verdict, row in VERDICTS.items() if row.access)
GUARDED: Final = frozenset(verdict for verdict, row in VERDICTS.items() if row.guarded)
SEEN: Final = frozenset(row.final for row in VERDICTS.values() if row.seen)
SHARED: Final = frozenset(row.final for row in VERDICTS.values() if row.shared)
LANE_FAULTS: Final = (
    frozenset(row.final for row in VERDICTS.values() if row.lane_fault) | _WITHOUT_ANSWER
)
OUTAGES: Final = frozenset(row.final for row in VERDICTS.values() if row.outage) | {D.LANE_PAUSED}
