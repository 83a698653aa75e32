"""Keys of the read-only HTTP API (SQL, until revoked or expired): role, tenant, SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, delete, insert, select

from common.clock import now_ms
from common.storage.tables import api_tokens

#: stats: counts only; support: also the trace of a message and a person's devices.
TOKEN_ROLES: Final = ("stats", "support")
#: Begins every token, so that a secret scanner knows one.
TOKEN_PREFIX: Final = "pfapi_"
TOKEN_CHARACTERS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class ApiToken:
    """app None: of every tenant."""

    id: str
    name: str
    role: str
    app: str | None
    expires_ms: int | None


class ApiTokens:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, name: str, role: str, app: str | None, expires_ms: int | None) -> tuple[str, str]:
        """(id, token). The token is random with 256 bits, so that a fast hash of it is enough."""
        token, own = TOKEN_PREFIX + secrets.token_urlsafe(32), secrets.token_hex(4)
        values = {
            "id": own,
            "name": name,
            "role": role,
            "app": app,
            "created_ms": now_ms(),
            "expires_ms": expires_ms,
        }
        with self._engine.begin() as connection:
            connection.execute(insert(api_tokens).values(digest=_digest(token), **values))
        return own, token

    def check(self, token: str) -> ApiToken | None:
        """The token's rights; None for an unknown, revoked or expired one."""
        if not token.startswith(TOKEN_PREFIX) or len(token) > TOKEN_CHARACTERS_MAX:
            return None
        with self._engine.connect() as connection:
            row = (
                connection.execute(select(api_tokens).where(api_tokens.c.digest == _digest(token)))
                .mappings()
                .first()
            )
        if row is None or (row["expires_ms"] is not None and row["expires_ms"] <= now_ms()):
            return None
        return ApiToken(row["id"], row["name"], row["role"], row["app"], row["expires_ms"])

    def listed(self) -> list[dict[str, Any]]:
        columns = [column for column in api_tokens.c if column.name != "digest"]
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(api_tokens.c.created_ms)).mappings()
            return [dict(row) for row in rows]

    def revoke(self, token_id: str) -> bool:
        with self._engine.begin() as connection:
            return bool(
                connection.execute(delete(api_tokens).where(api_tokens.c.id == token_id)).rowcount
            )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
