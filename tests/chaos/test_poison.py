"""An item whose processing kills the process: after the limit it stands alone, then it is a dead
letter; nobody else pays for it.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
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

IDLE_MS = 50
KILLED = 66


def batch(*devices: str) -> bytes:
    now = int(time.time() * 1000)
    targets = tuple(
        Target("u", device, "a1", device.rjust(32, "0"), "ios", now) for device in devices
    )
    pushes = (Push(note=note(ts_ms=now), targets=targets),)
    return encode(Batch(app="a", vendor=Vendor.APNS, business_id="b", pushes=pushes, by_entry=True))


def runtime_of(settings: Settings) -> Runtime:
    runtime = Runtime(settings)
    runtime.lane_queues = LaneQueues(runtime.redis, runtime.keys, IDLE_MS)
    return runtime


def sent_by(runtime: Runtime) -> str:
    """The key of what was sent: device -> how often."""
    return f"{runtime.settings.prefix}:chaos:sent"


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
                runtime.redis.hincrby(sent_by(runtime), target.device, 1)
                names = [runtime.keys.claims(day_of(ts_ms), target.push_id)]
                commit.mark("done", names, target.push_id, 1000)
        assert not runtime.lane_queues.commit(taken, commit)


def life(settings: Settings, deadly: str) -> int:
    """One life of a worker process: sends until nothing is left; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        runtime = runtime_of(settings)
        sender = LaneSender(runtime, Vendor.APNS, 500, lambda: False)
        # the account is not known here: what it sends is written down instead
        vars(sender)["_lane"] = lambda lane: None
        vars(sender._threads._rounds[0].unsent)["without_account"] = lambda taken, entries, *_: (
            finish(runtime, taken, entries, deadly)
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


ENTRIES = {
    "in a pack of twenty": [
        [f"d{n}" for n in range(9)] + ["deadly"] + [f"d{n}" for n in range(9, 19)]
    ],
    "alone, among others that are alone": [["d0"], ["deadly"], ["d1"], ["d2"], ["d3"]],
    "in a pack, among others": [["d0"], ["d1", "deadly", "d2"], ["d3"], ["d4", "d5"]],
}


@pytest.fixture
def worlds(
    settings_with: Callable[..., Settings], database_url: str, space: str, tmp_path: Path
) -> dict[str, Settings]:
    """One for each of ENTRIES, with names of its own."""
    (tmp_path / "keys").write_bytes(Fernet.generate_key())
    (tmp_path / "keys").chmod(0o600)
    made = {
        name: settings_with(DATABASE_URL=database_url, PREFIX=f"push{space}{number}")
        for number, name in enumerate(ENTRIES)
    }
    return {
        name: dataclasses.replace(one, secret_keys_file=tmp_path / "keys")
        for name, one in made.items()
    }


def lives_of(worlds: dict[str, Settings]) -> dict[str, list[int]]:
    """The exit codes of each world's processes, until one has nothing left. They live at the same
    time: for a dead one's entries each waits a second.
    """
    lives: dict[str, list[int]] = {name: [] for name in worlds}
    while going := [name for name in worlds if not lives[name] or lives[name][-1] == KILLED]:
        children = {name: life(worlds[name], "deadly") for name in going}
        for name, child in children.items():
            lives[name].append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        time.sleep(IDLE_MS / 1000 * 2)
        assert all(len(one) < 30 for one in lives.values())
    return lives


def test_a_push_that_kills_its_process_becomes_a_dead_letter_and_every_other_is_sent_once(
    worlds: dict[str, Settings], redis_client: redis.Redis
) -> None:
    """In a pack, alone, and in a pack among others."""
    runtimes = {name: runtime_of(one) for name, one in worlds.items()}
    for name, runtime in runtimes.items():
        with runtime.redis.pipeline(transaction=True) as pipe:
            blobs = [batch(*devices) for devices in ENTRIES[name]]
            runtime.lane_queues.put(
                pipe, [as_new(decode_batch(blob), Urgency.CHAT, blob) for blob in blobs]
            )
            pipe.execute()
    lives = lives_of(worlds)
    for name, runtime in runtimes.items():
        assert lives[name][-1] == 0, name
        assert 0 < lives[name].count(KILLED) <= 2 * DELIVERIES_MAX, name
        others = {device for devices in ENTRIES[name] for device in devices} - {"deadly"}
        sent = redis_client.hgetall(sent_by(runtime))
        assert sent == {device.encode(): b"1" for device in others}, name
        stands_as_a_dead_letter(runtime)
        runtime.close()


def stands_as_a_dead_letter(runtime: Runtime) -> None:
    entries: Any = runtime.redis.xrange(runtime.keys.stream(keys.LEDGER))
    records = [record for _, fields in entries for record in decode_records(fields[b"b"])]
    letter, row = records
    assert isinstance(row, RowRecord)
    assert (row.device, row.decision, row.note.split(":")[0]) == ("deadly", None, "dead letter"), (
        "nobody is without a row"
    )
    assert isinstance(letter, DeadRecord)
    assert (letter.stage, letter.reason.split(":")[0]) == (DELIVERY, "poison")
    buried = decode_batch(runtime.vault.decrypt(letter.raw))
    assert [target.device for push in buried.pushes for target in push.targets] == ["deadly"]
