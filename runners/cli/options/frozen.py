"""Defines the option that names a frozen plan, and finds the frozen plans that concern what is run or reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from ablations.errors import StudyError
from ablations.planning.frozen_plan import FrozenPlan, frozen_plans, read_frozen
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from runners.api.selection import Selection
from runners.cli.options.groups import grouped
from runners.console.terminal import announce_lines


@dataclass(frozen=True)
class FrozenOptions:
    """The values of `frozen_options`.

    Attributes:
        frozen: A frozen plan; `None` to take those in the runs folder.
    """

    frozen: Path | None

    def completed(self, selection: Selection) -> Selection:
        """Return a selection with the studies and the scale of the frozen plan, as far as it names none itself.

        Raises:
            StudyError: If the file is no frozen plan.
        """
        if self.frozen is None:
            return selection
        content = read_frozen(self.frozen).content
        request = content["request"]
        # What the user says wins over the file, and departures are told as such.
        if not selection.is_named:
            selection = replace(selection, studies=tuple(content["named"]))
        if not selection.is_scaled:
            overrides = tuple(f"{key}={json.dumps(value)}" for key, value in request["overrides"].items())
            overrides += tuple(f"{key}={','.join(texts)}" for key, texts in request.get("sweeps", {}).items())
            selection = replace(selection, preset=request["preset"], overrides=overrides, seeds=request["seeds"])
            selection = replace(selection, seed=request.get("seed"))
            selection = replace(selection, canary=selection.canary or request["canary"])
            selection = replace(selection, tuned=selection.tuned or request["tuned"] is not None)
            if "stopping" in request and not selection.until_decided:
                selection = replace(selection, until_decided=True, max_seeds=request["stopping"]["max_seeds"])
        return selection

    def plans(self, plan: Plan, selection: Selection) -> Sequence[FrozenPlan]:
        """Return the frozen plans that concern a plan: those in the runs folder, and the one that was named.

        Raises:
            StudyError: If the file is no frozen plan, or one of other studies.
        """
        in_folder = frozen_plans(selection.layout.frozen, plan)
        if self.frozen is None:
            return in_folder
        chosen = read_frozen(self.frozen)
        if not chosen.concerns(plan):
            raise StudyError(
                f"{self.frozen} was frozen for {', '.join(chosen.studies)} at preset "
                f"{chosen.content['request']['preset']}, which is something else. Name its studies, or none."
            )
        # The chosen one may lie in the folder as well; results keep each plan once.
        return [*in_folder, chosen]


frozen_options = grouped(
    "frozen",
    FrozenOptions,
    click.option(
        "--frozen",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        metavar="FILE",
        help="The plan that `plan --freeze` wrote, if it is not in the runs folder; its studies and scale are taken "
        "where none are named.",
    ),
)


def tell_frozen(plan: Plan, frozen: Sequence[FrozenPlan]) -> None:
    """Print whether a plan is the one that was frozen, and each point in which it departs from it."""
    if not frozen:
        return
    # The report is held against the newest one, and so is what is told here.
    newest = max(frozen, key=lambda candidate: candidate.frozen_at)
    differences = newest.differences(plan)
    identity = f"frozen {newest.when}, SHA-256 {newest.digest[:SHORT]}"
    if differences:
        announce_lines([f"Not the plan that was {identity}:", *(f"  {sentence}" for sentence in differences)])
    else:
        announce_lines([f"As planned: {identity}."])
