"""An OPPO client written from the vendor's page alone."""

import hashlib
import json
import re
import time
import urllib.parse

from tests.integration.simulators.clients.web import Web

REGID = re.compile(r"^((([0-9A-Za-z]{2,10})_)?([A-Z]{2}|EUEX)_)?[0-9a-fA-F]{32}$")


def sign(app_key, timestamp, master_secret):
    return hashlib.sha256((app_key + timestamp + master_secret).encode()).hexdigest()


def auth_body(app_key, timestamp, master_secret):
    return urllib.parse.urlencode(
        {
            "app_key": app_key,
            "sign": sign(app_key, timestamp, master_secret),
            "timestamp": timestamp,
        }
    )


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def host_of(regid):
    """`domestic`, `overseas`, or None for what is no registration id."""
    if not REGID.match(regid):
        return None
    parts = regid.split("_")
    return "domestic" if len(parts) == 1 or parts[-2] == "CN" else "overseas"


def sort_batch(tokens, answer):
    """{token: `accepted`, `drop` or the code} by registration id; a missing entry is None."""
    found = {entry.get("registrationId"): entry.get("errorCode", 0) for entry in answer["data"]}
    names = {0: "accepted", 10000: "drop"}
    return {token: names.get(found.get(token), found.get(token)) for token in tokens}


def dead_by_receipt(items):
    return [
        one.strip()
        for item in items
        if item["eventType"] == "regid_invalid"
        for one in item["registrationIds"].split(",")
    ]


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
        stamp = str(int(time.time() * 1000) + skew_ms)
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
        return self.call(
            "message/notification/unicast_batch",
            {"auth_token": token, "messages": compact(messages)},
        )
