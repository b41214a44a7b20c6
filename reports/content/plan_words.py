"""This module reads off a plan the trials behind a study, and the words for them that tables and sentences share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import yaml

from ablations.foreign_study import ForeignStudy
from ablations.planning.nodes import plugins_of
from ablations.planning.plan import Plan
from ablations.spec.identities import Identity, as_json
from ablations.spec.inspected import NetworkSpec
from ablations.spec.titles import model_title
from ablations.spec.trial import TrialSpec
from ablations.study import Study, Variant
from ablations.vocabulary import experiment_name

Split = Literal["train", "validation", "test"]
ENDS = ("?", "!", ".", "…")
"""Signs that end a sentence."""
_MOST_NAMED = 3
_IMAGES: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}


def runs_heading(study: Study) -> str:
    """Return the heading of what runs have measured, which sets it apart from what was published."""
    # Runs of other people's are not ours.
    return "measured" if isinstance(study, ForeignStudy) else "ours"


def split_of(metric: str) -> Split:
    """Return the split that a metric is measured on."""
    return "validation" if metric.startswith("val/") else "test"


def plural(count: int, noun: str) -> str:
    """Return a noun as it stands behind a number: `seed` after 1, `seeds` after any other."""
    return noun if count == 1 else f"{noun}s"


def capitalized(words: str) -> str:
    """Return words as a sentence begins with them; capitals further on stay."""
    return words[0].upper() + words[1:]


def part_title(title: str, part: str) -> str:
    """Return the title of a part: `Softmax temperature: claims`, and behind a question `Does width help? Claims`."""
    if title.endswith(ENDS):
        return f"{title} {capitalized(part)}"
    return f"{title}: {part}"


def setting_words(name: str, value: Any) -> str:
    """Return a setting as it stands in a study's YAML file, in one line: `train.epochs: 4`."""
    if isinstance(value, tuple):
        value = list(value)
    # Wide enough for any value, as a line that is broken would be another text.
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    # A value that is no list or mapping is a document of its own, with its end marked.
    return f"{name}: {text.removesuffix(chr(10)).removesuffix('...').strip()}"


def network_titles(study: Study) -> dict[str, str]:
    """Return the titles of the inspected networks by name; a study that trains its variants has one empty name."""
    titles = {}
    for network in filter(None, study.inspected):
        titles[network.name] = network.title
    return titles or {"": ""}


MOST_TOLD_APART = 24
"""Most variants in a figure: curves or panels of more would not be legible, and such a figure is left out."""


def can_be_drawn(plan: Plan, study: Study) -> bool:
    """Return True if the networks behind a study are few enough for a figure with a line for each."""
    return len(trials_of(plan, study.name)) <= MOST_TOLD_APART * plan.request.seeds_of(study)


def trials_of(plan: Plan, study: str) -> dict[str, TrialSpec]:
    """Return the trials behind a study by fingerprint, those whose checkpoints it evaluates included.

    The networks of a study about cost stand for trials: they have a spec, of which only network and data set count.
    """
    trials: dict[str, TrialSpec] = {}
    for cell in plan.cells_of(study):
        # An evaluation stands for the training whose checkpoint it measures.
        trial = plan.node(cell.fingerprint).training
        trials.setdefault(trial.fingerprint, trial.spec)
    return trials


def experiments_of(plan: Plan) -> list[str]:
    """Return the names of the MLflow experiments that may hold runs of a plan."""
    # A plan is tracked in the experiment of its base; a study of its own may bring another data set.
    experiments = {experiment_name(plan.request.preset.name, plan.request.data_name)}
    for node in plan.nodes:
        experiments.add(experiment_name(plan.request.preset.name, node.spec.data.name))
    return sorted(experiments)


def data_digests(plan: Plan) -> dict[str, str]:
    """Return the digest of each data set that a plan trains or measures on, by name."""
    digests: dict[str, str] = {}
    for node in plan.nodes:
        if node.spec.data.name not in digests:
            digests[node.spec.data.name] = node.spec.data.facts.digest or "unknown"
    return digests


def plugins_in(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the plug-ins that a plan needs, by their registered name: `code` and `plugin`."""
    identities: dict[str, Identity] = {}
    for node in plan.nodes:
        identities |= plugins_of(node)
    return as_json(identities.values())


def specs_of(plan: Plan, study: str) -> tuple[TrialSpec, ...]:
    """Return the specs of the trials behind a study."""
    return tuple(trials_of(plan, study).values())


def repeats_of(plan: Plan, study: Study) -> int:
    """Return the number of repeats of each variant of a study; costs are counted once."""
    return 1 if study.is_about_cost else plan.request.seeds_of(study)


def short_titles(study: Study) -> dict[str, str]:
    """Return the titles of the variants by name, without the words that all of them begin with.

    A variant without a label is called by its cells, if those are words. What a sign like `=` ties stays together.
    """
    titles = {variant.name: _title(variant).split() for variant in study.variants}
    # Columns of words: the first word of every title, the second, up to the end of the shortest title.
    shared, last_shared_word = 0, ""
    for column in zip(*titles.values(), strict=False):
        if len(titles) == 1 or len(set(column)) > 1:
            break
        shared, last_shared_word = shared + 1, column[0]
    # Nothing is cut where a title would be empty then, or where the cut would follow a sign, which ties two words.
    if shared == min(map(len, titles.values())) or (shared and not _has_letter(last_shared_word)):
        shared = 0
    return {name: " ".join(title_words[shared:]) for name, title_words in titles.items()}


def _title(variant: Variant) -> str:
    if variant.label is None and variant.cells and all(map(_has_letter, variant.cells)):
        return " ".join(variant.cells)
    return variant.title


def _has_letter(text: str) -> bool:
    """Return True if a text has a letter or a digit: it is read as a word and not as a sign."""
    return any(map(str.isalnum, text))


def network_prefix(study: Study, network: str) -> str:
    """Return the title of a network as it stands in front of another title; nothing for an empty name."""
    if not network:
        return ""
    return f"{network_titles(study)[network]}: "


def enumerated(phrases: Sequence[str]) -> str:
    """Return phrases as a sentence lists them, for example `a, b and c`."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def data_words(specs: Iterable[TrialSpec], split: Split = "test") -> str:
    """Return the titles of the data sets, each with the number of images of a split."""
    phrases: dict[str, None] = {}
    for spec in specs:
        facts, setting = spec.data.facts, f"{split}_images"
        # A training may be on a part of the images; else it is on all that the data set has.
        count = getattr(spec.data, setting) or getattr(facts, setting)
        phrases[f"{facts.title} ({count:,} {_IMAGES[split]} images)"] = None
    return " and ".join(phrases)


def network_words(specs: Iterable[TrialSpec]) -> str:
    """Return the titles of the networks, the dynamic ones first; of many, two and the number of the others."""
    models = list(dict.fromkeys(spec.model for spec in specs))
    # The sort is stable: beside that, titles stay in the order of the trainings.
    models.sort(key=lambda model: (model.layer != "dynamic", model.is_static))
    titles = list(dict.fromkeys(map(model_title, models)))
    if len(titles) > _MOST_NAMED:
        titles = [f"{titles[0]}, {titles[1]}", f"{len(titles) - 2} others"]
    return " and ".join(titles)


def epochs_words(specs: Iterable[TrialSpec]) -> str:
    """Return the number of epochs of some trainings, in words, or that there were none here."""
    epochs = sorted({spec.train.epochs for spec in specs if not isinstance(spec, NetworkSpec)})
    if not epochs:
        return ELSEWHERE
    return f"{' or '.join(map(str, epochs))} {plural(max(epochs, default=0), 'epoch')}"


ELSEWHERE = "trained elsewhere"
"""Stands for the length of a training of which nothing is known."""


def file_words(plan: Plan, study: Study | None = None) -> list[str]:
    """Return the files of the networks that were trained elsewhere, of a plan or of one of its studies."""
    nodes = list(plan.networks.values())
    if study is not None:
        fingerprints = trials_of(plan, study.name).keys()
        nodes = [node for node in nodes if node.fingerprint in fingerprints]
    words = []
    for node in nodes:
        temperature = "" if node.file.temperature is None else f", τ = {node.file.temperature:g}"
        words.append(f"{model_title(node.spec.model)} from {node.file.name} (SHA-256 {node.file.sha256}{temperature})")
    return words


def looks_words(plan: Plan) -> str:
    """Return the looks of a plan with a stopping rule: `at 3, 5, 8, 12 and 20 seeds`; nothing without the rule.

    Studies that begin with other numbers of seeds are named with theirs.
    """
    studies_by_looks: dict[tuple[int, ...], list[str]] = {}
    for study in plan.studies:
        looks = plan.request.looks_of(study)
        if looks:
            studies_by_looks.setdefault(looks, []).append(study.name)
    phrases = []
    for looks, studies in studies_by_looks.items():
        words = f"at {enumerated(list(map(str, looks)))} {plural(looks[-1], 'seed')}"
        if len(studies_by_looks) > 1:
            words += f" ({', '.join(studies)})"
        phrases.append(words)
    return "; ".join(phrases)
