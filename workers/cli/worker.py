"""`pushfleet worker …` and `pushfleet migrate`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from redis.exceptions import RedisError, ResponseError

from common import logs, metrics
from common.config import SettingError, Settings
from common.model import Vendor
from common.running_fleet import resolve
from common.storage import keys
from common.storage.accounts import place_of
from common.storage.keys import Keys
from common.storage.late import late
from common.storage.living import ROLES, UPKEEP, role_of
from common.storage.migrations import SchemaError
from common.storage.migrations import check as check_tables
from common.storage.redis import connect
from common.storage.shards import must_stop
from common.storage.unavailable import database_unavailable
from common.storage.waits import within
from workers import shards
from workers.app import DELIVERY, PRESENCE, ROUTING, queue_of
from workers.cli.at_work import WorkBeat
from workers.processes import set_on_signals, tune_gc
from workers.queues.consumer import Wake
from workers.queues.own_looks import OwnLooks
from workers.runtime import Runtime

if TYPE_CHECKING:
    from workers.handlers.intake import IntakeLoop, IntakePorts
    from workers.intake.state import StateKeeper
    from workers.pipeline import Stages

log = logging.getLogger(__name__)

#: Processes that are no Celery workers, beside intake.
ALONE = ("upkeep", "receipts", "console", "gateway", "gateway-xmpp")
#: Longest wait of a starting process for the database's tables, seconds.
START_LOOK_S = 5.0
#: Between two looks of a process that waits for `pushfleet reshard`.
RESHARD_LOOK_S = 1.0
#: Seconds without progress, with work waiting, after which a process is unhealthy.
SILENT_S = 60.0


@click.command()
def migrate() -> None:
    """Bring the database's tables to this version."""
    from workers.cli.fleet import migrate_settings

    migrate_settings(resolve(Settings.load()))
    print("the tables are up to date")


@click.command()
@click.argument("stage", type=click.Choice(["intake", PRESENCE, ROUTING, DELIVERY, *ALONE]))
@click.option(
    "--vendors",
    default="",
    help="Delivery: the vendors this process serves, separated by commas (default: all).",
)
@click.option(
    "--roles",
    default="",
    help=f"Upkeep: the roles this process takes, separated by commas (default: {','.join(ROLES)}).",
)
@click.option(
    "--index",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Number of this replica.",
)
def worker(stage: str, vendors: str, roles: str, index: int) -> None:
    """Run one process of the fleet until SIGTERM."""
    chosen = [_vendor(name) for name in vendors.split(",") if name] or list(Vendor)
    taken = [_role(name) for name in roles.split(",") if name] or list(ROLES)
    settings = resolve(Settings.load())
    part = taken if stage == UPKEEP and len(taken) < len(ROLES) else []
    name = process_name(stage, chosen, index, os.environ, part)
    logs.setup(settings, stage, process=name)
    runtime, beat = _begun(settings, stage, name, role_of(stage, chosen, part))
    _tables_fit(runtime)
    _broker_fits(runtime)
    if stage in (PRESENCE, ROUTING, DELIVERY):
        _celery(runtime, stage, chosen, beat)
        return
    set_on_signals(beat.stop, (signal.SIGTERM, signal.SIGINT))
    run: dict[str, Callable[[Runtime, WorkBeat], None]] = {
        "intake": _intake,
        UPKEEP: partial(_upkeep, roles=taken),
        "receipts": _receipts,
        "console": _console,
        "gateway": _gateway,
        "gateway-xmpp": _gateway_xmpp,
    }
    run[stage](runtime, beat)
    runtime.close()


def _begun(settings: Settings, stage: str, name: str, role: str) -> tuple[Runtime, WorkBeat]:
    """Registers this process as running, then checks that it may run.

    A resharding process sees it, or it sees the resharding.
    """
    while True:
        _wait_for_reshard(settings, stage)
        runtime = Runtime(settings, name, role)
        beat = WorkBeat(partial(getattr, runtime, "living"), name, role)
        beat.begin()
        with contextlib.suppress(RedisError, OSError):
            if must_stop(runtime.redis, runtime.keys, stage, settings.shards):
                beat.end()
                continue
        return runtime, beat


def _wait_for_reshard(settings: Settings, stage: str) -> None:
    """Waits while `pushfleet reshard` runs, or waits to be called again."""
    logged = False
    with (
        contextlib.suppress(RedisError, OSError),
        contextlib.closing(connect(settings.redis_url)) as redis,
    ):
        while must_stop(redis, Keys(settings.key_root), stage, settings.shards) and redis.exists(
            Keys(settings.key_root).resharding
        ):
            if not logged:
                log.warning("waits for the end of `pushfleet reshard`")
            logged = True
            time.sleep(RESHARD_LOOK_S)


def _tables_fit(runtime: Runtime) -> None:
    """SchemaError: the database has no tables, or not those of this version. A database that is
    away is waited for later. It is not asked where the copy of the accounts in Redis tells, and was
    compared with it lately: what was emptied or restored while no fleet ran has other accounts.
    """
    catalog = runtime.catalog
    with contextlib.suppress(RedisError, OSError):
        if (
            runtime.role.partition(":")[0] != UPKEEP
            and catalog.compared_lately()
            and catalog.tables_fit()
        ):
            return
    try:
        with within(START_LOOK_S):
            check_tables(runtime.engine)
            with contextlib.suppress(RedisError, OSError, SettingError):
                catalog.check()
            _names_its_database(runtime)
    except SchemaError:
        with contextlib.suppress(RedisError, OSError, SettingError):
            runtime.catalog.disown()  # those that start after us ask the database, too
        raise
    except database_unavailable() as error:
        log.warning("the database is away", extra={"reason": type(error).__name__})


def _broker_fits(runtime: Runtime) -> None:
    """SettingError for one in cluster mode. One that is away is waited for later."""
    if _rings(runtime):
        with contextlib.suppress(RedisError, OSError):
            _ = runtime.broker


def _rings(runtime: Runtime) -> bool:
    """True for a process that sends or hears wake-ups."""
    return runtime.role.partition(":")[0] in ("intake", PRESENCE, ROUTING, DELIVERY, UPKEEP)


def _names_its_database(runtime: Runtime) -> None:
    from common.storage.sql import identity_of

    address = place_of(runtime.settings.database_url)
    runtime.living.works_with(identity_of(runtime.engine), address)


def process_name(
    stage: str,
    vendors: Sequence[Vendor],
    index: int,
    environ: Mapping[str, str],
    roles: Sequence[str] = (),
) -> str:
    """The supervisor's name, else the Procfile line, its number and this host.

    Two processes of one name would hide each other. roles: of the maintenance process, where it
    takes some of them only.
    """
    parts = vendors if stage == DELIVERY and len(vendors) < len(Vendor) else roles
    line = "-".join([stage, *parts])
    process = environ.get("PUSHFLEET_PROCESS")
    return process or environ.get("HONCHO_PROCESS_NAME") or f"{line}.{index}@{socket.gethostname()}"


def _vendor(name: str) -> Vendor:
    try:
        return Vendor(name.strip())
    except ValueError:
        raise click.BadParameter(
            f"{name}: vendors are {', '.join(Vendor)}", param_hint="--vendors"
        ) from None


def _role(name: str) -> str:
    if name.strip() not in ROLES:
        raise click.BadParameter(f"{name}: roles are {', '.join(ROLES)}", param_hint="--roles")
    return name.strip()


class Progress:
    """Health of a process: recent progress, or no work known to wait.

    It uses the heartbeat's last look and sends no request. While Redis is away or full no work is
    known to wait, so no process is restarted because of it; afterwards the time without progress
    starts again.
    """

    def __init__(
        self, progress: Callable[[], float], waiting: Callable[[], bool], silent_s: float
    ) -> None:
        """progress: monotonic time of the last progress."""
        self._progress = progress
        self._waiting = waiting
        self._silent_s = silent_s
        self._waits_since: float | None = None

    def look(self) -> None:
        """Called by the heartbeat. RedisError where that is away."""
        try:
            waits = self._waiting()
        except RedisError:
            self.forget()
            raise
        if not waits:
            self.forget()
        elif self._waits_since is None:
            self._waits_since = time.monotonic()

    def forget(self) -> None:
        """No work is known to wait."""
        self._waits_since = None

    def healthy(self) -> bool:
        since = self._waits_since
        return since is None or time.monotonic() - max(since, self._progress()) < self._silent_s


def _heartbeat(
    runtime: Runtime, beat: WorkBeat, progress: Callable[[], float], waiting: Callable[[], bool]
) -> None:
    """Sends heartbeats, and serves metrics and health.

    progress: monotonic time of the last progress.
    """
    # an access token and two requests may be waited for
    silent_s = max(SILENT_S, 3 * runtime.settings.send_timeout_s)
    known = Progress(progress, waiting, silent_s)
    metrics.BUILD_INFO.labels(metrics.version()).set(1)
    port = metrics.serve_metrics(
        runtime.settings, runtime.name, known.healthy, lambda: _ready(runtime)
    )
    runtime.metrics_at = metrics.target(runtime.settings, port) if port else None

    def alive() -> None:
        try:
            stays = runtime.alive()
        except RedisError as error:
            known.forget()
            if isinstance(error, ResponseError):
                waiting()  # a full server takes no heartbeat, but it has work
            raise
        if not stays and not beat.stop.is_set():
            log.warning("the number of shards changes: this process ends")
            os.kill(os.getpid(), signal.SIGTERM)
        known.look()

    beat.takes_work(alive)
    tune_gc()


def _ready(runtime: Runtime) -> bool:
    runtime.redis.ping()
    if _rings(runtime):
        runtime.broker.ping()
    runtime.database_answers()
    return True


def _intake(runtime: Runtime, beat: WorkBeat) -> None:
    from workers.intake.dialects import DIALECTS

    metrics.begin(dialects=DIALECTS)
    _ = runtime.app  # its libraries: the first message must not wait for them
    consumer = intake_loop(runtime)
    _heartbeat(runtime, beat, lambda: consumer.progress_at, lambda: True)
    consumer.run(beat.stop.is_set)


def intake_loop(runtime: Runtime) -> IntakeLoop:
    """Intake of this process, into all shards."""
    from workers.handlers.intake import IntakeLoop
    from workers.handlers.joint_intake import JointIntakeLoop
    from workers.handlers.spread_intake import SpreadIntakeLoop

    streams, ports = runtime.settings.event_streams, [doors_of(one) for one in runtime.shards]
    if len(ports) == 1:
        return IntakeLoop(streams, ports[0])
    if runtime.together:
        return JointIntakeLoop(streams, ports)
    return SpreadIntakeLoop(streams, ports)


def doors_of(runtime: Runtime) -> IntakePorts:
    """Intake's ports in this process; runtime: of one shard."""
    from workers.handlers.intake import IntakePorts
    from workers.intake.directed import TokenPushes
    from workers.pipeline import shortcut_of, spread_of
    from workers.withdraw import schedule

    return IntakePorts(
        core=runtime.core,
        streams=runtime.streams,
        marks=runtime.marks,
        state=late(lambda: _state_of(runtime)),
        vault=runtime.vault,
        apps=lambda: runtime.catalog.now.tenants,
        wake=runtime.send_wake_up,
        delayed=runtime.delayed,
        directly=TokenPushes(
            late(lambda: runtime.sql.direct_tokens), runtime.marks, runtime.replies
        ),
        shortcut=shortcut_of(runtime),
        away_of=lambda app, name, is_group: (
            runtime.members if is_group else runtime.presence
        ).away_of(app, name),
        withdraw=lambda withdrawals: schedule(runtime, withdrawals),
        spread=spread_of(runtime),
        apps_now=lambda: runtime.catalog.fresh().tenants,
        replicas=lambda: runtime.living.replicas("intake"),
        preset_of=lambda app, name: runtime.catalog.now.strategies.get((app, name)),
    )


def _state_of(runtime: Runtime) -> StateKeeper:
    from workers.intake.state import StateKeeper

    return StateKeeper(runtime.engine, runtime.badges, runtime.marks)


def _upkeep(runtime: Runtime, beat: WorkBeat, roles: Sequence[str]) -> None:
    from workers.upkeep import Upkeep

    _ = runtime.vault  # without its keys the process ends here, with words, and no role begins
    upkeep = Upkeep(runtime, beat.stop, roles)
    _heartbeat(runtime, beat, lambda: upkeep.progress_at, lambda: True)
    upkeep.run()


def _receipts(runtime: Runtime, beat: WorkBeat) -> None:
    from workers.receipts.http import serve

    _heartbeat(runtime, beat, time.monotonic, lambda: False)
    serve(runtime, beat.stop)


def _gateway(runtime: Runtime, beat: WorkBeat) -> None:
    from workers.gateway.http import serve

    _heartbeat(runtime, beat, time.monotonic, lambda: False)
    serve(runtime, beat.stop)


def _gateway_xmpp(runtime: Runtime, beat: WorkBeat) -> None:
    from workers.gateway.xmpp import serve

    _heartbeat(runtime, beat, time.monotonic, lambda: False)
    serve(runtime, beat.stop)


def _console(runtime: Runtime, beat: WorkBeat) -> None:
    from workers.cli.console_ports import console_ports
    from workers.console.app import serve

    _heartbeat(runtime, beat, time.monotonic, lambda: False)
    serve(runtime, beat.stop, console_ports(runtime))


def _celery(runtime: Runtime, stage: str, vendors: list[Vendor], beat: WorkBeat) -> None:
    """A Celery worker of this stage's queues. SIGTERM: its consumers end between two batches, then
    the worker.
    """
    from celery.signals import worker_ready, worker_shutting_down

    from workers.broker import end_wait, hearing
    from workers.pipeline import Stages, register

    metrics.begin(vendors if stage == DELIVERY else ())
    stop = beat.stop
    stages = Stages(runtime, len(set(vendors)) if stage == DELIVERY else 1, stop.is_set)
    register(runtime.app, stages, stop.is_set)
    looks = OwnLooks(partial(_due, runtime, stage, vendors), stages.consumer, stop)
    begin = _once(lambda: _beats(runtime, beat, stages, looks))

    def on_ready(**_: object) -> None:
        looks.begun()
        begin()

    def begin_alone() -> None:
        hearing.tell(deaf=True)
        begin()

    def on_stop(**_: object) -> None:
        looks.end()
        threading.Thread(target=end_wait, daemon=True).start()

    hearing.deaf = looks.is_deaf
    worker_ready.connect(on_ready, weak=False)
    worker_shutting_down.connect(on_stop, weak=False)
    _leave_logging_alone()
    threading.Thread(target=looks.run, args=(begin_alone,), name="looks", daemon=True).start()
    try:
        _consume(runtime, stage, vendors)
    finally:
        looks.end()
        looks.wait()


def _due(runtime: Runtime, stage: str, vendors: Sequence[Vendor]) -> Sequence[Wake]:
    """The queues of this worker that have work now, by one question."""
    if stage == DELIVERY:
        return [(stage, vendor) for vendor in shards.due_vendors(runtime, vendors)]
    out = keys.OUT if stage == PRESENCE and len(runtime.shards) > 1 else ()
    return [(stage, None)] if shards.any_filled(runtime, (*keys.STAGE_STREAMS[stage], *out)) else []


def _beats(runtime: Runtime, beat: WorkBeat, stages: Stages, looks: OwnLooks) -> None:
    started = time.monotonic()

    def progress() -> float:  # a worker that never heard a wake-up while work waits is not well
        return max((one.progress_at for one in stages.consumers.values()), default=started)

    _heartbeat(runtime, beat, progress, lambda: bool(looks.look()))


def _once(do: Callable[[], None]) -> Callable[[], None]:
    """`do` at the first call, of whichever thread; the others wait for its end."""
    lock, done = threading.Lock(), threading.Event()

    def first() -> None:
        with lock:
            if not done.is_set():
                done.set()
                do()

    return first


def _consume(runtime: Runtime, stage: str, vendors: Sequence[Vendor]) -> None:
    """Celery's worker until SIGTERM. Not by its command line, whose libraries (a shell with
    completion) take 8 MiB a process.
    """
    from celery.apps.worker import Worker

    serves = vendors if stage == DELIVERY else [None]
    queues = [queue_of(stage, vendor) for vendor in serves]
    # One more than there are queues: a wake-up while all slots run only notifies its consumers.
    slots = len(queues) + 1 if stage == DELIVERY or len(runtime.shards) > 1 else 1
    alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
    name = f"{runtime.name}@{socket.gethostname()}"
    celery: Any = Worker(
        runtime.app,
        hostname=name,
        queues=queues,
        pool_cls="threads",
        concurrency=slots,
        quiet=True,
        **alone,
    )
    celery.start()
    if celery.exitcode:
        raise click.exceptions.Exit(celery.exitcode)


def _leave_logging_alone() -> None:
    """Keeps Celery from changing the root logger's level and printing plain lines at the end.

    It would also warn of an impossible case: we accept JSON only.
    """
    import celery.apps.worker as celery_worker
    from celery.platforms import SecurityWarning
    from celery.signals import setup_logging

    setup_logging.connect(_not_yours, weak=False)
    warnings.filterwarnings("ignore", category=SecurityWarning)
    celery_worker.safe_say = lambda *_, **__: None


def _not_yours(**_: object) -> None:
    """A receiver of setup_logging: with one, Celery leaves the log to us."""
