#!/bin/sh
# Guess: FCMNotRegisteredError of pyfcm means what FCM calls UNREGISTERED, so its token may be deleted; FCMSenderIdMismatchError means
#   SENDER_ID_MISMATCH. A wrong project or a disabled API is neither.
# Behaviour: pyfcm 2.1.1 looks at the HTTP status alone. Every 404 is "Token not registered" (also Google's answer for a project that is not
#   there), every 403 "sender ID is different" (also for an account without the right and for the disabled API). A typo in project_id, and an
#   application that deletes tokens on FCMNotRegisteredError empties its table. firebase-admin tells the two apart by errorCode.
# Versions: pyfcm 2.1.1, firebase-admin 7.7.0, Python 3.11. Date: 2026-11-29.
# Seen: "404 without errorCode: FCMNotRegisteredError; 404 UNREGISTERED: FCMNotRegisteredError; 403 SERVICE_DISABLED: FCMSenderIdMismatchError"
#   and of firebase-admin "NotFoundError, UnregisteredError, PermissionDeniedError"
# Exits 1 when pyfcm tells them apart. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q pyfcm==2.1.1 firebase-admin==7.7.0
openssl genrsa -out account.pem 2048 2>/dev/null
venv/bin/python - <<'PY'
import http.server, json, pathlib, sys, threading, warnings

import firebase_admin
from firebase_admin import messaging
from pyfcm import FCMNotification

warnings.simplefilter("ignore")
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
ANSWERS = {
    "gone": (404, {"status": "NOT_FOUND", "message": "Requested entity was not found.", "details": [{"@type": FCM_ERROR, "errorCode": "UNREGISTERED"}]}),
    "nowhere": (404, {"status": "NOT_FOUND", "message": "Requested entity was not found."}),
    "disabled": (403, {"status": "PERMISSION_DENIED", "message": "Firebase Cloud Messaging API has not been used in project 1 before or it is disabled."}),
}


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        sent = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            status, answer = 200, {"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}
        else:
            status, error = ANSWERS[json.loads(sent)["message"]["token"]]
            answer = {"error": {"code": status, **error}}
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
key = pathlib.Path("account.pem").read_text()
account = {"type": "service_account", "project_id": "im", "private_key_id": "1", "private_key": key, "client_email": "im@im.example", "client_id": "1"}
account["token_uri"] = url + "/token"
pathlib.Path("account.json").write_text(json.dumps(account))
FCMNotification.FCM_END_POINT_BASE = url
fcm = FCMNotification(service_account_file="account.json", project_id="im")
app = firebase_admin.initialize_app(firebase_admin.credentials.Certificate("account.json"))
messaging._MessagingService.FCM_URL = url + "/v1/projects/{0}/messages:send"


def raised(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "nothing"


pyfcm, admin = {}, {}
for token in ("nowhere", "gone", "disabled"):
    pyfcm[token] = raised(lambda: fcm.notify(fcm_token=token, notification_title="t"))
    admin[token] = raised(lambda: messaging.send(messaging.Message(token=token), app=app))
print(f"404 without errorCode: {pyfcm['nowhere']}; 404 UNREGISTERED: {pyfcm['gone']}; 403 SERVICE_DISABLED: {pyfcm['disabled']}")
print(f"firebase-admin: {admin['nowhere']}, {admin['gone']}, {admin['disabled']}")
sys.exit(0 if pyfcm["nowhere"] == pyfcm["gone"] == "FCMNotRegisteredError" and pyfcm["disabled"] == "FCMSenderIdMismatchError" else 1)
PY
