"""The nodes of a plan: a training, an evaluation of its checkpoint, the cost of a network. How they come about and are
shared is in `ablations.planning`, which offers them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ablations.naming import intervention_title, model_title, trial_title
from ablations.spec import Intervention, TrialSpec
from ablations.vocabulary import Kind


@dataclass(frozen=True)
class TrialNode:
    """A training the plan needs."""

    fingerprint: str
    spec: TrialSpec

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


Node = TrialNode | EvaluationNode | CostNode
