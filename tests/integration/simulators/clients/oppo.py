"""An OPPO client; it signs as our vendor file does, which is held to the page's vectors."""

import json
import time
import urllib.parse
from typing import Any

from tests.integration.simulators.clients.web import Web
from workers.vendors.json_text import compact
from workers.vendors.oppo.credential import sign


def sort_batch(tokens, answer):
    """{token: `accepted`, `drop` or the code} by registration id; a missing entry is None."""
    found = {entry.get("registrationId"): entry.get("errorCode", 0) for entry in answer["data"]}
    names: dict[Any, str] = {0: "accepted", 10000: "drop"}
    return {token: names.get(found.get(token), found.get(token)) for token in tokens}


class OppoClient:
    def __init__(self, base, ca):
        self._web = Web(base, ca)

    def call(self, path, fields=(), method="POST"):
        pairs = urllib.parse.urlencode(list(dict(fields).items()))
        path = f"/server/v1/{path}"
        if method == "GET":
            return json.loads(self._web.call("GET", f"{path}?{pairs}")[1])
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return json.loads(self._web.call(method, path, pairs.encode(), headers)[1])

    def auth(self, key="exampleAppKey0001", secret="exampleMasterSecret0001", skew_ms=0):
        stamp = int(time.time() * 1000) + skew_ms
        return self.call(
            "auth", {"app_key": key, "sign": sign(key, stamp, secret), "timestamp": stamp}
        )

    def access(self, *args):
        return self.auth(*args)["data"]["auth_token"]

    def unicast(self, token, message):
        return self.call(
            "message/notification/unicast", {"auth_token": token, "message": compact(message)}
        )

    def batch(self, token, messages):
        form = {"auth_token": token, "messages": compact(messages)}
        return self.call("message/notification/unicast_batch", form)
