"""Looks through all devices for doctor, by one statement that takes a bounded time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.model import Vendor
from workers.runtime import Runtime

#: Milliseconds of a look through all devices; beyond them a sample is used.
DEVICES_MS: Final = 2_000
_UNKNOWN: Final = """SELECT app, vendor, business_id, count(*) AS devices FROM devices{sample} AS d WHERE state = 'active' AND NOT EXISTS
 (SELECT 1 FROM credentials AS c WHERE (c.app, c.vendor, c.business_id) = (d.app, d.vendor, d.business_id))
 GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 5"""  # noqa: E501
#: One token of each form: what stands before the hexadecimal digits.
_FORMS: Final = """SELECT app, business_id, min(token) AS token FROM devices{sample} AS d
 WHERE state = 'active' AND vendor = :vendor
 GROUP BY app, business_id, regexp_replace(token, '[0-9a-fA-F]*$', '') LIMIT 1000"""


def without_account(runtime: Runtime) -> list[dict[str, Any]]:
    """Accounts that active devices name and that there are not: app, vendor, business_id, devices.

    The five with most devices; sampled: whether `devices` counts a sample.
    """
    return _looked(runtime, _UNKNOWN, {})


def token_forms(runtime: Runtime, vendor: Vendor) -> list[tuple[str, str, str]]:
    """(app, business id, token) of one active device for each account and form of token."""
    rows = _looked(runtime, _FORMS, {"vendor": str(vendor)})
    return [(row["app"], row["business_id"], row["token"]) for row in rows]


def _looked(runtime: Runtime, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    for sample in ("", " TABLESAMPLE SYSTEM (1)"):
        try:
            with runtime.engine.begin() as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = {DEVICES_MS}"))
                named = text(statement.replace("{sample} AS d", f" AS d{sample}"))
                rows = connection.execute(named, dict(values)).mappings()
                return [{**row, "sampled": bool(sample)} for row in rows]
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":
                raise
    return []
