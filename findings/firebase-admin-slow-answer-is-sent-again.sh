#!/bin/sh
# Guess: messaging.send of firebase-admin, Google's own client, reports a push that FCM did not answer within httpTimeout, and leaves it to the
#   caller to send it again: FCM's HTTP v1 has no key by which it could know a message a second time.
# Behaviour: firebase-admin 7.7.0 for Python repeats the POST by itself once after a timeout or a connection that ends before the answer (urllib3's
#   Retry with read=1, any method), though FCM has read it: the phone shows it twice. Then it raises UnavailableError "Failed to establish a
#   connection", so a caller who reads that as "never sent" makes it four. send_each_async sends once.
# Versions: firebase-admin 7.7.0, requests 2.34.2, urllib3 2.8.0, Python 3.11. Date: 2026-11-29.
# Seen: "send: FCM read the message 2 times, the caller got UnavailableError: Failed to establish a connection"
#   and "send_each_async: FCM read the message 1 times"
# Exits 1 when send posts it once. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q firebase-admin==7.7.0 requests==2.34.2 urllib3==2.8.0 2>/dev/null
openssl genrsa -out account.pem 2048 2>/dev/null
venv/bin/python -W ignore - <<'PY'
import asyncio, http.server, pathlib, sys, threading, time

import firebase_admin
from firebase_admin import messaging

HTTP_TIMEOUT_S, ANSWERS_AFTER_S = 1, 2
read = 0


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global read
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            body = b'{"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}'
        else:
            read += 1
            body = b'{"name": "projects/im/messages/1"}'
            time.sleep(ANSWERS_AFTER_S)
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
account = {"type": "service_account", "project_id": "im", "private_key_id": "1", "client_email": "im@im.example", "client_id": "1"}
account |= {"private_key": pathlib.Path("account.pem").read_text(), "token_uri": url + "/token"}
app = firebase_admin.initialize_app(firebase_admin.credentials.Certificate(account), {"httpTimeout": HTTP_TIMEOUT_S})
messaging._MessagingService.FCM_URL = url + "/v1/projects/{0}/messages:send"
message = messaging.Message(token="t", notification=messaging.Notification("hello"))
try:
    got = messaging.send(message, app=app)
except Exception as error:
    got = f"{type(error).__name__}: {str(error).split(':')[0]}"
once = read
print(f"send: FCM read the message {once} times, the caller got {got}")
asyncio.run(messaging.send_each_async([message], app=app))
print(f"send_each_async: FCM read the message {read - once} times")
sys.exit(0 if once == 2 else 1)
PY
