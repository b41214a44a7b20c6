"""Defines the verb `status`: how a study goes. It reads the disk alone and answers within a second."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import click
from rich.live import Live

from runners.api.plans import as_last_time, find_plan, last_selection
from runners.api.selection import Selection
from runners.cli.options.groups import examples
from runners.cli.options.json_output import json_option
from runners.cli.options.selection import selection_options
from runners.console.terminal import console, is_verbose, print_lines
from runners.state.launches import History, PlanRecord
from runners.state.nodes import StateStore
from runners.upkeep.status import Overview, as_json, look, plain, render

_LIVE_SECONDS, _PLAIN_SECONDS = 2.0, 30.0


@click.command(
    epilog=examples(
        "status", "status --watch", "status temperature/tau_1", "status temperature my_study.yaml --preset small --json"
    )
)
@selection_options()
@click.option("--watch", is_flag=True, help="Go on looking until the launch ends, or Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), help="Seconds between two looks (2; 30 where no terminal is)."
)
@click.option("--nodes", is_flag=True, help="List also what is done and what waits.")
@json_option("every node")
def status(selection: Selection, *, watch: bool, interval: float | None, nodes: bool, as_data: bool) -> None:
    """Show what is done, runs, waits or has failed.

    Where and how far it runs, why it failed, and what was left by a process that died. Of the last run, or of the named
    studies; then without --preset, --set and --seeds, with those of the last run. Leaves with 1 if something has
    failed.
    """
    view = _View(selection, every=nodes or is_verbose())
    overview = view.watch(interval) if watch and not as_data else view.show(as_data=as_data)
    sys.exit(int(overview.has_failures))


class _View:
    """Looks at the runs folder and prints what it sees, once or again and again.

    Args:
        selection: The studies and the runs folder.
        every: Whether to list done and waiting nodes, too.
    """

    def __init__(self, selection: Selection, *, every: bool) -> None:
        self._selection, self._every = selection, every
        self._plan = _find_plan(selection)
        self._states = StateStore(selection.layout.state)
        self._out = console()

    def show(self, *, as_data: bool) -> Overview:
        """Look once and print the overview, as JSON if `as_data`."""
        overview = self._look(self._plan)
        if as_data:
            click.echo(json.dumps(as_json(overview, self._states), indent=1))
        elif self._out.is_terminal:
            # Not cropped: a path that is cut off cannot be copied.
            self._out.print(render(overview, self._states, every=self._every), crop=False)
        else:
            print_lines(plain(overview, self._states, every=self._every))
        return overview

    def watch(self, interval: float | None) -> Overview:
        """Look until the launch ends, or Ctrl-C: redraw one table on a terminal, print lines each time elsewhere."""
        overview = self._look(self._plan)
        has_begun = False
        is_terminal = self._out.is_terminal
        pause = interval or (_LIVE_SECONDS if is_terminal else _PLAIN_SECONDS)
        try:
            # Redrawn by hand: rich's own refresh would draw an overview that has not changed.
            with Live(console=self._out, auto_refresh=False) if is_terminal else nullcontext() as live:
                while True:
                    if live is None:
                        print_lines(plain(overview, self._states, every=self._every))
                    else:
                        live.update(render(overview, self._states, every=self._every, is_live=True), refresh=True)
                    has_begun |= bool(overview.launches)
                    # Where none goes on yet, it is waited for, unless there is nothing left to be run.
                    if not overview.launches and (has_begun or overview.is_done):
                        return overview
                    time.sleep(pause)
                    plan = self._plan
                    if not self._selection.is_named:
                        # Another launch may have begun meanwhile.
                        plan = _last_plan(self._selection.runs_dir) or plan
                    overview = self._look(plan)
        except KeyboardInterrupt:
            return overview

    def _look(self, plan: PlanRecord) -> Overview:
        # Without named studies, running nodes of other plans are shown, too.
        others = not self._selection.is_named
        return look(self._selection.runs_dir, plan, self._selection.tracking_uri, others=others)


def _find_plan(selection: Selection) -> PlanRecord:
    """Return the plan of the named studies, or the plan that the last launch has written down.

    Raises:
        AblationError: If nothing is named and nothing was run, or what is named is wrong.
    """
    # The written plan needs no study file and no plug-in, and is what the launch really runs.
    if not (selection.is_named or selection.is_scaled or selection.canary):
        plan = _last_plan(selection.runs_dir)
        if plan is not None:
            return plan
    selection = as_last_time(selection, last_selection(selection.runs_dir))
    selection.load_plugins()
    return PlanRecord.of(find_plan(selection))


def _last_plan(runs_dir: Path) -> PlanRecord | None:
    for _, plan in History(runs_dir).plans():
        return plan
    return None
