"""OPPO (HeyTap). Source: OPPO's page, by sections.

What a registration id's first hex digits (after the region prefix) make of it:

    dead     10000 at once, as an id of a wrong form gets (unicast: the whole answer; batch: its
    entry)
    d1ed     accepted; receipt `regid_invalid`, and named by feedback/fetch_invalid_regidList: a
    dead one of the right form fa11     -1 (service unavailable), twice a push
    b05e     55 (called too often), once a push

Accounts: {account: AppKey, secret: MasterSecret, app_id?, rights [oppo.private, oppo.strong],
template_required: bool, templates: [id]}. A registered secret is verified; of others only the form
of `sign` is, and AppKeys that begin with `wrong` or 999 get 16.
One app_message_id twice at the same target is accepted, recorded with `duplicate: true`, and shown
once.
Content & marketing: 33 over the app's daily total; over the device's cap accepted and dropped
(receipt `user_daily_limit`).
Receipts: one POST a request, to call_back_url (registration-id targets only), or to the settings'
url.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar

from simulators.rules import (
    INT32_MAX,
    boolean,
    integer,
    json_object_text,
    listing,
    one_of,
    parsed,
    shape,
    text,
    url,
    wrong,
)
from simulators.simulator import Record, VendorCall, VendorReply
from simulators.state import ChinaSimulator, IssuedTokens, VendorAccount, VendorError, VendorSending

TOKEN_LIFE_S = 86_400
CLOCK_SKEW_MS = 600_000
BATCH_MAX = 1000
SHOW_TTL_S_MAX = {True: 86_400, False: 43_200}  # private, public
#: By style. For style 1 the page and the SDK disagree (50 or 200), for style 2 too (128 or 500): a
#: simulator takes the larger (section 3).
CONTENT_CHARS_MAX = {1: 200, 2: 500, 3: 50}
INVALID_MAX = 10_000

PRIVATE = frozenset({"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"})
PUBLIC = frozenset({"NEWS", "CONTENT", "MARKETING", "SOCIAL"})
STRONG_ALERT = 16

_REGID = re.compile(
    r"(?:(?:[0-9A-Za-z]{2,10}_)?(?:[A-Z]{2}|EUEX)_)?([0-9a-fA-F]{32})|([0-9a-fA-F]{24})"
)  # or an old id (section 1)
_FATES = {"dead": "dead", "d1ed": "missing", "fa11": "fail", "b05e": "busy"}

_NOTIFICATION = {
    "app_message_id": text(least=1),
    "style": one_of(1, 2, 3),
    "title": text(50, 1),
    "sub_title": text(10),
    "content": text(least=1),
    "click_action_type": one_of(0, 1, 2, 4, 5),
    "click_action_activity": text(500),
    "click_action_url": text(2000),
    "action_parameters": lambda value: json_object_text(value) and len(value) <= 4000,
    "off_line": boolean,
    "off_line_ttl": integer(1),
    "show_ttl": integer(0),
    "show_time_type": integer(0, 1),
    "show_start_time": integer(0, 2**53),
    "show_end_time": integer(0, 2**53),
    "network_type": one_of(0, 1),
    "time_zone": text(),
    "channel_id": text(),
    "notify_id": integer(0, INT32_MAX),
    "category": text(32, 1),
    "notify_level": one_of(1, 2, STRONG_ALERT),
    "private_msg_template_id": text(least=1),
    "private_title_parameters": lambda value: isinstance(value, dict) or json_object_text(value),
    "private_content_parameters": lambda value: isinstance(value, dict) or json_object_text(value),
    "call_back_url": lambda value: url(value) and len(value) <= 200,
    "call_back_parameter": text(100),
    "auditResponse": shape({}),
}
_MESSAGE = {
    "target_type": one_of(2, 5),
    "target_value": text(),
    "verify_registration_id": boolean,
    "notification": shape({}),
}


def _regid_hex(token: str) -> str | None:
    found = _REGID.fullmatch(token)
    return found[1] or found[2] if found else None


def _check(notification: Mapping[str, Any], private: bool) -> None:
    """40 for what is missing, 41 for what breaks a rule."""
    for name in ("title", "content"):
        if not notification.get(name):
            raise VendorError(40, f"required argument is missing: {name}")
    offender = wrong(notification, _NOTIFICATION)
    if offender:
        raise VendorError(41, f"invalid argument: {offender}")
    if len(notification["content"]) > CONTENT_CHARS_MAX[notification.get("style", 1)]:
        raise VendorError(41, "invalid argument: content")
    if notification.get("show_ttl", 0) > SHOW_TTL_S_MAX[private]:
        raise VendorError(41, "invalid argument: show_ttl")
    needed = {
        1: "click_action_activity",
        4: "click_action_activity",
        2: "click_action_url",
        5: "click_action_url",
    }
    missing = needed.get(notification.get("click_action_type", 0))
    if missing and not notification.get(missing):
        raise VendorError(40, f"required argument is missing: {missing}")


class Oppo(ChinaSimulator):
    vendor = "oppo"
    endpoints = ("OPPO", "OPPO_INTL", "OPPO_FEEDBACK")
    LIMITS: ClassVar = {"per_second": 5000, "public_daily": 100_000, "public_device_daily": 2}

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.access = IssuedTokens(TOKEN_LIFE_S)
        self._invalid: dict[str, None] = {}
        self._saved: dict[str, tuple[str, dict[str, Any]]] = {}

    def expire_access(self) -> None:
        self.access.expire()

    def fate(self, token: str) -> str:
        return _FATES.get((_regid_hex(token) or "")[:4].lower(), "")

    def penalty(self) -> VendorError:
        return VendorError(28, "the app is disabled")

    def too_fast(self) -> VendorError:
        return VendorError(55, "app call frequency limit")

    def refusal(self, error: VendorError) -> VendorReply:
        return VendorReply.json(error.status, {"code": error.code, "message": error.words})

    def answer(self, call: VendorCall) -> VendorReply:
        action = call.path.removeprefix("/server/v1/")
        posts = {
            "auth": self._auth,
            "message/notification/unicast": self._unicast,
            "message/notification/unicast_batch": self._unicast_batch,
            "message/notification/save_message_content": self._save,
            "message/notification/broadcast": self._broadcast,
        }
        gets = {
            "feedback/fetch_invalid_regidList": self._fetch_invalid,
            "feedback/fetch_push_permit": self._fetch_permit,
        }
        if action not in posts and action not in gets:
            raise VendorError(20, "unknown method")
        if call.method != ("POST" if action in posts else "GET"):
            raise VendorError(12, "HTTP method not allowed")
        try:
            raw = call.body.decode() if action in posts else call.query
            form = dict(
                urllib.parse.parse_qsl(
                    raw, keep_blank_values=True, errors="strict", max_num_fields=1000
                )
            )
        except ValueError as error:
            raise VendorError(25, "not UTF-8, or not a form") from error
        return (posts.get(action) or gets[action])(form)

    # ---- section 2

    def _auth(self, form: Mapping[str, str]) -> VendorReply:
        self.record.count("auth")
        for name, code in (("app_key", 15), ("sign", 17), ("timestamp", 18)):
            if not form.get(name):
                raise VendorError(code, f"missing {name}")
        key, stamp = form["app_key"], form["timestamp"]
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", key):
            raise VendorError(14, "invalid app_key")
        dated = re.fullmatch(r"\d{13}", stamp)
        if not dated or abs(int(stamp) - time.time() * 1000) > CLOCK_SKEW_MS:
            raise VendorError(19, "invalid timestamp")
        secret = self.account(key).secret
        if secret is not None:
            good = form["sign"] == hashlib.sha256(f"{key}{stamp}{secret}".encode()).hexdigest()
        else:
            good = bool(re.fullmatch("[0-9a-f]{64}", form["sign"])) and not key.startswith(
                ("wrong", "999")
            )
        if not good:
            raise VendorError(16, "invalid signature")
        token = self.access.give(key, secrets.token_hex(12))
        return self._ok({"auth_token": token, "create_time": int(time.time() * 1000)})

    def _account_of(self, form: Mapping[str, str]) -> VendorAccount:
        if not form.get("auth_token"):
            raise VendorError(29, "auth token missing")
        given = self.access.owner(form["auth_token"])
        if given is None or not given[1]:
            raise VendorError(11, "invalid auth token")
        return self.account(given[0])

    @staticmethod
    def _ok(data: Any) -> VendorReply:
        return VendorReply.json(200, {"code": 0, "message": "", "data": data})

    # ---- section 3: one target, one message

    def _unicast(self, form: Mapping[str, str]) -> VendorReply:
        account = self._account_of(form)
        if not form.get("message"):
            raise VendorError(40, "required argument is missing: message")
        message = parsed(form["message"])
        self.gate(account)
        sending = self._sending(account, message, 1)
        token = message["target_value"]
        self._spend(sending, 1)
        event = self._reach(sending, token)
        message_id = self._message_id(account)
        self._receipts([(sending, token, message_id, event)])
        return self._ok({"messageId": message_id})

    def _sending(self, account: VendorAccount, message: Any, size: int) -> VendorSending:
        """Refuses a message that breaks a rule; its class is the vendor's view of `category`."""
        if not isinstance(message, dict) or wrong(message, _MESSAGE):
            raise VendorError(41, "invalid argument: message")
        for name in ("target_type", "target_value", "notification"):
            if not message.get(name):
                raise VendorError(40, f"required argument is missing: {name}")
        if message["target_type"] == 2 and not _regid_hex(message["target_value"]):
            raise VendorError(10000, "registration_id has a wrong format")
        notification = message["notification"]
        if notification.get("style") == 3:  # for broadcast only (section 3)
            raise VendorError(41, "invalid argument: style")
        category = notification.get("category")
        _check(notification, isinstance(category, str) and category in PRIVATE)
        private = self._class(account, notification)
        push_id = notification.get("app_message_id") or notification.get("call_back_parameter")
        content = {name: value for name, value in message.items() if name != "target_value"}
        return VendorSending(account, self.requests, size, private, content, push_id)

    def _class(self, account: VendorAccount, notification: Mapping[str, Any]) -> bool:
        category, level = notification.get("category"), notification.get("notify_level")
        if (category is not None and category not in PRIVATE | PUBLIC) or (
            level is not None and category is None
        ):
            raise VendorError(67, "category error")
        title = notification["title"]
        private = self.classed(
            account, category in PRIVATE, "oppo.private", title, notification["content"]
        )
        if level == STRONG_ALERT and (category != "IM" or not account.may("oppo.strong")):
            raise VendorError(67, "notify_level is not allowed")
        template = notification.get("private_msg_template_id")
        if category == "IM" and template is None and account.details.get("template_required"):
            raise VendorError(54, "private_msg_template_id is null")
        if template is not None and template not in account.details.get("templates", [template]):
            raise VendorError(41, "invalid argument: private_msg_template_id")
        return private

    def _spend(self, sending: VendorSending, size: int) -> None:
        fits = sending.private or self.days.take(
            self.limits["public_daily"], size, sending.account.id, "public"
        )
        if self.switched("over_quota") or not fits:
            raise VendorError(33, "daily message limit exceeded")

    def _reach(self, sending: VendorSending, token: str) -> str:
        """Records or refuses the message by its registration id; returns the receipt's type."""
        fate = self.fate(token)
        if fate == "dead":
            raise VendorError(10000, "registration_id has a wrong format")
        if fate == "fail" and self.failing(token, sending.push_id):
            raise VendorError(-1, "service currently unavailable")
        if fate == "busy" and self.failing(token, sending.push_id, 1):
            raise self.too_fast()
        cap, account = self.limits["public_device_daily"], sending.account.id
        fits = sending.private or self.days.take(cap, 1, account, "public", token)
        self.accept(sending, token, **({} if fits else {"dropped": "public_device_daily"}))
        if fate != "missing":
            return "push_arrive" if fits else "user_daily_limit"
        self._invalid[token] = None
        if len(self._invalid) > INVALID_MAX:
            self._invalid.pop(next(iter(self._invalid)))
        return "regid_invalid"

    def _message_id(self, account: VendorAccount) -> str:
        return f"{account.details.get('app_id', '30000001')}-1-1-{secrets.token_hex(12)}"

    # ---- section 4: many

    def _unicast_batch(self, form: Mapping[str, str]) -> VendorReply:
        account = self._account_of(form)
        messages = parsed(form.get("messages", ""))
        if not messages:
            raise VendorError(40, "required argument is missing: messages")
        if not listing(shape({}), BATCH_MAX)(messages):
            raise VendorError(41, "invalid argument: messages")
        self.gate(account, len(messages))
        if self.switched("over_quota"):
            raise VendorError(33, "daily message limit exceeded")
        entries, reached = [], []
        for message in messages:
            message_id = self._message_id(account)
            entry = {"messageId": message_id, "registrationId": message.get("target_value")}
            try:
                sending = self._sending(account, message, len(messages))
                self._spend(sending, 1)
                event = self._reach(sending, message["target_value"])
                reached.append((sending, message["target_value"], message_id, event))
            except VendorError as error:
                if account.banned:
                    raise
                self.record.count(f"refused_{error.code}")
                entry |= {"errorCode": error.code, "errorMessage": error.words}
            entries.append(entry)
        self._receipts(reached)
        return self._ok(entries)

    def _save(self, form: Mapping[str, str]) -> VendorReply:
        """Stores a body for broadcast; all notification fields are flat form fields, so numbers
        come as text.
        """
        account = self._account_of(form)
        notification: dict[str, Any] = {}
        for name, value in form.items():
            scalar = re.fullmatch(r"-?\d{1,18}|true|false", value)
            typed = parsed(value) if scalar and name not in ("title", "content") else value
            notification |= {} if name == "auth_token" else {name: typed}
        _check(notification, private=False)
        message_id = self._message_id(account)
        if len(self._saved) > INVALID_MAX:
            self._saved.pop(next(iter(self._saved)))
        self._saved[message_id] = (account.id, notification)
        return self._ok({"message_id": message_id})

    def _broadcast(self, form: Mapping[str, str]) -> VendorReply:
        """To a list of registration ids; always public, private rights don't count here."""
        account = self._account_of(form)
        owner, notification = self._saved.get(form.get("message_id", ""), ("", {}))
        if owner != account.id:
            raise VendorError(31, "data does not exist: message_id")
        targets = [one for one in form.get("target_value", "").split(";") if one]
        # everybody: whom it reaches nobody here knows, so nothing is recorded (section 3)
        if form.get("target_type") == "1":
            self.gate(account)
            return self._ok({"message_id": form["message_id"], "task_id": secrets.token_hex(12)})
        if form.get("target_type") != "2" or not targets or len(targets) > BATCH_MAX:
            raise VendorError(41, "invalid argument: target_value")
        self.gate(account, len(targets))
        content = {"notification": notification}
        sending = VendorSending(
            account, self.requests, len(targets), False, content, notification.get("app_message_id")
        )
        self._spend(sending, len(targets))
        data: dict[str, Any] = {"message_id": form["message_id"], "task_id": secrets.token_hex(12)}
        for target in targets:
            try:
                if not _regid_hex(target):
                    raise VendorError(10000, "registration_id has a wrong format")
                self._reach(sending, target)
            except VendorError as error:
                data.setdefault(str(error.code), []).append(target)
        return self._ok(data)

    # ---- the feedback host

    def _fetch_invalid(self, form: Mapping[str, str]) -> VendorReply:
        self._account_of(form)
        found = list(self._invalid)
        self._invalid.clear()
        return self._ok({"registration_ids": found, "totalCount": len(found)})

    def _fetch_permit(self, form: Mapping[str, str]) -> VendorReply:
        account = self._account_of(form)
        total = self.limits["public_daily"]
        return self._ok(
            {"total": total, "remain": max(0, total - self.days.used(account.id, "public"))}
        )

    # ---- section 8

    def _receipts(self, reached: list[tuple[VendorSending, str, str, str]]) -> None:
        """Receipts for one address are merged into one array."""
        if not self.receipt_settings.get("on"):
            return
        merged: dict[str, list[dict[str, Any]]] = {}
        for sending, token, message_id, event in reached:
            notification = sending.body["notification"]
            if sending.body["target_type"] != 2 or not notification.get("call_back_url"):
                continue
            app_id = str(sending.account.details.get("app_id", "30000001"))
            item = {"messageId": message_id, "appId": app_id, "taskId": message_id}
            item |= {"registrationIds": token, "eventTime": str(int(time.time() * 1000))}
            item |= {"param": notification.get("call_back_parameter", ""), "eventType": event}
            merged.setdefault(notification["call_back_url"], []).append(item)
        for address, items in merged.items():
            headers = {"content-type": "application/json"}
            self.send_receipt(address, json.dumps(items, separators=(",", ":")).encode(), headers)


def make(record: Record) -> Oppo:
    return Oppo(record)
