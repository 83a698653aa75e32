"""ejabberd and Prosody of this Debian as foreign servers: a registration, pushes, and a rolling
restart of our component.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.doors.world import Doors
from tests.doors.xmpp_client import XmppClient
from tests.e2e.conftest import wait_for
from tests.e2e.tenant import device_token

SECRET = "component-secret"
ROOM = "team@rooms.localhost"
#: Registrations of one user that a rolling restart of our component must keep.
PHONES = 10
#: On a machine with much else to do.
WAIT_S = 120.0
PROSODY = """
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
log = {{ info = "{folder}/prosody.log" }}
plugin_paths = {{ {modules} }}
modules_enabled = {{ "roster", "saslauth", "disco", "ping", "offline", "cloud_notify", "smacks", "message" }}
modules_disabled = {{ "s2s", "tls" }}
smacks_hibernation_time = 300
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s} }}
component_ports = {{ {component} }}
component_interfaces = {{ "127.0.0.1" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
run_as_root = true
VirtualHost "localhost"
Component "rooms.localhost" "muc"
Component "push.localhost"
  component_secret = "{secret}"
"""  # noqa: E501
EJABBERD = """
hosts: [localhost]
loglevel: info
listen:
  - {{port: {c2s}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: false}}
  - {{port: {component}, ip: "127.0.0.1", module: ejabberd_service, hosts: {{"push.localhost": {{password: "{secret}"}}}}}}
auth_method: internal
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_offline: {{}}
  mod_push: {{}}
  mod_register: {{ip_access: all}}
  mod_push_keepalive: {{}}
  mod_stream_mgmt: {{resume_timeout: 300}}
  mod_muc: {{host: "rooms.localhost"}}
acl: {{}}
access_rules: {{local: {{allow: all}}, c2s: {{allow: all}}, register: {{allow: all}}}}
registration_timeout: infinity
"""  # noqa: E501


MODULE_FOLDERS = ("usr/lib/prosody/modules", "usr/share/prosody/modules")


def prosody_modules(folder: Path) -> list[Path]:
    """Folders with mod_cloud_notify: this machine's, else those of the package, unpacked in
    `folder`. Raises CalledProcessError where apt has no such package.
    """
    for root in (Path("/"), folder):
        folders = [root / name for name in MODULE_FOLDERS]
        if any(list(one.glob("mod_cloud_notify*")) for one in folders):
            return folders
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "prosody-modules"], cwd=folder, check=True, timeout=300)
    (package,) = folder.glob("prosody-modules_*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True, timeout=60)
    return [folder / name for name in MODULE_FOLDERS]


@contextlib.contextmanager
def prosody(
    folder: Path, ports: tuple[int, int], modules: list[Path]
) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "prosody.cfg.lua"
    (folder / "data").mkdir(parents=True)
    named = ", ".join(f'"{one}"' for one in modules)
    written = PROSODY.format(
        folder=folder, c2s=ports[0], component=ports[1], secret=SECRET, modules=named
    )
    config.write_text(written)
    for user in ("ann", "bob"):
        subprocess.run(
            ["prosodyctl", "--root", "--config", str(config), "register", user, "localhost", "pw"],
            check=True,
            capture_output=True,
        )
    argv = ["prosody", "--root", "--config", str(config), "-F"]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield server
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def ejabberd(folder: Path, ports: tuple[int, int]) -> Iterator[None]:
    config = folder / "ejabberd.yml"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(EJABBERD.format(c2s=ports[0], component=ports[1], secret=SECRET))
    spool = folder / "spool"
    spool.mkdir()
    installed = next(Path("/usr/lib").glob("*/ejabberd-*/ebin"), None)
    ebin = installed or next(Path("/usr/lib").glob("**/ejabberd.app")).parent
    libs = str(ebin.parent.parent)
    env = {
        **os.environ,
        "EJABBERD_CONFIG_PATH": str(config),
        "ERL_LIBS": f"{libs}:/usr/lib/erlang/lib",
        "EJABBERD_LOG_PATH": str(folder / "e.log"),
    }
    env |= {"SPOOL_DIR": str(spool), "HOME": str(folder)}
    command = ["erl", "-noinput", "-mnesia", "dir", f'"{spool}"', "-s", "ejabberd"]
    log = (folder / "out.log").open("wb")
    server = subprocess.Popen(command, cwd=spool, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()


def connected(world: Doors, count: int) -> None:
    """Until so many lines in the door's log say that a connection stands."""
    log = world.folder / "gateway-xmpp.log"
    what = f"{count} connections"
    wait_for(lambda: log.read_bytes().count(b"connected to an XMPP server") >= count, what, WAIT_S)


def pushes(world: Doors, token: str, count: int) -> list[dict[str, Any]]:
    return wait_for(
        lambda: found if len(found := world.house.pushes(token)) >= count else None,
        f"{count} pushes",
        WAIT_S,
    )


def registered(port: int, user: str, token: str, resource: str = "phone") -> XmppClient:
    client = XmppClient(port, "localhost", user, "pw", resource)
    told = client.command(
        "push.localhost", "register-push-apns", token=token, device_id=f"{user}-{resource}"
    )
    client.enable(told)
    client.presence()
    return client


def served(world: Doors, port: int, *options: str) -> None:
    """The tenant's component is at this server."""
    secret = world.folder / "secret"
    secret.write_text(SECRET)
    named = f"--server 127.0.0.1:{port} --component push.localhost --secret-file".split()
    world.command("app", "xmpp", world.house.app, *named, str(secret), *options)


def scenario_prosody(world: Doors, modules: list[Path]) -> dict[str, Any]:
    from workers.cli.up import free_ports

    first = free_ports(2)
    ports = (first, first + 1)
    with prosody(world.folder / "prosody", ports, modules) as server:
        wait_port(ports[1])
        served(world, ports[1], "--connections", "1")
        world.alias("apns-1", "apns", "register-push-apns")
        with world.running(["gateway-xmpp"]):
            connected(world, 1)
            token = device_token("apns")
            bob = registered(ports[0], "bob", token)
            bob.close()
            time.sleep(1)
            ann = XmppClient(ports[0], "localhost", "ann", "pw", "laptop")
            ann.say("bob@localhost", "three words here")
            got = pushes(world, token, 1)
            room = in_a_room(world, ports[0], ann)
            shut = before_a_shutdown(world, ports[0], ann, server)
    return {"offline": got[0]["body"]["aps"], **room, **shut}


def before_a_shutdown(
    world: Doors, port: int, ann: XmppClient, server: subprocess.Popen[bytes]
) -> dict[str, Any]:
    """Three messages to a phone without network; then the server stops and announces them again.
    The screen shows one banner.
    """
    token = device_token("apns")
    registered(port, "bob", token, "tablet").hibernate()
    time.sleep(1)
    for number in range(3):
        ann.say("bob@localhost", f"before the shutdown {number}")
    pushes(world, token, 1)
    server.terminate()
    server.wait(WAIT_S)
    time.sleep(3)
    shown = world.house.pushes(token)
    banners = len({push["collapse_id"] for push in shown})
    assert banners == 1, shown
    return {"shutdown": {"messages": 3, "pushes": len(shown), "banners": banners}}


def in_a_room(world: Doors, port: int, ann: XmppClient) -> dict[str, Any]:
    """A member without network hears of a room's message by a push."""
    token = device_token("apns")
    bob = registered(port, "bob", token, "roomy")
    bob.join(ROOM, "Bob")
    bob.hibernate()
    time.sleep(1)
    ann.presence()
    ann.join(ROOM, "Ann")
    ann.say(ROOM, "hello, all of you", type="groupchat")
    return {"room": pushes(world, token, 1)[-1]["body"]["aps"]}


def scenario_ejabberd(world: Doors) -> dict[str, Any]:
    from workers.cli.up import free_ports

    first = free_ports(2)
    ports = (first, first + 1)
    with ejabberd(world.folder / "ejabberd", ports):
        wait_port(ports[0], 60)
        wait_port(ports[1], 60)
        served(world, ports[1], "--empty", "wake")
        world.alias("apns-1", "apns", "register-push-apns")
        log = world.folder / "gateway-xmpp.log"
        before = log.read_bytes().count(b"connected to an XMPP server") if log.exists() else 0
        with world.running(["gateway-xmpp"]) as (door,):
            connected(world, before + 2)
            for user in ("ann", "bob"):
                make_account(ports[0], user)
            tokens = phones(ports[0], "bob")
            time.sleep(1)
            ann = XmppClient(ports[0], "localhost", "ann", "pw", "laptop")
            ann.say("bob@localhost", "hello")
            offline = [pushes(world, token, 1)[0] for token in tokens]
            with world.running(["gateway-xmpp"]):
                lost = rolling_restart(world, ann, tokens, door, before + 4)
                held = {**in_a_room(world, ports[0], ann), **without_network(world, ports[0], ann)}
                standing = log.read_bytes().count(b"connected to an XMPP server")
                served(world, ports[1], "--empty", "silent")
                connected(world, standing + 2)
                held["silent"] = silently(world, ports[0], ann)
            ann.close()
    return {"offline": offline[0]["body"]["aps"], **held, **lost}


def silently(world: Doors, port: int, ann: XmppClient) -> dict[str, Any]:
    """An empty notification (a call, of ejabberd's) of a tenant whose app asks the server itself:
    it is woken without a word. What else the server holds for the session may be told in words.
    """
    token = device_token("apns")
    registered(port, "bob", token, "quiet").hibernate()
    time.sleep(1)
    ann.propose_call("bob@localhost")
    woken = {"content-available": 1}

    def told() -> list[Any]:
        return [push["body"]["aps"] for push in world.house.pushes(token)]

    wait_for(lambda: woken in told(), "a push without a word", WAIT_S)
    return woken


def without_network(world: Doors, port: int, ann: XmppClient) -> dict[str, Any]:
    """A phone whose session is held: a message, and a call, which ejabberd announces without a
    word.
    """
    found = {}
    for what in ("hibernating", "call"):
        token = device_token("apns")
        registered(port, "bob", token, what).hibernate()
        time.sleep(1)
        if what == "call":
            ann.propose_call("bob@localhost")
        else:
            ann.say("bob@localhost", "are you there?")
        found[what] = pushes(world, token, 1)[-1]["body"]["aps"]
    return found


def phones(port: int, user: str) -> list[str]:
    """The tokens of a user's phones, all registered and none of them connected."""
    tokens = []
    for number in range(PHONES):
        tokens.append(device_token("apns"))
        registered(port, user, tokens[-1], f"phone{number}").close()
    return tokens


def rolling_restart(
    world: Doors, ann: XmppClient, tokens: list[str], door: subprocess.Popen[bytes], standing: int
) -> dict[str, Any]:
    """200 messages while our component is replaced: the new one comes first (standing: the door's
    connections since its log began, then), the old one leaves. The figures.

    A server that drops a registration pushes nothing to it any more: a registration is lost whose
    phone does not hear of the message after the restart.
    """
    for number in range(200):
        ann.say("bob@localhost", f"message {number}")
        time.sleep(0.02)
        if number == 120:
            connected(world, standing)
            door.terminate()
    door.wait(WAIT_S)
    before = shown_at_last(world, tokens)
    ann.say("bob@localhost", "the last one")
    lost = [token for token in tokens if not heard(world, token, before[token] + 1)]
    assert not lost, f"{len(lost)} of {len(tokens)} registrations are lost"
    shown = sum(len(world.house.pushes(token)) for token in tokens)
    told = {"messages": 201, "pushes": shown, "registrations": len(tokens)}
    return {"rolling_restart": {**told, "registrations_lost": len(lost)}}


def shown_at_last(world: Doors, tokens: list[str]) -> dict[str, int]:
    """Pushes of each token, when none has come for a while: what is late is of no later message."""
    found: dict[str, int] = {}
    while (now := {token: len(world.house.pushes(token)) for token in tokens}) != found:
        found = now
        time.sleep(5)
    return found


def heard(world: Doors, token: str, count: int) -> bool:
    with contextlib.suppress(AssertionError):
        return bool(pushes(world, token, count))
    return False


def make_account(port: int, user: str) -> None:
    """In-band registration, switched on for this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as line:
        line.sendall(
            b"<stream:stream xmlns='jabber:client' "
            b"xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>"
        )
        inner = f"<query xmlns='jabber:iq:register'><username>{user}</username><password>pw</password></query>"  # noqa: E501
        time.sleep(0.5)
        line.sendall(f"<iq type='set' id='r'>{inner}</iq>".encode())
        said = b""
        while b"id='r'" not in said and b'id="r"' not in said:
            said += line.recv(65_536)
        assert b"result" in said, said


def wait_port(port: int, seconds: float = 20) -> None:
    def there() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_for(there, f"port {port}", seconds)


__all__ = ["prosody_modules", "scenario_ejabberd", "scenario_prosody"]
