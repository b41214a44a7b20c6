"""Defines how options of the command line become typed objects, the options that stand alone, and exit codes.

A group of options is a frozen dataclass and a decorator beside it: `Selection`, `LaunchOptions`, `ReportOptions`, ….
"""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ablations.invocation import program

# 128 + SIGINT, as shells report a process that Ctrl-C has ended.
INTERRUPTED = 130
UNSYNCED = 3
"""Exit code of a launch that has measured everything, but has not written all of it to the tracking store."""

Verb = Callable[..., Any]
Option = Callable[[Verb], Verb]


def grouped(parameter: str, group: Callable[..., object], *options: Option, prefix: str = "") -> Option:
    """Return a decorator that adds options to a verb and hands it their values as one object.

    Args:
        parameter: The verb's parameter for the object.
        group: Makes it. Every option called like one of its parameters belongs to it, wherever that option was added.
        options: The options to add, in the order of the help.
        prefix: The options' names have this before those of the parameters.
    """
    names = inspect.signature(group).parameters

    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def grouping(**values: Any) -> Any:
            members = {name: values.pop(prefix + name) for name in names if prefix + name in values}
            return verb(**values, **{parameter: group(**members)})

        decorated: Verb = grouping
        # Decorators apply from the bottom up, so the last option is added first.
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


class GivenPath(click.Path):
    """A path to write to: `~` stands for the home folder, also where no shell has seen it.

    A slash at the end means a folder, which is made if it is not there.

    Args:
        file_okay: Whether it may be a file.
    """

    def __init__(self, *, file_okay: bool) -> None:
        super().__init__(path_type=Path, file_okay=file_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, refusing one that would mean the current folder without saying so."""
        text = os.fspath(value)
        if not text.strip():
            self.fail("it is empty. Name a folder, or . for the current one.", param, ctx)
        # A shell expands ~ at the beginning of a word only, and not in --runs-dir=~/runs.
        if text.startswith("~"):
            try:
                value = Path(text).expanduser()
            except RuntimeError:
                self.fail(f"{text!r} names a user who has no home folder here.", param, ctx)
        # A slash at the end says that a folder is meant; `Path` forgets it.
        # A shell that completes the command makes none.
        is_completed = ctx is not None and ctx.resilient_parsing
        if self.file_okay and text.endswith(os.sep) and not is_completed:
            try:
                Path(value).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                self.fail(f"the folder {text!r} cannot be made: {error.strerror}.", param, ctx)
        return super().convert(value, param, ctx)


def examples(*lines: str) -> str:
    """Return the epilog of a verb's help: example commands that can be copied, which call the program as it was."""
    command = shlex.join(program())
    # \b keeps click from wrapping the paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {command} {line}" for line in lines)
