"""One vendor x one credential: spec, credential, route, limits. What delivery holds of a lane while
it sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.model import Vendor
from workers.vendors.types import Credential, Limits, VendorSpec
from workers.wire import HttpResponse, NoAnswer, Request, Route, Transport


@dataclass(frozen=True, slots=True)
class Lane:
    """limits: the vendor's, with the operator's wishes laid over (rate, quota, caps); reserve:
    class -> share of a day held back for it.
    """

    spec: VendorSpec
    credential: Credential
    route: Route
    limits: Limits
    paused: bool = False
    reserve: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.credential.lane

    @property
    def vendor(self) -> Vendor:
        return self.credential.vendor

    def send_many(
        self, transport: Transport, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        return transport.send_many(self.route, requests, deadline_s)


def limits_of(spec: VendorSpec, wishes: Mapping[str, Any]) -> Limits:
    """The vendor's limits with the operator's own laid over.

    `rate`, `quota` {bucket: n}, `device_cap` {bucket: n}, `quota_tz`.
    """
    quota, cap = wishes.get("quota") or {}, wishes.get("device_cap") or {}
    base = spec.limits
    rate = float(wishes.get("rate") or base.rate_per_s)
    return Limits(
        rate_per_s=rate,
        burst=min(base.burst, max(rate, 1.0)) if wishes.get("rate") else base.burst,
        rate_unit=base.rate_unit,
        quota_private=quota.get("private", base.quota_private),
        quota_public=quota.get("public", base.quota_public),
        device_cap_private=cap.get("private", base.device_cap_private),
        device_cap_public=cap.get("public", base.device_cap_public),
        timezone=wishes.get("quota_tz") or base.timezone,
        public_hours=base.public_hours,
        hours_timezone=base.hours_timezone,
        ramp_s=base.ramp_s,
    )
