#!/bin/bash
# Guess: Message.objects.bulk_send of django-expo-notifications, which hands its messages to one Celery task, sends again what Expo did not take: where
#   Expo answers 429 to one of the requests of 100 that they travel in, the 100 of that request.
# Behaviour: django-expo-notifications 0.8.0 sends all of them again, up to five times: the client under it (exponent-server-sdk) raises at the busy
#   request, with the tickets of those before it lost, and the task repeats the whole list. With 150 messages and a second request that stays refused
#   for two and a half minutes the first hundred people's phones ring six times each, and the database shows no ticket for any of them.
# Versions: django-expo-notifications 0.8.0, exponent-server-sdk 2.2.0, Celery 5.7.0, Django 5.2.8, Python 3.11. Date: 2026-11-29.
# Seen: "150 messages, the second request refused once: 100 phones rang 2 times, 50 rang 1 times, 150 tickets"
#   and "refused always: 100 phones rang 6 times, 0 tickets"
# Exits 1 when the first hundred ring once. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q django-expo-notifications==0.8.0 exponent-server-sdk==2.2.0 celery==5.7.0 Django==5.2.8 2>/dev/null
cat > settings.py <<'PY'
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "expo_notifications"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "push.db"}}
SECRET_KEY = "a"
USE_TZ = True
PY
cat > push.py <<'PY'
import collections, json, os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
from celery import Celery

# The task runs in this process, and its retries at once: Celery's own way to run without a broker.
celery = Celery("push", set_as_current=True)
celery.conf.update(task_always_eager=True)
celery.set_default()
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from exponent_server_sdk import PushClient

call_command("migrate", verbosity=0)
from expo_notifications.models import Device, Message, Ticket

rang = collections.Counter()
refusals = 0


class Expo(BaseHTTPRequestHandler):
    """Takes each request of 100; one with fewer is refused as often as `refusals` says."""

    def do_POST(self):
        global refusals
        messages = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "getReceipts" in self.path:
            self.answer(200, {"data": {}})
        elif len(messages) < 100 and refusals:
            refusals -= 1
            self.answer(429, {"errors": [{"code": "TOO_MANY_REQUESTS", "message": "Too many requests"}]})
        else:
            rang.update(message["to"] for message in messages)
            self.answer(200, {"data": [{"status": "ok", "id": message["to"][-20:]} for message in messages]})

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


expo = ThreadingHTTPServer(("127.0.0.1", 0), Expo)
threading.Thread(target=expo.serve_forever, daemon=True).start()
PushClient.DEFAULT_HOST = f"http://127.0.0.1:{expo.server_port}"

user = User.objects.create(username="anna")
devices = [Device.objects.create(user=user, push_token=f"ExponentPushToken[{number:022d}]") for number in range(150)]


def send(times):
    """How many phones rang how often, and how many tickets are in the database."""
    global refusals
    refusals = times
    rang.clear()
    Ticket.objects.all().delete()
    try:
        Message.objects.bulk_send([Message(device=device, body="hello") for device in devices])
    except Exception:
        pass
    return collections.Counter(rang.values()), Ticket.objects.count()


once, tickets = send(1)
always, none = send(100)
told = [", ".join(f"{phones} rang {times} times" for times, phones in sorted(one.items(), reverse=True)) for one in (once, always)]
print(f"150 messages, the second request refused once: {told[0].replace(' rang', ' phones rang', 1)}, {tickets} tickets")
print(f"refused always: {told[1].replace(' rang', ' phones rang', 1)}, {none} tickets")
sys.exit(0 if once[2] == 100 else 1)
PY
timeout 120 venv/bin/python push.py 2>err.txt || { code=$?; tail -5 err.txt >&2; exit $code; }
