"""A whole small fleet with simulators, tenants with lanes, and what a scenario asks of them.
Nothing inside the fleet is touched.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from common.config import VENDOR_ENDPOINTS, Settings
from common.model import Vendor
from common.running_fleet import resolve
from common.storage import keys
from common.storage.credentials import StoredCredential
from common.storage.tenants import Tenant
from tests.benchmarks.counters import counters, processes
from tests.builders import core_event
from tests.processes import end_at_once
from tests.taken import Taken, ask, told_by
from workers.cli.demo import account
from workers.cli.demo_data import account_options
from workers.cli.fleet import migrate_settings
from workers.cli.up import LocalFleet, in_background
from workers.runtime import Runtime

#: Contract §2: what changed takes effect within 2 s; each process looks once a second.
TAKES_EFFECT_S = 1.5
#: A chat a scenario looks at is given up after so long.
GIVEN_UP_S = 60.0


class Place:
    """A fleet as one tenant, `app`, sees it."""

    def __init__(self, fleet: LocalFleet, runtime: Runtime, folder: Path) -> None:
        self.app = "iso"
        self._before = (0, 0, 0.0)
        self.fleet = fleet
        self.runtime = runtime
        self.redis = runtime.redis
        self.folder = folder
        self._options = dict(account_options(folder / "accounts"))
        self._accounts: dict[tuple[str, ...], StoredCredential] = {}

    @contextlib.contextmanager
    def beside(self) -> Iterator[Place]:
        """The same fleet as another tenant sees it, which counts from now on. Afterwards its lanes
        are stopped.
        """
        other = copy.copy(self)
        other.app = "iso" + uuid.uuid4().hex[:8]
        other._before = (self._all_dead(), self._all_accepted(), time.time() * 1000)
        try:
            yield other
        finally:
            for app, vendor, _ in list(self.runtime.catalog.fresh().lanes):
                if app == other.app:
                    other.pause(vendor, paused=True)

    # ------------------------------------------------------------ what is there

    def tenant(self, lanes: Mapping[Vendor, Sequence[str]], app: str = "") -> None:
        """lanes: further options of `credential add` by vendor; each lane's business id is the
        vendor's name. app: another than this one.
        """
        app = app or self.app
        self.runtime.tenants.add(Tenant(app, "Isolation", "en", "Asia/Shanghai"))
        for vendor, more in lanes.items():
            known = self._accounts.get((vendor, *more))
            if known is None:  # its key is read once, also for a thousand tenants
                options = [*self._options[vendor], *more]
                known = account(vendor, options, app=app, business_id=str(vendor))
                self._accounts[vendor, *more] = known
            self.runtime.credentials.add(replace(known, app=app))

    def settle(self) -> None:
        self.runtime.catalog.changed()
        time.sleep(TAKES_EFFECT_S)

    def devices(self, vendor: Vendor, count: int) -> list[str]:
        """`count` people with one phone each; their ids."""
        people = [f"{vendor}{number}" for number in range(count)]
        platform = "ios" if vendor == Vendor.APNS else "android"
        with self.runtime.engine.begin() as connection:
            raw: Any = connection.connection.driver_connection
            columns = (
                '(app,"user",device_id,platform,vendor,business_id,token,registered_ms,state,'
                "state_ms)"
            )
            with raw.cursor() as cursor, cursor.copy(f"COPY devices {columns} FROM STDIN") as copy:
                for user in people:
                    row = (
                        self.app,
                        user,
                        "d",
                        platform,
                        str(vendor),
                        str(vendor),
                        _token(vendor),
                        1,
                        "active",
                        1,
                    )
                    copy.write_row(row)
        return people

    def members(self, group: str, people: Sequence[str]) -> None:
        for start in range(0, len(people), 5_000):
            self.redis.sadd(f"im:members:{{{self.app}:{group}}}", *people[start : start + 5_000])

    def pause(self, vendor: Vendor, *, paused: bool) -> None:
        self.runtime.credentials.set_paused(self.app, vendor, str(vendor), paused)
        self.runtime.catalog.changed()

    # ------------------------------------------------------------ what happens

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        self.redis.xadd("im:events", {"e": self._event(kind, data)})

    def publish_all(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Many messages, a thousand a round trip."""
        pipe = self.redis.pipeline(transaction=False)
        for count, data in enumerate(messages, 1):
            pipe.xadd("im:events", {"e": self._event("message.stored", data)})
            if count % 1_000 == 0:
                pipe.execute()
        pipe.execute()

    def _event(self, kind: str, data: Mapping[str, Any]) -> bytes:
        return json.dumps(core_event(self.app, kind, data)).encode()

    @contextlib.contextmanager
    def chatting(self, people: Sequence[str], per_second: float) -> Iterator[list[str]]:
        """Single chats at a steady pace while the block runs; the message ids, growing."""
        sent, stop = list[str](), threading.Event()

        def go() -> None:
            while not stop.wait(1 / per_second):
                message = f"chat-{uuid.uuid4().hex}"
                self.publish("message.stored", chat(message, people[len(sent) % len(people)]))
                sent.append(message)

        thread = threading.Thread(target=go, name="chats")
        thread.start()
        try:
            yield sent
        finally:
            stop.set()
            thread.join()

    def freeze(self, server: str) -> None:
        """SIGSTOP to an embedded server and its children; connections stay open."""
        self._signal(server, signal.SIGSTOP)

    def thaw(self, server: str) -> None:
        self._signal(server, signal.SIGCONT)

    def _signal(self, server: str, sign: signal.Signals) -> None:
        for pid in processes(self.runtime.settings.data_dir)[server]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)

    # ------------------------------------------------------------ what came of it

    def times_ms(self, messages: Sequence[str], seconds: float = GIVEN_UP_S) -> list[int | None]:
        """From stored to accepted of each message; None for one that was not accepted within so
        many seconds.
        """
        query = text(
            "SELECT e.message_id, l.decided_ms - e.ts_ms FROM events e JOIN ledger_all l "
            "USING (day, app, event_id)"
            " WHERE e.app = :app AND e.message_id = ANY(:ids) AND l.decision = 'accepted'"
        )
        end = time.monotonic() + seconds
        while True:
            with self.runtime.engine.connect() as connection:
                given = {"app": self.app, "ids": list(messages)}
                found = {row[0]: int(row[1]) for row in connection.execute(query, given)}
            if len(found) >= len(set(messages)) or time.monotonic() > end:
                return [found.get(message) for message in messages]
            time.sleep(0.25)

    def decisions(self, message: str) -> dict[str, int]:
        """Rows of a message by decision."""
        query = text(
            "SELECT coalesce(l.decision, 'waiting'), count(*) FROM events e JOIN ledger_all "
            "l USING (day, app, event_id)"
            " WHERE e.app = :app AND e.message_id = :message GROUP BY 1"
        )
        with self.runtime.engine.connect() as connection:
            rows = connection.execute(query, {"app": self.app, "message": message})
            return {str(decision): int(count) for decision, count in rows}

    def accepted_times(self, message: str) -> list[int]:
        """When each push of a message was accepted, epoch ms, in order."""
        query = text(
            "SELECT l.decided_ms FROM events e JOIN ledger_all l USING (day, app, event_id)"
            " WHERE e.app = :app AND e.message_id = :message AND l.decision = 'accepted' ORDER BY 1"
        )
        with self.runtime.engine.connect() as connection:
            found = connection.execute(query, {"app": self.app, "message": message})
            return [int(row[0]) for row in found]

    def ledger_rows_read(self) -> int:
        """Rows of the ledger and index entries that PostgreSQL has read so far."""
        query = text(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"
            " WHERE relname LIKE 'ledger%'"
        )
        with self.runtime.engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def dead_letters(self) -> int:
        return self._all_dead() - self._before[0]

    def accepted(self) -> int:
        """Pushes that Apple has taken."""
        return self._all_accepted() - self._before[1]

    def _all_accepted(self) -> int:
        return int(self.simulator(Vendor.APNS, "stats")["counts"].get("accepted", 0))

    def _all_dead(self) -> int:
        with self.runtime.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM dead_letters")).scalar() or 0)

    def commands(self) -> int:
        return int(self.redis.info("stats")["total_commands_processed"])

    def cpu_s(self, name: str) -> float:
        found = counters(self.runtime.settings.data_dir, self.redis, self.runtime.engine).cpu_s
        return sum(used for process, used in found.items() if process.startswith(name))

    def peak_rss_mib(self, name: str) -> int:
        """The largest memory that any process of this name had so far."""
        peaks = []
        for process, pids in processes(self.runtime.settings.data_dir).items():
            for pid in pids if process.startswith(name) else ():
                status = (Path("/proc") / str(pid) / "status").read_text()
                peaks.append(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
        return max(peaks, default=0)

    @property
    def _simulators(self) -> Path:
        return self.runtime.settings.data_dir / "simulators"

    def simulator(
        self, vendor: Vendor, action: str, wanted: Mapping[str, Any] | None = None
    ) -> Any:
        """A call at the simulator's side door: `stats`, `faults` …"""
        return ask(told_by(self._simulators, vendor), action, wanted)

    def recorded_ms(self, vendor: Vendor) -> list[int]:
        """When the simulator took each push, epoch ms, in order."""
        record = Taken(Path(told_by(self._simulators, vendor)["record"]))
        times = (int(line["at_ms"]) for line in record.lines())
        return sorted(at_ms for at_ms in times if at_ms >= self._before[2])

    def intake_done(self) -> bool:
        return not self.redis.xlen("im:events")

    def routed(self) -> bool:
        """True when nothing stands before the lanes, and what was written down is in the ledger."""
        streams = map(self.runtime.keys.stream, (*keys.STREAMS, keys.LEDGER))
        return self.intake_done() and not any(map(self.redis.xlen, streams))


def chat(message: str, to: str, **push: Any) -> dict[str, Any]:
    return {
        "message_id": message,
        "conversation": {"type": "c2c", "id": "ann"},
        "sender": {"id": "ann", "nick": "Ann"},
        "recipients": [to],
        "elements": [{"type": "text", "text": "See you at eight"}],
        **({"push": push} if push else {}),
    }


def advert(message: str, group: str) -> dict[str, Any]:
    push = {"class": "marketing", "display": {"title": "shop", "body": "sale today"}}
    conversation = {"type": "group", "id": group}
    return {
        "message_id": message,
        "conversation": conversation,
        "sender": {"id": "shop"},
        "elements": [{"type": "text", "text": "sale"}],
        "push": push,
    }


def call(call_id: str, to: str) -> dict[str, Any]:
    inviter = {"id": "ann", "nick": "Ann"}
    return {"call_id": call_id, "inviter": inviter, "invitees": [to], "timeout_s": 30}


def _token(vendor: Vendor) -> str:
    digits = f"{uuid.uuid4().int:039d}{uuid.uuid4().int:039d}"
    return ("a1" + digits)[:64] if vendor == Vendor.APNS else f"live-{vendor}-{digits[:40]}"


@contextlib.contextmanager
def place(
    vendors: Sequence[Vendor],
    without: Sequence[str] = (),
    replicas: Mapping[str, int] | None = None,
    **settings: str,
) -> Iterator[Place]:
    """A running fleet that delivers to these vendors. without: lines of the Procfile that do not
    run. settings: PUSHFLEET_ names.
    """
    folder = Path(tempfile.mkdtemp(prefix="pushfleet-isolation-"))
    folder.chmod(0o755)  # the servers' user reads it
    lines = [
        "intake",
        "presence",
        "routing",
        "upkeep",
        *(f"delivery-{vendor}" for vendor in vendors),
    ]
    words = {f"delivery-{vendor}": f"delivery --vendors {vendor}" for vendor in vendors}
    procfile = "".join(
        f"{line}: pushfleet worker {words.get(line, line)}\n"
        for line in lines
        if line not in without
    )
    (folder / "Procfile").write_text(procfile)
    environ = {"PUSHFLEET_DATA_DIR": str(folder / "var"), "PUSHFLEET_LOG_LEVEL": "warning"}
    environ |= {"PUSHFLEET_CONSOLE_ADDR": "127.0.0.1:0", "PUSHFLEET_RECEIPTS_ADDR": "127.0.0.1:0"}
    endpoints = VENDOR_ENDPOINTS.items()
    elsewhere = [name for vendor, names in endpoints if vendor not in vendors for name in names]
    environ |= {f"PUSHFLEET_ENDPOINT_{name}": "http://127.0.0.1:9" for name in elsewhere}
    wanted = Settings.load(
        {**environ, **{f"PUSHFLEET_{name}": value for name, value in settings.items()}}
    )
    try:
        with in_background(
            wanted,
            replicas or {},
            True,
            migrate=migrate_settings,
            procfile_path=folder / "Procfile",
        ) as fleet:
            runtime = Runtime(resolve(wanted))
            try:
                yield Place(fleet, runtime, folder)
            finally:
                end_at_once(fleet)
                runtime.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def percentile(values: Sequence[int | None], share: float) -> float:
    """Of what came; infinite where so much of it did not."""
    came = sorted(value if value is not None else float("inf") for value in values)
    return came[min(int(len(came) * share), len(came) - 1)] if came else float("inf")
