"""Plans whose trainings an optimiser proposes: the tuning of the variants of studies. Pure, as `ablations.planning`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ablations.errors import SpecError
from ablations.nodes import ProposedNode
from ablations.planning import Plan
from ablations.request import Request
from ablations.rows import make_rows, resolve_row
from ablations.study import Study
from ablations.tuning import Tuning, check_nuisance, tuning_of


@dataclass(frozen=True)
class TuningPlan:
    """What is to be tuned, each training once however many rows share it.

    Attributes:
        request: What is asked for.
        studies: The studies at their preset.
        tunings: The groups, in the order of the rows.
        budget: Trials for each of them.
    """

    request: Request
    studies: tuple[Study, ...]
    tunings: tuple[Tuning, ...]
    budget: int

    def as_plan(self) -> Plan:
        """Returns the trainings as a plan that can be launched: each group's first trial, every second …

        Trials of one group are proposed from what came of the earlier ones, so they should not all run at once; and a
        launch that is cut short has given every variant about as much.
        """
        by_group = [list(tuning.nodes(self.budget)) for tuning in self.tunings]
        nodes: dict[str, ProposedNode] = {
            node.fingerprint: node for turn in zip(*by_group, strict=True) for node in turn
        }
        serves = {tuning.fingerprint: tuning.serves for tuning in self.tunings}
        return Plan(self.request, self.studies, {}, {}, {}, (), proposed=nodes, groups=serves)


def make_tuning_plan(studies: Sequence[Study], request: Request, budget: int) -> TuningPlan:
    """Returns what `tune` does for `studies`: as many trials for each distinct training that a variant needs.

    Evaluation-only variants have the training of the network that they look into.

    Raises:
        SpecError: If nothing can be tuned, or a nuisance factor is read by nothing or does not fit.
    """
    rows = make_rows(studies, request)
    check_nuisance(rows, request)
    tunings: dict[str, Tuning] = {}
    for row in rows:
        tuning = tuning_of(row, request, resolve_row(row, request))
        if tuning is None:
            continue
        shared = tunings.setdefault(tuning.fingerprint, tuning)
        keys = shared.serves.setdefault(row.study.name, [])
        if row.key not in keys:
            keys.append(row.key)
    if not tunings:
        names = ", ".join(study.name for study in studies)
        raise SpecError(f"nothing can be tuned for {names}: no training has a nuisance factor. Name some as nuisance.")
    chosen = {row.study.name: row.study for row in rows}
    return TuningPlan(request, tuple(chosen.values()), tuple(tunings.values()), budget)
