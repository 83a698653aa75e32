#!/bin/sh
# Guess: WebPush of the package webpush has a ttl for all messages, and get(ttl=...) is that of one message: the next get() without one has the
#   object's again, and ttl=0 ("only if the browser is reachable now", says its docstring) is written as TTL: 0.
# Behaviour: webpush 1.0.6 keeps what get() was given: the ttl (and the subscriber and expiration) of one message is that of every later one in the
#   process. After one call that was to ring for 30 s the day-long chat messages live for 30 s, and whoever is off the net for a minute never hears
#   of them, while the push service answers 201 for each. And ttl=0 is taken for "not given": a now-or-never push is kept for a day.
# Versions: webpush 1.0.6, pydantic 2.14.4, cryptography 50.0.2, Python 3.11. Date: 2026-11-29.
# Seen: "chat: TTL 86400; a call with ttl=30: TTL 30; chat: TTL 30; a new object, ttl=0: TTL 86400"
# Exits 1 when the second chat message has the object's ttl. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q webpush==1.0.6 pydantic==2.14.4 cryptography==50.0.2 2>/dev/null
venv/bin/python - <<'PY'
import os, sys
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from webpush import WebPush, WebPushSubscription
from webpush.vapid import VAPID

private, public, _ = VAPID.generate_keys()
browser = ec.generate_private_key(ec.SECP256R1()).public_key()
point = browser.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
subscription = WebPushSubscription(
    endpoint="https://push.example.org/a",
    keys={"auth": urlsafe_b64encode(os.urandom(16)).decode(), "p256dh": urlsafe_b64encode(point).decode()},
)


def pusher():
    return WebPush(private_key=private, public_key=public, subscriber="admin@example.org", ttl=86400)


push = pusher()
chat = push.get("hello", subscription).headers["ttl"]
call = push.get("Anna calls", subscription, ttl=30).headers["ttl"]
later = push.get("hello again", subscription).headers["ttl"]
now_or_never = pusher().get("Anna calls", subscription, ttl=0).headers["ttl"]
print(f"chat: TTL {chat}; a call with ttl=30: TTL {call}; chat: TTL {later}; a new object, ttl=0: TTL {now_or_never}")
sys.exit(0 if (chat, call, later) == ("86400", "30", "30") else 1)
PY
