"""This module defines the nodes of a plan: a training, an evaluation of its checkpoint, the cost of a network.

`ablations.planning.plan` makes them and shares them between rows.
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
    """A training that the plan needs; `tuned` names its tuned settings, if tuned values were asked for."""

    fingerprint: str
    spec: TrialSpec
    # Not compared: a training is the same whether its settings were tuned or written down.
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
        own: Settings over these.
        factors: The factors for which values are proposed.
        kind: `tuning` of the nuisance factors of a variant, or `search` over the parts of a network.
        values: Values of the factors if they are fixed: for a training that repeats an earlier one under another seed.
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
        """A name that a person can read; before values are proposed it has no words for them."""
        return self.title_with(self.values)

    @property
    def subject(self) -> str:
        """The name of what all trainings of the group have in common."""
        proposed = {
            key for name, factor in self.factors.items() for settings in factor.every(name) for key in flatten(settings)
        }
        return model_title(self.spec.model, without=proposed)

    def title_with(self, values: Mapping[str, Any] | None) -> str:
        """Return a name that a person can read, of the training with `values` of the factors."""
        suffix = f" · seed {self.spec.seed}" if self.values is not None else ""
        return f"{self._trained(values)} · {self.kind} {self.slot + 1}{suffix}"

    def _trained(self, values: Mapping[str, Any] | None) -> str:
        if values is None:
            return self.subject
        try:
            spec = self.with_values(values)
        except AblationError:
            # The training itself reports why the values do not fit; a title is no place for that.
            return self.subject
        return training_title(spec)

    def with_values(self, values: Mapping[str, Any]) -> TrialSpec:
        """Return the spec of the training when `values` of the factors are proposed.

        Raises:
            SpecError: If they do not fit together with the rest.
        """
        return resolve_proposed(self.general, self.own, settings_of(self.factors, values), self.spec.seed)


Node = TrialNode | EvaluationNode | CostNode | ProposedNode


def is_training(node: Node) -> bool:
    """Return True if a node trains a network."""
    return isinstance(node, TrialNode | ProposedNode)


def plugins_of(node: Node) -> dict[str, Identity]:
    """Return the identities of the plug-ins that a node needs, by label; those of possible proposals are needed too."""
    identities: list[Identity] = []
    if isinstance(node, CostNode):
        identities += of_model(node.spec.model)
    else:
        identities += of_trial(node.spec)
    if isinstance(node, EvaluationNode):
        identities += of_intervention(node.intervention)
    if isinstance(node, ProposedNode):
        # The proposal may not be known yet, so the plug-ins of every choice are needed.
        for name, factor in node.factors.items():
            for values in factor.every(name):
                identities += of_trial(resolve_proposed(node.general, node.own, values, node.spec.seed))
    return {identity.label: identity for identity in identities}
