"""The verb that searches for the parts that matter; its report is another room's business and is handed in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runners.cli import plan as plan_commands
from runners.cli.options import (
    console,
    dispatch_options,
    examples,
    format_option,
    make_request,
    offline_option,
    output_option,
    plugin_option,
    preset_option,
    recovery_options,
    runs_option,
    set_option,
)
from runners.launching import session
from runners.state.files import check_writable

if TYPE_CHECKING:
    from ablations.planning.optimisation_plans import SearchPlan
    from ablations.planning.plan import Request
    from runners.console.progress import Summary

Report = Callable[["SearchPlan", str, Sequence[str], Path, "Path | None"], None]
"""Writes the report of a search, given the tracking store, formats, the runs folder and where else it is to go."""


_trials_option = click.option(
    "--trials",
    type=click.IntRange(2, 100_000),
    default=40,
    show_default=True,
    help="Settings that are proposed and trained. More of them later go on from what is there.",
)
_repeats_option = click.option(
    "--repeats",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    help="Times that the best are trained again, under other seeds.",
)


def search_verb(parse_formats: Callable[[str], tuple[str, ...]], write_report: Report) -> click.Command:
    """Returns the verb `search`, which reads formats and writes its report as it is told here."""

    @click.command(
        epilog=examples(
            "search parts --trials 40",
            "search parts --preset small --trials 120 --repeats 5 --workers 8",
            "search my_search.yaml --set train.epochs=4",
        )
    )
    @click.argument("name")
    @_trials_option
    @_repeats_option
    @preset_option
    @set_option
    @runs_option
    @plugin_option
    @format_option
    @output_option
    @dispatch_options
    @recovery_options
    @offline_option
    def search(
        name: str,
        *,
        trials: int,
        repeats: int,
        preset: str | None,
        overrides: tuple[str, ...],
        runs_dir: Path,
        plugins: tuple[str, ...],
        formats: str,
        output: Path | None,
        offline: bool,
        **asked: Any,
    ) -> None:
        """Search which parts matter: accuracy up, multiply-adds down, on the validation split; then write the report.

        NAME is a built-in search (parts) or a YAML file with factors. The report has the Pareto front, trained again
        under other seeds, and the importance of each factor.
        """
        how, wanted = _how(asked, plugins, runs_dir), parse_formats(formats)
        plan = _plan(name, trials, repeats, make_request(preset, overrides, None))
        for remark in _remarks(plan):
            console().print(remark, markup=False, soft_wrap=True)
        check_writable(runs_dir)
        uri = session.tracking_uri(runs_dir)
        summary = _carry_out(plan, runs_dir, None if offline else uri, how)
        session.tell(summary, uri, verb="search")
        if not summary.interrupted and not offline and not summary.untracked:
            write_report(plan, uri, wanted, runs_dir, output)
        sys.exit(session.exit_code(summary))

    return search


def _how(asked: dict[str, Any], plugins: Sequence[str], runs_dir: Path) -> dict[str, Any]:
    """Returns where and how to launch, as `commands.launch` takes it, with the plug-ins loaded."""
    dispatch = session.take_dispatch(asked, runs_dir)
    return {
        "dispatch": dispatch,
        "recovery": session.take_recovery(asked),
        "plugins": session.load_plugins(plugins),
        "forecaster": plan_commands.make_forecaster(runs_dir, dispatch),
    }


def _plan(name: str, trials: int, repeats: int, asked: Request) -> SearchPlan:
    from ablations.planning.optimisation_plans import make_search_plan
    from ablations.planning.search import get_search

    return make_search_plan(get_search(name), asked, trials, repeats)


def _remarks(plan: SearchPlan) -> Iterator[str]:
    """Yields what is to be known of a search before it begins."""
    from runners.console.tables import data_remarks

    if plan.distinct is not None:
        yield f"There are {plan.distinct} distinct settings to try, fewer than {plan.trials}: each is tried once."
    yield from data_remarks(plan.as_plan())


def _carry_out(plan: SearchPlan, runs_dir: Path, uri: str | None, how: dict[str, Any]) -> Summary:
    from runners.launching.search import carry_out

    return carry_out(plan, runs_dir, uri, how)
