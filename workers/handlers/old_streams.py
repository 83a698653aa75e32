"""Streams of delivery: of releases before 0.2, and of replayed dead letters. Their entries go to
their lanes' queues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec
from redis.client import Pipeline

from common.contracts import decode_batch
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.commits import Commits, LostError
from common.storage.delayed import as_new
from common.storage.streams import Entry
from workers.app import DELIVERY
from workers.queues.consumer import Letter, dead_letter, packed_records
from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Entries that are moved at a time.
OLD_MAX: Final = 50


class OldStreams:
    """The old streams of one vendor in one shard."""

    def __init__(self, runtime: Runtime, vendor: Vendor) -> None:
        self._runtime = runtime
        self._vendor = vendor

    def adopt(self) -> bool:
        """Moves entries to their lanes' queues, silent readers' too; True if there were any."""
        streams = self._runtime.streams
        moved = False
        names = {urgency: keys.send(self._vendor, urgency) for urgency in Urgency}
        if not streams.redis.exists(*map(streams.keys.stream, names.values())):
            return False
        for urgency, stream in names.items():
            if not streams.redis.exists(streams.keys.stream(stream)):
                continue
            for entry in [*streams.take_over(stream, OLD_MAX), *streams.read([stream], OLD_MAX)]:
                self._adopt(stream, urgency, entry)
                moved = True
        return moved

    def _adopt(self, stream: str, urgency: Urgency, entry: Entry) -> None:
        streams, queues = self._runtime.streams, self._runtime.lane_queues
        try:
            new = as_new(decode_batch(entry.blob), urgency, entry.blob)
        except msgspec.MsgspecError as error:
            reason = f"broke_stage: {type(error).__name__}"
            letter = dead_letter(
                self._runtime.vault, entry, DELIVERY, reason, Letter(entry.blob, {"belt": stream})
            )
            self._leaves(
                entry,
                lambda pipe: streams.add(
                    pipe, [(keys.LEDGER, blob) for blob in packed_records([letter])]
                ),
            )
            return
        # under its old name, so that the claims that its reader has on its pushes are its own
        owner = f"{stream}/{entry.id.decode()}"
        self._leaves(entry, lambda pipe: queues.put(pipe, [new], owner))

    def _leaves(self, entry: Entry, fill: Callable[[Pipeline], None]) -> None:
        streams = self._runtime.streams
        try:
            Commits(streams, streams).write(
                [entry], fill, lambda pipe: streams.acknowledge(pipe, [entry])
            )
        except LostError:
            log.warning(
                "entries are another reader's by now, or were written before",
                extra={"queue": self._vendor, "count": 1},
            )
