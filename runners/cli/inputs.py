"""Turns the options that verbs share into a plan, loaded plug-ins, dispatch settings and folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.addresses import sqlite_address
from ablations.errors import AblationError
from ablations.planning.request import make_request
from ablations.registry import find_studies
from runners.console.terminal import console

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from runners.dispatch import DispatchSettings


def tracking_uri(runs_dir: Path) -> str:
    """Return `MLFLOW_TRACKING_URI`, or the SQLite store in `runs_dir`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(runs_dir.absolute() / "mlflow.db")


def load_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Load the plug-ins named on the command line and the installed ones, and return the names of all."""
    from runners.plugins import installed_plugins
    from runners.plugins import load_plugins as load

    modules = tuple(dict.fromkeys([*plugins, *installed_plugins()]))
    load(modules)
    return modules


def find_plan(
    studies: Sequence[str],
    runs_dir: Path,
    *,
    all_studies: bool,
    preset: str | None,
    overrides: Sequence[str],
    seeds: int | None,
    canary: bool = False,
    tuned: bool = False,
    tuned_from: str | None = None,
) -> Plan:
    """Return the plan of the named studies, with the nodes that are measured under `runs_dir` marked as done."""
    from ablations.planning.plan import make_plan
    from runners.state.nodes import StateStore

    values_path = Path(tuned_from) if tuned_from else tuning_folder(runs_dir) if tuned else None
    request = make_request(preset, overrides, seeds, canary, values_path)
    plan = make_plan(find_studies(studies, all_studies, request), request)
    measured = StateStore(runs_dir / "state").done(node.fingerprint for node in plan.nodes)
    return replace(plan, done=measured)


def tuning_folder(runs_dir: Path) -> Path:
    """Return the folder of tuned values and of the journals of the trials that led to them."""
    return runs_dir / "tuning"


def take_dispatch(asked: dict[str, Any], runs_dir: Path) -> DispatchSettings:
    """Remove the values of `dispatch_options` from `asked` and return them as settings.

    Raises:
        AblationError: If the options contradict each other.
    """
    from runners.dispatch import DispatchSettings
    from runners.dispatch.slurm.options import read_slurm_options

    name, slurm = asked.pop("dispatch"), read_slurm_options(asked.pop("slurm"))
    task_options = {key: asked.pop(key) for key in ("workers", "threads", "device", "trials_per_gpu", "ray_address")}
    return DispatchSettings(name, slurm=slurm, folder=runs_dir, **task_options)


def take_recovery(asked: dict[str, Any]) -> dict[str, Any]:
    """Remove the values of `recovery_options` from `asked` and return them as settings of a launch."""
    from runners.state.failures import FailurePolicy

    policy = FailurePolicy(retries=asked.pop("retries"), wait_seconds=asked.pop("retry_wait"))
    return {"policy": policy, "fail_fast": asked.pop("fail_fast"), "lease_seconds": asked.pop("lease_seconds")}


_SCALE = ("preset", "overrides", "seeds")
_TUNED = ("tuned", "tuned_from")


def as_last_time(
    studies: Sequence[str], plugins: Sequence[str], asked: Mapping[str, Any], last: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]:
    """Return studies, plug-ins and options, completed by those of the last run.

    Preset, overrides and seeds go together: if one of them is given, none is taken from the last run.

    Raises:
        AblationError: If no study is named and nothing was run.
    """
    asked = dict(asked)
    # A present preset with earlier overrides would make a plan that the user never meant.
    if not any(asked[key] for key in _SCALE):
        asked |= {key: last[key] for key in _SCALE if key in last}
        if last.get("canary"):
            asked["canary"] = True
        if not asked.get("tuned") and not asked.get("tuned_from"):
            asked |= {key: last[key] for key in _TUNED if key in last}
    if not studies and not asked["all_studies"]:
        if not last.get("studies") and not last.get("all_studies"):
            raise AblationError("nothing was run here yet. Name studies, or another folder with --runs-dir.")
        studies, asked["all_studies"] = last.get("studies", ()), last.get("all_studies", False)
    # Plug-ins add up: names that the last run used must stay known.
    return tuple(studies), tuple(dict.fromkeys([*plugins, *last.get("plugins", ())])), asked


def take_budget(asked: dict[str, Any]) -> dict[str, Any]:
    """Remove the values of `budget_options` from `asked` and return them.

    Raises:
        UsageError: If `--trim` is given without `--max-hours`.
    """
    hours, may_trim = asked.pop("max_hours"), asked.pop("trim")
    if may_trim and hours is None:
        raise click.UsageError("--trim needs --max-hours: to how many hours?")
    return {"hours": hours, "may_trim": may_trim}


def as_trimmed(
    studies: Sequence[str], asked: Mapping[str, Any], fitting: Plan
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the studies, as they were named, and the options with which a user would ask for the trimmed plan."""
    from ablations.registry import available_studies

    names = dict.fromkeys([*studies, *(available_studies() if asked["all_studies"] else ())])
    # Trimming leaves out the studies that were named last, so the first names are those of the plan.
    remaining = tuple(names)[: len(fitting.studies)]
    return remaining, {**asked, "all_studies": False, "seeds": fitting.request.seeds}


def tell_damages(plan: Plan, runs_dir: Path) -> None:
    """Print a line for each file of the plan's nodes, or of the runs folder, that cannot be read."""
    from runners.upkeep.damages import damages_of

    for line in damages_of(runs_dir, [node.fingerprint for node in plan.nodes]):
        console().print(line, markup=False, soft_wrap=True)
