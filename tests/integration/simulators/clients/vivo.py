"""A vivo client; it signs as our vendor file does, which is held to the page's vectors."""

import json
import time

from tests.integration.simulators.clients.web import Web
from workers.vendors.vivo.credential import sign


def failed_users(answer):
    """{regId: status} of an answer, single or list."""
    users = answer.get("invalidUsers") or (
        [answer["invalidUser"]] if answer.get("invalidUser") else []
    )
    return {str(user["userid"]): user["status"] for user in users}


class VivoClient:
    def __init__(
        self,
        base,
        ca,
        app_id=100000123,
        app_key="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        secret="11111111-2222",
    ):
        self._web, self._app_id, self._app_key, self._secret = (
            Web(base, ca),
            app_id,
            app_key,
            secret,
        )

    def call(self, path, body, token=None, method="POST"):
        """The JSON answer, or the HTTP status when it is not 200."""
        headers = {"Content-Type": "application/json", **({"authToken": token} if token else {})}
        raw = (
            body
            if isinstance(body, bytes | None)
            else json.dumps(body, ensure_ascii=False).encode()
        )
        status, answer = self._web.call(method, path, raw, headers)
        return json.loads(answer) if status == 200 else status

    def auth_body(self, skew_ms=0):
        stamp = int(time.time() * 1000) + skew_ms
        signed = sign(self._app_id, self._app_key, stamp, self._secret)
        return {"appId": self._app_id, "appKey": self._app_key, "timestamp": stamp, "sign": signed}

    def access(self):
        return self.call("/message/auth", self.auth_body())["authToken"]

    def send(self, body, token):
        return self.call("/message/send", body, token)

    def save(self, body, token):
        rest = {key: value for key, value in body.items() if key != "regId"}
        return self.call("/message/saveListPayload", rest, token)

    def push_list(self, task, tokens, token, **more):
        body = {
            "appId": self._app_id,
            "taskId": task,
            "regIds": tokens,
            "requestId": "r-list",
            "pushMode": 0,
            **more,
        }
        return self.call("/message/pushToList", body, token)
