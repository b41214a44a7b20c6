"""This module makes every character of a text visible in LaTeX and none of them a command.

A character that LaTeX's fonts lack (an emoji, Chinese) stays itself in the source and is set as `[U+1F600]`: seen,
not dropped. Redefine `\\missingglyph` and load a font that has it to do better.
"""

from __future__ import annotations

import re

from reports.content.formatting import printable

_ASCII = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
}
_MATH = {
    "τ": r"\tau",
    "π": r"\pi",
    "Δ": r"\Delta",
    "Σ": r"\Sigma",
    "α": r"\alpha",
    "β": r"\beta",
    "λ": r"\lambda",
    "μ": r"\mu",
    "σ": r"\sigma",
    "×": r"\times",
    "→": r"\to",
    "−": "-",
    "±": r"\pm",
    "✓": r"\checkmark",
    "≤": r"\leq",
    "≥": r"\geq",
    "≈": r"\approx",
    "∞": r"\infty",
    "√": r"\surd",
    "↗": r"\nearrow",
    "○": r"\circ",
}
_WORDS = {
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "…": r"\dots{}",
    "·": r"\textperiodcentered{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "•": r"\textbullet{}",
    "\u00a0": "~",
}
# Mathematics must also be safe outside of formulas, where all of this text stands.
_MAP = {**_ASCII, **_WORDS, **{char: rf"\ensuremath{{{command}}}" for char, command in _MATH.items()}}
_LIGATURES = "-,'"
"""Characters of which two in a row become another one."""
_BREAK = r"\allowbreak{}"
"""Stands where a line may end within a word that LaTeX does not hyphenate."""
_WITHIN_NAMES = re.compile(r"(?<=[^\W\d_])\.(?=[^\W\d_])|(?<=\w)/(?=\w)|_(?=\w)")
"""The dots of dotted names (not of decimal numbers), and the slashes and low lines of others."""
_DIGEST = re.compile(r"\b[0-9a-f]{24,}\b")
_DIGITS = 8
"""Digits of a digest after which a line may end."""

COLOURS = {"good": "00664F", "fair": "0060A0", "poor": "1A1A1A", "bad": "B34700", "quiet": "5A5A5A", "aside": "5A5A5A"}
"""The colours of tones (`reports.content.blocks.Tone`)."""

_PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage{iftex}
\ifPDFTeX
  \usepackage[utf8]{inputenc}
  \usepackage[T1]{fontenc}
  \usepackage{lmodern}
\else
  \usepackage{fontspec}
\fi
\usepackage{textcomp,amssymb,newunicodechar}
\usepackage[margin=2.1cm]{geometry}
\usepackage{booktabs,xltabular,adjustbox,graphicx,xcolor}
\usepackage[font=small,labelfont=bf,justification=raggedright,singlelinecheck=false]{caption}
\captionsetup[table]{position=above}
\usepackage{float}
\pagestyle{myheadings}
% A line may be set wider before a word is left hanging over its end.
\setlength{\emergencystretch}{3em}
"""
_MISSING_GLYPH = r"\providecommand{\missingglyph}[1]{\texttt{[U+#1]}}"


def escape(text: str) -> str:
    """Return text so that LaTeX shows it literally."""
    return literal(printable(text))


def literal(text: str) -> str:
    """Return printable text so that LaTeX shows it literally, the white space at its ends included."""
    pieces: list[str] = []
    previous = ""
    breaks = _breaks(text)
    for index, char in enumerate(text):
        if char == previous and char in _LIGATURES:
            # An empty group keeps the two characters apart.
            pieces.append("{}")
        pieces.append(_MAP.get(char, char))
        if index in breaks:
            pieces.append(_BREAK)
        previous = char
    return "".join(pieces)


def _breaks(text: str) -> set[int]:
    """Return the indices of the characters behind which a line may end within a word."""
    breaks = {match.start() for match in _WITHIN_NAMES.finditer(text)}
    for match in _DIGEST.finditer(text):
        breaks.update(range(match.start() + _DIGITS - 1, match.end() - 1, _DIGITS))
    return breaks


def preamble(text: str) -> str:
    """Return the preamble for the document `text`, with a definition for each character that LaTeX does not know."""
    lines = [rf"\definecolor{{{name}}}{{HTML}}{{{code}}}" for name, code in COLOURS.items()]
    # Sorted, so that equal documents give equal bytes.
    unknown = [char for char in sorted(set(text)) if not _is_known(char)]
    if unknown:
        lines.append(_MISSING_GLYPH)
        lines += [rf"\newunicodechar{{{char}}}{{\missingglyph{{{ord(char):X}}}}}" for char in unknown]
    return _PREAMBLE + "".join(f"{line}\n" for line in lines)


def spelled_out(text: str) -> str:
    """Return LaTeX with each character that it does not know as its code, for a file without a preamble of its own."""
    return "".join(char if _is_known(char) else rf"\texttt{{[U+{ord(char):X}]}}" for char in text)


def _is_known(char: str) -> bool:
    # ASCII, the accented letters of Latin-1 and Latin Extended-A, without the four that T1 lacks.
    return char < "\x7f" or ("\u00bf" <= char <= "\u017e" and char not in "ĦħĿŀ")
