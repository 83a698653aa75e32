"""docs/first-hour.md is run as it stands there, on a fleet that `pushfleet up` would start; the
Chinese page has the same commands.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import clean_environ
from tests.e2e.conftest import Core
from tests.forked import forked

ROOT = Path(__file__).parents[2]
PAGE, CHINESE, README = (
    ROOT / name for name in ("docs/first-hour.md", "docs/zh/first-hour.md", "README.md")
)


#: The pages speak to a plain Redis: `make up` starts one.
on_a_plain_redis = pytest.mark.skipif(
    "PUSHFLEET_TEST_CLUSTER" in os.environ, reason="the pages' clients are of a plain Redis"
)
#: `redis-cli -u URL COMMAND …`
REDIS_CLI = """
import sys, redis
print(redis.Redis.from_url(sys.argv[2], decode_responses=True).execute_command(*sys.argv[3:]))
"""


def blocks(page: Path) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def clone(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like the clone in which `make up` runs; its `pushfleet` has loaded its
    libraries.
    """
    folder, prefix = tmp_path_factory.mktemp("clone"), Path(sys.prefix)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for one in (*prefix.iterdir(), *(prefix / "bin").iterdir()):
        if one.name not in ("bin", "pushfleet"):
            (folder / ".venv" / one.relative_to(prefix)).symlink_to(one)
    (folder / "var").symlink_to(fleet.runtime.settings.data_dir)
    with forked(programs / "pushfleet"):
        yield folder


@pytest.fixture(autouse=True)
def away_again(fleet: Core) -> Iterator[None]:
    """The pages say that bob is online for ten seconds; the next test's bob is not."""
    yield
    fleet.redis.delete("im:presence:{1400000001:bob}")


def typed(clone: Path, commands: str) -> str:
    """What the commands of one block say; each must end with 0. `pushfleet` is on nobody's path."""
    own = clean_environ()
    here = str(Path(sys.prefix) / "bin")
    own["PATH"] = os.pathsep.join(
        one for one in os.environ["PATH"].split(os.pathsep) if one != here
    )
    argv = ["bash", "-e", "-o", "pipefail", "-c", commands]
    done = subprocess.run(
        argv, check=False, cwd=clone, env=own, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@on_a_plain_redis
def test_the_page_leads_to_a_push_of_ones_own_and_through_the_first_day(clone: Path) -> None:
    start, init, publish, second, online, refused, failing, doctor = blocks(PAGE)
    assert "make up" in start
    assert "bob-phone  apns apns-1: accepted" in typed(clone, init)
    assert "accepted" in typed(clone, publish)
    said = typed(clone, second)
    assert "carol-phone  xiaomi xiaomi-1: accepted" in said
    assert "accepted by 1 of 1" in said
    said = typed(clone, online)
    assert "no lane: sender" in said
    assert "apns apns-1: online" in said
    assert "xiaomi xiaomi-1: accepted" in said
    assert "unknown_app: its `app` is no tenant" in typed(clone, refused)
    said = typed(clone, failing)
    assert re.search(r"attempt   503.*attempt   200 0", said, re.DOTALL)
    assert "secret key" in typed(clone, f"{doctor.strip()} || true")


def test_what_init_prints_can_be_typed_again(clone: Path) -> None:
    said = typed(clone, ".venv/bin/pushfleet init --app again-1 --user dora --vendor vivo")
    typed(clone, ".venv/bin/pushfleet init --app again-1 --user emil --vendor oppo")  # in between
    commands = re.findall(r"^\$ (\.venv/bin/pushfleet (?:app|publish) .*)$", said, re.MULTILINE)
    assert len(commands) == 3
    account = r"^\$ \.venv/bin/pushfleet credential add vivo --app again-1"
    assert re.search(account, said, re.MULTILINE)
    (message_id,) = re.findall(r"^hello-\w+$", typed(clone, "\n".join(commands)), re.MULTILINE)
    assert "dora-phone  vivo vivo-1: accepted" in typed(
        clone, f".venv/bin/pushfleet why {message_id} --wait 20"
    )


def test_from_clone_to_a_push_are_at_most_ten_commands() -> None:
    typed_by_hand = [
        line for block in blocks(PAGE)[:2] for line in block.splitlines() if line.strip()
    ]
    assert len([part for line in typed_by_hand for part in line.split("&&")]) <= 10


def test_the_chinese_page_has_the_same_commands() -> None:
    assert blocks(CHINESE) == blocks(PAGE)


def test_the_readmes_push_works_in_its_own_order(clone: Path) -> None:
    text = README.read_text(encoding="utf-8")
    part = text[text.index("## A push of your own") : text.index("## Publish from your core")]
    init, publish = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    typed(clone, init)
    assert "bob-phone  apns apns-1: accepted" in typed(clone, publish)


@on_a_plain_redis
def test_what_the_readme_shows_a_core_works_with_redis_cli(clone: Path, tmp_path: Path) -> None:
    """Where Redis' own tool is not installed, one that sends the same words stands in for it."""
    text = README.read_text(encoding="utf-8")
    part = text[text.index("## Publish from your core") : text.index("## Run it for real")]
    publish, presence = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    if shutil.which("redis-cli") is None:
        tool = tmp_path / "redis-cli"
        tool.write_text(f"#!{sys.executable}\n{REDIS_CLI}")
        tool.chmod(0o755)
    path = f'PATH="{tmp_path}:{Path(sys.executable).parent}:$PATH"\n'
    typed(clone, ".venv/bin/pushfleet init")
    published = typed(clone, path + publish)
    assert re.search(r"\d+-\d+", published), published
    assert "bob-phone  apns apns-1: accepted" in typed(
        clone, ".venv/bin/pushfleet why core-m-1 --wait 20"
    )
    typed(clone, path + publish.splitlines()[0] + "\n" + presence)
    event = (
        '{"v":1,"id":"core-2","type":"message.stored","app":"1400000001","data":{'
        '"message_id":"core-m-2","conversation":{"type":"group","id":"team-7"},'
        '"sender":{"id":"alice"},"elements":[{"type":"text","text":"Lunch?"}]}}'
    )
    typed(clone, f".venv/bin/pushfleet publish - <<'END'\n{event}\nEND\n")
    assert "apns apns-1: online" in typed(clone, ".venv/bin/pushfleet why core-m-2 --wait 20")


def test_a_dead_letters_story_in_json(clone: Path) -> None:
    event = (
        '{"v":1,"id":"e-j","type":"message.stored","app":"nobody",'
        '"data":{"message_id":"m-\u4f60","x":1}}'
    )
    typed(clone, f".venv/bin/pushfleet publish - <<'END'\n{event}\nEND\n")
    said = typed(clone, ".venv/bin/pushfleet why m-\u4f60 --wait 20 --json")
    assert '"recipients": []' in said
    assert '"reason": "wrong_shape' in said
