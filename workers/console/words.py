"""The console's texts in English and Chinese. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("en", "zh")
#: Where a message's story and a dead letter come from.
STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "intake": ("intake", "接入"),
    "presence": ("presence", "在线判断"),
    "routing": ("routing", "路由"),
    "delivery": ("delivery", "投递"),
    "attempt": ("attempt", "尝试"),
    "receipt": ("receipt", "回执"),
    "receipts": ("receipts", "回执"),
    "ledger": ("ledger", "记录"),
    "gateway": ("gateway", "网关"),
}

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
    "oidc_login": ("Sign in with your organisation's account", "使用企业账号登录"),
    "oidc_away": (
        "The sign-in service is away. Name and password still work.",
        "无法连接统一登录服务，仍可使用用户名和密码登录。",
    ),
    "oidc_refused": (
        "The sign-in was refused: the console's log says why.",
        "登录被拒绝，原因见控制台日志。",
    ),
    "oidc_welcome": ("Signed in.", "登录成功。"),
    "slow_down": ("Too many tries. Wait a minute.", "尝试次数过多，请一分钟后再试。"),
    "nobody_yet": (
        "Nobody can log in yet. On the server: pushfleet user add NAME --role operator",
        "尚无可登录的用户。请在服务器上执行：pushfleet user add NAME --role operator",
    ),
    "open_mode": (
        "Open for reading: nobody is registered and only this machine can reach it. To act: "
        "pushfleet user add NAME --role operator",
        "尚无用户且仅本机可访问，因此只读开放。如需操作：pushfleet user add NAME --role operator",
    ),
    "as": ("as", "角色"),
    "viewer": ("viewer", "只读"),
    "operator": ("operator", "运维"),
    "admin": ("admin", "管理员"),
    "times_in": (
        "Times are the server's, UTC{zone}; in the pictures your own.",
        "时间为服务器时间（UTC{zone}），图表中为浏览器本地时间。",
    ),
    "now": ("as of {at}", "截至 {at}"),
    "all_well": ("All is flowing.", "一切正常。"),
    "look_at": ("{count} to look at", "{count} 项需要处理"),
    "doctor_looked": (
        "doctor made {count} checks {age} ago",
        "doctor 于 {age} 前完成 {count} 项检查",
    ),
    "help_with": ("what helps:", "处理方法："),
    "events_in": ("Events in", "事件流入"),
    "last_minute": ("last minute", "最近一分钟"),
    "last_hour": ("last hour", "最近一小时"),
    "counting": ("being counted: load again", "正在统计，请刷新"),
    "too_many": ("too many to count now", "数量过大，暂不统计"),
    "accepted_hour": ("Accepted by vendors, last hour", "最近一小时厂商已接收"),
    "waiting": ("Waiting", "等待中"),
    "processes": ("Processes alive", "存活进程"),
    "backlog": ("Backlog", "积压"),
    "queue": ("Queue", "队列"),
    "queues_empty": ("empty: {names}", "空：{names}"),
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
    "device_active": ("active", "可用"),
    "device_retired": ("retired", "已停用"),
    "device_silenced": ("notifications switched off", "通知已关闭"),
    "device_unbound": ("logged out", "已登出"),
    "device_moved": ("its token is another's", "令牌已属于其他用户或设备"),
    "foreground": ("foreground", "前台"),
    "background": ("background", "后台"),
    "colon": (": ", "："),
    "registered": ("Registered", "注册时间"),
    "version": ("Version", "版本"),
    "by_reason": ("By reason", "按原因"),
    "first_seen": ("First", "最早"),
    "last_seen": ("Last", "最近"),
    "replay_all": ("Replay all", "全部重放"),
    "drop_all": ("Drop all", "全部丢弃"),
    "done_dropped": ("The letters were dropped.", "死信已丢弃。"),
    "done_part": (
        "Only a part was done in the time of a page; press again for the rest.",
        "本次只处理了一部分，请再次点击处理其余。",
    ),
    "done_device": ("The device was changed.", "设备状态已更改。"),
    "credentials": ("Accounts", "凭证"),
    "audit": ("Audit log", "操作日志"),
    "audit_note": (
        "Who did what when, here and on the command line (cli:NAME). Persons stand as marks "
        "that do not name them.",
        "记录控制台与命令行（cli:用户名）的操作；用户以标记代替，不含其 ID。",
    ),
    "audit_empty": ("Nothing yet.", "暂无记录。"),
    "who": ("Who", "操作者"),
    "action": ("Action", "操作"),
    "subject": ("Subject", "对象"),
    "result": ("Result", "结果"),
    "charts": ("Over time", "趋势"),
    "span_hour": ("last hour", "最近一小时"),
    "span_day": ("last day", "最近一天"),
    "chart_accepted": ("Accepted by vendors, a second", "厂商每秒接收量"),
    "chart_p95": (
        "From the event to the vendor's yes, 95 % within, ms",
        "从事件到厂商接收的耗时（P95，毫秒）",
    ),
    "chart_backlog": ("Entries that wait, by stage", "各阶段积压条目"),
    "chart_empty": ("Nothing in this time.", "该时段没有数据。"),
    "chart_away": ("The figures can't be had now.", "暂时无法获取数据。"),
    "chart_script": (
        "Pictures need JavaScript; all figures stand in the tables below.",
        "图表需要 JavaScript；所有数据见下方表格。",
    ),
    "funnel": ("From message to click, last 24 hours", "从消息到点击（最近 24 小时）"),
    "funnel_stored": ("events stored", "已存储的消息"),
    "funnel_recipients": ("recipients and devices", "接收者与设备"),
    "funnel_away": ("away", "离线"),
    "funnel_accepted": ("accepted", "厂商已接收"),
    "funnel_delivered": ("delivered", "已送达"),
    "funnel_clicked": ("clicked", "已点击"),
    "funnel_note": (
        "Delivered and clicked: of vendors that send receipts.",
        "送达与点击仅含提供回执的厂商。",
    ),
    "flow": ("Flow", "流量"),
    "all": ("all", "全部"),
    "more": ("more", "更多"),
    "none_of_them": ("Nobody here with this decision.", "没有符合条件的接收者。"),
    "test_push": ("Send a test push", "发送测试推送"),
    "test_push_note": (
        "The way of every message: to all devices that are away.",
        "与普通消息相同：发送到所有离线设备。",
    ),
    "done_push": (
        "The test push is on its way; load the page again to see what became of it.",
        "测试推送已发出，刷新页面可查看结果。",
    ),
    "done_push_nobody": (
        "The test push is on its way, but none of this person's devices is sent to: People says "
        "of each whether it is retired, logged out or another's, and why.",
        "测试推送已发出，但该用户没有可推送的设备：用户页列出每台设备已停用、已登出或令牌已转移的原因。",
    ),
    "drop_sure": ("Drop {count} dead letters for ever?", "确定永久丢弃 {count} 条死信？"),
    "account_add": ("Add an account", "添加凭证"),
    "stored_at": ("Stored", "保存时间"),
    "expires": ("Expires", "到期"),
    "rights": ("Rights", "权限"),
    "check": ("Check", "检测"),
    "rotate": ("Rotate", "轮换"),
    "rotate_note": (
        "What is left empty stays as it is. The old version lives on while the new one takes over.",
        "留空的项目保持不变；新版本接管期间旧版本继续有效。",
    ),
    "further": ("Rights, channels, limits", "权限、通道与限额"),
    "store": ("Check and store", "校验并保存"),
    "back": ("back", "返回"),
    "done_account": (
        "The account is stored. Check it against the vendor.",
        "凭证已保存，请检测其是否可用。",
    ),
    "field_p8": ("or signing key (.p8)", "或签名密钥（.p8）"),
    "field_key_id": ("Key id", "Key ID"),
    "field_team_id": ("Team id", "Team ID"),
    "field_p12": ("Certificate (.p12)", "证书（.p12）"),
    "field_password_file": ("Password of the .p12", ".p12 密码"),
    "field_env": ("Environment", "环境"),
    "field_topic": ("Topic (bundle id)", "Topic（Bundle ID）"),
    "field_service_account": ("Service account (JSON)", "服务账号（JSON）"),
    "field_vendor_app_id": ("The vendor's app id", "厂商 App ID"),
    "field_app_key": ("App key", "App Key"),
    "field_app_secret_file": ("App secret", "App Secret"),
    "field_package": ("Android package", "Android 包名"),
    "field_rights": ("Rights, e.g. huawei.im", "权限，如 huawei.im"),
    "field_channels": ("Channels, CLASS=ID", "通道，CLASS=ID"),
    "field_templates": ("Templates, CLASS=ID", "模板，CLASS=ID"),
    "field_quotas": ("Quota, BUCKET=N", "配额，BUCKET=N"),
    "field_rate": ("Rate, N/s", "速率，N/s"),
    "since": ("for {age}", "已 {age}"),
    "history": ("Last changes", "最近变化"),
    "flowing": ("flowing", "畅通"),
    "probing": ("probing", "试探"),
    "stopped": ("stopped", "停止"),
    "paused": ("paused", "暂停"),
    "pause": ("Pause", "暂停"),
    "resume": ("Resume", "恢复"),
    "console_away": (
        "The console does not answer; what stands here is old.",
        "控制台无响应，当前显示的是旧数据。",
    ),
    "narrow_by": ("App or business id has", "应用或证书 ID 包含"),
    "found": ("{count} found", "共 {count} 条"),
    "found_shown": (
        "{count} found, the first {shown} are shown: narrow the search.",
        "共 {count} 条，仅显示前 {shown} 条，请缩小查询范围。",
    ),
    "none_found": ("None of them.", "没有符合条件的结果。"),
    "all_lanes": ("All {count} lanes", "全部 {count} 条通道"),
    "more_of_them": ("{count} more", "另有 {count} 项"),
    "no_tenant": (
        "There is no tenant {app}. Those that are: pushfleet app list",
        "没有租户 {app}。查看已有租户：pushfleet app list",
    ),
    "no_lane": (
        "No credential yet: pushfleet credential add",
        "尚无凭证：pushfleet credential add",
    ),
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
    "recipients_one": ("1 recipient or device", "1 个接收者或设备"),
    "no_decision": ("waiting", "等待中"),
    "no_recipient": ("No recipient is decided yet.", "尚无接收者结果。"),
    "event": ("event", "事件"),
    "device": ("Device", "设备"),
    "no_device_named": ("no device", "无设备"),
    "class": ("Class", "分类"),
    "downgraded": ("sent as {sent}, downgraded", "降级为 {sent} 发送"),
    "push_id": ("Push id", "推送 ID"),
    **{f"stage_{name}": both for name, both in STAGES.items()},
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
    "done_paused": (
        "The lane is paused; its pushes wait while their time allows.",
        "通道已暂停，推送将在有效期内等待。",
    ),
    "done_later": (
        "It is stored, but Redis can't be reached: the fleet learns of it within a minute of its "
        "return.",
        "已保存，但无法连接 Redis：Redis 恢复后一分钟内生效。",
    ),
    "done_resumed": ("The lane flows again.", "通道已恢复。"),
    "done_replayed": ("The letter was replayed.", "死信已重放。"),
    "gone": ("It is not there any more.", "已不存在。"),
    "not_replayable": ("It could not be kept whole: publish it anew.", "内容不完整，请重新发布。"),
    "resharding_now": (
        "The number of shards changes: replay it after that.",
        "正在更改分片数，请在完成后重放。",
    ),
    "session_ended": ("Your session has ended. Log in again.", "会话已过期，请重新登录。"),
    "session_ended_form": (
        "Your session had ended, so nothing was done. Log in and do it again.",
        "会话已过期，操作未执行。请重新登录后再试。",
    ),
    "moment": ("One moment.", "请稍候。"),
    "form_too_large": (
        "A file of this form is too large; nothing was stored.",
        "表单中的文件过大，未保存任何内容。",
    ),
    "form_unread": (
        "The form did not arrive whole; nothing was done. Go back and send it again.",
        "表单未完整送达，操作未执行。请返回后重新提交。",
    ),
    "not_allowed": ("Your role does not allow this.", "当前角色无权操作。"),
    "not_ours": (
        "The form is not from this session. Load the page again.",
        "表单已失效，请刷新页面。",
    ),
    "not_found": ("There is no such page.", "页面不存在。"),
    "server_away": (
        "A server can't be reached ({name}). Pushes wait meanwhile; on the server: pushfleet "
        "doctor",
        "无法连接服务器（{name}）。推送正在等待；请在服务器上执行：pushfleet doctor",
    ),
}

#: Doctor's checks.
CHECKS: Final[Mapping[str, tuple[str, str]]] = {
    "keys": ("Keys", "密钥"),
    "redis": ("Redis", "Redis"),
    "core's redis": ("The core's Redis", "核心 Redis"),
    "broker": ("Celery's Redis", "Celery 的 Redis"),
    "postgresql": ("PostgreSQL", "PostgreSQL"),
    "tables": ("Tables", "表结构"),
    "reports": ("Reports", "查询副本"),
    "clocks": ("Clocks", "时钟"),
    "names": ("Names", "名称"),
    "processes": ("Processes", "进程"),
    "belts": ("Queues", "队列"),
    "lanes": ("Lanes", "通道"),
    "credentials": ("Accounts", "凭证"),
    "quota": ("Quota", "配额"),
    "devices": ("Devices", "设备"),
    "tenants": ("Tenants", "租户"),
    "rights": ("Rights", "权限"),
    "builds": ("Builds", "应用构建"),
    "vendors": ("Vendors", "厂商连接"),
    "receipts": ("Receipts", "回执"),
    "dead letters": ("Dead letters", "死信"),
    "silent pushes": ("Silent pushes", "静默推送"),
    "doors": ("Doors", "接入服务"),
    "endpoints": ("Endpoints", "厂商地址"),
}

#: The audit log's actions in Chinese. The log is in English, by the console and by the command
#: line.
ACTIONS: Final[Mapping[str, str]] = {
    "account added": "添加凭证",
    "account rotated": "轮换凭证",
    "account removed": "删除凭证",
    "account checked": "检测凭证",
    "lane paused": "暂停通道",
    "lane resumed": "恢复通道",
    "quota set": "设置配额",
    "device retired": "停用设备",
    "device active": "恢复设备",
    "device restored": "恢复设备",
    "device unchanged": "设备未变",
    "devices restored": "批量恢复设备",
    "letter replayed": "重放死信",
    "letters replay": "批量重放死信",
    "letters drop": "批量丢弃死信",
    "test push": "测试推送",
    "signed in": "登录",
    "user added": "添加用户",
    "user changed": "修改用户",
    "user removed": "删除用户",
    "person erased": "清除个人数据",
    "API token added": "添加 API 令牌",
    "API token revoked": "吊销 API 令牌",
}

#: Notes of stages, and names of queues and quotas, in Chinese; a vendor's or an operator's own name
#: follows unchanged.
NOTES: Final[Mapping[str, str]] = {
    "away": "不在线",
    "waiting": "等待中",
    "to": "发往",
    "presence": "在线判断",
    "routing": "路由",
    "send": "投递",
    "ledger": "记录",
    "receipts": "回执",
    "delayed": "延迟",
    "private": "私信",
    "public": "公信",
    "person": "用户",
}

#: Results that are texts, not numbers or a vendor's message.
RESULTS: Final[Mapping[str, str]] = {
    "done": "完成",
    "gone": "已不存在",
    "not_replayable": "无法重放",
    "resharding_now": "正在更改分片数",
    "viewer": "只读",
    "operator": "运维",
    "admin": "管理员",
}

#: Decisions and states as texts; the name itself is shown beside them.
DECISIONS: Final[Mapping[str, tuple[str, str]]] = {
    "push_disabled": ("the sender wanted no push", "发送方未要求推送"),
    "online_only": ("for people online only", "仅限在线接收"),
    "no_text": ("nothing to show", "没有可展示的文字"),
    "expired": ("its time ran out", "已过有效期"),
    "online": ("the app was open", "应用在前台"),
    "online_elsewhere": ("a desktop was in use", "桌面端在线"),
    "sender": ("the sender's own device", "发送者自己的设备"),
    "no_device": ("no device that is sent to", "没有可推送的设备"),
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
    """The text in this language; raises KeyError for an unknown key."""
    return WORDS[key][LANGUAGES.index(lang)].format(**values)


def check_words(check: str, lang: str) -> str:
    """The name of one of doctor's checks; as it is for one that a newer program has brought."""
    return CHECKS.get(check, (check, check))[LANGUAGES.index(lang)]


def audit_words(value: str, lang: str) -> str:
    """An action or a result of the audit log; unchanged without a translation."""
    return ACTIONS.get(value) or RESULTS.get(value, value) if lang == "zh" else value


def note_words(value: str, lang: str) -> str:
    """A stage's note, a queue's or a quota's name, with its first word translated."""
    if lang != "zh":
        return value
    first, blank, rest = value.partition(" ")
    return NOTES.get(first, first) + blank + rest


def decision_words(decision: str, lang: str) -> str:
    """The meaning of a decision; "" for a newer version's name."""
    found = DECISIONS.get(decision)
    return found[LANGUAGES.index(lang)] if found else ""


def language(chosen: str | None, remembered: str | None, accepted: str) -> str:
    """The page's language: ?lang=, the cookie's, Accept-Language's first, else English."""
    for one in (chosen, remembered):
        if one in LANGUAGES:
            return str(one)
    for part in accepted.lower().split(","):
        name = part.split(";")[0].strip().split("-")[0]
        if name in LANGUAGES:
            return name
    return "en"
