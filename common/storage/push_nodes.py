"""Registrations at the XMPP door (SQL, in settings; until unregistered), by node and owner.

Their names in the settings table are their own: fields `registration` and `secret` of
`xmpp-node:<node>`, and one field per device of `xmpp-owner:<bare JID>`. No event of the core can
name these fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Engine, text

_READ = text('SELECT value FROM settings WHERE app = :app AND "user" = :user AND field = :field')
_WRITE = text(
    'INSERT INTO settings (app, "user", field, value, ts_ms) VALUES (:app, :user, :field, '
    "CAST(:value AS jsonb), :now)"
    ' ON CONFLICT (app, "user", field) DO UPDATE SET value = excluded.value, ts_ms = excluded.ts_ms'
)
#: Until the end of the transaction.
_LOCK = text("SELECT pg_advisory_xact_lock(:number)")
_DROP = text('DELETE FROM settings WHERE app = :app AND "user" = :user AND field = :field')


@dataclass(frozen=True, slots=True)
class PushNode:
    """deleted: its owner removed it, or registered the token again."""

    node: str
    owner: str
    device_id: str
    vendor: str
    business_id: str
    token: str = field(repr=False)
    voip_token: str
    created_ms: int
    deleted: bool = False


class PushNodes:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, app: str, node: str) -> PushNode | None:
        """None: nothing is known of it, which is not the same as deleted."""
        with self._engine.connect() as connection:
            return _node(connection, app, node)

    def register(self, app: str, new: PushNode) -> str:
        """The node: this one, or the one that this device of this owner has for this token already.

        The token's newest owner keeps it: other nodes of the same token, and of the same device,
        are taken back.
        """
        token_field = hashlib.sha256(f"{new.vendor}:{new.token}".encode()).hexdigest()
        names = (f"xmpp-owner:{new.owner}", new.device_id), ("xmpp-token", token_field)
        with self._engine.begin() as connection:
            _one_at_a_time(connection, app, names)
            for user, key in names:
                old = connection.execute(_READ, {"app": app, "user": user, "field": key}).scalar()
                if isinstance(old, str):
                    known = _node(connection, app, old)
                    if known is not None and replace(known, created_ms=0) == replace(
                        new, node=old, created_ms=0
                    ):
                        _keep(connection, app, replace(known, created_ms=new.created_ms))
                        return old
                    _take_back(connection, app, old, new.created_ms)
            _keep(connection, app, new)
            _write(
                connection, app, f"xmpp-owner:{new.owner}", new.device_id, new.node, new.created_ms
            )
            _write(connection, app, "xmpp-token", token_field, new.node, new.created_ms)
        return new.node

    def told(self, app: str, node: str, digest: str, now_ms: int) -> None:
        """Keeps the digest of the node's secret that its phone is told now."""
        with self._engine.begin() as connection:
            _write(connection, app, f"xmpp-node:{node}", "secret", digest, now_ms)

    def digest(self, app: str, node: str) -> str:
        """Of the secret that was told last; "" where an earlier version told it."""
        mine = {"app": app, "user": f"xmpp-node:{node}", "field": "secret"}
        with self._engine.connect() as connection:
            return str(connection.execute(_READ, mine).scalar() or "")

    def unregister(self, app: str, owner: str, device_id: str, now_ms: int) -> bool:
        """True where this device of the owner's had a node, which is taken back."""
        mine = {"app": app, "user": f"xmpp-owner:{owner}", "field": device_id}
        with self._engine.begin() as connection:
            node = connection.execute(_READ, mine).scalar()
            if not isinstance(node, str):
                return False
            _take_back(connection, app, node, now_ms)
            connection.execute(_DROP, mine)
        return True


def _one_at_a_time(connection: Connection, app: str, names: Iterable[tuple[str, str]]) -> None:
    """Registrations of one device or token wait for each other: each sees the nodes before it.

    In the order of the locks' numbers, so that no two wait for each other.
    """
    numbers = {
        int.from_bytes(hashlib.sha256("\0".join((app, *name)).encode()).digest()[:8], signed=True)
        for name in names
    }
    for number in sorted(numbers):
        connection.execute(_LOCK, {"number": number})


def _node(connection: Connection, app: str, node: str) -> PushNode | None:
    value = connection.execute(
        _READ, {"app": app, "user": f"xmpp-node:{node}", "field": "registration"}
    ).scalar()
    return PushNode(node=node, **value) if isinstance(value, dict) else None


def _keep(connection: Connection, app: str, one: PushNode) -> None:
    value = {name: value for name, value in asdict(one).items() if name != "node"}
    _write(connection, app, f"xmpp-node:{one.node}", "registration", value, one.created_ms)


def _take_back(connection: Connection, app: str, node: str, now_ms: int) -> None:
    value = connection.execute(
        _READ, {"app": app, "user": f"xmpp-node:{node}", "field": "registration"}
    ).scalar()
    if isinstance(value, dict):
        _write(
            connection, app, f"xmpp-node:{node}", "registration", {**value, "deleted": True}, now_ms
        )


def _write(connection: Connection, app: str, user: str, name: str, value: Any, now_ms: int) -> None:
    given = {"app": app, "user": user, "field": name, "value": json.dumps(value), "now": now_ms}
    connection.execute(_WRITE, given)
