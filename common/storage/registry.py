"""The registry's changes by events (SQL): owners of tokens, and devices that were left.

Many events need a few statements. The result depends on the events' times only, not on their order:
no event deletes a row, so that an older event that arrives late finds the newer state. Keys are
locked in their order, so that replicas wait for each other and never deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from common.storage.bindings import LEFT, Binding, bound
from common.storage.registrations import Leaving as Leaving
from common.storage.registrations import Registration as Registration
from common.tokens import canonical

#: State of a device whose token may be sent to.
ACTIVE = "active"
MOVED = "another user or device registered this token later"
#: Columns of `devices` that a registration brings along.
BROUGHT = (
    "user",
    "device_id",
    "platform",
    "vendor",
    "business_id",
    "token",
    "voip_token",
    "push_id",
    "lang",
    "tz",
    "app_version",
)


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """news: per registration, True when it was the newest.

    bindings: the devices' tokens from now on.
    """

    news: tuple[bool, ...]
    bindings: tuple[Binding, ...]


def _insert(table: str, columns: Mapping[str, str], rest: str) -> TextClause:
    """INSERT of rows given as one array a column (`:<column>s`), in the order of their keys.
    columns: name -> type.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    arrays = ", ".join(f"CAST(:{name}s AS {kind}[])" for name, kind in columns.items())
    return text(f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}) {rest}")


def _arrays(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    names = list(columns)
    turned = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    return {f"{name}s": column for name, column in zip(names, turned, strict=True)}


# ---------------------------------------------------------------- registrations

_OWNER = {
    "app": "text",
    "vendor": "text",
    "token": "text",
    "user": "text",
    "device_id": "text",
    "at_ms": "bigint",
}
_OWN = _insert(
    "token_owners",
    _OWNER,
    'ON CONFLICT (app, vendor, token) DO UPDATE SET "user" = excluded."user", device_id = '
    "excluded.device_id, at_ms = excluded.at_ms"
    " WHERE token_owners.at_ms <= excluded.at_ms",
)
_TOKENS = (
    "unnest(CAST(:apps AS text[]), CAST(:vendors AS text[]), CAST(:tokens AS text[])) AS t (app, "
    "vendor, token)"
)
_OWNERS = text(
    'SELECT o.app, o.vendor, o.token, o."user", o.device_id, o.at_ms FROM token_owners o '
    f"JOIN {_TOKENS} USING (app, vendor, token)"
)
_SCOPE = {"app": "text", "user": "text", "scope": "text", "at_ms": "bigint"}
#: Missing rows are created: a concurrent logout of such a device in another replica waits for us,
#: or we for it, so neither overlooks the other.
_LEFT = _insert(
    "logouts",
    _SCOPE,
    'ON CONFLICT (app, "user", scope) DO UPDATE SET at_ms = logouts.at_ms RETURNING app, '
    '"user", scope, at_ms',
)
_DEVICE = {
    "app": "text",
    **dict.fromkeys(BROUGHT, "text"),
    "registered_ms": "bigint",
    "state": "text",
    "reason": "text",
    "state_ms": "bigint",
}
_BIND = _insert(
    "devices",
    _DEVICE,
    'ON CONFLICT (app, "user", device_id) DO UPDATE SET '
    + ", ".join(
        f'"{name}" = excluded."{name}"'
        for name in _DEVICE
        if name not in ("app", "user", "device_id")
    )
    + ' WHERE devices.registered_ms <= excluded.registered_ms RETURNING app, "user", device_id',
)
#: Earlier owners of the tokens.
_MOVE = text(
    "UPDATE devices d SET state = 'moved', reason = :reason, state_ms = o.at_ms"
    f" FROM token_owners o JOIN {_TOKENS} USING (app, vendor, token)"
    " WHERE d.app = o.app AND d.vendor = o.vendor AND d.token = o.token AND d.registered_ms "
    "<= o.at_ms"
    ' AND (d."user" <> o."user" OR d.device_id <> o.device_id) AND d.state IN (\'active\', '
    "'retired', 'silenced')"
    " AND d.device_id <> ''"  # a mere token (direct_tokens.py) is nobody's
    ' RETURNING d.app, d."user", d.device_id'
)
#: Earlier owners of the VoIP tokens keep their other token: calls reach them as alerts.
_MOVE_VOIP = text(
    f"UPDATE devices d SET voip_token = NULL FROM token_owners o JOIN {_TOKENS} USING (app, "
    "vendor, token)"
    " WHERE d.app = o.app AND d.vendor = o.vendor AND d.voip_token = o.token AND "
    "d.registered_ms <= o.at_ms"
    " AND d.device_id <> ''"  # a mere token (direct_tokens.py) is nobody's
    ' AND (d."user" <> o."user" OR d.device_id <> o.device_id)'
    ' RETURNING d.app, d."user", d.device_id, d.vendor, d.business_id, d.token, d.state'
)


def register(connection: Connection, registrations: Sequence[Registration]) -> RegisteredDevice:
    """Binds tokens to devices.

    An older registration is kept in `token_owners`, so that a token which moved to another person
    never returns to its earlier owners.
    """
    if not registrations:
        return RegisteredDevice((), ())
    tokens = _newest(registrations, lambda one: one.token_keys)
    rows = [(*key, one.device["user"], one.device["device_id"], one.ts_ms) for key, one in tokens]
    connection.execute(_OWN, _arrays(_OWNER, rows))
    named = _arrays(("app", "vendor", "token"), [key for key, _ in tokens])
    owned = owners(connection, [key for key, _ in tokens])
    scopes = sorted({scope for one in registrations for scope in one.scopes})
    left = {
        (app, user, scope): at_ms
        for app, user, scope, at_ms in connection.execute(
            _LEFT, _arrays(_SCOPE, [(*s, 0) for s in scopes])
        )
    }
    devices = _newest(registrations, lambda one: [one.device_key])
    rows_bound = [
        _bound(one, owned, max(left[scope] for scope in one.scopes)) for _, one in devices
    ]
    changed = {
        (app, user, device_id)
        for app, user, device_id in connection.execute(_BIND, _arrays(_DEVICE, rows_bound))
    }
    lost = [
        (app, user, device_id, LEFT)
        for app, user, device_id in connection.execute(_MOVE, {**named, "reason": MOVED})
    ]
    lost += _voip_lost(connection, named)
    now_bound = [_binding(row) for row in rows_bound if row[:3] in changed]
    return RegisteredDevice(tuple(_news(registrations, changed)), (*lost, *now_bound))


def _voip_lost(connection: Connection, named: Mapping[str, Any]) -> list[Binding]:
    return [
        (app, user, device_id, bound(vendor, business_id, token, None) if state == ACTIVE else LEFT)
        for app, user, device_id, vendor, business_id, token, state in connection.execute(
            _MOVE_VOIP, named
        )
    ]


def _binding(row: Sequence[Any]) -> Binding:
    """The binding of a device's row, in the order of _DEVICE."""
    found = dict(zip(_DEVICE, row, strict=True))
    binding = (
        bound(found["vendor"], found["business_id"], found["token"], found["voip_token"])
        if found["state"] == ACTIVE
        else LEFT
    )
    return found["app"], found["user"], found["device_id"], binding


def owners(
    connection: Connection, tokens: Sequence[tuple[str, str, str]]
) -> dict[tuple[str, str, str], Row[Any]]:
    """(app, vendor, token) -> user, device_id, at_ms of its last registration, if any."""
    found = connection.execute(_OWNERS, _arrays(("app", "vendor", "token"), tokens))
    return {(row.app, row.vendor, row.token): row for row in found}


def replace(
    connection: Connection, device: tuple[str, str, str], token: str, new: str, sent_ms: int
) -> tuple[int, Binding | None]:
    """Gives a device its vendor's new token, unless it registered since `sent_ms`.

    1: it has the new token. 0: it had another already, or the new one is somebody else's: then the
    device has moved to that owner. Also the device's new binding, None when nothing changed.
    """
    app, user, device_id = device
    mine = {"app": app, "user": user, "device_id": device_id, "token": token, "sent": sent_ms}
    found = connection.execute(_HELD, mine).first()
    if found is None:
        return 0, None
    vendor = str(found.vendor)
    key = (app, vendor, canonical(vendor, new))
    owner = owners(connection, [key]).get(key)
    if owner is not None and (owner.user, owner.device_id) != (user, device_id):
        connection.execute(_LOSE, {**mine, "reason": "another user or device has its new token"})
        return 0, (*device, LEFT)
    connection.execute(_OWN, _arrays(_OWNER, [(*key, user, device_id, found.registered_ms)]))
    count = connection.execute(_REPLACE, {**mine, "new": key[2]}).rowcount
    return count, (*device, bound(vendor, found.business_id, key[2], found.voip_token))


_MINE = (
    ' WHERE app = :app AND "user" = :user AND device_id = :device_id AND token = :token AND '
    "state = 'active' AND registered_ms <= :sent"
    " AND device_id <> ''"  # a mere token (direct_tokens.py) is its sender's word
)
_HELD = text(
    f"SELECT vendor, business_id, voip_token, registered_ms FROM devices{_MINE} FOR UPDATE"
)
_LOSE = text(f"UPDATE devices SET state = 'moved', reason = :reason{_MINE}")
_REPLACE = text(f"UPDATE devices SET token = :new{_MINE}")


def _newest(
    registrations: Sequence[Registration],
    keys: Callable[[Registration], Sequence[tuple[str, str, str]]],
) -> list[tuple[tuple[str, str, str], Registration]]:
    """The newest registration per key, in key order; the later of equal times."""
    found: dict[tuple[str, str, str], Registration] = {}
    for one in registrations:
        for name in keys(one):
            if name not in found or found[name].ts_ms <= one.ts_ms:
                found[name] = one
    return sorted(found.items())


def _bound(
    one: Registration, owned: Mapping[tuple[str, str, str], Row[Any]], left_ms: int
) -> tuple[Any, ...]:
    """The device's row as of this registration, with the known later changes."""
    mine, owner = (one.device["user"], one.device["device_id"]), owned[one.token_key]
    state, reason, state_ms = ACTIVE, "", one.ts_ms
    if left_ms > one.latest_ms:
        state, reason, state_ms = "unbound", "logout", left_ms
    elif (owner.user, owner.device_id) != mine:
        state, reason, state_ms = "moved", MOVED, int(owner.at_ms)
    values = {name: None if one.device[name] is None else str(one.device[name]) for name in BROUGHT}
    values["token"] = one.token_key[2]
    voip = one.voip_key
    has_voip = voip is not None and (owned[voip].user, owned[voip].device_id) == mine
    values["voip_token"] = voip[2] if voip is not None and has_voip else None
    return one.app, *values.values(), one.ts_ms, state, reason, state_ms


def _news(registrations: Sequence[Registration], changed: set[tuple[str, str, str]]) -> list[bool]:
    """True per registration without a newer one in the registry or earlier in the stream."""
    newest: dict[tuple[str, str, str], int] = {}
    news = []
    for one in registrations:
        news.append(one.device_key in changed and newest.get(one.device_key, 0) <= one.ts_ms)
        newest[one.device_key] = max(newest.get(one.device_key, 0), one.ts_ms)
    return news


# ---------------------------------------------------------------- leaving

_LEAVE = _insert(
    "logouts",
    _SCOPE,
    'ON CONFLICT (app, "user", scope) DO UPDATE SET at_ms = excluded.at_ms WHERE '
    "logouts.at_ms < excluded.at_ms",
)
_LEAVING = {"app": "text", "user": "text", "scope": "text", "reason": "text", "at_ms": "bigint"}
#: A device that several of them name goes by the newest.
_UNBIND = text(
    "UPDATE devices d SET state = 'unbound', reason = l.reason, state_ms = l.at_ms FROM ("
    'SELECT DISTINCT ON (m.app, m."user", m.device_id) m.app, m."user", m.device_id, '
    "x.reason, x.at_ms FROM devices m JOIN unnest("
    + ", ".join(f"CAST(:{name}s AS {kind}[])" for name, kind in _LEAVING.items())
    + ') WITH ORDINALITY AS x (app, "user", scope, reason, at_ms, place) ON m.app = x.app AND '
    'm."user" = x."user"'
    " AND x.scope IN ('device:' || m.device_id, 'device:' || m.push_id, 'platform:' || m.platform)"
    ' ORDER BY m.app, m."user", m.device_id, x.at_ms DESC, x.place DESC) l'
    ' WHERE d.app = l.app AND d."user" = l."user" AND d.device_id = l.device_id AND '
    "d.registered_ms <= l.at_ms"
    " AND d.state <> 'moved' RETURNING d.app, d.\"user\", d.device_id"
)


def leave(connection: Connection, leavings: Sequence[Leaving]) -> list[Binding]:
    """Unbinds the tokens of devices that their users left; returns their empty bindings.

    A registration with an earlier time finds the logout.
    """
    if not leavings:
        return []
    left: dict[tuple[str, str, str], int] = {}
    for one in leavings:
        for scope in one.scopes:
            key = (one.app, one.user, scope)
            left[key] = max(left.get(key, 0), one.ts_ms)
    connection.execute(
        _LEAVE, _arrays(_SCOPE, [(*key, at_ms) for key, at_ms in sorted(left.items())])
    )
    rows = [
        (one.app, one.user, scope, one.reason, one.ts_ms)
        for one in leavings
        for scope in one.scopes
    ]
    unbound = connection.execute(_UNBIND, _arrays(_LEAVING, rows))
    return [(app, user, device_id, LEFT) for app, user, device_id in unbound]


# ---------------------------------------------------------------- names

_NAMED = text(
    'SELECT DISTINCT ON (d.app, d."user", d.push_id) d.app, d."user", d.push_id, d.device_id '
    "FROM devices d"
    " JOIN unnest(CAST(:apps AS text[]), CAST(:users AS text[]), CAST(:push_ids AS text[])) "
    'AS n (app, "user", push_id)'
    ' USING (app, "user", push_id) ORDER BY d.app, d."user", d.push_id, d.registered_ms DESC'
)


def named(
    connection: Connection, names: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], str]:
    """(app, user, push id) -> device id, of those names that are a device's push id; one query."""
    keys = sorted(set(names))
    if not keys:
        return {}
    rows = connection.execute(_NAMED, _arrays(("app", "user", "push_id"), keys))
    return {(app, user, push_id): device_id for app, user, push_id, device_id in rows}
