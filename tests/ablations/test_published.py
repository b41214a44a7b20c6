"""The published numbers: each as it was read, with its mark, and a row beside every row of ours."""

from __future__ import annotations

import re

import pytest

from ablations.errors import UnknownNameError
from ablations.planning.request import Request
from ablations.presets import PRESETS, get_preset
from ablations.published import CONFIDENCE_NOTES, get_published, published_tables
from ablations.registry import available_studies, get_study
from ablations.study import Study

Row = dict[str, tuple[float, str]]


def row(top1: float, top5: float | None = None, mark: str = "A") -> Row:
    return {"top1": (top1, mark), **({} if top5 is None else {"top5": (top5, mark)})}


# Copied from the facts of the project, not from the file under test.
EXPECTED: dict[str, dict[str, Row]] = {
    "aggregation": {
        "attention": row(69.4, 88.6),
        "average": row(36.0, 61.5),
        "max": row(0.1, mark="B"),
        "shuffle_per_image": row(14.8, mark="B"),
        "shuffle_across_images": row(27.3, mark="B"),
    },
    "resolution": {
        "deepest_1": row(57.3, 79.9),
        "deepest_2": row(67.0, 87.2),
        "deepest_3": row(67.5, 87.4),
        "deepest_4": row(69.1, 88.4),
        "all": row(69.4, 88.6),
        "shallowest_4": row(50.9, 76.2),
        "shallowest_3": row(42.5, 68.4),
        "shallowest_2": row(41.2, 67.0),
        "shallowest_1": row(37.9, 63.5),
        "none": row(36.0, 61.5),
    },
    "temperature": {
        "static": row(65.4),
        "tau_1": row(64.8),
        "tau_5": row(65.7, mark="B"),
        "tau_10": row(67.5, mark="B"),
        "tau_20": row(69.4, mark="B"),
        "tau_30": row(69.4),
        "tau_40": row(69.2, mark="B"),
        "annealed": row(69.9),
    },
    "temperature_last_layer": {"tau_1": row(65.9, mark="B")},
    "placement": {
        "none": row(65.4, 86.4),
        "c1": row(67.4, 87.5),
        "c2": row(67.4, 87.3),
        "c3": row(68.2, 87.9),
        "c1_c3": row(68.7, 88.0),
        "c2_c3": row(68.4, 87.9),
        "c1_c2": row(68.6, 88.0),
        "c1_c2_c3": row(69.4, 88.6),
    },
    "condconv": {
        "condconv_1.0": {"params": (27.5, "B"), "madds": (329.0, "B"), "top1": (74.6, "A")},
        "dynamic_1.0": {"params": (11.1, "A"), "madds": (312.9, "A"), "top1": (75.2, "A")},
        "condconv_0.5": {"params": (15.5, "B"), "top1": (68.4, "A")},
        "dynamic_0.5": {"params": (4.0, "A"), "madds": (101.4, "A"), "top1": (69.9, "A")},
    },
    "reimplementation": {
        "static": row(70.25, 89.38, "B"),
        "dynamic": {"params": (45.47, "B"), **row(72.76, 90.79, "B")},
        "condconv": {"params": (81.35, "B"), **row(71.99, 90.27, "B")},
        "squeeze_excitation": {"params": (11.78, "B"), **row(70.98, 90.03, "B")},
    },
}

# depth, width: static, K = 2, 4, 6, 8
KERNELS = """
1.0 0.35 60.3 63.1 64.9 64.8 65.3
1.0 0.5  65.4 67.9 69.2 69.3 69.1
1.0 0.75 69.8 72.2 72.8 72.7 72.6
1.0 1.0  72.0 74.0 74.4 74.5 74.4
0.7 0.35 57.9 61.1 62.7 63.0 63.0
0.7 0.5  62.6 65.6 67.1 67.3 67.3
0.7 0.75 67.9 70.5 71.0 71.3 71.3
0.7 1.0  70.5 72.0 72.7 72.7 72.8
0.5 0.35 52.6 57.0 58.5 58.9 59.6
0.5 0.5  57.9 60.8 62.6 63.0 63.4
0.5 0.75 63.7 66.7 67.5 67.7 68.2
0.5 1.0  66.7 69.0 69.6 69.8 70.0
"""

# model: static params, MAdds, top-1; dynamic params, MAdds, top-1 ("-" is not published)
BACKBONES = """
mobilenet_v2_1.0   3.5A 300A   72.0A 11.1A 312.9A 75.2A
mobilenet_v2_0.75  2.64A 209.1A 69.8C -     217.5C 73.7C
mobilenet_v2_0.5   2.0A 97A    65.4A 4.0B  101.4B 69.9A
mobilenet_v2_0.35  -    59C    60.3C -     62C    65.9C
mobilenet_v3_small 2.9A 66.0A  67.4A 4.8A  68.5A  70.3A
resnet10           -    -      63.5B -     -      67.7B
resnet18           11.1A 1810A 70.4A 42.7A 1850A  72.7A
"""


def kernels() -> dict[str, Row]:
    rows = {}
    for depth, width, *values in (line.split() for line in KERNELS.strip().splitlines()):
        for name, value in zip(("static", "k2", "k4", "k6", "k8"), values, strict=True):
            mark = "A" if name == "static" and depth == "1.0" else "C"
            rows[f"depth_{depth}_width_{width}_{name}"] = row(float(value), mark=mark)
    return rows


def backbones() -> dict[str, Row]:
    rows = {}
    for model, *values in (line.split() for line in BACKBONES.strip().splitlines()):
        for kind, cells in (("static", values[:3]), ("dynamic", values[3:])):
            named = zip(("params", "madds", "top1"), cells, strict=True)
            rows[f"{model}_{kind}"] = {name: (float(cell[:-1]), cell[-1]) for name, cell in named if cell != "-"}
    return rows


# The facts' table of later dynamic convolutions, as it is written there. Two networks have one static row of ODConv's
# authors and one of KernelWarehouse's (KW).
LATER = """
| MobileNetV2 ×1.0 (150 epochs) | 71.65 / 90.22 (KW: 72.04 / 90.42) | 74.74 / 91.95, 4.94M, 311.8M | 75.29 / 92.18, 11.51M, 327.1M | 72.59 / 90.71, 2.65M | 74.68 / 91.90, 5.17M | 75.92 / 92.22, 11.38M |
| MobileNetV2 ×0.75 | 69.18 / 88.82 | 72.71 / 90.85, 3.51M, 217.1M | 74.01 / 91.37, 7.50M, 226.3M | | | |
| MobileNetV2 ×0.5 | 64.30 / 85.21 (KW: 64.32 / 85.22) | 68.06 / 87.67, 2.43M, 101.8M | 70.23 / 88.86, 4.44M, 106.4M | 65.20 / 85.98, 1.47M | 68.29 / 87.93, 2.85M | 70.26 / 89.19, 4.65M |
| ResNet-18 (ODConv 100 epochs, KW 300) | 70.25 / 89.38 (KW: 70.44 / 89.72) | 73.05 / 91.05, 11.94M, 1.838G | 74.19 / 91.47, 44.90M, 1.916G | 73.33 / 91.42, 7.43M | 74.77 / 92.13, 11.93M | 76.05 / 92.68, 45.86M |
"""  # noqa: E501
LATER_KEYS = {
    "MobileNetV2 ×1.0": "mobilenet_v2_1.0",
    "MobileNetV2 ×0.75": "mobilenet_v2_0.75",
    "MobileNetV2 ×0.5": "mobilenet_v2_0.5",
    "ResNet-18": "resnet18",
}


def later() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for line in LATER.strip().splitlines():
        title, static, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        key = LATER_KEYS[title.partition(" (")[0]]
        numbers = [float(text) for text in re.findall(r"\d+\.\d+", static)]
        for source, pair in zip(("odconv", "kernel_warehouse"), (numbers[:2], numbers[2:]), strict=True):
            rows |= {f"{key}_static_{source}": row(*pair)} if pair else {}
        kinds = ("odconv_1", "odconv_4", "kernel_warehouse_0.5", "kernel_warehouse_1", "kernel_warehouse_4")
        for kind, cell in zip(kinds, cells, strict=True):
            accuracies, *sizes = (part.strip() for part in cell.split(","))
            if not accuracies:
                continue
            found = row(*(float(number) for number in accuracies.split(" / ")))
            for column, text in zip(("params", "madds"), sizes, strict=False):
                found[column] = (round(float(text[:-1]) * {"M": 1, "G": 1000}[text[-1]], 6), "A")
            rows[f"{key}_{kind}"] = found
    return rows


# "Paper / ODConv's authors / KernelWarehouse's authors", where "–" is none.
STATIC = {
    "mobilenet_v2_1.0": "72.0 / 71.65 / 72.04",
    "mobilenet_v2_0.75": "69.8 / 69.18 / –",
    "mobilenet_v2_0.5": "65.4 / 64.30 / 64.32",
    "resnet18": "70.4 / 70.25 / 70.44",
}


def static_reproductions() -> dict[str, Row]:
    rows = {}
    for network, text in STATIC.items():
        named = zip(("paper", "odconv", "kernel_warehouse"), text.split(" / "), strict=True)
        rows[network] = {name: (float(number), "A") for name, number in named if number != "–"}
    return rows


EXPECTED |= {
    "kernels": kernels(),
    "backbones": backbones(),
    "later_dynamic": later(),
    "static_reproductions": static_reproductions(),
    "tiny_imagenet": {
        "static": {"top1": (33.99, "A"), "train_loss": (1.95, "A")},
        "annealed_30_over_10": {"top1": (31.91, "B")},
        "annealed_60_over_20": {"top1": (33.53, "A"), "train_loss": (1.26, "A")},
        "annealed_100_over_40": {"top1": (33.55, "A"), "train_loss": (1.29, "A")},
        "annealed_60_over_60": {"top1": (34.25, "A"), "train_loss": (1.43, "A")},
    },
    "small_scale_gains": {
        "resnet10_tiny_imagenet": {"least": (1.1, "B"), "most": (1.9, "B")},
        "mobilenet_v3_imagenette": {"least": (0.2, "B"), "most": (0.9, "B")},
    },
    "efficientnet_condconv": {
        "b0_static": row(76.54, mark="B"),
        "b0_condconv_4": row(77.32, mark="B"),
        "b0_condconv_8": row(77.96, mark="B"),
        "b1_static": row(78.55, mark="B"),
        "b1_condconv_8": row(79.32, mark="B"),
    },
}


# Rows of `methods`, put together of other tables: the row, and the row that its source compares it with.
STATIC_ROWS = {width: f"backbones/mobilenet_v2_{width}_static" for width in ("1.0", "0.75", "0.5", "0.35")}
ODCONV_STATIC = {width: f"later_dynamic/mobilenet_v2_{width}_static_odconv" for width in ("1.0", "0.75", "0.5")}
SOURCES: dict[str, tuple[str, str]] = {}
for width, static in STATIC_ROWS.items():
    SOURCES[f"mobilenet_v2_{width}_static"] = (static, static)
    SOURCES[f"mobilenet_v2_{width}_dynamic"] = (f"backbones/mobilenet_v2_{width}_dynamic", static)
    if width in ("1.0", "0.5"):
        SOURCES[f"mobilenet_v2_{width}_condconv"] = (f"condconv/condconv_{width}", static)
    if width in ODCONV_STATIC:
        for kernels in (1, 4):
            source = f"later_dynamic/mobilenet_v2_{width}_odconv_{kernels}"
            SOURCES[f"mobilenet_v2_{width}_odconv_{kernels}"] = (source, ODCONV_STATIC[width])


def expected(source: str) -> Row:
    table, _, key = source.partition("/")
    return EXPECTED[table][key]


EXPECTED["methods"] = {key: expected(source) for key, (source, _) in SOURCES.items()}


def test_a_row_of_several_sources_is_compared_with_the_static_network_of_its_own() -> None:
    table = get_published("methods")
    found = {
        key: {column: (cell.value, cell.confidence) for column, cell in cells.items()}
        for key, cells in table.baselines.items()
    }
    assert found == {key: expected(baseline) for key, (_, baseline) in SOURCES.items()}


GAINS = {
    "mobilenet_v2_0.5_static": (0.0, "A"),
    "mobilenet_v2_0.5_dynamic": (4.5, "A"),
    "mobilenet_v2_0.5_condconv": (3.0, "A"),
    "mobilenet_v2_0.5_odconv_1": (3.76, "A"),
    "mobilenet_v2_0.5_odconv_4": (5.93, "A"),
    "mobilenet_v2_0.35_dynamic": (5.6, "C"),
}
"""By hand: 69.9 − 65.4, 68.4 − 65.4, 68.06 − 64.30, 70.23 − 64.30, 65.9 − 60.3."""


@pytest.mark.parametrize("key", GAINS)
def test_gains_by_hand(key: str) -> None:
    gain = get_published("methods").comparable(key, "top1")
    assert gain is not None
    assert (gain.value, gain.confidence) == GAINS[key]


def test_a_number_without_a_counterpart_has_no_gain_and_a_plain_table_has_none() -> None:
    methods = get_published("methods")
    assert methods.comparable("mobilenet_v2_0.5_odconv_1", "params") is None, "that static network has none"
    assert methods.comparable("nothing", "top1") is None
    plain = get_published("condconv").comparable("dynamic_0.5", "top1")
    assert plain is not None
    assert plain.value == 69.9


def test_there_is_no_other_table() -> None:
    assert set(published_tables()) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_number_and_mark_is_the_published_one(name: str) -> None:
    table = get_published(name)
    found = {
        key: {column: (cell.value, cell.confidence) for column, cell in cells.items()}
        for key, cells in table.rows.items()
    }
    assert found == EXPECTED[name]
    assert table.name == name
    assert table.title
    assert table.setting


def test_cells_that_were_not_published_are_none() -> None:
    table = get_published("aggregation")
    assert table.get("max", "top5") is None
    assert table.get("nothing", "top1") is None
    found = table.get("max", "top1")
    assert found is not None
    assert (found.value, found.confidence) == (0.1, "B")


def test_every_mark_is_explained() -> None:
    used = {
        cell.confidence
        for table in published_tables().values()
        for cells in table.rows.values()
        for cell in cells.values()
    }
    assert used == set(CONFIDENCE_NOTES)


def test_unknown_table_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'agregation'.*'aggregation'"):
        get_published("agregation")


def built(name: str, preset: str) -> Study:
    return get_study(name, Request(get_preset(preset)).base())


NO_TABLE = {
    "parts",
    "variance",
    "longer",
    "sum_to_one",
    "trained_aggregation",
    "reduction",
    "attention_profile",
    "deployment",
}
NOT_PUBLISHED = {
    "kernels": r"depth_.*_k1",
    "condconv": "static",
    "squeeze_excitation": "both",
    "methods": "width_.*_(squeeze_excitation|signed|dcd|partly_dynamic)",
    "annealing": "half_.*|full_30_in_(20|40|60)",
    "backbones": "(mobilenet_v3_large|resnet50)_.*",
    "cost": "condconv_.*",
}
"""Rows without a published one in the table of their study: pattern of their names, at preset paper."""
NOT_OURS = {
    "condconv": {"condconv_1.0", "dynamic_1.0"},
    "squeeze_excitation": {"condconv"},
    "methods": {key for key in SOURCES if "_0.75_" in key or "_0.35_" in key},
    "backbones": {f"mobilenet_v2_{width}_{kind}" for width in (1.0, 0.75, 0.35) for kind in ("static", "dynamic")},
}
"""Published rows of that table which no row of the study stands beside."""


@pytest.mark.parametrize("name", available_studies())
def test_every_row_at_the_scale_of_the_paper_stands_beside_its_published_row(name: str) -> None:
    study = built(name, "paper")
    assert (study.published is None) == (name in NO_TABLE)
    if study.published is None:
        return
    rows = set(get_published(study.published).rows)
    without = {variant.name for variant in study.variants if variant.published_key not in rows}
    named = re.compile(NOT_PUBLISHED.get(name, "(?!)"))
    assert without == {variant.name for variant in study.variants if named.fullmatch(variant.name)}
    assert rows - {variant.published_key for variant in study.variants} == NOT_OURS.get(name, set())


@pytest.mark.parametrize("name", available_studies())
def test_no_two_rows_stand_beside_one_published_row(name: str) -> None:
    for preset in PRESETS:
        keys = [variant.published_key for variant in built(name, preset).variants]
        assert len(set(keys)) == len(keys)


def test_the_rows_of_cost_that_its_table_lacks_are_in_the_one_about_condconv() -> None:
    rows = get_published("condconv").rows
    assert {v.published_key for v in built("cost", "paper").variants if v.name.startswith("condconv")} < set(rows)


# The network of preset quick itself is smaller than any published one.
@pytest.mark.parametrize("network", [{"model.width": 0.6, "model.depth": 0.5}, {}])
def test_the_network_of_another_preset_has_no_published_row_if_the_grid_has_none(network: dict[str, float]) -> None:
    quick = get_preset("quick")
    size = {**quick.settings, **network}
    study = get_study("kernels", Request(quick, dict(network)).base()).at("quick")
    own = f"depth_{size['model.depth']}_width_{size['model.width']}"
    assert [v.name for v in study.variants] == [f"{own}_{k}" for k in ("static", "k2", "k4", "k8")]
    assert not {v.published_key for v in study.variants} & set(get_published("kernels").rows)
    assert len(study.claims) == 3
    for claim in study.claims:
        for contrast in claim.contrasts:
            assert set(contrast.variants) <= {v.name for v in study.variants}


def test_rows_per_resolution_mean_the_same_as_the_published_ones() -> None:
    study = built("resolution", "paper")
    assert study.columns == ("112²", "56²", "28²", "14²", "7²")
    assert [(variant.published_key, "".join(variant.cells)) for variant in study.variants] == [
        ("deepest_1", "––––✓"),
        ("deepest_2", "–––✓✓"),
        ("deepest_3", "––✓✓✓"),
        ("deepest_4", "–✓✓✓✓"),
        ("all", "✓✓✓✓✓"),
        ("shallowest_4", "✓✓✓✓–"),
        ("shallowest_3", "✓✓✓––"),
        ("shallowest_2", "✓✓–––"),
        ("shallowest_1", "✓––––"),
        ("none", "–––––"),
    ]


def test_attention_is_averaged_exactly_where_a_row_says_so() -> None:
    for variant in built("resolution", "paper").variants:
        off = tuple(size for size, cell in zip((112, 56, 28, 14, 7), variant.cells, strict=True) if cell == "–")
        if not off:
            assert variant.intervention is None
            continue
        assert variant.intervention is not None
        assert variant.intervention.aggregation == "average"
        where = variant.intervention.where
        assert (where.resolution if where else (112, 56, 28, 14, 7)) == off


def test_partial_rows_of_a_network_with_fewer_resolutions_stand_beside_nothing() -> None:
    import ablations.spec.names as names
    from ablations.studies import resolution

    small = resolution._rows((8, 4, 2))
    rows = get_published("resolution").rows
    assert [variant.name for variant in small if variant.published_key in rows] == ["all", "none"]
    assert names.input_resolutions("mobilenet_v2", {"stem_stride": 2}, 2) == (1,)


def test_no_published_number_hides_in_a_finding() -> None:
    for name in available_studies():
        assert not re.search(r"\d\d\.\d", built(name, "quick").finding or "")
