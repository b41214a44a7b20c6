"""LaTeX: escaping read back by an independent reader, and the shape of the file. There is no TeX here to run it."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reports.content.blocks import Document
from reports.content.formatting import printable
from reports.render.latex import render_latex
from reports.render.latex_characters import escape, preamble
from tests.reports.made_up import HOSTILE, hostile_document

NASTY = st.text(st.sampled_from(list("\\{}$&#%_^~<>|\"`'-,?! aτ×→✓²−±–“”é😀")), max_size=30) | st.text(max_size=30)
MEANING = {
    "textbackslash": "\\",
    "textasciicircum": "^",
    "textasciitilde": "~",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotedbl": '"',
    "textasciigrave": "`",
    "textendash": "–",
    "textemdash": "—",
    "textquotedblleft": "“",
    "textquotedblright": "”",
    "textquoteleft": "‘",
    "textquoteright": "’",
    "dots": "…",
    "textperiodcentered": "·",
    "textdagger": "†",
    "textdaggerdbl": "‡",
    "textbullet": "•",
    "tau": "τ",
    "pi": "π",
    "Delta": "Δ",
    "Sigma": "Σ",
    "alpha": "α",
    "beta": "β",
    "lambda": "λ",
    "mu": "μ",
    "sigma": "σ",
    "times": "×",
    "to": "→",
    "pm": "±",
    "checkmark": "✓",
    "leq": "≤",
    "geq": "≥",
    "approx": "≈",
    "infty": "∞",
    "surd": "√",
    "nearrow": "↗",
    "circ": "○",
}
TOKEN = re.compile(
    r"\\ensuremath\{(?P<math>[^}]*)\}|\\textsuperscript\{(?P<power>[23])\}|\\(?P<word>[A-Za-z]+)\{\}"
    r"|\\(?P<char>[{}$&#%_])|(?P<nothing>\{\})|(?P<plain>[^\\{}$&#%^_]|\n)"
)


def _read(latex: str) -> str:
    """Reads escaped text as TeX would; fails on anything active."""
    seen, position = [], 0
    while position < len(latex):
        found = TOKEN.match(latex, position)
        assert found, f"TeX would act on {latex[position:]!r}"
        seen.append(_meaning(found))
        position = found.end()
    return "".join(seen)


def _meaning(found: re.Match[str]) -> str:
    if found["math"] is not None:
        return "−" if found["math"] == "-" else MEANING[found["math"].removeprefix("\\")]
    if found["power"]:
        return {"2": "²", "3": "³"}[found["power"]]
    if found["word"]:
        return MEANING[found["word"]]
    plain = found["char"] or found["plain"] or ""
    return "\u00a0" if found["plain"] == "~" else plain


@given(NASTY)
def test_escaped_text_is_read_as_it_was(text: str) -> None:
    assert _read(escape(text)) == printable(text)


@given(NASTY)
def test_no_ligature_makes_another_character(text: str) -> None:
    assert not re.search(r"--|,,|''|``|\?`|!`|<<|>>", escape(text))


@given(NASTY)
def test_every_character_is_known_or_defined(text: str) -> None:
    escaped = escape(text)
    for char in escaped:
        if ord(char) > 0x17E:
            assert rf"\newunicodechar{{{char}}}{{\missingglyph{{{ord(char):X}}}}}" in preamble(escaped)


def _check_structure(text: str) -> None:
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")


def test_report(document: Document, out: Path) -> None:
    text = render_latex(document, out, "report").read_text("utf-8")
    _check_structure(text)
    assert r"static & 82.00 \ensuremath{\pm} 2.65 & 3 & \ensuremath{-}2.00 [\ensuremath{-}4.48, +0.48]" in text
    assert r"69.4}\rlap{\textsuperscript{B}}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule")
    for link in re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", text):
        assert (out / link).read_bytes().startswith(b"%PDF")


def test_rows_have_a_cell_per_column(document: Document, out: Path) -> None:
    text = render_latex(document, out, "report").read_text("utf-8")
    for letters, body in re.findall(r"\\begin\{(?:tabular|longtable)\}\{@\{\}(.*?)@\{\}\}(.*?)\\end\{", text, re.S):
        columns = len(re.sub(r"p\{[^}]*\}", "p", letters))
        rows = [line for line in body.splitlines() if line.startswith(("{}", r"\addlinespace {}"))]
        assert rows
        assert all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows)


def test_hostile_names_are_literal(out: Path) -> None:
    path = render_latex(hostile_document(), out, HOSTILE)
    assert path.parent == out
    text = path.read_text("utf-8")
    _check_structure(text)
    assert text.count(escape(HOSTILE)) >= 30
    assert "<script" not in text
    assert r"\newunicodechar{😀}" in text
