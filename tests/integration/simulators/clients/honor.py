"""An Honor client written from the vendor's page alone."""

import json
import time
import urllib.parse

from tests.integration.simulators.clients.web import Web
from workers.vendors.json_text import compact


def token_form(client_id, secret):
    return urllib.parse.urlencode(
        [("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", secret)]
    )


def stamp(now_s):
    return str(int(now_s * 1000))


def split(tokens, answer):
    """(accepted, retry, drop) of section 4; None for the lists of a request that
    failed as a whole.
    """
    if str(answer["code"]) != "200":
        return None
    data = answer.get("data") or {}
    expired = set(data.get("expireTokens") or ())
    failed = set(data.get("failTokens") or ()) - expired
    return set(tokens) - expired - failed, failed, expired


class HonorClient:
    def __init__(self, base, ca, app_id="104000001"):
        self._web, self._app_id = Web(base, ca), app_id

    def token(self, client_id="100000001", secret="s3cret", path="/auth/token"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        status, body = self._web.call("POST", path, token_form(client_id, secret).encode(), form)
        return status, json.loads(body)

    def send(self, body, bearer, when=None, app_id=None):
        timestamp = stamp(time.time()) if when is None else when
        headers = {"Content-Type": "application/json; charset=UTF-8", "timestamp": timestamp}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        raw = body if isinstance(body, bytes) else compact(body)
        status, answer = self._web.call(
            "POST", f"/api/v1/{app_id or self._app_id}/sendMessage", raw, headers
        )
        return status, json.loads(answer)
