"""Defines the verb `results`, which prints the tables and verdicts of studies in the terminal or as JSON."""

from __future__ import annotations

from pathlib import Path

import click

from ablations.errors import OptionError
from runners.api.selection import Selection
from runners.cli.options.frozen import FrozenOptions, frozen_options
from runners.cli.options.groups import examples
from runners.cli.options.json_output import json_option, print_json
from runners.cli.options.selection import selection_options
from runners.console.terminal import console, is_quiet, is_verbose, print_lines
from runners.upkeep.damages import damages_of


@click.command(
    epilog=examples(
        "results",
        "results temperature --preset small",
        "results aggregation --json > aggregation.json",
        "results paper.zip",
    )
)
@selection_options()
@frozen_options
@json_option("rows, differences and verdicts")
def results(selection: Selection, frozen: FrozenOptions, *, as_data: bool) -> None:
    """Print the tables of studies with their verdicts.

    Per row the repeats, mean ± standard deviation, the difference to the reference with its interval, and the published
    number. Without studies, of the last run; without --preset, --set and --seeds, with those of the last run, or else
    of the newest report of the first study. A bundle may stand in place of studies. With -v also the value of each
    seed.
    """
    bundle = _bundle_of(selection, frozen)
    if bundle is not None:
        selection.load_plugins()
        from runners.api.study_results import bundled_results

        plan, studies = bundled_results(bundle)
    else:
        # MLflow and pandas come with these, for which `results --help` shall not wait.
        from reports.collect.runs import collect
        from runners.api.reporting import with_protocol
        from runners.api.study_results import study_results
        from runners.cli.reporting.scale import as_reported

        selection, plan = as_reported(frozen.completed(selection))
        print_lines(damages_of(selection.runs_dir, [node.fingerprint for node in plan.nodes]))
        measured = collect(plan, selection.tracking_uri)
        # Whoever reads results has seen them, as whoever reads a report has.
        measured = with_protocol(measured, plan, selection.runs_dir, frozen.plans(plan, selection))
        studies = study_results(plan, measured)
    if as_data:
        from runners.cli.results.as_json import results_as_data

        print_json("results", results_as_data(plan, studies))
    else:
        from runners.cli.results.table import print_results

        print_results(console(), studies, brief=is_quiet(), every=is_verbose())


def _bundle_of(selection: Selection, frozen: FrozenOptions) -> Path | None:
    """Return the bundle that is named in place of studies, `None` if none is.

    Raises:
        OptionError: If options say what the bundle itself says.
    """
    if len(selection.studies) != 1 or not selection.studies[0].lower().endswith(".zip"):
        return None
    bare = Selection(selection.studies, runs_dir=selection.runs_dir, plugins=selection.plugins)
    if selection != bare or frozen.frozen is not None:
        raise OptionError(
            f"{selection.studies[0]} is a bundle, which says itself what was asked. Leave out all options but --json "
            "and --plugin."
        )
    return Path(selection.studies[0])
