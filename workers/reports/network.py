"""Doctor's findings on the network: the vendors' servers, their proxies, and the receipts' URL."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

import pycurl

from common.config import Settings
from common.model import Vendor
from common.setting_checks import is_loopback
from common.values import BothWords
from workers.delivery.lane import Lane
from workers.lane_report import lanes_of
from workers.reports.devices import token_forms
from workers.reports.findings import Finding, bad, good
from workers.runtime import Runtime
from workers.transport.easy import EasyMaker
from workers.vendors import VENDORS

#: A vendor's server must take a connection within this, seconds.
REACH_S: Final = 4.0
#: (pattern of libcurl's message, the cure in English and Chinese), where no proxy is at fault.
_CURES: Final = (
    (
        r"expired|not yet valid",
        "is this host's clock right (chronyc tracking)? else the server needs a new certificate",
        "本机时钟是否正确（chronyc tracking）？否则服务器需更换证书",
    ),
    (
        r"subject name|does not match",
        "DNS or a proxy leads to another server",
        "DNS 或代理把连接引到了另一台服务器",
    ),
    (
        r"certificate",
        "PUSHFLEET_CA_FILE: the certificates that signed it",
        "PUSHFLEET_CA_FILE：签发其证书的 CA",
    ),
    (r"resolve", "DNS of this host (/etc/resolv.conf)", "检查本机的 DNS（/etc/resolv.conf）"),
    (r"", "firewall, DNS or proxy of this host", "检查本机的防火墙、DNS 或代理"),
)


def vendor_findings(runtime: Runtime) -> Iterator[Finding]:
    """Connects by TCP and TLS to each server of each vendor with an account.

    It uses the certificates that pushes will use.
    """
    lanes = lanes_of(runtime)
    tokens = {one: _by_account(runtime, one) for one in {lane.vendor for lane in lanes}}
    targets = sorted(
        {
            (lane.vendor, name, url)
            for lane in lanes
            for name, url in _servers(runtime, lane, tokens[lane.vendor])
        }
    )
    if not targets:
        return
    make = EasyMaker(runtime.settings.ca_file, REACH_S)
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda target: _reached(make, target[2], runtime.settings.proxies.get(target[0])),
                targets,
            )
        )
    wrong = [(target, words) for target, words in zip(targets, found, strict=True) if words]
    own = BothWords("", "")
    if len(wrong) * 2 > len(targets) > 2:
        share = f"{len(wrong)} of {len(targets)} servers: look at your own network"
        own = BothWords(
            f" ({share})", f"（{len(targets)} 个服务器中有 {len(wrong)} 个：请检查自己的网络）"
        )
    for (vendor, name, url), words in wrong:
        cure = _cure(words, vendor if vendor in runtime.settings.proxies else None)
        there = name in runtime.settings.endpoints
        perhaps = (
            BothWords(f"; or PUSHFLEET_ENDPOINT_{name}", f"；或 PUSHFLEET_ENDPOINT_{name}")
            if there
            else BothWords("", "")
        )
        yield bad(
            "vendors",
            "vendor_away",
            vendor=vendor,
            server=urlsplit(url).netloc,
            said=words,
            own=own,
            cure=cure,
            perhaps=perhaps,
        )
    if not wrong:
        yield good("vendors", f"{len(targets)} servers take connections")


def _by_account(runtime: Runtime, vendor: Vendor) -> dict[tuple[str, str], set[str]]:
    """(app, business id) -> the endpoints that its devices' tokens name, where they name one."""
    endpoint_of = VENDORS[vendor].endpoint_of
    found: dict[tuple[str, str], set[str]] = {}
    for app, business_id, token in token_forms(runtime, vendor) if endpoint_of else ():
        if endpoint_of is not None:
            found.setdefault((app, business_id), set()).add(endpoint_of(token))
    return found


def _servers(
    runtime: Runtime, lane: Lane, named: Mapping[tuple[str, str], set[str]]
) -> list[tuple[str, str]]:
    """(endpoint, base URL) that this lane uses. named: as _by_account."""
    spec, account = lane.spec, lane.credential
    used = list(spec.endpoints_used(account) if spec.endpoints_used else spec.endpoints)
    used += sorted(named.get((account.app, account.business_id), set()).difference(used))
    return [(name, runtime.settings.endpoints.get(name, spec.endpoints[name])) for name in used]


def _cure(said: str, vendor: str | None) -> BothWords:
    """vendor: of the proxy on the way, if there is one."""
    if vendor is not None and re.search(r"CONNECT|proxy", said):
        setting = f"PUSHFLEET_PROXY_{vendor.upper()}"
        return BothWords(
            f"{setting}: its address, its user:password@, and what it lets through",
            f"{setting}：检查其地址、user:password@ 及放行规则",
        )
    return next(BothWords(en, zh) for form, en, zh in _CURES if re.search(form, said))


def _reached(make: EasyMaker, url: str, proxy: str | None) -> str:
    """ "" for an established connection; else libcurl's own message.

    It tells an expired certificate from one of another name, and a proxy's refusal from a closed
    port.
    """
    easy = pycurl.Curl()
    try:
        make.trust(easy)
        for option, value in (
            (pycurl.URL, url),
            (pycurl.CONNECT_ONLY, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, proxy or ""),
        ):
            easy.setopt(option, value)
        easy.setopt(pycurl.NOPROXY, "" if proxy else "*")
        easy.setopt(pycurl.HTTPPROXYTUNNEL, 1 if proxy else 0)
        easy.setopt(pycurl.TIMEOUT_MS, int(REACH_S * 1000))
        easy.perform()
    except pycurl.error as error:
        return str(error.args[1] or pycurl.easy_strerror(error.args[0]))
    finally:
        easy.close()
    return ""


def receipt_findings(settings: Settings) -> Iterator[Finding]:
    """Checks that vendors can use the public address of receipts, as far as this host can."""
    url = settings.receipts_url
    if url is None or settings.endpoints:  # simulators reach this machine
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if is_loopback(host):
        yield bad("receipts", "receipts_own", server=parts.netloc)
        return
    if parts.scheme != "https":
        yield bad("receipts", "receipts_http")
    try:
        with socket.create_connection((host, port), REACH_S) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                    pass
    except OSError as error:
        untrusted = isinstance(error, ssl.SSLCertVerificationError)
        said = (
            BothWords("its certificate is not trusted", "证书不受信任")
            if untrusted
            else type(error).__name__
        )
        yield bad("receipts", "receipts_away", server=parts.netloc, said=said)
        return
    yield good("receipts", f"{parts.netloc} answers")


def endpoint_finding(settings: Settings) -> Finding:
    if not settings.endpoints:
        return good("endpoints", "the vendors' own")
    text = ", ".join(f"{name} -> {url}" for name, url in sorted(settings.endpoints.items()))
    return good("endpoints", f"not the vendors' own, pushes reach no phone: {text}")
