"""The device registry (SQL, until unbound): who owns which token, newest word wins.

A token belongs to one user at a time. Rows are never deleted by an event, so that an older event that arrives late
finds the newer word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, bindparam, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from common.contracts import Device
from common.model import Vendor
from common.storage.tables import devices, logouts, token_owners

#: States of a device whose token may be sent to.
ACTIVE = "active"
#: States of a device whose user is still the one who registered it.
STANDING = (ACTIVE, "retired", "silenced")

_BY_USERS = text(
    'SELECT d."user", d.device_id, d.platform, d.vendor, d.business_id, d.token, d.voip_token, d.lang, d.tz, d.app_version,'
    " d.registered_ms, k.value #>> '{}' AS content_key, d.push_id"
    ' FROM devices d LEFT JOIN settings k ON k.app = d.app AND k."user" = d."user" AND k.field = \'content_key:\' || d.device_id'
    ' AND NOT EXISTS (SELECT FROM settings c WHERE c.app = k.app AND c."user" = k."user" AND c.field = \'content_key:\''
    " AND c.ts_ms > k.ts_ms)"
    " WHERE d.app = :app AND d.\"user\" = ANY(:users) AND d.state = 'active' ORDER BY d.device_id"
)


class Devices:
    """Reads for the stages, writes for intake, settle and the command line."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_users(self, app: str, users: Sequence[str]) -> dict[str, list[Device]]:
        """Active devices by user; users without any are absent. One query, whatever the number of users."""
        found: dict[str, list[Device]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(_BY_USERS, {"app": app, "users": list(users)}):
                found.setdefault(row[0], []).append(Device(row[1], row[2], Vendor(row[3]), *row[4:]))
        return found

    def retire(self, dead: Sequence[tuple[str, str, str, str, int, str]], state: str) -> int:
        """(app, user, device, token, sent_ms, reason): those not registered anew since the send. Returns how many."""
        if not dead:
            return 0
        statement = (
            update(devices)
            .where(
                *_keyed(),
                devices.c.token == bindparam("b_token"),
                devices.c.state == ACTIVE,
                devices.c.registered_ms <= bindparam("b_sent"),
            )
            .values(state=state, reason=bindparam("b_reason"))
        )
        rows = [
            {"b_app": app, "b_user": user, "b_device": device, "b_token": token, "b_sent": sent, "b_reason": reason}
            for app, user, device, token, sent, reason in dead
        ]
        voip = (
            update(devices)
            .where(*_keyed(), devices.c.voip_token == bindparam("b_token"), devices.c.registered_ms <= bindparam("b_sent"))
            .values(voip_token=None)
        )
        with self._engine.begin() as connection:
            for row in rows:  # a dead VoIP token is forgotten: calls reach the device as alerts then
                connection.execute(voip, {name: value for name, value in row.items() if name != "b_reason"})
            return sum(connection.execute(statement, row).rowcount for row in rows)

    def replace_tokens(self, moved: Sequence[tuple[str, str, str, str, str, int]]) -> int:
        """(app, user, device, token, new token, sent_ms): those not registered anew since the send get the new one. Returns how many.

        A token has one owner: a device whose new token somebody else has registered already has moved to them.
        """
        count = 0
        for app, user, device, token, new, sent_ms in moved:
            with self._engine.begin() as connection:
                count += _replace(connection, {"app": app, "user": user, "device_id": device}, token, new, sent_ms)
        return count

    def owners(self, app: str, vendor: Vendor, tokens: Sequence[str]) -> dict[str, tuple[str, str]]:
        """(user, device) that registered each of these tokens last, those that were given up since too."""
        statement = select(token_owners.c.token, token_owners.c.user, token_owners.c.device_id).where(
            *_same(token_owners, {"app": app, "vendor": vendor}), token_owners.c.token.in_(list(tokens))
        )
        with self._engine.connect() as connection:
            return {token: (user, device) for token, user, device in connection.execute(statement)}

    def listed(self, app: str, user: str | None = None, most: int = 1000) -> list[Mapping[str, Any]]:
        statement = select(devices).where(devices.c.app == app).order_by(devices.c.user, devices.c.device_id).limit(most)
        if user is not None:
            statement = statement.where(devices.c.user == user)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def set_state(self, app: str, user: str, device: str, state: str, reason: str) -> bool:
        """An operator's word. A device that logged out, or whose token another person has, is nobody's to bring back: False."""
        named = or_(devices.c.device_id == device, devices.c.push_id == device)
        statement = update(devices).where(devices.c.app == app, devices.c.user == user, named, devices.c.state.in_(STANDING))
        with self._engine.begin() as connection:
            return bool(connection.execute(statement.values(state=state, reason=reason)).rowcount)


def named(connection: Connection, app: str, user: str, name: str) -> str:
    """The device id of a device that an event may call by its push id; the name itself where it is nobody's alias."""
    known = select(devices.c.device_id).where(devices.c.app == app, devices.c.user == user, devices.c.push_id == name)
    return str(connection.execute(known.order_by(devices.c.registered_ms.desc()).limit(1)).scalar() or name)


def _replace(connection: Connection, key: Mapping[str, str], token: str, new: str, sent_ms: int) -> int:
    mine = (*_same(devices, {**key, "token": token}), devices.c.state == ACTIVE, devices.c.registered_ms <= sent_ms)
    device = connection.execute(select(devices.c.vendor, devices.c.registered_ms).where(*mine).with_for_update()).first()
    if device is None:
        return 0
    wanted = {"app": key["app"], "vendor": device.vendor, "token": new}
    owner = connection.execute(select(token_owners.c.user, token_owners.c.device_id).where(*_same(token_owners, wanted))).first()
    if owner is not None and (owner.user, owner.device_id) != (key["user"], key["device_id"]):
        connection.execute(update(devices).where(*mine).values(state="moved", reason="another user or device has its new token"))
        return 0
    _own(connection, {**wanted, "user": key["user"], "device_id": key["device_id"], "at_ms": device.registered_ms})
    return connection.execute(update(devices).where(*mine).values(token=new)).rowcount


def _keyed() -> list[ColumnElement[bool]]:
    return [devices.c.app == bindparam("b_app"), devices.c.user == bindparam("b_user"), devices.c.device_id == bindparam("b_device")]


def register(connection: Connection, app: str, device: Mapping[str, Any], ts_ms: int) -> bool:
    """Binds a token to a user's device as of `ts_ms`. False where a newer word is known already.

    What remains depends on the events' times only, not on their order: an older registration leaves its trace in
    `token_owners`, so that a token which wandered to another person stays away from those who had it before.
    """
    token = {"app": app, "vendor": device["vendor"], "token": device["token"]}
    _own(connection, {**token, "user": device["user"], "device_id": device["device_id"], "at_ms": ts_ms})
    owner = connection.execute(
        select(token_owners.c.user, token_owners.c.device_id, token_owners.c.at_ms).where(*_same(token_owners, token))
    ).one()
    state, reason, state_ms = _state_of(connection, app, device, ts_ms, owner)
    values = {**device, "app": app, "registered_ms": ts_ms, "state_ms": state_ms, "reason": reason, "state": state}
    statement = insert(devices).values(values)
    changed = connection.execute(
        statement.on_conflict_do_update(
            index_elements=["app", "user", "device_id"],
            set_={name: statement.excluded[name] for name in values if name not in ("app", "user", "device_id")},
            where=devices.c.registered_ms <= ts_ms,
        )
    ).rowcount
    connection.execute(
        update(devices)
        .where(
            *_same(devices, token),
            devices.c.registered_ms <= owner.at_ms,
            or_(devices.c.user != owner.user, devices.c.device_id != owner.device_id),
            devices.c.state.in_(STANDING),
        )
        .values(state="moved", reason="another user or device registered this token later", state_ms=owner.at_ms)
    )
    return bool(changed)


def _same(table: Table, values: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in values.items()]


def _own(connection: Connection, owner: Mapping[str, Any]) -> None:
    """The latest registration of a token owns it."""
    statement = insert(token_owners).values(owner)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["app", "vendor", "token"],
            set_={name: statement.excluded[name] for name in ("user", "device_id", "at_ms")},
            where=token_owners.c.at_ms <= owner["at_ms"],
        )
    )


def _state_of(connection: Connection, app: str, device: Mapping[str, Any], ts_ms: int, owner: Row[Any, Any, Any]) -> tuple[str, str, int]:
    """State, reason and its time of a registration as of `ts_ms`, by what is known to have come after it."""
    later = _left_at(connection, app, device)
    if later > ts_ms:
        return "unbound", "logout", later
    if (owner.user, owner.device_id) != (device["user"], device["device_id"]):
        return "moved", "another user or device registered this token later", int(owner.at_ms)
    return ACTIVE, "", ts_ms


def _left_at(connection: Connection, app: str, device: Mapping[str, Any]) -> int:
    """When the user last left this device, 0 for never. The rows are made where they are missing: whoever logs this device
    out in another replica at this moment waits for us, or we for them, so neither overlooks the other."""
    scopes = {f"device:{device['device_id']}", f"platform:{device['platform']}"}
    if device.get("push_id"):
        scopes.add(f"device:{device['push_id']}")
    statement = insert(logouts).values([{"app": app, "user": device["user"], "scope": scope, "at_ms": 0} for scope in sorted(scopes)])
    kept = statement.on_conflict_do_update(index_elements=["app", "user", "scope"], set_={"at_ms": logouts.c.at_ms})
    return max(int(at_ms) for (at_ms,) in connection.execute(kept.returning(logouts.c.at_ms)))


def unbind(
    connection: Connection, app: str, user: str, ts_ms: int, reason: str, device_id: str | None = None, platform: str | None = None
) -> int:
    """Logout, kick or unregistration as of `ts_ms`, of one device or of all on a platform (`ios` covers iPad)."""
    if device_id is not None:
        scopes, which = [f"device:{device_id}"], or_(devices.c.device_id == device_id, devices.c.push_id == device_id)
    else:
        platforms = ["ios", "ipad"] if platform == "ios" else [str(platform)]
        scopes, which = [f"platform:{name}" for name in platforms], devices.c.platform.in_(platforms)
    for scope in scopes:
        statement = insert(logouts).values(app=app, user=user, scope=scope, at_ms=ts_ms)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["app", "user", "scope"], set_={"at_ms": ts_ms}, where=logouts.c.at_ms < ts_ms)
        )
    return connection.execute(
        update(devices)
        .where(devices.c.app == app, devices.c.user == user, which, devices.c.registered_ms <= ts_ms, devices.c.state != "moved")
        .values(state="unbound", reason=reason, state_ms=ts_ms)
    ).rowcount
