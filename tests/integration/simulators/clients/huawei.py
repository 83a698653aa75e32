"""A Huawei client written from the vendor's page alone: OAuth, PS256 by hand, v1, v2, v3, partial
answers, the receipts' signature.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
import urllib.parse

from tests.integration.simulators.clients.web import Web

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def token_form(client_id, secret):
    return urllib.parse.urlencode(
        {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    )


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def size_without_tokens(body):
    """Section 3's count: the compact JSON with an empty token array."""
    copy = json.loads(compact(body))
    (copy["message"] if "message" in copy else copy["target"])["token"] = []
    return len(compact(copy))


def _b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signing_input(key_id, issuer, issued_s, expires_s):
    header = {"kid": key_id, "typ": "JWT", "alg": "PS256"}
    claims = {
        "aud": "https://oauth-login.cloud.huawei.com/oauth2/v3/token",
        "iss": issuer,
        "exp": expires_s,
        "iat": issued_s,
    }
    return f"{_b64url(compact(header))}.{_b64url(compact(claims))}"


def _mgf1(seed, length):
    blocks = (
        hashlib.sha256(seed + counter.to_bytes(4, "big")).digest()
        for counter in range(-(-length // 32))
    )
    return b"".join(blocks)[:length]


def pss_sign(message, n, d):
    """RSASSA-PSS of RFC 8017 with SHA-256, MGF1-SHA-256 and a salt of 32 bytes, by the book."""
    bits = n.bit_length() - 1
    size = -(-bits // 8)
    salt = secrets.token_bytes(32)
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    block = bytes(size - 32 - 32 - 2) + b"\x01" + salt
    masked = bytearray(a ^ b for a, b in zip(block, _mgf1(digest, len(block)), strict=True))
    masked[0] &= 0xFF >> (8 * size - bits)
    encoded = bytes(masked) + digest + b"\xbc"
    return pow(int.from_bytes(encoded, "big"), d, n).to_bytes(-(-n.bit_length() // 8), "big")


def make_jwt(n, d, key_id="k1", issuer="sub-1", issued_s=None, life_s=3600):
    issued_s = int(time.time()) if issued_s is None else issued_s
    text = signing_input(key_id, issuer, issued_s, issued_s + life_s)
    return f"{text}.{_b64url(pss_sign(text.encode(), n, d))}"


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


def callback_good(header, key, user):
    """X-HUAWEI-CALLBACK-ID against either form of the key."""
    parts = dict(part.strip().split("=", 1) for part in header.split(";"))
    message = (parts["timestamp"] + parts["nonce"] + user).encode()
    forms = (base64.b64decode(key), key.encode())
    return any(
        base64.b64encode(hmac.new(form, message, hashlib.sha256).digest()).decode()
        == parts["value"]
        for form in forms
    )


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
        told = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
            **headers,
        }
        status, answer = self._web.call(
            "POST", path, body if isinstance(body, bytes) else compact(body), told
        )
        return status, json.loads(answer) if answer else None

    def v1(self, body, bearer, client_id="100000001"):
        return self._json(f"/v1/{client_id}/messages:send", body, bearer)

    def v2(self, body, bearer, project="700001"):
        return self._json(f"/v2/{project}/messages:send", body, bearer)

    def v3(self, body, jwt, project="700001", push_type="0"):
        return self._json(
            f"/v3/{project}/messages:send",
            body,
            jwt,
            **({"push-type": push_type} if push_type else {}),
        )

    def revoke(self, body, jwt, client_id="100000001"):
        return self._json(f"/v1/{client_id}/messages:revoke", body, jwt)

    def verify_image(self, image, jwt, project="700001", push_type="0"):
        return self._json(
            f"/v2/{project}/images:verify", {"imageUrl": image}, jwt, **{"push-type": push_type}
        )
