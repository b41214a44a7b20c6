"""This module chooses rows of a study by their names or by patterns of them, as a user asks for them.

A row is called by its variant, and on an inspected network by `network: variant`; the variant alone means it on each
network. A pattern is a shell's: `*`, `?` and `[…]`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ablations.errors import StudyError, nearest
from ablations.study import Study

_WILDCARDS = "*?["
_MOST_LISTED = 40
"""The most rows that a message lists."""


def row_key(network: str, variant: str) -> str:
    """Return the name of a row: the variant's, with the inspected network in front if there is one."""
    return f"{network}: {variant}" if network else variant


def choose_rows(study: Study, patterns: Iterable[str], preset: str) -> Study:
    """Return a study with the rows that some patterns name, beside the reference.

    A table has each of its variants on each of its networks, so that rows on several networks bring along each other's
    variants: these are further evaluations of networks that are needed anyway.

    Args:
        study: The study as it is at the preset.
        preset: The name of the preset, for messages.

    Raises:
        StudyError: If there is no row of a name, none is called as a pattern says, or the preset leaves the row out.
    """
    names = [(network, variant.name) for network in study.inspect or ("",) for variant in study.variants]
    variants: dict[str, None] = {}
    networks: dict[str, None] = {}
    for pattern in patterns:
        for network, variant in _matching(study, names, pattern, preset):
            variants[variant] = None
            if network:
                networks[network] = None
    return study.with_rows(variants, networks)


def _matching(study: Study, names: Sequence[tuple[str, str]], pattern: str, preset: str) -> list[tuple[str, str]]:
    exact = [name for name in names if pattern in (name[1], row_key(*name))]
    # A name that holds a wildcard means itself.
    if exact:
        return exact
    matches = []
    if any(wildcard in pattern for wildcard in _WILDCARDS):
        matches = [name for name in names if fnmatchcase(name[1], pattern) or fnmatchcase(row_key(*name), pattern)]
    if not matches:
        raise StudyError(_no_row(study, names, pattern, preset))
    return matches


def _no_row(study: Study, names: Sequence[tuple[str, str]], pattern: str, preset: str) -> str:
    """Return the sentences on a name, or a pattern, that no row has."""
    keys = [row_key(*name) for name in names]
    listed = ", ".join(keys[:_MOST_LISTED])
    if len(keys) > _MOST_LISTED:
        listed += f", … ({len(keys)} in all)"
    rows = f"Its rows here are: {listed}."
    if any(wildcard in pattern for wildcard in _WILDCARDS):
        return f"no row of study {study.name!r} matches {pattern!r}. {rows}"
    if any(variant.name == pattern for variant in study.whole.variants):
        # The preset cut it, or an override left it without a difference.
        return f"row {pattern!r} of study {study.name!r} is left out at preset {preset} with these settings. {rows}"
    if pattern in study.inspect:
        example = shlex.quote(f"{study.name}/{row_key(pattern, '*')}")
        return f"{pattern!r} is a network of study {study.name!r} and no row. For all rows on it: {example}. {rows}"
    # The variants alone are names, too, and likelier to be what was mistyped.
    candidates = dict.fromkeys([*(variant for _, variant in names), *keys])
    sentence = f"study {study.name!r} has no row {pattern!r}."
    guess = nearest(pattern, candidates)
    if guess.startswith("Did you mean"):
        sentence += f" {guess}"
    return f"{sentence} {rows}"
