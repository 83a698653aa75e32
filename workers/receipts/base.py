"""Receipt: what a vendor tells later about one token of one push. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.model import Verdict


@dataclass(frozen=True, slots=True)
class Receipt:
    """One vendor's later word on one token.

    token: the device token. tag: what we gave to be echoed (a push id or a batch's tag), "" for none. request_id: the
    vendor's message id. status: delivered, clicked, … at_ms: the vendor's time, 0 where it tells none. verdict: what it
    means for the token, None for nothing. replacement: the token to store instead of this one.
    """

    token: str = field(repr=False)
    tag: str
    request_id: str | None
    status: str
    at_ms: int
    verdict: Verdict | None
    replacement: str | None = field(default=None, repr=False)
