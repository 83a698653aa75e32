#!/bin/bash
# Guess: send_notification_batch of mopyapns does what its docstring says: "Instead of sending a synchronous request for each token, send
#   multiple requests concurrently. This is done on the same connection, using HTTP/2 streams"; an answer that does not come is one token's failure.
# Behaviour: mopyapns 0.8.0 (apns2, once PyAPNs2, carried over to httpx) sends each push with a blocking call and waits for its answer before the
#   next: one stream at a time. At 100 ms to Apple and back 10,000 phones take 17 minutes instead of seconds. When one answer is late (httpx's 5 s),
#   the call raises ReadTimeout: the results of all before it are lost, those behind it were never sent; sent again, the first ones ring twice.
# Versions: mopyapns 0.8.0, httpx 0.28.1, h2 4.4.1, Python 3.11. Date: 2026-11-29.
# Seen: "20 pushes at 100 ms: at most 1 under way, 2.1 s; the 6th answer late: ReadTimeout, 6 of 20 read, no result"
# Exits 1 when two are under way together. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q mopyapns==0.8.0 'httpx[http2]==0.28.1' h2==4.4.1 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
SSL_CERT_FILE="$here/cert.pem" venv/bin/python - <<'PY'
import asyncio, ssl, sys, threading, time

import httpx
from apns2.client import APNsClient, Notification
from apns2.credentials import TokenCredentials
from apns2.payload import Payload
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

seen = {"read": 0, "open": 0, "most": 0, "late": 0}


class Apns(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.h2 = transport, H2Connection(H2Configuration(client_side=False))
        self.h2.initiate_connection()
        transport.write(self.h2.data_to_send())

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, StreamEnded):
                seen["read"] += 1
                seen["open"] += 1
                seen["most"] = max(seen["most"], seen["open"])
                delay = 30 if seen["read"] == seen["late"] else 0.1
                asyncio.get_running_loop().call_later(delay, self.answer, event.stream_id)
        self.transport.write(self.h2.data_to_send())

    def answer(self, stream_id):
        seen["open"] -= 1
        if not self.transport.is_closing():
            self.h2.send_headers(stream_id, [(":status", "200")], end_stream=True)
            self.transport.write(self.h2.data_to_send())


async def serve():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
    context.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(Apns, "127.0.0.1", 0, ssl=context)
    port.append(server.sockets[0].getsockname()[1])
    up.set()
    await asyncio.Event().wait()


port, up = [], threading.Event()
threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
up.wait()
APNsClient.LIVE_SERVER, APNsClient.DEFAULT_PORT = "localhost", port[0]
batch = [Notification(token=f"{n:064x}", payload=Payload(alert="hello")) for n in range(20)]


def client():
    return APNsClient(TokenCredentials("auth.p8", "ABCDE12345", "TEAM123456"))


client().send_notification_batch(batch[:1], topic="org.example.im")
seen.update(read=0, most=0)
began = time.monotonic()
results = client().send_notification_batch(batch, topic="org.example.im")
took, most = time.monotonic() - began, seen["most"]
seen.update(read=0, late=6)
try:
    outcome = f"{len(client().send_notification_batch(batch, topic='org.example.im'))} results"
except httpx.ReadTimeout:
    outcome = f"ReadTimeout, {seen['read']} of 20 read, no result"
print(f"{len(results)} pushes at 100 ms: at most {most} under way, {took:.1f} s; the 6th answer late: {outcome}")
sys.exit(0 if most == 1 and outcome.startswith("ReadTimeout") else 1)
PY
