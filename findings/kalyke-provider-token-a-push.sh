#!/bin/sh
# Guess: one ApnsClient of kalyke keeps its provider token and its connection, as Apple asks: a new token at most every 20 minutes
#   (429 TooManyProviderTokenUpdates), a connection kept open; the token's iat is a number of seconds (RFC 7519, NumericDate).
# Behaviour: kalyke-apns 1.5.0 signs a new token for every push and opens a new connection for it; pushes in different seconds bear different
#   tokens, so whoever sends a few a minute is over Apple's limit, and 429 then says nothing of the phone. The iat is a string.
# Versions: kalyke-apns 1.5.0, httpx2 2.16.2, h2 4.4.1, PyJWT 2.15.1, Python 3.11. Date: 2026-11-29.
# Seen: "3 pushes in 2 s: 3 provider tokens, 3 connections, iat is a str"
# Exits 1 when the pushes bear one token. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q kalyke-apns==1.5.0 httpx2==2.16.2 h2==4.4.1 pyjwt==2.15.1 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
SSL_CERT_FILE="$here/cert.pem" venv/bin/python - <<'PY'
import asyncio, ssl, sys

import jwt
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from kalyke import ApnsClient, ApnsConfig, Payload

tokens, connections = [], 0


class Server(asyncio.Protocol):
    def connection_made(self, transport):
        global connections
        connections += 1
        self.wire, self.h2 = transport, H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.wire.write(self.h2.data_to_send())

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                tokens.append(dict(event.headers)["authorization"].split()[1])
            elif isinstance(event, StreamEnded):
                self.h2.send_headers(event.stream_id, [(":status", "200"), ("apns-id", "1")], end_stream=True)
        self.wire.write(self.h2.data_to_send())


async def main():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("cert.pem", "key.pem")
    tls.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(Server, "localhost", 0, ssl=tls)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    ApnsClient._base_url = property(lambda self: url)  # the address of APNs is fixed in the package
    client = ApnsClient(use_sandbox=True, team_id="ABCDE12345", auth_key_id="ABCDE12345", auth_key_filepath="auth.p8")
    for _ in range(3):
        await client.send_message("0" * 64, Payload(alert="hello"), ApnsConfig(topic="org.example.im"))
        await asyncio.sleep(1)


asyncio.run(main())
iat = jwt.decode(tokens[0], options={"verify_signature": False, "verify_iat": False})["iat"]
issued = {jwt.decode(token, options={"verify_signature": False, "verify_iat": False})["iat"] for token in tokens}
print(f"3 pushes in 2 s: {len(set(tokens))} provider tokens, {connections} connections, iat is a {type(iat).__name__}")
sys.exit(0 if len(issued) == 3 and connections == 3 else 1)
PY
