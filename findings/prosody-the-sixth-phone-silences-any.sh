#!/bin/bash
# Guess: a person who enables push on a sixth phone (push_max_devices, 5) loses the one that registered first: "the oldest devices are automatically removed
#   if this threshold is reached", says the page of Prosody's mod_cloud_notify. The others, and above all the one that registered yesterday, stay.
# Behaviour: so it is until Prosody restarts. Then mod_cloud_notify (of 2023-02-23, Debian 12) reads a person's registrations from the disk in whatever order
#   Lua's table has them, another one at each start, and takes that for their ages, although each has its time beside it. The next new phone, or the
#   same one after its app was installed anew, puts out any of the five: the phone in daily use as well as one that was lost years ago. Nothing tells
#   it; it hears nothing until it connects and enables push again, and that puts out the next one.
# Versions: prosody 0.12.3-1+deb12u1, prosody-modules 0.0~hg20230223.556bf57d6417 (Debian 12), Lua 5.4, Python 3.11. Date: 2026-12-01.
# Seen: "10 people, a sixth phone, no restart: the oldest is put out for 10; with one between: another than the oldest for some of 10"
# Exits 1 when it is the oldest for all after the restart, too. Needs a Debian with apt and python3.
set -eu
here=$(mktemp -d)
cd "$here"
trap 'rm -rf "$here"' EXIT
apt-get download -q prosody prosody-modules lua5.4 lua-{expat,filesystem,sec,socket,bitop} liblua5.4-0 libicu72 libexpat1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" unpacked; done
cat > push.py <<'PY'
import base64, hashlib, os, pathlib, re, socket, subprocess, sys, time

PEOPLE = [f"person{number}" for number in range(10)]
here = pathlib.Path.cwd()
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
CLIENT, COMPONENT = [one.getsockname()[1] for one in free]
for one in free:
    one.close()
lib, share = here / "unpacked/usr/lib", here / "unpacked/usr/share"
arch = next(lib.glob("*-linux-gnu"))
modules = ["roster", "saslauth", "disco", "offline", "cloud_notify"]
(here / "prosody.cfg.lua").write_text(f"""
run_as_root = true
data_path = "{here}/data"
plugin_paths = {{ "{lib}/prosody/modules" }}
modules_enabled = {{ {", ".join(f'"{one}"' for one in modules)} }}
modules_disabled = {{ "s2s" }}
log = {{ warn = "{here}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {CLIENT} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
component_ports = {{ {COMPONENT} }}
VirtualHost "im.example"
Component "push.im.example"
    component_secret = "secret"
""")
accounts = here / "data/im%2eexample/accounts"
accounts.mkdir(parents=True)
for name in [*PEOPLE, "writer"]:
    (accounts / f"{name}.dat").write_text('return { ["password"] = "pw" };')
environment = os.environ | {
    "PROSODY_SRCDIR": str(lib / "prosody"),
    "PROSODY_PLUGINDIR": str(lib / "prosody/modules"),
    "PROSODY_CFGDIR": str(here),
    "PROSODY_DATADIR": str(here / "data"),
    "LD_LIBRARY_PATH": str(arch),
    "LUA_PATH": f"{lib}/prosody/?.lua;{share}/lua/5.4/?.lua;{share}/lua/5.4/?/init.lua;;",
    "LUA_CPATH": f"{lib}/prosody/?.so;{arch}/lua/5.4/?.so;;",
}


class Stream:
    """One XML stream, read by what is looked for in its text."""

    def __init__(self, port):
        self.socket, self.text = socket.create_connection(("127.0.0.1", port)), ""
        self.socket.settimeout(20)

    def say(self, xml, until):
        self.socket.sendall(xml.encode())
        while not (found := re.search(until, self.text)):
            got = self.socket.recv(65536)
            assert got, self.text
            self.text += got.decode()
        self.text = self.text[found.end() :]
        return found

    def sign_in(self, name):
        head = "<stream:stream to='im.example' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        self.say(head, "</stream:features>")
        secret = base64.b64encode(f"\0{name}\0pw".encode()).decode()
        self.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>", "<success")
        self.say(head, "</stream:features>")
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>")
        return self


def start():
    """A Prosody on the data folder, when it takes connections."""
    lua = here / "unpacked/usr/bin/lua5.4"
    script = here / "unpacked/usr/bin/prosody"
    running = subprocess.Popen([lua, script, "-F", "--config", here / "prosody.cfg.lua"], env=environment, stdout=subprocess.DEVNULL)
    for _ in range(100):
        try:
            for port in (CLIENT, COMPONENT):
                socket.create_connection(("127.0.0.1", port)).close()
            return running
        except OSError:
            time.sleep(0.1)
    raise SystemExit("no Prosody")


def enable(phones):
    """Each person enables push on these phones, one after another."""
    for name in PEOPLE:
        client = Stream(CLIENT).sign_in(name)
        for number in phones:
            request = f"<enable xmlns='urn:xmpp:push:0' jid='push.im.example' node='{name}-phone{number}'/>"
            client.say(f"<iq type='set' id='e{number}'>{request}</iq>", f"<iq[^>]*id='e{number}'[^>]*/>")
        client.socket.close()


def put_out():
    """The phones (of the first six) of each person that hear nothing of a message to them."""
    gateway = Stream(COMPONENT)
    opening = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='push.im.example'>"
    stream = gateway.say(opening, "id='([^']+)'").group(1)
    gateway.say(f"<handshake>{hashlib.sha1((stream + 'secret').encode()).hexdigest()}</handshake>", "<handshake/>")
    writer = Stream(CLIENT).sign_in("writer")
    for name in PEOPLE:
        writer.socket.sendall(f"<message to='{name}@im.example' type='chat'><body>hello</body></message>".encode())
    gateway.socket.settimeout(3)
    try:
        while got := gateway.socket.recv(65536):
            gateway.text += got.decode()
    except TimeoutError:
        pass
    gateway.socket.close()
    writer.socket.close()
    return [[n for n in range(1, 7) if f"{name}-phone{n}'" not in gateway.text] for name in PEOPLE]


def run(restart):
    server = start()
    try:
        enable(range(1, 6))
        if restart:
            server.terminate()
            server.wait()
            server = start()
        enable([6])
        return put_out()
    finally:
        server.terminate()
        server.wait()
        for file in (here / "data/im%2eexample").glob("cloud_notify/*"):
            file.unlink()


without, between = run(False), run(True)
oldest = sum(gone == [1] for gone in without)
others = sum(len(gone) == 1 and gone != [1] for gone in between)
print(
    f"10 people, a sixth phone, no restart: the oldest is put out for {oldest}; "
    f"with one between: another than the oldest for {'some' if others else 'none'} of 10"
)
sys.exit(0 if oldest == 10 and others else 1)
PY
timeout 120 python3 push.py
