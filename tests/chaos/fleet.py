"""A whole fleet with Apple's simulator for the chaos tests, a crowd of iPhones, and the books: what
must become of what.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common.config import VENDOR_ENDPOINTS, Settings
from common.running_fleet import resolve
from common.storage import keys
from tests.builders import core_event
from tests.cluster import published
from tests.commands import command
from tests.conftest import open_folder
from tests.processes import end_at_once
from tests.simulator_keys import p8_options
from tests.taken import Taken
from tests.waiting import wait_for as wait_for
from workers.cli.fleet import migrate_settings
from workers.cli.up import LocalFleet, in_background
from workers.runtime import Runtime
from workers.supervisor import Worker

APP = "chaos"
#: Nobody speaks to the other vendors here: what is told to be elsewhere gets no simulator.
ELSEWHERE = {
    f"PUSHFLEET_ENDPOINT_{name}": "http://127.0.0.1:9"
    for vendor, names in VENDOR_ENDPOINTS.items()
    for name in names
    if vendor != "apns"
}
#: One device in so many is on the lane with a rate and a quota.
LIMITED_SHARE = 10
RATE_PER_S = 50
#: `apns-expiration` is in whole seconds, and a request that was in time takes a while to arrive on
#: a busy machine.
LATE_MS = 2_000
GROUP = 100
#: One message in so many goes to a group; in so many is worth nothing after a few seconds.
GROUP_EVERY = 50
SHORT_EVERY = 20
SHORT_TTL_S = 5


@dataclass(slots=True)
class Books:
    """expected: (event, user, device) of everybody who must have a row. tokens: of everybody;
    limited: those on the lane with the quota. added_at: Unix time at which Redis had an event.
    """

    expected: set[tuple[str, str, str]] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    limited: set[str] = field(default_factory=set)
    added_at: dict[str, float] = field(default_factory=dict)
    messages: int = 0


class Town:
    """One running fleet: publishes, kills, asks."""

    def __init__(
        self, fleet: LocalFleet | None, runtime: Runtime, quota: int, seed: int = 1, app: str = APP
    ) -> None:
        """fleet: what may be killed; None when somebody else supervises it."""
        self._fleet = fleet
        self.app = app
        self.runtime = runtime
        self.quota = quota
        self.books = Books()
        self.kills: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._people: list[str] = []
        self._taken = Taken(runtime.settings.data_dir / "simulators" / "apns.jsonl")

    # ------------------------------------------------------------ before

    def beside(self, people: int, quota: int, seed: int) -> Town:
        """Another tenant of the same fleet, with books of its own."""
        other = Town(self._fleet, self.runtime, quota, seed, f"{self.app}-{uuid.uuid4().hex[:8]}")
        other.settle_in(people)
        return other

    def settle_in(self, people: int) -> None:
        """A tenant with two accounts, `ios` and the limited one `few`, and one iPhone a person."""
        options = p8_options(self.runtime.settings.data_dir / "key.p8", "CHAOSKEY01", "CHAOSTEAM1")
        self.command("app", "add", self.app)
        limits = ["--quota", f"private={self.quota}", "--rate", f"{RATE_PER_S}/s"]
        for business_id, more in (("ios", []), ("few", limits)):
            named = ["--app", self.app, "--business-id", business_id]
            self.command("credential", "add", "apns", *named, *options, *more)
        for number in range(people):
            few = number % LIMITED_SHARE == 0
            token = "a1" + uuid.uuid4().hex + uuid.uuid4().hex[:30]
            self.books.tokens.add(token)
            if few:
                self.books.limited.add(token)
            user = f"u{number}"
            self._people.append(user)
            data = {"user": user, "device_id": "phone", "platform": "ios", "vendor": "apns"}
            lane = "few" if few else "ios"
            self._add("device.registered", {**data, "business_id": lane, "token": token})
        wait_for(lambda: not self.runtime.core.xlen("im:events"), "everybody is registered")

    def command(self, *words: str) -> None:
        wanted = self.runtime.settings
        environ = {
            "PUSHFLEET_DATA_DIR": str(wanted.data_dir),
            "PUSHFLEET_SECRET_KEYS_FILE": str(wanted.secret_keys_file),
        }
        environ["PUSHFLEET_SHARDS"] = str(wanted.shards)
        for name in ("redis_url", "database_url"):
            environ[f"PUSHFLEET_{name.upper()}"] = getattr(wanted, name)
        code, out, err = command(environ, *words)
        assert code == 0, err or out

    # ------------------------------------------------------------ meanwhile

    def publish(self, to: str | None = None) -> None:
        """One message, to one person (this one, or any) or to a group; it is in the books when
        Redis has it.
        """
        number = self.books.messages
        people = [person for person in self._people if person != to]
        self._rng.shuffle(people)
        sender, *others = people
        group = to is None and number % GROUP_EVERY == 0
        receivers = [to] if to is not None else others[: GROUP if group else 1]
        data: dict[str, Any] = {
            "message_id": f"m{number}",
            "sender": {"id": sender},
            "recipients": receivers,
        }
        data["conversation"] = (
            {"type": "group", "id": "g"} if group else {"type": "c2c", "id": sender}
        )
        data |= {"elements": [{"type": "text", "text": f"number {number}"}]}
        if to is None and number % SHORT_EVERY == 7:
            data["push"] = {"ttl_s": SHORT_TTL_S}
        identity = self._add("message.stored", data)
        self.books.expected |= {(identity, user, "phone") for user in receivers}
        self.books.messages += 1

    def _add(self, kind: str, data: Mapping[str, Any]) -> str:
        """The same event again until Redis has said yes: the event id makes that harmless."""
        identity = uuid.uuid4().hex
        event = core_event(self.app, kind, data, event_id=identity)
        while True:
            try:
                published(self.runtime.core, "im:events", {"e": json.dumps(event)})
                self.books.added_at[identity] = time.time()
                return identity
            except RedisError:
                time.sleep(0.1)

    @property
    def fleet(self) -> LocalFleet:
        assert self._fleet
        return self._fleet

    @property
    def workers(self) -> list[Worker]:
        lines = self.fleet._lines
        assert lines
        return lines.workers

    def says_it_lives(self, name: str) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.runtime.redis.exists(self.runtime.keys.alive(name)))
        return False

    # ------------------------------------------------------------ after

    def settled(self, seconds: float, look: Callable[[], None]) -> bool:
        """Whether within that time every row was decided and nothing was on its way any more, three
        looks in a row.
        """
        quiet, end = 0, time.monotonic() + seconds
        while quiet < 3 and time.monotonic() < end:
            time.sleep(0.3)
            look()
            with contextlib.suppress(RedisError, SQLAlchemyError):
                quiet = quiet + 1 if self._nothing_moves() else 0
        return quiet == 3

    def _nothing_moves(self) -> bool:
        runtime = self.runtime
        backlogs = runtime.streams.backlog((*keys.WORK_STREAMS, keys.LEDGER)).values()
        busy = sum(backlog.unread + backlog.pending for backlog in backlogs)
        if (
            busy
            or runtime.core.xlen("im:events")
            or runtime.delayed.waiting_count()
            or runtime.lane_queues.any_left()
        ):
            return False
        decided, waiting = runtime.ledger.counts()
        return not waiting and decided >= len(self.due())

    def due(self) -> set[tuple[str, str, str]]:
        """Who must have a row: everybody in the books but the recipients of what was decided at
        intake (its time had run out).
        """
        with self.runtime.engine.connect() as connection:
            query = text("SELECT event_id FROM events WHERE decision IS NOT NULL")
            ended = set(connection.execute(query).scalars())
        return {key for key in self.books.expected if key[0] not in ended}

    def rows(self) -> list[dict[str, Any]]:
        return [row for row in self.runtime.ledger.all_rows() if row["app"] == self.app]

    def dead_letters(self) -> int:
        with self.runtime.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM dead_letters")).scalar() or 0)

    def sent(self) -> int:
        """How many pushes the simulator has accepted."""
        return len(self._taken.lines())

    def record(self) -> list[dict[str, Any]]:
        """What the simulator accepted for these people."""
        return [one for one in self._taken.lines() if one["token"] in self.books.tokens]


def accounts(town: Town) -> dict[str, Any]:
    """The books against the ledger against the simulator: what was lost, doubled, or sent that
    should not have been.
    """
    rows = {(row["event_id"], row["user"], row["device"]): row for row in town.rows()}
    seen = Counter(line["id"].replace("-", "") for line in town.record())
    accepted = [row["push_id"] for row in rows.values() if row["decision"] == "accepted"]
    due = town.due()
    never_decided = [key for key in due if key not in rows or rows[key]["decision"] is None]
    limited = [line for line in town.record() if line["token"] in town.books.limited]
    delivery_kills = sum(count for name, count in town.kills.items() if name.startswith("delivery"))
    return {
        "deliveries": sum(seen.values()),
        "rows": len(rows),
        "decided_at_intake": len(town.books.expected - due),
        "rows_without_message": len(rows.keys() - town.books.expected),
        "decisions": dict(Counter(str(row["decision"]) for row in rows.values()).most_common()),
        "dead_letters": town.dead_letters(),
        "lost": len(never_decided) + sum(not seen[push_id] for push_id in accepted),
        "lost_examples": [
            (key, rows[key]["note"] if key in rows else None) for key in sorted(never_decided)[:5]
        ],
        "lost_at": sorted(
            {round(town.books.added_at.get(key[0], 0.0), 1) for key in never_decided}
        )[:50],
        "accepted_without_row": len(seen.keys() - set(accepted)),
        "doubled": sum(count - 1 for count in seen.values()),
        "doubled_bound": 500 * delivery_kills,
        "over_quota": max(0, len({line["id"] for line in limited}) - town.quota),
        "over_rate": over_rate([line["at_ms"] for line in limited]),
        "stale_sent": sum(
            line["at_ms"] > line["expiration"] * 1000 + LATE_MS for line in town.record()
        ),
    }


def over_rate(times_ms: list[int], window_s: int = 5) -> int:
    """Most that any window held beyond rate x window and one second's burst. The window is wider
    than what a busy machine delays.
    """
    times = sorted(times_ms)
    most, start = 0, 0
    for index, at_ms in enumerate(times):
        while at_ms - times[start] >= window_s * 1000:
            start += 1
        most = max(most, index - start + 1)
    return max(0, most - RATE_PER_S * (window_s + 1))


@contextlib.contextmanager
def town(
    replicas: Mapping[str, int], *, people: int, quota: int, seed: int = 1, **settings: str
) -> Iterator[Town]:
    """A fleet of its own, ready, with its people registered. settings: names without the prefix."""
    with open_folder() as folder:
        named = {
            "PUSHFLEET_SECRET_KEYS_FILE": str(keys_file(folder)),
            **{f"PUSHFLEET_{name}": value for name, value in settings.items()},
        }
        data_dir = str(folder / "var")
        wanted = Settings.load(
            {"PUSHFLEET_DATA_DIR": data_dir, "PUSHFLEET_RETRY_FIRST_S": "0.3", **ELSEWHERE, **named}
        )
        procfile = Path(__file__).parent / "Procfile"
        with in_background(
            wanted, replicas, True, migrate=migrate_settings, procfile_path=procfile
        ) as fleet:
            runtime = Runtime(resolve(wanted))
            try:
                found = Town(fleet, runtime, quota, seed)
                found.settle_in(people)
                yield found
            finally:
                end_at_once(fleet)
                runtime.close()


def keys_file(folder: Path) -> Path:
    """A new file of keys: a fleet on servers that are not its own has to be given one."""
    path = folder / "keys"
    path.write_bytes(Fernet.generate_key())
    path.chmod(0o600)
    return path
