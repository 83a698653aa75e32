"""Off the trodden path of the console: logins in between, links of other sites, forms that are not
whole, hundreds of lanes, ids as long as they may be, a console that is away.
"""

import os
import re
import subprocess
import sys
import time
import urllib.parse
from dataclasses import replace
from html import unescape

import pytest

from common.model import Vendor
from tests.builders import present
from tests.integration.web.conftest import APP, ROOT, call, message, registered
from tests.integration.web.test_console import (  # noqa: F401 - fixtures
    PASSWORD,
    Browser,
    console,
    people,
    publish,
    served,
)
from tests.integration.web.test_console_pages import chrome  # noqa: F401 - a fixture
from tests.waiting import eventually
from workers.console import pages
from workers.console.frame import local_address
from workers.runtime import Runtime

ASKED = "/messages?id=m-1&user=b%26b"
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


def goes_on_to(answer) -> str:
    """Where the browser goes from there by itself."""
    return str(answer.headers["refresh"]).removeprefix("0; url=")


def many(runtime, count: int, *, paused: int = 0) -> None:
    """So many lanes more, of the tenant's Meizu account."""
    stored = next(one for one in runtime.credentials.all() if one.vendor == Vendor.MEIZU)
    for number in range(count):
        business_id = f"more-{number:03d}"
        runtime.credentials.add(replace(stored, business_id=business_id, version=1))
        if number < paused:
            runtime.credentials.set_paused(APP, "meizu", business_id, True)
            runtime.lane_states.hold(f"{APP}:meizu:{business_id}", True)
    runtime.catalog.changed()


# ---------------------------------------------------------------- logins in between


def test_a_login_brings_back_to_the_page_that_was_asked_for(console, people):  # noqa: F811
    browser = Browser(console)
    page = browser.go(ASKED)
    back = unescape(present(re.search(r'name="back" value="([^"]+)"', page.text))[1])
    assert back == ASKED
    fields = {"name": "otto", "password": "not this", "back": back}
    again = browser.go("/login", fields)
    assert again.status == 403
    assert f'name="back" value="{ASKED.replace("&", "&amp;")}"' in again.text, "a slip keeps it"
    there = call(
        console + "/login", urllib.parse.urlencode({**fields, "password": PASSWORD}).encode()
    )
    assert (there.status, there.headers["location"]) == (303, ASKED)


@pytest.mark.parametrize(
    "told",
    [
        *("//evil.example", "/\\evil.example", "https://evil.example/", "evil", ""),
        *("/\t/evil.example", "/\r\nset-cookie: a=b", "/é", "/" + "a" * 2_000),
    ],
)
def test_a_login_brings_back_to_no_other_site(told):
    assert local_address(told) == "/"


def test_a_session_that_has_ended_is_told(console, people):  # noqa: F811
    browser = Browser(console)
    browser.log_in("otto")
    browser.cookies["pushfleet"] += "x"
    assert "Your session has ended" in browser.go(ASKED).text
    browser.cookies["pushfleet"] = "long over"
    page = browser.go("/lanes/pause", {"app": APP, "vendor": "meizu", "business_id": "meizu-1"})
    assert "nothing was done" in page.text
    assert "Your session" not in Browser(console).go(ASKED).text, "a first visit has none"


def test_a_link_of_another_site_opens_the_page_with_the_session(console, people):  # noqa: F811
    """A browser keeps a strict cookie from it, and sends it with the page that follows."""
    browser = Browser(console)
    answer = call(console + ASKED, headers=LINK)
    assert (answer.status, goes_on_to(answer)) == (200, ASKED)
    assert "pushfleet user" not in answer.text
    browser.log_in("otto")
    assert "otto (operator)" in browser.go(ASKED, None, **LINK).text
    same = call(console + ASKED, headers={**LINK, "sec-fetch-site": "same-origin"})
    assert same.status == 303, "who has none after all logs in"


def test_a_forms_address_alone_leads_to_its_page(console, people):  # noqa: F811
    """As by the other language below an answer to a form, or by a reload of it."""
    for path, page in (
        ("/credentials/store", "/credentials"),
        ("/lanes/pause", "/lanes"),
        ("/people/push", "/people"),
        ("/dead-letters/all", "/dead-letters"),
        ("/logout", "/"),
    ):
        answer = call(f"{console}{path}?lang=zh")
        assert (answer.status, goes_on_to(answer)) == (405, f"{page}?lang=zh")
        assert "请稍候" in answer.text


def test_a_slash_too_many_leads_to_the_page_whatever_a_proxy_says(console, people):  # noqa: F811
    """No scheme and no host: behind a proxy that ends TLS they are not those of the browser."""
    told = {"host": "inner.example"}
    for path, page in (
        ("/lanes/?q=a%26b&lang=zh", "/lanes?q=a%26b&lang=zh"),
        ("/credentials/form//?vendor=meizu", "/credentials/form?vendor=meizu"),
        ("/api/v1/counts/", "/api/v1/counts"),
    ):
        answer = call(console + path, headers=told)
        assert (answer.status, answer.headers["location"]) == (307, page)
    for path in ("//lanes/", "/nowhere/", "//evil.example/lanes/"):
        assert call(console + path, headers=told).status == 404


def test_a_form_that_is_not_taken_says_so(console, people):  # noqa: F811
    many_fields = urllib.parse.urlencode({f"f{number}": "x" for number in range(30)}).encode()
    told = {"content-type": "multipart/form-data"}
    for body, headers, status, words in (
        (b"x" * 20_000, {}, 413, "too large"),
        (many_fields, {}, 400, "did not arrive whole"),
        (b"no boundary", told, 400, "did not arrive whole"),
    ):
        answer = call(console + "/login", body, headers)
        assert answer.status == status
        assert words in answer.text


# ---------------------------------------------------------------- hundreds of lanes


def test_an_overview_of_many_lanes_shows_those_that_do_not_flow(runtime, console):  # noqa: F811
    many(runtime, 60, paused=14)
    page = Browser(console).go("/").text
    verdict, rest = page.split('<section class="figures">')
    assert len(re.findall("<li>", verdict.split("<details>")[0])) == pages.PROBLEMS_MAX
    assert re.search(r"<summary>\d+ more</summary>", verdict)
    assert verdict.count(" is paused by an operator") == 14
    rows = re.findall(r'<span class="dot (\w+)">(\w+)</span>', rest.split("<h2>Lanes</h2>")[1])
    assert rows == [("bad", "paused")] * 14 + [("good", "flowing")] * 6
    assert f'<a href="/lanes">All {60 + len(runtime.credentials.all()) - 60} lanes</a>' in page


def test_lanes_and_accounts_are_searched(runtime, console, people):  # noqa: F811
    many(runtime, 230, paused=3)
    otto = Browser(console)
    otto.log_in("otto")
    count = len(runtime.credentials.all())
    for path in ("/lanes", "/credentials"):
        page = otto.go(path).text
        assert f"{count} found, the first 200 are shown" in page
        assert "<b>meizu</b>" in page
        page = otto.go(f"{path}?q=MORE-00&vendor=meizu").text
        assert "10 found" in page
        assert page.count("<td><b>meizu</b></td>") == 10
        assert "None of them." in otto.go(f"{path}?q=more&vendor=xiaomi").text
    assert otto.go("/lanes?state=paused").text.count(">Resume</button>") == 3
    forms = otto.forms("/lanes?q=more-00&state=flowing")
    action, fields = next(form for form in forms if form[0].startswith("/lanes/pause"))
    page = otto.go(unescape(action), fields)
    assert "The lane is paused" in page.text
    assert "6 found" in page.text, "the search stays"


def test_each_button_says_what_it_is_for(runtime, console, people):  # noqa: F811
    otto = Browser(console)
    otto.log_in("otto")
    for path in ("/lanes", "/credentials"):
        labels = re.findall(r'<button aria-label="([^"]+)">', otto.go(path).text)
        assert len(set(labels)) == len(labels) > 3
        assert f"Pause: meizu meizu-1 {APP}" in labels


def test_a_tenant_that_is_not_there_is_told(console, people):  # noqa: F811
    otto = Browser(console)
    otto.log_in("otto")
    page = otto.go("/people?app=nobody&user=bob").text
    assert "There is no tenant nobody" in page
    assert "Send a test push" not in page
    assert "Send a test push" in otto.go(f"/people?app={APP}&user=bob").text


# ---------------------------------------------------------------- a server away, a poor terminal


def test_a_lane_is_paused_while_redis_is_away(
    runtime,
    tenant,
    people,  # noqa: F811
    restartable_valkey,
    free_port,
):
    """It is stored and noted; the fleet learns of it when Redis is back."""
    url = restartable_valkey.url
    settings = replace(runtime.settings, redis_url=url, core_url=url)
    other = Runtime(replace(settings, console_addr=f"127.0.0.1:{free_port()}"), "test")
    for base in served(other):
        otto = Browser(base)
        otto.log_in("otto")
        forms = [form for form in otto.forms("/credentials") if form[0] == "/lanes/pause"]
        form = next(form for form in forms if form[1]["business_id"] == "huawei-1")
        assert not present(other.catalog.lane(APP, Vendor.HUAWEI, "huawei-1")).paused
        restartable_valkey.kill()
        page = otto.go(*form)
        restartable_valkey.restart()
        eventually(other.redis.ping)
        other.catalog.check()  # as upkeep does
        lane = present(other.catalog.fresh().lanes.get((APP, Vendor.HUAWEI, "huawei-1")))
    other.close()
    assert "It is stored, but Redis can&#39;t be reached" in page.text
    assert lane.paused
    noted = [row["subject"] for row in runtime.audit.listed() if row["action"] == "lane paused"]
    assert noted == ["huawei huawei-1"]


def test_a_terminal_that_lacks_letters_is_given_others(runtime, tenant, cli):
    """As of another country's: a list does not end in the middle."""
    assert cli("app", "add", APP, "--name", "聊天 \N{PARTY POPPER}").code == 0
    for encoding, seen in (("ascii", "\\u804a\\u5929"), ("gbk", "聊天 \\U0001f389")):
        done = subprocess.run(
            [sys.executable, "-m", "workers", "app", "list"],
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert seen in done.stdout.decode(encoding)


# ---------------------------------------------------------------- a real browser


def test_ids_as_long_as_they_may_be_fit_on_a_page(runtime, fleet, console, people, chrome):  # noqa: F811
    app, business_id, user = "a" * 64, "b" * 32, "u" * 64
    stored = next(one for one in runtime.credentials.all() if one.vendor == Vendor.MEIZU)
    tenant = runtime.tenants.all()[APP]
    runtime.tenants.add(replace(tenant, app=app))
    runtime.credentials.add(replace(stored, app=app, business_id=business_id, version=1))
    runtime.catalog.changed()
    device = registered(user, "d" * 64, "meizu", "liveuuu")
    device["data"]["business_id"] = business_id
    publish(runtime, fleet, {**device, "app": app})
    publish(runtime, fleet, {**message("m" * 128, [user]), "app": app})
    publish(runtime, fleet, {**message("n" * 128, [user]), "app": "n" * 64})
    ada = Browser(console)
    ada.log_in("ada")
    named = urllib.parse.urlencode({"app": app, "user": user, "id": "m" * 128, "vendor": "meizu"})
    asked = [
        *("/", "/lanes", "/credentials", "/dead-letters", "/audit"),
        *(f"/people?{named}", f"/messages?{named}"),
        f"/credentials/form?vendor=meizu&app={app}&business_id={business_id}",
    ]
    wide = []
    chrome.cookies(console, {**ada.cookies, "lang": "en"})
    for path in asked:
        for width in (1400, 768, 360):
            chrome.open(console + path, width=width)
            seen = chrome.run("document.documentElement.scrollWidth")
            wide += [(path[:20], width, seen)] if seen > width else []
    assert not wide
    assert "m" * 128 in ada.go(f"/people?{named}").text, "the push is on the page"


def test_an_open_overview_outlives_the_console(console, chrome, monkeypatch):  # noqa: F811
    """It says that it is old, and goes on when the console is there again."""
    monkeypatch.setattr(pages, "REFRESH_S", 1)
    chrome.cookies(console, {"lang": "en"})
    chrome.open(f"{console}/")
    chrome.offline(True)
    told = "document.getElementById('console-away')?.hidden"
    try:
        assert eventually(lambda: chrome.run(told) is False)
        assert chrome.run("document.querySelector('.verdict') !== null"), "the last page stands"
    finally:
        chrome.offline(False)
    assert eventually(lambda: chrome.run(told) is True)
    chrome.run("document.querySelector('.figures summary').click(); window.opened = true")
    until = time.monotonic() + 2.5
    eventually(lambda: time.monotonic() > until)
    assert chrome.run("window.opened") is True, "what is opened is not closed by a look"
