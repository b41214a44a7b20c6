"""Study lint: each kind on a study that has it and on one that has not, what allows it, and the built-in studies."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import special, stats

from ablations.claims import Claim, better_than
from ablations.errors import SpecError, StudyError
from ablations.planning.lint import (
    Lint,
    factors,
    lint,
    network_of,
    selects_on_test,
    sized_networks,
)
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS, get_preset
from ablations.protocol.seeds import seeds_needed, smallest_effect
from ablations.registry import available_studies, get_study
from ablations.spec.names import LINTS
from ablations.spec.parts import Intervention
from ablations.study import InspectedNetwork, Scale, Study, Variant
from runners.console.tables import lint_overview

DOCS = Path(__file__).resolve().parents[3] / "docs" / "lint.md"
MANY = 12
"""Seeds with which `few-seeds` has nothing to say."""

# A preset that says all that these tests count with, whatever the real one trains with.
OWN_PRESET = get_preset("quick").model_copy(
    update={
        "settings": {
            "data.name": "fashion_mnist_mini",
            "data.augmentation": "crop_flip",
            "model.width": 0.35,
            "model.depth": 0.5,
            "train.epochs": 4,
            "train.batch_size": 64,
            "train.warmup_epochs": 0.25,
            "train.temperature.epochs": 1.0,
        }
    }
)
STATIC = {"model.layer": "static"}
ANNEALED = {"train.temperature.schedule": "linear", "train.temperature.epochs": 1.0}


def study(*variants: Variant, **more: Any) -> Study:
    words = {"name": "mine", "title": "Mine", "question": "?", "reference": variants[0].name, "seeds": MANY}
    return Study(variants=variants, **{**words, **more})


def variant(name: str, *differs_in: str, intervention: Intervention | None = None, **changes: object) -> Variant:
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    return Variant(name=name, changes=settings, differs_in=differs_in, intervention=intervention)


def planned(*studies: Study, preset: str | None = None, **overrides: object) -> Plan:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return make_plan(studies, Request(get_preset(preset) if preset else OWN_PRESET, settings))


def found(*studies: Study, parameters: dict[str, int] | None = None, **overrides: object) -> list[Lint]:
    return list(lint(planned(*studies, **overrides), parameters))


def codes(lints: list[Lint]) -> list[str]:
    return [one.code for one in lints]


REFERENCE = variant("ref")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_built_in_studies_raise_nothing_but_what_is_allowed_with_a_reason(preset: str) -> None:
    request = Request(get_preset(preset))
    studies = [get_study(name, request.base()) for name in available_studies()]
    lints = lint(make_plan(studies, request))
    assert [one for one in lints if not one.is_allowed] == []
    # With nine seeds, and five or six for what takes long, the evening has nothing to allow.
    assert {one.code for one in lints} == (set() if preset == "evening" else {"few-seeds"})


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (variant("a"), ()),
        (variant("a", train__epochs=6), ("train.epochs",)),
        (variant("a", train__epochs=6, train__batch_size=32), ("train.epochs", "train.batch_size")),
        # What only a dynamic network reads goes with its being one.
        (variant("a", model__layer="static"), ("model.layer",)),
        (variant("a", model__layer="condconv"), ("model.layer",)),
        (variant("a", model__layer="condconv", model__num_kernels=8), ("model.layer", "model.num_kernels")),
        (variant("a", model__normalization="sigmoid"), ("model.normalization",)),
        # Its schedule is one factor.
        (Variant(name="a", changes=ANNEALED), ("train.temperature",)),
        (Variant(name="a", changes={**ANNEALED, "train.temperature.start": 10.0}), ("train.temperature",)),
        (variant("a", train__optimizer="adamw"), ("train.optimizer",)),
        (variant("a", model__name="resnet10"), ("model.name",)),
        (variant("a", data__train_images=100), ("data.train_images",)),
        (variant("a", train__micro_batch=32), ("train.micro_batch",)),
        (variant("a", train__devices=2), ()),
        (variant("a", intervention=Intervention(aggregation="max")), ("intervention.aggregation",)),
        (
            variant("a", train__epochs=6, intervention=Intervention(aggregation="max", temperature=2.0)),
            ("train.epochs", "intervention.aggregation", "intervention.temperature"),
        ),
    ],
)
def test_factors_are_what_differs_by_itself(other: Variant, differing: tuple[str, ...]) -> None:
    plan = planned(study(REFERENCE, other.model_copy(update={"name": "other"})))
    nodes = {cell.variant: plan.node(cell.fingerprint) for cell in plan.cells}
    assert set(factors(nodes["other"], nodes["ref"])) == set(differing)
    assert set(factors(nodes["ref"], nodes["other"])) == set(differing)


def test_two_interventions_differ_where_they_differ() -> None:
    every = variant("ref", intervention=Intervention(aggregation="average"))
    some = variant(
        "some", intervention=Intervention.model_validate({"aggregation": "average", "where": {"name": ["a"]}})
    )
    plan = planned(study(every, some))
    first, second = (plan.node(cell.fingerprint) for cell in plan.cells if cell.seed == 0)
    assert factors(first, second) == ("intervention.where",)


EVERYTHING = variant("everything", data__split_seed="trial")
WEIGHTS = variant("weights", train__order_seed=7, data__split_seed=7)


def test_rows_of_a_study_of_variances_fix_several_sources_and_say_nothing_of_it() -> None:
    assert codes(found(study(EVERYTHING, WEIGHTS, compares="variances"))) == []
    assert codes(found(study(EVERYTHING, WEIGHTS))) == ["several-factors"]


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "with 1 seed no row has a variance"), (7, "with 7 seeds the interv"), (8, "")]
)
def test_a_study_of_variances_asks_for_the_seeds_of_a_variance(seeds: int, words: str) -> None:
    lints = found(study(EVERYTHING, WEIGHTS, compares="variances", seeds=seeds))
    assert [item.message.startswith(words) for item in lints] == [True] * bool(words)
    # The factor that the message names is that of the F distribution.
    assert stats.f.ppf(0.975, 6, 6) > 5 > stats.f.ppf(0.975, 7, 7) > 4.9


TWO = {"train__epochs": 6, "train__batch_size": 32}


@pytest.mark.parametrize(
    ("other", "is_clean"),
    [
        (variant("a", train__epochs=6), True),
        (variant("a", **TWO), False),
        (variant("a", "train.epochs", "train.batch_size", **TWO), True),
        (variant("a", "train", **TWO), True),
        (variant("a", "train.epochs", **TWO), False),
        # It says that it differs, and in something else.
        (variant("a", "train.batch_size", train__epochs=6), False),
        (variant("a", "train.temperature.start", train__temperature__start=2.0), True),
        (variant("a", "train", "intervention", intervention=Intervention(aggregation="max"), **TWO), True),
        (variant("a", "train", intervention=Intervention(aggregation="max"), **TWO), False),
    ],
)
def test_a_variant_says_what_it_differs_in(other: Variant, is_clean: bool) -> None:
    lints = found(study(REFERENCE, other))
    assert codes(lints) == ([] if is_clean else ["several-factors"])
    assert is_clean or "differs_in" in lints[0].message


def test_an_undeclared_factor_is_named_beside_the_declared_ones() -> None:
    (one,) = found(study(REFERENCE, variant("a", "train.epochs", **TWO)))
    assert "says nothing of train.batch_size" in one.message
    assert "'a'" in one.message
    assert "'ref'" in one.message


def test_factors_that_only_a_preset_brings_count_there() -> None:
    scaled = study(
        REFERENCE, variant("a", train__epochs=6), scales={"smoke": Scale(rows={"a": {"train.nesterov": False}})}
    )
    assert found(scaled) == []
    assert codes(list(lint(planned(scaled, preset="smoke")))) == ["several-factors"]


def test_a_factor_that_nothing_reads_is_an_error_already() -> None:
    with pytest.raises(SpecError, match=r"train\.step_epochs = 3 would be read by nothing"):
        found(study(REFERENCE, variant("a", train__step_epochs=3)))


def test_an_annealing_longer_than_the_training_is_an_error_already() -> None:
    with pytest.raises(SpecError, match="longer than the training"):
        found(study(REFERENCE, Variant(name="a", changes={**ANNEALED, "train.temperature.epochs": 5.0})))


@pytest.mark.parametrize(
    ("epochs", "end", "is_clean"), [(3.9, 1.0, True), (4.0, 1.0, False), (4.0, 30.0, True), (1.0, 1.0, True)]
)
def test_an_annealing_must_end_before_the_training_does(epochs: float, end: float, is_clean: bool) -> None:
    changes = {**ANNEALED, "train.temperature.epochs": epochs, "train.temperature.end": end}
    lints = found(study(REFERENCE, Variant(name="a", changes=changes)))
    assert codes(lints) == ([] if is_clean else ["late-annealing"])
    assert is_clean or ("'a'" in lints[0].message and "4 epochs" in lints[0].message)


def test_variants_that_are_the_same_are_named() -> None:
    (one,) = found(study(REFERENCE, variant("a", train__epochs=4), variant("b", train__epochs=6)))
    assert one.code == "no-difference"
    assert "'ref' and 'a'" in one.message


def test_variants_that_differ_on_one_inspected_network_differ() -> None:
    networks = (
        InspectedNetwork(name="plain"),
        InspectedNetwork(name="averaged", changes={"model.aggregation": "average"}),
    )
    average = variant("average", intervention=Intervention(aggregation="average"))
    assert found(study(REFERENCE, average, networks=networks, inspect=("plain", "averaged"))) == []
    assert "no-difference" in codes(found(study(REFERENCE, average, networks=networks, inspect=("averaged",))))


@pytest.mark.parametrize(
    ("baseline", "why"),
    [
        ({"train.step_epochs": 2}, "train.schedule is 'step'"),
        ({"model.num_kernels": 2}, ""),
        ({"train.epochs": 5}, ""),
        ({"model.stem_kernel": 3}, "has no stem_kernel"),
        ({"train.weight_decay": 1e-3}, "set it themselves"),
    ],
)
def test_a_baseline_that_no_variant_reads_is_found(baseline: dict[str, object], why: str) -> None:
    decayed = [variant(name, train__weight_decay=value) for name, value in (("a", 0.1), ("b", 0.2))]
    lints = found(study(*decayed, baseline=baseline))
    assert codes(lints) == (["unread-setting"] if why else [])
    assert why in (lints[0].message if lints else "")


def test_a_baseline_that_some_variant_reads_is_read() -> None:
    kernels = {"baseline": {"model.num_kernels": 2}}
    assert found(study(REFERENCE, Variant(name="static", changes=STATIC), **kernels)) == []
    static = [Variant(name=name, changes={**STATIC, "model.width": width}) for name, width in (("a", 0.5), ("b", 1.0))]
    assert codes(found(study(*static, **kernels))) == ["unread-setting"]


def test_an_override_of_the_baseline_is_not_the_studys_fault() -> None:
    stepped = study(REFERENCE, baseline={"train.step_epochs": 2, "train.schedule": "step"})
    assert found(stepped) == []
    assert found(stepped, train__schedule="cosine") == []
    assert codes(found(study(REFERENCE, baseline={"train.step_epochs": 2}), train__schedule="step")) == [
        "unread-setting"
    ]


WIDE, NARROW = variant("wide", model__width=0.5), variant("narrow", model__width=0.35)


def sizes(plan: Plan, **by_variant: int) -> dict[str, int]:
    return {
        network_of(plan.node(c.fingerprint).spec): by_variant[c.variant] for c in plan.cells if c.variant in by_variant
    }


@pytest.mark.parametrize(("wide", "is_clean"), [(1000, True), (1020, True), (1021, False), (970, False)])
@pytest.mark.parametrize("by", ["study", "claim"])
def test_equally_large_is_within_two_per_cent(by: str, wide: int, is_clean: bool) -> None:
    claim = Claim(name="c", statement="s", contrasts=better_than("wide", "narrow"), equal_size=by == "claim")
    sized = study(NARROW, WIDE, claims=(claim,), equal_size=by == "study")
    lints = found(sized, parameters=sizes(planned(sized), narrow=1000, wide=wide))
    assert codes(lints) == ([] if is_clean else ["unequal-size"])
    assert is_clean or {"narrow 1,000", f"wide {wide:,}"} <= set(re.findall(r"\w+ [0-9,]*\d", lints[0].message))


def test_sizes_count_only_where_they_are_claimed_and_known() -> None:
    plain = study(NARROW, WIDE)
    assert found(plain, parameters=sizes(planned(plain), narrow=1, wide=9)) == []
    assert sized_networks(planned(plain)) == {}
    sized = study(NARROW, WIDE, variant("third", train__epochs=5), equal_size=True)
    plan = planned(sized)
    assert [spec.model.width for spec in sized_networks(plan).values()] == [0.35, 0.5]
    assert "unequal-size" not in codes(found(sized, parameters=sizes(plan, narrow=1)))


def test_a_plan_that_has_only_a_part_of_its_nodes_is_looked_at_as_far_as_it_goes() -> None:
    sized = study(NARROW, WIDE, variant("third", **TWO), equal_size=True)
    whole = planned(sized)
    kept = {cell.fingerprint for cell in whole.cells if cell.variant != "narrow"}
    part = replace(whole, trials={key: node for key, node in whole.trials.items() if key in kept})
    counted = {network: 100 * 10**index for index, network in enumerate(sized_networks(whole))}
    assert {one.code for one in lint(whole, counted)} == {"several-factors", "unequal-size"}
    assert {one.code for one in lint(part, counted)} == {"unequal-size"}


@pytest.mark.parametrize(
    ("seeds", "comparisons", "size"),
    [(1, 1, math.inf), (2, 1, 8.985), (3, 1, 2.484), (4, 1, 1.591), (3, 7, 6.794), (9, 7, 1.195)],
)
def test_the_smallest_significant_effect_is_that_of_a_t_test(seeds: int, comparisons: int, size: float) -> None:
    assert smallest_effect(seeds, comparisons) == pytest.approx(size, abs=1e-3)
    if seeds > 1:
        values = np.arange(seeds, dtype=float)
        values = size + (values - values.mean()) / values.std(ddof=1)
        assert stats.ttest_1samp(values, 0).pvalue == pytest.approx(0.05 / comparisons, rel=5e-3)


@pytest.mark.parametrize(("comparisons", "needed"), [(1, 4), (2, 5), (4, 5), (7, 6), (14, 7)])
def test_the_seeds_that_are_needed(comparisons: int, needed: int) -> None:
    assert seeds_needed(comparisons) == needed
    assert smallest_effect(needed, comparisons) <= 2.0 < smallest_effect(needed - 1, comparisons)


@pytest.mark.parametrize("seeds", [1, 3, 4])
def test_too_few_seeds_are_told_with_how_many_would_do(seeds: int) -> None:
    lints = found(study(REFERENCE, variant("a", train__epochs=6), seeds=seeds), preset="small")
    assert codes(lints) == (["few-seeds"] if seeds < 4 else [])
    least = "no difference can be significant" if seeds == 1 else "if it is 2.5 times its own standard deviation"
    assert all(least in one.message and "With 4 seeds (--seeds 4) 1.6 times" in one.message for one in lints)


def test_comparisons_on_every_inspected_network_count() -> None:
    networks = (InspectedNetwork(name="a"), InspectedNetwork(name="b", changes={"train.epochs": 4}))
    other = variant("max", intervention=Intervention(aggregation="max"))
    (one,) = found(study(REFERENCE, other, networks=networks, inspect=("a", "b"), seeds=4))
    assert "corrected for 2 comparisons, if it is 2.1 times" in one.message


def test_one_variant_has_nothing_to_be_compared_with() -> None:
    assert found(study(REFERENCE, seeds=1)) == []


@pytest.mark.parametrize(
    ("metric", "selects", "is_clean"),
    [
        ("test/top1", False, True),
        ("test/top1", True, False),
        ("val/top1", True, True),
        ("test/attention_gap", True, False),
    ],
)
def test_what_is_selected_is_not_judged_by_the_test_split(metric: str, selects: bool, is_clean: bool) -> None:
    lints = found(study(REFERENCE, variant("a", train__epochs=6), metric=metric, selects=selects))
    assert codes(lints) == ([] if is_clean else ["selects-on-test"])


def test_a_search_can_ask_for_its_own_metric() -> None:
    assert list(selects_on_test("mine", "val/loss")) == []
    assert [one.code for one in selects_on_test("mine", "test/top1")] == ["selects-on-test"]


def test_what_is_allowed_says_why_and_the_study_counts_more_than_the_preset() -> None:
    allowed = study(REFERENCE, variant("a", **TWO), seeds=2, allow={"several-factors": "a known pair"})
    assert {one.code: one.reason for one in found(allowed)} == {
        "several-factors": "a known pair",
        "few-seeds": OWN_PRESET.allow["few-seeds"],
    }
    stronger = study(REFERENCE, variant("a"), seeds=2, allow={"few-seeds": "own", "no-difference": "an A/A test"})
    assert {one.reason for one in found(stronger)} == {"own", "an A/A test"}


def test_what_the_preset_allows_is_known() -> None:
    assert {code for preset in PRESETS.values() for code in preset.allow} <= set(LINTS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("allow: {few-sedes: because}", ["study.yaml:", "unknown lint 'few-sedes'", "'few-seeds'"]),
        ("allow: {few-seeds: ''}", ["study.yaml:", "few-seeds"]),
        ("allow: [few-seeds]", ["study.yaml:", "allow"]),
        ("equal_size: 3", ["study.yaml:", "equal_size"]),
    ],
)
def test_what_a_file_allows_is_checked(
    load: Callable[[str], Study], study_text: str, line: str, words: list[str]
) -> None:
    with pytest.raises(StudyError) as raised:
        load(f"{study_text}{line}\n")
    assert [word for word in words if word not in str(raised.value)] == []


def test_a_file_says_what_a_variant_differs_in_and_what_is_allowed(
    load: Callable[[str], Study], study_text: str
) -> None:
    own = study_text.replace(
        "k2: {model.num_kernels: 2}", "k2: {model.num_kernels: 2, differs_in: [model.num_kernels]}"
    )
    loaded = load(own + "allow: {few-seeds: it is a pilot}\nequal_size: true\nselects: true\n")
    assert loaded.variant("k2").differs_in == ("model.num_kernels",)
    assert (loaded.allow, loaded.equal_size, loaded.selects) == ({"few-seeds": "it is a pilot"}, True, True)
    with pytest.raises(StudyError, match=r"unknown factor 'model.num_kernel'. Did you mean 'model.num_kernels'"):
        load(own.replace("differs_in: [model.num_kernels]", "differs_in: [model.num_kernel]"))


def printed(lints: list[Lint], *, with_allowed: bool) -> str:
    console = Console(file=io.StringIO(), width=400, highlight=False)
    console.print(lint_overview(lints, with_allowed=with_allowed))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_many_of_one_kind_are_counted() -> None:
    lints = [Lint("several-factors", "mine", f"number {index}.") for index in range(9)]
    text = printed(lints, with_allowed=False)
    assert text.count("lint several-factors in mine: ") == 4
    assert "… and 6 more" in text
    assert "docs/lint.md" in text


def test_what_is_allowed_is_listed_where_that_is_asked_for() -> None:
    lints = [Lint("few-seeds", name, "m", "a pilot") for name in ("one", "two")]
    assert printed(lints, with_allowed=True) == "Lint few-seeds is allowed in one, two: a pilot.\n"
    assert printed(lints, with_allowed=False).strip() == ""


def test_every_lint_is_documented() -> None:
    assert re.findall(r"^## `(.+)`$", DOCS.read_text(encoding="utf-8"), re.MULTILINE) == list(LINTS)


def test_what_variants_were_tuned_to_is_no_difference_between_them() -> None:
    plan = planned(study(REFERENCE, variant("wide", model__width=0.5)))
    rates = {0.35: 0.01, 0.5: 0.02}
    trials = {}
    for key, node in plan.trials.items():
        train = node.spec.train.model_copy(update={"learning_rate": rates[node.spec.model.width or 0]})
        trials[key] = replace(node, spec=node.spec.model_copy(update={"train": train}), tuned=("train.learning_rate",))
    assert "several-factors" not in codes(list(lint(replace(plan, trials=trials))))
    untuned = {key: replace(node, tuned=()) for key, node in trials.items()}
    assert "several-factors" in codes(list(lint(replace(plan, trials=untuned))))


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 8, 9, 20, 101, 1000])
@pytest.mark.parametrize("comparisons", [1, 2, 7, 40, 500])
def test_the_smallest_effect_is_that_of_scipys_t_distribution(seeds: int, comparisons: int) -> None:
    quantile = -float(special.stdtrit(seeds - 1, 0.05 / (2 * comparisons)))
    assert smallest_effect(seeds, comparisons) == pytest.approx(quantile / math.sqrt(seeds), rel=1e-9)
