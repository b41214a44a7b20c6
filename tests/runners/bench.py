"""A bench to run tiny trials on: a state store with helpers that describe nodes in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablations.planning.nodes import EvaluationNode, NetworkNode, TrialNode
from ablations.spec.fingerprint import evaluation_fingerprint, trial_fingerprint
from ablations.spec.parts import Intervention
from ablations.spec.trial import resolve
from runners.state.nodes import StateStore

TINY = {
    "data.train_images": 40,
    "data.validation_images": 20,
    "data.test_images": 30,
    "train.epochs": 2,
    "train.batch_size": 10,
    "train.learning_rate": 0.01,
    "model.num_kernels": 2,
}


class Bench:
    """A state store with helpers to describe tiny nodes in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.states = StateStore(root)

    def trial(self, seed: int = 0, **changes: Any) -> TrialNode:
        """Describes a tiny trial; double underscores in names of changes stand for dots."""
        settings = {key.replace("__", "."): value for key, value in changes.items()}
        spec = resolve([TINY, settings], {}, seed)
        node = TrialNode(trial_fingerprint(spec), spec)
        self.states[node.fingerprint].describe(node)
        return node

    def evaluation(self, network: TrialNode | NetworkNode, intervention: Intervention) -> EvaluationNode:
        """Describes an evaluation of a network."""
        node = EvaluationNode(evaluation_fingerprint(network.fingerprint, intervention), network, intervention)
        self.states[node.fingerprint].describe(node)
        return node
