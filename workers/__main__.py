"""The `pushfleet` command."""

from __future__ import annotations

import sys


def main() -> None:
    from workers.cli import run  # noqa: PLC0415 - a worker must not load what only the other commands need

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
