#!/bin/sh
# Guess: django-push-notifications switches a device off when FCM says that its token is gone; a message that FCM refuses for its own sake (a
#   text too long) is an error of that message, and the devices stay on.
# Behaviour: django-push-notifications 3.3.0 counts each INVALID_ARGUMENT as a dead registration. Its check for "Invalid registration" is
#   followed by another that takes the class of the error alone, so one message of more than 4,096 bytes to all devices switches all of them off,
#   and nobody gets a push until their app registers again.
# Versions: django-push-notifications 3.3.0, firebase-admin 7.7.0, Django 5.2.8, Python 3.11. Date: 2026-11-29.
# Seen: "before: 3 of 3 devices on; after one message that was too long: 0 of 3"
# Exits 1 when the devices stay on. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q django-push-notifications==3.3.0 firebase-admin==7.7.0 Django==5.2.8
openssl genrsa -out account.pem 2048 2>/dev/null
venv/bin/python - <<'PY'
import http.server, json, pathlib, sys, threading, warnings

import django
import firebase_admin
from django.conf import settings
from django.core.management import call_command
from firebase_admin import messaging

warnings.simplefilter("ignore")
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
TOO_LONG = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "Android message is too big", "details": [{"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}]}}


class Server(http.server.BaseHTTPRequestHandler):
    """Refuses what is over FCM's 4,096 bytes, takes all else."""

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            status, answer = 200, {"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}
        else:
            status, answer = (400, TOO_LONG) if len(sent) > 4_400 else (200, {"name": "projects/im/messages/1"})
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
account = {"type": "service_account", "project_id": "im", "private_key_id": "1", "private_key": pathlib.Path("account.pem").read_text()}
account |= {"client_email": "im@im.example", "client_id": "1", "token_uri": url + "/token"}
pathlib.Path("account.json").write_text(json.dumps(account))
firebase_admin.initialize_app(firebase_admin.credentials.Certificate("account.json"))
messaging._MessagingService.FCM_URL = url + "/v1/projects/{0}/messages:send"

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "push_notifications"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    PUSH_NOTIFICATIONS_SETTINGS={},
)
django.setup()
call_command("migrate", verbosity=0)
from push_notifications.models import GCMDevice

for name in "abc":
    GCMDevice.objects.create(registration_id=name, cloud_message_type="FCM")
GCMDevice.objects.all().send_message("hello")
before = GCMDevice.objects.filter(active=True).count()
GCMDevice.objects.all().send_message("hello " * 1_000)
after = GCMDevice.objects.filter(active=True).count()
print(f"before: {before} of 3 devices on; after one message that was too long: {after} of 3")
sys.exit(0 if (before, after) == (3, 0) else 1)
PY
