"""What the pages show to be typed is typed, on real servers: users of the stores, accounts."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from common.model import Vendor
from tests.builders import present
from tests.integration.web.test_doctor import problems
from tests.integration.web.test_doctor_faults import living  # noqa: F401
from tests.unit.test_docs_blocks import blocks
from tests.unit.test_docs_links import ROOT
from workers.cli.demo_data import account_options


def test_the_users_that_the_requirements_make_are_enough(
    cli,
    living,  # noqa: F811
    monkeypatch,
    database_url,
    space,
):
    """The statements of the page, but for the name, which these servers have already."""
    page, name = ROOT / "docs/requirements.md", f"u_{space}"
    statements = "".join(text for _, text in blocks(page, "sql")).replace("pushfleet", name)
    rules = present(re.search(r"ACL SETUSER pushfleet on >PASSWORD ([^`]+)`", page.read_text()))[1]
    own = [f"~{living.settings.prefix}:*", f"~{living.settings.key_prefix}*"]
    own += [f"~{one}" for one in living.settings.event_streams]
    living.redis.set(f"others{space}", "a key that this user may not touch", ex=60)
    admin = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(admin, autocommit=True) as session:
        try:
            for one in filter(str.strip, statements.split(";")):
                session.execute(one)
            url = make_url(database_url).set(username=name, password="…", database=name)
            monkeypatch.setenv("PUSHFLEET_DATABASE_URL", url.render_as_string(hide_password=False))
            own += [one for one in rules.split() if not one.startswith("~")]
            living.redis.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *own)
            for setting in ("REDIS", "CORE"):
                redis_url = make_url(living.settings.redis_url).set(username=name, password="pw")
                monkeypatch.setenv(
                    f"PUSHFLEET_{setting}_URL", redis_url.render_as_string(hide_password=False)
                )
            assert cli("migrate").code == 0
            told = set(problems(cli("doctor", "--json"))) - {"names"}  # streams that others left
            assert told == {"lanes"}, "it has no account yet"
        finally:
            living.redis.execute_command("ACL", "DELUSER", name)
            session.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            session.execute(f"DROP ROLE IF EXISTS {name}")


def accounts_shown(folder: Path) -> Iterator[list[str]]:
    """Each `credential add` of the pages, for a tenant of our own and with what a person fills in:
    what is one capital letter, or a file.
    """
    options = account_options(folder)
    made = {vendor: dict(zip(one[::2], one[1::2], strict=True)) for vendor, one in options}
    for number, page in enumerate([ROOT / "README.md", *(ROOT / "docs/vendors").glob("*.md")]):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for found in re.findall(r"(?:^|`)pushfleet (credential add [^`\n]+)", text, re.MULTILINE):
            words = found.split()
            own = {"--business-id": f"b{number}", **made[Vendor(words[2])]}
            for at, (option, value) in enumerate(itertools.pairwise(words), 1):
                if option in own and re.fullmatch(r"[A-Z]|.*\.\w+", value):
                    words[at] = own[option]
            words[words.index("--app") + 1] = "shown-1"
            yield [re.sub("=N$", "=1000", word) for word in words]


def test_the_accounts_that_the_pages_show_are_taken(cli, tmp_path):
    assert cli("app", "add", "shown-1", "--name", "Shown").code == 0
    shown = list(accounts_shown(tmp_path))
    assert {words[2] for words in shown} == set(Vendor)
    assert not [(words, said.err) for words in shown if (said := cli(*words)).code]
