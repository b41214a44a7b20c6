"""Page 1 answers: each verdict in a sentence with its numbers, and the primary claims in a figure."""

from __future__ import annotations

import numpy as np
import pytest

from ablations.planning.plan import Plan
from reports.analysis.claims import verdicts
from reports.analysis.summary import summarize_study
from reports.collect.results import Results
from reports.content.blocks import Facts, Figure, Paragraph
from reports.document.findings import findings
from reports.document.study_report import build_document
from reports.figures.claims import CLAIM_COLUMNS, claims_data
from reports.figures.drawing import draw
from tests.reports.everything import results_of, whole_plan

SEEDS = 5
# Means by variant: τ = 1 is two points worse than τ = 30, τ = 5 and 10 are as good, and annealing is a point worse.
MEANS = {"static": 88.9, "tau_1": 87.0, "tau_5": 89.0, "tau_10": 89.1, "tau_30": 89.0, "annealed": 87.2}
NOISE = (-0.2, 0.1, 0.0, 0.2, -0.1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return whole_plan("quick", "temperature", seeds=SEEDS)


def results_with(plan: Plan, means: dict[str, float], noise: tuple[float, ...] = NOISE) -> Results:
    values = {}
    for index, variant in enumerate(means):
        # Rolled, so that differences of two rows vary by seed.
        values[variant] = (means[variant] + np.roll(noise, index)).tolist()
    return results_of(plan, values)


def sentences(plan: Plan, results: Results) -> dict[str, str]:
    claims = verdicts(plan, [summarize_study(plan.studies[0], plan, results)])
    return {paragraph.lead: paragraph.text for paragraph in findings(plan.studies, claims, ())}


def test_what_holds_and_what_does_not_is_said_with_its_numbers(plan: Plan) -> None:
    said = sentences(plan, results_with(plan, MEANS))
    assert list(said) == ["Holds", "Does not hold"]
    assert said["Holds"].startswith("“τ = 1 is worse than τ = 30” (+2.00 points, +")
    assert "Exploratory: “τ = 30 is at least as good as a smaller τ”" in said["Holds"]
    assert said["Does not hold"].startswith("Only exploratory claims: “annealing is at least as good as τ = 30”")


def test_what_is_open_says_what_would_decide_it(plan: Plan) -> None:
    noise = tuple(20 * value for value in NOISE)
    said = sentences(plan, results_with(plan, dict.fromkeys(MEANS, 89.0) | {"tau_1": 88.0}, noise))
    assert "“τ = 1 is worse than τ = 30”" in said["Open"]
    assert "seeds would tell" in said["Open"]
    assert "Holds" not in said


def test_a_difference_that_does_not_matter_is_told_as_such(plan: Plan) -> None:
    said = sentences(plan, results_with(plan, dict.fromkeys(MEANS, 89.0), (-0.02, 0.01, 0.0, 0.02, -0.01)))
    assert "“τ = 1 is worse than τ = 30” (0.00 points" in said["No difference that matters"]


def test_the_figure_has_the_numbers_of_the_primary_claims(plan: Plan) -> None:
    results = results_with(plan, MEANS)
    judged = verdicts(plan, [summarize_study(plan.studies[0], plan, results)])
    data = claims_data(plan.studies, judged)
    primary = [claim for claim in judged if claim.rank == "primary"]
    assert tuple(data.columns) == CLAIM_COLUMNS
    assert len(data) == len(primary) == 1
    row, decisive = data.iloc[0], primary[0].decisive
    assert decisive is not None
    assert row["value"] == pytest.approx(2.0)
    assert (row["low"], row["high"]) == (decisive.difference.low, decisive.difference.high)
    # PAPER: 64.8 at τ = 1, 69.4 at τ = 30.
    assert row["published"] == pytest.approx(4.6)
    assert (row["unit"], row["size"]) == ("points", 1.0)


def test_page_1_has_findings_scale_and_figure_and_the_appendix_the_rest(plan: Plan) -> None:
    results = results_with(plan, MEANS)
    document = build_document(plan, results, [summarize_study(plan.studies[0], plan, results)])
    kinds = [type(block) for block in document.summary]
    assert kinds.index(Paragraph) < kinds.index(Facts) < kinds.index(Figure)
    facts = dict(next(block for block in document.summary if isinstance(block, Facts)).items)
    assert {"Scale", "Verdicts", "Planned"} <= facts.keys()
    assert "5 seeds" in facts["Scale"]
    assert "preset quick" in facts["Scale"]
    about = document.appendix[0]
    assert about.title == "About the runs"
    assert isinstance(about.blocks[0], Facts)
    assert {"Preset", "Overrides", "Repeats", "Runs"} <= dict(about.blocks[0].items).keys()
    figure = next(block for block in document.summary if isinstance(block, Figure))
    assert b"<svg" in draw(figure, "svg")
