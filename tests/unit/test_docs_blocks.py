"""Every block of code in the pages is what it says: shell that bash reads, Python that compiles,
JSON that parses and events that the schema takes, YAML that parses, settings that are taken,
addresses that the HTTP doors have, queries that Prometheus' own tool takes.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from cryptography.fernet import Fernet

from common.config import Settings
from tests.unit.test_docs_links import PAGES, ROOT, name_of

LANGUAGES = {"sh", "json", "yaml", "sql", "nginx", "caddy", "mermaid"}
BLOCK = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
QUERY = re.compile(r"`([^`\n]*\bpushfleet_[a-z_]+[^`\n]*)`")


def blocks(page: Path, language: str | None = None) -> Iterator[tuple[str, str]]:
    """(language, text)."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if language in (None, found[1]):
            yield found[1], found[2]


def written(page: Path, command: str) -> Iterator[str]:
    """What the shell blocks give a command as a here document."""
    for _, text in blocks(page, "sh"):
        yield from re.findall(command + r"[^\n]* - <<'END'\n(.*?)\nEND", text, re.DOTALL)


def events(page: Path) -> Iterator[str]:
    yield from written(page, "pushfleet publish")
    for _, text in blocks(page, "sh"):
        yield from re.findall(r"XADD \S+ '\*' e '(.*?)'", text, re.DOTALL)
    for _, text in blocks(page, "json"):
        if '"type":"' in text:
            yield text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_says_its_language_and_can_be_read(page: Path) -> None:
    for language, text in blocks(page):
        assert language in LANGUAGES, text
        if language == "sh":
            done = subprocess.run(
                ["bash", "-n"], input=text, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{text}\n{done.stderr}"
        elif language == "yaml":
            assert yaml.safe_load(text)
        elif language == "json":
            assert json.loads(text)
    for text in written(page, "python"):
        compile(text, name_of(page), "exec")


def test_the_events_that_pages_show_are_events() -> None:
    schema = jsonschema.Draft202012Validator(
        json.loads((ROOT / "docs/events.schema.json").read_text())
    )
    shown = [(name_of(page), text) for page in PAGES for text in events(page)]
    assert len(shown) >= 10
    for page, text in shown:
        try:
            schema.validate(json.loads(text))
        except jsonschema.ValidationError as error:
            pytest.fail(f"{page}: {error.message}: {text}")


def test_the_settings_that_a_page_shows_are_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(Fernet.generate_key())
    shown: set[str] = set()
    for page in PAGES:
        for _, text in blocks(page, "sh"):
            found = re.findall(r"^(PUSHFLEET_[A-Z_]+)=(\S+)", text, re.MULTILINE)
            given = {
                name: str(tmp_path / "secret") if name.endswith("_FILE") else value
                for name, value in found
            }
            if given:
                Settings.load({**given, "PUSHFLEET_DATA_DIR": str(tmp_path)})
                shown |= given.keys()
    assert {"PUSHFLEET_OIDC_ISSUER", "PUSHFLEET_DATABASE_URL"} <= shown


def test_the_addresses_that_pages_ask_are_served() -> None:
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    known = [re.sub(r"\{[^}]*\}", "[^/]+", path) for path in document["paths"]]
    asked = [
        (name_of(page), path)
        for page in PAGES
        for _, text in blocks(page, "sh")
        for path in re.findall(r"curl [^\n]*?https?://[^/\s']+(/[^?'\s]*)", text)
    ]
    assert len(asked) >= 5
    wrong = [one for one in asked if not any(re.fullmatch(path, one[1]) for path in known)]
    assert not wrong


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt install prometheus")
def test_prometheus_takes_the_queries_of_the_pages(tmp_path: Path) -> None:
    queries = [
        query
        for page in PAGES
        for query in QUERY.findall(page.read_text(encoding="utf-8"))
        if re.search(r"[({]", query) and not re.search(r"\{[a-z_, ]+\}|…", query)
    ]
    assert len(queries) >= 2
    rules = [{"record": f"page:query{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


SERVICES = ("console", "receipts", "gateway")
#: Where nginx keeps bodies; the folders of the system are another user's.
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def addresses_of(text: str) -> set[str]:
    return set(re.findall(r"127\.0\.0\.1:\d+", text))


def service_addresses() -> set[str]:
    known = Settings.load({})
    return {getattr(known, f"{name}_addr") for name in SERVICES}


@pytest.mark.skipif(shutil.which("nginx") is None, reason="apt install nginx")
def test_nginx_takes_the_example_of_every_service(tmp_path: Path) -> None:
    (text,) = [text for _, text in blocks(ROOT / "docs/reverse-proxy.md", "nginx")]
    assert addresses_of(text) == service_addresses()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=push"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; "
        + "".join(f"{name}_temp_path {tmp_path}/{name}; " for name in TEMPORARY)
        + f"ssl_certificate {certificate}; ssl_certificate_key {key};\n{text}}}"
    )
    command = ["nginx", "-t", "-p", str(tmp_path), "-c", f"{tmp_path}/nginx.conf", "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="apt install caddy")
def test_caddy_takes_the_example_of_every_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = [text for _, text in blocks(ROOT / "docs/reverse-proxy.md", "caddy")]
    assert addresses_of(text) == service_addresses()
    file = tmp_path / "Caddyfile"
    file.write_text(text)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    command = ["caddy", "validate", "--config", str(file), "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_line_of_the_procfile_has_its_row_and_its_memory() -> None:
    lines = re.findall(r"^([\w-]+):", (ROOT / "Procfile").read_text(), re.MULTILINE)
    table = (ROOT / "docs/operations.md").read_text().split("## Processes")[1].split("\nSIGTERM")[0]
    rows = {name for row in table.splitlines() for name in re.split(r"[|, ]+", row)[1:4]}
    wanted = {"delivery-`<vendor>`" if line.startswith("delivery-") else line for line in lines}
    assert not wanted - rows
    needs = (ROOT / "docs/requirements.md").read_text()
    assert f"the {len(lines)} lines of the Procfile" in needs
    assert f"{len(lines)} processes want" in needs


def test_each_address_of_a_service_is_told_to_the_firewall() -> None:
    for page in ("docs/requirements.md", "docs/security.md"):
        text = (ROOT / page).read_text()
        missing = {one for one in service_addresses() if one.rpartition(":")[2] not in text}
        assert not missing, page


def said_in(page: Path) -> tuple[list[str], set[str]]:
    """(code blocks, code spans: names, commands, settings) of a page."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [block for _, block in blocks(page)], {" ".join(one.split()) for one in spans}


@pytest.mark.parametrize("page", sorted((ROOT / "docs/zh").glob("*.md")), ids=name_of)
def test_a_chinese_page_names_what_the_english_one_names(page: Path) -> None:
    english = said_in(ROOT / "docs" / page.name)
    chinese = said_in(page)
    assert chinese[0] == english[0]
    assert chinese[1] == english[1]
    rows = [
        len(re.findall(r"^\|", one.read_text(encoding="utf-8"), re.MULTILINE))
        for one in (page, ROOT / "docs" / page.name)
    ]
    assert rows[0] == rows[1]
