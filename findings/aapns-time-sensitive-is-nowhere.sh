#!/bin/bash
# Guess: send_notification(..., time_sensitive=True) of aapns sends a push that breaks through a Focus or a notification summary, as Apple has it: the key
#   "interruption-level": "time-sensitive" in the "aps" of the body, since iOS 15.
# Behaviour: aapns 23.7 puts interruption-level among the fields of the request, a name that is not among those of Apple's page, and nothing into the
#   body, which is the same with and without. The call that should get through to a phone in "Sleep" is an ordinary message, held for the summary, and
#   nothing says so. What does set it is an "aps" of one's own in `extra`, which takes the place of the whole one that the library makes.
# Versions: aapns 23.7, h2 3.2.0, Python 3.11 (Node 20 for Apple). Date: 2026-12-01.
# Seen: "time_sensitive=False: body {"aps":{"alert":{"body":"Anna calls"}}}, no field; True: the same body, field interruption-level: time-sensitive"
# Exits 1 when the second body names the level. Needs python3, node and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q aapns==23.7 h2==3.2.0 attrs==23.2.0 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat key.pem cert.pem > client.pem
cat > apple.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";

const apple = http2.createSecureServer({ key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem"), requestCert: true, rejectUnauthorized: false });
apple.on("stream", (stream, fields) => {
  let body = "";
  stream.on("data", (part) => (body += part));
  stream.on("end", () => {
    fs.appendFileSync("seen", JSON.stringify({ body, level: fields["interruption-level"] ?? null }) + "\n");
    stream.respond({ ":status": 200, "apns-id": fields["apns-id"] ?? "a" });
    stream.end();
  });
});
apple.listen(0, "127.0.0.1", () => fs.writeFileSync("port", String(apple.address().port)));
JS
node apple.mjs &
apple=$!
trap 'kill $apple; rm -rf "$here"' EXIT
while [ ! -s port ]; do sleep 0.1; done
cat > push.py <<'PY'
import asyncio, json, pathlib, sys

from aapns.api import Server
from aapns.models import Alert, Notification


async def main():
    port = int(pathlib.Path("port").read_text())
    client = await Server("client.pem", "localhost", port, ca_file="cert.pem", pool_size=1).create_client()
    for level in (False, True):
        await client.send_notification("0" * 64, Notification(alert=Alert(body="Anna calls")), topic="im.example", time_sensitive=level)
    await client.close()


asyncio.run(main())
plain, sensitive = [json.loads(line) for line in pathlib.Path("seen").read_text().splitlines()]
same = json.loads(plain["body"]) == json.loads(sensitive["body"])
body = json.dumps(json.loads(plain["body"]), separators=(",", ":"))
print(
    f"time_sensitive=False: body {body}, {'no field' if plain['level'] is None else plain['level']}; "
    f"True: {'the same body' if same else sensitive['body']}, field interruption-level: {sensitive['level']}"
)
sys.exit(0 if same and sensitive["level"] == "time-sensitive" else 1)
PY
timeout 60 venv/bin/python push.py
