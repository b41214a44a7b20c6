"""The report on a factorial study: which part does the work, every effect, the figure, and what the manifest holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ablations.claims import Claim, Contrast
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study
from reports.analysis.factorial import summarize_factorial
from reports.analysis.summary import summarize
from reports.collect.results import Results
from reports.content.blocks import Document, Figure, Interval, Missing, Note, Paragraph, Table, Text
from reports.content.maker import Maker
from reports.document.study_report import build_document
from reports.evidence.manifest import made_by, manifest
from reports.figures.drawing import draw
from reports.figures.effects import EFFECT_COLUMNS
from reports.tables.claims import contrast_words
from tests.reports.everything import results_of
from tests.reports.made_up import TEMPERATURE, plan_of

FACTORS: dict[str, Any] = {
    "many": {
        "label": "many kernels",
        "off": {"label": "K = 2", "changes": {"model.num_kernels": 2}},
        "on": {"label": "K = 4", "changes": {"model.num_kernels": 4}},
    },
    "wide": {"on": {"changes": {"model.width": 0.5}}},
    "long": {"on": {"changes": {"train.epochs": 3}}},
    "smooth": {"on": {"changes": {"train.label_smoothing": 0.1}}},
}
VALUES = {"none": (70.0, 71.0, 72.5), "wide": (72.0, 73.1, 74.4), "many": (75.0, 76.2, 77.4), "all": (79.0, 80.1, 81.6)}


def study_of(count: int, *fraction: str) -> Study:
    factorial = {"factors": dict(list(FACTORS.items())[:count]), "fraction": fraction}
    return Study.model_validate({"name": "two", "title": "Two parts", "question": "Q?", "factorial": factorial})


def plan_of_factorial(study: Study, **overrides: Any) -> Plan:
    return make_plan([study], Request(get_preset("quick"), overrides, seeds=3))


def made_up(study: Study) -> dict[str, tuple[float, ...]]:
    """Values in which the first part gains five points, the second two, and no two depend on each other."""
    values = {}
    for row, name in enumerate(study.variants):
        gain = sum(points for cell, points in zip(name.cells, (5.0, 2.0, 0.0, 0.0), strict=False) if cell == "✓")
        # Noise that differs from row to row, without a random number.
        values[name.name] = tuple(70 + gain + seed + 0.1 * ((7 * row + 3 * seed) % 5) for seed in range(3))
    return values


def document_of(plan: Plan, results: Results) -> Document:
    return build_document(plan, results, summarize(plan, results))


def tables_of(document: Document) -> dict[str, Table]:
    tables = {}
    for section in document.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                tables[block.title] = block
    return tables


def notes_of(table: Table) -> str:
    return " ".join(note.text for note in table.notes)


@pytest.fixture(scope="module")
def two() -> Document:
    plan = plan_of_factorial(study_of(2))
    return document_of(plan, results_of(plan, VALUES))


def test_a_row_per_part_and_the_sum(two: Document) -> None:
    table = tables_of(two)["Two parts: parts"]
    assert [column.heading for column in table.columns] == [
        "part", "off", "on", "effect", "stars", "largest interaction", "Shapley value", "share (%)",
    ]  # fmt: skip
    many, wide, total = table.rows
    assert many[:3] == (Text("many kernels"), Text("K = 2"), Text("K = 4"))
    # Means: 71.1667, 73.1667, 76.2 and 80.2333.
    assert isinstance(many[3], Interval)
    assert many[3].value == pytest.approx((76.2 + 80.2333 - 71.1667 - 73.1667) / 2, abs=1e-4)
    assert many[4] == Text("**")
    assert many[5] == Text("with wide (+1.02**)")
    assert wide[5] == Text("with many kernels (+1.02**)")
    values = [row[6] for row in table.rows]
    assert all(isinstance(value, Interval) for value in values)
    many_value, wide_value, gain = (value.value for value in values if isinstance(value, Interval))
    assert gain == pytest.approx(80.2333 - 71.1667, abs=1e-4)
    assert many_value + wide_value == pytest.approx(gain)
    share = many[7]
    assert isinstance(share, Interval)
    assert share.value == pytest.approx(100 * many_value / gain)
    assert share.low is not None
    assert share.high is not None
    assert share.low < share.value < share.high
    assert total[7] == Interval(100, None, None, decimals=0)
    assert "corrected by Holm over all 3 effects" in notes_of(table)


def test_the_sentence_names_the_largest_share_and_what_is_significant(two: Document) -> None:
    (section,) = two.sections
    (paragraph,) = (b for b in section.blocks if isinstance(b, Paragraph) and b.lead == "Which part does the work")
    assert paragraph.text.startswith("All parts on differ from all off by +9.07 points [")
    assert "“many kernels” has the largest share of it, 67 % [" in paragraph.text
    assert "p < 0.05 for “many kernels”, “wide”, “many kernels × wide”." in paragraph.text


def test_effects_of_few_parts_are_in_the_section_and_of_more_in_the_appendix(two: Document) -> None:
    title = "Two parts: effects and interactions"
    assert title in [block.title for block in two.sections[0].blocks if isinstance(block, Table)]
    assert [row[0] for row in tables_of(two)[title].rows] == [
        Text("many kernels"), Text("wide"), Text("many kernels × wide"),
    ]  # fmt: skip
    study = study_of(4)
    plan = plan_of_factorial(study)
    four = document_of(plan, results_of(plan, made_up(study)))
    assert title not in [block.title for block in four.sections[0].blocks if isinstance(block, Table)]
    table = tables_of(four)[title]
    assert len(table.rows) == 15
    assert table.rules == (4, 10, 14)
    words = [block.text for block in four.sections[0].blocks if isinstance(block, Paragraph)]
    assert "No figure of the training: 16 combinations have too long a legend." in words


def test_a_fraction_says_what_it_takes_for_zero() -> None:
    study = study_of(4, "smooth = many*wide*long")
    plan = plan_of_factorial(study)
    tables = tables_of(document_of(plan, results_of(plan, made_up(study))))
    notes = notes_of(tables["Two parts: parts"])
    assert "A fraction, 8 of 16 combinations, by smooth = many*wide*long: resolution IV" in notes
    assert "the product many kernels × wide × long × smooth never changes" in notes
    terms = tables["Two parts: effects and interactions"]
    assert [column.heading for column in terms.columns][:2] == ["effect of", "with, as zero"]
    assert terms.rows[0][:2] == (Text("many kernels"), Text("wide × long × smooth"))
    assert terms.rows[4][:2] == (Text("many kernels × wide + long × smooth"), Text(""))


def test_a_missing_repeat_is_said_and_not_averaged() -> None:
    plan = plan_of_factorial(study_of(2))
    document = document_of(plan, results_of(plan, {**VALUES, "wide": (72.0, None, 74.4)}))
    table = tables_of(document)["Two parts: parts"]
    assert [table.rows[0][index] for index in (3, 4, 5)] == [Missing("n = 2/3"), Missing(), Missing("n = 2/3")]
    assert isinstance(table.rows[2][5], Interval), "all and none are there"
    assert "a combination with a missing repeat has none" in notes_of(table)


def test_without_a_gain_there_is_nothing_to_share() -> None:
    plan = plan_of_factorial(study_of(2))
    values = {**VALUES, "all": (70.2, 70.6, 73.0)}
    table = tables_of(document_of(plan, results_of(plan, values)))["Two parts: parts"]
    assert [row[-1] for row in table.rows] == [Missing()] * 3
    assert "No shares: the interval of the difference between all on and all off" in notes_of(table)


def test_trainings_that_never_learned_leave_no_test() -> None:
    plan = plan_of_factorial(study_of(2))
    results = results_of(plan, VALUES)
    first = plan.cells_of_row("two", "", "wide")[0].fingerprint
    document = document_of(plan, replace(results, unlearned={first: "its loss was 2.3"}))
    table = tables_of(document)["Two parts: parts"]
    assert "stars" not in [column.heading for column in table.columns]
    assert Note("No test and no share, as trainings of “wide” never learned.") in table.notes


def test_the_figure_has_every_effect_and_is_drawn(two: Document) -> None:
    (figure,) = (figure for figure in two.figures if figure.kind == "effects")
    assert isinstance(figure, Figure)
    assert tuple(figure.data.columns) == EFFECT_COLUMNS
    assert list(figure.data["order"]) == [1, 1, 2]
    assert figure.name == "two-effects"
    assert draw(figure, "svg").startswith(b"<?xml")


def test_an_override_that_leaves_combinations_alike_leaves_no_effects() -> None:
    plan = plan_of_factorial(study_of(2), **{"model.layer": "static"})
    values = {"none": VALUES["none"], "wide": VALUES["wide"]}
    document = document_of(plan, results_of(plan, values))
    assert "Two parts: parts" not in tables_of(document)
    assert "No effects" in [block.lead for block in document.sections[0].blocks if isinstance(block, Paragraph)]


def test_the_manifest_holds_effects_and_shares_where_there_are_any() -> None:
    study = study_of(2)
    plan = plan_of_factorial(study)
    results = results_of(plan, VALUES)
    summaries = summarize(plan, results)
    content = manifest(plan, results, summaries, build_document(plan, results, summaries), made_by(Maker()))
    effects = content["effects"]["two"]
    result = summarize_factorial(plan.studies[0], summaries[0])
    assert result is not None
    assert list(effects["effects"]) == ["many", "wide", "many*wide"]
    assert effects["effects"]["many"]["mean"] == result.effects[0].estimate.mean
    assert effects["effects"]["many"]["p_holm"] == result.effects[0].p_holm
    assert effects["gain"]["mean"] == result.gain.mean
    assert result.shares[1].share is not None
    assert effects["shares"]["wide"]["share"]["low"] == result.shares[1].share.low


def test_the_manifest_of_any_other_study_is_laid_out_as_before() -> None:
    plan = plan_of(TEMPERATURE)
    results = results_of(plan, {variant.name: (70.0, 71.0, 73.0) for variant in TEMPERATURE.variants})
    summaries = summarize(plan, results)
    content = manifest(plan, results, summaries, build_document(plan, results, summaries), made_by(Maker()))
    assert "effects" not in content
    assert "factorial" not in content["request"]["studies"][0]


def test_contrasts_of_half_the_combinations_are_called_by_what_they_share() -> None:
    study = get_study("parts", Request(get_preset("quick")).base())
    words = {claim.name: [contrast_words(study, contrast) for contrast in claim.contrasts] for claim in study.claims}
    assert words["annealing helps"] == ["annealing on vs. annealing off"]
    assert words["annealing does more than kernels and placement"] == [
        "annealing on, kernels off vs. annealing off, kernels on",
        "annealing on, placement off vs. annealing off, placement on",
    ]
    # Others are listed, and a single one has its title.
    odd = Contrast(better=("all",), worse=("none", "placement", "kernels"))
    assert contrast_words(study, odd) == "all of them vs. none of them and placement and kernels"


def test_a_main_effect_is_the_contrast_of_its_claim() -> None:
    """The table of parts and the verdicts have one interval for one comparison."""
    better, worse = ("many", "all"), ("none", "wide")
    claim = Claim(name="many", statement="Many.", contrasts=(Contrast(better=better, worse=worse),))
    study = study_of(2).model_copy(update={"claims": (claim,)})
    plan = plan_of_factorial(study)
    tables = tables_of(document_of(plan, results_of(plan, VALUES)))
    ours = next(cell for cell in tables["Two parts: claims"].rows[0] if isinstance(cell, Interval))
    effect = tables["Two parts: parts"].rows[0][3]
    assert isinstance(effect, Interval)
    assert (ours.value, ours.low, ours.high) == pytest.approx((effect.value, effect.low, effect.high))
