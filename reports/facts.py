"""What can be read off a plan alone: the trials behind a study, and words for them that tables and sentences share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ablations.datasets import get_dataset_facts
from ablations.naming import model_title
from ablations.planning import EvaluationNode, Plan
from ablations.spec import TrialSpec

Split = Literal["train", "validation", "test"]
_IMAGES: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}


def split_of(metric: str) -> Split:
    """Returns the split that a metric is measured on."""
    return "validation" if metric.startswith("val/") else "test"


def trials_of(plan: Plan, study: str) -> dict[str, TrialSpec]:
    """Returns the trials behind a study by fingerprint, those whose checkpoints it evaluates included."""
    found: dict[str, TrialSpec] = {}
    for cell in plan.cells_of(study):
        node = plan.node(cell.fingerprint)
        trial = node.trial if isinstance(node, EvaluationNode) else node
        found.setdefault(trial.fingerprint, trial.spec)
    return found


def specs_of(plan: Plan, study: str) -> tuple[TrialSpec, ...]:
    """Returns the specs of the trials behind a study."""
    return tuple(trials_of(plan, study).values())


def data_words(specs: Iterable[TrialSpec], split: Split = "test") -> str:
    """Returns the titles of the data sets, each with the number of images of a split."""
    found: dict[str, None] = {}
    for spec in specs:
        facts, key = get_dataset_facts(spec.data.name), f"{split}_images"
        count = getattr(spec.data, key) or getattr(facts, key)
        found[f"{facts.title} ({count:,} {_IMAGES[split]} images)"] = None
    return " and ".join(found)


def network_words(specs: Iterable[TrialSpec]) -> str:
    """Returns the titles of the networks, the dynamic ones first."""
    titles = {model_title(spec.model): None for spec in specs}
    return " and ".join(sorted(titles, key=lambda title: not title.startswith("DY-")))


def epochs_words(specs: Iterable[TrialSpec]) -> str:
    """Returns how long was trained."""
    epochs = sorted({spec.train.epochs for spec in specs})
    return f"{' or '.join(map(str, epochs))} epoch{'s' if epochs != [1] else ''}"
