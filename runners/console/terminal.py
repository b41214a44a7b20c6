"""Makes the console for text that people read. It spells out escape sequences and other text that a terminal obeys.

Names of studies, messages of errors and lines of logs come from others, so no text reaches the terminal unchecked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
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


def console() -> Any:
    """Return the console of standard output, 120 columns wide where that is no terminal."""
    return visible_console(highlight=False, width=None if sys.stdout.isatty() else 120)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are: without markup, and unbroken, as a path that is broken cannot be copied."""
    terminal = console()
    for line in lines:
        terminal.print(line, markup=False, soft_wrap=True)
