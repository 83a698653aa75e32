"""What the six Chinese vendors' simulators share: accounts and rights, their calendar, rates,
quotas, repeats, and how a token fares.

The side door's own actions (`POST /_sim/<action>`, JSON), beside base.control's stats, record and
faults:

accounts {account, secret?, rights?, ...}  registers an account (or {accounts: [...]}). rights: the
private rights it has, as in
                                           the contract (`huawei.im`, `vivo.system`, …); null or
                                           never given: all of them.
                                           Further keys are the vendor's own, see the head of its
                                           file. GET lists without secrets.
limits   {name: n, ...}                    changes limits of this vendor (0: none); GET gives them
all
guard    {ban: bool}                       true: the first misclassed message bans its account;
false: forgives everybody.
                                           `accounts` takes `ban` too
clock    {now_ms: n} | {hour: 0-23}        sets the vendor's calendar (quota days, hours); {} goes
back to the true time.
                                           Signatures and the lives of access tokens always go by
                                           the true time
receipts {on: bool, url?, ...}             receipts are posted; `url` is the one "of the console"
and wins over the message's
"""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from simulators.receipts import Receipts
from simulators.simulator import Faults, Record, VendorCall, VendorReply

#: No vendor of the six keeps summer time; China has had none since 1991.
SHANGHAI = datetime.timezone(datetime.timedelta(hours=8))
ADVERT = "[AD]"
#: Memory of repeats and attempts: two generations of this size.
GENERATION_MAX = 1_000_000
TOKENS_MAX = 100_000


class VendorError(Exception):
    """The vendor's refusal: its code, message, HTTP status, and further members of the answer."""

    def __init__(self, code: int | str, words: str = "", status: int = 200, **more: Any) -> None:
        super().__init__(f"{code} {words}")
        self.code, self.words, self.status, self.more = code, words, status, more


class Switches(Faults):
    """Faults with the number of their changes: counts of hits restart with each change."""

    changes = 0

    def change(self, wanted: Mapping[str, Any]) -> None:
        super().change(wanted)
        self.changes += bool(wanted)


@dataclass(slots=True)
class VendorAccount:
    """One app at this vendor. rights None: all. details: what the vendor's own file reads."""

    id: str
    secret: str | None = field(default=None, repr=False)
    rights: frozenset[str] | None = None
    registered: bool = False
    banned: bool = False
    details: dict[str, Any] = field(default_factory=dict, repr=False)

    def may(self, right: str) -> bool:
        return self.rights is None or right in self.rights


@dataclass(slots=True)
class VendorSending:
    """One accepted request for a send: what its record lines have in common."""

    account: VendorAccount
    batch: int
    tokens: int
    private: bool
    body: Any
    push_id: str | None = None
    vendor: str = ""
    more: dict[str, Any] = field(default_factory=dict)


class Calendar:
    """The vendor's days and hours (Asia/Shanghai), which an operator may move."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def set(self, wanted: Mapping[str, Any]) -> None:
        now_ms = int(time.time() * 1000)
        if "hour" in wanted:
            hour = int(wanted["hour"])
            there = datetime.datetime.fromtimestamp(now_ms / 1000, SHANGHAI).replace(
                hour=hour, minute=0, second=0, microsecond=0
            )
            self._ahead_ms = int(there.timestamp() * 1000) - now_ms
        else:
            self._ahead_ms = (
                int(wanted["now_ms"]) - now_ms if wanted.get("now_ms") is not None else 0
            )

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self._ahead_ms

    def _there(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.now_ms() / 1000, SHANGHAI)

    def day(self) -> str:
        return self._there().strftime("%Y%m%d")

    def hour(self) -> int:
        return self._there().hour


class Remembered:
    """A set that forgets its older half instead of growing for ever."""

    def __init__(self) -> None:
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def add(self, *what: Any) -> int:
        """The number of earlier additions."""
        key = hash(what)
        before = self._new.get(key) or self._old.get(key, 0)
        if len(self._new) >= GENERATION_MAX:
            self._old, self._new = self._new, {}
        self._new[key] = before + 1
        return before


class DayCounts:
    """Counts of one day of the calendar: of an account's bucket, or of a device in it."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._day = ""
        self._counts: dict[tuple[str, ...], int] = {}

    def used(self, *what: str) -> int:
        if self._day != (today := self._calendar.day()):
            self._day = today
            self._counts.clear()
        return self._counts.get(what, 0)

    def take(self, limit: int, by: int, *what: str) -> bool:
        """Adds `by` when it fits (limit 0: always), all or nothing."""
        used = self.used(*what)
        if limit and used + by > limit:
            return False
        self._counts[what] = used + by
        return True


class IssuedTokens:
    """The tokens issued for secrets, with their lifetimes."""

    def __init__(self, life_s: float) -> None:
        self._life_s = life_s
        self._given: dict[str, tuple[str, float]] = {}

    def give(self, account_id: str, token: str | None = None) -> str:
        token = token or secrets.token_hex(24)
        if len(self._given) >= TOKENS_MAX:
            self._given.pop(next(iter(self._given)))
        self._given[token] = (account_id, time.time() + self._life_s)
        return token

    def owner(self, token: str) -> tuple[str, bool] | None:
        """(account, still good); None: never given."""
        given = self._given.get(token)
        return (given[0], given[1] > time.time()) if given else None

    def expire(self) -> None:
        self._given = {token: (account, 0.0) for token, (account, _) in self._given.items()}


class ChinaSimulator:
    """One vendor of the six.

    Its own file defines refusals (`answer`) and their form (`refusal`).
    """

    vendor: str = ""
    endpoints: tuple[str, ...] = ()
    #: The page's limits; names of the switches of `POST /_sim/limits`. 0: no limit.
    LIMITS: ClassVar[Mapping[str, int]] = {}
    #: The unit of `per_second`: `targets` or `requests`.
    RATE_OF: ClassVar[str] = "targets"

    def __init__(self, record: Record) -> None:
        self.record = record
        self.faults: Faults = Switches()
        self.limits: dict[str, int] = dict(self.LIMITS)
        self.accounts: dict[str, VendorAccount] = {}
        self.calendar = Calendar()
        self.days = DayCounts(self.calendar)
        self.receipts = Receipts(record)
        self.receipt_settings: dict[str, Any] = {"on": False}
        self.ban = False
        self.requests = 0
        self._windows: dict[str, list[int]] = {}
        self._seen = Remembered()
        self._tries = Remembered()
        self._strikes: dict[str, tuple[int, int]] = {}

    # ---- what a vendor's file gives

    def answer(self, call: VendorCall) -> VendorReply:
        raise NotImplementedError

    def refusal(self, error: VendorError) -> VendorReply:
        raise NotImplementedError

    def penalty(self) -> VendorError:
        raise NotImplementedError

    def too_fast(self) -> VendorError:
        raise NotImplementedError

    def expire_access(self) -> None:
        """Every access token given until now is refused; nothing to do where there are none."""

    def fate(self, token: str) -> str:
        """The fate of a token: `dead`, `quiet`, `fail`, `busy`, `norig`, or "" for accepted."""
        return next(
            (word for word in ("dead", "quiet", "fail", "busy", "norig") if word in token), ""
        )

    # ---- the Simulator

    def handle(self, call: VendorCall) -> VendorReply:
        if self.faults.expire_access:  # a moment, not a state: tokens given from now on are good
            self.faults.expire_access = False
            self.expire_access()
        self.requests += 1
        self.record.count("requests")
        try:
            return self.answer(call)
        except VendorError as error:
            self.record.count("refused")
            self.record.count(f"refused_{error.code}")
            return self.refusal(error)

    def control(self, action: str, wanted: Mapping[str, Any]) -> Any:
        if action == "accounts":
            for one in wanted.get("accounts", [wanted] if wanted else []):
                self.register(one)
            return {
                "accounts": [
                    {"account": a.id, "rights": None if a.rights is None else sorted(a.rights)}
                    for a in self._registered()
                ]
            }
        if action == "limits":
            for name, value in wanted.items():
                if name not in self.limits:
                    raise ValueError(f"no such limit: {name}; there are {', '.join(self.limits)}")
                self.limits[name] = int(value)
            return self.limits
        if action == "guard":
            self._guard(bool(wanted.get("ban", self.ban)))
            return {"ban": self.ban}
        if action == "clock":
            self.calendar.set(wanted)
            now_ms = self.calendar.now_ms()
            return {"now_ms": now_ms, "day": self.calendar.day(), "hour": self.calendar.hour()}
        if action == "receipts":
            self.receipt_settings.update(wanted)
            return {"on": bool(self.receipt_settings["on"])}
        raise ValueError(
            f"no such action: {action}; there are accounts, limits, guard, clock, receipts, "
            "faults, stats, record"
        )

    def _registered(self) -> Iterable[VendorAccount]:
        return [account for account in self.accounts.values() if account.registered]

    def register(self, wanted: Mapping[str, Any]) -> VendorAccount:
        """KeyError without `account`. Repeated: the named fields are replaced."""
        account = self.account(str(wanted["account"]))
        account.registered = True
        if "secret" in wanted:
            account.secret = None if wanted["secret"] is None else str(wanted["secret"])
        if "rights" in wanted:
            account.rights = None if wanted["rights"] is None else frozenset(wanted["rights"])
        if "ban" in wanted:
            self._guard(bool(wanted["ban"]))
        account.details.update(
            {
                key: value
                for key, value in wanted.items()
                if key not in ("account", "secret", "rights", "ban")
            }
        )
        return account

    def _guard(self, ban: bool) -> None:
        self.ban = ban
        if not ban:
            for account in self.accounts.values():
                account.banned = False

    # ---- what the vendors' files use

    def account(self, account_id: str) -> VendorAccount:
        """The account; an unregistered one is created."""
        if account_id not in self.accounts:
            self.accounts[account_id] = VendorAccount(account_id)
        return self.accounts[account_id]

    def switched(self, name: str) -> bool:
        """True while the switch `over_quota` or `over_rate` is on, within its `only_first` hits."""
        if not getattr(self.faults, name):
            return False
        changes, strikes = self._strikes.get(name, (-1, 0))
        now = getattr(self.faults, "changes", 0)
        strikes = strikes + 1 if changes == now else 1
        self._strikes[name] = (now, strikes)
        return not self.faults.only_first or strikes <= self.faults.only_first

    def gate(self, account: VendorAccount, targets: int = 1) -> None:
        """Counts a send that arrived, and refuses it when the account is banned or too fast.
        Seconds are the clock's own.
        """
        now = int(time.time())
        window = self._windows.setdefault(account.id, [now, 0, 0])
        if window[0] != now:
            window[:] = [now, 0, 0]
        window[1] += targets
        window[2] += 1
        self.record.count("tokens", targets)
        self._maximum("per_second_max_targets", window[1])
        self._maximum("per_second_max_requests", window[2])
        if account.banned:
            raise self.penalty()
        limit = self.limits.get("per_second", 0)
        over = bool(limit) and window[1 if self.RATE_OF == "targets" else 2] > limit
        if self.switched("over_rate") or over:
            raise self.too_fast()

    def _maximum(self, name: str, value: int) -> None:
        self.record.counts[name] = max(self.record.counts.get(name, 0), value)

    def classed(self, account: VendorAccount, claimed: bool, right: str, *texts: Any) -> bool:
        """True when a message that claims a private class is sent as private.

        Raises the vendor's penalty when it is misclassed and `ban` is on.
        """
        if not claimed:
            return False
        allowed = account.may(right)
        advert = any(isinstance(text, str) and text.startswith(ADVERT) for text in texts)
        if allowed and not advert:
            return True
        self.record.count("misclassed")
        if self.ban:
            account.banned = True
            raise self.penalty()
        return allowed

    def failing(self, token: str, push_id: str | None, tries: int = 2) -> bool:
        """True for the first tries of this push at this token."""
        return self._tries.add("try", token, push_id) < tries

    def stumbles(self, tokens: Iterable[str], push_id: str | None) -> str:
        """For vendors that can't name one token of many: `fail` or `busy` when the whole request is
        to suffer for one of them.
        """
        found = ""
        for token in tokens:
            fate = self.fate(token)
            if fate == "fail" and self.failing(token, push_id):
                found = "fail"
            elif fate == "busy" and self.failing(token, push_id, 1):
                found = found or "busy"
        return found

    def accept(self, sending: VendorSending, token: str, **more: Any) -> None:
        """One line of the record."""
        line = {
            "vendor": sending.vendor or self.vendor,
            "account": sending.account.id,
            "token": token,
            "id": sending.push_id,
            "batch": sending.batch,
            "tokens_in_request": sending.tokens,
            "class": "private" if sending.private else "public",
            "body": sending.body,
            **sending.more,
            **more,
        }
        if sending.push_id is not None and self._seen.add(
            line["vendor"], sending.account.id, sending.push_id, token
        ):
            line["duplicate"] = True
            self.record.count("doubled")
        if "dropped" in line:
            self.record.count("dropped")
        self.record.accepted(**line)

    def new_id(self, prefix: str = "") -> str:
        """A message id of the vendor's own; no two alike."""
        return f"{prefix}{int(time.time() * 1000)}{self.requests:08d}{secrets.token_hex(4)}"

    def send_receipt(self, url: Any, body: bytes, headers: Mapping[str, str]) -> None:
        """url: the message's; the one of the settings wins."""
        wanted = self.receipt_settings.get("url") or url
        if self.receipt_settings.get("on") and isinstance(wanted, str) and wanted:
            self.receipts.post(wanted, body, headers)
