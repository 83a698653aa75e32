#!/bin/sh
# Guess: the VAPID token of the package webpush names the push service by its origin (RFC 8292, 2: "aud", as RFC 6454 writes an origin), with the port
#   where it is not 443: self-hosted push services (UnifiedPush distributors, autopush) often stand on another one.
# Behaviour: webpush 1.0.6 leaves the port out. A service that checks the token, as the RFC has it, refuses every push to its phones with 401 or 403,
#   while those of Google, Mozilla and Apple, on 443, take theirs; refused like a wrong key, so who drops such subscriptions loses those people for
#   good. pywebpush writes the origin.
# Versions: webpush 1.0.6, pywebpush 2.5.0, Python 3.11. Date: 2026-11-29.
# Seen: "https://push.example.org:8443/up/a: webpush aud https://push.example.org, pywebpush aud https://push.example.org:8443"
# Exits 1 when webpush names the port. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q webpush==1.0.6 pydantic==2.14.4 cryptography==50.0.2 pywebpush==2.5.0 2>/dev/null
venv/bin/python - <<'PY'
import json, os, re, sys
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pywebpush, requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid
from webpush import WebPush, WebPushSubscription
from webpush.vapid import VAPID

ENDPOINT = "https://push.example.org:8443/up/a"
private, public, _ = VAPID.generate_keys()
point = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
keys = {"auth": urlsafe_b64encode(os.urandom(16)).decode(), "p256dh": urlsafe_b64encode(point).decode()}
subscription = {"endpoint": ENDPOINT, "keys": keys}


def audience(authorization):
    claims = re.search(r"t=[^.]*\.([^.]*)\.", authorization)[1]
    return json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["aud"]


class Told(requests.Session):
    """Sends nothing: keeps the headers that pywebpush would have sent."""

    def post(self, url, headers, **_):
        self.told = headers
        answer = requests.Response()
        answer.status_code = 201
        return answer


push = WebPush(private_key=private, public_key=public, subscriber="admin@example.org", ttl=60)
named = audience(push.get("hello", WebPushSubscription(**subscription)).headers["authorization"])
session = Told()
claims = {"sub": "mailto:admin@example.org"}
pywebpush.webpush(subscription, "hello", Vapid.from_pem(private), claims, ttl=60, requests_session=session)
other = audience(session.told["authorization"])
print(f"{ENDPOINT}: webpush aud {named}, pywebpush aud {other}")
sys.exit(0 if not named.endswith(":8443") else 1)
PY
