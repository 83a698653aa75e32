"""Receipts and console as the processes that the Procfile starts: healthy, found by Prometheus,
gone at SIGTERM.
"""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from common.config import environ_of
from tests.integration.web.conftest import ROOT, call
from tests.integration.web.test_receipts import listens
from tests.waiting import eventually


@pytest.fixture
def start(fleet_settings, runtime, free_port):
    """Starts `pushfleet worker STAGE`; ends what is left."""
    started = []

    def begin(stage: str, **more: str) -> subprocess.Popen:
        environ = environ_of(fleet_settings)
        env = {**os.environ, **environ, "PUSHFLEET_METRICS_PORT": str(free_port()), **more}
        command = [sys.executable, "-m", "workers", "worker", stage]
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("stage", "setting"), [("receipts", "receipts_addr"), ("console", "console_addr")]
)
def test_it_starts_is_found_and_ends_when_told(start, fleet_settings, runtime, stage, setting):
    addr = getattr(fleet_settings, setting)
    process = start(stage)
    eventually(lambda: listens(addr))
    assert json.loads(call(f"http://{addr}/healthz").body) == {"name": stage, "ok": True}
    name = f"{stage}.1@{socket.gethostname()}"
    found = eventually(lambda: runtime.living.targets().get(name))
    assert runtime.living.roles() == {name: stage}
    assert b"pushfleet_receipts_total" in call(f"http://{found}/metrics").body
    if stage == "console":
        [target] = json.loads(call(f"http://{addr}/metrics/targets").body)
        assert target == {"targets": [found], "labels": {"process": name}}
        second = start(stage)
        assert second.wait(60) == 2, "its address is taken"
        assert "PUSHFLEET_CONSOLE_ADDR" in second.stderr.read()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert runtime.living.roles() == runtime.living.targets() == {}
    log = process.stderr.read()
    assert f"http://{addr}" in log, "it says where it listens"
