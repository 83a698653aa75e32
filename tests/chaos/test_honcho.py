"""`honcho start` runs the Procfile in a terminal: messages pass, replicas share the work, Ctrl-C
stops everything clean.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import Settings
from tests.chaos.fleet import Town, accounts, keys_file, wait_for
from tests.commands import clean_environ
from tests.conftest import open_folder
from tests.tables import spaced
from workers.cli.fleet import migrate_settings
from workers.embedded import start_embedded
from workers.processes import end, spawn
from workers.runtime import Runtime

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
#: Lines of the Procfile that a message to an iPhone needs; all of them together would load a small
#: machine for a minute.
LINES = ["intake", "presence", "routing", "delivery-apns", "upkeep"]
NAMES = spaced("intake.1 presence.1 presence.2 routing.1 routing.2 delivery-apns.1 upkeep.1")
MESSAGES = 100


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Servers and a simulator that honcho knows nothing of, as environment variables would name
    them.
    """
    with open_folder() as folder:
        wanted = Settings.load({"PUSHFLEET_DATA_DIR": str(folder / "var")})
        servers = start_embedded(wanted, valkey=True, postgres=True)
        simulators = folder / "var" / "simulators"
        with (folder / "simulators.log").open("wb") as log:
            argv = [sys.executable, "-m", "simulators", "apns", "--dir", str(simulators)]
            simulator = spawn(argv, output=log, cwd=ROOT)
        try:
            wait_for((simulators / "apns.json").exists, "the simulator runs")
            told = json.loads((simulators / "apns.json").read_bytes())
            environ = {
                "PUSHFLEET_DATA_DIR": str(folder / "var"),
                "PUSHFLEET_REDIS_URL": servers.redis_url or "",
                "PUSHFLEET_DATABASE_URL": servers.database_url or "",
                "PUSHFLEET_SECRET_KEYS_FILE": str(keys_file(folder)),
                "PUSHFLEET_CA_FILE": told["ca_file"],
                **{f"PUSHFLEET_ENDPOINT_{name}": url for name, url in told["endpoints"].items()},
            }
            yield Settings.load(environ)
        finally:
            end(simulator, (signal.SIGTERM, 5.0))
            servers.stop()


def environ(settings: Settings) -> dict[str, str]:
    from common.config import environ_of

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **clean_environ(),
        **environ_of(settings),
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def test_honcho_runs_the_procfile_with_replicas_passes_a_hundred_messages_and_stops_clean(
    settings: Settings, tmp_path: Path
) -> None:
    migrate_settings(settings)
    runtime = Runtime(settings)
    place = Town(None, runtime, quota=1000, seed=1)
    program = str(Path(sys.executable).parent / "honcho")
    argv = [program, "start", "-c", "presence=2,routing=2", *LINES]
    with (tmp_path / "honcho.log").open("wb") as log:
        honcho = subprocess.Popen(
            argv, cwd=ROOT, env=environ(settings), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        claim = "every process lives, under a name of its own"
        wait_for(lambda: all(map(place.says_it_lives, NAMES)), claim)
        place.settle_in(20)
        for number in range(MESSAGES):
            place.publish(to=f"u{1 + number % 9}")
        assert place.settled(120.0, lambda: None)
        told = accounts(place)
        assert (told["decisions"], told["lost"], told["doubled"]) == ({"accepted": MESSAGES}, 0, 0)
        honcho.send_signal(signal.SIGINT)
        honcho.wait(60)
    finally:
        end(honcho, (signal.SIGTERM, 15.0))
        runtime.close()
    said = (tmp_path / "honcho.log").read_text()
    codes = {
        match[1]: int(match[2]) for match in re.finditer(r"(\S+) stopped \(rc=(-?\d+)\)", said)
    }
    # the shell that honcho puts around each line gets the signal, too, and may end by it
    assert codes.keys() == set(NAMES), said[-3000:]
    assert set(codes.values()) <= {0, -signal.SIGTERM}, said[-3000:]
    assert "SIGKILL" not in said, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
