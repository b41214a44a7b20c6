"""The report on networks that were trained elsewhere: whose they are, and what their intervals cover."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ablations.files.study_file import load_study
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import find_studies
from reports.analysis.claims import judge_study
from reports.analysis.summary import summarize
from reports.collect.results import Results
from reports.content.blocks import Document
from reports.document.study_report import build_document
from reports.evidence.contents import contents
from reports.evidence.manifest import manifest
from reports.tables.p_values import comparisons_table
from tests.reports.everything import made_up_results

MIXED = """\
name: mine
question: Does it need its kernels?
reference: attention
networks:
  tau_1: {train.temperature.start: 1}
  theirs: {checkpoint: theirs.pth}
variants:
  attention: {}
  average: {intervention: {aggregation: average}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint from elsewhere."""
    path = tmp_path / "theirs.pth"
    path.write_bytes(b"PK weights")
    return path


def planned(file: Path, *studies: str) -> Plan:
    # At preset quick, so that nothing is said about numbers that mean nothing.
    request = Request(PRESETS["quick"], {"inspect": [str(file)]})
    return make_plan(find_studies(studies, False, request), request)


def reported(plan: Plan, results: Results) -> tuple[Document, str]:
    document = build_document(plan, results, summarize(plan, results))
    return document, str(contents(document))


def test_the_file_and_its_digest_are_named(file: Path) -> None:
    plan = planned(file, "aggregation")
    (network,) = plan.networks.values()
    _, text = reported(plan, made_up_results(plan))
    assert f"from theirs.pth (SHA-256 {network.file.sha256}), trained elsewhere" in text
    assert f"theirs.pth, SHA-256 {network.file.sha256}" in text


def test_the_uncertainty_is_said_to_be_that_of_the_images(file: Path) -> None:
    plan = planned(file, "aggregation", "resolution", "attention_profile", "cost")
    document, text = reported(plan, made_up_results(plan))
    assert "one network, no spread between trainings" in text
    assert "with its 95 % interval over test images." in text
    assert "a verdict is about this network" in text
    assert "nothing of how another training would have come out" in text
    for words in ("seeds say almost nothing", "paired difference by seed", " epochs,", "Tuning"):
        assert words not in text.replace(PRESETS["quick"].summary, ""), words
    assert "over seeds" not in str(contents(document)["tables"])


def test_verdicts_and_stars_rest_on_the_images(file: Path) -> None:
    plan = planned(file, "aggregation")
    results = made_up_results(plan)
    (summary,) = summarize(plan, results)
    rows = {row.variant: row for row in summary.variants}
    assert all(row.trained_elsewhere and row.expected == 1 for row in rows.values())
    deltas = [row.delta for row in rows.values() if row.delta is not None]
    assert len(deltas) == 4
    assert all(delta.images_alone and delta.df == 499 for delta in deltas)
    judged = judge_study(plan.studies[0], summary, plan)
    # Attention of a made-up evaluation is up to thirty points better; 500 images show that.
    assert {claim.verdict for claim in judged} - {"undecided"}
    assert not any(claim.seeds.needed for claim in judged)
    table = comparisons_table([(plan.studies[0], summary)])
    assert table is not None
    assert len(table.rows) == 4


def test_a_network_that_guesses_is_told(file: Path) -> None:
    plan = planned(file, "aggregation")
    (key,) = plan.networks
    results = replace(made_up_results(plan), unlearned={key: "its test accuracy is 10 %, guessing has 10 %"})
    _, text = reported(plan, results)
    assert "theirs.pth guesses as it was loaded (its test accuracy is 10 %, guessing has 10 %)" in text


def test_the_manifest_names_the_file(file: Path) -> None:
    plan = planned(file, "aggregation")
    results = made_up_results(plan)
    document, _ = reported(plan, results)
    content = manifest(plan, results, summarize(plan, results), document, {})
    (network,) = plan.networks.values()
    assert content["networks"] == {network.fingerprint: {"file": "theirs.pth", "sha256": network.file.sha256}}
    # A report without such networks has the layout that it had before.
    trained = make_plan(find_studies(["aggregation"], False, Request(PRESETS["smoke"])), Request(PRESETS["smoke"]))
    results = made_up_results(trained)
    summaries = summarize(trained, results)
    content = manifest(trained, results, summaries, build_document(trained, results, summaries), {})
    assert "networks" not in content
    assert "images_alone" not in str(content)


def test_a_table_of_both_kinds_says_which_interval_is_which(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MIXED)
    plan = make_plan([load_study(path)], Request(PRESETS["quick"], seeds=4))
    results = made_up_results(plan)
    (summary,) = summarize(plan, results)
    kinds = {(row.network, row.delta.images_alone) for row in summary.variants if row.delta is not None}
    assert kinds == {("tau_1", False), ("theirs", True)}
    _, text = reported(plan, results)
    assert "over test images for a network that was trained elsewhere" in text
    assert "theirs was trained elsewhere: one network, no spread between trainings." in text
