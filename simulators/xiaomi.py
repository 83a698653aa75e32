"""Xiaomi (MiPush). Source: Xiaomi's page, by sections.

What a token's text makes of it:

    dead    named in the answer's data.bad_regids, receipt 16; 20301 "No valid targets!" when all
    tokens of the request are quiet   accepted, receipt 32 (the client called disablePush)
    fail    10001 for the request, twice a push
    busy    200002 for the request, once a push

Accounts: {account, secret, package, rights [xiaomi.private], channels {id: "private"|"public"},
templates {id: [variables]}, channels_only: bool (an app moved to the new classes: no channel id is
27001)}. The secret names the account; one that nobody registered is taken as it comes and its
account is the package's name; secrets with `wrong` in them are refused, and so is any other than
the registered one for a registered package.
A message is private when its channel is a private one; of channels that nobody registered those
with a template id are private.
Over the app's daily total: 200001, or left out of a multi message (channel_exceed_quota). Over the
device's: accepted and dropped (`dropped` in the record, receipt 128).
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from simulators.rules import parsed
from simulators.simulator import Record, VendorCall, VendorReply
from simulators.state import ChinaSimulator, VendorAccount, VendorError, VendorSending
from simulators.xiaomi_rules import (
    PACKAGE_FIELD,
    PACKAGE_NAME,
    RECEIPT_BITS,
    TARGETS_MAX,
    Form,
    check_effect,
    check_extras,
    check_numbers,
    check_receipt_wish,
    check_template,
    check_texts,
    item_form,
)

#: Calls that don't name regids, and the field that names their target (section 1).
_OTHER_TARGETS = {
    "/v2/message/alias": "alias",
    "/v3/message/alias": "alias",
    "/v2/message/user_account": "user_account",
    "/v3/message/topic": "topic",
    "/v2/message/topic": "topic",
    "/v3/message/multi_topic": "topics",
    "/v3/message/all": "",
    "/v2/message/all": "",
}
_REVOKES = (
    "/v3/message/regid/revoke",
    "/v3/message/alias/revoke",
    "/v3/message/user_account/revoke",
)
_STATISTICS = (
    "/v1/stats/message/counters",
    "/v1/trace/message/status",
    "/v1/trace/messages/status",
)


class Xiaomi(ChinaSimulator):
    vendor = "xiaomi"
    endpoints = ("XIAOMI", "XIAOMI_GLOBAL")
    RATE_OF = "requests"
    LIMITS: ClassVar = {
        "per_second": 500,
        "default_daily": 10_000,
        "public_daily": 20_000,
        "private_daily": 0,
        "default_device_daily": 1,
        "public_device_daily": 5,
        # A switch: the page has it "withdrawn", the server's answer is unconfirmed.
        "notify_effect_required": 1,
    }

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self._quota_read_s = 0

    def penalty(self) -> VendorError:
        return VendorError(10031, "AppId in the blacklist, forbid to send messages")

    def too_fast(self) -> VendorError:
        return VendorError(200002, "qps exceeded")

    def refusal(self, error: VendorError) -> VendorReply:
        content = {
            "result": "error",
            "code": error.code,
            "reason": error.words,
            "description": error.words,
            "trace_id": self.new_id("Xcm"),
        }
        return VendorReply.json(error.status, content)

    def answer(self, call: VendorCall) -> VendorReply:
        posts: dict[str, Callable[[VendorCall], VendorReply]] = {
            "/v2/message/regid": self._single,
            "/v3/message/regid": self._single,
            "/v4/message/regid": self._single,
            "/v2/multi_messages/regids": self._multi,
            **dict.fromkeys(_OTHER_TARGETS, self._to_others),
            **dict.fromkeys(_REVOKES, self._revoke),
        }
        gets = {"/v1/trace/quota/get": self._quota, **dict.fromkeys(_STATISTICS, self._statistics)}
        if call.path in gets and call.method == "GET":
            return gets[call.path](call)
        if call.path not in posts:
            raise VendorError(10020, "the API is not found")
        if call.method != "POST":
            raise VendorError(10021, "the HTTP method is not supported")
        return posts[call.path](call)

    # ---- section 2

    def _account(self, call: VendorCall, package: str) -> VendorAccount:
        found = re.fullmatch(r"key=(\S+)", call.headers.get("authorization", ""))
        secret = found[1] if found else ""
        if not secret or "wrong" in secret:
            raise VendorError(21301, "Invalid application secret.")
        owner = next((one for one in self._registered() if one.secret == secret), None)
        if owner is None:
            accounts = self._registered()
            if any(
                package in (one.details.get("package"), one.id) and one.secret for one in accounts
            ):
                raise VendorError(21301, "Invalid application secret.")
            return self.account(package)
        if package and owner.details.get("package", package) != package:
            raise VendorError(66108, "the package name is not the one of the console")
        return owner

    def _form(self, call: VendorCall) -> Form:
        kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise VendorError(10007, "the mime type is not supported")
        try:
            pairs = urllib.parse.parse_qsl(
                call.body.decode(), keep_blank_values=True, errors="strict", max_num_fields=1000
            )
        except ValueError as error:
            raise VendorError(10012, "illegal request") from error
        packages = [value for name, value in pairs if name == PACKAGE_FIELD]
        # the SDK repeats it once a package (section 3)
        return dict(pairs) | ({PACKAGE_FIELD: ",".join(packages)} if packages else {})

    def _package(self, call: VendorCall, form: Form) -> VendorAccount:
        """The account, and the package checked: one for v2, a list for the newer."""
        named = form.get("restricted_package_name", "")
        account = self._account(call, named.split(",")[0])
        if not named:
            raise VendorError(10016, "required parameter is missing: restricted_package_name")
        names = [named] if call.path.startswith("/v2/") else named.split(",")
        if not all(PACKAGE_NAME.fullmatch(name) for name in names):
            raise VendorError(22022, "illegal package name")
        return account

    # ---- sections 3, 6 and 7: one message

    def _bucket(self, form: Form, account: VendorAccount) -> str:
        """`private`, `public` or `default`, by the channel; 27001 for a channel of another app."""
        channel = form.get("extra.channel_id")
        if channel is None:
            if account.details.get("channels_only"):
                raise VendorError(27001, "invalid channel info!")
            return "default"
        known = account.details.get("channels")
        if known is not None:
            if channel not in known:
                raise VendorError(27001, "invalid channel info!")
            return str(known[channel])
        return "private" if "extra.template_id" in form else "public"

    def _checked(self, form: Form, account: VendorAccount) -> str:
        """The bucket of a message that breaks no rule."""
        check_texts(form)
        bucket = self._bucket(form, account)
        check_numbers(form, bucket == "private")
        check_template(form, account, bucket == "private")
        if self.limits["notify_effect_required"]:
            check_effect(form)
        check_receipt_wish(form)
        check_extras(form)
        private = self.classed(
            account, bucket == "private", "xiaomi.private", form["title"], form["description"]
        )
        return "private" if private else "public" if bucket == "private" else bucket

    def _sending(self, form: Form, account: VendorAccount, bucket: str, size: int) -> VendorSending:
        push_id = form.get("extra.jobkey") or form.get("extra.callback.param")
        content = {
            name: value
            for name, value in form.items()
            if name not in ("registration_id", "messages")
        }
        more = {"bucket": bucket}
        return VendorSending(
            account, self.requests, size, bucket == "private", content, push_id, more=more
        )

    def _single(self, call: VendorCall) -> VendorReply:
        form = self._form(call)
        account = self._package(call, form)
        targets = [one for one in form.get("registration_id", "").split(",") if one]
        if not targets:
            raise VendorError(21305, "required parameter is missing: registration_id")
        if len(targets) > TARGETS_MAX:
            raise VendorError(10017, "illegal value: registration_id")
        self.gate(account, len(targets))
        bucket = self._checked(form, account)
        sending = self._sending(form, account, bucket, len(targets))
        self._stumbled(self.stumbles(targets, sending.push_id))
        reached = [one for one in targets if self.fate(one) != "dead"]
        if not reached:
            raise VendorError(20301, "No valid targets!")
        if not self._room(account, bucket, len(reached)):
            raise self._over(account, bucket)
        message_id = self.new_id("sdm")
        self._hand_out(sending, form, message_id, targets)
        data = {"id": message_id, **self._today(account), **self._bad(targets)}
        return self._done(data, f"Received push messages for {len(targets)} REGID")

    def _stumbled(self, stumble: str) -> None:
        if stumble == "fail":
            raise VendorError(10001, "system error")
        if stumble == "busy":
            raise self.too_fast()

    def _room(self, account: VendorAccount, bucket: str, size: int) -> bool:
        return not self.switched("over_quota") and self.days.take(
            self.limits[f"{bucket}_daily"], size, account.id, bucket
        )

    def _over(self, account: VendorAccount, bucket: str) -> VendorError:
        used = self.days.used(account.id, bucket)
        return VendorError(
            200001, f"exceed quota, quota: {self.limits[f'{bucket}_daily']}, have acked: {used}"
        )

    def _today(self, account: VendorAccount) -> dict[str, str]:
        day_quota = str(self.limits["public_daily"])
        return {"day_quota": day_quota, "day_acked": str(self.days.used(account.id, "public"))}

    def _bad(self, targets: list[str]) -> dict[str, str]:
        """The refused regids as one comma list; nothing where all are good (section 4A)."""
        bad = [one for one in targets if self.fate(one) == "dead"]
        return {"bad_regids": ",".join(bad)} if bad else {}

    def _done(self, data: dict[str, Any], info: str) -> VendorReply:
        content = {
            "result": "ok",
            "trace_id": self.new_id("Xdm"),
            "code": 0,
            "description": "成功",
            "info": info,
            "data": data,
        }
        return VendorReply.json(200, content)

    def _hand_out(
        self, sending: VendorSending, form: Form, message_id: str, targets: list[str]
    ) -> None:
        """Records the reached targets, and reports all to the callback."""
        by_type: dict[int, list[str]] = {}
        for token in targets:
            fate = self.fate(token)
            if fate == "dead":
                self.record.count("bad_regids")
                by_type.setdefault(16, []).append(token)
                continue
            bucket = sending.more["bucket"]
            cap = self.limits.get(f"{bucket}_device_daily", 0)
            fits = self.days.take(cap, 1, sending.account.id, bucket, token)
            self.accept(sending, token, **({} if fits else {"dropped": f"{bucket}_device_daily"}))
            by_type.setdefault(128 if not fits else 32 if fate == "quiet" else 1, []).append(token)
        self._receipts(sending, form, message_id, by_type)

    # ---- section 4: many messages

    def _multi(self, call: VendorCall) -> VendorReply:
        form = self._form(call)
        account = self._account(call, "")
        items = parsed(form.get("messages", ""))
        if not isinstance(items, list) or not items:
            raise VendorError(21305, "required parameter is missing: messages")
        if len(items) > TARGETS_MAX:
            raise VendorError(10017, "illegal value: messages")
        flat = [item_form(item) for item in items]
        account = self._multi_account(call, flat)
        self.gate(account, len(flat))
        buckets = [self._checked(one, account) for _, one in flat]
        pairs = zip(flat, buckets, strict=True)
        sendings = [self._sending(one, account, bucket, len(flat)) for (_, one), bucket in pairs]
        whose = zip(flat, sendings, strict=True)
        stumbles = [self.stumbles([target], sending.push_id) for (target, _), sending in whose]
        self._stumbled("fail" if "fail" in stumbles else "busy" if "busy" in stumbles else "")
        if all(self.fate(target) == "dead" for target, _ in flat):
            raise VendorError(20301, "No valid targets!")
        return self._multi_out(account, flat, sendings)

    def _multi_account(self, call: VendorCall, flat: list[tuple[str, Form]]) -> VendorAccount:
        packages = {one.get("restricted_package_name", "") for _, one in flat}
        if "" in packages:
            raise VendorError(10016, "required parameter is missing: restricted_package_name")
        if len(packages) > 1 or not PACKAGE_NAME.fullmatch(next(iter(packages))):
            raise VendorError(22022, "illegal package name")
        return self._account(call, next(iter(packages)))

    def _multi_out(
        self, account: VendorAccount, flat: list[tuple[str, Form]], sendings: list[VendorSending]
    ) -> VendorReply:
        """Leaves out items over the daily total; reports only their number per channel."""
        message_id, left_out = self.new_id("sdm"), dict[str, int]()
        spent = self.switched("over_quota")
        for (target, form), sending in zip(flat, sendings, strict=True):
            bucket = sending.more["bucket"]
            dead = self.fate(target) == "dead"
            if not dead and (
                spent or not self.days.take(self.limits[f"{bucket}_daily"], 1, account.id, bucket)
            ):
                channel = form.get("extra.channel_id", "no_channel")
                left_out[channel] = left_out.get(channel, 0) + 1
            else:
                self._hand_out(sending, form, message_id, [target])
        data: dict[str, Any] = {"id": message_id, **self._today(account)}
        data |= self._bad([target for target, _ in flat])
        if left_out:
            data["channel_exceed_quota"] = " ".join(
                f"{channel}:{count}" for channel, count in left_out.items()
            )
        return self._done(data, f"Received push messages for {len(flat)} REGID")

    # ---- the other calls

    def _revoke(self, call: VendorCall) -> VendorReply:
        """Withdraws what a regid shows: by message id or notify_id. The fields are not on the page;
        these are asked for.
        """
        form = self._form(call)
        account = self._package(call, form)
        names = ("registration_id", "alias", "user_account")
        named = next((form[name] for name in names if form.get(name)), "")
        targets = [one for one in named.split(",") if one]
        if not targets or not any(form.get(name) for name in ("id", "msg_id", "notify_id")):
            raise VendorError(21305, "required parameter is missing")
        self.gate(account, len(targets))
        sending = self._sending(form, account, "private", len(targets))
        for target in targets:
            self.accept(sending, target, kind="revoke")
        return self._done({}, f"Received revoke for {len(targets)} REGID")

    def _to_others(self, call: VendorCall) -> VendorReply:
        """By alias, account, topic, or to all: unknown receivers, so nothing is recorded."""
        form = self._form(call)
        account = self._package(call, form)
        target = _OTHER_TARGETS[call.path]
        if target and not form.get(target):
            raise VendorError(21305, f"required parameter is missing: {target}")
        self.gate(account)
        self._checked(form, account)
        return self._done(
            {"id": self.new_id("sdm"), **self._today(account)}, "Received push messages"
        )

    def _statistics(self, call: VendorCall) -> VendorReply:
        """Counters and traces: of nothing."""
        self._account(call, "")
        return self._done({"data": []}, "")

    def _quota(self, call: VendorCall) -> VendorReply:
        """Today's quota; also the probe of a secret that costs no push."""
        account = self._account(call, "")
        if (now := int(time.time())) == self._quota_read_s:
            raise VendorError(10039, "stats or trace read too often")
        self._quota_read_s = now
        return self._done(dict(self._today(account)), "")

    # ---- section 8

    def _receipts(
        self, sending: VendorSending, form: Form, message_id: str, by_type: Mapping[int, list[str]]
    ) -> None:
        """A sum with an unknown bit in it silently stops all receipts, as 246 once did."""
        wanted = int(form.get("extra.callback.type", "3"))
        if not form.get("extra.callback") or wanted & ~RECEIPT_BITS:
            return
        for kind, targets in by_type.items():
            if not wanted & kind:
                continue
            param = form.get("extra.callback.param", "")
            item: dict[str, Any] = {"param": param, "type": kind, "targets": ",".join(targets)}
            item |= {
                "jobkey": form.get("extra.jobkey", ""),
                "barStatus": "Enable",
                "timestamp": int(time.time() * 1000),
            }
            if kind == 16:
                item["errorCode"] = 1
            if kind == 128:
                bucket = sending.more["bucket"]
                used = self.days.used(sending.account.id, bucket)
                item["extra"] = {"ack": used, "quota": self.limits[f"{bucket}_daily"]}
            body = urllib.parse.urlencode(
                {"data": json.dumps({message_id: item}, separators=(",", ":"))}
            ).encode()
            self.send_receipt(
                form["extra.callback"], body, {"content-type": "application/x-www-form-urlencoded"}
            )


def make(record: Record) -> Xiaomi:
    return Xiaomi(record)
