"""A Xiaomi client written from the vendor's page alone."""

import json
import urllib.parse

from tests.integration.simulators.clients.web import Web


def encode(pairs):
    return urllib.parse.urlencode(list(pairs))


def multi_body(messages):
    text = json.dumps(messages, ensure_ascii=False, separators=(",", ":"))
    return encode([("messages", text), ("time_to_send", 0)])


def exceeded(told):
    """`no_channel:2 a:3` -> {no_channel: 2, a: 3}."""
    return {name: int(count) for name, _, count in (part.rpartition(":") for part in told.split())}


def receipts(body):
    """The items of one receipt post: {message id: item}. JSON first; only if that fails,
    percent-decode once more.
    """
    data = dict(urllib.parse.parse_qsl(body))["data"]
    try:
        return json.loads(data)
    except ValueError:
        return json.loads(urllib.parse.unquote(data))


class XiaomiClient:
    def __init__(self, base, ca, secret="EXAMPLE_APP_SECRET"):
        self._web, self._secret = Web(base, ca), secret

    def _call(
        self,
        method,
        path,
        body=None,
        secret=None,
        kind="application/x-www-form-urlencoded;charset=UTF-8",
    ):
        headers = {"Authorization": f"key={secret or self._secret}", "Content-Type": kind}
        status, answer = self._web.call(
            method, path, body.encode() if isinstance(body, str) else body, headers
        )
        return json.loads(answer) if status == 200 else status

    def send(self, form, path="/v3/message/regid", **more):
        return self._call("POST", path, encode(form.items()), **more)

    def multi(self, messages, **more):
        return self._call("POST", "/v2/multi_messages/regids", multi_body(messages), **more)

    def raw(self, method, path, body=b"", **more):
        return self._call(method, path, body if method == "POST" else None, **more)

    def revoke(self, form):
        return self._call("POST", "/v3/message/regid/revoke", encode(form.items()))

    def quota(self, **more):
        return self._call("GET", "/v1/trace/quota/get", **more)
