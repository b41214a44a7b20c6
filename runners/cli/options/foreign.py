"""Defines the options that name results which were measured elsewhere, and where in them variant and seed stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations.errors import OptionError
from runners.cli.options.groups import Option, grouped

if TYPE_CHECKING:
    from reports.foreign.make import ForeignRequest

RESULTS_HELP = "Results from elsewhere: a CSV file, or mlflow:URI/EXPERIMENT."


@dataclass(frozen=True)
class ForeignOptions:
    """The values of `foreign_options`; `None` where nothing was said."""

    reference: str | None
    metric: str | None
    lower_is_better: bool
    variant_from: str | None
    seed_from: str | None
    results: str | None = None

    @property
    def is_given(self) -> bool:
        """True if any option is given that only counts with results."""
        others = (self.reference, self.metric, self.variant_from, self.seed_from)
        return self.lower_is_better or any(other is not None for other in others)

    def check(self) -> None:
        """Raise if an option is given that only counts with `--results`.

        Raises:
            UsageError: If there is one.
        """
        # Silently ignored, it would let a user believe that another report was written.
        if self.results is None and self.is_given:
            raise click.UsageError(
                "--reference, --metric, --lower-is-better, --variant-from and --seed-from are about --results: which?"
            )

    def request(self, address: str, studies: Sequence[str]) -> ForeignRequest:
        """Return the request for a report on the results at an address.

        Raises:
            OptionError: If a study is named that is no file.
        """
        from reports.foreign.make import ForeignRequest

        study_file = None
        for name in studies:
            study_file = Path(name)
            if study_file.suffix.lower() not in (".yaml", ".yml"):
                raise OptionError(
                    f"{name!r} is no study of results from elsewhere: name a YAML file, or leave it out and say "
                    "--reference NAME."
                )
        return ForeignRequest(
            address,
            study_file,
            self.reference,
            self.metric,
            self.variant_from or "variant",
            self.seed_from or "seed",
            self.lower_is_better,
        )


def foreign_options(*, with_results: bool = True) -> Option:
    """Return a decorator that adds the options of foreign results and hands a verb its `foreign: ForeignOptions`.

    Args:
        with_results: Whether `--results` is among them; a verb with two sides has an option for each.
    """
    results = [click.option("--results", metavar="SOURCE", help=RESULTS_HELP)]
    return grouped(
        "foreign",
        ForeignOptions,
        *(results if with_results else ()),
        click.option(
            "--reference",
            metavar="NAME",
            help="Of results from elsewhere: the variant that the others are held against.",
        ),
        click.option(
            "--metric", metavar="NAME", help="Of results from elsewhere: the column, or the tracked metric, to compare."
        ),
        click.option("--lower-is-better", is_flag=True, help="Of that metric; a study file says it itself."),
        click.option(
            "--variant-from", metavar="NAME", help="Column, tag or param that names the variant (default: variant)."
        ),
        click.option(
            "--seed-from", metavar="NAME", help="Column, tag or param that numbers the repeats (default: seed)."
        ),
    )
