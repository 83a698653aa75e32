"""Decisions for the callers of `push.direct` that wait for them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from redis.exceptions import RedisError

from common.contracts import Message, Notification
from common.model import Decision
from workers.delivery import settle as settling
from workers.routing import fan_out as routing
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def routing_replies(rows: Sequence[routing.RoutingRow]) -> list[tuple[str, dict[str, Any]]]:
    """(key, decision) of those who wait."""
    return [
        _reply(r.message, r.user, r.device.vendor, r.device.business_id, r.decision, "")
        for r in rows
        if r.message.reply_key
    ]


def tell_ended(
    runtime: Runtime,
    vendor: str,
    business_id: str,
    ended: Sequence[settling.FinalOutcome],
    retired: Collection[int] = (),
) -> None:
    """retired: by id(), the works whose tokens are given up. Never raises: a reply may be lost, the
    row may not.
    """
    decisions = [
        _reply(
            one.work.note,
            one.work.target.user,
            vendor,
            business_id,
            one.decision,
            one.note,
            id(one.work) in retired,
        )
        for one in ended
        if one.work.note.reply_key
    ]
    try:
        runtime.replies.tell_now(decisions)
    except (RedisError, OSError) as error:
        log.warning("a reply is lost", extra={"reason": type(error).__name__})


def _reply(
    about: Message | Notification,
    user: str,
    vendor: str,
    business_id: str,
    decision: Decision,
    note: str,
    retired: bool = False,
) -> tuple[str, dict[str, Any]]:
    decisions = {
        "event_id": about.event_id,
        "message_id": about.message_id,
        "user": user,
        "vendor": vendor,
        "business_id": business_id,
    }
    return about.reply_key or "", {
        **decisions,
        "decision": decision,
        "note": note,
        "retired": retired,
    }
