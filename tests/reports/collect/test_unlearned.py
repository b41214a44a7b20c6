"""Trainings that never learned: told by where guessing ends, marked wherever they are shown, no verdict by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from ablations.claims import Claim, better_than
from ablations.planning.plan import Plan
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import InspectedNetwork, Study, Variant
from reports import verdicts
from reports.analysis.advice import advice_paragraph
from reports.analysis.claims import judge_study
from reports.analysis.summary import summarize_study
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.collect.unlearned import MARK, why_unlearned
from reports.content.blocks import Number, Paragraph
from reports.document.prose import reading
from reports.tables.claims import claims_table, contrasts_table
from tests.reports.everything import results_of
from tests.reports.made_up import TEMPERATURE, Store, document_of, fill, plan_of, table_of

LN10 = math.log(10)


def _spec(**settings: float) -> TrialSpec:
    return resolve([], {name.replace("__", "."): value for name, value in settings.items()}, 0)


def _metrics(loss: float | None = None, top1: float | None = None, val: float | None = None) -> dict[str, float]:
    given = {"train/loss": loss, "test/top1": top1, "val/top1": val}
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize("loss", [LN10, LN10 + 0.5, LN10 - 0.01, 40.0])
def test_a_loss_that_ends_where_guessing_is_never_learned(loss: float) -> None:
    assert "its training loss ended at" in why_unlearned(_spec(), _metrics(loss, 80.0))


@pytest.mark.parametrize("loss", [0.0, 1.0, 2.1])
def test_a_lower_loss_learned(loss: float) -> None:
    assert why_unlearned(_spec(), _metrics(loss, 80.0)) == ""


def test_smoothed_labels_leave_less_room_below_guessing() -> None:
    """At a smoothing of 0.9 no loss comes below 2.25: one of 2.29 has learned something there."""
    smooth = _spec(train__label_smoothing=0.9)
    assert why_unlearned(smooth, _metrics(2.29, 80.0)) == ""
    assert why_unlearned(_spec(), _metrics(2.29, 80.0))
    assert why_unlearned(smooth, _metrics(LN10, 80.0))


def test_mixed_images_learn_although_their_loss_stays_high() -> None:
    assert why_unlearned(_spec(data__mixup=0.4), _metrics(1.9, 70.0)) == ""


@pytest.mark.parametrize(("top1", "learned"), [(10.0, False), (3.0, False), (10.5, False), (14.0, True), (80.0, True)])
def test_an_accuracy_of_guessing_never_learned(top1: float, learned: bool) -> None:
    """Of ten classes 10 %, and what chance adds to it on so many images."""
    images = _spec().data.facts.test_images
    assert images > 300
    assert (why_unlearned(_spec(), _metrics(1.5, top1)) == "") == learned
    assert (why_unlearned(_spec(), _metrics(None, top1)) == "") == learned


def test_few_images_leave_more_to_chance() -> None:
    few = _spec(data__test_images=20)
    assert why_unlearned(few, _metrics(1.5, 20.0))
    assert why_unlearned(_spec(), _metrics(1.5, 20.0)) == ""


def test_the_validation_split_counts_where_no_other_was_measured() -> None:
    assert "validation accuracy" in why_unlearned(_spec(), _metrics(1.5, None, 9.0))
    assert why_unlearned(_spec(), _metrics(1.5, 80.0, 9.0)) == ""
    assert why_unlearned(_spec(), {}) == ""


def _study(*claims: Claim) -> Study:
    variants = tuple(Variant(name=name, changes={"model.num_kernels": 2 + i}) for i, name in enumerate("abc"))
    return Study(name="mine", title="Mine", question="?", reference="a", variants=variants, claims=claims)


VALUES = {"a": (80.0, 81.0, 80.5), "b": (90.0, 91.2, 90.5), "c": (10.0, 11.0, 9.0)}
CLAIMS = (
    Claim(name="b beats a", statement="It does.", contrasts=better_than("b", "a")),
    Claim(name="b beats both", statement="It does.", contrasts=better_than("b", "a", "c")),
)


def _with_unlearned(study: Study, variant: str) -> tuple[Plan, Results]:
    plan = plan_of(study)
    keys = {cell.fingerprint for cell in plan.cells if cell.variant == variant and cell.seed in (0, 2)}
    return plan, replace(results_of(plan, VALUES), unlearned=dict.fromkeys(keys, "its training loss ended at 2.3"))


def test_its_row_is_marked_and_said_in_a_note() -> None:
    study = _study(*CLAIMS)
    table = table_of(study, *_with_unlearned(study, "c"))
    marked = [MARK in row[1].marks for row in table.rows if isinstance(row[1], Number)]
    assert marked == [False, False, True]
    (note,) = (note.text for note in table.notes if note.mark == MARK)
    assert note.startswith("c never learned")
    assert "seed 0: its training loss ended at 2.3; seed 2: its training loss ended at 2.3" in note


def test_its_contrasts_carry_no_verdict_and_others_do() -> None:
    study = _study(*CLAIMS)
    plan, results = _with_unlearned(study, "c")
    one, both = verdicts(plan, results)
    assert (one.verdict, both.words) == ("reproduced", "undecided: carries no verdict: a row never learned")
    assert [contrast.unlearned for contrast in both.contrasts] == [(), ("c",)]
    judged = judge_study(plan.studies[0], summarize_study(plan.studies[0], plan, results), plan)
    table = claims_table(study, judged, with_legend=False)
    assert table is not None
    notes = [note.text for note in table.notes]
    assert notes == ["Of “b beats both”, contrasts with “c” carry no verdict: the training never learned."]
    assert "never learned" in str(contrasts_table(plan.studies, judged).rows)


def test_sentences_and_advice_leave_it_out() -> None:
    study = _study()
    plan, results = _with_unlearned(study, "c")
    summary = summarize_study(study, plan, results)
    (said,) = reading(study, summary)
    assert "“c” never learned and is not compared" in said
    assert "“b” differs most" in said
    advice = advice_paragraph(study, summary)
    assert advice is not None
    assert "“b”" in advice.text
    assert "“c”" not in advice.text
    assert [row.variant for row in summary.tested] == ["b"]
    b, c = (summary.get("", name).delta for name in "bc")
    assert b is not None
    assert c is not None
    assert (b.df, c.df) == (2.0, 2.0), "it lends no spread and borrows none"


def test_nothing_is_compared_with_a_reference_that_never_learned() -> None:
    study = _study(*CLAIMS)
    plan, results = _with_unlearned(study, "a")
    summary = summarize_study(study, plan, results)
    (said,) = reading(study, summary)
    assert said == "“a” never learned and is not compared; nothing can be compared with “a”."
    assert advice_paragraph(study, summary) is None
    assert {judged.verdict for judged in verdicts(plan, results)} == {"undecided"}


def test_the_document_warns() -> None:
    study = _study(*CLAIMS)
    document = document_of(*_with_unlearned(study, "c"))
    paragraphs = [block for section in document.sections for block in section.blocks if isinstance(block, Paragraph)]
    (warning,) = (block for block in paragraphs if block.lead == "Never learned")
    assert warning.role == "caveat"
    assert warning.text.startswith("1 of 3 rows")


INSPECTING = Study(
    name="looking",
    title="Looking",
    question="?",
    networks=(InspectedNetwork(name="tau_30", changes={"train.temperature.start": 30.0}),),
    inspect=("tau_30",),
    reference="attention",
    variants=(
        Variant(name="attention"),
        Variant(name="max", intervention=Intervention(aggregation="max")),
    ),
)


@pytest.mark.parametrize("is_chance", [True, False])
def test_an_evaluation_at_chance_is_a_finding_unless_its_network_never_learned(
    make_store: Callable[[], Store], is_chance: bool
) -> None:
    plan, store = plan_of(INSPECTING, seeds=2), make_store()
    for node in plan.trials.values():
        store.add(plan, node, {"test/top1": 10.0 if is_chance else 85.0, "train/loss": 2.31 if is_chance else 0.4})
    for node in plan.evaluations.values():
        store.add(plan, node, {"test/top1": 10.0})
    results = collect(plan, store.uri)
    summary = summarize_study(INSPECTING, plan, results)
    assert [bool(row.unlearned) for row in summary.variants] == [is_chance, is_chance]
    assert set(results.unlearned) == (set(plan.trials) if is_chance else set())


def test_a_store_of_trainings_that_learned_marks_none(make_store: Callable[[], Store]) -> None:
    plan, store = plan_of(TEMPERATURE), make_store()
    fill(store, plan)
    assert collect(plan, store.uri).unlearned == {}
