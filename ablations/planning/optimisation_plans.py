"""This module plans trainings whose settings an optimiser proposes: the tuning of variants, and searches.

Everything is computed from its arguments; `runners` carries the plans out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

from ablations.errors import SpecError
from ablations.planning.inspection import check_not_inspecting
from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation import Optimisation, over_defaults
from ablations.planning.plan import Plan
from ablations.planning.request import Request
from ablations.planning.rows import make_rows, resolve_row, studies_of
from ablations.planning.search import Search
from ablations.planning.tuning import check_nuisance, tuning_of
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study


@dataclass(frozen=True)
class OptimisationPlan:
    """The plan of a tuning or a search: each distinct optimisation once, however many rows share it.

    Attributes:
        optimisations: The groups of trainings, in the order of the rows.
        budget: Trials for each of them.
        serves: Keys of the rows that share an optimisation, by its fingerprint and their study.
        studies: The studies at their preset; none for a search.
        repeats: Number of repeats, under other seeds, of each of the best trials.
    """

    request: Request
    optimisations: tuple[Optimisation, ...]
    budget: int
    serves: Mapping[str, dict[str, list[str]]]
    studies: tuple[Study, ...] = ()
    repeats: int = 0

    def nodes_of(self, optimisation: Optimisation) -> tuple[ProposedNode, ...]:
        """Return the trials of a group, at most as many as there are distinct settings."""
        count = optimisation.distinct(self.budget) or self.budget
        return tuple(ProposedNode.make(optimisation, slot) for slot in range(count))

    def repeats_of(self, trial: ProposedNode, values: Mapping[str, Any]) -> Iterator[ProposedNode]:
        """Yield the trainings that repeat a trial with the values proposed for it, each under another seed."""
        for repeat in range(1, self.repeats + 1):
            yield ProposedNode.make(trial.optimisation, trial.slot, repeat=repeat, values=dict(values))

    def as_plan(self, nodes: Sequence[ProposedNode] | None = None) -> Plan:
        """Return some trainings as a plan that can be launched; by default all trials.

        These come turn by turn: the first trial of each group, then the second of each. Trials of one group are
        proposed from the results of earlier ones, so they should not all run at once. Also, a launch that is cut short
        has given every variant about as many trials.
        """
        if nodes is None:
            turns = zip_longest(*map(self.nodes_of, self.optimisations))
            # A group ends before the others if there are fewer settings to try than the budget has trials.
            nodes = [node for turn in turns for node in turn if node is not None]
        proposed = {node.fingerprint: node for node in nodes}
        return Plan(self.request, self.studies, {}, {}, {}, (), proposed=proposed, groups=self.serves)


@dataclass(frozen=True, kw_only=True)
class SearchPlan(OptimisationPlan):
    """The plan of a search, which has a single group."""

    search: Search

    @property
    def optimisation(self) -> Optimisation:
        """Its only group."""
        return self.optimisations[0]

    @property
    def group(self) -> str:
        """The fingerprint of its only group."""
        return self.optimisation.fingerprint

    @property
    def spec(self) -> TrialSpec:
        """The training without a proposal."""
        return self.optimisation.spec

    @cached_property
    def distinct(self) -> int | None:
        """The number of distinct settings to try, or `None` if there are at least as many as trials."""
        return self.optimisation.distinct(self.budget)

    @cached_property
    def nodes(self) -> tuple[ProposedNode, ...]:
        """The trainings of its trials."""
        return self.nodes_of(self.optimisation)


def make_tuning_plan(studies: Sequence[Study], request: Request, budget: int) -> OptimisationPlan:
    """Return the plan of `tune` for `studies`: `budget` trials for each distinct training that a variant needs.

    An evaluation-only variant needs the training of the network that it looks into.

    Raises:
        SpecError: If nothing can be tuned, or a nuisance factor is read by nothing or does not fit.
    """
    check_not_inspecting(request, "tuning trains networks")
    rows = make_rows(studies, request)
    check_nuisance(rows, request)
    tunings: dict[str, Optimisation] = {}
    serves: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        tuning = tuning_of(row, request, resolve_row(row, request))
        if tuning is None:
            continue
        # Rows that train the same share a tuning, which serves each of them.
        tunings.setdefault(tuning.fingerprint, tuning)
        keys = serves.setdefault(tuning.fingerprint, {}).setdefault(row.study.name, [])
        if row.key not in keys:
            keys.append(row.key)
    if not tunings:
        names = ", ".join(study.name for study in studies)
        raise SpecError(f"nothing can be tuned for {names}: no training has a nuisance factor. Name some as nuisance.")
    return OptimisationPlan(request, tuple(tunings.values()), budget, serves, studies_of(rows))


def make_search_plan(search: Search, request: Request, trials: int, repeats: int) -> SearchPlan:
    """Return the plan of a search.

    Args:
        trials: Number of proposals, none of them twice.
        repeats: Number of repeats of each of the best.

    Raises:
        SpecError: If an override is of a setting that a factor proposes, or settings do not fit together.
    """
    check_not_inspecting(request, "a search trains networks")
    for name, factor in search.factors.items():
        for key in request.settings:
            if any(key in values for values in factor.every(name)):
                raise SpecError(f"nothing reads --set {key}: factor {name!r} of search {search.name!r} proposes it.")
    general = over_defaults([request.preset.settings, search.baseline, request.settings])
    # The fingerprint tries every option of each factor, so that a wrong one is an error before anything is trained.
    optimisation = Optimisation.make("search", resolve([general], {}, seed=0), general, {}, search.factors)
    serves = {optimisation.fingerprint: {search.name: [search.title]}}
    return SearchPlan(request, (optimisation,), trials, serves, repeats=repeats, search=search)
