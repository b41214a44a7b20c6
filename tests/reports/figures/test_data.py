"""The data behind the figures, and that drawing them is reproducible and takes names literally."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest

from ablations.planning.plan import Plan
from reports.analysis.summary import summarize_study
from reports.collect.results import Results
from reports.content.blocks import Figure
from reports.figures.data import (
    accuracy_data,
    accuracy_figure,
    curves_data,
    curves_figure,
    entropy_data,
    entropy_figure,
    training_data,
)
from reports.figures.drawing import ImageFormat, draw
from tests.reports.made_up import AGGREGATION, TEMPERATURE


@pytest.fixture
def accuracy(plan: Plan, results: Results) -> Figure:
    figure = accuracy_figure(AGGREGATION, plan, summarize_study(AGGREGATION, plan, results))
    assert figure is not None
    return figure


def test_accuracy_has_a_row_per_finished_repeat(plan: Plan, results: Results) -> None:
    data = accuracy_data(TEMPERATURE, summarize_study(TEMPERATURE, plan, results))
    assert list(zip(data["variant"], data["seed"], data["value"], strict=True)) == [
        *(("static", seed, value) for seed, value in enumerate((80.0, 81.0, 85.0))),
        ("τ = 20", 0, 83.0),
        ("τ = 20", 2, 87.0),
        *(("τ = 30", seed, value) for seed, value in enumerate((82.0, 84.0, 86.0))),
    ]


def test_accuracy_of_an_incomplete_variant_has_no_mean(plan: Plan, results: Results) -> None:
    data = accuracy_data(TEMPERATURE, summarize_study(TEMPERATURE, plan, results))
    assert data[data["variant"] == "τ = 20"]["mean"].isna().all()
    complete = data[data["variant"] == "τ = 30"]
    assert complete["mean"].unique().tolist() == [84.0]
    assert complete["high"].iloc[0] == pytest.approx(84 + 4.30265 * 2 / math.sqrt(3), abs=1e-4)


def test_curves_are_mean_and_range_over_seeds(plan: Plan, results: Results) -> None:
    data = curves_data(TEMPERATURE, plan, results)
    row = data[(data["variant"] == "τ = 30") & (data["step"] == 2)].iloc[0]
    assert (row["mean"], row["low"], row["high"], row["n"]) == (62.0, 60.0, 64.0, 3)
    assert data[data["variant"] == "τ = 20"]["n"].unique().tolist() == [2]
    assert list(dict.fromkeys(data["variant"])) == ["static", "τ = 20", "τ = 30"]


def test_a_training_is_its_loss_and_its_validation_error(plan: Plan, results: Results) -> None:
    """Losses are 2 and 1 in the two epochs of each seed; the error is what the accuracy leaves of 100."""
    data = training_data(TEMPERATURE, plan, results)
    last = data[(data["variant"] == "τ = 30") & (data["step"] == 2)].set_index("measure")
    assert last.loc["training loss", ["mean", "low", "high"]].tolist() == [1.0, 1.0, 1.0]
    assert last.loc["validation error (%)", ["mean", "low", "high"]].tolist() == [38.0, 36.0, 40.0]
    without_loss = replace(results, curves=results.curves[results.curves["metric"] != "train/loss"])
    assert set(training_data(TEMPERATURE, plan, without_loss)["measure"]) == {"validation error (%)"}


def test_a_training_is_its_errors_where_each_has_both(plan: Plan, results: Results) -> None:
    losses = results.curves[results.curves["metric"] == "train/loss"]
    # Accuracies of 48 and 49 per cent in the two epochs.
    accuracies = losses.assign(metric="train/top1", value=50 - losses["value"])
    both = replace(results, curves=pd.concat([results.curves, accuracies]))
    data = training_data(TEMPERATURE, plan, both)
    assert set(data["measure"]) == {"training error (%)", "validation error (%)"}
    last = data[(data["variant"] == "τ = 30") & (data["step"] == 2)].set_index("measure")
    assert last.loc["training error (%)", ["mean", "low", "high"]].tolist() == [51.0, 51.0, 51.0]
    # Trainings of two versions, of which one tracked no accuracy.
    some = replace(results, curves=pd.concat([results.curves, accuracies[accuracies["step"] == 1]]))
    assert "training loss" in set(training_data(TEMPERATURE, plan, some)["measure"])


def test_a_figure_of_half_the_width_is_drawn_so(plan: Plan, results: Results) -> None:
    figure = curves_figure(TEMPERATURE, plan, results)
    assert figure is not None
    assert figure.half
    widths = [
        float(re.findall(r'width="([0-9.]+)pt"', draw(f, "svg").decode())[0])
        for f in (figure, replace(figure, half=False))
    ]
    assert widths[0] < widths[1] / 2
    named = [
        variant.model_copy(update={"label": f"{n}{' long' * 12}"}) for n, variant in enumerate(TEMPERATURE.variants)
    ]
    long = curves_figure(TEMPERATURE.model_copy(update={"variants": tuple(named)}), plan, results)
    assert long is not None
    assert not long.half


def test_curves_only_for_studies_that_train(plan: Plan, results: Results) -> None:
    assert curves_data(AGGREGATION, plan, results).empty
    assert curves_figure(AGGREGATION, plan, results) is None


def test_entropy_per_layer_in_the_order_of_the_network(plan: Plan, results: Results) -> None:
    data = entropy_data(TEMPERATURE, plan, results)
    assert set(data["network"]) == {"τ = 20", "τ = 30"}
    assert data.drop_duplicates("layer")["layer"].tolist() == ["features.2.conv.0", "features.10.conv.0"]
    last = data[(data["network"] == "τ = 30") & (data["step"] == 2)]
    assert last["mean"].tolist() == pytest.approx([0.9, 0.8])
    assert last["depth"].tolist() == [1, 2]


def _figures(plan: Plan, results: Results) -> list[Figure | None]:
    summary = summarize_study(TEMPERATURE, plan, results)
    return [
        accuracy_figure(TEMPERATURE, plan, summary),
        curves_figure(TEMPERATURE, plan, results),
        entropy_figure(TEMPERATURE, plan, results),
    ]


def test_a_figure_without_data_is_left_out(plan: Plan, results: Results) -> None:
    empty = Results(results.cells.assign(status="missing"), results.curves.iloc[:0], results.runs)
    assert _figures(plan, empty) == [None, None, None]


@pytest.mark.parametrize("image_format", ["svg", "png", "pdf"])
def test_the_same_data_give_the_same_bytes(plan: Plan, results: Results, image_format: ImageFormat) -> None:
    for figure in _figures(plan, results):
        assert figure is not None
        first = draw(figure, image_format)
        assert first == draw(replace(figure), image_format), "painted anew"
        other: ImageFormat = "png" if image_format == "svg" else "svg"
        anew = replace(figure)
        draw(anew, other)
        assert first == draw(anew, image_format), "after another format"
        assert first[:4] in (b"<?xm", b"\x89PNG", b"%PDF")


@pytest.mark.parametrize("name", ["$x^2$", "a --> <script>", "$", "\\frac{", "🚀 漢字", "%s {0}", "x" * 200])
def test_names_are_text(accuracy: Figure, name: str) -> None:
    data = accuracy.data.replace("max", name)
    svg = draw(replace(accuracy, data=data), "svg")
    ET.fromstring(svg)
    assert svg != draw(accuracy, "svg")


def test_one_seed_is_drawn(accuracy: Figure) -> None:
    data = accuracy.data[accuracy.data["seed"] == 0].assign(low=math.nan, high=math.nan)
    assert draw(replace(accuracy, data=pd.DataFrame(data)), "svg")


def test_drawing_leaves_global_settings_alone(accuracy: Figure) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(accuracy, "svg")
    assert dict(mpl.rcParams) == before
