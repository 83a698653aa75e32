"""The common part of the transports: checks, the head of an answer, the wait for a batch.

Checked are addresses and headers. Nothing here logs, and no text made here holds a URL, a header's
value or a body: paths carry device tokens.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from common.setting_checks import is_loopback
from workers.wire import HttpResponse, NoAnswer, Request, Route

#: Bytes of an answer that are kept, far above every vendor's longest; the rest is dropped.
BODY_BYTES_MAX = 1 << 20
#: Bytes after which an endless stream is given up; the answer is what was kept.
BODY_BYTES_READ_MAX = 16 << 20
#: Bytes of a request's path and headers together: servers refuse more with 414 or 431, or end the
#: connection.
HEAD_BYTES_MAX = 16_384
NO_HTTP2: Final = "the server did not agree on HTTP/2"
#: Seconds after the deadline that the caller waits for the loop's answer before it answers itself.
GRACE_S = 0.4

_BASES_CHECKED: dict[str, str] = {}
_BASES_MAX = 10_000


def base_of(route: Route, endpoint: str) -> str:
    """Scheme, host and port of an endpoint, without a slash at the end.

    ValueError, naming the endpoint only: no such endpoint, not https (http is for loopback),
    credentials, path or query in it.
    """
    base = route.bases.get(endpoint)
    if base is None:
        raise ValueError(f"the route has no address for {endpoint}")
    checked = _BASES_CHECKED.get(base)
    if checked is None:
        checked = _checked(base, endpoint)
        if len(_BASES_CHECKED) < _BASES_MAX:
            _BASES_CHECKED[base] = checked
    return checked


def _checked(base: str, endpoint: str) -> str:
    try:
        parts = urlsplit(base)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"the address of {endpoint} is no URL") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise ValueError(f"the address of {endpoint} must be https://host:port")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"the address of {endpoint} must be https: http is for loopback only")
    if (
        parts.username is not None
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or not base.isascii()
    ):
        raise ValueError(f"the address of {endpoint} must be scheme, host and port only")
    return base.rstrip("/")


def proxy_name(proxy: str) -> str:
    """`the proxy host:port`, the start of its error messages; never its user and password."""
    parts = urlsplit(proxy)
    return f"the proxy {parts.hostname}:{parts.port}"


def proxy_refusal(status: int) -> str:
    """The meaning of a proxy's refusal of CONNECT for an operator."""
    if status == 407:
        return "it asks for a user and a password, or refuses those given (407)"
    return f"it refuses the connection ({status})"


def system_trust() -> tuple[Path | None, Path | None]:
    """(folder of hashed certificates, bundle file) of this system; None for a missing one.

    SSL_CERT_DIR and SSL_CERT_FILE come first.
    """
    paths = ssl.get_default_verify_paths()
    folders = [paths.capath, "/etc/ssl/certs", "/etc/pki/tls/certs"]
    bundles = [
        paths.cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ]
    if os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        folders = []  # the operator named a bundle and nothing else
    folder = next((Path(f) for f in folders if f and any(Path(f).glob("*.0"))), None)
    bundle = next((Path(b) for b in bundles if b and Path(b).is_file()), None)
    return folder, bundle


def fault_of(request: Request) -> str | None:
    """The fault that keeps this request off the wire, without its content; None: it is sound.

    A control character in a path or header would let a value become a header or a second request.
    """
    path, method = request.path, request.method
    if path[:1] != "/" or not path.isascii() or not path.isprintable() or " " in path:
        return "the request's path is not printable ASCII that begins with a slash"
    if method != "POST" and not (method.isalpha() and method.isascii()):
        return "the request's method is no word"
    names = "".join(request.headers)
    text = names + "".join(request.headers.values())
    if not text.isascii() or not text.isprintable() or ":" in names or "" in request.headers:
        return "a header of the request is not printable ASCII"
    if any(value[:1] == " " or value[-1:] == " " for value in request.headers.values()):
        return "a header of the request has white space at its ends"
    if len(path) + len(text) > HEAD_BYTES_MAX:
        return f"path and headers of the request have more than {HEAD_BYTES_MAX} bytes"
    return None


def read_head(lines: Sequence[bytes]) -> tuple[int, dict[str, str]]:
    """Status and headers of the last head in `lines`, as received one line each.

    Header names are in lower case, repeats joined by ", ". Interim answers (1xx) come first and are
    skipped, trailers come after the empty line and are left out. Any bytes; status 0 for no head,
    or one without its end.
    """
    status, headers, inside = 0, dict[str, str](), False
    for line in b"".join(lines).decode("latin-1").replace("\r\n", "\n").split("\n")[:-1]:
        name, colon, value = line.partition(":")
        if line.startswith("HTTP/"):
            code = line[7:10] if line[6:7] == " " else line[9:12]
            status = int(code) if code.isdecimal() and code.isascii() else 0
            headers, inside = {}, True
        elif not line:
            inside = False
        elif inside and colon:
            key, text = name.strip().lower(), value.strip()
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return (0, {}) if inside else (status, headers)


class SendBatch:
    """The answers of one send_many: filled by the transport's thread, waited for by the caller's.

    begun, ends: seconds of the monotonic clock. told: the caller waits no longer and says which
    requests no connection has. Whoever is about to write one marks it as begun first and then looks
    here: one of the two sees the other, so none is told as unsent and written afterwards (a process
    that stood still for a second did both).
    """

    __slots__ = ("_event", "_left", "answers", "begun", "ends", "told")

    def __init__(self, count: int, deadline_s: float) -> None:
        self.begun = time.monotonic()
        self.ends = self.begun + deadline_s
        self.answers: list[HttpResponse | NoAnswer | None] = [None] * count
        self._left = count
        self._event = threading.Event()
        self.told = False

    def put(self, index: int, answer: HttpResponse | NoAnswer) -> None:
        """One answer per index, the first counts. Called by one thread only until `wait` ends."""
        if self.answers[index] is None:
            self.answers[index] = answer
            self._left -= 1
            if not self._left:
                self._event.set()

    def wait(self, sent: Callable[[int], bool]) -> Sequence[HttpResponse | NoAnswer]:
        """All answers, GRACE_S after the deadline at the latest; missing ones are timeouts.

        sent: index -> True if begun.
        """
        late = not self._event.wait(max(self.ends - time.monotonic(), 0.0) + GRACE_S)
        self.told = True
        seconds = time.monotonic() - self.begun if late else 0.0
        return [
            NoAnswer("timeout", sent(index), "the deadline passed", seconds)
            if answer is None
            else answer
            for index, answer in enumerate(self.answers)
        ]
