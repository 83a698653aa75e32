#!/bin/sh
# Guess: firebase-admin waits after a 503 as FCM's Retry-After says, in each of its calls, and never longer than its own httpTimeout allows.
# Behaviour: send and send_each of firebase-admin 7.7.0 for Python sleep for the whole Retry-After, up to four times in one call: nothing bounds it,
#   httpTimeout is of one try. A header of 60 keeps a caller for four minutes, with "httpTimeout": 1. send_each_async reads no Retry-After at all: it
#   asks again at once, then after 1, 2 and 4 s, which is what the header forbids.
# Versions: firebase-admin 7.7.0, requests 2.34.2, urllib3 2.8.0, httpx 0.28.1, Python 3.11. Date: 2026-11-29.
# Seen: "Retry-After 3: send asked after 0, 3, 3, 3, 3 s; send_each_async after 0, 0, 1, 2, 4 s"
# Exits 1 when send ends within 6 s or send_each_async waits at all before its second try. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q firebase-admin==7.7.0 requests==2.34.2 urllib3==2.8.0 httpx==0.28.1 2>/dev/null
openssl genrsa -out account.pem 2048 2>/dev/null
venv/bin/python -W ignore - <<'PY'
import asyncio, http.server, pathlib, sys, threading, time

import firebase_admin
from firebase_admin import messaging

RETRY_AFTER_S = 3
asked = []


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            status, body = 200, b'{"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}'
        else:
            asked.append(time.monotonic())
            status, body = 503, b'{"error": {"code": 503, "status": "UNAVAILABLE", "message": "later"}}'
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def waits(call):
    asked.clear()
    try:
        call()
    except Exception:
        pass
    return [round(later - before) for before, later in zip(asked[:1] + asked, asked)]


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
account = {"type": "service_account", "project_id": "im", "private_key_id": "1", "client_email": "im@im.example", "client_id": "1"}
account |= {"private_key": pathlib.Path("account.pem").read_text(), "token_uri": url + "/token"}
app = firebase_admin.initialize_app(firebase_admin.credentials.Certificate(account), {"httpTimeout": 1})
messaging._MessagingService.FCM_URL = url + "/v1/projects/{0}/messages:send"
message = messaging.Message(token="t", notification=messaging.Notification("hello"))
sync = waits(lambda: messaging.send(message, app=app))
later = waits(lambda: asyncio.run(messaging.send_each_async([message], app=app)))
texts = [", ".join(map(str, seen)) for seen in (sync, later)]
print(f"Retry-After {RETRY_AFTER_S}: send asked after {texts[0]} s; send_each_async after {texts[1]} s")
sys.exit(0 if sum(sync) > 6 and later[1] < RETRY_AFTER_S else 1)
PY
