"""The appendix: every setting of every row can be found, and every run that a number comes from."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Plan
from ablations.study import Study, Variant
from reports import make_report
from reports.collect.results import Results
from reports.content.blocks import Paragraph, Table
from reports.content.formatting import set_rows
from reports.content.plan_words import short_titles
from reports.tables.appendix import (
    common_settings,
    flat_settings,
    provenance,
    provenance_table,
    shared_settings_table,
    varying_settings_table,
    versions_table,
)
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import AGGREGATION, TEMPERATURE, plan_of


def _rows(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in set_rows(table)]


def test_settings_of_most_trainings(plan: Plan) -> None:
    """Three trainings have τ = 20, three τ = 30, three none: the first of the most frequent that is a value."""
    shared = {row[0]: row[1] for row in _rows(shared_settings_table(plan, common_settings(plan)))}
    assert (shared["data.train_images"], shared["train.epochs"], shared["model.layer"]) == ("128", "2", "dynamic")
    assert shared["train.temperature.start"] == "30"
    assert "seed" not in shared


def test_what_differs_from_most_is_listed_with_who_has_it(plan: Plan) -> None:
    varying = _rows(varying_settings_table(TEMPERATURE, plan, common_settings(plan)))
    assert ["model.layer", "static", "static"] in varying
    assert ["", "dynamic", "τ = 20; τ = 30"] in varying
    assert ["train.temperature.start", "20", "τ = 20"] in varying
    inspected = _rows(varying_settings_table(AGGREGATION, plan, common_settings(plan)))
    assert inspected[:2] == [["train.temperature.start", "30", "network τ = 30"], ["", "20", "network τ = 20"]]
    assert ["", "average", "average"] in inspected


def test_a_study_that_is_not_like_the_others_says_so() -> None:
    few = {"data.train_images": 100}
    other = Study(name="few", title="Few", question="?", reference="a", baseline=few, variants=(Variant(name="a"),))
    plan = plan_of(TEMPERATURE, other)
    assert common_settings(plan)["data.train_images"] == "128"
    assert ["data.train_images", "100", "all"] in _rows(varying_settings_table(other, plan, common_settings(plan)))


def test_unset_data_means_all_of_it_and_is_listed() -> None:
    variants = (Variant(name="all"), Variant(name="few", changes={"data.train_images": 1000}))
    study = Study(name="few", title="Few", question="?", reference="all", variants=variants)
    plan = plan_of(study, preset="small")
    listed = _rows(varying_settings_table(study, plan, common_settings(plan)))
    assert ["data.train_images", "–", "all"] in listed
    assert ["", "1000", "few"] in listed


def test_every_setting_of_every_row_can_be_found() -> None:
    """What most trainings have, together with a study's own table, gives back the settings of each training."""
    plan = whole_plan("quick")
    common = common_settings(plan)
    for study in plan.studies:
        if study.networks or study.is_about_cost:
            continue
        listed = {row[0] for row in _rows(varying_settings_table(study, plan, common_settings(plan)))}
        for cell in plan.cells_of(study.name):
            node = plan.node(cell.fingerprint)
            spec = node.network.spec if isinstance(node, EvaluationNode) else node.spec
            differing = {key for key, value in flat_settings(spec).items() if common.get(key) != value}
            assert differing <= listed


def test_provenance_names_every_finished_run(plan: Plan, results: Results) -> None:
    table = provenance_table(plan, results)
    rows = _rows(table)
    assert [column.heading for column in table.columns] == ["fingerprint", "MLflow run", "seed", "seconds", "serves"]
    assert {row[1] for row in rows} == set(results.runs["run_id"])
    assert all(len(row[0]) == 12 for row in rows)
    assert "All are from commit 0123456." in table.caption
    assert _rows(versions_table(results))[0][:2] == ["python", "3.11.7"]


def test_runs_that_serve_the_same_stand_together(plan: Plan, results: Results) -> None:
    rows = _rows(provenance_table(plan, results))
    start = next(i for i, row in enumerate(rows) if row[4] == "aggregation: tau_30: attention; temperature: tau_30")
    assert [row[2] for row in rows[start : start + 3]] == ["0", "1", "2"]
    assert [row[4] for row in rows[start + 1 : start + 3]] == ["", ""]
    assert start in (0, *provenance_table(plan, results).rules)


def test_runs_of_several_commits_have_each_its_own(plan: Plan, results: Results) -> None:
    runs = results.runs.assign(commit=[f"{index % 2}" * 40 for index in range(len(results.runs))], dirty=True)
    table = provenance_table(plan, replace(results, runs=runs))
    assert {row[2] for row in _rows(table)} == {"0000000*", "1111111*"}
    assert "All are from" not in table.caption


def test_a_cost_study_alone_has_settings_and_runs() -> None:
    plan = whole_plan("smoke", "cost")
    assert common_settings(plan)["model.name"] == "mobilenet_v2"
    listed = _rows(varying_settings_table(plan.studies[0], plan, common_settings(plan)))
    assert ["", "resnet10", "ResNet-10 static; ResNet-10 dynamic, K = 4"] in listed
    assert not any(row[0].startswith(("train.", "data.")) for row in listed)
    assert len(provenance_table(plan, made_up_results(plan)).rows) == 16


def test_short_titles() -> None:
    def titles(*variants: Variant) -> list[str]:
        study = Study(name="s", title="S", question="?", reference=variants[0].name, variants=variants)
        return list(short_titles(study).values())

    def labelled(*labels: str) -> list[str]:
        return titles(*(Variant(name=str(index), label=label) for index, label in enumerate(labels)))

    assert labelled("depth 1 static", "depth 1 K=4") == ["static", "K=4"]
    assert labelled("τ = 1", "τ = 30") == ["τ = 1", "τ = 30"]
    assert labelled("C → C/1", "C → C/4") == ["C → C/1", "C → C/4"]
    assert labelled("static", "static SE") == ["static", "static SE"]
    assert labelled("only one") == ["only one"]


def test_many_runs_are_listed_in_a_file_instead_of_a_table(
    plan: Plan, results: Results, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = provenance(plan, results)
    assert isinstance(few, Table)
    for module in ("tables.appendix", "evidence.manifest"):
        monkeypatch.setattr(f"reports.{module}.MOST_RUNS", len(results.runs) - 1)
    many = provenance(plan, results)
    assert isinstance(many, Paragraph)
    assert f"{len(results.runs):,} runs" in many.text
    files = make_report(plan, "", ("html",), out, results=results)
    assert files["runs"] == out / "aggregation--temperature-smoke-3seeds-runs.csv"
    rows = list(csv.DictReader(files["runs"].read_text("utf-8").splitlines()))
    assert [row["run_id"] for row in rows] == list(results.runs["run_id"])
    assert rows[0]["serves"] == "aggregation: tau_30: attention; temperature: tau_30"
    assert 'id="runs.csv"' in files["html"].read_text()


def test_common_settings_weigh_each_training(plan: Plan) -> None:
    flats = [flat_settings(node.spec) for node in plan.trials.values()]
    common = common_settings(plan)
    for key, value in common.items():
        counts = [sum(flat.get(key) == other for flat in flats) for other in {flat.get(key) for flat in flats}]
        assert sum(flat.get(key) == value for flat in flats) == max(counts)
