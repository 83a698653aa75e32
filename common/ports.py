"""The ports of the stages: one small Protocol each. `runtime` knows their implementations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from common.contracts import Device
from common.values import Value


class Session(Value, frozen=True):
    """One live connection. since_ms: start of its state, None where the gateway omits it."""

    device_id: str
    foreground: bool
    platform: str
    since_ms: int | None = None


class AwayError(Exception):
    """What was asked is on a server that has not answered lately: nobody waits for it."""


class Presences(Protocol):
    def sessions(
        self, people: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[Sequence[Session] | None], int]:
        """The live sessions of each (app, user), and the number of malformed fields.

        None: unknown, as their server is away.
        """
        ...


class MemberPage(Value, frozen=True):
    """cursor: where the next page begins, 0 at the end. server: whose cursor that is, it means
    nothing to another one.
    """

    users: list[str]
    cursor: int
    server: str


class MemberPages(Protocol):
    def page(self, app: str, group: str, cursor: int, server: str | None, count: int) -> MemberPage:
        """About `count` members from `cursor` of `server` (0 at first), perhaps repeated.

        It starts again when the server has changed. AwayError: nobody can tell now.
        """
        ...


#: A fan-out: (app, event id).
FanOut = tuple[str, str]


class NamedBefore(Protocol):
    def unnamed(self, people: Mapping[FanOut, Sequence[str]]) -> dict[FanOut, dict[str, bytes]]:
        """The people whom no earlier page of their fan-out has named, each with its mark."""
        ...


class Friends(Protocol):
    def friends(self, app: str, users: Sequence[str], sender: str) -> set[str]:
        """Those of `users` who have `sender` among their friends. AwayError: of one of them nobody
        can tell now.
        """
        ...


class DeviceDirectory(Protocol):
    def of_users(self, app: str, users: Sequence[str]) -> Mapping[str, Sequence[Device]]:
        """Active devices by user; users without any are absent. One query."""
        ...

    def of_people(
        self, people: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Sequence[Device]]:
        """Active devices by (app, user); people without any are absent. One query, whatever the
        number of tenants.
        """
        ...


class PreferenceBook(Protocol):
    def of_users(
        self, app: str, users: Sequence[str], conversations: Sequence[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Settings by user, in one query.

        Of the mutes only those of `conversations` (`<type>:<id>`), under `mute:<conversation>`.
        """
        ...

    def of_people(
        self, people: Collection[tuple[str, str]], conversations: Sequence[str]
    ) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """Settings by (app, user), in one query for any number of tenants.

        Of the mutes only those of `conversations` (`<type>:<id>`), under `mute:<conversation>`.
        """
        ...
