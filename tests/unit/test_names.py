"""A class name stands for one thing in the whole tree: a stack trace, a log line and a search lead
to it.
"""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_class_name_stands_for_one_class() -> None:
    places = defaultdict(list)
    for folder in ("common", "workers", "simulators"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"^class (\w+)[(:\[]", path.read_text(), re.MULTILINE):
                places[name].append(str(path.relative_to(ROOT)))
    assert len(places) > 500
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
