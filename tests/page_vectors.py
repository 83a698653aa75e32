"""The vectors of the vendors' pages (docs/vendors), each once: our vendor files are held to them,
and so are the clients that are written from the pages alone.
"""

import hashlib
from typing import Any


def digest(octets: str | bytes) -> tuple[int, str]:
    """(size, SHA-256), as a page gives them of a body."""
    raw = octets.encode() if isinstance(octets, str) else octets
    return len(raw), hashlib.sha256(raw).hexdigest()


# ---------------------------------------------------------------- Huawei, HarmonyOS, Honor

HUAWEI_V1 = (
    '{"validate_only":false,"message":{"android":{"category":"IM","ttl":"86400s","bi_tag":"m-1001","collapse_key":-1,"notification":'
    '{"title":"张三","body":"晚上一起吃饭吗？","click_action":{"type":3},"importance":"NORMAL","tag":"c2c-42","badge":{"add_num":1,'
    '"class":"com.example.im.MainActivity"}}},"token":["T1"]}}'
)
HUAWEI_V3 = (
    '{"payload":{"notification":{"category":"IM","title":"张三","body":"晚上一起吃饭吗？","clickAction":{"actionType":0,"data":'
    '{"conv":"c2c-42"}},"badge":{"addNum":1},"notifyId":42,"appMessageId":"m-1001","foregroundShow":false}},"target":{"token":'
    '["T1"]},"pushOptions":{"ttl":86400,"biTag":"m-1001","collapseKey":-1}}'
)
#: Of the key k1 and the sub account sub-1, at 1,700,000,000.
HUAWEI_JWT_DIGEST = (199, "0f1ea721a8d8440576aa6fd01de60ddc3a6a465b5c2a94442a5928954c49bf94")
HUAWEI_TOKEN_FORM = "grant_type=client_credentials&client_id=100000001&client_secret=a%2Bb%2Fc%3D"
HONOR_V1 = (
    '{"data":"{\\"conv\\":\\"c2c-42\\",\\"mid\\":\\"m-1001\\"}","android":{"ttl":"86400s","biTag":"m-1001","targetUserType":0,'
    '"notification":{"title":"张三","body":"晚上一起吃饭吗？","clickAction":{"type":3},"importance":"NORMAL","style":0,"notifyId":42,'
    '"tag":"c2c-42","badge":{"addNum":1,"badgeClass":"com.example.im.MainActivity"}}},"token":["H1"]}'
)

# ---------------------------------------------------------------- Xiaomi

XIAOMI_FORM = {
    "registration_id": "k8uROfAMl7Pr+VsoXt9i6Idv/9UDkQ==",
    "restricted_package_name": "com.example.im",
    "pass_through": "0",
    "notify_type": "-1",
    "notify_id": "1042",
    "time_to_live": "86400000",
    "title": "[好友消息]Li Hua",
    "description": "晚上一起吃饭吗？",
    "payload": '{"conv":"p2p_7","seq":42}',
    "extra.channel_id": "123456",
    "extra.notify_effect": "1",
    "extra.notify_foreground": "1",
    "extra.callback": "https://push.example.com/cb/xiaomi",
    "extra.callback.param": "m-1001-u7",
    "extra.callback.type": "17",
}
XIAOMI_FORM_DIGEST = (544, "6c98edd1408bedfbf22347f8f6f2f058334a12bffee61b4e934b538907fe351d")
XIAOMI_MULTI_DIGEST = (811, "e1ab26c476c45642d0836812d5939373694469949f4f7a2d4fbe3d68cde7e152")
#: Values of a template, and whether Xiaomi takes them.
XIAOMI_TEMPLATE_VALUES = {
    **dict.fromkeys(("吃了吗", "[图片]", "a→b", "x" * 128), True),
    **dict.fromkeys(("好的👌", "28℃", "°C", "№1", "★五星", "©2026", " ", "x" * 129), False),
}


def xiaomi_message(target: str, number: int) -> dict[str, Any]:
    """One of the two messages of the page's request of many."""
    message = {
        "title": f"t{number}",
        "description": f"d{number}",
        "notify_type": -1,
        "notify_id": number,
        "pass_through": 0,
        "restricted_package_name": "com.example.im",
        "time_to_live": 86400000,
        "payload": f"p{number}",
        "extra": {"channel_id": "123456", "notify_effect": "1"},
    }
    return {"target": target, "message": message}


# ---------------------------------------------------------------- OPPO

#: (app key, timestamp, master secret, sign)
OPPO_SIGNS = [
    (
        "exampleAppKey0001",
        1767225600000,
        "exampleMasterSecret0001",
        "f6e04ddbff5987f6e585747a191d28a3e604b2fafd1266e1bf2db867e56223a3",
    ),
    (
        "00112233445566778899aabbccddeeff",
        1735689600123,
        "ffeeddccbbaa99887766554433221100",
        "1b56143b08d99a57b08931bf83e465eb51d1ae554179aa73be5271fc64a40209",
    ),
]
OPPO_MESSAGE = (
    '{"target_type":2,"target_value":"CN_0123456789abcdef0123456789abcdef","verify_registration_id":true,"notification":'
    '{"app_message_id":"m-1001-u7","style":1,"title":"Li Hua","content":"晚上一起吃饭吗？",'
    '"click_action_type":0,"action_parameters":'
    '"{\\"conv\\":\\"p2p_7\\",\\"seq\\":42}","off_line":true,"off_line_ttl":86400,"category":"IM","notify_level":2}}'
)
_HEX = "b6bbd94b59cdb5df8391642c1509b7fe"
#: Registration ids and the host that each is sent to; None: what is none.
OPPO_REGIDS = {
    _HEX: "OPPO",
    f"CN_{_HEX}": "OPPO",
    f"OPPO_CN_{_HEX}": "OPPO",
    f"realme_IN_{_HEX}": "OPPO_INTL",
    f"OPPO_EUEX_{_HEX}": "OPPO_INTL",
    f"cn_{_HEX}": None,
    f"CN_{_HEX[:-1]}": None,
    f"CN-{_HEX}": None,
}

# ---------------------------------------------------------------- vivo

_APP = ("100000123", "0a1b2c3d4e5f60718293a4b5c6d7e8f9")
_SECRET = "11111111-2222-3333-4444-555555555555"
#: (app id, app key, timestamp, secret, sign)
VIVO_SIGNS = [
    (
        "10004",
        "25509283-3767-4b9e-83fe-b6e55ac6243e",
        1501484120000,
        "7265f2a4-ebbb-44bf-88b9-b03e67dfdc21",
        "fe3b46a2befc60334c2388676a752bd6",
    ),
    (*_APP, 1767225600000, _SECRET, "cd974e781ee60bee25713f50ca77d913"),
    (*_APP, 1767225600001, _SECRET, "79c31834a13335f23474d139a5298627"),
]

# ---------------------------------------------------------------- Meizu

MEIZU_IDS = (
    "S5Q4b726f5d4a7f6a4b7f5c5b6e5d7f5a6b4f5d6e7c",
    "S5Q4b726f5d4a7f6a4b7f5c5b6e5d7f5a6b4f5d6e7d",
)
MEIZU_MESSAGE = (
    '{"noticeBarInfo":{"noticeMsgType":1,"title":"张三","content":"你好，世界"},"clickTypeInfo":{"clickType":0},"pushTimeInfo":'
    '{"offLine":1,"validTime":24},"advanceInfo":{"notifyKey":"c2c_8F3a"},"extra":{"callback":"https://push.example.com/cb/meizu",'
    '"callback.param":"d=7f3a9c","callback.type":"3"}}'
)
_MEIZU_SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
_MEIZU_OWN = {
    "appId": "10000",
    "pushIds": "RA50c6348036344485d01776773577c64740465480a6b",
    "messageJson": '{"title":"title","content":"content","pushTimeInfo":{"offLine":1,"validTime":24}}',  # noqa: E501
}
_MEIZU_LIST = {"appId": "110001", "pushIds": ",".join(MEIZU_IDS), "messageJson": MEIZU_MESSAGE}
#: (form, secret, sign)
MEIZU_SIGNS = {
    "V1, Meizu's own": (_MEIZU_OWN, "<APP_SECRET>", "ac076ff25d9900015a681cb5172aa53b"),
    "V2": (_MEIZU_LIST, _MEIZU_SECRET, "cab3ac43d22dc28970da038e4f5fdbd3"),
    "V3, a GET": (
        {"appId": "110001", "pushId": MEIZU_IDS[0]},
        _MEIZU_SECRET,
        "9e87f455b64b5f458864bfcdfe53a050",
    ),
    "V4": (
        {"appId": "110001", "endTime": "20260102", "startTime": "20260101"},
        _MEIZU_SECRET,
        "314a80b9092d38bac47f32df5f52ceb1",
    ),
}
