"""What upkeep shows of the fleet ends with what it is about: an account that is removed, dead letters that are dropped."""

from __future__ import annotations

import uuid

from prometheus_client import REGISTRY

from common.clock import now_ms
from common.storage.ledger import DeadRecord
from tests.integration.delivery.conftest import World


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"pushfleet_{name}", labels)


def test_nothing_is_shown_of_an_account_that_was_removed(world: World) -> None:
    credential = world.lane.credential
    labels = {"app": credential.app, "vendor": str(credential.vendor), "business_id": credential.business_id}
    world.upkeep._show_lanes()
    world.upkeep._each_second()
    world.upkeep._now_and_then()
    assert (shown("lane_state", **labels), shown("token_guard", **labels), shown("quota_used", **labels, bucket="public")) == (0, 0, 0)
    world.runtime.credentials.remove(*labels.values())
    world.runtime.catalog.changed()
    world.upkeep._show_lanes()
    names = ("lane_state", "token_guard", "credential_expires_seconds")
    assert [shown(name, **labels) for name in names] == [None] * 3
    assert [shown(name, **labels, bucket="public") for name in ("quota_used", "quota_limit")] == [None] * 2


def test_a_stage_without_dead_letters_is_shown_with_none(world: World) -> None:
    stage = uuid.uuid4().hex
    letter = DeadRecord(uuid.uuid4().hex, "1-0", stage, "broke_stage: X", None, now_ms(), world.runtime.vault.encrypt(b"x"), {})
    world.runtime.ledger.write([letter])
    world.upkeep._each_second()
    world.upkeep._now_and_then()
    assert shown("dead_letters", stage=stage) == 1
    world.runtime.dead_letters.drop([letter.id])
    world.upkeep._now_and_then()
    assert shown("dead_letters", stage=stage) == 0
