"""The one list of problems: whole in both languages, and the alerts ring in its words."""

import re
from pathlib import Path

import pytest
import yaml

from common.values import BothWords
from workers.console.words import ACTIONS, CHECKS
from workers.reports.findings import bad
from workers.reports.fleet import EXPIRES_SOON_DAYS, QUOTA_SHARE
from workers.reports.problems import PROBLEMS, filled
from workers.reports.servers import MEMORY_SHARE_MAX

ROOT = Path(__file__).parents[3]
RULES = {
    one["alert"]: one
    for group in yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"]
    for one in group["rules"]
}
HAN = re.compile(r"[\u4e00-\u9fff]")


def places(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template))


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_says_the_same_in_both_languages(name):
    kind = PROBLEMS[name]
    assert places(kind.found[0]) == places(kind.found[1])
    assert HAN.search(kind.found[1]) or set(re.sub(r"\{\w+\}", "", kind.found[1])) <= set(" ：（）")
    assert not HAN.search("".join((kind.found[0], kind.cure[0])))
    assert places(kind.cure[0]) == places(kind.cure[1])
    assert kind.page in ("/", "/lanes", "/credentials", "/dead-letters")
    assert not kind.alert or kind.alert in RULES


#: Which check finds a problem, by the calls of `bad`.
FOUND_BY = {
    (check, problem)
    for path in (ROOT / "workers/reports").glob("*.py")
    for check, problem in re.findall(r'bad\(\s*"([a-z ]+)",\s*"(\w+)"', path.read_text())
}


@pytest.mark.parametrize(("check", "problem"), sorted(FOUND_BY))
def test_a_problem_does_not_repeat_the_name_of_its_check(check, problem):
    """Doctor and the console write the check's name before it."""
    for name, words in zip(CHECKS[check], PROBLEMS[problem].found, strict=True):
        assert not words.lower().startswith((f"{name.lower()}:", f"{name}："))


def test_a_user_of_redis_gets_the_rights_of_the_requirements_page():
    rights = "~push:* ~im:* &* +@all -@admin +info"
    assert rights in (ROOT / "docs/requirements.md").read_text()
    assert all(rights in words for words in PROBLEMS["redis_rights"].cure)


def test_a_value_may_differ_by_language():
    waiting = BothWords(", 3 wait", "，3 条在等待")
    one = bad(
        "lanes", "lane_paused", lane="vivo v of a", key="a vivo v", waiting=waiting, since_ms=5
    )
    assert (one.found, one.words("zh"), one.help("zh")) == (
        "vivo v of a is paused by an operator, 3 wait",
        "vivo v of a已由运维人员暂停，3 条在等待",
        "pushfleet credential resume a vivo v",
    )
    assert (one.page, one.since_ms, one.ok) == ("/lanes", 5, False)


LANE = "{{ $labels.vendor }} {{ $labels.business_id }} of {{ $labels.app }}"
#: What a rule's template writes for a value of ours; "" for what only doctor knows.
WRITTEN = {
    "lane": LANE,
    "waiting": "",
    "lines": "{{ $labels.worker }}",
    "bucket": "{{ $labels.bucket }}",
    "age_s": '{{ $value | printf "%.0f" }}',
}
#: The part of the words that the rule has, too.
SHARED = ("lane_paused", "credential_expired", "lane_guard", "processes_missing", "delayed_overdue")


@pytest.mark.parametrize("name", SHARED)
def test_an_alert_rings_in_the_words_of_its_problem(name):
    blanks = {place: WRITTEN[place] for place in places(PROBLEMS[name].found[0])}
    words = filled(PROBLEMS[name].found, "en", blanks)
    assert RULES[PROBLEMS[name].alert]["annotations"]["summary"].startswith(words)


def test_a_stopped_lane_rings_with_its_cause():
    summary = RULES["PushfleetLaneStopped"]["annotations"]["summary"]
    assert summary.startswith(f"{LANE} is stopped")
    assert "pushfleet_lane_stopped_since" in summary


def test_the_console_has_words_for_what_the_command_line_writes_down():
    source = "".join(path.read_text() for path in (ROOT / "workers/cli").glob("*.py"))
    actions = set(re.findall(r'noted\(runtime, "([^"]+)"', source))
    assert len(actions) > 10
    assert actions <= set(ACTIONS)


def test_the_console_has_words_for_each_of_doctors_checks():
    source = "".join(path.read_text() for path in (ROOT / "workers/reports").glob("*.py"))
    checks = set(re.findall(r'\b(?:bad|good|away|_safely)\(\s*"([^"]+)"', source))
    assert len(checks) > 15
    assert checks <= set(CHECKS)


LIMITS = {
    "PushfleetCredentialExpires": f"{EXPIRES_SOON_DAYS} * 86400 > ",
    "PushfleetQuotaNearlySpent": f" > {QUOTA_SHARE}",
    "PushfleetRedisMemory": f" > {MEMORY_SHARE_MAX}",
}


@pytest.mark.parametrize(("alert", "limit"), LIMITS.items(), ids=LIMITS)
def test_an_alert_rings_where_doctor_and_console_warn(alert, limit):
    assert limit in RULES[alert]["expr"]
