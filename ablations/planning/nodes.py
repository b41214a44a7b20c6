"""The nodes of a plan: a training, an evaluation of its checkpoint, the cost of a network. How they come about and are
shared is in `ablations.planning.plan`, which offers them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ablations.errors import AblationError
from ablations.spec.factors import Factor, resolve_proposed, settings_of
from ablations.spec.identities import Identity, of_intervention, of_model, of_trial
from ablations.spec.parts import Intervention
from ablations.spec.settings import Settings, flatten
from ablations.spec.titles import intervention_title, model_title, training_title, trial_title
from ablations.spec.trial import TrialSpec
from ablations.vocabulary import Kind


@dataclass(frozen=True)
class TrialNode:
    """A training the plan needs; `tuned` are those of its settings that were tuned, if it is wanted for that."""

    fingerprint: str
    spec: TrialSpec
    tuned: tuple[str, ...] = field(default=(), compare=False)

    kind: ClassVar[Kind] = "trial"

    @property
    def title(self) -> str:
        """A name that a person can read."""
        return trial_title(self.spec)


@dataclass(frozen=True)
class EvaluationNode:
    """An evaluation of a trial's checkpoint under an intervention that the plan needs."""

    fingerprint: str
    trial: TrialNode
    intervention: Intervention

    kind: ClassVar[Kind] = "evaluation"

    @property
    def spec(self) -> TrialSpec:
        """The training whose checkpoint is evaluated."""
        return self.trial.spec

    @property
    def title(self) -> str:
        """A name that a person can read."""
        return f"{self.trial.title} · {intervention_title(self.intervention)}"


@dataclass(frozen=True)
class CostNode:
    """A network whose cost is counted and timed without training it; only model and data set of the spec count."""

    fingerprint: str
    spec: TrialSpec

    kind: ClassVar[Kind] = "cost"

    @property
    def title(self) -> str:
        """A name that a person can read."""
        return f"{model_title(self.spec.model)} · cost"


@dataclass(frozen=True)
class ProposedNode:
    """A training for which an optimiser proposes settings when it begins; only the validation split measures it.

    Attributes:
        fingerprint: Of its group and its place there.
        spec: What would be trained without a proposal.
        group: Fingerprint of what all trials of one optimisation share.
        slot: Its place in the group, from 0.
        general: General settings over the defaults, also those that only a proposal makes read.
        own: What is set over these.
        factors: What is proposed.
        kind: Whether nuisance factors of a variant are tuned, or the parts of a network are searched.
        values: Of the factors, where they are given: a training that repeats an earlier one under another seed.
    """

    fingerprint: str
    spec: TrialSpec
    group: str
    slot: int
    general: Settings
    own: Settings
    factors: Mapping[str, Factor]
    kind: Literal["tuning", "search"] = "tuning"
    values: Mapping[str, Any] | None = field(default=None)

    @property
    def title(self) -> str:
        """A name that a person can read; before anything is proposed it says nothing of what will be."""
        return self.title_with(self.values)

    @property
    def subject(self) -> str:
        """What all trainings of the group have in common, for people."""
        proposed = {
            key for name, factor in self.factors.items() for part in factor.every(name) for key in flatten(part)
        }
        return model_title(self.spec.model, without=proposed)

    def title_with(self, values: Mapping[str, Any] | None) -> str:
        """Return a name that a person can read, once `values` of the factors are proposed: of what is trained then."""
        again = f" · seed {self.spec.seed}" if self.values is not None else ""
        return f"{self._trained(values)} · {self.kind} {self.slot + 1}{again}"

    def _trained(self, values: Mapping[str, Any] | None) -> str:
        if values is None:
            return self.subject
        try:
            spec = self.with_values(values)
        except AblationError:
            # Whoever trains it says why; a title is no place for that.
            return self.subject
        return training_title(spec)

    def with_values(self, values: Mapping[str, Any]) -> TrialSpec:
        """Return what is trained when `values` of the factors are proposed.

        Raises:
            SpecError: If they do not fit together with the rest.
        """
        return resolve_proposed(self.general, self.own, settings_of(self.factors, values), self.spec.seed)


Node = TrialNode | EvaluationNode | CostNode | ProposedNode


def is_training(node: Node) -> bool:
    """Whether a node trains a network."""
    return isinstance(node, TrialNode | ProposedNode)


def plugins_of(node: Node) -> dict[str, Identity]:
    """Return the identities of all that a node needs of plug-ins, by label; what may be proposed is needed too."""
    found: list[Identity] = []
    if isinstance(node, CostNode):
        found += of_model(node.spec.model)
    else:
        found += of_trial(node.spec)
    if isinstance(node, EvaluationNode):
        found += of_intervention(node.intervention)
    if isinstance(node, ProposedNode):
        for name, factor in node.factors.items():
            for values in factor.every(name):
                found += of_trial(resolve_proposed(node.general, node.own, values, node.spec.seed))
    return {identity.label: identity for identity in found}
