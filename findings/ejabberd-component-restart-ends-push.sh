#!/bin/bash
# Guess: while a push gateway (a component, XEP-0114, for XEP-0357) restarts, ejabberd cannot hand it a notification: that one is lost, and the next
#   message after the restart is pushed again. Only the gateway's own answer, that it knows the phone no more, ends the phone's push.
# Behaviour: mod_push of ejabberd 23.01 deletes the phone's registration at the first notification that it cannot route: its own "remote-server-not-
#   found" counts as the gateway's refusal. Whoever gets a message in the seconds of a deploy gets no push any more, whatever comes, until their app
#   connects and enables push anew, which it does when its owner opens it: the one who waits for a push. The log has a warning; the gateway hears nothing.
# Versions: ejabberd 23.01-1 (Debian 12), Erlang 25.2.3, Python 3.11. Date: 2026-11-29.
# Seen: "gateway up: 1 of 1 pushed; while it is down: 1 message; up again: 0 of 3 pushed; after the phone enabled push anew: 1 of 1 pushed"
# Exits 1 when the messages behind the restart are pushed. Needs a Debian with apt and python3; takes a minute.
set -eu
here=$(mktemp -d)
cd "$here"
ejabberd=
trap 'kill $ejabberd 2>/dev/null || true; sleep 2; rm -rf "$here"' EXIT
apt-get download -q ejabberd erlang-{asn1,base,base64url,crypto,ftp,goldrush,idna,inets,jiffy,jose,lager,mnesia,odbc,os-mon} \
  erlang-p1-{acme,cache-tab,eimp,mqtree,pkix,stringprep,stun,tls,utils,xml,xmpp,yaml,yconf,zlib} \
  erlang-{public-key,runtime-tools,ssl,syntax-tools,tools,unicode-util-compat,xmerl} >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" unpacked; done
read -r client component < <(python3 -c '
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[one.getsockname()[1] for one in free])')
cat > ejabberd.yml <<YML
hosts: [im.example]
loglevel: info
auth_password_format: plain
listen:
  - {port: $client, ip: "127.0.0.1", module: ejabberd_c2s}
  - {port: $component, ip: "127.0.0.1", module: ejabberd_service, hosts: {push.im.example: {password: secret}}}
modules: {mod_offline: {}, mod_push: {}}
YML
export ROOTDIR=$here/unpacked/usr/lib/erlang ERL_LIBS=$here/unpacked/usr/lib/x86_64-linux-gnu EMU=beam PROGNAME=erl HOME=$here
BINDIR=$(dirname "$ROOTDIR"/erts-*/bin/erlexec)
export BINDIR EJABBERD_CONFIG_PATH=$here/ejabberd.yml EJABBERD_LOG_PATH=$here/ejabberd.log
"$BINDIR/erlexec" -noinput -boot start_sasl -sasl sasl_error_logger false -mnesia dir "\"$here/mnesia\"" -eval '
  {ok, _} = application:ensure_all_started(ejabberd),
  [ok = ejabberd_auth:try_register(User, <<"im.example">>, <<"pw">>) || User <- [<<"anna">>, <<"bert">>]],
  io:format("registered~n").' >out.txt 2>&1 &
ejabberd=$!
for _ in $(seq 60); do grep -q registered out.txt && break; sleep 1; done
cat > push.py <<'PY'
import base64, hashlib, re, socket, sys, threading, time

CLIENT, COMPONENT = int(sys.argv[1]), int(sys.argv[2])
NODE = "<enable xmlns='urn:xmpp:push:0' jid='push.im.example' node='berts-phone'/>"


class Stream:
    """One XML stream, read by what is looked for in its text."""

    def __init__(self, port):
        self.socket, self.text = socket.create_connection(("127.0.0.1", port)), ""
        self.socket.settimeout(20)

    def say(self, xml, until):
        self.socket.sendall(xml.encode())
        while not (found := re.search(until, self.text)):
            self.text += self.socket.recv(65536).decode()
        self.text = self.text[found.end() :]
        return found


def log_in(user):
    stream = Stream(CLIENT)
    head = "<stream:stream to='im.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    stream.say(head, "</stream:features>")
    plain = base64.b64encode(f"\0{user}\0pw".encode()).decode()
    stream.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>", "<success")
    stream.say(head, "</stream:features>")
    stream.say("<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</bind></iq>")
    return stream


def bert_enables_push_and_leaves():
    phone = log_in("bert")
    phone.say(f"<iq id='e' type='set'>{NODE}</iq>", "id='e'")
    phone.say("</stream:stream>", "</stream:stream>")
    time.sleep(1)


class Gateway:
    """The component: answers each notification with a result, and counts them."""

    def __init__(self):
        self.pushed, self.stream = 0, Stream(COMPONENT)
        head = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='push.im.example'>"
        ident = self.stream.say(head, r"\bid='([^']+)'")[1]
        digest = hashlib.sha1(f"{ident}secret".encode()).hexdigest()
        self.stream.say(f"<handshake>{digest}</handshake>", r"<handshake\s*/>|</handshake>")
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        self.stream.socket.settimeout(None)
        while data := self.stream.socket.recv(65536):
            self.stream.text += data.decode()
            while found := re.search(r"<iq ([^>]*)>.*?</iq>", self.stream.text, re.S):
                self.stream.text = self.stream.text[found.end() :]
                ident = re.search(r"\bid='([^']+)'", found[1])[1]
                self.pushed += 1
                result = f"<iq type='result' id='{ident}' from='push.im.example' to='im.example'/>"
                self.stream.socket.sendall(result.encode())

    def stop(self):
        self.stream.socket.shutdown(socket.SHUT_RDWR)
        time.sleep(1)


def anna_writes(number):
    for _ in range(number):
        anna.socket.sendall(b"<message to='bert@im.example' type='chat'><body>hello</body></message>")
        time.sleep(1)
    time.sleep(2)


gateway = Gateway()
bert_enables_push_and_leaves()
anna = log_in("anna")
anna_writes(1)
before = gateway.pushed
gateway.stop()
anna_writes(1)
gateway = Gateway()
anna_writes(3)
after = gateway.pushed
bert_enables_push_and_leaves()
anna_writes(1)
print(
    f"gateway up: {before} of 1 pushed; while it is down: 1 message; up again: {after} of 3 pushed; "
    f"after the phone enabled push anew: {gateway.pushed - after} of 1 pushed"
)
sys.exit(0 if (before, after) == (1, 0) else 1)
PY
timeout 120 python3 push.py "$client" "$component"
