#!/bin/sh
# Guess: ApnsConfig of kalyke-apns, a frozen value without a recipient, is made once and used for every push; its default lifetime of 30 days
#   counts from the push.
# Behaviour: kalyke-apns 1.5.0 computes the moment when the config is made. Each later push carries the same "apns-expiration"; a process that
#   made its config 30 days ago sends pushes that have expired, and Apple does not keep one of them for a phone that is off.
# Versions: kalyke-apns 1.5.0, Python 3.11. Date: 2026-11-29.
# Seen: "made 3 s apart: 0 s between the headers; 30 days after the start a push has expired"
# Exits 1 when the header moves with the clock. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q kalyke-apns==1.5.0
venv/bin/python - <<'PY'
import sys, time
from unittest import mock

from kalyke.models import ApnsConfig

config = ApnsConfig(topic="org.example.im")
first = int(config.make_headers()["apns-expiration"])
time.sleep(3)
moved = int(config.make_headers()["apns-expiration"]) - first
month_later = time.time() + 30 * 86_400
with mock.patch("time.time", return_value=month_later):
    left = int(config.make_headers()["apns-expiration"]) - month_later
print(f"made 3 s apart: {moved} s between the headers; 30 days after the start a push has {'expired' if left < 0 else left}")
sys.exit(0 if moved == 0 and left < 0 else 1)
PY
