"""The built-in studies at every preset: what their files say of them, what they compare, what they claim."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable

import pytest

from ablations.claims import Contrast, ContrastKind
from ablations.planning.plan import Plan
from ablations.planning.request import Request
from ablations.presets import PRESETS, get_preset
from ablations.registry import available_studies, get_study
from ablations.spec.names import AGGREGATIONS, NETWORKS
from ablations.spec.settings import DEFAULTS
from ablations.study import Study
from ablations.vocabulary import ATTENTION_GAP, COST_PARAMETERS, TEST_TOP1

NAMES = available_studies()
WITHOUT_CLAIMS = {"cost", "variance"}
"""Deviations from the published counts are printed row by row; nothing was claimed of variances."""
COUNTED = {"cost", "methods", "backbones", "kernels"}
"""Studies whose networks are counted: instead of trained, or as well."""
_LARGER = {"MobileNetV3-Small", "MobileNetV3-Large", "ResNet-10", "ResNet-18", "ResNet-50"}
NOT_ASKED = {"smoke": {"MobileNetV3-Large", "ResNet-18", "ResNet-50"}, "quick": _LARGER, "evening": _LARGER}
"""Networks of *backbones* that are not trained at a small preset, as its file says."""
_LONG = {"trained four times as long", "trained four times as long and regularised"}
"""Trainings of *longer* that are too long for a small preset."""


EVERYWHERE = [(name, preset) for name in NAMES for preset in PRESETS]


def built(name: str, preset: str, **overrides: object) -> Study:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return get_study(name, Request(get_preset(preset), settings).base()).at(preset)


def opening(name: str) -> str:
    return " ".join((importlib.import_module(f"ablations.studies.{name}").__doc__ or "").split())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_opens_with_question_table_command_time_and_expectation(name: str) -> None:
    text = opening(name)
    title, _, rest = text.partition(": ")
    assert title.lower().replace("-and-", "_").replace(" ", "_") == name
    assert rest.partition("?")[1], "no question"
    assert f"Command: `python run_ablation.py run {name} --preset quick`" in text
    assert "Expected result: " in text
    published = get_study(name, Request(get_preset("quick")).base()).published
    assert f"`{published}`" in text if published else re.search(r"[Nn]o (published )?table", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_how_long_each_preset_takes(name: str) -> None:
    time = opening(name).partition("Expected time: ")[2].partition("Expected result: ")[0]
    if name == "cost":
        assert "whatever the preset" in time
    elif name == "attention_profile":
        assert "none beyond *temperature*" in time
    else:
        assert re.search(r"quick.*about \d+ minute", time)
        assert re.search(r"small.*about \d+ hour", time)


@pytest.mark.parametrize(("name", "preset"), EVERYWHERE)
def test_every_study_is_planned_alone_at_every_preset(name: str, preset: str, plan: Callable[..., Plan]) -> None:
    made = plan(name, preset=preset)
    study = built(name, preset)
    assert {cell.variant for cell in made.cells} == {variant.name for variant in study.variants}
    assert bool(made.trials) is (name != "cost")
    assert bool(made.costs) is (name in COUNTED)
    assert {cell.variant for cell in made.cost_cells} == (
        {v.name for v in study.variants} if made.trials and made.costs else set()
    )
    assert study.reference in {variant.name for variant in study.variants}
    assert study.metric == {"cost": COST_PARAMETERS, "attention_profile": ATTENTION_GAP}.get(name, TEST_TOP1)


@pytest.mark.parametrize(("name", "preset"), EVERYWHERE)
def test_rows_can_be_told_apart(name: str, preset: str) -> None:
    variants = built(name, preset).variants
    assert len({(variant.cells or variant.title) for variant in variants}) == len(variants)


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_compares_different_rows_of_the_study(name: str) -> None:
    study = get_study(name, Request(get_preset("paper")).base())
    rows = {variant.name for variant in study.variants}
    assert bool(study.claims) is (name not in WITHOUT_CLAIMS)
    for claim in study.claims:
        assert claim.statement.endswith(".")
        assert len(set(claim.contrasts)) == len(claim.contrasts)
        for contrast in claim.contrasts:
            assert set(contrast.variants) <= rows
            assert not set(contrast.better) & set(contrast.worse)
            assert contrast.worse or study.metric == ATTENTION_GAP, "accuracy is not compared with zero"


@pytest.mark.parametrize(("name", "preset"), EVERYWHERE)
def test_every_claim_is_asked_at_every_preset(name: str, preset: str) -> None:
    study = built(name, preset)
    rows = {variant.name for variant in study.variants}

    def is_asked(contrast: Contrast) -> bool:
        return rows >= set(contrast.variants)

    unasked = {claim.name.rpartition(": ")[2] for claim in study.claims if not any(map(is_asked, claim.contrasts))}
    expected: set[str] = set()
    if name == "backbones":
        expected = NOT_ASKED.get(preset, set())
    elif name == "longer" and preset in ("smoke", "quick"):
        expected = _LONG
    assert unasked == expected


def test_the_claims_of_issue_3_are_there() -> None:
    claimed = {claim.name for name in NAMES for claim in built(name, "paper").claims}
    assert claimed >= {
        "attention is better than every other aggregation",
        "max is the worst",
        "more kernels than one help",
        "K from 4 to 8 adds less than K from 2 to 4",
        "annealing is at least as good as τ = 30",
        "τ = 1 is worse than τ = 30",
        "the deep half matters more than the shallow half",
        "every placement is better than static",
        "all three are best",
    }


CONTRASTS = [
    ("aggregation", "max is the worst", ("average",), ("max",), "better"),
    ("resolution", "the deep half matters more than the shallow half", ("deepest_2",), ("shallowest_2",), "better"),
    ("temperature", "τ = 1 is worse than τ = 30", ("tau_30",), ("tau_1",), "better"),
    ("temperature", "annealing is at least as good as τ = 30", ("annealed",), ("tau_30",), "at_least_as_good"),
    (
        "kernels",
        "K from 4 to 8 adds less than K from 2 to 4",
        ("depth_1.0_width_0.5_k4",),
        ("depth_1.0_width_0.5_k2", "depth_1.0_width_0.5_k8"),
        "better",
    ),
    ("placement", "all three are best", ("c1_c2_c3",), ("c1_c3",), "better"),
    ("condconv", "dynamic convolution beats CondConv", ("dynamic",), ("condconv",), "better"),
    (
        "methods",
        "dynamic convolution beats CondConv",
        ("width_0.5_dynamic",),
        ("width_0.5_condconv",),
        "better",
    ),
    ("annealing", "a long annealing beats a short one", ("full_60_in_60",), ("full_30_in_10",), "better"),
    ("annealing", "a short annealing is worse than none of it", ("full_static",), ("full_30_in_10",), "better"),
    ("sum_to_one", "softmax beats sigmoid", ("softmax",), ("sigmoid",), "better"),
    ("squeeze_excitation", "dynamic beats squeeze-and-excitation", ("dynamic",), ("squeeze_excitation",), "better"),
    ("backbones", "dynamic beats static: ResNet-18", ("resnet18_dynamic",), ("resnet18_static",), "better"),
    (
        "trained_aggregation",
        "training with a strategy makes up for some of it",
        ("trained_max",),
        ("evaluated_max",),
        "better",
    ),
    ("reduction", "the reduction hardly matters", ("ratio_4",), ("ratio_16",), "same"),
    ("deployment", "int8 keeps the accuracy", ("int8",), ("float32",), "at_least_as_good"),
    ("attention_profile", "attention is flatter at low levels (annealed)", ("annealed",), (), "better"),
    (
        "parts",
        "annealing does more than kernels and placement",
        ("annealing", "annealing+placement", "softmax+annealing", "softmax+annealing+placement"),
        ("kernels", "kernels+placement", "softmax+kernels", "softmax+kernels+placement"),
        "better",
    ),
    (
        "parts",
        "a sum of one helps",
        (
            "softmax",
            "softmax+placement",
            "softmax+kernels",
            "softmax+kernels+placement",
            "softmax+annealing",
            "softmax+annealing+placement",
            "softmax+annealing+kernels",
            "all",
        ),
        (
            "none",
            "placement",
            "kernels",
            "kernels+placement",
            "annealing",
            "annealing+placement",
            "annealing+kernels",
            "annealing+kernels+placement",
        ),
        "better",
    ),
]


@pytest.mark.parametrize(("name", "claim", "better", "worse", "kind"), CONTRASTS)
def test_claims_point_the_way_the_paper_does(
    name: str, claim: str, better: tuple[str, ...], worse: tuple[str, ...], kind: ContrastKind
) -> None:
    (found,) = (c for c in built(name, "paper").claims if c.name == claim)
    assert Contrast(better=better, worse=worse, kind=kind) in found.contrasts


def test_every_strategy_is_evaluated_and_trained_with() -> None:
    study = built("trained_aggregation", "paper")
    others = set(AGGREGATIONS) - {"attention"}
    assert {v.name for v in study.variants} == {
        "attention",
        *(f"{how}_{o}" for how in ("evaluated", "trained") for o in others),
    }
    assert {v.name for v in built("aggregation", "paper").variants} == set(AGGREGATIONS)


def test_every_network_has_a_static_and_a_dynamic_row() -> None:
    names = {variant.name for variant in built("backbones", "paper").variants}
    assert names == {f"{network}_{kind}" for network in NETWORKS for kind in ("static", "dynamic")}


@pytest.mark.parametrize(("preset", "stem"), [("smoke", (3, False)), ("small", (3, False)), ("paper", (7, True))])
def test_a_residual_network_has_the_stem_that_its_images_ask_for(
    preset: str, stem: tuple[int, bool], plan: Callable[..., Plan]
) -> None:
    models = [node.spec.model for node in plan("backbones", preset=preset).trials.values()]
    assert {(m.stem_kernel, m.stem_pool) for m in models if m.name.startswith("resnet")} == {stem}
    widths = {m.width for m in models if m.name.startswith("mobilenet_v3")}
    assert widths == {1.0 if preset == "paper" else 0.35}, "the published MobileNetV3 is ×1.0"


def test_the_published_grid_of_kernels_and_k_1_is_asked_at_the_scale_of_the_paper() -> None:
    study = built("kernels", "paper")
    assert len(study.variants) == 3 * 4 * 6
    assert len({variant.cells for variant in study.variants}) == 3 * 4 * 6
    assert study.reference == "depth_1.0_width_0.5_static"
    small = get_preset("quick").settings
    assert built("kernels", "quick").reference == f"depth_{small['model.depth']}_width_{small['model.width']}_static"


def test_kernels_asks_about_the_network_that_is_set(plan: Callable[..., Plan]) -> None:
    made = plan("kernels", overrides={"model.width": 0.5, "model.depth": 0.7}, seeds=1)
    assert {(node.spec.model.width, node.spec.model.depth) for node in made.trials.values()} == {(0.5, 0.7)}
    assert [cell.variant.rpartition("_")[2] for cell in made.cells] == ["static", "k2", "k4", "k8"]
    resnet = plan("kernels", overrides={"model.name": "resnet18"}, seeds=1)
    assert {node.spec.model.name for node in resnet.trials.values()} == {"resnet18"}


def test_placements_are_the_three_convolutions_of_a_bottleneck(plan: Callable[..., Plan]) -> None:
    made = plan("placement", preset="paper", seeds=1)
    roles = {}
    for cell in made.cells:
        where = made.node(cell.fingerprint).spec.model.where
        roles[cell.variant] = where.role if where else None
    assert roles == {
        "none": None,
        "c1": ("expansion",),
        "c2": ("depthwise",),
        "c3": ("projection",),
        "c1_c3": ("expansion", "projection"),
        "c2_c3": ("depthwise", "projection"),
        "c1_c2": ("expansion", "depthwise"),
        "c1_c2_c3": None,  # as the preset says it: every convolution of the blocks
    }


def test_condconv_has_eight_kernels_and_neither_temperature_nor_hidden_layer(plan: Callable[..., Plan]) -> None:
    made = plan("condconv", seeds=1)
    (node,) = (node for node in made.trials.values() if node.spec.model.layer == "condconv")
    model = node.spec.model
    assert (model.num_kernels, model.reduction, model.normalization, model.aggregation) == (8, None, None, None)
    assert node.spec.train.temperature is None


@pytest.mark.parametrize("preset", PRESETS)
def test_methods_are_asked_at_the_width_of_the_preset_and_at_both_of_the_paper(
    preset: str, plan: Callable[..., Plan]
) -> None:
    made = plan("methods", preset=preset, seeds=1)
    widths = {0.5, 1.0} if preset == "paper" else {0.35}
    assert {node.spec.model.width for node in made.trials.values()} == widths
    assert {node.spec.model.width for node in made.costs.values()} == widths
    cells = {(f"×{made.node(cell.fingerprint).spec.model.width:g}") for cell in made.cells}
    titles = {variant.cells[0] for variant in built("methods", preset).variants}
    assert {title.partition(";")[0] for title in titles} == cells
    # Nobody published numbers of ×0.35, so that the row says which published network stands beside it.
    assert titles == ({"×0.5", "×1"} if preset == "paper" else {"×0.35; published ×0.5"})


@pytest.mark.parametrize(("preset", "end"), [("smoke", 10.0), ("quick", 10.0), ("small", 10.0), ("paper", 1.0)])
def test_only_odconv_ends_at_another_temperature_where_it_would_diverge(
    preset: str, end: float, plan: Callable[..., Plan]
) -> None:
    ends: dict[str, set[float | None]] = {}
    for node in plan("methods", preset=preset, seeds=1).trials.values():
        temperature = node.spec.train.temperature
        if temperature is not None:
            assert (temperature.schedule, temperature.start) == ("linear", 30.0)
            ends.setdefault(node.spec.model.layer, set()).add(temperature.end)
    assert ends == {"dynamic": {1.0}, "partly_dynamic": {1.0}, "odconv": {end}}


def test_methods_of_a_width_that_nobody_published_stand_beside_half_width() -> None:
    keys = {width: built("methods", "quick", model__width=width).variants[0].published_key for width in (0.35, 0.75)}
    assert keys == {0.35: "mobilenet_v2_0.5_static", 0.75: "mobilenet_v2_0.75_static"}
    resnet = built("methods", "paper", model__name="resnet18")
    assert {variant.cells[0] for variant in resnet.variants} == {"×1"}, "a network without a width has no other one"


@pytest.mark.parametrize("preset", PRESETS)
def test_annealing_takes_the_published_shares_of_the_full_training(preset: str, plan: Callable[..., Plan]) -> None:
    """10, 20, 40 or 60 epochs in 300, in trainings of full and of half length."""
    made = plan("annealing", preset=preset, seeds=1)
    epochs = PRESETS[preset].settings["train.epochs"]
    for cell in made.cells:
        train = made.node(cell.fingerprint).spec.train
        training, _, row = cell.variant.partition("_")
        assert train.epochs == (epochs if training == "full" else epochs // 2)
        if row == "static":
            assert train.temperature is None
            continue
        start, _, share = row.partition("_in_")
        temperature = train.temperature
        assert temperature is not None
        assert (temperature.schedule, temperature.start, temperature.end) == ("linear", float(start), 1.0)
        assert temperature.epochs == pytest.approx(epochs * int(share) / 300)
    published = {(30, 10), (60, 20), (100, 40), (60, 60)}
    if preset in ("small", "paper"):
        assert {f"full_{start}_in_{length}" for start, length in published} <= {cell.variant for cell in made.cells}


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
def test_annealing_fits_trainings_of_any_length(epochs: int, plan: Callable[..., Plan]) -> None:
    made = plan("annealing", preset="small", overrides={"train.epochs": epochs, "train.warmup_epochs": 0.0}, seeds=1)
    trainings = {node.spec.train.epochs for node in made.trials.values()}
    assert trainings == {epochs, epochs // 2} - {0}


def test_a_row_changes_what_it_is_about_and_nothing_else() -> None:
    about = {
        "temperature": {
            "model.layer",
            "train.temperature.schedule",
            "train.temperature.start",
            "train.temperature.end",
        },
        "reduction": {"model.reduction"},
        "sum_to_one": {"model.normalization"},
        "squeeze_excitation": {"model.layer", "model.squeeze_excitation"},
        "trained_aggregation": {"model.aggregation"},
        "condconv": {"model.layer", "model.num_kernels"},
        "placement": {"model.layer", "model.where"},
        "parts": {"model.normalization", "model.num_kernels", "model.where"},
    }
    shared = {"train.temperature.schedule", "train.temperature.start", "train.temperature.end"}
    for name, keys in about.items():
        changed = {key for variant in built(name, "paper").variants for key in variant.changes}
        assert changed - shared == keys - shared
        assert changed <= set(DEFAULTS)


def test_each_family_has_its_own_recipe_at_the_papers_scale(plan: Callable[..., Plan]) -> None:
    made = plan("backbones", preset="paper")
    recipes = {}
    for node in made.trials.values():
        train = node.spec.train
        step = (train.step_epochs, train.step_factor) if train.schedule == "step" else None
        recipes[node.spec.model.name] = (train.epochs, train.learning_rate, train.weight_decay, train.schedule, step)
    resnet = (100, 0.1, 1e-4, "step", (30, 0.1))
    assert recipes == {
        "mobilenet_v2": (300, 0.05, 4e-5, "cosine", None),
        "mobilenet_v3_small": (300, 0.1, 3e-5, "cosine", None),
        "mobilenet_v3_large": (300, 0.1, 3e-5, "cosine", None),
        "resnet10": resnet,
        "resnet18": resnet,
        "resnet50": resnet,
    }
    elsewhere = {node.spec.train.learning_rate for node in plan("backbones", preset="small").trials.values()}
    assert len(elsewhere) == 1
