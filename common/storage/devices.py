"""The device registry (SQL, until unbound): reads, and changes by settling and operators.

The changes by events are in registry.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, or_, select, text, update

from common.clock import now_ms
from common.contracts import Device
from common.model import Vendor
from common.storage import registry, sql
from common.storage.bindings import LEFT, Binding, Bindings, bound, digest_of
from common.storage.guard import Held
from common.storage.people import PeopleCache
from common.storage.registry import ACTIVE
from common.storage.tables import devices
from common.storage.text_arrays import text_array
from common.tokens import OPERATORS_REASONS

#: States of a device whose user is still the one who registered it.
STANDING = (ACTIVE, "retired", "silenced")
#: Delivery's longest wait for the database when a token is dead; the vendor repeats the answer at
#: the next push.
RETIRE_S = 3.0

_COLUMNS = (
    'SELECT d."user", d.device_id, d.platform, d.vendor, d.business_id, d.token, '
    "d.voip_token, d.lang, d.tz, d.app_version,"
    " d.registered_ms, k.value #>> '{}' AS content_key, d.push_id, d.app"
)
_CONTENT_KEYS = (
    ' LEFT JOIN settings k ON k.app = d.app AND k."user" = d."user" AND k.field = '
    "'content_key:' || d.device_id"
    ' AND NOT EXISTS (SELECT FROM settings c WHERE c.app = k.app AND c."user" = k."user" AND '
    "c.field = 'content_key:'"
    " AND c.ts_ms > k.ts_ms)"
)
_BY_USERS = text(
    f'{_COLUMNS} FROM devices d{_CONTENT_KEYS} WHERE d.app = :app AND d."user" = '
    "ANY(CAST(:users AS text[])) AND d.state = 'active' ORDER BY d.device_id"
)
_BY_PEOPLE = text(
    f'{_COLUMNS} FROM unnest(CAST(:apps AS text[]), CAST(:users AS text[])) AS p (app, "user")'
    ' JOIN devices d ON d.app = p.app AND d."user" = p."user" AND d.state = '
    f"'active'{_CONTENT_KEYS} ORDER BY d.device_id"
)

_DEAD = (
    " FROM unnest(CAST(:apps AS text[]), CAST(:users AS text[]), CAST(:devices AS text[]), "
    "CAST(:tokens AS text[]),"
    ' CAST(:sent AS bigint[]), CAST(:reasons AS text[])) AS r (app, "user", device_id, token,'
    " sent_ms, reason)"
    ' WHERE d.app = r.app AND d."user" = r."user" AND d.device_id = r.device_id AND '
    "d.registered_ms <= r.sent_ms"
)
_RETIRE = text(
    f"UPDATE devices d SET state = :state, reason = r.reason, state_ms = :now {_DEAD} AND "
    "d.token = r.token AND d.state = 'active'"
    ' RETURNING d.app, d."user", d.device_id'
)
#: A dead VoIP token is deleted: calls then reach the device as alerts. For a token without a person
#: its death is recorded, as each push names the token again (direct_tokens.py).
_FORGET_VOIP = text(
    f"UPDATE devices d SET voip_token = CASE WHEN d.device_id = '' THEN '' END {_DEAD} AND "
    "d.voip_token = r.token"
    ' RETURNING d.app, d."user", d.device_id, d.vendor, d.business_id, d.token, d.voip_token,'
    " d.state"
)


_TOKENS = text(
    'SELECT d."user", d.device_id, d.vendor, d.business_id, d.token, d.voip_token FROM devices d'
    ' JOIN unnest(CAST(:users AS text[]), CAST(:devices AS text[])) AS r ("user", device_id) '
    'USING ("user", device_id)'
    " WHERE d.app = :app AND d.state = 'active'"
)


class Devices:
    """Reads for the stages, writes for settle and the command line."""

    def __init__(
        self, engine: Engine, bindings: Bindings | None = None, people: PeopleCache | None = None
    ) -> None:
        """bindings, people: notified before each change; not needed for reading."""
        self._engine = engine
        self._bindings = bindings
        self._people = people

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[Connection, list[Binding]]]:
        """A transaction, with the list for its changes."""
        changed: list[Binding] = []
        with self._engine.begin() as connection:
            yield connection, changed
            people = {(app, user) for app, user, _, _ in changed}
            if self._people is not None:
                self._people.changing(people)
            if self._bindings is not None:
                self._bindings.put(changed)
        if self._people is not None:
            self._people.changed(people)

    def of_users(self, app: str, users: Sequence[str]) -> dict[str, list[Device]]:
        """Active devices by user; users without any are absent. One query, whatever the number of
        users.
        """
        found: dict[str, list[Device]] = {}
        with self._engine.connect() as connection:
            values = {"app": app, "users": text_array(users)}
            for row in connection.execute(_BY_USERS, values).all():
                found.setdefault(row[0], []).append(
                    Device(row[1], row[2], Vendor(row[3]), *row[4:-1])
                )
        return found

    def of_people(self, people: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Device]]:
        """Active devices by (app, user); people without any are absent. One query, whatever the
        number of tenants.
        """
        apps = {app for app, _ in people}
        if len(apps) == 1:
            (app,) = apps
            return {
                (app, user): found
                for user, found in self.of_users(app, sorted({user for _, user in people})).items()
            }
        chosen = sorted(set(people))
        found: dict[tuple[str, str], list[Device]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(
                _BY_PEOPLE,
                {
                    "apps": text_array([app for app, _ in chosen]),
                    "users": text_array([user for _, user in chosen]),
                },
            ).all():
                found.setdefault((row[-1], row[0]), []).append(
                    Device(row[1], row[2], Vendor(row[3]), *row[4:-1])
                )
        return found

    def retire(self, dead: Sequence[tuple[str, str, str, str, int, str]], state: str) -> int:
        """Retires (app, user, device, token, sent_ms, reason), unless registered since.

        Returns the number of devices. Raises sql.DATABASE_UNAVAILABLE when the database does not
        answer within RETIRE_S, or did not a moment ago.
        """
        if not dead:
            return 0
        apps, users, names, tokens, sent, reasons = (
            list(column) for column in zip(*sorted(dead), strict=True)
        )
        given = {
            "apps": apps,
            "users": users,
            "devices": names,
            "tokens": tokens,
            "sent": sent,
            "reasons": reasons,
        }
        with sql.optional(self._engine, RETIRE_S), self._changing() as (connection, changed):
            silent = connection.execute(_FORGET_VOIP, given).all()
            ended = connection.execute(_RETIRE, {**given, "state": state, "now": now_ms()}).all()
            bindings = map(_binding, silent)
            changed.extend([*bindings, *((app, user, device, LEFT) for app, user, device in ended)])
        return len(ended)

    def retire_held(self, app: str, held: Sequence[Held]) -> int:
        """Foreign tokens that were on hold: those whose device has the same token still. Returns
        how many devices.
        """
        users, names = [one.user for one in held], [one.device for one in held]
        with self._engine.connect() as connection:
            rows = connection.execute(_TOKENS, {"app": app, "users": users, "devices": names}).all()
        tokens = {
            (row.user, row.device_id, digest_of(row.vendor, row.business_id, token)): token
            for row in rows
            for token in (row.token, row.voip_token)
            if token
        }
        found = [(one, tokens.get((one.user, one.device, one.digest))) for one in held]
        return self.retire(
            [
                (app, one.user, one.device, token, one.sent_ms, one.reason)
                for one, token in found
                if token
            ],
            "retired",
        )

    def restore_lane(self, app: str, vendor: str, business_id: str, since_ms: int) -> int:
        """Reactivates devices that vendors' answers retired since then; returns how many.

        An operator's retirements stay.
        """
        where = (
            devices.c.app == app,
            devices.c.vendor == vendor,
            devices.c.business_id == business_id,
        )
        named = (
            devices.c.state == "retired",
            devices.c.state_ms >= since_ms,
            devices.c.reason.not_in(OPERATORS_REASONS),
        )
        statement = (
            update(devices).where(*where, *named).values(state=ACTIVE, reason="", state_ms=now_ms())
        )
        with self._changing() as (connection, changed):
            changed.extend(
                map(_binding, connection.execute(statement.returning(*_bound_columns())))
            )
        return len(changed)

    def replace_tokens(self, moved: Sequence[tuple[str, str, str, str, str, int]]) -> int:
        """Replaces tokens: (app, user, device, token, new token, sent_ms). Returns how many.

        A device registered again since the send keeps its token. A token has one owner: a device
        whose new token is registered to another owner has moved to that owner.
        """
        count = 0
        for app, user, device, token, new, sent_ms in moved:
            with self._changing() as (connection, changed):
                replaced, binding = registry.replace(
                    connection, (app, user, device), token, new, sent_ms
                )
                count += replaced
                changed.extend([binding] if binding is not None else [])
        return count

    def owners(self, app: str, vendor: Vendor, tokens: Sequence[str]) -> dict[str, tuple[str, str]]:
        """The last (user, device) to register each of these tokens, even if given up."""
        with self._engine.connect() as connection:
            found = registry.owners(connection, [(app, str(vendor), token) for token in tokens])
        return {token: (row.user, row.device_id) for (_, _, token), row in found.items()}

    def listed(
        self, app: str, user: str | None = None, most: int = 1000
    ) -> list[Mapping[str, Any]]:
        query = select(devices).where(devices.c.app == app)
        statement = query.order_by(devices.c.user, devices.c.device_id).limit(most)
        if user is not None:
            statement = statement.where(devices.c.user == user)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def set_state(self, app: str, user: str, device: str, state: str, reason: str) -> bool:
        """Sets a state for an operator.

        False: the device logged out, or another person has its token.
        """
        named = or_(devices.c.device_id == device, devices.c.push_id == device)
        statement = update(devices).where(
            devices.c.app == app, devices.c.user == user, named, devices.c.state.in_(STANDING)
        )
        values = {"state": state, "reason": reason, "state_ms": now_ms()}
        with self._changing() as (connection, changed):
            rows = connection.execute(statement.values(**values).returning(*_bound_columns()))
            changed.extend(map(_binding, rows))
        return bool(changed)


def _bound_columns() -> list[ColumnElement[Any]]:
    names = ("app", "user", "device_id", "vendor", "business_id", "token", "voip_token", "state")
    return [devices.c[name] for name in names]


def _binding(row: Sequence[Any]) -> Binding:
    """The binding of (app, user, device, vendor, business id, token, VoIP token, state)."""
    app, user, device, vendor, business_id, token, voip_token, state = row
    binding = bound(vendor, business_id, token, voip_token) if state == ACTIVE else LEFT
    return (app, user, device, binding)
