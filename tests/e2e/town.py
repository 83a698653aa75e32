"""One tenant of the running fleet with an account of every vendor, for tests that speak as
Tencent's callbacks or as a core.
"""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.model import Vendor
from common.storage.tenants import Tenant
from tests.e2e import operator
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.tenant import FleetTenant, device_token
from workers.cli.demo import account
from workers.cli.demo_data import account_options


class Town(FleetTenant):
    """The tenant `app`; account `<vendor>-1` with every right, `<vendor>-0` without any. Each test
    takes people of its own.
    """

    def __init__(
        self,
        core: Core,
        folder: Path,
        options: dict[str, Any] | None = None,
        vendors: Sequence[str] = tuple(Vendor),
    ) -> None:
        super().__init__(core)
        self.folder = folder
        self.options = {
            str(vendor): given for vendor, given in account_options(folder) if vendor in vendors
        }
        core.runtime.tenants.add(
            Tenant(self.app, "Test chat", "zh", "Asia/Shanghai", options or {})
        )
        for vendor, given in self.options.items():
            core.runtime.credentials.add(
                account(Vendor(vendor), given, app=self.app, business_id=f"{vendor}-1")
            )
            core.runtime.credentials.add(
                account(Vendor(vendor), self.plain(vendor), app=self.app, business_id=f"{vendor}-0")
            )
        self.changed()

    def plain(self, vendor: str) -> list[str]:
        """Options of the account without rights, channels and templates."""
        given = self.options[vendor]
        pairs = zip(given[::2], given[1::2], strict=True)
        return [
            part
            for pair in pairs
            if pair[0] not in ("--right", "--channel", "--template")
            for part in pair
        ]

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

    def person(self, name: str = "u") -> str:
        return name + uuid.uuid4().hex[:8]

    def register(
        self,
        user: str,
        vendor: str = "apns",
        device: str = "phone",
        token: str | None = None,
        business_id: str | None = None,
        **more: Any,
    ) -> str:
        """Registers a device as the core does; its token."""
        return self.device(
            user, device, vendor, business_id or f"{vendor}-1", token, **{"lang": "zh", **more}
        )

    def callback(self, body: dict[str, Any], query: str = "") -> None:
        """Hands a callback of Tencent's on, as the core does, and waits until it was read."""
        fields: dict[Any, Any] = {
            "e": json.dumps(body, ensure_ascii=False),
            "d": "tencent",
            "q": f"SdkAppid={self.app}&contenttype=json&{query}",
        }
        self.core.redis.xadd("im:events", fields)
        self.core.settled()

    def c2c(self, to: str, text: str = "你好", sender: str = "ann", **more: Any) -> dict[str, Any]:
        """A body of C2C.CallbackAfterSendMsg, with the sender's block if one is given."""
        at = now_ms()
        key = f"{uuid.uuid4().int % 100000}_{uuid.uuid4().int % 10**9}_{at // 1000}"
        body = {
            "CallbackCommand": "C2C.CallbackAfterSendMsg",
            "From_Account": sender,
            "To_Account": to,
            "MsgSeq": 1,
            "MsgRandom": 7,
            "MsgTime": at // 1000,
            "MsgKey": key,
            "OnlineOnlyFlag": 0,
            "SendMsgResult": 0,
            "ErrorInfo": "send msg succeed",
            "UnreadMsgNum": 3,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}],
            "CloudCustomData": "",
            "EventTime": at,
        }
        return {**body, **more}

    def sent(self, body: dict[str, Any], rows: int = 1) -> dict[str, Any]:
        """Hands a one-to-one message on; its trace once every row is decided."""
        self.callback(body, "CallbackCommand=C2C.CallbackAfterSendMsg")
        return self.why(body["MsgKey"], rows)

    def say(self, to: str, text: str = "你好", **more: Any) -> dict[str, Any]:
        return self.sent(self.c2c(to, text, **more))

    def message(self, to: str | None, **more: Any) -> dict[str, Any]:
        """`data` of a native message.stored to one person."""
        words = [{"type": "text", "text": "hello"}]
        base = operator.message(to or "", "ann", elements=words)
        if to is None:
            del base["recipients"]
        return {**base, **more}


def decision(told: dict[str, Any]) -> str:
    """Of the event, or of its only row."""
    if told["decision"]:
        return str(told["decision"])
    (row,) = told["recipients"]
    return str(row["decision"])


__all__ = ["Town", "decision", "device_token", "now_ms", "wait_for"]
