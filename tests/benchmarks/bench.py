"""`make bench`: ratios of one run, each beside a peer that ran in the same minutes on the same
machine; absolute figures are noise here.

python -m tests.benchmarks.bench [--messages 20000] [--only NAME,…] [--report
var/reports/bench.json]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import text

from common.config import Settings
from tests.benchmarks.counters import POSTGRES, counters
from tests.benchmarks.plain_celery import push
from tests.benchmarks.stand import APP, TAKES_EFFECT_S, Burst, Stand, apns_options, stand, vendor
from tests.npm import install
from workers.cli.fleet import migrate_settings
from workers.cli.up import in_background
from workers.runtime import Runtime

try:
    from common.running_fleet import resolve
except ModuleNotFoundError:  # this file in a checkout of before (against.py)
    from common.config import resolve  # type: ignore[attr-defined, no-redef]

USERS = 5_000
#: Members of groups are others, of each size its own: only those who are away have a device.
MEMBERS_FIRST = 2_000_000
#: Runs of which a figure is the median, each beside what it is compared with: the machine's speed
#: changes within minutes.
RUNS = 3
#: Events of one entry, where they are packed (contract: up to 200).
PACKED = 100
PROCFILE = Path(__file__).parents[2] / "Procfile"
#: A fleet that has just started still loads modules and looks for old work.
IDLE_SETTLES_S = 20.0
IDLE_S = 20.0


class Bench:
    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.report: dict[str, Any] = {}

    def note(self, name: str, value: Any, why: str | None = None) -> None:
        self.report[name] = value
        if why is not None:
            self.report[f"{name}_why"] = why
        print(f"{name:28} {value}" + (f"   ({why})" if why else ""), flush=True)


def rate(stand_: Stand, count: int, apps: tuple[str, ...] = (APP,)) -> float:
    """c2c pushes per second of the whole way, from the first message read to the last push
    accepted.
    """
    return stand_.burst(count, USERS, apps).per_second


def plain_celery(redis_url: str, url: str, ca: Path, folder: Path, count: int) -> float:
    """Pushes per second of plain Celery: as many worker processes as this machine has cores, stock
    settings.
    """
    p8 = dict(zip(apns_options(folder)[::2], apns_options(folder)[1::2], strict=True))["--p8"]
    environ = {
        **os.environ,
        "BENCH_REDIS_URL": redis_url,
        "BENCH_APNS": url.removeprefix("https://"),
        "BENCH_CA": str(ca),
        "BENCH_P8": p8,
    }
    client = redis.Redis.from_url(redis_url)
    client.delete("plain:done")
    push.app.conf.broker_url = redis_url
    slots = os.cpu_count() or 2
    words = f"-m celery -A tests.benchmarks.plain_celery worker -c {slots} -l ERROR"
    argv = [sys.executable, *words.split()]
    worker = subprocess.Popen(
        argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        push.delay("0" * 64, "warm")
        _until(lambda: int(client.get("plain:done") or 0) >= 1, 30)
        started = time.monotonic()
        for number in range(count):
            push.delay(f"{number:064x}", "Meeting moved to 20:00")
        _until(lambda: int(client.get("plain:done") or 0) > count, 240)
        return count / (time.monotonic() - started)
    finally:
        worker.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(15)
        worker.kill()


def _until(look: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.05)


def group_ms(stand_: Stand, members: int, absent: int) -> int:
    """From a group message stored to its last push accepted; `absent` members have an iPhone and
    are away.
    """
    first = MEMBERS_FIRST + members
    last = first + members
    stand_.devices(APP, absent, first)
    name = f"{{{APP}:g{members}}}"
    for start in range(first, last, 5_000):
        stand_.redis.sadd(
            f"im:members:{name}", *(f"u{n}" for n in range(start, min(start + 5_000, last)))
        )
    until = int((time.time() + 3600) * 1000)
    for start in range(first + absent, last, 1_000):
        with stand_.redis.pipeline(transaction=False) as pipe:
            for n in range(start, min(start + 1_000, last)):
                pipe.hset(f"im:presence:{{{APP}:u{n}}}", "web", f"foreground|web|{until}")
            pipe.execute()
    stand_.accepted(stand_.publish_group(f"g{members}"), absent)  # warm
    prefix = stand_.publish_group(f"g{members}")
    stand_.accepted(prefix, absent)
    return stand_.span_ms(prefix)


def run(bench: Bench, wanted: Callable[[str], bool]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pushfleet-bench-"))
    with vendor(folder) as (url, ca, which):
        bench.note("server", which)
        with stand(url, ca) as ours:
            ours.devices(APP, USERS)
            rate(ours, 500)
            _speed(bench, ours, url, ca, folder, wanted)
            if wanted("registrations_over_c2c"):
                registered = ours.register(5_000)
                bench.note("registrations_per_second", round(registered))
                ratio = round(registered / bench.report["c2c_pushes_per_second"], 2)
                bench.note("registrations_over_c2c", ratio)
            _latency(bench, ours, wanted)
            _sizes(bench, ours, url, ca, wanted)
        if wanted("c2c_over_own_aioapns"):
            with stand(url, ca, APNS_CLIENT="aioapns") as other:
                other.devices(APP, USERS)
                rate(other, 200)
                slow = rate(other, max(bench.messages // 4, 500))
                bench.note(
                    "c2c_over_own_aioapns", round(bench.report["c2c_pushes_per_second"] / slow, 2)
                )
    if wanted("idle_cpu_ms_per_s") or wanted("idle_rss_mib"):
        idle(bench, folder)
    if wanted("delay_50ms_efficiency"):
        with vendor(folder, delay_ms=50) as (url, ca, which), stand(url, ca) as slow_one:
            slow_one.devices(APP, USERS)
            rate(slow_one, 500)
            share = rate(slow_one, bench.messages) / bench.report["c2c_pushes_per_second"]
            remark = None if "C" in which else "the simulator has no delay: same as without"
            bench.note("delay_50ms_efficiency", round(share, 2), remark)


def idle(bench: Bench, folder: Path) -> None:
    """The whole Procfile, all lanes, nothing to do: what every process uses but the supervisor,
    which is this one.
    """
    wanted = Settings.load(
        {"PUSHFLEET_DATA_DIR": str(folder / "idle"), "PUSHFLEET_LOG_LEVEL": "warning"}
    )
    with in_background(
        wanted, {}, False, migrate=migrate_settings, procfile_path=PROCFILE
    ) as fleet:
        runtime = Runtime(resolve(wanted))
        try:
            time.sleep(IDLE_SETTLES_S)
            before = counters(wanted.data_dir, runtime.core, runtime.engine)
            began = time.monotonic()
            time.sleep(IDLE_S)
            after = counters(wanted.data_dir, runtime.core, runtime.engine)
            seconds = time.monotonic() - began
        finally:
            runtime.close()
        names = len(fleet.names)
    spent = after.cpu_s.items()
    used = {name: (cpu_s - before.cpu_s.get(name, 0.0)) / seconds * 1000 for name, cpu_s in spent}
    ours = {name: kib for name, kib in after.rss_kib.items() if name != POSTGRES}
    remark = f"{names} processes, Valkey and PostgreSQL"
    bench.note("idle_cpu_ms_per_s", round(sum(used.values()), 1), remark)
    by_process = {name: round(ms, 1) for name, ms in sorted(used.items(), key=lambda one: -one[1])}
    bench.note("idle_cpu_ms_per_s_by_process", by_process)
    mib = sum(ours.values()) // 1024
    bench.note("idle_rss_mib", mib, "our processes, each with the pages it shares with others")


def _speed(
    bench: Bench, ours: Stand, url: str, ca: Path, folder: Path, wanted: Callable[[str], bool]
) -> None:
    burst = ours.burst(bench.messages, USERS)
    fast = burst.per_second
    bench.note("c2c_pushes_per_second", round(fast))
    per_push_us = burst.used["cpu_us_per_push"]
    for name, value in burst.used.items():
        bench.note(name, value)
    bench.note("rss_mib", {name: kib // 1024 for name, kib in ours.counters().rss_kib.items()})
    if wanted("packed_cpu_us_per_push"):
        packed = ours.burst(bench.messages, USERS, per_entry=PACKED)
        bench.note("packed_pushes_per_second", round(packed.per_second))
        remark = f"{PACKED} events in one entry of the core's stream"
        bench.note("packed_cpu_us_per_push", packed.used["cpu_us_per_push"], remark)
    if wanted("c2c_over_plain_celery"):
        peer = plain_celery(ours.runtime.settings.redis_url, url, ca, folder, 1_000)
        bench.note("plain_celery_pushes_per_second", round(peer, 1))
        bench.note("c2c_over_plain_celery", round(fast / peer, 1))
    if wanted("c2c_over_node_apn"):
        _beside_node_apn(bench, fast, url, ca, folder)
    if wanted("cpu_over_pycurl"):
        bare = bare_pycurl_us(url, ca)
        remark = f"a bare pycurl loop took {bare:.0f} us CPU a request"
        bench.note("cpu_over_pycurl", round(per_push_us / bare, 1), remark)


def _beside_node_apn(bench: Bench, fast: float, url: str, ca: Path, folder: Path) -> None:
    """The bare client, without a core, presence, rules, ledger or retry, against our whole way."""
    place = folder / "npm"
    place.mkdir()
    why = install(place)
    if why is not None:
        bench.note("c2c_over_node_apn", None, why)
        return
    options = dict(zip(apns_options(folder)[::2], apns_options(folder)[1::2], strict=True))
    port = int(url.rpartition(":")[2])
    wanted = {"port": port, "key": Path(options["--p8"]).read_text(), "keyId": options["--key-id"]}
    wanted |= {
        "team": options["--team-id"],
        "topic": options["--topic"],
        "count": 10_000,
        "inFlight": 500,
    }
    environ = {**os.environ, "NODE_EXTRA_CA_CERTS": str(ca)}
    argv = ["node", "bench.mjs"]
    done = subprocess.run(
        argv,
        cwd=place,
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environ,
    )
    peer = float(json.loads(done.stdout.splitlines()[-1])["pushes_per_second"])
    remark = "the bare client: no core, no presence, no rules, no ledger"
    bench.note("node_apn_pushes_per_second", round(peer), remark)
    bench.note("c2c_over_node_apn", round(fast / peer, 2))


def bare_pycurl_us(url: str, ca: Path) -> float:
    """CPU µs a request of the least that pycurl can do, on the same server."""
    from tests.benchmarks.bench_transport import BarePycurl, requests

    client = BarePycurl(url, ca, 100)
    client.send(requests(100, 0))
    batches = [requests(100, 1_000 + 100 * number) for number in range(50)]
    began = time.process_time()
    for batch in batches:
        client.send(batch)
    return (time.process_time() - began) / 5_000 * 1e6


def _latency(bench: Bench, ours: Stand, wanted: Callable[[str], bool]) -> None:
    if wanted("idle_p50_ms"):
        times = sorted(ours.accepted(ours.publish_c2c(1, USERS), 1)[0] for _ in range(41))
        bench.note("idle_p50_ms", times[len(times) // 2])
    if wanted("half_load_p99_ms"):
        found = [_half_load_p99_ms(ours, bench.messages) for _ in range(RUNS)]
        bench.note("half_load_p99_ms", statistics.median(found), f"median of {found}")
    if wanted("group_2000_ms"):
        found = [group_ms(ours, 2_000, 1_400) for _ in range(RUNS)]
        bench.note("group_2000_ms", statistics.median(found), f"median of {found}")
    if wanted("group_100000_ms"):
        bench.note("group_100000_ms", group_ms(ours, 100_000, 20_000))


def _half_load_p99_ms(ours: Stand, messages: int, seconds: float = 10.0) -> int:
    """At half of the rate that is measured right before."""
    count = int(rate(ours, messages) / 2 * seconds)
    times = ours.accepted(ours.publish_c2c(count, USERS, pace_s=seconds), count)
    return times[int(len(times) * 0.99)]


def _sizes(bench: Bench, ours: Stand, url: str, ca: Path, wanted: Callable[[str], bool]) -> None:
    if wanted("devices_1m_cost"):
        _devices_1m_cost(bench, ours, url, ca)
    if wanted("tenants_1000_cost"):
        apps = tuple(f"tenant{n}" for n in range(1_000))
        for app in apps:
            ours.tenant(app)
            ours.devices_quick(app, 5)
        ours.runtime.catalog.changed()
        time.sleep(TAKES_EFFECT_S)
        ours.burst(1_000, 5, apps)  # opens each account's connection, as `against` does
        many = ours.burst(bench.messages // 4, 5, apps)
        bench.note(
            "tenants_1000_cost", round(bench.report["c2c_pushes_per_second"] / many.per_second, 2)
        )
        bench.note("tenants_1000_cpu_us_per_push", many.used["cpu_us_per_push"])


def _devices_1m_cost(bench: Bench, few: Stand, url: str, ca: Path) -> None:
    """Two fleets take turns. Before each burst both forget whom they know: each is looked up among
    all devices.
    """
    with stand(url, ca) as many:
        many.devices(APP, 1_000_000)
        with many.runtime.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
            one.execute(text("CHECKPOINT"))
        pairs: list[tuple[Burst, ...]] = []
        for _ in range(RUNS + 1):  # the first one warms
            for each in (few, many):
                each.forget_people()
            pairs.append(tuple(each.burst(bench.messages, USERS) for each in (few, many)))
        rates = [round(few_.per_second / many_.per_second, 2) for few_, many_ in pairs[1:]]
        cpu = [[one.used["cpu_us_per_push"] for one in pair] for pair in pairs[1:]]
        by_cpu = statistics.median([round(many_us / few_us, 2) for few_us, many_us in cpu])
        bench.note(
            "devices_1m_cost", statistics.median(rates), f"median of {rates}; by CPU {by_cpu}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--report", type=Path, default=Path("var/reports/bench.json"))
    given = parser.parse_args()
    only = {name for name in given.only.split(",") if name}
    bench = Bench(given.messages)
    run(bench, lambda name: not only or name in only)
    given.report.parent.mkdir(parents=True, exist_ok=True)
    given.report.write_text(json.dumps(bench.report, indent=1))
    print(f"the report is in {given.report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
