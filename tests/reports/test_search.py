"""A search in the store → its report: the front and its repeats, importances, figures, every trial."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.errors import ReportError
from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation_plans import SearchPlan, make_search_plan
from ablations.planning.plan import Plan
from ablations.planning.request import Request
from ablations.planning.search import PARTS
from ablations.presets import PRESETS
from reports import make_search_report
from reports.analysis.search_results import front_of, still_in_front
from reports.collect.search import SearchResults, collect_search
from reports.content.blocks import Figure, Paragraph, Table
from reports.content.formatting import set_rows
from reports.document.search_report import build_search_document
from reports.figures.drawing import draw
from reports.tables.search import front_table, pareto_data
from tests.reports.made_up import Store

TRIALS = 30
COSTS = {"nowhere": 1e6, "expansion": 2e6, "depthwise": 3e6, "projection": 4e6, "first half": 5e6}


def search_plan(trials: int = TRIALS, repeats: int = 2) -> SearchPlan:
    return make_search_plan(PARTS, Request(PRESETS["smoke"]), trials, repeats)


def add(store: Store, plan: Plan, node: ProposedNode, values: dict[str, Any], top1: float | None, **more: Any) -> str:
    """Adds the run of a trial as runners write it."""
    cost = COSTS.get(values["placement"], 9e6)
    metrics = {names.COST_MULTIPLY_ADDS: cost, names.COST_PARAMETERS: 2e6, names.TUNING_EPOCHS: 2.0, names.SECONDS: 9.0}
    metrics |= {names.TUNING_TOP1: top1} if top1 is not None else {}
    outcome = {names.TAG_OUTCOME: "complete" if top1 is not None else "diverged"}
    tags = {names.TAG_GROUP: node.group, names.TAG_SLOT: str(node.slot), **outcome}
    run_id = store.add(plan, node, metrics, tags=tags, **more)
    from mlflow.tracking import MlflowClient

    for name, value in values.items():
        MlflowClient(store.uri).log_param(run_id, f"{names.PROPOSED_PREFIX}{name}", value)
    return run_id


def proposed(chance: random.Random) -> dict[str, Any]:
    return {name: chance.choice(factor.labels or ()) for name, factor in PARTS.factors.items()}


def accuracy(values: dict[str, Any]) -> float:
    return 50 + 3 * list(PARTS.factors["placement"].labels or ()).index(values["placement"])


@pytest.fixture(scope="module")
def searched(make_store: Callable[[], Store]) -> tuple[Store, SearchResults]:
    """A store in which the search has ended; the dearest of its front was lucky."""
    store, plan, chance = make_store(), search_plan(), random.Random(5)
    as_plan = plan.as_plan()
    for node in plan.nodes:
        values = proposed(chance)
        add(store, as_plan, node, values, None if node.slot == 3 else accuracy(values) + node.slot / 100)
    # A run of another search and one that failed are none of its trials.
    add(store, as_plan, search_plan(TRIALS + 1).nodes[-1], proposed(chance), 99.0)
    results = collect_search(plan, store.uri)
    for index, member in enumerate(front_of(results)):
        last = index + 1 == len(front_of(results))
        for node in plan.repeats_of(plan.nodes[member.slot], member.values):
            add(store, as_plan, node, dict(member.values), 20.0 if last else member.top1 - node.spec.seed // 1_000_000)
    return store, collect_search(plan, store.uri)


def rows(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in set_rows(table)]


def test_every_training_is_read_once_with_what_was_proposed(searched: tuple[Store, SearchResults]) -> None:
    _, results = searched
    first = results.trials[results.trials["repeat"] == 0]
    assert list(first["slot"]) == list(range(TRIALS))
    assert set(first["outcome"]) == {"complete", "diverged"}
    assert len(results.complete) == TRIALS - 1
    assert set(results.trials["model.num_kernels"]) <= {2, 4, 8}
    assert results.trials["model.num_kernels"].dtype.kind == "i"


def test_the_front_has_what_no_other_beats_with_its_repeats(searched: tuple[Store, SearchResults]) -> None:
    _, results = searched
    front = front_of(results)
    costs = [member.multiply_adds for member in front]
    assert costs == sorted(costs)
    assert [member.top1 for member in front] == sorted(member.top1 for member in front)
    assert all(len(member.repeats) == 2 for member in front)
    assert still_in_front(front) == [True] * (len(front) - 1) + [False]
    table = front_table(results, front)
    assert rows(table)[-1][-3:] == ["20.00", "–", "2"]
    assert set_rows(table)[-1][-3].marks == ("a",)
    assert len(table.notes) == 1


def test_the_figure_has_every_trial_and_intervals_of_the_front_alone(searched: tuple[Store, SearchResults]) -> None:
    _, results = searched
    front = front_of(results)
    data = pareto_data(results, front)
    assert len(data) == TRIALS - 1
    assert data["in_front"].sum() == len(front)
    assert data[~data["in_front"]]["mean"].isna().all()
    assert data[data["in_front"]]["mean"].notna().all()


def test_the_report_says_what_matters_and_draws_it(
    searched: tuple[Store, SearchResults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.analysis.importance.RESAMPLES", 5)
    store, results = searched
    document = build_search_document(search_plan(), results)
    (section,) = document.sections
    titles = [block.title for block in section.blocks if isinstance(block, Table | Figure)]
    assert titles == ["Pareto front", "Accuracy against cost", *["What decides about accuracy"] * 2]
    words = {block.lead: block.text for block in section.blocks if isinstance(block, Paragraph)}
    assert "placement" in words["What the table shows"].partition("Not told apart")[0]
    assert words["Missing"].startswith("29 of 30 trials")
    for figure in document.figures:
        assert draw(figure, "png").startswith(b"\x89PNG")
    files = make_search_report(search_plan(), store.uri, ["md", "tex"], tmp_path / "reports")
    text = files["md"].read_text()
    assert files["md"].name == "search-parts-smoke.md"
    assert text.count("diverged") >= 1
    before = {name: path.read_bytes() for name, path in files.items()}
    again = make_search_report(search_plan(), store.uri, ["md", "tex"], tmp_path / "reports")
    assert {name: path.read_bytes() for name, path in again.items()} == before


def test_a_search_that_was_not_run_is_told(searched: tuple[Store, SearchResults]) -> None:
    store, _ = searched
    other = make_search_plan(PARTS, Request(PRESETS["smoke"], {"train.epochs": 3}), 2, 0)
    with pytest.raises(ReportError, match=r"no finished trial of search 'parts'"):
        collect_search(other, store.uri)


def test_a_run_that_does_not_say_what_was_proposed_is_left_out(make_store: Callable[[], Store]) -> None:
    store, plan = make_store(), search_plan(2)
    values = proposed(random.Random(1))
    add(store, plan.as_plan(), plan.nodes[0], values, 60.0)
    add(store, plan.as_plan(), plan.nodes[1], {**values, "model.num_kernels": 3}, 61.0)
    assert list(collect_search(plan, store.uri).trials["slot"]) == [0]
