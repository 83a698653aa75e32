#!/bin/bash
# Guess: the UnifiedPush endpoint that Prosody gives a phone's apps (mod_unified_push) answers the app's server 201 when the phone took the push, as its code
#   has it, 503 when the phone is offline, so that the server keeps the push and tries again, and 404 when the app is gone, so that it forgets it.
# Behaviour: it is the other way round. To an offline phone Prosody's own "service-unavailable" comes back, and send_iq takes any answer from within the
#   server for the phone's: the app's server reads 201, the log says "delivered", and the push is nowhere. A phone that does answer, that the app is not
#   there or that it cannot take a push now, is looked at in a place where its answer is not (error_event.stanza): each of the two is a 500. So
#   what is lost counts as delivered, and an app that was removed is tried for as long as its server tries 500s. An unknown endpoint is a 404.
# Versions: prosody 0.12.3-1+deb12u1, prosody-modules 0.0~hg20230223.556bf57d6417 (Debian 12), Lua 5.4, Python 3.11. Date: 2026-12-01.
# Seen: "the phone takes it: 201; says that the app is gone (item-not-found): 500; that it cannot now (recipient-unavailable): 500; is offline: 201,
#   1 logged as delivered; comes back: 0 pushes wait for it; an unknown endpoint: 404"
# Exits 1 when a push to an offline phone is no 201. Needs a Debian with apt and python3.
set -eu
here=$(mktemp -d)
cd "$here"
trap 'rm -rf "$here"' EXIT
apt-get download -q prosody prosody-modules lua5.4 lua-{expat,filesystem,sec,socket,bitop} liblua5.4-0 libicu72 libexpat1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" unpacked; done
cat > push.py <<'PY'
import base64, http.client, os, pathlib, re, socket, subprocess, sys, threading, time, urllib.parse

here = pathlib.Path.cwd()
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
CLIENT, HTTP = [one.getsockname()[1] for one in free]
for one in free:
    one.close()
lib, share = here / "unpacked/usr/lib", here / "unpacked/usr/share"
arch = next(lib.glob("*-linux-gnu"))
modules = ["roster", "saslauth", "disco", "offline", "http", "unified_push"]
(here / "prosody.cfg.lua").write_text(f"""
run_as_root = true
data_path = "{here}/data"
plugin_paths = {{ "{lib}/prosody/modules" }}
modules_enabled = {{ {", ".join(f'"{one}"' for one in modules)} }}
modules_disabled = {{ "s2s" }}
log = {{ debug = "{here}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {CLIENT} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
http_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {HTTP} }}
https_ports = {{ }}
VirtualHost "im.example"
""")
accounts = here / "data/im%2eexample/accounts"
accounts.mkdir(parents=True)
(accounts / "person.dat").write_text('return { ["password"] = "pw" };')
environment = os.environ | {
    "PROSODY_SRCDIR": str(lib / "prosody"),
    "PROSODY_PLUGINDIR": str(lib / "prosody/modules"),
    "PROSODY_CFGDIR": str(here),
    "PROSODY_DATADIR": str(here / "data"),
    "LD_LIBRARY_PATH": str(arch),
    "LUA_PATH": f"{lib}/prosody/?.lua;{share}/lua/5.4/?.lua;{share}/lua/5.4/?/init.lua;;",
    "LUA_CPATH": f"{lib}/prosody/?.so;{arch}/lua/5.4/?.so;;",
}


class Phone:
    """An XML stream of the person's phone, read by what is looked for in its text."""

    def __init__(self):
        self.socket, self.text = socket.create_connection(("127.0.0.1", CLIENT)), ""
        self.socket.settimeout(20)
        head = "<stream:stream to='im.example' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        self.say(head, "</stream:features>")
        secret = base64.b64encode(b"\0person\0pw").decode()
        self.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>", "<success")
        self.say(head, "</stream:features>")
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>", "</iq>")

    def say(self, xml, until):
        self.socket.sendall(xml.encode())
        while not (found := re.search(until, self.text)):
            got = self.socket.recv(65536)
            assert got, self.text
            self.text += got.decode()
        self.text = self.text[found.end() :]
        return found.group(1) if found.groups() else None

    def answers(self, path, kind, error=""):
        """What the app's server reads when the phone gives this answer to its push."""
        read = []
        server = threading.Thread(target=lambda: read.append(post(path)))
        server.start()
        head = self.say(" ", r"(<iq[^>]*>)\s*<push.*?</iq>")
        number = re.search(r"id='([^']+)'", head).group(1)
        condition = f"<error type='cancel'><{error} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>" if error else ""
        self.socket.sendall(f"<iq type='{kind}' id='{number}' to='im.example'>{condition}</iq>".encode())
        server.join()
        return read[0]


def post(path):
    connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=30)
    connection.request("POST", path, body=b"a push", headers={"Host": "im.example"})
    return connection.getresponse().status


def logged(words):
    return (here / "prosody.log").read_text(errors="replace").count(words)


lua, script = here / "unpacked/usr/bin/lua5.4", here / "unpacked/usr/bin/prosody"
server = subprocess.Popen([lua, script, "-F", "--config", here / "prosody.cfg.lua"], env=environment, stdout=subprocess.DEVNULL)
try:
    for _ in range(100):
        try:
            for port in (CLIENT, HTTP):
                socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    phone, digest = Phone(), base64.b64encode(bytes(32)).decode()
    register = f"<register xmlns='http://gultsch.de/xmpp/drafts/unified-push' application='{digest}' instance='{digest}'/>"
    path = urllib.parse.urlparse(phone.say(f"<iq type='set' id='r' to='im.example'>{register}</iq>", "endpoint='([^']+)'")).path
    takes = phone.answers(path, "result")
    gone, not_now = [phone.answers(path, "error", error) for error in ("item-not-found", "recipient-unavailable")]
    phone.socket.close()
    while not logged("All resources of person are now offline"):
        time.sleep(0.1)
    before = logged("Push notification delivered")
    offline = post(path)
    delivered = logged("Push notification delivered") - before
    back = Phone()
    back.socket.sendall(b"<presence/>")
    asked = "<iq type='get' id='last' to='im.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    waits = back.say(asked, "(?s)(.*id='last')").count("<push")
    unknown = post("/push/unknown")
finally:
    server.terminate()
    server.wait()
print(
    f"the phone takes it: {takes}; says that the app is gone (item-not-found): {gone}; that it cannot now (recipient-unavailable): {not_now}; "
    f"is offline: {offline},\n  {delivered} logged as delivered; comes back: {waits} pushes wait for it; an unknown endpoint: {unknown}"
)
sys.exit(0 if (takes, gone, not_now, offline, delivered, waits, unknown) == (201, 500, 500, 201, 1, 0, 404) else 1)
PY
timeout 100 python3 push.py
