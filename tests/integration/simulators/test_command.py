"""`python -m simulators`: one process a vendor, ready when it says so, gone when it is told to or
its parent dies.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulators.registry import SIMULATORS
from simulators.registry import present as present_simulators
from tests.builders import present
from tests.processes import gone

ROOT = Path(__file__).parents[3]


@contextmanager
def started(*arguments: str, lines: int):
    """(process, its ready lines by vendor)"""
    argv = [sys.executable, "-m", "simulators", *arguments]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        told = {
            one["vendor"]: one
            for one in (json.loads(present(process.stdout).readline()) for _ in range(lines))
        }
        yield (process, told)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)
        present(process.stdout).close()


def free_run(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(23000, 29000, 7):
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.socket())
                held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return first
    raise AssertionError("no ports in a row")


def test_two_vendors_are_two_processes_on_consecutive_ports_with_one_ca(tmp_path):
    first = free_run(3)
    running = started("apns", "fcm", "--port", str(first), "--dir", str(tmp_path), lines=2)
    with running as (parent, told):
        assert len({parent.pid, told["apns"]["pid"], told["fcm"]["pid"]}) == 3
        urls = {**told["apns"]["endpoints"], **told["fcm"]["endpoints"]}
        at = [f"https://127.0.0.1:{first + offset}" for offset in range(3)]
        assert urls == {
            "APNS_PRODUCTION": at[0],
            "APNS_SANDBOX": at[1],
            "FCM": at[2],
            "GOOGLE_OAUTH": at[2],
        }
        assert told["apns"]["ca_file"] == told["fcm"]["ca_file"] == str(tmp_path / "ca" / "ca.pem")
        for vendor, one in told.items():
            assert json.loads((tmp_path / f"{vendor}.json").read_text()) == one
            assert Path(one["record"]) == tmp_path / f"{vendor}.jsonl"
            with urllib.request.urlopen(f"{one['control']}/_sim/stats", timeout=60) as answer:
                assert json.loads(answer.read())["vendor"] == vendor
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(timeout=60) == 0
        assert all(gone(one["pid"]) for one in told.values())
        assert not list(tmp_path.glob("*.json"))
        assert (tmp_path / "apns.jsonl").exists()


def test_children_do_not_outlive_a_killed_parent(tmp_path):
    with started("apns", "fcm", "--dir", str(tmp_path), lines=2) as (parent, told):
        parent.kill()
        assert [gone(one["pid"]) for one in told.values()] == [True, True]


def test_a_dead_child_stops_the_rest(tmp_path):
    with started("apns", "fcm", "--dir", str(tmp_path), lines=2) as (parent, told):
        os.kill(told["apns"]["pid"], signal.SIGKILL)
        assert parent.wait(timeout=60) == 1
        assert gone(told["fcm"]["pid"])


def test_the_record_of_an_earlier_run_stays(tmp_path):
    (tmp_path / "fcm.jsonl").write_text('{"earlier":true}\n')
    with started("fcm", "--dir", str(tmp_path), lines=1) as (parent, _):
        parent.send_signal(signal.SIGINT)
        assert parent.wait(timeout=60) == 0
    assert (tmp_path / "fcm.jsonl").read_text() == '{"earlier":true}\n'


def test_harmony_is_a_vendor_of_its_own_to_who_asks_for_it(tmp_path):
    with started("harmony", "--dir", str(tmp_path), lines=1) as (_, told):
        assert {"HARMONY", "HUAWEI", "HUAWEI_OAUTH"} == set(told["harmony"]["endpoints"])
        assert told["harmony"]["record"] == str(tmp_path / "harmony.jsonl")
        assert json.loads((tmp_path / "harmony.json").read_text()) == told["harmony"]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "simulators", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


WRONG = {
    "an unknown vendor": (["nokia"], "no simulator: nokia"),
    "no port": (["fcm", "--port", "-1"], "--port"),
    "ports past the last": (["apns", "fcm", "--port", "65535"], "--port"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_exit_code_2_and_says_why(tmp_path, arguments, words):
    done = run(*arguments, "--dir", str(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr


def test_a_taken_port_is_exit_code_2_and_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("fcm", "--port", str(taken.getsockname()[1]), "--dir", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "in use" in done.stderr


def test_every_vendor_that_is_there_can_be_made(tmp_path):
    from simulators.simulator import Record

    for vendor in present_simulators():
        simulator = SIMULATORS[vendor].make(Record(tmp_path / f"{vendor}.jsonl"))
        assert (simulator.vendor, bool(simulator.endpoints)) == (vendor, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pushfleet_simulate_ends_in_order_and_leaves_nothing(tmp_path, number):
    argv = [sys.executable, "-m", "workers", "simulate", "meizu", "--dir", str(tmp_path)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    told = json.loads(present(process.stdout).readline())
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    assert gone(told["pid"])
    present(process.stdout).close()
