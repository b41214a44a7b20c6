"""Turns options that verbs share into what they stand for: a plan, plug-ins, a dispatcher's settings, folders."""

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
    """Returns `MLFLOW_TRACKING_URI`, or the SQLite store in `runs_dir`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(runs_dir.absolute() / "mlflow.db")


def load_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Loads the plug-ins named on the command line and those that are installed; returns them all."""
    from runners.plugins import installed_plugins
    from runners.plugins import load_plugins as load

    wanted = tuple(dict.fromkeys([*plugins, *installed_plugins()]))
    load(wanted)
    return wanted


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
    """Returns the plan of the named studies, knowing what has been measured under `runs_dir`."""
    from ablations.planning.plan import make_plan
    from runners.state.nodes import StateStore

    place = Path(tuned_from) if tuned_from else tuning_folder(runs_dir) if tuned else None
    request = make_request(preset, overrides, seeds, canary, place)
    fresh = make_plan(find_studies(studies, all_studies, request), request)
    done = StateStore(runs_dir / "state").done(node.fingerprint for node in fresh.nodes)
    return replace(fresh, done=done)


def tuning_folder(runs_dir: Path) -> Path:
    """Returns the folder of tuned values and of what is known of the trials that led to them."""
    return runs_dir / "tuning"


def take_dispatch(asked: dict[str, Any], runs_dir: Path) -> DispatchSettings:
    """Returns what `dispatch_options` say, taken out of what was asked.

    Raises:
        AblationError: If they do not fit together.
    """
    from runners.dispatch import DispatchSettings
    from runners.dispatch.slurm.options import read_slurm_options

    name, slurm = asked.pop("dispatch"), read_slurm_options(asked.pop("slurm"))
    others = {key: asked.pop(key) for key in ("workers", "threads", "device", "trials_per_gpu", "ray_address")}
    return DispatchSettings(name, slurm=slurm, folder=runs_dir, **others)


def take_recovery(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what `recovery_options` say as settings of a launch, taken out of what was asked."""
    from runners.state.failures import FailurePolicy

    policy = FailurePolicy(retries=asked.pop("retries"), wait_seconds=asked.pop("retry_wait"))
    return {"policy": policy, "fail_fast": asked.pop("fail_fast"), "lease_seconds": asked.pop("lease_seconds")}


_SCALE = ("preset", "overrides", "seeds")
_TUNED = ("tuned", "tuned_from")


def as_last_time(
    studies: Sequence[str], plugins: Sequence[str], asked: Mapping[str, Any], last: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]:
    """Returns studies, plug-ins and the rest of what is asked, with what is left out as it was asked last.

    The preset and what changes it go together: one that is given stands for all of them.

    Raises:
        AblationError: If no study is named and nothing was run.
    """
    asked = dict(asked)
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
    return tuple(studies), tuple(dict.fromkeys([*plugins, *last.get("plugins", ())])), asked


def take_budget(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what `budget_options` say, taken out of what was asked.

    Raises:
        UsageError: If a plan is to be trimmed to no number of hours.
    """
    hours, may_trim = asked.pop("max_hours"), asked.pop("trim")
    if may_trim and hours is None:
        raise click.UsageError("--trim needs --max-hours: to how many hours?")
    return {"hours": hours, "may_trim": may_trim}


def as_trimmed(
    studies: Sequence[str], asked: Mapping[str, Any], fitting: Plan
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Returns what a user who wanted the trimmed plan would have asked for: studies as they were named, and more."""
    from ablations.registry import available_studies

    named = dict.fromkeys([*studies, *(available_studies() if asked["all_studies"] else ())])
    kept = tuple(named)[: len(fitting.studies)]
    return kept, {**asked, "all_studies": False, "seeds": fitting.request.seeds}


def tell_damages(plan: Plan, runs_dir: Path) -> None:
    from runners.upkeep.damages import damages_of

    for line in damages_of(runs_dir, [node.fingerprint for node in plan.nodes]):
        console().print(line, markup=False, soft_wrap=True)
