"""This module makes every character of a text visible in LaTeX and none of them a command.

A character that LaTeX's fonts lack (an emoji, Chinese) stays itself in the source and is set as `[U+1F600]`: seen,
not dropped. Redefine `\\missingglyph` and load a font that has it to do better.
"""

from __future__ import annotations

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
\usepackage{booktabs,longtable,adjustbox,graphicx,xcolor}
\usepackage[font=small,labelfont=bf,justification=raggedright,singlelinecheck=false]{caption}
\captionsetup[table]{position=above}
\pagestyle{myheadings}
\newcommand{\missingglyph}[1]{\texttt{[U+#1]}}
\definecolor{good}{HTML}{00664F}
\definecolor{fair}{HTML}{0060A0}
\definecolor{poor}{HTML}{1A1A1A}
\definecolor{bad}{HTML}{B34700}
\definecolor{quiet}{HTML}{5A5A5A}
\definecolor{aside}{HTML}{5A5A5A}
"""


def escape(text: str) -> str:
    """Return text so that LaTeX shows it literally."""
    return literal(printable(text))


def literal(text: str) -> str:
    """Return printable text so that LaTeX shows it literally, the white space at its ends included."""
    pieces: list[str] = []
    previous = ""
    for char in text:
        if char == previous and char in _LIGATURES:
            # An empty group keeps the two characters apart.
            pieces.append("{}")
        pieces.append(_MAP.get(char, char))
        previous = char
    return "".join(pieces)


def preamble(text: str) -> str:
    """Return the preamble for the document `text`, with a definition for each character that LaTeX does not know."""
    definitions = _PREAMBLE
    # Sorted, so that equal documents give equal bytes.
    for char in sorted(set(text)):
        if not _is_known(char):
            definitions += rf"\newunicodechar{{{char}}}{{\missingglyph{{{ord(char):X}}}}}" + "\n"
    return definitions


def _is_known(char: str) -> bool:
    # ASCII, the accented letters of Latin-1 and Latin Extended-A, without the four that T1 lacks.
    return char < "\x7f" or ("\u00bf" <= char <= "\u017e" and char not in "ĦħĿŀ")
