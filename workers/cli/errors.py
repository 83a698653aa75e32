"""A command's errors: one line for the person, and the exit code."""

from __future__ import annotations

from workers.cli import WRONG_USE


class CliError(Exception):
    """One line for the person, and the exit code."""

    def __init__(self, words: str, exit_code: int = WRONG_USE) -> None:
        super().__init__(words)
        self.exit_code = exit_code


class NotThereError(CliError):
    """The named thing does not exist: the command worked, the answer is no (contract §9)."""

    def __init__(self, words: str) -> None:
        super().__init__(words, exit_code=1)
