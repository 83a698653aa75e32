"""Every script declares its keys: what it passes to the server as a key is one of KEYS, or begins
with one, and so shares its slot.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import common.storage

LUA = Path(common.storage.__file__).parent / "lua"
SCRIPTS = sorted(LUA.glob("*.lua"))
#: Commands whose first word is no key, and where their key stands (None: they have none).
KEY_AT = {"TIME": None, "XINFO": 2, "XGROUP": 2, "XREADGROUP": -2, "XREAD": -1}
CALL = re.compile(r"(?<![\w.])(?:redis\.p?call|call)\(")


def arguments(text: str, start: int) -> list[str]:
    """The arguments of the call whose bracket opens before `start`, as they are written."""
    found: list[str] = []
    depth, begin, quote = 0, start, ""
    for at in range(start, len(text)):
        sign = text[at]
        if quote:
            quote = "" if sign == quote and text[at - 1] != "\\" else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            if not depth:
                return [one.strip() for one in [*found, text[begin:at]] if one.strip()]
            depth -= 1
        elif sign == "," and not depth:
            found.append(text[begin:at])
            begin = at + 1
    return [one.strip() for one in [*found, text[begin:]] if one.strip()]


def declared(text: str) -> set[str]:
    """Names of variables that hold a declared key, or one that begins with it."""
    names = {"KEYS"}
    while True:
        before = len(names)
        for variables, values in re.findall(r"local ([\w, ]+?) = ([^\n]*)", text):
            for variable, value in zip(variables.split(","), arguments(values, 0), strict=False):
                if is_declared(value, names):
                    names.add(variable.strip())
        for table in set(re.findall(r"(\w+)\[[^\]]+\] = KEYS", text)):  # a list of keys
            filled = re.findall(rf"\b{table}\[[^\]]+\] = ([^\n]*)", text)
            names |= {table} if all(is_declared(value, names) for value in filled) else set()
        for variable, listed in re.findall(r"for \w+, (\w+) in ipairs\((\w+)\)", text):
            names |= {variable} if listed in names else set()
        for name, parameters in re.findall(r"local function (\w+)\(([^)]*)\)", text):
            found = re.finditer(rf"(?<!function )\b{name}\(", text)
            calls = [arguments(text, one.end()) for one in found]
            for number, parameter in enumerate(one.strip() for one in parameters.split(",")):
                given = [call[number] for call in calls if len(call) > number]
                names |= (
                    {parameter}
                    if given and all(is_declared(one, names) for one in given)
                    else set()
                )
        if len(names) == before:
            return names


def is_declared(value: str, names: set[str]) -> bool:
    """A condition before it aside, the value is a declared key, or one with something behind it."""
    value = re.sub(r"unpack\((\w+)(,[^)]*)?\)", r"\1", value.strip("{}"))
    choices = re.split(r"\band\b|\bor\b", value)
    bare = [one.strip() for one in (choices[1:] if " and " in value else choices)]
    return bool(bare) and all(
        (found := re.match(r"(\w+)", one)) is not None and found[1] in names for one in bare
    )


def undeclared(text: str) -> Iterator[str]:
    """Calls whose key is none of KEYS."""
    text = re.sub(r"--[^\n]*", "", text)
    names = declared(text)
    for call in CALL.finditer(text):
        command, *rest = arguments(text, call.end())
        at = KEY_AT.get(command.strip("'"), 1)
        if at is not None and not is_declared(rest[at - 1 if at > 0 else at], names):
            yield f"{command} {rest}"


def whole(path: Path) -> str:
    """A script with the functions that it shares, as scripts.py joins them."""
    shared = {
        "lane_take": ["rate_now"],
        "rate_lease": ["rate_now"],
        "take": ["bounded"],
        "reclaim": ["bounded"],
        "overtake": ["bounded"],
        "claim": ["counts"],
        "take_numbers": ["counts"],
        "lane_commit": ["counts", "noted", "join"],
        "lane_note": ["noted", "join"],
        "lane_loads": ["noted"],
        "lane_reap": ["noted"],
        "backlog": ["join"],
    }
    names = [*shared.get(path.stem, []), path.stem]
    return "".join((LUA / f"{name}.lua").read_text() for name in names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_touches_declared_keys_only(path: Path) -> None:
    if path.stem in (
        "rate_now",
        "bounded",
        "counts",
        "noted",
        "join",
    ):  # read together with those that use them
        return
    assert not list(undeclared(whole(path)))


@pytest.mark.parametrize(
    "body",
    [
        "redis.call('GET', 'push:x')",
        "redis.call('GET', ARGV[1])",
        "redis.call('GET', ARGV[1] .. KEYS[1])",
        "local key = ARGV[1] .. ':x'\nredis.call('HSET', key, 'a', 1)",
        "local call = redis.call\ncall('DEL', ARGV[2])",
        "local function drop(key)\n  redis.call('DEL', key)\nend\ndrop(ARGV[1])",
        "for _, name in ipairs(ARGV) do redis.pcall('XLEN', name) end",
        "redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', ARGV[1], '>')",
        "redis.call('XINFO', 'GROUPS', 'im:events')",
        "redis.call('DEL', unpack(ARGV, 2))",
        "local keys = {}\nkeys[1] = KEYS[1]\nkeys[2] = ARGV[1]\nredis.call('MGET', unpack(keys))",
        "local key = ARGV[1] == '' and KEYS[1] .. 'x' or ARGV[2]\nredis.call('GET', key)",
    ],
)
def test_the_linter_finds_what_is_not_declared(body: str) -> None:
    assert list(undeclared(body))
