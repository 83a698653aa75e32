"""One tenant of the running fleet with accounts of several vendors, for tests that speak as a
cloud's callbacks or as a core.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.model import Vendor
from common.storage.tenants import Tenant
from tests.e2e import operator
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.tenant import FleetTenant
from workers.cli.demo import account
from workers.cli.demo_data import account_options

#: Accounts whose lanes stand still before a test asks for one, made at a time: so not every test
#: waits until a pause takes effect.
HELD = 10


def plain(options: Sequence[str]) -> list[str]:
    """Options of an account without rights, channels and templates."""
    pairs = zip(options[::2], options[1::2], strict=True)
    named = ("--right", "--channel", "--template")
    return [part for pair in pairs if pair[0] not in named for part in pair]


class House(FleetTenant):
    """With accounts of these vendors: `<vendor>-1` with every right, `<vendor>-0` without any, and
    two more of Apple's.
    """

    def __init__(
        self,
        core: Core,
        folder: Path,
        dialect: str = "native",
        vendors: Sequence[str] = tuple(Vendor),
    ) -> None:
        super().__init__(core)
        self.dialect, self._held = dialect, list[str]()
        self.options = {
            str(vendor): given for vendor, given in account_options(folder) if vendor in vendors
        }
        keys = {"content_keys": {"quiet": "有人找你"}}
        core.runtime.tenants.add(Tenant(self.app, "Test chat", "zh", "Asia/Shanghai", keys))
        for vendor, given in self.options.items():
            self._account(vendor, given, f"{vendor}-1")
            self._account(vendor, plain(given), f"{vendor}-0")
        p8 = self.options["apns"]
        self._account("apns", [*p8[: p8.index("--env")], "--env", "sandbox"], "ios-dev")
        other = [*p8[: p8.index("--topic")], "--topic", "com.example.other", "--env", "production"]
        self._account("apns", other, "ios-other")
        self.changed()

    def _account(self, vendor: str, options: Sequence[str], business_id: str) -> None:
        made = account(Vendor(vendor), list(options), app=self.app, business_id=business_id)
        self.core.runtime.credentials.add(made)

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Runs `pushfleet …` on this fleet: exit code, stdout, stderr."""
        return operator.cli(self.core, *arguments)

    def add(
        self, vendor: str, business_id: str, *more: str, given: Sequence[str] | None = None
    ) -> tuple[int, str, str]:
        """`pushfleet credential add`, with the options of the account with all rights unless others
        are given.
        """
        options = self.options[vendor] if given is None else given
        named = ("--app", self.app, "--business-id", business_id)
        return self.command("credential", "add", vendor, *named, *options, *more)

    def register(
        self,
        user: str,
        device: str = "phone",
        vendor: str = "apns",
        token: str | None = None,
        **more: Any,
    ) -> str:
        business_id = more.pop("business_id", f"{vendor}-1")
        return self.device(user, device, vendor, business_id, token, **more)

    def callback(self, body: dict[str, Any], query: str | None = None) -> None:
        """Hands a cloud's callback body on, as the core does, and waits until it was read."""
        self._hand_on(body, {"app": self.app} if query is None else {"app": self.app, "q": query})

    def _hand_on(self, body: dict[str, Any], fields: dict[Any, Any]) -> None:
        entry: dict[Any, Any] = {"e": json.dumps(body, ensure_ascii=False), "d": self.dialect}
        self.core.redis.xadd("im:events", {**entry, **fields})
        self.core.settled()

    def message(self, sender: str, to: str, /, **more: Any) -> dict[str, Any]:
        """`data` of a plain message.stored of a chat of two."""
        words = [{"type": "text", "text": "the first words"}]
        return operator.message(to, sender, **{"elements": words, **more})

    def decisions(self, message_id: str, rows: int = 1) -> dict[str, str]:
        return {row["user"]: row["decision"] for row in self.why(message_id, rows)["recipients"]}

    def decision(self, message_id: str) -> str:
        """Of the only recipient, or of the event where it was decided at intake."""
        return decision(self.why(message_id))

    @staticmethod
    def one(told: dict[str, Any]) -> dict[str, Any]:
        (row,) = told["recipients"]
        return row

    def steps(self, message_id: str, user: str) -> list[str]:
        rows = self.why(message_id, user=user)["recipients"]
        return [step["note"] for row in rows for step in row["steps"]]

    def step(self, message_id: str, user: str, words: str) -> str:
        """The step whose note holds these words, once the ledger has it."""
        found = wait_for(
            lambda: [note for note in self.steps(message_id, user) if words in note],
            f"a step that says {words}",
        )
        return str(found[0])

    @contextlib.contextmanager
    def paused(self) -> Iterator[str]:
        """The business id of an account of Apple's that nobody else uses: its lane is stopped
        inside, and flows two seconds later.
        """
        if not self._held:
            self._held = [f"held-{uuid.uuid4().hex[:6]}" for _ in range(HELD)]
            for name in self._held:
                self._account("apns", self.options["apns"], name)
                self.core.runtime.credentials.set_paused(self.app, Vendor.APNS, name, True)
            self.changed()
        name = self._held.pop()
        try:
            yield name
        finally:
            self.core.runtime.credentials.set_paused(self.app, Vendor.APNS, name, False)
            self.core.runtime.catalog.changed()

    def waiting(self, message_id: str) -> None:
        """Until the message's only push waits behind its lane."""
        asked = {"message_id": message_id}
        operator.row_of(
            self.core, self.app, asked, lambda row: "waits" in row["steps"][-1]["note"], 60
        )


def decision(told: dict[str, Any]) -> str:
    """Of the event, or of its only row."""
    return str(told["decision"] or House.one(told)["decision"])


__all__ = ["House", "decision", "now_ms", "wait_for"]
