"""Doctor's findings on silent pushes at vendors that show whatever they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from common.clock import now_ms
from common.model import PushType, Vendor
from common.storage.sql import took_too_long
from common.values import BothWords
from workers.lane_report import lanes_of
from workers.reports.findings import Finding, bad
from workers.runtime import Runtime
from workers.vendors import VENDORS


def silent_findings(runtime: Runtime) -> Iterator[Finding]:
    """The vendors' ways are no fault of the set-up, so each is a note."""
    for app, vendor, count in _refused(runtime):
        found = bad("silent pushes", "silent_refused", app=app, vendor=vendor, count=count)
        yield replace(found, ok=True, note=True)
    for (app, name), preset in sorted(runtime.strategies.all().items()):
        if preset.get("push_type") != PushType.SILENT:
            continue
        vendors = {lane.vendor for lane in lanes_of(runtime, app)}
        en, zh = _ways(vendors, "en"), _ways(vendors, "zh")
        if en:
            ways = BothWords(en, zh)
            found = bad("silent pushes", "silent_preset", app=app, preset=name, ways=ways)
            yield replace(found, ok=True, note=True)


def _refused(runtime: Runtime) -> list[tuple[str, str, int]]:
    """As LedgerReader.silent_refused; nothing where a busy hour has too many rows for a look."""
    try:
        return runtime.reports.silent_refused(now_ms())
    except SQLAlchemyError as error:
        if not took_too_long(error):
            raise
        return []


def _ways(vendors: set[Vendor], lang: str) -> str:
    """What becomes of a silent push at those of these vendors that know none; "" without any."""
    refusing = sorted(one for one in vendors if VENDORS[one].refuses_silent)
    showing = sorted(one for one in vendors if VENDORS[one].shows_silent)
    words = {
        "en": ("is refused for {}", "is a quiet banner at {} where it has words, else refused"),
        "zh": ("不会发给 {}", "在 {} 上有文字时显示为静默通知，否则被拒绝"),
    }[lang]
    parts = zip(words, (refusing, showing), strict=True)
    both = [form.format(", ".join(those)) for form, those in parts if those]
    return (" and " if lang == "en" else "；").join(both)
