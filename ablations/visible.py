"""Makes text of others safe to print: a name in a report or a tag must not move a cursor or turn a line round.

What a terminal acts on instead of showing it is spelled out: `ESC` becomes `[U+001B]`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_ACTED_ON = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")
"""Unicode categories: control, format (direction among it), surrogate, unassigned, private, line separators."""

_JOINERS = frozenset("\u00ad\u200c\u200d")
"""Format characters that words of some languages and emoji are made with: they join or part letters, no more."""

_LAYOUT = frozenset("\n\t")


def visible(text: str, *, lines: bool = True) -> str:
    """Return text whose control characters are spelled out.

    Args:
        text: Any text.
        lines: Whether line breaks and tabs are kept. Without, nothing in the text can begin a line of its own.
    """
    # What Python prints as it is has nothing to spell out.
    if text.isprintable():
        return text
    return "".join(char if lines and char in _LAYOUT else _spelled_out(char) for char in text)


def _spelled_out(char: str) -> str:
    if char in _JOINERS or unicodedata.category(char) not in _ACTED_ON:
        return char
    return f"[U+{ord(char):04X}]"


def visible_console(**options: Any) -> Console:
    """Return a console of rich that shows what others have put into text instead of acting on it.

    The escape sequences that rich itself adds, for colours and for a display that is redrawn, are untouched.
    """
    from rich.console import Console
    from rich.segment import Segment

    class VisibleConsole(Console):
        def render(self, *arguments: Any, **more: Any) -> Iterable[Segment]:
            # All that is printed goes through here, before rich turns styles into escape sequences.
            for segment in super().render(*arguments, **more):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(visible(segment.text), segment.style)

    return VisibleConsole(**options)
