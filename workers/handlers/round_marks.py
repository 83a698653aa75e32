"""Marks that a round's commit writes beside its entries: claims, badge numbers, places on screens,
and who waits with whom for an outage's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.model import Decision
from common.storage.backlog import HeldPushes
from common.storage.claims import KEEP_S as CLAIM_KEEP_S
from common.storage.claims import day_of
from common.storage.counting import bucket_of, hashes_of
from common.storage.keys import Keys
from common.storage.lane_entries import LaneCommit
from common.storage.screens import KEEP_MIN_MS, ScreenStore
from workers.delivery.coalescing import group_of, joins
from workers.delivery.settle import Deferral, FinalOutcome, Settled, kept
from workers.delivery.work import PendingPush
from workers.late_binding import given_back, on_screens, uncounted


@dataclass(frozen=True, slots=True)
class RoundMarks:
    keys: Keys
    backlog: HeldPushes
    screens: ScreenStore

    def add(
        self,
        commit: LaneCommit,
        ended: Sequence[FinalOutcome],
        waits: Sequence[Deferral],
        left: Sequence[PendingPush],
        now: int,
    ) -> None:
        """left: pushes that the round did not come to."""
        unsent = [Deferral(work, kept(work, work.target), None, "") for work in left]
        both = Settled(ended=list(ended), waits=[*waits, *unsent])
        self._numbers(commit, both)
        for one in ended:
            self._end(commit, one)
        for place in on_screens(both, now):
            at_ms = place.ts_ms if place.shown else -1
            keep_ms = max(place.keep_ms, KEEP_MIN_MS)
            commit.mark("screen", [self.screens.name(place.place)], place.push_id, at_ms, keep_ms)
        for wait in waits:
            self._wait(commit, wait)

    def free(self, commit: LaneCommit, work: PendingPush) -> None:
        """Keeps the numbers of an entry's lease with a push that leaves undecided."""
        if work.by_entry:
            return
        note, target, keys = work.note, work.target, self.keys
        names = [
            keys.claims(day_of(note.ts_ms), target.push_id),
            keys.badges(note.app, target.user),
        ]
        hashes = self._hashes(commit, note.app, target.user)
        commit.mark("free", names, target.push_id, work.entry, target.device, True, hashes)

    def _numbers(self, commit: LaneCommit, settled: Settled) -> None:
        """Badge numbers that nobody can have seen are given back."""
        keys = self.keys
        works = [*(one.work for one in settled.ended), *(one.work for one in settled.waits)]
        owners = {work.target.push_id: work.entry.partition(";")[0] for work in works}
        for work in uncounted(settled):
            badges = keys.badges(work.note.app, work.target.user)
            hashes = self._hashes(commit, work.note.app, work.target.user)
            commit.mark("uncount", [badges], work.target.device, work.counted, hashes)
        for given in given_back(settled):
            names = [
                keys.claims(day_of(given.ts_ms), given.push_id),
                keys.badges(given.app, given.user),
            ]
            owner = owners[given.push_id]
            hashes = self._hashes(commit, given.app, given.user)
            commit.mark("free", names, given.push_id, owner, given.device, given.seen, hashes)

    def _hashes(self, commit: LaneCommit, app: str, user: str) -> int:
        """The number of the first of the person's hashes of counts."""
        return commit.share(hashes_of(self.keys, bucket_of(app, user)))

    def _end(self, commit: LaneCommit, one: FinalOutcome) -> None:
        work, target, note = one.work, one.work.target, one.work.note
        if not work.by_entry:
            claims = self.keys.claims(day_of(note.ts_ms), target.push_id)
            commit.mark("done", [claims], target.push_id, CLAIM_KEEP_S)
        if target.held_by is not None:
            self.leave(commit, work)
        if one.decision == Decision.ACCEPTED and work.coalesced_count > 1:
            names = self.backlog.names(group_of(work))
            commit.mark("spoken", names, note.ts_ms, self.backlog.marks_s)

    def leave(self, commit: LaneCommit, work: PendingPush) -> None:
        """It waits with its group no more, if it is in one."""
        commit.mark("leave", self.backlog.names(group_of(work)), work.target.push_id)

    def _wait(self, commit: LaneCommit, wait: Deferral) -> None:
        """A push that an outage holds back from now on joins its group."""
        work, note = wait.work, wait.work.note
        if joins(work, wait.target.held_by) and not joins(work, work.target.held_by):
            values = (work.target.push_id, note.ts_ms, note.received_ms, self.backlog.keep_s)
            commit.mark("join", self.backlog.names(group_of(work)), *values)
