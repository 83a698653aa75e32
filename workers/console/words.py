"""The console's words in English and Chinese. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("en", "zh")

WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "overview": ("Overview", "概览"),
    "messages": ("Messages", "消息"),
    "lanes": ("Lanes", "通道"),
    "letters": ("Dead letters", "死信"),
    "login": ("Log in", "登录"),
    "logout": ("Log out", "退出"),
    "name": ("Name", "用户名"),
    "password": ("Password", "密码"),
    "wrong_login": ("Name or password is wrong.", "用户名或密码错误。"),
    "slow_down": ("Too many tries. Wait a minute.", "尝试次数过多，请一分钟后再试。"),
    "nobody_yet": (
        "Nobody can log in yet. On the server: pushfleet user add NAME --role operator",
        "尚无可登录的用户。请在服务器上执行：pushfleet user add NAME --role operator",
    ),
    "open_mode": (
        "Open for reading: nobody is registered and only this machine can reach it. To act: pushfleet user add NAME --role operator",
        "尚无用户且仅本机可访问，因此只读开放。如需操作：pushfleet user add NAME --role operator",
    ),
    "as": ("as", "角色"),
    "viewer": ("viewer", "只读"),
    "operator": ("operator", "运维"),
    "admin": ("admin", "管理员"),
    "now": ("as of {at}", "截至 {at}"),
    "all_well": ("All is flowing.", "一切正常。"),
    "look_at": ("{count} to look at", "{count} 项需要处理"),
    "problem_lane": ("{lane} is stopped for {age}: {why}", "{lane} 已停止 {age}：{why}"),
    "problem_paused": ("{lane} is paused by an operator", "{lane} 已被人工暂停"),
    "problem_guard": (
        "{lane}: too many tokens were told dead at once, none is retired",
        "{lane}：短时间内失效令牌过多，已停止清退",
    ),
    "problem_belt": ("{queue} is {age} behind", "{queue} 积压已 {age}"),
    "problem_letters": ("dead letters: {count}", "{count} 条死信"),
    "problem_quota": ("{lane}: {used} of today's {limit} {bucket} pushes are used", "{lane}：今日 {bucket} 配额已用 {used} / {limit}"),
    "problem_spent": (
        "{lane}: today's {bucket} quota of {limit} is spent, pushes of it are refused",
        "{lane}：今日 {bucket} 配额 {limit} 已用尽，该类推送会被拒绝",
    ),
    "help_with": ("what helps:", "处理方法："),
    "problem_process": ("no {stage} process is alive", "没有存活的 {stage} 进程"),
    "problem_expires": ("{lane}: the credential expires {at}", "{lane}：凭证将于 {at} 到期"),
    "problem_expired": ("{lane}: the credential has expired", "{lane}：凭证已过期"),
    "events_in": ("Events in", "事件流入"),
    "last_minute": ("last minute", "最近一分钟"),
    "last_hour": ("last hour", "最近一小时"),
    "too_many": ("too many to count now", "数量过大，暂不统计"),
    "accepted_hour": ("Accepted by vendors, last hour", "最近一小时厂商已接收"),
    "waiting": ("Waiting", "等待中"),
    "processes": ("Processes alive", "存活进程"),
    "backlog": ("Backlog", "积压"),
    "queue": ("Queue", "队列"),
    "entries": ("Entries", "条目"),
    "oldest": ("Oldest", "最早"),
    "decisions_hour": ("Decisions of the last hour", "最近一小时的结果"),
    "vendor": ("Vendor", "厂商"),
    "no_vendor": ("none", "无"),
    "decision": ("Decision", "结果"),
    "count": ("Count", "数量"),
    "nothing_hour": ("Nothing was decided in the last hour.", "最近一小时没有结果。"),
    "app": ("App", "应用"),
    "business_id": ("Business id", "证书 ID"),
    "env": ("Environment", "环境"),
    "state": ("State", "状态"),
    "rate": ("Rate", "速率"),
    "rate_slowed": ("{now} of {full}/s", "{now}（上限 {full}）/s"),
    "parked": ("Parked", "暂存"),
    "quota": ("Quota today", "今日配额"),
    "unlimited": ("no limit", "不限"),
    "runs_out": ("runs out {at}", "预计 {at} 用尽"),
    "guard": ("Token guard", "清退保护"),
    "guard_stopped": ("stopped", "已触发"),
    "guard_calm": ("calm", "正常"),
    "people": ("People", "用户"),
    "devices": ("Devices", "设备"),
    "no_devices": ("No device is registered.", "没有已注册的设备。"),
    "presence_now": ("Presence now", "当前在线状态"),
    "not_connected": ("not connected", "未连接"),
    "settings_now": ("Settings in force", "生效的设置"),
    "last_pushes": ("Last pushes", "最近的推送"),
    "no_pushes": ("None in the last two days.", "最近两天没有。"),
    "took_too_long": ("Too many rows to look through now.", "数据量过大，暂不统计。"),
    "retire": ("Retire", "停用"),
    "restore": ("Restore", "恢复"),
    "registered": ("Registered", "注册时间"),
    "version": ("Version", "版本"),
    "by_reason": ("By reason", "按原因"),
    "first_seen": ("First", "最早"),
    "last_seen": ("Last", "最近"),
    "replay_all": ("Replay all", "全部重试"),
    "drop_all": ("Drop all", "全部丢弃"),
    "done_dropped": ("The letters were dropped.", "死信已丢弃。"),
    "done_part": ("Only a part was done in the time of a page; press again for the rest.", "本次只处理了一部分，请再次点击处理其余。"),
    "done_device": ("The device was changed.", "设备状态已更改。"),
    "since": ("for {age}", "已 {age}"),
    "history": ("Last changes", "最近变化"),
    "flowing": ("flowing", "畅通"),
    "probing": ("probing", "试探"),
    "stopped": ("stopped", "停止"),
    "paused": ("paused", "暂停"),
    "pause": ("Pause", "暂停"),
    "resume": ("Resume", "恢复"),
    "no_lane": ("No credential yet: pushfleet credential add", "尚无凭证：pushfleet credential add"),
    "message_id": ("Message or call id", "消息或通话 ID"),
    "user": ("User", "用户"),
    "optional": ("optional", "可选"),
    "search": ("Search", "查询"),
    "not_known": (
        "Nothing is known of it: not published, not read yet, or older than the ledger keeps.",
        "没有找到：未发布、尚未读取，或已超出保留期。",
    ),
    "received": ("received", "接收于"),
    "decided_intake": ("Decided at intake", "在接入时已决定"),
    "recipients": ("{count} recipients and devices", "{count} 个接收者与设备"),
    "first_only": (
        "The first {count} are shown. Name the user to see theirs.",
        "仅显示前 {count} 条。填写用户可查看其结果。",
    ),
    "no_decision": ("waiting", "等待中"),
    "no_recipient": ("No recipient is decided yet.", "尚无接收者结果。"),
    "event": ("event", "事件"),
    "device": ("Device", "设备"),
    "no_device_named": ("no device", "无设备"),
    "class": ("Class", "分类"),
    "downgraded": ("sent as {sent}, downgraded", "降级为 {sent} 发送"),
    "push_id": ("Push id", "推送 ID"),
    "stage_intake": ("intake", "接入"),
    "stage_presence": ("presence", "在线判断"),
    "stage_routing": ("routing", "路由"),
    "stage_delivery": ("delivery", "投递"),
    "stage_attempt": ("attempt", "尝试"),
    "stage_receipt": ("receipt", "回执"),
    "at": ("At", "时间"),
    "stage": ("Stage", "阶段"),
    "reason": ("Reason", "原因"),
    "replay": ("Replay", "重放"),
    "no_letter": ("No dead letter.", "没有死信。"),
    "letters_cli": (
        "Mend the cause, then replay. Their content is shown on the server only:",
        "请先排除原因，再重放。内容仅可在服务器上查看：",
    ),
    "letters_more": ("The newest {count} are shown.", "仅显示最新的 {count} 条。"),
    "done_paused": ("The lane is paused; its pushes wait while their time allows.", "通道已暂停，推送将在有效期内等待。"),
    "done_resumed": ("The lane flows again.", "通道已恢复。"),
    "done_replayed": ("The letter was replayed.", "死信已重放。"),
    "gone": ("It is not there any more.", "已不存在。"),
    "not_replayable": ("It could not be kept whole: publish it anew.", "内容不完整，请重新发布。"),
    "not_allowed": ("Your role does not allow this.", "当前角色无权操作。"),
    "not_ours": ("The form is not from this session. Load the page again.", "表单已失效，请刷新页面。"),
    "not_found": ("There is no such page.", "页面不存在。"),
    "server_away": (
        "A server can't be reached ({name}). Pushes wait meanwhile; on the server: pushfleet doctor",
        "无法连接服务器（{name}）。推送正在等待；请在服务器上执行：pushfleet doctor",
    ),
}

#: Decisions and states in words; the name itself stays beside them.
DECISIONS: Final[Mapping[str, tuple[str, str]]] = {
    "push_disabled": ("the sender wanted no push", "发送方未要求推送"),
    "online_only": ("for people online only", "仅限在线接收"),
    "no_text": ("nothing to show", "没有可展示的文字"),
    "expired": ("its time ran out", "已过有效期"),
    "online": ("the app was open", "应用在前台"),
    "online_elsewhere": ("a desktop was in use", "桌面端在线"),
    "sender": ("the sender's own device", "发送者自己的设备"),
    "no_device": ("no device registered", "没有注册设备"),
    "no_credential": ("no account with the vendor", "没有该厂商凭证"),
    "muted": ("muted by the person", "已设免打扰会话"),
    "dnd": ("do not disturb", "勿扰时段"),
    "blocked": ("the sender is blocked", "已被拉黑"),
    "not_friend": ("not a friend", "非好友"),
    "accepted": ("taken by the vendor", "厂商已接收"),
    "token_dead": ("the app is gone from the device", "令牌已失效"),
    "silenced": ("notifications are switched off", "通知已关闭"),
    "token_foreign": ("token of another app or environment", "令牌属于其他应用或环境"),
    "rejected": ("the vendor refused the message", "厂商拒绝该消息"),
    "credential_refused": ("the vendor refused our account", "厂商拒绝凭证"),
    "quota_spent": ("the day's quota is spent", "当日配额用尽"),
    "device_cap": ("the device's daily cap", "单设备上限"),
    "throttled": ("too fast for too long", "持续限流"),
    "unavailable": ("the vendor was not there", "厂商服务不可用"),
    "uncertain": ("sent, no answer: perhaps shown", "已发送但无应答"),
    "unknown": ("an answer nobody documents", "未知应答"),
    "folded": ("replaced by a later one", "已被后续推送合并"),
    "read_elsewhere": ("read on another device", "已在其他端阅读"),
    "recalled": ("recalled by the sender", "已被撤回"),
    "call_ended": ("the call was over", "通话已结束"),
    "lane_paused": ("the lane was paused", "通道已暂停"),
}


def word(key: str, lang: str, **values: object) -> str:
    """The word in this language; KeyError for one that there is not."""
    return WORDS[key][LANGUAGES.index(lang)].format(**values)


def decision_words(decision: str, lang: str) -> str:
    """What a decision means; "" for a name that a newer fleet has brought."""
    found = DECISIONS.get(decision)
    return found[LANGUAGES.index(lang)] if found else ""


def language(asked: str | None, remembered: str | None, accepted: str) -> str:
    """The page's language: what ?lang= asks, else the cookie's, else the first of Accept-Language that we have, else English."""
    for one in (asked, remembered):
        if one in LANGUAGES:
            return str(one)
    for part in accepted.lower().split(","):
        name = part.split(";")[0].strip().split("-")[0]
        if name in LANGUAGES:
            return name
    return "en"
