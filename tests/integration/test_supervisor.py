"""The supervisor starts again what dies, slower when it dies at once, and leaves nothing behind."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.builders import present
from tests.processes import gone
from tests.waiting import eventually
from workers.supervisor import RESTART_S_MAX, Line, Supervisor, read_procfile

STAYS = (
    "import os, time; print('pid', os.getpid(), os.environ.get('WORD'), flush=True); time.sleep(60)"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', "
    "flush=True); time.sleep(60)"
)
PARENT = (
    "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); "
    "time.sleep(60)"
)


def line(code: str, name: str = "one", **more) -> Line:
    return Line(name, (sys.executable, "-c", code), **more)


@pytest.fixture
def supervise():
    started = []

    def go(*lines: Line, **options) -> Supervisor:
        started.append(Supervisor(lines, stream=io.StringIO(), **options))
        started[-1].start()
        return started[-1]

    yield go
    for supervisor in started:
        supervisor.stop(0.5)


def written(supervisor: Any) -> str:
    return str(supervisor.stream.getvalue())


def until(supervisor: Supervisor, said, seconds: float = 60) -> str:
    eventually(lambda: said(written(supervisor)), seconds, lambda: supervisor.tick(0.05))
    return written(supervisor)


def test_each_replica_runs_and_its_lines_carry_its_name(supervise):
    supervisor = supervise(line(STAYS, replicas=2, env={"WORD": "hi"}))
    text = until(supervisor, lambda said: said.count("hi") == 2)
    assert {one.split("|")[0].strip() for one in text.splitlines()} == {"one.1", "one.2"}


def test_what_is_killed_is_back_within_a_second(supervise):
    supervisor = supervise(line(STAYS))
    until(supervisor, lambda said: "pid" in said)
    first = supervisor.workers[0].process.pid
    os.kill(first, signal.SIGKILL)
    before = time.monotonic()
    while supervisor.workers[0].process is None or supervisor.workers[0].process.pid == first:
        supervisor.tick(0.02)
    assert supervisor.workers[0].delay_s < 1
    assert time.monotonic() - before < 30
    until(supervisor, lambda said: said.count("pid") == 2)
    assert supervisor.workers[0].restarts == 1


def test_a_crash_loop_slows_down_up_to_a_bound(supervise):
    supervisor = supervise(line("print('no', flush=True)"))
    until(supervisor, lambda said: said.count("no") == 3)
    worker = supervisor.workers[0]
    assert worker.delay_s > 0.2
    for _ in range(20):
        supervisor._postpone(worker, "test")
    assert worker.delay_s == RESTART_S_MAX


def test_a_program_that_does_not_exist_does_not_end_the_others(supervise):
    supervisor = supervise(Line("none", ("/nowhere/at/all",)), line(STAYS))
    until(supervisor, lambda said: "pid" in said)
    assert supervisor.alive() == {"none.1": False, "one.1": True}


def test_stop_ends_the_deaf_and_their_children(supervise):
    supervisor = supervise(line(STUBBORN), line(PARENT, "two"))
    text = until(supervisor, lambda said: "deaf" in said and "two.1" in said)
    child = next(int(one.split("|")[1]) for one in text.splitlines() if one.startswith("two.1"))
    pids = [worker.process.pid for worker in supervisor.workers]
    before = time.monotonic()
    supervisor.stop(1.0)
    assert time.monotonic() - before < 30
    assert all(gone(pid) for pid in [*pids, child])


def test_nothing_outlives_a_killed_supervisor(tmp_path):
    code = f"""
import sys
from workers.supervisor import Line, Supervisor
supervisor = Supervisor([Line("one", (sys.executable, "-c", {STAYS!r}))])
supervisor.start()
supervisor.run(until={{"stop": False}})
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(present(process.stdout).readline().split()[3])
    process.kill()
    process.communicate()
    assert gone(pid)


def test_output_goes_to_a_file_each(supervise, tmp_path):
    command = line(
        "print('a'); import sys; sys.stdout.write('unended'); sys.stdout.flush(); import "
        "time; time.sleep(60)"
    )
    supervisor = supervise(command, log_dir=tmp_path)
    for _ in range(200):
        supervisor.tick(0.05)
        if (tmp_path / "one.1.log").exists():
            break
    supervisor.tick(0.2)
    supervisor.stop(1)
    assert (tmp_path / "one.1.log").read_text() == "a\nunended\n"


PROCFILE = """# comment

intake: A=1 B=${NOT_SET:-9100} C=$SET pushfleet worker intake
delivery-apns: pushfleet worker delivery --vendors 'apns'
"""


def test_a_procfile_is_read(tmp_path):
    (tmp_path / "Procfile").write_text(PROCFILE)
    one, two = read_procfile(tmp_path / "Procfile", {"SET": "x"})
    found = (one.name, one.argv, one.env)
    assert found == ("intake", ("pushfleet", "worker", "intake"), {"A": "1", "B": "9100", "C": "x"})
    assert two.argv == ("pushfleet", "worker", "delivery", "--vendors", "apns")


@pytest.mark.parametrize("text", ["no command", "a: b\na: c", "a b: c", "a:"])
def test_a_line_that_is_none_is_named(tmp_path, text):
    (tmp_path / "Procfile").write_text(text)
    with pytest.raises(ValueError, match="Procfile, line"):
        read_procfile(tmp_path / "Procfile")


def test_our_own_procfile_has_every_process_with_a_metrics_port():
    lines = read_procfile(Path(__file__).parents[2] / "Procfile", {})
    vendors = "apns fcm huawei harmony honor xiaomi oppo vivo meizu".split()  # noqa: SIM905
    assert [one.name for one in lines] == [
        *("intake", "presence", "routing"),
        *(f"delivery-{vendor}" for vendor in vendors),
        *("upkeep", "receipts", "gateway", "gateway-xmpp", "console"),
    ]
    assert all(
        one.argv[:2] == ("pushfleet", "worker") and int(one.env["PUSHFLEET_METRICS_PORT"]) > 0
        for one in lines
    )
