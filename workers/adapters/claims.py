"""Delivery's port of claims over their store: who may send a push, and what stops it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from common.call_times import invited_ms
from common.contracts import Notification
from common.model import Decision, Kind, PushType
from common.storage import claims as claim_store
from common.storage.silences import SilentPushLimiter
from common.whole_seconds import latest_ms
from workers.delivery.ports import ClaimAnswer
from workers.delivery.work import Hold, PendingPush


class FleetClaims:
    """The stage's port over the store. silences: of a vendor that throws away silent pushes close
    together (APNs).
    """

    def __init__(self, store: claim_store.Claims, silences: SilentPushLimiter | None) -> None:
        self._store = store
        self._silences = silences

    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[ClaimAnswer]:
        if all(work.by_entry for work in works):
            return self._spaced(works, self._taken(works, badge_steps))
        both = list(zip(works, badge_steps, strict=True))
        taken = iter(self._taken(*_apart(both, by_entry=True)))
        claimed = iter(self._claimed(*_apart(both, by_entry=False)))
        return self._spaced(works, [next(taken if work.by_entry else claimed) for work in works])

    def _taken(self, works: Sequence[PendingPush], steps: Sequence[int]) -> list[ClaimAnswer]:
        """Claims of pushes in one entry only; those of one take are requested together."""
        if not works:
            return []
        numbers_of_all: list[claim_store.Number] = []
        parts = []
        for _, part in groupby(zip(works, steps, strict=True), lambda one: id(one[0].hold)):
            both = list(part)
            asks = [
                (
                    *(
                        work.entry,
                        work.place,
                        (note := work.note).app,
                        note.message_id,
                        _read_as(work),
                        _judged_ms(note),
                    ),
                    *((target := work.target).user, target.device, step, work.counted),
                )
                for work, step in both
            ]
            hold = both[0][0].hold or _NOBODY
            parts.append(
                claim_store.TakenPart(self._store.holders(hold.lane), hold.word, asks, hold.sends)
            )
        for numbers in self._store.take_all(parts):
            numbers_of_all += numbers
        return [
            ClaimAnswer(
                _STATES[state],
                None if badge < 0 else badge,
                why or ("uncertain" if work.repeated else ""),
                counted,
            )
            for work, (state, badge, why, counted) in zip(works, numbers_of_all, strict=True)
        ]

    def _claimed(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> list[ClaimAnswer]:
        if not works:
            return []
        asks = [
            claim_store.ClaimRequest(
                work.note.app,
                work.note.message_id if work.note.kind in _WITHDRAWN else "",
                work.target.user,
                work.target.device,
                work.target.push_id,
                work.note.ts_ms,
                work.entry.partition(";")[0],
                step,
                _read_as(work),
                work.target.registered_ms,
                _judged_ms(work.note),
            )
            for work, step in zip(works, badge_steps, strict=True)
        ]
        return [
            ClaimAnswer(_STATES[claim.state], claim.badge, claim.why)
            for claim in self._store.lease(asks)
        ]

    def _spaced(
        self, works: Sequence[PendingPush], answers: list[ClaimAnswer]
    ) -> list[ClaimAnswer]:
        """Limits silent pushes of messages to one in 20 minutes per device; calls are exempt.

        The surplus is folded.
        """
        if self._silences is None:
            return answers
        silent = [
            index
            for index, (work, answer) in enumerate(zip(works, answers, strict=True))
            if answer.state == "ours"
            and work.note.push_type == PushType.SILENT
            and work.note.kind == Kind.MESSAGE
        ]
        asks = [
            (
                works[i].note.app,
                works[i].target.user,
                works[i].target.device,
                works[i].target.push_id,
            )
            for i in silent
        ]
        for index, may_go in zip(silent, self._silences.may_wake(asks), strict=True):
            if not may_go:
                answers[index] = ClaimAnswer(
                    "revoked", None, Decision.FOLDED, answers[index].counted
                )
        return answers


#: The hold of entries that were not taken from a lane.
_NOBODY = Hold("", "")
_STATES = tuple(state.name.lower() for state in claim_store.ClaimState)


def _apart(
    works: Sequence[tuple[PendingPush, int]], *, by_entry: bool
) -> tuple[list[PendingPush], list[int]]:
    chosen = [one for one in works if one[0].by_entry == by_entry]
    return [work for work, _ in chosen], [step for _, step in chosen]


#: Kinds that a recall, a cancel or a read takes back; recalls and cancels themselves are not.
_WITHDRAWN = frozenset({Kind.MESSAGE, Kind.CALL_INVITE})


def _judged_ms(note: Notification) -> int:
    """The time to which what was read, or a call's end, is compared."""
    times = note.ts_ms, note.received_ms
    return invited_ms(*times) if note.kind == Kind.CALL_INVITE else latest_ms(*times)


def _read_as(work: PendingPush) -> str:
    """The conversation whose reading makes this push needless.

    A call is answered, not read; "" for a push that cannot have been read.
    """
    note = work.note
    if note.kind == Kind.CALL_INVITE:
        return "call"
    return f"{note.conversation_type}:{note.conversation_id}" if note.kind == Kind.MESSAGE else ""
