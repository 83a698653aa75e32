"""Entries that are decided, marked or ended without a send."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence

import msgspec

from common import metrics
from common.clock import now_ms
from common.contracts import Batch, Push, decode_batch, encode
from common.ledger_records import DeadRecord, Record
from common.model import Decision, PushType, Urgency, Vendor
from common.storage.delayed import as_new
from common.storage.lane_entries import LaneCommit, LaneEntry, Taken
from common.storage.lane_loads import NOTE_PUSHES, Joining
from workers.app import DELIVERY
from workers.delivery import deliver as delivery
from workers.delivery import settle as settling
from workers.delivery.coalescing import group_of, joins
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts
from workers.delivery.results import Delivered
from workers.delivery.settle import kept
from workers.delivery.work import Hold, PendingPush
from workers.handlers.ledger_rows import FOLLOW_UP_KINDS, pending_row, work_row
from workers.handlers.replies import tell_ended
from workers.handlers.round_entries import (
    OpenEntry,
    RoundEnd,
    keep,
    opened,
    readable,
    recollect,
    works_in,
)
from workers.handlers.round_marks import RoundMarks
from workers.handlers.round_writes import RoundWriter
from workers.runtime import Runtime

log = logging.getLogger(__name__)


class UnsentEntries:
    def __init__(
        self,
        runtime: Runtime,
        marks: RoundMarks,
        writer: RoundWriter,
        ports: Callable[[Vendor], DeliveryPorts],
    ) -> None:
        self._runtime = runtime
        self._marks = marks
        self._writer = writer
        self._ports = ports

    def without_account(
        self, taken: Taken, entries: Sequence[LaneEntry], vendor: Vendor, business_id: str
    ) -> None:
        """The credential was removed while its pushes were on their way."""
        open_, now = opened(taken, entries), now_ms()
        ended = settling.without_lane([work for one in open_ for work in one.works])
        self._end(taken, open_, vendor, business_id, ended, now)

    def read_among(
        self, vendor: Vendor, lane: str, waiting: Sequence[tuple[str, bytes]]
    ) -> list[str]:
        """Those of the entries that a message is in which was read elsewhere. waiting: (name,
        batch) in the lane's queue; nothing is taken from it.
        """
        hold = Hold(lane, "", sends=False)
        works = [
            work
            for entry, blob in waiting
            for work in readable(blob, entry, hold)
            if work.by_entry and work.note.push_type is not PushType.SILENT
        ]
        asked = self._ports(vendor).claims.lease(works, [-1] * len(works)) if works else ()
        read = {
            work.entry
            for work, answer in zip(works, asked, strict=True)
            if answer.why == Decision.READ_ELSEWHERE
        }
        return [entry for entry, _ in waiting if entry in read]

    def review(
        self, taken: Taken, words: str = "", wait_ms: Mapping[str, int] | None = None
    ) -> int:
        """Decides withdrawn and expired pushes without sending; returns the number of decisions.

        words: not empty: all other pushes are decided `throttled`, with this note. wait_ms: by
        entry, for how long its other pushes wait on in the delayed set; without it in the queue.
        """
        _, vendor, business_id = taken.lane.split(":", 2)
        try:
            open_, now = opened(taken, taken.entries, sends=False), now_ms()
        except msgspec.MsgspecError:
            open_, now = opened(taken, self._read(taken), sends=False), now_ms()
        for one in open_:
            one.wait_ms = (wait_ms or {}).get(one.entry.id)
        done = delivery.review(
            [work for one in open_ for work in one.works], self._ports(Vendor(vendor))
        )
        if words:
            done.decided += [(work, Decision.THROTTLED, words) for work in done.left]
            done.left = []
        keep(open_, {id(work): kept(work, work.target) for work in done.left})
        ended = settling.decided(done)
        self._end(taken, open_, Vendor(vendor), business_id, ended, now, done)
        return len(ended)

    def _read(self, taken: Taken) -> list[LaneEntry]:
        """The entries without those that cannot be read, which are dead letters now: none of the
        others waits until their sender finds them.
        """
        found = []
        for entry in taken.entries:
            try:
                decode_batch(entry.blob)
            except msgspec.MsgspecError as error:
                self.dead_letter(taken, entry, f"broke_stage: {type(error).__name__}")
            else:
                found.append(entry)
        return found

    def _end(
        self,
        taken: Taken,
        open_: Sequence[OpenEntry],
        vendor: Vendor,
        business_id: str,
        ended: list[settling.FinalOutcome],
        now: int,
        done: Delivered | None = None,
    ) -> None:
        settled = settling.Settled(ended=ended)
        end = RoundEnd(vendor, business_id, now, settled, done or Delivered(), None, ())
        self._writer.write(self._writer.ending(taken, open_, end))
        for one in ended:
            if one.work.note.kind not in FOLLOW_UP_KINDS:
                metrics.DECISIONS.labels(vendor, one.decision, metrics.NONE).inc()
        tell_ended(self._runtime, vendor, business_id, ended)

    def dead_letter(self, taken: Taken, entry: LaneEntry, reason: str) -> None:
        """Dead-letters the entry with its reason, encrypted; its pushes get undecided rows.

        A replay decides them.
        """
        works, blob = self.undecided(entry)
        stream = f"send:{taken.lane.split(':')[1]}:{taken.urgency}"
        dead = DeadRecord(
            id=uuid.uuid4().hex,
            entry_id=entry.owner,
            stage=DELIVERY,
            reason=reason,
            app=None,
            at_ms=now_ms(),
            raw=self._runtime.vault.encrypt(blob),
            fields={"belt": stream},
        )
        commit = LaneCommit(ended=[entry], bytes_more=-len(entry.blob))
        records: list[Record] = [dead]
        for work, batch in works:
            records.append(
                work_row(
                    work,
                    batch.vendor,
                    batch.business_id,
                    None,
                    work.target.attempts,
                    now_ms(),
                    f"dead letter: {reason}",
                )
            )
            self._marks.free(commit, work)
            self._marks.leave(commit, work)
        commit.records = records
        commit.taken.append(self._runtime.keys.taken(entry.id))
        self._runtime.lane_queues.commit(taken, commit)
        log.error("an item became a dead letter", extra={"queue": DELIVERY, "reason": reason})

    def split(self, taken: Taken, entry: LaneEntry) -> bool:
        """Splits an entry that kills its senders by push; False if unreadable or single."""
        batch_works, _ = self.undecided(entry)
        if len(batch_works) < 2:
            return False
        commit = LaneCommit(bytes_more=-len(entry.blob), taken=[self._runtime.keys.taken(entry.id)])
        for work, batch in batch_works:
            one = msgspec.structs.replace(
                batch, pushes=(Push(note=work.note, targets=(work.target,)),)
            )
            single = as_new(one, taken.urgency, encode(one))
            commit.changed.append((entry, single))
            commit.bytes_more += len(single.blob)
            self._marks.free(commit, work)
        self._runtime.lane_queues.commit(taken, commit)
        self._runtime.lane_queues.wake_at([(taken.lane, taken.urgency, 0)])
        return True

    def undecided(self, entry: LaneEntry) -> tuple[list[tuple[PendingPush, Batch]], bytes]:
        """An undecided entry's pushes and bytes, with the numbers that its senders took."""
        works = works_in(entry)
        (record,) = self._runtime.claims.taken([entry.id])
        if not works or not record:
            return works, entry.blob
        recollect([work for work, _ in works], record)
        targets = {work.place: kept(work, work.target) for work, _ in works}
        for work, _ in works:
            work.target = targets[work.place]
        one = OpenEntry(entry, Urgency.CHAT, works[0][1], [work for work, _ in works], targets)
        return works, one.rest().blob

    def note_outage(self, lane: Lane, taken: Taken, why: str, count_max: int) -> bool:
        """Notes pushes behind a stopped lane as held, in place; True when there may be more.

        Each is read once per outage: its row records the wait, and it joins its conversation's
        group.
        """
        queues = self._runtime.lane_queues
        found = queues.unnoted(taken.lane, taken.urgency, count_max)
        if not found:
            return False
        pushes = sum(LaneEntry(*one).pushes for one in found)
        records: list[Record] = []
        held: dict[str, list[Joining]] = {entry: [] for entry, _ in found}
        now, business_id = now_ms(), lane.credential.business_id
        for entry, blob in found:
            for work in readable(blob):
                if work.target.held_by is None:
                    target = msgspec.structs.replace(work.target, held_by=why)
                    records.append(
                        pending_row(
                            settling.Deferral(work, target, None, why),
                            lane.vendor,
                            business_id,
                            now,
                        )
                    )
                if joins(work, why) and not joins(work, work.target.held_by):
                    names, note = self._marks.backlog.names(group_of(work)), work.note
                    joining = (names, work.target.push_id, note.ts_ms, note.received_ms)
                    held[entry].append(joining)
        with queues.redis.pipeline(transaction=True) as pipe:
            if records:
                pipe.xadd(self._runtime.keys.stream("ledger"), {"b": encode(records)})
            # a script comes last: see execute_watched
            queues.note(pipe, taken.lane, taken.urgency, why, held, self._marks.backlog.keep_s)
            pipe.execute()
        return len(found) == count_max or pushes >= NOTE_PUSHES
