"""Each field of a cloud's push block and its canonical place and value: the rows of im-dialects §2
to §4.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.intake.dialects.bodies import (
    at,
    c2c,
    fields_of,
    group,
    nim_team,
    pairs_of,
    push_of,
    run,
    zego,
)

#: `[cloud block]` and what stands in each block; field=value; ... -> place=value; ...
#: A value is JSON, a text without its quotes, `-` where there is none, or a letter so many times.
PLACES = r"""
[tencent]
MsgLifeTime=600 -> ttl_s=600
MsgLifeTime=10000000 -> ttl_s=604800
MsgLifeTime=0 -> gate.online_only=true
OnlineOnlyFlag=1 -> gate.online_only=true
SendMsgControl=["NoUnread"] -> badge.counts_unread=false
SendMsgControl=["NoLastMsg"] -> gate.respect_dnd=false
SendMsgControl=["NoMsgCheck", "WithMuteNotifications"] -> gate.respect_dnd=true
nothing -> gate.respect_dnd=-
CloudCustomData="{}" -> data=-
vendorParams.fcmPriority=high -> vendor.fcm.priority=high
V2TIMPushInfo=null -> gate.enabled=false
OfflinePushInfo=null -> gate.enabled=true
nothing -> gate.enabled=true
OfflinePushInfo.Title=A; offlinePushInfo.title=B -> display.title=A
[tencent OfflinePushInfo.AndroidInfo]
PushStyle=1 -> vendor.huawei.style=1; vendor.honor.style=1; vendor.oppo.style=1
PushStyle=0 -> vendor=-
ExtAsHuaweiIntentParam=1 -> vendor.huawei.ext_as_intent=true
OPPOPrivateContentParameters.a=b -> template.oppo.content_params="{\"a\":\"b\"}"
VIVOAddBadge=1 -> vendor.vivo.add_badge=true
Sound=ring -> sound.android=ring
HuaWeiChannelID=c -> vendor.huawei.channel_id=c
HuaWeiImportance=LOW -> vendor.huawei.importance=LOW
HuaWeiCategory=VOIP -> vendor.huawei.category=VOIP
HuaWeiImage=https://a.io/b -> image.huawei=https://a.io/b
HonorImportance=NORMAL -> vendor.honor.importance=NORMAL
HonorImage=https://a.io/b -> image.honor=https://a.io/b
XiaoMiChannelID="104501" -> vendor.xiaomi.channel_id="104501"
OPPOChannelID=im -> vendor.oppo.channel_id=im
OPPOCategory=IM -> vendor.oppo.category=IM
OPPONotifyLevel=16 -> vendor.oppo.notify_level=16
OPPOPrivateMsgTemplateId=t -> template.oppo.id=t
OPPOPrivateTitleParameters="{\"a\":\"b\"}" -> template.oppo.title_params="{\"a\":\"b\"}"
VIVOClassification=0 -> vendor.vivo.classification=0
VIVOCategory=IM -> vendor.vivo.category=IM
MeiZuNoticeMsgType=1 -> vendor.meizu.notice_msg_type=1
GoogleChannelID=g -> vendor.fcm.channel_id=g
GoogleImage=https://a.io/b -> image.fcm=https://a.io/b
[tencent OfflinePushInfo.ApnsInfo]
Sound=push.no_sound -> sound.ios=none
Sound=default -> sound=-
BadgeMode=0 -> vendor=-
BadgeMode=1 -> vendor.apns.badge=keep
MutableContent=1 -> vendor.apns.mutable_content=true
Sound=ring.caf -> sound.ios=ring.caf
Title=iOS only -> vendor.apns.title=iOS only
SubTitle=s -> display.subtitle=s
Image=https://a.io/b -> image.ios=https://a.io/b
InterruptionLevel=time-sensitive -> vendor.apns.interruption_level=time-sensitive
[tencent OfflinePushInfo]
PushFlag=0 -> gate.enabled=true
PushFlag=1 -> gate.enabled=false
vendorParams.oppoTitleParam.k=v -> template.oppo.title_params="{\"k\":\"v\"}"
vendorParams="{\"oppoContentParam\":\"{}\"}" -> template.oppo.content_params="{}"
disablePush=true -> gate.enabled=false
ignoreIOSBadge=true -> vendor.apns.badge=keep
iOSPushType=1 -> push_type=voip
iOSPushType=0 -> push_type=-
iOSPushType=1; disableVoipPush=true -> push_type=-
enableIOSBackgroundNotification=true -> vendor.apns.push_type=silent
ignoreHarmonyBadge=true -> vendor.harmony.badge=false
Title=T -> display.title=T
Desc=D -> display.body=D
Ext="{\"a\":1}" -> data.ext="{\"a\":1}"
vendorParams.vivoNotifyType=2 -> vendor.vivo.notify_type=2
vendorParams.oppoTemplateId=t -> template.oppo.id=t
title=T -> display.title=T
desc=D -> display.body=D
ext=E -> data.ext=E
iOSSound=phone_ringing.mp3 -> sound.ios=phone_ringing.mp3
iOSInterruptionLevel=passive -> vendor.apns.interruption_level=passive
iOSImage=https://a.io/b -> image.ios=https://a.io/b
AndroidSound=phone_ringing -> sound.android=phone_ringing
AndroidOPPOChannelID=c -> vendor.oppo.channel_id=c
AndroidOPPOCategory=IM -> vendor.oppo.category=IM
AndroidOPPONotifyLevel=2 -> vendor.oppo.notify_level=2
AndroidFCMChannelID=c -> vendor.fcm.channel_id=c
AndroidFCMImage=https://a.io/b -> image.fcm=https://a.io/b
AndroidXiaoMiChannelID=c -> vendor.xiaomi.channel_id=c
AndroidVIVOClassification=1 -> vendor.vivo.classification=1
AndroidVIVOCategory=IM -> vendor.vivo.category=IM
AndroidHuaWeiCategory=IM -> vendor.huawei.category=IM
AndroidHuaWeiImage=https://a.io/b -> image.huawei=https://a.io/b
AndroidHonorImportance=LOW -> vendor.honor.importance=LOW
AndroidHonorImage=https://a.io/b -> image.honor=https://a.io/b
AndroidMeizuNotifyType=0 -> vendor.meizu.notice_msg_type=0
HarmonyImage=https://a.io/b -> image.harmony=https://a.io/b
HarmonyCategory=IM -> vendor.harmony.category=IM
[tencent offlinePushInfo]
disableVoipPush=true -> push_type=-
disableVoipPush=false -> push_type=voip
apnsInfo.disableVoipPush=false -> push_type=voip
disableVoipPush=true; apnsInfo.disableVoipPush=false -> push_type=-
disablePush=true -> gate.enabled=false
title=T -> display.title=T
description=D -> display.body=D
extension="{\"entity\":{\"nick\":\"n\"}}" -> data.ext="{\"entity\":{\"nick\":\"n\"}}"
apnsInfo.sound=push.no_sound -> sound.ios=none
apnsInfo.ignoreIOSBadge=true -> vendor.apns.badge=keep
androidInfo.sound=ring -> sound.android=ring
androidInfo.OPPOChannelID=c -> vendor.oppo.channel_id=c
androidOPPOChannelID=c -> vendor.oppo.channel_id=c
[tencent V2TIMPushInfo]
title=T -> display.title=T
desc=D -> display.body=D
clickPayload=E -> data.ext=E
notification="{\"fcmPriority\":\"normal\"}" -> vendor.fcm.priority=normal

[zego]
nothing -> gate.enabled=false
pushConfig=null -> gate.enabled=false
pushConfig={} -> gate.enabled=true
OfflinePush.Enable=0 -> gate.enabled=false
OfflinePush.Title=T -> gate.enabled=false
SendMsgOptions.NoUnread=1 -> badge.counts_unread=false
PushType=0 -> gate.online_only=true
PushType=1 -> gate.audience=online_and_offline
PushType=2 -> gate.audience=all_with_token
payload=quote; pushConfig={} -> data=-
[zego OfflinePush] Enable=1
nothing -> gate.enabled=true
PushImageInfo.Android.FCM.Image=https://a.io/b; PushImageInfo.Android.FCM.Icon=https://x -> image.fcm=https://a.io/b
EnableBadge=true; BadgeIncrement=2 -> badge.mode=increment
EnableBadge=false; BadgeIncrement=2 -> badge={"mode": "none"}
EnableBadge=1; BadgeIncrement=2 -> badge.increment=2
EnableBadge=1 -> badge.increment=0
EnableBadge=1; BadgeIncrement=100 -> badge.increment=99
EnableBadge=1; BadgeIncrement=-1 -> badge.increment=0
Title=T -> display.title=T
Content=C -> display.body=C
Payload=P -> data.ext=P
PushStrategyId=s -> strategy_id=s
PushImageInfo.Apns.Image=https://a.io/b -> image.ios=https://a.io/b
PushImageInfo.Android.HuaWei.Image=https://a.io/b -> image.huawei=https://a.io/b
PushImageInfo.Android.HuaWei.Icon=https://a.io/b -> image.huawei=https://a.io/b
PushImageInfo.Android.FCM.Icon=https://a.io/b -> image.fcm=https://a.io/b
PrivateMessageTemplate.TemplateId=t -> template.oppo.id=t
PrivateMessageTemplate.TitleParameters="{}" -> template.oppo.title_params="{}"
PrivateMessageTemplate.ContentParameters="{}" -> template.oppo.content_params="{}"
ThreadId=th -> thread_id=th
[zego pushConfig]
title="" -> display.title=-
enableBadge=true; badgeIncrement=1 -> badge={"mode": "increment", "increment": 1}
badgeIncrement=1 -> badge={"mode": "none"}
voIPConfig={} -> push_type=voip
content=C -> display.nick_prefix=off
title=T -> display.title=T
content=C -> display.body=C
payload=P -> data.ext=P
extendedData=old -> data.ext=old
resourcesID=r*32 -> strategy_id=r*32
threadID=th -> thread_id=th
voIPConfig.iOSVoIPHandleType=2 -> vendor.apns.voip.handle_type=2
voIPConfig.iOSVoIPHandleValue=v -> vendor.apns.voip.handle=v
voIPConfig.iOSVoIPHasVideo=true -> vendor.apns.voip.video=true
privateMessageTemplate.templateID=t -> template.oppo.id=t
privateMessageTemplate.titleParameters="{}" -> template.oppo.title_params="{}"
privateMessageTemplate.contentParameters="{}" -> template.oppo.content_params="{}"

[nim]
nothing -> gate.enabled=true; display.body=发来了一条消息; display.nick_prefix=on
option="{\"push\":false}" -> gate.enabled=false
pushcontent=P -> display.body=P
pushcontent=字*501 -> display.body=字*500
pushcontent="" -> display.body=发来了一条消息
ext="{}" -> data=-
forcepushlist="[\"bob\"]" -> force.all=false; force.ids=["bob"]
forcepushlist=["bob"] -> force.ids=["bob"]
forcepushlist="[]" -> force=-
forcepushall="true" -> force={"on": true, "all": true}
forcepushall="false" -> force=-
forcepushall=true; forcepushcontent=F -> force.body=F
forcepushcontent=F -> force=-
isForcePush=true; forcePushAll=true; forcePushContent=F -> force.all=true; force.body=F
isForcePush=false; forcePushAll=true -> force=-
isForcePush=true; forcePushList="[\"bob\"]" -> force.ids=["bob"]
bid=x -> gate.enabled=true
checkFriend="true" -> gate.require_friend=true
msgReceiverNoSense=1; option.push=true -> gate.enabled=false
msgSenderNoSense=1 -> gate.enabled=true
env=x -> gate.enabled=true
sound=ring.caf -> sound.ios=ring.caf
save=1 -> gate.online_only=true
save="2" -> gate.online_only=-
message_config.unread_enabled=false -> badge.counts_unread=false
message_config.offline_enabled=false -> gate.store_offline=false
p2p_option.check_friend=true -> gate.require_friend=true
receiver_no_sense=true -> gate.enabled=false
pushcontent=A; push_config.push_content=B -> display.body=A
payload.k=1 -> data.payload={"k": 1}
[nim option]
push=false -> gate.enabled=false
badge=false -> badge={"counts_unread": false, "mode": "keep"}
badge=true -> badge={"counts_unread": true}
needPushNick=false -> display.nick_prefix=off
persistent=false -> gate.store_offline=false
roam=true; history=true; sendersync=true; route=true; sessionUpdate=true -> gate.enabled=true
[nim push_config]
push_enabled=false -> gate.enabled=false
push_nick_enabled=false -> display.nick_prefix=off
push_content=P -> display.body=P
push_payload="{\"k\":1}" -> data.payload={"k": 1}
push_badge_enabled=false -> badge.mode=keep
push_forcepush_enable=true; push_forcepush_all=true -> force={"on": true, "all": true}
push_forcepush_enable=false; push_forcepush_all=true -> force=-
push_forcepush_enable=true; push_forcepush_ids=["bob"] -> force.all=false; force.ids=["bob"]
push_forcepush_enable=true; push_forcepush_all=true; push_forcepush_content=F -> force.body=F
[nim pushConfig]
pushEnabled=false -> gate.enabled=false
pushNickEnabled=false -> display.nick_prefix=off
pushContent=P -> display.body=P
pushPayload.pushTitle=T -> display.title=T
forcePush=true -> force={"on": true, "all": true}
forcePush=true; forcePushAccountIds=[] -> force={"on": true, "all": false, "ids": []}
forcePush=true; forcePushAccountIds=["bob"] -> force.ids=["bob"]
forcePush=true; forcePushContent=F -> force.body=F
forcePushAccountIds=["bob"] -> force=-
[nim pushInfo]
needPush=false -> gate.enabled=false
pushContent=P -> gate.enabled=true
needPushBadge=false -> badge.mode=keep
needPushNick=false -> display.nick_prefix=off
needForcePush=true -> force={"on": true, "all": true}
needForcePush=true; forcePushIDsList=#%@all@%# -> force={"on": true, "all": true}
needForcePush=true; forcePushIDsList="[\"bob\"]" -> force.ids=["bob"]
needForcePush=true; forcePushContent=x*151 -> force.body=x*150
[nim payload as text]
pushTitle=T -> display.title=T
apsField.sound=s -> vendor_raw.apns={"aps": {"sound": "s"}}
hwField.category=IM -> vendor_raw.huawei={"notification": {"category": "IM"}}
hwPassThroughField.data=d -> vendor_raw.huawei={"message": {"data": "d"}}
honorField.ttl=60s -> vendor_raw.honor={"android": {"ttl": "60s"}}
honorPassThroughField.data=d -> vendor_raw.honor={"message": {"data": "d"}}
vivoField.classification=1 -> vendor_raw.vivo={"classification": 1}
oppoField.channel_id=im -> vendor_raw.oppo={"channel_id": "im"}
fcmField.tag=t -> vendor_raw.fcm={"notification": {"tag": "t"}}
fcmFieldV1.image=i -> vendor_raw.fcm_v1={"image": "i"}
harmonyField.category=IM -> vendor_raw.harmony={"category": "IM"}
channel_id="1"; notify_foreground=0 -> vendor_raw.xiaomi.extra.notify_foreground="0"
clickTypeInfo.parameters.k=v -> vendor_raw.meizu={"parameters": {"k": "v"}}
sessionId=s; deep.a=[1] -> data.payload={"sessionId": "s", "deep": {"a": [1]}}
"""
Body = Callable[..., dict[str, Any]]
BODIES: dict[str, tuple[Body, ...]] = {"tencent": (c2c, group), "zego": (zego,), "nim": (nim_team,)}


def block_of(name: str, text: str) -> dict[str, Any]:
    """The fields in the block of this dotted name."""
    if name == "payload as text":
        return {"payload": json.dumps(fields_of(text))}
    body = fields_of(text)
    for step in reversed(name.split(".") if name else []):
        body = {step: body}
    return body


def rows() -> dict[str, tuple[str, dict[str, Any], list[tuple[str, Any]]]]:
    """Name -> cloud, what the body holds besides, place and value of each of its fields."""
    found, cloud, block, usual = {}, "", "", ""
    for line in filter(None, PLACES.splitlines()):
        if line.startswith("["):
            names, _, usual = line[1:].partition("]")
            cloud, _, block = names.partition(" ")
            continue
        fields, _, places = line.partition(" -> ")
        extra = block_of(block, f"{usual}; {fields}")
        found[f"{cloud} {block} {fields}"] = (cloud, extra, pairs_of(places))
    return found


ROWS = rows()


@pytest.mark.parametrize(("cloud", "extra", "places"), ROWS.values(), ids=ROWS)
def test_each_push_field_has_its_canonical_place(cloud, extra, places):
    for body in BODIES[cloud]:
        push = push_of(cloud, body(**extra))
        assert [(place, at(push, place)) for place, _ in places] == places
        assert run(cloud, body(**extra)).unknown_fields == 0


EMPTY = [
    ("tencent", "OfflinePushInfo"),
    ("tencent", "V2TIMPushInfo"),
    ("tencent", "SendMsgControl"),
    ("tencent", "GroupAtInfo"),
    ("zego", "pushConfig"),
    ("zego", "SendMsgOptions"),
    ("nim", "push_config"),
    ("nim", "message_config"),
]


@pytest.mark.parametrize(("cloud", "field"), EMPTY)
def test_an_empty_text_in_place_of_a_block_or_a_list_is_none(cloud, field):
    for body in BODIES[cloud]:
        assert push_of(cloud, body(**{field: ""})) == push_of(cloud, body())
