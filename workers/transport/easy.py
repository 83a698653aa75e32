"""libcurl's easy handles: the options set once on each, and the translation of its errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pycurl

from workers.transport.exchange import proxy_name, proxy_refusal, system_trust
from workers.wire import NoAnswer

if TYPE_CHECKING:
    from workers.transport.pool import CurlPool

#: Seconds after which an unused pool is closed. APNs wants connections kept; TCP keepalive holds
#: them open in between.
POOL_IDLE_S = 600.0
#: Apple: resolve before each new connection. It also makes libcurl ask our resolver callback each
#: time, which stops a replay early.
DNS_CACHE_S = 0
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S = 60, 15
#: libcurl's option, for which pycurl has no name: the head of a proxy's answer to CONNECT is not
#: the vendor's.
SUPPRESS_CONNECT_HEADERS = 265
#: libcurl's error for a head without end, for which pycurl has no name either.
E_TOO_LARGE = 100


def failure(code: int, started: bool, unprocessed: bool, seconds: float) -> NoAnswer:
    """libcurl's error code as a NoAnswer, with libcurl's generic text for the code.

    Its own messages name hosts.
    """
    words = pycurl.easy_strerror(code)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return NoAnswer("timeout", started, words, seconds)
    if unprocessed:
        return NoAnswer("reset", False, "the server did not process the stream", seconds)
    if code == pycurl.E_ABORTED_BY_CALLBACK:
        words = "the connection was lost before an answer"
    return (
        NoAnswer("reset", True, words, seconds)
        if started
        else NoAnswer("refused", False, words, seconds)
    )


def through(proxy: str, no_answer: NoAnswer, code: int, connect_code: int) -> NoAnswer:
    """A failure before the request began, with the proxy's name where the proxy is at fault.

    connect_code: its status, 0 for none.
    """
    if 200 <= connect_code < 300 and code != E_TOO_LARGE:
        return no_answer
    words = no_answer.words
    if code == E_TOO_LARGE:
        words = "its answer has no end"
    elif connect_code:
        words = proxy_refusal(connect_code)
    elif code in (pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING):
        words = "it ended the connection"
    return NoAnswer(no_answer.reason, False, f"{proxy_name(proxy)}: {words}", no_answer.seconds)


class EasyMaker:
    """Makes easy handles with all that never changes. ca_file: trusted besides the system's
    certificates.

    The system's folder of hashed certificates is preferred to its bundle: a bundle costs every pool
    its own parsed copy (megabytes).
    """

    def __init__(self, ca_file: Path | None, connect_timeout_s: float) -> None:
        self.connect_timeout_ms = max(int(connect_timeout_s * 1000), 1)
        folder, bundle = system_trust()
        self.capath = folder
        self.cainfo = ca_file if folder or ca_file is None else None
        self.blob: bytes | None = None
        if not folder:
            if ca_file is None:
                self.cainfo = bundle
            else:
                self.blob = (bundle.read_bytes() + b"\n" if bundle else b"") + ca_file.read_bytes()
        if ca_file is not None and not ca_file.is_file():
            raise ValueError("the file of additional certificates does not exist")

    def __call__(self, pool: CurlPool) -> Any:
        easy = pycurl.Curl()
        self.trust(easy)
        if pool.identity is not None:
            easy.setopt(pycurl.SSLCERT_BLOB, pool.identity.certificate_pem)
            easy.setopt(pycurl.SSLKEY_BLOB, pool.identity.key_pem)
        version = (
            pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
            if pool.http2
            else pycurl.CURL_HTTP_VERSION_1_1
        )
        for option, value in (
            (
                pycurl.HTTP_VERSION,
                version,
            ),  # with TLS: h2 is the only protocol offered, so an answer is never HTTP/1.1
            (pycurl.PIPEWAIT, 1 if pool.http2 else 0),
            (pycurl.POST, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, pool.proxy or ""),  # never from the environment
            (pycurl.NOPROXY, "" if pool.proxy else "*"),
            (pycurl.HTTPPROXYTUNNEL, 1 if pool.proxy else 0),
            (SUPPRESS_CONNECT_HEADERS, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTPS | pycurl.PROTO_HTTP),
            (pycurl.USERAGENT, "pushfleet"),
            (pycurl.CONNECTTIMEOUT_MS, self.connect_timeout_ms),
            (pycurl.DNS_CACHE_TIMEOUT, DNS_CACHE_S),
            (pycurl.MAXAGE_CONN, int(POOL_IDLE_S)),
            (pycurl.TCP_KEEPALIVE, 1),
            (pycurl.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (pycurl.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
        ):
            easy.setopt(option, value)
        return easy

    def trust(self, easy: Any) -> None:
        easy.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        easy.setopt(pycurl.SSL_VERIFYPEER, 1)
        easy.setopt(pycurl.SSL_VERIFYHOST, 2)
        easy.unsetopt(pycurl.CAINFO)
        easy.unsetopt(pycurl.CAPATH)
        if self.capath:
            easy.setopt(pycurl.CAPATH, str(self.capath))
        if self.cainfo:
            easy.setopt(pycurl.CAINFO, str(self.cainfo))
        if self.blob:
            easy.setopt(pycurl.CAINFO_BLOB, self.blob)
