"""Every problem of doctor, the console and the alerts: text and cure, in English and Chinese.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.values import BothWords

LANGUAGES: Final = ("en", "zh")
CONFIG: Final = "/credentials"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """found, cure: (English, Chinese) templates. page: of the console.

    alert: the rule of deploy/alerts.yml for it.
    """

    found: tuple[str, str]
    cure: tuple[str, str]
    page: str = "/"
    alert: str = ""


def filled(template: tuple[str, str], lang: str, values: Mapping[str, object]) -> str:
    """The template's text in this language."""
    at = LANGUAGES.index(lang)
    named = {
        name: (value.en, value.zh)[at] if isinstance(value, BothWords) else value
        for name, value in values.items()
    }
    return template[at].format(**named)


def _same(words: str) -> tuple[str, str]:
    """Commands are the same in every language."""
    return words, words


PROBLEMS: Final[Mapping[str, ProblemKind]] = {
    # ------------------------------------------------------------ keys and servers
    "keys_unusable": ProblemKind(
        ("{said}", "密钥不可用：{said}"),
        (
            "make one: python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'",
            "生成密钥：python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'",
        ),
    ),
    "keys_open": ProblemKind(
        ("{path} can be read by every user of this host", "本机所有用户都能读取 {path}"),
        _same("chmod o= {path}"),
    ),
    "redis_form": ProblemKind(("{said}", "Redis 地址写法不对：{said}"), _same("{setting}: {form}")),
    "redis_login": ProblemKind(
        ("user or password is refused: {said}", "用户名或密码被拒绝：{said}"),
        ("the user and password of {setting}", "检查 {setting} 中的用户名和密码"),
    ),
    "redis_replica": ProblemKind(
        ("it is a replica and takes no writes", "这是从节点，不接受写入"),
        (
            "the primary in {setting}, or sentinel://…?master=NAME",
            "{setting} 改为主节点，或 sentinel://…?master=NAME",
        ),
    ),
    "shard_away": ProblemKind(
        (
            "no node answers for the shards {shards}: their people's pushes wait, and no figure "
            "has them",
            "分片 {shards} 的节点没有应答：这些分片的用户的推送在等待，各项数字不含它们",
        ),
        (
            "start the cluster's node again (CLUSTER NODES on another one names it), or give it a "
            "replica; what waits goes on by itself",
            "重新启动该节点（在其他节点上用 CLUSTER NODES 查看），或为它配置副本；"
            "等待的推送会自动继续",
        ),
    ),
    "redis_rights": ProblemKind(
        ("this user may not do all that the fleet needs: {said}", "该用户权限不足：{said}"),
        (
            "ACL SETUSER <user> ~push:* ~im:* &* +@all -@admin +info (with PUSHFLEET_PREFIX, "
            "PUSHFLEET_KEY_PREFIX and EVENT_STREAMS of yours)",
            "ACL SETUSER <user> ~push:* ~im:* &* +@all -@admin +info（前缀按 "
            "PUSHFLEET_PREFIX、PUSHFLEET_KEY_PREFIX、EVENT_STREAMS）",
        ),
    ),
    "redis_full": ProblemKind(
        ("it is full and takes no more writes (maxmemory)", "内存已满（maxmemory），不再接受写入"),
        (
            "CONFIG SET maxmemory with more, then find out below what has grown",
            "CONFIG SET maxmemory 调大，再从下方查明是什么在增长",
        ),
        alert="PushfleetRedisMemory",
    ),
    "redis_refuses": ProblemKind(
        ("it refuses what the fleet needs: {said}", "服务器拒绝所需命令：{said}"),
        (
            "look at its configuration (rename-command, ACL, disk) and log",
            "检查其配置（rename-command、ACL、磁盘）与日志",
        ),
    ),
    "server_away": ProblemKind(
        ("can't be reached: {meaning} ({kind})", "无法连接：{meaning}（{kind}）"), _same("{cure}")
    ),
    "database_refuses": ProblemKind(("{meaning}", "{meaning}"), _same("{cure}")),
    "redis_info": ProblemKind(
        (
            "INFO is not allowed to this user: memory and persistence can't be judged",
            "该用户无权执行 INFO，无法判断内存与持久化",
        ),
        (
            "ACL SETUSER <user> +info; on a managed server look at its console: noeviction, "
            "append-only file on",
            "ACL SETUSER <user> +info；托管服务请在其控制台确认 noeviction 与 AOF 已开启",
        ),
    ),
    "redis_version": ProblemKind(
        ("{version}", "版本过低：{version}"),
        (
            "the fleet needs XAUTOCLAIM: Redis 6.2, Valkey 7.2 or newer",
            "需要 XAUTOCLAIM：Redis 6.2、Valkey 7.2 或更新版本",
        ),
    ),
    "redis_evicts": ProblemKind(
        (
            "maxmemory-policy {policy}: pushes can vanish when memory is short",
            "maxmemory-policy {policy}：内存不足时推送可能被淘汰",
        ),
        _same("CONFIG SET maxmemory-policy noeviction"),
    ),
    "redis_memory": ProblemKind(
        ("{share}% of maxmemory used", "maxmemory 已用 {share}%"),
        (
            "give it more memory, or find out below which stream has grown",
            "增加内存，或从下方查明哪个流在增长",
        ),
        alert="PushfleetRedisMemory",
    ),
    "redis_no_aof": ProblemKind(
        (
            "no append-only file: a crash loses what was on its way",
            "未开启 AOF：崩溃会丢失途中的推送",
        ),
        _same("CONFIG SET appendonly yes, appendfsync everysec"),
    ),
    "redis_disk": ProblemKind(
        ("the append-only file can't be written", "AOF 无法写入"),
        ("look at the disk of the server", "检查该服务器的磁盘"),
    ),
    "redis_fsync": ProblemKind(
        (
            "appendfsync no: a crash of the host loses up to half a minute",
            "appendfsync no：主机崩溃最多丢失半分钟数据",
        ),
        _same("CONFIG SET appendfsync everysec"),
    ),
    "stream_kind": ProblemKind(
        ("{stream} is a {kind}, no stream", "{stream} 是 {kind}，不是 stream"),
        (
            "another name in PUSHFLEET_EVENT_STREAMS, or DEL what is there",
            "更换 PUSHFLEET_EVENT_STREAMS 中的名称，或 DEL 该键",
        ),
    ),
    "stream_unread": ProblemKind(
        (
            "{stream} is written and nobody reads it; nothing was ever written to {never}",
            "{stream} 有写入但无人读取；{never} 从未写入",
        ),
        _same("PUSHFLEET_EVENT_STREAMS={stream}"),
    ),
    "key_prefix": ProblemKind(
        (
            "presence or members stand under {foreign}, none under {own}",
            "在线状态或群成员位于 {foreign}，而 {own} 下没有",
        ),
        _same("PUSHFLEET_KEY_PREFIX={first}"),
    ),
    "core_database": ProblemKind(
        (
            "{stream} is written in the server's database {there}, and read in {own}",
            "{stream} 写在该服务器的 {there} 号库，而读取的是 {own} 号库",
        ),
        _same("{setting}=redis://…/{there}"),
    ),
    "core_kind": ProblemKind(
        (
            "{key}… is a {kind}, and not a {wanted}: it is not read, or stops what reads it",
            "{key}… 是 {kind}，应为 {wanted}：无法读取",
        ),
        (
            "the core writes a {wanted} there: README, Publish from your core",
            "核心应写入 {wanted}：见 README 的 Publish from your core",
        ),
    ),
    "presence_value": ProblemKind(
        (
            "{key}…: a value is not state|platform|until in ms: this session counts as away",
            "{key}…：值不是 state|platform|到期毫秒，该会话按离线处理",
        ),
        (
            "gateways write foreground|ios|1796000000000 (the time in milliseconds)",
            "网关应写入 foreground|ios|1796000000000（毫秒时间）",
        ),
    ),
    "stream_trimmed": ProblemKind(
        (
            "{lost} events of {stream} were removed before anybody read them",
            "{stream} 中有 {lost} 个事件在被读取前已被删除",
        ),
        (
            "who trims it? no MAXLEN in the core's XADD, no XTRIM, no XDEL: the fleet removes what "
            "it has read; see also that intake keeps up",
            "谁在裁剪该流？核心的 XADD 不要带 MAXLEN，也不要 XTRIM、XDEL：读过的条目由本系统删除；"
            "另请确认 intake 处理得过来",
        ),
    ),
    "database_encoding": ProblemKind(
        (
            "the database's encoding is {encoding}: names in other scripts can't be stored",
            "数据库编码为 {encoding}，无法保存中文等名称",
        ),
        (
            "a database of its own: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, then "
            "pushfleet backup here and restore there",
            "另建数据库：CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0，再 pushfleet "
            "backup、restore",
        ),
    ),
    "tables_schema": ProblemKind(
        (
            "the tables are in the schema {there}, and this user looks into {own}",
            "表位于 schema {there}，而该用户使用的是 {own}",
        ),
        _same("ALTER ROLE <user> SET search_path = {there}"),
    ),
    "database_version": ProblemKind(
        ("{version}", "版本过低：{version}"),
        ("the fleet needs {least} or newer", "需要 {least} 或更新版本"),
    ),
    "database_standby": ProblemKind(
        ("{version}, a standby that can't be written", "{version} 是备库，不可写"),
        ("PUSHFLEET_DATABASE_URL must name the primary", "PUSHFLEET_DATABASE_URL 须指向主库"),
    ),
    "tables_newer": ProblemKind(
        (
            "version {current}, not {newest}: of a newer version of Pushfleet",
            "表结构版本 {current}，应为 {newest}：来自更新版本的 Pushfleet",
        ),
        (
            "upgrade this program, or restore the backup of before the upgrade",
            "升级本程序，或恢复升级前的备份",
        ),
    ),
    "tables_other": ProblemKind(
        ("version {current}, not {newest}", "表结构版本 {current}，应为 {newest}"),
        _same("pushfleet migrate"),
    ),
    "reports_away": ProblemKind(
        (
            "can't be read: {said}; the fleet's own database is asked meanwhile",
            "无法读取：{said}；暂由主数据库代替",
        ),
        (
            "is it running, and is PUSHFLEET_DATABASE_REPORTS_URL right?",
            "检查其是否运行，以及 PUSHFLEET_DATABASE_REPORTS_URL 是否正确",
        ),
    ),
    "reports_tables": ProblemKind(
        (
            "version {current}, not {newest}: `why`, console and API find nothing there",
            "表结构版本 {current}，应为 {newest}：`why`、控制台和 API 无法从中查询",
        ),
        (
            "PUSHFLEET_DATABASE_REPORTS_URL is a replica of PUSHFLEET_DATABASE_URL: another "
            "address, or wait until it has caught up",
            "PUSHFLEET_DATABASE_REPORTS_URL 须为 PUSHFLEET_DATABASE_URL 的只读副本："
            "请更正地址，或等待其追上主库",
        ),
    ),
    "database_no_days": ProblemKind(
        ("this user may not create the ledger's days", "该用户无权创建账本的日分区"),
        _same("GRANT CREATE ON SCHEMA public TO <user>"),
    ),
    # ------------------------------------------------------------ the fleet
    "clock": ProblemKind(
        ("{name} is {skew_s} s {way} this host", "{name} 与本机时钟相差 {skew_s} 秒（{way}）"),
        ("let NTP set both (chronyc tracking)", "让两者都由 NTP 校时（chronyc tracking）"),
    ),
    "processes_none": ProblemKind(
        (
            "none is alive under the prefix {prefix}{others}",
            "前缀 {prefix} 下没有存活的进程{others}",
        ),
        (
            "pushfleet up, or start the lines of the Procfile{perhaps}",
            "pushfleet up，或启动 Procfile 中的各行{perhaps}",
        ),
        alert="PushfleetProcessMissing",
    ),
    "two_fleets": ProblemKind(
        (
            "processes of several databases live under the prefix {prefix}: {databases}",
            "前缀 {prefix} 下有使用不同数据库的进程：{databases}",
        ),
        (
            "all processes of a fleet work with one database (PUSHFLEET_DATABASE_URL); another "
            "fleet takes a PUSHFLEET_PREFIX and PUSHFLEET_EVENT_STREAMS of its own",
            "同一系统的所有进程须使用同一个数据库（PUSHFLEET_DATABASE_URL）；另一套系统须使用"
            "自己的 PUSHFLEET_PREFIX 和 PUSHFLEET_EVENT_STREAMS",
        ),
    ),
    "processes_missing": ProblemKind(
        ("not alive: {lines}", "未存活：{lines}"),
        ("start them: {commands}", "启动：{commands}"),
        alert="PushfleetProcessMissing",
    ),
    "belt_shared": ProblemKind(
        (
            "{stream} is read by another fleet, too: {prefixes}; each takes a part of the events",
            "{stream} 同时被另一套系统读取：{prefixes}，两套系统各取走一部分事件",
        ),
        (
            "give each fleet PUSHFLEET_EVENT_STREAMS of its own, or stop the processes whose "
            "PUSHFLEET_PREFIX is {prefixes}",
            "为每套系统设置各自的 PUSHFLEET_EVENT_STREAMS，或停止 PUSHFLEET_PREFIX 为 {prefixes} "
            "的进程",
        ),
    ),
    "belt_reader": ProblemKind(
        (
            "{stream} has another reader's group: {groups}",
            "{stream} 上有其他读者的消费组：{groups}",
        ),
        (
            "the stream belongs to the fleet: other readers use one of their own; then "
            "XGROUP DESTROY STREAM GROUP",
            "该流归本系统所有，其他读者应使用自己的流；然后 XGROUP DESTROY STREAM GROUP",
        ),
    ),
    "belt_old": ProblemKind(
        (
            "{queue}: {depth} entries, the oldest {age_s} s old",
            "{queue}：积压 {depth} 条，最早的已等待 {age_s} 秒",
        ),
        (
            "its stage does not keep up: more replicas, or its log says what it waits for",
            "该阶段处理不及：增加副本，或查看其日志在等待什么",
        ),
        alert="PushfleetQueueWaits",
    ),
    "belt_deep": ProblemKind(
        (
            "{queue}: {depth} entries, the stage before it waits",
            "{queue}：积压 {depth} 条，上一阶段在等待",
        ),
        ("more replicas of the stage that reads it", "为读取它的阶段增加副本"),
    ),
    "delayed_overdue": ProblemKind(
        ("delayed pushes are {age_s} s overdue", "延时推送已超期 {age_s} 秒"),
        (
            "is upkeep alive? its log says what it waits for",
            "upkeep 是否存活？其日志会说明在等待什么",
        ),
        alert="PushfleetDelayedOverdue",
    ),
    "lanes_none": ProblemKind(
        ("there is no credential yet", "尚无凭证"),
        (
            "pushfleet app add, then pushfleet credential add",
            "先 pushfleet app add，再 pushfleet credential add",
        ),
        CONFIG,
    ),
    "lane_paused": ProblemKind(
        ("{lane} is paused by an operator{waiting}", "{lane}已由运维人员暂停{waiting}"),
        _same("pushfleet credential resume {key}"),
        "/lanes",
        "PushfleetLanePaused",
    ),
    "lane_stopped": ProblemKind(
        ("{lane} is {state} since {at}: {why}{waiting}", "{lane}自 {at} 起{state}：{why}{waiting}"),
        _same("pushfleet credential check {key}"),
        "/lanes",
        "PushfleetLaneStopped",
    ),
    "lane_guard": ProblemKind(
        (
            "{lane}: too many tokens at once were told dead; none is retired",
            "{lane}：短时间内过多令牌被判失效，已暂停清退",
        ),
        (
            "is this the right environment and key? compare with the app's build: pushfleet "
            "credential list {key}",
            "环境与密钥是否正确？与应用的构建对照：pushfleet credential list {key}",
        ),
        "/lanes",
        "PushfleetTokenGuard",
    ),
    "keys_lost": ProblemKind(
        ("{said}", "现有密钥无法解密凭证：{said}"),
        (
            "put that key back into the file, below the first",
            "将原密钥放回密钥文件，置于第一行之后",
        ),
        CONFIG,
    ),
    "credential_expired": ProblemKind(
        ("credential {lane} has expired", "凭证 {lane}已过期"),
        _same("pushfleet credential rotate {key}"),
        CONFIG,
        "PushfleetCredentialExpired",
    ),
    "credential_expires": ProblemKind(
        ("credential {lane} expires {at}", "凭证 {lane}将于 {at} 到期"),
        _same("pushfleet credential rotate {key}"),
        CONFIG,
        "PushfleetCredentialExpires",
    ),
    "quota_spent": ProblemKind(
        (
            "{lane}: the {bucket} quota of today ({limit}) is spent until the vendor's midnight",
            "{lane}：今日 {bucket} 配额（{limit}）已用尽，厂商零点后恢复",
        ),
        (
            "a higher quota from the vendor, then pushfleet quota set {key} {bucket}=N",
            "向厂商申请更高配额，然后 pushfleet quota set {key} {bucket}=N",
        ),
        "/lanes",
        "PushfleetQuotaNearlySpent",
    ),
    "quota_nearly": ProblemKind(
        (
            "{lane}: the {bucket} quota of today ({limit}) is used to {share} %",
            "{lane}：今日 {bucket} 配额（{limit}）已用 {share}%",
        ),
        (
            "a higher quota from the vendor, then pushfleet quota set {key} {bucket}=N",
            "向厂商申请更高配额，然后 pushfleet quota set {key} {bucket}=N",
        ),
        "/lanes",
        "PushfleetQuotaNearlySpent",
    ),
    "letters": ProblemKind(
        ("{counts}", "{counts}"),
        ("pushfleet dead-letters list", "pushfleet dead-letters list"),
        "/dead-letters",
        "PushfleetDeadLetters",
    ),
    "device_account": ProblemKind(
        (
            "devices ({count}) of {lane}, which has no account",
            "{lane}有 {count} 台设备，但没有对应凭证",
        ),
        (
            "pushfleet credential add {vendor} --app {app} --business-id {business_id} …{perhaps}",
            "pushfleet credential add {vendor} --app {app} --business-id {business_id} …{perhaps}",
        ),
        CONFIG,
    ),
    "tenant_name": ProblemKind(
        (
            "{app}: a name that may share keys with other tenants",
            "{app}：该名称可能与其他租户的键相同",
        ),
        (
            "pushfleet app add under a name of letters, digits, '.', '_' and '-'; then its "
            "core, credentials and devices move there",
            "用字母、数字、'.'、'_'、'-' 组成的名称重新 pushfleet app "
            "add，再将其核心、凭证与设备迁移过去",
        ),
    ),
    "right_channel": ProblemKind(
        (
            "{lane} has a private right and no channel: phones may show nothing",
            "{lane}有私信权限但没有通道：手机可能不展示",
        ),
        (
            "pushfleet credential rotate {key} --channel chat=ID (docs/vendors/oppo.md)",
            "pushfleet credential rotate {key} --channel chat=ID（docs/vendors/oppo.md）",
        ),
        CONFIG,
    ),
    "silent_refused": ProblemKind(
        (
            "{count} silent pushes of {app} did not leave for {vendor} in the last hour: it shows "
            "whatever it takes",
            "最近一小时 {app} 有 {count} 条静默推送未发给 {vendor}：该厂商会展示收到的所有推送",
        ),
        (
            "push_type alert, with words, for these phones; a wake without a banner reaches "
            "phones of other vendors only (docs/vendors/{vendor}.md)",
            "对这些手机使用 push_type alert 并带文字；无通知的唤醒仅其他厂商支持"
            "（docs/vendors/{vendor}.md）",
        ),
    ),
    "silent_preset": ProblemKind(
        (
            "preset {preset} of {app} is silent; what is sent with it {ways}",
            "{app} 的预设 {preset} 为静默推送；使用它的推送{ways}",
        ),
        (
            "meant for phones that wake without a banner? nothing to do; if these shall show it "
            "with a sound: a preset of push_type alert for them (pushfleet strategy list {app})",
            "若仅用于唤醒其他厂商的手机，无需处理；若需在这些手机上正常提醒，请改用 push_type "
            "alert 的预设（pushfleet strategy list {app}）",
        ),
    ),
    "build_foreign": ProblemKind(
        (
            "{vendor}: {foreign} of {total} tokens of the last hour belong to another app or "
            "environment",
            "{vendor}：最近一小时 {total} 个令牌中有 {foreign} 个属于其他应用或环境",
        ),
        (
            "a debug build or the wrong account: compare its environment and topic "
            "(pushfleet credential list)",
            "调试版或错误的凭证：核对其环境与 Topic（pushfleet credential list）",
        ),
        CONFIG,
    ),
    "vendor_away": ProblemKind(
        (
            "{vendor}: {server} can't be reached: {said}{own}",
            "{vendor}：无法连接 {server}：{said}{own}",
        ),
        _same("{cure}{perhaps}"),
    ),
    "receipts_own": ProblemKind(
        (
            "{server} of PUSHFLEET_RECEIPTS_URL is this machine's own: no vendor reaches it",
            "PUSHFLEET_RECEIPTS_URL 的 {server} 是本机地址，厂商无法访问",
        ),
        ("a public https:// address", "使用公网 https:// 地址"),
    ),
    "receipts_http": ProblemKind(
        (
            "PUSHFLEET_RECEIPTS_URL is http://: receipts and their addresses can be read on "
            "the way",
            "PUSHFLEET_RECEIPTS_URL 使用 http://，回执及其地址可被窃听",
        ),
        ("an https:// address", "使用 https:// 地址"),
    ),
    "receipts_away": ProblemKind(
        (
            "{server} of PUSHFLEET_RECEIPTS_URL can't be reached from here: {said}",
            "从本机无法访问 PUSHFLEET_RECEIPTS_URL 的 {server}：{said}",
        ),
        (
            "DNS, firewall, and the reverse proxy before PUSHFLEET_RECEIPTS_ADDR "
            "(docs/reverse-proxy.md)",
            "检查 DNS、防火墙以及 PUSHFLEET_RECEIPTS_ADDR 前的反向代理（docs/reverse-proxy.md）",
        ),
    ),
    "door_alias": ProblemKind(
        (
            "{count} requests named an account by an alias that none, or several, have",
            "{count} 个请求使用的凭证别名不存在，或对应多个凭证",
        ),
        (
            "pushfleet dead-letters list; then: pushfleet credential rotate APP VENDOR "
            "BUSINESS_ID --alias NAME",
            "pushfleet dead-letters list；然后 pushfleet credential rotate APP VENDOR "
            "BUSINESS_ID --alias NAME",
        ),
        "/dead-letters",
    ),
    "not_looked": ProblemKind(("can't be looked at: {said}", "无法检查：{said}"), _same("{cure}")),
}
