"""A worker of the fleet whose stages only count:
`python -m tests.chaos.stream_worker presence|routing|delivery|upkeep`.

Everything but the three stages' own work is the product's: Celery worker, drains, streams,
wake-ups, upkeep. An entry is a list of numbers; the first two stages hand it on, the last one
writes each number down in the MULTI that acknowledges it. PUSHFLEET_TEST_CHAOS_TAKEOVER_MS shortens
the take-over time; PUSHFLEET_TEST_CHAOS_POISON: this number ends the process that meets it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import msgspec
from redis.client import Pipeline

from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.streams import TAKEOVER_IDLE_MS, Entry, StreamStore
from workers import pipeline
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.cli import run
from workers.queues.consumer import Commit, Letter, Policy, StreamConsumer
from workers.runtime import Runtime

SEND = keys.send(Vendor.APNS, Urgency.CHAT)
NEXT = {PRESENCE: keys.ROUTING, ROUTING: SEND}
#: Hash: number -> how often it came through.
CAME = "chaos:came"
#: Hash: stage -> numbers that it finished.
DONE = "chaos:done"

_decode = msgspec.msgpack.Decoder(list[int]).decode
TAKEOVER_MS = int(os.environ.get("PUSHFLEET_TEST_CHAOS_TAKEOVER_MS", str(TAKEOVER_IDLE_MS)))
POISON = int(os.environ.get("PUSHFLEET_TEST_CHAOS_POISON", "-1"))


def finish(runtime: Runtime, stage: str, entries: Sequence[Entry]) -> Commit:
    numbers = [number for entry in entries for number in _decode(entry.blob)]
    if stage == ROUTING and POISON in numbers:
        os._exit(66)
    adds = [(NEXT[stage], entry.blob) for entry in entries] if stage in NEXT else []

    def count(pipe: Pipeline) -> None:
        pipe.hincrby(DONE, stage, len(numbers))
        for number in numbers if stage == DELIVERY else ():
            pipe.hincrby(CAME, str(number), 1)

    wake: dict[str, set[tuple[str, Vendor | None]]] = {
        PRESENCE: {(ROUTING, None)},
        ROUTING: {(DELIVERY, Vendor.APNS)},
    }
    return Commit(forward=adds, extra=[count], wake=frozenset(wake.get(stage, ())))


class Counting:
    def __init__(self, runtime: Runtime, stage: str) -> None:
        self.runtime, self.stage = runtime, stage

    def handle(self, entries: Sequence[Entry]) -> Commit:
        return finish(self.runtime, self.stage, entries)

    def split(self, entry: Entry) -> list[dict[bytes, bytes]]:
        return [{b"b": msgspec.msgpack.encode([number])} for number in _decode(entry.blob)]

    def letter(self, entry: Entry) -> Letter:
        return Letter(entry.blob, {"belt": entry.stream})

    def on_leave(self, entry: Entry, reason: str | None) -> Commit:
        return Commit()


def make_drain(stages: pipeline.Stages, stage: str, vendor: Vendor | None = None) -> StreamConsumer:
    counts: Mapping[str, int] = {SEND: 8} if stage == DELIVERY else {stage: 4}
    runtime = stages.runtime
    return StreamConsumer(
        Counting(runtime, stage),
        Policy(stage, counts, vendor),
        pipeline.stores_of(runtime, stage, vendor),
    )


if __name__ == "__main__":
    setattr(pipeline.Stages, "_make", make_drain)  # noqa: B010
    keys.STREAMS = (*keys.STREAMS, SEND)  # the timer looks after the last stage's stream, too
    streams = property(
        lambda runtime: runtime.__dict__.setdefault(
            "_belts", StreamStore(runtime.redis, runtime.keys, TAKEOVER_MS)
        )
    )
    setattr(Runtime, "streams", streams)  # noqa: B010
    vendors = ["--vendors", "apns"] if sys.argv[1] == DELIVERY else []
    sys.exit(run(["worker", sys.argv[1], *vendors]))
