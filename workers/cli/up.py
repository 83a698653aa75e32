"""`pushfleet up`: one whole fleet on this machine, until it is stopped.

Servers for `embedded`, simulators of the vendors without an endpoint of their own, the lines of the
Procfile; a dead process starts again, on the same ports and data (contract §1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from redis.exceptions import RedisError

from common import runfile
from common.config import VENDOR_ENDPOINTS, SettingError, Settings, environ_of
from common.logs import scrub
from common.running_fleet import own_endpoints, simulated_endpoints
from common.secret_keys import secret_keys
from common.setting_checks import EMBEDDED, host_port
from common.storage.keys import Keys
from common.storage.living import Heartbeats
from common.storage.redis import BROKER_SETTING, connect
from common.storage.shards import check_shards
from workers.cli.opening import program
from workers.embedded import EmbeddedError, Running, start_embedded
from workers.processes import set_on_signals
from workers.supervisor import Line, Supervisor, read_procfile

#: Longest wait for simulators, and for every process to be ready, seconds.
SIMULATORS_S_MAX: Final = 20.0
READY_S_MAX: Final = 90.0
#: An embedded server that dies is started again, at most this often, seconds.
REVIVE_S: Final = 0.5
METRICS_PORT: Final = 17_300
DEFAULT_ADDRS: Final = {
    "console_addr": "127.0.0.1:8080",
    "receipts_addr": "127.0.0.1:8081",
    "gateway_addr": "127.0.0.1:8082",
}

Migrate = Callable[[Settings], None]
#: (settings, names of the processes) -> whether an event published now is handled.
Ready = Callable[[Settings, Sequence[str]], bool]


def alive_in_redis(settings: Settings, names: Sequence[str]) -> bool:
    """True when each process has written `<prefix>:alive:<name>`.

    The name is in its environment, PUSHFLEET_PROCESS.
    """
    try:
        client = connect(settings.redis_url)
        with contextlib.closing(client):
            keys = Keys(settings.key_root)
            return client.exists(*(keys.alive(name) for name in names)) == len(names)
    except (RedisError, OSError):
        return False


def forget_earlier(settings: Settings, names: Sequence[str]) -> None:
    """Removes what a killed `up` left in Redis, so that this one does not look ready.

    Raises SettingError for another number of shards, and for wake-ups on a cluster.
    """
    with contextlib.closing(connect(settings.redis_url)) as client:
        check_shards(client, Keys(settings.key_root), settings.shards, starts=False)
        Heartbeats(client, Keys(settings.key_root)).leave(names)
    if settings.broker_url not in (None, settings.redis_url):
        with contextlib.suppress(RedisError, OSError):
            connect(settings.broker_url, BROKER_SETTING).close()


class LocalFleet:
    """Everything `up` starts. All calls from one thread that lives as long as the fleet: its end
    ends the processes.
    """

    def __init__(
        self,
        settings: Settings,
        replicas: Mapping[str, int],
        simulators: bool,
        migrate: Migrate,
        ready: Ready,
        procfile_path: Path | None = None,
    ) -> None:
        self.wanted = settings
        self.settings = settings
        self._replicas = replicas
        self._procfile = procfile_path or procfile()
        self._with_simulators = simulators
        self._migrate = migrate
        self._ready = ready
        self._servers: Running | None = None
        self._simulators: Supervisor | None = None
        self._lines: Supervisor | None = None
        self._read: list[Line] = []
        self._revive_at = 0.0

    @property
    def started(self) -> bool:
        return bool(self._servers or self._simulators or self._lines)

    @property
    def names(self) -> list[str]:
        """The processes of the Procfile: `intake.1`, `presence.1`, `presence.2`, …"""
        return [worker.name for worker in self._lines.workers] if self._lines else []

    def check(self) -> None:
        """All checks before the start. Raises SettingError for wrong settings, and where a fleet
        runs here already.
        """
        data_dir = self.wanted.data_dir
        run = runfile.read(data_dir)
        if runfile.alive(run) and run.get("pid") != os.getpid():
            words = (
                f"a fleet runs in {data_dir} already (process {run['pid']}): end that one, or "
                "set PUSHFLEET_DATA_DIR"
            )
            raise SettingError(words)
        _make_folder(data_dir)
        self._read = with_replicas(
            read_procfile(self._procfile, _procfile_environ(self.wanted)), self._replicas
        )
        self.settings = _free_addrs(self.wanted)
        # made now, if they are to be made: many processes will ask for them at once
        secret_keys(self.wanted)

    def start(self) -> None:
        """Starts everything, in order. EmbeddedError, SettingError, or what migrate raises; then
        call `stop`.
        """
        self.check()
        self._start_servers()
        self._start_simulators()
        runfile.remove(self.wanted.data_dir)
        runfile.change(self.wanted.data_dir, lambda run: run.update(self._run()))
        self._migrate(self.settings)
        environ = environ_of(self.settings)
        self._lines = Supervisor(
            [dataclasses.replace(line, env={**environ, **line.env}) for line in self._read],
            log_dir=self.wanted.data_dir / "logs",
        )
        forget_earlier(self.settings, self.names)
        self._lines.start()

    def wait_ready(
        self, stopped: Callable[[], bool] = lambda: False, seconds: float = READY_S_MAX
    ) -> bool:
        """Waits until the fleet handles events; False when it was stopped or takes longer."""
        until = time.monotonic() + seconds
        while not stopped() and time.monotonic() < until:
            self.tick()
            if self._ready(self.settings, self.names):
                return True
        return False

    def tick(self) -> None:
        """Some tenths of a second of supervising."""
        if self._servers and time.monotonic() >= self._revive_at and self._servers.revive():
            self._revive_at = time.monotonic() + REVIVE_S
        if self._simulators:
            self._simulators.tick(0.02)
        if self._lines:
            self._lines.tick(0.25)

    def stop(self) -> None:
        """Stops the workers first, to let them release entries; then simulators and servers."""
        for supervisor in (self._lines, self._simulators):
            if supervisor:
                supervisor.stop()
        if self._servers or self._lines:
            runfile.remove(self.wanted.data_dir)
        if self._servers:
            self._servers.stop()
        self._lines = self._simulators = self._servers = None

    def addresses(self) -> dict[str, str]:
        """The addresses for an operator: console, receipts, metrics, and simulators."""
        run = runfile.read(self.wanted.data_dir)
        found = {
            "console": str(run.get("console")),
            "receipts": str(run.get("receipts")),
            "gateway": _url(self.settings.gateway_addr),
        }
        names = {f"http://{target}/metrics": name for name, target in self._targets().items()}
        found |= {
            f"metrics {names.get(url, number)}": url
            for number, url in enumerate(run.get("metrics", ()), 1)
        }
        return found | {
            f"simulator {vendor}": url for vendor, url in (run.get("simulators") or {}).items()
        }

    def _targets(self) -> dict[str, str]:
        try:
            with contextlib.closing(connect(self.settings.redis_url)) as client:
                return Heartbeats(client, Keys(self.settings.key_root)).targets()
        except (RedisError, OSError):
            return {}

    def for_the_core(self) -> dict[str, str]:
        """The data for a core to publish, and a first push.

        It has the password of an embedded server only, which is in run.json beside us.
        """
        url = (
            self.settings.core_url
            if self.wanted.core_url == "embedded"
            else scrub(self.settings.core_url)
        )
        stream = self.settings.event_streams[0]
        found = {
            "redis of the core": url,
            "events": f"XADD {stream} * e '<JSON of one event>'  (docs/first-hour.md)",
        }
        return found | (
            {"a first push": f"{program()} init  (in another terminal)"} if self._simulators else {}
        )

    def _start_servers(self) -> None:
        postgres, broker = self.wanted.embedded_database, self.wanted.embedded_broker
        valkey = self.wanted.embedded_redis or broker
        if not valkey and not postgres:
            return
        self._servers = start_embedded(self.wanted, valkey=valkey, postgres=postgres)
        started = self._servers.redis_url
        redis_url = started if started and not broker else self.wanted.redis_url
        self.settings = dataclasses.replace(
            self.settings,
            redis_url=redis_url,
            broker_url=started if self.wanted.broker_url == EMBEDDED else self.wanted.broker_url,
            core_url=redis_url if self.wanted.core_url == "embedded" else self.wanted.core_url,
            database_url=self._servers.database_url or self.wanted.database_url,
        )

    def _start_simulators(self) -> None:
        folder = self.wanted.data_dir / "simulators"
        lines = simulator_lines(self.wanted, folder) if self._with_simulators else []
        if not lines:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.json"):
            stale.unlink()
        self._simulators = Supervisor(lines, log_dir=self.wanted.data_dir / "logs")
        self._simulators.start()
        ready = self._wait_simulators(folder, [line.argv[3] for line in lines])
        there = {
            name: url
            for name, url in simulated_endpoints(folder).items()
            if not own_endpoints(self.wanted, _vendor_of(name))
        }
        ca_file = self.wanted.ca_file or Path(ready["ca_file"])
        self.settings = dataclasses.replace(
            self.settings,
            endpoints=MappingProxyType({**there, **self.wanted.endpoints}),
            ca_file=ca_file,
        )

    def _wait_simulators(self, folder: Path, vendors: Sequence[str]) -> dict[str, str]:
        """Waits until each simulator has reported its address; returns the last report."""
        until = time.monotonic() + SIMULATORS_S_MAX
        while missing := [vendor for vendor in vendors if not (folder / f"{vendor}.json").exists()]:
            if time.monotonic() > until:
                raise EmbeddedError(
                    f"simulators do not start: {', '.join(missing)}; see "
                    f"{self.wanted.data_dir / 'logs'}"
                )
            if self._simulators:
                self._simulators.tick(0.05)
        ready: dict[str, str] = json.loads((folder / f"{vendors[-1]}.json").read_bytes())
        return ready

    def _run(self) -> runfile.Run:
        simulated = {
            vendor: self.settings.endpoints[names[0]]
            for vendor, names in VENDOR_ENDPOINTS.items()
            if names[0] in self.settings.endpoints and not own_endpoints(self.wanted, vendor)
        }
        return {
            "redis_url": self.settings.redis_url,
            **({"broker_url": self.settings.broker_url} if self.wanted.embedded_broker else {}),
            "database_url": self.settings.database_url,
            "console": _url(self.settings.console_addr),
            "metrics": [],
            "receipts": _url(self.settings.receipts_addr),
            "simulators": simulated,
            "ca_file": str(self.settings.ca_file) if self.settings.ca_file else None,
            "pid": os.getpid(),
        }


# ---------------------------------------------------------------- what is started


def procfile() -> Path:
    """The Procfile of this checkout, or of the working directory. SettingError
    when there is none.
    """
    for folder in (Path(__file__).parents[2], Path.cwd()):
        if (folder / "Procfile").is_file():
            return folder / "Procfile"
    raise SettingError("there is no Procfile here: `pushfleet up` takes its lines from it")


def _make_folder(data_dir: Path) -> None:
    """SettingError where it can't be made or written to."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        writable = os.access(data_dir, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise SettingError(
            "PUSHFLEET_DATA_DIR takes the path of a folder that this user can write to, or "
            "of one to be made"
        )


def _procfile_environ(settings: Settings) -> dict[str, str]:
    return {**os.environ, "PUSHFLEET_METRICS_PORT": str(settings.metrics_port or METRICS_PORT)}


def with_replicas(lines: Sequence[Line], replicas: Mapping[str, int]) -> list[Line]:
    """The lines with our own interpreter for `pushfleet` and the requested replicas.

    Raises SettingError for an unknown line.
    """
    unknown = set(replicas) - {line.name for line in lines}
    if unknown:
        raise SettingError(
            f"--replicas names no line of the Procfile: {', '.join(sorted(unknown))}"
        )
    return [
        dataclasses.replace(
            line, argv=_own_program(line.argv), replicas=replicas.get(line.name, line.replicas)
        )
        for line in lines
    ]


def _own_program(argv: tuple[str, ...]) -> tuple[str, ...]:
    """`pushfleet` need not be on the PATH, and must be this version."""
    return (sys.executable, "-m", "workers", *argv[1:]) if argv[0] == "pushfleet" else argv


def read_replicas(text: str) -> dict[str, int]:
    """`presence=2,routing=3`; SettingError when it is not that. 0 leaves a line out."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if not number.isascii() or not number.isdigit() or not 0 <= int(number) <= 64:
            raise SettingError("--replicas takes NAME=N,… with N from 0 to 64")
        found[name.strip()] = int(number)
    return found


def simulator_lines(settings: Settings, folder: Path) -> list[Line]:
    """One process for each needed simulator, each with ports of its own that it keeps."""
    from simulators.registry import SIMULATORS, present

    needed = []
    for simulator in present():
        stands_for = [vendor for vendor, entry in SIMULATORS.items() if entry.module == simulator]
        if any(not own_endpoints(settings, vendor) for vendor in stands_for):
            needed.append(simulator)
    first = free_ports(sum(SIMULATORS[simulator].ports for simulator in needed))
    lines = []
    for simulator in needed:
        argv = (
            sys.executable,
            "-m",
            "simulators",
            simulator,
            "--port",
            str(first),
            "--dir",
            str(folder),
        )
        lines.append(Line(f"simulator-{simulator}", argv))
        first += SIMULATORS[simulator].ports
    return lines


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row. Raises EmbeddedError when there are none."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            first = int(probe.getsockname()[1])
        if first + count < 65_536 and all(
            _is_free("127.0.0.1", port) for port in range(first, first + count)
        ):
            return first
    raise EmbeddedError(f"there are no {count} free ports in a row on 127.0.0.1")


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ).close()
    except OSError:
        return False
    return True


def _free_addrs(settings: Settings) -> Settings:
    """Replaces a default address in use by a free port; a chosen one is an error."""
    found: dict[str, str] = {}
    for name, default in DEFAULT_ADDRS.items():
        addr = getattr(settings, name)
        host, port = host_port(addr)
        if port and _is_free(host, port):
            continue
        if port and addr != default:
            raise SettingError(
                f"PUSHFLEET_{name.upper()} takes an address that can be bound here and is free"
            )
        found[name] = f"{f'[{host}]' if ':' in host else host}:{free_ports(1)}"
    return dataclasses.replace(settings, **found)  # type: ignore[arg-type]


def _url(addr: str) -> str:
    host, port = host_port(addr)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _vendor_of(endpoint: str) -> str:
    return next(vendor for vendor, names in VENDOR_ENDPOINTS.items() if endpoint in names)


# ---------------------------------------------------------------- the command


def up(
    settings: Settings,
    replicas: Mapping[str, int],
    simulators: bool,
    *,
    migrate: Migrate,
    ready: Ready = alive_in_redis,
) -> int:
    """Starts the fleet, prints its addresses and `ready`, and runs it until SIGINT or SIGTERM.

    Returns the exit code. 0: stopped; 1: it did not become ready; 3: a server cannot be started.
    SettingError is the caller's (2).
    """
    fleet = LocalFleet(settings, replicas, simulators, migrate, ready)
    stop = threading.Event()
    with _stopped_by_signals(stop):
        try:
            fleet.check()  # here, so that what is wrong is one line and nothing else
            print("starting", flush=True)
            fleet.start()
            if not fleet.wait_ready(stop.is_set):
                return _not_ready(fleet, stop)
            for name, url in {**fleet.addresses(), **fleet.for_the_core()}.items():
                print(f"{name:<22} {url}")
            print("ready", flush=True)
            while not stop.is_set():
                fleet.tick()
            return 0
        except EmbeddedError as error:
            print(error, file=sys.stderr)
            return 3
        finally:
            if fleet.started:
                print("stopping", flush=True)
            fleet.stop()


def _not_ready(fleet: LocalFleet, stop: threading.Event) -> int:
    if stop.is_set():
        return 0
    print(
        f"not ready after {READY_S_MAX:g} s; see {fleet.wanted.data_dir / 'logs'}", file=sys.stderr
    )
    return 1


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; the old handlers come back after."""

    before = set_on_signals(stop, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def in_background(
    settings: Settings,
    replicas: Mapping[str, int],
    simulators: bool,
    *,
    migrate: Migrate,
    ready: Ready = alive_in_redis,
    procfile_path: Path | None = None,
) -> Iterator[LocalFleet]:
    """The same fleet beside the caller's own work (demo, tests): ready within the block only.

    Supervised by a thread of its own, the one that starts the processes. Raises the error that kept
    the fleet from starting.
    """
    fleet = LocalFleet(settings, replicas, simulators, migrate, ready, procfile_path)
    stop, is_ready, broken = threading.Event(), threading.Event(), list[BaseException]()

    def supervise() -> None:
        try:
            fleet.start()
            if not fleet.wait_ready(stop.is_set) and not stop.is_set():
                raise EmbeddedError(
                    f"not ready after {READY_S_MAX:g} s; see {settings.data_dir / 'logs'}"
                )
            is_ready.set()
            while not stop.is_set():
                fleet.tick()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            broken.append(error)
        finally:
            fleet.stop()
            is_ready.set()

    thread = threading.Thread(target=supervise, name="fleet")
    thread.start()
    try:
        is_ready.wait()
        if broken:
            raise broken[0]
        yield fleet
    finally:
        stop.set()
        thread.join()
