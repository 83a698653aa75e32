"""vivo. Source: vivo's page, by sections (the new document where the two differ).

What a regId's text makes of it:

    dead     10302 with invalidUser status 1; in a list: invalidUsers status 1
    quiet    10302 with invalidUser status 2 (switched off, uninstalled); in a list: invalidUsers
    status 2
    fail     HTTP 500, the first two times that token is sent to
    busy     10072, once a push

Accounts: {account: appId, app_key, secret, rights [vivo.system], test_devices [regId]}. A
registered secret is verified; of others only the form of `sign` is, and app ids that begin with 999
and app keys that begin with `wrong` get 10206.
Hours and days are Asia/Shanghai of the simulated calendar (`POST /_sim/clock {"hour": 3}`).
Operational messages over the device's cap, or with the title and content of an earlier one of that
day, are accepted and dropped.
A banned account gets 10045. A value of a wrong type that the page has no code for gets 10100.
Receipts: to extra.callback, or for extra["callback.id"] to the settings' url; formal messages only.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar

from simulators.rules import INT32_MAX, Rule, boolean, integer, listing, one_of, parsed, shape, text
from simulators.simulator import Record, VendorCall, VendorReply
from simulators.state import ChinaSimulator, IssuedTokens, VendorAccount, VendorError, VendorSending

TOKEN_LIFE_S = 86_400
CLOCK_SKEW_MS = 600_000
LIST_MIN, LIST_MAX = 2, 1000
OPEN_HOURS = range(7, 23)  # of operational messages
TASKS_MAX = 10_000
UNDOCUMENTED = 10100

SYSTEM = frozenset({"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"})
OPERATIONAL = frozenset({"NEWS", "CONTENT", "MARKETING", "SOCIAL"})
#: Reason of a dropped message -> (ackType, its detail). Source: section 8.
_RECEIPT = {"": ("0", "0"), "repeated": ("104", "2124")}
_EXTRAS = frozenset({"callback", "callback.id", "callback.param"})

Body = Mapping[str, Any]


def _custom_map(value: Any) -> bool:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        return False
    return sum(len(key) + len(one) for key, one in value.items()) <= 1024


#: (field, rule, code), in the order they are tried. Source: page, sections 3 and 5.
_FIELDS: tuple[tuple[str, Rule, int], ...] = (
    ("classification", one_of(0, 1), 10051),
    ("notifyType", integer(1, 4), 10054),
    ("title", text(40), 10056),
    ("content", text(100), 10058),
    ("timeToLive", integer(60, 86_400), 10059),
    ("skipType", integer(1, 4), 10060),
    ("skipContent", text(1024), 10060),
    ("networkType", one_of(-1, 1), 10065),
    ("clientCustomMap", _custom_map, 10067),
    ("notifyId", integer(1, INT32_MAX), 10095),
    ("requestId", text(64), 10353),
    ("pushMode", one_of(0, 1), UNDOCUMENTED),
    ("foregroundShow", boolean, UNDOCUMENTED),
    ("sendOnline", boolean, UNDOCUMENTED),
    ("profileId", text(64), UNDOCUMENTED),
    ("addBadge", boolean, UNDOCUMENTED),
    (
        "timedDisplay",
        shape(
            {
                "overtimeDisplay": boolean,
                "showStartTime": integer(0, 2**53),
                "showEndTime": integer(0, 2**53),
            }
        ),
        UNDOCUMENTED,
    ),
    ("auditReview", listing(shape({}), 100), UNDOCUMENTED),
)
#: (field, code when it is missing).
_REQUIRED = (
    ("notifyType", 10054),
    ("title", 10055),
    ("content", 10057),
    ("skipType", 10060),
    ("requestId", 10352),
)


def formal(words: str) -> bool:
    """Not only digits, only Latin letters or only symbols (white space apart); no 测试, no braces,
    no brackets. Source: section 3.
    """
    bare = "".join(words.split())
    if (
        bare.isdecimal()
        or (bare.isascii() and bare.isalpha())
        or any(char in bare for char in "{}[]")
        or "测试" in bare
    ):
        return False
    return any(unicodedata.category(char)[0] in "LN" for char in bare)


def _check(body: Body) -> None:
    """Refuses what breaks a rule of its own field; what concerns class and extra comes after."""
    for name, code in _REQUIRED:
        if body.get(name) in (None, ""):
            raise VendorError(code, f"{name} is empty or illegal")
    for name, rule, code in _FIELDS:
        if body.get(name) is not None and not rule(body[name]):
            raise VendorError(code, f"{name} is illegal")
    if body["skipType"] != 1 and not body.get("skipContent"):
        raise VendorError(10060, "skipContent is illegal")
    _check_category(body)
    _check_extra(body.get("extra"))


def _check_category(body: Body) -> None:
    category, classification = body.get("category"), body.get("classification")
    if category is None:
        return
    if not isinstance(category, str) or category not in SYSTEM | OPERATIONAL:
        raise VendorError(10096, "category is unknown")
    if classification is not None and classification != (category in SYSTEM):
        raise VendorError(10097, "category and classification do not match")


def _check_extra(extra: Any) -> None:
    if extra is None:
        return
    if (
        not isinstance(extra, dict)
        or not set(extra) <= _EXTRAS
        or not all(isinstance(one, str) for one in extra.values())
    ):
        raise VendorError(10304, "extra has an unsupported key")
    if len(extra.get("callback", "")) > 128:
        raise VendorError(10305, "callback too long")
    if len(extra.get("callback.param", "")) > 192:
        raise VendorError(10306, "callback.param too long")


class Vivo(ChinaSimulator):
    vendor = "vivo"
    endpoints = ("VIVO",)
    LIMITS: ClassVar = {
        "per_second": 3000,
        "auth_per_second": 10,
        "operational_daily": 20_000,
        "system_daily": 30_000,
        "operational_device_daily": 2,
        "list_bodies_daily": 0,
        "all_daily": 1,
        "task_life_s": 86_400,
    }

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.access = IssuedTokens(TOKEN_LIFE_S)
        self._auths: dict[str, list[int]] = {}
        self._tasks: dict[str, tuple[VendorAccount, dict[str, Any], float]] = {}
        self._task_number = 121_397_328
        self._counters: dict[str, dict[str, int]] = {}

    def expire_access(self) -> None:
        self.access.expire()

    def penalty(self) -> VendorError:
        return VendorError(10045, "the app is black-listed")

    def too_fast(self) -> VendorError:
        return VendorError(10072, "sending too fast")

    def refusal(self, error: VendorError) -> VendorReply:
        if error.status != 200:
            return VendorReply(error.status, error.words.encode(), {"content-type": "text/plain"})
        return VendorReply.json(200, {"result": error.code, "desc": error.words, **error.more})

    def answer(self, call: VendorCall) -> VendorReply:
        if call.path == "/report/getStatistics" and call.method == "GET":
            self._account_of(call, {})
            return self._statistics(call)
        posts = {
            "/message/auth": self._auth,
            "/message/send": self._send,
            "/message/saveListPayload": self._save,
        }
        many = {
            "/message/pushToList": self._push_to_list,
            "/message/all": self._push_to_all,
            "/message/tagPush": self._push_to_all,
        }
        action = {**posts, **many}.get(call.path)
        if action is None:
            raise VendorError("404", "not found", 404)
        if call.method != "POST":
            raise VendorError("405", "method not allowed", 405)
        body = parsed(call.body)
        if not isinstance(body, dict):
            raise VendorError("400", "the body is not a JSON object", 400)
        return action(call, body)

    @staticmethod
    def _ok(**more: Any) -> VendorReply:
        return VendorReply.json(200, {"result": 0, "desc": "请求成功", **more})

    # ---- section 2

    def _auth(self, _call: VendorCall, body: Body) -> VendorReply:
        self.record.count("auth")
        wanted = (("appId", 10200), ("appKey", 10201), ("timestamp", 10203), ("sign", 10204))
        for name, code in wanted:
            if body.get(name) in (None, ""):
                raise VendorError(code, f"{name} is empty")
        app_id, key, stamp, sign = (
            str(body[name]) for name in ("appId", "appKey", "timestamp", "sign")
        )
        if not re.fullmatch(r"\d{1,18}", app_id):
            raise VendorError(10205, "appId does not exist")
        account = self.account(app_id)
        self._count_auth(app_id)
        if account.details.get("app_key", key) != key or not re.fullmatch(
            r"[0-9A-Za-z-]{1,64}", key
        ):
            raise VendorError(10202, "appKey is illegal")
        dated = re.fullmatch(r"\d{13}", stamp)
        if not dated or abs(int(stamp) - time.time() * 1000) > CLOCK_SKEW_MS:
            raise VendorError(10207, "timestamp is illegal")
        if account.secret is not None:
            base = f"{app_id}{key}{stamp}{account.secret}".strip()
            good = sign == hashlib.md5(base.encode(), usedforsecurity=False).hexdigest()
        else:
            good = bool(re.fullmatch("[0-9a-f]{32}", sign)) and not (
                app_id.startswith("999") or key.startswith("wrong")
            )
        if not good:
            raise VendorError(10206, "sign is wrong")
        return self._ok(authToken=self.access.give(app_id))

    def _count_auth(self, app_id: str) -> None:
        now, limit = int(time.time()), self.limits["auth_per_second"]
        window = self._auths.setdefault(app_id, [now, 0])
        if window[0] != now:
            window[:] = [now, 0]
        window[1] += 1
        if limit and window[1] > limit:
            raise VendorError(10250, "auth is called too often")

    def _account_of(self, call: VendorCall, body: Body) -> VendorAccount:
        given = self.access.owner(call.headers.get("authtoken", ""))
        if given is None or not given[1]:
            raise VendorError(10000, "authToken is missing, wrong or expired")
        named = body.get("appId")
        # it may be absent: the token names the app (sections 2-4)
        if named not in (None, "") and str(named) != given[0]:
            raise VendorError(10094, "authToken and appId do not match")
        return self.account(given[0])

    # ---- section 3: one device

    def _send(self, call: VendorCall, body: Body) -> VendorReply:
        account = self._account_of(call, body)
        token = body.get("regId") or body.get("alias")
        if not token or not isinstance(token, str):
            raise VendorError(10050, "regId and alias are empty")
        self.gate(account)
        sending = self._sending(account, body, 1)
        self._stumble([token])
        status = self._invalid(account, token, body.get("pushMode", 0))
        if status:
            raise VendorError(10302, "regId不合法", invalidUser={"status": status, "userid": token})
        self._spend(sending, 1)
        task = self._new_task()
        self._reach(sending, [token], task)
        return self._ok(taskId=task)

    def _sending(self, account: VendorAccount, body: Body, size: int) -> VendorSending:
        """Refuses a message that breaks a rule. What it is without a category, the page does not
        confirm: what it claims.
        """
        _check(body)
        system = claimed = body.get("category") in SYSTEM or (
            "category" not in body and body.get("classification") == 1
        )
        private = self.classed(account, claimed, "vivo.system", body["title"], body["content"])
        if claimed and not private:
            raise VendorError(10082, "the system-message right is not open")
        self._check_formal(body)
        if not system and self.calendar.hour() not in OPEN_HOURS:
            raise VendorError(10071, "outside the allowed sending time")
        content = {
            name: value for name, value in body.items() if name not in ("regId", "alias", "appId")
        }
        push_id = (body.get("extra") or {}).get("callback.param") or body["requestId"]
        return VendorSending(account, self.requests, size, system, content, push_id)

    @staticmethod
    def _check_formal(body: Body) -> None:
        """Checks formal messages only: a test message may have any text."""
        if body.get("pushMode", 0) == 1:
            return
        if not formal(body["title"]):
            raise VendorError(10085, "the title is not formal")
        if not formal(body["content"]):
            raise VendorError(10104, "the content is not formal")
        if "敏感词" in body["title"] + body["content"]:
            raise VendorError(10103, "sensitive words")

    def _stumble(self, tokens: list[str]) -> None:
        # a requestId is new in each try: tries are counted by token
        stumble = self.stumbles(tokens, None)
        if stumble == "fail":
            raise VendorError("500", "server error", 500)
        if stumble == "busy":
            raise self.too_fast()

    def _invalid(self, account: VendorAccount, token: str, mode: int) -> int:
        """The invalidUser status: 0 when the device can be reached."""
        status = {"dead": 1, "quiet": 2}.get(self.fate(token), 0)
        if mode == 1 and token not in account.details.get("test_devices", ()):
            status = status or 4
        return status

    def _spend(self, sending: VendorSending, size: int) -> None:
        bucket = "system_daily" if sending.private else "operational_daily"
        if sending.body.get("pushMode") == 1:
            return  # outside volume and frequency limits
        if self.switched("over_quota") or not self.days.take(
            self.limits[bucket], size, sending.account.id, bucket
        ):
            raise VendorError(10073 if sending.private else 10070, "the daily total is used up")

    def _reach(self, sending: VendorSending, tokens: list[str], task: str) -> None:
        counters = self._counters.setdefault(
            task, {"send": 0, "receive": 0, "display": 0, "click": 0}
        )
        by_code: dict[str, list[str]] = {}
        for token in tokens:
            dropped = self._dropped(sending, token)
            self.accept(sending, token, **({"dropped": dropped} if dropped else {}))
            counters["send"] += 1
            counters["receive"] += not dropped
            by_code.setdefault(dropped, []).append(token)
        if len(self._counters) > TASKS_MAX:
            self._counters.pop(next(iter(self._counters)))
        self._receipts(sending, by_code, task)

    def _dropped(self, sending: VendorSending, token: str) -> str:
        account = sending.account.id
        if sending.private or sending.body.get("pushMode") == 1:
            return ""
        words = sending.body["title"] + "\0" + sending.body["content"]
        if not self.days.take(1, 1, account, "same words", token, words):
            return "repeated"
        fits = self.days.take(
            self.limits["operational_device_daily"], 1, account, "operational", token
        )
        return "" if fits else "operational_device_daily"

    # ---- section 4: a list, in two steps

    def _new_task(self) -> str:
        self._task_number += 1
        return str(self._task_number)

    def _save(self, call: VendorCall, body: Body) -> VendorReply:
        account = self._account_of(call, body)
        self.gate(account, 0)
        self._sending(account, body, 0)
        if not self.days.take(self.limits["list_bodies_daily"], 1, account.id, "list bodies"):
            raise VendorError(10252, "too many list bodies today")
        if len(self._tasks) >= TASKS_MAX:
            self._tasks.pop(next(iter(self._tasks)))
        task = self._new_task()
        self._tasks[task] = (account, dict(body), time.time())
        return self._ok(taskId=task)

    def _push_to_all(self, call: VendorCall, body: Body) -> VendorReply:
        """To the whole app, or a tag: the receivers are unknown here, so nothing is recorded."""
        account = self._account_of(call, body)
        self.gate(account, 0)
        self._sending(account, body, 0)
        if call.path == "/message/all" and not self.days.take(
            self.limits["all_daily"], 1, account.id, "all"
        ):
            raise VendorError(10254, "too many pushes to all today")
        return self._ok(taskId=self._new_task())

    def _saved(self, account: VendorAccount, body: Body) -> dict[str, Any]:
        task = body.get("taskId")
        if task in (None, ""):
            raise VendorError(10151, "taskId is empty")
        owner, saved, at_s = self._tasks.get(str(task), (None, {}, 0.0))
        if owner is not account:
            raise VendorError(10152, "taskId is invalid")
        if time.time() - at_s >= self.limits["task_life_s"]:
            raise VendorError(10155, "the saved body is missing or expired")
        return saved

    def _push_to_list(self, call: VendorCall, body: Body) -> VendorReply:
        account = self._account_of(call, body)
        tokens = body.get("regIds") or body.get("aliases")
        if not tokens:
            raise VendorError(10150, "regIds are empty")
        if not listing(text(least=1), LIST_MAX, LIST_MIN)(tokens):
            raise VendorError(10153, "not 2 to 1000 regIds")
        request_id = body.get("requestId")
        if not isinstance(request_id, str) or not 1 <= len(request_id) <= 64:
            raise VendorError(10353 if request_id else 10352, "requestId is illegal")
        saved = self._saved(account, body)
        self.gate(account, len(tokens))
        sending = self._sending(account, {**saved, "requestId": request_id}, len(tokens))
        self._stumble(tokens)
        mode = body.get("pushMode", saved.get("pushMode", 0))
        statuses = {token: self._invalid(account, token, mode) for token in tokens}
        reached = [token for token in tokens if not statuses[token]]
        self._spend(sending, len(reached))
        self._reach(sending, reached, str(body["taskId"]))
        invalid = [
            {"status": status, "userid": token} for token, status in statuses.items() if status
        ]
        return self._ok(requestId=request_id, **({"invalidUsers": invalid} if invalid else {}))

    # ---- sections 1 and 8

    def _statistics(self, call: VendorCall) -> VendorReply:
        tasks = dict(urllib.parse.parse_qsl(call.query)).get("taskIds", "").split(",")
        return self._ok(
            statistics=[
                {"taskId": task, **self._counters[task]} for task in tasks if task in self._counters
            ]
        )

    def _receipts(
        self, sending: VendorSending, by_code: Mapping[str, list[str]], task: str
    ) -> None:
        extra = sending.body.get("extra") or {}
        if sending.body.get("pushMode") == 1 or not (
            extra.get("callback") or extra.get("callback.id")
        ):
            return
        # or subAckType: sources disagree (section 8)
        named = self.receipt_settings.get("detail", "subStatus")
        for dropped, tokens in by_code.items():
            kind, detail = _RECEIPT.get(dropped, ("100", "12000"))
            for token in tokens:
                item = {"param": extra.get("callback.param", ""), "targets": token, "ackType": kind}
                item |= {"ackTime": int(time.time() * 1000), named: detail}
                body = json.dumps({task: item}, separators=(",", ":")).encode()
                self.send_receipt(extra.get("callback"), body, {"content-type": "application/json"})


def make(record: Record) -> Vivo:
    return Vivo(record)
