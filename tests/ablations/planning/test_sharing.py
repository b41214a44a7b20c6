"""What the studies share: a network that two tables need is trained once. Counted by hand for every preset."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Plan
from ablations.presets import PRESETS, get_preset
from ablations.registry import available_studies

Planner = Callable[..., Plan]

# Trainings that a study needs beyond those of the studies before it, by preset. Static, annealed and τ = 1 networks
# are *temperature*'s; *kernels* shares static and K = 4, *placement* static and all three, and so on.
NEW_TRAININGS = {
    "temperature": {"smoke": 8, "quick": 6, "evening": 6, "small": 8, "paper": 8},
    "aggregation": {"smoke": 0, "quick": 0, "evening": 0, "small": 0, "paper": 0},
    "resolution": {"smoke": 0, "quick": 0, "evening": 0, "small": 0, "paper": 0},
    "attention_profile": {"smoke": 0, "quick": 0, "evening": 0, "small": 0, "paper": 0},
    "deployment": {"smoke": 0, "quick": 0, "evening": 0, "small": 0, "paper": 0},
    # K = 2, 8; small also 1 and 6; paper 12 networks of 6 rows, of which two rows are shared
    "kernels": {"smoke": 2, "quick": 2, "evening": 2, "small": 4, "paper": 12 * 6 - 2},
    "placement": {"smoke": 3, "quick": 3, "evening": 3, "small": 6, "paper": 6},
    # sixteen combinations; all of them, τ = 1, K = 2 and the projections alone are shared
    "parts": {"smoke": 12, "quick": 12, "evening": 12, "small": 12, "paper": 12},
    "condconv": {"smoke": 1, "quick": 1, "evening": 1, "small": 1, "paper": 1},
    # ODConv twice, DCD, signed weights, partly dynamic; at the paper's scale also these, CondConv and
    # squeeze-and-excitation of ×1.0
    "methods": {"smoke": 5, "quick": 5, "evening": 5, "small": 5, "paper": 12},
    # All but the static one; at the paper's scale also all but the annealing of ten epochs.
    "annealing": {"smoke": 6, "quick": 6, "evening": 2, "small": 12, "paper": 11},
    # Trainings that are longer, of which there are fewer at the small presets.
    "longer": {"smoke": 2, "quick": 2, "evening": 6, "small": 6, "paper": 6},
    "sum_to_one": {"smoke": 2, "quick": 2, "evening": 2, "small": 2, "paper": 2},
    "squeeze_excitation": {"smoke": 2, "quick": 2, "evening": 2, "small": 2, "paper": 2},
    "trained_aggregation": {"smoke": 4, "quick": 2, "evening": 2, "small": 4, "paper": 4},
    "reduction": {"smoke": 4, "quick": 2, "evening": 2, "small": 4, "paper": 4},
    # three networks, one (quick) or six, two rows each; MobileNetV2's are shared
    "backbones": {"smoke": 4, "quick": 0, "evening": 0, "small": 10, "paper": 10},
    "cost": {"smoke": 0, "quick": 0, "evening": 0, "small": 0, "paper": 0},
    # None is shared: each row fixes or draws anew what the other studies leave to the seed and the data set.
    "variance": {"smoke": 4, "quick": 4, "evening": 4, "small": 4, "paper": 4},
}
ROWS = {
    "temperature": {"smoke": 8, "quick": 6, "evening": 6, "small": 8, "paper": 8},
    "aggregation": {"smoke": 10, "quick": 10, "evening": 10, "small": 10, "paper": 10},
    "resolution": {"smoke": 20, "quick": 20, "evening": 20, "small": 20, "paper": 20},
    "attention_profile": {"smoke": 3, "quick": 3, "evening": 3, "small": 3, "paper": 3},
    "deployment": {"smoke": 6, "quick": 6, "evening": 6, "small": 6, "paper": 6},
    "kernels": {"smoke": 4, "quick": 4, "evening": 4, "small": 6, "paper": 72},
    "placement": {"smoke": 5, "quick": 5, "evening": 5, "small": 8, "paper": 8},
    "parts": {"smoke": 16, "quick": 16, "evening": 16, "small": 16, "paper": 16},
    "condconv": {"smoke": 3, "quick": 3, "evening": 3, "small": 3, "paper": 3},
    "methods": {"smoke": 9, "quick": 9, "evening": 9, "small": 9, "paper": 18},
    "annealing": {"smoke": 7, "quick": 7, "evening": 4, "small": 13, "paper": 13},
    "longer": {"smoke": 4, "quick": 4, "evening": 8, "small": 8, "paper": 8},
    "sum_to_one": {"smoke": 4, "quick": 4, "evening": 4, "small": 4, "paper": 4},
    "squeeze_excitation": {"smoke": 4, "quick": 4, "evening": 4, "small": 4, "paper": 4},
    "trained_aggregation": {"smoke": 9, "quick": 5, "evening": 5, "small": 9, "paper": 9},
    "reduction": {"smoke": 5, "quick": 3, "evening": 3, "small": 5, "paper": 5},
    "backbones": {"smoke": 6, "quick": 2, "evening": 2, "small": 12, "paper": 12},
    "variance": {"smoke": 4, "quick": 4, "evening": 4, "small": 4, "paper": 4},
}
# Networks that are counted. *cost* has 16, eleven of which the others count too at the paper's scale: its eight
# MobileNetV2 and the static ones of three backbones. Of one MobileNetV2 there are the nine methods and K = 2 and 8,
# at small also 1 and 6; *kernels* has 72 at the paper's scale, *methods* seven of each width that are none of these.
COUNTED = {
    "smoke": 16 + 11 + 4,
    "quick": 16 + 11,
    "evening": 16 + 11,
    "small": 16 + 13 + 10,
    "paper": 16 - 11 + 72 + 14 + 10,
}
FULL_SEEDS = {"smoke": 2, "quick": 3, "evening": 9, "small": 5, "paper": 3}
INSPECTED = {"aggregation", "resolution"}
"""Studies that only evaluate: at quick they have nine seeds, because their networks are two."""
# A variance takes more repeats than a mean.
NINE = (*INSPECTED, "variance")
SEEDS_AT_QUICK = {**dict.fromkeys(NINE, 9), "temperature": 5, "deployment": 5, "attention_profile": 3, "parts": 3}

FEWER_AT_EVENING = {"methods": 6, "longer": 6, "squeeze_excitation": 5, "trained_aggregation": 5, "reduction": 5}


def seeds_of(study: str, preset: str) -> int:
    if preset == "evening":
        return FEWER_AT_EVENING.get(study, 9)
    if preset == "quick":
        return SEEDS_AT_QUICK.get(study, 2)
    return 1 if (study, preset) == ("backbones", "smoke") else FULL_SEEDS[preset]


def trainings(preset: str) -> int:
    """Count the trainings of all studies by hand."""
    new = sum(new[preset] * seeds_of(name, preset) for name, new in NEW_TRAININGS.items())
    # *temperature* has both inspected networks, but at quick not with all of their seeds. *kernels* and *placement*
    # have a row each of *parts*, with fewer seeds.
    further = 2 * (seeds_of("aggregation", preset) - seeds_of("temperature", preset))
    # Squeeze-and-excitation is a row of *methods* too.
    further += max(0, seeds_of("methods", preset) - seeds_of("squeeze_excitation", preset))
    return new + further + 2 * (seeds_of("parts", preset) - seeds_of("kernels", preset))


@pytest.mark.parametrize("preset", PRESETS)
def test_trainings_and_what_they_would_be_without_sharing(preset: str, plan: Planner) -> None:
    made = plan(*available_studies(), preset=preset)
    assert len(made.trials) == trainings(preset)
    assert made.trainings_without_sharing == sum(rows[preset] * seeds_of(name, preset) for name, rows in ROWS.items())
    # Two inspected networks: four other aggregations, eight partial rows of *resolution*; "none" is "average". Two
    # networks that are deployed in bfloat16 and int8.
    inspected = 2 * (4 + 8) * seeds_of("aggregation", preset)
    assert len(made.evaluations) == inspected + 2 * 2 * seeds_of("deployment", preset)
    assert len(made.costs) == COUNTED[preset]


def test_the_numbers_that_are_told() -> None:
    quick = {
        "needed": trainings("quick"),
        "without sharing": sum(rows["quick"] * seeds_of(name, "quick") for name, rows in ROWS.items()),
    }
    # Needed: six networks with five seeds, twelve with three, 27 with two, four more seeds of two networks, one more of
    # two others, and the four of variance with nine. Rows: temperature and deployment with five seeds, parts and
    # attention profile with three, aggregation, resolution and variance with nine, the 50 others with two.
    rows = (6 + 6) * 5 + (16 + 3) * 3 + (10 + 20 + 4) * 9 + 50 * 2
    assert quick == {"needed": 6 * 5 + 12 * 3 + 27 * 2 + 2 * 4 + 2 + 4 * 9, "without sharing": rows}


SMALL_NETWORK = get_preset("quick").settings
KERNELS = f"depth_{SMALL_NETWORK['model.depth']}_width_{SMALL_NETWORK['model.width']}"
SAME = [
    ("kernels", f"{KERNELS}_static", "temperature", "static"),
    ("kernels", f"{KERNELS}_k4", "temperature", "annealed"),
    ("placement", "none", "temperature", "static"),
    ("placement", "c1_c2_c3", "temperature", "annealed"),
    ("parts", "all", "temperature", "annealed"),
    ("parts", "softmax+kernels+placement", "temperature", "tau_1"),
    ("parts", "softmax+annealing+placement", "kernels", f"{KERNELS}_k2"),
    ("parts", "softmax+annealing+kernels", "placement", "c3"),
    ("condconv", "static", "temperature", "static"),
    ("condconv", "dynamic", "temperature", "annealed"),
    ("methods", "width_0.35_static", "temperature", "static"),
    ("methods", "width_0.35_dynamic", "temperature", "annealed"),
    ("methods", "width_0.35_condconv", "condconv", "condconv"),
    ("methods", "width_0.35_squeeze_excitation", "squeeze_excitation", "squeeze_excitation"),
    ("annealing", "full_static", "temperature", "static"),
    ("sum_to_one", "softmax", "temperature", "annealed"),
    ("sum_to_one", "softmax_tau_1", "temperature", "tau_1"),
    ("squeeze_excitation", "static", "temperature", "static"),
    ("squeeze_excitation", "dynamic", "temperature", "annealed"),
    ("reduction", "ratio_4", "temperature", "annealed"),
    ("attention_profile", "tau_30", "temperature", "tau_30"),
    ("attention_profile", "annealed", "temperature", "annealed"),
    ("attention_profile", "tau_1", "temperature", "tau_1"),
    ("trained_aggregation", "attention", "temperature", "tau_1"),
    ("trained_aggregation", "evaluated_average", "aggregation", "tau_1: average"),
    ("trained_aggregation", "evaluated_shuffle_per_image", "aggregation", "tau_1: shuffle_per_image"),
    ("aggregation", "annealed: attention", "temperature", "annealed"),
    ("resolution", "tau_1: all", "temperature", "tau_1"),
    ("resolution", "annealed: none", "aggregation", "annealed: average"),
]


@pytest.fixture(scope="module")
def whole() -> Plan:
    from ablations.planning.plan import make_plan
    from ablations.planning.request import Request
    from ablations.registry import get_study

    request = Request(get_preset("quick"))
    return make_plan([get_study(name, request.base()) for name in available_studies()], request)


def nodes(plan: Plan, study: str, key: str) -> dict[int, str]:
    return {cell.seed: cell.fingerprint for cell in plan.cells_of(study) if cell.key == key}


@pytest.mark.parametrize(("study", "row", "other", "same"), SAME)
def test_rows_that_are_the_same_node(whole: Plan, study: str, row: str, other: str, same: str) -> None:
    here, there = nodes(whole, study, row), nodes(whole, other, same)
    seeds = seeds_of(study, "quick"), seeds_of(other, "quick")
    assert (len(here), len(there)) == seeds
    for seed in range(min(seeds)):
        assert here[seed] == there[seed]


def test_what_is_trained_with_another_strategy_is_a_training_of_its_own(whole: Plan) -> None:
    for strategy in ("average", "shuffle_per_image"):
        trained = nodes(whole, "trained_aggregation", f"trained_{strategy}")
        assert all(
            whole.studies_of(key) == {"trained_aggregation": [f"trained_{strategy}"]} for key in trained.values()
        )
        assert all(whole.trials[key].spec.model.aggregation == strategy for key in trained.values())


def test_every_node_serves_a_row(whole: Plan) -> None:
    served = {cell.fingerprint for cell in whole.all_cells}
    assert served | {node.network.fingerprint for node in whole.evaluations.values()} == {
        n.fingerprint for n in whole.nodes
    }


def test_every_training_of_the_preset_has_a_title_of_its_own(whole: Plan) -> None:
    # *backbones* trains the same networks on fewer images at this preset, under the same titles.
    usual = get_preset("quick").settings.get("data.train_images")
    # A title has the temperature and not the length of its annealing or of the training, which these vary.
    shared = {cell.fingerprint for cell in whole.cells if cell.study not in ("annealing", "longer")}
    own = [node for key, node in whole.trials.items() if key in shared and node.spec.data.train_images == usual]
    assert len({node.title for node in own}) == len(own) > 50


def test_evaluations_inspect_networks_that_are_trained_anyway(whole: Plan) -> None:
    temperature = {cell.fingerprint for cell in whole.cells_of("temperature")}
    evaluations = [node for node in whole.nodes if isinstance(node, EvaluationNode)]
    common = range(seeds_of("temperature", "quick"))
    assert {node.network.fingerprint for node in evaluations if node.network.spec.seed in common} < temperature
    # Further seeds are trained for the evaluations, of the same two networks.
    further = {node.network.fingerprint for node in evaluations if node.network.spec.seed not in common}
    assert len(further) == 2 * (9 - 5)
    assert not further & temperature


@pytest.mark.parametrize("study", sorted(INSPECTED))
def test_networks_that_are_inspected_have_at_least_nine_seeds_at_quick(whole: Plan, study: str) -> None:
    # Seven comparisons of a table can have a star with nine seeds, and hardly with three.
    cells = whole.cells_of(study)
    assert len(cells) == ROWS[study]["quick"] * 9
    assert {cell.seed for cell in cells} >= set(range(9))
