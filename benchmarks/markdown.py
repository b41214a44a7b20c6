"""This module holds what the pages on speed share: tables, numbers, and the line that says where they were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

MIB = 2**20


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are aligned to the right."""
    rule = "|".join(["---"] + ["---:"] * (len(head) - 1))
    return "\n".join(["| " + " | ".join(head) + " |", f"|{rule}|", *("| " + " | ".join(row) + " |" for row in rows)])


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds, with a decimal below 100."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def origin_line(origin: Mapping[str, str]) -> str:
    """Return the machine, versions and commit of a measurement as a sentence."""
    return f"{origin['machine']}; torch {origin['torch']}, Python {origin['python']}; commit {origin['commit']}."
