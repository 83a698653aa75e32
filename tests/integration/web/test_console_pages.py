"""What people do in the console: accounts, test pushes, the audit log; and every page in a real
browser, wide and narrow, in both languages and schemes, looked at by axe-core.
"""

import itertools
import json
import os
import re
import time
import uuid
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from common.metrics import LANE_STOPPED_SINCE
from common.storage.tallies import MINUTE_MS, SETTLE_MS
from tests import npm
from tests.builders import present
from tests.integration.web.browser import CHROMIUM, Chrome
from tests.integration.web.conftest import APP, call
from tests.integration.web.test_console import Browser, busy, console, people, served  # noqa: F401 - fixtures
from tests.waiting import eventually
from workers.cli.console_ports import console_ports
from workers.maintenance.reporter import Reporter
from workers.reports.findings import bad, good

#: CONSOLE_PICTURES=FOLDER: what the browser sees is kept there.
PICTURES = os.environ.get("CONSOLE_PICTURES")
PAGES = {
    "overview": "/",
    "overview-day": "/?span=day",
    "message": "/messages?id=m2",
    "group": "/messages?id=g-20",
    "person": f"/people?app={APP}&user=bob",
    "lanes": "/lanes",
    "credentials": "/credentials",
    "account": "/credentials/form?vendor=apns",
    "rotate": f"/credentials/form?vendor=vivo&app={APP}&business_id=vivo-1",
    "letters": "/dead-letters",
    "audit": "/audit",
    "login": "/login",
    "not-there": "/nothing",
}


def sent_form(browser: Browser, path: str, fields: dict[str, str], **files: bytes):
    """A form with files, as a browser sends it."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in files.items():
        head = (
            f'--{mark}\r\ncontent-disposition: form-data; name="{name}"; '
            'filename="f"\r\ncontent-type: application/octet-stream\r\n\r\n'
        )
        parts.append(head.encode() + data + b"\r\n")
    told = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    body = b"".join([*parts, f"--{mark}--\r\n".encode()])
    answer = call(
        browser.base + path, body, {**told, "content-type": f"multipart/form-data; boundary={mark}"}
    )
    return browser.go(answer.headers["location"]) if answer.status == 303 else answer


def test_an_admin_adds_checks_and_rotates_an_account(runtime, console, people):  # noqa: F811, PLR0915
    ada, otto = Browser(console), Browser(console)
    ada.log_in("ada")
    otto.log_in("otto")
    assert ada.go("/credentials/form?vendor=nobody").status == 404
    assert otto.go("/credentials/form?vendor=meizu").status == 403
    page = ada.go("/credentials/form?vendor=meizu").text
    token = present(re.search(r'name="token" value="([^"]+)"', page))[1]
    new = {
        "token": token,
        "vendor": "meizu",
        "app": APP,
        "business_id": "meizu-2",
        "vendor_app_id": "110002",
        "do": "add",
    }
    wrong = sent_form(ada, "/credentials/store", new)
    assert wrong.status == 400
    assert 'role="alert">refused:' in wrong.text
    assert "110002" in wrong.text, "what was typed stands there again"
    said = sent_form(
        ada,
        "/credentials/store",
        {**new, "app_secret_file": "another-secret-2", "rights": "meizu.private", "rate": "50/s"},
    )
    assert "The account is stored" in said.text
    assert "another-secret-2" not in said.text
    stored = next(one for one in runtime.credentials.all() if one.business_id == "meizu-2")
    found = (stored.secrets, set(stored.rights), stored.limits["rate"])
    assert found == ({"app_secret": "another-secret-2"}, {"meizu.private"}, 50.0)
    again = {**new, "app_secret_file": "x"}
    assert "is there already" in sent_form(ada, "/credentials/store", again).text
    rotated = {**new, "do": "rotate", "vendor_app_id": "", "app_secret_file": "third-secret-3"}
    assert "The account is stored" in sent_form(ada, "/credentials/store", rotated).text
    stored = next(one for one in runtime.credentials.all() if one.business_id == "meizu-2")
    turned = (stored.secrets["app_secret"], stored.options["app_id"], set(stored.rights))
    assert turned == ("third-secret-3", "110002", {"meizu.private"})
    checks = [form for form in otto.forms("/credentials") if form[0] == "/credentials/check"]
    good = next(fields for _, fields in checks if fields["business_id"] == "xiaomi-1")
    assert "xiaomi xiaomi-1 (1400000001): " in otto.go("/credentials/check", good).text
    assert sent_form(otto, "/credentials/store", {**new, "token": good["token"]}).status == 403
    assert sent_form(ada, "/credentials/store", new, p8=b"x" * 300_000).status == 413
    lines = {(row["who"], row["action"], row["subject"]) for row in runtime.audit.listed()}
    said_of = {what for who, what, of in lines if (who, of) == ("ada", "meizu meizu-2")}
    assert {"account added", "account rotated"} <= said_of
    assert ("otto", "account checked", "xiaomi xiaomi-1") in lines
    assert not re.search("another-secret-2|third-secret-3", str(runtime.audit.listed()))


def test_a_file_is_taken_from_a_form(runtime, console, people, simulators):  # noqa: F811
    """The account's key comes as an upload, and what it is not is said."""
    ada = Browser(console)
    ada.log_in("ada")
    page = ada.go("/credentials/form?vendor=fcm").text
    token = present(re.search(r'name="token" value="([^"]+)"', page))[1]
    fields = {"token": token, "vendor": "fcm", "app": APP, "business_id": "fcm-1", "do": "add"}
    assert "refused:" in sent_form(ada, "/credentials/store", fields, service_account=b"{}").text


def test_a_test_push_is_followed_and_all_is_in_the_audit_log(runtime, busy, fleet, people):  # noqa: F811
    otto = Browser(busy)
    otto.log_in("otto")
    path = f"/people?app={APP}&user=bob"
    [(action, fields)] = [form for form in otto.forms(path) if form[0] == "/people/push"]
    page = otto.go(action, fields)
    assert "The test push is on its way" in page.text
    message_id = runtime.audit.listed()[0]["result"]
    eventually(
        lambda: "taken by the vendor" in otto.go(f"/messages?id={message_id}&user=bob").text,
        meanwhile=fleet.step,
    )
    assert "It is not there any more" in otto.go(action, {**fields, "app": "nobody"}).text
    [(action, fields), *_] = [form for form in otto.forms(path) if form[0] == "/people/device"]
    otto.go(action, {**fields, "do": "retire"})
    [(push, wish)] = [form for form in otto.forms(path) if form[0] == "/people/push"]
    assert "none of this person" in otto.go(push, wish).text
    page = otto.go("/audit").text
    for words in ("otto", "test push", "device retired", "person "):
        assert words in page
    assert "bob" not in page, "a mark stands for the person"
    assert re.search(r"cli:\S+</b>.*account added.*meizu meizu-1", page, re.DOTALL), (
        "the command line's, too"
    )
    vera = Browser(busy)
    vera.log_in("vera")
    token = vera.forms("/")[0][1]["token"]
    assert vera.go("/people/push", {**fields, "token": token}).status == 403


def test_what_doctor_finds_stands_on_the_overview_in_the_readers_language(runtime, tenant):
    found = [bad("redis", "redis_no_aof"), good("clocks", "agree")]
    for base in served(runtime, replace(console_ports(runtime), examine=lambda: found)):
        page = eventually(
            lambda base=base: text if "doctor made" in (text := Browser(base).go("/").text) else ""
        )
        for words in ("no append-only file", "CONFIG SET appendonly yes", "doctor made 2 checks"):
            assert words in page
        assert "未开启 AOF：崩溃会丢失途中的推送" in Browser(base, "zh").go("/").text


def test_doctor_the_overview_and_lanes_tell_one_list(runtime, busy, cli):  # noqa: F811
    """The same words and the same since-when, whoever is asked; in English and in Chinese."""
    said = [one for one in cli("doctor", "--json").json["checks"] if one["problem"]]
    assert {one["problem"] for one in said} >= {
        "processes_none",
        "belt_old",
        "lane_stopped",
        "credential_expires",
        "letters",
    }
    page, chinese = unescape(Browser(busy).go("/").text), unescape(Browser(busy, "zh").go("/").text)
    assert re.search(r"Times are the server's, UTC[+-]\d\d:\d\d", page)
    assert "时间为服务器时间（UTC" in chinese
    lane = next(one for one in cli("lanes", "--json").json if one["state"] == "stopped")
    stopped = next(one for one in said if one["problem"] == "lane_stopped")
    assert lane["why"] in stopped["found"]
    assert stopped["since_ms"] == lane["since_ms"]
    for one in said:
        # an age goes on meanwhile; looked at later
        if one["problem"] not in ("belt_old", "vendor_away", "key_prefix", "stream_unread"):
            assert one["found"] in page, one
            assert one["cure"] in page, one
    Reporter(runtime).show_lanes()
    families = LANE_STOPPED_SINCE.collect()
    (told,) = [
        one
        for family in families
        for one in family.samples
        if one.labels["business_id"] == "vivo-1"
    ]
    assert (told.labels["why"], told.value) == (lane["why"], lane["since_ms"] / 1000), "the alert's"
    assert "vivo vivo-1（1400000001）自 20" in chinese
    assert "credential_refused：厂商拒绝凭证" in chinese
    assert not re.findall(r"[a-z]+ process is alive|is stopped since|expires 20", chinese)


def test_what_a_chinese_reader_meets_is_chinese(runtime, busy):  # noqa: F811
    """Stages' notes, queues and quotas too; what is a name of the contract's stays beside its
    words.
    """
    page = unescape(Browser(busy, "zh").go("/").text)
    assert "空：" in page
    assert "投递 meizu" in page
    assert "私信: " in page
    assert not re.search(r"send meizu|private: |>presence<", page)
    assert "接入 1 条" in page
    now = int(time.time() * 1000)
    runtime.tallies.sample(now - 2 * MINUTE_MS, {"routing": 12, "send meizu": 3})
    drawn = json.loads(Browser(busy, "zh").go("/charts.json").text)
    assert set(drawn["backlog"]) == {"路由", "投递 meizu"}
    assert set(json.loads(Browser(busy).go("/charts.json").text)["backlog"]) == {
        *("routing", "send meizu")
    }
    page = unescape(Browser(busy, "zh").go("/messages?id=m2").text)
    assert "不在线" in page
    assert "发往 meizu meizu-1" in page
    assert "1 个接收者或设备" in page
    assert "1 recipient or device<" in Browser(busy).go("/messages?id=m2").text


# ---------------------------------------------------------------- a real browser


@pytest.fixture(scope="module")
def chrome():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    found = Chrome()
    yield found
    found.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str | None:
    """The script of axe-core; None where npm can't bring it."""
    folder = tmp_path_factory.mktemp("axe")
    if npm.install(folder, Path(__file__).parent / "npm"):
        return None
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


AXE = """axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(
 told => told.violations.map(one => one.id + ' ' + one.nodes.map(node => node.target.join(' ')).slice(0, 3).join(' | ')))"""  # noqa: E501


@pytest.mark.timeout(300)
def test_every_page_in_a_real_browser(runtime, busy, fleet, people, chrome, axe):  # noqa: F811, PLR0915
    """One fleet and one browser for all pages: wide and light in English, narrow and dark in
    Chinese.
    """
    from tests.integration.web.conftest import message
    from tests.integration.web.test_console import publish

    members = ["bob", "eve", *(f"p{number}" for number in range(18))]
    publish(runtime, fleet, message("g-20", members, "group"))
    later = int(time.time() * 1000) + MINUTE_MS + SETTLE_MS
    runtime.tallies.sample(later - 3 * MINUTE_MS, {"routing": 12, "send meizu": 3})
    runtime.tallies.sample(later - 2 * MINUTE_MS, {"routing": 7, "send meizu": 1})
    while runtime.tallies.count(later, None):
        pass
    ada = Browser(busy)
    ada.log_in("ada")
    ada.go("/people/push", {"token": ada.forms("/")[0][1]["token"], "app": APP, "user": "bob"})
    wrong = []
    looks = ((1400, False, "en"), (360, True, "zh"))
    # every page once, each look on half of them; all looks where somebody wants the pictures
    every = list(itertools.product((1400, 360), (False, True), ("en", "zh")))
    for name, width, dark, lang in [
        (one, *look)
        for n, one in enumerate(PAGES)
        for look in (every if PICTURES else looks[n % 2 : n % 2 + 1])
    ]:
        chrome.cookies(busy, {**({} if name == "login" else ada.cookies), "lang": lang})
        chrome.open(busy + PAGES[name], width=width, dark=dark)
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            chrome.picture(
                Path(PICTURES) / f"{name}-{width}-{'dark' if dark else 'light'}-{lang}.png"
            )
        errors = [one for one in chrome.errors if "404" not in one]
        if name == "not-there":
            errors = []
        if chrome.run("document.documentElement.scrollWidth") > width:
            errors.append(f"wider than {width}")
        if axe:
            chrome.run(axe)
            errors += chrome.run(AXE)
        wrong += [f"{name} {width}: {one}" for one in errors]
    assert not wrong
    chrome.cookies(busy, ada.cookies)
    chrome.open(f"{busy}/", width=1400)
    drawn = (
        "[...document.querySelectorAll('figure[data-series]')].map(one => [one.dataset.series, "
        "!!one.querySelector('canvas')])"
    )
    assert dict(chrome.run(drawn)) == {"accepted": True, "p95": True, "backlog": True}
    assert "meizu: " in chrome.run(
        "document.querySelector('figure[data-series=accepted] canvas').getAttribute('aria-label')"
    )
