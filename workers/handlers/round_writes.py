"""The write of a round: its rows, claims, retries and entries in one step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import msgspec
from redis.exceptions import RedisError

from common.contracts import encode
from common.storage.delayed import as_new, retry_member
from common.storage.lane_entries import LaneCommit, NewBatch, Taken
from workers.delivery import settle as settling
from workers.handlers import alike_rounds
from workers.handlers.ledger_rows import delivery_row, pending_row
from workers.handlers.round_entries import Ending, OpenEntry, RoundEnd
from workers.handlers.round_marks import RoundMarks
from workers.routing.fan_out import parts
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds of waiting for Redis to write the vendor's answers, in a running process and in one that
#: is stopping, and the interval; unwritten answers would mean that all is sent again.
WRITE_PATIENCE_S, LAST_PATIENCE_S, WRITE_AGAIN_S = 30.0, 5.0, 0.3


class RoundWriter:
    """stopping: the process is to end."""

    def __init__(self, runtime: Runtime, marks: RoundMarks, stopping: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._marks = marks
        self._stopping = stopping

    def write(self, one: Ending) -> None:
        """Writes rows, claims, retries and our own entries in one step."""
        patience_s = WRITE_PATIENCE_S if one.end.done.requests else 0.0
        lost = set[str]()
        began = time.monotonic()
        while True:
            mine = [held for held in one.entries if held.entry.id not in lost]
            if not mine:
                return
            try:
                gone = self._runtime.lane_queues.commit(one.taken, one.commit_of(mine, lost))
            except (RedisError, OSError) as error:
                if time.monotonic() - began >= (
                    min(patience_s, LAST_PATIENCE_S) if self._stopping() else patience_s
                ):
                    raise
                log.warning(
                    "Redis is away: answers wait to be written",
                    extra={"reason": type(error).__name__},
                )
                time.sleep(WRITE_AGAIN_S)
                continue
            if not gone:
                return
            log.warning(
                "another sender took entries over",
                extra={"count": len(gone), "business_id": one.end.business_id},
            )
            lost |= set(gone)

    def ending(self, taken: Taken, open_: Sequence[OpenEntry], end: RoundEnd) -> Ending:
        return Ending(taken, open_, lambda mine, lost: self._commit(taken, mine, end, lost), end)

    def _commit(
        self, taken: Taken, open_: Sequence[OpenEntry], round_: RoundEnd, lost: set[str]
    ) -> LaneCommit:
        commit = LaneCommit(unused=round_.unused)
        owners = {one.entry.id for one in open_}
        for one in open_:
            size = len(one.entry.blob)
            commit.taken.append(self._runtime.keys.taken(one.entry.id))
            if not one.left:
                commit.ended.append(one.entry)
                commit.bytes_more -= size
            elif one.wait_ms is not None:
                rest = one.rest()
                commit.ended.append(one.entry)
                commit.later.append((retry_member(rest), one.wait_ms))
                commit.bytes_more += len(rest.blob) - size
            elif len(one.left) == len(one.works) and not one.changed:
                commit.back.append(one.entry)
            else:
                rest = one.rest()
                commit.changed.append((one.entry, rest))
                commit.bytes_more += len(rest.blob) - size
        ended = [one for one in round_.settled.ended if not lost or one.work.entry in owners]
        waits = [wait for wait in round_.settled.waits if not lost or wait.work.entry in owners]
        rows: list[object] = [
            delivery_row(one, round_.vendor, round_.business_id, round_.now) for one in ended
        ]
        if round_.packed is not None and round_.lane is not None:
            singly = self._runtime.old_ledger()
            rows += alike_rounds.rows(round_.packed, round_.lane, round_.now, lost, singly=singly)
        rows += [
            pending_row(wait, round_.vendor, round_.business_id, round_.now)
            for wait in waits
            if is_news(wait)
        ]
        commit.records = rows
        for batch, delay_ms in _later(waits, round_):
            stays = batch.lane == taken.lane
            commit.later.append((retry_member(batch, counted=stays), delay_ms))
            commit.bytes_more += len(batch.blob) if stays else 0
        self._marks.add(commit, ended, waits, round_.done.left, round_.now)
        return commit


def _later(waits: Sequence[settling.Deferral], round_: RoundEnd) -> list[tuple[NewBatch, int]]:
    """Retries with their delay in ms, by tenths of a second; held ones stay in their entry."""
    groups: dict[int, list[settling.Deferral]] = {}
    for wait in waits:
        if wait.delay_s is not None:
            groups.setdefault(int(wait.delay_s * 1000) // 100 * 100 + 100, []).append(wait)
    if not groups or round_.lane is None:
        return []
    return [
        (as_new(part, urgency, encode(part)), delay_ms)
        for delay_ms, group in groups.items()
        for urgency, batch in settling.batches(group, round_.lane)
        for part in (
            msgspec.structs.replace(batch, pushes=pushes) for pushes in parts(batch.pushes)
        )
    ]


def is_news(wait: settling.Deferral) -> bool:
    """True when a wait changes the row: a first wait, an answer, another lane.

    Waiting for the rate again does not.
    """
    moved = wait.work.lane is not None
    return moved or wait.work.target.held_by is None or wait.target.tried != wait.work.target.tried
