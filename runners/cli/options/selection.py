"""Defines the options that select what a verb is about: studies, the request for their plan, and the runs folder."""

from __future__ import annotations

from pathlib import Path

import click

from runners.api.selection import MAX_SEEDS, Selection
from runners.cli.completion import candidates
from runners.cli.options.groups import GivenPath, Option, grouped

SELECTION_OPTIONS: dict[str, Option] = {
    "studies": click.argument("studies", nargs=-1, shell_complete=candidates.studies),
    "all_studies": click.option("--all", "all_studies", is_flag=True, help="Every registered study."),
    "preset": click.option(
        "--preset",
        default=None,
        shell_complete=candidates.presets,
        help="Scale: smoke, quick, evening, small or paper (default: quick).",
    ),
    "overrides": click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=candidates.overrides,
        help="Change a setting of every variant. Several values, KEY=1,2, make a study of them. Repeatable.",
    ),
    "seeds": click.option("--seeds", type=click.IntRange(1, 1000), help="Repeats per variant."),
    "seed": click.option("--seed", type=click.IntRange(0), help="One repeat of each variant: the one with this seed."),
    "canary": click.option(
        "--canary",
        is_flag=True,
        help="Train each study's reference again under other seeds: an A/A test of the report.",
    ),
    "tuned": click.option("--tuned", is_flag=True, help="Train with what `tune` has found for each variant."),
    "tuned_from": click.option(
        "--tuned-from",
        type=click.Path(exists=True),
        metavar="PLACE",
        help="The same, with the values in this file or folder instead of tuning/ in the runs folder.",
    ),
    "until_decided": click.option(
        "--until-decided",
        is_flag=True,
        help="Add seeds until the primary claims are decided; intervals are valid for all looks together.",
    ),
    "max_seeds": click.option(
        "--max-seeds",
        type=click.IntRange(1, 1000),
        help=f"The most seeds of --until-decided (default: {MAX_SEEDS}). Fix it before the first look.",
    ),
    "runs_dir": click.option(
        "--runs-dir",
        type=GivenPath(file_okay=False),
        default=Path("runs"),
        show_default=True,
        help="Folder for states, the local tracking store and reports.",
    ),
    "plugins": click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="MODULE",
        help="Import your own strategies or studies. Repeatable.",
    ),
}


def selection_options(*names: str) -> Option:
    """Return a decorator that adds options and hands a verb its `selection: Selection`.

    Args:
        names: Fields of `Selection`, in the order of the help; by default all.
    """
    return grouped("selection", Selection, *(SELECTION_OPTIONS[name] for name in names or SELECTION_OPTIONS))
