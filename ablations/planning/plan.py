"""`make_plan` turns studies and finished nodes into a plan: the distinct trainings and evaluations of their tables.

Rows that train the same share a node, within a study and across studies. Everything is computed from its arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ablations.datasets.facts import DatasetFacts
from ablations.errors import SpecError, StudyError
from ablations.planning.inspection import checkpoint_file
from ablations.planning.nodes import CostNode, EvaluationNode, NetworkNode, Node, ProposedNode, TrialNode
from ablations.planning.request import CANARY_SEED, Request
from ablations.planning.row_choice import row_key
from ablations.planning.rows import Row, make_rows, resolve_row, studies_of
from ablations.planning.tuned_values import TunedRows, TunedVariant
from ablations.planning.tuning import check_nuisance, tuned_training
from ablations.spec.fingerprint import (
    cost_fingerprint,
    evaluation_fingerprint,
    network_fingerprint,
    trial_fingerprints,
)
from ablations.spec.inspected import NetworkSpec
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec
from ablations.study import InspectedNetwork, Study
from ablations.vocabulary import ATTENTION_GAP

K = TypeVar("K")
N = TypeVar("N", bound=Node)

CANARY = "canary"
"""The name of the variant whose cells repeat the reference, to test the comparison itself (an A/A test)."""


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
        return row_key(self.network, self.variant)


@dataclass(frozen=True)
class Plan:
    """The deduplicated graph of trials and evaluations that a set of studies needs.

    `networks` are those that were trained elsewhere, by the fingerprints of their nodes.
    `canaries` are no cells of a table: they repeat the reference of a study (on each inspected network) under seeds
    from `CANARY_SEED` on, so that a report can hold it against itself. `cost_cells` count and time the network of each
    variant of a study `with_cost`, once whatever its seeds. `proposed` are the trainings of a tuning or of a
    search, which no table shows, and `groups` says which rows each of their groups serves. `tuned` is what rows have
    been tuned to, by study and key of the row. `left_out` names the studies that were asked for and of which an
    override leaves nothing to compare.
    """

    request: Request
    studies: tuple[Study, ...]
    trials: dict[str, TrialNode]
    evaluations: dict[str, EvaluationNode]
    costs: dict[str, CostNode]
    cells: tuple[Cell, ...]
    done: frozenset[str] = frozenset()
    canaries: tuple[Cell, ...] = ()
    cost_cells: tuple[Cell, ...] = ()
    proposed: dict[str, ProposedNode] = field(default_factory=dict)
    tuned: TunedRows = field(default_factory=dict)
    groups: Mapping[str, dict[str, list[str]]] = field(default_factory=dict)
    networks: dict[str, NetworkNode] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def trainings_without_sharing(self) -> int:
        """The number of trainings if there were one per table row (and canary), network and seed."""
        count = 0
        for cell in (*self.cells, *self.canaries):
            # The plan of a retry has cells without a node, which are trainings or rest on some.
            is_trained = not self.has(cell.fingerprint) or self.node(cell.fingerprint).file is None
            count += is_trained and cell.fingerprint not in self.costs
        return count

    @property
    def primary_claims(self) -> int:
        """The number of primary claims that a report plans, each once per inspected network.

        What counts is what the plan asks, not what could be judged: levels must not depend on the results.
        """
        claims = 0
        for study in self.studies:
            claim = study.primary_claim
            if claim is not None and study.contrasts_of(claim):
                claims += len(study.inspected)
        return claims

    @property
    def all_cells(self) -> tuple[Cell, ...]:
        """The cells of tables, the canaries, and the costs of networks that are trained too."""
        return (*self.cells, *self.canaries, *self.cost_cells)

    @cached_property
    def missing_trials(self) -> tuple[TrialNode, ...]:
        """The trials still to be trained."""
        return self._missing(self.trials)

    @cached_property
    def missing_networks(self) -> tuple[NetworkNode, ...]:
        """The networks that were trained elsewhere and are still to be loaded and measured."""
        return self._missing(self.networks)

    @cached_property
    def missing_evaluations(self) -> tuple[EvaluationNode, ...]:
        """The evaluations still to be measured."""
        return self._missing(self.evaluations)

    @cached_property
    def missing_costs(self) -> tuple[CostNode, ...]:
        """The networks still to be counted and timed."""
        return self._missing(self.costs)

    @cached_property
    def missing_proposed(self) -> tuple[ProposedNode, ...]:
        """The trainings of a tuning or a search still to be done."""
        return self._missing(self.proposed)

    def _missing(self, nodes: Mapping[str, N]) -> tuple[N, ...]:
        return tuple(node for fingerprint, node in nodes.items() if fingerprint not in self.done)

    @property
    def network_nodes(self) -> tuple[TrialNode | NetworkNode | CostNode, ...]:
        """The nodes for which a network is built: trials, networks that were trained elsewhere, and costs."""
        return (*self.trials.values(), *self.networks.values(), *self.costs.values())

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each trial before its evaluations."""
        return tuple(self._by_fingerprint.values())

    @property
    def missing(self) -> tuple[Node, ...]:
        """The nodes still to be run, each trial before its evaluations."""
        return self._missing(self._by_fingerprint)

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
        return fingerprint in self._by_fingerprint

    def node(self, fingerprint: str) -> Node:
        """Return the node with that fingerprint."""
        return self._by_fingerprint[fingerprint]

    @cached_property
    def _by_fingerprint(self) -> dict[str, Node]:
        return {**self.trials, **self.networks, **self.evaluations, **self.costs, **self.proposed}

    @property
    def rows_by_study(self) -> dict[str, list[str]]:
        """The keys of the rows of each study of which a user asked for some; whole studies are not among them."""
        rows: dict[str, list[str]] = {}
        for study in self.studies:
            if study.before_rows is not None:
                rows[study.name] = list(dict.fromkeys(cell.key for cell in self.cells_of(study.name)))
        return rows

    def cells_of(self, study: str) -> tuple[Cell, ...]:
        """Return the cells of one study, in the order of its rows."""
        return self._cells_by_study.get(study, ())

    def cells_of_row(self, study: str, network: str, variant: str) -> tuple[Cell, ...]:
        """Return the repeats of one variant of a study on one network (empty if it inspects none)."""
        return self._cells_by_row.get((study, network, variant), ())

    def studies_of(self, fingerprint: str) -> dict[str, list[str]]:
        """Return the studies that use a node, each with the keys of its rows; canaries and costs are included."""
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
    def _cells_by_study(self) -> dict[str, tuple[Cell, ...]]:
        return _grouped(self.cells, lambda cell: cell.study)

    @cached_property
    def _cells_by_row(self) -> dict[tuple[str, str, str], tuple[Cell, ...]]:
        return _grouped(self.cells, lambda cell: (cell.study, cell.network, cell.variant))

    @cached_property
    def _cells_by_node(self) -> dict[str, tuple[Cell, ...]]:
        return _grouped(self.all_cells, lambda cell: cell.fingerprint)


def _grouped(cells: Iterable[Cell], key: Callable[[Cell], K]) -> dict[K, tuple[Cell, ...]]:
    groups: dict[K, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return {name: tuple(members) for name, members in groups.items()}


def make_plan(studies: Sequence[Study], request: Request, done: Collection[str] = ()) -> Plan:
    """Return the plan of `studies` for a request.

    Args:
        studies: Studies with distinct names.
        done: Fingerprints of the nodes that have been measured.

    Raises:
        StudyError: If two studies have one name.
        SpecError: If a setting is invalid, is read by nothing or is set by every variant itself, or a canary is asked
            for where nothing is trained or a variant has its name.
        TuningError: If tuned values are asked for, and a variant has none for what it trains.
        UnknownNameError: If a study has no network that is to be inspected.
    """
    for name, count in Counter(study.name for study in studies).items():
        if count > 1:
            raise StudyError(f"two studies are called {name!r}. Rename one.")
    rows = make_rows(studies, request)
    _check_canary(rows, request)
    check_nuisance(rows, request)
    nodes: dict[str, Node] = {}
    cells: list[Cell] = []
    canaries: list[Cell] = []
    cost_cells: list[Cell] = []
    tuned: dict[tuple[str, str], TunedVariant] = {}
    for row in rows:
        spec, entry = resolve_row(row, request), None
        if request.tuned is not None and row.is_trained:
            spec, entry = tuned_training(row, request, request.tuned, spec)
        tuned_settings: tuple[str, ...] = ()
        if entry is not None:
            tuned[row.study.name, row.key] = entry
            tuned_settings = tuple(entry.values)
        # A study may inspect networks of both kinds: those that are trained here, and a file.
        seeds = request.repeats_of(row.study) if row.checkpoint is None else range(1)
        repeats = _repeats(row, spec, seeds, tuned_settings)
        cells += _cells(row, row.variant.name, repeats)
        if request.canary and row.has_canary:
            # The settings of the reference under seeds of their own: a fair comparison must find no difference.
            canary_repeats = _repeats(row, spec, [CANARY_SEED + seed for seed in seeds], tuned_settings)
            canaries += _cells(row, CANARY, canary_repeats)
            repeats += canary_repeats
        if row.study.with_cost:
            cost = CostNode(cost_fingerprint(spec), spec)
            cost_cells += _cells(row, row.variant.name, [cost])
            repeats.append(cost)
        for node in repeats:
            # An evaluation brings the training whose checkpoint it measures.
            nodes.setdefault(node.training.fingerprint, node.training)
            nodes.setdefault(node.fingerprint, node)
    return Plan(
        request,
        studies_of(rows),
        trials=_of_type(nodes, TrialNode),
        evaluations=_of_type(nodes, EvaluationNode),
        costs=_of_type(nodes, CostNode),
        networks=_of_type(nodes, NetworkNode),
        cells=tuple(cells),
        done=frozenset(done),
        canaries=tuple(canaries),
        cost_cells=tuple(cost_cells),
        tuned=tuned,
        left_out=_names_left_out(studies, rows),
    )


def _names_left_out(studies: Sequence[Study], rows: Sequence[Row]) -> tuple[str, ...]:
    with_rows = {row.study.name for row in rows}
    return tuple(study.name for study in studies if study.name not in with_rows)


def _of_type(nodes: Mapping[str, Node], node_type: type[N]) -> dict[str, N]:
    return {fingerprint: node for fingerprint, node in nodes.items() if isinstance(node, node_type)}


def _repeats(row: Row, first: TrialSpec, seeds: Sequence[int], tuned: tuple[str, ...]) -> list[Node]:
    """Return the nodes of a row, one per seed, given its resolved settings and the names of its tuned ones."""
    # `model_copy` does not validate again, as only the seed differs.
    specs = [first.model_copy(update={"seed": seed}) for seed in seeds]
    if row.study.is_about_cost:
        return [CostNode(cost_fingerprint(spec), spec) for spec in specs]
    # The seed has no say in whether an intervention changes anything.
    intervention = _intervention(row, first)
    if row.checkpoint is not None:
        return [_evaluated(_network_node(row, row.checkpoint, first), intervention)]
    nodes: list[Node] = []
    for fingerprint, spec in zip(trial_fingerprints(first, seeds), specs, strict=True):
        nodes.append(_evaluated(TrialNode(fingerprint, spec, tuned), intervention))
    return nodes


def _evaluated(network: TrialNode | NetworkNode, intervention: Intervention | None) -> Node:
    """Return the node of a network under an intervention: its own without any."""
    if intervention is None:
        return network
    return EvaluationNode(evaluation_fingerprint(network.fingerprint, intervention), network, intervention)


def _network_node(row: Row, network: InspectedNetwork, spec: TrialSpec) -> NetworkNode:
    assert isinstance(spec, NetworkSpec)
    if row.study.metric == ATTENTION_GAP and spec.model.is_static:
        raise SpecError(
            f"study {row.study.name!r}: {network.title} is static, and has no attention to look into. Say which layers "
            "it has, for example --set model.layer=dynamic."
        )
    file = checkpoint_file(network)
    return NetworkNode(network_fingerprint(spec, file), spec, file)


def _intervention(row: Row, spec: TrialSpec) -> Intervention | None:
    """Return the intervention of a row, or `None` if the row is about the network as it was trained."""
    intervention = row.variant.intervention
    if intervention is None or changes_nothing(intervention, spec):
        return None
    location = f"study {row.study.name!r}, variant {row.variant.name!r}"
    if spec.model.is_static and intervention.precision is None:
        raise SpecError(
            f"{location}: an intervention on a static network would change nothing. Make the network dynamic or drop "
            "the intervention."
        )
    if intervention.temperature is not None and spec.train.temperature is None:
        raise SpecError(
            f"{location}: an intervention sets the temperature, which layers of kind {spec.model.layer!r} do not read. "
            "Leave the temperature out, or choose a kind that reads it."
        )
    return intervention


def _cells(row: Row, variant: str, nodes: Iterable[Node]) -> list[Cell]:
    network = row.network.name if row.network else ""
    return [Cell(row.study.name, network, variant, node.seed, node.fingerprint) for node in nodes]


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
    # A kind that reads no aggregation mixes by its attention.
    same_aggregation = intervention.aggregation in (None, spec.model.aggregation or "attention")
    return same_aggregation and intervention.temperature is None and intervention.precision is None
