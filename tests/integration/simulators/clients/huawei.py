"""A Huawei client: OAuth, JWTs by PyJWT, v1, v2, v3, partial answers."""

import json
import time
import urllib.parse

import jwt

from tests.integration.simulators.clients.web import Web
from workers.vendors.json_text import compact

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def token_form(client_id, secret):
    return urllib.parse.urlencode(
        {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    )


def make_jwt(key, **changes):
    """A well-signed token; changes: another header or claim."""
    now = int(time.time())
    header = {"kid": "k1", "typ": "JWT", "alg": "PS256"}
    aud = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
    claims = {"aud": aud, "iss": "sub-1", "exp": now + 3600, "iat": now}
    for name, value in changes.items():
        (header if name in header else claims)[name] = value
    return jwt.encode(claims, key, "PS256", header)


def refused_tokens(answer):
    """{reason: [token]} of a 80100000 or 80300007; v1's reason is `illegal`. Tolerant as section 4
    asks.
    """
    try:
        told = json.loads(answer["msg"])
    except ValueError:
        return {}
    if "illegal_tokens" in told:
        return {"illegal": told["illegal_tokens"]}
    return {reason.strip(): tokens for reason, tokens in told.get("illegalTokens", {}).items()}


class HuaweiClient:
    def __init__(self, base, ca):
        self._web = Web(base, ca)

    def token(self, client_id, secret):
        """(status, JSON or None)."""
        status, body = self._web.call(
            "POST", "/oauth2/v3/token", token_form(client_id, secret).encode(), FORM
        )
        return status, json.loads(body) if body else None

    def access(self, client_id="100000001", secret="s3cret"):
        return self.token(client_id, secret)[1]["access_token"]

    def _json(self, path, body, bearer, **headers):
        auth = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        told = {"Content-Type": "application/json", **auth, **headers}
        status, answer = self._web.call(
            "POST", path, body if isinstance(body, bytes) else compact(body), told
        )
        return status, json.loads(answer) if answer else None

    def v1(self, body, bearer, client_id="100000001"):
        return self._json(f"/v1/{client_id}/messages:send", body, bearer)

    def v2(self, body, bearer, project="700001"):
        return self._json(f"/v2/{project}/messages:send", body, bearer)

    def v3(self, body, jwt, project="700001", push_type="0"):
        kind = {"push-type": push_type} if push_type else {}
        return self._json(f"/v3/{project}/messages:send", body, jwt, **kind)

    def revoke(self, body, jwt, client_id="100000001"):
        return self._json(f"/v1/{client_id}/messages:revoke", body, jwt)

    def verify_image(self, image, jwt, project="700001", push_type="0"):
        return self._json(
            f"/v2/{project}/images:verify", {"imageUrl": image}, jwt, **{"push-type": push_type}
        )
