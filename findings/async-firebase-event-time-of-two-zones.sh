#!/bin/sh
# Guess: event_timestamp of async-firebase takes a datetime with its zone, as datetime.now(timezone.utc) or Django's timezone.now() gives it, and
#   writes it as Google wants a Timestamp, "2026-11-30T12:00:00Z"; firebase-admin does.
# Behaviour: async-firebase 6.4.0 writes isoformat() and a Z behind it. A time with a zone becomes "...+00:00Z", which is no Timestamp:
#   protobuf's reader of JSON, in whose form FCM takes messages, refuses it. A time without a zone, datetime.now(), passes, and its clock is
#   called UTC: in Shanghai the shade gets a message of eight hours later.
# Versions: async-firebase 6.4.0, protobuf 7.36.2, Python 3.11. Date: 2026-11-30.
# Seen: "with a zone: 2026-11-30T12:00:00+00:00Z, refused; without, in Shanghai: 2026-11-30T20:00:00Z, 8 hours off"
# Exits 1 when the time with a zone is a Timestamp. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q async-firebase==6.4.0 protobuf 2>/dev/null
cat > "$here/push.py" <<'PY'
from datetime import datetime, timedelta, timezone

from async_firebase.messages import AndroidConfig, Message
from async_firebase.serialization import serialize_message
from google.protobuf.timestamp_pb2 import Timestamp


def written(when):
    android = AndroidConfig.build(priority="high", title="Ann", body="hello", event_timestamp=when)
    sent = serialize_message(Message(token="t", android=android))
    return sent["message"]["android"]["notification"]["event_time"]


def read(text):
    found = Timestamp()
    found.FromJsonString(text)
    return found.ToDatetime(timezone.utc)


noon = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
shanghai = noon.astimezone(timezone(timedelta(hours=8))).replace(tzinfo=None)  # datetime.now() there
aware, naive = written(noon), written(shanghai)
try:
    refused = read(aware) != noon
except ValueError:
    refused = True
away = (read(naive) - noon).total_seconds() / 3600
print(f"with a zone: {aware}, {'refused' if refused else 'right'};", end=" ")
print(f"without, in Shanghai: {naive}, {away:g} hours off")
raise SystemExit(not refused)
PY
"$here/venv/bin/python" "$here/push.py"
