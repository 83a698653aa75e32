"""A Meizu client; it signs as our vendor file does, which is held to the page's vectors."""

import json
import urllib.parse

from tests.integration.simulators.clients.web import Web
from workers.vendors.json_text import compact
from workers.vendors.meizu.request import sign

ROOT = "/garcia/api/server/push/"


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
