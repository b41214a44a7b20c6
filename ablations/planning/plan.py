"""`make_plan` turns studies and finished nodes into a plan: the distinct trainings and evaluations of their tables.

Rows that train the same share a node, within a study and across studies. Everything is computed from its arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ablations.datasets.facts import DatasetFacts
from ablations.errors import SpecError, StudyError
from ablations.planning.nodes import CostNode, EvaluationNode, Node, ProposedNode, TrialNode
from ablations.planning.request import Request
from ablations.planning.rows import Row, make_rows, resolve_row
from ablations.planning.tuned_values import Found, TunedVariant
from ablations.planning.tuning_groups import apply, check_nuisance, find_tuned, tuning_of
from ablations.spec.fingerprint import cost_fingerprint, evaluation_fingerprint, trial_fingerprints
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec
from ablations.study import Study

CANARY = "canary"
"""The name of the variant whose cells repeat the reference, to test the comparison itself (an A/A test)."""

CANARY_SEED = 10_000
"""The r-th repeat of a canary has this seed plus r; no variant has so many repeats."""


@dataclass(frozen=True)
class Cell:
    """One repeat of one variant of one study, and the fingerprint of the node that measures it.

    `network` is the name of the inspected network, empty for a study that trains its variants.
    """

    study: str
    network: str
    variant: str
    seed: int
    fingerprint: str

    @property
    def key(self) -> str:
        """The variant's name, with the inspected network in front if there is one."""
        return f"{self.network}: {self.variant}" if self.network else self.variant


@dataclass(frozen=True)
class Plan:
    """The deduplicated graph of trials and evaluations that a set of studies needs.

    `canaries` are no cells of a table: they repeat the reference of a study (on each inspected network) under seeds
    from `CANARY_SEED` on, so that a report can hold it against itself. `proposed` are the trainings of a tuning or of a
    search, which no table shows, and `groups` says which rows each of their groups serves. `tuned` is what rows have
    been tuned to, by study and key of the row.
    """

    request: Request
    studies: tuple[Study, ...]
    trials: dict[str, TrialNode]
    evaluations: dict[str, EvaluationNode]
    costs: dict[str, CostNode]
    cells: tuple[Cell, ...]
    done: frozenset[str] = frozenset()
    canaries: tuple[Cell, ...] = ()
    proposed: dict[str, ProposedNode] = field(default_factory=dict)
    tuned: Found = field(default_factory=dict)
    groups: Mapping[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def trainings_without_sharing(self) -> int:
        """The number of trainings if there were one per table row (and canary), network and seed."""
        return sum(cell.fingerprint not in self.costs for cell in (*self.cells, *self.canaries))

    @cached_property
    def missing_trials(self) -> tuple[TrialNode, ...]:
        """The trials still to be trained."""
        return tuple(node for key, node in self.trials.items() if key not in self.done)

    @cached_property
    def missing_evaluations(self) -> tuple[EvaluationNode, ...]:
        """The evaluations still to be measured."""
        return tuple(node for key, node in self.evaluations.items() if key not in self.done)

    @cached_property
    def missing_costs(self) -> tuple[CostNode, ...]:
        """The networks still to be counted and timed."""
        return tuple(node for key, node in self.costs.items() if key not in self.done)

    @cached_property
    def missing_proposed(self) -> tuple[ProposedNode, ...]:
        """The trainings of a tuning or a search still to be done."""
        return tuple(node for key, node in self.proposed.items() if key not in self.done)

    @property
    def network_nodes(self) -> tuple[TrialNode | CostNode, ...]:
        """The nodes for which a network is built: trials and costs."""
        return (*self.trials.values(), *self.costs.values())

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each trial before its evaluations."""
        return (*self.trials.values(), *self.evaluations.values(), *self.costs.values(), *self.proposed.values())

    @property
    def missing(self) -> tuple[Node, ...]:
        """The nodes still to be run, each trial before its evaluations."""
        return (*self.missing_trials, *self.missing_evaluations, *self.missing_costs, *self.missing_proposed)

    @cached_property
    def data_facts(self) -> tuple[DatasetFacts, ...]:
        """The facts of the distinct data sets that are trained or measured on, in the order of the nodes."""
        facts: dict[tuple[str, str | None], DatasetFacts] = {}
        for node in self.nodes:
            data = node.spec.data
            if (data.name, data.root) not in facts:
                facts[data.name, data.root] = data.facts
        return tuple(facts.values())

    def has(self, fingerprint: str) -> bool:
        """Return True if there is a node with that fingerprint; the plan of a retry has cells without a node."""
        return any(fingerprint in nodes for nodes in (self.trials, self.evaluations, self.costs, self.proposed))

    def node(self, fingerprint: str) -> Node:
        """Return the node with that fingerprint."""
        for nodes in (self.trials, self.evaluations, self.costs):
            if fingerprint in nodes:
                return nodes[fingerprint]
        return self.proposed[fingerprint]

    def evaluations_of(self, trial: str) -> tuple[EvaluationNode, ...]:
        """Return the evaluations of one trial's checkpoint."""
        return tuple(self._evaluations_by_trial.get(trial, ()))

    @cached_property
    def _evaluations_by_trial(self) -> dict[str, list[EvaluationNode]]:
        grouped: dict[str, list[EvaluationNode]] = {}
        for node in self.evaluations.values():
            grouped.setdefault(node.trial.fingerprint, []).append(node)
        return grouped

    def cells_of(self, study: str) -> tuple[Cell, ...]:
        """Return the cells of one study, in the order of its rows."""
        return self._cells_by_study.get(study, ())

    @cached_property
    def _cells_by_study(self) -> dict[str, tuple[Cell, ...]]:
        grouped: dict[str, list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault(cell.study, []).append(cell)
        return {study: tuple(cells) for study, cells in grouped.items()}

    def cells_of_row(self, study: str, network: str, variant: str) -> tuple[Cell, ...]:
        """Return the repeats of one variant of a study on one network (empty if it inspects none)."""
        return tuple(self._cells_by_row.get((study, network, variant), ()))

    @cached_property
    def _cells_by_row(self) -> dict[tuple[str, str, str], list[Cell]]:
        grouped: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault((cell.study, cell.network, cell.variant), []).append(cell)
        return grouped

    def studies_of(self, fingerprint: str) -> dict[str, list[str]]:
        """Return the studies that use a node, each with the keys of its rows there, canaries included."""
        if fingerprint in self.proposed:
            return dict(self.groups.get(self.proposed[fingerprint].group, {}))
        serves: dict[str, list[str]] = {}
        for cell in self._cells_by_node.get(fingerprint, ()):
            keys = serves.setdefault(cell.study, [])
            # A node serves one cell per seed and study, and canaries beside; the row is listed once.
            if cell.key not in keys:
                keys.append(cell.key)
        return serves

    @cached_property
    def _cells_by_node(self) -> dict[str, list[Cell]]:
        grouped: dict[str, list[Cell]] = {}
        for cell in (*self.cells, *self.canaries):
            grouped.setdefault(cell.fingerprint, []).append(cell)
        return grouped


def make_plan(studies: Sequence[Study], request: Request, done: Collection[str] = ()) -> Plan:
    """Return the plan of `studies` for a request.

    Args:
        studies: Studies with distinct names.
        request: Preset, overrides and seeds.
        done: Fingerprints of the nodes that have been measured.

    Raises:
        StudyError: If two studies have one name.
        SpecError: If a setting is invalid, is read by nothing or is set by every variant itself, or a canary is asked
            for where nothing is trained or a variant has its name.
        TuningError: If tuned values are asked for, and a variant has none for what it trains.
        UnknownNameError: If a study has no network that is to be inspected.
    """
    _refuse_repeated([study.name for study in studies])
    rows = make_rows(studies, request)
    _check_canary(rows, request)
    check_nuisance(rows, request)
    nodes = _Nodes()
    cells: list[Cell] = []
    canaries: list[Cell] = []
    tuned: dict[tuple[str, str], TunedVariant] = {}
    for row in rows:
        (resolved, tuned_variant), count = _tuned(row, request), request.seeds_of(row.study)
        tuned |= {(row.study.name, row.key): tuned_variant} if tuned_variant is not None else {}
        cells += _cells(row, row.variant.name, nodes.adding(_repeats(row, resolved, range(count), tuned_variant)))
        if request.canary and row.has_canary:
            # The settings of the reference under seeds of their own: a fair comparison must find no difference.
            canary_nodes = _repeats(row, resolved, range(CANARY_SEED, CANARY_SEED + count), tuned_variant)
            canaries += _cells(row, CANARY, nodes.adding(canary_nodes))
    graph = (nodes.trials, nodes.evaluations, nodes.costs)
    # The rows have the studies at their preset and with the networks that are inspected.
    plan = Plan(request, tuple({row.study.name: row.study for row in rows}.values()), *graph, tuple(cells))
    return replace(plan, done=frozenset(done), canaries=tuple(canaries), tuned=tuned)


def _tuned(row: Row, request: Request) -> tuple[TrialSpec, TunedVariant | None]:
    """Return the spec of a row's training, with seed 0, and its tuned values if the request has some."""
    resolved = resolve_row(row, request)
    tuning = tuning_of(row, request, resolved) if request.tuned is not None else None
    if request.tuned is None or tuning is None:
        return resolved, None
    tuned_variant = find_tuned(request.tuned, tuning, request.preset.name)
    return apply(tuned_variant, tuning), tuned_variant


@dataclass
class _Nodes:
    """The distinct nodes of a plan in the making."""

    trials: dict[str, TrialNode] = field(default_factory=dict)
    evaluations: dict[str, EvaluationNode] = field(default_factory=dict)
    costs: dict[str, CostNode] = field(default_factory=dict)

    def adding(self, nodes: Iterable[Node]) -> Iterator[Node]:
        for node in nodes:
            self.add(node)
            yield node

    def add(self, node: Node) -> None:
        if isinstance(node, CostNode):
            self.costs.setdefault(node.fingerprint, node)
        elif isinstance(node, EvaluationNode):
            self.trials.setdefault(node.trial.fingerprint, node.trial)
            self.evaluations.setdefault(node.fingerprint, node)
        elif isinstance(node, TrialNode):
            self.trials.setdefault(node.fingerprint, node)


def _repeats(row: Row, first: TrialSpec, seeds: Sequence[int], found: TunedVariant | None) -> Iterator[Node]:
    """Yield the nodes of a row, one per seed, given its resolved settings."""
    # `model_copy` does not validate again, as only the seed differs.
    specs = [first.model_copy(update={"seed": seed}) for seed in seeds]
    if row.study.is_about_cost:
        yield from (CostNode(cost_fingerprint(spec), spec) for spec in specs)
        return
    # The seed has no say in whether an intervention changes anything.
    intervention = _intervention(row, first)
    for fingerprint, spec in zip(trial_fingerprints(first, seeds), specs, strict=True):
        trial = TrialNode(fingerprint, spec, tuple(found.values) if found is not None else ())
        if intervention is None:
            yield trial
        else:
            yield EvaluationNode(evaluation_fingerprint(fingerprint, intervention), trial, intervention)


def _intervention(row: Row, spec: TrialSpec) -> Intervention | None:
    """Return the intervention of a row, or `None` if the row is about the network as it was trained."""
    intervention = row.variant.intervention
    if intervention is None or changes_nothing(intervention, spec):
        return None
    if spec.model.layer == "static":
        raise SpecError(
            f"study {row.study.name!r}, variant {row.variant.name!r}: an intervention on a static network "
            "would change nothing. Make the network dynamic or drop the intervention."
        )
    return intervention


def _refuse_repeated(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise StudyError(f"two studies are called {name!r}. Rename one.")


def _cells(row: Row, name: str, nodes: Iterable[Node]) -> Iterator[Cell]:
    network = row.network.name if row.network else ""
    yield from (Cell(row.study.name, network, name, node.spec.seed, node.fingerprint) for node in nodes)


def _check_canary(rows: Sequence[Row], request: Request) -> None:
    if not request.canary:
        return
    if not any(row.has_canary for row in rows):
        raise SpecError("a canary trains the reference again, and none of the studies trains anything.")
    for row in rows:
        if row.variant.name == CANARY:
            raise SpecError(f"study {row.study.name!r} has a variant called {CANARY!r}. Rename it to ask for a canary.")


def changes_nothing(intervention: Intervention, spec: TrialSpec) -> bool:
    """Return True if the network trained by `spec` behaves under an intervention as it does without it."""
    # Where the intervention applies does not matter, as it is only about layers that stay as they were.
    same_aggregation = intervention.aggregation in (None, spec.model.aggregation)
    return same_aggregation and intervention.temperature is None
