"""Every alert of deploy/alerts.yml by a fault that is done for it: `make alerts-fired`.

A real fleet, Debian's real Prometheus, one fault after the other.

The rules are those of deploy/alerts.yml with their times divided: minutes become seconds. Prints,
and writes into var/reports/alerts.json: fault, alert, seconds until it fired, seconds until it was
gone after the cure.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import environ_of
from common.storage.migrations import migrate
from tests.builders import core_event
from tests.conftest import data_settings, embedded, open_folder
from tests.taken import ask, told_by
from workers.cli.up import free_ports
from workers.runtime import Runtime

ROOT = Path(__file__).parents[1]
APP = "alerts"
#: name -> arguments of its process.
PROCESSES = {
    "intake": ("intake",),
    "presence": ("presence",),
    "routing": ("routing",),
    "delivery-meizu": ("delivery", "--vendors", "meizu"),
    "upkeep-work": ("upkeep", "--roles", "timer,ledger,recalls"),
    "upkeep-report": ("upkeep", "--roles", "reporter"),
    "receipts": ("receipts",),
    "console": ("console",),
}
FIRES_S, GONE_S = 150.0, 150.0
PEOPLE = 40


def quick(rules: str) -> str:
    """The rules with minutes as seconds, hours as tens of seconds, and the ages that they ask for
    as a twentieth.
    """
    rules = re.sub(r"for: (\d+)h", lambda m: f"for: {int(m[1]) * 2}s", rules)
    rules = re.sub(r"for: (\d+)m", lambda m: f"for: {int(m[1])}s", rules)
    rules = (
        rules.replace("[5m:30s]", "[5s:1s]")
        .replace("[1h]", "[30s]")
        .replace("[6h]", "[60s]")
        .replace("[3d]", "[90s]")
    )
    rules = re.sub(r"\[(\d+)m\]", lambda m: f"[{max(int(m[1]), 5)}s]", rules)
    return re.sub(
        r"(oldest_seconds\{[^}]*\}\)) > (\d+)", lambda m: f"{m[1]} > {int(m[2]) / 20:g}", rules
    )


@dataclass
class World:
    runtime: Runtime
    folder: Path
    env: dict[str, str]
    prometheus: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ends: list[threading.Event] = field(default_factory=list)

    def start(self, name: str, argv: list[str] | None = None) -> None:
        argv = argv or [sys.executable, "-m", "workers", "worker", *PROCESSES[name]]
        log = (self.folder / f"{name}.log").open("ab")
        env = {**self.env, "PUSHFLEET_PROCESS": f"{name}.1"}
        self.running[name] = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=log, stderr=log)

    def signal(self, name: str, number: int) -> None:
        self.running[name].send_signal(number)

    def cli(self, *arguments: str) -> None:
        argv = [sys.executable, "-m", "workers", *arguments]
        done = subprocess.run(
            argv, env=self.env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")

    def push(self, count: int = 1, age_s: float = 0.0) -> None:
        for number in range(count):
            self.push_to(f"bob{number}", age_s)

    def push_to(self, user: str, age_s: float = 0.0) -> None:
        """age_s: so long ago the core stored it."""
        data = {
            "message_id": f"m{time.time_ns()}",
            "conversation": {"type": "c2c", "id": "ann"},
            "sender": {"id": "ann"},
            "recipients": [user],
            "elements": [{"type": "text", "text": "x"}],
        }
        self.event("message.stored", data, age_s)

    def register(self, user: str, token: str, business_id: str = "meizu-1") -> None:
        about = {
            "device_id": "phone",
            "platform": "android",
            "vendor": "meizu",
            "business_id": business_id,
        }
        self.event("device.registered", {**about, "user": user, "token": token})

    def event(self, kind: str, data: dict[str, Any], age_s: float = 0.0) -> None:
        ms = int((time.time() - age_s) * 1000)
        told = core_event(APP, kind, data, ts_ms=ms, event_id=f"e{time.time_ns()}")
        self.runtime.core.xadd("im:events", {"e": json.dumps(told)})

    def simulator(self, page: str, **wanted: Any) -> None:
        ask(told_by(self.folder / "sim", "meizu"), page, wanted)

    def steadily(self, do: Callable[[int], None]) -> None:
        """Twice a second from now on, with the number of the time, until `rest`."""
        end = threading.Event()
        self.ends.append(end)

        def run() -> None:
            number = 0
            while not end.wait(0.5):
                do(number)
                number += 1

        threading.Thread(target=run, daemon=True).start()

    def rest(self) -> None:
        for end in self.ends:
            end.set()
        self.ends.clear()

    def firing(self) -> set[str]:
        return set(self.summaries())

    def summaries(self) -> dict[str, str]:
        """What rings now, with its words."""
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/alerts", timeout=5) as answer:
            told = json.load(answer)["data"]["alerts"]
        return {
            one["labels"]["alertname"]: one["annotations"]["summary"]
            for one in told
            if one["state"] == "firing"
        }

    def sql(self, statement: str) -> None:
        with self.runtime.engine.begin() as connection:
            connection.exec_driver_sql(statement)
        self.runtime.catalog.changed()


Act = Callable[[World], object]
KEY = (APP, "meizu", "meizu-1")


def stopped(name: str, pushes: int = 0) -> tuple[Act, Act]:
    def stop(world: World) -> None:
        world.signal(name, signal.SIGSTOP)
        world.push(pushes)

    return stop, lambda w: w.signal(name, signal.SIGCONT)


def killed(name: str) -> tuple[Act, Act]:
    def kill(world: World) -> None:
        world.signal(name, signal.SIGKILL)
        world.running[name].wait()

    return kill, lambda w: w.start(name)


def both(*acts: Act) -> Act:
    def do(world: World) -> None:
        for act in acts:
            act(world)

    return do


def refused(world: World) -> None:
    """The vendor's server is gone, and somebody is pushed to."""
    world.signal("simulators", signal.SIGKILL)
    world.running["simulators"].wait()
    world.push(PEOPLE)


def expires_in(seconds: int) -> tuple[Act, Act]:
    def put(ms: str, options: str) -> Act:
        new = f"expires_ms = {ms}, options = {options}"
        return lambda w: w.sql(f"UPDATE credentials SET {new} WHERE vendor = 'meizu'")

    ms = str(int((time.time() + seconds) * 1000))
    over = f"jsonb_set(options, '{{expires_ms}}', '\"{ms}\"')"
    return put(ms, over), put("NULL", "options - 'expires_ms'")


def memory(most: int) -> Act:
    return lambda w: w.runtime.redis.config_set("maxmemory", most)


def nearly_full(world: World) -> None:
    used: Any = world.runtime.redis.info("memory")
    memory(int(used["used_memory"] * 1.1))(world)


def command(word: str) -> Act:
    return lambda w: w.cli("credential", word, *KEY)


def steadily(do: Callable[[World, int], None], **faults: Any) -> tuple[Act, Act]:
    """These faults of the vendor while `do` is done twice a second; the cure ends the faults, and
    later what was done.
    """

    def begin(world: World) -> None:
        if faults:
            world.simulator("faults", **faults)
        world.steadily(lambda number: do(world, number))

    def end(world: World) -> None:
        if faults:
            world.simulator("faults", status=0, status_share=0.0, status_body="")
        world.rest()
        # shares of nothing tell nothing: good traffic makes the alert go
        world.steadily(lambda _: world.push(8))

    return begin, end


def usual(world: World, _: int) -> None:
    world.push(8)


def late(world: World, _: int) -> None:
    world.push(4, age_s=90)


def a_few_leave(world: World, number: int) -> None:
    """One in ten has deleted the app; the mass guard stays calm."""
    world.register(f"gone{number}", f"deadgone{number}")
    world.push(8)
    world.push_to(f"gone{number - 4}")


def many_leave(world: World) -> None:
    """Most of a lane's tokens are dead at once."""
    for number in range(GONE):
        world.register(f"lost{number}", f"deadlost{number}")
    for number in range(GONE):
        world.push_to(f"lost{number}")


def simulators_argv(world: World) -> list[str]:
    place = ("--port", world.env["SIMULATORS_PORT"], "--dir", str(world.folder / "sim"))
    return [sys.executable, "-m", "simulators", "meizu", *place]


def vendor_back(world: World) -> None:
    world.start("simulators", simulators_argv(world))


def all_refused(world: World) -> None:
    refused(world)
    for number in range(PEOPLE):
        world.push_to(f"eve{number}")


def overdue(world: World) -> None:
    """The timer hangs, and somebody without a device is looked at a second time."""
    world.signal("upkeep-work", signal.SIGSTOP)
    for number in range(5):
        world.push_to(f"nobody{number}")


def code(number: str) -> dict[str, Any]:
    status_body = json.dumps({"code": number, "message": "x", "value": "", "redirect": ""})
    return {"status": 200, "status_body": status_body}


#: More dead tokens than the guard takes for people who leave.
GONE = 260
#: (fault, alert, what does it, what cures it)
FAULTS: list[tuple[str, str, Act, Act]] = [
    (
        "most tokens of a lane are dead at once",
        "PushfleetTokenGuard",
        many_leave,
        steadily(usual)[1],
    ),
    (
        "a third of the vendor's answers is 503",
        "PushfleetVendorFails",
        *steadily(usual, status=503, status_share=0.34),
    ),
    (
        "a third of the pushes is refused",
        "PushfleetRejects",
        *steadily(usual, **code("1005"), status_share=0.34),
    ),
    ("one push in nine meets a dead token", "PushfleetTokensRetiredFast", *steadily(a_few_leave)),
    (
        "the vendor answers a new code",
        "PushfleetUnknownCodes",
        *steadily(usual, **code("987654"), status_share=0.2),
    ),
    ("the core's events come 90 s late", "PushfleetSlow", *steadily(late)),
    ("the core's events come 90 s late", "PushfleetObjectiveBurnsFast", *steadily(late)),
    ("the core's events come 90 s late", "PushfleetObjectiveBurnsSlowly", *steadily(late)),
    ("the timer hangs", "PushfleetDelayedOverdue", overdue, stopped("upkeep-work")[1]),
    (
        "the vendor is gone for both accounts",
        "PushfleetLanesStoppedTogether",
        all_refused,
        vendor_back,
    ),
    ("presence is killed", "PushfleetProcessDown", *killed("presence")),
    ("routing is killed, and nobody runs it", "PushfleetProcessMissing", *killed("routing")),
    ("the reporter is killed", "PushfleetUpkeepMissing", *killed("upkeep-report")),
    ("intake hangs", "PushfleetEventsWait", *stopped("intake", pushes=3)),
    ("delivery hangs", "PushfleetQueueWaits", *stopped("delivery-meizu", pushes=3)),
    ("the ledger's writer hangs", "PushfleetLedgerWaits", *stopped("upkeep-work", pushes=3)),
    ("the vendor is gone", "PushfleetLaneStopped", refused, vendor_back),
    ("a lane is paused", "PushfleetLanePaused", command("pause"), command("resume")),
    ("a credential expires in a week", "PushfleetCredentialExpires", *expires_in(7 * 86_400)),
    ("a credential has expired", "PushfleetCredentialExpired", *expires_in(-60)),
    (
        "the quota is spent",
        "PushfleetQuotaNearlySpent",
        both(lambda w: w.cli("quota", "set", *KEY, "public=1", "private=1"), lambda w: w.push(2)),
        lambda w: w.cli("quota", "set", *KEY, "public=100000", "private=100000"),
    ),
    (
        "an event can't be read",
        "PushfleetDeadLetters",
        lambda w: w.runtime.core.xadd("im:events", {"e": "{"}),
        lambda w: None,
    ),
    ("Redis is nearly full", "PushfleetRedisMemory", nearly_full, memory(0)),
]


def tried(world: World, fault: str, alert: str, do: Act, cure: Act) -> dict[str, Any]:
    began = time.monotonic()
    do(world)
    fired = waited(lambda: alert in world.firing(), FIRES_S)
    others = sorted(world.firing() - {alert})
    shown = world.summaries().get(alert, "")
    fired_s = round(time.monotonic() - began, 1) if fired else None
    began = time.monotonic()
    cure(world)
    gone = waited(lambda: alert not in world.firing(), GONE_S)
    gone_s = round(time.monotonic() - began, 1) if gone else None
    world.rest()
    found = {
        "fault": fault,
        "alert": alert,
        "fired_s": fired_s,
        "gone_s": gone_s,
        "says": shown,
        "also": others,
    }
    print(
        f"{alert:<28} {fault:<40} fired after {fired_s} s, gone after {gone_s} s: {shown} "
        f"{others or ''}",
        flush=True,
    )
    if not waited(lambda: not world.firing(), 60):
        print("still firing:", sorted(world.firing()), flush=True)
    return found


def waited(check: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.3)
    return False


def prometheus(world: World, port: int, console: str) -> None:
    (world.folder / "rules.yml").write_text(quick((ROOT / "deploy/alerts.yml").read_text()))
    targets = [{"url": f"http://{console}/metrics/targets", "refresh_interval": "2s"}]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(world.folder / "rules.yml")],
        "scrape_configs": [{"job_name": "pushfleet", "http_sd_configs": targets}],
    }
    (world.folder / "prometheus.yml").write_text(json.dumps(config))
    store = world.folder / "tsdb"
    configured = f"--config.file={world.folder / 'prometheus.yml'}"
    argv = ["prometheus", configured, f"--storage.tsdb.path={store}"]
    world.start(
        "prometheus", [*argv, f"--web.listen-address=127.0.0.1:{port}", "--query.lookback-delta=3s"]
    )


def main() -> int:  # noqa: PLR0915 - one story
    if shutil.which("prometheus") is None:
        print("no prometheus here: apt-get install prometheus")
        return 2
    wanted = sys.argv[1:]
    with open_folder() as folder, embedded(valkey=True, postgres=True) as running:
        first = free_ports(24)
        doors = enumerate(("CONSOLE", "RECEIPTS", "GATEWAY"))
        sim, addresses = (first, {name: f"127.0.0.1:{first + 8 + n}" for n, name in doors})
        given = {
            "REDIS_URL": running.redis_url or "",
            "DATABASE_URL": running.database_url or "",
            "METRICS_PORT": str(first + 12),
        }
        given |= {f"{name}_ADDR": address for name, address in addresses.items()}
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("PUSHFLEET_")
        }
        runtime = Runtime(data_settings(folder / "var", **given))
        world = World(
            runtime, folder, {**env, "SIMULATORS_PORT": str(sim)}, f"http://127.0.0.1:{first + 11}"
        )
        (folder / "sim").mkdir()
        world.start("simulators", simulators_argv(world))
        told = folder / "sim" / "meizu.json"
        assert waited(told.exists, 30), "no simulator"
        about = json.loads(told.read_text())
        more = {f"ENDPOINT_{name}": url for name, url in about["endpoints"].items()} | {
            "CA_FILE": about["ca_file"]
        }
        (folder / "keys").write_text("cHVzaGZsZWV0LXRlc3RzLXB1c2hmbGVldC10ZXN0cy0=\n")
        (folder / "keys").chmod(0o600)
        settings = data_settings(
            folder / "var", **given, **more, SECRET_KEYS_FILE=str(folder / "keys")
        )
        world.runtime = Runtime(settings)
        world.env |= environ_of(settings)
        migrate(world.runtime.engine)
        try:
            report = campaign(world, addresses["CONSOLE"], first + 11, wanted)
        finally:
            for process in world.running.values():
                process.kill()
            world.runtime.close()
    (ROOT / "var/reports").mkdir(parents=True, exist_ok=True)
    (ROOT / "var/reports/alerts.json").write_text(json.dumps(report, indent=1))
    wrong = [one for one in report if one["fired_s"] is None or one["gone_s"] is None]
    print(f"{len(report) - len(wrong)} of {len(report)} fired and went")
    return 1 if wrong else 0


def campaign(world: World, console: str, port: int, wanted: list[str]) -> list[dict[str, Any]]:
    secret = world.folder / "secret"
    secret.write_text("simulated-secret-1\n")
    world.cli("app", "add", APP)
    account = (
        "--app-id",
        "110001",
        "--app-secret-file",
        str(secret),
        "--right",
        "meizu.private",
        "--device-cap",
        "public=100000",
    )
    for business_id in ("meizu-1", "meizu-2"):
        world.cli(
            "credential", "add", "meizu", "--app", APP, "--business-id", business_id, *account
        )
    for name in PROCESSES:
        world.start(name)
    prometheus(world, port, console)
    world.simulator("limits", device_per_minute=0, public_device_daily=0)
    for number in range(PEOPLE):
        world.register(f"bob{number}", f"live{number}")
        world.register(f"eve{number}", f"liveeve{number}", "meizu-2")
    assert waited(lambda: len(world.runtime.living.roles()) == len(PROCESSES), 120), (
        world.runtime.living.roles()
    )
    assert waited(lambda: quiet(world), 120), "Prometheus does not answer, or something rings"
    return [tried(world, *one) for one in FAULTS if not wanted or one[1] in wanted]


def quiet(world: World) -> bool:
    try:
        return not world.firing()
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
