#!/bin/sh
# Guess: jpush.ios(content_available=True), without an alert, builds a silent push for iOS: it wakes the app and nothing else.
# Behaviour: jpush 3.4.1 (JPush's own client for Python) adds sound "default" and badge "+1" to whatever is built; a push without a word rings and
#   raises the number on the icon, and iOS counts it as a visible one. It is silent only with badge=None and sound_disable=True.
# Versions: jpush 3.4.1, Python 3.11. Date: 2026-11-29.
# Seen: "{'badge': '+1', 'sound': 'default', 'content-available': 1}"
# Exits 1 when sound and badge are gone. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q jpush==3.4.1
venv/bin/python - <<'PY'
import sys

import jpush

body = jpush.ios(content_available=True)
print(body)
sys.exit(0 if body.get("sound") == "default" and body.get("badge") == "+1" else 1)
PY
