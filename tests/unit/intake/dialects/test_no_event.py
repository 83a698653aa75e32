"""What gives no event, with the reason that is counted; and wrong types in a known command, which
are refused without showing the body.
"""

from typing import Any

import pytest

from tests.unit.intake.dialects.bodies import (
    c2c,
    fields_of,
    group,
    nim,
    nim_team,
    run,
    state,
    zego,
    zego_call,
)
from workers.intake.dialects import DialectError

#: `[body]` of a cloud: what stands in it otherwise -> why there is no event. "!": it is refused.
TABLE = r"""
[tencent state]
Info.Action=Login -> login
Info.Action=Login; KickedDevice=[{"Platform": "Fridge"}] -> no_platform
Info.Action=Disconnect -> not_a_logout
Info.Action=CustomStatusChange -> not_a_logout
Info.Action=Sleep -> unknown_command
[tencent nothing]
CallbackCommand=Group.CallbackAfterReadReceipt -> no_event
CallbackCommand=C2C.CallbackAfterModifyMsg -> no_event
CallbackCommand=Group.CallbackSendMsgException -> no_event
CallbackCommand=Push.AllMemberPush -> no_event
CallbackCommand=Guild.CallbackAfterParty -> unknown_command
CallbackCommand=Group.CallbackAfterRecallMsg; GroupId=g; Type=AVChatRoom -> room
CallbackCommand=Group.CallbackAfterRecallMsg; GroupId=g; MsgSeqList=[] -> nobody
- -> no_command!
CallbackCommand=C2C.CallbackAfterMsgReport; Report_Account=b; Peer_Account=a -> missing_field!
CallbackCommand=C2C.CallbackAfterMsgReport; Report_Account=b; Peer_Account=a; LastReadTime=0 -> out_of_range!
CallbackCommand=State.StateChange -> missing_field!
[tencent group]
Type=AVChatRoom -> room
Type=Live -> room
Type=Meeting -> room
Type=ChatRoom -> room
Type=BChatRoom -> room
MsgSeq=null -> missing_field!
[tencent c2c]
From_Account="" -> missing_field!
From_Account=5 -> wrong_type!
From_Account="\ud83c" -> not_unicode!
MsgKey=null -> missing_field!
MsgBody=null -> missing_field!
MsgBody=hi -> wrong_type!
MsgBody=["hi"] -> wrong_type!
MsgBody=[{"MsgType": "TIMTextElem", "MsgContent": {"Text": 5}}] -> wrong_type!
EventTime=noon -> wrong_type!
EventTime=-5 -> out_of_range!
EventTime=10000000000000000000000000000000000000000 -> out_of_range!
MsgTime=100000000000000000 -> out_of_range!
MsgLifeTime=-1 -> out_of_range!
OfflinePushInfo="{}" -> wrong_type!
OfflinePushInfo.PushFlag=2 -> wrong_type!
OfflinePushInfo.Title=["T"] -> wrong_type!
To_Account=[] -> out_of_range!

[zego message]
conv_type=1 -> room
conv_type=3 -> room
conv_type=9 -> unknown_conversation
send_result=660500005 -> send_failed
send_result=660500009 -> send_failed
msg_type=2 -> no_event
msg_type=20 -> no_event
conv_id=""; msg_id=""; user_list=[{"UserId": "bob", "MsgId": ""}] -> send_failed
event=bot_msg -> no_event
event=call_end -> unknown_command
conv_type=null -> missing_field!
msg_id="" -> missing_field!
conv_id="" -> missing_field!
from_user_id=null -> missing_field!
msg_body=["hi"] -> wrong_type!
msg_time=1.5 -> wrong_type!
pushConfig="{}" -> wrong_type!
pushConfig.title=5 -> wrong_type!
OfflinePush.Enable=2 -> wrong_type!
[zego call]
event=call_invite; inviter=ann; user_ids=[] -> nobody
event=call_timeout; user_ids=[] -> nobody
event=user_action; user_id=bob; action=0; os=WEB -> login
event=user_action; user_id=bob; action=2; os=WEB -> not_a_logout
event=user_action; user_id=bob; action=1; os=FRIDGE -> no_platform
event=user_action; user_id=bob; action=1 -> no_platform
event=call_create; caller=ann; user_ids=bob -> wrong_type!
event=call_create; caller=ann -> missing_field!
event=call_cancel; call_id=null -> missing_field!
event=null -> no_command!

[nim person]
antispam="true" -> blocked_by_cloud
blacklist=true -> blocked_by_cloud
convType=SPHERE -> unknown_conversation
to=null -> missing_field!
msgidServer="" -> missing_field!
fromNick=5 -> wrong_type!
msgTimestamp=noon -> wrong_type!
push_config="{}" -> wrong_type!
option.push=maybe -> wrong_type!
[nim team]
forcepushlist="[1]" -> wrong_type!
[nim nothing]
eventType="2"; accid=bob -> login
eventType="3"; accid=bob; clientType=AOS; logOutReason=2 -> not_a_logout
eventType=3; accid=bob; clientType=AOS -> not_a_logout
eventType=3; accid=bob; clientType=REST; logOutReason=1 -> no_platform
eventType="4" -> no_event
eventType="5"; channelId="1"; status=SUCCESS -> no_event
eventType="99" -> unknown_command
eventType="7"; from=ann; to=bob -> missing_field!
eventType=one -> wrong_type!
- -> no_command!
"""  # noqa: E501
BODIES: dict[str, dict[str, Any]] = {
    "tencent state": state("Login"),
    "tencent nothing": {},
    "tencent group": group(),
    "tencent c2c": c2c(),
    "zego message": zego(),
    "zego call": zego_call(""),
    "nim person": nim(),
    "nim team": nim_team(),
    "nim nothing": {},
}


def rows() -> dict[str, tuple[str, dict[str, Any], str]]:
    """Name -> cloud, body, reason."""
    found, usual = {}, ""
    for line in filter(None, TABLE.splitlines()):
        if line.startswith("["):
            usual = line.strip("[]")
            continue
        fields, _, reason = line.partition(" -> ")
        found[f"{usual} {fields}"] = (usual.split()[0], fields_of(fields, BODIES[usual]), reason)
    people = [str(n) for n in range(501)]
    found["tencent c2c, a batch of too many"] = ("tencent", c2c(To_Account=people), "out_of_range!")
    return found


ROWS = rows()
PASSED_OVER = {name: row for name, row in ROWS.items() if not row[2].endswith("!")}
REFUSED = {name: (*row[:2], row[2][:-1]) for name, row in ROWS.items() if row[2].endswith("!")}


@pytest.mark.parametrize(("cloud", "body", "reason"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_what_gives_no_event_says_why(cloud, body, reason):
    found = run(cloud, body)
    assert (found.events, found.ignored) == ((), reason)


@pytest.mark.parametrize(("cloud", "body", "reason"), REFUSED.values(), ids=REFUSED)
def test_wrong_types_in_a_known_command_are_refused_without_showing_the_body(cloud, body, reason):
    with pytest.raises(DialectError) as caught:
        run(cloud, body)
    assert caught.value.reason == reason
    assert not any(value in str(caught.value) for value in ("ann", "bob", "noon", "hi", "maybe"))
