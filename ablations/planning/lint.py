"""Lint finds in a plan, before anything is trained, what a reviewer would object to.

Settings that cannot be right at all (a typo, a factor of a variant that nothing reads, an annealing longer than the
training) are errors elsewhere. A lint may be meant: it has a code (`names.LINTS`), and a study, or a preset for all
studies, may allow it with a reason. `docs/lint.md` explains each. Everything is computed from the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ablations.factorial.design import CLEAR_RESOLUTION
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.planning.rows import Row
from ablations.protocol.seeds import seeds_needed, smallest_effect
from ablations.spec.fingerprint import cost_fingerprint
from ablations.spec.parts import DataSpec, Intervention
from ablations.spec.settings import Settings, merge, unread
from ablations.spec.trial import TrialSpec, dotted_settings
from ablations.study import Study, Variant

EQUAL_SIZE = 0.02
"""Networks are of equal size if the largest has at most this share more parameters than the smallest."""

_FOR_VARIANCES = 8
"""With so many seeds per row the 95 % interval of a ratio of two variances, F(7, 7), is a factor of 4.99 either way."""

_TEMPERATURE = "train.temperature"
_NO_FACTORS = frozenset({"data.root", "data.download", "data.workers", "train.devices"})
"""Settings that change where and how something is computed, and not the result."""


@dataclass(frozen=True)
class Lint:
    """Something in a study that a reviewer would object to.

    Attributes:
        code: One of `names.LINTS`.
        message: Its subject, the finding and the remedy.
        reason: The reason for which it is allowed, or empty.
    """

    code: str
    study: str
    message: str
    reason: str = ""

    @property
    def is_allowed(self) -> bool:
        """True if the study or the preset allows it."""
        return bool(self.reason)


def lint(plan: Plan, parameters: Mapping[str, int] | None = None) -> tuple[Lint, ...]:
    """Return the lints of the studies in a plan, in the order of the studies; allowed ones have their reason.

    Args:
        parameters: Number of parameters by `network_of`; networks that are not in it are not compared.
    """
    lints: list[Lint] = []
    for study in plan.studies:
        reasons = {**plan.request.preset.allow, **study.allow}
        for result in _lint_study(study, plan, parameters or {}):
            lints.append(replace(result, reason=reasons.get(result.code, "")))
    return tuple(lints)


def sized_networks(plan: Plan) -> dict[str, TrialSpec]:
    """Return the networks whose parameters must be counted because they are compared as equally large."""
    sized: dict[str, TrialSpec] = {}
    for study in plan.studies:
        nodes = _nodes(study, plan)
        for _, names in _sized(study):
            for name in names:
                if name in nodes:
                    spec = nodes[name].spec
                    sized[network_of(spec)] = spec
    return sized


def network_of(spec: TrialSpec) -> str:
    """Return a key under which networks of one architecture are equal, whatever the data and length of training."""
    return cost_fingerprint(spec)


def factors(node: Node, reference: Node) -> tuple[str, ...]:
    """Return the factors in which two nodes differ, the seed left out.

    A setting that is read on one side only, because of another one that differs, is no factor of its own: a static
    network has neither kernels nor a temperature. The temperature's schedule is one factor.
    """
    settings = _different_settings(node, reference)
    return tuple(dict.fromkeys([*settings, *_different_interventions(node.intervention, reference.intervention)]))


def _different_settings(node: Node, reference: Node) -> Iterator[str]:
    settings, reference_settings = dotted_settings(node.spec), dotted_settings(reference.spec)
    derived = unread(settings).keys() | unread(reference_settings).keys()
    # Tuned values differ because each row was tuned, not because its variant says so.
    tuned = {*node.training.tuned, *reference.training.tuned}
    ignored = derived | _NO_FACTORS | tuned
    for key in settings:
        if settings[key] == reference_settings[key] or key in ignored:
            continue
        # To count a network, only its architecture, its classes and the size of its images matter.
        if node.kind == "cost" and not key.startswith("model.") and key not in ("data.name", "data.image_size"):
            continue
        yield _TEMPERATURE if key.startswith(_TEMPERATURE) else key


def _different_interventions(left: Intervention | None, right: Intervention | None) -> Iterator[str]:
    if left is not None and right is not None:
        for key in Intervention.model_fields:
            if getattr(left, key) != getattr(right, key):
                yield f"intervention.{key}"
        return
    # On one side only: `where` is part of the other keys, not a factor of its own.
    for key in ("aggregation", "temperature"):
        if getattr(left or right, key, None) is not None:
            yield f"intervention.{key}"


def _lint_study(study: Study, plan: Plan, parameters: Mapping[str, int]) -> Iterator[Lint]:
    nodes = _nodes(study, plan)
    yield from _several_factors(study, nodes)
    yield from _no_difference(study, plan)
    yield from _unread_settings(study, plan)
    yield from _late_annealing(study, nodes)
    yield from _unequal_size(study, nodes, parameters)
    yield from _aliased_effects(study)
    yield from _few_seeds(study, plan)
    yield from _repeated_images(study, nodes)
    if study.selects:
        yield from selects_on_test(study.name, study.metric)


def _nodes(study: Study, plan: Plan) -> dict[str, Node]:
    """Return a node per variant, of the first seed and inspected network, as far as the plan has nodes.

    The plan of a retry has the tables of the whole plan, but only a part of its nodes.
    """
    nodes: dict[str, Node] = {}
    for cell in plan.cells_of(study.name):
        if cell.variant not in nodes and plan.has(cell.fingerprint):
            nodes[cell.variant] = plan.node(cell.fingerprint)
    return nodes


def _several_factors(study: Study, nodes: Mapping[str, Node]) -> Iterator[Lint]:
    # Rows that fix several sources of randomness differ in nothing that they are trained with.
    if study.compares_variances:
        return
    reference = nodes.get(study.reference)
    for variant in study.variants:
        if reference is None or variant.name not in nodes:
            continue
        differing = factors(nodes[variant.name], reference)
        missing = [factor for factor in differing if not _declares(variant, factor)]
        if missing and (variant.differs_in or len(differing) > 1):
            yield Lint("several-factors", study.name, _several_words(study, variant, differing, missing))


def _declares(variant: Variant, factor: str) -> bool:
    # Either may be the group of the other: `train.temperature` covers `train.temperature.start`. The dots at the end
    # keep `model.stem` from covering `model.stem_stride`.
    return any(f"{factor}.".startswith(f"{entry}.") or entry.startswith(f"{factor}.") for entry in variant.differs_in)


def _several_words(study: Study, variant: Variant, differing: Sequence[str], missing: Sequence[str]) -> str:
    text = f"variant {variant.name!r} differs from the reference {study.reference!r} in {', '.join(differing)}"
    if variant.differs_in:
        return f"{text}, and says nothing of {', '.join(missing)}. Add that to its differs_in, or leave it as it was."
    declared = f"differs_in: [{', '.join(differing)}]"
    return f"{text}: no difference can be put down to one of them. Change one at a time, or say so ({declared})."


def _no_difference(study: Study, plan: Plan) -> Iterator[Lint]:
    seen: dict[frozenset[str], str] = {}
    fingerprints: dict[str, set[str]] = {variant.name: set() for variant in study.variants}
    for cell in plan.cells_of(study.name):
        fingerprints[cell.variant].add(cell.fingerprint)
    for variant in study.variants:
        # All repeats and networks together: an intervention may change nothing on one network alone.
        first = seen.setdefault(frozenset(fingerprints[variant.name]), variant.name)
        if first != variant.name:
            yield Lint(
                "no-difference",
                study.name,
                f"variants {first!r} and {variant.name!r} are one and the same here, and so will their numbers be. "
                "Leave one out, or change what it was meant to change.",
            )


def _unread_settings(study: Study, plan: Plan) -> Iterator[Lint]:
    # A baseline is about trainings, which a study of networks that were trained elsewhere has none of.
    settings = {} if study.trains_nothing and not study.is_about_cost else study.baseline
    # A setting of the baseline may be there for rows that were not asked for.
    if study.before_rows is not None:
        settings = {}
    for key, value in settings.items():
        # A dictionary as an ordered set; the reason "" stands for a variant that reads the setting.
        reasons: dict[str, None] = {}
        for network in study.inspected:
            for variant in study.variants:
                reasons[_why_unread(key, study, plan, Row(study, network, variant).changes)] = None
        if "" not in reasons:
            yield Lint(
                "unread-setting",
                study.name,
                f"baseline {key} = {value!r} is read by no variant: {'; '.join(reasons)}. Leave it out.",
            )


def _why_unread(key: str, study: Study, plan: Plan, changes: Settings) -> str:
    """Return the reason why a variant does not read a setting of the baseline, or "" if it does.

    Overrides are left out, as they are no fault of the study.
    """
    if key in changes:
        return "the variants or the inspected networks set it themselves"
    if study.is_about_cost and not key.startswith(("model.", "data.")):
        return "nothing is trained"
    return unread(merge([plan.request.preset.settings, study.baseline, changes])).get(key, "")


def _late_annealing(study: Study, nodes: Mapping[str, Node]) -> Iterator[Lint]:
    late = [name for name, node in nodes.items() if node.kind != "cost" and _anneals_to_the_end(node.spec)]
    if late:
        epochs = nodes[late[0]].spec.train.epochs
        yield Lint(
            "late-annealing",
            study.name,
            f"the temperature of {_listed(late)} reaches its end with the last of {epochs} epochs, so no step is "
            "trained at it. Lower train.temperature.epochs, or train longer.",
        )


def _anneals_to_the_end(spec: TrialSpec) -> bool:
    temperature = spec.train.temperature
    if temperature is None or temperature.epochs is None or temperature.end == temperature.start:
        return False
    return temperature.epochs >= spec.train.epochs


def _sized(study: Study) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the study and the claims that compare networks of equal size, each with its variants."""
    if study.equal_size:
        yield "the study", tuple(variant.name for variant in study.variants)
    for claim in study.claims:
        if claim.equal_size:
            yield f"claim {claim.name!r}", claim.variants


def _unequal_size(study: Study, nodes: Mapping[str, Node], parameters: Mapping[str, int]) -> Iterator[Lint]:
    for subject, names in _sized(study):
        sizes: dict[str, int] = {}
        for name in names:
            # Sizes that have not been counted are left out, not guessed.
            if name in nodes and network_of(nodes[name].spec) in parameters:
                sizes[name] = parameters[network_of(nodes[name].spec)]
        if sizes and max(sizes.values()) > (1 + EQUAL_SIZE) * min(sizes.values()):
            counts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
            yield Lint(
                "unequal-size",
                study.name,
                f"{subject} compares networks as equally large, and their parameters are {counts}. Change their width "
                "or the number of kernels, or do not call them equal (equal_size: false).",
            )


def _aliased_effects(study: Study) -> Iterator[Lint]:
    if study.factorial is None:
        return
    design = study.factorial.design
    if design.resolution is None or design.resolution >= CLEAR_RESOLUTION:
        return
    # Words of three factors alone make a main effect the alias of an interaction of two.
    words = ["*".join(word) for word in design.defining_relation if len(word) < CLEAR_RESOLUTION]
    yield Lint(
        "aliased-effects",
        study.name,
        f"the fraction has resolution {design.resolution_numeral} (constant: {', '.join(words)}): a main effect cannot "
        "be told from an interaction of two factors. Use generators with products of three factors or more, or train "
        "all combinations.",
    )


def _few_seeds(study: Study, plan: Plan) -> Iterator[Lint]:
    comparisons = (len(study.variants) - 1) * len(study.inspected)
    # Counts have no spread, and a single row is compared with nothing.
    if study.trains_nothing or not comparisons:
        return
    if study.compares_variances:
        yield from _few_for_variances(study, plan)
        return
    # The table has a difference per variant and inspected network, and Holm's correction is over all of them.
    seeds, needed = plan.request.seeds_of(study), seeds_needed(comparisons)
    for look in plan.request.looks_of(study):
        # Seeds are added up to the last look.
        seeds = max(seeds, look)
    if seeds < needed:
        size = smallest_effect(seeds, comparisons)
        if math.isinf(size):
            consequence = "no difference can be significant"
        else:
            corrected = ""
            if comparisons > 1:
                corrected = f", corrected for {comparisons} comparisons,"
            consequence = f"a difference is significant{corrected} if it is {size:.1f} times its own standard deviation"
        yield Lint(
            "few-seeds",
            study.name,
            f"with {seeds} seed{'s' if seeds > 1 else ''} {consequence}. With {needed} seeds (--seeds {needed}) "
            f"{smallest_effect(needed, comparisons):.1f} times would do.",
        )


def _few_for_variances(study: Study, plan: Plan) -> Iterator[Lint]:
    seeds = plan.request.seeds_of(study)
    if seeds < _FOR_VARIANCES:
        consequence = "no row has a variance"
        if seeds > 1:
            consequence = "the interval of a share of the variance reaches beyond a fifth and five times the share"
        yield Lint(
            "few-seeds",
            study.name,
            f"with {seeds} seed{'s' if seeds > 1 else ''} {consequence}. With {_FOR_VARIANCES} seeds "
            f"(--seeds {_FOR_VARIANCES}) it reaches from a fifth to five times.",
        )


def _repeated_images(study: Study, nodes: Mapping[str, Node]) -> Iterator[Lint]:
    """Yield a lint for each data set whose test images were seen in training, as far as their files tell."""
    # Each data set once, though many rows train on it.
    data_sets: dict[tuple[str, str | None], DataSpec] = {}
    for node in nodes.values():
        if node.kind != "cost":
            data_sets[node.spec.data.name, node.spec.data.root] = node.spec.data
    for data in data_sets.values():
        facts = data.facts
        if facts.repeated_test_images:
            yield Lint(
                "repeated-images",
                study.name,
                f"{facts.repeated_test_images:,} of the {facts.test_images:,} test images of {facts.title} are among "
                "the images to train on, to the last byte. Take them out of one of the two.",
            )


def selects_on_test(study: str, metric: str) -> Iterator[Lint]:
    """Yield a lint if the metric by which a variant or a setting is selected comes from the test split."""
    if not metric.startswith("val/"):
        yield Lint(
            "selects-on-test",
            study,
            f"the best is selected by {metric}, so that the test split no longer tells how good it is. "
            "Select by val/top1 or val/loss.",
        )


def _listed(names: Sequence[str], most: int = 4) -> str:
    listing = ", ".join(map(repr, names[:most]))
    if len(names) > most:
        listing += f" and {len(names) - most} others"
    return listing
