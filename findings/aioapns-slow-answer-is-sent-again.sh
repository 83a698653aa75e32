#!/bin/sh
# Guess: a client that has sent a push waits for the answer, however slow; if its connection ends meanwhile it reports that, and does not send
#   a notification again that the server has read.
# Behaviour: aioapns 4.0 closes a connection 10 s after it last read or wrote something (INACTIVITY_TIME), although a push waits for its answer
#   on it, and the pool then sends the same push on a new connection, five times in all (max_connection_attempts), with the same apns-id, before
#   it raises MaxAttemptsExceeded. A server that answers after 11 s has read each push five times; APNs promises nothing of one apns-id seen
#   twice, so the phone may show it five times, and the caller hears that it failed.
# Versions: aioapns 4.0, h2 4.4.1, Python 3.11. Date: 2026-11-29.
# Seen: "the server read the push 5 times in 50 s, 1 apns-id; the caller got MaxAttemptsExceeded"
# Exits 1 when the push is read once. Takes a minute. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q aioapns==4.0 h2==4.4.1
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
venv/bin/python - <<'PY'
import asyncio, logging, pathlib, ssl, sys, time

from aioapns import APNs, NotificationRequest
from aioapns.connection import APNsProductionClientProtocol
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

logging.disable()
ANSWERS_AFTER_S = 11
seen = []


class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.wire, self.h2 = transport, H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.wire.write(self.h2.data_to_send())

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                seen.append(dict(event.headers)["apns-id"])
            elif isinstance(event, StreamEnded):
                asyncio.get_running_loop().call_later(ANSWERS_AFTER_S, self.answer, event.stream_id, seen[-1])
        self.wire.write(self.h2.data_to_send())

    def answer(self, stream, apns_id):
        if not self.wire.is_closing():
            self.h2.send_headers(stream, [(":status", "200"), ("apns-id", apns_id)], end_stream=True)
            self.wire.write(self.h2.data_to_send())


async def main():
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain("cert.pem", "key.pem")
    server_tls.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(Server, "localhost", 0, ssl=server_tls)
    APNsProductionClientProtocol.APNS_SERVER = "localhost"
    APNsProductionClientProtocol.APNS_PORT = server.sockets[0].getsockname()[1]
    tls = ssl.create_default_context(cafile="cert.pem")
    apns = APNs(key=pathlib.Path("auth.p8").read_text(), key_id="ABCDE12345", team_id="ABCDE12345", topic="org.example.im", ssl_context=tls)
    began = time.monotonic()
    try:
        result = (await apns.send_notification(NotificationRequest("0" * 64, {"aps": {"alert": "hello"}}))).status
    except Exception as error:
        result = type(error).__name__
    print(f"the server read the push {len(seen)} times in {time.monotonic() - began:.0f} s, {len(set(seen))} apns-id; the caller got {result}")


asyncio.run(main())
sys.exit(0 if len(seen) == 5 else 1)
PY
