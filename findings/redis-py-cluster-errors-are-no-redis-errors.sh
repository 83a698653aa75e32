#!/bin/sh
# Guess:      what redis-py raises is a redis.exceptions.RedisError, so `except RedisError` is enough around RedisCluster, too.
# Behaviour:  RedisClusterException is derived from Exception. It is what RedisCluster raises when no node can be reached, and (as
#             SlotNotCoveredError) when nobody serves a slot during a failover: neither is caught. ClusterDownError is a RedisError.
# Versions:   redis-py 8.1.0, Python 3.11; seen 2026-11-29
# Output:     RedisClusterException: RedisError no
#             SlotNotCoveredError: RedisError no
#             ClusterDownError: RedisError yes
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0
"$folder/venv/bin/python" - <<'PY' | tee "$folder/out"
import socket

from redis.cluster import RedisCluster
from redis.exceptions import ClusterDownError, RedisError, SlotNotCoveredError

with socket.create_server(("127.0.0.1", 0)) as probe:
    nobody = probe.getsockname()[1]
try:
    RedisCluster(host="127.0.0.1", port=nobody, socket_connect_timeout=1)
except Exception as error:  # noqa: BLE001
    print(f"{type(error).__name__}: RedisError {'yes' if isinstance(error, RedisError) else 'no'}")
for kind in (SlotNotCoveredError, ClusterDownError):
    print(f"{kind.__name__}: RedisError {'yes' if issubclass(kind, RedisError) else 'no'}")
PY
grep -qx 'RedisClusterException: RedisError no' "$folder/out"
grep -qx 'SlotNotCoveredError: RedisError no' "$folder/out"
grep -qx 'ClusterDownError: RedisError yes' "$folder/out"
