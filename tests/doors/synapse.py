"""Synapse from PyPI before the Matrix door: what a homeserver of today sends, and what it makes of
our answers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.doors.world import Doors
from tests.e2e.conftest import digits, wait_for
from tests.e2e.tenant import device_token
from workers.cli.up import free_ports
from workers.gateway.matrix import event_id_of

VERSION = "1.163.2"
CONFIG = """
server_name: localhost
pid_file: {folder}/synapse.pid
listeners:
  - {{port: {port}, type: http, tls: false, bind_addresses: ["127.0.0.1"], resources: [{{names: [client], compress: false}}]}}
database: {{name: sqlite3, args: {{database: {folder}/homeserver.db}}}}
log_config: {folder}/log.yaml
media_store_path: {folder}/media
signing_key_path: {folder}/signing.key
registration_shared_secret: x
macaroon_secret_key: x
form_secret: x
report_stats: false
suppress_key_server_warning: true
trusted_key_servers: []
enable_registration: true
enable_registration_without_verification: true
ip_range_whitelist: ["127.0.0.1"]
rc_message: {{per_second: 1000, burst_count: 1000}}
rc_registration: {{per_second: 1000, burst_count: 1000}}
rc_login: {{address: {{per_second: 1000, burst_count: 1000}}, account: {{per_second: 1000, burst_count: 1000}}}}
rc_joins: {{local: {{per_second: 1000, burst_count: 1000}}}}
rc_joins_per_room: {{per_second: 1000, burst_count: 1000}}
rc_invites: {{per_room: {{per_second: 1000, burst_count: 1000}}, per_user: {{per_second: 1000, burst_count: 1000}}}}
push: {{include_content: true, group_unread_count_by_room: false}}
"""  # noqa: E501
LOGS = """
version: 1
handlers: {{file: {{class: logging.FileHandler, filename: {folder}/synapse.log}}}}
root: {{level: INFO, handlers: [file]}}
"""


def environment(folder: Path) -> Path:
    """A virtual environment with this Synapse; its Python. PUSHFLEET_TEST_SYNAPSE names one that is
    there already.
    """
    given = os.environ.get("PUSHFLEET_TEST_SYNAPSE")
    if given:
        return Path(given) / "bin" / "python"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        argv = [str(python), "-m", "pip", "install", "--quiet", f"matrix-synapse=={VERSION}"]
        subprocess.run(argv, check=True, timeout=900)
    return python


class Synapse:
    """One homeserver and what its clients do."""

    def __init__(self, port: int) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def call(self, method: str, path: str, who: str = "", **body: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {who}"} if who else {}
        answer = self.http.request(method, f"/_matrix/client/v3{path}", json=body, headers=headers)
        assert answer.status_code == 200, (method, path, answer.text)
        return dict(answer.json())

    def register(self, name: str) -> str:
        auth = {"type": "m.login.dummy"}
        told = self.call("POST", "/register", username=name, password="pw-" + name, auth=auth)
        return str(told["access_token"])

    def pusher(self, who: str, pushkey: str, app_id: str, url: str, **data: Any) -> None:
        given = {
            "kind": "http",
            "app_display_name": "x",
            "device_display_name": "x",
            "lang": "en",
            "append": False,
        }
        data = {"url": f"{url}/_matrix/push/v1/notify", **data}
        self.call("POST", "/pushers/set", who, **given, pushkey=pushkey, app_id=app_id, data=data)

    def pushers(self, who: str) -> list[dict[str, Any]]:
        return list(self.call("GET", "/pushers", who)["pushers"])

    def say(
        self, who: str, room: str, words: str, kind: str = "m.room.message", /, **content: Any
    ) -> str:
        content = content or {"msgtype": "m.text", "body": words}
        sent = self.call("PUT", f"/rooms/{room}/send/{kind}/{uuid.uuid4().hex}", who, **content)
        return str(sent["event_id"])


@contextlib.contextmanager
def synapse(python: Path, folder: Path) -> Iterator[Synapse]:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_ports(1)
    (folder / "homeserver.yaml").write_text(CONFIG.format(folder=folder, port=port))
    (folder / "log.yaml").write_text(LOGS.format(folder=folder))
    command = [str(python), "-m", "synapse.app.homeserver", "-c", str(folder / "homeserver.yaml")]
    subprocess.run([*command, "--generate-keys"], check=True, capture_output=True, timeout=120)
    out = (folder / "out.log").open("ab")
    server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        made = Synapse(port)

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return made.http.get("/health").status_code == 200
            return False

        wait_for(answers, "Synapse answers", 120)
        yield made
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def scenario_synapse(world: Doors, python: Path) -> dict[str, Any]:
    """Each part asserts; the figures are for the report."""
    world.alias("apns-1", "apns", "org.example.ios")
    world.house.changed()
    with world.running(["gateway"]), synapse(python, world.folder / "synapse") as server:
        ann, bob = server.register("ann"), server.register("bob")
        invite = ["@bob:localhost"]
        room = server.call(
            "POST", "/createRoom", ann, preset="trusted_private_chat", invite=invite, is_direct=True
        )["room_id"]
        server.call("POST", f"/rooms/{room}/join", bob)
        return {
            **_message(world, server, ann, bob, room),
            "encrypted": _encrypted(world, server, ann, bob, room),
            "event_id_only": _event_id_only(world, server, ann, bob, room),
            "read": _read(world, server, ann, bob, room),
            "call": _call(world, server, ann, bob, room),
            "ring": _ring(world, server, ann, bob, room),
            "redis_away": _redis_away(world, server, ann, bob, room),
            "dead_token": _dead(world, server, ann, bob, room),
            "members": _members(world, server, ann),
        }


def _pushes(world: Doors, token: str, count: int, seconds: float = 90) -> list[dict[str, Any]]:
    found = wait_for(
        lambda: got if len(got := world.house.pushes(token)) >= count else None,
        f"{count} pushes",
        seconds,
    )
    return list(found)


def _row(world: Doors, token: str, event_id: str) -> dict[str, Any]:
    """This pusher's row: each of the reader's pushers gets an event of its own of one message."""
    house = world.house
    ours = event_id_of({"event_id": event_id}, "org.example.ios", token, 0)
    return house.one(house.core.why(event_id, house.app, event_id=ours))


def _message(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> dict[str, Any]:
    """A message, and one that names its reader."""
    token = device_token("apns")
    server.pusher(bob, token, "org.example.ios", world.url)
    event_id = server.say(ann, room, "hello bob")
    (push,) = _pushes(world, token, 1)
    assert push["body"]["aps"]["alert"]["body"].endswith("hello bob")
    badge = push["body"]["aps"]["badge"]
    assert badge >= 1, push["body"]
    assert _row(world, token, event_id)["decision"] == "accepted"
    user_ids = ["@bob:localhost"]
    mention = {"msgtype": "m.text", "body": "@bob look", "m.mentions": {"user_ids": user_ids}}
    server.say(ann, room, "", **mention)
    second = _pushes(world, token, 2)[1]["body"]["aps"]
    assert second["badge"] == badge + 1, second
    assert second["alert"]["body"].endswith("@bob look"), second
    return {"message": push["body"]["aps"], "mention": second}


def _encrypted(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    token = device_token("apns")
    default = {"aps": {"mutable-content": 1, "alert": {"loc-key": "Notification", "loc-args": []}}}
    server.pusher(bob, token, "org.example.ios", world.url, default_payload=default)
    cipher = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": "Y2lwaGVy",
        "sender_key": "k",
        "device_id": "D",
        "session_id": "s",
    }
    server.say(ann, room, "", "m.room.encrypted", **cipher)
    (push,) = _pushes(world, token, 1)
    assert push["body"]["aps"]["alert"]["loc-key"] == "Notification"
    assert "Y2lwaGVy" not in str(push["body"])
    return push["body"]["aps"]


def _event_id_only(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    token = device_token("apns")
    payload = {"aps": {"mutable-content": 1}}
    server.pusher(
        bob, token, "org.example.ios", world.url, format="event_id_only", default_payload=payload
    )
    event_id = server.say(ann, room, "the secret words")
    (push,) = _pushes(world, token, 1)
    assert (push["body"]["event_id"], push["body"]["room_id"]) == (event_id, room)
    assert "secret" not in str(push["body"])
    return sorted(push["body"])


def _read(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    token = device_token("apns")
    server.pusher(bob, token, "org.example.ios", world.url)
    event_id = server.say(ann, room, "read me")
    _pushes(world, token, 1)
    server.call("POST", f"/rooms/{room}/receipt/m.read/{event_id}", bob)
    badge = _pushes(world, token, 2)[1]
    assert badge["body"] == {"aps": {"badge": 0}}
    return badge["body"]


def _call(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    token = device_token("apns")
    server.pusher(bob, token, "org.example.ios", world.url)
    session = {"type": "offer", "sdp": "v=0"}
    offer = {"call_id": "c1", "lifetime": 30_000, "version": "1", "party_id": "p", "offer": session}
    return _rings(world, token, server.say(ann, room, "", "m.call.invite", **offer))


def _ring(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    """The ring of a MatrixRTC call, which Synapse pushes by the rules of mentions."""
    token = device_token("apns")
    server.pusher(bob, token, "org.example.ios", world.url)
    ring = {
        "notification_type": "ring",
        "lifetime": 30_000,
        "sender_ts": int(time.time() * 1000),
        "m.mentions": {"user_ids": ["@bob:localhost"], "room": False},
    }
    kind = "org.matrix.msc4075.rtc.notification"
    return _rings(world, token, server.say(ann, room, "", kind, **ring))


def _rings(world: Doors, token: str, event_id: str) -> dict[str, Any]:
    (push,) = _pushes(world, token, 1)
    row = _row(world, token, event_id)
    assert (row["class"], row["decision"]) == ("call", "accepted"), row
    return {"class": row["class"], "expires_in_s": push["expiration"] - int(time.time())}


def _redis_away(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    """A server that stands still: Synapse is told 503 and comes again; nothing is lost."""
    token = device_token("apns")
    server.pusher(bob, token, "org.example.ios", world.url)
    redis: Any = world.core.redis
    pid = int(redis.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        event_id = server.say(ann, room, "while Redis stands still")
        time.sleep(8)
    finally:
        os.kill(pid, signal.SIGCONT)
    pushes = _pushes(world, token, 1, 120)
    assert _row(world, token, event_id)["decision"] == "accepted"
    return {"pushes": len(pushes)}


def _dead(world: Doors, server: Synapse, ann: str, bob: str, room: str) -> Any:
    token = "dead" + digits()[:60]
    server.pusher(bob, token, "org.example.ios", world.url)
    for number in range(5):
        if not any(one["pushkey"] == token for one in server.pushers(bob)):
            return {"messages_until_the_pusher_was_gone": number}
        server.say(ann, room, f"to a dead token {number}")
        time.sleep(2)
    raise AssertionError("the pusher of a dead token is still there")


def _members(world: Doors, server: Synapse, ann: str) -> Any:
    """60 members at once."""
    names = [f"m{number}" for number in range(60)]
    tokens = {name: device_token("apns") for name in names}
    room = server.call("POST", "/createRoom", ann, preset="public_chat", name="Everybody")[
        "room_id"
    ]
    for name in names:
        who = server.register(name)
        server.call("POST", f"/rooms/{room}/join", who)
        server.pusher(who, tokens[name], "org.example.ios", world.url)
    server.say(ann, room, "hello all")
    for token in tokens.values():
        _pushes(world, token, 1, 90)
    return {"members": len(names)}
