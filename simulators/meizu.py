"""Meizu (Flyme). Source: Meizu's page, by sections.

What a pushId's text makes of it (codes inside `value`; whoever is not named there was accepted):

    dead    110002 not registered          quiet   110010 the person switched us off
    fail    501, twice a push              busy    518, once a push
    other characters than [0-9A-Za-z_.:-]: 110003

Accounts: {account: appId, secret, rights [meizu.private], callbacks [url], package}. Every call is
signed; a registered secret is verified, of others only the form of `sign` is, and app ids that
begin with 999 or `wrong` get 1006. With `callbacks` registered a message with another callback
fails (1005). With `package`, other restrictedPackageNames get 110031.
A repeat has the same extra["callback.param"]; without one the record's id is null
(notifyKey is a collapse key).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar

from simulators.rules import (
    either,
    integer,
    one_of,
    parsed,
    pattern,
    shape,
    text,
    text_bytes,
    url,
    wrong,
)
from simulators.simulator import Record, VendorCall, VendorReply
from simulators.state import ChinaSimulator, VendorAccount, VendorError, VendorSending

PUSH_IDS_MAX = 100
PACKAGES_MAX = 50
TASKS_MAX = 10_000
FOLD_WINDOW_S = 60

_ROOT = "/garcia/api/server/"
_DAILY = "push/statistics/dailyPushStatics"  # the page says GET, the SDK sends POST (section 1)
_TYPE = one_of(0, 1)
#: Meizu's page and its own SDK (JavaSdk 1.2.13) disagree: ints or booleans, unset texts absent or
#: empty (section 3).
_SWITCH = one_of(0, 1, True, False)
_UNSET = one_of("")
_TIME = either(_UNSET, pattern(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"))
_PARTS = {
    "noticeBarInfo": {
        "noticeMsgType": _TYPE,
        "noticeBarType": one_of(0, 1, 2),
        "noticeBarImgUrl": text(),
        "title": text(32, 1),
        "content": text(100, 1),
    },
    "noticeExpandInfo": {
        "noticeExpandType": one_of(0, 1, 2),
        "noticeExpandContent": text(),
        "noticeExpandImgUrl": text(),
    },
    "clickTypeInfo": {
        "clickType": integer(0, 3),
        "activity": text(),
        "url": text(),
        "parameters": shape({}),
        "customAttribute": text_bytes(1000),
    },
    "pushTimeInfo": {"offLine": _SWITCH, "validTime": integer(1, 72)},
    "advanceInfo": {
        "suspend": _SWITCH,
        "clearNoticeBar": _SWITCH,
        "fixDisplay": _SWITCH,
        "fixStartDisplayTime": _TIME,
        "fixEndDisplayTime": _TIME,
        "notificationType": shape({"vibrate": _SWITCH, "lights": _SWITCH, "sound": _SWITCH}),
        "notifyKey": either(_UNSET, pattern(r"[0-9A-Za-z_-]{1,8}")),
    },
    "extra": {
        "callback": either(_UNSET, lambda value: url(value) and text_bytes(128)(value)),
        "callback.param": text_bytes(64),
        "callback.type": one_of("", "1", "2", "3"),
    },
    "vipInfo": {},
}


def signature(parameters: Mapping[str, str], secret: str) -> str:
    """The md5 in hex of name=value of all parameters but `sign`, by name, and of the secret.

    Raw values. Source: section 2.
    """
    signed = "".join(f"{name}={parameters[name]}" for name in sorted(parameters) if name != "sign")
    base = signed + secret
    return hashlib.md5(base.encode(), usedforsecurity=False).hexdigest()


def _no(what: str) -> VendorError:
    return VendorError("1005", f"parameter error: {what}")


def _check(message: Any) -> dict[str, Any]:
    """The message, or 1005 with the field that breaks a rule."""
    if not isinstance(message, dict):
        raise _no("messageJson")
    for part, fields in _PARTS.items():
        inner = message.get(part) if message.get(part) is not None else {}
        if not isinstance(inner, dict):
            raise _no(part)
        required = ("title", "content") if part == "noticeBarInfo" else ()
        if offender := wrong(inner, fields, required):
            raise _no(f"{part}.{offender}")
    expand, click = message.get("noticeExpandInfo") or {}, message.get("clickTypeInfo") or {}
    if expand.get("noticeExpandType") == 1 and not expand.get("noticeExpandContent"):
        raise _no("noticeExpandInfo.noticeExpandContent")
    needed = {1: "activity", 2: "url", 3: "customAttribute"}.get(click.get("clickType", 0))
    if needed and not click.get(needed):
        raise _no(f"clickTypeInfo.{needed}")
    when = message.get("pushTimeInfo") or {}
    if when.get("offLine") == 1 and when.get("validTime") is None:
        raise _no("pushTimeInfo.validTime")
    return message


class Meizu(ChinaSimulator):
    vendor = "meizu"
    endpoints = ("MEIZU",)
    RATE_OF = "requests"
    LIMITS: ClassVar = {
        "per_second": 200,
        "daily": 0,
        "public_device_daily": 3,
        "device_per_minute": 5,
    }

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self._minutes: dict[tuple[str, str], list[float]] = {}
        self._tasks: dict[str, tuple[VendorAccount, dict[str, Any]]] = {}
        self._counters: dict[str, dict[str, int]] = {}

    def penalty(self) -> VendorError:
        return VendorError("110009", "应用被加入黑名单")

    def too_fast(self) -> VendorError:
        return VendorError("110010", "应用请求频率超过限制")

    def refusal(self, error: VendorError) -> VendorReply:
        if error.status != 200:
            return VendorReply(error.status, error.words.encode(), {"content-type": "text/plain"})
        return VendorReply.json(
            200, {"code": error.code, "message": error.words, "value": "", "redirect": ""}
        )

    def answer(self, call: VendorCall) -> VendorReply:
        posts = {
            "push/varnished/pushByPushId": self._push,
            "push/varnished/pushByAlias": self._push_alias,
            "push/task/varnished/pushByAlias": self._push_task_alias,
            "push/pushTask/pushToApp": self._push_to_all,
            "push/pushTask/pushToTag": self._push_to_all,
            "push/pushTask/getTaskId": self._new_task,
            "push/task/varnished/pushByPushId": self._push_task,
            "push/pushTask/cancel": self._cancel,
        }
        gets = {
            "push/statistics/getTaskStatistics": self._task_statistics,
            _DAILY: self._daily_statistics,
        }
        action = call.path.removeprefix(_ROOT)
        if not call.path.startswith(_ROOT) or (
            action not in posts and action not in gets and "unvarnished/" not in action
        ):
            raise VendorError("404", "not found", 404)
        methods = ("GET", "POST") if action == _DAILY else ("GET",) if action in gets else ("POST",)
        if call.method not in methods:
            raise VendorError("405", "method not allowed", 405)
        try:
            raw = call.query if call.method == "GET" else call.body.decode()
            form = dict(
                urllib.parse.parse_qsl(
                    raw, keep_blank_values=True, errors="strict", max_num_fields=100
                )
            )
        except ValueError as error:
            raise _no("not UTF-8, or not a form") from error
        account = self._account_of(form)
        if action not in posts and action not in gets:
            raise VendorError("110053", "透传消息限制")
        return (posts.get(action) or gets[action])(account, form)

    # ---- section 2

    def _account_of(self, form: Mapping[str, str]) -> VendorAccount:
        app_id, sign = form.get("appId", ""), form.get("sign", "")
        if not app_id:
            raise VendorError("110004", "参数不能为空")
        if not re.fullmatch(r"\d{1,18}", app_id) and not app_id.startswith("wrong"):
            raise VendorError("110000", "appId不合法")
        account = self.account(app_id)
        if account.secret is not None:
            good = sign == signature(form, account.secret)
        else:
            good = bool(re.fullmatch("[0-9a-f]{32}", sign)) and not app_id.startswith(
                ("999", "wrong")
            )
        if not good:
            raise VendorError("1006", "签名认证失败")
        return account

    # ---- sections 3 and 4

    def _push_ids(self, form: Mapping[str, str]) -> list[str]:
        if not form.get("pushIds"):
            raise VendorError("110004", "参数不能为空")
        push_ids = form["pushIds"].split(",")
        if len(push_ids) > PUSH_IDS_MAX:
            raise _no("pushIds")
        return push_ids

    def _push_alias(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        """As pushByPushId by alias: one without a subscriber is 110005."""
        return self._push(account, {**form, "pushIds": form.get("alias", "")}, no_token="110005")

    def _push_task_alias(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        return self._push_task(account, {**form, "pushIds": form.get("alias", "")})

    def _push_to_all(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        """To the whole app, or a tag: the receivers are unknown here, so nothing is recorded."""
        if form.get("pushType", "0") != "0":
            raise VendorError("110053", "透传消息限制")
        self.gate(account)
        self._message(account, form)
        value = {"taskId": str(10_000 + self.requests), "pushType": 0, "appId": account.id}
        return VendorReply.json(200, {"code": "200", "message": "", "value": value, "redirect": ""})

    def _packages(self, account: VendorAccount, form: Mapping[str, str]) -> None:
        names = form.get("restrictedPackageNames")
        if names is None:
            return
        if len(names.split(",")) > PACKAGES_MAX:
            raise _no("restrictedPackageNames")
        if account.details.get("package") not in (None, *names.split(",")):
            raise VendorError("110031", "包名不合法")

    def _message(
        self, account: VendorAccount, form: Mapping[str, str]
    ) -> tuple[dict[str, Any], bool]:
        """(messageJson, whether it travels as private)."""
        if not form.get("messageJson"):
            raise VendorError("110004", "参数不能为空")
        message = _check(parsed(form["messageJson"]))
        known = account.details.get("callbacks")
        callback = (message.get("extra") or {}).get("callback")
        if known is not None and callback is not None and callback not in known:
            raise _no("extra.callback is not registered")
        bar = message["noticeBarInfo"]
        private = self.classed(
            account, bar.get("noticeMsgType") == 1, "meizu.private", bar["title"], bar["content"]
        )
        return message, private

    def _push(
        self, account: VendorAccount, form: Mapping[str, str], no_token: str = "110002"
    ) -> VendorReply:
        push_ids = self._push_ids(form)
        self.gate(account, len(push_ids))
        self._packages(account, form)
        message, private = self._message(account, form)
        return self._deliver(account, message, private, push_ids, self.new_id(), no_token)

    def _deliver(
        self,
        account: VendorAccount,
        message: dict[str, Any],
        private: bool,
        push_ids: list[str],
        message_id: str,
        no_token: str = "110002",
    ) -> VendorReply:
        push_id = (message.get("extra") or {}).get("callback.param")
        sending = VendorSending(account, self.requests, len(push_ids), private, message, push_id)
        if self.switched("over_quota") or not self.days.take(
            self.limits["daily"], len(push_ids), account.id, "all"
        ):
            raise VendorError("110019", "推送消息数已达当天最大限制")
        value: dict[str, list[str]] = {}
        reached = []
        for token in push_ids:
            code = self._code(sending, token, no_token)
            if code:
                value.setdefault(code, []).append(token)
            else:
                self.accept(sending, token)
                reached.append(token)
        zeros = {
            "targetNo": 0,
            "validNo": 0,
            "pushedNo": 0,
            "acceptNo": 0,
            "displayNo": 0,
            "clickNo": 0,
        }
        counters = self._counters.setdefault(message_id, zeros)
        counters["targetNo"] += len(push_ids)
        for name in ("validNo", "pushedNo", "acceptNo"):
            counters[name] += len(reached)
        if len(self._counters) > TASKS_MAX:
            self._counters.pop(next(iter(self._counters)))
        self._receipts(message, reached, message_id)
        return VendorReply.json(
            200, {"code": "200", "message": "", "value": value, "msgId": message_id}
        )

    def _code(self, sending: VendorSending, token: str, no_token: str) -> str:
        """The code of a target that is not reached; "" when it is."""
        if not re.fullmatch(r"[0-9A-Za-z_.:-]+", token):
            return "110003"
        fate = self.fate(token)
        if fate in ("dead", "quiet"):
            return {"dead": no_token, "quiet": "110010"}[fate]
        if fate == "fail" and self.failing(token, sending.push_id):
            return "501"
        if fate == "busy" and self.failing(token, sending.push_id, 1):
            return "518"
        cap, account = self.limits["public_device_daily"], sending.account.id
        if not sending.private and cap and self.days.used(account, "public", token) >= cap:
            return "110011"
        if not self._unfolded(account, token):
            return "520"
        if not sending.private:
            self.days.take(cap, 1, account, "public", token)
        return ""

    def _unfolded(self, account: str, token: str) -> bool:
        """False when the device got its fill of this app within a minute."""
        limit, now = self.limits["device_per_minute"], time.monotonic()
        if len(self._minutes) > 100_000:
            minutes = self._minutes.items()
            self._minutes = {
                key: times for key, times in minutes if now - times[-1] < FOLD_WINDOW_S
            }
        times = [at for at in self._minutes.get((account, token), ()) if now - at < FOLD_WINDOW_S]
        fits = not limit or len(times) < limit
        if fits:
            times.append(now)
            self._minutes[(account, token)] = times[-max(limit, 1) :]
        return fits

    # ---- tasks and statistics

    def _new_task(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        if form.get("pushType") != "0":
            raise VendorError("110053" if form.get("pushType") == "1" else "1005", "pushType")
        message, _ = self._message(account, form)
        task = str(10_000 + self.requests)
        if len(self._tasks) >= TASKS_MAX:
            self._tasks.pop(next(iter(self._tasks)))
        self._tasks[task] = (account, message)
        value = {"taskId": task, "pushType": 0, "appId": account.id}
        return VendorReply.json(200, {"code": "200", "message": "", "value": value, "redirect": ""})

    def _task_message(self, account: VendorAccount, form: Mapping[str, str]) -> dict[str, Any]:
        owner, message = self._tasks.get(form.get("taskId", ""), (None, {}))
        if owner is not account:
            raise VendorError("110032", "taskId不合法")
        return message

    def _push_task(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        """A task has no receipts: those are for the calls without a task."""
        push_ids = self._push_ids(form)
        self.gate(account, len(push_ids))
        fields = self._task_message(account, form).items()
        message = {name: value for name, value in fields if name != "extra"}
        bar = message["noticeBarInfo"]
        private = self.classed(
            account, bar.get("noticeMsgType") == 1, "meizu.private", bar["title"], bar["content"]
        )
        return self._deliver(account, message, private, push_ids, form["taskId"])

    def _cancel(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        self._task_message(account, form)
        del self._tasks[form["taskId"]]
        return VendorReply.json(
            200, {"code": "200", "message": "", "value": {"result": True}, "redirect": ""}
        )

    def _task_statistics(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        task = form.get("taskId", "")
        if task not in self._counters:
            self._task_message(account, form)
        value = {"taskId": task, **self._counters.get(task, {})}
        return VendorReply.json(200, {"code": "200", "message": "", "value": value, "redirect": ""})

    def _daily_statistics(self, account: VendorAccount, form: Mapping[str, str]) -> VendorReply:
        days = (form.get("startTime", ""), form.get("endTime", ""))
        if not all(re.fullmatch(r"\d{8}", day) for day in days) or days[0] > days[1]:
            raise VendorError("500", "startTime, endTime")
        value = [{"date": self.calendar.day(), "pushedNo": self.days.used(account.id, "all")}]
        return VendorReply.json(200, {"code": "200", "message": "", "value": value, "redirect": ""})

    # ---- section 8

    def _receipts(self, message: Mapping[str, Any], tokens: list[str], message_id: str) -> None:
        extra = message.get("extra") or {}
        if not extra.get("callback") or not tokens or extra.get("callback.type", "3") == "2":
            return
        param = extra.get("callback.param", "")
        receipt = {f"{message_id}-1": {"param": param, "type": 1, "targets": tokens}}
        body = urllib.parse.urlencode(
            {"cb": json.dumps(receipt, separators=(",", ":")), "access_token": "simulated"}
        ).encode()
        self.send_receipt(
            extra["callback"], body, {"content-type": "application/x-www-form-urlencoded"}
        )


def make(record: Record) -> Meizu:
    return Meizu(record)
