"""Defines the verb `report`, which writes the report of what has been tracked, or that of a bundle again."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from ablations.errors import OptionError
from reports.content.file_names import Destination
from reports.render import FORMATS
from runners.api.maker import running_code
from runners.api.selection import Selection
from runners.cli.options.foreign import ForeignOptions, foreign_options
from runners.cli.options.frozen import FrozenOptions, frozen_options
from runners.cli.options.groups import examples
from runners.cli.options.report import ReportOptions, print_files, report_options
from runners.cli.options.selection import selection_options
from runners.cli.options.table import TableOptions, table_options
from runners.console.terminal import print_lines
from runners.upkeep.damages import damages_of


@click.command(
    epilog=examples(
        "report aggregation --format pdf,html,tex",
        "report temperature --preset small",
        "report aggregation --brief --format pdf",
        'report "temperature/tau_*"',
        "report paper.zip --format html",
        "report --results results.csv --reference baseline",
        "report my_study.yaml --results mlflow:http://127.0.0.1:5000/my-runs --metric accuracy",
        "report --table aggregation --columns attention,average --digits 1 --format tex",
    )
)
@selection_options()
@report_options()
@table_options
@frozen_options
@foreign_options()
@click.option(
    "--brief", is_flag=True, help="Two pages: the answers with their figure, and the main tables with their verdicts."
)
def report(
    selection: Selection,
    report: ReportOptions,
    frozen: FrozenOptions,
    foreign: ForeignOptions,
    table: TableOptions,
    brief: bool,
) -> None:
    """Write the report of what has been tracked.

    Without studies, of the last run. Without --preset, --set and --seeds, with those of the last run, or else of the
    newest report of the first study. A bundle in place of studies is made into its report again, in a folder beside it.
    With --results, a report on runs that were made elsewhere: by other code, in any field. With --table, one table of
    the report alone.
    """
    foreign.check()
    if table.table is not None:
        is_given = click.get_current_context().get_parameter_source("formats") is not ParameterSource.DEFAULT
        _report_table(selection, report, frozen, foreign, table, is_format_given=is_given)
        return
    if foreign.results is not None:
        _report_foreign(foreign.results, selection, report, frozen, foreign, brief=brief)
        return
    if len(selection.studies) == 1 and _is_bundle(selection.studies[0]):
        _report_again(Path(selection.studies[0]), selection, report, frozen, brief=brief)
        return
    # MLflow and pandas come with these, for which `report --help` and a bundle shall not wait.
    from runners.cli.reporting.scale import as_reported
    from runners.cli.reporting.write_report import write_report

    selection, plan = as_reported(frozen.completed(selection))
    print_lines(damages_of(selection.runs_dir, [node.fingerprint for node in plan.nodes]))
    plans = frozen.plans(plan, selection)
    write_report(plan, selection.runs_dir, selection.tracking_uri, report, frozen=plans, brief=brief)


def _report_table(
    selection: Selection,
    report: ReportOptions,
    frozen: FrozenOptions,
    foreign: ForeignOptions,
    table: TableOptions,
    *,
    is_format_given: bool,
) -> None:
    """Print or write one table of a report.

    Raises:
        OptionError: If options do not fit each other, or the table has no column or row of a name.
        UnknownNameError: If the report has no such table.
    """
    # pandas and more come with it, for which `report --help` shall not wait.
    from runners.cli.reporting import single_table

    formats = single_table.table_formats(report, is_given=is_format_given)
    if foreign.results is not None:
        _check_foreign(selection, frozen)
        reported = single_table.foreign_report(foreign.request(foreign.results, selection.studies))
    elif len(selection.studies) == 1 and _is_bundle(selection.studies[0]):
        path = Path(selection.studies[0])
        _check_bundle(path, selection, frozen)
        selection.load_plugins()
        reported = single_table.bundled_report(path)
    else:
        reported = single_table.tracked_report(selection, frozen, table.table or "")
    single_table.write_table(reported, table, report.output, formats)


def _report_foreign(
    address: str,
    selection: Selection,
    report: ReportOptions,
    frozen: FrozenOptions,
    foreign: ForeignOptions,
    *,
    brief: bool,
) -> None:
    """Write the report on results that were measured elsewhere.

    Raises:
        OptionError: If options say something of runs that are made here, or several studies are named.
    """
    _check_foreign(selection, frozen)
    # pandas and more come with it, for which `report --help` shall not wait.
    from runners.cli.reporting.foreign import write_foreign_report

    write_foreign_report(foreign.request(address, selection.studies), report, brief=brief)


def _check_foreign(selection: Selection, frozen: FrozenOptions) -> None:
    if selection != Selection(selection.studies, runs_dir=selection.runs_dir) or frozen.frozen is not None:
        raise OptionError(
            "--results is about runs that were made elsewhere. Leave out the options of runs that are made here, such "
            "as --preset, --set, --seeds and --plugin."
        )
    if len(selection.studies) > 1:
        raise OptionError("--results takes one study file, or none. Write a report for each.")


def _is_bundle(name: str) -> bool:
    return name.lower().endswith(".zip")


def _report_again(
    path: Path, selection: Selection, report: ReportOptions, frozen: FrozenOptions, *, brief: bool
) -> None:
    """Write the report in a bundle again.

    Raises:
        OptionError: If options say what the bundle itself says.
    """
    _check_bundle(path, selection, frozen)
    selection.load_plugins()
    from reports.bundles.remaking import remake_report

    # Not into the runs folder, which may have a report of that name, and not over the bundle's neighbours.
    target = Destination.of(report.output, path.with_suffix(""), FORMATS)
    files = remake_report(path, report.renderers, target.folder, running_code(), stem=target.stem, brief=brief)
    print_files("report", files)


def _check_bundle(path: Path, selection: Selection, frozen: FrozenOptions) -> None:
    # Anything beyond these would contradict the bundle, which states its own request.
    bare = Selection(selection.studies, runs_dir=selection.runs_dir, plugins=selection.plugins)
    if selection != bare or frozen.frozen is not None:
        raise OptionError(
            f"{path} is a bundle, which says itself what was asked. Leave out all options but --brief, --format, "
            "--output and --plugin."
        )
