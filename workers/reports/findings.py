"""One line of doctor, and the meaning and cure of a server's error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from sqlalchemy.exc import DBAPIError

from common.logs import scrub
from common.values import BothWords
from workers.reports.problems import PROBLEMS, filled


@dataclass(frozen=True, slots=True)
class Finding:
    """cure: what to do, "" without a fault. fix: does it, only where nothing can be lost by it.

    problem: its name in problems.py, "" without a fault. since_ms: its start, None if unknown.
    note: nothing is wrong with the set-up, but a person should look.
    """

    check: str
    ok: bool
    found: str
    cure: str = ""
    unreachable: bool = False
    fix: Callable[[], object] | None = field(default=None, compare=False)
    problem: str = ""
    values: Mapping[str, object] = field(default_factory=dict, compare=False)
    since_ms: int | None = None
    note: bool = False

    def words(self, lang: str) -> str:
        return (
            filled(PROBLEMS[self.problem].found, lang, self.values) if self.problem else self.found
        )

    def help(self, lang: str) -> str:
        return filled(PROBLEMS[self.problem].cure, lang, self.values) if self.problem else self.cure

    @property
    def page(self) -> str:
        """The console's page where to look."""
        return PROBLEMS[self.problem].page if self.problem else "/"


def good(check: str, found: str) -> Finding:
    return Finding(check, True, found)


def bad(
    check: str,
    problem: str,
    /,
    *,
    fix: Callable[[], object] | None = None,
    since_ms: int | None = None,
    **values: Any,
) -> Finding:
    kind = PROBLEMS[problem]
    found, cure = filled(kind.found, "en", values), filled(kind.cure, "en", values)
    return Finding(
        check, False, found, cure, fix=fix, problem=problem, values=values, since_ms=since_ms
    )


def away(check: str, problem: str, /, **values: Any) -> Finding:
    """As bad(), of a server that no command of ours can be done at."""
    return replace(bad(check, problem, **values), unreachable=True)


def words_of(error: BaseException) -> str:
    """An error's first line, without possible secrets."""
    words = str(getattr(error, "orig", None) or error).splitlines()
    lines = [line.strip() for line in words if line.strip()]
    return scrub(lines[0])[:200] if lines else type(error).__name__


_LOGIN: Final = (
    r"NOAUTH|WRONGPASS|invalid username-password|no password is set|without any password"
)
#: (pattern of the message, its meaning, the cure, both in Chinese). {setting}: the setting that
#: names the server.
_REDIS: Final = (
    (
        r"certificate has expired|not yet valid",
        "its certificate has expired, or is of tomorrow",
        "a new certificate there; is this host's clock right?",
        "证书已过期或尚未生效",
        "为其更换证书；本机时钟是否正确？",
    ),
    (
        r"(Hostname|IP address) mismatch|not valid for",
        "its certificate is of another name",
        "{setting} with the host name that the certificate has",
        "证书属于另一个主机名",
        "{setting} 使用证书中的主机名",
    ),
    (
        r"ALERT_|alert |EOF occurred in violation",
        "it ends the TLS connection: it may want a client certificate, or not take this one",
        "{setting}=rediss://…?ssl_certfile=/path/cert.pem&ssl_keyfile=/path/key.pem, valid and of "
        "an authority that it trusts",
        "TLS 连接被服务器终止：可能需要客户端证书，或不接受当前证书",
        "{setting}=rediss://…?ssl_certfile=/路径/cert.pem&ssl_keyfile=/路径/key.pem，"
        "须在有效期内且由其信任的 CA 签发",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|self.signed",
        "its certificate is not trusted",
        "{setting}=rediss://…?ssl_ca_certs=/path/of/its/ca.pem",
        "证书不受信任",
        "{setting}=rediss://…?ssl_ca_certs=/其/CA/路径.pem",
    ),
    (
        r"WRONG_VERSION_NUMBER|record layer|wrong version",
        "it does not speak TLS on this port",
        "{setting} with redis:// in place of rediss://",
        "该端口不是 TLS",
        "{setting} 用 redis:// 代替 rediss://",
    ),
    (
        r"Name or service|getaddrinfo|not known|nodename",
        "its host name is not found",
        "is the host of {setting} spelt right, and does DNS know it?",
        "找不到主机名",
        "检查 {setting} 的主机名拼写与 DNS",
    ),
    (
        r"refused",
        "nothing listens there",
        "is it running, and is {setting} right?",
        "该地址无人监听",
        "是否已启动？{setting} 是否正确？",
    ),
    (
        r"closed by server|reset by peer",
        "it closes the connection",
        "TLS port? then {setting} begins with rediss://; else look at its log",
        "连接被关闭",
        "若为 TLS 端口，{setting} 应以 rediss:// 开头；否则查看其日志",
    ),
    (
        r"max number of clients",
        "it takes no more clients",
        "CONFIG SET maxclients, or fewer processes",
        "客户端数已达上限",
        "CONFIG SET maxclients 调大，或减少进程",
    ),
    (
        r"LOADING",
        "it reads its data from disk",
        "wait until it is loaded",
        "正在从磁盘加载数据",
        "等待加载完成",
    ),
    (
        r"",
        "it does not answer",
        "is it running, and is {setting} right?",
        "没有应答",
        "是否已启动？{setting} 是否正确？",
    ),
)
_DATABASE: Final = (
    (
        r"password authentication failed|no password supplied|role .* does not exist",
        "user or password is refused",
        "the user and password of PUSHFLEET_DATABASE_URL",
        "用户名或密码被拒绝",
        "检查 PUSHFLEET_DATABASE_URL 中的用户名和密码",
    ),
    (
        r"database .* does not exist",
        "the server has no such database",
        "CREATE DATABASE, or another name in PUSHFLEET_DATABASE_URL",
        "服务器上没有该数据库",
        "CREATE DATABASE，或更换 PUSHFLEET_DATABASE_URL 中的名称",
    ),
    (
        r"too many (clients|connections)|remaining connection slots|no more connections",
        "it has no connections left",
        "raise max_connections (4 for each process), or a pooler",
        "连接数已用尽",
        "调大 max_connections（每进程 4 个），或使用连接池",
    ),
    (
        r"no pg_hba\.conf entry",
        "its pg_hba.conf does not let us in",
        "a line for this host, user and database in pg_hba.conf",
        "pg_hba.conf 不允许连接",
        "在 pg_hba.conf 中为本机、该用户与数据库添加一行",
    ),
    (
        r"could not translate host name|Name or service|not known",
        "its host name is not found",
        "is the host of PUSHFLEET_DATABASE_URL spelt right?",
        "找不到主机名",
        "检查 PUSHFLEET_DATABASE_URL 的主机名拼写",
    ),
    (
        r"No space left|could not (extend|write|create) ",
        "its disk is full",
        "free or enlarge the disk of PostgreSQL; PUSHFLEET_LEDGER_BYTES_MAX bounds the ledger",
        "磁盘已满",
        "清理或扩大 PostgreSQL 的磁盘；PUSHFLEET_LEDGER_BYTES_MAX 可限制账本大小",
    ),
    (
        r"certificate has expired|certificate expired|not yet valid",
        "a certificate has expired, its own or ours",
        "a new certificate there, or in sslcert=; is this host's clock right?",
        "证书已过期（服务器的或本机的）",
        "为其或为 sslcert= 更换证书；本机时钟是否正确？",
    ),
    (
        r"does not match host name",
        "its certificate is of another name",
        "PUSHFLEET_DATABASE_URL with the host name that the certificate has",
        "证书属于另一个主机名",
        "PUSHFLEET_DATABASE_URL 使用证书中的主机名",
    ),
    (
        r"does not support SSL",
        "it speaks no TLS",
        "ssl = on there, or PUSHFLEET_DATABASE_URL without sslmode=",
        "服务器未启用 TLS",
        "在服务器上设置 ssl = on，或去掉 PUSHFLEET_DATABASE_URL 中的 sslmode=",
    ),
    (
        r"requires a valid client certificate|certificate required|alert unknown ca",
        "it wants a client certificate of an authority that it trusts",
        "PUSHFLEET_DATABASE_URL=…?sslcert=/path/cert.pem&sslkey=/path/key.pem",
        "需要由其信任的 CA 签发的客户端证书",
        "PUSHFLEET_DATABASE_URL=…?sslcert=/路径/cert.pem&sslkey=/路径/key.pem",
    ),
    (
        r"root certificate file .* does not exist",
        "the file of sslrootcert= is not there",
        "PUSHFLEET_DATABASE_URL=…?sslrootcert=/path/of/ca.pem, of its authority",
        "sslrootcert= 指定的文件不存在",
        "填写其 CA 证书的路径：PUSHFLEET_DATABASE_URL=…?sslrootcert=/CA/路径.pem",
    ),
    (
        r"certificate verify failed|root certificate",
        "its certificate is not trusted, or has expired",
        "PUSHFLEET_DATABASE_URL=…?sslmode=verify-full&sslrootcert=/path/of/ca.pem",
        "证书不受信任或已过期",
        "PUSHFLEET_DATABASE_URL=…?sslmode=verify-full&sslrootcert=/CA/路径.pem",
    ),
    (
        r"starting up|shutting down|recovery",
        "it is starting or stopping",
        "wait, or look at its log",
        "正在启动或停止",
        "等待，或查看其日志",
    ),
    (
        r"permission denied",
        "this user may not do that",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO <user>; GRANT CREATE, USAGE ON SCHEMA "
        "public TO <user>",
        "该用户没有权限",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO <user>; GRANT CREATE, USAGE ON SCHEMA "
        "public TO <user>",
    ),
    (
        r"read-only transaction",
        "it takes no writes",
        "the primary in PUSHFLEET_DATABASE_URL, or ALTER ROLE <user> SET "
        "default_transaction_read_only = off",
        "不接受写入",
        "PUSHFLEET_DATABASE_URL 指向主库，或 ALTER ROLE <user> SET "
        "default_transaction_read_only = off",
    ),
    (
        r"refused|could not connect|timeout",
        "nothing answers there",
        "is it running, and is PUSHFLEET_DATABASE_URL right?",
        "该地址没有应答",
        "是否已启动？PUSHFLEET_DATABASE_URL 是否正确？",
    ),
    (
        r"",
        "it does not answer",
        "is it running, and is PUSHFLEET_DATABASE_URL right?",
        "没有应答",
        "是否已启动？PUSHFLEET_DATABASE_URL 是否正确？",
    ),
)


def _meant(
    table: Sequence[tuple[str, str, str, str, str]], said: str, setting: str = ""
) -> dict[str, Any]:
    """The first row that matches the message, as a template's values."""
    _, meaning, cure, meaning_zh, cure_zh = next(
        row for row in table if re.search(row[0], said, re.IGNORECASE)
    )
    return {
        "meaning": BothWords(meaning, meaning_zh),
        "cure": BothWords(
            cure.replace("{setting}", setting), cure_zh.replace("{setting}", setting)
        ),
    }


def redis_error(name: str, error: BaseException, setting: str = "PUSHFLEET_REDIS_URL") -> Finding:
    """The finding of a Redis error. unreachable: no command of ours can be done there."""
    said = words_of(error)
    if isinstance(error, AuthenticationError) or re.search(_LOGIN, said):
        return away(name, "redis_login", said=said, setting=setting)
    if isinstance(error, ReadOnlyError):
        return bad(name, "redis_replica", setting=setting)
    if isinstance(error, NoPermissionError):
        return bad(name, "redis_rights", said=said)
    if isinstance(error, OutOfMemoryError) or "OOM" in said:
        return bad(name, "redis_full")
    if said.startswith("MISCONF"):  # it answers nothing else while its disk is full, not even PING
        return bad(name, "redis_disk")
    if isinstance(error, ResponseError):
        return bad(name, "redis_refuses", said=said)
    return away(name, "server_away", kind=type(error).__name__, **_meant(_REDIS, said, setting))


def database_error(error: BaseException) -> Finding:
    """The finding of a PostgreSQL error."""
    own = getattr(error, "orig", None) or error
    meant = _meant(_DATABASE, str(own))
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    # it has read a statement of ours
    if state is not None and state[:2] in ("25", "42", "53") and state != "53300":
        return bad("postgresql", "database_refuses", **meant)
    return away("postgresql", "server_away", kind=type(own).__name__, **meant)
