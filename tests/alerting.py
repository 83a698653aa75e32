"""Every alert that a fault can be done for here: a real fleet, Debian's real Prometheus, one fault after the other: `make alerts-fired`.

The rules are those of deploy/alerts.yml with their times divided: minutes become seconds. Prints, and writes into
var/reports/alerts.json: fault, alert, seconds until it fired, seconds until it was gone after the cure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import environ_of
from common.storage.migrations import migrate
from tests.conftest import data_settings, embedded, open_folder
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
    """The rules with minutes as seconds, hours as tens of seconds, and the ages that they ask for as a twentieth."""
    rules = re.sub(r"for: (\d+)h", lambda m: f"for: {int(m[1]) * 2}s", rules)
    rules = re.sub(r"for: (\d+)m", lambda m: f"for: {int(m[1])}s", rules)
    rules = rules.replace("[5m:30s]", "[5s:1s]").replace("[1h]", "[30s]").replace("[6h]", "[60s]").replace("[3d]", "[90s]")
    rules = re.sub(r"\[(\d+)m\]", lambda m: f"[{max(int(m[1]), 5)}s]", rules)
    return re.sub(r"(oldest_seconds\{[^}]*\}\)) > (\d+)", lambda m: f"{m[1]} > {int(m[2]) / 20:g}", rules)


@dataclass
class World:
    runtime: Runtime
    folder: Path
    env: dict[str, str]
    prometheus: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, argv: list[str] | None = None) -> None:
        argv = argv or [sys.executable, "-m", "workers", "worker", *PROCESSES[name]]
        log = (self.folder / f"{name}.log").open("ab")
        env = {**self.env, "PUSHFLEET_PROCESS": f"{name}.1"}
        self.running[name] = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=log, stderr=log)

    def signal(self, name: str, number: int) -> None:
        self.running[name].send_signal(number)

    def cli(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "workers", *arguments], env=self.env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")

    def push(self, count: int = 1) -> None:
        for number in range(count):
            data = {
                "message_id": f"m{time.time_ns()}",
                "conversation": {"type": "c2c", "id": "ann"},
                "sender": {"id": "ann"},
                "recipients": [f"bob{number}"],
                "elements": [{"type": "text", "text": "x"}],
            }
            self.event("message.stored", data)

    def event(self, kind: str, data: dict[str, Any]) -> None:
        told = {"v": 1, "id": f"e{time.time_ns()}", "type": kind, "app": APP, "ts": int(time.time() * 1000), "data": data}
        self.runtime.core.xadd("im:events", {"e": json.dumps(told)})

    def firing(self) -> set[str]:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/alerts", timeout=5) as answer:
            told = json.load(answer)["data"]["alerts"]
        return {one["labels"]["alertname"] for one in told if one["state"] == "firing"}

    def sql(self, statement: str) -> None:
        with self.runtime.engine.begin() as connection:
            connection.exec_driver_sql(statement)
        self.runtime.catalog.changed()


Act = Callable[[World], None]
KEY = (APP, "meizu", "meizu-1")


def stopped(name: str) -> tuple[Act, Act]:
    return (lambda w: w.signal(name, signal.SIGSTOP)), (lambda w: w.signal(name, signal.SIGCONT))


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


def expires_in(seconds: int | None) -> Act:
    ms = "NULL" if seconds is None else str(int((time.time() + seconds) * 1000))
    options = "options - 'expires_ms'" if seconds is None else f"jsonb_set(options, '{{expires_ms}}', '\"{ms}\"')"
    return lambda w: w.sql(f"UPDATE credentials SET expires_ms = {ms}, options = {options} WHERE vendor = 'meizu'")


def memory(most: int) -> Act:
    return lambda w: w.runtime.redis.config_set("maxmemory", most)


def nearly_full(world: World) -> None:
    used: Any = world.runtime.redis.info("memory")
    memory(int(used["used_memory"] * 1.1))(world)


def command(*words: str) -> Act:
    return lambda w: w.cli(*words, *KEY)


#: (fault, alert, what does it, what cures it)
FAULTS: list[tuple[str, str, Act, Act]] = [
    ("presence is killed", "PushfleetProcessDown", *killed("presence")),
    ("routing is killed, and nobody runs it", "PushfleetProcessMissing", *killed("routing")),
    ("the reporter is killed", "PushfleetUpkeepMissing", *killed("upkeep-report")),
    ("intake hangs", "PushfleetEventsWait", both(stopped("intake")[0], lambda w: w.push(3)), stopped("intake")[1]),
    ("delivery hangs", "PushfleetQueueWaits", both(stopped("delivery-meizu")[0], lambda w: w.push(3)), stopped("delivery-meizu")[1]),
    ("the ledger's writer hangs", "PushfleetLedgerWaits", both(stopped("upkeep-work")[0], lambda w: w.push(3)), stopped("upkeep-work")[1]),
    ("the vendor is gone", "PushfleetLaneStopped", refused, lambda w: w.start("simulators", simulators_argv(w))),
    ("a lane is paused", "PushfleetLanePaused", command("credential", "pause"), command("credential", "resume")),
    ("a credential expires in a week", "PushfleetCredentialExpires", expires_in(7 * 86_400), expires_in(None)),
    ("a credential has expired", "PushfleetCredentialExpired", expires_in(-60), expires_in(None)),
    (
        "the quota is spent",
        "PushfleetQuotaNearlySpent",
        both(lambda w: w.cli("quota", "set", *KEY, "public=1", "private=1"), lambda w: w.push(2)),
        lambda w: w.cli("quota", "set", *KEY, "public=100000", "private=100000"),
    ),
    ("an event can't be read", "PushfleetDeadLetters", lambda w: w.runtime.core.xadd("im:events", {"e": "{"}), lambda w: None),
    ("Redis is nearly full", "PushfleetRedisMemory", nearly_full, memory(0)),
]


def simulators_argv(world: World) -> list[str]:
    port = world.env["SIMULATORS_PORT"]
    return [sys.executable, "-m", "simulators", "meizu", "--port", port, "--dir", str(world.folder / "sim")]


def tried(world: World, fault: str, alert: str, do: Act, cure: Act) -> dict[str, Any]:
    began = time.monotonic()
    do(world)
    fired = waited(lambda: alert in world.firing(), FIRES_S)
    others = sorted(world.firing() - {alert})
    fired_s = round(time.monotonic() - began, 1) if fired else None
    began = time.monotonic()
    cure(world)
    gone = waited(lambda: alert not in world.firing(), GONE_S)
    gone_s = round(time.monotonic() - began, 1) if gone else None
    found = {"fault": fault, "alert": alert, "fired_s": fired_s, "gone_s": gone_s, "also": others}
    print(f"{alert:<28} {fault:<40} fired after {fired_s} s, gone after {gone_s} s {others or ''}", flush=True)
    waited(lambda: not world.firing(), 60)
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
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(world.folder / "rules.yml")],
        "scrape_configs": [
            {"job_name": "pushfleet", "http_sd_configs": [{"url": f"http://{console}/metrics/targets", "refresh_interval": "2s"}]}
        ],
    }
    (world.folder / "prometheus.yml").write_text(json.dumps(config))
    store = world.folder / "tsdb"
    argv = ["prometheus", f"--config.file={world.folder / 'prometheus.yml'}", f"--storage.tsdb.path={store}"]
    world.start("prometheus", [*argv, f"--web.listen-address=127.0.0.1:{port}", "--query.lookback-delta=3s"])


def main() -> int:
    if shutil.which("prometheus") is None:
        print("no prometheus here: apt-get install prometheus")
        return 2
    wanted = sys.argv[1:]
    with open_folder() as folder, embedded(valkey=True, postgres=True) as running:
        first = free_ports(24)
        sim, addresses = first, {name: f"127.0.0.1:{first + 8 + n}" for n, name in enumerate(("CONSOLE", "RECEIPTS", "GATEWAY"))}
        given = {"REDIS_URL": running.redis_url or "", "DATABASE_URL": running.database_url or "", "METRICS_PORT": str(first + 12)}
        given |= {f"{name}_ADDR": address for name, address in addresses.items()}
        env = {name: value for name, value in os.environ.items() if not name.startswith("PUSHFLEET_")}
        world = World(
            Runtime(data_settings(folder / "var", **given)), folder, {**env, "SIMULATORS_PORT": str(sim)}, f"http://127.0.0.1:{first + 11}"
        )
        (folder / "sim").mkdir()
        world.start("simulators", simulators_argv(world))
        told = folder / "sim" / "meizu.json"
        assert waited(told.exists, 30), "no simulator"
        about = json.loads(told.read_text())
        more = {f"ENDPOINT_{name}": url for name, url in about["endpoints"].items()} | {"CA_FILE": about["ca_file"]}
        (folder / "keys").write_text("cHVzaGZsZWV0LXRlc3RzLXB1c2hmbGVldC10ZXN0cy0=\n")
        (folder / "keys").chmod(0o600)
        settings = data_settings(folder / "var", **given, **more, SECRET_KEYS_FILE=str(folder / "keys"))
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
    account = ("--app-id", "110001", "--app-secret-file", str(secret))
    world.cli("credential", "add", "meizu", "--app", APP, "--business-id", "meizu-1", *account)
    for name in PROCESSES:
        world.start(name)
    prometheus(world, port, console)
    about = {"device_id": "phone", "platform": "android", "vendor": "meizu", "business_id": "meizu-1"}
    for number in range(PEOPLE):  # a phone takes few pushes a day of a vendor
        world.event("device.registered", {**about, "user": f"bob{number}", "token": f"live{number}"})
    assert waited(lambda: len(world.runtime.living.roles()) == len(PROCESSES), 120), world.runtime.living.roles()
    assert waited(lambda: quiet(world), 120), "Prometheus does not answer, or something rings"
    return [tried(world, *one) for one in FAULTS if not wanted or one[1] in wanted]


def quiet(world: World) -> bool:
    try:
        return not world.firing()
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
