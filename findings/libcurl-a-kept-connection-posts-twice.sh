#!/bin/bash
# Guess: libcurl, under PHP's curl, pycurl and many more, sends a POST once: when the server has read it and ends the connection without an answer it is
#   an error (52, "Empty reply from server"), and whether to send it again is the caller's business. A try again is what curl --retry is for.
# Behaviour: so it is on a connection that was opened for it. On one that was kept from an earlier request libcurl 8.23.0 takes that end for one that
#   came before the POST, and sends it once more on a new connection without a word: the push that a restarting server had read is answered 200 and
#   rings twice, and only where curl keeps connections, so never in a test with one push. CURLOPT_FRESH_CONNECT keeps it from that.
# Versions: pycurl 7.49.0 (its wheel: libcurl 8.23.0), Python 3.11. Date: 2026-11-30.
# Seen: "new connection: error 52, read 1 times; kept connection: 200, read 2 times; kept, but FRESH_CONNECT: error 52, read 1 times"
# Exits 1 when the push on the kept connection is read once. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q pycurl==7.49.0 2>/dev/null
cat > push.py <<'PY'
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pycurl

read, silent = 0, 0


class Vendor(BaseHTTPRequestHandler):
    """Reads each push; the next `silent` of them get no answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global read, silent
        self.rfile.read(int(self.headers["content-length"]))
        read += 1
        if silent:
            silent -= 1
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


vendor = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
threading.Thread(target=vendor.serve_forever, daemon=True).start()


def push(curl, unanswered):
    """What the caller hears of one push, and how often the vendor has read it."""
    global read, silent
    read, silent = 0, unanswered
    curl.setopt(pycurl.URL, f"http://127.0.0.1:{vendor.server_port}/push")
    curl.setopt(pycurl.POSTFIELDS, '{"alert": "hello"}')
    try:
        curl.perform()
        heard = str(curl.getinfo(pycurl.RESPONSE_CODE))
    except pycurl.error as error:
        heard = f"error {error.args[0]}"
    return heard, read


new, kept, fresh = pycurl.Curl(), pycurl.Curl(), pycurl.Curl()
fresh.setopt(pycurl.FRESH_CONNECT, 1)
for curl in (kept, fresh):
    assert push(curl, 0) == ("200", 1)
seen = [push(new, 1), push(kept, 1), push(fresh, 1)]
texts = [f"{heard}, read {times} times" for heard, times in seen]
print(f"new connection: {texts[0]}; kept connection: {texts[1]}; kept, but FRESH_CONNECT: {texts[2]}")
sys.exit(0 if seen[0] == ("error 52", 1) and seen[1] == ("200", 2) else 1)
PY
timeout 60 venv/bin/python push.py
