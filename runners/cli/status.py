"""Defines the verb `status`: how a study goes. It reads the disk alone and answers within a second."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runners.cli.inputs import find_plan, load_plugins, tracking_uri
from runners.cli.options import (
    all_option,
    canary_option,
    examples,
    plugin_option,
    preset_option,
    runs_option,
    seeds_option,
    set_option,
    tuned_options,
)
from runners.console.terminal import console

if TYPE_CHECKING:
    from runners.state.launches import PlanRecord
    from runners.upkeep.status import Overview

_LIVE_SECONDS, _PLAIN_SECONDS = 2.0, 30.0


@click.command(epilog=examples("status", "status --watch", "status temperature my_study.yaml --preset small --json"))
@click.argument("studies", nargs=-1)
@all_option
@preset_option
@set_option
@seeds_option
@canary_option
@tuned_options
@runs_option
@plugin_option
@click.option("--watch", is_flag=True, help="Go on looking until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), help="Seconds between two looks (2; 30 where no terminal is)."
)
@click.option("--nodes", is_flag=True, help="List also what is done and what waits.")
@click.option("--json", "as_data", is_flag=True, help="For scripts: every node, as JSON.")
def status(
    studies: tuple[str, ...],
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    watch: bool,
    interval: float | None,
    nodes: bool,
    as_data: bool,
    **asked: Any,
) -> None:
    """What is done, runs (where, how far), waits, has failed (why) or was left by a process that died.

    Of the last run, or of the named studies; then without --preset, --set and --seeds, with those of the last run.
    Leaves with 1 if something has failed.
    """
    plan = _asked_plan(studies, runs_dir, plugins, asked)
    # Another launch may begin meanwhile: if no study was named, its plan is then shown.
    read_plan = None if studies or asked["all_studies"] else lambda: _last_plan(runs_dir) or plan
    view = _View(runs_dir, every=nodes, others=read_plan is not None)
    overview = view.watch(plan, read_plan, interval) if watch and not as_data else view.show(plan, as_data=as_data)
    sys.exit(1 if overview.has_failures else 0)


class _View:
    """Looks at the runs folder and prints what it sees, once or again and again.

    Args:
        runs_dir: The runs folder.
        every: Whether to list done and waiting nodes, too.
        others: Whether to look for running nodes of other plans, too.
    """

    def __init__(self, runs_dir: Path, *, every: bool, others: bool) -> None:
        from runners.state.nodes import StateStore

        self._runs_dir, self._every, self._others = runs_dir, every, others
        self._states = StateStore(runs_dir / "state")
        self._out = console()

    def show(self, plan: PlanRecord, *, as_data: bool) -> Overview:
        """Look once and print the overview, as JSON if `as_data`."""
        from runners.upkeep import status as overview

        seen = self._look(plan)
        if as_data:
            click.echo(json.dumps(overview.as_json(seen, self._states), indent=1))
        elif self._out.is_terminal:
            # Not cropped: a path that is cut off cannot be copied.
            self._out.print(overview.render(seen, self._states, every=self._every), crop=False)
        else:
            self._print(seen)
        return seen

    def watch(self, plan: PlanRecord, again: Callable[[], PlanRecord] | None, interval: float | None) -> Overview:
        """Look until Ctrl-C: redraw one table on a terminal, print lines each time elsewhere."""
        from rich.live import Live

        from runners.upkeep import status as overview

        seen = self._look(plan)
        is_terminal = self._out.is_terminal
        pause = interval or (_LIVE_SECONDS if is_terminal else _PLAIN_SECONDS)
        try:
            # Redrawn by hand: rich's own refresh would draw an overview that has not changed.
            with Live(console=self._out, auto_refresh=False) if is_terminal else nullcontext() as live:
                while True:
                    if live is None:
                        self._print(seen)
                    else:
                        live.update(overview.render(seen, self._states, every=self._every, is_live=True), refresh=True)
                    time.sleep(pause)
                    seen = self._look(again() if again is not None else plan)
        except KeyboardInterrupt:
            return seen

    def _look(self, plan: PlanRecord) -> Overview:
        from runners.upkeep.status import look

        return look(self._runs_dir, plan, tracking_uri(self._runs_dir), others=self._others)

    def _print(self, found: Overview) -> None:
        from runners.upkeep.status import plain

        for line in plain(found, self._states, every=self._every):
            self._out.print(line, markup=False, soft_wrap=True)


def _asked_plan(
    studies: tuple[str, ...], runs_dir: Path, plugins: tuple[str, ...], asked: dict[str, Any]
) -> PlanRecord:
    """Return the plan of the named studies, or the plan that the last launch has written down.

    Raises:
        AblationError: If nothing is named and nothing was run, or what is named is wrong.
    """
    from runners.cli.inputs import as_last_time
    from runners.state.last_run import last_run
    from runners.state.launches import PlanRecord

    is_scaled = asked["preset"] or asked["overrides"] or asked["seeds"] or asked["canary"]
    # The written plan needs no study file and no plug-in, and is what the launch really runs.
    if not studies and not asked["all_studies"] and not is_scaled:
        plan = _last_plan(runs_dir)
        if plan is not None:
            return plan
    studies, plugins, asked = as_last_time(studies, plugins, asked, last_run(runs_dir))
    load_plugins(plugins)
    return PlanRecord.of(find_plan(studies, runs_dir, **asked))


def _last_plan(runs_dir: Path) -> PlanRecord | None:
    from runners.state.launches import History

    return next((plan for _, plan in History(runs_dir).plans()), None)
