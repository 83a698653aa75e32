#!/bin/sh
# Guess: time_to_live=0 gives "apns-expiration: 0", which Apple documents as "try once, do not store", as the same 0 does for FCM and Huawei.
# Behaviour: aioapns 4.0 adds the present time to whatever is given: the header carries a moment of now. Apple's word for that is another one
#   (valid until a date, which has just passed), and no value of time_to_live says "do not store": it would have to be minus the time of day.
# Versions: aioapns 4.0, h2 4.4.1, Python 3.11. Date: 2026-11-29.
# Seen: "time_to_live=0: apns-expiration is the time of now (never 0)"
# Exits 1 when the header is 0. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q aioapns==4.0 h2==4.4.1
venv/bin/python - <<'PY'
import asyncio, sys, time

from aioapns import NotificationRequest
from aioapns.connection import APNsProductionClientProtocol
from h2.connection import H2Connection
from h2.config import H2Configuration
from h2.events import RequestReceived


class Wire(asyncio.Transport):
    """Keeps what the client writes."""

    def __init__(self):
        super().__init__()
        self.bytes = b""

    def write(self, data):
        self.bytes += data

    def close(self):
        pass


async def main():
    client, wire = APNsProductionClientProtocol("org.example.im"), Wire()
    client.connection_made(wire)
    sending = asyncio.ensure_future(client.send_notification(NotificationRequest("0" * 64, {"aps": {"alert": "hello"}}, time_to_live=0)))
    await asyncio.sleep(0.2)
    sending.cancel()
    server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    headers = next(dict(e.headers) for e in server.receive_data(wire.bytes) if isinstance(e, RequestReceived))
    client.inactivity_timer.cancel()
    return int(headers["apns-expiration"])


expiration = asyncio.run(main())
now = abs(expiration - time.time()) < 5
print(f"time_to_live=0: apns-expiration is {'the time of now (never 0)' if now else expiration}")
sys.exit(0 if now else 1)
PY
