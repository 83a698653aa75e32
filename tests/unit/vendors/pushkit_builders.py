"""Notes, request batches and accounts for the tests of Huawei, HarmonyOS and Honor."""

from typing import Any

from common.contracts import Notification
from common.model import Vendor
from tests.simulator_keys import pem_of, rsa_key
from tests.unit.vendors import cases
from workers.vendors.types import AccessToken, Credential, Outcome, PushItem, RequestBatch

PUSH_ID = "0123456789abcdef0123456789abcdef"
NOW_MS = 1_748_793_600_000  # 2025-06-01T16:00:00Z
ACCESS = AccessToken("access-1", NOW_MS + 1, NOW_MS + 2)

_KEY = rsa_key()
PRIVATE_PEM = pem_of(_KEY)
PUBLIC_KEY = _KEY.public_key()


def note(**over: Any) -> Notification:
    usual = {
        "body": "晚上一起吃饭吗？",
        "message_id": "m-1001",
        "collapse_id": "m-1001",
        "conversation_id": "c2c-42",
    }
    return cases.note(**{**usual, **over})


def item(token: str = "T1", note_: Notification | None = None, **over: Any) -> PushItem:
    """met: (status, code) of each attempt before."""
    return cases.item(note_ or note(), token, **{"push_id": PUSH_ID, **over})


def batch(*tokens: str, note_: Notification | None = None, **over: Any) -> RequestBatch:
    shared = note_ or note()
    return RequestBatch(tuple(item(token, shared, **over) for token in tokens or ("T1",)), NOW_MS)


def credential(vendor: Vendor, *rights: str, **options: str) -> Credential:
    usual, secrets = {
        Vendor.HUAWEI: ({"app_id": "100000001"}, {"app_secret": "a+b/c="}),
        Vendor.HARMONY: (
            {"project_id": "p1", "key_id": "k1", "sub_account": "sub-1"},
            {"private_key": PRIVATE_PEM},
        ),
        Vendor.HONOR: ({"app_id": "1040000001", "app_key": "100000001"}, {"app_secret": "a+b/c="}),
    }[vendor]
    return Credential("demo", vendor, "b1", 1, {**usual, **options}, secrets, frozenset(rights))


def brief(outcome: Outcome) -> tuple[Any, ...]:
    """(verdict, again, attempts_max, alarm): what a row of a test's table says."""
    return outcome.verdict, outcome.again, outcome.attempts_max, outcome.alarm
