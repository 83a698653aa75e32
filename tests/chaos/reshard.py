"""`make reshard`: 50,000 pushes wait in 20 lanes while a fleet goes from 1 to 4 to 2 shards, and
the command is killed in each phase.

The command is the real one, in a process of its own. Behind each change what waits is compared with
what waited: each push once, in its person's shard, each person's in their order within an urgency.
Report: var/reports/reshard.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, cast

from cryptography.fernet import Fernet

from common.clock import now_ms
from common.config import Settings
from common.contracts import Push, Target, decode_batch, encode
from common.model import Bucket, MessageClass, Urgency
from common.storage.delayed import as_new, parts_of, retry_member
from common.storage.migrations import migrate
from common.storage.shards import RESHARD, shard_of
from tests.builders import notification
from tests.commands import clean_environ
from tests.queued import packed
from workers.embedded import start_embedded
from workers.runtime import Runtime

PUSHES = int(os.environ.get("PUSHES") or 50_000)
LANES = int(os.environ.get("LANES") or 20)
#: Of the entries of a lane, the pushes of each in turn.
SIZES = (1, 1, 3, 20, 200)
#: Phases in their order, and at how many seconds in them the command is killed, one run after the
#: other.
KILLS_S = {
    "drain": (0.0,),
    "stop": (0.0,),
    "flush": (0.0,),
    "move": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
}
APP = "demo"

#: (urgency, user, push id) in the order in which a lane's queue has them; retries by their due
#: time.
Waiting = dict[str, dict[str, list[str]]]


def _push(lane: int, number: int, urgency: Urgency) -> Push:
    user, now = f"u{lane}-{number % 997}", now_ms()
    names = {"app": APP, "event_id": uuid.uuid4().hex, "conversation_id": "s", "urgency": urgency}
    names |= dict.fromkeys(("message_id", "collapse_id"), f"m{number}")
    names |= dict.fromkeys(("message_class", "class_sent"), MessageClass.CHAT)
    times = {"ts_ms": now, "received_ms": now, "expires_at_ms": now + 86_400_000}
    note = notification(title="t", body="b" * 80, bucket=Bucket.PRIVATE, **names, **times)
    target = Target(user, "d", f"token-{user}", uuid.uuid4().hex, "android", 1)
    return Push(note=note, targets=(target,))


def fill(runtime: Runtime) -> None:
    each = PUSHES // LANES
    for lane in range(LANES):
        batches: list[Any] = []
        later: list[Any] = []
        made, turn = 0, 0
        while made < each:
            urgency = tuple(Urgency)[turn % 4]
            size = min(SIZES[turn % len(SIZES)], each - made)
            pushes = tuple(_push(lane, made + index, urgency) for index in range(size))
            batch = packed(pushes, f"l{lane}", app=APP)
            new = as_new(batch, urgency, encode(batch))
            (later if turn % 10 == 9 else batches).append(new)
            made, turn = made + size, turn + 1
        with runtime.redis.pipeline(transaction=True) as pipe:
            runtime.lane_queues.put(pipe, batches)
            for index, new in enumerate(later):
                pipe.zadd(runtime.keys.delayed, {retry_member(new): now_ms() + 86_400_000 + index})
                pipe.hincrby(runtime.keys.lane_load(new.lane), "b", len(new.blob))
            pipe.execute()


def waiting(runtime: Runtime) -> Waiting:
    """By lane and urgency, and by person, what waits in its order; each in the shard that has to
    have it.
    """
    found: Waiting = {}
    count = len(runtime.shards)
    for one in runtime.shards:
        queues = one.lane_queues
        for lane in queues.loaded():
            for urgency in Urgency:
                (names,) = queues.windows([(lane, urgency, 0)], PUSHES)
                for start in range(0, len(names), 500):
                    for blob in queues.blobs(lane, names[start : start + 500]):
                        assert blob is not None, "an entry has lost its bytes"
                        _note(found.setdefault(f"{lane} {urgency}", {}), blob, count, one.number)
        for member in cast(list[bytes], one.redis.zrange(one.keys.delayed, 0, -1)):
            header, blob = parts_of(member)
            later = found.setdefault(f"{header.name} {header.urgency} later", {})
            _note(later, blob, count, one.number)
    return found


def _note(people: dict[str, list[str]], blob: bytes, count: int, here: int) -> None:
    for push in decode_batch(blob).pushes:
        for target in push.targets:
            assert shard_of(count, push.note.app, target.user) == here, (
                f"{target.user} is not of shard {here}"
            )
            people.setdefault(target.user, []).append(target.push_id)


class Command:
    """`pushfleet reshard N`, killed so often and then left to its end."""

    def __init__(self, runtime: Runtime, environ: dict[str, str]) -> None:
        self._runtime, self._environ = runtime, environ
        self.kills: Counter[str] = Counter()

    def run(self, number: int) -> float:
        for phase, seconds in KILLS_S.items():
            for after_s in seconds:
                if not self._killed(number, phase, after_s):
                    break
        began = time.monotonic()
        done = subprocess.run(
            self._line(number), env=self._environ, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        print(done.stdout, end="")
        return time.monotonic() - began

    def _line(self, number: int) -> list[str]:
        pushfleet = str(Path(sys.executable).parent / "pushfleet")
        return [pushfleet, "reshard", str(number), "--drain", "2"]

    def _killed(self, number: int, phase: str, after_s: float) -> bool:
        """Whether it was; False: it came to its end before."""
        process = subprocess.Popen(
            self._line(number), env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        redis, keys = self._runtime.redis, self._runtime.keys
        began: float | None = None
        later = list(KILLS_S)[list(KILLS_S).index(phase) :]  # one may be over between two looks
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            told: Any = redis.hget(keys.resharding, "phase")
            if (
                began is None
                and told is not None
                and told.decode() in later
                and redis.exists(keys.lease(RESHARD))
            ):
                began = time.monotonic()
            if began is not None and time.monotonic() - began >= after_s:
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.kills[told.decode() if told is not None else phase] += 1
                # a lease of a killed one ends by itself in seconds
                redis.delete(keys.lease(RESHARD))
                return True
            time.sleep(0.002)
        assert process.wait() == 0, process.stderr.read() if process.stderr else ""
        return False


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "keys").write_bytes(Fernet.generate_key())
        (Path(folder) / "keys").chmod(0o600)
        wanted = Settings.load({"PUSHFLEET_DATA_DIR": folder})
        servers = start_embedded(wanted)
        try:
            assert servers.redis_url
            assert servers.database_url
            names = {
                "REDIS_URL": servers.redis_url,
                "DATABASE_URL": servers.database_url,
                "DATA_DIR": folder,
            }
            names |= {"SECRET_KEYS_FILE": str(Path(folder) / "keys")}
            report = _campaign({f"PUSHFLEET_{name}": value for name, value in names.items()})
        finally:
            servers.stop()
    path = Path("var/reports/reshard.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1))
    print(json.dumps(report))
    return 0


def _campaign(named: dict[str, str]) -> dict[str, Any]:
    environ = {**clean_environ(), **named}
    first = Runtime(Settings.load(named), "campaign", "test")
    migrate(first.engine)
    fill(first)
    before, report = waiting(first), dict[str, Any](pushes=PUSHES, lanes=LANES)
    count = sum(len(told) for people in before.values() for told in people.values())
    assert count == PUSHES // LANES * LANES
    for number in (4, 2):
        command = Command(first, environ)
        seconds = command.run(number)
        changed = Runtime(
            Settings.load({**named, "PUSHFLEET_SHARDS": str(number)}), "campaign", "test"
        )
        assert waiting(changed) == before, f"what waits in {number} shards is not what waited"
        held = sum(
            load.waiting
            for one in changed.shards
            for load in one.lane_queues.loads(one.lane_queues.loaded()).values()
        )
        report[f"to {number}"] = {
            "kills": dict(command.kills),
            "last_run_s": round(seconds, 1),
            "counted_as_waiting": held,
        }
        changed.close()
    return report


if __name__ == "__main__":
    sys.exit(main())
