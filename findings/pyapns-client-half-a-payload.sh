#!/bin/sh
# Guess: pyapns_client cuts a text that is too long for Apple, 4,096 bytes a push, and leaves every other text whole.
# Behaviour: pyapns_client 2.0.6 cuts at 2,048 bytes, Apple's bound of before HTTP/2, and counts each Chinese character as the six letters of its
#   escape. A Chinese text of 600 characters, 1,843 bytes with its title, arrives as 333 and three dots; and beside 2,100 bytes of the app's own
#   data, which Apple takes, every text is the three dots alone. Nothing is raised, and the log tells no cut.
# Versions: pyapns_client 2.0.6, Python 3.11. Date: 2026-11-30.
# Seen: "600 characters, 1843 bytes: 333 characters arrive, 2044 bytes; 23 characters beside 2100 bytes of data: '...'"
# Exits 1 when the first text is whole. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q pyapns_client==2.0.6
cat > "$here/push.py" <<'PY'
import json

from pyapns_client import IOSPayload, IOSPayloadAlert


def sent(text, **custom):
    raw = IOSPayload(alert=IOSPayloadAlert(title="Ann", body=text), custom=custom).to_json()
    return len(raw), json.loads(raw)["aps"]["alert"]["body"]


long = "会议改到下午三点，请带上合同。" * 40
whole = {"aps": {"alert": {"title": "Ann", "body": long}}}
size = len(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode())
bytes_, text = sent(long)
_, beside = sent("The meeting is at three", data="x" * 2100)
print(f"{len(long)} characters, {size} bytes: {len(text) - 3} characters arrive, {bytes_} bytes;", end=" ")
print(f"23 characters beside 2100 bytes of data: {beside!r}")
raise SystemExit(text == long)
PY
"$here/venv/bin/python" "$here/push.py"
