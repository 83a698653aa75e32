"""Tokens that pushes name without a person (SQL, devices; until retired).

They are seen first, registered again, retired. Each is a device with an empty id of the user
`token:<digest>`. It owns nothing: it and a person's registration of the same token do not move each
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, text

from common.clock import now_ms

_STATE = text(
    'SELECT d.app, d."user", d.state, d.registered_ms, d.voip_token, d.reason, d.platform, d.lang'
    ' FROM devices d JOIN unnest(CAST(:apps AS text[]), CAST(:users AS text[])) AS r (app, "user")'
    ' ON d.app = r.app AND d."user" = r."user" WHERE d.device_id = \'\''
)
_UPSERT = text(
    'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, token, '
    "voip_token, lang, registered_ms, state, state_ms)"
    " SELECT r.app, r.\"user\", '', r.platform, r.vendor, r.business_id, r.token, r.voip, "
    "r.lang, r.since, 'active', :now"
    " FROM unnest(CAST(:apps AS text[]), CAST(:users AS text[]), CAST(:platforms AS text[]), "
    "CAST(:vendors AS text[]),"
    " CAST(:business_ids AS text[]), CAST(:tokens AS text[]), CAST(:voips AS text[]), "
    "CAST(:langs AS text[]), CAST(:sinces AS bigint[]))"
    ' AS r (app, "user", platform, vendor, business_id, token, voip, lang, since)'
    ' ON CONFLICT (app, "user", device_id) DO UPDATE SET voip_token = excluded.voip_token,'
    " registered_ms = GREATEST(excluded.registered_ms, devices.registered_ms),"
    " state = CASE WHEN excluded.registered_ms > devices.registered_ms THEN 'active' ELSE "
    "devices.state END,"
    " reason = CASE WHEN excluded.registered_ms > devices.registered_ms THEN '' ELSE "
    "devices.reason END,"
    " state_ms = CASE WHEN excluded.registered_ms > devices.registered_ms THEN "
    "excluded.state_ms ELSE devices.state_ms END,"
    " platform = excluded.platform, lang = excluded.lang"
    " WHERE excluded.registered_ms > devices.registered_ms OR (devices.voip_token IS NULL "
    "AND excluded.voip_token IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class DirectToken:
    """since_ms: the app's registration, 0: unknown; then only an operator reactivates it."""

    app: str
    user: str
    platform: str
    vendor: str
    business_id: str
    token: str
    voip_token: str | None
    lang: str | None
    since_ms: int


class DirectTokens:
    """Reads and first sights, two statements a batch at most."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def states(
        self, who: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], tuple[str, int, str | None, str]]:
        """As `seen`, by (app, user), without registering any token."""
        if not who:
            return {}
        with self._engine.connect() as connection:
            return _states(connection, sorted(set(who)))

    def seen(
        self, tokens: Sequence[DirectToken]
    ) -> Mapping[tuple[str, str], tuple[str, int, str | None, str]]:
        """(state, registered_ms, voip token, reason) by (app, user), after this sight of them."""
        if not tokens:
            return {}
        newest: dict[tuple[str, str], DirectToken] = {}
        for one in tokens:
            old = newest.get((one.app, one.user))
            if old is None or one.since_ms >= old.since_ms:
                voip = one.voip_token or (old.voip_token if old is not None else None)
                newest[(one.app, one.user)] = replace(one, voip_token=voip)
        with self._engine.begin() as connection:
            found = _states(connection, list(newest))
            fresh = [one for key, one in newest.items() if _news(one, found.get(key))]
            if fresh:
                connection.execute(_UPSERT, _columns(fresh))
                found = {**found, **_states(connection, [(one.app, one.user) for one in fresh])}
        return found


def _news(one: DirectToken, known: tuple[str, int, str | None, str] | None) -> bool:
    """True for a new registration. A VoIP token reported as dead is kept as "".

    The app's naming it again is no news.
    """
    return (
        known is None
        or one.since_ms > known[1]
        or (known[2] is None and one.voip_token is not None)
    )


def _states(
    connection: Connection, who: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, int, str | None, str]]:
    apps, users = zip(*who, strict=True)
    rows = connection.execute(_STATE, {"apps": list(apps), "users": list(users)})
    return {(row[0], row[1]): (row[2], int(row[3]), row[4], row[5]) for row in rows}


def _columns(tokens: Sequence[DirectToken]) -> dict[str, Any]:
    # two replicas lock them in one order
    ordered = sorted(tokens, key=lambda one: (one.app, one.user))
    return {
        "apps": [one.app for one in ordered],
        "users": [one.user for one in ordered],
        "platforms": [one.platform for one in ordered],
        "vendors": [one.vendor for one in ordered],
        "business_ids": [one.business_id for one in ordered],
        "tokens": [one.token for one in ordered],
        "voips": [one.voip_token for one in ordered],
        "langs": [one.lang for one in ordered],
        "sinces": [one.since_ms for one in ordered],
        "now": now_ms(),
    }
