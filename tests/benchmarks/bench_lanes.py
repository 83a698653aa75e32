"""One group message to 100,000 devices of one lane, by delivery alone: real Redis, the vendor's
side over TLS. `make bench-lanes`.

    python -m tests.benchmarks.bench_lanes [--pushes N] [--profile] [--simulator] [huawei] [meizu]
    [fcm] …

Prints, and writes to var/reports/bench-lanes.json: requests made, device tokens a request, pushes a
second, CPU of ours a push, and which part of the time our process and the vendor's side were on a
core: the slower side is the one near 1.
The vendor's side is its simulator (Python, on the other core). FCM takes one request a push, which
is more than its simulator can answer: `h2mock` (C) stands in for its sends where it can be built,
the simulator gives the access token. `--simulator`: it answers the sends too.
"""

import argparse
import contextlib
import cProfile
import dataclasses
import io
import json
import os
import platform
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pycurl

from common.config import Settings
from common.contracts import Batch, Push, Target, encode
from common.model import Urgency, Vendor
from common.secret_keys import secret_keys
from common.storage import keys
from common.storage.tenants import Tenant
from simulators.simulator import issue
from tests.benchmarks.stand import MOCK, built_mock, serving_mock
from tests.builders import notification
from tests.taken import ask
from workers.app import DELIVERY
from workers.cli.demo import account
from workers.cli.demo_data import account_options
from workers.cli.fleet import migrate_settings
from workers.embedded import start_embedded
from workers.pipeline import Stages
from workers.runtime import Runtime

APP = "bench"
BATCH = 500
#: SETTINGS_MAX_CONCURRENT_STREAMS of the stand-in: as of FCM's simulator.
FCM_STREAMS = 100
NOTE_ROOM = "晚上一起吃饭吗？七点，老地方见。"


@contextlib.contextmanager
def simulator(vendor: Vendor, folder: Path) -> Iterator[dict[str, Any]]:
    """The vendor's side as a process of its own: what it tells of itself. Its own limits are off:
    it is not what is measured.
    """
    name = "huawei" if vendor == Vendor.HARMONY else str(vendor)
    argv = [sys.executable, "-m", "simulators", name, "--dir", str(folder)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        if vendor == Vendor.FCM:
            ask(told, "options", {"project_per_minute": 100_000_000})
        elif vendor != Vendor.APNS:
            limits = ask(told, "limits", {})
            ask(told, "limits", {limit: 0 for limit in limits if limit.startswith("per_second")})
        yield told
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def vendor_side(vendor: Vendor, folder: Path, by_simulator: bool) -> Iterator[dict[str, Any]]:
    """What a simulator tells of itself; with `mock`, the address of the C server that takes FCM's
    sends in its place.
    """
    with simulator(vendor, folder) as told:
        mock = built_mock(folder) if vendor == Vendor.FCM and not by_simulator else None
        if mock is None:
            yield told
            return
        certificate, key = issue(Path(told["ca_file"]).parent, "mock")
        with serving_mock(mock, key, certificate, FCM_STREAMS) as (address, pid):
            endpoints = {**told["endpoints"], "FCM": address}
            yield {**told, "mock": address, "pid": pid, "endpoints": endpoints}


def counts(told: dict[str, Any]) -> tuple[int, int]:
    """(requests, accepted device tokens) that the vendor's side has seen."""
    if "mock" in told:
        answer = io.BytesIO()
        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, f"{told['mock']}/_stats")
        handle.setopt(pycurl.CAINFO, told["ca_file"])
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        handle.setopt(pycurl.WRITEDATA, answer)
        handle.perform()
        handle.close()
        seen = json.loads(answer.getvalue())
        return seen["req"], seen["ok"]
    seen = ask(told, "stats")["counts"]
    return seen.get("requests", seen.get("accepted", 0)), seen.get("accepted", 0)


@contextlib.contextmanager
def lane(vendor: Vendor, by_simulator: bool = False) -> Iterator[tuple[Runtime, dict[str, Any]]]:
    """A runtime on servers of its own with one account of the vendor, and its simulator."""
    folder = Path(tempfile.mkdtemp(prefix="pushfleet-bench-"))
    folder.chmod(0o755)
    base = Settings.load({"PUSHFLEET_DATA_DIR": str(folder / "var")})
    secret_keys(base)  # made now, as `up` does
    servers = start_embedded(base, valkey=True, postgres=True)
    try:
        assert servers.redis_url is not None
        assert servers.database_url is not None
        with vendor_side(vendor, folder / "simulators", by_simulator) as told:
            settings = dataclasses.replace(
                base,
                redis_url=servers.redis_url,
                core_url=servers.redis_url,
                database_url=servers.database_url,
                endpoints=MappingProxyType(told["endpoints"]),
                ca_file=Path(told["ca_file"]),
            )
            migrate_settings(settings)
            runtime = Runtime(settings, "bench")
            try:
                runtime.tenants.add(Tenant(APP, "Bench", "zh", "Asia/Shanghai"))
                options = dict(account_options(folder / "accounts"))[vendor]
                stored = account(vendor, options, app=APP, business_id="b")
                runtime.credentials.add(dataclasses.replace(stored, limits={"rate": 10_000_000.0}))
                runtime.catalog.changed()
                yield runtime, told
            finally:
                runtime.close()
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


def load(runtime: Runtime, vendor: Vendor, pushes: int) -> None:
    """One group message to so many devices, on the lane's stream in entries of BATCH, as routing
    hands them on.
    """
    now = int(time.time() * 1000)
    stored = runtime.catalog.now.lanes[(APP, vendor, "b")]
    identity = uuid.uuid4().hex
    names = dict.fromkeys(("event_id", "message_id", "collapse_id"), identity)
    names |= {"app": APP, "conversation_type": "group", "conversation_id": "g"}
    words = {"app_name": "畅聊", "title": "周末的聚会", "sender_name": "张三", "ext": '{"cid":"g"}'}
    words |= dict.fromkeys(("body", "text"), NOTE_ROOM)
    times = {"ts_ms": now, "received_ms": now, "expires_at_ms": now + 3_600_000}
    more = {"placement": _placement(stored), "urgency": Urgency.GROUP}
    note = notification(**names, **words, **times, **more)
    stream = keys.send(vendor, Urgency.GROUP)
    for start in range(0, pushes, BATCH):
        targets = tuple(
            Target(f"u{n}", "d", _token(vendor, n), uuid.uuid4().hex, "android", now)
            for n in range(start, min(start + BATCH, pushes))
        )
        sent = (Push(note=note, targets=targets),)
        batch = Batch(app=APP, vendor=vendor, business_id="b", pushes=sent, by_entry=True)
        runtime.streams.hand_on((), [(stream, encode(batch))])


def _placement(lane_: Any) -> dict[str, str]:
    from common.model import MessageClass, PushType
    from workers.routing.classes import place

    return dict(place(MessageClass.CHAT, PushType.ALERT, lane_.credential, {}).fields)


def _token(vendor: Vendor, number: int) -> str:
    if vendor == Vendor.APNS:
        return f"a1{number:062x}"
    return f"CN_a1b2{number:028x}" if vendor == Vendor.OPPO else f"live-{vendor}-{number:040d}"


def measure(
    vendor: Vendor, pushes: int, profile: cProfile.Profile | None, by_simulator: bool
) -> dict[str, Any]:
    with lane(vendor, by_simulator) as (runtime, told):
        load(runtime, vendor, 1000)  # connections, the access token, every import
        _drain(runtime, vendor, 1000)
        before = counts(told)
        load(runtime, vendor, pushes)
        if profile:
            profile.enable()
        started, cpu, theirs = time.monotonic(), time.process_time(), _cpu_s(told["pid"])
        _drain(runtime, vendor, pushes)
        seconds = time.monotonic() - started
        cpu = time.process_time() - cpu
        theirs = _cpu_s(told["pid"]) - theirs
        if profile:
            profile.disable()
        requests, accepted = (now - then for now, then in zip(counts(told), before, strict=True))
    return {
        "vendor": str(vendor),
        "vendor_side": MOCK if "mock" in told else "simulator (Python)",
        "pushes": pushes,
        "accepted": accepted,
        "requests": requests,
        "tokens_per_request": round(pushes / max(requests, 1), 1),
        "seconds": round(seconds, 2),
        "pushes_per_second": round(pushes / seconds),
        "cpu_us_per_push": round(cpu / pushes * 1e6, 1),
        "busy_share": round(cpu / seconds, 2),
        "vendor_busy_share": round(theirs / seconds, 2),
    }


def _cpu_s(pid: int) -> float:
    """CPU seconds of another process until now."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def _drain(runtime: Runtime, vendor: Vendor, pushes: int) -> None:
    """Until the lane's streams are empty. The ledger's stream is emptied unread: writing rows is
    upkeep's work, on another core.
    """
    drain = Stages(runtime).consumer(DELIVERY, vendor)
    end = time.monotonic() + 600
    while time.monotonic() < end:
        drain(lambda: False)
        runtime.redis.xtrim(runtime.keys.stream(keys.LEDGER), maxlen=0, approximate=False)
        waiting = sum(
            one.unread + one.pending for one in runtime.streams.backlog(keys.SEND[vendor]).values()
        )
        if not waiting and not runtime.delayed.waiting_count():
            return
        runtime.delayed.release_due()
    raise TimeoutError(f"{pushes} pushes were not sent within 10 minutes")


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
    machine = f"{os.cpu_count()} cores, {model}"
    return {"machine": machine, "python": platform.python_version(), "commit": commit}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench-lanes", description="Pushes a second of one lane.")
    parser.add_argument("vendors", nargs="*", choices=[*map(str, Vendor), []], metavar="VENDOR")
    parser.add_argument("--pushes", type=int, default=100_000)
    parser.add_argument(
        "--profile", action="store_true", help="print where delivery's time goes; slower"
    )
    parser.add_argument(
        "--simulator", action="store_true", help="FCM's simulator answers the sends, too"
    )
    wanted = parser.parse_args()
    command = ["python -m tests.benchmarks.bench_lanes", *sys.argv[1:]]
    report: dict[str, Any] = {**_machine(), "command": " ".join(command), "lanes": []}
    for name in wanted.vendors or ["huawei", "meizu", "fcm"]:
        profile = cProfile.Profile() if wanted.profile else None
        told = measure(Vendor(name), wanted.pushes, profile, wanted.simulator)
        report["lanes"].append(told)
        print(json.dumps(told), flush=True)
        if profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    path = Path("var/reports/bench-lanes.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1))
    return 0 if all(one["accepted"] == one["pushes"] for one in report["lanes"]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
