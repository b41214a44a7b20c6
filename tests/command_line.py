"""Commands carried out in the process of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

import run_ablation


def run_command(*arguments: object) -> int:
    """Carries out a command, by default with the runs folder of the current folder, and returns its exit code."""
    words = [str(argument) for argument in arguments]
    command = run_ablation.cli.commands.get(words[0]) if words else None
    options = [option for parameter in command.params for option in parameter.opts] if command is not None else []
    if "--runs-dir" in options and "--runs-dir" not in words:
        # MLflow keeps connections by the name of the store, so that a relative one would be another test's.
        words += ["--runs-dir", str(Path.cwd() / "runs")]
    try:
        run_ablation.main(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


class Invoke:
    """Carries out commands and returns what they print."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object) -> tuple[int, str]:
        """Returns the exit code, and all that was printed."""
        code, out, err = self.apart(*arguments)
        return code, out + err

    def apart(self, *arguments: object) -> tuple[int, str, str]:
        """Returns the exit code, output and errors."""
        code = run_command(*arguments)
        captured = self._capture.readouterr()
        return code, captured.out, captured.err

    def unwrapped(self, *arguments: object) -> tuple[int, str]:
        """Returns the exit code, and all that was printed as one line, wherever the terminal would have broken it."""
        code, text = self(*arguments)
        return code, " ".join(text.split())
