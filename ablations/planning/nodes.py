"""This module defines the nodes of a plan: each is one training, evaluation or count that is carried out once.

`ablations.planning.plan` makes them and shares them between rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ablations.errors import AblationError
from ablations.planning.optimisation import Optimisation, OptimisationKind, slot_fingerprint
from ablations.spec.factors import Factor
from ablations.spec.identities import Identity, of_intervention, of_model, of_trial
from ablations.spec.inspected import CheckpointFile, NetworkSpec
from ablations.spec.parts import Intervention
from ablations.spec.settings import flatten
from ablations.spec.titles import intervention_title, model_title, network_title, training_title, trial_title
from ablations.spec.trial import TrialSpec
from ablations.vocabulary import Kind


class Node(ABC):
    """A node of a plan.

    Attributes:
        spec: The training of its network; for a cost only model and data set count.
        intervention: The change of the network for the measurement, of an evaluation.
        file: The file of a network that was trained elsewhere and is measured or evaluated here.
        optimisation: The group to which it belongs, of a training whose settings are proposed.
        tuned: The names of its tuned settings, of a trial.
    """

    fingerprint: str
    spec: TrialSpec
    intervention: Intervention | None = None
    file: CheckpointFile | None = None
    optimisation: Optimisation | None = None
    tuned: tuple[str, ...] = ()

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What is done: `trial`, `network`, `evaluation`, `cost`, `tuning` or `search`."""

    @property
    @abstractmethod
    def title(self) -> str:
        """A name that a person can read."""

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return self.spec.seed

    @property
    def is_training(self) -> bool:
        """True if it trains a network."""
        return False

    @property
    def training(self) -> Node:
        """The node that makes the network: of an evaluation the one that it looks into, otherwise itself."""
        return self

    @property
    def checkpoint(self) -> str:
        """The fingerprint of the node that makes the network."""
        return self.training.fingerprint

    @property
    def depends_on(self) -> str | None:
        """The fingerprint of the node that must be done first, or `None`."""
        return None


@dataclass(frozen=True)
class TrialNode(Node):
    """A training that the plan needs; `tuned` names its tuned settings, if tuned values were asked for."""

    fingerprint: str
    spec: TrialSpec
    # Not compared: a training is the same whether its settings were tuned or written down.
    tuned: tuple[str, ...] = field(default=(), compare=False)

    kind: ClassVar[Kind] = "trial"
    is_training: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return trial_title(self.spec)


@dataclass(frozen=True)
class NetworkNode(Node):
    """A network that was trained elsewhere: its file is loaded and measured as it is, and nothing is trained."""

    fingerprint: str
    spec: NetworkSpec
    # Where the file lies does not matter: the fingerprint holds the digest of its content.
    file: CheckpointFile = field(compare=False)

    kind: ClassVar[Kind] = "network"

    @property
    def title(self) -> str:
        return network_title(self.spec, self.file.name)


@dataclass(frozen=True)
class EvaluationNode(Node):
    """An evaluation of a network under an intervention that the plan needs.

    Attributes:
        network: The node that makes the network: a trial, or a file that was trained elsewhere.
    """

    fingerprint: str
    network: TrialNode | NetworkNode
    # `field()`, as a dataclass would otherwise take the `None` of the base class for a default.
    intervention: Intervention = field()
    spec: TrialSpec = field(init=False, repr=False, compare=False)
    file: CheckpointFile | None = field(init=False, repr=False, compare=False)

    kind: ClassVar[Kind] = "evaluation"

    def __post_init__(self) -> None:
        # The way to set a field of a frozen dataclass. A property cannot stand for a field of the base class.
        object.__setattr__(self, "spec", self.network.spec)
        object.__setattr__(self, "file", self.network.file)

    @property
    def title(self) -> str:
        return f"{self.network.title} · {intervention_title(self.intervention)}"

    @property
    def training(self) -> TrialNode | NetworkNode:
        return self.network

    @property
    def depends_on(self) -> str:
        return self.network.fingerprint


@dataclass(frozen=True)
class CostNode(Node):
    """A network whose cost is counted and timed without training it; only model and data set of the spec count."""

    fingerprint: str
    spec: TrialSpec

    kind: ClassVar[Kind] = "cost"

    @property
    def title(self) -> str:
        return f"{model_title(self.spec.model)} · cost"


@dataclass(frozen=True)
class ProposedNode(Node):
    """A training for which an optimiser proposes settings when it begins; only the validation split measures it.

    Attributes:
        spec: What would be trained without a proposal.
        slot: Its place in its group, from 0.
        values: Values of the factors if they are fixed: for a training that repeats an earlier one under another seed.
    """

    fingerprint: str
    spec: TrialSpec
    optimisation: Optimisation = field()
    slot: int
    values: Mapping[str, Any] | None = None

    is_training: ClassVar[bool] = True

    @classmethod
    def make(
        cls, optimisation: Optimisation, slot: int, *, repeat: int = 0, values: Mapping[str, Any] | None = None
    ) -> ProposedNode:
        """Return the trial in a slot of an optimisation, or its `repeat`-th repeat (from 1) with `values`."""
        fingerprint = slot_fingerprint(optimisation.fingerprint, slot, repeat)
        # `model_copy` does not validate again, as only the seed differs.
        spec = optimisation.spec.model_copy(update={"seed": optimisation.seed_of(slot, repeat)})
        return cls(fingerprint, spec, optimisation, slot, values)

    @property
    def kind(self) -> OptimisationKind:
        """The kind of its group."""
        return self.optimisation.kind

    @property
    def group(self) -> str:
        """The fingerprint of its group."""
        return self.optimisation.fingerprint

    @property
    def factors(self) -> Mapping[str, Factor]:
        """The factors for which values are proposed."""
        return self.optimisation.factors

    @property
    def title(self) -> str:
        """A name that a person can read; before values are proposed it has no words for them."""
        return self.title_with(self.values)

    @property
    def subject(self) -> str:
        """The name of what all trainings of the group have in common."""
        proposed: set[str] = set()
        for name, factor in self.factors.items():
            for settings in factor.every(name):
                proposed.update(flatten(settings))
        return model_title(self.spec.model, without=proposed)

    def title_with(self, values: Mapping[str, Any] | None) -> str:
        """Return a name that a person can read, of the training with `values` of the factors."""
        title = self.subject
        if values is not None:
            try:
                title = training_title(self.with_values(values))
            except AblationError:
                # The training itself reports why the values do not fit; a title is no place for that.
                title = self.subject
        # A repeat has the same settings as the trial that it repeats, so its seed tells them apart.
        suffix = f" · seed {self.seed}" if self.values is not None else ""
        return f"{title} · {self.kind} {self.slot + 1}{suffix}"

    def with_values(self, values: Mapping[str, Any]) -> TrialSpec:
        """Return the spec of the training when `values` of the factors are proposed.

        Raises:
            SpecError: If they do not fit together with the rest.
        """
        return self.optimisation.resolve(values, self.seed)


def plugins_of(node: Node) -> dict[str, Identity]:
    """Return the identities of the plug-ins that a node needs, by label; those of possible proposals are needed too."""
    identities: list[Identity] = []
    if node.kind == "cost":
        identities += of_model(node.spec.model)
    else:
        identities += of_trial(node.spec)
    if node.intervention is not None:
        identities += of_intervention(node.intervention)
    if node.optimisation is not None:
        # The proposal may not be known yet, so the plug-ins of every choice are needed.
        for specs in node.optimisation.ends().values():
            for spec in specs:
                identities += of_trial(spec)
    return {identity.label: identity for identity in identities}
