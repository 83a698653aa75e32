"""The doors' names of an account: a Matrix app_id, a platform of Mattermost or gorush. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from common.model import Vendor
from workers.vendors import VENDORS

#: Options of a credential, names separated by spaces. The second's tokens are VoIP tokens of
#: Apple's.
ALIAS: Final = "alias"
VOIP_ALIAS: Final = "voip_alias"


@dataclass(frozen=True, slots=True)
class Alias:
    glob: str
    voip: bool = False


@dataclass(frozen=True, slots=True)
class DoorAccount:
    """One credential as a door needs it. env, topic: Apple's, "" for other vendors."""

    app: str
    vendor: Vendor
    business_id: str
    aliases: tuple[Alias, ...]
    env: str = ""
    topic: str = ""

    @property
    def platform(self) -> str:
        return VENDORS[self.vendor].platform


@dataclass(frozen=True, slots=True)
class Found:
    account: DoorAccount
    voip: bool


def aliases_of(options: Mapping[str, Any]) -> tuple[Alias, ...]:
    plain = tuple(Alias(name) for name in str(options.get(ALIAS) or "").split())
    return plain + tuple(
        Alias(name, voip=True) for name in str(options.get(VOIP_ALIAS) or "").split()
    )


def overlap(one: str, other: str) -> bool:
    """True when some name matches both globs."""
    ours, theirs = _steps(one), _steps(other)
    # begins that can match alike: met[b] is of all of `ours` so far and the first b of `theirs`
    met = [all(step == "*" for step in theirs[:end]) for end in range(len(theirs) + 1)]
    for our in ours:
        before, met = met, [our == "*" and met[0]]
        for end, their in enumerate(theirs, 1):
            met.append(
                (our == "*" and (before[end] or met[end - 1]))
                or (their == "*" and (before[end] or met[end - 1]))
                or (before[end - 1] and _meet(our, their))
            )
    return met[-1]


def _steps(glob: str) -> list[str]:
    """A glob's parts: `*`, or what stands for one character."""
    return _STEP.findall(glob)


def _meet(our: str, their: str) -> bool:
    return any(fnmatchcase(one, our) and fnmatchcase(one, their) for one in _NAMED)


#: As fnmatch reads: a bracket without its end is a character.
_STEP: Final = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
#: The characters of an alias.
_NAMED: Final = tuple(map(chr, range(33, 127)))


def named(accounts: Iterable[DoorAccount], name: str) -> list[Found]:
    """Accounts with an alias that fits; a literal one goes before a pattern."""
    found = [
        Found(account, alias.voip)
        for account in accounts
        for alias in account.aliases
        if alias.glob == name
    ]
    if found:
        return found
    return [
        Found(account, alias.voip)
        for account in accounts
        for alias in account.aliases
        if fnmatchcase(name, alias.glob)
    ]


def only(found: Sequence[Found]) -> Found | None:
    """The account that a name means; None where it means none, or several."""
    distinct = {
        (one.account.app, one.account.vendor, one.account.business_id): one for one in found
    }
    return next(iter(distinct.values())) if len(distinct) == 1 else None
