"""The clients that Node people use (two of APNs, Google's own of FCM), installed from npm outside
the repository, against the simulators.

Without npm, its registry or a Node that they run on, these tests are reported as expected failures,
never as passed.
"""

import json
import os
import subprocess
import time
import uuid

import pytest

from tests import simulator_keys as keys
from tests.integration.simulators.running import Running
from tests.npm import install

pytestmark = pytest.mark.npm

TOPIC = "com.example.chat"


def absent(why: str) -> None:
    pytest.xfail(f"npm absent ({why}): not counted as passed")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder outside the repository with the scripts and their node_modules, as the lock file has
    them.
    """
    folder = tmp_path_factory.mktemp("npm")
    why = install(folder)
    if why is not None:
        absent(why)
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
    return {one.pop("token"): one for one in run(installed, "send.mjs", wanted, apns.ca_file)}


def run(installed, script: str, wanted: dict, ca_file: str):
    """What the script prints last."""
    done = subprocess.run(
        ["node", script],
        cwd=installed,
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": ca_file},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def token(prefix: str = "") -> str:
    """Of no prefix given: one that the simulator gives no meaning to."""
    prefix = prefix or "a0a0"
    return prefix + (uuid.uuid4().hex + uuid.uuid4().hex)[len(prefix) :]


@pytest.mark.parametrize("client", ["node-apn", "apns2"])
def test_it_understands_200_400_410_and_429(installed, apns, client):
    tokens = {prefix: token(prefix) for prefix in ("", "badd", "dead", "b05e")}
    before = int(time.time() * 1000)
    results = send(installed, apns, client, tokens.values())
    each = tokens.items()
    seen = {prefix: (results[one]["status"], results[one].get("reason")) for prefix, one in each}
    assert seen == {
        "": (200, None),
        "badd": (400, "BadDeviceToken"),
        "dead": (410, "Unregistered"),
        "b05e": (429, "TooManyRequests"),
    }
    assert before <= (results[tokens["dead"]]["timestamp"] or 0) <= int(time.time() * 1000)
    assert [line["topic"] for line in apns.lines(token=tokens[""])] == [TOPIC]


@pytest.mark.parametrize("client", ["node-apn", "apns2"])
def test_two_hundred_at_once_are_accepted_once_each(installed, apns, client):
    tokens = {token() for _ in range(200)}
    results = send(installed, apns, client, tokens)
    assert {one["status"] for one in results.values()} == {200}
    lines = [line["token"] for line in apns.tell("record") if line["token"] in tokens]
    assert (len(lines), set(lines)) == (200, tokens)


# ---------------------------------------------------------------- firebase-admin

#: Of a token of the simulator that is refused: what firebase-admin calls FCM's errorCode.
FCM_REFUSALS = {
    "dead": "messaging/registration-token-not-registered",  # UNREGISTERED
    "malformed": "messaging/invalid-argument",  # INVALID_ARGUMENT
    "busy": "messaging/message-rate-exceeded",  # QUOTA_EXCEEDED
    "foreign": "messaging/mismatched-credential",  # SENDER_ID_MISMATCH
}


@pytest.fixture(scope="module")
def account(running):
    """A service account whose key the simulator knows; its token_uri stays Google's."""
    key, email = (keys.rsa_key(), f"{uuid.uuid4().hex}@demo.iam.gserviceaccount.com")
    account = {"client_email": email, "public_key_pem": keys.public_pem(key), "project_id": "demo"}
    running["fcm"].tell("accounts", account)
    return {
        "type": "service_account",
        "project_id": "demo",
        "client_email": email,
        "private_key": keys.pem_of(key),
    }


def by_firebase(installed, fcm, account, tokens, transport="http2", retry429=False) -> dict:
    wanted = {
        "port": fcm.port("FCM"),
        "account": account,
        "transport": transport,
        "retry429": retry429,
        "tokens": list(tokens),
    }
    return run(installed, "send_fcm.mjs", wanted, fcm.ca_file)


@pytest.mark.parametrize("transport", ["http2", "http1"])
def test_firebase_admin_calls_each_refusal_by_its_name(installed, fcm, account, transport):
    tokens = {
        f"{mood}-{uuid.uuid4().hex}": code for mood, code in {"live": None, **FCM_REFUSALS}.items()
    }
    told = by_firebase(installed, fcm, account, tokens, transport)
    assert told["hosts"] == ["fcm.googleapis.com", "oauth2.googleapis.com"]
    assert {one["token"]: one.get("code") for one in told["results"]} == tokens
    (live,) = (line for line in fcm.tell("record") if line["token"] in tokens)
    assert live["name"] == told["results"][0]["id"]
    assert (live["id"], live["collapse_id"], live["project"]) == (live["token"], "m-1", "demo")
    assert live["body"]["android"]["ttl"] == "3600s"


@pytest.mark.parametrize("transport", ["http2", "http1"])
def test_firebase_admin_waits_as_long_as_a_spent_quota_says(installed, fcm, account, transport):
    token = f"live-{uuid.uuid4().hex}"
    fcm.tell("faults", {"over_quota": True, "only_first": 1, "retry_after_s": 2})
    told = by_firebase(installed, fcm, account, [token], transport, retry429=True)
    assert told["results"][0]["id"]
    assert 2.0 <= told["seconds"] < 20.0
    assert len(fcm.lines(token=token)) == 1


def test_firebase_admin_leaves_a_spent_quota_to_its_user_at_once(installed, fcm, account):
    fcm.tell("faults", {"over_quota": True, "retry_after_s": 60})
    before = fcm.tell("stats")["counts"].get("QUOTA_EXCEEDED", 0)
    told = by_firebase(installed, fcm, account, [f"live-{uuid.uuid4().hex}"])
    assert told["results"][0]["code"] == FCM_REFUSALS["busy"]
    assert fcm.tell("stats")["counts"]["QUOTA_EXCEEDED"] == before + 1


# ---------------------------------------------------------------- push-xiaomi

XIAOMI_LISTS = {
    "all good": (["A", "B"], 2, 0),
    "one refused": (["A", "dead-1", "B"], 2, 1),
    "more refused than good": (["dead-1", "dead-2", "A"], 1, 2),
    "none good": (["dead-1", "dead-2"], 0, 2),  # code 20301
}


@pytest.mark.parametrize(("tokens", "success", "fail"), XIAOMI_LISTS.values(), ids=XIAOMI_LISTS)
def test_push_xiaomi_counts_the_refused_regids_of_an_answer(
    installed, tmp_path, tokens, success, fail
):
    with Running("xiaomi", tmp_path, tls=False) as xiaomi:
        wanted = {
            "url": xiaomi.base,
            "secret": "s3cret",
            "package": "com.example.im",
            "list": tokens,
        }
        told = run(installed, "send_xiaomi.mjs", wanted, str(xiaomi.ca))
    assert (told["success"], told["fail"]) == (success, fail)
    assert len(told["ids"]) == (1 if success else 0)
