#!/bin/bash
# Guess: send_each of firebase-admin, which Google put in the place of its batch endpoint, sends up to 500 messages over a bounded number of threads
#   and connections, as its subscribe_to_topic does (100 threads), and keeps the connections for the next call.
# Behaviour: send_each of firebase-admin 7.7.0 for Python starts a thread a message, 500 at once, each with a TCP and TLS connection of its own.
#   requests keeps 10 of them and closes the other 490 ("Connection pool is full"), so the next call opens 490 again: a push costs a handshake, and a
#   few calls at once are over a container's 1,024 files. send_each_async sends the same over one HTTP/2 connection.
# Versions: firebase-admin 7.7.0, requests 2.34.2, urllib3 2.8.0, Python 3.11. Date: 2026-11-29.
# Seen: "send_each of 500: 465 connections, 500 under way together; once more: 490 connections" (the first number differs)
# Exits 1 when either call needs fewer than 300 connections. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q firebase-admin==7.7.0 requests==2.34.2 urllib3==2.8.0 2>/dev/null
openssl genrsa -out account.pem 2048 2>/dev/null
venv/bin/python -W ignore - <<'PY'
import asyncio, logging, pathlib, sys, threading

import firebase_admin
from firebase_admin import messaging

logging.disable()
seen = {"connections": 0, "open": 0, "most": 0}


async def fcm(reader, writer):
    """One connection: an access token at once, a message's name after 3 s, as long as it stays open."""
    counted = False
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(length)
        body = b'{"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}'
        if not head.startswith(b"POST /token"):
            seen["connections"] += not counted
            counted = True
            seen["open"] += 1
            seen["most"] = max(seen["most"], seen["open"])
            await asyncio.sleep(3)
            seen["open"] -= 1
            body = b'{"name": "projects/im/messages/1"}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def connected(reader, writer):
    try:
        await fcm(reader, writer)
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


async def serve():
    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    port.append(server.sockets[0].getsockname()[1])
    up.set()
    await asyncio.Event().wait()


port, up = [], threading.Event()
threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
up.wait()
url = f"http://127.0.0.1:{port[0]}"
account = {"type": "service_account", "project_id": "im", "private_key_id": "1", "client_email": "im@im.example", "client_id": "1"}
account |= {"private_key": pathlib.Path("account.pem").read_text(), "token_uri": url + "/token"}
app = firebase_admin.initialize_app(firebase_admin.credentials.Certificate(account))
messaging._MessagingService.FCM_URL = url + "/v1/projects/{0}/messages:send"
batch = [messaging.Message(token=f"t{n}", notification=messaging.Notification("hello")) for n in range(500)]
sent = messaging.send_each(batch, app=app).success_count
first = seen["connections"]
again = messaging.send_each(batch, app=app).success_count
second = seen["connections"] - first
print(f"send_each of {sent}: {first} connections, {seen['most']} under way together; once more: {second} connections")
sys.exit(0 if sent == again == 500 and min(first, second) >= 300 else 1)
PY
