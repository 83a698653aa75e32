"""How clients write the same request on the wire: what HTTP leaves to them is no reason for a
simulator to refuse it. Ways that nobody reported yet.
"""

import json
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.simulators.running import Running
from tests.integration.simulators.test_xiaomi import CHAT
from workers.vendors.oppo.credential import sign as oppo_sign
from workers.vendors.vivo.credential import sign as vivo_sign

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def _vivo(app: str = "100000123", key: str = "k1", secret: str = "s") -> Mapping[str, Any]:
    stamp = int(time.time() * 1000)
    signed = vivo_sign(app, key, stamp, secret)
    return {"appId": int(app), "appKey": key, "timestamp": stamp, "sign": signed}


def _oppo(key: str = "k1", secret: str = "s") -> Mapping[str, Any]:
    stamp = int(time.time() * 1000)
    return {"app_key": key, "timestamp": stamp, "sign": oppo_sign(key, stamp, secret)}


#: vendor -> path, type of the body, its fields, further headers, (field of the answer, value) when
#: it is taken.
Call = tuple[str, str, Callable[[], Mapping[str, Any]], Mapping[str, str], tuple[str, Any]]
CALLS: Mapping[str, Call] = {
    "vivo": ("/message/auth", JSON, _vivo, {}, ("result", 0)),
    "oppo": ("/server/v1/auth", FORM, _oppo, {}, ("code", 0)),
    "xiaomi": (
        "/v3/message/regid",
        FORM,
        lambda: CHAT,
        {"Authorization": "key=EXAMPLE_APP_SECRET"},
        ("code", 0),
    ),
    "huawei": (
        "/oauth2/v3/token",
        FORM,
        lambda: {"grant_type": "client_credentials", "client_id": "1", "client_secret": "s"},
        {},
        ("token_type", "Bearer"),
    ),
}


@pytest.fixture(params=CALLS)
def called(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Running, Call]]:
    with Running(request.param, tmp_path, tls=False) as running:
        yield running, CALLS[request.param]


def _body(kind: str, fields: Mapping[str, Any]) -> bytes:
    if kind == JSON:
        return json.dumps(fields).encode()
    return urllib.parse.urlencode(list(fields.items())).encode()


def _told(running: Running, *parts: bytes) -> dict[str, Any]:
    """The answer's JSON to a request whose parts come one after the other."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as wire:
        for number, part in enumerate(parts):
            time.sleep(0.05 * bool(number))
            wire.sendall(part)
        said = b""
        while more := wire.recv(65_536):
            said += more
    while said.startswith(b"HTTP/1.1 100"):
        said = said.partition(b"\r\n\r\n")[2]
    assert said.startswith(b"HTTP/1.1 200"), said[:200]
    found: dict[str, Any] = json.loads(said[said.index(b"{") : said.rindex(b"}") + 1])
    return found


def _head(path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: push.example.com", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_in_chunks(called: tuple[Running, Call]) -> None:
    """Java's HttpURLConnection streams so, aiohttp and Node do where no length is given; RFC 9112
    7.1 lets chunks have extensions and end in the middle of a character.
    """
    running, (path, kind, fields, more, (name, value)) = called
    body = _body(kind, fields())
    head = _head(path, {**more, "Content-Type": kind, "Transfer-Encoding": "chunked"})
    half = len(body) // 2
    parts = [b"%X;a=b\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])]
    assert _told(running, head, *parts, b"0\r\n\r\n")[name] == value


def test_a_type_with_its_parameter_in_any_spelling(called: tuple[Running, Call]) -> None:
    """OkHttp, Apache's client and .NET each write the charset their own way; names and types know
    no case (RFC 9110 5.1, 8.3.1).
    """
    running, (path, kind, fields, more, (name, value)) = called
    body = _body(kind, fields())
    for said in (f'{kind.upper()};charset="UTF-8"', f"{kind} ; Charset=utf8"):
        headers = {key.upper(): one for key, one in more.items()}
        head = _head(path, {**headers, "CONTENT-TYPE": said, "content-length": str(len(body))})
        assert _told(running, head, body)[name] == value, said


def test_a_client_that_asks_before_it_sends(called: tuple[Running, Call]) -> None:
    """libcurl and .NET's HttpWebRequest send `Expect: 100-continue` and wait for the word."""
    running, (path, kind, fields, more, (name, value)) = called
    body = _body(kind, fields())
    said = {**more, "Content-Type": kind, "Content-Length": str(len(body))}
    assert _told(running, _head(path, {**said, "Expect": "100-continue"}), body)[name] == value


def test_a_form_in_another_alphabet_of_escapes(tmp_path: Path) -> None:
    """JavaScript's encodeURIComponent writes a blank as %20, Go and old .NET small hex digits; some
    escape every byte. The form is the same (WHATWG URL 5.1).
    """
    path, _, _, more, (name, value) = CALLS["xiaomi"]
    with Running("xiaomi", tmp_path, tls=False) as running:
        for escape in (
            lambda text: urllib.parse.quote(text, safe=""),
            lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        ):
            form = "&".join(f"{escape(key)}={escape(str(one))}" for key, one in CHAT.items())
            said = {**more, "Content-Type": FORM, "Content-Length": str(len(form))}
            assert _told(running, _head(path, said), form.encode())[name] == value
