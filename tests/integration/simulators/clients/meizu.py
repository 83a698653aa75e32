"""A Meizu client written from the vendor's page alone."""

import hashlib
import json
import urllib.parse

from tests.integration.simulators.clients.web import Web

ROOT = "/garcia/api/server/push/"


def sign(parameters, secret):
    """md5 over name=value in the names' order, nothing between, and the secret after it."""
    digest = hashlib.md5()
    for name, value in sorted(parameters.items()):
        if name != "sign":
            digest.update(f"{name}={value}".encode())
    digest.update(secret.encode())
    return digest.hexdigest()


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def verdicts(tokens, answer):
    """{pushId: `accepted` or the code} of a 200; the value may be an empty text."""
    value = answer["value"] if isinstance(answer["value"], dict) else {}
    named = {token: code for code, listed in value.items() for token in listed}
    return {token: named.get(token, "accepted") for token in tokens}


def receipts(body):
    """[(msgId, type, param, targets)] of a receipt post; the key is split at its last dash."""
    told = json.loads(dict(urllib.parse.parse_qsl(body))["cb"])
    return [
        (*key.rpartition("-")[::2], item["param"], item["targets"]) for key, item in told.items()
    ]


class MeizuClient:
    def __init__(self, base, ca, app_id="110001", secret="0f1e2d3c4b5a69788796a5b4c3d2e1f0"):
        self._web, self._app_id, self._secret = Web(base, ca), app_id, secret

    def call(self, path, fields, method="POST", signed=None, root=ROOT):
        """The JSON answer, or the HTTP status when it is not 200."""
        form = {"appId": self._app_id, **fields}
        form["sign"] = sign(form, self._secret) if signed is None else signed
        pairs = urllib.parse.urlencode(form)
        headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
        if method == "GET":
            status, answer = self._web.call("GET", f"{root}{path}?{pairs}")
        else:
            status, answer = self._web.call(method, root + path, pairs.encode(), headers)
        return json.loads(answer) if status == 200 else status

    def push(self, message, *tokens, **more):
        text = message if isinstance(message, str) else compact(message)
        return self.call(
            "varnished/pushByPushId", {"pushIds": ",".join(tokens), "messageJson": text, **more}
        )
