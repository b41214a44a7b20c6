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
from ablations.planning.nodes import ProposedNode
from ablations.planning.plan import Plan
from ablations.planning.request import Request
from ablations.planning.rows import make_rows, resolve_row
from ablations.planning.search import Search
from ablations.planning.spaces import trials_there_are
from ablations.planning.tuning_groups import Tuning, check_nuisance, group_fingerprint, slot_fingerprint, tuning_of
from ablations.spec.fingerprint import digest
from ablations.spec.settings import DEFAULTS, merge
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study

SEARCH_SEED = 30_000
"""The trial in slot s of a search has this seed plus s, so that no seed favours some settings."""

_REPEAT_SEEDS = 1_000_000
"""The r-th repeat of a trial has its seed plus r times this."""


@dataclass(frozen=True)
class TuningPlan:
    """The plan of a tuning: each distinct training once, however many rows share it.

    Attributes:
        request: The user's request.
        studies: The studies at their preset.
        tunings: The groups, in the order of the rows.
        budget: Trials for each of them.
    """

    request: Request
    studies: tuple[Study, ...]
    tunings: tuple[Tuning, ...]
    budget: int

    def as_plan(self) -> Plan:
        """Return the trainings as a plan that can be launched: the first trial of each group, the second of each …

        Trials of one group are proposed from the results of earlier ones, so they should not all run at once. Also, a
        launch that is cut short has given every variant about as many trials.
        """
        by_group = [list(tuning.nodes(self.budget)) for tuning in self.tunings]
        nodes: dict[str, ProposedNode] = {}
        # A group ends before the others if there are fewer settings to try than the budget has trials.
        for turn in zip_longest(*by_group):
            nodes |= {node.fingerprint: node for node in turn if node is not None}
        serves = {tuning.fingerprint: tuning.serves for tuning in self.tunings}
        return Plan(self.request, self.studies, {}, {}, {}, (), proposed=nodes, groups=serves)


def make_tuning_plan(studies: Sequence[Study], request: Request, budget: int) -> TuningPlan:
    """Return the plan of `tune` for `studies`: `budget` trials for each distinct training that a variant needs.

    An evaluation-only variant needs the training of the network that it looks into.

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
        # Rows that train the same share a tuning, which notes each of them under its study.
        shared = tunings.setdefault(tuning.fingerprint, tuning)
        keys = shared.serves.setdefault(row.study.name, [])
        if row.key not in keys:
            keys.append(row.key)
    if not tunings:
        names = ", ".join(study.name for study in studies)
        raise SpecError(f"nothing can be tuned for {names}: no training has a nuisance factor. Name some as nuisance.")
    # The rows have the studies at their preset and with their inspected networks.
    chosen = {row.study.name: row.study for row in rows}
    return TuningPlan(request, tuple(chosen.values()), tuple(tunings.values()), budget)


@dataclass(frozen=True)
class SearchPlan:
    """The plan of a search: its trials, and repeats of the best of them under other seeds.

    Attributes:
        request: Preset and overrides.
        search: The question.
        trials: Number of proposals, none of them twice.
        repeats: Number of repeats of each of the best.
    """

    request: Request
    search: Search
    trials: int
    repeats: int = 0

    @cached_property
    def general(self) -> dict[str, Any]:
        """General settings over the defaults."""
        merged = merge([self.request.preset.settings, self.search.baseline, self.request.settings])
        return {key: value for key, value in merged.items() if value != DEFAULTS[key]}

    @cached_property
    def spec(self) -> TrialSpec:
        """The training without a proposal."""
        return resolve([self.general], {}, SEARCH_SEED)

    @cached_property
    def group(self) -> str:
        """Fingerprint of what all its trials share.

        Raises:
            SpecError: If an option of a factor does not fit together with the rest.
        """
        return group_fingerprint("search", self.spec, self.general, {}, self.search.factors)

    @cached_property
    def distinct(self) -> int | None:
        """The number of distinct settings to try, or `None` if there are at least as many as trials."""
        return trials_there_are(self.general, {}, self.search.factors, self.trials)

    @cached_property
    def nodes(self) -> tuple[ProposedNode, ...]:
        """The trainings of its trials, at most as many as there are distinct settings."""
        slots = range(self.distinct or self.trials)
        return tuple(self._node(slot_fingerprint(self.group, slot), slot, slot, None) for slot in slots)

    def repeats_of(self, slot: int, values: Mapping[str, Any]) -> Iterator[ProposedNode]:
        """Yield the trainings that repeat the proposal of a slot, each under another seed."""
        for repeat in range(1, self.repeats + 1):
            fingerprint = repeat_fingerprint(self.group, slot, repeat)
            yield self._node(fingerprint, slot, slot + repeat * _REPEAT_SEEDS, dict(values))

    def _node(self, fingerprint: str, slot: int, seed: int, values: dict[str, Any] | None) -> ProposedNode:
        spec = self.spec.model_copy(update={"seed": SEARCH_SEED + seed})
        changes: dict[str, Any] = {}
        arguments = (fingerprint, spec, self.group, slot, self.general, changes)
        return ProposedNode(*arguments, self.search.factors, "search", values)

    def as_plan(self, nodes: Sequence[ProposedNode] | None = None) -> Plan:
        """Return its trials, or other trainings of it, as a plan that can be launched."""
        chosen = self.nodes if nodes is None else nodes
        serves = {self.group: {self.search.name: [self.search.title]}}
        proposed = {node.fingerprint: node for node in chosen}
        return Plan(self.request, (), {}, {}, {}, (), proposed=proposed, groups=serves)


def repeat_fingerprint(group: str, slot: int, repeat: int) -> str:
    """Return the fingerprint of the `repeat`-th repeat (from 1) of a trial of a search."""
    return digest({"kind": "proposed", "group": group, "slot": slot, "repeat": repeat})


def make_search_plan(search: Search, request: Request, trials: int, repeats: int) -> SearchPlan:
    """Return the plan of a search.

    Raises:
        SpecError: If an override is of a setting that a factor proposes, or settings do not fit together.
    """
    for name, factor in search.factors.items():
        for key in request.settings:
            if any(key in values for values in factor.every(name)):
                raise SpecError(f"nothing reads --set {key}: factor {name!r} of search {search.name!r} proposes it.")
    plan = SearchPlan(request, search, trials, repeats)
    # The fingerprint tries every option of each factor, so that a wrong one is an error before anything is trained.
    assert plan.group
    return plan
