"""How many examples a property is tried with: enough to notice a change, and many in the long form
(`make properties`).
"""

import os

LONG = bool(os.environ.get("PUSHFLEET_TEST_LONG"))
TIMES_LONG = 25


def examples(count: int) -> int:
    """count: of an ordinary run."""
    return count * TIMES_LONG if LONG else count
