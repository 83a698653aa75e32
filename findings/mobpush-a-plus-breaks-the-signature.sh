#!/bin/bash
# Guess: MobPush's own client for Python sends each push as it was given, signed as MobPush asks: the header "sign" is the MD5 of the body and the app's
#   secret, which the server computes again from the body that it reads. And what setNotifyExtraParams adds is of the push that it was called on.
# Behaviour: mobPushSdkV3 2.0.0 signs the text, and then writes %2B for each + in it, as in a form, though the body is JSON: with a +86 or a C++ in
#   the words, or a base64 in the extras, the sign is not that of the body, and a server that checks it refuses the push; one that does not shows
#   %2B. Every other text goes through, so it looks like a fault of that one person's. And all pushes of a process share one list of extras: the
#   second person's carries the first one's, theirs to open; with the same key twice the app takes whichever it reads.
# Versions: mobPushSdkV3 2.0.0, requests 2.32.5, Python 3.11. Date: 2026-12-01.
# Seen: "Call me: sign good, content 'Call me', extras chat=1; Call +86 100: sign bad, content 'Call %2B86 100', extras chat=1 chat=2"
# Exits 1 when the second sign is good or the second push has its own extras. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q mobPushSdkV3==2.0.0 requests==2.32.5 2>/dev/null
cat > push.py <<'PY'
import hashlib, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mobpush.model.PushNotify import PushNotify
from mobpush.PushV3Client import PushV3Client
from mobpush.PushWorkBuilder import PushWorkBuilder

KEY, SECRET, seen = "key", "secret", []


class MobPush(BaseHTTPRequestHandler):
    """Checks the sign as MobPush's page has it and keeps what a phone would get."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        good = self.headers["sign"] == hashlib.md5(body + SECRET.encode()).hexdigest()
        seen.append((good, json.loads(body)["pushNotify"]))
        answer = b'{"status": 200}' if good else b'{"status": 401}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), MobPush)
threading.Thread(target=server.serve_forever, daemon=True).start()
PushV3Client.baseUrl = f"http://127.0.0.1:{server.server_port}"
client = PushV3Client(KEY, SECRET)
for number, words in enumerate(["Call me", "Call +86 100"], 1):
    work = PushWorkBuilder(KEY)
    work.push["pushNotify"] = PushNotify().get_result()
    work.setTargetByAlias(f"work-{number}", "Ann", words, [f"person-{number}"])
    work.setNotifyExtraParams("chat", str(number))
    client.pushTaskV3(work.build())
(first_good, first), (second_good, second) = seen
texts = [
    f"sign {'good' if good else 'bad'}, content {push['content']!r}, extras "
    + " ".join(f"{one['key']}={one['value']}" for one in push["extrasMapList"])
    for good, push in seen
]
print(f"Call me: {texts[0]}; Call +86 100: {texts[1]}")
sys.exit(0 if first_good and not second_good and len(second["extrasMapList"]) == 2 else 1)
PY
timeout 60 venv/bin/python push.py
