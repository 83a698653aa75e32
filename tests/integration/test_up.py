"""`up`: servers, simulators and lines as one, ready, started again when they die,
gone at Ctrl-C.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from common import runfile
from common.config import SettingError
from common.running_fleet import resolve
from common.storage.redis import connect
from tests.builders import present
from tests.conftest import data_settings, open_folder
from tests.processes import gone
from tests.tables import spaced
from tests.waiting import eventually
from workers.cli import up as module
from workers.cli.up import in_background, read_replicas, simulator_lines, up, with_replicas
from workers.embedded import EmbeddedError
from workers.supervisor import Line

#: A line of the Procfile that says it is alive, as every worker does, and where its vendors are.
PROCESS = """
import os, time, json
from common.config import Settings
from common.storage.redis import connect
settings = Settings.load()
client = connect(settings.redis_url)
name = os.environ["PUSHFLEET_PROCESS"]
client.set(f"{settings.prefix}:alive:{name}", json.dumps([os.getpid(), dict(settings.endpoints), str(settings.ca_file)]))
print("alive", name, flush=True)
time.sleep(60)
"""  # noqa: E501
RUN = """
import sys
from pathlib import Path
from common.config import SettingError
from tests.conftest import data_settings
from workers.cli import up as module
module.procfile = lambda: Path(sys.argv[2])
try:
    sys.exit(module.up(data_settings(Path(sys.argv[1])), {}, False, migrate=lambda settings: None))
except SettingError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One for all: to make PostgreSQL's cluster takes longer than to start it."""
    with open_folder() as folder:
        yield folder / "var"


@pytest.fixture
def procfile(tmp_path, monkeypatch):
    (tmp_path / "process.py").write_text(PROCESS)
    path = tmp_path / "Procfile"
    path.write_text(
        f"intake: {sys.executable} {tmp_path / 'process.py'}\npresence: {sys.executable} "
        f"{tmp_path / 'process.py'}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(module, "procfile", lambda: path)
    return path


def told_by(data_dir: Path, vendor: str) -> int | None:
    """The pid that a simulator has told, once it is ready."""
    try:
        return json.loads((data_dir / "simulators" / f"{vendor}.json").read_text())["pid"]
    except (OSError, ValueError):
        return None


def test_one_fleet_with_simulators_and_everything_comes_back(procfile, data_dir):
    migrated: list[Any] = []
    wanted = data_settings(data_dir, ENDPOINT_VIVO="https://127.0.0.1:1")
    with in_background(wanted, {"presence": 2}, True, migrate=migrated.append) as fleet:
        assert fleet.names == ["intake.1", "presence.1", "presence.2"]
        assert migrated[0].database_url.startswith("postgresql+psycopg://")
        run = runfile.read(data_dir)
        assert set(run) == set(
            spaced("redis_url database_url console metrics receipts simulators ca_file pid")
        )
        assert (data_dir / "run.json").stat().st_mode & 0o777 == 0o600
        assert "vivo" not in run["simulators"]
        assert run["simulators"]["fcm"].startswith("https://127.0.0.1:")
        found = resolve(wanted)
        assert found.redis_url == run["redis_url"]
        assert found.endpoints == fleet.settings.endpoints
        assert found.endpoints["VIVO"] == "https://127.0.0.1:1"
        client = connect(run["redis_url"])
        first: Any = client.get("push:alive:intake.1")
        assert str(found.ca_file).encode() in first
        servers = {
            server.name: present(server.process).pid for server in present(fleet._servers).servers
        }
        simulator = present(present(fleet._simulators).workers[0].process).pid
        for pid in (*servers.values(), simulator):
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: present(present(fleet._servers).servers[1].process).pid != servers["valkey"]
        )
        eventually(lambda: connect(run["redis_url"]).ping())
        eventually(lambda: told_by(data_dir, "apns") not in (None, simulator))
        assert resolve(wanted).endpoints == found.endpoints
    assert runfile.read(data_dir) == {}


def test_ctrl_c_ends_it_with_exit_code_0_and_nothing_is_left(procfile, data_dir):
    argv = [sys.executable, "-c", RUN, str(data_dir), str(procfile)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    said = []
    for line in present(process.stdout):
        said.append(line.strip())
        if said[-1] == "ready":
            break
    assert any(line.startswith("console") and "http://127.0.0.1:" in line for line in said)
    client = connect(runfile.read(data_dir)["redis_url"])
    pids = [
        int(cast(bytes, client.get(f"push:alive:{name}.1")).split(b",")[0][1:])
        for name in ("intake", "presence")
    ]
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert time.monotonic() - before < 30
    assert all(gone(pid) for pid in pids)
    assert not (data_dir / "run.json").exists()
    present(process.stdout).close()


def test_a_second_up_in_the_same_folder_is_refused(procfile, data_dir, capsys):
    with in_background(data_settings(data_dir), {}, False, migrate=lambda settings: None):
        argv = [sys.executable, "-c", RUN, str(data_dir), str(procfile)]
        ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=90)
        assert ended.returncode == 2, "wrong use: 3 is for a server that can't be reached"
        assert f"(process {os.getpid()})" in ended.stderr
        assert runfile.alive(runfile.read(data_dir))


def test_what_an_earlier_fleet_said_makes_nobody_ready(procfile, data_dir):
    (procfile.parent / "process.py").write_text("import time; time.sleep(60)")

    def migrate(settings):  # an `up` that was killed a moment ago has left this in Redis
        for name in ("intake.1", "presence.1"):
            connect(settings.redis_url).set(f"push:alive:{name}", "intake", ex=15)

    fleet = module.LocalFleet(data_settings(data_dir), {}, False, migrate, module.alive_in_redis)
    try:
        fleet.start()
        assert not fleet.wait_ready(seconds=0.5)
    finally:
        fleet.stop()


@pytest.mark.parametrize("folder", ["a file/inside", "/proc/nowhere"])
def test_a_folder_that_can_not_be_made_is_one_line_and_nothing_starts(
    procfile, tmp_path, folder, capsys
):
    (tmp_path / "a file").write_text("")
    with pytest.raises(SettingError, match="PUSHFLEET_DATA_DIR takes"):
        up(data_settings(tmp_path / folder), {}, False, migrate=lambda settings: None)
    assert capsys.readouterr() == ("", "")


def test_what_can_not_migrate_leaves_nothing_running(procfile, data_dir):
    def broken(settings):
        raise RuntimeError("no such table")

    with (
        pytest.raises(RuntimeError, match="no such table"),
        in_background(data_settings(data_dir), {}, False, migrate=broken),
    ):
        pass
    assert not (data_dir / "run.json").exists()


def test_a_fleet_that_never_says_it_is_ready_is_exit_code_1(
    procfile, data_dir, monkeypatch, capsys
):
    monkeypatch.setattr(module, "READY_S_MAX", 0.5)
    monkeypatch.setattr(module.LocalFleet.wait_ready, "__defaults__", (lambda: False, 0.5))
    wanted = data_settings(data_dir)
    code = up(wanted, {}, False, migrate=lambda settings: None, ready=lambda settings, names: False)
    assert code == 1
    assert "not ready" in capsys.readouterr().err


def test_a_chosen_address_that_is_taken_is_a_setting_error(procfile, data_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = data_settings(data_dir, CONSOLE_ADDR=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(SettingError, match="PUSHFLEET_CONSOLE_ADDR"):
            up(wanted, {}, False, migrate=lambda settings: None)


def test_a_default_address_that_is_taken_gives_way(data_dir, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setitem(module.DEFAULT_ADDRS, "console_addr", addr)
        found = module._free_addrs(
            data_settings(data_dir, CONSOLE_ADDR=addr, RECEIPTS_ADDR="127.0.0.1:0")
        ).console_addr
        assert found != addr
        assert found.startswith("127.0.0.1:")


def test_no_simulator_for_who_has_an_endpoint_and_huaweis_stays_for_harmony(data_dir):
    settings = data_settings(
        data_dir, ENDPOINT_HUAWEI="https://h:1", ENDPOINT_APNS_SANDBOX="https://h:2"
    )
    names = [line.name for line in simulator_lines(settings, data_dir)]
    assert "simulator-apns" not in names
    assert "simulator-huawei" in names
    both = data_settings(data_dir, ENDPOINT_HUAWEI="https://h:1", ENDPOINT_HARMONY="https://h:2")
    assert "simulator-huawei" not in [line.name for line in simulator_lines(both, data_dir)]


def test_replicas_are_read_and_names_checked():
    assert read_replicas("presence=2, routing=0,") == {"presence": 2, "routing": 0}
    for wrong in ("presence", "presence=x", "presence=-1", "a=65"):
        with pytest.raises(SettingError, match="--replicas takes"):
            read_replicas(wrong)
    with pytest.raises(SettingError, match="no line of the Procfile: nobody"):
        with_replicas([Line("intake", ("pushfleet", "worker", "intake"))], {"nobody": 1})
    (line,) = with_replicas([Line("intake", ("pushfleet", "worker", "intake"))], {"intake": 3})
    assert (line.argv, line.replicas) == ((sys.executable, "-m", "workers", "worker", "intake"), 3)


def test_there_is_an_end_to_looking_for_ports():
    with pytest.raises(EmbeddedError, match="free ports"):
        module.free_ports(70_000)
