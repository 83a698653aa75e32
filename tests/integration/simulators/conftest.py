"""One process of each HTTP/2 simulator for all tests; every test starts with honest vendors and
with counts of its own.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from simulators.simulator import Faults
from tests.builders import present

ROOT = Path(__file__).parents[3]


@dataclass
class Vendor:
    """A running simulator, driven through the door that stays open while the vendor is down."""

    endpoints: dict
    ca_file: str
    record: str
    control: str

    def tell(self, action: str, wanted=None):
        data = None if wanted is None else json.dumps(wanted).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.control}/_sim/{action}", data), timeout=60
        ) as answer:
            body = answer.read()
        return (
            [json.loads(line) for line in body.splitlines()]
            if action == "record"
            else json.loads(body)
        )

    def port(self, endpoint: str) -> int:
        return int(self.endpoints[endpoint].rpartition(":")[2])

    def lines(self, **wanted) -> list:
        lines = self.tell("record")
        return [
            line for line in lines if all(line[name] == value for name, value in wanted.items())
        ]


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulators")
    command = [sys.executable, "-m", "simulators", "apns", "fcm", "--dir", str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        told = [json.loads(present(process.stdout).readline()) for _ in range(2)]
        yield {
            one["vendor"]: Vendor(one["endpoints"], one["ca_file"], one["record"], one["control"])
            for one in told
        }
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # asked to end they wait for their callers
        process.wait()


@pytest.fixture
def apns(running):
    yield running["apns"]
    running["apns"].tell("faults", asdict(Faults()))
    running["apns"].tell("options", {"first_stream_alone": False, "wedge_on_expired": False})


@pytest.fixture
def fcm(running):
    yield running["fcm"]
    running["fcm"].tell("faults", asdict(Faults()))
    running["fcm"].tell(
        "options", {"retry_after_s": 60, "project_per_minute": 600_000, "device_per_minute": 240}
    )
