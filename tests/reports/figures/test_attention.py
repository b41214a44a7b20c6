"""Attention profiles: from the tracked file to rows, means over seeds and figures; what is missing is said."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from reports.collect.attention import profile_rows
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.content.blocks import Paragraph
from reports.figures.attention import classes_data, classes_figure, profile_data, profile_figure
from reports.figures.drawing import draw
from tests.reports.everything import whole_plan
from tests.reports.made_up import Store, document_of


def _profile(deep: float, empty_class: float | None = 0.25) -> str:
    layers = [
        {"name": "a.0", "resolution": 14, "depth": 0.0, "entropy": 1.0, "entropy_sd": 0.0, "per_class": [1.0, 1.0]},
        {"name": "a.1", "resolution": 7, "depth": 1.0, "entropy": deep, "per_class": [deep, empty_class]},
    ]
    return json.dumps({"layers": layers, "classes": ["shirt", "coat"]})


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Three variants, two seeds."""
    return whole_plan("smoke", "attention_profile")


@pytest.fixture(scope="module")
def store(plan: Plan, make_store: Callable[[], Store], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """τ = 30 has both profiles, 30 → 1 has one that is no profile, τ = 1 has none."""
    made, client = make_store(), None
    for cell in plan.cells:
        run_id = made.add(plan, plan.node(cell.fingerprint), {names.ATTENTION_GAP: 0.1 * (1 + cell.seed)})
        client = client or MlflowClient(made.uri)
        text = {"tau_30": _profile(0.5 + 0.2 * cell.seed), "annealed": '{"layers": 3}'}.get(cell.variant)
        if text and not (cell.variant == "annealed" and cell.seed):
            file = tmp_path_factory.mktemp("file") / names.ATTENTION_FILE
            file.write_text(text)
            client.log_artifact(run_id, str(file))
    return made


@pytest.fixture(scope="module")
def results(plan: Plan, store: Store) -> Results:
    return collect(plan, store.uri)


def test_rows_of_a_profile() -> None:
    assert profile_rows(_profile(0.5)) == [
        ("a.0", 1, 14, 0.0, "", 1.0),
        ("a.0", 1, 14, 0.0, "shirt", 1.0),
        ("a.0", 1, 14, 0.0, "coat", 1.0),
        ("a.1", 2, 7, 1.0, "", 0.5),
        ("a.1", 2, 7, 1.0, "shirt", 0.5),
        ("a.1", 2, 7, 1.0, "coat", 0.25),
    ]
    assert math.isnan(profile_rows(_profile(0.5, None))[-1][-1])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layers": [{}], "classes": []}', _profile(0.5)[:-20], "null"])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no attention profile"):
        profile_rows(text)


def test_a_class_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="no attention profile"):
        profile_rows(_profile(0.5).replace('["shirt", "coat"]', '["shirt"]'))


def test_the_profile_is_mean_and_range_over_seeds(plan: Plan, results: Results) -> None:
    data = profile_data(plan.studies[0], plan, results)
    assert [tuple(row) for row in data.itertuples(index=False)] == [
        ("τ = 30", 1, 14, 1.0, 1.0, 1.0, 2),
        ("τ = 30", 2, 7, pytest.approx(0.6), 0.5, pytest.approx(0.7), 2),
    ]


def test_classes_keep_their_order(plan: Plan, results: Results) -> None:
    data = classes_data(plan.studies[0], plan, results)
    assert data["class"].tolist() == ["shirt", "coat", "shirt", "coat"]
    assert data["mean"].tolist() == pytest.approx([1.0, 1.0, 0.6, 0.25])


def test_an_unreadable_profile_is_a_warning(results: Results) -> None:
    assert len(results.warnings) == 1
    assert "attention.json of run" in results.warnings[0]
    assert "is left out" in results.warnings[0]


def test_other_studies_do_not_read_profiles(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.collect.attention._profile", lambda *_: pytest.fail("read"))
    found = collect(whole_plan("smoke", "temperature"), store.uri)
    assert found.attention.empty


def test_reading_draws_no_progress_bars(plan: Plan, store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    collect(plan, store.uri)
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


def test_figures_are_drawn(plan: Plan, results: Results) -> None:
    for make in (profile_figure, classes_figure):
        figure = make(plan.studies[0], plan, results)
        assert figure is not None
        assert draw(figure, "svg") == draw(figure, "svg")


def test_without_profiles_the_report_says_so(plan: Plan, results: Results, out: Path) -> None:
    without = Results(results.cells, results.curves, results.runs)
    document = document_of(plan, without)
    assert [figure.kind for figure in document.figures] == ["claims", "accuracy"]
    words = [block.text for block in document.sections[0].blocks if isinstance(block, Paragraph)]
    assert any("no run holds an attention profile" in text for text in words)
    kinds = [figure.kind for figure in document_of(plan, results).figures]
    assert kinds == ["claims", "accuracy", "profile", "classes"]
