"""One tenant of the running fleet with accounts of several vendors, for tests that speak as a cloud's callbacks or as a core."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.model import Vendor
from common.storage.tenants import Tenant
from tests.e2e.conftest import Core, digits, now_ms, wait_for
from tests.e2e.conftest import token as apns_token
from workers.cli.demo import account
from workers.cli.demo_world import account_options

PLATFORMS = {"apns": "ios", "harmony": "harmony"}
#: vendor -> business id
BUSINESS = {"apns": "ios"} | {str(vendor): f"{vendor}-1" for vendor in Vendor if vendor != Vendor.APNS}


def new_token(vendor: str) -> str:
    """A device token as the vendor's look, that its simulator takes."""
    if vendor == "apns":
        return apns_token()
    return f"CN_{digits()[:32]}" if vendor == "oppo" else f"live-{vendor}-{digits()[:32]}"


class House:
    """The tenant `app`. Every test takes people of its own from `people`, so that tests don't meet."""

    def __init__(self, core: Core, folder: Path, dialect: str = "native") -> None:
        self.core = core
        self.app = "t" + uuid.uuid4().hex[:10]
        self.dialect = dialect
        options = dict(account_options(folder))
        p8 = options[Vendor.APNS]
        runtime = core.runtime
        runtime.tenants.add(Tenant(self.app, "Test chat", "zh", "Asia/Shanghai", {"content_keys": {"quiet": "有人找你"}}))
        for vendor, given in options.items():
            runtime.credentials.add(account(vendor, given, app=self.app, business_id=BUSINESS[vendor]))
        sandbox = [*p8[: p8.index("--env")], "--env", "sandbox"]
        runtime.credentials.add(account(Vendor.APNS, sandbox, app=self.app, business_id="ios-dev"))
        other = [*p8[: p8.index("--topic")], "--topic", "com.example.other", "--env", "production"]
        runtime.credentials.add(account(Vendor.APNS, other, app=self.app, business_id="ios-other"))
        self.changed()

    def changed(self) -> None:
        """What an operator changed takes effect within 2 s."""
        self.core.runtime.catalog.changed()
        time.sleep(1.3)

    def people(self, count: int = 2) -> list[str]:
        return ["u" + uuid.uuid4().hex[:8] for _ in range(count)]

    def register(self, user: str, device: str = "phone", vendor: str = "apns", token: str | None = None, **more: Any) -> str:
        address = token or new_token(vendor)
        data = {"user": user, "device_id": device, "platform": PLATFORMS.get(vendor, "android"), "vendor": vendor, "token": address}
        self.event("device.registered", {**data, "business_id": BUSINESS[vendor], **more})
        return address

    def present(self, user: str, device: str, state: str) -> None:
        """As the core's gateways tell of a connection."""
        self.core.redis.hset(f"im:presence:{{{self.app}:{user}}}", device, f"{state}|ios|{int(time.time() * 1000) + 600_000}")

    def event(self, kind: str, data: dict[str, Any], *, ts: int | None = None, event_id: str | None = None) -> str:
        """Publishes a native event and waits until it was read."""
        identity = self.core.publish(kind, data, app=self.app, ts=ts, event_id=event_id)
        self.core.settled()
        return identity

    def callback(self, body: dict[str, Any], query: str | None = None) -> None:
        """Hands a cloud's callback body on, as the core does, and waits until it was read."""
        fields = {"e": json.dumps(body, ensure_ascii=False), "d": self.dialect, "app": self.app}
        self.core.redis.xadd("im:events", fields if query is None else {**fields, "q": query})
        self.core.settled()

    def message(self, sender: str, to: str, **more: Any) -> dict[str, Any]:
        """`data` of a plain message.stored of a chat of two."""
        base = {
            "message_id": "m-" + uuid.uuid4().hex,
            "conversation": {"type": "c2c", "id": sender},
            "sender": {"id": sender, "nick": "Ann"},
        }
        return {**base, "recipients": [to], "elements": [{"type": "text", "text": "the first words"}], **more}

    def send(self, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Publishes a message.stored; its story once every row is decided."""
        self.event("message.stored", data, **more)
        return self.why(data["message_id"])

    def why(self, message_id: str, rows: int = 1, user: str | None = None) -> dict[str, Any]:
        return self.core.why(message_id, self.app, rows=rows, user=user)

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

    def pushes(self, token: str, vendor: str = "apns") -> list[dict[str, Any]]:
        return self.core.pushes_to("huawei" if vendor == "harmony" else vendor, token)  # one simulator has both

    def push(self, token: str, vendor: str = "apns") -> dict[str, Any]:
        """The only push this token ever got."""
        (push,) = self.pushes(token, vendor)
        return push

    def alert(self, token: str) -> dict[str, Any]:
        return self.push(token)["body"]["aps"]["alert"]

    def steps(self, message_id: str, user: str) -> list[str]:
        return [step["note"] for row in self.why(message_id, user=user)["recipients"] for step in row["steps"]]

    def step(self, message_id: str, user: str, words: str) -> str:
        """The step whose note holds these words, once the ledger has it."""
        found = wait_for(lambda: [note for note in self.steps(message_id, user) if words in note], f"a step that says {words}")
        return str(found[0])

    @contextlib.contextmanager
    def paused(self, vendor: str = "apns") -> Iterator[None]:
        """The lane is stopped inside; afterwards it flows again."""
        credentials = self.core.runtime.credentials
        credentials.set_paused(self.app, vendor, BUSINESS[vendor], True)
        self.changed()
        try:
            yield
        finally:
            credentials.set_paused(self.app, vendor, BUSINESS[vendor], False)
            self.changed()

    def waiting(self, message_id: str) -> None:
        """Until the message's only push waits behind its lane."""

        def parked() -> bool:
            from workers.cli.why import story

            told = story(self.core.runtime, message_id, self.app, None, None)
            return bool(told and told["recipients"] and "waits" in told["recipients"][0]["steps"][-1]["note"])

        wait_for(parked, "the push is parked")


__all__ = ["House", "now_ms", "wait_for"]
