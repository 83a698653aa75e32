"""`pushfleet settings` and the page that is made of it."""

from pathlib import Path

from workers.cli.settings import page, shown

ROOT = Path(__file__).parents[3]


def test_the_settings_page_is_made_of_the_code():
    found = (ROOT / "docs/settings.md").read_text()
    assert found == page(), "make it anew: pushfleet settings --markdown > docs/settings.md"


def test_values_are_shown_with_their_origin_and_without_passwords(tmp_path):
    path = tmp_path / "url"
    path.write_text("postgresql://u:hunter2@h/d")
    environ = {
        "PUSHFLEET_REDIS_URL": "redis://:hunter2@h:6379/1",
        "PUSHFLEET_DATABASE_URL_FILE": str(path),
        "PUSHFLEET_LEDGER_DAYS": "9",
        "PUSHFLEET_SECRET_KEYS": "A" * 43 + "=",
        "PUSHFLEET_CORE_URL": "sentinel://u:hunter2@a:1,b/2?master=m&sentinel_password=hunter2",
    }
    rows = {row["name"]: row for row in shown(environ, {"PUSHFLEET_LEDGER_DAYS"})}
    assert "hunter2" not in str(rows)
    assert "AAAA" not in str(rows)
    found = (rows["PUSHFLEET_REDIS_URL"]["value"], rows["PUSHFLEET_REDIS_URL"]["from"])
    assert found == ("redis://***@h:6379/1", "environment")
    assert rows["PUSHFLEET_DATABASE_URL"]["from"] == "file"
    seen = (rows["PUSHFLEET_LEDGER_DAYS"]["value"], rows["PUSHFLEET_LEDGER_DAYS"]["from"])
    assert seen == ("9", ".env")
    told = (rows["PUSHFLEET_LOG_LEVEL"]["value"], rows["PUSHFLEET_LOG_LEVEL"]["from"])
    assert told == ("info", "default")
    assert all(row["takes"] and row["means"] for row in rows.values())
