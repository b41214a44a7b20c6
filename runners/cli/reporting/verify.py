"""Defines the verb `verify`, which computes the numbers of a report or of a bundle again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ablations.visible import visible
from runners.api.maker import running_code
from runners.api.selection import Selection
from runners.cli.options.groups import examples
from runners.cli.options.selection import selection_options
from runners.cli.reporting.options import RetrainOptions, retrain_options
from runners.console.terminal import print_lines


@click.command(
    epilog=examples(
        "verify runs/reports/aggregation.pdf",
        "verify report.html --tracking-uri http://127.0.0.1:5000",
        "verify results-report/results.pdf --results results.csv",
        "verify paper.zip --retrain 2 --draw 'a word of mine'",
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--tracking-uri", "uri", help="The store with its runs (default: MLFLOW_TRACKING_URI, or that of --runs-dir)."
)
@click.option(
    "--results", metavar="SOURCE", help="The results of a report on runs from elsewhere, as `report` took them."
)
@selection_options("runs_dir", "plugins")
@retrain_options
def verify(
    selection: Selection, retraining: RetrainOptions, *, file: Path, uri: str | None, results: str | None
) -> None:
    """Compute every number of a report again from its tracked runs, and name each that differs.

    The PDF and the HTML page carry a manifest of their runs; a bundle (`bundle`) holds the runs themselves, and each of
    its bytes is checked. A report on results from elsewhere carries a copy of them, which --results holds against the
    source. Exit code 1 says that something differs.
    """
    # Plug-ins come first: a manifest may name layers or data sets that only they register.
    plugins = selection.load_plugins()
    store = uri or selection.tracking_uri
    from reports.bundles.checking import verify_file

    outcome = verify_file(file, store, running_code(), results)
    # A report may come from a stranger: a name in it must not be able to begin a line of its own.
    print_lines(visible(line, lines=False) for line in outcome.lines())
    count = len(outcome.differences)
    # A bundle that was changed says nothing of what was measured.
    if retraining.retrain and outcome.is_readable:
        from runners.cli.reporting.retrain import retrain

        count += retrain(file, store, retraining, plugins)
    sys.exit(1 if count else 0)
