"""The console over real HTTP: what each page tells, who may do what, in two languages; and once in
a real browser.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from common.model import Decision, Urgency, Vendor
from common.storage import users
from common.storage.lane_entries import NewBatch
from common.storage.migrations import migrate
from common.tokens import BY_OPERATOR
from tests.integration.web.conftest import APP, PATIENCE_S, call, live, message, registered
from tests.integration.web.test_receipts import listens
from tests.tables import spaced
from tests.waiting import eventually
from workers.cli.console_ports import console_ports
from workers.console import frame
from workers.console.app import serve
from workers.console.look import happened
from workers.console.words import DECISIONS, WORDS, language
from workers.delivery.ports import RoundReport
from workers.reports.fleet import quota_findings
from workers.runtime import Runtime

PASSWORD = "correct horse"


@pytest.fixture
def console(runtime, tenant):
    """The console process's serve, in a thread; its base URL."""
    yield from served(runtime)


def served(runtime, ports=None):
    stop = threading.Event()
    thread = threading.Thread(
        target=serve, args=(runtime, stop, ports or replace(console_ports(runtime), examine=list))
    )
    thread.start()
    eventually(lambda: listens(runtime.settings.console_addr))
    yield f"http://{runtime.settings.console_addr}"
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


class Browser:
    """Cookies kept, redirects followed, forms found in the page as a person would."""

    def __init__(self, base: str, lang: str = "en") -> None:
        self.base, self.cookies, self.lang = base, {}, lang

    def go(self, path: str, fields: dict | None = None, **headers):
        body = None if fields is None else urllib.parse.urlencode(fields).encode()
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        told = {"cookie": cookies, "accept-language": self.lang, **headers}
        answer = call(self.base + path, body, told)
        for name, value in answer.headers.items():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0].strip('"')
        if answer.status == 303:
            return self.go(
                next(value for name, value in answer.headers.items() if name.lower() == "location")
            )
        return answer

    def log_in(self, name: str, password: str = PASSWORD):
        return self.go("/login", {"name": name, "password": password})

    def forms(self, path: str) -> list[tuple[str, dict]]:
        """(action, hidden fields) of each form of a page."""
        found = []
        for action, inside in re.findall(
            r'<form method="post" action="([^"]+)"[^>]*>(.*?)</form>', self.go(path).text, re.DOTALL
        ):
            fields = re.findall(r'name="(\w+)" value="([^"]*)"', inside)
            found.append((action, {name: unescape(value) for name, value in fields}))
        return found


@pytest.fixture
def people(runtime, monkeypatch):
    """Whose passwords cost little: a hash carries its cost."""
    monkeypatch.setattr("common.storage.users.COST", (16, 8, 1))
    nobody = users._NOBODY.replace("$32768$", "$16$")
    monkeypatch.setattr("common.storage.users._NOBODY", nobody)
    for name, role in (("vera", "viewer"), ("otto", "operator"), ("ada", "admin")):
        runtime.users.add(name, role, PASSWORD)


def publish(runtime, fleet, *events):
    for one in events:
        written = one if isinstance(one, str) else json.dumps(one)
        runtime.core.xadd(runtime.settings.event_streams[0], {"e": written})
    for _ in range(3):
        fleet.step()
    eventually(fleet.is_quiet, meanwhile=fleet.step)


@pytest.fixture
def busy(runtime, fleet, console):
    """Something has happened: an accepted push, a dead token, a dead letter, a stopped lane, a
    backlog, an old stream.
    """
    publish(runtime, fleet, live("bob"), registered("eve", "tablet", "meizu", "deadeve"))
    publish(runtime, fleet, message("m-<b>1", ["bob"]), message("m2", ["eve"]), "{broken")
    lane = runtime.catalog.lane(APP, Vendor.VIVO, "vivo-1")
    runtime.delivery(Vendor.VIVO).breaker.report(lane, RoundReport(refused=True))
    stored = next(one for one in runtime.credentials.all() if one.vendor == "xiaomi")
    runtime.credentials.add(replace(stored, expires_ms=int(time.time() * 1000) + 3 * 86_400_000))
    with runtime.redis.pipeline() as pipe:  # nobody sends it
        runtime.lane_queues.put(
            pipe, [NewBatch(f"{APP}:meizu:gone", Urgency.BULK, b"x", 1, 1, 1 << 45)]
        )
        queue = runtime.keys.lane_queue(f"{APP}:meizu:gone", Urgency.BULK)
        pipe.execute()
    (entry,) = runtime.redis.zrange(queue, 0, -1)
    runtime.redis.zadd(queue, {entry: (int(time.time() * 1000) - 120_000) * 1000})
    return console


# ---------------------------------------------------------------- what the pages tell


def test_the_overview_tells_what_needs_a_hand(runtime, busy):
    page = unescape(Browser(busy).go("/").text)
    for words in (
        "vivo vivo-1 of 1400000001 is stopped since 20",
        "credential_refused: the vendor refuses the credential",
        "send:meizu:bulk: 1 entries, the oldest 12",
        "Dead letters</a>: 1 of intake",
        "pushfleet credential check 1400000001 vivo vivo-1",
        "pushfleet credential rotate 1400000001 xiaomi xiaomi-1",
        "pushfleet up, or start the lines of the Procfile",
        "pushfleet dead-letters list",
        "credential xiaomi xiaomi-1 of 1400000001 expires 20",
        "none is alive under the prefix",
        "taken by the vendor",
        "the app is gone from the device",
    ):
        assert words in page, words
    assert "<b>2</b>Events in" in page
    assert "<b>1</b>Accepted by vendors" in page


LANE = {"app": "a b", "vendor": "oppo", "business_id": "op", "state": "flowing", "quotas": []}
QUOTAS = {
    "half": (50, 100, []),
    "nearly spent": (90, 100, [("quota_nearly", "pushfleet quota set 'a b' oppo op public=N")]),
    "spent": (100, 100, [("quota_spent", "pushfleet quota set 'a b' oppo op public=N")]),
    "switched off by an operator": (0, 0, []),
    "unlimited": (10**9, None, []),
}


@pytest.mark.parametrize(("used", "limit", "told"), QUOTAS.values(), ids=QUOTAS)
def test_a_day_that_runs_out_of_quota_is_a_problem(used, limit, told):
    quotas = [{"bucket": "public", "used": used, "limit": limit, "runs_out_ms": None}]
    found = quota_findings([{**LANE, "quotas": quotas}])
    assert [(one.problem, one.cure.partition("then ")[2]) for one in found] == told


def test_a_story_is_told_in_the_order_in_which_it_happened():
    attempt = {"at_ms": 3, "status": "200", "code": "", "words": "", "vendor_message_id": "v-1"}
    first = {"stage": "intake", "at_ms": 1, "note": "message.stored"}
    steps = [first, {"stage": "delivery", "at_ms": 4, "note": "accepted"}]
    told = happened(
        {"steps": steps, "attempts": [attempt], "receipts": [{"status": "clicked", "at_ms": 9}]}
    )
    assert [line.stage for line in told] == ["intake", "attempt", "delivery", "receipt"]


def test_the_other_language_shows_the_same_page(runtime, console):
    page = Browser(console).go("/messages?id=m%2F1&user=bob&done=gone&lang=en").text
    assert 'href="?id=m%2F1&amp;user=bob&amp;lang=zh"' in page


def test_the_overview_of_a_calm_fleet_says_so(runtime, console):
    for role in ("intake", "presence", "routing", "upkeep", "receipts"):
        runtime.living.beat(f"{role}.1", role, None)
    page = Browser(console).go("/").text
    assert re.search(r"not alive: [^<]*delivery-meizu", page), (
        "a vendor with a credential wants its process"
    )
    runtime.living.beat("delivery.1", f"delivery:{','.join(Vendor)}", None)
    page = Browser(console).go("/").text
    assert "All is flowing." in page
    assert "<b>6</b><details><summary>Processes alive" in page


def test_a_lanes_quota_is_told(runtime, fleet, console, cli):
    assert cli("quota", "set", APP, "meizu", "meizu-1", "private=5").code == 0
    runtime.catalog.changed()
    publish(runtime, fleet, live("bob"))
    publish(runtime, fleet, message("m1", ["bob"]))
    page = Browser(console).go("/lanes").text
    assert "private: 1 / 5" in page
    assert '<meter min="0" max="5" value="1"' in page
    assert "public: 0 / no limit" in page


def test_a_message_tells_its_story_and_escapes_what_others_wrote(runtime, busy):
    page = Browser(busy).go("/messages?" + urllib.parse.urlencode({"id": "m-<b>1"})).text
    assert "m-&lt;b&gt;1" in page
    [counts] = re.findall('<ul class="counts">(.*?)</ul>', page)
    assert re.search("<b>1</b> <a [^>]+>accepted</a>", counts), counts
    for words in ("bob", "phone", "meizu meizu-1", "presence", "routing", "delivery", "200"):
        assert words in page, words
    assert "晚上一起吃饭吗" not in page, "texts are nobody's business"
    assert "live1" not in page, "nor are tokens"


def test_a_message_is_narrowed_to_a_person(runtime, fleet, console):
    publish(runtime, fleet, live("bob", "bob-d"), live("eve", "eve-d"))
    publish(runtime, fleet, message("g-m", ["bob", "eve"], "group"))
    browser = Browser(console)
    assert "eve-d" in browser.go("/messages?id=g-m").text
    assert "eve-d" not in browser.go("/messages?id=g-m&user=bob").text
    assert "Nothing is known of it" in browser.go(f"/messages?id=g-m&app=other{APP}").text
    assert "Nothing is known of it" in browser.go("/messages?id=nope").text


def test_a_big_group_shows_its_counts_and_the_first_of_its_people(runtime, fleet, console):
    publish(
        runtime, fleet, message("g-big", [f"user{number:03d}" for number in range(250)], "group")
    )

    def decided():
        fleet.step()
        page = Browser(console).go("/messages?id=g-big").text
        return page if re.search("<b>250</b> <a [^>]+>no_device</a>", page) else ""

    page = eventually(decided)
    assert page.count("<details") == 100
    seen = re.findall(r">(user\d+)</span>", page)
    while more := re.search(r'href="([^"]+)">more<', page):
        page = Browser(console).go(unescape(more[1])).text
        seen += re.findall(r">(user\d+)</span>", page)
    assert seen == [f"user{number:03d}" for number in range(250)]
    assert "<details" not in Browser(console).go("/messages?id=g-big&decision=accepted").text
    assert (
        Browser(console).go("/messages?id=g-big&decision=no_device").text.count("<details") == 100
    )


def test_dead_letters_are_told_without_their_content(runtime, busy):
    page = Browser(busy).go("/dead-letters").text
    assert "not_json" in page
    assert "{broken" not in page


def test_no_page_holds_a_secret_a_token_or_another_host(runtime, busy, people):
    browser = Browser(busy)
    browser.log_in("ada")
    for path in spaced("""
        / /messages?id=m2 /lanes /credentials /credentials/form?vendor=meizu /audit /dead-letters
        /login
    """):
        answer = browser.go(path)
        assert answer.status == 200
        for hidden in spaced("simulated-secret-1 deadeve live1 callback Y2FsbGJhY2s scrypt"):
            assert hidden not in answer.text, (path, hidden)
        assert not re.findall(r"(?:https?:)?//", answer.text)
        assert set(re.findall(r"<script[^>]*>", answer.text)) == set(
            re.findall(r'<script src="/static/[^"]+" defer>', answer.text)
        )
        assert "style=" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
    assert browser.go("/static/console.css").headers["content-type"].startswith("text/css")


# ---------------------------------------------------------------- languages


@pytest.mark.parametrize(
    ("asked", "remembered", "accepted", "expected"),
    [
        (None, None, "", "en"),
        (None, None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, None, "fr-FR,zh;q=0.5", "zh"),
        (None, None, "en-US,zh;q=0.5", "en"),
        (None, "zh", "en", "zh"),
        ("en", "zh", "zh", "en"),
        ("xx", "yy", "de", "en"),
    ],
)
def test_the_language_is_what_is_asked_remembered_or_accepted(
    asked, remembered, accepted, expected
):
    assert language(asked, remembered, accepted) == expected


def test_a_language_that_was_asked_for_stays(console):
    browser = Browser(console)
    assert ">Overview<" in browser.go("/").text
    page = browser.go("/?lang=zh").text
    assert '<html lang="zh-CN">' in page
    assert ">概览<" in page
    assert ">通道<" in browser.go("/lanes").text
    assert ">Lanes<" in browser.go("/lanes?lang=en").text


def test_every_word_stands_in_both_languages_with_the_same_gaps():
    for key, (english, chinese) in (WORDS | DECISIONS).items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), key
        assert english
        assert chinese
    assert set(DECISIONS) == set(Decision)


# ---------------------------------------------------------------- who may do what


def test_while_nobody_is_registered_this_machine_may_look_and_not_act(runtime, busy):
    browser = Browser(busy)
    assert "pushfleet user add NAME" in browser.go("/").text
    assert browser.forms("/lanes") == browser.forms("/dead-letters") == []
    answer = browser.go(
        "/lanes/pause", {"app": APP, "vendor": "meizu", "business_id": "meizu-1", "token": ""}
    )
    assert answer.status == 403
    assert runtime.catalog.lane(APP, Vendor.MEIZU, "meizu-1").paused is False
    assert browser.go("/", host="evil.example").status == 403, (
        "a name that was pointed at this machine"
    )


def test_an_address_that_others_reach_is_never_open(
    settings_with, database_url, runtime, tenant, free_port
):
    """0.0.0.0 without people: the login page says how to add somebody."""
    settings = replace(runtime.settings, console_addr=f"0.0.0.0:{free_port()}")
    other = Runtime(settings, "test")
    migrate(other.engine)
    for base in served(other):
        answer = Browser(base.replace("0.0.0.0", "127.0.0.1")).go("/lanes")
        assert "pushfleet user add" in answer.text
        assert "meizu-1" not in answer.text
    other.close()


def test_with_people_every_page_asks_for_a_login(console, people):
    browser = Browser(console)
    for path in ("/", "/messages?id=m1", "/lanes", "/dead-letters"):
        answer = call(console + path)
        assert answer.status == 303
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)
        assert answer.headers["location"].partition("?")[0] == "/login"
        assert asked == ({"back": [path]} if path != "/" else {})
    assert browser.log_in("otto", "wrong password").status == 403
    assert browser.log_in("nobody").status == 403
    assert browser.cookies.get("pushfleet") is None
    assert "otto (operator)" in browser.log_in("otto").text
    assert "otto (运维)" in browser.go("/?lang=zh").text


def test_a_session_ends_with_the_password_the_person_and_the_logout(runtime, console, people):
    def looks(browser):
        return "otto (operator)" in browser.go("/lanes").text

    browsers = [Browser(console) for _ in range(3)]
    for browser in browsers:
        browser.log_in("otto")
    assert all(looks(browser) for browser in browsers)
    [(action, fields)] = [form for form in browsers[0].forms("/") if form[0] == "/logout"]
    browsers[0].go(action, fields)
    assert [looks(browser) for browser in browsers] == [False, True, True]
    runtime.users.add("otto", "operator", "another password")
    assert not any(looks(browser) for browser in browsers)
    browsers[1].log_in("otto", "another password")
    assert looks(browsers[1])
    runtime.users.remove("otto")
    assert not looks(browsers[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1] + ("A" if c[-1] != "A" else "B"),
        lambda c: "x" + c,
        lambda c: c.split(".")[0],
        lambda c: ".",
    ],
)
def test_a_cookie_that_we_did_not_sign_is_nobodys(console, people, change):
    browser = Browser(console)
    browser.log_in("ada")
    browser.cookies["pushfleet"] = change(browser.cookies["pushfleet"])
    assert "ada (admin)" not in browser.go("/").text


def test_guessing_passwords_is_slowed_down(console, people):
    browser = Browser(console)
    statuses = [browser.log_in("otto", f"guess number {number}").status for number in range(11)]
    assert statuses == [403] * 10 + [429]
    assert browser.log_in("otto").status == 429


LONG = "o" * 64
SPELLINGS = ("Otto", " otto", "otto ", "ot\0to", "otto\u200b", "\uff4ftto", LONG + "x", LONG + " ")


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_other_spelling_of_a_name_reaches_its_account(console, people, runtime, name):
    """Guesses under it would pass the account's own limit."""
    runtime.users.add(LONG, "viewer", PASSWORD)
    assert Browser(console).log_in(name).status == 403


def test_a_callers_own_header_does_not_make_it_another_caller(console, people):
    statuses = [
        call(
            f"{console}/login",
            b"name=otto&password=wrong",
            headers={"x-forwarded-for": f"203.0.113.{number}"},
        ).status
        for number in range(25)
    ]
    assert statuses == [403] * 10 + [429] * 15


def test_one_account_has_a_limit_of_its_own_and_who_knows_the_password_uses_nothing(
    runtime, people
):
    trusting = Runtime(replace(runtime.settings, trusted_proxies=("127.0.0.0/8",)), "test")
    for console in served(trusting):

        def tries(address, password="wrong", base=console):
            body = f"name=otto&password={urllib.parse.quote(password)}".encode()
            return call(f"{base}/login", body, headers={"x-forwarded-for": address}).status

        assert [tries("203.0.113.1", PASSWORD) for _ in range(12)] == [303] * 12
        assert [tries(f"203.0.113.{number}") for number in range(35)] == [403] * 30 + [429] * 5
        headers = {"x-forwarded-for": "203.0.113.9"}
        told = call(f"{console}/login", b"name=ada&password=correct+horse", headers=headers)
        assert told.status == 303
    trusting.close()


#: The headers that these proxies add, or replace, before a console on 127.0.0.1:PORT, as they come.
PROXIES = {
    "Caddy": {
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "push.example.com",
    },
    "nginx with the usual lines": {"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9"},
    "Traefik": {"x-forwarded-host": "push.example.com", "x-real-ip": "203.0.113.9"},
}


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_open_mode_is_not_open_through_a_proxy(console, proxy):
    assert call(console + "/").status == 200
    answer = call(console + "/", headers=PROXIES[proxy])
    assert answer.status == 403
    assert "pushfleet user add" in answer.text


NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
 uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {console}; {more} }} }} }}
"""  # noqa: E501


def behind_nginx(folder, port, console, more):
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, port=port, console=console, more=more)
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def behind_caddy(folder, port, console, more):
    """The lines of docs/reverse-proxy.md, without TLS."""
    page = (Path(__file__).parents[3] / "docs/reverse-proxy.md").read_text()
    inner = re.search(r"push\.example\.com \{\n(.*?)\n\}", page, re.DOTALL)[1].replace(
        "127.0.0.1:8080", console.removeprefix("http://")
    )
    (folder / "Caddyfile").write_text(
        f"{{\nadmin off\nauto_https off\n}}\nhttp://127.0.0.1:{port} {{\n{inner}\n{more}}}\n"
    )
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


FORWARDED = (
    "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
)
BEHIND = {
    "nginx": (behind_nginx, ""),
    "nginx, usual lines": (behind_nginx, FORWARDED),
    "caddy": (behind_caddy, ""),
}


@pytest.mark.parametrize("name", BEHIND)
def test_behind_a_proxy_people_can_work_and_the_open_mode_is_shut(
    runtime, tenant, console, tmp_path, free_port, name
):
    (command, more), port = BEHIND[name], free_port()
    if shutil.which(name.partition(",")[0]) is None:
        pytest.skip(f"no {name} here (Debian: apt-get install nginx caddy)")
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    process = subprocess.Popen(
        command(tmp_path, port, console, more), env=env, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: listens(f"127.0.0.1:{port}"))
        assert call(f"http://127.0.0.1:{port}/").status == 403, "before the first person"
        assert name != "caddy" or call(f"http://127.0.0.1:{port}/metrics/targets").status == 404
        runtime.users.add("otto", "operator", PASSWORD)
        browser = Browser(f"http://127.0.0.1:{port}")
        [(_, fields)] = [form for form in browser.forms("/login") if form[0] == "/login"]
        origin = f"http://127.0.0.1:{port}"
        given = {**fields, "name": "otto", "password": PASSWORD}
        assert "otto (operator)" in browser.go("/login", given, origin=origin).text
        form = next(
            form for form in browser.forms("/lanes") if form[1].get("business_id") == "huawei-1"
        )
        assert "The lane is paused" in browser.go(*form, origin=origin).text
        evil = {"name": "otto", "password": PASSWORD}
        stranger = Browser(f"http://127.0.0.1:{port}")
        assert stranger.go("/login", evil, origin="https://evil.example").status == 403
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_a_browser_says_whether_a_form_is_ours(console, people):
    browser = Browser(console)
    browser.log_in("otto")
    form = next(
        form for form in browser.forms("/lanes") if form[1].get("business_id") == "huawei-1"
    )
    sites = ("cross-site", "same-site", "same-origin")
    said = [browser.go(*form, **{"sec-fetch-site": site}).status for site in sites]
    assert said == [403, 403, 200]


def test_an_operator_pauses_and_resumes_a_lane(runtime, console, people):
    browser = Browser(console)
    browser.log_in("otto")

    def press(word):
        forms = [
            form for form in browser.forms("/lanes") if form[1].get("business_id") == "huawei-1"
        ]
        [(action, fields)] = forms
        assert action == f"/lanes/{word}"
        return browser.go(action, fields)

    assert "The lane is paused" in press("pause").text
    assert eventually(lambda: runtime.catalog.lane(APP, Vendor.HUAWEI, "huawei-1").paused)
    assert "The lane flows again" in press("resume").text
    assert eventually(lambda: not runtime.catalog.lane(APP, Vendor.HUAWEI, "huawei-1").paused)


def test_an_operator_replays_a_dead_letter(runtime, busy, people):
    browser = Browser(busy)
    browser.log_in("ada")
    [(action, fields)] = [
        form for form in browser.forms("/dead-letters") if form[0] == "/dead-letters/replay"
    ]
    assert "The letter was replayed" in browser.go(action, fields).text
    assert [entry[b"e"] for _, entry in runtime.core.xrange(runtime.settings.event_streams[0])] == [
        b"{broken"
    ]
    assert "It is not there any more" in browser.go(action, fields).text


def test_a_group_of_letters_is_replayed_or_dropped_as_one(runtime, busy, fleet, people):
    junk = ["{broken"] * 4
    publish(
        runtime, fleet, *junk, '{"v":1,"id":"x","type":"message.stored","app":"nobody","data":{}}'
    )
    browser = Browser(busy)
    page = browser.log_in("otto") and browser.go("/dead-letters").text
    assert re.search(r"<b>not_json</b>.*?>5<", page, re.DOTALL)
    all_forms = browser.forms("/dead-letters")
    forms = {form[1]["kind"]: form[1] for form in all_forms if form[0] == "/dead-letters/all"}
    dropped = {**forms.pop("not_json"), "do": "drop"}
    assert "The letters were dropped" in browser.go("/dead-letters/all", dropped).text
    fields = forms["wrong_shape"]
    again = {**fields, "do": "replay"}
    assert "The letter was replayed" in browser.go("/dead-letters/all", again).text
    assert "wrong_shape" not in str(runtime.dead_letters.heads())
    again = {**fields, "do": "replay"}
    assert "It is not there any more" in browser.go("/dead-letters/all", again).text


def test_a_person_has_a_page(runtime, busy, fleet, people):
    presence = f"background|android|{int(time.time() * 1000) + 60_000}"
    runtime.core.hset(f"{runtime.settings.key_prefix}presence:{{{APP}:bob}}", "phone", presence)
    browser = Browser(busy)
    browser.log_in("otto")
    page = browser.go(f"/people?app={APP}&user=bob").text
    for words in (
        "<b>phone</b>",
        "meizu meizu-1",
        "phone: background (android)",
        "m-&lt;b&gt;1",
        "accepted",
    ):
        assert words in page, words
    assert "live1" not in page, "no token"
    [(action, fields)] = [
        form for form in browser.forms(f"/people?app={APP}&user=bob") if form[0] == "/people/device"
    ]
    assert "The device was changed" in browser.go(action, {**fields, "do": "retire"}).text
    found = runtime.devices.listed(APP, "bob")[0]
    # by this reason it stays so where all that a lane's vendor retired are restored
    assert (found["state"], found["reason"]) == ("retired", BY_OPERATOR)
    browser.go(action, {**fields, "do": "restore"})
    assert runtime.devices.listed(APP, "bob")[0]["state"] == "active"
    assert "No device is registered" in browser.go(f"/people?app={APP}&user=nobody-here").text
    viewer = Browser(busy)
    viewer.log_in("vera")
    token = viewer.forms("/")[0][1]["token"]
    assert viewer.go(action, {**fields, "do": "retire", "token": token}).status == 403
    drop = {"stage": "intake", "kind": "not_json", "do": "drop", "token": token}
    assert viewer.go("/dead-letters/all", drop).status == 403


def test_a_viewer_looks_only(runtime, busy, people):
    browser = Browser(busy)
    browser.log_in("vera")
    assert {
        action for path in ("/lanes", "/dead-letters") for action, _ in browser.forms(path)
    } == {"/logout"}
    token = browser.forms("/")[0][1]["token"]
    letter = runtime.dead_letters.heads()[0]["id"]
    for path, fields in (
        ("/lanes/pause", {"app": APP, "vendor": "meizu", "business_id": "meizu-1"}),
        ("/dead-letters/replay", {"id": letter}),
    ):
        assert browser.go(path, {**fields, "token": token}).status == 403
    assert len(runtime.dead_letters.heads()) == 1
    assert runtime.catalog.lane(APP, Vendor.MEIZU, "meizu-1").paused is False


def test_another_site_can_not_act_for_an_operator(runtime, console, people):
    otto, ada = Browser(console), Browser(console)
    otto.log_in("otto")
    ada.log_in("ada")
    fields = {"app": APP, "vendor": "meizu", "business_id": "meizu-1"}
    token = dict(otto.forms("/lanes"))["/lanes/pause"]["token"]
    tries = [
        otto.go("/lanes/pause", fields),
        otto.go("/lanes/pause", {**fields, "token": "x" * 43}),
        ada.go("/lanes/pause", {**fields, "token": token}),
        otto.go("/lanes/pause", {**fields, "token": token}, origin="https://evil.example"),
        otto.go("/lanes/pause?" + urllib.parse.urlencode({**fields, "token": token})),
    ]
    assert [answer.status for answer in tries] == [403, 403, 403, 403, 405]
    assert runtime.catalog.lane(APP, Vendor.MEIZU, "meizu-1").paused is False


# ---------------------------------------------------------------- machines


def test_prometheus_finds_every_living_process(runtime, console):
    assert json.loads(call(console + "/metrics/targets").body) == []
    runtime.metrics_at = "worker-7:9100"
    runtime.alive()
    one = {"targets": ["worker-7:9100"], "labels": {"process": "test"}}
    assert json.loads(call(console + "/metrics/targets").body) == [one]
    runtime.redis.delete(runtime.keys.alive("test"))
    assert json.loads(call(console + "/metrics/targets").body) == [one], (
        "killed: the scraper must see that it is down"
    )
    runtime.leave()
    assert runtime.living.targets() == {}


def test_without_redis_prometheus_keeps_the_list_it_had(runtime, tenant, restartable_valkey):
    settings = replace(
        runtime.settings, redis_url=restartable_valkey.url, core_url=restartable_valkey.url
    )
    own = Runtime(settings, "test")
    for url in served(own):
        assert call(url + "/metrics/targets").status == 200
        restartable_valkey.kill()
        assert call(url + "/metrics/targets").status == 503
        assert call(url + "/healthz").status == 200
    own.close()


def test_health_and_unknown_pages(console, people):
    assert call(console + "/healthz").status == 200
    answer = call(console + "/nope", headers={"accept-language": "zh"})
    assert answer.status == 404
    assert "页面不存在" in answer.text
    assert call(console + "/static/../app.py").status == 404
    assert call(console + "/login", b"x" * 20_000).status == 413


def test_a_store_that_hangs_is_said_in_time(runtime, tenant, monkeypatch):
    monkeypatch.setattr(frame, "PAGE_S_MAX", 0.3)
    hang = threading.Event()

    def hung(lang: str) -> list[dict[str, object]]:
        hang.wait(PATIENCE_S)
        return []

    ports = replace(console_ports(runtime), lanes=hung)
    for base in served(runtime, ports):
        answer = call(base + "/lanes", headers={"accept-language": "zh"})
        assert answer.status == 503
        assert "无法连接服务器" in answer.text
        assert f'<body data-refresh="{frame.REFRESH_S}">' in answer.text, "it looks again by itself"
        hang.set()
        assert eventually(lambda base=base: call(base + "/lanes").status == 200)


def test_a_store_that_is_away_is_said(
    settings_with, database_url, restartable_valkey, free_port, runtime, tenant
):
    settings = replace(
        runtime.settings,
        redis_url=restartable_valkey.url,
        core_url=restartable_valkey.url,
        console_addr=f"127.0.0.1:{free_port()}",
    )
    other = Runtime(settings, "test")
    for base in served(other):
        assert call(base + "/").status == 200
        restartable_valkey.kill()
        answer = call(base + "/")
        assert answer.status == 503
        assert "Redis" in answer.text
        assert call(base + "/healthz").status == 200
        restartable_valkey.restart()
        assert eventually(lambda base=base: call(base + "/").status == 200)
    other.close()
