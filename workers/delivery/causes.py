"""The cause of a stopped lane: a label of a closed set for metrics, and a text for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from common.model import Verdict
from workers.delivery.outcomes import DOWN
from workers.vendors.types import Outcome

OPERATOR: Final = "operator"
#: cause -> (text for people, True if it may be in one's own network, the same in Chinese).
WORDS: Final[dict[str, tuple[str, bool, str]]] = {
    "tls_untrusted": ("TLS certificate not trusted", True, "TLS 证书不受信任"),
    "tls": ("no TLS connection", True, "TLS 连接失败"),
    "dns": ("host name not found", True, "找不到主机名"),
    "connect": ("no connection", True, "无法连接"),
    "proxy": ("the outgoing proxy refuses", True, "出口代理拒绝"),
    "timeout": ("no answer in time", True, "超时无响应"),
    "reset": ("connections break", True, "连接中断"),
    "server_error": ("the vendor answers with errors", False, "厂商返回错误"),
    "credential": ("the vendor refuses the credential", False, "厂商拒绝凭证"),
    "access_token": ("no access token", False, "无法取得访问令牌"),
    OPERATOR: ("paused by an operator", False, "由运维人员暂停"),
    "unknown": ("unknown cause", False, "原因不明"),
}
#: Transport errors of a request without an answer; the first pattern that matches names the cause.
_PATTERNS: Final = (
    (
        "tls_untrusted",
        re.compile(
            r"(?i)peer certificate|certificate.*(not "
            r"ok|verif|trust|unknown|expired)|CERTIFICATE_VERIFY"
        ),
    ),
    ("proxy", re.compile(r"(?i)proxy")),
    ("tls", re.compile(r"(?i)\b(ssl|tls)\b|did not agree on HTTP/2")),
    ("dns", re.compile(r"(?i)resolv|name or service|getaddrinfo")),
    ("connect", re.compile(r"(?i)connect")),
)


def cause_of(outcomes: Sequence[Outcome]) -> str:
    """The cause of the first outcome that has one; "" when none is a failure of the lane."""
    if any(outcome.verdict == Verdict.CREDENTIAL_REFUSED for outcome in outcomes):
        return "credential"
    return next((cause for cause in map(_cause, outcomes) if cause), "")


def _cause(outcome: Outcome) -> str:
    if outcome.verdict not in DOWN:
        return ""
    if outcome.status == "access":
        return _by_words(outcome.words) or "access_token"
    if outcome.status.isdigit():
        return "server_error"
    found = _by_words(outcome.words)
    if outcome.status == "timeout":
        return found if found in ("dns", "proxy") else "timeout"
    if outcome.status == "reset":  # "the connection was lost" is no failure to connect
        return found if found not in ("", "connect") else "reset"
    return found or "connect"


def _by_words(words: str) -> str:
    return next((cause for cause, pattern in _PATTERNS if pattern.search(words)), "")


def in_words(why: str, cause: str, lang: str = "en") -> str:
    """The text of a cause; the decision's name when the lane has no stored cause."""
    if not cause:
        return why
    words, _, chinese = WORDS.get(cause, WORDS["unknown"])
    return chinese if lang == "zh" else words


def whose_fault(causes: Iterable[str], lanes: int, lang: str = "en") -> str:
    """A hint when several lanes stop for network reasons, else "". causes: of the stopped lanes."""
    found = [cause for cause in causes if cause in WORDS and WORDS[cause][1]]
    if len(found) < 2 or 2 * len(found) < lanes:
        return ""
    if lang == "zh":
        return f"{lanes} 条通道中有 {len(found)} 条：请检查自己的网络"
    return f"{len(found)} of {lanes} lanes: look at your own network"
