"""Apple's APNs, production and sandbox: the checks in Apple's order, device tokens whose first
digits say what becomes of them.

Source: Apple, "Sending notification requests to APNs" and "Handling notification responses from
APNs"; our page of APNs names what is measured or derived. One process is both environments:
`doors()` gives one port each.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from simulators.apns_auth import AppleAccount, Identity, ProviderTokens, RefusedError
from simulators.misbehave import Shares
from simulators.simulator import Faults, Record, VendorCall, VendorReply

ENVIRONMENTS = {"APNS_PRODUCTION": "production", "APNS_SANDBOX": "sandbox"}
PAYLOAD_BYTES_MAX = {"voip": 5120}
PAYLOAD_BYTES_MAX_ELSE = 4096
COLLAPSE_ID_BYTES_MAX = 64

#: Push type -> suffix of its topic; mdm's topic is the certificate's own.
TOPIC_SUFFIX = {
    "alert": "",
    "background": "",
    "mdm": "",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "liveactivity": ".push-type.liveactivity",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
    "location": ".location-query",
    "pushtotalk": ".voip-ptt",
}
PRIORITIES = ("10", "5", "1")

STATUS = {
    "MissingProviderToken": 403,
    "InvalidProviderToken": 403,
    "ExpiredProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadEnvironmentKeyInToken": 403,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "Forbidden": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "Unregistered": 410,
    "ExpiredToken": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}  # all others: 400

#: First hex digits of a device token -> the reason it is always refused with. `deadbeef…` is
#: everybody's made-up token and lives.
TOKEN_REASONS = {"dead": "Unregistered", "badd": "BadDeviceToken", "0e0e": "DeviceTokenNotForTopic"}
#: ... -> the one environment it belongs to.
TOKEN_ENVIRONMENT = {"5a4d": "sandbox", "9c0d": "production"}
#: ... -> refused this many times per push, then accepted (None: always refused).
TOKEN_TROUBLE: dict[str, tuple[str, int | None]] = {
    "b05e": ("TooManyRequests", None),
    "fa11": ("InternalServerError", 2),
    "5007": ("ServiceUnavailable", 1),
}

_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){4,100}")
_TOPIC = re.compile(r"[A-Za-z0-9.-]{1,255}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DIGITS = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class ForcedAnswer:
    """The answer set by `/_sim/tokens` for one device token.

    timestamp_ms: only 410 carries one; None: now.
    """

    reason: str
    timestamp_ms: int | None = None
    status: int | None = None


@dataclass(slots=True)
class ApnsOptions:
    """`POST /_sim/options`. wedge_on_expired: after ExpiredProviderToken a connection refuses
    everything (pushy saw Apple do so).
    """

    first_stream_alone: bool = False
    wedge_on_expired: bool = False


@dataclass(frozen=True, slots=True)
class ApnsPush:
    """One request that passed every check but the payload's."""

    identity: Identity
    env: str
    token: str
    topic: str
    push_type: str
    id: str | None
    headers: Mapping[str, str] = field(repr=False)


class Apns:
    """Both environments. `handle` of a door is `Apns.handle` with that door's environment."""

    vendor = "apns"
    endpoints = tuple(ENVIRONMENTS)

    def __init__(self, record: Record) -> None:
        self.record = record
        self.faults = Faults()
        self.shares = Shares(self.faults)
        self.options = ApnsOptions()
        self.provider = ProviderTokens()
        self._forced: dict[str, ForcedAnswer] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._ids: set[bytes] = set()
        self._doubled = 0

    def doors(self) -> dict[str, ApnsDoor]:
        """Endpoint name -> the simulator to serve there."""
        return {endpoint: ApnsDoor(self, env) for endpoint, env in ENVIRONMENTS.items()}

    # ---- one request

    def handle(self, call: VendorCall, env: str) -> VendorReply:
        try:
            push = self._checked(call, env)
            body = _payload(call.body, push.push_type)
            self._trouble(push)
        except RefusedError as refusal:
            return self._refused(call, refusal)
        return self._accept(push, body, call.connection)

    def _checked(self, call: VendorCall, env: str) -> ApnsPush:
        """Everything but the payload, in Apple's order. Raises RefusedError."""
        headers = call.headers
        raw_token = _token_of(call)
        if ":repeated" in headers:
            raise RefusedError("DuplicateHeaders")
        self._over_rate()
        identity = self._identity(call, env)
        push_type = headers.get("apns-push-type", "alert")
        topic = _topic(headers.get("apns-topic"), identity)
        token = self._token(raw_token, env)
        _push_type(headers, push_type, topic, identity)
        _numbers(headers)
        return ApnsPush(identity, env, token, topic, push_type, headers.get("apns-id"), headers)

    def _over_rate(self) -> None:
        """Apple has no quota; both switches are its one answer to too much."""
        for name in ("over_rate", "over_quota"):
            if getattr(self.faults, name) and self.shares.hit(name, 1.0):
                raise RefusedError("TooManyRequests")

    def _identity(self, call: VendorCall, env: str) -> Identity:
        if self.faults.expire_access:
            self.faults.expire_access = False
            self.provider.expire_all_seen()
        if call.certificate is not None:
            return self.provider.by_certificate(call.certificate, env, time.time())
        bearer = call.headers.get("authorization")
        return self.provider.by_token(
            bearer, env, call.connection, time.time(), self.options.wedge_on_expired
        )

    def _token(self, raw: str, env: str) -> str:
        """The device token in lower case, if it is one that this environment knows."""
        token = raw.lower()
        forced = self._forced.get(token)
        if forced:
            raise RefusedError(forced.reason, forced.status, forced.timestamp_ms)
        if not _TOKEN.fullmatch(raw):
            raise RefusedError("BadDeviceToken")
        start = token[:4]
        if TOKEN_ENVIRONMENT.get(start, env) != env:
            raise RefusedError("BadDeviceToken")
        if start in TOKEN_REASONS and not token.startswith("deadbeef"):
            raise RefusedError(TOKEN_REASONS[start])
        return token

    def _trouble(self, push: ApnsPush) -> None:
        """Refusals that pass with time, counted by push where it has an id."""
        reason, times = TOKEN_TROUBLE.get(push.token[:4], ("", 0))
        if not reason:
            return
        key = (push.token, (push.id or "").lower())
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        if times is None or tries <= times:
            raise RefusedError(reason)
        del self._tries[key]

    def _accept(self, push: ApnsPush, body: dict[str, Any], connection: int) -> VendorReply:
        # Ids that Apple makes up are in upper case, those of the provider come back as they came.
        apns_id = push.id or str(uuid.uuid4()).upper()
        self._note_id(apns_id)
        headers = push.headers
        self.record.accepted(
            vendor=self.vendor,
            account=push.identity.account,
            env=push.env,
            token=push.token,
            id=push.id,
            collapse_id=headers.get("apns-collapse-id"),
            topic=push.topic,
            push_type=push.push_type,
            priority=int(headers.get("apns-priority", "10")),
            expiration=int(headers["apns-expiration"]) if "apns-expiration" in headers else None,
            body=body,
            connection=connection,
        )
        reply = {"apns-id": apns_id}
        if push.env == "sandbox":
            reply["apns-unique-id"] = str(uuid.uuid4())
        return VendorReply(200, b"", reply)

    def _note_id(self, apns_id: str) -> None:
        key = uuid.UUID(apns_id).bytes
        self._doubled += key in self._ids
        self._ids.add(key)

    def _refused(self, call: VendorCall, refusal: RefusedError) -> VendorReply:
        self.record.count(refusal.reason)
        status = refusal.status or STATUS.get(refusal.reason, 400)
        value: dict[str, Any] = {"reason": refusal.reason}
        if status == 410:
            value["timestamp"] = (
                refusal.timestamp_ms
                if refusal.timestamp_ms is not None
                else int(time.time() * 1000)
            )
        headers = {
            "content-type": "application/json",
            "apns-id": call.headers.get("apns-id") or str(uuid.uuid4()).upper(),
        }
        return VendorReply.json(status, value, headers)

    # ---- the side door

    def stats(self) -> dict[str, Any]:
        """Beside the counts of outcomes: distinct push ids accepted, ids accepted again, JWTs seen
        by key id.
        """
        return {
            "distinct_ids": len(self._ids),
            "doubled": self._doubled,
            "distinct_jwts": self.provider.distinct_jwts(),
        }

    def control(self, action: str, wanted: Mapping[str, Any]) -> Any:
        """accounts: {key_id, team_id, public_key_pem, topics?, env?}; tokens: {token: {reason,
        timestamp_ms?, status?} | null};
        options: see ApnsOptions. ValueError, KeyError, TypeError for what can't be.
        """
        if action == "accounts":
            self.provider.know(AppleAccount.of(wanted))
            return {"accounts": sorted(self.provider.accounts)}
        if action == "tokens":
            for token, forced in wanted.items():
                if forced is None:
                    self._forced.pop(token.lower(), None)
                else:
                    self._forced[token.lower()] = ForcedAnswer(**forced)
            return {"tokens": len(self._forced)}
        if action == "options":
            self.options = ApnsOptions(**{**asdict(self.options), **wanted})
            return asdict(self.options)
        raise ValueError(
            f"no such door: {action}; there are stats, record, faults, accounts, tokens, options"
        )


class ApnsDoor:
    """One environment of the two: what a port serves."""

    def __init__(self, apns: Apns, env: str) -> None:
        self._apns, self.env = apns, env
        self.vendor, self.record, self.faults, self.shares = (
            apns.vendor,
            apns.record,
            apns.faults,
            apns.shares,
        )
        self.endpoints = apns.endpoints

    @property
    def first_stream_alone(self) -> bool:
        return self._apns.options.first_stream_alone

    def handle(self, call: VendorCall) -> VendorReply:
        return self._apns.handle(call, self.env)

    def stats(self) -> dict[str, Any]:
        return self._apns.stats()

    def control(self, action: str, wanted: Mapping[str, Any]) -> Any:
        return self._apns.control(action, wanted)


# ---------------------------------------------------------------- the checks that need nothing but


def _token_of(call: VendorCall) -> str:
    """Apple looks at the method first, then at the path."""
    if call.method != "POST":
        raise RefusedError("MethodNotAllowed")
    before, _, token = call.path.rpartition("/")
    if call.path in ("/3/device", "/3/device/"):
        raise RefusedError("MissingDeviceToken")
    if before != "/3/device" or call.query:
        raise RefusedError("BadPath")
    return token


def _topic(topic: str | None, identity: Identity) -> str:
    """A certificate for one topic speaks for it unasked; all others must name theirs."""
    if topic is None:
        if not identity.default_topic:
            raise RefusedError("MissingTopic")
        return identity.default_topic
    if not _TOPIC.fullmatch(topic):
        raise RefusedError("BadTopic")
    if identity.topics is not None and not identity.may_push(topic):
        raise RefusedError("TopicDisallowed")
    return topic


def _push_type(headers: Mapping[str, str], push_type: str, topic: str, identity: Identity) -> None:
    suffix = TOPIC_SUFFIX.get(push_type)
    if suffix is None:
        raise RefusedError("InvalidPushType")
    if not topic.endswith(suffix):
        raise RefusedError("BadTopic")
    if push_type == "location" and identity.certificate:
        raise RefusedError("Forbidden")  # location takes provider tokens only
    priority = headers.get("apns-priority")
    if priority is not None and (
        priority not in PRIORITIES or (push_type == "background" and priority == "10")
    ):
        raise RefusedError("BadPriority")


def _numbers(headers: Mapping[str, str]) -> None:
    if not _DIGITS.fullmatch(headers.get("apns-expiration", "0")):
        raise RefusedError("BadExpirationDate")
    if len(headers.get("apns-collapse-id", "").encode()) > COLLAPSE_ID_BYTES_MAX:
        raise RefusedError("BadCollapseId")
    if "apns-id" in headers and not _UUID.fullmatch(headers["apns-id"]):
        raise RefusedError("BadMessageId")


def _payload(body: bytes, push_type: str) -> dict[str, Any]:
    """Apple names no reason for a body that is no JSON object; an unreadable payload counts as none
    here (derived).
    """
    if not body:
        raise RefusedError("PayloadEmpty")
    if len(body) > PAYLOAD_BYTES_MAX.get(push_type, PAYLOAD_BYTES_MAX_ELSE):
        raise RefusedError("PayloadTooLarge")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError("PayloadEmpty") from None
    if not isinstance(value, dict) or not isinstance(value.get("aps", {}), dict):
        raise RefusedError("PayloadEmpty")
    return value


def make(record: Record) -> Apns:
    return Apns(record)
