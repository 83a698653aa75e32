"""Dead letters (SQL, until replayed or dropped), with reasons; the bytes are encrypted at rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ARRAY, Engine, RowMapping, Select, Text, any_, cast, delete, func, select

from common.storage.tables import dead_letters
from common.storage.vault import Vault, VaultError

#: Most letters of one listing.
LISTED_MAX = 10_000
FETCHED = 50


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """entry_id: of the stream entry it was. raw: the entry's bytes; empty where `sealed`: none of
    our keys opens them.

    fields: `d`, `app`, `q` of an event, or `stream` of what lay between stages.
    """

    id: str
    entry_id: str
    stage: str
    reason: str
    app: str | None
    at_ms: int
    raw: bytes = field(repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    sealed: bool = False


class DeadLetters:
    def __init__(self, engine: Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def listed(
        self, stage: str | None = None, app: str | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        """The newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(_chosen(stage, app).limit(min(limit, LISTED_MAX))).mappings()
            return [self._open(row) for row in rows]

    def each(
        self, stage: str | None = None, app: str | None = None, limit: int | None = LISTED_MAX
    ) -> Iterator[DeadLetter]:
        """As `listed`, a few at a time: each may hold a quarter of a MiB. limit
        None: all of them.
        """
        with self._engine.connect().execution_options(yield_per=FETCHED) as connection:
            for row in connection.execute(_chosen(stage, app).limit(limit)).mappings():
                yield self._open(row)

    def heads(
        self, stage: str | None = None, app: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest first, without their bytes: id, entry_id, stage, reason, app, at_ms."""
        with self._engine.connect() as connection:
            rows = connection.execute(_chosen(stage, app).limit(min(limit, LISTED_MAX))).mappings()
            return [
                {name: row[name] for name in ("id", "entry_id", "stage", "reason", "app", "at_ms")}
                for row in rows
            ]

    def ids(self, stage: str | None = None, app: str | None = None) -> list[str]:
        """The oldest first: the order in which they are replayed."""
        columns = _chosen(stage, app).with_only_columns(dead_letters.c.id).order_by(None)
        with self._engine.connect() as connection:
            return list(
                connection.execute(
                    columns.order_by(dead_letters.c.at_ms, dead_letters.c.id)
                ).scalars()
            )

    def counts(self) -> dict[str, int]:
        """By stage."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(dead_letters.c.stage, func.count()).group_by(dead_letters.c.stage)
            ).all()
        return {str(row[0]): int(row[1]) for row in rows}

    def groups(self, limit: int = 100) -> list[dict[str, Any]]:
        """Dead letters by stage and kind of reason (the part before its colon), the largest first.

        Each: {stage, kind, count, first_ms, last_ms}.
        """
        kind = func.split_part(dead_letters.c.reason, ":", 1)
        rows = select(
            dead_letters.c.stage,
            kind,
            func.count(),
            func.min(dead_letters.c.at_ms),
            func.max(dead_letters.c.at_ms),
        ).group_by(dead_letters.c.stage, kind)
        with self._engine.connect() as connection:
            found = connection.execute(rows.order_by(func.count().desc()).limit(limit)).all()
        names = ("stage", "kind", "count", "first_ms", "last_ms")
        return [dict(zip(names, row, strict=True)) for row in found]

    def ids_of(self, stage: str, kind: str, limit: int) -> list[str]:
        """The ids of one group, the oldest first."""
        same = (
            dead_letters.c.stage == stage,
            func.split_part(dead_letters.c.reason, ":", 1) == kind,
        )
        letters = select(dead_letters.c.id).where(*same)
        chosen = letters.order_by(dead_letters.c.at_ms, dead_letters.c.id).limit(limit)
        with self._engine.connect() as connection:
            return list(connection.execute(chosen).scalars())

    def get(self, letter_id: str) -> DeadLetter | None:
        with self._engine.connect() as connection:
            row = (
                connection.execute(select(dead_letters).where(dead_letters.c.id == letter_id))
                .mappings()
                .first()
            )
        return self._open(row) if row is not None else None

    @contextlib.contextmanager
    def taken(self, letter_id: str) -> Iterator[DeadLetter | None]:
        """The letter, removed if the block ends well; None when another caller has taken it.

        Two callers wait for each other.
        """
        with self._engine.begin() as connection:
            deletion = delete(dead_letters).where(dead_letters.c.id == letter_id)
            row = connection.execute(deletion.returning(dead_letters)).mappings().first()
            yield self._open(row) if row is not None else None

    def drop(self, ids: Sequence[str]) -> int:
        """Deletes these dead letters; returns how many existed."""
        with self._engine.begin() as connection:
            return connection.execute(
                delete(dead_letters).where(dead_letters.c.id == any_(cast(list(ids), ARRAY(Text))))
            ).rowcount

    def _open(self, row: RowMapping) -> DeadLetter:
        try:
            return DeadLetter(**{**row, "raw": self._vault.decrypt(row["raw"])})
        except VaultError:
            return DeadLetter(**{**row, "raw": b""}, sealed=True)


def _chosen(stage: str | None, app: str | None) -> Select[Any]:
    statement = select(dead_letters).order_by(dead_letters.c.at_ms.desc(), dead_letters.c.id)
    if stage is not None:
        statement = statement.where(dead_letters.c.stage == stage)
    if app is not None:
        statement = statement.where(dead_letters.c.app == app)
    return statement
