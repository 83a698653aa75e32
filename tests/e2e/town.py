"""A house whose core hands Tencent's callbacks on, in which Ann writes."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.model import Vendor
from tests.e2e.conftest import Core, now_ms
from tests.e2e.house import House

HELLO = [{"type": "text", "text": "hello"}]


class Town(House):
    """The callbacks name the tenant by its SdkAppid."""

    def __init__(self, core: Core, folder: Path, vendors: Sequence[str] = tuple(Vendor)) -> None:
        super().__init__(core, folder, "tencent", vendors)

    def callback(self, body: dict[str, Any], query: str | None = None) -> None:
        self._hand_on(body, {"q": f"SdkAppid={self.app}&contenttype=json&{query or ''}"})

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

    def of_ann(self, to: str | None, /, **more: Any) -> dict[str, Any]:
        """`data` of a native message.stored of hers; to: nobody named, for a group."""
        data = self.message("ann", to or "", **{"elements": HELLO, **more})
        if to is None and "recipients" not in more:
            del data["recipients"]
        return data
