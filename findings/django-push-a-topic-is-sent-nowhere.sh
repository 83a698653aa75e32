#!/bin/bash
# Guess: send_message(None, message, to="/topics/news") of django-push-notifications, the call that its page gives for a topic, sends the message to that
#   topic; so does a message with topic="news", since send_message has a branch for messages that have a topic and no registration id.
# Behaviour: django-push-notifications 3.3.0 asks FCM for nothing. `to` goes among the keywords that nobody reads: None comes back. A message with its own
#   topic passes the check for a recipient, and then there is a loop over registration ids only: an empty BatchResponse, 0 failed. Neither raises or
#   logs. Its dict_to_fcm_message(to=...) looks for "/topic/", where its page and FCM have "/topics/", so that one becomes a device's token. A
#   notice to all of an app's people reaches nobody, and each check for failures passes.
# Versions: django-push-notifications 3.3.0, firebase-admin 7.7.0, Django 5.2.8, Python 3.11. Date: 2026-12-01.
# Seen: "one phone: 1 to FCM; to='/topics/news': 0 to FCM, None; topic='news': 0 to FCM, 0 failed; firebase_admin itself, topic='news': 1 to FCM;
#   dict_to_fcm_message(to='/topics/news'): token '/topics/news'"
# Exits 1 when a message to the topic reaches FCM. Needs python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q django-push-notifications==3.3.0 firebase-admin==7.7.0 Django==5.2.8 2>/dev/null
openssl genrsa -out account.pem 2048 2>/dev/null
cat > push.py <<'PY'
import http.server, json, pathlib, sys, threading, warnings

import django
import firebase_admin
from django.conf import settings
from firebase_admin import messaging

warnings.simplefilter("ignore")
sent = []


class Google(http.server.BaseHTTPRequestHandler):
    """Gives access tokens and takes every message."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            said = {"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}
        else:
            sent.append(json.loads(body)["message"])
            said = {"name": "projects/im/messages/1"}
        answer = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


google = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Google)
threading.Thread(target=google.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{google.server_port}"
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
django.core.management.call_command("migrate", verbosity=0)
from push_notifications.gcm import dict_to_fcm_message, send_message

words = {"body": "we are back"}


def run(send):
    """What a call gave, and how many messages FCM got of it."""
    before = len(sent)
    given = send()
    return given, len(sent) - before


_, phone = run(lambda: send_message("a-phone", dict_to_fcm_message(words)))
page, page_sent = run(lambda: send_message(None, dict_to_fcm_message(words), to="/topics/news"))
topic = dict_to_fcm_message(words)
topic.topic = "news"
batch, topic_sent = run(lambda: send_message(None, topic))
_, itself = run(lambda: messaging.send(topic))
print(
    f"one phone: {phone} to FCM; to='/topics/news': {page_sent} to FCM, {page}; topic='news': {topic_sent} to FCM, {batch.failure_count} failed; "
    f"firebase_admin itself, topic='news': {itself} to FCM;\n  dict_to_fcm_message(to='/topics/news'): "
    f"token {dict_to_fcm_message(words, to='/topics/news').token!r}"
)
sys.exit(0 if (phone, page_sent, topic_sent, itself) == (1, 0, 0, 1) else 1)
PY
timeout 60 venv/bin/python push.py
