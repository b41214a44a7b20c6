"""Prepares a run and launches it: what `run` and `retry` do between their options and their report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ablations.invocation import complete_invocation
from ablations.planning.plan import Plan
from runners.api.plans import as_trimmed, find_plan
from runners.api.selection import Selection
from runners.console.progress import Summary
from runners.console.terminal import progress_console
from runners.dispatch import prepare_workers
from runners.estimates.forecast import Forecaster
from runners.launching import announce
from runners.launching.rerun import begin_anew, undone
from runners.launching.settings import LaunchSettings
from runners.state.failures import patiently
from runners.state.files import check_writable
from runners.state.last_run import remember_run
from runners.state.nodes import StateStore


@dataclass(frozen=True)
class PreparedRun:
    """A plan that can be launched.

    Attributes:
        selection: What was asked for; after a trimming, what is left of it.
        plan: Its plan, in which what is done anew is missing.
        settings: How it is launched, with the plug-ins that workers import.
        forecaster: Estimates it, for its dispatcher, and learns from it.
    """

    selection: Selection
    plan: Plan
    settings: LaunchSettings
    forecaster: Forecaster

    @classmethod
    def of(cls, selection: Selection, settings: LaunchSettings) -> PreparedRun:
        """Return a selection as it can be launched; `settings` need not name the plug-ins of the selection."""
        # Workers begin to import torch while the plan is still being made.
        prepare_workers(settings.dispatch)
        settings = replace(settings, plugins=selection.load_plugins())
        forecaster = Forecaster(selection.runs_dir, settings.dispatch)
        return cls(selection, find_plan(selection), settings, forecaster)

    def within(self, hours: float, forced: Sequence[str], *, may_trim: bool) -> PreparedRun:
        """Return a run that takes at most `hours` by estimate, trimmed if that is allowed; print what was trimmed.

        Args:
            forced: The variants that will be done anew, whose time counts.

        Raises:
            BudgetError: If it takes longer and may not be trimmed, or cannot be.
        """
        # Nothing is put aside before the budget is known to suffice: a refusal must leave the runs folder as it was.
        unfinished = undone(self.plan, forced, StateStore(self.selection.layout.state))
        announce.time_networks(unfinished, self.forecaster, self.settings.plugins)
        trimmed = announce.fit(unfinished, self.forecaster, hours=hours, may_trim=may_trim)
        if trimmed is unfinished:
            return self
        # Suggested commands and the record of the run then repeat the trimmed plan.
        selection = as_trimmed(self.selection, trimmed)
        complete_invocation(studies=selection.studies, all_studies=False, seeds=selection.seeds)
        return replace(self, selection=selection, plan=find_plan(selection))

    def with_forced(self, forced: Sequence[str]) -> PreparedRun:
        """Return a run in which some variants are done anew; what they were is put aside.

        Args:
            forced: `study/variant`, or `study/network: variant` for one inspected network.

        Raises:
            UnknownNameError: If there is no such variant in the plan.
            LeaseError: If one of the nodes is being run.
            OutputError: If a folder cannot be moved.
        """
        if not forced:
            return self
        return replace(self, plan=begin_anew(self.plan, forced, StateStore(self.selection.layout.state)))

    def remember(self) -> None:
        """Write down what is run, before it is launched: `status`, `retry` and `report` know it even after a kill.

        Raises:
            OutputError: If the runs folder cannot be written.
        """
        runs_dir = self.selection.runs_dir
        retrying = partial(patiently, policy=self.settings.policy, tell=partial(progress_console().print, markup=False))
        retrying(partial(check_writable, runs_dir))
        retrying(partial(remember_run, runs_dir, self.selection.studies, self.selection.as_options()))

    def launch(self, plan: Plan | None = None, *, offline: bool = False) -> Summary:
        """Carry the run out, print how it goes, and return how it ended.

        Args:
            plan: The nodes to run now, of this plan or of a later one; by default those of this plan.
            offline: Whether nothing is tracked now; `sync` brings it to the tracking store later.

        Raises:
            AblationError: If nothing can be run; the message says why.
        """
        # A launch needs mlflow, which `run --help` shall not wait for.
        from runners.launching import session

        uri = None if offline else self.selection.tracking_uri
        launched = plan or self.plan
        return session.launch(launched, self.plan, self.selection.runs_dir, uri, self.settings, self.forecaster)
