"""The two APNs clients that Node people use, installed from npm outside the repository, against the APNs simulator.

Without npm, its registry or a Node that they run on, these tests are reported as expected failures, never as passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests import simulator_keys as keys

pytestmark = pytest.mark.npm

HERE = Path(__file__).parent / "npm"
#: npm's words for a registry that can't be had; any other failure of the installation is a failure of the test.
NO_REGISTRY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "E403", "E407", "E502", "E503", "ENETUNREACH")
TOPIC = "com.example.chat"


def absent(why: str) -> None:
    pytest.xfail(f"npm absent ({why}): not counted as passed")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder outside the repository with send.mjs and its node_modules, as the lock file has them."""
    if not (shutil.which("npm") and shutil.which("node")):
        absent("no npm or no node here")
    major = int(subprocess.run(["node", "-p", "process.versions.node"], capture_output=True, text=True, check=True).stdout.split(".")[0])
    if major < 20:
        absent(f"node {major} is older than the clients take")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "send.mjs"):
        shutil.copy(HERE / name, folder)
    try:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    except subprocess.TimeoutExpired:
        absent("no answer from its registry")
    if done.returncode and any(word in done.stderr for word in NO_REGISTRY):
        absent("its registry can't be reached")
    assert done.returncode == 0, done.stderr
    return folder


def send(installed, apns, client: str, tokens) -> dict:
    """Token -> what the client made of its answer."""
    wanted = {
        "client": client,
        "port": apns.port("APNS_PRODUCTION"),
        "key": keys.pem_of(keys.ec_key()),
        "keyId": f"{client[:4].upper().replace('-', '')}123456",
        "team": "TEAM123456",
        "topic": TOPIC,
        "tokens": list(tokens),
    }
    done = subprocess.run(
        ["node", "send.mjs"],
        cwd=installed,
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": apns.ca_file},
    )
    assert done.returncode == 0, done.stderr
    return {one.pop("token"): one for one in json.loads(done.stdout.splitlines()[-1])}


def token(prefix: str = "") -> str:
    return prefix + (uuid.uuid4().hex + uuid.uuid4().hex)[len(prefix) :]


@pytest.mark.parametrize("client", ["node-apn", "apns2"])
def test_it_understands_200_400_410_and_429(installed, apns, client):
    tokens = {prefix: token(prefix) for prefix in ("", "badd", "dead", "b05e")}
    before = int(time.time() * 1000)
    results = send(installed, apns, client, tokens.values())
    seen = {prefix: (results[one]["status"], results[one].get("reason")) for prefix, one in tokens.items()}
    assert seen == {"": (200, None), "badd": (400, "BadDeviceToken"), "dead": (410, "Unregistered"), "b05e": (429, "TooManyRequests")}
    assert before <= (results[tokens["dead"]]["timestamp"] or 0) <= int(time.time() * 1000)
    assert [line["topic"] for line in apns.lines(token=tokens[""])] == [TOPIC]


@pytest.mark.parametrize("client", ["node-apn", "apns2"])
def test_two_hundred_at_once_are_accepted_once_each(installed, apns, client):
    tokens = {token() for _ in range(200)}
    results = send(installed, apns, client, tokens)
    assert {one["status"] for one in results.values()} == {200}
    lines = [line["token"] for line in apns.tell("record") if line["token"] in tokens]
    assert (len(lines), set(lines)) == (200, tokens)
