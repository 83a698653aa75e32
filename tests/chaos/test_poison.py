"""An item whose processing kills the process: after the limit it stands alone, then it is a dead
letter; nobody else pays for it.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Sequence

import pytest
from cryptography.fernet import Fernet

from common.config import Settings
from common.contracts import Batch, Push, Target, decode_batch, encode
from common.ledger_records import DeadRecord, RowRecord, decode_records
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.claims import ClaimRequest, ClaimState, day_of
from common.storage.delayed import as_new
from common.storage.lane_entries import LaneCommit, LaneEntry, Taken
from common.storage.lane_queues import LaneQueues
from common.storage.streams import DELIVERIES_MAX
from tests.unit.vendors.cases import note
from workers.app import DELIVERY
from workers.handlers.delivery import LaneSender
from workers.runtime import Runtime

pytestmark = [pytest.mark.chaos]

SENT = "chaos:sent"
IDLE_MS = 50
KILLED = 66


def batch(*devices: str) -> bytes:
    now = int(time.time() * 1000)
    targets = tuple(
        Target("u", device, "a1", device.rjust(32, "0"), "ios", now) for device in devices
    )
    return encode(
        Batch(
            app="a",
            vendor=Vendor.APNS,
            business_id="b",
            pushes=(Push(note=note(ts_ms=now), targets=targets),),
            by_entry=True,
        )
    )


def runtime_of(settings: Settings) -> Runtime:
    runtime = Runtime(settings)
    runtime.lane_queues = LaneQueues(runtime.redis, runtime.keys, IDLE_MS)
    return runtime


def finish(runtime: Runtime, taken: Taken, entries: Sequence[LaneEntry], deadly: str) -> None:
    """As delivery does it: lease, send (write down), mark, end. The deadly device ends the process
    while all is leased.
    """
    for entry in entries:
        found = decode_batch(entry.blob)
        targets = [target for push in found.pushes for target in push.targets]
        ts_ms = found.pushes[0].note.ts_ms
        asks = [
            ClaimRequest("a", "m", t.user, t.device, t.push_id, ts_ms, entry.owner, 1)
            for t in targets
        ]
        claims = runtime.claims.lease(asks)
        if any(target.device == deadly for target in targets):
            os._exit(KILLED)
        commit = LaneCommit(ended=[entry], bytes_more=-len(entry.blob))
        for target, claim in zip(targets, claims, strict=True):
            if claim.state == ClaimState.OURS:
                runtime.redis.hincrby(SENT, target.device, 1)
                commit.mark(
                    "done",
                    [runtime.keys.claims(day_of(ts_ms), target.push_id)],
                    target.push_id,
                    1000,
                )
        assert not runtime.lane_queues.commit(taken, commit)


def life(settings: Settings, deadly: str) -> int:
    """One life of a worker process: sends until nothing is left; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        runtime = runtime_of(settings)
        sender = LaneSender(runtime, Vendor.APNS, 500, lambda: False)
        # the account is not known here: what it sends is written down instead
        vars(sender)["_lane"] = lambda lane: None
        vars(sender._threads.rounds.unsent)["without_account"] = lambda taken, entries, *_: finish(
            runtime, taken, entries, deadly
        )
        end = time.monotonic() + 20
        while runtime.lane_queues.any_left() and time.monotonic() < end:
            runtime.lane_queues.reap(Vendor.APNS)
            sender(lambda: False)
            time.sleep(0.02)
        os._exit(0)
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.fixture
def world(settings: Settings, tmp_path, redis_client) -> Settings:
    (tmp_path / "keys").write_bytes(Fernet.generate_key())
    (tmp_path / "keys").chmod(0o600)
    return dataclasses.replace(settings, secret_keys_file=tmp_path / "keys")


ENTRIES = {
    "in a pack of twenty": [
        [f"d{n}" for n in range(9)] + ["deadly"] + [f"d{n}" for n in range(9, 19)]
    ],
    "alone, among others that are alone": [["d0"], ["deadly"], ["d1"], ["d2"], ["d3"]],
    "in a pack, among others": [["d0"], ["d1", "deadly", "d2"], ["d3"], ["d4", "d5"]],
}


@pytest.mark.parametrize("entries", ENTRIES.values(), ids=ENTRIES)
def test_a_push_that_kills_its_process_becomes_a_dead_letter_and_every_other_is_sent_once(
    world: Settings, redis_client, entries: list[list[str]]
) -> None:
    runtime = runtime_of(world)
    redis_client.delete(SENT)
    with runtime.redis.pipeline(transaction=True) as pipe:
        blobs = [batch(*devices) for devices in entries]
        runtime.lane_queues.put(
            pipe, [as_new(decode_batch(blob), Urgency.CHAT, blob) for blob in blobs]
        )
        pipe.execute()
    lives: list[int] = []
    while not lives or lives[-1] == KILLED:
        lives.append(life(world, "deadly"))
        time.sleep(IDLE_MS / 1000 * 2)
        assert len(lives) < 30
    assert lives[-1] == 0
    assert lives.count(KILLED) <= 2 * DELIVERIES_MAX
    others = {device for devices in entries for device in devices} - {"deadly"}
    assert redis_client.hgetall(SENT) == {device.encode(): b"1" for device in others}
    records = [
        record
        for _, fields in redis_client.xrange(runtime.keys.stream(keys.LEDGER))
        for record in decode_records(fields[b"b"])
    ]
    letter, row = records
    assert isinstance(row, RowRecord)
    assert (row.device, row.decision, row.note.split(":")[0]) == ("deadly", None, "dead letter"), (
        "nobody is without a row"
    )
    assert isinstance(letter, DeadRecord)
    assert (letter.stage, letter.reason.split(":")[0]) == (DELIVERY, "poison")
    buried = decode_batch(runtime.vault.decrypt(letter.raw))
    assert [target.device for push in buried.pushes for target in push.targets] == ["deadly"]
    runtime.close()
