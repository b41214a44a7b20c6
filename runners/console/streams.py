"""Keeps standard output and error usable whatever they lead to: a console without τ, a closed pipe, a full disk.

Measuring must not end because a line cannot be shown. A character that the encoding lacks is replaced by one that it
has. An error of writing ends the verbs whose purpose is to print; verbs that do more go on in silence, and their exit
code says how the work went.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

_REPLACEMENT = "transliterate"
_ASCII = {
    "τ": "tau",
    "×": "x",
    "·": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "±": "+/-",
    "Δ": "delta",
    "δ": "delta",
    "α": "alpha",
    "β": "beta",
    "σ": "sigma",
    "π": "pi",
    "μ": "mu",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "\N{NO-BREAK SPACE}": " ",
    "\N{THIN SPACE}": " ",
    "\N{NARROW NO-BREAK SPACE}": " ",
    "█": "#",
    "━": "-",
    "╸": "-",
    "╺": "-",
}


def _transliterate(error: UnicodeError) -> tuple[str, int]:
    """Return replacements for the characters that an encoding lacks and the index after them, as `codecs` expects."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in characters), error.end


class SteadyStream:
    """A text stream that can be told to go on in silence when it cannot be written.

    Everything but writing is what the stream itself does.

    Args:
        goes_on: Whether errors of writing are swallowed instead of raised.
    """

    def __init__(self, stream: Any, *, goes_on: bool) -> None:
        self._stream = stream
        self.goes_on = goes_on

    def write(self, text: str) -> int:
        """Write text and return its length."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._fail(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several pieces of text."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        if not self.goes_on:
            raise UnwritableError(getattr(error, "errno", None), getattr(error, "strerror", None) or str(error))
        self.silence()

    def silence(self) -> None:
        """Discard all text that is written from now on, and text that is still in the buffer."""
        try:
            descriptor = self._stream.fileno()
            # The descriptor itself is replaced: the stream's buffer would fail again when Python flushes it at exit.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
        except (OSError, ValueError):
            self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def __iter__(self) -> Any:
        # Python looks for special methods in the class and does not ask `__getattr__` for them.
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def steady_streams() -> None:
    """Make standard output and error of this process steady; one that is closed is connected to nothing."""
    _open_closed_descriptors()
    codecs.register_error(_REPLACEMENT, _transliterate)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, SteadyStream):
            continue
        # Python has no stream for a descriptor that was closed at the start.
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_REPLACEMENT)
        # If an error message cannot be written, neither can a message about that.
        setattr(sys, name, SteadyStream(stream, goes_on=name == "stderr"))


def go_on_without_output() -> None:
    """Let the verb that is carried out go on where its output cannot be written."""
    if isinstance(sys.stdout, SteadyStream):
        sys.stdout.goes_on = True


def silence_output() -> None:
    """Discard text that is still in the buffer of standard output: Python would flush it at exit."""
    if isinstance(sys.stdout, SteadyStream):
        sys.stdout.silence()
    elif sys.stdout is not None:
        SteadyStream(sys.stdout, goes_on=True).silence()


class UnwritableError(OSError):
    """Standard output cannot be written, for example because its disk is full or its reader is gone."""


def writing_its_output(action: Callable[[], object]) -> None:
    """Call `action`; where it ends because its output cannot be written, say so and leave with 1.

    A reader that has seen enough, such as `head`, needs no word.
    """
    try:
        action()
        sys.stdout.flush()
    except UnwritableError as error:
        silence_output()
        if error.errno != errno.EPIPE:
            print(f"error: the output cannot be written: {error.strerror or error}.", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _open_closed_descriptors() -> None:
    """Connect closed standard descriptors to nothing: the next file to be opened would get their numbers.

    A line printed by a library would then go into that file, be it the tracking store.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is taken, which is this one.
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
