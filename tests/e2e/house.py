"""One tenant of the running fleet with accounts of several vendors, for tests that speak as a
cloud's callbacks or as a core.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.model import Vendor
from common.storage.tenants import Tenant
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.operator import message, row_of
from tests.e2e.tenant import FleetTenant
from workers.cli.demo import account
from workers.cli.demo_data import account_options

#: vendor -> business id
BUSINESS = {"apns": "ios"} | {
    str(vendor): f"{vendor}-1" for vendor in Vendor if vendor != Vendor.APNS
}

#: Accounts whose lanes stand still from the start: so nobody waits until a pause takes effect.
HELD = 10


class House(FleetTenant):
    """With an account of every vendor with its rights, and two more of Apple's."""

    def __init__(self, core: Core, folder: Path, dialect: str = "native") -> None:
        super().__init__(core)
        self.dialect = dialect
        options = dict(account_options(folder))
        p8 = options[Vendor.APNS]
        runtime = core.runtime
        runtime.tenants.add(
            Tenant(
                self.app,
                "Test chat",
                "zh",
                "Asia/Shanghai",
                {"content_keys": {"quiet": "有人找你"}},
            )
        )
        for vendor, given in options.items():
            runtime.credentials.add(
                account(vendor, given, app=self.app, business_id=BUSINESS[vendor])
            )
        sandbox = [*p8[: p8.index("--env")], "--env", "sandbox"]
        runtime.credentials.add(account(Vendor.APNS, sandbox, app=self.app, business_id="ios-dev"))
        other = [*p8[: p8.index("--topic")], "--topic", "com.example.other", "--env", "production"]
        runtime.credentials.add(account(Vendor.APNS, other, app=self.app, business_id="ios-other"))
        self._p8, self._held, self._count = p8, list[str](), 0
        self._hold_more()
        self.changed()

    def _hold_more(self) -> None:
        for _ in range(HELD):
            self._count += 1
            name = f"held-{self._count}"
            credentials = self.core.runtime.credentials
            credentials.add(account(Vendor.APNS, self._p8, app=self.app, business_id=name))
            credentials.set_paused(self.app, Vendor.APNS, name, True)
            self._held.append(name)

    def register(
        self,
        user: str,
        device: str = "phone",
        vendor: str = "apns",
        token: str | None = None,
        **more: Any,
    ) -> str:
        business_id = more.pop("business_id", BUSINESS[vendor])
        return self.device(user, device, vendor, business_id, token, **more)

    def callback(self, body: dict[str, Any], query: str | None = None) -> None:
        """Hands a cloud's callback body on, as the core does, and waits until it was read."""
        fields: dict[Any, Any] = {
            "e": json.dumps(body, ensure_ascii=False),
            "d": self.dialect,
            "app": self.app,
        }
        self.core.redis.xadd("im:events", fields if query is None else {**fields, "q": query})
        self.core.settled()

    def message(self, sender: str, to: str, **more: Any) -> dict[str, Any]:
        """`data` of a plain message.stored of a chat of two."""
        words = [{"type": "text", "text": "the first words"}]
        return message(to, sender, **{"elements": words, **more})

    def decisions(self, message_id: str, rows: int = 1) -> dict[str, str]:
        return {row["user"]: row["decision"] for row in self.why(message_id, rows)["recipients"]}

    def decision(self, message_id: str) -> str:
        """Of the only recipient, or of the event where it was decided at intake."""
        told = self.why(message_id)
        return told["decision"] or self.one(told)["decision"]

    @staticmethod
    def one(told: dict[str, Any]) -> dict[str, Any]:
        (row,) = told["recipients"]
        return row

    def steps(self, message_id: str, user: str) -> list[str]:
        return [
            step["note"]
            for row in self.why(message_id, user=user)["recipients"]
            for step in row["steps"]
        ]

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
            self._hold_more()
            self.changed()
        name = self._held.pop()
        try:
            yield name
        finally:
            self.core.runtime.credentials.set_paused(self.app, Vendor.APNS, name, False)
            self.core.runtime.catalog.changed()

    def waiting(self, message_id: str) -> None:
        """Until the message's only push waits behind its lane."""
        row_of(
            self.core,
            self.app,
            {"message_id": message_id},
            lambda row: "waits" in row["steps"][-1]["note"],
            60,
        )


__all__ = ["House", "now_ms", "wait_for"]
