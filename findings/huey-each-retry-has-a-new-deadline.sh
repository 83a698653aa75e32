#!/bin/bash
# Guess: a task of huey with expires=30 does not begin later than 30 s after it was called: a ringing call that the vendor refuses for the moment is tried
#   again (retries=20, retry_delay=20) until nobody waits on the line any more, and then dropped, "expired".
# Behaviour: huey 3.5.4 counts the seconds anew each time it puts the task into its queue, so at each retry, too, when its delay is over: no call
#   ever expires on its retries. The one above is tried for seven minutes, and the phone rings for somebody who has long hung up. A moment as the
#   deadline (expires=datetime) is one for all tries.
# Versions: huey 3.5.4, Python 3.11. Date: 2026-12-01.
# Seen: "expires=2: 5 of 5 tries, the last more than 10 s after the call; expires=a moment 2 s ahead: 1 of 5"
# Exits 1 when the first expires as well. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q huey==3.5.4 2>/dev/null
cat > push.py <<'PY'
import datetime, logging, sys, time

from huey import MemoryHuey

logging.disable()
huey = MemoryHuey("calls", results=False)
tries = {"seconds": [], "moment": []}
began = time.monotonic()


@huey.task(retries=4, retry_delay=3)
def ring(name):
    tries[name].append(time.monotonic() - began)
    raise RuntimeError("503")


ring.schedule(("seconds",), delay=0, expires=2)
ring.schedule(("moment",), delay=0, expires=datetime.datetime.now() + datetime.timedelta(seconds=2))
consumer = huey.create_consumer(workers=2, periodic=False, initial_delay=0.1, max_delay=0.1)
consumer.start()
while len(tries["seconds"]) < 5 and time.monotonic() - began < 40:
    time.sleep(0.1)
consumer.stop()
late = "more" if tries["seconds"][-1] > 10 else "less"
print(
    f"expires=2: {len(tries['seconds'])} of 5 tries, the last {late} than 10 s after the call; "
    f"expires=a moment 2 s ahead: {len(tries['moment'])} of 5"
)
sys.exit(0 if late == "more" and len(tries["moment"]) == 1 else 1)
PY
timeout 60 venv/bin/python push.py
