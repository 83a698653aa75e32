"""Huawei: HMS v1/v2 and HarmonyOS v3 in one process, with the OAuth door. Source: Huawei's page, by
sections.

What a token's text makes of it:

    contains    v1, v2                                       v3 (records vendor `harmony`)
    dead        illegal_tokens; 80300007 when all are        illegalTokens.tokenFormatError;
    80300007 when all are norig       80300002 for the whole request
    illegalTokens.noRight
    quiet       accepted, receipt 6 (notifications off)      accepted, receipt 6
    fail        81000001 for the request, twice a push       the same
    busy        HTTP 503 for the request, once a push        the same

Accounts: v1 by client id {account, secret, rights [huawei.<category>, huawei.high]}; v2 and v3 by
project id {account, public_key (PEM), key_id, sub_account, rights [harmony.<category>]}. A v1
client may name its `project`. Secrets and `iss` with `wrong` in them are refused; client ids that
begin with 999 don't exist.
Receipt settings: url, version (1 or 2: by default that of the send), user, key, key_form (`base64`:
new console; `text`).
Marketing over its cap and test messages over theirs are accepted and dropped (`dropped` in the
record, receipt 102 or 256).
The switch over_quota does the same to every send: there is no code for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import RSAPSSAlgorithm

from simulators.huawei_rules import SERVICE, check_size, check_v1, check_v3, invalid, tokens_of
from simulators.rules import https, integer, parsed, wrong
from simulators.simulator import Record, VendorCall, VendorReply
from simulators.state import ChinaSimulator, IssuedTokens, VendorAccount, VendorError, VendorSending

AUDIENCE = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
TOKEN_LIFE_S = 3600
JWT_LIFE_S_MAX = 86_400
CLOCK_SKEW_S = 300
IMAGE_LIFE_S = 86_400  # derived: the page says only that there is an end
TEST_TOKENS_MAX = 10
PUSH_TYPES = frozenset({0, 1, 2, 6, 7, 10})
#: Push types with a right of their own; here it goes by the name of the category that it comes
#: with.
TYPE_RIGHTS = {"2": "harmony.play_voice", "10": "harmony.voip"}

_PATH = re.compile(r"/v([123])/([^/]+)/(messages:send|messages:revoke|images:verify)")


def _answer(code: str, message: str, request_id: str, status: int = 200) -> VendorReply:
    return VendorReply.json(status, {"code": code, "msg": message, "requestId": request_id})


class Huawei(ChinaSimulator):
    vendor = "huawei"
    endpoints = ("HUAWEI", "HUAWEI_OAUTH", "HARMONY")
    RATE_OF = "targets"
    LIMITS: ClassVar = {
        "per_second": 6000,
        "device_daily": 3000,
        "marketing_device_daily": 2,
        "test_daily_v1": 500,
        "test_daily_v3": 1000,
        "oauth_per_5_min": 1000,
        "images_per_min": 60,
    }

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.access = IssuedTokens(TOKEN_LIFE_S)
        self._jwts: dict[str, tuple[str, float]] = {}
        self._jwts_refused: set[str] = set()
        self._images: dict[str, int] = {}
        self._version = 1
        self._calls: dict[tuple[str, str], list[int]] = {}

    def register(self, wanted: Mapping[str, Any]) -> VendorAccount:
        self._jwts.clear()  # a key that is known from now on is also asked of those seen before
        return super().register(wanted)

    def expire_access(self) -> None:
        self.access.expire()
        self._jwts_refused.update(self._jwts)

    def penalty(self) -> VendorError:
        """80300037 is documented for v3 only; v1 and v2 know the app that may not send."""
        if self._version == 3:
            return VendorError("80300037", "The app is blocked by penalty.")
        return VendorError("80300002", "The app is not allowed to send to these tokens.")

    def too_fast(self) -> VendorError:
        return VendorError("503", "", 503)

    def refusal(self, error: VendorError) -> VendorReply:
        if error.code == "oauth":
            return VendorReply.json(error.status, error.more)
        if str(error.code) in ("404", "405", "503"):
            return VendorReply(error.status, b"", {"content-type": "text/plain"})
        return _answer(str(error.code), error.words, self.new_id(), error.status)

    def answer(self, call: VendorCall) -> VendorReply:
        # v2 is the default of four public clients (section 2a)
        if call.path in ("/oauth2/v2/token", "/oauth2/v3/token"):
            return self._oauth(call)
        found = _PATH.fullmatch(call.path)
        if not found:
            raise VendorError("404", status=404)
        if call.method != "POST":
            raise VendorError("405", status=405)
        self._version = version = int(found[1])
        owner, action = found[2], found[3]
        if action == "messages:send":
            return (
                self._send_v3(call, owner) if version == 3 else self._send_v1(call, version, owner)
            )
        if action == "messages:revoke" and version == 1:
            return self._revoke(call, owner)
        if action == "images:verify" and version < 3:
            return self._verify_images(call, owner)
        raise VendorError("404", status=404)

    def _within(self, what: str, who: str, limit: int, seconds: int) -> bool:
        """A fixed window of `seconds`."""
        window = int(time.time()) // seconds
        count = self._calls.setdefault((what, who), [window, 0])
        if count[0] != window:
            count[:] = [window, 0]
        count[1] += 1
        return not limit or count[1] <= limit

    # ---- section 2a: the OAuth door

    def _oauth(self, call: VendorCall) -> VendorReply:
        self.record.count("auth")
        if call.method != "POST":
            raise VendorError("405", status=405)
        form = dict(
            urllib.parse.parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True)
        )
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if form.get("grant_type") != "client_credentials":
            raise self._oauth_error(20001, "grant_type is not supported")
        if not re.fullmatch(r"[0-9]{1,64}", client):
            raise self._oauth_error(20002, "invalid client_id")
        account = self.account(client)
        if client.startswith("999") and not account.registered:
            raise self._oauth_error(20003, "client_id does not exist")
        if not secret:
            raise self._oauth_error(20171, "client_secret is empty")
        if "wrong" in secret or (account.secret is not None and account.secret != secret):
            raise self._oauth_error(12304, "client_id and client_secret do not match")
        if not self._within("oauth", client, self.limits["oauth_per_5_min"], 300):
            raise VendorError("503", status=503)
        token = self.access.give(client)
        return VendorReply.json(
            200, {"access_token": token, "expires_in": TOKEN_LIFE_S, "token_type": "Bearer"}
        )

    @staticmethod
    def _oauth_error(sub: int, words: str) -> VendorError:
        return VendorError("oauth", words, 400, error=1101, sub_error=sub, error_description=words)

    # ---- section 2b: service-account JWT

    def _bearer(self, call: VendorCall) -> str:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token.strip():
            raise VendorError("80200001", "Authentication failed: no bearer token.", 401)
        return token.strip()

    def _jwt_issuer(self, token: str, project: VendorAccount) -> None:
        """Returns when the JWT is good for the project."""
        known = self._jwts.get(token)
        if known is None:
            known = self._read_jwt(token, project)
            if len(self._jwts) > 10_000:
                self._jwts.clear()
            self._jwts[token] = known
        if known[1] < time.time() or token in self._jwts_refused:
            raise VendorError("80200005", "The JWT has expired.", 401)
        if known[0] != project.id:
            raise VendorError(
                "80200001", "Authentication failed: the project of the JWT is another one.", 401
            )

    def _read_jwt(self, token: str, project: VendorAccount) -> tuple[str, float]:
        """(project, exp); the order of the refusals is: form, claims, life, signature."""
        parts = token.split(".")
        header, claims = (
            (_json_part(part) for part in parts[:2]) if len(parts) == 3 else (None, None)
        )
        if (
            not header
            or not claims
            or header.get("alg") != "PS256"
            or header.get("typ", "JWT") != "JWT"
            or not header.get("kid")
        ):
            raise VendorError("80200001", "Authentication failed: the JWT can't be read.", 401)
        times = {"iat": integer(0, 2**53), "exp": integer(0, 2**53)}
        issuer = claims.get("iss")
        if (
            claims.get("aud") != AUDIENCE
            or not isinstance(issuer, str)
            or not issuer
            or wrong(claims, times, ("iat", "exp"))
        ):
            raise VendorError("80200001", "Authentication failed: wrong claims.", 401)
        if claims["exp"] - claims["iat"] > JWT_LIFE_S_MAX:
            raise VendorError("80300036", "The life of the JWT is longer than one day.", 401)
        if claims["exp"] < time.time():
            raise VendorError("80200005", "The JWT has expired.", 401)
        details = project.details
        pairs = (("key_id", header["kid"]), ("sub_account", issuer))
        strange = any(name in details and details[name] != value for name, value in pairs)
        if (
            strange
            or "wrong" in issuer
            or claims["iat"] > time.time() + CLOCK_SKEW_S
            or not _signed(parts, details.get("public_key"))
        ):
            raise VendorError(
                "80200001", "Authentication failed: the signature or the issuer is wrong.", 401
            )
        return project.id, float(claims["exp"])

    def _authenticate(self, call: VendorCall, version: int, owner: str) -> VendorAccount:
        """v1/v2 take an access token or a JWT, v3 and the side APIs a JWT only. `owner` is what the
        URL names.
        """
        token = self._bearer(call)
        account = self.account(owner)
        if token.count(".") == 2:
            if version == 1 and "project" in account.details:
                self._jwt_issuer(token, self.account(str(account.details["project"])))
            else:
                self._jwt_issuer(token, account)
            return account
        if version == 3:
            raise VendorError("80200001", "Authentication failed: v3 takes a JWT.", 401)
        given = self.access.owner(token)
        if given is None:
            raise VendorError("80200001", "Authentication failed: unknown access token.", 401)
        if not given[1]:
            raise VendorError("80200003", "The access token has expired.", 401)
        self._check_owner(self.account(given[0]), version, owner)
        return account if version == 1 else self.account(given[0])

    def _check_owner(self, client: VendorAccount, version: int, owner: str) -> None:
        if version == 2:
            if str(client.details.get("project", owner)) != owner:
                raise VendorError(
                    "80200001",
                    "Authentication failed: the access token is of another project.",
                    401,
                )
        elif client.id != owner:
            if self.account(owner).registered:
                raise VendorError(
                    "80200001", "Authentication failed: the access token is of another app.", 401
                )
            raise VendorError(
                "80300002", "The app is not allowed to send to these tokens: wrong id in the URL."
            )

    # ---- v1 and v2

    def _send_v1(self, call: VendorCall, version: int, owner: str) -> VendorReply:
        account = self._authenticate(call, version, owner)
        body = parsed(call.body)
        if not isinstance(body, dict):
            raise VendorError("80100003", "Incorrect message structure.", 400)
        message = body.get("message", {})
        if not isinstance(message, dict):
            raise VendorError("80100003", "Incorrect message structure.", 400)
        targets = [
            name for name in ("token", "topic", "condition") if message.get(name) is not None
        ]
        if len(targets) > 1:
            raise VendorError(
                "80100003", "Incorrect message structure: one of token, topic, condition.", 400
            )
        if targets and targets != ["token"]:
            raise VendorError("82000001", "Topics are not part of this simulator.")
        tokens = tokens_of(message.get("token"))
        check_size(call.body, tokens)
        self.gate(account, len(tokens))
        android = check_v1(body, message)
        sending = self._sending_v1(account, message, android, len(tokens))
        if body.get("validate_only"):
            return _answer("80000000", "Success", self.new_id())
        return self._deliver(sending, tokens, android.get("target_user_type") == 1, 1)

    def _sending_v1(
        self, account: VendorAccount, message: dict[str, Any], android: Any, size: int
    ) -> VendorSending:
        shown = android.get("notification")
        category = str(android.get("category", ""))
        private = shown is None  # a transparent message shows nothing: no class, no marketing cap
        if shown is not None:
            if shown.get("importance") == "HIGH" and not account.may("huawei.high"):
                raise VendorError(
                    "80300011", "No permission to send high-level notification messages."
                )
            common = message.get("notification") or {}
            texts = [shown.get(name) or common.get(name) for name in ("title", "body")]
            private = self.classed(
                account, category in SERVICE, f"huawei.{category.lower()}", *texts
            )
        content = {key: value for key, value in message.items() if key != "token"}
        return VendorSending(
            account, self.requests, size, private, content, android.get("bi_tag"), "huawei"
        )

    # ---- v3

    def _send_v3(self, call: VendorCall, owner: str) -> VendorReply:
        account = self._authenticate(call, 3, owner)
        push_type = call.headers.get("push-type", "")
        if not push_type.isdecimal() or int(push_type) not in PUSH_TYPES:
            raise invalid("push-type")
        body = parsed(call.body)
        target = body.get("target") if isinstance(body, dict) else None
        if not isinstance(body, dict) or (target is not None and not isinstance(target, dict)):
            raise VendorError("80100003", "Incorrect message structure.", 400)
        tokens = tokens_of((target or {}).get("token"), 1 if push_type == "1" else 1000)
        check_size(call.body, tokens)
        self.gate(account, len(tokens))
        notification, options = check_v3(body, int(push_type))
        if options.get("testMessage") and len(tokens) > TEST_TOKENS_MAX:
            raise VendorError("80300030", "Too many tokens in a test message.")
        if notification.get("image") and self._images.get(notification["image"], 0) < time.time():
            raise VendorError("80100022", "The image has not been verified.")
        if options.get("testMessage") and not self.days.take(
            self.limits["test_daily_v3"], 1, account.id, "test"
        ):
            raise VendorError("80300029", "The number of test messages exceeds the limit.")
        if push_type in TYPE_RIGHTS and not account.may(TYPE_RIGHTS[push_type]):
            return self._verdict(
                tokens, {"noPushTypeRight": [*dict.fromkeys(tokens)]}, {*tokens}, self.new_id(), 3
            )
        private = not notification  # the other push types are no class
        if notification:
            category = notification["category"]
            texts = (notification["title"], notification["body"])
            private = self.classed(
                account, category in SERVICE, f"harmony.{category.lower()}", *texts
            )
        content = {key: value for key, value in body.items() if key != "target"}
        push_id = notification.get("appMessageId") or options.get("biTag")
        sending = VendorSending(
            account,
            self.requests,
            len(tokens),
            private,
            content,
            push_id,
            "harmony",
            {"push_type": int(push_type)},
        )
        return self._deliver(sending, tokens, bool(options.get("testMessage")), 3)

    # ---- sections 4 to 6: what becomes of the tokens

    def _deliver(
        self, sending: VendorSending, tokens: Sequence[str], test: bool, version: int
    ) -> VendorReply:
        stumble = self.stumbles(tokens, sending.push_id)
        if stumble == "fail":
            raise VendorError("81000001", "Internal error.", 500)
        if stumble == "busy":
            raise self.too_fast()
        illegal = self._illegal(tokens, version)
        dead = {token for named in illegal.values() for token in named}
        over_quota = self.switched("over_quota")
        statuses = []
        for token in tokens:
            if token in dead:
                continue
            dropped = self._dropped(sending, token, test, version) or (
                "over_quota" if over_quota else ""
            )
            self.accept(sending, token, **({"dropped": dropped} if dropped else {}))
            statuses.append((token, self._receipt_code(token, dropped, version)))
        request_id = self.new_id()
        self._receipts(sending, statuses, request_id, version)
        return self._verdict(tokens, illegal, dead, request_id, version)

    def _illegal(self, tokens: Sequence[str], version: int) -> dict[str, list[str]]:
        """Reason -> tokens, each once a listing."""
        illegal: dict[str, list[str]] = {}
        for token in tokens:
            fate = self.fate(token)
            if fate == "norig" and version != 3:
                raise VendorError("80300002", "The app is not allowed to send to these tokens.")
            if fate in ("dead", "norig"):
                illegal.setdefault("tokenFormatError" if fate == "dead" else "noRight", []).append(
                    token
                )
        return illegal

    def _verdict(
        self,
        tokens: Sequence[str],
        illegal: dict[str, list[str]],
        dead: set[str],
        request_id: str,
        version: int,
    ) -> VendorReply:
        if not dead:
            return _answer("80000000", "Success", request_id)
        failure = sum(token in dead for token in tokens)
        success = len(tokens) - failure
        if version == 3:
            content = (
                {"illegalTokens": illegal, "success": success, "failure": failure}
                if success
                else {"failure": failure, "illegalTokens": illegal}
            )
            message = json.dumps(content, ensure_ascii=False)
        elif success:
            flat = [token for named in illegal.values() for token in named]
            message = json.dumps(
                {"success": success, "failure": failure, "illegal_tokens": flat}, ensure_ascii=False
            )
        else:
            message = "All the tokens are invalid"
        return _answer("80100000" if success else "80300007", message, request_id)

    def _dropped(self, sending: VendorSending, token: str, test: bool, version: int) -> str:
        """The reason why an accepted message is not shown; "" when it is.

        Counters count requests, not messages shown.
        """
        account = sending.account.id
        if test:
            fits = version == 3 or self.days.take(self.limits["test_daily_v1"], 1, account, "test")
            return "" if fits else "test_daily"
        if not sending.private and not self.days.take(
            self.limits["marketing_device_daily"], 1, account, "marketing", token
        ):
            return "marketing_device_daily"
        allowed = self.days.take(self.limits["device_daily"], 1, account, "device", token)
        return "" if allowed else "device_daily"

    # ---- section 8: receipts

    def _receipt_code(self, token: str, dropped: str, version: int) -> int:
        if dropped:
            return 256 if version == 3 and dropped != "device_daily" else 102
        return 6 if self.fate(token) == "quiet" else 0

    def _receipts(
        self, sending: VendorSending, statuses: list[tuple[str, int]], request_id: str, version: int
    ) -> None:
        settings = self.receipt_settings
        if not (settings.get("on") and settings.get("url")):
            return
        status_version = int(settings.get("version", 2 if version == 3 else 1))
        for start in range(0, len(statuses), 100):
            content = [
                _status(sending, token, code, request_id, status_version)
                for token, code in statuses[start : start + 100]
            ]
            body = json.dumps(
                {"statuses": content}, ensure_ascii=False, separators=(",", ":")
            ).encode()
            headers = {"content-type": "application/json", **callback_headers(settings)}
            self.send_receipt(settings["url"], body, headers)

    # ---- the side APIs

    def _revoke(self, call: VendorCall, owner: str) -> VendorReply:
        """v1 revoke: withdraws shown notifications by token and notifyId. JWT only."""
        if self._bearer(call).count(".") != 2:
            raise VendorError("80200001", "Authentication failed: revoke takes a JWT.", 401)
        account = self._authenticate(call, 1, owner)
        body = parsed(call.body)
        if not isinstance(body, dict):
            raise VendorError("80100003", "Incorrect message structure.", 400)
        if body.get("notifyId") is None or body.get("token") is None:
            raise VendorError(
                "80300032", "No permission to revoke: both token and notifyId are needed."
            )
        if not integer(0)(body["notifyId"]):
            raise VendorError("80100020", "The message structure is partly wrong.", 400)
        tokens = tokens_of([body["token"]] if isinstance(body["token"], str) else body["token"])
        content = {"notifyId": body["notifyId"]}
        sending = VendorSending(account, self.requests, len(tokens), True, content, None, "harmony")
        for token in tokens:
            self.accept(sending, token, kind="revoke")
        return _answer("80000000", "Success", self.new_id())

    def _verify_images(self, call: VendorCall, owner: str) -> VendorReply:
        """One image: only the address that comes back may be sent. The codes of a wrong body are
        derived, the page's list was cut off.
        """
        self._authenticate(call, 3, owner)
        body = parsed(call.body)
        if (
            call.headers.get("push-type") not in ("0", "1", "2")
            or not isinstance(body, dict)
            or not https(body.get("imageUrl"))
        ):
            raise VendorError("80100003", "Incorrect message structure.", 400)
        if not self._within("images", owner, self.limits["images_per_min"], 60):
            raise VendorError("83010002", "Flow control threshold exceeded.")
        url = str(body["imageUrl"])
        if "broken" in url:
            raise VendorError("83010005", "Download picture failed")
        expires_s = int(time.time()) + IMAGE_LIFE_S
        checked = f"{url}{'&' if '?' in url else '?'}verifyKey={secrets.token_urlsafe(24)}"
        self._images = {one: ends for one, ends in self._images.items() if ends > time.time()}
        self._images[checked] = expires_s
        self.record.count("images")
        content = {"code": "83010000", "msg": "Verify success", "requestId": self.new_id()}
        return VendorReply.json(
            200, {**content, "downloadUrl": checked, "expireTime": str(expires_s)}
        )


def _json_part(part: str) -> dict[str, Any] | None:
    """One part of a JWT: base64url without padding, a JSON object."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", part) or len(part) % 4 == 1:
        return None
    value = parsed(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value if isinstance(value, dict) else None


def _signed(parts: Sequence[str], public_key: str | None) -> bool:
    """PS256 with a salt of 32 bytes; without the account's key only the form is checked."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{340,}", parts[2]) or len(parts[2]) % 4 == 1:
        return False  # 256 bytes is an RSA signature's least
    if public_key is None:
        return True
    key = load_pem_public_key(public_key.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    signature = base64.urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4))
    signed = f"{parts[0]}.{parts[1]}".encode()
    return RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256).verify(signed, key, signature)


def _status(
    sending: VendorSending, token: str, code: int, request_id: str, version: int
) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    tag = sending.push_id or ""
    if version == 1:
        return {
            "biTag": tag,
            "appid": sending.account.id,
            "token": token,
            "status": code,
            "timestamp": now_ms,
            "requestId": request_id,
        }
    package = str(sending.account.details.get("package", "com.example.im"))
    delivery = {"result": code, "timestamp": now_ms}
    push_type = sending.more.get("push_type", 0)
    return {
        "biTag": tag,
        "pushType": push_type,
        "appPackageName": package,
        "token": token,
        "requestId": request_id,
        "deliveryStatus": delivery,
    }


def callback_value(timestamp: str, nonce: str, user: str, key: str, key_form: str) -> str:
    """Base64 of HMAC-SHA256 over timestamp + nonce + user. key_form: `base64` (new console) or
    `text` (old).
    """
    secret = base64.b64decode(key) if key_form == "base64" else key.encode()
    return base64.b64encode(
        hmac.new(secret, f"{timestamp}{nonce}{user}".encode(), hashlib.sha256).digest()
    ).decode()


def callback_headers(settings: dict[str, Any]) -> dict[str, str]:
    """The signature header; none unless user and key are both set."""
    if not (settings.get("user") and settings.get("key")):
        return {}
    timestamp, nonce = str(int(time.time() * 1000)), str(uuid.uuid4())
    value = callback_value(
        timestamp, nonce, settings["user"], settings["key"], str(settings.get("key_form", "base64"))
    )
    return {"X-HUAWEI-CALLBACK-ID": f"timestamp={timestamp}; nonce={nonce}; value={value}"}


def make(record: Record) -> Huawei:
    return Huawei(record)
