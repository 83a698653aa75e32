"""A fleet of another version replaced process by process while pushes travel:
`python -m tests.chaos.upgrade BASE`.

`make upgrade BASE=DIR`: DIR is a checkout of the version before with its own .venv. Its workers run
on this version's servers and simulator; 20,000 pushes are under way and 5,000 wait behind a paused
lane when docs/upgrade.md is followed. Settles accounts then: var/reports/upgrade.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import text

from common.config import Settings, environ_of
from common.running_fleet import resolve
from tests.builders import core_event
from tests.chaos.campaign import good, show, write
from tests.chaos.fleet import APP, ELSEWHERE, Town, accounts, keys_file, wait_for
from tests.commands import clean_environ
from tests.conftest import open_folder
from workers.cli.fleet import migrate_settings
from workers.cli.up import in_background
from workers.runtime import Runtime
from workers.supervisor import Worker

#: As docs/upgrade.md has it: against the way of a push, upkeep last.
ORDER = ("delivery-apns", "routing", "presence", "intake", "upkeep")
#: One message in so many goes to a group with two such people without a device for each with one.
GROUP_EVERY = 20
GROUP_AWAY = 10
HERE = Path(__file__).parents[2]
#: Settings of a later version would stop the processes of the version before.
COMMON = (
    "DATA_DIR",
    "REDIS_URL",
    "DATABASE_URL",
    "SECRET_KEYS_FILE",
    "CA_FILE",
    "ENDPOINT_APNS_PRODUCTION",
    "RETRY_FIRST_S",
    "LOG_LEVEL",
)
LAUNCHER = """#!/bin/sh
# the checkout that `current` names runs the worker; a process that ends is started again from it
checkout=$(cat {folder}/current)
for name in $(env | sed -n 's/^\\(PUSHFLEET_[A-Z_]*\\)=.*/\\1/p'); do
  case " {known} " in *" $name "*) ;; *) unset "$name" ;; esac
done
cd "$checkout" && exec "$checkout/.venv/bin/python" -m workers "$@"
"""


class Upgrade(Town):
    """One fleet whose processes are of one version or the other."""

    def at_home(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.base = base

    def command(self, *words: str, checkout: Path | None = None) -> None:
        place = checkout or self.base
        environ = {**clean_environ(), **common_environ(self.runtime.settings)}
        argv = [str(place / ".venv/bin/python"), "-m", "workers", *words]
        subprocess.run(argv, cwd=place, env=environ, check=True, stdout=subprocess.DEVNULL)

    def people_of(self, lane: str, count: int) -> list[str]:
        """`count` people with an iPhone each on this lane."""
        statement = text(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, '
            "token, registered_ms, state, reason, state_ms)"
            " SELECT :app, :lane || n, 'phone', 'ios', 'apns', :lane, 'a1' || md5(:lane) || "
            "lpad(to_hex(n), 30, '0'), 1, 'active', '', 1"
            " FROM generate_series(0, CAST(:last AS int)) AS n"
        )
        with self.runtime.engine.begin() as connection:
            connection.execute(statement, {"app": APP, "lane": lane, "last": count - 1})
        return [f"{lane}{number}" for number in range(count)]

    def publish_all(self, people: list[str], count: int) -> None:
        """`count` messages to these people in turn, now and then one to a group of them."""
        pipe = self.runtime.core.pipeline(transaction=False)
        for number in range(count):
            identity, group = uuid.uuid4().hex, number % GROUP_EVERY == 0
            away = [people[(number + at) % len(people)] for at in range(GROUP_AWAY if group else 1)]
            bare = [f"bare{at}" for at in range(2 * GROUP_AWAY)] if group else []
            data: dict[str, Any] = {
                "message_id": f"m{self.books.messages}",
                "sender": {"id": "s"},
                "recipients": away + bare,
                "conversation": {"type": "group", "id": "g"}
                if group
                else {"type": "c2c", "id": "s"},
                "elements": [{"type": "text", "text": f"number {number}"}],
            }
            event = core_event(APP, "message.stored", data, event_id=identity)
            pipe.xadd("im:events", {"e": json.dumps(event)})
            self.books.expected |= {(identity, user, "phone") for user in away}
            self.books.expected |= {(identity, user, "") for user in bare}
            self.books.messages += 1
            if number % 500 == 499:
                pipe.execute()
        pipe.execute()

    def record(self) -> list[dict[str, Any]]:
        """All: nobody but `people_of` has a device here."""
        return self._taken.lines()

    def stand_still(self, name: str) -> None:
        """This line's processes stop where they are, with what they hold; what comes to them stays
        in its stream.
        """
        for worker in self.workers:
            if worker.name.rpartition(".")[0] == name and worker.process:
                worker.process.send_signal(signal.SIGSTOP)

    def replace(self, people: list[str], each: int, say: Callable[[str], None]) -> dict[str, float]:
        """This version in place of the other, one process after the other; seconds until each said
        that it lives. `each` messages come after each: what a new stage writes, old ones read.
        """
        (self.folder / "current").write_text(str(HERE))
        took = {}
        for name in ORDER:
            for worker in [
                worker for worker in self.workers if worker.name.rpartition(".")[0] == name
            ]:
                took[worker.name] = self._replaced(worker)
                self.publish_all(people, each)
                say(
                    f"{worker.name} replaced after {took[worker.name]} s; {self.sent()} "
                    "pushes were sent until now"
                )
        return took

    def _replaced(self, worker: Worker) -> float:
        process = worker.process
        assert process
        self.runtime.redis.delete(self.runtime.keys.alive(worker.name))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        wait_for(
            lambda: worker.process is not process and self.says_it_lives(worker.name),
            f"{worker.name} lives",
            90,
        )
        self.kills[worker.name] += 1
        return round(time.monotonic() - began, 1)


def common_environ(settings: Settings) -> dict[str, str]:
    known = {f"PUSHFLEET_{name}" for name in COMMON}
    return {name: value for name, value in environ_of(settings).items() if name in known}


def _procfile(folder: Path, base: Path) -> Path:
    launcher = folder / "launch"
    known = " ".join(f"PUSHFLEET_{name}" for name in (*COMMON, "PROCESS"))
    launcher.write_text(LAUNCHER.format(folder=folder, known=known))
    launcher.chmod(0o755)
    (folder / "current").write_text(str(base))
    words = {name: f"worker {name}" for name in ORDER} | {
        "delivery-apns": "worker delivery --vendors apns"
    }
    path = folder / "Procfile"
    path.write_text("".join(f"{name}: {launcher} {words[name]}\n" for name in ORDER))
    return path


def _migrated_by(base: Path) -> Callable[[Settings], None]:
    def migrate(settings: Settings) -> None:
        environ = {**clean_environ(), **common_environ(settings)}
        argv = [str(base / ".venv/bin/python"), "-m", "workers", "migrate"]
        subprocess.run(argv, cwd=base, env=environ, check=True, stdout=subprocess.DEVNULL)

    return migrate


def run(
    base: Path,
    messages: int,
    parked: int,
    seed: int,
    replicas: Mapping[str, int],
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The campaign; the report of `accounts` with how long each process took."""
    with open_folder() as folder:
        keys_path = str(keys_file(folder))
        named = {"PUSHFLEET_SECRET_KEYS_FILE": keys_path, "PUSHFLEET_LOG_LEVEL": "warning"}
        data_dir = str(folder / "var")
        wanted = Settings.load(
            {"PUSHFLEET_DATA_DIR": data_dir, "PUSHFLEET_RETRY_FIRST_S": "0.3", **ELSEWHERE, **named}
        )
        path = _procfile(folder, base)
        with in_background(
            wanted, replicas, True, migrate=_migrated_by(base), procfile_path=path
        ) as fleet:
            runtime = Runtime(resolve(wanted))
            place = Upgrade(fleet, runtime, 10**9, seed)
            place.at_home(folder, base)
            try:
                return _upgraded(place, messages, parked, seed, print)
            finally:
                runtime.close()


def _upgraded(
    place: Upgrade, messages: int, parked: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    place.settle_in(0)
    place.command("credential", "pause", APP, "apns", "few")
    held = place.people_of("few", min(parked, 1_000))
    many = place.people_of("ios", min(messages, 5_000))
    time.sleep(2.0)
    place.publish_all(held, parked)
    wait_for(lambda: not place.runtime.core.xlen("im:events"), "the parked ones were read", 120)
    time.sleep(5.0)
    say(f"{parked} pushes wait behind a paused lane")
    place.publish_all(many, messages)
    wait_for(lambda: place.sent() > messages // 20, "the first were sent", 120)
    # so that entries of the version before lie in each stream
    for name in ("delivery-apns", "routing", "presence"):
        place.stand_still(name)
        time.sleep(0.7)
    redis = place.runtime.redis
    streams = {name: redis.xlen(name) for name in redis.scan_iter(match="push*", _type="stream")}
    say(f"{place.sent()} of {messages} were sent, {streams} entries wait: the upgrade begins")
    migrate_settings(place.runtime.settings)
    under_way = place.sent()
    took = place.replace(many, messages // 20, say)
    place.command("credential", "resume", APP, "apns", "few", checkout=HERE)
    settled = place.settled(300.0, lambda: None)
    return {
        "seed": seed,
        "messages": place.books.messages,
        "sent_before": under_way,
        "kills": dict(place.kills),
        "recovery_s": took,
        "settled": settled,
        **accounts(place),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--parked", type=int, default=5_000)
    given = parser.parse_args()
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    report = run(given.base.resolve(), given.messages, given.parked, seed, {"delivery-apns": 2})
    write("upgrade.json", report)
    show(report)
    well = good(report)
    words = "nothing was lost" if well else "NOT everything is accounted for"
    print(words, "- the report is in var/reports/upgrade.json")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
