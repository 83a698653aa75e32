"""Honor. Source: Honor's page, by sections; much there is marked unconfirmed, and where it is, this
file says what it chose.

What a token's text makes of it: `dead` expireTokens (and failTokens) · `fail` failTokens, twice a
push · `busy` 429 for the request, once a push · `quiet` accepted like any other (no such answer is
known).

Accounts: {account: App ID, app_key: Client ID, secret: Client Secret, rights [honor.service]}.
Secrets with `wrong` in them are refused; app ids that begin with 999 are not there (404). A Client
ID nobody registered may send under any App ID.
Codes are the HTTP-like ones of section 5, the HTTP status is the same number. LOW over its cap of a
device, test messages over theirs, and everything under the switch over_quota are accepted and
dropped: Honor has no documented code for them.
Receipt settings: url. Delivered is the only status known (40000002).
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar

from simulators.rules import (
    boolean,
    https,
    integer,
    listing,
    one_of,
    parsed,
    pattern,
    shape,
    text,
    wrong,
)
from simulators.simulator import Record, VendorCall, VendorReply
from simulators.state import ChinaSimulator, IssuedTokens, VendorAccount, VendorError, VendorSending

TOKEN_LIFE_S = 3600
TOKENS_MAX = 1000
BODY_BYTES_MAX = 4096
TTL_S_MAX = 1_296_000
DELIVERED = 40000002

_OAUTH_PATHS = frozenset({"/auth/token", "/auth/realms/developer/protocol/openid-connect/token"})
_SEND = re.compile(r"/api/v1/([^/]+)/sendMessage")
_OBJECT = shape({})
_BUTTON = {
    "name": text(40, 1),
    "actionType": integer(0, 2),
    "intentType": integer(0, 1),
    "intent": text(),
    "data": text(1024),
}
_NOTIFICATION = {
    "title": text(least=1),
    "body": text(least=1),
    "clickAction": shape(
        {"type": integer(1, 3), "intent": text(), "action": text(), "url": https}, ("type",)
    ),
    "importance": one_of("LOW", "NORMAL"),
    "image": https,
    "style": one_of(0, 1),
    "bigTitle": text(),
    "bigBody": text(),
    "when": pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"),
    "notifyId": integer(-1),
    "tag": text(),
    "group": text(),
    "badge": shape(
        {"addNum": integer(1, 99), "setNum": integer(0, 99), "badgeClass": text(least=1)},
        ("badgeClass",),
    ),
    "buttons": listing(shape(_BUTTON, ("name",)), 3),
    "foregroundShow": boolean,
}
_ANDROID = {
    "ttl": pattern(r"\d{1,10}s"),
    "biTag": text(64),
    "data": text(),
    "targetUserType": one_of(0, 1),
    "notification": _OBJECT,
}


def _refuse(name: str | None) -> None:
    if name is not None:
        raise VendorError(400, f"bad parameter: {name}", 400)


class Honor(ChinaSimulator):
    vendor = "honor"
    endpoints = ("HONOR", "HONOR_OAUTH")
    LIMITS: ClassVar = {"per_second": 3000, "marketing_device_daily": 2, "test_daily": 1000}

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.access = IssuedTokens(TOKEN_LIFE_S)

    def expire_access(self) -> None:
        self.access.expire()

    def penalty(self) -> VendorError:
        return VendorError(403, "the app may not send", 403)

    def too_fast(self) -> VendorError:
        return VendorError(429, "too many requests", 429)

    def refusal(self, error: VendorError) -> VendorReply:
        if error.code == "oauth":
            return VendorReply.json(error.status, {"error": error.words})
        return VendorReply.json(
            error.status, {"code": error.code, "message": error.words, "data": None}
        )

    def answer(self, call: VendorCall) -> VendorReply:
        found = _SEND.fullmatch(call.path)
        if call.path not in _OAUTH_PATHS and not found:
            raise VendorError(404, "wrong URL", 404)
        if call.method != "POST":
            raise VendorError(405, "wrong method", 405)
        return self._send(call, found[1]) if found else self._oauth(call)

    # ---- section 2

    def _oauth(self, call: VendorCall) -> VendorReply:
        self.record.count("auth")
        form = dict(
            urllib.parse.parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True)
        )
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if form.get("grant_type") != "client_credentials" or not client or not secret:
            raise VendorError("oauth", "unauthorized_client", 400)
        known = next(
            (one for one in self.accounts.values() if one.details.get("app_key") == client), None
        )
        if "wrong" in secret or (known is not None and known.secret not in (None, secret)):
            raise VendorError("oauth", "invalid_client", 401)
        access_token = self.access.give(client)
        return VendorReply.json(
            200, {"access_token": access_token, "expires_in": TOKEN_LIFE_S, "token_type": "Bearer"}
        )

    def _authenticate(self, call: VendorCall, app_id: str) -> VendorAccount:
        account = self.account(app_id)
        if app_id.startswith("999") and not account.registered:
            raise VendorError(404, "no such app", 404)
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        given = self.access.owner(token) if scheme == "Bearer" else None
        if given is None or not given[1]:
            raise VendorError(401, "the access token is missing, wrong or expired", 401)
        if account.details.get("app_key", given[0]) != given[0]:
            raise VendorError(404, "the app is of another client", 404)
        if not re.fullmatch(r"\d{13}", call.headers.get("timestamp", "")):
            raise VendorError(400, "bad parameter: timestamp", 400)
        return account

    # ---- sections 3 and 4

    def _send(self, call: VendorCall, app_id: str) -> VendorReply:
        account = self._authenticate(call, app_id)
        body = parsed(call.body)
        if not isinstance(body, dict):
            raise VendorError(400, "the body is not a JSON object", 400)
        tokens: list[str] = body.get("token") or []
        if not listing(text(least=1), TOKENS_MAX, 1)(tokens):
            raise VendorError(400, "bad parameter: token", 400)
        listed = json.dumps(tokens, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        if len(call.body) - (len(listed) - 2) > BODY_BYTES_MAX:
            raise VendorError(413, "the body is too large", 413)
        self.gate(account, len(tokens))
        android = self._check(body)
        shown = android.get("notification")
        private = shown is None
        if shown is not None:
            common = body.get("notification") or {}
            texts = [shown.get(name) or common.get(name) for name in ("title", "body")]
            private = self.classed(
                account, shown.get("importance") == "NORMAL", "honor.service", *texts
            )
        content = {key: value for key, value in body.items() if key != "token"}
        sending = VendorSending(
            account, self.requests, len(tokens), private, content, android.get("biTag")
        )
        return self._deliver(sending, tokens, android.get("targetUserType") == 1)

    def _check(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Refuses what breaks a rule; returns `android`, empty when there is none."""
        _refuse(wrong(body, {"data": text(), "notification": _OBJECT, "android": _OBJECT}))
        common, android = body.get("notification") or {}, body.get("android") or {}
        _refuse(wrong(common, {"title": text(), "body": text(), "image": https}))
        _refuse(wrong(android, _ANDROID))
        if not 0 < int(str(android.get("ttl", "1s"))[:-1]) <= TTL_S_MAX:
            _refuse("ttl")
        shown = android.get("notification")
        if shown is None:
            _refuse(
                "android.notification"
                if common
                else None
                if "data" in body or "data" in android
                else "data"
            )
            return dict(android)
        names = ("title", "body")
        _refuse(next((name for name in names if not (shown.get(name) or common.get(name))), None))
        _refuse(wrong(shown, _NOTIFICATION, ("clickAction",)))
        click = shown["clickAction"]
        if not {1: click.get("intent") or click.get("action"), 2: click.get("url"), 3: True}[
            click["type"]
        ]:
            _refuse("clickAction")
        if shown.get("style") == 1:
            _refuse(next((name for name in ("bigTitle", "bigBody") if not shown.get(name)), None))
        return dict(android)

    def _deliver(self, sending: VendorSending, tokens: list[str], test: bool) -> VendorReply:
        busy = [
            one
            for one in tokens
            if self.fate(one) == "busy" and self.failing(one, sending.push_id, 1)
        ]
        if busy:
            raise self.too_fast()
        request_id, over_quota = self.new_id(), self.switched("over_quota")
        expired, failed, reached = [], [], []
        for token in tokens:
            fate = self.fate(token)
            if fate == "dead":
                expired.append(token)
            elif fate == "fail" and self.failing(token, sending.push_id):
                failed.append(token)
            else:
                dropped = "over_quota" if over_quota else self._dropped(sending, token, test)
                self.accept(sending, token, **({"dropped": dropped} if dropped else {}))
                reached += [] if dropped else [token]
        self._receipts(sending, reached, request_id)
        done = len(expired) + len(failed) < len(tokens)
        data = {
            "sendResult": done,
            "requestId": request_id,
            "failTokens": failed + expired,
            "expireTokens": expired,
        }
        return VendorReply.json(200, {"code": 200, "message": "success", "data": data})

    def _dropped(self, sending: VendorSending, token: str, test: bool) -> str:
        account = sending.account.id
        if test:
            allowed = self.days.take(self.limits["test_daily"], 1, account, "test")
            return "" if allowed else "test_daily"
        if sending.private or self.days.take(
            self.limits["marketing_device_daily"], 1, account, "marketing", token
        ):
            return ""
        return "marketing_device_daily"

    # ---- section 8

    def _receipts(self, sending: VendorSending, tokens: list[str], request_id: str) -> None:
        if not tokens or not self.receipt_settings.get("on"):
            return
        common = {"biTag": sending.push_id or "", "appid": sending.account.id}
        now_ms = int(time.time() * 1000)
        statuses = [
            {
                **common,
                "token": one,
                "status": DELIVERED,
                "timestamp": now_ms,
                "requestId": request_id,
            }
            for one in tokens
        ]
        body = json.dumps(
            {"statuses": statuses}, ensure_ascii=False, separators=(",", ":")
        ).encode()
        self.send_receipt(None, body, {"content-type": "application/json"})


def make(record: Record) -> Honor:
    return Honor(record)
