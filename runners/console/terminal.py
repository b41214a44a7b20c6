"""Makes the console for text that people read. It spells out escape sequences and other text that a terminal obeys.

Names of studies, messages of errors and lines of logs come from others, so no text reaches the terminal unchecked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ablations.visible import visible

if TYPE_CHECKING:
    from rich.console import Console


def visible_console(**options: Any) -> Console:
    """Return a console of rich that shows control characters in text instead of acting on them.

    The escape sequences that rich itself adds, for colours and for a display that is redrawn, are untouched.
    """
    from rich.console import Console
    from rich.segment import Segment

    class VisibleConsole(Console):
        def render(self, *arguments: Any, **keywords: Any) -> Iterable[Segment]:
            # All that is printed goes through here, before rich turns styles into escape sequences.
            for segment in super().render(*arguments, **keywords):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(visible(segment.text), segment.style)

    return VisibleConsole(**options)


class Verbosity(IntEnum):
    """How much is printed beside results and errors."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


class _Output:
    """How much this process prints, and where. Global, as every package prints through this module."""

    verbosity = Verbosity.NORMAL
    to_errors = False


def set_verbosity(verbosity: Verbosity) -> None:
    """Set how much is printed from now on."""
    _Output.verbosity = verbosity


def print_to_errors(diverted: bool = True) -> None:
    """Have all consoles print to standard error, so that standard output holds one JSON document and nothing else."""
    _Output.to_errors = diverted


def is_quiet() -> bool:
    """Return True if results and errors alone are printed."""
    return _Output.verbosity == Verbosity.QUIET


def is_verbose() -> bool:
    """Return True if more than usual is printed."""
    return _Output.verbosity == Verbosity.VERBOSE


def console() -> Any:
    """Return the console for results, 120 columns wide where standard output is no terminal."""
    return _console(quiet=False)


def progress_console() -> Any:
    """Return the console for announcements and progress, which prints nothing with `-q`."""
    return _console(quiet=is_quiet())


def _console(*, quiet: bool) -> Any:
    stream = sys.stderr if _Output.to_errors else sys.stdout
    width = None if stream.isatty() else 120
    return visible_console(highlight=False, width=width, stderr=_Output.to_errors, quiet=quiet)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are: without markup, and unbroken, as a path that is broken cannot be copied."""
    _print_on(console(), lines)


def announce_lines(lines: Iterable[str]) -> None:
    """Print lines like `print_lines`, unless results and errors alone are printed."""
    _print_on(progress_console(), lines)


def _print_on(terminal: Any, lines: Iterable[str]) -> None:
    for line in lines:
        terminal.print(line, markup=False, soft_wrap=True)
