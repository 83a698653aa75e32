"""Numbers through three stages of real Celery workers while everything around them breaks; then
every number is asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import redis
from cryptography.fernet import Fernet
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from common.config import Settings
from common.storage import keys
from common.storage.migrations import migrate
from tests.chaos.proxy import ThreadedProxy
from tests.chaos.stream_worker import CAME, DONE, SEND
from tests.conftest import OwnValkey
from tests.waiting import seconds_until
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.runtime import Runtime
from workers.supervisor import Line, Supervisor, Worker

STAGES = (PRESENCE, ROUTING, DELIVERY)
PACK = 50
#: Longest wait for something to go on after a fault, and for the last number, seconds.
LONGEST_S = 60.0


@dataclasses.dataclass(slots=True)
class Report:
    """lost: numbers that never came; doubled: that came more than once. restarts: deaths that
    nobody ordered.
    """

    numbers: int = 0
    lost: int = 0
    doubled: int = 0
    left: int = 0
    restarts: int = 0
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    recovery_s: dict[str, float] = dataclasses.field(default_factory=dict)


class StreamFleet:
    """Two workers a stage and an upkeep, behind a proxy to Redis that can cut and freeze their
    connections.
    """

    def __init__(
        self, valkey: OwnValkey, folder: Path, environ: Mapping[str, str], replicas: int = 2
    ) -> None:
        self.valkey = valkey
        address = urlsplit(valkey.url)
        self.proxy = ThreadedProxy((address.hostname, address.port))
        through = valkey.url.replace(f":{address.port}/", f":{self.proxy.port}/")
        keys_file = folder / "keys"
        folder.mkdir(parents=True, exist_ok=True)
        keys_file.write_bytes(Fernet.generate_key())
        keys_file.chmod(0o600)
        base = {
            "PUSHFLEET_DATA_DIR": str(folder),
            "PUSHFLEET_SECRET_KEYS_FILE": str(keys_file),
            **environ,
        }
        lines = [
            Line(
                stage,
                (sys.executable, "-m", "tests.chaos.stream_worker", stage),
                {**base, "PUSHFLEET_REDIS_URL": through},
                count,
            )
            for stage, count in (*((stage, replicas) for stage in STAGES), ("upkeep", 1))
        ]
        self._supervisor = Supervisor(lines, log_dir=folder / "logs")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="stream fleet")
        self.direct = redis.Redis.from_url(
            valkey.url, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        self.runtime = Runtime(Settings.load({**base, "PUSHFLEET_REDIS_URL": valkey.url}))
        migrate(self.runtime.engine)

    def _supervise(self) -> None:
        self._supervisor.start()
        while not self._stop.is_set():
            self._supervisor.tick()
        self._supervisor.stop(3.0)

    @contextlib.contextmanager
    def running(self) -> Iterator[StreamFleet]:
        self._thread.start()
        try:
            self.all_back()
            yield self
        finally:
            self._stop.set()
            self._thread.join()
            self.proxy.stop()
            self.runtime.close()
            self.direct.close()

    def all_back(self) -> float:
        """Seconds until every worker has said anew that it lives and takes wake-ups."""
        return wait_for(self._all_alive, "all workers say that they live")

    def _all_alive(self) -> bool:
        return all(
            self.direct.exists(f"push:alive:{worker.name}") for worker in self._supervisor.workers
        )

    def workers(self, number: int = 1) -> list[Worker]:
        """The workers `<stage>.<number>`."""
        return [worker for worker in self._supervisor.workers if worker.name.endswith(f".{number}")]

    def restarts(self) -> int:
        return sum(worker.restarts for worker in self._supervisor.workers)

    def done(self) -> dict[str, int]:
        counts: Any = self.direct.hgetall(DONE)
        return {name.decode(): int(count) for name, count in counts.items()}

    def came(self) -> dict[int, int]:
        return {int(number): int(count) for number, count in self.direct.hgetall(CAME).items()}

    def left(self) -> int:
        """Entries that lie on some stream, the ledger's (dead letters) with them."""
        streams = (keys.PRESENCE, keys.ROUTING, SEND, keys.LEDGER)
        return sum(self.direct.xlen(f"push:{stream}") for stream in streams)


class Feeder:
    """Puts numbers on the first stream at a pace, each once; what Redis did not
    confirm goes again.
    """

    def __init__(self, fleet: StreamFleet, per_second: float) -> None:
        self._fleet = fleet
        self._pause_s = PACK / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self.fed = 0
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._put(msgspec.msgpack.encode(list(range(self.fed, self.fed + PACK))))
            self.fed += PACK
            self._stop.wait(self._pause_s)

    def _put(self, blob: bytes) -> None:
        while True:
            try:
                self._fleet.direct.xadd(f"push:{keys.PRESENCE}", {"b": blob})
            except RedisError:
                time.sleep(0.05)
                continue
            self._fleet.runtime.send_wake_up(PRESENCE)
            return

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.fed


def wait_for(look: Callable[[], Any], what: str, seconds: float = LONGEST_S) -> float:
    """Seconds until it was so; Redis may be away meanwhile."""

    def looked() -> Any:
        with contextlib.suppress(RedisError):
            return look()

    return seconds_until(looked, what, seconds)


# ---------------------------------------------------------------- the faults: each returns when its


def kill(fleet: StreamFleet, _seconds: float) -> None:
    """SIGKILL to one worker of each stage, and to upkeep."""
    for worker in fleet.workers():
        assert worker.process
        worker.process.send_signal(signal.SIGKILL)
    fleet.direct.delete(*(f"push:alive:{worker.name}" for worker in fleet.workers()))


def stop_and_continue(fleet: StreamFleet, seconds: float) -> None:
    """One worker of each stage, and upkeep, stand still for longer than the take-over time, then go
    on with what they held.
    """
    stopped = [worker.process for worker in fleet.workers() if worker.process]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    for process in stopped:
        process.send_signal(signal.SIGCONT)


def cut(fleet: StreamFleet, _seconds: float) -> None:
    """RST on every connection between workers and Redis."""
    fleet.proxy.reset_all()


def half_open(fleet: StreamFleet, _seconds: float) -> None:
    """Every connection stays open for the workers and never carries another byte."""
    fleet.proxy.orphan_all()


def restart_redis(fleet: StreamFleet, _seconds: float) -> None:
    fleet.valkey.kill()
    time.sleep(1.0)
    fleet.valkey.restart()


def throw_wake_ups_away(fleet: StreamFleet, seconds: float) -> None:
    """Whatever Celery would ring with is gone again within milliseconds; the marks stay, so nobody
    rings anew.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        queues = [
            key for key in fleet.direct.keys("push:celery:*") if fleet.direct.type(key) == b"list"
        ]
        if queues:
            fleet.direct.delete(*queues)
        time.sleep(0.005)


FAULTS: Mapping[str, Callable[[StreamFleet, float], None]] = {
    "kill": kill,
    "stop_and_continue": stop_and_continue,
    "cut": cut,
    "half_open": half_open,
    "restart_redis": restart_redis,
    "throw_bells_away": throw_wake_ups_away,
}
#: Faults that end processes on purpose.
DEADLY = {"kill"}


def campaign(
    fleet: StreamFleet, numbers: int, per_second: float, seconds: float, rounds: int = 1
) -> Report:
    """At least so many numbers at a pace, every fault `rounds` times while they travel. seconds:
    how long a fault that lasts is kept up.
    """
    report = Report()
    feeder = Feeder(fleet, per_second)
    wait_for(lambda: len(fleet.done()) == len(STAGES), "every stage works")
    for _ in range(rounds):
        for name, fault in FAULTS.items():
            deaths = fleet.restarts()
            fault(fleet, seconds)
            took = _until_all_go_on(fleet, name)
            report.faults[name] = report.faults.get(name, 0) + 1
            report.recovery_s[name] = round(max(report.recovery_s.get(name, 0.0), took), 2)
            report.restarts += 0 if name in DEADLY else fleet.restarts() - deaths
            if name in DEADLY:
                report.recovery_s["killed_back"] = round(
                    max(report.recovery_s.get("killed_back", 0.0), took + fleet.all_back()), 2
                )
    wait_for(lambda: feeder.fed >= numbers, "everything is fed", LONGEST_S + numbers / per_second)
    report.numbers = feeder.stop()
    with contextlib.suppress(AssertionError):  # what is missing then is lost: the report says so
        wait_for(
            lambda: len(fleet.came()) == report.numbers and not fleet.left(), "the last number came"
        )
    came = fleet.came()
    report.lost = report.numbers - len(came)
    report.doubled = sum(count > 1 for count in came.values())
    report.left = fleet.left()
    return report


def _until_all_go_on(fleet: StreamFleet, name: str) -> float:
    before: dict[str, int] = {}

    def all_go_on() -> bool:
        now = fleet.done()
        if not before:
            before.update(now)
        return all(now[stage] > before[stage] for stage in STAGES)

    return wait_for(all_go_on, f"every stage goes on after {name}")
