#!/bin/sh
# Guess: send_group_notification of django-webpush deletes a subscription that the push service calls expired and goes on to the next; RFC 8030 (7.3)
#   wants 404 for it ("MUST"), and some services say 410.
# Behaviour: django-webpush 0.3.6 knows 410 alone. At a 404 it raises: those behind it in the group get nothing, and as the expired one stays where it
#   is, they get nothing from every later message either, however often the caller tries; those before it are rung by each try. A group falls silent
#   behind its first member who cleared their browser, and grows more silent with each.
# Versions: django-webpush 0.3.6, pywebpush 2.5.0, Django 5.2.8, Python 3.11. Date: 2026-11-29.
# Seen: "group of 6, the 3rd expired (404): 2 pushed, then WebPushException; tried again: 2 pushed, WebPushException, still 6 in the group"
#   and "expired (410): 5 pushed, 5 in the group"
# Exits 1 when the 404 lets the rest of the group through. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q django-webpush==0.3.6 pywebpush==2.5.0 Django==5.2.8 2>/dev/null
cat > push.py <<'PY'
import os, sys, threading
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import django
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "webpush"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "push.db"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()
from django.core.management import call_command

call_command("migrate", verbosity=0)
from webpush import send_group_notification
from webpush.models import Group, PushInformation, SubscriptionInfo

pushed = []


class PushService(BaseHTTPRequestHandler):
    """Its subscription /3 has expired: what it says for that stands in the address."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        group, number = self.path.strip("/").split("/")
        if number != "3":
            pushed.append(number)
        self.send_response(int(group) if number == "3" else 201)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


service = ThreadingHTTPServer(("127.0.0.1", 0), PushService)
threading.Thread(target=service.serve_forever, daemon=True).start()


def subscribe(group, number):
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    subscription = SubscriptionInfo.objects.create(
        browser="firefox",
        endpoint=f"http://127.0.0.1:{service.server_port}/{group.name}/{number}",
        auth=urlsafe_b64encode(os.urandom(16)).decode(),
        p256dh=urlsafe_b64encode(point).decode(),
    )
    PushInformation.objects.create(subscription=subscription, group=group)


def send(group):
    """How many were pushed, what the caller got, and how many are in the group then."""
    pushed.clear()
    try:
        send_group_notification(group_name=group.name, payload={"head": "Anna", "body": "hello"}, ttl=86400)
        got = "no error"
    except Exception as error:
        got = type(error).__name__
    return len(pushed), got, group.webpush_info.count()


groups = {}
for status in ("404", "410"):
    groups[status] = Group.objects.create(name=status)
    for number in range(1, 7):
        subscribe(groups[status], number)
first, again, gone = send(groups["404"]), send(groups["404"]), send(groups["410"])
print(
    f"group of 6, the 3rd expired (404): {first[0]} pushed, then {first[1]}; "
    f"tried again: {again[0]} pushed, {again[1]}, still {again[2]} in the group"
)
print(f"expired (410): {gone[0]} pushed, {gone[2]} in the group")
sys.exit(0 if again == (2, "WebPushException", 6) else 1)
PY
venv/bin/python push.py
