"""Replays a dead letter: to the core's stream as a fresh entry, or to its own stream."""

from __future__ import annotations

from typing import Any

import msgspec

from common.contracts import decode_batch
from common.storage import keys
from common.storage.dead_letters import DeadLetter
from common.storage.shards import shard_of
from workers.app import DELIVERY
from workers.intake import decoding as intake
from workers.runtime import Runtime

#: Reasons of letters whose bytes are not the published entry.
INCOMPLETE = ("no_e", "too_large")
#: The note of a letter whose bytes cannot be decrypted.
SEALED = (
    "none of the keys in PUSHFLEET_SECRET_KEYS_FILE opens it: add the key it was encrypted with"
)


class NotReplayableError(ValueError):
    """The letter stays; the message gives the reason."""


class ReshardingNowError(NotReplayableError):
    """The letter stays while keys move between shards."""


def replay(runtime: Runtime, letter_id: str) -> DeadLetter | None:
    """Replays a letter to the core's stream or its own and removes it; None for an unknown one.

    Raises NotReplayableError. A crash between the two leaves the letter: on the next replay, its
    event id or its own id absorbs the repeat.
    """
    if runtime.redis.exists(runtime.keys.resharding):
        raise ReshardingNowError(
            f"{letter_id}: `pushfleet reshard` is at work, or waits to be called again; "
            "replay it after that"
        )
    with runtime.dead_letters.taken(letter_id) as letter:
        if letter is None:
            return None
        if letter.sealed:
            raise NotReplayableError(f"{letter.id}: {SEALED}")
        if letter.stage == "intake":
            _to_stream(runtime, letter)
        else:
            _to_work_stream(runtime, letter)
    return letter


def _to_stream(runtime: Runtime, letter: DeadLetter) -> None:
    if letter.reason.partition(":")[0] in INCOMPLETE:
        raise NotReplayableError(
            f"{letter.id}: the entry could not be kept whole ({letter.reason}); publish it "
            "anew and drop this letter"
        )
    fields: dict[Any, Any] = {
        name: letter.fields[name] for name in ("d", "app", "q") if letter.fields.get(name)
    }
    _free(runtime, letter)
    streams = runtime.settings.event_streams
    stream = letter.fields.get("stream")
    runtime.core.xadd(
        stream if stream in streams else streams[0], {_field(letter): letter.raw, **fields}
    )


def _field(letter: DeadLetter) -> bytes:
    """In which field of its entry the letter's bytes stood."""
    return b"b" if letter.fields.get("as") == "b" else b"e"


def _free(runtime: Runtime, letter: DeadLetter) -> None:
    """Frees the event ids of the dead-lettered entry: its new entry would else be a repeat.

    An id that another entry has taken since stays taken: the core has published that event again,
    and one push is enough.
    """
    fields = {
        name.encode(): letter.fields[name].encode()
        for name in ("d", "app", "q")
        if letter.fields.get(name)
    }
    apps = list(runtime.catalog.now.tenants)
    for stream in runtime.settings.event_streams:
        reads = intake.read_entries(
            stream, letter.entry_id, {_field(letter): letter.raw, **fields}, apps, letter.at_ms
        )
        events = [
            event for read in reads if isinstance(read, intake.Passed) for event in read.events
        ]
        runtime.marks.free([(event.app, event.id, event.entry) for event in events])


def _to_work_stream(runtime: Runtime, letter: DeadLetter) -> None:
    if letter.stage == "ledger":
        # upkeep buries single records; a stream's entry is a list of them
        stream, blob = keys.LEDGER, msgspec.msgpack.encode([msgspec.Raw(letter.raw)])
    else:
        stream, blob = letter.fields.get("belt", ""), letter.raw
    if stream not in (*keys.WORK_STREAMS, keys.LEDGER, keys.RECEIPTS):
        raise NotReplayableError(
            f"{letter.id}: this fleet has no stream {stream!r}; drop the letter"
        )
    _shard_of(runtime, letter.stage, blob).streams.add_once(letter.id, stream, blob)


def _shard_of(runtime: Runtime, stage: str, blob: bytes) -> Runtime:
    """The shard of the push; the stages before delivery forward other shards' people."""
    if stage != DELIVERY or len(runtime.shards) == 1:
        return runtime
    try:
        push = decode_batch(blob).pushes[0]
    except (msgspec.MsgspecError, IndexError):
        return runtime
    return runtime.shards[shard_of(len(runtime.shards), push.note.app, push.targets[0].user)]
