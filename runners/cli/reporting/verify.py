"""Defines the verb `verify`, which computes the numbers of a report or of a bundle again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations.visible import visible
from runners.api.maker import running_code
from runners.api.selection import Selection
from runners.cli.options.groups import examples
from runners.cli.options.json_output import json_option, print_json
from runners.cli.options.selection import selection_options
from runners.cli.reporting.options import RetrainOptions, retrain_options
from runners.console.terminal import is_quiet, print_lines

if TYPE_CHECKING:
    from reports.verify import Verification


@click.command(
    epilog=examples(
        "verify runs/reports/aggregation.pdf",
        "verify report.html --tracking-uri http://127.0.0.1:5000",
        "verify results-report/results.pdf --results results.csv",
        "verify paper.zip --retrain 2 --draw 'a word of mine'",
        "verify paper.zip --json",
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
@json_option("what differs, and what was computed")
def verify(
    selection: Selection,
    retraining: RetrainOptions,
    *,
    file: Path,
    uri: str | None,
    results: str | None,
    as_data: bool,
) -> None:
    """Compute every number of a report again from its runs.

    Each number that differs is named. The PDF and the HTML page carry a manifest of their runs; a bundle (`bundle`)
    holds the runs themselves, and each of its bytes is checked. A report on results from elsewhere carries a copy of
    them, which --results holds against the source. Exit code 1 says that something differs.
    """
    # Plug-ins come first: a manifest may name layers or data sets that only they register.
    plugins = selection.load_plugins()
    store = uri or selection.tracking_uri
    from reports.bundles.checking import verify_file

    outcome = verify_file(file, store, running_code(), results)
    if not as_data:
        print_lines(_told(outcome))
    count = len(outcome.differences)
    retrained: list[str] = []
    # A bundle that was changed says nothing of what was measured.
    if retraining.retrain and outcome.is_readable:
        from runners.cli.reporting.retrain import retrain

        for line in retrain(file, store, retraining, plugins):
            retrained.append(line)
            print_lines([line])
    count += sum(line.startswith("differs") for line in retrained)
    if as_data:
        print_json("verify", {"file": str(file), "is_same": count == 0, **vars(outcome), "retrained": retrained})
    sys.exit(1 if count else 0)


def _told(outcome: Verification) -> Iterator[str]:
    """Yield the outcome in lines; in a hurry, what differs and the sum."""
    for line in outcome.lines():
        if is_quiet() and line.startswith("note: "):
            continue
        # A report may come from a stranger: a name in it must not be able to begin a line of its own.
        yield visible(line, lines=False)
