"""Google's FCM HTTP v1 and the OAuth token endpoint: one process, one port, known by their
paths.

Source: "REST reference: projects.messages", "FCM error codes", "Using OAuth 2.0 for Server to
Server Applications"; what the reference leaves open (how the size is counted, the words of some
errors) is derived, see our page of FCM.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simulators.fcm_message import Invalid, check
from simulators.google_oauth import OAuth
from simulators.misbehave import Shares
from simulators.simulator import Faults, Record, VendorCall, VendorReply

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
FAIL_TRIES = 2

_SEND = re.compile(r"/v1/projects/([A-Za-z0-9:._-]{1,100})/messages:send")

NOT_FOUND_PAGE = (
    b"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p>The requested URL "
    b"was not found on this server."
)
BAD_TOKEN = "The registration token is not a valid FCM registration token"

#: The text of a target that is always refused -> (HTTP status, google.rpc status, errorCode,
#: message).
TARGET_REFUSALS = {
    "dead": (404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found."),
    "foreign": (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch"),
    "malformed": (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", BAD_TOKEN),
    "apnsauth": (
        401,
        "UNAUTHENTICATED",
        "THIRD_PARTY_AUTH_ERROR",
        "Auth error from APNS or Web Push Service",
    ),
}


@dataclass(slots=True)
class FcmOptions:
    """`POST /_sim/options`. Limits are messages per minute; retry_after_s goes with `busy` targets
    and spent device rates (0: none).
    """

    project_per_minute: int = 600_000
    device_per_minute: int = 240
    device_per_hour: int = 5_000
    retry_after_s: int = 60
    access_token_s: int = 3_599


class Fcm:
    vendor = "fcm"
    endpoints = ("FCM", "GOOGLE_OAUTH")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.faults = Faults()
        self.shares = Shares(self.faults)
        self.options = FcmOptions()
        self.oauth = OAuth()
        self._projects: dict[str, Minute] = {}
        self._devices: dict[str, tuple[Minute, Minute]] = {}
        self._fails: dict[bytes, int] = {}

    # ---- one request

    def handle(self, call: VendorCall) -> VendorReply:
        if call.path == "/token":
            return self._token_call(call)
        match = _SEND.fullmatch(call.path)
        if match is None or call.method != "POST":
            self.record.count("wrong path")
            return VendorReply(404, NOT_FOUND_PAGE, {"content-type": "text/html; charset=UTF-8"})
        return self._send(call, match[1], time.time())

    def _token_call(self, call: VendorCall) -> VendorReply:
        reply = self.oauth.token(call, time.time(), self.options.access_token_s)
        self.record.count("access tokens" if reply.status == 200 else "access refused")
        return reply

    def _send(self, call: VendorCall, project: str, now: float) -> VendorReply:
        if self.faults.expire_access:
            self.faults.expire_access = False
            self.oauth.expire_all()
        account = self.oauth.bearer(call.headers.get("authorization"), now)
        if account is None:
            return self._error(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token.",
            )
        if project.startswith("wrong") or account.project_id not in (None, project):
            return self._error(
                403,
                "PERMISSION_DENIED",
                "Permission 'cloudmessaging.messages.create' denied on resource (or it may "
                "not exist).",
            )
        limited = self._project_limited(project, now)
        if limited:
            return limited
        try:
            message, validate_only = check(call.body)
        except Invalid as invalid:
            return self._invalid(invalid)
        target = message.get("fid") or message.get("token")
        refusal = self._target_refused(str(target), call.body, now) if target else None
        return refusal or self._accept(project, account.email, message, validate_only, now)

    def _accept(
        self, project: str, email: str, message: dict[str, Any], validate_only: bool, now: float
    ) -> VendorReply:
        if validate_only:
            self.record.count("validated only")
            return VendorReply.json(200, {"name": f"projects/{project}/messages/fake_message_id"})
        name = f"projects/{project}/messages/0:{int(now * 1e6)}%{secrets.token_hex(8)}"
        android = message.get("android") or {}
        self.record.accepted(
            vendor=self.vendor,
            account=email,
            project=project,
            token=message.get("token") or message.get("fid"),
            topic=message.get("topic") or message.get("condition"),
            id=(message.get("data") or {}).get("push_id"),
            name=name,
            collapse_id=(android.get("notification") or {}).get("tag")
            or android.get("collapse_key"),
            body=message,
        )
        return VendorReply.json(200, {"name": name})

    # ---- refusals

    def _project_limited(self, project: str, now: float) -> VendorReply | None:
        if self.faults.over_quota and self.shares.hit("over_quota", 1.0):
            return self._quota(
                "Quota exceeded for quota metric 'Messages sent' of project",
                self.faults.retry_after_s,
            )
        if self.faults.over_rate and self.shares.hit("over_rate", 1.0):
            return self._quota("Sending rate of the project is too high", self.faults.retry_after_s)
        spent = self._projects.setdefault(project, Minute(0, now))
        if not spent.take(self.options.project_per_minute, 60.0, now):
            wait_s = max(1, round(spent.began + 60 - now))
            return self._quota("Quota exceeded for quota metric 'Messages sent per minute'", wait_s)
        return None

    def _target_refused(self, target: str, body: bytes, now: float) -> VendorReply | None:
        for part, (status, words, code, message) in TARGET_REFUSALS.items():
            if part in target:
                return self._error(status, words, message, code)
        if "busy" in target:
            return self._quota("Message rate exceeded", self.options.retry_after_s)
        if "fail" in target and self._fails_still(target, body):
            headers = (
                {"retry-after": str(self.faults.retry_after_s)} if self.faults.retry_after_s else {}
            )
            return self._error(
                503, "UNAVAILABLE", "The service is currently unavailable.", "UNAVAILABLE", headers
            )
        minute, hour = self._device(target, now)
        allowed = minute.take(self.options.device_per_minute, 60.0, now)
        if not (allowed and hour.take(self.options.device_per_hour, 3600.0, now)):
            return self._quota("Device message rate exceeded", self.options.retry_after_s)
        return None

    def _fails_still(self, target: str, body: bytes) -> bool:
        # The ttl shrinks from attempt to attempt: the visible part identifies the message.
        notification = json.dumps(json.loads(body)["message"].get("notification"), sort_keys=True)
        key = hashlib.blake2b(f"{target}\0{notification}".encode(), digest_size=16).digest()
        tries = self._fails[key] = self._fails.get(key, 0) + 1
        if tries > FAIL_TRIES:
            del self._fails[key]
        return tries <= FAIL_TRIES

    def _device(self, target: str, now: float) -> tuple[Minute, Minute]:
        known = self._devices.get(target)
        if known is None:
            # those that were quiet for an hour have nothing left to be remembered
            if len(self._devices) > 200_000:
                self._devices = {
                    name: both for name, both in self._devices.items() if now - both[1].began < 3600
                }
            known = self._devices[target] = (Minute(0, now), Minute(0, now))
        return known

    def _quota(self, message: str, retry_after_s: int) -> VendorReply:
        headers = {"retry-after": str(retry_after_s)} if retry_after_s else {}
        violations = [{"subject": "project", "description": message}]
        violation = {"@type": QUOTA_FAILURE, "violations": violations}
        return self._error(429, "RESOURCE_EXHAUSTED", message, "QUOTA_EXCEEDED", headers, violation)

    def _invalid(self, invalid: Invalid) -> VendorReply:
        fields = [{"field": name, "description": words} for name, words in invalid.violations]
        more = [{"@type": BAD_REQUEST, "fieldViolations": fields}] if fields else []
        fcm_code = "INVALID_ARGUMENT" if invalid.by_fcm else None
        return self._error(400, "INVALID_ARGUMENT", invalid.words, fcm_code, {}, *more)

    def _error(
        self,
        status: int,
        words: str,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        *more: dict[str, Any],
    ) -> VendorReply:
        """The page's shape. code: FcmError's errorCode; None where Google's front refuses before
        FCM has looked.
        """
        self.record.count(code or words)
        details = [{"@type": FCM_ERROR, "errorCode": code}] if code else []
        error: dict[str, Any] = {"code": status, "message": message, "status": words}
        if details or more:
            error["details"] = [*details, *more]
        return VendorReply.json(status, {"error": error}, headers)

    # ---- the side door

    def stats(self) -> dict[str, Any]:
        return {
            "token_calls": self.oauth.calls,
            "access_tokens": self.oauth.given,
            "access_tokens_alive": self.oauth.alive(time.time()),
        }

    def control(self, action: str, wanted: Mapping[str, Any]) -> Any:
        """accounts: {client_email, public_key_pem, project_id?}; options: see FcmOptions.
        ValueError, KeyError, TypeError.
        """
        if action == "accounts":
            return {"accounts": self.oauth.know(wanted)}
        if action == "options":
            self.options = FcmOptions(**{**asdict(self.options), **wanted})
            return asdict(self.options)
        raise ValueError(
            f"no such door: {action}; there are stats, record, faults, accounts, options"
        )


@dataclass(slots=True)
class Minute:
    """A bucket that refills all at once, a minute (or another span) after its first message.
    Source: FCM, throttling and quotas.
    """

    used: int
    began: float

    def take(self, limit: int, span_s: float, now: float) -> bool:
        if now - self.began >= span_s:
            self.used, self.began = 0, now
        if self.used >= limit:
            return False
        self.used += 1
        return True


def make(record: Record) -> Fcm:
    return Fcm(record)
