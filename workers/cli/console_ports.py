"""The command line's functions for the console: traces, replays, accounts, test pushes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from common.model import Vendor
from common.tokens import BY_OPERATOR
from workers.cli.errors import CliError
from workers.console.look import Ports
from workers.lane_report import console_rows
from workers.replay import NotReplayableError, ReshardingNowError, replay
from workers.reports.examination import CURRENT, current, examined
from workers.reports.person import person
from workers.reports.trace import trace_page
from workers.runtime import Runtime


def console_ports(runtime: Runtime) -> Ports:
    def again(letter_id: str) -> str | None:
        try:
            return None if replay(runtime, letter_id) else "gone"
        except ReshardingNowError:
            return "resharding_now"
        except NotReplayableError:
            return "not_replayable"

    return Ports(
        replay=again,
        lanes=lambda lang: console_rows(runtime, lang),
        person=lambda app, user: person(runtime, app, user),
        set_device=lambda app, user, device, state: runtime.devices.set_state(
            app, user, device, state, BY_OPERATOR
        ),
        current=lambda rows: list(current(runtime, rows)),
        examine=lambda: [
            one
            for one in examined(runtime)
            if one.check not in CURRENT or one.problem == "keys_lost"
        ],
        trace=partial(trace_page, runtime),
        test_push=lambda app, user: _test_push(runtime, app, user),
        store_account=lambda vendor, app, business_id, given, rotate: _store(
            runtime, vendor, app, business_id, given, rotate
        ),
        check_account=lambda app, vendor, business_id: _check(runtime, app, vendor, business_id),
    )


def _test_push(runtime: Runtime, app: str, user: str) -> str | None:
    from workers.cli.publish import TEST_BODY, test_event

    if app not in runtime.tenants.all():
        return None
    event = test_event(app, user, TEST_BODY)
    runtime.core.xadd(runtime.settings.event_streams[0], {"e": msgspec.json.encode(event)})
    return str(event["data"]["message_id"])


def _store(
    runtime: Runtime,
    vendor: str,
    app: str,
    business_id: str,
    given: Mapping[str, Any],
    rotate: bool,
) -> str | None:
    from workers.cli.credentials import find, store

    try:
        store(
            runtime,
            Vendor(vendor),
            app,
            business_id,
            given,
            find(runtime, app, vendor, business_id) if rotate else None,
        )
    except CliError as error:
        return str(error)
    return None


def _check(runtime: Runtime, app: str, vendor: str, business_id: str) -> tuple[bool, str]:
    from workers.cli.credentials import find, prove

    try:
        return True, prove(runtime, find(runtime, app, vendor, business_id))
    except CliError as error:
        return False, str(error)
