"""`pushfleet demo`: the whole fleet on this machine with simulators of every vendor; publishes
conversations, then proves its accounts.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from redis import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import text

from common.clock import day_of
from common.config import Settings
from common.model import Vendor
from common.redis_urls import is_cluster
from common.running_fleet import resolve
from common.setting_checks import EMBEDDED
from common.storage import keys
from common.storage.credentials import StoredCredential
from common.storage.redis import connect_core
from common.storage.tenants import Tenant
from workers import shards
from workers.cli import DONE, NO, demo_data
from workers.cli.account_options import FILES, read_account
from workers.cli.fleet import migrate_settings
from workers.cli.up import in_background
from workers.runtime import Runtime

#: The demo ends by itself, whatever happens.
LONGEST_S = 420.0
XADDS = 500
#: Seconds of the conversations: people write one after the other, so that the delivery is measured,
#: not a queue of our own making.
TALK_S = 20.0
TALK_XADDS = 20
#: Apple asks for 15 minutes before a retry; the demo is not that patient.
RETRY_FIRST_S = 0.5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def demo(as_json: bool) -> None:
    """Run the whole fleet against simulators for a few minutes and account for every recipient."""
    wanted = Settings.load()
    folder = wanted.data_dir / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    settings = _settings(wanted, folder)
    console = Console(stderr=as_json)
    console.print("starting servers, simulators and the fleet …")
    with in_background(settings, {"presence": 1, "routing": 1}, True, migrate=migrate_settings):
        runtime = Runtime(resolve(settings))
        try:
            report = play(runtime, console)
        finally:
            runtime.close()
    if is_cluster(settings.redis_url):
        _clear(settings)
    path = wanted.data_dir / "reports" / "demo.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1))
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    good = proven(report)
    console.print(
        f"[bold]{'everything is accounted for' if good else 'NOT everything is accounted for'}[/bold]; the report is in {path}"  # noqa: E501
    )
    raise click.exceptions.Exit(DONE if good else NO)


def _settings(wanted: Settings, folder: Path) -> Settings:
    """The demo's own servers; a given cluster is used, under names that are unique."""
    own = replace(
        wanted,
        data_dir=folder,
        database_url=EMBEDDED,
        broker_url=None,
        endpoints={},
        retry_first_s=RETRY_FIRST_S,
    )
    if not is_cluster(wanted.redis_url):
        return replace(own, redis_url=EMBEDDED, core_url=EMBEDDED)
    name = f"demo{uuid.uuid4().hex[:8]}"
    core = {
        "core_url": wanted.redis_url,
        "key_prefix": f"{name}:",
        "event_streams": (f"{name}:events",),
    }
    return replace(own, broker_url=EMBEDDED, prefix=name, **core)  # type: ignore[arg-type]


def _clear(settings: Settings) -> None:
    """Removes the demo's keys from the cluster."""
    core: Any = connect_core(settings.redis_url)
    with contextlib.closing(core):
        for key in core.scan_iter(match=f"{settings.prefix}:*", count=1000):
            core.unlink(key)


def proven(report: Mapping[str, Any]) -> bool:
    return (
        bool(report["ledger_matches_simulators"])
        and not report["recipients_without_row"]
        and not report["rows_doubled"]
    )


def play(runtime: Runtime, console: Console) -> dict[str, Any]:
    data = demo_data.make_data()
    folder = runtime.settings.data_dir / "accounts"
    runtime.tenants.add(Tenant(demo_data.APP, "示例聊天", "zh", "Asia/Shanghai"))
    for vendor, options in demo_data.account_options(folder):
        runtime.credentials.add(account(vendor, options))
    runtime.catalog.changed()
    core = runtime.core
    name = TextColumn("{task.description:<28}")
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        registered = list(demo_data.registrations(data))
        (stream,) = runtime.settings.event_streams
        names = runtime.settings.key_prefix
        _publish(core, stream, registered, progress, "devices register")
        _until_empty(runtime, progress, "registered")
        _publish(core, stream, list(demo_data.logouts(data)), progress, "some log out")
        for user, fields in demo_data.presences(data):
            core.hset(
                f"{names}presence:{{{demo_data.APP}:{user}}}",
                items=[part for pair in fields.items() for part in pair],
            )
        for group, members in data.groups.items():
            core.sadd(f"{names}members:{{{demo_data.APP}:{group}}}", *members)
        _until_empty(runtime, progress, "logged out")
        published = list(demo_data.messages(data))
        rows = sum(
            len(devices) or 1 for people in data.expected.values() for devices in people.values()
        )
        started = time.monotonic()
        _publish(core, stream, published, progress, "conversations", TALK_XADDS, TALK_S)
        _until_decided(runtime, rows, progress)
        seconds = time.monotonic() - started
    return report_of(runtime, data, len(published), seconds, console)


def account(
    vendor: Vendor, options: list[str], app: str = demo_data.APP, business_id: str | None = None
) -> StoredCredential:
    """A stored credential from options as the command line takes them."""
    given: dict[str, Any] = dict.fromkeys(
        ("rights", "channels", "templates", "quotas", "device_caps", "reserves", "extra"), ()
    )
    given["rate"] = None
    many = {"right": "rights", "channel": "channels", "template": "templates"}
    for option, value in zip(options[::2], options[1::2], strict=True):
        name = option.removeprefix("--").replace("-", "_")
        if name in many:
            given[many[name]] = (*given[many[name]], value)
        else:
            given["vendor_app_id" if name == "app_id" else name] = (
                Path(value) if name in FILES else value
            )
    return read_account(vendor, app, business_id or f"{vendor}-1", given, None)


def _publish(
    core: Redis,
    stream: str,
    events: Iterable[dict[str, Any]],
    progress: Progress,
    words: str,
    at_once: int = XADDS,
    seconds: float = 0.0,
) -> None:
    """at_once: events of one round trip; seconds: over how long they are spread."""
    todo = list(events)
    task = progress.add_task(words, total=len(todo))
    began = time.monotonic()
    for start in range(0, len(todo), at_once):
        time.sleep(max(began + seconds * start / len(todo) - time.monotonic(), 0.0))
        with core.pipeline(transaction=False) as pipe:
            for one in todo[start : start + at_once]:
                pipe.xadd(
                    stream,
                    {"e": json.dumps({**one, "ts": int(time.time() * 1000)}, ensure_ascii=False)},
                )
            pipe.execute()
        progress.advance(task, len(todo[start : start + at_once]))


def _until_empty(runtime: Runtime, progress: Progress, words: str) -> None:
    """Waits until intake has handled everything published so far."""
    task = progress.add_task(f"  {words}", total=None)
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end and _unread(runtime):
        time.sleep(0.1)
    progress.update(task, total=1, completed=1)


def _until_decided(runtime: Runtime, rows: int, progress: Progress) -> None:
    """Waits until all rows are decided and nothing is on its way, or time is up.

    The core's stream is empty then.
    """
    task = progress.add_task("decided", total=rows)
    end = time.monotonic() + LONGEST_S
    quiet = 0
    while time.monotonic() < end and quiet < QUIET_LOOKS:
        time.sleep(0.3)
        done, open_ = runtime.ledger.counts()
        progress.update(task, completed=min(done, rows))
        quiet = quiet + 1 if not open_ and _nothing_moves(runtime) else 0
    progress.update(task, completed=rows if quiet else done)


def _nothing_moves(runtime: Runtime) -> bool:
    streams = (*keys.WORK_STREAMS, *keys.OUT, keys.LEDGER)
    busy = sum(
        backlog.unread + backlog.pending for backlog in shards.backlog(runtime, streams).values()
    )
    return not (
        busy or _unread(runtime) or shards.delayed_count(runtime) or shards.any_left(runtime)
    )


def _unread(runtime: Runtime) -> int:
    return sum(int(runtime.core.xlen(stream)) for stream in runtime.settings.event_streams)


#: Looks in a row that must find nothing on its way.
QUIET_LOOKS = 4


# ---------------------------------------------------------------- the proof


def report_of(
    runtime: Runtime, data: demo_data.DemoData, events: int, seconds: float, console: Console
) -> dict[str, Any]:
    today = day_of(int(time.time() * 1000))
    rows = list(runtime.ledger.all_rows(today - timedelta(days=1)))
    with runtime.engine.connect() as connection:
        received: dict[str, int] = dict(
            connection.execute(text("SELECT event_id, received_ms FROM events")).tuples().all()
        )
        query = text("SELECT vendor, count(*) FROM devices WHERE state = 'retired' GROUP BY vendor")
        retired: Counter[str] = Counter(dict(connection.execute(query).tuples().all()))
        query = text("SELECT \"user\", device_id FROM devices WHERE state <> 'active'")
        no_device = {tuple(row) for row in connection.execute(query)}
    missing, doubled = _compare(data, rows, no_device)
    accepted = [row for row in rows if row["decision"] == "accepted"]
    times = sorted(row["decided_ms"] - received[row["event_id"]] for row in accepted)
    matches, counts = _oracle(runtime, accepted)
    report = {
        "events": events,
        "recipients": sum(len(people) for people in data.expected.values()),
        "rows": len(rows),
        "recipients_without_row": missing,
        "rows_doubled": doubled,
        "decisions": dict(Counter(row["decision"] or "waiting" for row in rows).most_common()),
        "vendors": {
            vendor: {"accepted": counts.get(vendor, 0), "retired": retired.get(vendor, 0)}
            for vendor in Vendor
        },
        "pushes_per_second": round(len(accepted) / max(seconds, 0.001), 1),
        "p50_ms": times[len(times) // 2] if times else None,
        "p99_ms": times[int(len(times) * 0.99)] if times else None,
        "ledger_matches_simulators": matches,
    }
    _print(report, console)
    return report


def _compare(
    data: demo_data.DemoData, rows: list[dict[str, Any]], no_device: set[tuple[Any, ...]]
) -> tuple[int, int]:
    """Recipients' devices without a row, and rows that are one too many. A device retired on the
    way needs none, its person does.
    """
    found = Counter((row["event_id"], row["user"], row["device"]) for row in rows)
    people_found = {(row["event_id"], row["user"]) for row in rows}
    missing = 0
    for event_id, people in data.expected.items():
        for user, devices in people.items():
            missing += (event_id, user) not in people_found
            missing += sum(
                1
                for device in devices
                if (event_id, user, device) not in found and (user, device) not in no_device
            )
    return missing, sum(count - 1 for count in found.values())


def _oracle(runtime: Runtime, accepted: list[dict[str, Any]]) -> tuple[bool, dict[str, int]]:
    """True when the simulators' records and the ledger have the same pushes by vendor.

    Counted by vendor and the token's owner.
    """
    ours = Counter(row["vendor"] for row in accepted)
    theirs: Counter[str] = Counter()
    for path in sorted((runtime.settings.data_dir / "simulators").glob("*.jsonl")):
        seen = set()
        for number, line in enumerate(path.read_bytes().splitlines()):
            push = json.loads(line)
            if push.get("kind", "push") == "push" and not push.get("duplicate"):
                # FCM and Meizu have no field for our id: each of their lines counts as one push.
                seen.add((push["vendor"], push.get("id") or number, push["token"]))
        theirs.update(vendor for vendor, _, _ in seen)
    return ours == theirs, dict(ours)


def _print(report: Mapping[str, Any], console: Console) -> None:
    table = Table("decision", "rows", title="what became of every recipient", box=None)
    for decision, count in report["decisions"].items():
        table.add_row(decision, str(count))
    lanes = Table("vendor", "accepted", "tokens retired", title="lanes", box=None)
    for vendor, counts in report["vendors"].items():
        lanes.add_row(vendor, str(counts["accepted"]), str(counts["retired"]))
    console.print(table)
    console.print(lanes)
    console.print(
        f"{report['events']} events, {report['recipients']} recipients, {report['rows']} rows;"
        f" {report['pushes_per_second']} pushes/s, stored to accepted p50 {report['p50_ms']} "
        f"ms, p99 {report['p99_ms']} ms"
    )
    console.print(
        f"recipients without a row: {report['recipients_without_row']}, rows doubled: "
        f"{report['rows_doubled']},"
        f" simulators' records equal the ledger: {report['ledger_matches_simulators']}"
    )
