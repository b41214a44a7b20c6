"""`visible` makes foreign text safe to print: a name in a report or tag must not move a cursor or reverse a line.

Characters that a terminal acts on instead of showing them are spelled out: `ESC` becomes `[U+001B]`.
"""

from __future__ import annotations

import unicodedata

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
    # Nearly every text is printable, and the check is far cheaper than a walk over its characters.
    if text.isprintable():
        return text
    return "".join(char if lines and char in _LAYOUT else _spelled_out(char) for char in text)


def _spelled_out(char: str) -> str:
    if char in _JOINERS or unicodedata.category(char) not in _ACTED_ON:
        return char
    return f"[U+{ord(char):04X}]"
